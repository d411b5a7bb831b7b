import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rlhf_core.analytics.explorer import forget
from rlhf_core.analytics.pseudonyms import Pseudonyms, pseudonym_key
from rlhf_core.analytics.snapshot import EXPLORE
from rlhf_core.analytics.taking import _Converter
from rlhf_core.ground.errors import CorruptArtifact, NotEnoughData, NotFound, RunRefused, StorageFull
from rlhf_core.ground.records import Session, utc_now
from rlhf_core.ground.settings import PROJECT_ROOT, WORKSPACE_VARIABLE
from rlhf_core.ground.tables import parts_of
from rlhf_core.services import erasing, snapshots
from rlhf_core.services.sentences import SAYS, sentence
from rlhf_core.services.workbench import Workbench
from tests.conftest import command


def folders(workbench: Workbench) -> list[str]:
    """What is there beside what questions are asked of."""
    return sorted(path.name for path in workbench.workspace.snapshots.iterdir() if path.name != EXPLORE)


def test_the_same_data_gives_the_same_id(demo: Workbench) -> None:
    first, new = snapshots.take(demo)
    assert new
    again, new = snapshots.take(demo)
    assert not new
    assert again == first
    assert len(folders(demo)) == 1


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
    assert folders(demo) == [taken.id]


@pytest.mark.slow
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
    assert len(folders(demo)) == 1


