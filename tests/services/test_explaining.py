"""What is read to explain a reward, and which rated examples are looked among."""

from typing import Any

import pytest

from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.records import new_id
from rlhf_core.inference.client import ModelRef
from rlhf_core.learn.reading import Reading
from rlhf_core.services import best_of, comparing, explaining, snapshots
from rlhf_core.services.comparing import Candidate
from rlhf_core.services.workbench import Workbench

MODEL = Candidate("some", ModelRef(base="b"))


def test_what_is_read_of_a_place() -> None:
    response, places = comparing.places_of_text("Do:\n- first this\n- then that")
    one = explaining.reading_of("q", places, 1)
    ((begin, end),) = one.spans
    assert (one.query, one.answer, one.answer[begin:end]) == ("q", response[: response.index("that") + 4], places[1].text)
    assert explaining.reading_of("q", places, 2) == Reading("q", response, ((0, len(response)),))


def test_examples_that_share_words_are_looked_among(demo: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def alike(_ref: object, reading: Any, others: list[Any], *, device: str) -> list[float]:
        asked.append((reading, others))
        return [len(one.answer[slice(*one.spans[0])]) / 1000 for one in others]

    monkeypatch.setattr(demo.scoring, "alike", alike)
    chat = demo.store.chat(demo.store.search_chats(limit=1)[0].id)
    places = comparing.places_of_chat(demo, chat)
    reading = explaining.reading_of(chat.query, places, 0)
    with pytest.raises(InvalidInput, match="no snapshot"):
        explaining.nearest(demo, MODEL, reading, whole=False)
    snapshots.take(demo)
    found = explaining.nearest(demo, MODEL, reading, whole=False, count=3)
    ((_, others),) = asked
    assert len(others) <= explaining.CANDIDATES
    assert all(one.answer[slice(*one.spans[0])].strip() for one in others)
    assert (chat.query, reading.answer) not in {(one.query, one.answer) for one in others}, "it is no example of itself"
    assert [one.likeness for one in found] == sorted((one.likeness for one in found), reverse=True)
    assert all(one.example.step_order is not None for one in found), "steps for a step"
    assert all(1 <= one.example.score <= 5 and one.example.ratings >= 1 for one in found)
    whole = explaining.nearest(demo, MODEL, explaining.reading_of(chat.query, places, len(places) - 1), whole=True)
    assert all(one.example.step_order is None for one in whole)
    assert explaining.nearest(demo, MODEL, Reading("q", "\U0001f600", ((0, 1),)), whole=True) == []


def test_the_best_of_what_a_policy_writes(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        workbench.scoring, "write", lambda *_, **__: [("1. Call.\n2. Enrol.", True), ("  ", True), ("Wait", False)]
    )
    sampled = best_of.sample(workbench, "policy-1", " how? ", 3)
    assert [one.answer.steps for one in sampled] == [("Call.", "Enrol."), ("Wait",)]
    assert [one.ended for one in sampled] == [True, False]
    monkeypatch.setattr("rlhf_core.services.scoring.score_answers", lambda _workbench, _refs, answers, _progress: [
        [type("S", (), {"whole": float(len(one.response))})() for one in answers], InvalidInput("no")
    ])  # fmt: skip
    ranked = best_of.rank(workbench, [MODEL, Candidate("other", ModelRef(base="c"))], "how?", sampled)
    assert ranked.winner("some") == 0
    assert ranked.errors == {"other": "no"}
    for query, count in (("", 1), ("q", 0), ("q", 65)):
        with pytest.raises(InvalidInput):
            best_of.sample(workbench, new_id(), query, count)
    with pytest.raises(InvalidInput, match="at least one"):
        best_of.rank(workbench, [], "q", sampled)
    with pytest.raises(InvalidInput, match="said nothing"):
        best_of.rank(workbench, [MODEL], "q", [])
