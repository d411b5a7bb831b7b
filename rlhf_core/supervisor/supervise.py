"""One supervisor for each workspace and machine, held by a file lock: a thread of the app, or ``python -m rlhf_core supervise``.

A run is a child in a session of its own with its output in a file, so it outlives the page, the server and this thread. Only
the run records success; what ended without a word becomes ``lost``. It never calls Streamlit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence

import filelock

from rlhf_core.ground import machine
from rlhf_core.ground.configs import less_memory
from rlhf_core.ground.engines import Resources
from rlhf_core.ground.errors import EngineRefused, RlhfError, RunRefused
from rlhf_core.ground.machine import Device
from rlhf_core.ground.processes import ProcessIdentity, this_host
from rlhf_core.ground.runs import LOCAL, Run, RunStatus, said_along, train_command
from rlhf_core.ground.settings import PROJECT_ROOT, WORKSPACE_VARIABLE, Workspace
from rlhf_core.launchers.base import Work
from rlhf_core.launchers.local import LocalLauncher
from rlhf_core.store.base import RunLedger
from rlhf_core.supervisor.elsewhere import Elsewhere, last_line, seconds_since

POLL_S = 0.5
CANCEL_GRACE_S = 60.0
TERMINATE_GRACE_S = 15.0
STALE_HEARTBEAT_S = 120.0
SPARE = 1.2  # estimates are no promises
CORES_EACH = 4
START_GRACE_S = 120.0  # torch is slow to import on a cold disk
ELSEWHERE_GONE_S = 3600.0  # a renamed machine or a copied workspace
log = logging.getLogger("rlhf_core.supervisor")


class Supervisor:
    """Looks after the runs of one workspace on this machine. One thread calls :meth:`serve`."""

    def __init__(
        self,
        workspace: Workspace,
        ledger: RunLedger,
        *,
        cancel_grace_s: float = CANCEL_GRACE_S,
        terminate_grace_s: float = TERMINATE_GRACE_S,
        stale_heartbeat_s: float = STALE_HEARTBEAT_S,
    ) -> None:
        self._workspace, self._ledger, self._host = workspace, ledger, this_host()
        self._cancel_grace_s, self._terminate_grace_s = cancel_grace_s, terminate_grace_s
        self._stale_heartbeat_s = stale_heartbeat_s
        self._launcher = LocalLauncher()
        self._started: dict[str, str] = {}  # how the launcher calls what it started for a run
        self.elsewhere = Elsewhere(workspace, ledger, stale_heartbeat_s=stale_heartbeat_s)
        self._heard: dict[str, tuple[str | None, float]] = {}
        self._cancel_seen: dict[str, float] = {}
        self._terminated: set[str] = set()

    def serve(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set. Waits for its turn while another process supervises this workspace. Whatever goes wrong,
        it begins again: nobody would notice a thread that has died."""
        while not stop.is_set():
            try:
                self._serve(stop)
            except (Exception, SystemExit):
                log.exception("supervisor: it ended by an error and begins again")
                stop.wait(POLL_S * 4)

    def _serve(self, stop: threading.Event) -> None:
        lock = filelock.FileLock(self._workspace.supervisor_lock)
        while not stop.is_set():
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                stop.wait(POLL_S * 4)
                continue
            with lock:
                log.info("supervising runs of %s", self._workspace.root)
                over = threading.Event()  # engines may be slow to answer; nobody here waits for them
                beside = threading.Thread(
                    target=_again_and_again, args=(self.elsewhere.look_around, over), name="engines", daemon=True
                )  # fmt: skip
                beside.start()
                try:
                    _again_and_again(self.look_around, stop)
                finally:
                    over.set()
                    beside.join()  # while it hands a run over, nobody else may begin to

    def look_around(self) -> None:
        """One round: bury the dead, push on with cancels, start what waits."""
        unfinished = [run for run in self._ledger.unfinished() if run.engine == LOCAL]
        for run in unfinished:
            if run.status == "running" and run.host == self._host:
                self._watch(run)
            elif run.status == "running" and seconds_since(run.heartbeat_at or run.created_at) > ELSEWHERE_GONE_S:
                self._bury(run, None, f"Nothing was heard of it from {run.host} for an hour.")
        for run_id in self._started.keys() - {run.id for run in unfinished}:
            if self._launcher.look(self._started[run_id]).state != "running":  # it said how it ended and has gone
                self._forget(run_id)
        self._start_next([run for run in unfinished if run.status == "queued"])

    def _start_next(self, waiting: Sequence[Run]) -> None:
        """Start the first that waits where the machine has room for it. Those behind it do not overtake, so a large one gets its
        turn; but what waits for a GPU does not keep others from the CPU."""
        if not waiting:
            return
        working = [
            run for run in self._ledger.unfinished()
            if run.status == "running" and run.host == self._host and run.engine == LOCAL
        ]  # fmt: skip
        full: set[str] = set()
        for run in waiting:
            kind = "cpu" if run.config.get("device") == "cpu" or not machine.gpus() else "gpu"
            if kind in full:
                continue
            wanted = int(run.resources.get("processes", 1))
            if kind == "gpu" and wanted > len(machine.gpus()):
                self._ledger.fail_queued(
                    run.id,
                    f"It asks for {wanted} processes with a GPU each; this machine has {len(machine.gpus())}. Ask for fewer.",
                )
                continue
            device = room_for(run, working, machine.cpu(), machine.gpus(), machine.cores())
            if device is None:
                full.add(kind)
                continue
            with contextlib.suppress(RunRefused):  # somebody took it or took it back meanwhile
                claimed = self._ledger.claim(run.id, self._host, device)
                self._start(claimed, beside=sum(one.device in (None, "cpu") for one in working))
                working.append(self._ledger.get(run.id))

    def _start(self, run: Run, beside: int) -> None:
        environment = {"PYTHONUNBUFFERED": "1", WORKSPACE_VARIABLE: str(self._workspace.root)}
        if machine.gpus():
            environment["CUDA_VISIBLE_DEVICES"] = (run.device or "cpu").partition(":")[2]  # none for the CPU
        needs = Resources.parse(run.resources)
        sharing = (beside + 1) * needs.processes
        if run.device == "cpu" and sharing > 1 and "OMP_NUM_THREADS" not in os.environ:
            environment["OMP_NUM_THREADS"] = str(max(1, machine.cores() // sharing))
        argv, folder = train_command(run, self._workspace.root), self._workspace.run_folder(run.id)
        try:
            job_id = self._launcher.submit(Work(run.id, argv, str(PROJECT_ROOT), environment, folder, needs))
        except EngineRefused as error:
            self._ledger.finish(run.id, "failed", str(error), None)
            return
        self._started[run.id] = job_id
        identity = ProcessIdentity.parse(job_id)
        if identity.create_time:  # else it is over already
            self._ledger.set_process(run.id, self._host, identity.pid, identity.create_time)

    def _watch(self, run: Run) -> None:
        now = time.monotonic()
        started = self._started.get(run.id)
        exit_code = None if started is None else self._launcher.look(started).exit_code
        if run.pid is None or run.pid_create_time is None:
            if exit_code is not None or (started is None and seconds_since(run.started_at or run.created_at) > START_GRACE_S):
                self._bury(run, exit_code, "It was claimed but never came to life.")
            return
        identity = ProcessIdentity(run.pid, run.pid_create_time)
        if exit_code is not None or not identity.is_alive():
            self._bury(run, exit_code, "Its process ended without a word.")
            return
        heartbeat, since = self._heard.get(run.id, (None, now))
        if heartbeat != run.heartbeat_at or run.id not in self._heard:
            self._heard[run.id] = (run.heartbeat_at, now)
        elif now - since > self._stale_heartbeat_s:
            self._launcher.stop(str(identity), force=True)
            self._bury(run, None, f"It gave no sign of life for {self._stale_heartbeat_s:.0f} s and was ended.")
            return
        if run.cancel_requested:
            asked = self._cancel_seen.setdefault(run.id, now)
            if now - asked > self._cancel_grace_s + self._terminate_grace_s:
                self._launcher.stop(str(identity), force=True)
            elif now - asked > self._cancel_grace_s and run.id not in self._terminated:
                self._terminated.add(run.id)
                self._launcher.stop(str(identity))

    def _bury(self, run: Run, exit_code: int | None, what: str) -> None:
        if exit_code is not None and exit_code < 0:
            name = signal.Signals(-exit_code).name
            what = f"Its process was killed ({name})." + (" The machine may have run out of memory." if exit_code == -9 else "")
        elif exit_code is not None:
            what = f"{what} Exit code {exit_code}."
        folder = self._workspace.run_folder(run.id)
        last = said_along(folder) or last_line(folder)
        message = f"{what} Last line of its log: {last}" if last else what
        status: RunStatus = "cancelled" if run.cancel_requested else "lost"
        remedy = less_memory(run.kind, run.config) if exit_code == -signal.SIGKILL and status == "lost" else None
        self._ledger.finish(run.id, status, message, None, remedy)
        self._forget(run.id)

    def _forget(self, run_id: str) -> None:
        if run_id in self._started and self._launcher.look(self._started[run_id]).state != "running":
            self._launcher.forget(self._started.pop(run_id))
        self._heard.pop(run_id, None)
        self._cancel_seen.pop(run_id, None)
        self._terminated.discard(run_id)


def room_for(run: Run, working: Sequence[Run], cpu: Device, gpus: Sequence[Device], cores: int) -> str | None:
    """Which device a run gets now; None where it has to wait.

    One run has a device to itself, unless it is known what everybody on it needs and that fits; on the CPU, beside, every run
    keeps :data:`CORES_EACH` processors.
    """

    def fits(device: Device) -> bool:
        others = [one for one in working if device.name in _places(one)]
        if not others:
            return True
        needs = [one.memory_mb for one in (*others, run)]
        if any(need is None for need in needs):
            return False
        kept = sum(need or 0 for need in needs) * SPARE
        enough = (run.memory_mb or 0) * SPARE <= device.free_mb and kept <= device.total_mb
        return enough and (device.name != "cpu" or cores >= CORES_EACH * len(needs))

    places = [cpu] if run.config.get("device") == "cpu" or not gpus else sorted(gpus, key=lambda one: -one.free_mb)
    found = [one.name for one in places if fits(one)]
    count = 1 if places == [cpu] else int(run.resources.get("processes", 1))
    if len(found) < count:
        return None
    return found[0] if count == 1 else "cuda:" + ",".join(sorted(name.partition(":")[2] for name in found[:count]))


def _places(run: Run) -> list[str]:
    """The devices that a run at work holds: of ``cuda:0,1`` two."""
    kind, _, numbers = (run.device or "cpu").partition(":")
    return [f"{kind}:{number}" for number in numbers.split(",")] if numbers else [kind]


def _again_and_again(work: Callable[[], None], stop: threading.Event) -> None:
    said = ""
    while not stop.is_set():
        try:
            work()
            said = ""
        except RlhfError as error:
            if str(error) != said:  # a disk that stays full is one word, not two a second
                said = str(error)
                log.warning("supervisor: %s", error)
        except Exception:
            log.exception("supervisor: a bug; it goes on with the next round")
        stop.wait(POLL_S)
