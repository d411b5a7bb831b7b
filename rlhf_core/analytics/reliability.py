"""How far raters agree: Krippendorff's alpha, Cohen's kappa and distances, with bootstrap intervals. Arithmetic only.

All of them are functions of sums over what is resampled (units, or clusters of units such as chats). A bootstrap round is
therefore a weighted sum of the few different summands there are, drawn with a multinomial: the same distribution as drawing
the units one by one, at a cost that does not grow with their number.

Sources: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), sections D and E; J. Cohen, "A Coefficient of
Agreement for Nominal Scales" (1960); B. Efron, percentile intervals (1981). The point estimate of alpha is the library
``krippendorff``'s; the bootstrap is ours, and held to the library by tests and by ``benchmarks/agreement.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import krippendorff
import numpy as np
import numpy.typing as npt

from rlhf_core.ground.judgement import Level

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
ROUNDS = 1000
COVERAGE = 0.95
_FEW = 2000  # different summands
_AT_ONCE = 4_000_000  # numbers in memory for some rounds together


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95% percentile bootstrap interval; None where it is not defined, and then ``why`` says the reason.

    ``units``: things judged by two people or more; ``ratings``: their judgements; ``raters``: people who gave those.
    """

    value: float | None
    low: float | None
    high: float | None
    units: int
    ratings: int
    raters: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Ratings in columns of one length: ``unit``, ``rater`` and ``cluster`` as codes from 0, ``value`` a number (NaN: missing).

    ``cluster`` is what is drawn in a bootstrap round: the chat where units are its steps, for steps of one chat are alike.
    """

    unit: Integers
    rater: Integers
    value: Floats
    cluster: Integers

    def __post_init__(self) -> None:
        assert len(self.unit) == len(self.rater) == len(self.value) == len(self.cluster)

    def where(self, kept: npt.NDArray[np.bool_]) -> Table:
        return Table(self.unit[kept], self.rater[kept], self.value[kept], self.cluster[kept])

    def pairable(self) -> Table:
        """Without what is missing, and without units that one person judged alone. Codes are anew from 0."""
        there = self.where(~np.isnan(self.value))
        if len(there.unit) == 0:
            return there
        kept = there.where(np.bincount(there.unit)[there.unit] > 1)
        codes = [np.unique(column, return_inverse=True)[1] for column in (kept.unit, kept.rater, kept.cluster)]
        return Table(codes[0], codes[1], kept.value, codes[2])


def alpha(table: Table, level: Level, *, rounds: int = ROUNDS, seed: int = 0) -> Estimate:
    """Krippendorff's alpha.

    Args:
        table: Ratings; a person judges a unit once.
        level: How values differ: nominal (same or not), ordinal (ranks), interval (differences), ratio.
        rounds: Bootstrap rounds; 0 for none.
        seed: Of the bootstrap.
    """
    kept = table.pairable()
    size = _size(kept)
    if why := _why_not(table, size):
        return Estimate(None, None, None, *size, why)
    values, counts = value_counts(kept)
    if len(values) == 1:
        return Estimate(
            None, None, None, *size, "everybody gave the same value everywhere, so there is no disagreement to expect"
        )  # fmt: skip
    point = float(krippendorff.alpha(value_counts=counts, value_domain=values, level_of_measurement=level))
    if rounds == 0:
        return Estimate(point, None, None, *size)
    summands, times = alpha_summands(counts, _cluster_of_unit(kept))
    return Estimate(point, *interval(lambda sums: alphas(sums, values, level), summands, times, rounds, seed), *size)


def value_counts(table: Table) -> tuple[Floats, Integers]:
    """(the V different values, how often each unit got each of them: (U, V))."""
    values, codes = np.unique(table.value, return_inverse=True)
    units = int(table.unit.max()) + 1
    counts = np.bincount(table.unit * len(values) + codes, minlength=units * len(values))
    return values, counts.reshape(units, len(values))


def alpha_summands(counts: Integers, clusters: Integers | None = None) -> tuple[Floats, Integers]:
    """What each unit, or cluster of units, adds to the coincidence matrix: (K, V * V) different ones, and how often.

    Args:
        counts: (U, V), each unit with two values or more.
        clusters: (U,) codes from 0; None: each unit for itself.
    """
    patterns, pattern_of, times = _different(counts)
    given = patterns.astype(np.float64)
    pairs = given[:, :, None] * given[:, None, :]
    diagonal = np.arange(given.shape[1])
    pairs[:, diagonal, diagonal] -= given
    summands = (pairs / (given.sum(axis=1) - 1)[:, None, None]).reshape(len(patterns), -1)
    if clusters is None or len(clusters) == 0 or len(np.unique(clusters)) == len(clusters):
        return summands, times
    return clustered(summands, pattern_of, clusters)


def clustered(summands: Floats, pattern_of: Integers, clusters: Integers) -> tuple[Floats, Integers]:
    """The sums of each cluster's summands, different ones only, and how often each is there.

    Args:
        summands: (K, D).
        pattern_of: (U,) which summand each unit adds.
        clusters: (U,) codes from 0.
    """
    order = np.lexsort((pattern_of, clusters))
    starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
    # a cluster is known by the multiset of its summands: sums of 64-bit random numbers, equal for equal multisets
    marks = np.random.default_rng(0).integers(0, 2**63, len(summands), dtype=np.uint64)
    names = np.add.reduceat(marks[pattern_of[order]], starts)
    _, first, times = np.unique(names, return_index=True, return_counts=True)
    ends = np.append(starts[1:], len(order))
    members = [pattern_of[order[starts[k] : ends[k]]] for k in first]
    return np.stack([summands[one].sum(axis=0) for one in members]), times.astype(np.int64)


def alphas(coincidences: Floats, values: Floats, level: Level) -> Floats:
    """Alpha of each of R coincidence matrices (R, V * V); NaN where it is not defined."""
    count = len(values)
    observed = coincidences.reshape(-1, count, count)
    totals = observed.sum(axis=1)  # (R, V)
    n = totals.sum(axis=1)
    distance = _distances(totals, values, level)
    disagreement = (observed * distance).sum(axis=(1, 2))
    expected = totals[:, :, None] * totals[:, None, :]
    diagonal = np.arange(count)
    expected[:, diagonal, diagonal] -= totals
    by_chance = (expected * distance).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(by_chance > 0, 1 - (n - 1) * disagreement / by_chance, np.nan)


def _distances(totals: Floats, values: Floats, level: Level) -> Floats:
    """Squared differences (R or 1, V, V)."""
    if level == "nominal":
        return (values[:, None] != values[None, :]).astype(np.float64)[None]
    if level == "interval":
        return ((values[:, None] - values[None, :]) ** 2)[None]
    if level == "ratio":
        sums = values[:, None] + values[None, :]
        return (np.divide(values[:, None] - values[None, :], sums, out=np.zeros_like(sums), where=sums != 0) ** 2)[None]
    # ordinal: how many ranks lie between, half of the ends' own counted
    middle = np.cumsum(totals, axis=1) - totals / 2
    return (middle[:, :, None] - middle[:, None, :]) ** 2


def kappa(first: Floats, second: Floats, clusters: Integers | None = None, *, rounds: int = ROUNDS, seed: int = 0) -> Estimate:
    """Cohen's kappa of two raters over what both judged, unweighted.

    Args:
        first: (N,) one rater's values. second: (N,) the other's of the same things.
        clusters: (N,) codes; None: each thing for itself.
    """
    size = (len(first), 2 * len(first), 2 if len(first) else 0)
    if len(first) == 0:
        return Estimate(None, None, None, *size, "they have judged nothing in common")
    values, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    v = len(values)
    cells = codes[: len(first)] * v + codes[len(first) :]
    value = float(kappas(np.bincount(cells, minlength=v * v)[None].astype(np.float64), v)[0])
    if np.isnan(value):
        return Estimate(None, None, None, *size, "both gave one and the same value everywhere")
    used, pattern_of, times = np.unique(cells, return_inverse=True, return_counts=True)
    summands = np.eye(v * v)[used]
    if clusters is not None:
        summands, times = clustered(summands, pattern_of.astype(np.int64), np.unique(clusters, return_inverse=True)[1])
    low, high = interval(lambda sums: kappas(sums, v), summands, times.astype(np.int64), rounds, seed) if rounds else (None, None)
    return Estimate(value, low, high, *size)


def kappas(tables: Floats, values: int) -> Floats:
    """Kappa of each of R tables (R, V * V) of what one rater said by what the other said; NaN where it is not defined."""
    counts = tables.reshape(-1, values, values)
    n = counts.sum(axis=(1, 2))
    same = np.einsum("rvv->r", counts) / n
    by_chance = (counts.sum(axis=1) * counts.sum(axis=2)).sum(axis=1) / n**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(by_chance < 1, (same - by_chance) / (1 - by_chance), np.nan)


def ratio_of_sums(
    above: Floats, below: Floats, clusters: Integers | None = None, *, rounds: int = ROUNDS, seed: int = 0
) -> tuple[float | None, float | None, float | None]:
    """sum(above) / sum(below) with its interval, for example a mean: (value, low, high); all None where below sums to 0."""
    if below.sum() == 0:
        return None, None, None
    rows = np.stack([above, below], axis=1)
    if clusters is not None:
        codes = np.unique(clusters, return_inverse=True)[1]
        rows = np.stack([np.bincount(codes, weights=column) for column in rows.T], axis=1)
    different, times = np.unique(rows, axis=0, return_counts=True)

    def ratios(sums: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(sums[:, 0] / sums[:, 1])

    low, high = interval(ratios, different, times, rounds, seed) if rounds else (None, None)
    return float(above.sum() / below.sum()), low, high


def interval(
    figure: Callable[[Floats], Floats], summands: Floats, times: Integers, rounds: int, seed: int
) -> tuple[float | None, float | None]:
    """The percentile interval of a figure over resampled sums; None where no round defines it.

    Args:
        figure: From (R, D) sums to (R,) figures.
        summands: (K, D) different ones. times: (K,) how often each is there.
    """
    found = figures(figure, summands, times, rounds, seed)
    found = found[~np.isnan(found)]
    if len(found) == 0:
        return None, None
    low, high = np.quantile(found, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def figures(figure: Callable[[Floats], Floats], summands: Floats, times: Integers, rounds: int, seed: int) -> Floats:
    """The figure in each bootstrap round (R,)."""
    generator = np.random.default_rng(seed)
    total = int(times.sum())
    some = max(1, min(rounds, _AT_ONCE // max(1, len(times), summands.shape[1])))
    found = []
    for begin in range(0, rounds, some):
        here = min(some, rounds - begin)
        if len(times) * 4 < total or len(times) < _FEW:
            weights = generator.multinomial(total, times / total, size=here)
        else:  # nearly all are different: drawing them one by one is cheaper
            owner = np.repeat(np.arange(len(times)), times)
            weights = np.stack([
                np.bincount(owner[generator.integers(0, total, total)], minlength=len(times)) for _ in range(here)
            ])  # fmt: skip
        found.append(figure(weights.astype(np.float64) @ summands))
    return np.concatenate(found)


def _different(counts: Integers) -> tuple[Integers, Integers, Integers]:
    """(different rows, which of them each row is, how often each is there)."""
    base = int(counts.max()) + 1
    if base ** counts.shape[1] < 2**62:  # a row as one number: much quicker to sort
        keys = counts @ (base ** np.arange(counts.shape[1], dtype=np.int64))
        _, first, inverse, times = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        return counts[first], inverse.astype(np.int64), times.astype(np.int64)
    rows, inverse, times = np.unique(counts, axis=0, return_inverse=True, return_counts=True)
    return rows, inverse.reshape(-1).astype(np.int64), times.astype(np.int64)


def _cluster_of_unit(table: Table) -> Integers:
    owner = np.zeros(int(table.unit.max()) + 1, dtype=np.int64)
    owner[table.unit] = table.cluster
    return np.unique(owner, return_inverse=True)[1].astype(np.int64)


def _size(kept: Table) -> tuple[int, int, int]:
    return len(np.unique(kept.unit)), len(kept.unit), len(np.unique(kept.rater))


def _why_not(table: Table, size: tuple[int, int, int]) -> str:
    if size[0]:
        return ""
    there: Any = table.rater[~np.isnan(table.value)]
    raters = len(np.unique(there))
    if raters == 0:
        return "nobody has judged anything here"
    if raters == 1:
        return "one person only has judged this; agreement takes two"
    return f"{raters} people have judged, but no two of them the same thing"
