"""Pairs that are made up against what deserves nothing."""

from rlhf_core.learn.examples import Example
from rlhf_core.learn.guards import EACH, MADE_UP, guard_pairs
from rlhf_core.learn.pairs import Pair
from rlhf_core.learn.probes import probes

TEXT = "Call the career center first. Then ask for the voucher and begin."


def example(query: str, score: float, aspect: str = "") -> Example:
    return Example(query, query, TEXT, None, score, 1, score, own=TEXT, whole=TEXT, aspect=aspect)


def test_each_liked_answer_is_set_against_three_texts_that_deserve_nothing() -> None:
    train = [example("how?", 5), example("why?", 4), example("bad?", 1), example("aspect?", 5, "clear")]
    found = guard_pairs(train, [], weight=0.3, seed=0)
    assert {one.query for one in found} == {"how?", "why?"}
    assert len(found) == 2 * EACH
    for one in found:
        assert (one.first, one.chance, one.weight, one.votes, one.source) == (TEXT, 0.95, 0.3, 0, MADE_UP)
        assert one.second != TEXT
    assert guard_pairs(train, [], weight=0.3, seed=0) == found
    assert guard_pairs(train, [], weight=0.3, seed=1) != found
    assert guard_pairs([example("bad?", 1)], [], weight=0.3, seed=0) == []


def test_who_won_a_pair_is_liked_too() -> None:
    pair = Pair("how?", "Go away.", TEXT, 0.15, 1.0, 1, ("a", "b"))
    assert {one.first for one in guard_pairs([], [pair], weight=1.0, seed=0)} == {TEXT}


def test_the_probes_are_worded_otherwise() -> None:
    """They stay a test: of what is put to a model on the card, only the empty text was learned from."""
    asked: set[str] = set()

    def score(pairs: object) -> list[float]:
        asked.update(answer for _, answer in pairs)  # type: ignore[attr-defined]
        return [0.0 for _ in pairs]  # type: ignore[attr-defined]

    probes([("how?", TEXT)], score)
    made = {one.second for seed in range(40) for one in guard_pairs([example("how?", 5)], [], weight=1.0, seed=seed)}
    assert len(made) > 40
    assert asked & made == {""}
