"""Runs that engines carry out. The ledger here stays the record: it is told what a run writes into its folder, and whatever an
engine forgets, it keeps.

A queued run is handed over and stays queued while it waits there. Each try has a number of its own: a run that was given up and
comes to life all the same finds that its folder asks for another one, and ends.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf_core import __version__
from rlhf_core.ground.configs import less_memory
from rlhf_core.ground.engines import EngineSettings, Resources, engine_named
from rlhf_core.ground.errors import EngineRefused, EngineUnavailable, InvalidInput, NotFound, RlhfError, RunRefused
from rlhf_core.ground.records import parse_utc, utc_now
from rlhf_core.ground.runs import LOCAL, LOG_FILE, Run, RunStatus, said_along, train_command
from rlhf_core.ground.settings import PROJECT_ROOT, WORKSPACE_VARIABLE, Workspace
from rlhf_core.launchers.base import Job, Launcher, Work
from rlhf_core.launchers.open import launcher_of
from rlhf_core.store.base import RunLedger
from rlhf_core.store.folder_runs import Order, Told, read_order, read_told, write_order

ASK_EVERY_S = 2.0  # an engine how one job stands; what runs tell is read each round
AGAIN_AFTER_S = 10.0  # an engine that did not answer is let alone for a while
SILENT_S = 30.0  # of a job that its engine does not know any more
log = logging.getLogger("rlhf_core.supervisor")


class Elsewhere:
    """Looks after them. One thread calls :meth:`look_around`."""

    def __init__(
        self, workspace: Workspace, ledger: RunLedger, *, stale_heartbeat_s: float,
        open_launcher: Callable[[EngineSettings], Launcher] = launcher_of,
    ) -> None:  # fmt: skip
        self._workspace, self._ledger, self._open = workspace, ledger, open_launcher
        self._stale_heartbeat_s = stale_heartbeat_s
        self._launchers: dict[str, tuple[EngineSettings, Launcher]] = {}
        self._alone: dict[str, tuple[float, str]] = {}  # of engines that did not answer: until when they are let alone, and why
        self._asked: dict[str, float] = {}  # when an engine was asked about a run
        self._beats: dict[str, tuple[int, float]] = {}  # of a run: how often it spoke, and when that was seen to change
        self._cancel_seen: dict[str, float] = {}
        self._stopped: dict[str, int] = {}  # how often its engine was told to end a run

    def look_around(self) -> None:
        """One round."""
        runs = [run for run in self._ledger.unfinished() if run.engine != LOCAL]
        for run in runs:
            self._one(run, self._tend)
        for run in self._ledger.given_up():
            self._one(run, self._end_given_up)
        for known in (self._asked, self._beats, self._cancel_seen, self._stopped):
            for run_id in known.keys() - {run.id for run in runs}:
                del known[run_id]

    @staticmethod
    def _one(run: Run, work: Callable[[Run], None]) -> None:
        """Whatever goes wrong with one run, the others are looked after."""
        try:
            work(run)
        except RlhfError as error:
            log.warning("run %s on %s: %s", run.id, run.engine, error)
        except Exception:
            log.exception("run %s on %s: a bug; the others are looked after", run.id, run.engine)

    def _tend(self, run: Run) -> None:
        try:
            engine = engine_named(run.engine)
        except (NotFound, InvalidInput) as error:
            self._ledger.say_phase(run.id, f"waiting: {error} Until then nobody can say how it stands.")
            return
        if run.status == "queued" and run.job_id is None:
            self._hand_over(run, engine)
            return
        told = read_told(self._workspace.run_folder(run.id), run.attempt)
        if told is None and run.status == "queued":
            self._order_what_its_snapshot_became(run)
        if told is not None and run.status == "queued":
            try:
                run = self._ledger.claim(run.id, told.host, run.engine)
            except RunRefused:  # taken back meanwhile
                return
        if told is not None:
            run = self._carry_over(run, told)
            if not run.unfinished:
                return
        self._ask_what_is_asked(run, engine)
        self._ask_engine(run, engine, told)

    # What the run says.
    def _carry_over(self, run: Run, told: Told) -> Run:
        """From its folder into the ledger."""
        if told.pid and (run.pid, run.host) != (told.pid, told.host):
            self._ledger.set_process(run.id, told.host, told.pid, told.pid_create_time)
        before, _ = self._beats.get(run.id, (0, 0.0))
        if told.beats != before:
            self._beats[run.id] = told.beats, time.monotonic()
            self._ledger.beat(run.id, told.phase, told.step, told.total_steps)
            if told.wants_pause and run.cancel_requested is None:
                self._ledger.request_pause(run.id)
        if told.end is not None:
            end: dict[str, Any] = told.end
            self._ledger.finish(run.id, end["status"], end["message"], end["checkpoint_id"], end["remedy"])
            self._ledger.set_holds(run, False)  # it ends by itself
        return self._ledger.get(run.id)

    # What is asked of it.
    def _order(self, run: Run, *, over: bool = False) -> None:
        write_order(self._workspace.run_folder(run.id), Order(run, __version__, over))

    def _ask_what_is_asked(self, run: Run, engine: EngineSettings) -> None:
        """A cancel or a pause: first by its folder, then its engine ends it."""
        if run.cancel_requested is None:
            return
        now = time.monotonic()
        if run.id not in self._cancel_seen:
            self._cancel_seen[run.id] = now
            self._order(run)
        waited, times = now - self._cancel_seen[run.id], self._stopped.get(run.id, 0)
        if run.job_id is not None and waited > engine.grace_s + engine.terminate_s * times:
            self._stopped[run.id] = times + 1
            self._with(engine, lambda launcher: launcher.stop(run.job_id or "", force=times > 0))

    def _order_what_its_snapshot_became(self, run: Run) -> None:
        """Somebody may have been erased from it while the run waits."""
        if read_order(self._workspace.run_folder(run.id)).run.snapshot_id != run.snapshot_id:
            self._order(run)

    # What its engine says.
    def _hand_over(self, run: Run, engine: EngineSettings) -> None:
        if (why := self._let_alone(engine)) is not None:
            self._ledger.say_phase(run.id, f"waiting: {why}")
            return
        try:
            needs = Resources.parse(run.resources)
            launcher = self._launcher(engine)
            gpus = int(launcher.capacity().total("gpus")) if needs.gpus is None else 0
            needs = needs.settled(gpus, str(run.config.get("device", "auto")))
            if run.attempt == 0:
                run = self._ledger.next_attempt(run.id)
            self._order(run)  # of a try whose handing over was broken off, it goes on with that one
            self._ledger.set_holds(run, True)
            job_id = launcher.submit(self._work(run, engine, needs))
        except RunRefused:
            return  # taken back meanwhile
        except (EngineRefused, InvalidInput) as error:
            self._ledger.fail_queued(run.id, str(error))
            self._ledger.set_holds(run, False)
        except RlhfError as error:  # it does not answer, or the disk here is full: both may pass
            if isinstance(error, EngineUnavailable):
                self._leave(engine, error)
            self._ledger.say_phase(run.id, f"waiting: {error}")
        else:
            self._ledger.set_job(run, job_id)

    def _work(self, run: Run, engine: EngineSettings, needs: Resources) -> Work:
        root = Path(engine.workspace or self._workspace.root)
        argv = train_command(run, root, engine.python or sys.executable)
        threads = max(1, (needs.cpus or 1) // needs.processes)
        environment = {"PYTHONUNBUFFERED": "1", WORKSPACE_VARIABLE: str(root), "OMP_NUM_THREADS": str(threads)}
        return Work(
            _name(run), [*argv, "--attempt", str(run.attempt)], engine.project or str(PROJECT_ROOT), environment,
            self._workspace.run_folder(run.id), needs,
        )  # fmt: skip

    def _ask_engine(self, run: Run, engine: EngineSettings, told: Told | None) -> None:
        """How the job stands; bury the run where that has ended without its word."""
        now = time.monotonic()
        silent = now - self._beats.setdefault(run.id, (told.beats if told else 0, now))[1]
        if now - self._asked.get(run.id, float("-inf")) < ASK_EVERY_S:
            return
        self._asked[run.id] = now
        job: Job | None = self._with(engine, lambda launcher: launcher.look(run.job_id or ""))
        if job is None:
            if run.status == "running" and silent > self._stale_heartbeat_s:
                what = f"It gave no sign of life for {silent:.0f} s, and {engine.name} does not answer."
                self._bury(run, engine, what, still_there=True)
        elif job.state == "waiting":
            self._ledger.say_phase(run.id, f"waiting for {engine.name} to begin it")
        elif job.state == "ended":
            self._bury(run, engine, _how_it_ended(job, run.status), job)
        elif job.state == "unknown" and run.status == "queued":
            self._ledger.next_attempt(run.id)
            self._ledger.say_phase(run.id, f"{engine.name} has forgotten it and gets it again")
        elif job.state == "unknown" and silent > min(SILENT_S, self._stale_heartbeat_s):
            self._bury(run, engine, f"{engine.name} does not know it any more: it was begun anew, or its records were cleared.")
        elif job.state == "running" and run.status == "running" and silent > self._stale_heartbeat_s:
            self._bury(run, engine, f"It gave no sign of life for {silent:.0f} s and was ended.", still_there=True)

    def _bury(
        self, run: Run, engine: EngineSettings, what: str, job: Job | None = None, *, still_there: bool = False
    ) -> None:  # fmt: skip
        """Record that a run is over which did not say so itself. ``still_there``: its engine may have it, and has to end it."""
        folder = self._workspace.run_folder(run.id)
        told = read_told(folder, run.attempt)  # its last word may have come meanwhile
        if told is not None and told.end is not None:
            if run.status == "queued":
                self._ledger.claim(run.id, told.host, run.engine)
            self._carry_over(run, told)
            return
        tail = self._with(engine, lambda launcher: launcher.log_tail(run.job_id or "")) if job is not None else None
        if not still_there:
            self._ledger.set_holds(run, False)
        if tail:
            _append(folder / LOG_FILE, f"--- what {engine.name} kept of its output\n{tail}\n")
        last = said_along(folder) or last_line(folder)
        message = f"{what} Last line of its log: {last}" if last else what
        self._order(run, over=True)
        if run.status == "queued":
            self._ledger.fail_queued(run.id, message)
            return
        status: RunStatus = "cancelled" if run.cancel_requested else "lost"
        killed = job is not None and job.exit_code in (-9, 137)
        remedy = less_memory(run.kind, run.config) if killed and status == "lost" else None
        self._ledger.finish(run.id, status, message, None, remedy)

    def _end_given_up(self, run: Run) -> None:
        """One that is over here, at its engine: by its folder, and by force."""
        engine = engine_named(run.engine)
        self._order(run, over=True)

        def end(launcher: Launcher) -> bool:
            job_id = run.job_id or launcher.find(_name(run), self._workspace.run_folder(run.id))
            if job_id is not None and launcher.look(job_id).state in ("waiting", "running"):
                launcher.stop(job_id, force=run.status == "lost")
            return True

        if self._with(engine, end):
            self._ledger.set_holds(run, False)

    # Engines.
    def _launcher(self, engine: EngineSettings) -> Launcher:
        settings, launcher = self._launchers.get(engine.name, (None, None))
        if launcher is None or settings != engine:  # the settings may have been changed since
            launcher = self._open(engine)
            self._launchers[engine.name] = engine, launcher
        return launcher

    def _with(self, engine: EngineSettings, work: Callable[[Launcher], Any]) -> Any:
        """What it answers; None where it does not."""
        if self._let_alone(engine) is not None:
            return None
        try:
            return work(self._launcher(engine))
        except (EngineUnavailable, EngineRefused) as error:
            self._leave(engine, error)
            return None

    def _leave(self, engine: EngineSettings, error: RlhfError) -> None:
        self._alone[engine.name] = time.monotonic() + AGAIN_AFTER_S, str(error)
        log.warning("%s", error)

    def _let_alone(self, engine: EngineSettings) -> str | None:
        """Why it is not asked just now; None where it may be."""
        until, why = self._alone.get(engine.name, (0.0, ""))
        return why if time.monotonic() < until else None


def _name(run: Run) -> str:
    """Of one try of it, at its engine."""
    return f"{run.id}-{run.attempt}"


def _how_it_ended(job: Job, status: RunStatus) -> str:
    what = "Its process ended without a word." if status == "running" else "It ended before it began."
    code = "" if job.exit_code is None else f" Exit code {job.exit_code}."
    return f"{what}{code}{f' {job.words.splitlines()[0]}' if job.words else ''}"


def _append(path: Path, text: str) -> None:
    """As far as it can: the log may be another user's."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        log.warning("%s was not written to: %s", path, error)


def seconds_since(moment: str) -> float:
    return (parse_utc(utc_now()) - parse_utc(moment)).total_seconds()


def last_line(folder: Path) -> str:
    """Of a run's log."""
    try:
        with (folder / LOG_FILE).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
