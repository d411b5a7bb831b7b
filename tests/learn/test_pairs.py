from typing import Any

import pyarrow as pa
import pytest

from rlhf_core.learn.examples import Example
from rlhf_core.learn.pairs import preferred_pairs, rated_pairs

CHATS = pa.table({"id": ["a", "b", "c"], "query": ["q", "q", "q"], "response": ["one", "two", "three"], "source": ["web"] * 3})
STEPS = pa.table({"chat_id": ["a", "b"], "step_content": ["one", "two"], "step_order": [1, 1]})


def votes(*rows: tuple[Any, ...]) -> pa.Table:
    names = ("chat_id", "other_id", "step_order", "aspect", "rater", "verdict", "strength")
    types = (pa.string(), pa.string(), pa.int32(), pa.string(), pa.string(), pa.string(), pa.int32())
    return pa.table({name: pa.array([row[k] for row in rows], types[k]) for k, name in enumerate(names)})


def test_votes_become_a_chance() -> None:
    pair, in_one_aspect = preferred_pairs(CHATS, STEPS, votes(
        ("a", "b", None, "", "ana", "chat", 3), ("a", "b", None, "", "ben", "other", 1), ("a", "b", None, "", "cai", "tie", None),
        ("a", "b", None, "", "dan", "both_bad", None), ("a", "b", None, "clear", "ana", "other", 3),
    ))  # fmt: skip
    assert pair.chance == pytest.approx((0.95 + 0.3 + 0.5) / 3)
    assert (pair.first, pair.second, pair.votes, pair.weight) == ("one", "two", 3, pytest.approx(3**0.5))
    assert (in_one_aspect.aspect, in_one_aspect.chance, in_one_aspect.votes) == ("clear", pytest.approx(0.05), 1)


def test_steps_and_decisions() -> None:
    some = votes(("a", "b", 1, "", "ana", "chat", None), ("a", "c", None, "", "ana", "chat", None))
    decisions = pa.table({"chat_id": ["a"], "other_id": ["c"], "step_id": pa.array([None], pa.string()),
                          "kind": ["preference"], "value": ["other 3"]})  # fmt: skip
    found = {one.chat_ids: one for one in preferred_pairs(CHATS, STEPS, some, decisions)}
    assert found["a", "b"].chance == 0.85
    assert found["a", "b"].own == ("one", "two")
    assert [one.spans for one in found["a", "b"].readings] == [((0, 3),), ((0, 3),)]
    assert found["a", "c"].chance == pytest.approx(0.05)


def test_a_step_that_is_not_there_and_equal_texts_are_left_out() -> None:
    same = CHATS.set_column(2, "response", pa.array(["one", "one", "three"]))
    assert preferred_pairs(same, STEPS, votes(("a", "b", None, "", "ana", "chat", None))) == []
    assert preferred_pairs(CHATS, STEPS, votes(("a", "b", 2, "", "ana", "chat", None))) == []


def test_ratings_of_one_query_become_pairs() -> None:
    rated = [Example(name, "q", name, None, score, 1, score) for name, score in (("a", 5.0), ("b", 2.0), ("c", 2.0))]
    found = rated_pairs([*rated, Example("d", "other", "d", None, 1.0, 1, 1.0)], spread=1.5)
    assert [(one.first, one.second) for one in found] == [("a", "c"), ("a", "b")]
    assert found[0].chance == pytest.approx(0.97725, abs=1e-5)  # the normal distribution at 2
    assert len(rated_pairs(rated, spread=0, at_most=1)) == 1
