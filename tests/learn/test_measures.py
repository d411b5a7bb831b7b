import random

import numpy as np
import pytest
import torch

from rlhf_core.learn.batching import length_grouped, padded
from rlhf_core.learn.examples import Example
from rlhf_core.learn.measures import (
    best_threshold,
    calibration_error,
    first_below,
    first_error_f1,
    fit_scale,
    interval,
    kendall,
    liked_auc,
    measure,
    pairs_ranked,
    partial_spearman,
    reliability,
    share,
    spearman,
)


def test_auc_by_hand() -> None:
    # liked rewards 3, 1; disliked 2, 1: pairs 3>2, 3>1, 1<2, 1=1 -> (1 + 1 + 0 + 0.5) / 4
    assert liked_auc([5, 4, 2, 1, 3], [3, 1, 2, 1, 99]) == 0.625


def test_auc_needs_both_kinds() -> None:
    assert liked_auc([5, 4, 3], [1, 2, 3]) is None
    assert liked_auc([], []) is None


def example(step: int | None, score: float, chars: int) -> Example:
    return Example("c", "q", "x" * chars, step, score, 1)


def test_measures_by_hand() -> None:
    examples = [example(1, 5.0, 10), example(2, 1.0, 20), example(None, 4.0, 5), example(None, 2.0, 5)]
    measured = measure(examples, [4.0, 2.0, 2.0, 4.0], guess=3.0)
    assert measured["rmse"] == pytest.approx(((1 + 1 + 4 + 4) / 4) ** 0.5)
    assert measured["rmse_of_mean"] == pytest.approx(((4 + 4 + 1 + 1) / 4) ** 0.5)
    assert (measured["step_auc"], measured["answer_auc"]) == (1.0, 0.0)
    assert measured["length_auc"] == 1.0  # shorter is better here, and either direction counts
    assert (measured["examples"], measured["steps"], measured["answers"]) == (4, 2, 2)


def test_a_model_that_says_the_same_of_all_has_no_rank_correlation() -> None:
    assert measure([example(1, 5.0, 1), example(2, 1.0, 1)], [3.0, 3.0], guess=3.0)["spearman"] is None


def test_batches_cover_everything_once_are_seeded_and_alike_in_length() -> None:
    source = random.Random(0)
    lengths = [source.randint(5, 200) for _ in range(203)]
    batches = length_grouped(lengths, 8, random.Random(1))
    assert sorted(index for batch in batches for index in batch) == list(range(203))
    assert batches == length_grouped(lengths, 8, random.Random(1))
    assert batches != length_grouped(lengths, 8, random.Random(2))

    def padding(some: list[list[int]]) -> int:
        return sum(max(lengths[i] for i in batch) * len(batch) - sum(lengths[i] for i in batch) for batch in some)

    plain = [list(range(203))[k : k + 8] for k in range(0, 203, 8)]
    assert padding(batches) < padding(plain) / 2


def test_padding_is_on_the_right_and_masked() -> None:
    ids, mask = padded([[7, 8, 9], [5]], pad_id=0)
    assert torch.equal(ids, torch.tensor([[7, 8, 9], [5, 0, 0]]))
    assert torch.equal(mask, torch.tensor([[1, 1, 1], [1, 0, 0]]))


def test_rank_correlations_by_hand() -> None:
    # ranks 1 2 3 4 and 2 1 4 3: rho = 1 - 6 * 4 / (4 * 15); of 6 pairs 4 agree and 2 do not
    assert spearman([1, 2, 3, 4], [20, 10, 40, 30]) == pytest.approx(0.6)
    assert kendall([1, 2, 3, 4], [20, 10, 40, 30]) == pytest.approx(1 / 3)
    # ties: ranks 1.5 1.5 3 against 1 2 3; centred -.5 -.5 1 and -1 0 1: 1.5 / sqrt(1.5 * 2)
    assert spearman([5, 5, 9], [1, 2, 3]) == pytest.approx(1.5 / 3**0.5)
    assert spearman([5, 5, 5], [1, 2, 3]) is None
    assert kendall([1, 2], [1, 2]) is None


