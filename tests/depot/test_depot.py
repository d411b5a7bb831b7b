"""Copies in a real S3-compatible server over HTTP, and in a folder: whole or not at all, gone on with, compared by hash."""

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.depot.depot import Depot
from rlhf_core.ground.depots import DepotSettings
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, NotFound, StorageUnavailable
from rlhf_core.ground.files import sha256_of
from tests.depot.s3 import BUCKET, S3

pytestmark = pytest.mark.slow  # a real server, and lines that are cut
MIB = 2**20


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    one = S3()
    yield one
    one.close()


@pytest.fixture(params=["s3", "file"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> DepotSettings:
    if request.param == "file":
        return DepotSettings(f"file://{tmp_path / 'nas'}", patience_s=0.0)
    return of_s3(request.getfixturevalue("s3"), tmp_path)


def of_s3(s3: S3, tmp_path: Path, patience_s: float = 3.0) -> DepotSettings:
    return DepotSettings(f"s3://{BUCKET}/{tmp_path.name}", s3.options, patience_s)


def artifact(home: Path, name: str = "a1", sizes: tuple[int, ...] = (10, 2000, 0)) -> Path:
    folder = home / name
    (folder / "deep").mkdir(parents=True)
    for k, size in enumerate(sizes):
        (folder / ("deep" if k % 2 else "") / f"f{k}").write_bytes(os.urandom(size))
    seal(folder)
    return folder


def seal(folder: Path) -> None:
    files = {
        str(path.relative_to(folder)): {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "manifest.json"
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"id": folder.name, "created_at": "2026-01-01", "files": files}))


def same(one: Path, other: Path) -> bool:
    def of(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")
                if path.is_file() and path.name != "manifest.json"}  # fmt: skip

    return of(one) == of(other)


def test_there_and_back(settings: DepotSettings, tmp_path: Path) -> None:
    depot, folder = Depot(settings), artifact(tmp_path / "here")
    assert depot.listing("snapshots") == []
    moved = depot.push("snapshots", folder)
    assert (moved.sent_bytes, moved.there_bytes) == (2010, 0)
    (kept,) = depot.listing("snapshots")
    assert (kept.id, kept.size_bytes, depot.listing("checkpoints")) == ("a1", 2010, [])
    assert depot.verify("snapshots", "a") == kept
    assert depot.push("snapshots", folder).sent_bytes == 0  # nothing is sent twice
    there, _ = depot.pull("snapshots", "a1", tmp_path / "there")
    assert same(there, folder)
    assert depot.pull("snapshots", "a1", tmp_path / "there")[1].sent_bytes == 0
    depot.remove("snapshots", "a1")
    depot.remove("snapshots", "a1")
    assert depot.listing("snapshots") == []
    with pytest.raises(NotFound, match="None of the snapshots .* begin with 'a1'"):
        depot.pull("snapshots", "a1", tmp_path / "again")


def test_what_is_damaged_is_named(settings: DepotSettings, tmp_path: Path) -> None:
    depot, folder = Depot(settings), artifact(tmp_path / "here")
    depot.push("snapshots", folder)
    at = depot.path("snapshots", "a1", "deep/f1")
    depot.filesystem.pipe_file(at, b"x" * 2000)  # as large as it should be
    with pytest.raises(CorruptArtifact, match="a1 in .*: deep/f1 is missing or not what was sent"):
        depot.verify("snapshots", "a1")
    with pytest.raises(CorruptArtifact, match="deep/f1 in .* is missing or not what was sent"):
        depot.pull("snapshots", "a1", tmp_path / "there")
    assert not (tmp_path / "there" / "a1").exists()
    assert depot.push("snapshots", folder).sent_bytes == 2000  # mended by sending it again
    assert same(depot.pull("snapshots", "a1", tmp_path / "there")[0], folder)
    (folder / "f0").write_bytes(b"other bytes")
    with pytest.raises(CorruptArtifact, match="f0 here is not the file that its manifest names"):
        depot.push("snapshots", folder)


def test_without_its_manifest_nothing_is_there(settings: DepotSettings, tmp_path: Path) -> None:
    depot, folder = Depot(settings), artifact(tmp_path / "here")
    depot.push("snapshots", folder)
    depot.filesystem.rm(depot._at("snapshots", "a1", "manifest.json"))
    assert depot.listing("snapshots") == []
    with pytest.raises(NotFound):
        depot.find("snapshots", "a1")


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/../../x", "manifest.json", ""])
def test_names_that_lead_elsewhere(settings: DepotSettings, tmp_path: Path, name: str) -> None:
    depot, folder = Depot(settings), artifact(tmp_path / "here")
    depot.push("snapshots", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"size_bytes": 1, "sha256": "0"}
    depot.filesystem.pipe_file(depot._at("snapshots", "a1", "manifest.json"), json.dumps(manifest).encode())
    with pytest.raises(CorruptArtifact, match="which no artifact has"):
        depot.pull("snapshots", "a1", tmp_path / "there")
    with pytest.raises(InvalidInput, match="the id of nothing"):
        depot.remove("snapshots", "../x")


# The line, and what is on its other end.
def test_cut_in_the_midst_of_sending_it_goes_on(s3: S3, tmp_path: Path) -> None:
    folder = artifact(tmp_path / "here", sizes=(3 * MIB, 3 * MIB, 3 * MIB))
    depot = Depot(of_s3(s3, tmp_path, patience_s=0.0))
    s3.cut_after = s3.sent + 5 * MIB
    try:
        with pytest.raises(StorageUnavailable, match="did not answer for 0 s .*What was copied stays"):
            depot.push("snapshots", folder)
    finally:
        s3.cut_after = None
        s3.cut.clear()
    assert depot.listing("snapshots") == []  # nobody takes half of it for whole
    before = s3.sent
    moved = depot.push("snapshots", folder)
    assert (moved.sent_bytes, moved.there_bytes) == (6 * MIB, 3 * MIB)
    assert s3.sent - before < 7 * MIB
    depot.verify("snapshots", "a1")


def test_cut_in_the_midst_of_fetching_it_goes_on_inside_the_file(s3: S3, tmp_path: Path) -> None:
    folder = artifact(tmp_path / "here", sizes=(24 * MIB,))
    depot = Depot(of_s3(s3, tmp_path, patience_s=0.0))
    depot.push("snapshots", folder)
    s3.cut_after_got = s3.got + 15 * MIB
    try:
        with pytest.raises(StorageUnavailable):
            depot.pull("snapshots", "a1", tmp_path / "there")
    finally:
        s3.cut_after_got = None
        s3.cut.clear()
    assert not (tmp_path / "there" / "a1").exists()
    before = s3.got
    there, moved = depot.pull("snapshots", "a1", tmp_path / "there")
    assert same(there, folder)
    assert moved.there_bytes >= 8 * MIB
    assert s3.got - before < 20 * MIB


def test_killed_and_begun_anew_in_the_midst_of_sending(tmp_path: Path) -> None:
    """The server forgets what it had; the copy waits for it, and is whole in the end."""
    s3 = S3()
    try:
        folder = artifact(tmp_path / "here", sizes=(2 * MIB, 2 * MIB, 2 * MIB, 2 * MIB))
        depot = Depot(of_s3(s3, tmp_path, patience_s=60.0))
        said: list[str] = []

        def say(words: str) -> None:
            said.append(words)
            if len(said) == 2:  # two files are there
                s3.kill()
                s3.cut.set()
                threading.Thread(target=restart).start()

        def restart() -> None:
            time.sleep(1.0)
            s3.start()
            s3.cut.clear()

        depot.push("snapshots", folder, say)
        assert len(said) == 4
        depot.verify("snapshots", "a1")
        assert same(depot.pull("snapshots", "a1", tmp_path / "there")[0], folder)
    finally:
        s3.close()


def test_a_place_that_is_not_there_is_named_in_good_time(tmp_path: Path, s3: S3) -> None:
    nobody = s3.options | {"endpoint_url": "http://127.0.0.1:9"}
    with pytest.raises(StorageUnavailable, match="did not answer for 1 s"):
        Depot(DepotSettings("s3://bucket/x", nobody, 1.0)).listing("snapshots")
    with pytest.raises(StorageUnavailable, match="cannot work: .*bucket"):
        Depot(replace(of_s3(s3, tmp_path), url="s3://no-such-bucket/x")).push("snapshots", artifact(tmp_path / "here"))
    with pytest.raises(InvalidInput, match="nowhere"):
        Depot(DepotSettings("nowhere://x")).listing("snapshots")


def test_wrong_keys_are_said_at_once(tmp_path: Path) -> None:
    s3 = S3(refuses=True)
    try:
        begun = time.monotonic()
        with pytest.raises(StorageUnavailable, match="does not let us in|cannot work"):
            Depot(of_s3(s3, tmp_path, patience_s=60.0)).push("snapshots", artifact(tmp_path / "here"))
        assert time.monotonic() - begun < 30
    finally:
        s3.close()


def test_a_full_disk_leaves_nothing_half(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from rlhf_core.ground.errors import StorageFull

    depot, folder = Depot(of_s3(s3, tmp_path, patience_s=0.0)), artifact(tmp_path / "here")
    depot.push("snapshots", folder)
    true_open: Any = Path.open

    def full(self: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        if mode == "ab" and "there" in self.parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        return true_open(self, mode, *more, **named)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StorageFull, match="fetching from the depot"):
        depot.pull("snapshots", "a1", tmp_path / "there")
    monkeypatch.undo()
    assert not (tmp_path / "there" / "a1").exists()
    assert same(depot.pull("snapshots", "a1", tmp_path / "there")[0], folder)
