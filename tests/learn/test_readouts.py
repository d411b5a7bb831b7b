"""Readouts against closed forms and against what is known to be true of made-up data."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from rlhf_core.learn.curve import learning_curve
from rlhf_core.learn.examples import Example
from rlhf_core.learn.lessons import Rows
from rlhf_core.learn.pairs import Pair
from rlhf_core.learn.readouts import Facts, Pool, choose_l2, fit, folds_of, loss_on, stars_of
from rlhf_core.learn.scales import StarScale


def pool(count: int, *, noise: float, seed: int = 0, width: int = 6, pairs: int = 0) -> Pool:
    """Steps whose score follows from the first feature, two of each query; pairs likewise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count + 2 * pairs, width)).astype(np.float32)
    truth = features[:, 0]
    scores = np.clip(3 + 1.2 * truth[:count] + noise * rng.normal(size=count), 1, 5)
    examples = [Example(f"c{k}", f"q{k // 2}", f"text {k}", 1, float(score), 1, float(score)) for k, score in enumerate(scores)]
    leads = truth[count::2] - truth[count + 1 :: 2] + noise * rng.normal(size=pairs)
    voted = [Pair(f"p{k}", "a", "b", 0.85 if lead > 0 else 0.15, 1.0, 1, ("a", "b")) for k, lead in enumerate(leads)]
    rows = Rows([(k, k) for k in range(count)], [(count + 2 * k, count + 2 * k + 1, k) for k in range(pairs)])
    return Pool(
        features, examples, voted, rows, np.arange(count) // 2, 10_000 + np.arange(pairs), [StarScale("", 3.0, 1.0)],
        lambda some, two: (some, [1.0] * len(some), [1.0] * len(two)),
    )  # fmt: skip


def test_ratings_alone_are_ridge_regression() -> None:
    facts = pool(200, noise=0.5).facts()
    fitted = fit(facts, 1, ordinal=False, l2=0.3)
    features = np.asarray(facts.features, float)
    standard = (features - features.mean(0)) / features.std(0)
    ridge = Ridge(0.3 * 200).fit(standard, facts.targets.values.numpy())
    assert fitted.outputs(features)[:, 0] == pytest.approx(ridge.predict(standard), abs=1e-3)
    assert loss_on(facts, fitted) == pytest.approx(
        np.mean((ridge.predict(standard) - facts.targets.values.numpy()) ** 2), rel=1e-4
    )


def test_pairs_alone_are_logistic_regression_of_differences() -> None:
    facts = pool(0, noise=0.5, pairs=300).facts()
    fitted = fit(facts, 1, ordinal=False, l2=0.01)
    weight = fitted.weight[0].double().requires_grad_(True)
    leads = torch.from_numpy(facts.features[0::2] - facts.features[1::2]).double()
    chances = facts.targets.chances.double()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(leads @ weight, chances)
    spread = torch.from_numpy(np.asarray(facts.features, float).std(0))
    (loss + 0.01 * (weight * spread).square().sum()).backward()
    assert weight.grad is not None
    assert weight.grad.abs().max() < 1e-4  # nothing left to gain
    assert weight[0] > 5 * weight[1:].abs().max()


def test_chances_of_stars_rank_and_are_calibrated() -> None:
    some = pool(600, noise=0.3)
    fitted = fit(some.facts(), 1, ordinal=True, l2=0.001)
    assert fitted.thresholds is not None
    assert (fitted.thresholds.diff() > 0).all()
    rewards, _, _ = some.rewards(fitted)
    scores = np.array([one.score for one in some.examples])
    assert rewards.min() >= 1
    assert rewards.max() <= 5
    assert np.corrcoef(rewards, scores)[0, 1] > 0.9
    assert rewards.mean() == pytest.approx(scores.mean(), abs=0.05)


def test_the_penalty_grows_with_the_noise() -> None:
    clear, noisy = (choose_l2(pool(120, noise=noise, width=60).facts(), 1, ordinal=False, seed=0) for noise in (0.05, 8.0))
    assert clear < 0.1 < noisy
    assert choose_l2(pool(4, noise=1).facts(), 1, ordinal=False, seed=0) == 100.0  # two queries: nothing to choose by


def test_only_what_belongs_to_some_queries() -> None:
    facts = pool(10, noise=0, pairs=3).facts()
    some = facts.only([1, 10_002])
    assert (some.rows.rated, some.rows.pairs, some.weight) == ([(2, 2), (3, 3)], [(14, 15, 2)], 3.0)
    assert isinstance(some, Facts)
    part = pool(10, noise=0, pairs=3).only([1, 10_002])
    assert ([one.text for one in part.examples], len(part.pairs)) == (["text 2", "text 3"], 1)
    assert (part.rows.rated, part.rows.pairs) == ([(2, 0), (3, 1)], [(14, 15, 0)])


def test_folds_hold_every_query_once() -> None:
    folds = folds_of(np.arange(7), 3, seed=1)
    assert sorted(len(one) for one in folds) == [2, 2, 3]
    assert sorted(np.concatenate(folds).tolist()) == list(range(7))
    assert len(folds_of(np.arange(2), 5, seed=1)) == 2


def test_each_is_judged_by_the_output_of_its_aspect() -> None:
    examples = [Example("c", "q", "a", None, 3, 1), Example("c", "q", "a", None, 3, 1, aspect="clear")]
    scales = [StarScale("", 3.0, 1.0), StarScale("clear", 4.0, 0.5)]
    pair = Pair("q", "a", "b", 1.0, 1.0, 1, ("a", "b"), aspect="clear")
    rated, first, second = stars_of(
        np.array([[1.0, 2.0], [3.0, -2.0]]), Rows([(0, 0), (0, 1)], [(0, 1, 0)]), examples, [pair], scales
    )
    assert (rated.tolist(), first.tolist(), second.tolist()) == ([4.0, 5.0], [5.0], [3.0])


@pytest.mark.slow
def test_more_judgements_help_where_there_is_something_to_learn() -> None:
    curve = learning_curve(pool(160, noise=1.0, width=120), ordinal=False)
    assert curve is not None
    assert (curve.of, curve.judgements, curve.more) == ("steps", 160, 200)
    figures = [point.figure.value or 0 for point in curve.points]
    assert figures[-1] > figures[0] + 0.02
    assert curve.gain.low is not None
    assert curve.gain.low > 0
    assert "200 more judgements" in curve.in_words()[0]
    later = learning_curve(pool(1600, noise=1.0, width=120), ordinal=False)
    assert later is not None
    assert (later.gain.value or 0) < (curve.gain.value or 0) / 4


def test_a_curve_of_noise_promises_nothing() -> None:
    curve = learning_curve(pool(160, noise=200.0, width=10), ordinal=False)
    assert curve is not None
    assert curve.gain.low is not None
    assert curve.gain.low < 0.01
    assert learning_curve(pool(20, noise=1.0), ordinal=False) is None


@pytest.mark.slow
def test_the_kind_that_says_something_is_the_kind_to_collect() -> None:
    some = pool(200, noise=0.3, pairs=60, width=40)
    useless = [Pair(one.query, "a", "b", 0.5, 1.0, 1, ("a", "b")) for one in some.pairs]
    some = Pool(some.features, some.examples, useless, some.rows, some.rated_groups, some.pair_groups, some.scales, some.learn)
    curve = learning_curve(some, ordinal=False)
    assert curve is not None
    assert [kind.kind for kind in curve.kinds] == ["steps", "pairs"]
