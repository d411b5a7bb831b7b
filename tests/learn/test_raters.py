import pytest

from rlhf_core.learn.raters import once_each, rater_offsets, spread, weight_of


def test_offsets_by_hand() -> None:
    # Two things, both rated by both; Mild gives 2 stars more. Without shrinking: +1 and -1.
    things = [[("mild", 5.0), ("harsh", 3.0)], [("mild", 4.0), ("harsh", 2.0)]]
    assert rater_offsets(things, shrink=0) == {"mild": pytest.approx(1.0), "harsh": pytest.approx(-1.0)}
    # By symmetry the worth is 4 and 3 whatever the offsets, so each is the sum of its residuals over (2 things + 2): 2 / 4
    assert rater_offsets(things, shrink=2)["mild"] == pytest.approx(0.5)


def test_things_of_one_rater_say_nothing_of_leniency() -> None:
    assert rater_offsets([[("a", 5.0)], [("b", 1.0)]]) == {}
    offsets = rater_offsets([[("a", 5.0), ("b", 5.0)], [("a", 1.0)], [("c", 1.0)]])
    assert offsets == {"a": pytest.approx(0), "b": pytest.approx(0)}


def test_offsets_move_no_mean() -> None:
    things = [[("a", 5.0), ("b", 3.0)], [("a", 4.0), ("c", 2.0)], [("a", 4.0), ("b", 2.0), ("c", 3.0)]]
    offsets = rater_offsets(things)
    ratings = {"a": 3, "b": 2, "c": 2}
    assert sum(offsets[rater] * ratings[rater] for rater in ratings) == pytest.approx(0)
    assert offsets["a"] > 0 > offsets["b"]


def test_saying_it_twice_does_not_count_double() -> None:
    assert once_each([("a", 5.0), ("b", 1.0), ("a", 3.0)]) == [("a", 4.0), ("b", 1.0)]


def test_spread_by_hand() -> None:
    # groups (1, 3) and (5, 5): inside 2 over 2 degrees = 1; between 2 * 1.5^2 * 2 = 9 over 1; size 2 -> (9 - 1) / 2
    assert spread([[("a", 1.0), ("b", 3.0)], [("a", 5.0), ("b", 5.0)]]) == (pytest.approx(1.0), pytest.approx(4.0))
    assert spread([[("a", 1.0)], [("a", 5.0)]]) == (0.0, pytest.approx(8.0))  # the plain variance of two
    assert spread([[("a", 1.0)]]) == (0.0, 0.0)


def test_weight_by_hand() -> None:
    assert weight_of(1, 1.0, 1.0) == 1.0
    assert weight_of(2, 1.0, 1.0) == pytest.approx(2 / 1.5)
    assert weight_of(10**9, 1.0, 1.0) == pytest.approx(2.0)
    assert weight_of(3, 1.0, 0.0) == 1.0
