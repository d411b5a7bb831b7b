"""Several checkpoints' rewards of the same answers and steps: where they agree, where they part, and who is nearer to people.

Torch-free. A *thing* is a whole answer or one of its steps; arrays are of one length N, one entry a thing, in stars where they
hold scores or rewards. Intervals draw whole queries, because texts of one query resemble each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rlhf_core.ground.cards import Kind
from rlhf_core.learn.measures import (
    DRAWS,
    Bin,
    Floats,
    Interval,
    Statistic,
    around,
    calibration_error,
    first_error_f1,
    interval,
    liked_auc,
    pairs_ranked,
    redrawn,
    reliability,
    rmse,
    share,
    spearman,
)

By = Literal["source", "position", "length"]
WHOLE = 0  # the order of a whole answer; steps count from 1
FEWEST_QUERIES = 3  # to draw from
SLICE_AT_LEAST = 10  # things with people's scores


@dataclass(frozen=True, slots=True)
class Things:
    """Whole answers and steps with rewards.

    Args:
        answer: (N,) int, which answer it is or belongs to.
        order: (N,) int, a step's place from 1, or 0.
        query: (N,) what is drawn together: :func:`rlhf_core.ground.text.query_key`.
        source: (N,) where the answer comes from.
        chars: (N,) length of a step's own text, or of the answer.
        people: (N,) mean score, NaN where nobody rated.
        rewards: (L, N), a row a checkpoint.
    """

    answer: NDArray[np.int64]
    order: NDArray[np.int64]
    query: NDArray[Any]
    source: NDArray[Any]
    chars: Floats
    people: Floats
    rewards: Floats

    def of_kind(self, kind: Kind) -> NDArray[np.bool_]:
        return self.order > WHOLE if kind == "steps" else self.order == WHOLE

    def only(self, which: NDArray[Any]) -> Things:
        """Those of a mask or of indices."""
        return Things(
            self.answer[which], self.order[which], self.query[which], self.source[which], self.chars[which], self.people[which],
            self.rewards[:, which],
        )  # fmt: skip

    @property
    def rated(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.people)


def disagreement(rewards: Floats) -> Floats:
    """(N,): how far the checkpoints' rewards (L, N) of a thing lie apart, in stars, from the lowest to the highest.

    Each checkpoint's mean over all things is taken off first: one that is a star stricter with all does not disagree on any.
    """
    if not rewards.shape[1]:
        return np.zeros(0)
    return np.asarray(np.ptp(rewards - rewards.mean(1, keepdims=True), axis=0))


def correlations(things: Things, kind: Kind) -> list[list[float | None]]:
    """(L, L) Spearman's rank correlation of each checkpoint with each other; None where it has no value."""
    rewards = things.rewards[:, things.of_kind(kind)]
    count = len(rewards)
    found: list[list[float | None]] = [[None] * count for _ in range(count)]
    for a, b in combinations(range(count), 2):
        found[a][b] = found[b][a] = spearman(rewards[a], rewards[b])
    for a in range(count):
        found[a][a] = 1.0
    return found


@dataclass(frozen=True, slots=True)
class Flip:
    """Two things (indices) of which one checkpoint likes the first better and the other the second. ``by``: the smaller of the
    two leads, stars. ``people``: 1 where people like the first better, -1 the second, 0 alike, None where not both were rated."""

    first: int
    second: int
    by: float
    people: int | None


@dataclass(frozen=True, slots=True)
class Flips:
    """``pairs`` were compared and ``flipped`` of them stand in another order; ``greatest`` are those that flip most plainly.
    ``one_right``, ``other_right``: of the flipped ones with different scores of people, whom people agree with."""

    pairs: int
    flipped: int
    greatest: list[Flip]
    one_right: int
    other_right: int


def flips(things: Things, one: int, other: int, kind: Kind, at_most: int = 50) -> Flips:
    """Where two checkpoints order things otherwise: answers to the same query, or steps of the same answer."""
    group = things.query if kind == "answers" else things.answer
    index = np.flatnonzero(things.of_kind(kind))
    by_group: dict[Any, list[int]] = {}
    for k in index:
        by_group.setdefault(group[k], []).append(int(k))
    found: list[Flip] = []
    pairs = one_right = other_right = 0
    for members in by_group.values():
        for a, b in combinations(members, 2):
            mine, theirs = (float(things.rewards[row, a] - things.rewards[row, b]) for row in (one, other))
            pairs += 1
            if mine * theirs >= 0:
                continue
            lead = things.people[a] - things.people[b]
            people = None if np.isnan(lead) else int(np.sign(lead))
            if people:
                one_right += people == np.sign(mine)
                other_right += people == np.sign(theirs)
            found.append(Flip(a, b, min(abs(mine), abs(theirs)), people))
    greatest = sorted(found, key=lambda flip: -flip.by)[:at_most]
    return Flips(pairs, len(found), greatest, one_right, other_right)


@dataclass(frozen=True, slots=True)
class Measured:
    """A checkpoint against people. ``auc``: chance that a liked thing gets more reward than a disliked one; ``pairs``: share of
    pairs of one query with different scores that it ranks as people do; ``error``: root mean square, stars."""

    things: int
    auc: Interval
    pairs: Interval
    spearman: Interval
    error: Interval
    calibration_error: float | None
    reliability: list[Bin]


