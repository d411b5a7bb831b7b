"""Readouts fitted on what a frozen model makes of texts: seconds instead of minutes, and a convex problem with one answer.

The loss is training's own, per unit of weight, plus ``l2`` times the squared weights on standardised features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlhf_core.ground.text import query_key
from rlhf_core.learn.examples import Example
from rlhf_core.learn.guards import MADE_UP
from rlhf_core.learn.lessons import Lessons, Rows, Targets, Thresholds, rows_of, total_loss, weight_in
from rlhf_core.learn.measures import Floats
from rlhf_core.learn.pairs import Pair
from rlhf_core.learn.scales import StarScale

L2 = tuple(float(one) for one in np.logspace(-2.5, 2, 10))
FOLDS = 5
ITERATIONS = 60


@dataclass(frozen=True, slots=True)
class Fitted:
    """``weight`` (heads, F), ``bias`` (heads,), ``thresholds`` (heads, 4) or None, and the ``l2`` they were fitted with."""

    weight: Tensor
    bias: Tensor
    thresholds: Tensor | None
    l2: float

    def outputs(self, features: Floats) -> Floats:
        """``(N, heads)``."""
        return np.asarray(features @ self.weight.T.numpy() + self.bias.numpy(), float)

    def scales(self, plain: Sequence[StarScale]) -> list[StarScale]:
        """The heads' scales, with the thresholds that were fitted."""
        if self.thresholds is None:
            return list(plain)
        return [replace(one, thresholds=tuple(mine)) for one, mine in zip(plain, self.thresholds.tolist(), strict=True)]


@dataclass(frozen=True, slots=True)
class Facts:
    """What to fit to: spans' features (N, F), what answers what, targets, and the group (the query) of each row of ``rows``."""

    features: Floats
    rows: Rows
    targets: Targets
    rated_groups: NDArray[np.int64]
    pair_groups: NDArray[np.int64]

    @property
    def groups(self) -> NDArray[np.int64]:
        return np.unique(np.concatenate([self.rated_groups, self.pair_groups]))

    def only(self, groups: Sequence[int] | NDArray[np.int64]) -> Facts:
        """What belongs to these groups; features stay whole."""
        rated, pairs = np.isin(self.rated_groups, groups), np.isin(self.pair_groups, groups)
        return Facts(self.features, Rows(
            [row for row, keep in zip(self.rows.rated, rated, strict=True) if keep],
            [row for row, keep in zip(self.rows.pairs, pairs, strict=True) if keep],
        ), self.targets, self.rated_groups[rated], self.pair_groups[pairs])  # fmt: skip

    @property
    def weight(self) -> float:
        return weight_in(self.rows, self.targets)


def fit(facts: Facts, heads: int, *, ordinal: bool, l2: float, start: Fitted | None = None) -> Fitted:
    """The readout of least penalised loss, by L-BFGS.

    Args:
        facts: At least one row.
        heads: Outputs.
        ordinal: Fit thresholds too.
        l2: How much weights cost.
        start: Where to begin; same answer, sooner.
    """
    used = sorted(
        {row for row, _ in facts.rows.rated} | {row for first, second, _ in facts.rows.pairs for row in (first, second)}
    )
    place = {row: k for k, row in enumerate(used)}
    rows = Rows(
        [(place[row], k) for row, k in facts.rows.rated],
        [(place[first], place[second], k) for first, second, k in facts.rows.pairs],
    )
    raw = torch.from_numpy(np.ascontiguousarray(facts.features[used], np.float32))
    centre, spread = raw.mean(0), raw.std(0, correction=0).clamp_min(1e-6)
    features = (raw - centre) / spread
    weight = torch.zeros(heads, raw.shape[1]) if start is None else (start.weight * spread)
    bias = torch.zeros(heads) if start is None else start.bias + start.weight @ centre
    weight, bias = weight.clone().requires_grad_(True), bias.clone().requires_grad_(True)
    thresholds = Thresholds(heads) if ordinal else None
    parameters = [weight, bias, *(thresholds.parameters() if thresholds is not None else ())]
    optimiser = torch.optim.LBFGS(
        parameters,
        max_iter=ITERATIONS,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
    )
    total = weight_in(rows, facts.targets)
    threads = torch.get_num_threads()
    placed = rows.placed(features.device)

    def closure() -> Tensor:
        optimiser.zero_grad()
        outputs = features @ weight.T + bias
        loss = total_loss(outputs, placed, facts.targets, None if thresholds is None else thresholds()) / total
        loss = loss + l2 * weight.square().sum()
        loss.backward()
        return loss

    try:
        torch.set_num_threads(1)  # sums this small take longer shared out
        optimiser.step(closure)
    finally:
        torch.set_num_threads(threads)
    with torch.no_grad():
        plain = weight / spread
        found = None if thresholds is None else thresholds().detach()
        return Fitted(plain.detach(), (bias - plain @ centre).detach(), found, l2)


