"""Other steps in the place of a wrong one: what is asked of a policy, what follows, and what is found again in a snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground.answers import Answer, AnswerScore
from rlhf_core.ground.errors import InvalidInput, ModelUnavailable, NotFound
from rlhf_core.ground.records import Session
from rlhf_core.inference.client import ModelRef
from rlhf_core.services import branching, importing, snapshots
from rlhf_core.services.branching import Alternative, Start
from rlhf_core.services.comparing import Candidate
from rlhf_core.services.playing import Sampling
from rlhf_core.services.workbench import Workbench
from tests.conftest import write_lines

TEXT = "1. Call them.\n2. Lie about it.\n3. Go there."
START = branching.of_text("How?", TEXT, 2, "policy-a")
JUDGE = Candidate("judge", ModelRef(base="b"))
HOW = Sampling(max_tokens=40, seed=3)


@pytest.mark.parametrize(
    ("response", "steps", "at", "begun", "until"),
    [
        (TEXT, ("Call them.", "Lie about it.", "Go there."), 1, "1. Call them.\n2.", "1. Call them.\n2. Ask."),
        (TEXT, ("Call them.", "Lie about it.", "Go there."), 0, "1.", "1. Ask."),
        ("Call.\n\nLie.", ("Call.", "Lie."), 1, "Call.\n\n", "Call.\n\nAsk."),
        ("Call. Lie.", ("Call.", "Lie."), 1, "Call.", "Call. Ask."),
        ("Call.", ("Call.",), 0, "", "Ask."),
        ("In short: no.", ("Call.", "Lie."), 1, "Call.\n\n", "Call.\n\nAsk."),  # an answer that only sums up its steps
        ("Go. Go. Go.", ("Go.", "Go.", "Go."), 2, "Go. Go.", "Go. Go. Ask."),
    ],
)
def test_what_stands_before_a_step(response: str, steps: tuple[str, ...], at: int, begun: str, until: str) -> None:
    start = Start("q", response, steps, at)
    assert start.begun == begun
    assert start.with_step(" Ask. ") == Answer("q", until, (*steps[:at], "Ask."))


@pytest.mark.parametrize(
    ("start", "written", "step"),
    [
        (START, " Ask for a date.\n3. Go.", "Ask for a date."),
        (START, " Ask", "Ask"),
        (START, "", ""),
        (Start("q", "Call.\n\nLie.", ("Call.", "Lie."), 1), "Ask.\n\nGo.", "Ask."),
        (Start("q", "Lie.", ("Lie.",), 0), "Ask.\n\nGo.", "Ask."),
        (Start("q", "Call. Lie.", ("Call.", "Lie."), 1), " Ask now.\n\nGo.", "Ask now."),
    ],
)
def test_the_step_of_what_was_written(start: Start, written: str, step: str) -> None:
    assert branching.first_step(start, written) == step


class Scoring:
    def __init__(self, workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[dict[str, Any]] = []
        self.written = [
            (" Ask for a date.\n3. Go.", True),
            (" Wait.", True),
            (" Ask for a date.\n3. Stay.", False),
            (" Lie about it.", True),
        ]
        monkeypatch.setattr(workbench.scoring, "write", self.write)
        monkeypatch.setattr("rlhf_core.services.scoring.score_answers", self.score)

    def write(self, policy: str, query: str, count: int, **how: Any) -> list[tuple[str, bool]]:
        self.asked.append({"policy": policy, "query": query, "count": count} | how)
        return self.written[:count]

    def score(self, _: Any, models: list[Any], answers: list[Answer], _progress: Any = None) -> list[Any]:
        return [
            ModelUnavailable("It is gone.") if one.base == "gone"
            else [AnswerScore(0.0, [float(len(step)) for step in answer.steps], 0) for answer in answers] for one in models
        ]  # fmt: skip


@pytest.fixture
def scoring(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> Scoring:
    return Scoring(workbench, monkeypatch)


def test_alternatives_are_new_different_and_ordered_by_the_first_judge(workbench: Workbench, scoring: Scoring) -> None:
    scoring.written.insert(0, (" Wait.", True))
    found, unscored = branching.propose(workbench, START, "policy-b", 5, HOW, [Candidate("lost", ModelRef(base="gone")), JUDGE])
    assert [(one.text, one.model, one.rewards) for one in found] == [
        ("Ask for a date.", "policy-b", {"judge": 15.0}), ("Wait.", "policy-b", {"judge": 5.0})
    ]  # fmt: skip
    assert unscored == {"lost": "It is gone."}
    (asked,) = scoring.asked
    assert (asked["begun"], asked["query"], asked["seed"], asked["max_tokens"]) == ("1. Call them.\n2.", "How?", 3, 40)
    scoring.written = [(" Lie about it.", True), ("", True)]
    with pytest.raises(InvalidInput, match="nothing else to say"):
        branching.propose(workbench, START, "policy-b", 2, HOW)
    for count in (0, 17):
        with pytest.raises(InvalidInput, match="1 to 16"):
            branching.propose(workbench, START, "policy-b", count, HOW)


def test_going_on_from_a_step(workbench: Workbench, scoring: Scoring) -> None:
    scoring.written = [("\n3. Go with a friend.\n4. Enrol.", True)]
    branch = branching.go_on(workbench, START, "Ask for a date.", "policy-b", HOW)
    assert branch.response == "1. Call them.\n2. Ask for a date.\n3. Go with a friend.\n4. Enrol."
    assert branch.steps == ("Call them.", "Ask for a date.", "Go with a friend.", "Enrol.")
    assert scoring.asked[0]["begun"] == "1. Call them.\n2. Ask for a date."
    scoring.written = [(" And more.\n\nThen go.", True)]  # which runs on in the step
    assert branching.go_on(workbench, START, "Ask.", "policy-b", HOW).steps == ("Call them.", "Ask.", "And more.", "Then go.")
    assert branching.go_on(workbench, START, "Ask.", None, HOW).steps == ("Call them.", "Ask.")
    for words in ("", " ", "Lie about it. "):
        with pytest.raises(InvalidInput):
            branching.go_on(workbench, START, words, "policy-b", HOW)


def test_a_branch_is_found_again_in_a_snapshot(workbench: Workbench, scoring: Scoring, ana: Session, tmp_path: Path) -> None:
    importing.import_file(workbench, write_lines(tmp_path / "chats.jsonl", [{"query": "How?", "response": TEXT, "source": "s"}]))
    (chat,) = workbench.store.search_chats()
    start = branching.of_chat(workbench, chat.id, 2)
    assert (start.at, start.steps[1]) == (1, "Lie about it.")
    chosen = Alternative("Ask for a date.", "policy-b")
    scoring.written = [("\n3. Enrol.", True)]
    branch = branching.go_on(workbench, start, chosen.text, "policy-b", HOW)
    ratings = {"Wait.": 3, "Lie about it.": 2, "Ask for a date.": 4, "Run.": 4}
    kept = branching.keep(workbench, ana, start, chosen, branch, ratings, chat.id)
    assert branching.keep(workbench, ana, start, chosen, branch, ratings, chat.id) == kept
    snapshot, _ = snapshots.take(workbench)
    chats = {row["id"]: row for row in snapshot.table("chats").to_pylist()}
    assert sorted(row["source"] for row in chats.values()) == ["branch", "branch", "branch", "s"]
    assert (chats[kept]["response"], chats[kept]["model"]) == (branch.response, "policy-b")
    steps = {row["id"]: row for row in snapshot.table("reasoning_steps").to_pylist()}
    rated = {
        (steps[row["step_id"]]["step_content"], row["feedback_score"]) for row in snapshot.table("chat_feedback").to_pylist()
    }
    assert rated == {("Wait.", 3), ("Lie about it.", 2), ("Ask for a date.", 4), ("Run.", 4)}
    pairs = set()
    for row in snapshot.table("preferences").to_pylist():
        sides = [row["chat_id"], row["other_id"]]
        better, worse = sides if row["verdict"] == "chat" else sides[::-1]
        assert (better, row["step_order"]) == (kept, 2)
        pairs.add(next(s["step_content"] for s in steps.values() if s["chat_id"] == worse and s["step_order"] == 2))
    assert pairs == {"Lie about it.", "Wait."}, "of two that were given as many stars, none is preferred"
    marks = workbench.store.for_user(ana).view(chat.id).marks
    assert steps[marks.first_error or ""]["step_content"] == "Lie about it."


def test_an_answer_that_was_no_chat_becomes_one_and_stars_may_be_left_out(workbench: Workbench, ana: Session) -> None:
    chosen = Alternative("Ask.", None)
    branch = START.with_step("Ask.")
    kept = branching.keep(workbench, ana, START, chosen, branch)
    chats = {one.id: workbench.store.chat(one.id) for one in workbench.store.search_chats()}
    assert len(chats) == 2
    original = next(one for one in chats.values() if one.id != kept)
    assert (original.response, original.model) == (TEXT, "policy-a")
    user = workbench.store.for_user(ana)
    assert user.ratings(kept)[chats[kept].steps[1].id].feedback_score == 5
    assert user.ratings(original.id)[original.steps[1].id].feedback_score == 1
    user.rate(original.id, original.steps[1].id, 2, "stars")
    branching.keep(workbench, ana, START, chosen, branch, chat_id=original.id)
    assert user.ratings(original.id)[original.steps[1].id].feedback_score == 2, "what was said before stays"
    assert importing.add_chats(workbench, [{"query": "How?", "response": TEXT}], "s")[0] == [original.id]


def test_what_cannot_be_kept(workbench: Workbench, ana: Session) -> None:
    branch = START.with_step("Ask.")
    with pytest.raises(InvalidInput, match="no more stars than the one it replaces"):
        branching.keep(workbench, ana, START, Alternative("Ask.", None), branch, {"Lie about it.": 4, "Ask.": 4})
    with pytest.raises(InvalidInput, match="whole number from 1 to 5"):
        branching.keep(workbench, ana, START, Alternative("Ask.", None), branch, {"Ask.": 6})
    assert workbench.counts().chats == 0
    with pytest.raises(NotFound):
        branching.of_chat(workbench, "00000000-0000-0000-0000-000000000000", 1)
    (chat_id,), _ = importing.add_chats(workbench, [{"query": "How?", "response": TEXT}], "s")
    for order in (0, 4):
        with pytest.raises(InvalidInput, match=f"{order} is none of them"):
            branching.of_chat(workbench, chat_id, order)
