"""Exchanges: what is shown while an answer is written, who is hidden, what is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

from rlhf_core.ground import settings
from rlhf_core.ground.answers import AnswerScore
from rlhf_core.ground.errors import EndpointFailed, InvalidInput, ModelUnavailable, RlhfError
from rlhf_core.ground.records import Session
from rlhf_core.inference.client import ModelRef
from rlhf_core.services import playing, snapshots
from rlhf_core.services.comparing import Candidate
from rlhf_core.services.playing import Exchange, Sampling, Voice
from rlhf_core.services.workbench import Workbench

A, B = Voice("policy", "policy-a"), Voice("policy", "policy-b")
JUDGE = Candidate("judge", ModelRef(checkpoint="reward-1"))
TEXT = "1. Call them.\n2. Ask for a date.\n3. Go there."


class Policies:
    """Writes what it is told, a character at a time, and only while it may."""

    def __init__(self, workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: dict[str, str] = {A.name: TEXT, B.name: "Just go."}
        self.may = {A.name: threading.Semaphore(0), B.name: threading.Semaphore(0)}
        self.asked: list[dict[str, Any]] = []
        self.scored: list[str] = []
        self.closed: set[str] = set()
        monkeypatch.setattr(workbench.scoring, "stream", self.stream)
        monkeypatch.setattr(workbench.scoring, "score", self.score)
        monkeypatch.setattr("rlhf_core.services.scoring.open_scorer", lambda *_: None)

    def let(self, voice: Voice, count: int = 1000) -> None:
        self.may[voice.name].release(count)

    def stream(self, policy: str, query: str, **how: Any) -> Generator[str, None, bool]:
        self.asked.append({"policy": policy, "query": query} | how)
        try:
            for character in self.texts[policy]:
                assert self.may[policy].acquire(timeout=20)
                yield character
        finally:
            self.closed.add(policy)
        return True

    def score(self, models: list[Any], answers: list[Any], **_: Any) -> list[Any]:
        self.scored += [one.response for one in answers]
        return [
            [AnswerScore(float(len(one.response)), [float(len(step)) for step in one.steps], 0) for one in answers]
            for _ in models
        ]


@pytest.fixture
def policies(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> Policies:
    return Policies(workbench, monkeypatch)


def until(what: Any, exchange: Exchange) -> None:
    for _ in range(2000):
        if what(exchange.sides):
            return
        time.sleep(0.005)
    raise AssertionError(exchange.sides)


def test_steps_and_rewards_come_as_they_are_written(workbench: Workbench, policies: Policies) -> None:
    one = Exchange(workbench, " how? ", [A, B], Sampling(seed=7), [JUDGE])
    until(lambda sides: len(policies.asked) == 2, one)
    assert {(asked["policy"], asked["query"], asked["seed"]) for asked in policies.asked} == {
        (A.name, "how?", 7),
        (B.name, "how?", 8),
    }
    policies.let(A, TEXT.index("3."))
    until(lambda sides: "judge" in sides[0].rewards and sides[0].steps == ("Call them.", "Ask for a date."), one)
    said = one.sides[0]
    assert said.writing
    assert said.rewards["judge"] == (10.0,), "the second step is not known to be done"
    assert policies.scored == ["1. Call them."], "read with what stands before it, and nothing that comes after"
    assert one.sides[1].text == ""
    policies.let(A)
    policies.let(B)
    one.join(20)
    said, other = one.sides
    assert (said.text, said.ended, said.writing, said.stopped, said.error) == (TEXT, True, False, False, "")
    assert said.rewards["judge"] == (10.0, 15.0, 9.0)
    assert said.whole["judge"] == len(TEXT)
    assert (other.steps, other.whole["judge"]) == (("Just go.",), 8.0)
    assert said.first_s is not None
    assert said.pieces == len(TEXT)
    assert [*playing.watched(one)] == [one.sides]


def test_rewards_of_steps_that_turn_out_to_be_others_go(workbench: Workbench, policies: Policies) -> None:
    policies.texts[A.name] = "Do this:\n\n1. Call them.\n2. Go there."  # two paragraphs, until there is a second item
    one = Exchange(workbench, "how?", [A], Sampling(), [JUDGE])
    policies.let(A, len("Do this:\n\n1. Call"))
    until(lambda sides: sides[0].rewards.get("judge") == (8.0,), one)
    policies.let(A)
    one.join(20)
    assert one.sides[0].steps == ("Do this:\n\n1. Call them.", "Go there.")
    assert one.sides[0].rewards["judge"] == (23.0, 9.0)


def test_stopped_in_mid_word_what_is_written_stays(workbench: Workbench, policies: Policies) -> None:
    one = Exchange(workbench, "how?", [A], Sampling(), [JUDGE])
    policies.let(A, 6)
    until(lambda sides: sides[0].text == "1. Cal", one)
    one.stop()
    policies.let(A)
    one.join(20)
    (said,) = one.sides
    assert (said.text, said.stopped, said.ended, said.writing) == ("1. Call", True, None, False)
    assert said.whole["judge"] == 7.0
    assert policies.closed == {A.name}, "the policy is free"


def test_stopped_before_it_began(workbench: Workbench, policies: Policies) -> None:
    one = Exchange(workbench, "how?", [A, B], Sampling())
    policies.let(B, 2)
    until(lambda sides: sides[1].text == "Ju", one)
    one.stop()
    assert [(said.text, said.stopped, said.writing) for said in one.sides] == [("", True, False), ("Ju", False, True)]
    policies.let(A)
    policies.let(B)
    one.join(20)
    assert [(said.text, said.stopped, said.writing) for said in one.sides] == [("", True, False), ("Jus", True, False)]
    assert policies.closed == {A.name, B.name}


def test_nobody_looks_any_more(workbench: Workbench, policies: Policies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "UNSEEN_S", 0.2)
    one = Exchange(workbench, "how?", [A], Sampling())
    time.sleep(0.4)
    policies.let(A)
    one.join(20)
    assert one.sides[0].stopped
    assert len(one.sides[0].text) == 1


def test_one_side_fails_and_the_other_goes_on(workbench: Workbench, policies: Policies, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(policy: str, *arguments: Any, **how: Any) -> Generator[str, None, bool]:
        if policy == B.name:
            yield "1. Ca"
            raise ModelUnavailable("It is gone.")
        return (yield from policies.stream(policy, *arguments, **how))

    monkeypatch.setattr(workbench.scoring, "stream", broken)
    one = Exchange(workbench, "how?", [A, B], Sampling(), [JUDGE])
    policies.let(A)
    one.join(20)
    assert one.sides[0].ended
    assert (one.sides[1].text, one.sides[1].error, one.sides[1].ended) == ("1. Ca", "It is gone.", None)


def test_a_judge_that_fails_is_said_once(workbench: Workbench, policies: Policies, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def score(models: list[Any], answers: list[Any], **_: Any) -> list[Any]:
        asked.append(len(answers))
        return [ModelUnavailable("No such model.") for _ in models]

    monkeypatch.setattr(workbench.scoring, "score", score)
    one = Exchange(workbench, "how?", [A], Sampling(), [JUDGE])
    policies.let(A)
    one.join(20)
    assert one.sides[0].unscored == {"judge": "No such model."}
    assert (one.sides[0].text, len(asked)) == (TEXT, 1)


@pytest.mark.parametrize(
    ("query", "asked", "how", "words"),
    [
        (" ", [A], Sampling(), "Type something"),
        ("q", [], Sampling(), "Choose who answers"),
        ("q", [A], Sampling(max_tokens=0), "1 to 4,096 tokens"),
        ("q", [A], Sampling(temperature=-1), "temperature is from 0 to 5"),
        ("q", [A], Sampling(top_p=0), "top-p above 0"),
    ],
)
def test_what_cannot_be_asked(workbench: Workbench, query: str, asked: list[Voice], how: Sampling, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Exchange(workbench, query, asked, how)


def test_endpoints_answer_too(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    def stream(found: settings.EndpointSettings, query: str, **how: Any) -> Generator[str, None, bool]:
        yield f"{found.model} on {query}"
        raise EndpointFailed("It broke off.")

    monkeypatch.setenv("RLHF_ENDPOINT_URL", "http://localhost:1/v1")
    monkeypatch.setenv("RLHF_ENDPOINT_MODEL", "big")
    monkeypatch.setattr("rlhf_core.inference.endpoint.stream", stream)
    (voice,) = playing.voices(workbench)
    assert voice.label == "big · endpoint"
    one = Exchange(workbench, "roofs", [voice, Voice("endpoint", "gone")], Sampling())
    one.join(20)
    assert [(said.text, said.error) for said in one.sides] == [
        ("big on roofs", "It broke off."), ("", "There is no endpoint 'gone' in the settings any more.")
    ]  # fmt: skip


def finished(workbench: Workbench, policies: Policies, **how: Any) -> Exchange:
    one = Exchange(workbench, "how?", [A, B], Sampling(), **how)
    policies.let(A)
    policies.let(B)
    one.join(20)
    return one


def test_a_side_is_kept_as_a_chat_once(workbench: Workbench, policies: Policies) -> None:
    one = finished(workbench, policies)
    chat_id = playing.keep(workbench, one, 0)
    assert playing.keep(workbench, one, 0) == chat_id
    chat = workbench.store.chat(chat_id)
    assert (chat.query, chat.response, chat.source, chat.model) == ("how?", TEXT, playing.SOURCE, A.name)
    assert [step.step_content for step in chat.steps] == ["Call them.", "Ask for a date.", "Go there."]
    again = finished(workbench, policies)
    assert playing.keep(workbench, again, 0) == chat_id
    assert workbench.counts().chats == 1


@pytest.mark.parametrize("verdict", [0, 1, "tie", "both_bad"])
def test_a_preference_is_found_again_in_a_snapshot(workbench: Workbench, policies: Policies, ana: Session, verdict: Any) -> None:
    one = finished(workbench, policies, blind=True)
    assert sorted(one.order) == [0, 1]
    assert one.hidden
    playing.prefer(workbench, ana, one, verdict)
    assert not one.hidden
    snapshot, _ = snapshots.take(workbench)
    (row,) = snapshot.table("preferences").to_pylist()
    ids = [one.kept[0], one.kept[1]]
    preferred = {"chat": row["chat_id"], "other": row["other_id"]}.get(row["verdict"], row["verdict"])
    assert preferred == (ids[verdict] if isinstance(verdict, int) else verdict)
    assert row["shown_left"] == ids[one.order[0]]


def test_two_alike_are_no_preference(workbench: Workbench, policies: Policies, ana: Session) -> None:
    policies.texts[B.name] = TEXT
    one = finished(workbench, policies)
    with pytest.raises(InvalidInput, match="Both sides said the same"):
        playing.prefer(workbench, ana, one, 0)
    assert one.verdict is None


def test_nothing_said_is_nothing_to_keep(workbench: Workbench, policies: Policies) -> None:
    policies.texts[A.name] = " "
    with pytest.raises(RlhfError, match="no answer to keep"):
        playing.keep(workbench, finished(workbench, policies), 0)