def test_a_full_disk_leaves_nothing_behind(demo: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rlhf_core.analytics.taking.pq.ParquetWriter", full)
    with pytest.raises(StorageFull, match="taking a snapshot"):
        snapshots.take(demo)
    assert list(demo.workspace.snapshots.iterdir()) == []


@pytest.mark.slow
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
    assert len(folders(demo)) == 1


def test_unchanged_files_are_shared(demo: Workbench, ana: Session) -> None:
    first, _ = snapshots.take(demo)
    chat = demo.store.search_chats(limit=1)[0]
    demo.store.for_user(ana).rate(chat.id, None, 4, "stars")
    second, _ = snapshots.take(demo)
    there = [name for name in second.manifest["files"] if (first.folder / name).is_file()]
    shared = [name for name in there if (first.folder / name).samefile(second.folder / name)]
    own = set(second.manifest["files"]) - set(shared)
    assert {name.partition("/")[0] for name in own} <= {"chat_feedback", "people"}
    assert any(name.startswith("chats/") for name in shared)
    found = {one.table: (one.added, one.removed, one.changed) for one in snapshots.difference(demo, first.id, second.id)}
    assert found["chat_feedback"] == (1, 0, 0)
    assert found["chats"] == (0, 0, 0)
    demo.store.for_user(ana).rate(chat.id, None, 2, "stars")
    third, _ = snapshots.take(demo)
    assert {one.table: one.changed for one in snapshots.difference(demo, second.id, third.id)}["chat_feedback"] == 1
    snapshots.remove(demo, first.id)
    snapshots.find(demo, second.id, verify=True)
    with pytest.raises(NotFound, match=f"{first.id} is gone since .*: it was removed"):
        snapshots.find(demo, first.id)


def test_months_and_parts(workbench: Workbench, add_chats: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of reading a store cut it alike."""
    monkeypatch.setattr("rlhf_core.store.sqlite_export.PART_ROWS", {"chats": 3, "reasoning_steps": 3})
    monkeypatch.setattr("rlhf_core.store.sqlite_export.OTHER_PART_ROWS", 4)
    monkeypatch.setattr("rlhf_core.store.sqlite_export.CHATS_AT_ONCE", 2)
    monkeypatch.setattr("rlhf_core.ground.tables.PART_ROWS", {"chats": 3, "reasoning_steps": 3})
    monkeypatch.setattr("rlhf_core.ground.tables.OTHER_PART_ROWS", 4)
    judged = {"step_labels": [1, -1], "steps": ["a", "b"]}
    add_chats(*(
        judged | {"query": f"q{k} \u00e9", "created_at": f"2026-0{1 + k // 5}-0{1 + k % 5}T00:00:00Z", "score": 1 + k % 5,
                  "comment": None if k % 3 else f"w{k}", "model": None if k % 2 else "m"}
        for k in range(12)
    ))  # fmt: skip
    seen: dict[str, dict[str, list[Any]]] = {}
    with workbench.store.export() as export:
        for table in ("chats", "reasoning_steps", "chat_feedback"):
            convert = _Converter(Pseudonyms(b"k" * 32), export.demo_raters())
            for way, parts in (("packed", export.parts(table)), ("rows", parts_of(table, export.rows(table)))):
                seen[way] = {}
                for part in parts:
                    rows = [row for batch in part.read() for row in convert(table, batch).to_pylist()]
                    seen[way][f"{part.month}-{part.number}"] = rows
            assert seen["packed"] == seen["rows"], table
            assert len(seen["packed"]) > 3


def test_odd_values_are_read_row_by_row(workbench: Workbench, add_chats: Any) -> None:
    """Ids of another width, and texts with every character."""
    odd = "line\none \u2028 \U0001f600 \t\x1f"
    with workbench.store.bulk() as (writer, _):
        writer.add_profiles([("r", "R")], "imported")
        writer.add_chats([("short", odd, odd, "s", None, None, "2026-01-01T00:00:00.000000Z")])
        writer.add_steps([("s1", "short", odd, 1, "2026-01-01T00:00:00.000000Z")])
        writer.add_feedback([("f", "short", "s1", "r", "positive", 5, "stars", odd, *["2026-01-01T00:00:00.000000Z"] * 2)])
    add_chats({"query": odd, "response": odd, "score": 2, "comment": odd})
    snapshot, _ = snapshots.take(workbench)
    assert set(snapshot.table("chats")["query"].to_pylist()) == {odd}
    assert set(snapshot.table("chat_feedback")["comment"].to_pylist()) == {odd}
    assert snapshots.answer(workbench, snapshot.id, "score_distribution")["ratings"].sum() == 2


def test_an_empty_snapshot_answers_every_question(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"query": "q", "response": "r"})
    snapshot, _ = snapshots.take(workbench)
    for question in snapshots.questions():
        frame = snapshots.answer(workbench, snapshot.id, question.name)
        assert list(frame.columns) == list(question.columns), question.name
        assert "Nothing to say yet" in sentence(question.name, frame) or len(frame) > 0


def test_a_damaged_snapshot_is_named_not_answered_from(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    path = snapshot.files("chat_feedback")[0]
    path.write_bytes(path.read_bytes()[:-7] + b"nothing")
    with pytest.raises(CorruptArtifact, match=r"chat_feedback/.*parquet was changed"):
        snapshots.answer(demo, snapshot.id, "score_distribution")


def test_what_was_prepared_is_made_again_when_it_is_damaged(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    before = snapshots.answer(demo, snapshot.id, "score_distribution")
    forget(snapshot.id)
    (prepared,) = (snapshot.folder.parent / EXPLORE).glob(f"{snapshot.id}-*.duckdb")
    prepared.write_bytes(b"rubbish" * 100)
    with pytest.raises(CorruptArtifact, match="made anew"):
        snapshots.answer(demo, snapshot.id, "score_distribution")
    assert snapshots.answer(demo, snapshot.id, "score_distribution").equals(before)


def test_who_withdraws_consent_is_left_out(demo: Workbench, ana: Session) -> None:
    chat = demo.store.search_chats(limit=1)[0]
    demo.store.for_user(ana).rate(chat.id, None, 4, "stars")
    before, _ = snapshots.take(demo)
    assert erasing.consent(demo, ana) == (None, None)
    erasing.set_consent(demo, ana, "withdrawn")
    after, _ = snapshots.take(demo)
    assert (before.ratings, before.facts["raters"]) == (after.ratings + 1, after.facts["raters"] + 1)
    assert after.facts["consent"]["withdrawn"] == 1
    erasing.set_consent(demo, ana, "given")
    again, _ = snapshots.take(demo)
    assert again.ratings == before.ratings
    assert again.facts["consent"] == {"given": 1, "not asked": 4}


def test_an_erased_person_is_in_no_snapshot(judged: Workbench, root: Path) -> None:
    ana = next(one for one in judged.people() if one.display_name == "Ana")
    first, _ = snapshots.take(judged)
    untouched = snapshots.take(judged, days=1)[0]
    assert snapshots.answer(judged, first.id, "score_distribution") is not None
    name = Pseudonyms(pseudonym_key(judged.workspace.keys))(ana.user_id)
    assert name in first.table("chat_feedback")["rater"].to_pylist()
    run = judged.ledger.add("run-1", "reward", {}, first.id, None)
    done = erasing.erase(judged, Workbench.session(ana))
    assert done.judgements > 0
    assert done.runs == [run.id]
    assert first.id in dict(done.snapshots)
    assert untouched.id in dict(done.snapshots)
    for path in judged.workspace.snapshots.rglob("*.parquet"):
        for batch in pq.ParquetFile(path).iter_batches():
            assert name not in str(batch.to_pydict()), path
    assert not list((judged.workspace.snapshots / EXPLORE).glob(f"{first.id}*"))
    with pytest.raises(NotFound, match=f"a person was erased. It became {dict(done.snapshots)[first.id]}"):
        snapshots.find(judged, first.id)
    new = snapshots.find(judged, dict(done.snapshots)[first.id], verify=True)
    assert new.facts["raters"] == first.facts["raters"] - 1
    assert sum(new.facts["scores"].values()) == new.ratings
    assert snapshots.answer(judged, new.id, "rater_workload")["ratings"].sum() == new.ratings
    assert erasing.erase(judged, Workbench.session(ana)).snapshots == []


def test_a_snapshot_that_runs_used_is_not_removed_by_the_way(demo: Workbench, root: Path) -> None:
    snapshot, _ = snapshots.take(demo)
    demo.ledger.add("run-1", "reward", {}, snapshot.id, None)
    with pytest.raises(RunRefused, match="in use by run run-1"):
        snapshots.remove(demo, snapshot.id)
    demo.ledger.request_cancel("run-1")
    with pytest.raises(RunRefused, match="even-if-used"):
        snapshots.remove(demo, snapshot.id)
    assert "Removed" in command("snapshots", "--remove", snapshot.id, "--even-if-used", root=root).stdout
    assert snapshots.listing(demo) == []


def test_sentences_are_of_questions_that_there_are() -> None:
    assert SAYS.keys() <= {one.name for one in snapshots.questions()}
