"""What a run does about itself, with a body that takes no time."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from rlhf_core.ground import machine
from rlhf_core.ground.errors import InvalidInput, NotEnoughData, RunRefused
from rlhf_core.ground.processes import this_host
from rlhf_core.runs import recording
from rlhf_core.runs.recording import Cancelled, Recorder, record_run
from rlhf_core.runs.trackers import open_tracker
from rlhf_core.store.sqlite_database import Database
from rlhf_core.store.sqlite_runs import SqliteRunLedger
from tests.conftest import write_lines


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteRunLedger:
    return SqliteRunLedger(Database(tmp_path / "s.sqlite3", busy_timeout_s=0.2))


def succeed(recorder: Recorder) -> tuple[str, str]:
    recorder.phase("training", step=1, total=1)
    return "done", "checkpoint"


def test_a_queued_run_is_claimed_and_recorded(ledger: SqliteRunLedger, tmp_path: Path) -> None:
    ledger.add("r", "reward", {}, "s", None)
    assert record_run(ledger, "r", tmp_path, succeed, own_log=True) == 0
    run = ledger.get("r")
    assert (run.status, run.checkpoint_id, run.pid, run.step) == ("succeeded", "checkpoint", os.getpid(), 1)
    assert "succeeded: done" in (tmp_path / "log.txt").read_text()


def test_an_ended_run_is_not_done_again(ledger: SqliteRunLedger, tmp_path: Path) -> None:
    ledger.add("r", "reward", {}, "s", None)
    record_run(ledger, "r", tmp_path, succeed, own_log=False)
    with pytest.raises(RunRefused, match="has ended"):
        record_run(ledger, "r", tmp_path, succeed, own_log=False)


def test_a_run_of_another_process_is_left_to_it(ledger: SqliteRunLedger, tmp_path: Path) -> None:
    ledger.add("r", "reward", {}, "s", None, this_host())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        ledger.set_process("r", this_host(), other.pid, psutil.Process(other.pid).create_time())
        with pytest.raises(RunRefused, match=f"process {other.pid}"):
            record_run(ledger, "r", tmp_path, succeed, own_log=False)
        other.kill()
    assert ledger.get("r").pid == other.pid


def test_a_bug_is_recorded_as_a_failure_with_its_traceback_in_the_log(ledger: SqliteRunLedger, tmp_path: Path) -> None:
    ledger.add("r", "reward", {}, "s", None)

    def fail(_: Recorder) -> tuple[str, str]:
        raise ZeroDivisionError("oops")

    assert record_run(ledger, "r", tmp_path, fail, own_log=True) == 1
    assert "ZeroDivisionError: oops" in (ledger.get("r").message or "")
    assert "Traceback" in (tmp_path / "log.txt").read_text()


def test_a_store_that_is_busy_for_a_while_does_not_end_a_run(
    ledger: SqliteRunLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "FINISH_WAITS_S", (0.3, 0.3, 0.3, 0.3, 0.3))
    ledger.add("r", "reward", {}, "s", None)
    holder = Database(tmp_path / "s.sqlite3")
    locked, release = threading.Event(), threading.Event()

    def hold() -> None:
        with holder.transaction():
            locked.set()
            release.wait(1.0)

    def body(recorder: Recorder) -> tuple[str, str]:
        threading.Thread(target=hold).start()
        locked.wait()
        recorder.phase("training")  # the store is locked now
        return "done", "checkpoint"

    assert record_run(ledger, "r", tmp_path, body, own_log=False) == 0
    release.set()
    assert ledger.get("r").status == "succeeded"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes")]
)
def test_memory_that_ran_out_is_named_with_what_to_change(ledger: SqliteRunLedger, tmp_path: Path, error: Exception) -> None:
    ledger.add("r", "reward", {}, "s", None)

    def fail(_: Recorder) -> tuple[str, str]:
        raise error

    assert record_run(ledger, "r", tmp_path, fail, own_log=False, remedy={"batch_size": 2}) == 1
    run = ledger.get("r")
    assert (run.status, run.remedy) == ("failed", {"batch_size": 2})
    assert "Memory ran out" in (run.message or "")
    assert "Try again with batch_size 2" in (run.message or "")


def test_other_failures_get_no_such_advice(ledger: SqliteRunLedger, tmp_path: Path) -> None:
    ledger.add("r", "reward", {}, "s", None)

    def fail(_: Recorder) -> tuple[str, str]:
        raise NotEnoughData("two ratings")

    record_run(ledger, "r", tmp_path, fail, own_log=False, remedy={"batch_size": 2})
    assert ledger.get("r").remedy is None


def test_a_run_that_pauses_itself_can_go_on(ledger: SqliteRunLedger, tmp_path: Path) -> None:
    ledger.add("r", "ppo", {}, "s", None)

    def pause(recorder: Recorder) -> tuple[str, str]:
        recorder.ask_to_pause("answers are 9 nats away")
        assert recorder.should_stop
        raise Cancelled("saved")

    assert record_run(ledger, "r", tmp_path, pause, own_log=True) == 130
    assert ledger.get("r").status == "paused"
    assert "pausing: answers are 9 nats away" in (tmp_path / "log.txt").read_text()
    assert record_run(ledger, ledger.go_on("r").id, tmp_path, succeed, own_log=False) == 0
    assert ledger.get("r").status == "succeeded"


def test_its_own_measures_after_the_saved_step_are_forgotten(ledger: SqliteRunLedger, tmp_path: Path) -> None:
    ledger.add("r", "ppo", {}, "s", None)
    old = [{"time": k, "split": "train", "step": k} for k in (1, 2, 3)]
    write_lines(tmp_path / "metrics.jsonl", old)
    recorder = Recorder(ledger, "r", tmp_path)
    recorder.go_on_from(tmp_path, 2)
    recorder.step(3, loss=0.5)
    recorder.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[:2] == old[:2]
    assert [(line["step"], line.get("loss")) for line in lines[2:]] == [(3, 0.5)]


def test_what_the_process_takes_is_written_down(ledger: SqliteRunLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "HEARTBEAT_S", 0.01)
    gpus = [machine.Device("cuda:0", "A", 100, 40, 0.5), machine.Device("cuda:1", "B", 1000, 10, 0.9)]
    monkeypatch.setattr(machine, "gpus", lambda: gpus)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    ledger.add("r", "ppo", {}, "s", None)
    recorder = Recorder(ledger, "r", tmp_path)
    path = tmp_path / "machine.jsonl"
    for _ in range(500):
        if path.is_file() and "\n" in path.read_text():
            break
        time.sleep(0.01)
    recorder.close()
    line = json.loads(path.read_text().splitlines()[0])
    assert line["memory_mb"] == pytest.approx(psutil.Process().memory_info().rss / 2**20, rel=0.5)
    assert (line["gpu_memory_mb"], line["gpu_total_mb"], line["gpu"]) == (60, 100, 0.5)  # of its own GPU only


def test_measures_go_to_tensorboard_too(ledger: SqliteRunLedger, tmp_path: Path) -> None:
    ledger.add("r", "ppo", {}, "s", None)
    tracker = open_tracker("tensorboard", "r", tmp_path, {"seed": 1, "judge": None, "kl_goal": 0.5})
    assert tracker is not None
    recorder = Recorder(ledger, "r", tmp_path)
    recorder.send_to(tracker[0])
    recorder.step(1, loss=0.25)
    recorder.metrics(split="alarm", step=1, name="kl", words="far")
    recorder.metrics(split="validation", step=1, reward=2.0, judge=None)
    recorder.close()
    tracker[1]()
    written = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").rglob("events.*"))
    assert b"train/loss" in written
    assert b"validation/reward" in written
    assert b"validation/judge" not in written


def test_a_tracker_that_is_not_installed_is_named(tmp_path: Path) -> None:
    assert open_tracker("none", "r", tmp_path, {}) is None
    with pytest.raises(InvalidInput, match="pip install wandb"):
        open_tracker("wandb", "r", tmp_path, {})


def test_torchs_own_allocator_is_understood(ledger: SqliteRunLedger, tmp_path: Path) -> None:
    import torch

    ledger.add("r", "reward", {}, "s", None)
    record_run(ledger, "r", tmp_path, lambda _: (str(torch.empty(10**15)), ""), own_log=False, remedy={"batch_size": 2})
    assert "Memory ran out" in (ledger.get("r").message or "")
