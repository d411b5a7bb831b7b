"""What can go wrong with a run, with real processes: nothing is orphaned, and nothing is wrongly called a success."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import psutil
import pytest

from rlhf_core.checkpoints.registry import list_checkpoints
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.settings import PROJECT_ROOT, WORKSPACE_VARIABLE
from rlhf_core.runs.recording import Recorder, record_run
from rlhf_core.services import snapshots, training
from rlhf_core.services.workbench import Workbench
from rlhf_core.supervisor import elsewhere, supervise
from rlhf_core.supervisor.supervise import Supervisor
from tests.conftest import learnable_chats
from tests.supervisor.test_supervise import QUICK, alive, queued, stand_in, supervisor, until

__all__ = ["stand_in", "supervisor"]


# The supervisor itself.
@pytest.mark.parametrize("error", [OSError("no space left"), SystemExit(1), RuntimeError("a bug")])
def test_a_supervisor_that_is_hit_begins_again(
    workbench: Workbench, stand_in: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(supervise, "POLL_S", 0.02)
    stand_in("print('hello')")
    hit = [0]
    acquire = filelock.FileLock.acquire

    def fail_first(self: filelock.FileLock, *args: Any, **named: Any) -> Any:
        hit[0] += 1
        if hit[0] <= 2:
            raise error
        return acquire(self, *args, **named)

    monkeypatch.setattr(filelock.FileLock, "acquire", fail_first)
    stop = threading.Event()
    thread = threading.Thread(target=Supervisor(workbench.workspace, workbench.ledger, **QUICK).serve, args=(stop,))
    thread.start()
    try:
        queued(workbench)
        until(lambda: not workbench.ledger.get("r1").unfinished)
    finally:
        stop.set()
        thread.join()
    assert hit[0] >= 3
    assert workbench.ledger.get("r1").status == "lost", "it printed and ended; only a run says that it succeeded"


def test_a_killed_supervisor_leaves_the_lock_to_the_next(
    workbench: Workbench, root: Path, stand_in: Callable[[str], None]
) -> None:
    headless = subprocess.Popen(
        [sys.executable, "-m", "rlhf_core", "supervise"], cwd=PROJECT_ROOT, env=os.environ | {WORKSPACE_VARIABLE: str(root)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert headless.stderr is not None
    until(lambda: "supervising runs" in (headless.stderr.readline() if headless.stderr else ""))
    lock = filelock.FileLock(workbench.workspace.supervisor_lock)
    with pytest.raises(filelock.Timeout):
        lock.acquire(timeout=0)
    headless.send_signal(signal.SIGKILL)
    headless.wait()
    headless.stderr.close()
    with lock.acquire(timeout=5):
        pass


# Clocks.
@pytest.mark.slow
@pytest.mark.parametrize("moved_to", ["2001-01-01T00:00:{:02d}.000000Z", "2099-01-01T00:00:{:02d}.000000Z"])
def test_a_clock_that_is_moved_ends_no_run(
    workbench: Workbench, supervisor: Supervisor, stand_in: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, moved_to: str
) -> None:
    """Heartbeats are heard by their change, not by their time."""
    stand_in("import time; time.sleep(60)")
    queued(workbench)
    supervisor.look_around()
    end = time.monotonic() + 1.5 * QUICK["stale_heartbeat_s"]
    beats = 0
    with monkeypatch.context() as moved:
        moved.setattr("rlhf_core.store.sqlite_runs.utc_now", lambda: moved_to.format(beats % 60))
        moved.setattr(elsewhere, "utc_now", lambda: moved_to.format(beats % 60))
        while time.monotonic() < end:
            beats += 1
            workbench.ledger.beat("r1", "training", beats, 100)
            supervisor.look_around()
            time.sleep(0.1)
        assert workbench.ledger.get("r1").status == "running"
        until(lambda: workbench.ledger.get("r1").status == "lost", supervisor.look_around)  # and silence is still silence
    until(lambda: not alive(workbench.ledger.get("r1")))


# Cancelling, whatever it does just then.
class StopsAt(Recorder):
    """A run that is cancelled the moment it begins to do something."""

    at = ""

    def phase(self, phase: str, *, step: int | None = None, total: int | None = None) -> None:
        super().phase(phase, step=step, total=total)
        if phase == self.at:
            self._ledger.request_cancel(self._run_id)
            self._tell()
            assert self.should_stop


PHASES = [
    "reading the snapshot", "loading the base model", "tokenising", "reading every text once", "training",
    "validating after epoch 1", "testing", "writing the report card", "saving",
]  # fmt: skip


@pytest.fixture(scope="module")
def learnable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    from rlhf_core.ground.settings import Workspace
    from rlhf_core.services import importing
    from tests.conftest import write_lines

    folder = tmp_path_factory.mktemp("faults")
    workbench = Workbench(Workspace.resolve(folder / "workspace"))
    importing.import_file(workbench, write_lines(folder / "chats.jsonl", learnable_chats()))
    snapshots.take(workbench)
    yield workbench
    workbench.close()


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_a_cancel_in_any_phase_ends_in_words_and_whole_files(
    learnable: Workbench, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    from rlhf_core.runs import recording
    from rlhf_core.runs.reward import train_reward

    config = RewardConfig(reward_base_model=str(tiny_encoder), epochs=2, max_length=64, learning_curve=False)
    snapshot = snapshots.listing(learnable)[0]
    run = training.add_run(learnable, "reward", snapshot.id, config)
    before = {one.id for one in list_checkpoints(learnable.workspace.checkpoints)}
    monkeypatch.setattr(recording, "Recorder", StopsAt)
    monkeypatch.setattr(StopsAt, "at", phase)
    reached = []
    children = {one.pid for one in psutil.Process().children(recursive=True)}  # servers and browsers of other tests
    folder = learnable.workspace.run_folder(run.id)

    def body(recorder: Recorder) -> tuple[str, str]:
        reached.append(recorder)
        return train_reward(learnable.workspace, run.id, snapshot.id, config, recorder)

    code = record_run(learnable.ledger, run.id, folder, body, own_log=True)
    now = learnable.ledger.get(run.id)
    assert now.cancel_requested, f"it never came to {phase}"
    assert reached[0].should_stop
    made = {one.id for one in list_checkpoints(learnable.workspace.checkpoints)} - before
    assert not [one for one in learnable.workspace.checkpoints.iterdir() if one.name.startswith(".")]
    assert now.message
    if now.status == "succeeded":  # it was past the point of no return
        assert code == 0
        assert phase in ("testing", "writing the report card", "saving", "validating after epoch 1")
        assert made == {now.checkpoint_id}
    else:
        assert (now.status, code) == ("cancelled", 130)
        assert made == ({now.checkpoint_id} if now.checkpoint_id else set())
        if phase in PHASES[:4]:
            assert made == set()
    for one in list_checkpoints(learnable.workspace.checkpoints):
        one.verify()
    assert not {one.pid for one in psutil.Process().children(recursive=True)} - children
