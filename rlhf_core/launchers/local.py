"""Processes of this machine: a session of its own each, its output in a file, ended with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import psutil

from rlhf_core.ground import machine
from rlhf_core.ground.engines import Capacity, Node
from rlhf_core.ground.errors import EngineRefused
from rlhf_core.ground.processes import ProcessIdentity
from rlhf_core.ground.runs import LOG_FILE
from rlhf_core.launchers.base import Job, Work

NICE = 5  # pages go before training where both want a processor


class LocalLauncher:
    """:class:`~rlhf_core.launchers.base.Launcher` of this machine. A job's id is the process's identity as text, so that another
    one of these knows it again; how it ended knows only who started it. It starts whatever it is given: who waits for whom is
    its supervisor's to say."""

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def capacity(self) -> Capacity:
        """Of nobody's reservations it knows nothing: what is free is what is idle now."""
        memory, gpus, cores = machine.cpu(), machine.gpus(), machine.cores()
        idle = sum(1 for one in gpus if one.free_mb > 0.9 * one.total_mb)
        free = cores * (1 - (memory.busy or 0.0))
        return Capacity([Node("here", len(gpus), idle, cores, round(free, 1), memory.total_mb, memory.free_mb)], 0, 0)

    def submit(self, work: Work) -> str:
        try:
            work.folder.mkdir(parents=True, exist_ok=True)
            with (work.folder / LOG_FILE).open("ab") as output:  # a file, never a pipe: an unread pipe stalls training
                child = subprocess.Popen(
                    work.argv, cwd=work.cwd, env=os.environ | work.environment, stdin=subprocess.DEVNULL, stdout=output,
                    stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise EngineRefused(f"The run could not be started: {error}.") from error
        created = 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(child.pid).nice(NICE)
            created = psutil.Process(child.pid).create_time()
        job_id = str(ProcessIdentity(child.pid, created))
        self._children[job_id] = child
        return job_id

    def find(self, work_name: str, folder: Path) -> str | None:  # noqa: ARG002  # its supervisor knows the process
        return None

    def look(self, job_id: str) -> Job:
        child = self._children.get(job_id)
        if child is not None:
            exit_code = child.poll()
            return Job("running") if exit_code is None else Job("ended", exit_code)
        return Job("running" if ProcessIdentity.parse(job_id).is_alive() else "unknown")

    def stop(self, job_id: str, *, force: bool = False) -> None:
        end_all(ProcessIdentity.parse(job_id), signal.SIGKILL if force else signal.SIGTERM)

    def log_tail(self, job_id: str) -> str:  # noqa: ARG002  # the run's own log is all of it
        return ""

    def forget(self, job_id: str) -> None:
        """Of one that has ended."""
        if self.look(job_id).state != "running":
            self._children.pop(job_id, None)


def end_all(identity: ProcessIdentity, number: signal.Signals, *, every_one: bool = False) -> None:
    """Send a signal to a process and its group where it leads one; with ``every_one``, and always what cannot be ignored, to all
    that came of it too: what ``accelerate`` starts leads groups of its own."""
    if not identity.is_alive():
        return
    below: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        below = psutil.Process(identity.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(identity.pid) == identity.pid:
            os.killpg(identity.pid, number)
        else:  # a terminal's shell leads the group
            os.kill(identity.pid, number)
    for one in below if every_one or number == signal.SIGKILL else ():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            one.send_signal(number)
