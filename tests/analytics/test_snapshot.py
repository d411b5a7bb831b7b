import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground.errors import CorruptArtifact, NotEnoughData, NotFound, StorageFull
from rlhf_core.ground.records import Session, utc_now
from rlhf_core.ground.settings import PROJECT_ROOT, WORKSPACE_VARIABLE
from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench
from tests.conftest import command


def test_the_same_data_gives_the_same_id(demo: Workbench) -> None:
    first, new = snapshots.take(demo)
    assert new
    again, new = snapshots.take(demo)
    assert not new
    assert again == first
    assert len(list(demo.workspace.snapshots.iterdir())) == 1


def test_any_change_gives_another_id(demo: Workbench, ana: Session) -> None:
    before, _ = snapshots.take(demo)
    chat = demo.store.search_chats(limit=1)[0]
    demo.store.for_user(ana).rate(chat.id, None, 4, "stars")
    after, new = snapshots.take(demo)
    assert new
    assert after.id != before.id
    assert after.ratings == before.ratings + 1


def test_the_manifest_counts_and_hashes(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    counts = demo.counts()
    assert {name: n for name, n in snapshot.rows.items() if n} == {
        "queues": 2,
        "people": 4,
        "chats": 60,
        "reasoning_steps": counts.steps,
        "chat_feedback": counts.ratings,
    }
    assert snapshot.facts["raters"] == 4
    assert snapshot.facts["demo_ratings"] == counts.ratings
    assert (
        sum(snapshot.facts["scores"].values())
        == snapshot.facts["step_ratings"] + snapshot.facts["answer_ratings"]
        == counts.ratings
    )
    snapshots.find(demo, snapshot.id, verify=True)


def test_people_appear_under_pseudonyms_and_the_key_stays_outside(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    users = {profile.user_id for profile in demo.store.profiles()}
    raters = set(snapshot.table("chat_feedback")["rater"].to_pylist())
    assert len(raters) == 4
    assert not raters & users
    key = demo.workspace.keys / "pseudonym.key"
    assert key.stat().st_mode & 0o077 == 0
    everything = b"".join(path.read_bytes() for path in snapshot.folder.rglob("*") if path.is_file())
    assert key.read_bytes() not in everything
    assert not any(user.encode() in everything for user in users)


def test_days_leave_older_feedback_out(demo: Workbench, ana: Session) -> None:
    chat = demo.store.search_chats(limit=1)[0]
    demo.store.for_user(ana).rate(chat.id, None, 4, "stars")
    recent, _ = snapshots.take(demo, days=1)
    assert recent.ratings == 1
    assert recent.rows["chats"] == 60


def test_an_empty_store_has_no_snapshot(workbench: Workbench) -> None:
    with pytest.raises(NotEnoughData, match="Import chats or load the demo"):
        snapshots.take(workbench)
    assert list(workbench.workspace.snapshots.iterdir()) == []


def test_chats_without_ratings_can_be_frozen(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"query": "q", "response": "r"})
    assert snapshots.take(workbench)[0].ratings == 0


def test_a_changed_file_is_found_out(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    (chats,) = snapshot.files("chats")
    with chats.open("r+b") as file:
        file.seek(100)
        file.write(b"\x00\x01")
    with pytest.raises(CorruptArtifact, match=r"chats/\d{4}-\d\d-000\.parquet was changed"):
        snapshots.find(demo, snapshot.id, verify=True)
    chats.unlink()
    with pytest.raises(CorruptArtifact, match="lacks chats"):
        snapshots.find(demo, snapshot.id, verify=True)


def test_a_broken_manifest_is_left_out_of_the_list_and_named_when_asked_for(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    (snapshot.folder / "manifest.json").write_text("{}")
    assert snapshots.listing(demo) == []
    with pytest.raises(CorruptArtifact, match="broken manifest"):
        snapshots.find(demo, snapshot.id)


def test_ids_may_be_shortened_but_not_guessed(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    assert snapshots.find(demo, snapshot.id[:4]).id == snapshot.id
    for wrong in ("", "zzz", "../keys"):
        with pytest.raises(NotFound, match=snapshot.id):
            snapshots.find(demo, wrong)


KILLED = """
import os, signal
import rlhf_core.analytics.taking as module
real = module.write_json
module.write_json = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench
snapshots.take(Workbench.open())
"""


def test_a_kill_leaves_no_half_snapshot(demo: Workbench, root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=PROJECT_ROOT, env=os.environ | {WORKSPACE_VARIABLE: str(root)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert [path.name.startswith(".") for path in demo.workspace.snapshots.iterdir()] == [True]
    assert snapshots.listing(demo) == []
    taken, new = snapshots.take(demo)
    assert new
    assert [path.name for path in demo.workspace.snapshots.iterdir()] == [taken.id]


def test_two_processes_at_once_agree(demo: Workbench, root: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "rlhf_core", "snapshot"], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True,
            env=os.environ | {WORKSPACE_VARIABLE: str(root)}, stderr=subprocess.DEVNULL,
        )
        for _ in range(3)
    ]  # fmt: skip
    ids = {process.communicate(timeout=60)[0] for process in processes}
    assert len(ids) == 1
    assert len(list(demo.workspace.snapshots.iterdir())) == 1


def test_a_full_disk_leaves_nothing_behind(demo: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rlhf_core.analytics.taking.pq.ParquetWriter", full)
    with pytest.raises(StorageFull, match="taking a snapshot"):
        snapshots.take(demo)
    assert list(demo.workspace.snapshots.iterdir()) == []


def test_the_command_prints_the_id(demo: Workbench, root: Path) -> None:
    done = command("snapshot", root=root)
    assert done.stdout.strip() == snapshots.listing(demo)[0].id
    assert done.stdout.strip() in command("snapshots", root=root).stdout


def test_manifest_is_json_a_person_can_read(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    manifest = json.loads((snapshot.folder / "manifest.json").read_text())
    assert set(manifest) == {"id", "format", "created_at", "workbench", "rules", "facts", "content_sha256", "files"}
    assert manifest["created_at"] <= utc_now()


def test_a_damaged_snapshot_is_put_right_by_taking_it_again(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    for damage in (
        lambda: snapshot.files("chat_feedback")[0].unlink(),
        lambda: (snapshot.folder / "manifest.json").write_text("{}"),
    ):
        damage()
        again, new = snapshots.take(demo)
        assert new
        assert again.id == snapshot.id
        snapshots.find(demo, snapshot.id, verify=True)


@pytest.mark.parametrize("text", ["", "zz", "abcd"])
def test_a_damaged_key_is_never_used(demo: Workbench, text: str) -> None:
    demo.workspace.keys.joinpath("pseudonym.key").write_text(text)
    with pytest.raises(CorruptArtifact, match="pseudonym key .* is damaged"):
        snapshots.take(demo)


def test_strange_folders_do_not_stop_it(demo: Workbench) -> None:
    (demo.workspace.snapshots / ".building-x").mkdir()
    assert snapshots.take(demo)[1]
    assert len(list(demo.workspace.snapshots.iterdir())) == 1
