"""Every damage that the doctor is to find, done to a workspace that was whole."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_core.analytics.pseudonyms import Pseudonyms, pseudonym_key
from rlhf_core.ground.errors import RunRefused
from rlhf_core.ground.files import building
from rlhf_core.ground.records import utc_now
from rlhf_core.ground.rollout import next_entry
from rlhf_core.ground.settings import Workspace
from rlhf_core.services import doctor, snapshots, storage
from rlhf_core.services.workbench import Workbench
from tests.conftest import command
from tests.services.test_lineage import made


@pytest.fixture(scope="module")
def whole(judged_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a snapshot, a run and its checkpoint, which serves."""
    root = tmp_path_factory.mktemp("whole") / "workspace"
    shutil.copytree(judged_root, root)
    workbench = Workbench(Workspace.resolve(root))
    snapshot, _ = snapshots.take(workbench)
    run = workbench.ledger.add("run-1", "reward", {}, snapshot.id, requested_by=None)
    folder = workbench.workspace.run_folder(run.id)
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    workbench.ledger.claim(run.id, "here")
    checkpoint = made(workbench, run)
    workbench.ledger.finish(run.id, "succeeded", "done", checkpoint.id)
    for queue in workbench.store.queues():
        if queue.hint_checkpoint:
            workbench.store.save_queue(replace(queue, hint_checkpoint=checkpoint.id))
    workbench.close()
    return root


@pytest.fixture
def copied(whole: Path, root: Path) -> Workspace:
    shutil.copytree(whole, root)
    return Workspace(root)


def examined(workspace: Workspace, *, quick: bool = False) -> list[tuple[str, str]]:
    return [(one.severity, f"{one.about} {one.what}") for one in doctor.examine(workspace, quick=quick).findings]


