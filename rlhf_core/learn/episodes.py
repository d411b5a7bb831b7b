"""From what judges say of an answer to a reward on each of its tokens. Torch for arithmetic alone; no models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

GRAM = 4  # tokens in a row that count as a repetition


def tokens_at(tokenizer: Any, ids: Sequence[int], characters: Sequence[int]) -> list[int]:
    """Index of the token with which the decoded text reaches each number of characters; the last token where it never does.

    Args:
        tokenizer: Of the policy.
        ids: An answer's tokens.
        characters: How many characters of the decoded answer, rising.
    """
    found: list[int] = []
    lowest = 0
    for wanted in characters:
        low, high = lowest, len(ids) - 1
        while low < high:
            middle = (low + high) // 2
            if len(tokenizer.decode(ids[: middle + 1], skip_special_tokens=True)) >= wanted:
                high = middle
            else:
                low = middle + 1
        found.append(low)
        lowest = low
    return found


def step_ends(text: str, steps: Sequence[str]) -> list[int]:
    """How many characters of ``text`` have been written with the end of each step; steps stand there in order, word for word."""
    ends: list[int] = []
    position = 0
    for step in steps:
        position = text.index(step, position) + len(step)
        ends.append(position)
    return ends


def placed(rewards: Sequence[Sequence[float]], ends: Sequence[Sequence[int]], tokens: int) -> Tensor:
    """``(B, T)`` rewards on the tokens that they are given for; several on one token add up.

    Args:
        rewards: Of each answer, in any unit.
        ends: The token of each of them.
        tokens: T, of the longest answer.
    """
    found = torch.zeros(len(rewards), tokens)
    for row, (some, at) in enumerate(zip(rewards, ends, strict=True)):
        for reward, token in zip(some, at, strict=True):
            found[row, token] += reward
    return found


def repeated_share(ids: Sequence[int]) -> float:
    """Share of an answer's runs of four tokens that stood in it before; 0 for an answer shorter than that."""
    runs = [tuple(ids[k : k + GRAM]) for k in range(len(ids) - GRAM + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


class Moments:
    """Running mean and deviation of rewards, so that the policy's learning rate means the same whatever their unit (Chan et al.
    1979, pairwise update)."""

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, 0.0, 0.0

    def update(self, values: Sequence[float]) -> None:
        """Take in some more."""
        if not values:
            return
        mean = sum(values) / len(values)
        squares = sum((value - mean) ** 2 for value in values)
        total, apart = self.count + len(values), mean - self.mean
        self._squares += squares + apart**2 * self.count * len(values) / total
        self.mean += apart * len(values) / total
        self.count = total

    @property
    def deviation(self) -> float:
        """Unbiased; 1 before there are two different values."""
        found = (self._squares / (self.count - 1)) ** 0.5 if self.count > 1 else 0.0
        return found if found > 1e-8 else 1.0

    def standardised(self, value: float) -> float:
        """Deviations above the mean."""
        return (value - self.mean) / self.deviation

    def taken(self) -> dict[str, float]:
        """For :meth:`put`."""
        return {"count": self.count, "mean": self.mean, "squares": self._squares}

    def put(self, taken: dict[str, float]) -> None:
        """Go on from there."""
        self.count, self.mean, self._squares = int(taken["count"]), taken["mean"], taken["squares"]
