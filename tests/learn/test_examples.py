import pyarrow as pa
import pytest

from rlhf_core.ground.errors import NotEnoughData
from rlhf_core.learn.examples import Example, build_examples, learnable, mean_and_std, split_by_query, take_whole_queries


def tables() -> tuple[pa.Table, pa.Table, pa.Table]:
    chats = pa.table({
        "id": ["c1", "c2", "c3"], "query": ["q1", "q2", "q3"], "response": ["one two", "x", "unrated"],
        "source": ["web", "web", "phone"], "model": ["m", None, "m"],
    })  # fmt: skip
    steps = pa.table({
        "id": ["s2", "s1", "s3"], "chat_id": ["c1", "c1", "c3"], "step_content": ["two", "one", "unrated"],
        "step_order": [2, 1, 1],
    })  # fmt: skip
    feedback = pa.table({
        "chat_id": ["c1", "c1", "c1", "c2"], "step_id": ["s1", "s1", "s2", None], "rater": ["ana", "ben", "ana", "ben"],
        "feedback_score": [5, 2, 1, 4], "scale": ["stars"] * 4,
    })  # fmt: skip
    return chats, steps, feedback


def test_steps_become_prefixes_and_raters_are_averaged() -> None:
    found = build_examples(*tables())
    assert [(one.chat_id, one.query, one.text, one.step_order, one.score, one.ratings) for one in found] == [
        ("c1", "q1", "one", 1, 3.5, 2),
        ("c1", "q1", "one two", 2, 1.0, 1),
        ("c2", "q2", "x", None, 4.0, 1),
    ]
    assert [(one.source, one.model) for one in found] == [("web", "m"), ("web", "m"), ("web", None)]
    assert found[0].given == (("ana", 5.0), ("ben", 2.0))


def test_leniency_is_taken_off_what_is_learned_and_not_off_what_is_measured() -> None:
    # On their one common thing ana gives 3 more: offsets +-1.5 / (1 + 5) = +-0.25, and their mean is no less for it.
    found = learnable(build_examples(*tables()))
    assert [one.score for one in found] == [3.5, 1.0, 4.0]
    assert [one.target for one in found] == pytest.approx([3.5, 0.75, 4.25])
    assert [one.target for one in learnable(found, leniency=False)] == [3.5, 1.0, 4.0]
    assert [one.target for one in learnable(found[1:])] == [1.0, 4.0]  # without the common thing nobody is known to be mild
    decisions = pa.table({"chat_id": ["c1"], "step_id": ["s2"], "kind": ["score"], "value": ["2"]})
    assert learnable(build_examples(*tables(), decisions=decisions))[1].target == 2.0


def test_a_mean_of_several_counts_more() -> None:
    weights = {one.ratings: one.weight for one in learnable(build_examples(*tables()), leniency=False)}
    # within: 4.5 over 1 degree; between: (4 ratings - 6/4) / 2 = 1.25 a group; means 3.5, 1, 4 about 3 -> 5.5 / 2 < 4.5: none
    assert weights == {1: 1.0, 2: 1.0}
    chats, steps, feedback = tables()
    feedback = feedback.set_column(3, "feedback_score", pa.array([4, 5, 1, 1]))
    # within 0.5; means 4.5, 1, 1 about 2.75: 2 * 3.0625 + 2 * 3.0625 = 12.25; / 2 - 0.5 = 5.625; / 1.25 = 4.5
    weights = {one.ratings: one.weight for one in learnable(build_examples(chats, steps, feedback), leniency=False)}
    assert weights == {1: 1.0, 2: pytest.approx(5.0 / 4.75)}


def test_a_decision_counts_instead_of_what_raters_said() -> None:
    decisions = pa.table({
        "chat_id": ["c1", "c2", "c1", "c3"], "step_id": ["s1", None, None, "s3"],
        "kind": ["score", "score", "first_error", "score"],
        "value": ["2", "5", "s2", "1"],
    })  # fmt: skip
    assert [(one.chat_id, one.step_order, one.score, one.ratings) for one in build_examples(*tables(), decisions=decisions)] == [
        ("c1", 1, 2.0, 2),
        ("c1", 2, 1.0, 1),
        ("c2", None, 5.0, 1),
        ("c3", 1, 1.0, 1),
    ]


def test_answers_or_steps_alone() -> None:
    assert [example.is_step for example in build_examples(*tables(), learn_from="answers")] == [False]
    assert [example.is_step for example in build_examples(*tables(), learn_from="steps")] == [True, True]