@torch.no_grad()
def loss_on(facts: Facts, fitted: Fitted) -> float:
    """Loss per unit of weight."""
    outputs = torch.from_numpy(fitted.outputs(facts.features).astype(np.float32))
    return float(total_loss(outputs, facts.rows.placed(outputs.device), facts.targets, fitted.thresholds)) / facts.weight


def folds_of(groups: NDArray[np.int64], count: int, seed: int) -> list[NDArray[np.int64]]:
    """Groups shared out among ``count`` folds, fewer where there are fewer groups."""
    mixed = np.random.default_rng(seed).permutation(groups)
    return [fold for fold in np.array_split(mixed, min(count, len(mixed))) if len(fold)]


def choose_l2(facts: Facts, heads: int, *, ordinal: bool, seed: int, folds: int = FOLDS) -> float:
    """The penalty of least loss over held-out groups; the strongest where there are fewer than three groups."""
    parts = folds_of(facts.groups, folds, seed)
    if len(parts) < 3:
        return max(L2)
    losses = np.zeros(len(L2))
    for fold in parts:
        rest, held = facts.only(np.setdiff1d(facts.groups, fold)), facts.only(fold)
        last: Fitted | None = None
        for k in range(len(L2) - 1, -1, -1):  # from strong to weak, each from where the one before it ended
            last = fit(rest, heads, ordinal=ordinal, l2=L2[k], start=last)
            losses[k] += loss_on(held, last) * held.weight
    return L2[int(np.argmin(losses))]


def fit_choosing(facts: Facts, heads: int, *, ordinal: bool, seed: int, folds: int = FOLDS) -> Fitted:
    """Fit with the penalty that :func:`choose_l2` finds."""
    return fit(facts, heads, ordinal=ordinal, l2=choose_l2(facts, heads, ordinal=ordinal, seed=seed, folds=folds))


