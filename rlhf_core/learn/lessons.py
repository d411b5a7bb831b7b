"""What is learned, laid out for training: units of texts that are read together, with what each of their spans should get."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_core.learn.examples import Example
from rlhf_core.learn.losses import ordinal_loss, preference_loss, rating_loss
from rlhf_core.learn.pairs import Pair
from rlhf_core.learn.reading import Encoded, Reading
from rlhf_core.learn.scales import StarScale, star_shares

Encode = Callable[[Sequence[Reading]], list[Encoded]]


@dataclass(frozen=True, slots=True)
class Unit:
    """Texts that stand in one batch together. ``rated``: (which text, which of its spans, which example). ``pair``: which
    pair its two texts are."""

    texts: tuple[int, ...]
    rated: tuple[tuple[int, int, int], ...] = ()
    pair: int | None = None


@dataclass(frozen=True, slots=True)
class Lessons:
    """``encoded``: every text; ``units``: what is drawn; ``examples`` and ``pairs``: what their spans should get."""

    encoded: list[Encoded]
    units: list[Unit]
    examples: list[Example]
    pairs: list[Pair]

    @property
    def cut(self) -> int:
        """Texts whose middle was left out."""
        return sum(one.cut for one in self.encoded)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each unit's longest text."""
        return [self._longest(unit) for unit in self.units]

    def _longest(self, unit: Unit) -> int:
        return max(len(self.encoded[text].ids) for text in unit.texts)

    def tokens(self, unit: int) -> int:
        """All tokens of a unit, padded."""
        return self._longest(self.units[unit]) * len(self.units[unit].texts)


def lay_out(examples: Sequence[Example], pairs: Sequence[Pair], encode: Encode, *, one_pass: bool) -> Lessons:
    """
    Args:
        examples: Rated texts; aspects of one text share a reading of it.
        pairs: Preferred pairs.
        encode: Tokenises readings.
        one_pass: Read an answer once for all of its steps, instead of each with what stands before it. A step that the cut of a
            long answer leaves out is read on its own all the same.
    """
    encoded: list[Encoded] = []
    units: list[Unit] = []

    def add(groups: Iterable[tuple[Reading, list[tuple[int, int]]]]) -> list[int]:
        """Groups are readings and their (span, example). Returns examples whose span was lost."""
        some = list(groups)
        lost: list[int] = []
        for (_, members), one in zip(some, encode([reading for reading, _ in some]), strict=True):
            kept = tuple((0, span, example) for span, example in members if span not in one.lost)
            lost += [example for span, example in members if span in one.lost]
            if kept:
                units.append(Unit((len(encoded),), kept))
                encoded.append(one)
        return lost

    order = list(range(len(examples)))
    if one_pass:
        order = add(_whole_answers(examples))
    add(_each_alone(examples, order))
    texts = encode([reading for one in pairs for reading in one.readings])
    for k in range(len(pairs)):
        units.append(Unit((len(encoded), len(encoded) + 1), (), k))
        encoded += texts[2 * k : 2 * k + 2]
    return Lessons(encoded, units, list(examples), list(pairs))


def _each_alone(examples: Sequence[Example], order: Sequence[int]) -> Iterable[tuple[Reading, list[tuple[int, int]]]]:
    groups: dict[Reading, list[tuple[int, int]]] = {}
    for k in order:
        groups.setdefault(examples[k].reading, []).append((0, k))
    return groups.items()


def _whole_answers(examples: Sequence[Example]) -> Iterable[tuple[Reading, list[tuple[int, int]]]]:
    groups: dict[tuple[str, str], list[int]] = {}
    for k, one in enumerate(examples):
        groups.setdefault((one.chat_id, one.whole), []).append(k)
    for members in groups.values():
        spans = sorted({examples[k].reading.spans[0] for k in members})
        first = examples[members[0]]
        at = {span: place for place, span in enumerate(spans)}
        yield Reading(first.query, first.whole, tuple(spans)), [(at[examples[k].reading.spans[0]], k) for k in members]


