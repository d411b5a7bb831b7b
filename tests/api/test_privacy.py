"""Consent, looking at what is kept, erasing it everywhere, and the proof of that."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rlhf_core.analytics import erasing as snapshot_erasing
from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.records import LabelOp, new_id
from rlhf_core.services import collecting, generating, importing, snapshots
from rlhf_core.services.workbench import Workbench
from tests.api.conftest import TRANSCRIPT, Call
from tests.conftest import command


def rated(assistant: Call, person: str, number: int = 1) -> dict[str, Any]:
    chat: dict[str, Any] = assistant(
        "POST", "/chats", 201, id=f"{person}-{number}", query=f"{person} asks {number}", transcript=TRANSCRIPT, userId=person
    )
    assistant(
        "POST",
        "/assistant/feedback",
        201,
        id=f"w{number}",
        userId=person,
        chatId=chat["id"],
        stepOrder=1,
        feedbackType="positive",
    )
    assistant("POST", "/metrics/chat-feedback", 201, userId=person, timestamp="2026-11-20T10:00:00Z", eventType="chat_feedback",
              details={"chatId": chat["id"], "signal": "copy"})  # fmt: skip
    return chat


def agree(assistant: Call, person: str, consent: str = "given") -> None:
    assistant("PUT", "/me/consent", 200, version="1", consent=consent, userId=person)


def test_only_who_agreed_is_in_a_snapshot(workbench: Workbench, assistant: Call) -> None:
    chats = {person: rated(assistant, person) for person in ("ana", "ben", "cleo")}
    agree(assistant, "ana")
    agree(assistant, "ben", "withdrawn")
    snapshot, _ = snapshots.take(workbench)
    assert [row["id"] for row in snapshot.table("chats").to_pylist()] == [chats["ana"]["id"]]
    assert {row["chat_id"] for row in snapshot.table("chat_feedback").to_pylist()} == {chats["ana"]["id"]}
    assert {row["chat_id"] for row in snapshot.table("label_events").to_pylist()} == {chats["ana"]["id"]}
    agree(assistant, "cleo")
    agree(assistant, "ana", "withdrawn")
    snapshot, _ = snapshots.take(workbench)
    assert [row["id"] for row in snapshot.table("chats").to_pylist()] == [chats["cleo"]["id"]]


def test_what_was_agreed_to_is_versioned(workbench: Workbench, assistant: Call, ana_at: Call) -> None:
    asked = ana_at("GET", "/me/consent", 200)
    assert (asked["asks"], asked["consent"], asked["currentVersion"]) == (True, None, "1")
    said = ana_at("PUT", "/me/consent", 200, version="1", consent="given")
    assert (said["asks"], said["consent"], said["version"]) == (False, "given", "1")
    with pytest.raises(InvalidInput, match="version of their own"):
        collecting.change_application(workbench, "Assistant", consent_words="May we sell it?")
    collecting.change_application(workbench, "Assistant", consent_version="2", consent_words="May we keep it for a year?")
    asked = ana_at("GET", "/me/consent", 200)
    assert (asked["asks"], asked["version"], asked["currentVersion"], asked["words"]) == (
        True,
        "1",
        "2",
        "May we keep it for a year?",
    )
    assert "'2'" in ana_at("PUT", "/me/consent", 422, version="1", consent="given")["detail"]
    ana_at("PUT", "/me/consent", 200, version="2", consent="withdrawn")
    answers = ana_at("GET", "/me", 200)["tables"]["consents"]
    assert [(one["version"], one["consent"]) for one in answers] == [("1", "given"), ("2", "withdrawn")]


def test_one_persons_whole_life(workbench: Workbench, root: Path, assistant: Call, ana_at: Call, ana: Any) -> None:
    """Consent, feedback, export, erasure, proof; others keep what is theirs."""
    mine, bens = rated(assistant, "ana"), rated(assistant, "ben")
    for person in ("ana", "ben"):
        agree(assistant, person)
    keeper = workbench.store.for_user(ana)  # an annotator of the workbench rates both chats, and prefers one
    ops = [LabelOp(new_id(), "rate", one["id"], None, {"score": 4, "scale": "stars"}) for one in (mine, bens)]
    assert set(keeper.apply(ops).values()) == {""}
    snapshot, _ = snapshots.take(workbench)
    export = ana_at("GET", "/me", 200)["tables"]
    assert {name: len(rows) for name, rows in export.items() if rows} == {
        "chats": 1, "steps": 2, "consents": 1, "feedback": 1, "events": 1, "requests": 3
    }  # fmt: skip
    found = collecting.proof(workbench, "Assistant", "ana")["found"]
    assert found.pop("snapshots") == [snapshot.id]
    assert found.keys() == {"profiles", "visitors", "consents", "chats", "chat_feedback", "label_events", "received"}

    gone = ana_at("DELETE", "/me", 200)
    assert (gone["chats"], gone["judgements"], len(gone["snapshots"])) == (1, 1, 1)
    proof = collecting.proof(workbench, "Assistant", "ana")
    assert proof["found"] == {}
    (logged,) = proof["erasures"]
    assert (logged["finished"], logged["rows"]) == (True, {"feedback": 1, "events": 1, "chats": 1})
    assert "ana" not in json.dumps(logged)
    (after,) = snapshots.listing(workbench)
    assert after.id == gone["snapshots"][0]
    assert [row["id"] for row in after.table("chats").to_pylist()] == [bens["id"]]
    for table in ("reasoning_steps", "chat_feedback", "label_events"):
        assert {row["chat_id"] for row in after.table(table).to_pylist()} == {bens["id"]}, table
    everywhere = b"".join(path.read_bytes() for path in root.rglob("*.parquet"))
    assert b"ana asks 1" not in everywhere
    assert b"ben asks 1" in everywhere or after.table("chats").to_pylist()[0]["query"] == "ben asks 1"
    assert {name: rows for name, rows in ana_at("GET", "/me", 200)["tables"].items() if rows} == {}
    again = ana_at("DELETE", "/me", 200)
    assert (again["chats"], again["judgements"], again["snapshots"]) == (0, 0, [])
    # what had been sent is not brought back by sending it again
    refused = assistant("POST", "/chats", 409, id="ana-1", query="ana asks 1", transcript=TRANSCRIPT, userId="ana")
    assert "erased" in refused["detail"]
    assert collecting.proof(workbench, "Assistant", "ana")["found"] == {}
    assert assistant("GET", "/me", 200, userId="ben")["tables"]["feedback"]


def test_what_says_who_somebody_is_never_reaches_the_store(workbench: Workbench, root: Path, assistant: Call) -> None:
    sent = {
        "id": "c1", "query": "I am jo@example.org, how do I start?", "userId": "ana",
        "transcript": '{"type": "step_start"}\nCall 617-555-0123.\n{"type": "step_end"}\n{"type": "step_start"}\nGo.\n',
    }  # fmt: skip
    chat = assistant("POST", "/chats", 201, **sent)
    assert chat["removed"] == {"EMAIL_ADDRESS": 1, "PHONE_NUMBER": 1}
    assert assistant("POST", "/chats", 201, **sent) == chat
    kept = workbench.store.chat(chat["id"])
    assert (kept.query, [step.step_content for step in kept.steps]) == (
        "I am [e-mail], how do I start?",
        ["Call [phone].", "Go."],
    )
    assert "617" not in kept.response
    word = {"chatId": chat["id"], "feedbackType": "positive", "comment": "Ask for Jo at jo@example.org", "userId": "ana"}
    assistant("POST", "/assistant/feedback", 201, id="f1", **word)
    (row,) = assistant("GET", "/me", 200, userId="ana")["tables"]["feedback"]
    assert row["comment"] == "Ask for Jo at [e-mail]"
    assert [what for _, _, what in collecting.removed(workbench)] == ["2 e-mail, 1 phone"]
    workbench.close()
    assert all(b"jo@example.org" not in path.read_bytes() for path in root.rglob("workbench.sqlite3*"))


def test_what_was_kept_for_its_time_goes(workbench: Workbench, assistant: Call) -> None:
    collecting.change_application(workbench, "Assistant", keep_days=30)
    old = assistant("POST", "/chats", 201, id="old", query="old", response="r", userId="ana", createdAt="2026-01-01T00:00:00Z")
    new = rated(assistant, "ben")
    assistant("POST", "/assistant/feedback", 201, id="w", userId="ana", chatId=old["id"], feedbackType="positive")
    for person in ("ana", "ben"):
        agree(assistant, person)
    importing.add_chats(workbench, [{"query": "old", "response": "A policy on it", "source": "generated"}], "generated")
    snapshots.take(workbench)
    assert collecting.expire(workbench, try_only=True) == {"Assistant": 2}
    assert workbench.counts().chats == 3
    assert collecting.expire(workbench) == {"Assistant": 2}
    again = assistant("POST", "/chats", 409, id="old", query="old", response="r", userId="ana", createdAt="2026-01-01T00:00:00Z")
    assert "kept for its time" in again["detail"]
    assert collecting.expire(workbench) == {}
    assert [chat.id for chat in workbench.store.search_chats()] == [new["id"]]
    (after,) = snapshots.listing(workbench)
    assert [row["id"] for row in after.table("chats").to_pylist()] == [new["id"]]
    assert {row["chat_id"] for row in after.table("chat_feedback").to_pylist()} == {new["id"]}
    collecting.change_application(workbench, "Assistant", keep_days=0)
    assert collecting.applications(workbench)[0].keep_days is None


def test_what_was_made_of_a_chat_without_consent_is_in_no_snapshot(workbench: Workbench, assistant: Call, ana: Any) -> None:
    chat = rated(assistant, "ana")
    rated(assistant, "ben")
    agree(assistant, "ben")
    op = LabelOp(new_id(), "rewrite", chat["id"], chat["steps"][1]["id"], {"text": "Better."})
    assert workbench.store.for_user(ana).apply([op]) == {op.id: ""}
    snapshot, _ = snapshots.take(workbench)
    assert {row["query"] for row in snapshot.table("chats").to_pylist()} == {"ben asks 1"}
    agree(assistant, "ana")
    snapshot, _ = snapshots.take(workbench)
    assert sorted(row["query"] for row in snapshot.table("chats").to_pylist()) == ["ana asks 1", "ana asks 1", "ben asks 1"]


def test_two_are_erased_at_once(workbench: Workbench, assistant: Call) -> None:
    people = [f"p{k}" for k in range(4)]
    for person in people:
        rated(assistant, person)
        agree(assistant, person)
    snapshots.take(workbench)
    threads = [
        threading.Thread(target=assistant, args=("DELETE", "/me", 200), kwargs={"userId": person}) for person in people[:3]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [collecting.proof(workbench, "Assistant", person)["found"] for person in people[:3]] == [{}, {}, {}]
    (after,) = snapshots.listing(workbench)
    assert [row["query"] for row in after.table("chats").to_pylist()] == ["p3 asks 1"]


def test_a_damaged_snapshot_keeps_no_other_from_being_rewritten(workbench: Workbench, assistant: Call, ana_at: Call) -> None:
    rated(assistant, "ana")
    agree(assistant, "ana")
    damaged, _ = snapshots.take(workbench)
    rated(assistant, "ben")
    agree(assistant, "ben")
    snapshots.take(workbench)
    path = damaged.files("people")[0]
    data = path.read_bytes()
    path.unlink()  # not the file that the other snapshot shares
    path.write_bytes(data[: len(data) // 2])
    refused = ana_at("DELETE", "/me", 400)
    assert damaged.id in refused["detail"]
    found = collecting.proof(workbench, "Assistant", "ana")["found"]
    assert found == {"snapshots": [damaged.id]}
    snapshots.remove(workbench, damaged.id)
    ana_at("DELETE", "/me", 200)
    assert collecting.proof(workbench, "Assistant", "ana")["found"] == {}


def test_what_was_made_of_ones_chats_goes_too(workbench: Workbench, root: Path, assistant: Call, ana_at: Call, ana: Any) -> None:
    """Answers that a policy wrote to one's question, rewritten steps, what runs wrote down; and the bytes are overwritten."""
    mine = rated(assistant, "ana")
    common = assistant("POST", "/chats", 201, id="both", query="What do both ask?", response="r", userId="ana")
    assistant("POST", "/chats", 201, id="both", query="What do both ask?", response="r", userId="ben")
    for person in ("ana", "ben"):
        agree(assistant, person)
    for query in ("ana asks 1", "What do both ask?"):
        importing.add_chats(workbench, [{"query": query, "response": f"A policy on {query}", "source": "generated"}], "generated")
    op = LabelOp(new_id(), "rewrite", mine["id"], mine["steps"][0]["id"], {"text": "Better: call before noon."})
    assert workbench.store.for_user(ana).apply([op]) == {op.id: ""}
    folder = workbench.workspace.run_folder("r1")
    folder.mkdir(parents=True)
    lines = [{"query": "ana asks 1", "answer": "x"}, {"query": "else", "answer": "y\u2028z"}]
    (folder / "samples.jsonl").write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines))
    snapshots.take(workbench)
    gone = ana_at("DELETE", "/me", 200)
    assert gone["chats"] == 4
    left = {chat.query: chat.source for chat in workbench.store.search_chats()}
    assert set(left) == {"What do both ask?"}
    assert len(workbench.store.search_chats()) == 2, "ben's, and what a policy wrote to the question of both"
    (after,) = snapshots.listing(workbench)
    assert {row["query"] for row in after.table("chats").to_pylist()} == {"What do both ask?"}
    assert common["id"] not in {row["id"] for row in after.table("chats").to_pylist()}
    assert [json.loads(line)["query"] for line in (folder / "samples.jsonl").read_text().split("\n")[:-1]] == ["else"]
    for path in root.rglob("*"):
        if path.is_file():
            assert b"ana asks 1" not in path.read_bytes(), path
            assert b"before noon" not in path.read_bytes(), path


