"""A workspace copied while it is in use, and brought back."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, NotFound
from rlhf_core.ground.records import LabelOp, Session, new_id
from rlhf_core.services import collecting, snapshots
from rlhf_core.services.backing_up import MANIFEST, back_up, restore
from rlhf_core.services.workbench import Workbench
from tests.conftest import command


def test_everything_comes_back_as_it_was(judged: Workbench, tmp_path: Path) -> None:
    snapshot, _ = snapshots.take(judged)
    (judged.workspace.run_folder("r1")).mkdir()
    (judged.workspace.run_folder("r1") / "metrics.jsonl").write_text("{}\n")
    (judged.workspace.root / "logs").mkdir(exist_ok=True)
    (judged.workspace.root / "logs" / "scoring.log").write_text("x")
    told: list[str] = []
    out = back_up(judged, tmp_path / "backup", on_progress=told.append)
    assert told == ["the store", "keys", "snapshots", "checkpoints", "runs", "hashes"]
    assert not (out / "logs").exists()
    again, erased = restore(out, tmp_path / "restored")
    assert (again.counts(), erased) == (judged.counts(), 0)
    assert snapshots.find(again, snapshot.id, verify=True).rows == snapshot.rows
    same, new = snapshots.take(again)
    assert (same.id, new) == (snapshot.id, False), "the key of pseudonyms came along"
    assert (again.workspace.run_folder("r1") / "metrics.jsonl").read_text() == "{}\n"
    again.close()


def test_taken_while_people_rate(demo: Workbench, ana: Session, tmp_path: Path) -> None:
    """What was acknowledged before it began is in it, and it is one moment."""
    mine, stop, said = demo.store.for_user(ana), threading.Event(), [0]
    chats = [demo.store.chat(one.id) for one in demo.store.search_chats()]

    def rate() -> None:
        for chat in chats * 50:
            for step in chat.steps:
                if stop.is_set():
                    return
                op = LabelOp(new_id(), "rate", chat.id, step.id, {"score": 1 + said[0] % 5, "scale": "stars"})
                assert mine.apply([op]) == {op.id: ""}
                said[0] += 1

    thread = threading.Thread(target=rate)
    thread.start()
    while said[0] < 20:
        pass
    before = demo.counts().ratings
    out = back_up(demo, tmp_path / "backup", store_only=True)
    after = demo.counts().ratings
    stop.set()
    thread.join()
    again, _ = restore(out, tmp_path / "restored")
    assert before <= again.counts().ratings <= after
    again.close()


def test_who_was_erased_since_is_erased_again(workbench: Workbench, tmp_path: Path) -> None:
    application, token = collecting.add_application(workbench, "Assistant")
    caller = collecting.caller_of(workbench, token)
    for person in ("ana", "ben"):
        collecting.add_chat(workbench, caller, person, {"query": f"{person} asks", "response": "r"}, person)
        collecting.set_consent(workbench, caller, "1", "given", person)
    snapshots.take(workbench)
    out = back_up(workbench, tmp_path / "backup")
    assert (out.stat().st_mode & 0o777, (out / "keys" / "pseudonym.key").stat().st_mode & 0o777) == (0o700, 0o600)
    collecting.erase(workbench, caller, "ana")
    (tmp_path / "restored").mkdir()  # an empty volume
    again, erased = restore(out, tmp_path / "restored", erased=workbench.workspace.root / "erased.jsonl")
    assert erased == 1
    assert collecting.proof(again, application.name, "ana")["found"] == {}
    assert [chat.query for chat in again.store.search_chats()] == ["ben asks"]
    again.close()


def test_who_came_back_after_an_erasure_stays(workbench: Workbench, tmp_path: Path) -> None:
    _, token = collecting.add_application(workbench, "Assistant")
    caller = collecting.caller_of(workbench, token)
    collecting.add_chat(workbench, caller, "1", {"query": "before", "response": "r"}, "ana")
    collecting.erase(workbench, caller, "ana")
    collecting.add_chat(workbench, caller, "2", {"query": "after", "response": "r"}, "ana")
    out = back_up(workbench, tmp_path / "backup")
    again, erased = restore(out, tmp_path / "restored", erased=workbench.workspace.root / "erased.jsonl")
    assert ([chat.query for chat in again.store.search_chats()], erased) == (["after"], 0)
    again.close()


def test_what_is_no_backup(workbench: Workbench, tmp_path: Path, add_chats: Any) -> None:
    add_chats({"query": "q", "response": "r"})
    out = back_up(workbench, tmp_path / "backup")
    with pytest.raises(InvalidInput, match="is there already"):
        back_up(workbench, out)
    with pytest.raises(InvalidInput, match="another disk"):
        back_up(workbench, workbench.workspace.root / "backup")
    with pytest.raises(NotFound, match=MANIFEST):
        restore(tmp_path, tmp_path / "r")
    with pytest.raises(InvalidInput, match="holds something"):
        restore(out, workbench.workspace.root)
    with pytest.raises(NotFound, match=r"no file .*x\.jsonl"):
        restore(out, tmp_path / "r", erased=tmp_path / "x.jsonl")
    manifest = json.loads((out / MANIFEST).read_text())
    manifest["files"]["../outside"] = "0"
    (tmp_path / "outside").write_text("x")
    (out / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CorruptArtifact, match="outside of it"):
        restore(out, tmp_path / "r")
    del manifest["files"]["../outside"]
    (out / MANIFEST).write_text(json.dumps(manifest))
    with (out / "workbench.sqlite3").open("r+b") as file:
        file.seek(5000)
        file.write(b"x")
    with pytest.raises(CorruptArtifact, match="not as it was backed up"):
        restore(out, tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_by_the_command_line(demo: Workbench, root: Path, tmp_path: Path) -> None:
    command("backup", tmp_path / "b", root=root)
    told = command("restore", tmp_path / "b", "--workspace", tmp_path / "again", root=root).stdout
    assert "holds 60 chats" in told
