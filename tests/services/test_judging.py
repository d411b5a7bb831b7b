"""Known answers, disputes and hints as the pages use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from rlhf_core.ground.answers import Answer, AnswerScore
from rlhf_core.ground.errors import Forbidden, InvalidInput
from rlhf_core.ground.judgement import After, Decision, GoldAnswer, GoldPlace
from rlhf_core.ground.records import EVERYTHING, LabelOp, Preference, Queue, Session, new_id
from rlhf_core.services import judging, labeling, scoring
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui.pad.telling import stands_left, telling
from tests.conftest import chosen_pairs


def first_chat(workbench: Workbench) -> Any:
    return workbench.store.chat(workbench.store.search_chats(limit=1)[0].id)


def test_what_one_said_becomes_the_known_answer(demo: Workbench, ana: Session) -> None:
    chat, mine = first_chat(demo), demo.store.for_user(ana)
    with pytest.raises(InvalidInput, match="Rate the chat first"):
        judging.make_gold(demo, ana, chat.id, "")
    mine.rate(chat.id, None, 4, "stars")
    assert judging.make_gold(demo, ana, chat.id, "") == GoldAnswer({None: 4}), "steps that were not judged say nothing"
    for step in chat.steps:
        mine.rate(chat.id, step.id, 5, "stars")
    assert judging.make_gold(demo, ana, chat.id, "").first_error == "", "each step is right"
    mine.rate(chat.id, chat.steps[1].id, 2, "stars")
    assert judging.make_gold(demo, ana, chat.id, "").first_error == chat.steps[1].id
    mine.apply([LabelOp(new_id(), "first_error", chat.id, chat.steps[2].id)])
    assert judging.make_gold(demo, ana, chat.id, "so").first_error == chat.steps[2].id
    (gold,) = judging.gold(demo)
    assert (gold.explanation, gold.query) == ("so", chat.query)
    judging.remove_gold(demo, gold.id)
    assert judging.gold(demo) == []


def test_a_pairs_choice_becomes_its_known_answer(judged: Workbench) -> None:
    cai = Workbench.session(judged.add_person("Cai"))
    pair = chosen_pairs(judged)[1]
    with pytest.raises(InvalidInput, match="Choose between"):
        judging.make_gold(judged, cai, pair[0], "", pair[1])
    value = {"other": pair[1], "verdict": "both_bad", "strength": None, "left": pair[0]}
    judged.store.for_user(cai).apply([LabelOp(new_id(), "prefer", pair[0], None, value)])
    assert judging.make_gold(judged, cai, pair[0], "", pair[1]) == GoldAnswer(verdict="both_bad")


def test_a_dispute_is_settled_and_may_become_a_known_answer(judged: Workbench) -> None:
    keeper = Workbench.session(judged.people()[0])
    dispute = next(one for one in judging.disputes(judged) if not one.decided and one.other_id is None)
    case = judging.case(judged, dispute.chat_id)
    assert len(case.raters) == dispute.raters
    assert len(set(case.first_errors().values())) == dispute.stops
    step = case.chat.steps[0]
    with pytest.raises(InvalidInput, match="Nothing is decided"):
        judging.decide(judged, keeper, [], "x")
    with pytest.raises(InvalidInput, match="reason"):
        judging.decide(judged, keeper, [Decision("", case.chat.id, None, step.id, "score", "2", "")], " ")
    with pytest.raises(InvalidInput, match="Decide something first"):
        judging.gold_of_case(judged, keeper, case)
    decisions = [
        Decision("", case.chat.id, None, step.id, "score", "2", ""),
        Decision("", case.chat.id, None, None, "first_error", step.id, ""),
    ]  # fmt: skip
    judging.decide(judged, keeper, decisions, "It is wrong.")
    case = judging.case(judged, dispute.chat_id)
    assert [one.reason for one in case.decisions] == ["It is wrong.", "It is wrong."]
    assert judging.gold_of_case(judged, keeper, case) == GoldAnswer({step.id: 2}, step.id)
    assert next(one for one in judging.gold(judged) if one.chat_id == case.chat.id).explanation == "It is wrong."
    judging.undecide(judged, keeper, case.decisions[0])
    assert len(judging.case(judged, dispute.chat_id).decisions) == 1


def test_names_say_nothing_of_who_rated(judged: Workbench) -> None:
    """The order of raters differs from chat to chat."""
    orders = {tuple(judging.case(judged, one.chat_id).raters[:2]) for one in judging.disputes(judged) if one.raters >= 4}
    assert len(orders) > 1


def test_only_some_may_keep_and_settle(judged: Workbench) -> None:
    for role in ("annotator", "analyst", None):
        judged.person = Session("x", "X", role)  # type: ignore[arg-type]
        for call in (lambda: judging.gold(judged), lambda: judging.make_gold(judged, judged.person, "x", "")):
            with pytest.raises(Forbidden):
                call()
    judged.person = Session("x", "X", "annotator")
    for call in (
        lambda: judging.disputes(judged), lambda: judging.case(judged, "x"),
        lambda: judging.decide(judged, judged.person, [], "x"),
        lambda: labeling.save_rubric(judged, EVERYTHING, []),
    ):  # fmt: skip
        with pytest.raises(Forbidden):
            call()
    judged.person = Session("x", "X", "analyst")
    assert judging.disputes(judged)


def test_a_checkpoint_scores_the_chats_ahead(demo: Workbench, ana: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewards are given here; that a real checkpoint scores is tested with the scoring process."""
    asked: list[int] = []

    def score(_workbench: Workbench, _refs: object, answers: Sequence[Answer]) -> list[list[AnswerScore]]:
        asked.extend(len(one.steps) + 1 for one in answers)
        return [[AnswerScore(9.0, [1.0 + k for k in range(len(one.steps))]) for one in answers]]

    monkeypatch.setattr(scoring, "score_answers", score)
    queue = labeling.save_queue(demo, Queue(new_id(), "Hinted", words="solar", hint_checkpoint="ck"))
    seen: list[int] = []
    count = labeling.prepare_hints(demo, queue, on_progress=lambda done, _total: seen.append(done))
    assert seen[-1] == count == len(asked)
    (view,) = labeling.claim(demo, ana, queue.id, 1)
    assert asked[0] == len(view.chat.steps) + 1
    mine = demo.store.for_user(ana)
    mine.rate(view.chat.id, view.chat.steps[0].id, 4, "stars")
    mine.apply([LabelOp(new_id(), "submit", view.chat.id, None, {"queue": queue.id})])
    told = labeling.after(demo, ana, queue.id, view.chat.id, None)
    assert told is not None
    shown = telling(told, labeling.open_item(demo, ana, view.chat.id), ana.user_id, "op")
    assert shown["tables"] == [
        {"heads": ["checkpoint ck", "you"], "rows": [{"title": "Step 1", "cells": ["1.00 stars", "4 of 5"]}]}
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match="shows no hints"):
        labeling.prepare_hints(demo, Queue(new_id(), "x"))