def test_erasing_goes_on_where_it_was_interrupted(
    workbench: Workbench, assistant: Call, ana_at: Call, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    rated(assistant, "ana")
    agree(assistant, "ana")
    snapshots.take(workbench)
    with monkeypatch.context() as broken:
        broken.setattr(snapshot_erasing, "finish", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        ana_at("DELETE", "/me", 507)
    proof = collecting.proof(workbench, "Assistant", "ana")
    assert (list(proof["found"]), proof["erasures"][0]["finished"]) == (["snapshots"], False)
    assert ana_at("DELETE", "/me", 200)["snapshots"]
    proof = collecting.proof(workbench, "Assistant", "ana")
    assert (proof["found"], [one["finished"] for one in proof["erasures"]]) == ({}, [True, True])


def test_erased_while_a_snapshot_is_taken(
    workbench: Workbench, assistant: Call, ana_at: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes first, the proof finds what is left, and erasing again takes it out."""
    for number in range(20):
        rated(assistant, "ana", number)
    agree(assistant, "ana")
    taking = threading.Thread(target=lambda: snapshots.take(workbench))
    taking.start()
    ana_at("DELETE", "/me", 200)
    taking.join()
    if collecting.proof(workbench, "Assistant", "ana")["found"]:
        ana_at("DELETE", "/me", 200)
    assert collecting.proof(workbench, "Assistant", "ana")["found"] == {}


def test_erased_during_a_run(workbench: Workbench, assistant: Call, ana_at: Call) -> None:
    """The run is named, and what it read it goes on with. What it writes down of the erased goes when it is over; their questions
    come back into the store by no run; and one that waits learns from what the snapshot became."""
    rated(assistant, "ana")
    rated(assistant, "ben")
    for person in ("ana", "ben"):
        agree(assistant, person)
    snapshot, _ = snapshots.take(workbench)
    run = workbench.ledger.add("r1", "generate", {}, snapshot.id, None, "here")
    waits = workbench.ledger.add("r2", "reward", {}, snapshot.id, None)
    gone = ana_at("DELETE", "/me", 200)
    assert set(gone["runs"]) == {run.id, waits.id}
    assert [one.id for one in snapshots.listing(workbench)] == gone["snapshots"]
    with pytest.raises(NotFound, match=r"a person was erased.*became"):
        snapshots.find(workbench, snapshot.id)
    assert [workbench.ledger.get(one.id).snapshot_id for one in (run, waits)] == [snapshot.id, gone["snapshots"][0]]
    assert collecting.proof(workbench, "Assistant", "ana")["found"] == {}

    answers = workbench.workspace.run_folder("r1") / "answers.jsonl"  # it writes on
    written = [
        {"query": f"{one} asks 1", "response": f"To {one}.", "model": "m", "ended": True, "last": True} for one in ("ana", "ben")
    ]
    answers.write_text("".join(json.dumps(one) + "\n" for one in written))
    collecting.tend(workbench)
    assert len(answers.read_text().splitlines()) == 2, "it is at work"
    assert collecting.proof(workbench, "Assistant", "ana")["found"] == {"runs": ["r1"]}
    assert generating.store(workbench, run).chats == 1
    assert {chat.response for chat in workbench.store.search_chats() if chat.source == "generated"} == {"To ben."}
    answers.write_text("".join(json.dumps(one) + "\n" for one in written))
    workbench.ledger.finish("r1", "succeeded", None, "")
    collecting.tend(workbench)
    assert [json.loads(line)["query"] for line in answers.read_text().splitlines()] == ["ben asks 1"]
    assert collecting.proof(workbench, "Assistant", "ana")["found"] == {}
    for path in workbench.workspace.runs.rglob("*"):
        assert not path.is_file() or b"ana asks" not in path.read_bytes(), path


@pytest.mark.slow
def test_by_the_command_line(workbench: Workbench, site: TestClient, root: Path) -> None:
    from tests.api.conftest import calls

    token = command("applications", "add", "Assistant", root=root).stdout.strip()
    assert "Assistant" in command("applications", root=root).stdout
    assert "is one" not in command("applications", "add", "Assistant", root=root, check=False).stdout
    call = calls(site, token)
    rated(call, "ana")
    assert command("erase", "ana", "--application", "Assistant", "--prove", root=root, check=False).returncode == 2
    asked = command("erase", "ana", "--application", "Assistant", root=root, check=False)
    assert asked.returncode == 1
    assert "Give --yes if it is" in asked.stderr
    assert "1 chats, 1 judgements" in command("erase", "ana", "--application", "Assistant", "--yes", root=root).stdout
    proven = command("erase", "ana", "--application", "Assistant", "--prove", root=root).stdout
    assert "no table of the store, in no snapshot and in nothing that runs wrote down" in proven
    command("applications", "revoke", "Assistant", root=root)
    call("GET", "/me", 401, userId="ana")
    assert token not in (root / "workbench.sqlite3").read_bytes().decode("latin-1")