def test_what_is_left_at_fixed_length() -> None:
    length = np.arange(8.0)
    assert partial_spearman(length * 2, np.array([0.0, 2, 1, 4, 3, 6, 5, 7]), length) is None  # the reward is its length
    # The textbook's formula on Spearman's correlations: (r_ab - r_ac r_bc) / sqrt((1 - r_ac^2)(1 - r_bc^2))
    a, b, c = np.array([3.0, 1, 4, 2, 6, 5]), np.array([2.0, 1, 4, 3, 5, 6]), np.array([1.0, 3, 2, 4, 6, 5])
    ab, ac, bc = (spearman(*both) or 0 for both in ((a, b), (a, c), (b, c)))
    assert partial_spearman(a, b, c) == pytest.approx((ab - ac * bc) / ((1 - ac**2) * (1 - bc**2)) ** 0.5)


def test_pairs_of_one_query_by_hand() -> None:
    # q: 5 > 3 > 1 with rewards 2, 2, 1: right, right, half. r: one score only. s alone.
    scores, rewards = np.array([5.0, 3, 1, 4, 4, 5]), np.array([2.0, 2, 1, 9, 1, 0])
    names, right, pairs = pairs_ranked(scores, rewards, np.array(list("qqqrrs")))
    assert (names.tolist(), right.tolist(), pairs.tolist()) == (["q"], [2.5], [3])
    assert share(right, pairs) == pytest.approx(2.5 / 3)
    assert share(*pairs_ranked(scores[3:], rewards[3:], np.array(list("rrs")))[1:]) is None


def test_an_interval_draws_whole_queries() -> None:
    rng = np.random.default_rng(0)
    queries = np.repeat(np.arange(30), 10)
    values = np.repeat(rng.normal(size=30), 10)  # texts of one query are alike
    mean = lambda some: float(some.mean())  # noqa: E731
    whole = interval(mean, queries, values)
    each = interval(mean, np.arange(300), values)
    assert whole.low is not None and whole.high is not None and each.low is not None and each.high is not None  # noqa: PT018
    assert (whole.high - whole.low) / (each.high - each.low) == pytest.approx(10**0.5, rel=0.25)
    assert whole.low < whole.value < whole.high  # type: ignore[operator]
    assert interval(mean, queries, values) == whole
    assert interval(mean, np.zeros(300), values).low is None


def test_calibration_by_hand() -> None:
    rewards, scores = np.concatenate([np.full(10, 2.0), np.full(10, 4.0)]), np.concatenate([np.full(10, 1.0), np.full(10, 4.5)])
    bins = reliability(rewards, scores)
    assert [(one.reward, one.score, one.count) for one in bins] == [(2.0, 1.0, 10), (4.0, 4.5, 10)]
    assert calibration_error(bins) == pytest.approx(0.75)
    assert calibration_error([]) is None


def test_the_scale_of_liking_finds_what_made_it() -> None:
    rng = np.random.default_rng(1)
    rewards = rng.uniform(1, 5, 20_000)
    liked = rng.random(20_000) < 1 / (1 + np.exp(-(rewards - 3.2) / 0.4))
    scale = fit_scale(np.where(liked, 5.0, 1.0), rewards)
    assert scale is not None
    assert (scale.midpoint, scale.temperature) == (pytest.approx(3.2, abs=0.03), pytest.approx(0.4, abs=0.03))
    assert scale.chance(np.array([scale.midpoint]))[0] == pytest.approx(0.5)
    assert fit_scale(np.full(5, 5.0), np.arange(5.0)) is None
    assert fit_scale(np.array([5.0, 5, 1, 1]), np.array([1.0, 1, 2, 2])) is None  # upside down


def test_first_errors_by_hand() -> None:
    # with an error: right, wrong, right -> 2/3; without: right, wrong -> 1/2; harmonic mean 4/7
    assert first_error_f1([0, 2, 1, -1, -1], [0, 1, 1, -1, 3]) == pytest.approx(4 / 7)
    assert first_error_f1([-1, -1], [-1, -1]) is None
    rewards = [np.array([4.0, 1.0, 1.5]), np.array([4.0, 4.5])]
    assert first_below(rewards, 2.0) == [1, -1]
    threshold = best_threshold([1, -1], rewards)
    assert threshold is not None
    assert first_below(rewards, threshold) == [1, -1]
