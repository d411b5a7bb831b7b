"""Checkpoints set against each other and against people: every figure against scikit-learn, SciPy or a loop of its own."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, roc_auc_score

from rlhf_core.learn.side_by_side import (
    Things,
    ahead,
    best_of_n,
    correlations,
    disagreement,
    first_errors,
    flips,
    measured,
    of_aspect,
    slices,
)


def some_things(seed: int = 0, answers: int = 60, queries: int = 20) -> Things:
    """Answers of three steps each; the first checkpoint follows people closely, the second loosely, the third not at all."""
    rng = np.random.default_rng(seed)
    answer = np.repeat(np.arange(answers), 4)
    order = np.tile(np.arange(4), answers)
    people = rng.integers(1, 6, len(answer)).astype(float)
    noise = rng.normal(size=(3, len(answer)))
    rewards = np.stack([people + 0.5 * noise[0], people + 3 * noise[1] + 2, 3 + noise[2]])
    people[rng.random(len(answer)) < 0.3] = np.nan
    query = np.array([f"q{k % queries}" for k in answer])
    source = np.array(["web" if k % 3 else "phone" for k in answer])
    return Things(answer, order, query, source, rng.integers(5, 500, len(answer)).astype(float), people, rewards)


def clear(people: np.ndarray) -> np.ndarray:
    return (people >= 4) | (people <= 2)


def test_figures_against_people_are_those_of_scikit_learn() -> None:
    things = some_things()
    for kind, of_kind in (("steps", things.order > 0), ("answers", things.order == 0)):
        rated = of_kind & ~np.isnan(things.people)
        people = things.people[rated]
        for k in range(3):
            found = measured(things, k, kind)  # type: ignore[arg-type]
            rewards = things.rewards[k][rated]
            assert found.things == rated.sum()
            some = clear(people)
            assert found.auc.value == pytest.approx(roc_auc_score(people[some] >= 4, rewards[some]))
            assert found.spearman.value == pytest.approx(spearmanr(people, rewards).statistic)
            assert found.error.value == pytest.approx(np.sqrt(np.mean((people - rewards) ** 2)))
            right = [
                np.sign(rewards[a] - rewards[b]) == np.sign(people[a] - people[b])
                for a, b in combinations(range(len(people)), 2)
                if things.query[rated][a] == things.query[rated][b] and people[a] != people[b]
            ]
            assert found.pairs.value == pytest.approx(np.mean(right))
            for one in (found.auc, found.spearman, found.error, found.pairs):
                assert one.low is not None
                assert one.value is not None
                assert one.high is not None
                assert one.low <= one.value <= one.high


def test_correlations_are_scipys() -> None:
    things = some_things()
    found = correlations(things, "steps")
    steps = things.rewards[:, things.order > 0]
    for a in range(3):
        for b in range(3):
            assert found[a][b] == pytest.approx(spearmanr(steps[a], steps[b]).statistic)


def test_a_stricter_checkpoint_does_not_disagree() -> None:
    rewards = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])
    assert disagreement(rewards).tolist() == [0, 0, 0]
    rewards[1, 2] = 1.0  # its mean is 2 now, the first one's too
    assert disagreement(rewards).tolist() == [1, 1, 2]
    assert disagreement(np.zeros((2, 0))).tolist() == []


@pytest.mark.parametrize("kind", ["answers", "steps"])
def test_flips_are_counted_and_the_plainest_come_first(kind: str) -> None:
    things = some_things()
    found = flips(things, 0, 2, kind, at_most=5)  # type: ignore[arg-type]
    group = things.query if kind == "answers" else things.answer
    of_kind = things.order == 0 if kind == "answers" else things.order > 0
    pairs = [(a, b) for a, b in combinations(np.flatnonzero(of_kind), 2) if group[a] == group[b]]
    leads = {pair: [things.rewards[k, pair[0]] - things.rewards[k, pair[1]] for k in (0, 2)] for pair in pairs}
    turned = {pair: min(map(abs, both)) for pair, both in leads.items() if both[0] * both[1] < 0}
    assert (found.pairs, found.flipped) == (len(pairs), len(turned))
    assert [one.by for one in found.greatest] == pytest.approx(sorted(turned.values(), reverse=True)[:5])
    right = [0, 0]
    for a, b in turned:
        lead = things.people[a] - things.people[b]
        if lead > 0 or lead < 0:
            right[0 if np.sign(lead) == np.sign(leads[a, b][0]) else 1] += 1
    assert [found.one_right, found.other_right] == right
    assert right[0] > 2 * right[1], "the first follows people, the third does not"


def test_who_is_ahead_and_whether_by_chance() -> None:
    things = some_things(answers=120)
    found = ahead(things, 0, 2, "steps")
    assert found.by.low is not None
    assert found.by.low > 0
    assert found.p is not None
    assert found.p < 0.01
    back = ahead(things, 2, 0, "steps")
    assert back.by.value == pytest.approx(-(found.by.value or 0))
    same = ahead(things, 1, 1, "steps")
    assert (same.by.value, same.p) == (0.0, 1.0)
    few = ahead(things.only(things.query == "q1"), 0, 2, "steps")
    assert few.p is None


@pytest.mark.slow
def test_no_checkpoint_is_ahead_where_none_is() -> None:
    """Two that are equally good: a difference is called more than chance about as often as it should be."""
    calls = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        things = some_things(seed, answers=40, queries=40)
        people = np.where(np.isnan(things.people), 3.0, things.people)
        rewards = people + rng.normal(size=(2, len(people))) * 2
        found = ahead(
            Things(things.answer, things.order, things.query, things.source, things.chars, people, rewards), 0, 1, "steps"
        )
        assert found.p is not None
        calls += found.p < 0.05
    assert calls <= 9, "5% would be 3 of 60"


def test_slices_are_the_measures_of_their_part() -> None:
    things = some_things()
    by_source = {one.name: one for one in slices(things, "steps", "source")}
    rated = (things.order > 0) & ~np.isnan(things.people) & (things.source == "phone")
    phone = by_source["phone"]
    some = clear(things.people[rated])
    assert phone.things == rated.sum()
    assert phone.auc[1] == pytest.approx(roc_auc_score(things.people[rated][some] >= 4, things.rewards[1][rated][some]))
    assert phone.spearman[2] == pytest.approx(spearmanr(things.people[rated], things.rewards[2][rated]).statistic)
    assert [one.name for one in slices(things, "steps", "position")] == ["step 1", "step 2", "step 3"]
    assert [one.name for one in slices(things, "answers", "length")] == ["short", "middling", "long"]
    assert sum(one.things for one in slices(things, "steps", "length")) == ((things.order > 0) & things.rated).sum()
    assert slices(things.only(things.answer < 2), "answers", "source") == []
    assert of_aspect("clear", np.ones(9), np.ones((2, 9))) is None
    found = of_aspect("clear", things.people[rated], things.rewards[:, rated])
    assert found is not None
    assert found.spearman == phone.spearman


def test_first_errors() -> None:
    said, found = [-1, -1, 0, 2, 1], [-1, 0, 0, 1, 1]
    one = first_errors(said, found)
    assert one.same == 3 / 5
    assert one.f1 == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    assert first_errors([], []).same is None
    assert f1_score([1], [1]) == 1  # the two F1 are not the same thing: ours is ProcessBench's


def test_best_of_n() -> None:
    rewards = [np.array([1.0, 3.0, 2.0, 0.0]), np.array([5.0, 5.0]), np.array([0.0, 1.0])]
    found = best_of_n(["a", "b", "c"], rewards, [frozenset({1, 2}), frozenset({1}), frozenset({1})])
    assert found.queries == 3
    assert found.right.value == pytest.approx(2 / 3)  # of equals the first is taken
    assert found.chance == pytest.approx((2 / 4 + 1 / 2 + 1 / 2) / 3)
