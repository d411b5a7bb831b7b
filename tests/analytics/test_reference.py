"""Every named question gives the numbers that pandas gives."""

from typing import Any

import pytest

from rlhf_core.analytics.query import ask, questions
from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench
from tests.analytics.reference import ANSWERS, Frames, same

NAMES = [question.name for question in questions()]


def test_every_question_has_its_counterpart() -> None:
    assert set(NAMES) == set(ANSWERS)


@pytest.mark.parametrize("name", NAMES)
def test_on_the_demo_set(name: str, judged_snapshot: Snapshot) -> None:
    assert same(ask(judged_snapshot, name), ANSWERS[name](Frames(judged_snapshot))) == ""


def test_on_repeated_texts_and_answers(workbench: Workbench, add_chats: Any) -> None:
    feedback = [
        {"step": 1, "score": 1, "rater": "A"},
        {"step": 2, "score": 5, "rater": "A"},
        {"step": 1, "score": 4, "rater": "B"},
        {"score": 3, "rater": "A"},
    ]
    add_chats(
        {"query": "q", "steps": ["the same words", "the same words"], "feedback": feedback, "model": "m1"},
        {"query": " Q", "steps": ["the same words", "the same words"], "source": "s2", "feedback": [{"score": 2, "rater": "B"}]},
        {"query": "other", "response": "One thing.", "created_at": "2025-01-01T00:00:00Z"},
    )
    snapshot, _ = snapshots.take(workbench)
    for name in NAMES:
        assert same(ask(snapshot, name), ANSWERS[name](Frames(snapshot))) == "", name
    assert list(ask(snapshot, "duplicate_answers")["copies"]) == [2]
    assert list(ask(snapshot, "contradictory_ratings")["rater"].unique()) == [ask(snapshot, "rater_workload")["rater"][0]]
