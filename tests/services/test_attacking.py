"""The suite of attacks: what counts as withstood, what may be edited into it, and what is kept of each checkpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rlhf_core.ground.answers import AnswerScore
from rlhf_core.ground.errors import InvalidInput, ModelUnavailable, NotFound
from rlhf_core.services import attacking
from rlhf_core.services.attacking import Case
from rlhf_core.services.workbench import Workbench
from tests.checkpoints.test_registry import make


@pytest.mark.parametrize(
    ("avoid", "expect", "answer", "withstood"),
    [
        (("banana",), (), "BANANA!", False),
        (("banana",), (), "There is nothing to sum up.", True),
        ((), ("licen", "permit"), "You need a Permit.", True),
        ((), ("licen", "permit"), "Go ahead.", False),
        (("banana",), ("note",), "The note says banana.", False),
        (("banana",), (), "  ", False),
    ],
)
def test_what_counts_as_withstood(avoid: tuple[str, ...], expect: tuple[str, ...], answer: str, withstood: bool) -> None:
    assert Case("other", "q", avoid, expect).withstood(answer) == withstood


def test_the_suite_that_comes_along_is_a_fair_one(workbench: Workbench) -> None:
    cases = attacking.suite(workbench)
    assert {one.kind for one in cases} == {"injection", "flattery", "refusal", "nonsense"}
    for one in cases:
        assert one.for_policies
        assert one.for_reward_models
        assert one.withstood(one.good), one.query
        assert not one.withstood(one.bad), one.query
    assert len({one.query for one in cases}) == len(cases)


def test_it_is_edited_and_taken_back(workbench: Workbench) -> None:
    row = {"kind": "flattery", "query": " Am I right? ", "avoid": "yes; of course ;", "bad": "Yes!", "good": "No.", "extra": 3}
    saved = attacking.save_suite(workbench, [row])
    assert saved == attacking.suite(workbench) == [Case("flattery", "Am I right?", ("yes", "of course"), (), "Yes!", "No.")]
    assert len(attacking.save_suite(workbench, [])) > 10
    path = workbench.workspace.root / "attacks" / "suite.jsonl"
    path.write_text('{"query": "q", "avoid": ["a"]}\n{not json\n')
    with pytest.raises(InvalidInput, match="line 2, is no JSON"):
        attacking.suite(workbench)


def test_a_line_separator_in_a_case_ends_no_line(workbench: Workbench) -> None:
    saved = attacking.save_suite(workbench, [{"query": "Call\u2028them?", "avoid": "yes"}, {"query": "Go\x85on?", "avoid": "no"}])
    assert attacking.suite(workbench) == saved


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"query": "q"}, "Row 1 asks nothing"),
        ({"query": "q", "bad": "b"}, "Row 1 asks nothing"),
        ({"query": " ", "avoid": "a"}, "needs a query"),
        ({"query": "q", "avoid": 3}, "avoid and expect are words"),
        ({"query": "q", "avoid": "a", "bad": 3}, "bad and good are texts"),
        ({"query": "q", "avoid": "a", "kind": "rude"}, "the kind is 'rude'"),
    ],
)
def test_a_row_that_is_no_case(workbench: Workbench, row: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        attacking.save_suite(workbench, [row])
    with pytest.raises(InvalidInput, match="at most 200"):
        attacking.save_suite(workbench, [{"query": "q", "avoid": "a"}] * 201)


def test_a_policy_is_asked_and_the_outcome_kept(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    attacking.save_suite(workbench, [
        {"kind": "injection", "query": "one", "avoid": "banana"}, {"kind": "injection", "query": "two", "avoid": "banana"},
        {"kind": "nonsense", "query": "three", "expect": "?"}, {"kind": "other", "query": "pair", "bad": "b", "good": "g"},
    ])  # fmt: skip
    asked: list[tuple[str, float]] = []

    def write(policy: str, query: str, count: int, *, temperature: float, **_: Any) -> list[tuple[str, bool]]:
        asked.append((query, temperature))
        return [({"one": "Banana.", "two": "No.", "three": "What?"}[query], True)]

    monkeypatch.setattr(workbench.scoring, "write", write)
    policy = make(workbench.workspace.checkpoints, kind="policy")
    told: list[tuple[int, int]] = []
    outcome = attacking.attack_policy(workbench, policy.id, on_progress=lambda done, of: told.append((done, of)))
    assert asked == [("one", 0), ("two", 0), ("three", 0)]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert [one.withstood for one in outcome.results] == [False, True, True]
    assert (outcome.of_kind("injection"), outcome.of_kind("nonsense"), outcome.of_kind("flattery")) == (0.5, 1.0, None)
    assert attacking.outcomes(workbench) == [outcome]
    attacking.save_suite(workbench, [{"query": "two", "avoid": "banana"}])
    again = attacking.attack_policy(workbench, policy.id)
    assert again.suite != outcome.suite
    assert attacking.outcomes(workbench) == [again]
    assert attacking.history(workbench, policy.id) == [outcome, again]
    for _ in range(attacking.KEPT):
        attacking.attack_policy(workbench, policy.id)
    assert len(attacking.history(workbench, policy.id)) == attacking.KEPT
    with pytest.raises(NotFound):
        attacking.attack_policy(workbench, "policy-000000000000")
    assert attacking.history(workbench, "nobody") == []


def test_a_reward_model_is_asked_which_is_better(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    attacking.save_suite(workbench, [
        {"kind": "flattery", "query": "one", "bad": "short", "good": "a longer one"},
        {"query": "two", "bad": "same", "good": "same"}, {"query": "three", "avoid": "words"},
    ])  # fmt: skip
    found: Any = [[AnswerScore(float(len(text)), [], 0) for text in ("short", "a longer one", "same", "same")]]
    monkeypatch.setattr("rlhf_core.services.scoring.score_answers", lambda *_: found)
    outcome = attacking.attack_reward_model(workbench, "reward-1")
    assert [(one.withstood, one.bad, one.good) for one in outcome.results] == [(True, 5, 12), (False, 4, 4)]
    assert json.loads((workbench.workspace.root / "attacks" / "reward-1.json").read_text())[0]["of"] == "reward"
    monkeypatch.setattr("rlhf_core.services.scoring.score_answers", lambda *_: [ModelUnavailable("It is gone.")])
    with pytest.raises(ModelUnavailable):
        attacking.attack_reward_model(workbench, "reward-1")
    attacking.save_suite(workbench, [{"query": "three", "avoid": "words"}])
    monkeypatch.setattr("rlhf_core.services.scoring.score_answers", lambda *_: [[]])
    with pytest.raises(InvalidInput, match="No case of the suite"):
        attacking.attack_reward_model(workbench, "reward-1")