def test_what_is_told_of_a_known_answer(judged: Workbench) -> None:
    ben = next(Workbench.session(one) for one in judged.people() if one.display_name == "Ben")
    queue = next(one for one in judged.store.queues() if one.name == "Careful")
    chat = first_chat(judged)
    told = labeling.after(judged, ben, queue.id, chat.id, None)
    assert told is not None
    shown = telling(told, labeling.open_item(judged, ben, chat.id), ben.user_id, "op")
    assert shown["title"] == "This one had a known answer: you were right on 0 of 2."
    assert shown["explanation"] == "<p>All of it holds.</p>\n"
    known = shown["tables"][0]["rows"]
    assert known[0] == {"title": "The whole answer", "cells": ["good", "3 of 5"], "same": False}
    assert (known[1]["title"], known[1]["cells"][0], known[1]["same"]) == ("First error", "none", False)
    assert shown["tables"][1]["heads"][0] == "checkpoint ck-1"


def test_sides_are_drawn_by_lot_and_stay() -> None:
    lots = [stands_left(f"person {k}", "a", "b") for k in range(200)]
    assert 70 < lots.count("a") < 130
    assert lots == [stands_left(f"person {k}", "a", "b") for k in range(200)]


def test_verdicts_are_told_as_they_were_seen(judged: Workbench) -> None:
    cai = Workbench.session(judged.add_person("Cai"))
    pair = chosen_pairs(judged)[0]
    view = judged.store.for_user(cai).view(*pair)
    assert view.other is not None
    view = replace(view, preferences={(None, ""): Preference("chat", 2)})
    after = After((GoldPlace("verdict", "chat", "other", False),), "", "ck", {pair[0]: 2.0, pair[1]: 4.0})
    left = stands_left(cai.user_id, *pair) == pair[0]
    shown = telling(after, view, cai.user_id, "op")
    assert shown["tables"][0]["rows"][0]["cells"] == (["A is better", "B is better"] if left else ["B is better", "A is better"])
    thinks = "A 2.00, B 4.00 stars" if left else "A 4.00, B 2.00 stars"
    assert shown["tables"][1]["rows"][0]["cells"] == [thinks, "A is better" if left else "B is better"]