Learn = Callable[[list[Example], list[Pair]], tuple[list[Example], list[float], list[float]]]
"""From examples as people gave them and pairs to what to learn of the examples, their weights, and the pairs' weights."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Everything judged, with what a frozen model makes of it. ``rows``: which spans' ``features`` (N, F) are of which example or
    pair; ``rated_groups`` and ``pair_groups``: the query of each row, as a number."""

    features: Floats
    examples: list[Example]
    pairs: list[Pair]
    rows: Rows
    rated_groups: NDArray[np.int64]
    pair_groups: NDArray[np.int64]
    scales: list[StarScale]
    learn: Learn

    @classmethod
    def of(
        cls, parts: Sequence[Lessons], features: Sequence[Floats], examples: Sequence[Sequence[Example]],
        scales: list[StarScale], learn: Learn,
    ) -> Pool:  # fmt: skip
        """
        Args:
            parts: Lessons of every side of a split.
            features: Of their spans.
            examples: Of each part as people gave them, in the order of the part's own.
            scales: Of the heads.
            learn: What is to be learned of some of it.
        """
        rows = Rows()
        pairs: list[Pair] = []
        everything: list[Example] = []
        first = 0
        for part, some, given in zip(parts, features, examples, strict=True):
            mine = rows_of(part, range(len(part.units)))[1]
            rows.rated += [(first + row, len(everything) + k) for row, k in mine.rated]
            rows.pairs += [(first + one, first + other, len(pairs) + k) for one, other, k in mine.pairs]
            everything += given
            pairs += part.pairs
            first += len(some)
        numbers: dict[str, int] = {}
        number = lambda query: numbers.setdefault(query_key(query), len(numbers))  # noqa: E731  # a local shorthand
        return cls(
            np.concatenate(features), everything, pairs, rows,
            np.array([number(everything[k].query) for _, k in rows.rated], np.int64),
            np.array([number(pairs[k].query) for _, _, k in rows.pairs], np.int64), scales, learn,
        )  # fmt: skip

    @property
    def groups(self) -> NDArray[np.int64]:
        return np.unique(np.concatenate([self.rated_groups, self.pair_groups]))

    def only(self, groups: Sequence[int] | NDArray[np.int64]) -> Pool:
        """What belongs to these queries; features stay whole."""
        return self.keep(np.isin(self.rated_groups, groups), np.isin(self.pair_groups, groups))

    def without_made_up(self) -> Pool:
        """What people said alone."""
        return self.keep(np.ones(len(self.examples), bool), np.array([one.source != MADE_UP for one in self.pairs], bool))

    def keep(self, rated: NDArray[np.bool_], pairs: NDArray[np.bool_]) -> Pool:
        """These rows alone."""
        of_rated, of_pairs = np.flatnonzero(rated).tolist(), np.flatnonzero(pairs).tolist()
        rows = Rows(
            [(self.rows.rated[at][0], k) for k, at in enumerate(of_rated)],
            [(*self.rows.pairs[at][:2], k) for k, at in enumerate(of_pairs)],
        )
        return Pool(
            self.features, [self.examples[self.rows.rated[at][1]] for at in of_rated],
            [self.pairs[self.rows.pairs[at][2]] for at in of_pairs], rows, self.rated_groups[of_rated],
            self.pair_groups[of_pairs], self.scales, self.learn,
        )  # fmt: skip

    def facts(self) -> Facts:
        """What to fit a readout to. Leniency and weights come from what is here alone."""
        learned, weights, pair_weights = self.learn(self.examples, self.pairs)
        lessons = Lessons([], [], learned, self.pairs)
        targets = Targets.of(lessons, self.scales, weights, pair_weights, torch.device("cpu"))
        return Facts(self.features, self.rows, targets, self.rated_groups, self.pair_groups)

    def rewards(self, fitted: Fitted) -> tuple[Floats, Floats, Floats]:
        """Rewards in stars of the examples (R,), and of the first and second texts of the pairs (P,), in the order of rows."""
        outputs = fitted.outputs(self.features)
        return stars_of(outputs, self.rows, self.examples, self.pairs, fitted.scales(self.scales))


def stars_of(
    outputs: Floats, rows: Rows, examples: Sequence[Example], pairs: Sequence[Pair], scales: Sequence[StarScale]
) -> tuple[Floats, Floats, Floats]:
    """Rewards in stars (R,), (P,), (P,) of rated examples and of both texts of pairs, each by the output of its aspect.

    Args:
        outputs: ``(N, heads)`` of spans.
        rows: Which of them is which example's and pair's.
        examples, pairs: All of them; none without a row.
        scales: Of the heads.
    """
    stars = np.stack([scale.stars(outputs[:, k].astype(float)) for k, scale in enumerate(scales)], -1)
    head = {one.aspect: k for k, one in enumerate(scales)}
    rated, first, second = np.full(len(examples), np.nan), np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
    for row, k in rows.rated:
        rated[k] = stars[row, head[examples[k].aspect]]
    for one, other, k in rows.pairs:
        first[k], second[k] = stars[one, head[pairs[k].aspect]], stars[other, head[pairs[k].aspect]]
    return rated, first, second
