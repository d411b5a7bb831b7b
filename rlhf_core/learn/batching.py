"""Batches of like length, so that little is padding; the order is seeded and covers every example once."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def length_grouped(lengths: Sequence[int], batch_size: int, rng: random.Random, *, window_batches: int = 8) -> list[list[int]]:
    """Index batches for one epoch: shuffle, sort by length inside windows of some batches, shuffle the batches.

    Args:
        lengths: Tokens of each example.
        batch_size: Examples in a batch; the last one may be smaller.
        rng: Seeded generator; the same state gives the same order.
        window_batches: Batches in a window. Larger means less padding and less random batches.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    window = window_batches * batch_size
    batches: list[list[int]] = []
    for start in range(0, len(order), window):
        part = sorted(order[start : start + window], key=lambda i: lengths[i])
        batches += [part[k : k + batch_size] for k in range(0, len(part), batch_size)]
    rng.shuffle(batches)
    return batches


def padded(sequences: Sequence[Sequence[int]], pad_id: int, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """``(input_ids, attention_mask)``, both ``(B, T)`` int64, padded on the right or the left; mask 1 = a real token."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        place = slice(longest - len(sequence), None) if left else slice(len(sequence))
        ids[row, place] = torch.tensor(sequence)
        mask[row, place] = 1
    return ids, mask


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items, the last one shorter; nothing is read ahead of what is asked for."""
    source = iter(items)
    while part := list(itertools.islice(source, size)):
        yield part


def by_tokens(order: Iterable[int], lengths: Sequence[int] | Mapping[int, int], at_most: int) -> Iterator[list[int]]:
    """Cut ``order`` into batches that are, padded to their longest, at most so many tokens (a longer one stands alone).

    Args:
        order: Indices; neighbours should be of like length.
        lengths: Tokens of each index.
        at_most: Padded tokens in a batch.
    """
    batch: list[int] = []
    longest = 0
    for k in order:
        longest = max(longest, lengths[k])
        if batch and (len(batch) + 1) * longest > at_most:
            yield batch
            batch, longest = [], lengths[k]
        batch.append(k)
    if batch:
        yield batch
