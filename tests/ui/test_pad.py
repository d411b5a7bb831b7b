"""What the pad's server side does with what the browser sends. The browser's side is tested in a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rlhf_core.ground.errors import ScreeningFailed, SessionExpired, StoreUnavailable
from rlhf_core.ground.judgement import GoldAnswer
from rlhf_core.ground.records import EVERYTHING, LabelOp, Queue, Session, new_id
from rlhf_core.services import demo as demo_set
from rlhf_core.services import labeling
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.supabase import SupabaseStore
from rlhf_core.store.supabase_connection import Server
from rlhf_core.ui import keys, pad
from tests.supabase.server import TeamServer

Send = Callable[..., dict[str, str]]


def sent(op: LabelOp) -> dict[str, Any]:
    return {"id": op.id, "kind": op.kind, "chat": op.chat_id, "step": op.step_id, "value": dict(op.value)}


class Browser:
    """A browser's session on the server, and what comes from it."""

    def __init__(self, workbench: Workbench, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        self.session = session
        queue = labeling.queue(labeling.queues(workbench), EVERYTHING)
        self.state: dict[str, Any] = {keys.PAD_CONTEXT: (workbench, session, queue, None), keys.PAD_OUTCOMES: {}}
        monkeypatch.setattr(pad.st, "session_state", self.state)
        pad._fetch(workbench, session, queue, None)

    @property
    def chats(self) -> list[str]:
        return [view.chat.id for view in self.state[keys.PAD_ITEMS]]

    def send(self, *ops: LabelOp, sender: str | None = None) -> dict[str, str]:
        self.state[keys.PAD] = {"ops": {"n": 1, "from": sender or self.session.user_id, "list": [sent(op) for op in ops]}}
        pad._store()
        return {op.id: self.state[keys.PAD_OUTCOMES].get(op.id, "not heard of") for op in ops}


@pytest.fixture
def browser(demo: Workbench, ana: Session, monkeypatch: pytest.MonkeyPatch) -> Browser:
    return Browser(demo, ana, monkeypatch)


def rate(chat: str, score: Any = 4) -> LabelOp:
    return LabelOp(new_id(), "rate", chat, None, {"score": score, "scale": "stars"})


def test_what_is_sent_is_stored_and_said_so(browser: Browser, demo: Workbench, ana: Session) -> None:
    first, second = rate(browser.chats[0]), rate(browser.chats[0], 9)
    outcomes = browser.send(first, second)
    assert outcomes[first.id] == ""
    assert "whole number" in outcomes[second.id]
    assert demo.store.for_user(ana).ratings(browser.chats[0])[None].feedback_score == 4


def test_sent_again_it_is_not_stored_again(browser: Browser, demo: Workbench, ana: Session) -> None:
    op = rate(browser.chats[0])
    browser.send(op)
    demo.store.for_user(ana).rate(browser.chats[0], None, 1, "stars")
    browser.state[keys.PAD_OUTCOMES] = {}  # as after a refresh
    assert browser.send(op) == {op.id: ""}
    assert demo.store.for_user(ana).ratings(browser.chats[0])[None].feedback_score == 1


def test_submitting_brings_the_next_chat(browser: Browser) -> None:
    before = browser.chats
    browser.send(rate(before[0]), LabelOp(new_id(), "submit", before[0], None, {"queue": EVERYTHING}))
    assert browser.chats[:2] == before[1:]
    assert len(browser.chats) == 3
    assert browser.state[keys.PAD_PROGRESS].submitted == 1


def test_a_store_that_is_away_leaves_it_in_the_browser(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    op = rate(browser.chats[0])
    for error in (StoreUnavailable("The store is away."), SessionExpired("Over.")):
        with monkeypatch.context() as patched:
            patched.setattr(labeling, "apply", lambda *_, error=error: (_ for _ in ()).throw(error))
            assert browser.send(op) == {op.id: "not heard of"}
    assert "kept in this browser: the store does not answer" in browser.state[keys.LABEL_PROBLEM]
    assert browser.send(op) == {op.id: ""}
    assert keys.LABEL_PROBLEM not in browser.state


def test_what_somebody_else_left_in_the_browser_is_not_stored_as_mine(browser: Browser, demo: Workbench) -> None:
    before = demo.counts().ratings
    op = rate(browser.chats[0])
    assert browser.send(op, sender="somebody else") == {op.id: "not heard of"}
    assert demo.counts().ratings == before


def test_one_rating_costs_one_round_trip_to_a_teams_store(
    team: TeamServer, line: Server, operator: SupabaseStore, sign_in: Any, root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in team.environment.items():
        monkeypatch.setenv(name, value)
    shared = Workbench.open(root)
    shared._store = operator
    demo_set.load_demo(shared)
    session, store = sign_in("Cai")
    browser = Browser(shared.for_person(store._connection, session), session, monkeypatch)
    paths: list[str] = []
    hooks = line.http.event_hooks["request"]
    hooks.append(lambda request: paths.append(request.url.path.rpartition("/")[2]))
    browser.send(rate(browser.chats[0]))
    assert paths == ["apply_ops"]
    browser.send(LabelOp(new_id(), "submit", browser.chats[0], None, {"queue": EVERYTHING}))
    assert paths == ["apply_ops", "apply_ops", "claim", "queue_progress"]
    hooks.pop()
    shared.close()


def test_a_screening_that_was_failed_is_said_and_nothing_is_called_unsaved(
    demo: Workbench, ana: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = demo.store.search_chats(limit=1)[0]
    demo.store.for_user(ana).save_gold(chat.id, GoldAnswer({None: 5}))
    demo.store.save_queue(Queue(EVERYTHING, "Everything", screening=1, screening_pass=0.9))
    browser = Browser(demo, ana, monkeypatch)
    assert browser.chats == [chat.id]
    outcomes = browser.send(rate(chat.id, 1), LabelOp(new_id(), "submit", chat.id, None, {"queue": EVERYTHING}))
    assert set(outcomes.values()) == {""}
    assert keys.LABEL_PROBLEM not in browser.state
    assert keys.PAD_ITEMS not in browser.state, "drawing asks again, and says what is wrong"
    (told,) = browser.state[keys.PAD_AFTER]
    assert "right on 0 of 1" in told["title"]
    with pytest.raises(ScreeningFailed):
        pad._fetch(demo, ana, demo.store.queues()[0], None)


def test_each_of_several_submitted_at_once_is_told(demo: Workbench, ana: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    chats = demo.store.search_chats(limit=2)
    for chat in chats:
        demo.store.for_user(ana).save_gold(chat.id, GoldAnswer({None: 5}))
    demo.store.save_queue(Queue(EVERYTHING, "Everything", screening=2, screening_pass=0.5))
    browser = Browser(demo, ana, monkeypatch)
    ops = []
    for chat in chats:
        ops += [rate(chat.id, 5), LabelOp(new_id(), "submit", chat.id, None, {"queue": EVERYTHING})]
    browser.send(*ops)
    assert [one["chat"] for one in browser.state[keys.PAD_AFTER]] == [chat.id for chat in chats]
    assert len(browser.chats) == 3
