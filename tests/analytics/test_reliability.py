"""Alpha, kappa and their intervals: published figures, the library as a judge, and data that defines nothing."""

from __future__ import annotations

from typing import Any

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from rlhf_core.analytics.reliability import (
    Table,
    alpha,
    alpha_summands,
    alphas,
    clustered,
    figures,
    kappa,
    kappas,
    ratio_of_sums,
    value_counts,
)
from rlhf_core.ground.judgement import Level

# K. Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section E: four observers, twelve units, with gaps
_ = float("nan")
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]
PUBLISHED: dict[Level, float] = {"nominal": 0.743, "ordinal": 0.815, "interval": 0.849, "ratio": 0.797}


def table(matrix: Any, clusters: Any = None) -> Table:
    """(raters, units) with NaN for missing."""
    data = np.asarray(matrix, dtype=float)
    rater, unit = (one.reshape(-1) for one in np.indices(data.shape))
    return Table(unit, rater, data.reshape(-1), unit if clusters is None else np.asarray(clusters)[unit])


def noisy(units: int = 300, raters: int = 4, seed: int = 0, missing: float = 0.3) -> Any:
    generator = np.random.default_rng(seed)
    truth = generator.integers(1, 6, units)
    data = np.clip(truth + generator.integers(-1, 2, (raters, units)), 1, 5).astype(float)
    data[generator.random(data.shape) < missing] = np.nan
    return data


@pytest.mark.parametrize(("level", "published"), PUBLISHED.items())
def test_the_published_example(level: Level, published: float) -> None:
    estimate = alpha(table(OBSERVERS), level)
    assert estimate.value is not None
    assert round(estimate.value, 3) == published
    assert (estimate.units, estimate.ratings, estimate.raters) == (11, 40, 4), "what one observer judged alone does not count"
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < estimate.value < estimate.high <= 1


@pytest.mark.parametrize("level", PUBLISHED)
@pytest.mark.parametrize("seed", range(3))
def test_each_bootstrap_round_is_what_the_library_says_of_the_same_units(level: Level, seed: int) -> None:
    data = noisy(seed=seed)
    kept = table(data).pairable()
    values, counts = value_counts(kept)
    summands, times = alpha_summands(counts)
    assert times.sum() == len(counts)
    generator = np.random.default_rng(seed)
    keys = {tuple(row): k for k, row in enumerate(_patterns(counts, summands))}
    for _round in range(20):
        drawn = generator.integers(0, len(counts), len(counts))
        weights = np.zeros((1, len(times)))
        for unit in drawn:
            weights[0, keys[tuple(_contribution(counts[unit]))]] += 1
        ours = alphas(weights @ summands, values, level)[0]
        library = krippendorff.alpha(value_counts=counts[drawn], value_domain=values, level_of_measurement=level)
        assert ours == pytest.approx(library, abs=1e-12)


def _contribution(row: Any) -> Any:
    row = row.astype(float)
    return ((np.outer(row, row) - np.diag(row)) / (row.sum() - 1)).reshape(-1).round(9)


def _patterns(counts: Any, summands: Any) -> Any:
    return summands.round(9)


def test_an_interval_is_that_of_drawing_units_one_by_one() -> None:
    data = noisy(units=120)
    kept = table(data).pairable()
    values, counts = value_counts(kept)
    generator = np.random.default_rng(1)
    plain = [
        krippendorff.alpha(value_counts=counts[generator.integers(0, len(counts), len(counts))], value_domain=values)
        for _round in range(500)
    ]
    estimate = alpha(table(data), "interval", rounds=1000)
    assert [estimate.low, estimate.high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.03)
    assert alpha(table(data), "interval", seed=5) == alpha(table(data), "interval", seed=5)


def test_whole_clusters_are_drawn() -> None:
    """Each chat's steps are copies of one another: drawing steps as if they were independent would look far too sure."""
    data = np.repeat(noisy(units=40, missing=0.0), 10, axis=1)
    chats = np.repeat(np.arange(40), 10)
    steps, whole = alpha(table(data), "interval"), alpha(table(data, chats), "interval")
    assert steps.value == whole.value
    width = lambda one: one.high - one.low  # noqa: E731
    assert width(whole) > 2 * width(steps)
    alone = alpha(table(data[:, ::10]), "interval")
    assert width(whole) == pytest.approx(width(alone), rel=0.2)


