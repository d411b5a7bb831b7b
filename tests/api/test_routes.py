"""What an application and its people send is kept once, as theirs; what is wrong is refused, and says why."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from rlhf_core.api import guard
from rlhf_core.checkpoints.registry import seal
from rlhf_core.ground.answers import AnswerScore
from rlhf_core.ground.files import building
from rlhf_core.ground.rollout import next_entry
from rlhf_core.services import collecting, comparing, erasing, serving, snapshots
from rlhf_core.services.workbench import Workbench
from tests.api.conftest import TRANSCRIPT, Call, calls


def test_a_streamed_chat_is_kept_with_its_steps_once(workbench: Workbench, assistant: Call, chat: dict[str, Any]) -> None:
    assert [step["text"] for step in chat["steps"]] == ["Call the career center.", "Ask for a voucher."]
    kept = workbench.store.chat(chat["id"])
    assert (kept.query, kept.source, kept.external_id) == ("How do I start?", "Assistant", "c1")
    assert "step_start" not in kept.response
    assert [(step.id, step.step_order) for step in kept.steps] == [(step["id"], step["order"]) for step in chat["steps"]]
    again = assistant("POST", "/chats", 201, id="c1", query="How do I start?", transcript=TRANSCRIPT, userId="ana")
    assert again == chat
    assert workbench.counts().chats == 1
    refused = assistant("POST", "/chats", 409, id="c1", query="How do I stop?", response="x", userId="ana")
    assert "'c1'" in refused["detail"]
    other = assistant("POST", "/chats", 201, id="c1", query="How do I start?", transcript=TRANSCRIPT, userId="ben")
    assert other["id"] != chat["id"], "another person's chat is another one, whatever the id"
    plain = assistant("POST", "/chats", 201, id="c2", query="q", response="All of it.", steps=["All", "of it."])
    assert [step["text"] for step in plain["steps"]] == ["All", "of it."]
    assert workbench.store.chat(plain["id"]).owner_id is None


def test_thumbs_and_stars(workbench: Workbench, ana_at: Call, chat: dict[str, Any]) -> None:
    first, second = chat["steps"]
    said = ana_at("POST", "/assistant/feedback", 201, id="1", chatId=chat["id"], stepId=first["id"], feedbackType="positive")
    assert said == {"chatId": chat["id"], "stepId": first["id"], "score": 5, "kept": True}
    ana_at("POST", "/assistant/feedback", 201, id="2", chatId=chat["id"], stepOrder=2, feedbackScore=2, comment="Which one?")
    ana_at("POST", "/assistant/feedback", 201, id="3", chatId=chat["id"], feedbackType="negative", feedbackScore=1)
    rows = {row["step_id"]: row for row in ana_at("GET", "/me", 200)["tables"]["feedback"]}
    assert {step: (row["feedback_score"], row["scale"], row["comment"]) for step, row in rows.items()} == {
        first["id"]: (5, "thumbs", None), second["id"]: (2, "stars", "Which one?"), None: (1, "stars", None)
    }  # fmt: skip
    # a change of mind
    ana_at("POST", "/assistant/feedback", 201, id="4", chatId=chat["id"], stepId=first["id"], feedbackType="negative")
    assert workbench.counts().ratings == 3
    assert workbench.store.mean_scores(chat["id"])[first["id"]] == (1.0, 1)


def test_replayed_and_reordered(workbench: Workbench, ana_at: Call, chat: dict[str, Any]) -> None:
    def say(number: str, kind: str, at: str, status: int = 201) -> Any:
        return ana_at("POST", "/assistant/feedback", status, id=number, chatId=chat["id"], feedbackType=kind, timestamp=at)

    early, late = "2026-11-20T10:00:00+01:00", "2026-11-20T09:30:00Z"
    assert say("late", "negative", late) == {"chatId": chat["id"], "stepId": None, "score": 1, "kept": True}
    assert say("early", "positive", early) == {"chatId": chat["id"], "stepId": None, "score": 1, "kept": False}
    assert say("late", "negative", late)["kept"]
    assert say("early", "positive", early) == {"chatId": chat["id"], "stepId": None, "score": 1, "kept": False}
    assert "'late'" in say("late", "positive", late, 409)["detail"]
    assert workbench.store.mean_scores(chat["id"]) == {None: (1.0, 1)}
    assert "still to come" in say("future", "positive", "2999-01-01T00:00:00Z", 422)["detail"]


def test_signals(workbench: Workbench, ana_at: Call, assistant: Call, chat: dict[str, Any]) -> None:
    at = "2026-11-20T10:00:00Z"

    def event(call: Call, status: int = 201, user: str | None = None, **details: Any) -> Any:
        whose = {"userId": user} if user else {}
        return call("POST", "/metrics/chat-feedback", status, timestamp=at, eventType="chat_feedback", details=details, **whose)

    kinds = ["copy", "regenerate", "edit", "dwell", "follow_up"]
    for kind in kinds:
        event(ana_at, chatId=chat["id"], stepOrder=1, signal=kind, value=120)
        event(ana_at, chatId=chat["id"], stepOrder=1, signal=kind, value=120)
    event(assistant, user="ana", chatId=chat["id"], signal="copy", id="e1")
    event(assistant, 422, chatId=chat["id"], signal="copy")
    event(ana_at, 422, chatId=chat["id"], signal="scroll")
    ana_at("PUT", "/me/consent", 200, version="1", consent="given")
    snapshot, _ = snapshots.take(workbench)
    rows = snapshot.table("label_events").to_pylist()
    assert sorted(row["kind"] for row in rows) == sorted([*kinds, "copy"])
    assert {(row["chat_id"], row["value"]) for row in rows if row["step_id"]} == {(chat["id"], 120.0)}


def test_who_may_say_what_of_which_chat(
    workbench: Workbench, site: TestClient, assistant: Call, ana_at: Call, chat: dict[str, Any]
) -> None:  # fmt: skip
    word = {"chatId": chat["id"], "feedbackType": "positive"}
    ben_at = calls(site, assistant("POST", "/tickets", 201, userId="ben")["ticket"])
    assert "may judge" in ben_at("POST", "/assistant/feedback", 404, id="1", **word)["detail"]
    stranger = calls(site, collecting.add_application(workbench, "Another")[1])
    stranger("POST", "/assistant/feedback", 404, id="1", userId="ana", **word)
    stranger("POST", "/metrics/chat-feedback", 404, timestamp="2026-11-20T10:00:00Z", eventType="chat_feedback", userId="ana",
             details={"chatId": chat["id"], "signal": "copy"})  # fmt: skip
    assert stranger("GET", "/me", 200, userId="ana")["tables"]["chats"] == []
    ana_at("POST", "/assistant/feedback", 403, id="1", userId="ben", **word)
    ana_at("POST", "/assistant/feedback", 201, id="1", userId="ana", **word)
    ana_at("GET", "/me", 403, userId="ben")
    ana_at("POST", "/chats", 403, id="c9", query="q", response="forged")
    ana_at("POST", "/tickets", 403, userId="ben")
    assistant("POST", "/assistant/feedback", 422, id="2", **word)
    # what nobody owns, all of the application's people may judge
    nobodys = assistant("POST", "/chats", 201, id="c2", query="q", response="r")
    ben_at("POST", "/assistant/feedback", 201, id="5", chatId=nobodys["id"], feedbackType="negative")
    imported = assistant("POST", "/assistant/feedback", 404, id="6", userId="ana", chatId="c1", feedbackType="negative")
    assert "c1" in imported["detail"]


def test_tokens_and_tickets(
    workbench: Workbench, site: TestClient, assistant: Call, chat: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    answer = site.get("/api/me")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    ticket = assistant("POST", "/tickets", 201, userId="ana", seconds=60)["ticket"]
    body, _, signature = ticket.rpartition(".")
    for forged in ("rlhfa_guess", "rlhfv.e30.x", f"{body}x.{signature}", f"{body}.{signature[:-2]}", "rlhfv.", "\u00fc"):
        assert site.get("/api/me", headers={"Authorization": f"Bearer {forged}".encode()}).status_code == 401
    assert site.get("/api/me", headers={"Authorization": f"Basic {ticket}"}).status_code == 401
    assert "ana" not in ticket
    calls(site, ticket)("GET", "/me", 200)
    with monkeypatch.context() as later:
        now = collecting.time.time()
        later.setattr(collecting.time, "time", lambda: now + 61)
        assert "run out" in calls(site, ticket)("GET", "/me", 401)["detail"]
    _, fresh = collecting.change_application(workbench, "Assistant", new_token=True)
    assistant("GET", "/me", 401, userId="ana")
    again = calls(site, str(fresh))
    again("GET", "/me", 200, userId="ana")
    calls(site, ticket)("GET", "/me", 401)  # whoever had the old token has no tickets either
    ticket = again("POST", "/tickets", 201, userId="ana")["ticket"]
    calls(site, ticket)("GET", "/me", 200)
    collecting.revoke_application(workbench, "Assistant")
    again("GET", "/me", 401, userId="ana")
    calls(site, ticket)("GET", "/me", 401)
    assert workbench.counts().chats == 1, "what it sent stays"


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"feedbackType": "great"}, "feedbackType"), ({"feedbackScore": 6}, "feedbackScore"), ({}, "or feedbackScore"),
        ({"feedbackScore": "5"}, "feedbackScore"), ({"feedbackScore": True}, "feedbackScore"),
        ({"feedbackType": "positive", "feedbackScore": 2}, "different things"), ({"feedbackScore": 5, "stepID": "x"}, "stepID"),
        ({"feedbackScore": 5, "comment": "x" * 8001}, "comment"), ({"feedbackScore": 5, "comment": "\ud800"}, "comment"),
        ({"feedbackScore": 5, "timestamp": "yesterday"}, "timestamp"), ({"feedbackScore": 5, "timestamp": 5}, "timestamp"),
        ({"feedbackScore": 5, "timestamp": "+0."}, "timestamp"),
        ({"feedbackScore": 5, "timestamp": "0001-01-01T00:00:00+14:00"}, "timestamp"),
        ({"feedbackScore": 5, "timestamp": "2026-11-20T10:00:00"}, "timestamp"), ({"feedbackScore": 5, "id": ""}, "id"),
        ({"feedbackScore": 5, "stepId": "x", "stepOrder": 1}, "not both"), ({"feedbackScore": 5, "userId": " "}, "userId"),
    ],
)  # fmt: skip
def test_words_that_are_none(
    workbench: Workbench, assistant: Call, chat: dict[str, Any], more: dict[str, Any], where: str
) -> None:
    sent = {"id": "1", "chatId": chat["id"], "userId": "ana"} | more
    refused = assistant("POST", "/assistant/feedback", 422, **sent)
    assert where in json.dumps(refused)
    assert "yesterday" not in refused["detail"], "what was sent is not repeated"
    assert workbench.counts().ratings == 0


@pytest.mark.parametrize("more", [
    {}, {"response": " "}, {"steps": []}, {"steps": ["a", ""]}, {"response": "r", "transcript": "t"}, {"response": "\x00"},
    {"steps": ["a"] * 501}, {"response": "r", "createdAt": "2999-01-01T00:00:00Z"}, {"response": "r", "id": "two words"},
    {"transcript": '{"type": "step_start"}\n'},
])  # fmt: skip
def test_chats_that_are_none(workbench: Workbench, assistant: Call, more: dict[str, Any]) -> None:
    assistant("POST", "/chats", 422, **{"id": "c", "query": "q"} | more)
    assert workbench.counts().chats == 0


def test_sizes_and_rates(
    workbench: Workbench, site: TestClient, assistant: Call, ana_at: Call, chat: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    huge = site.post("/api/chats", content=b"x" * (guard.MAX_BODY_BYTES + 1))
    assert (huge.status_code, huge.headers["content-type"]) == (413, guard.PROBLEM)

    def pieces() -> Any:  # no length is told
        for _ in range(20):
            yield b" " * 2**16

    assert site.post("/api/chats", content=pieces()).status_code == 413
    assert site.post("/api/chats", content=b"{", headers={"Content-Type": "application/json"}).status_code == 422
    for _ in range(guard.VISITOR_PER_MINUTE):
        last = site.get("/api/me/consent", headers={"Authorization": "Bearer nobody's"})
    assert (last.status_code, int(last.headers["retry-after"]) > 0) == (429, True)
    ana_at("GET", "/me/consent", 200)  # others are not held up by it
    (one,) = collecting.applications(workbench)
    workbench.collecting.change_application(replace(one, per_minute=3))
    for _ in range(4):
        found = site.get("/api/me?userId=ana", headers={"Authorization": "Bearer rlhfa_x"})
    assert found.status_code == 429
    assert workbench.counts().chats == 1


def test_one_person_is_held_back_alone(site: TestClient, assistant: Call, ana_at: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "VISITOR_PER_MINUTE", 3)
    for _ in range(3):
        ana_at("GET", "/me/consent", 200)
    assert "Wait" in ana_at("GET", "/me/consent", 429)["detail"]
    calls(site, assistant("POST", "/tickets", 201, userId="ben")["ticket"])("GET", "/me/consent", 200)


def test_an_application_is_held_back(workbench: Workbench, site: TestClient) -> None:
    call = calls(site, collecting.add_application(workbench, "Small", per_minute=2)[1])
    call("GET", "/me", 200, userId="ana")
    call("GET", "/me", 200, userId="ben")
    call("GET", "/me", 429, userId="ben")


def test_a_score(workbench: Workbench, assistant: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no reward checkpoint" in assistant("POST", "/score", 404, query="q", response="r")["detail"]
    asked: list[Any] = []

    home = workbench.workspace.checkpoints
    with building(home) as scratch:
        (scratch / "model.safetensors").write_bytes(b"weights")
        made = seal(
            scratch, home, kind="reward", run_id="r", snapshot_id="s", parent="p", complete=True, config={}, metrics={},
            scoring={}, libraries={},
        ).id  # fmt: skip

    def scores(_: Any, able: Any, answers: Any) -> Any:
        asked.extend(answers)
        return {able[0].label: [AnswerScore(4.5, [4.0] * len(answers[0].steps))]}, {}

    monkeypatch.setattr(comparing, "scores_of", scores)
    found = assistant("POST", "/score", 200, query="q", response="One.\n\nTwo.")
    assert found == {"checkpoint": made, "reward": 4.5, "steps": [4.0, 4.0]}
    assistant("POST", "/score", 200, query="q", steps=["a", "b", "c"], checkpoint=made)
    assert asked[-1].steps == ("a", "b", "c")
    assistant("POST", "/score", 404, query="q", steps=["a"], checkpoint="reward-2")
    assistant("POST", "/score", 422, query="q")


def test_a_full_house_is_told_from_a_dead_one(
    site: TestClient, workbench: Workbench, ana_at: Call, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Erasures that take their time leave the threads of other requests alone, and the server says that it is ready."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    def wait(*_: Any) -> Any:
        begun.release()
        assert go_on.wait(30)
        return erasing.Erasure(0, [], [], [])

    monkeypatch.setattr(collecting, "erase", wait)
    threads = [threading.Thread(target=ana_at, args=("DELETE", "/me", 200)) for _ in range(50)]  # more than threads of requests
    for one in threads:
        one.start()
    assert begun.acquire(timeout=30)
    assert begun.acquire(timeout=30)
    assert site.get("/api/ready").json() == {"status": "ok"}
    assert ana_at("GET", "/me/consent", 200)["asks"]
    go_on.set()
    for one in threads:
        one.join(30)
        assert not one.is_alive()


def test_health_and_what_is_documented(site: TestClient, workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.get("/api/health").json() == site.get("/api/ready").json() == {"status": "ok"}
    document = site.get("/api/openapi.json").json()
    assert document["servers"] == [{"url": "/api"}]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["description"]
            if path not in ("/health", "/ready"):
                assert operation["security"] == [{"HTTPBearer": []}]
                assert {"401", "413", "422", "429", "503"} <= operation["responses"].keys()
    preflight = site.options("/api/assistant/feedback", headers={
        "Origin": "https://chat.example", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    })  # fmt: skip
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in preflight.headers
    workbench.close()
    monkeypatch.setattr(
        workbench.collecting, "ready", lambda: (_ for _ in ()).throw(guard.errors.StoreUnavailable("It is away."))
    )
    away = site.get("/api/ready")
    assert (away.status_code, away.headers["retry-after"]) == (503, "5")


def test_a_fault_of_ours_is_said_without_its_insides(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, assistant: Call, site: TestClient
) -> None:  # fmt: skip
    monkeypatch.setattr(workbench.collecting, "mine", lambda _: 1 / 0)
    assert "division" not in assistant("GET", "/me", 500, userId="ana")["detail"]
    _, token = collecting.add_application(workbench, "Prometheus")
    figures = site.get("/api/metrics", headers={"Authorization": f"Bearer {token}"}).text
    assert 'rlhf_api_requests_total{method="GET",route="/me",status="500"} 1.0' in figures


def test_tickets_that_ran_out_count_as_no_strangers(
    site: TestClient, assistant: Call, ana_at: Call, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    now = collecting.time.time()
    monkeypatch.setattr(collecting.time, "time", lambda: now + 4000)
    for _ in range(guard.STRANGERS_PER_MINUTE + 5):
        ana_at("GET", "/me", 401)
    assert site.get("/api/me").status_code == 401


def test_figures_and_a_log_without_what_was_sent(
    workbench: Workbench, site: TestClient, assistant: Call, ana_at: Call, chat: dict[str, Any]
) -> None:  # fmt: skip
    ana_at("POST", "/assistant/feedback", 201, id="1", chatId=chat["id"], feedbackType="positive")
    ana_at("POST", "/assistant/feedback", 404, id="2", chatId="none", feedbackType="positive")
    site.get("/api/wp-login.php?who=ana")
    site.get("/api/health")
    ana_at("GET", "/metrics", 403)
    (_, token) = collecting.add_application(workbench, "Prometheus")
    answer = site.get("/api/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.text.splitlines()
    for wanted in (
        'rlhf_api_requests_total{method="POST",route="/assistant/feedback",status="201"} 1.0',
        'rlhf_api_requests_total{method="POST",route="/assistant/feedback",status="404"} 1.0',
        'rlhf_api_requests_total{method="any",route="none",status="404"} 1.0', 'rlhf_store_rows{table="ratings"} 1.0',
        'rlhf_api_request_seconds_count{method="POST",route="/chats"} 1.0',
    ):  # fmt: skip
        assert wanted in lines
    log = (workbench.workspace.root / "logs" / "api.jsonl").read_text()
    entries = [json.loads(line) for line in log.splitlines()]
    assert [(one["method"], one["route"], one["status"]) for one in entries] == [
        ("POST", "/tickets", 201), ("POST", "/chats", 201), ("POST", "/assistant/feedback", 201),
        ("POST", "/assistant/feedback", 404), ("any", "none", 404),
    ]  # fmt: skip
    assert not [word for word in ("ana", "wp-login", chat["id"], "career") if word in log]
    number = site.get("/api/nothing").headers["x-request-id"]
    assert number in (workbench.workspace.root / "logs" / "api.jsonl").read_text()


def test_a_person_is_told_the_same_checkpoint_and_it_is_noted(
    site: TestClient, workbench: Workbench, assistant: Call, ana_at: Call
) -> None:  # fmt: skip
    nobody = assistant("GET", "/assignment", 200, userId="ana")
    assert nobody == {"checkpoint": None, "arm": "control"}
    for act, about in (("serve", "p1"), ("canary", "p2")):
        last = workbench.store.rollout.last("policy")
        share = 0.5 if act == "canary" else None
        event = next_entry("policy", last, act, who="Kim", reason="r", checkpoint_id=about, share=share)  # type: ignore[arg-type]
        workbench.store.rollout.add(event)
    serving.forget(workbench)
    given = assistant("GET", "/assignment", 200, userId="ana")
    assert given == ana_at("GET", "/assignment", 200) == assistant("GET", "/assignment", 200, userId="ana")
    arms = {assistant("GET", "/assignment", 200, userId=f"person {k}")["arm"] for k in range(40)}
    assert arms == {"control", "canary"}
    assert assistant("GET", "/assignment", 200, userId="ana", kind="reward")["checkpoint"] is None
    assistant("GET", "/assignment", 422, userId="ana", kind="other")
    assert "userId is missing" in assistant("GET", "/assignment", 422)["detail"]
    ana_at("GET", "/assignment", 403, userId="ben")
    served = {"checkpoint": given["checkpoint"], "latencyMs": 812.5, "refused": False}
    sent = {"id": "s1", "query": "How?", "response": "So.", "userId": "ana"}
    assistant("POST", "/chats", 201, **sent, served=served)
    assistant("POST", "/chats", 201, **sent, served=served)
    assistant("POST", "/chats", 409, **sent, served=served | {"latencyMs": 1})
    for wrong in ({}, served | {"latencyMs": -1}, served | {"refused": "no"}, served | {"checkpoint": " "}):
        assistant("POST", "/chats", 422, **(sent | {"id": "s2"}), served=wrong)
    kept = ana_at("GET", "/me", 200)["tables"]
    assert kept["served"] == [
        {"chat_id": kept["chats"][0]["id"], "checkpoint_id": given["checkpoint"], "refused": 0, "latency_ms": 812.5}
    ]
    assert kept["chats"][0]["model"] == given["checkpoint"]
    (one,) = workbench.store.rollout.served(2, "p2", "p1")
    assert (one.characters, one.refused, one.latency_ms) == (3, False, 812.5)
    ana_at("DELETE", "/me", 200)
    assert workbench.store.rollout.served(2, "p2", "p1") == []


def test_while_the_store_is_away_people_keep_the_control(
    site: TestClient, workbench: Workbench, assistant: Call, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    for act, about in (("serve", "p1"), ("canary", "p2")):
        last = workbench.store.rollout.last("policy")
        share = 0.99 if act == "canary" else None
        workbench.store.rollout.add(
            next_entry("policy", last, act, who="Kim", reason="r", checkpoint_id=about, share=share)  # type: ignore[arg-type]
        )
    serving.forget(workbench)
    assert assistant("GET", "/assignment", 200, userId="ana") == {"checkpoint": "p2", "arm": "canary"}

    def away(*_: Any) -> Any:
        raise guard.errors.StoreUnavailable("It is away.")

    monkeypatch.setattr(workbench.collecting, "application_of", away)
    monkeypatch.setattr(type(workbench.store.rollout), "last", away)
    monkeypatch.setattr(serving, "KEEPS_S", -1.0)
    assert assistant("GET", "/assignment", 200, userId="ana") == {"checkpoint": "p1", "arm": "control"}
    assistant("GET", "/me", 503, userId="ana")
    stranger = calls(site, "rlhfa_other")
    stranger("GET", "/assignment", 503, userId="ana")