@dataclass(frozen=True, slots=True)
class Targets:
    """What spans should get, as tensors on one device. Of examples (R,): ``heads``, ``values`` standardised, ``shares`` (R, 5),
    ``weights``; of pairs (P,): ``pair_heads``, ``chances``, ``pair_weights``."""

    heads: Tensor
    values: Tensor
    shares: Tensor
    weights: Tensor
    pair_heads: Tensor
    chances: Tensor
    pair_weights: Tensor

    @classmethod
    def of(
        cls, lessons: Lessons, scales: Sequence[StarScale], weights: Sequence[float], pair_weights: Sequence[float],
        device: torch.device,
    ) -> Targets:  # fmt: skip
        head = {one.aspect: k for k, one in enumerate(scales)}
        heads = [head[one.aspect] for one in lessons.examples]
        values = [(one.target - scales[k].mean) / scales[k].std for one, k in zip(lessons.examples, heads, strict=True)]
        shares = np.array([one.shares or star_shares(np.array([one.target])) for one in lessons.examples]).reshape(-1, 5)
        real = lambda some: torch.tensor(some, dtype=torch.float32, device=device)  # noqa: E731  # a local shorthand
        return cls(
            torch.tensor(heads, dtype=torch.long, device=device), real(values), real(shares),
            real(list(weights)),
            torch.tensor([head[one.aspect] for one in lessons.pairs], dtype=torch.long, device=device),
            real([one.chance for one in lessons.pairs]), real(list(pair_weights)),
        )  # fmt: skip


class Thresholds(nn.Module):
    """Where each head's outputs pass from one number of stars to the next: four rising thresholds."""

    def __init__(self, heads: int, start: Tensor | None = None) -> None:
        super().__init__()
        start = torch.tensor([-1.5, -0.5, 0.5, 1.5]).expand(heads, 4) if start is None else start
        self.first = nn.Parameter(start[:, :1].clone())
        self.gaps = nn.Parameter(torch.log(torch.expm1(start.diff(dim=-1).clamp_min(1e-4))))  # softplus gives them back

    def forward(self) -> Tensor:
        """``(heads, 4)``."""
        return torch.cat([self.first, self.first + nn.functional.softplus(self.gaps).cumsum(-1)], -1)


@dataclass(slots=True)
class Rows:
    """Which outputs answer which targets. ``rated``: (output, example); ``pairs``: (first output, second output, pair)."""

    rated: list[tuple[int, int]] = field(default_factory=list)
    pairs: list[tuple[int, int, int]] = field(default_factory=list)

    def placed(self, device: torch.device) -> Placed:
        """The same as tensors."""
        return Placed(*_columns(self.rated, 2, device), *_columns(self.pairs, 3, device))


@dataclass(frozen=True, slots=True)
class Placed:
    """Indices (R,) of outputs and of examples; (P,) of first outputs, second outputs and pairs."""

    outputs: Tensor
    examples: Tensor
    first: Tensor
    second: Tensor
    pairs: Tensor


def rows_of(lessons: Lessons, units: Sequence[int]) -> tuple[list[int], Rows]:
    """The texts of these units in the order to read them, and which of their spans' outputs answer what."""
    texts: list[int] = []
    rows = Rows()
    at = 0
    for k in units:
        unit = lessons.units[k]
        begins = []
        for text in unit.texts:
            begins.append(at)
            at += len(lessons.encoded[text].spans)
        texts += unit.texts
        rows.rated += [(begins[text] + span, example) for text, span, example in unit.rated]
        if unit.pair is not None:
            rows.pairs.append((begins[0], begins[1], unit.pair))
    return texts, rows


def total_loss(outputs: Tensor, rows: Placed, targets: Targets, thresholds: Tensor | None) -> Tensor:
    """Weighted sum of what ratings and pairs cost, a scalar.

    Args:
        outputs: ``(N, heads)`` of spans.
        rows: Which of them answers what.
        targets: What they should be.
        thresholds: ``(heads, 4)`` for the ordinal objective, None for regression.
    """
    examples, pairs = rows.examples, rows.pairs
    heads = targets.heads[examples]
    mine = outputs[rows.outputs, heads]
    if thresholds is None:
        one = rating_loss(mine, targets.values[examples], targets.weights[examples])
    else:
        one = ordinal_loss(mine, targets.shares[examples], thresholds[heads], targets.weights[examples])
    heads = targets.pair_heads[pairs]
    leads = outputs[rows.first, heads] - outputs[rows.second, heads]
    return one + preference_loss(leads, targets.chances[pairs], targets.pair_weights[pairs])


def weight_in(rows: Rows, targets: Targets) -> float:
    """Sum of the weights of what these rows answer."""
    rated, pairs = [k for _, k in rows.rated], [k for _, _, k in rows.pairs]
    return float(targets.weights[rated].sum() + targets.pair_weights[pairs].sum())


def _columns(rows: Sequence[tuple[int, ...]], width: int, device: torch.device) -> tuple[Tensor, ...]:
    return torch.tensor(rows, dtype=torch.long, device=device).reshape(-1, width).unbind(-1)
