"""A run's record in its own folder: what its two sides write, and tries that are told apart."""

import os
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rlhf_core.ground.errors import CorruptArtifact, NotFound, RunRefused
from rlhf_core.ground.runs import ORDER_FILE, TOLD_FILE, Run
from rlhf_core.runs.recording import Recorder, record_run
from rlhf_core.store.folder_runs import FolderRecord, Order, read_order, read_told, write_order

VALUES = {
    "id": "r1", "kind": "reward", "status": "queued", "config": {"a": 1}, "snapshot_id": "s", "step": 0, "priority": 0,
    "created_at": "2026-01-01T00:00:00.000000Z", "pausing": False, "engine": "cluster", "resources": {}, "attempt": 1,
    "holds": False,
}  # fmt: skip
RUN = Run(**(dict.fromkeys(Run.__dataclass_fields__) | VALUES))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_order(tmp_path / "r1", Order(RUN, "0.1.0"))
    return tmp_path / "r1"


def test_what_one_side_writes_the_other_reads(folder: Path) -> None:
    record = FolderRecord(folder, 1)
    assert asdict(read_order(folder).run) == asdict(RUN)
    assert read_told(folder, 1) is None
    assert record.get("r1").status == "queued"
    with pytest.raises(NotFound, match="is the folder of run r1"):
        record.get("r2")
    assert record.beat("r1", "x", 1, 2) is None  # it has not begun
    assert record.finish("r1", "succeeded", "m", "c") is False
    record.claim("r1", "node")
    with pytest.raises(RunRefused, match="is running, not queued"):
        record.claim("r1", "node")
    record.set_process("r1", "node", os.getpid(), 12.5)
    assert (record.get("r1").status, record.get("r1").pid, record.get("r1").host) == ("running", os.getpid(), "node")
    beats = read_told(folder, 1).beats  # type: ignore[union-attr]
    run = record.beat("r1", "training", 3, 10)
    assert run is not None
    assert run.cancel_requested is None
    told = read_told(folder, 1)
    assert told is not None
    assert (told.phase, told.step, told.total_steps, told.beats) == ("training", 3, 10, beats + 1)
    assert record.request_pause("r1").pausing
    assert read_told(folder, 1).wants_pause  # type: ignore[union-attr]
    assert record.finish("r1", "succeeded", "done", "reward-1")
    assert read_told(folder, 1).end == {"status": "succeeded", "message": "done", "checkpoint_id": "reward-1", "remedy": None}  # type: ignore[union-attr]
    assert record.get("r1").status == "succeeded"
    assert record.beat("r1", "x", 4, 10) is None


def test_a_cancel_is_heard_with_the_next_beat(folder: Path) -> None:
    record = FolderRecord(folder, 1)
    record.claim("r1", "node")
    write_order(folder, Order(replace(RUN, cancel_requested="2026-01-01T00:00:00.000000Z", pausing=True), "0.1.0"))
    run = record.beat("r1", "training", 1, 2)
    assert run is not None
    assert run.cancel_requested
    assert run.pausing


@pytest.mark.parametrize("order", [Order(RUN, "0.1.0", over=True), Order(replace(RUN, attempt=2), "0.1.0")])
def test_a_try_that_was_given_up_hears_that_it_has_to_end(folder: Path, order: Order) -> None:
    old = FolderRecord(folder, 1)
    old.claim("r1", "node")
    write_order(folder, order)
    assert old.get("r1").status == "lost"
    assert old.beat("r1", "training", 1, 2) is None
    assert old.finish("r1", "succeeded", "late", "reward-1") is False
    with pytest.raises(RunRefused):
        FolderRecord(folder, 1).claim("r1", "node")
    if not order.over:
        assert read_told(folder, 2) is None  # what the old one said is not the new one's
        assert FolderRecord(folder, 2).claim("r1", "other").status == "running"


def test_a_run_that_is_carried_out_by_its_folder_ends_where_it_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_core.runs.recording.HEARTBEAT_S", 0.05)

    def body(recorder: Recorder) -> tuple[str, str]:
        write_order(folder, Order(RUN, "0.1.0", over=True))
        end = time.monotonic() + 20
        while not recorder.should_stop:
            assert time.monotonic() < end
            time.sleep(0.02)
        return "it went on", "c"

    record_run(FolderRecord(folder, 1), "r1", folder, body, own_log=True)
    told = read_told(folder, 1)
    assert told is not None
    assert told.end is None  # nobody asks for its end any more
    assert "no longer listed as running" in (folder / "log.txt").read_text()


def test_an_end_is_not_overwritten_by_a_heartbeat(folder: Path) -> None:
    record = FolderRecord(folder, 1)
    record.claim("r1", "node")
    over = threading.Event()

    def beat() -> None:
        while not over.is_set():
            record.beat("r1", "training", 1, 2)

    beats = [threading.Thread(target=beat) for _ in range(3)]
    for one in beats:
        one.start()
    time.sleep(0.1)
    assert record.finish("r1", "failed", "why", None)
    time.sleep(0.1)
    over.set()
    for one in beats:
        one.join()
    told = read_told(folder, 1)
    assert told is not None
    assert told.end is not None
    assert told.end["message"] == "why"


@pytest.mark.parametrize("name", [ORDER_FILE, TOLD_FILE])
@pytest.mark.parametrize("text", ["", "[]", '{"attempt": "x"}', "\x00\x01"])
def test_a_broken_file_is_named(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(CorruptArtifact, match=name):
        read_order(folder) if name == ORDER_FILE else read_told(folder, 1)