def test_clusters_that_are_alike_are_counted_not_kept() -> None:
    summands = np.array([[1.0, 0.0], [0.0, 1.0]])
    pattern_of, clusters = np.array([0, 1, 1, 0, 0, 0]), np.array([0, 0, 1, 1, 2, 2])
    rows, times = clustered(summands, pattern_of, clusters)
    assert sorted(zip(rows.tolist(), times.tolist(), strict=True)) == [([1.0, 1.0], 2), ([2.0, 0.0], 1)]


def test_many_different_clusters_and_few_give_one_distribution() -> None:
    rows = np.random.default_rng(0).normal(size=(3000, 1))
    total = lambda sums: sums[:, 0]  # noqa: E731
    different = figures(total, rows, np.ones(3000, dtype=np.int64), 2000, 0)  # drawn one by one
    few = figures(total, rows[:5], np.full(5, 100, dtype=np.int64), 2000, 0)  # drawn by a multinomial
    assert different.std() == pytest.approx(rows.std() * 3000**0.5, rel=0.1)
    assert few.std() == pytest.approx(rows[:5].std() * 500**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("matrix", "why"),
    [
        ([[1, 2, 3]], "one person only"),
        ([[1, 2, _], [_, _, 3]], "no two of them the same thing"),
        ([[_, _], [_, _]], "nobody has judged"),
        ([[], []], "nobody has judged"),
        ([[4, 4, 4], [4, 4, 4]], "the same value everywhere"),
    ],
)
def test_what_defines_no_agreement_says_why(matrix: Any, why: str) -> None:
    estimate = alpha(table(matrix), "ordinal")
    assert (estimate.value, estimate.low, estimate.high) == (None, None, None)
    assert why in estimate.why


def test_agreement_in_full_and_none_at_all() -> None:
    assert alpha(table([[1, 2, 3], [1, 2, 3]]), "ordinal").value == 1
    worse = alpha(table([[1, 5, 1, 5], [5, 1, 5, 1]]), "interval")
    assert worse.value is not None
    assert worse.value < 0


def test_a_single_unit_in_common() -> None:
    estimate = alpha(table([[1, 2], [3, _]]), "interval")
    assert estimate.value == 0
    assert (estimate.units, estimate.ratings) == (1, 2)


@pytest.mark.parametrize("seed", range(2))
def test_kappa_is_what_scikit_learn_says(seed: int) -> None:
    first, second = noisy(raters=2, seed=seed, missing=0.0)
    estimate = kappa(first, second)
    assert estimate.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < estimate.value < estimate.high  # type: ignore[operator]
    generator = np.random.default_rng(seed)
    plain = []
    for _round in range(300):
        drawn = generator.integers(0, len(first), len(first))
        plain.append(cohen_kappa_score(first[drawn], second[drawn]))
    assert [estimate.low, estimate.high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.04)


def test_kappa_without_anything_in_common_or_without_difference() -> None:
    assert "nothing in common" in kappa(np.array([]), np.array([])).why
    assert "one and the same value" in kappa(np.array([3.0, 3.0]), np.array([3.0, 3.0])).why
    assert kappa(np.array([1.0, 2.0]), np.array([1.0, 2.0])).value == 1
    assert np.isnan(kappas(np.array([[4.0]]), 1)[0])


def test_a_ratio_of_sums() -> None:
    value, low, high = ratio_of_sums(np.array([1.0, 0.0, 3.0, 0.0]), np.array([1.0, 1.0, 2.0, 0.0]))
    assert value == 1.0
    assert low is not None
    assert high is not None
    assert low < 1 < high
    assert ratio_of_sums(np.array([]), np.array([])) == (None, None, None)
    chats = np.array([0, 0, 1, 1])
    assert ratio_of_sums(np.array([1.0, 1.0, 0.0, 0.0]), np.ones(4), chats)[1:] == (0.0, 1.0)