def measured(things: Things, checkpoint: int, kind: Kind, seed: int = 0) -> Measured:
    """Of the things of a kind that people rated."""
    some = things.only(things.of_kind(kind) & things.rated)
    rewards = some.rewards[checkpoint]

    def value(statistic: Statistic) -> Interval:
        return interval(statistic, some.query, some.people, rewards, seed=seed)

    bins = reliability(rewards, some.people)
    names, right, of_pairs = pairs_ranked(some.people, rewards, some.query)
    return Measured(
        len(rewards), value(liked_auc), interval(share, names, right, of_pairs, seed=seed), value(spearman), value(rmse),
        calibration_error(bins), bins,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ahead:
    """By how much one checkpoint's figure is above another's on the same things. ``p``: two-sided, of the bootstrap; None where
    there were too few queries to draw."""

    by: Interval
    p: float | None


def ahead(things: Things, one: int, other: int, kind: Kind, statistic: Statistic = liked_auc, seed: int = 0) -> Ahead:
    """A paired comparison: every draw of queries is given to both."""
    some = things.only(things.of_kind(kind) & things.rated)

    def lead(people: Floats, mine: Floats, theirs: Floats) -> float | None:
        a, b = statistic(people, mine), statistic(people, theirs)
        return None if a is None or b is None else a - b

    arrays = (some.people, some.rewards[one], some.rewards[other])
    value = lead(*arrays)
    if value is None or len(np.unique(some.query)) < FEWEST_QUERIES:
        return Ahead(Interval(value, None, None), None)
    found = redrawn(lead, some.query, *arrays, seed=seed)
    by = around(value, found)
    if by.low is None:
        return Ahead(by, None)
    tail = min(int((found <= 0).sum()), int((found >= 0).sum()))
    return Ahead(by, min(1.0, 2 * (tail + 1) / (len(found) + 1)))


@dataclass(frozen=True, slots=True)
class Slice:
    """Things of one part: how many people rated, and of each checkpoint the AUC, the rank correlation and the error in stars."""

    name: str
    things: int
    auc: list[float | None]
    spearman: list[float | None]
    error: list[float | None]


def slices(things: Things, kind: Kind, by: By) -> list[Slice]:
    """Parts with at least ten rated things: of a source, of a step's position, of a third by length."""
    some = things.only(things.of_kind(kind) & things.rated)
    if by == "source":
        names = [str(one) or "(not said)" for one in some.source]
    elif by == "position":
        names = ["whole answer" if one == WHOLE else f"step {one}" if one < 5 else "step 5 and later" for one in some.order]
    else:
        names = _thirds(some.chars)
    found = []
    for name in dict.fromkeys(sorted(names) if by != "length" else sorted(names, key=["short", "middling", "long"].index)):
        part = some.only(np.array([one == name for one in names], bool))
        if len(part.people) >= SLICE_AT_LEAST:
            found.append(_slice(name, part.people, part.rewards))
    return found


def of_aspect(name: str, scores: Floats, rewards: Floats) -> Slice | None:
    """Rewards (L, M) against people's scores (M,) of one aspect; None below ten."""
    return _slice(name, scores, rewards) if len(scores) >= SLICE_AT_LEAST else None


def _slice(name: str, people: Floats, rewards: Floats) -> Slice:
    return Slice(
        name, len(people), [liked_auc(people, one) for one in rewards], [spearman(people, one) for one in rewards],
        [rmse(people, one) for one in rewards],
    )  # fmt: skip


def _thirds(chars: Floats) -> list[str]:
    if not len(chars):
        return []
    low, high = np.quantile(chars, [1 / 3, 2 / 3])
    return ["short" if one <= low else "middling" if one <= high else "long" for one in chars]


@dataclass(frozen=True, slots=True)
class FirstErrors:
    """A checkpoint's first steps below its threshold against people's first bad steps. ``f1``: ProcessBench's; ``same``: share of
    answers on which both name the same step, or none."""

    answers: int
    f1: float | None
    same: float | None


def first_errors(said: Sequence[int], found: Sequence[int]) -> FirstErrors:
    """Of answers whose steps people rated: index of the first bad step, -1 for none."""
    same = [one == other for one, other in zip(said, found, strict=True)]
    return FirstErrors(len(said), first_error_f1(said, found), sum(same) / len(same) if same else None)


def best_of(rewards: Sequence[float]) -> int:
    """Index of the highest reward, the first of equals."""
    return max(range(len(rewards)), key=lambda k: rewards[k])


@dataclass(frozen=True, slots=True)
class BestOf:
    """How often picking each query's answer of the highest reward picks what people prefer. ``chance``: what a draw would."""

    queries: int
    right: Interval
    chance: float | None


def best_of_n(queries: Sequence[str], rewards: Sequence[Floats], preferred: Sequence[frozenset[int]], seed: int = 0) -> BestOf:
    """
    Args:
        queries: Of each group of answers.
        rewards: Of each group, one for each answer.
        preferred: Of each group, the answers that people prefer; more than one where they are tied.
    """
    hits = np.array([best_of(one.tolist()) in liked for one, liked in zip(rewards, preferred, strict=True)], float)
    chances = [len(liked) / len(one) for one, liked in zip(rewards, preferred, strict=True)]

    def mean(values: Floats) -> float | None:
        return float(values.mean()) if len(values) else None

    return BestOf(len(hits), interval(mean, np.array(queries), hits, draws=DRAWS, seed=seed), mean(np.array(chances)))
