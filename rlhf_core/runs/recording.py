"""What every run does about itself: its ledger row, heartbeat, metrics file, log, and the wish to stop."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from rlhf_core.ground import machine
from rlhf_core.ground.errors import OutOfMemory, RlhfError, RunRefused, disk_errors
from rlhf_core.ground.files import write_text
from rlhf_core.ground.processes import ProcessIdentity, this_host
from rlhf_core.ground.runs import ALONG_FILE, LOG_FILE, MACHINE_FILE, METRICS_FILE, Run, RunStatus, said_along
from rlhf_core.store.base import RunRecord

HEARTBEAT_S = 2.0
MEASURED_EACH = 2  # heartbeats
FINISH_WAITS_S = (1.0, 5.0, 30.0)
log = logging.getLogger("rlhf_core.run")


class Recorder:
    """A running run's voice. Thread-safe: a thread of its own beats and listens for a cancel."""

    def __init__(self, ledger: RunRecord, run_id: str, folder: Path) -> None:
        self._ledger, self._run_id, self._folder = ledger, run_id, folder
        self._metrics = (folder / METRICS_FILE).open("a", encoding="utf-8")
        self._phase, self._step = "starting", 0
        self._track: Callable[[dict[str, float], int], None] | None = None
        self._total: int | None = None
        self._stop, self._ended = threading.Event(), threading.Event()
        self._process = psutil.Process()
        self._process.cpu_percent(None)
        self._parent = starter()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        beats = 0
        while not self._ended.wait(HEARTBEAT_S):
            _end_with(self._parent)
            self._tell()
            if beats % MEASURED_EACH == 0:
                self._measure_machine()
            beats += 1

    def _measure_machine(self) -> None:
        """A line of what this process and its GPU take, for whoever looks on."""
        process = self._process
        taken: dict[str, Any] = {
            "time": round(time.time(), 3), "memory_mb": round(process.memory_info().rss / machine.MB, 1),
            "cpu": round(process.cpu_percent(None) / 100, 3),
        }  # fmt: skip
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = [one for one in machine.gpus() if visible is None or one.name.partition(":")[2] in visible.split(",")]
        if gpus:
            taken |= {
                "gpu_memory_mb": sum(one.total_mb - one.free_mb for one in gpus),
                "gpu_total_mb": sum(one.total_mb for one in gpus),
                "gpu": max((one.busy or 0.0 for one in gpus), default=None),
            }  # fmt: skip
        try:
            with (self._folder / MACHINE_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(taken) + "\n")
        except OSError as error:  # a full disk is the run's to meet where it saves
            log.warning("the machine's measures were not written: %s", error)

    def _tell(self) -> None:
        """One heartbeat. A store that is busy or away for a while must not end a run."""
        try:
            run = self._ledger.beat(self._run_id, self._phase, self._step, self._total)
        except RlhfError as error:
            log.warning("heartbeat was not recorded: %s", error)
            return
        if run is None or run.cancel_requested:
            self.ask_to_stop(_why(run))

    def ask_to_stop(self, why: str) -> None:
        if not self._stop.is_set():
            log.info("stopping: %s", why)
            self._stop.set()

    def ask_to_pause(self, why: str) -> None:
        """Let this run save where it stands and wait until somebody lets it go on."""
        log.info("pausing: %s", why)
        self._ledger.request_pause(self._run_id)
        self._stop.set()

    @property
    def should_stop(self) -> bool:
        return self._stop.is_set()

    def phase(self, phase: str, *, step: int | None = None, total: int | None = None) -> None:
        """Say what is being done; the step count stays unless given."""
        self._phase = phase
        self._step = self._step if step is None else step
        self._total = self._total if total is None else total
        log.info("%s", phase)
        self._tell()

    def step(self, step: int, **metrics: Any) -> None:
        """Record one optimiser step's metrics. Reaches the ledger with the next heartbeat."""
        self._step = step
        self.metrics(split="train", step=step, **metrics)

    def send_to(self, track: Callable[[dict[str, float], int], None]) -> None:
        """From now on a tracker gets every measure too, named ``split/measure``."""
        self._track = track

    def metrics(self, **values: Any) -> None:
        """Append one line to ``metrics.jsonl``."""
        if self._track is not None and isinstance(step := values.get("step"), int):
            split = values.get("split", "train")
            numbers = {name: value for name, value in values.items() if isinstance(value, int | float) and name != "step"}
            self._track({f"{split}/{name}": float(value) for name, value in numbers.items()}, step)
        self._metrics.write(json.dumps({"time": round(time.time(), 3), **values}, allow_nan=False) + "\n")
        self._metrics.flush()

    def go_on_from(self, folder: Path, step: int) -> None:
        """Take over the metrics of the run in ``folder`` up to a step, with the times at which they were measured. Of its own
        folder: forget what came after that step."""
        try:
            lines = (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return
        if folder == self._folder:
            self._metrics.truncate(0)
        for line in lines:
            if line.endswith("\n") and (values := json.loads(line)).get("step", 0) <= step:
                self.metrics(**values)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._metrics.close()


def _why(run: Run | None) -> str:
    if run is None:
        return "the run is no longer listed as running"
    return "pause requested" if run.pausing else "cancel requested"


def starter() -> int | None:
    """The process that started this one along with others to train together; None for one that trains alone."""
    return os.getppid() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None


def _end_with(parent: int | None) -> None:
    """End at once where that is gone: nobody would end this one, and the others are gone too."""
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def end_with_the_others() -> None:
    """For a process that trains along: signals are the first one's to hear, and it ends where its starter is gone."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    parent = starter()

    def look() -> None:
        while True:
            time.sleep(HEARTBEAT_S / 2)
            _end_with(parent)

    threading.Thread(target=look, name="starter", daemon=True).start()


class Silent(Recorder):
    """Of a process that learns along with the one that records."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def ask_to_pause(self, why: str) -> None: ...

    def phase(self, phase: str, *, step: int | None = None, total: int | None = None) -> None: ...

    def step(self, step: int, **metrics: Any) -> None: ...

    def metrics(self, **values: Any) -> None: ...

    def go_on_from(self, folder: Path, step: int) -> None: ...

    def close(self) -> None: ...


class Cancelled(Exception):
    """The run was asked to stop. ``checkpoint_id`` names what was saved, if anything."""

    def __init__(self, message: str, checkpoint_id: str | None = None) -> None:
        super().__init__(message)
        self.checkpoint_id = checkpoint_id

    @classmethod
    def after(cls, step: int, total: int, checkpoint_id: str | None, *, run_id: str | None = None) -> Cancelled:
        """After so many steps; ``run_id``: of a run that saved where it stands, so that it can go on."""
        if step == 0:
            return cls("Stopped before the first step; there was nothing to save.")
        more = "" if run_id is None else f" Go on with --resume-from {run_id}."
        return cls(f"Stopped after step {step} of {total}; what was learnt so far is saved.{more}", checkpoint_id)


def record_run(
    ledger: RunRecord, run_id: str, folder: Path, body: Callable[[Recorder], tuple[str, str]], *, own_log: bool,
    remedy: dict[str, Any] | None = None,
) -> int:  # fmt: skip
    """Claim a queued row if nobody has, run ``body`` and record how it ended. Returns the process's exit code.

    Args:
        ledger: Where the row is.
        run_id: Its id.
        folder: The run's folder; exists.
        body: Does the work; returns (message, checkpoint id). Only its return is recorded as success.
        own_log: Also write the log to the run's folder (a supervisor does that by itself).
        remedy: Options with which it would need less memory, for the row of one that ran out of it.

    Raises:
        RunRefused: the row is not queued, or another process has it.
    """
    _take(ledger, run_id)
    (folder / ALONG_FILE).unlink(missing_ok=True)  # of an earlier try
    with _logging(folder / LOG_FILE if own_log else None):
        recorder = Recorder(ledger, run_id, folder)
        status: RunStatus = "failed"
        checkpoint_id, less = None, None
        with _signals(recorder):
            try:
                with disk_errors("the run's writing", folder):
                    message, checkpoint_id = body(recorder)
                status = "succeeded"
            except Cancelled as cancelled:
                status, message, checkpoint_id = "cancelled", str(cancelled), cancelled.checkpoint_id
            except KeyboardInterrupt:
                status, message = "cancelled", "Stopped at once, before it could save."
            except RlhfError as error:
                message, less = str(error), remedy if isinstance(error, OutOfMemory) else None
            except Exception as error:
                log.error("failed:\n%s", traceback.format_exc())
                if other := _heard_along(folder):
                    message, less = other, remedy if "emory ran out" in other else None
                elif _is_out_of_memory(error):
                    less = remedy
                    message = f"{_memory_words(error)} {_with(remedy)}"
                else:
                    message = f"{type(error).__name__}: {error}. The log has the details."
            finally:
                recorder.close()  # no heartbeat comes after the end
            (log.info if status in ("succeeded", "cancelled") else log.error)("%s: %s", status, message)
            _finish(ledger, run_id, status, message, checkpoint_id, less)
        return {"succeeded": 0, "cancelled": 130}.get(status, 1)


def say_along(folder: Path, rank: int, error: BaseException) -> None:
    """Why a process that trains along ended: the first one only sees that it is gone."""
    ours = isinstance(error, RlhfError)
    words = str(error) if ours else f"{type(error).__name__}: {error}. The log has the details."
    if not ours and _is_out_of_memory(error):
        words = _memory_words(error)
    with contextlib.suppress(OSError):
        write_text(folder / ALONG_FILE, f"{words} (In process {rank + 1}.)")


def _heard_along(folder: Path) -> str:
    """What another process ended by, where one did; waits a moment for its words."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ""
    for _ in range(10):
        if words := said_along(folder):
            return words
        time.sleep(0.2)
    return ""


def _memory_words(error: BaseException) -> str:
    return f"Memory ran out ({(str(error) or type(error).__name__).splitlines()[0]})."


def _is_out_of_memory(error: BaseException) -> bool:
    """Whatever said it: torch on a GPU, torch's allocator on a CPU, or Python."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _with(remedy: dict[str, Any] | None) -> str:
    if not remedy:
        return "Take a smaller model or shorter texts."
    return f"Try again with {' and '.join(f'{name} {value}' for name, value in remedy.items())}, or take a smaller model."


def _take(ledger: RunRecord, run_id: str) -> None:
    """Make the run this process's own: claim a queued one, or go on with one that was started for this very process."""
    me = ProcessIdentity.of_this_run()
    run = ledger.get(run_id)
    if run.status == "queued":
        ledger.claim(run_id, this_host())
    elif run.status != "running":
        raise RunRefused(f"Run {run_id} has ended ({run.status}). Start a new one.")
    elif run.pid not in (None, me.pid):
        raise RunRefused(f"Run {run_id} is carried out by process {run.pid} on {run.host}. Cancel it first, or start a new one.")
    ledger.set_process(run_id, this_host(), me.pid, me.create_time)


def _finish(
    ledger: RunRecord, run_id: str, status: RunStatus, message: str, checkpoint_id: str | None,
    remedy: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Record the end, patiently: a store that is busy with somebody's import is asked again."""
    for wait_s in FINISH_WAITS_S:
        try:
            ledger.finish(run_id, status, message, checkpoint_id, remedy)
            return
        except RlhfError as error:
            log.warning("the end of the run was not recorded yet: %s", error)
            time.sleep(wait_s)
    ledger.finish(run_id, status, message, checkpoint_id, remedy)


@contextmanager
def _signals(recorder: Recorder) -> Iterator[None]:
    """The first SIGTERM or Ctrl+C asks the loop to stop and save; a second one ends the process as usual."""

    def ask(number: int, _frame: FrameType | None) -> None:
        if recorder.should_stop:
            raise KeyboardInterrupt
        recorder.ask_to_stop(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _logging(path: Path | None) -> Iterator[None]:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if path is not None:
        handlers.append(logging.FileHandler(path, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            if isinstance(handler, logging.FileHandler):
                handler.close()