def test_a_whole_one(copied: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.root.rglob("*")}
    checkup = doctor.examine(copied)
    assert checkup.findings == []
    assert checkup.looked_at["chats"] > 0
    assert (checkup.looked_at["snapshots"], checkup.looked_at["checkpoints"], checkup.looked_at["runs"]) == (1, 1, 1)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def flip(path: Path) -> None:
    """Change one byte in the middle of a file, not its size."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.unlink()  # it may be shared
    path.write_bytes(data)


def written(workspace: Workspace, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(workspace.database)) as store:
        store.execute("PRAGMA foreign_keys = OFF")
        store.execute(statement, values)
        store.commit()


def said(path: Path, text: str) -> None:
    path.write_text(text)


def one_of(folder: Path, pattern: str) -> Path:
    return next(iter(sorted(folder.glob(pattern))))


def _a_page_of_the_store(workspace: Workspace) -> None:
    with closing(sqlite3.connect(workspace.database)) as store:
        root, size = store.execute(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_schema WHERE name = 'chats_created'"
        ).fetchone()
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with workspace.database.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(os.urandom(size))


def _no_store_at_all(workspace: Workspace) -> None:
    workspace.database.write_bytes(b"once upon a time" * 1000)


def _a_manifest_of_a_snapshot(workspace: Workspace) -> None:
    path = one_of(workspace.snapshots, "*/manifest.json")
    manifest = json.loads(path.read_text())
    manifest["content_sha256"]["chats"] = "0" * 64
    path.write_text(json.dumps(manifest))


def _a_manifest_of_a_checkpoint(workspace: Workspace) -> None:
    path = one_of(workspace.checkpoints, "*/manifest.json")
    path.write_text(path.read_text().replace('"parent": "base"', '"parent": "huge"'))


def _somebody_erased(workspace: Workspace) -> None:
    with closing(sqlite3.connect(workspace.database)) as store:
        (user,) = store.execute("SELECT user_id FROM chat_feedback LIMIT 1").fetchone()
    entry = {"pseudonym": Pseudonyms(pseudonym_key(workspace.keys))(user), "at": utc_now(), "chats": False}
    (workspace.root / "erased.jsonl").write_text(json.dumps(entry) + "\n")


SNAPSHOT, CHECKPOINT = "snapshot .* is not as it was written", "checkpoint .* is not as it was written"
Damage = Callable[[Workspace], None]
WRONG: dict[str, tuple[Damage, str]] = {
    "a page of the store": (_a_page_of_the_store, "the store (is damaged|cannot be read)"),
    "no store at all": (_no_store_at_all, "the store cannot be read: file is not a database"),
    "the store is gone": (lambda w: w.database.unlink(), "is missing"),
    "a chat without its row": (
        lambda w: written(w, "DELETE FROM chats WHERE id = (SELECT min(chat_id) FROM reasoning_steps)"),
        "names a row of chats that is not there",
    ),
    "a step is gone": (
        lambda w: written(w, "DELETE FROM reasoning_steps WHERE step_order = 1 AND chat_id = (SELECT min(id) FROM chats)"),
        r"chat .* has \d+ steps, of which the last is number",
    ),
    "a newer version": (lambda w: written(w, "PRAGMA user_version = 4000"), "has schema 4000"),
    "a byte of a snapshot": (lambda w: flip(one_of(w.snapshots, "*/chat_feedback/*.parquet")), SNAPSHOT),
    "a file of a snapshot": (lambda w: one_of(w.snapshots, "*/chats/*.parquet").unlink(), SNAPSHOT),
    "a snapshot's manifest": (lambda w: one_of(w.snapshots, "*/manifest.json").unlink(), SNAPSHOT),
    "a snapshot's manifest was changed": (_a_manifest_of_a_snapshot, "its id is not the hash of its contents"),
    "a byte of a checkpoint": (lambda w: flip(one_of(w.checkpoints, "*/model.safetensors")), CHECKPOINT),
    "a checkpoint's manifest was changed": (_a_manifest_of_a_checkpoint, CHECKPOINT),
    "code in a checkpoint": (lambda w: said(one_of(w.checkpoints, "reward-*") / "modeling.py", "import os"), CHECKPOINT),
    "a checkpoint is gone": (lambda w: shutil.rmtree(one_of(w.checkpoints, "reward-*")), "run-1 made reward-.*, which is not"),
    "a line of measures": (lambda w: said(w.run_folder("run-1") / "metrics.jsonl", '{"st\n{}\n'), "a broken line 1 in metrics"),
    "the key of pseudonyms": (lambda w: (w.keys / "pseudonym.key").unlink(), "is missing, and there are snapshots"),
    "half a key": (lambda w: said(w.keys / "pseudonym.key", "ab"), "holds no key"),
    "somebody who was erased": (_somebody_erased, "still holds [0-9a-f]{16}, who was erased since"),
    "an end without a time": (lambda w: written(w, "UPDATE runs SET finished_at = NULL"), "has no time at which it ended"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong(copied: Workspace, name: str) -> None:
    damage, expected = WRONG[name]
    damage(copied)
    found = [text for severity, text in examined(copied) if severity == "wrong"]
    assert any(re.search(expected, text) for text in found), found


def test_who_serves_and_is_gone(copied: Workspace) -> None:
    checkpoint = one_of(copied.checkpoints, "reward-*")
    workbench = Workbench(copied)
    workbench.store.rollout.add(next_entry("reward", None, "serve", who="Ana", reason="the first", checkpoint_id=checkpoint.name))
    with pytest.raises(RunRefused, match="serving"):
        storage.remove(workbench, [checkpoint.name])
    workbench.close()
    assert examined(copied) == []
    shutil.rmtree(checkpoint)
    assert ("wrong", f"{checkpoint.name} is serving of the reward checkpoints and not here") in examined(copied)


def test_what_somebody_should_know(copied: Workspace) -> None:
    (copied.keys / "pseudonym.key").chmod(0o644)
    left = copied.snapshots / ".building-999999_1.5_deadbeef"
    left.mkdir()
    (copied.runs / "nobodys").mkdir()
    written(copied, "UPDATE runs SET status = 'running', host = ?, pid = 999999, pid_create_time = 1.0", os.uname().nodename)
    found = examined(copied, quick=True)
    assert {severity for severity, _ in found} == {"look"}
    texts = " | ".join(text for _, text in found)
    for expected in ("can be read by others", str(left), "runs/nobodys belongs to no run", "its process has gone"):
        assert expected in texts
    assert doctor.examine(copied).well


def test_a_building_one_is_left_alone(copied: Workspace) -> None:
    with building(copied.snapshots):
        assert examined(copied) == []


@pytest.mark.slow
def test_the_command(copied: Workspace, tmp_path: Path) -> None:
    done = command("doctor", root=copied.root)
    assert "1 snapshots, 1 checkpoints, 1 runs" in done.stdout
    assert done.stdout.endswith("Nothing is wrong.\n")
    _no_store_at_all(copied)
    done = command("doctor", "--json", "--quick", root=copied.root, check=False)
    assert done.returncode == 2
    told = json.loads(done.stdout)
    assert not told["well"]
    assert {one["about"] for one in told["findings"]} == {"the store"}
    done = command("doctor", root=tmp_path / "none", check=False)
    assert done.returncode == 1
    assert "There is no workspace" in done.stderr
    assert not (tmp_path / "none").exists()
