"""What a run does about itself, with a body that takes no time."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from rlhf_core.ground.errors import RunRefused
from rlhf_core.ground.processes import this_host
from rlhf_core.runs import recording
from rlhf_core.runs.recording import Recorder, record_run
from rlhf_core.store.sqlite import Database
from rlhf_core.store.sqlite_runs import SqliteRunLedger


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
