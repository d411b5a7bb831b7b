"""Measures of how well rewards agree with people, and their intervals. Torch-free; every array is of one length N.

Scores and rewards are in stars. A liked thing has a mean score of 4 or more, a disliked one 2 or less. Intervals are 95%
percentile bootstraps that draw whole queries, because texts of one query resemble each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata
from sklearn.linear_model import LogisticRegression

from rlhf_core.ground.records import DISLIKED, LIKED
from rlhf_core.learn.examples import Example

Floats = NDArray[np.float64]
Statistic = Callable[..., float | None]
DRAWS = 500


def liked_auc(scores: Sequence[float] | Floats, rewards: Sequence[float] | Floats) -> float | None:
    """Area under the ROC curve: chance that a liked thing gets more reward than a disliked one, ties counting half.

    Things in between are left out. None where one of the two kinds is missing.
    """
    scores, rewards = np.asarray(scores, float), np.asarray(rewards, float)
    clear = (scores >= LIKED) | (scores <= DISLIKED)
    liked = scores[clear] >= LIKED
    if not len(liked) or liked.all() or not liked.any():
        return None
    ranks, above, below = rankdata(rewards[clear]), int(liked.sum()), int((~liked).sum())  # Mann and Whitney's U
    return float((ranks[liked].sum() - above * (above + 1) / 2) / (above * below))


def _correlation(one: Floats, other: Floats) -> float | None:
    """Pearson's, None where one does not vary."""
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def spearman(one: Sequence[float] | Floats, other: Sequence[float] | Floats) -> float | None:
    """Spearman's rank correlation; None below three things or where one does not vary."""
    return _correlation(rankdata(one), rankdata(other))


def kendall(one: Sequence[float] | Floats, other: Sequence[float] | Floats) -> float | None:
    """Kendall's tau-b; None as in :func:`spearman`."""
    one, other = np.asarray(one, float), np.asarray(other, float)
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(kendalltau(one, other).statistic)


def partial_spearman(one: Floats, other: Floats, held: Floats) -> float | None:
    """Spearman's correlation of two with a third held fixed: of what is left of their ranks after a line in its ranks.

    None as in :func:`spearman`, or where one is a function of ``held``.
    """
    if len(one) < 4:
        return None
    a, b, c = rankdata(one), rankdata(other), rankdata(held)
    ab, ac, bc = _correlation(a, b), _correlation(a, c), _correlation(b, c)
    if ab is None or ac is None or bc is None:
        return ab  # lengths that do not vary hold themselves fixed
    left = (1 - ac**2) * (1 - bc**2)
    return None if left < 1e-12 else float((ab - ac * bc) / left**0.5)


def pairs_ranked(scores: Floats, rewards: Floats, queries: NDArray[Any]) -> tuple[NDArray[Any], Floats, Floats]:
    """Of each query that has two things with different scores: its name, how many such pairs the reward ranks as people do
    (equal rewards count half), and how many pairs it has."""
    names: list[Any] = []
    right: list[float] = []
    pairs: list[int] = []
    order = np.argsort(queries, kind="stable")
    _, begins = np.unique(queries[order], return_index=True)
    for group in np.split(order, begins[1:]):
        if len(group) < 2:
            continue
        above = np.triu(np.sign(scores[group][:, None] - scores[group][None, :]), 1)
        same = np.sign(rewards[group][:, None] - rewards[group][None, :])
        known = above != 0
        if known.any():
            names.append(queries[group[0]])
            right.append(float((above[known] == same[known]).sum()) + 0.5 * float((same[known] == 0).sum()))
            pairs.append(int(known.sum()))
    return np.array(names), np.array(right), np.array(pairs, float)


def share(parts: Floats, wholes: Floats) -> float | None:
    """Sum of the parts over the sum of the wholes; None where there is nothing."""
    return float(parts.sum() / wholes.sum()) if len(wholes) else None


