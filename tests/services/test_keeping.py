"""Snapshots and checkpoints in the depot, and people who are erased from it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from rlhf_core.analytics.snapshot import Snapshot, open_snapshot
from rlhf_core.checkpoints.registry import Checkpoint, open_checkpoint, seal
from rlhf_core.depot.depot import Depot
from rlhf_core.ground import depots, settings
from rlhf_core.ground.depots import DepotSettings, depot_settings
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, NotFound, StorageUnavailable
from rlhf_core.ground.files import building, sha256_of
from rlhf_core.services import erasing, keeping, querying, snapshots
from rlhf_core.services.workbench import Workbench
from tests.conftest import command
from tests.depot.s3 import BUCKET, S3
from tests.supervisor.test_supervise import until


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    one = S3()
    yield one
    one.close()


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "secrets.toml"
    monkeypatch.setattr(settings, "SECRETS_FILES", (path,))
    return path


@pytest.fixture
def nas(tmp_path: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(depots.DEPOT_VARIABLE, f"file://{tmp_path / 'nas'}")
    return tmp_path / "nas"


@pytest.fixture
def cloud(s3: S3, secrets: Path, tmp_path: Path) -> DepotSettings:
    secrets.write_text(
        f'[depot]\nurl = "s3://{BUCKET}/{tmp_path.name}"\npatience_s = 2\n[depot.options]\nkey = "key"\nsecret = "secret"\n'
        f'endpoint_url = "{s3.address}"\n'
    )
    return depot_settings()


def checkpoint(workbench: Workbench) -> Checkpoint:
    home = workbench.workspace.checkpoints
    with building(home) as scratch:
        (scratch / "weights.safetensors").write_bytes(b"w" * 1000)
        return seal(
            scratch, home, kind="reward", run_id="r", snapshot_id="s", parent="p", complete=True, config={}, metrics={},
            scoring={}, libraries={},
        )  # fmt: skip


def test_settings(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keeping.settings() is None
    with pytest.raises(NotFound, match="No depot is set"):
        depot_settings()
    secrets.write_text('[depot]\nurl = "s3://bucket/x/"\npatience_s = 7\n[depot.options]\nkey = "k"\n')
    assert depot_settings() == DepotSettings("s3://bucket/x", {"key": "k"}, 7.0)
    assert "'k'" not in repr(depot_settings())
    monkeypatch.setenv(depots.DEPOT_VARIABLE, "file:///mnt/nas")
    assert depot_settings().url == "file:///mnt/nas"
    for text, said in (
        ('[depot]\nurl = "bucket"', "expected PROTOCOL://PLACE"),
        ("[depot]\nurl = 3", "url .* is 3; expected str"),
        ('[depot]\nadress = "s3://b"', "no setting 'adress'"),
        ('[depot]\nurl = "s3://b"\npatience_s = -1', "expected 0 or more"),
    ):
        monkeypatch.delenv(depots.DEPOT_VARIABLE, raising=False)
        secrets.write_text(text)
        with pytest.raises(InvalidInput, match=said):
            depot_settings()


@pytest.mark.slow
def test_a_snapshot_and_a_checkpoint_go_there_and_come_back(judged: Workbench, cloud: DepotSettings) -> None:
    taken, made = snapshots.take(judged)[0], checkpoint(judged)
    for one in (taken.id[:8], made.id):
        keeping.keep(judged, one)
    assert {one.id for one in keeping.listing(judged)} == {taken.id, made.id}
    keeping.verify(judged, made.id)
    snapshots.remove(judged, taken.id, even_if_used=True)
    (judged.workspace.checkpoints / made.id / "weights.safetensors").unlink()
    with pytest.raises(CorruptArtifact):
        keeping.keep(judged, made.id)
    (judged.workspace.checkpoints / made.id).rename(judged.workspace.root / "elsewhere")
    assert keeping.fetch(judged, made.id)[0] == made.id
    open_checkpoint(judged.workspace.checkpoints, made.id, verify=True)
    with pytest.raises(NotFound, match="is gone since .*removed"):  # what was removed on purpose does not come back by the way
        keeping.fetch(judged, taken.id)
    assert keeping.drop(judged, made.id) == made.id
    assert {one.id for one in keeping.listing(judged)} == {taken.id}


@pytest.mark.slow
def test_a_snapshot_is_asked_where_it_is(judged: Workbench, cloud: DepotSettings, s3: S3) -> None:
    taken = snapshots.take(judged)[0]
    keeping.keep(judged, taken.id)
    statement = (
        "SELECT rater, count(*) AS n, avg(feedback_score) AS mean FROM chat_feedback f JOIN chats c ON c.id = f.chat_id "
        "GROUP BY rater ORDER BY rater"
    )
    there, by = keeping.ask_there(judged, taken.id, statement)
    assert by == "pyarrow"  # the extension cannot be had here
    expected = (
        taken.table("chat_feedback").to_pandas().groupby("rater", as_index=False)
        .agg(n=("id", "count"), mean=("feedback_score", "mean")).sort_values("rater").reset_index(drop=True)
    )  # fmt: skip
    pd.testing.assert_frame_equal(there, expected, check_dtype=False)
    assert len(there) > 1
    for wrong, said in (
        ("SELECT * FROM nothing", "does not work: .*nothing"),
        ("SELECT 1; SELECT 2", "Ask one statement"),
        ("SELECT * FROM read_csv('/etc/passwd')", "does not work: .*disabled"),
        ("COPY chats TO '/tmp/x.csv'", "does not work"),
        ("SET enable_external_access = true", "does not work"),
    ):
        with pytest.raises(InvalidInput, match=said):
            keeping.ask_there(judged, taken.id, wrong)


def kept_with(workbench: Workbench, person: str) -> list[str]:
    """Snapshots in the depot in which somebody stands, by reading each there."""
    pseudonym = erasing._pseudonym(workbench, person)
    found = []
    for one in keeping.listing(workbench):
        answer, _ = keeping.ask_there(workbench, one.id, f"SELECT count(*) AS n FROM chat_feedback WHERE rater = '{pseudonym}'")
        if answer["n"][0]:
            found.append(one.id)
    return found


@pytest.fixture
def kept_twice(judged: Workbench, nas: Path) -> tuple[Workbench, Snapshot, Snapshot]:
    """Two snapshots in the depot, the older one there alone."""
    first = snapshots.take(judged)[0]
    keeping.keep(judged, first.id)
    judged.embedded.add_profile("x", "Somebody else", "local")
    second = snapshots.take(judged, days=36_000)[0]
    (judged.workspace.snapshots / first.id).rename(judged.workspace.root / "gone")
    if second.id != first.id:
        keeping.keep(judged, second.id)
    return judged, first, second


def test_who_is_erased_goes_from_the_depot_too(kept_twice: tuple[Workbench, Snapshot, Snapshot]) -> None:
    workbench, first, _ = kept_twice
    person = next(one for one in workbench.embedded.profiles() if kept_with(workbench, one.user_id))
    before = {one.id for one in keeping.listing(workbench)}
    done = erasing.erase(workbench, workbench.session(person))
    assert first.id in {old for old, _ in done.snapshots}
    assert kept_with(workbench, person.user_id) == []
    after = {one.id for one in keeping.listing(workbench)}
    assert first.id not in after
    assert len(after) == len({new for _, new in done.snapshots} | (after & before))
    assert not (workbench.workspace.snapshots / first.id).exists()


def test_a_depot_that_is_away_is_told_and_it_is_done_again(
    kept_twice: tuple[Workbench, Snapshot, Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    workbench, _, _ = kept_twice
    person = next(one for one in workbench.embedded.profiles() if kept_with(workbench, one.user_id))
    with monkeypatch.context() as away:
        away.setattr(Depot, "remove", lambda *_: (_ for _ in ()).throw(StorageUnavailable("away")))
        with pytest.raises(StorageUnavailable, match="away"):
            erasing.erase(workbench, workbench.session(person))
    assert kept_with(workbench, person.user_id)
    erasing.erase(workbench, workbench.session(person))
    assert kept_with(workbench, person.user_id) == []


def test_what_is_fetched_comes_without_those_who_were_erased(
    judged: Workbench, nas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = snapshots.take(judged)[0]
    keeping.keep(judged, taken.id)
    person = next(one for one in judged.embedded.profiles() if kept_with(judged, one.user_id))
    (judged.workspace.snapshots / taken.id).rename(judged.workspace.root / "gone")
    (judged.workspace.root / "depot.json").unlink()
    with monkeypatch.context() as unset:  # as on a machine that knew no depot then
        unset.delenv(depots.DEPOT_VARIABLE)
        erasing.erase(judged, judged.session(person))
    assert kept_with(judged, person.user_id) == [taken.id]
    came, _ = keeping.fetch(judged, taken.id)
    assert came != taken.id
    assert [one.id for one in keeping.listing(judged)] == [came]  # nor do they stay there
    pseudonym = erasing._pseudonym(judged, person.user_id)
    assert pseudonym not in set(open_snapshot(judged.workspace.snapshots, came).table("chat_feedback")["rater"].to_pylist())


def test_a_copy_that_was_broken_off_keeps_nobody(judged: Workbench, nas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = snapshots.take(judged)[0]
    with monkeypatch.context() as cut:
        cut.setattr(Depot, "_write", lambda *_: (_ for _ in ()).throw(StorageUnavailable("cut")))  # all but the manifest
        with pytest.raises(StorageUnavailable):
            keeping.keep(judged, taken.id)
    assert list((nas / "snapshots").rglob("*.parquet"))
    assert keeping.listing(judged) == []
    (judged.workspace.snapshots / ".pulling-0123").mkdir()
    erasing.erase(judged, judged.session(judged.embedded.profiles()[0]))
    assert not list((nas / "snapshots").rglob("*.parquet"))
    assert not (judged.workspace.snapshots / ".pulling-0123").exists()


def test_without_its_settings_nobody_is_erased_by_half(judged: Workbench, nas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeping.keep(judged, snapshots.take(judged)[0].id)
    monkeypatch.delenv(depots.DEPOT_VARIABLE)
    with pytest.raises(InvalidInput, match="has copies in file://.*no depot is set here"):
        erasing.erase(judged, judged.session(judged.embedded.profiles()[0]))


def test_two_are_erased_again_after_a_backup(judged: Workbench, nas: Path) -> None:
    keeping.keep(judged, snapshots.take(judged)[0].id)
    people = [one for one in judged.embedded.profiles() if kept_with(judged, one.user_id)][:2]
    erasing.erase_again(judged, [erasing._pseudonym(judged, one.user_id) for one in people])
    assert [kept_with(judged, one.user_id) for one in people] == [[], []]


def test_who_came_back_after_an_erasure_stays(judged: Workbench, nas: Path) -> None:
    taken = snapshots.take(judged)[0]
    keeping.keep(judged, taken.id)
    person = next(one for one in judged.embedded.profiles() if kept_with(judged, one.user_id))
    line = {"pseudonym": erasing._pseudonym(judged, person.user_id), "at": "2020-01-01T00:00:00.000000Z", "chats": False}
    (judged.workspace.root / erasing.ERASED_FILE).write_text(json.dumps(line) + "\n")  # long before what they said now
    (judged.workspace.snapshots / taken.id).rename(judged.workspace.root / "gone")
    assert keeping.fetch(judged, taken.id)[0] == taken.id


def test_a_checkpoint_with_code_in_it_is_never_seen(judged: Workbench, nas: Path) -> None:
    made = checkpoint(judged)
    keeping.keep(judged, made.id)
    (judged.workspace.checkpoints / made.id).rename(judged.workspace.root / "gone")
    there = nas / "checkpoints" / made.id
    manifest = json.loads((there / "manifest.json").read_text())
    (there / "model.py").write_text("print()")
    manifest["files"]["model.py"] = {"size_bytes": 7, "sha256": sha256_of(there / "model.py")}
    (there / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CorruptArtifact, match=r"model\.py|manifest of checkpoint"):
        keeping.fetch(judged, made.id)
    assert not (judged.workspace.checkpoints / made.id).exists()
    assert keeping.drop(judged, made.id) == made.id


@pytest.mark.slow
def test_by_the_command(judged: Workbench, root: Path, nas: Path) -> None:
    taken, made = snapshots.take(judged)[0], checkpoint(judged)
    assert "only here" in command("depot", root=root).stdout
    done = command("depot", "keep", "--all", root=root).stdout
    assert done.count("MiB went over") == 2
    assert command("depot", "keep", "--all", root=root).stdout == "Nothing to do.\n"
    assert command("depot", root=root).stdout.count("here too") == 2
    assert "every file there is what its manifest says" in command("depot", "verify", taken.id[:6], root=root).stdout
    said = command("sql", "SELECT count(*) AS n FROM chats", "--there", "--snapshot", taken.id[:6], root=root)
    assert said.stdout == f"n\n{taken.rows['chats']}\n"
    local = querying.run(judged, taken.id, "SELECT count(*) AS n FROM chats").result()
    assert said.stdout.split()[1] == str(local.read(0, 1)["n"][0])
    local.drop()
    assert "gone from the depot" in command("depot", "drop", made.id, root=root).stdout


def test_an_errand_in_the_background(judged: Workbench, nas: Path) -> None:
    taken = snapshots.take(judged)[0]
    assert keeping.errand(taken.id) is None
    keeping.send_for(judged, "keep", taken.id)
    done = until(lambda: (found := keeping.errand(taken.id)) and found.over and found)
    assert (done.what, done.problem) == ("keep", "")
    keeping.send_for(judged, "keep", "0000")
    assert "No snapshot begins" in until(lambda: (found := keeping.errand("0000")) and found.problem)