def examples(queries: int, each: int = 3) -> list[Example]:
    return [
        Example(f"c{q}-{k}", f"{'Q' if k else ' q'}uery  {q}", "t", None, 3.0, 1) for q in range(queries) for k in range(each)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_query_stands_on_one_side_only(seed: int) -> None:
    split = split_by_query(examples(20), test=0.2, validation=0.1, seed=seed)
    sides = [{example.query.casefold().strip() for example in side} for side in (split.train, split.validation, split.test)]
    assert [len(side) for side in sides] == [14, 2, 4]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]  # noqa: PT018  # one fact


def test_a_split_is_seeded_and_does_not_depend_on_order() -> None:
    forwards = split_by_query(examples(20), test=0.2, validation=0.1, seed=1)
    backwards = split_by_query(examples(20)[::-1], test=0.2, validation=0.1, seed=1)
    assert {example.chat_id for example in forwards.test} == {example.chat_id for example in backwards.test}
    other = split_by_query(examples(20), test=0.2, validation=0.1, seed=2)
    assert {example.chat_id for example in forwards.test} != {example.chat_id for example in other.test}


@pytest.mark.parametrize(("queries", "sizes"), [(2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1))])
def test_small_sets_keep_every_side_they_can(queries: int, sizes: tuple[int, int, int]) -> None:
    split = split_by_query(examples(queries, 1), test=0.2, validation=0.1, seed=0)
    assert (len(split.train), len(split.validation), len(split.test)) == sizes


def test_one_query_is_not_enough() -> None:
    with pytest.raises(NotEnoughData, match="at least 2 different queries"):
        split_by_query(examples(1), test=0.2, validation=0.1, seed=0)


@pytest.mark.parametrize(("at_most", "taken"), [(None, 12), (100, 12), (12, 12), (8, 6), (6, 6), (2, 3)])
def test_subsets_are_whole_queries(at_most: int | None, taken: int) -> None:
    subset = take_whole_queries(examples(4), at_most)
    assert subset == examples(4)[:taken]


def test_mean_and_std_by_hand() -> None:
    assert mean_and_std([1, 5]) == (3.0, 2.0)
    assert mean_and_std([4, 4]) == (4.0, 1.0)


def test_thumbs_count_as_much_as_they_are_told_to() -> None:
    chats, steps, feedback = tables()
    feedback = feedback.set_column(4, "scale", pa.array(["stars", "thumbs", "thumbs", "stars"]))
    found = build_examples(chats, steps, feedback)
    assert [one.thumbs for one in found] == [{"ben"}, {"ana"}, frozenset()]
    half = learnable(found, leniency=False, thumbs_weight=0.5)
    # ana's 5 stars and half of ben's thumb of 2: (5 + 1) / 1.5 = 4, with 1.5 / 2 of the weight
    assert [(one.target, one.weight) for one in half] == [(4.0, 0.75), (1.0, 0.5), (4.0, 1.0)]
    assert half[0].shares == pytest.approx((0, 1 / 3, 0, 0, 2 / 3))
    without = learnable(found, leniency=False, thumbs_weight=0)
    assert [(one.text, one.target) for one in without] == [("one", 5.0), ("x", 4.0)]


def test_aspects_are_examples_of_their_own_with_their_own_leniency() -> None:
    aspects = pa.table({
        "chat_id": ["c1", "c1", "c2"], "step_id": ["s1", "s1", None], "rater": ["ana", "ben", "ana"],
        "aspect": ["clear", "clear", "kind"], "score": [1, 4, 5],
    })  # fmt: skip
    found = learnable(build_examples(*tables(), aspects=aspects))
    assert [(one.text, one.aspect, one.score) for one in found] == [
        ("one", "", 3.5), ("one", "clear", 2.5), ("one two", "", 1.0), ("x", "", 4.0), ("x", "kind", 5.0),
    ]  # fmt: skip
    # in what is clear ana is the harsher one, as a whole the milder one: neither takes from the other
    assert [one.target for one in found] == pytest.approx([3.5, 2.5, 0.75, 4.25, 5.0])


def test_what_is_read_of_a_step_ends_with_its_own_words() -> None:
    first, second, answer = build_examples(*tables())
    assert (first.reading.answer, first.reading.spans) == ("one", ((0, 3),))
    assert (second.reading.answer, second.reading.spans, second.whole) == ("one two", ((4, 7),), "one two")
    assert (answer.reading.answer, answer.reading.spans) == ("x", ((0, 1),))