def rmse(scores: Floats, rewards: Floats) -> float | None:
    """Root mean squared error, in stars."""
    return float(np.sqrt(np.mean((rewards - scores) ** 2))) if len(scores) else None


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its 95% interval; both ends are None where too few draws had a value."""

    value: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


def redrawn(statistic: Statistic, groups: NDArray[Any], *arrays: NDArray[Any], draws: int = DRAWS, seed: int = 0) -> Floats:
    """Values of a statistic on bootstrap draws of whole groups, those draws left out on which it has none.

    Args:
        statistic: Called with the drawn arrays; None where it has no value.
        groups: (N,) what is drawn together: the query of each thing.
        arrays: What the statistic takes, each (N,).
        draws: Bootstrap draws.
        seed: Of the draws; two statistics with one seed and one ``groups`` see the same draws.
    """
    names, index = np.unique(groups, return_inverse=True)
    order = np.argsort(index, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(index))[:-1])
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        rows = np.concatenate([members[k] for k in rng.integers(len(names), size=len(names))])
        drawn = statistic(*(array[rows] for array in arrays))
        if drawn is not None:
            found.append(drawn)
    return np.array(found)


def interval(statistic: Statistic, groups: NDArray[Any], *arrays: NDArray[Any], draws: int = DRAWS, seed: int = 0) -> Interval:
    """A statistic of ``arrays`` (each (N,)) with its interval; arguments as of :func:`redrawn`."""
    value = statistic(*arrays)
    if value is None or len(np.unique(groups)) < 3:
        return Interval(value, None, None)
    return around(value, redrawn(statistic, groups, *arrays, draws=draws, seed=seed), draws)


def around(value: float | None, found: Floats, draws: int = DRAWS) -> Interval:
    """The interval of what :func:`redrawn` found; none where fewer than half of the draws had a value."""
    if value is None or len(found) < draws / 2:
        return Interval(value, None, None)
    low, high = np.percentile(found, [2.5, 97.5])
    return Interval(value, float(low), float(high))


@dataclass(frozen=True, slots=True)
class Bin:
    """Things of like reward: their mean reward, mean score, and how many."""

    reward: float
    score: float
    count: int


def reliability(rewards: Floats, scores: Floats, bins: int = 10) -> list[Bin]:
    """Things in bins of equal size by their reward, the lowest first; fewer bins where there are fewer than 10 a bin."""
    if not len(rewards):
        return []
    order = np.argsort(rewards, kind="stable")
    parts = np.array_split(order, max(1, min(bins, len(order) // 10)))
    return [Bin(float(rewards[part].mean()), float(scores[part].mean()), len(part)) for part in parts]


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """Expected calibration error: mean distance of a bin's mean reward from its mean score, weighted by its count."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.reward - one.score) for one in bins) / total if total else None


@dataclass(frozen=True, slots=True)
class Scale:
    """Chance that people like what has this reward: ``sigmoid((reward - midpoint) / temperature)``, both in stars."""

    midpoint: float
    temperature: float

    def chance(self, rewards: Floats) -> Floats:
        return np.asarray(1 / (1 + np.exp(-np.clip((rewards - self.midpoint) / self.temperature, -50, 50))))


def fit_scale(scores: Floats, rewards: Floats) -> Scale | None:
    """Midpoint and temperature of greatest likelihood on liked and disliked things (Platt 1999).

    None where one kind is missing or higher rewards do not go with liking.
    """
    clear = (scores >= LIKED) | (scores <= DISLIKED)
    liked = scores[clear] >= LIKED
    if liked.sum() < 2 or (~liked).sum() < 2 or np.ptp(rewards[clear]) == 0:
        return None
    fitted = LogisticRegression(C=100.0).fit(rewards[clear].reshape(-1, 1), liked)
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return Scale(-offset / slope, 1 / slope) if slope > 1e-6 else None


def first_below(rewards: Sequence[Floats], threshold: float) -> list[int]:
    """Index of the first step of each chat with a reward below the threshold; -1 where there is none."""
    return [int(np.argmax(one < threshold)) if (one < threshold).any() else -1 for one in rewards]


def first_error_f1(said: Sequence[int], predicted: Sequence[int]) -> float | None:
    """ProcessBench's F1: harmonic mean of the accuracy on chats with an error and on chats without (-1).

    None where one of the two kinds is missing. Source: arXiv 2412.06559.
    """
    wrong = [one == other for one, other in zip(said, predicted, strict=True) if one >= 0]
    clean = [one == other for one, other in zip(said, predicted, strict=True) if one < 0]
    if not wrong or not clean:
        return None
    a, b = sum(wrong) / len(wrong), sum(clean) / len(clean)
    return 2 * a * b / (a + b) if a + b else 0.0


def best_threshold(said: Sequence[int], rewards: Sequence[Floats], candidates: int = 60) -> float | None:
    """The threshold of the best F1, among quantiles of the chats' lowest rewards; None where F1 has no value."""
    if first_error_f1(said, [-1] * len(said)) is None:
        return None
    lowest = np.array([one.min() for one in rewards])
    tried = np.unique(np.quantile(lowest, np.linspace(0, 1, candidates))) + 1e-9
    return float(max(tried, key=lambda one: first_error_f1(said, first_below(rewards, one)) or 0.0))


def measure(examples: Sequence[Example], rewards: Sequence[float], *, guess: float) -> dict[str, float | int | None]:
    """What a run says while it goes: metrics by name as :data:`rlhf_core.ground.metrics.REWARD_METRICS` defines them.

    Args:
        examples: Held-out examples.
        rewards: Their rewards in stars.
        guess: The training set's mean score, in stars.
    """
    scores, given = np.array([one.score for one in examples], float), np.asarray(rewards, float)
    steps = np.array([one.is_step for one in examples], bool)
    chars = np.array([len(one.text) for one in examples], float)
    by_length = liked_auc(scores[steps], chars[steps])
    return {
        "examples": len(examples),
        "steps": int(steps.sum()),
        "answers": int((~steps).sum()),
        "rmse": rmse(scores, given),
        "rmse_of_mean": rmse(scores, np.full(len(scores), guess)),
        "step_auc": liked_auc(scores[steps], given[steps]),
        "answer_auc": liked_auc(scores[~steps], given[~steps]),
        "length_auc": None if by_length is None else max(by_length, 1 - by_length),
        "spearman": spearman(scores, given),
    }
