from typing import Any

import pytest

from rlhf_core.ground.answers import Answer, AnswerScore
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput
from rlhf_core.services import comparing, training
from rlhf_core.services.workbench import Workbench
from tests.checkpoints.test_registry import make


def test_places_of_a_chat_carry_peoples_means(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"query": "q", "steps": ["a", "b"], "step_labels": [1, None], "score": 2})
    (found,) = workbench.store.search_chats()
    places = comparing.places_of_chat(workbench, workbench.store.chat(found.id))
    assert [(place.label, place.people) for place in places] == [
        ("Step 1", (5.0, 1)),
        ("Step 2", None),
        ("Whole answer", (2.0, 1)),
    ]


def test_places_of_typed_text() -> None:
    response, places = comparing.places_of_text("1. a\n2. b")
    assert response == "1. a\n2. b"
    assert [place.text for place in places] == ["a", "b", response]
    with pytest.raises(InvalidInput, match="Type or paste"):
        comparing.places_of_text("  \n")


def test_candidates_offer_checkpoints_and_their_untrained_base(workbench: Workbench) -> None:
    made = make(workbench.workspace.checkpoints)
    labels = [one.label for one in comparing.candidates(workbench)]
    assert labels[0].startswith(made.id)
    assert "untrained base" in labels
    assert "untrained minilm-l6" in labels


def test_a_candidate_that_fails_does_not_take_the_others_down(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    make(workbench.workspace.checkpoints)
    chosen = comparing.candidates(workbench)[:2]
    asked = []

    def score(refs: Any, answers: Any, *, device: str) -> list[Any]:
        asked.append((answers, device))
        return [CorruptArtifact("broken file") if ref.checkpoint else [AnswerScore(1.0, [4.0, 2.0], 7)] for ref in refs]

    monkeypatch.setattr(workbench.scoring, "score", score)
    response, places = comparing.places_of_text("Do:\n- a\n- b")
    result = comparing.compare(workbench, chosen, "q", places)
    assert asked == [([Answer("q", response, ("Do:\n- a", "b"))], "auto")]
    assert result.errors == {chosen[0].label: "broken file"}
    assert result.rewards == {chosen[1].label: [4.0, 2.0, 1.0]}
    assert result.left_out == {chosen[1].label: 7}
    assert result.drop(chosen[1].label) == 1
    assert comparing.in_words(result) == [f"{chosen[1].label} falls most at step 2, by 2.00 stars."]
    for query, some in ((" ", chosen), ("q", [])):
        with pytest.raises(InvalidInput):
            comparing.compare(workbench, some, query, places)


def test_time_left_follows_the_pace_of_the_last_steps(workbench: Workbench) -> None:
    run = workbench.ledger.add("r", "reward", {}, "s", None, "h")
    workbench.ledger.beat("r", "training", 3, 10)
    run = workbench.ledger.get("r")
    lines = [{"split": "train", "step": k, "time": 100.0 + 2 * k} for k in (1, 2, 3)]
    assert training.seconds_left(run, lines) == 14.0
    assert training.seconds_left(run, lines[:1]) is None
