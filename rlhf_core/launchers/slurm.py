"""Jobs of a Slurm cluster, or of this machine in the same way (``executor = "local"``), by submitit.

submitit keeps what it hands over in files that it reads with pickle; they lie in the run's folder, which only who may start runs
can write.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil

from rlhf_core.ground import machine
from rlhf_core.ground.engines import Capacity, EngineSettings, Node
from rlhf_core.ground.errors import EngineRefused, EngineUnavailable
from rlhf_core.ground.processes import ProcessIdentity
from rlhf_core.launchers.base import Job, JobState, Work
from rlhf_core.launchers.local import end_all

ASK_S = 20.0
TAIL_BYTES = 20_000
UNSURE = ("timed out", "unable to contact", "connection refused", "communication", "try again", "temporarily")
FOLDER = "slurm"  # of a run's folder
_STATES: dict[str, JobState] = {
    "PENDING": "waiting", "CONFIGURING": "waiting", "REQUEUED": "waiting", "RESV_DEL_HOLD": "waiting", "SUSPENDED": "running",
    "RUNNING": "running", "COMPLETING": "running", "RESIZING": "running", "STOPPED": "running", "SIGNALING": "running",
    "STAGE_OUT": "running",
}  # fmt: skip


class SlurmLauncher:
    """:class:`~rlhf_core.launchers.base.Launcher` of one cluster. A job's id is Slurm's number; of the local executor it is
    ``PID:CREATE_TIME`` of submitit's controller."""

    def __init__(self, engine: EngineSettings) -> None:
        self._engine = engine
        self._folders: dict[str, Path] = {}

    @property
    def _local(self) -> bool:
        return self._engine.executor == "local"

    def capacity(self) -> Capacity:
        if self._local:
            memory, gpus, cores = machine.cpu(), len(machine.gpus()), machine.cores()
            return Capacity([Node("here", gpus, gpus, cores, cores, memory.total_mb, memory.free_mb)], 0, 0)
        partition = ["-p", str(self._engine.slurm["partition"])] if "partition" in self._engine.slurm else []
        states = self._ask("squeue", "-h", "-o", "%T", *partition).split()
        columns = "NodeList:64,CPUsState:32,Memory:32,FreeMem:32,Gres:128,GresUsed:128"  # each with its width
        nodes = self._ask("sinfo", "-h", "-N", "-O", columns, *partition)
        return Capacity(_nodes(nodes), states.count("PENDING"), states.count("RUNNING"))

    def submit(self, work: Work) -> str:
        import cloudpickle
        import submitit

        from rlhf_core.launchers import slurm_child

        if (lacking := self.capacity().lacks(work.needs)) is not None:
            raise EngineRefused(f"{self._engine.name} could never carry this out: {lacking}. Ask for less.")
        folder = work.folder / FOLDER / work.name
        if (before := self._handed_over(folder)) is not None:
            return before
        environment = [f"export {name}={shlex.quote(value)}" for name, value in work.environment.items()]
        lines = [*environment, *self._engine.setup, f"cd {shlex.quote(work.cwd)}", f"exec {shlex.join(work.argv)}"]
        needs = work.needs
        asked: dict[str, Any] = {"timeout_min": needs.minutes or self._engine.minutes, "gpus_per_node": needs.gpus or 0}
        if not self._local:
            asked |= {"name": work.name, "cpus_per_task": needs.cpus or 1, "nodes": 1, "tasks_per_node": 1,
                      "slurm_signal_delay_s": round(self._engine.grace_s + self._engine.terminate_s)}  # fmt: skip
            asked |= {"mem_gb": needs.memory_mb / 1024} if needs.memory_mb else {}
            asked |= {f"slurm_{name}": value for name, value in self._engine.slurm.items()}
        try:
            executor = submitit.AutoExecutor(
                folder=folder, cluster=self._engine.executor,
                **({f"{self._engine.executor}_python": shlex.quote(self._engine.python)} if self._engine.python else {}),
            )  # fmt: skip
            executor.update_parameters(**asked)
            cloudpickle.register_pickle_by_value(slurm_child)  # nodes need not find this module to read the job
            job = executor.submit(slurm_child.carry_out, ["/bin/sh", "-c", " && ".join(lines)])
        except (RuntimeError, ValueError, TypeError, OSError, subprocess.SubprocessError) as error:
            words = _words(error)
            if any(one in words.lower() for one in UNSURE):  # it may have taken it
                raise EngineUnavailable(f"{self._engine.name}: sbatch says: {words}") from error
            raise EngineRefused(f"{self._engine.name} did not take the job: {words}") from error
        job_id = str(job.job_id)
        if self._local:
            with contextlib.suppress(psutil.NoSuchProcess):
                job_id = str(ProcessIdentity(int(job_id), psutil.Process(int(job_id)).create_time()))
        (folder / "job").write_text(job_id, encoding="utf-8")
        self._folders[job_id] = folder
        return job_id

    def find(self, work_name: str, folder: Path) -> str | None:
        return self._handed_over(folder / FOLDER / work_name)

    def look(self, job_id: str) -> Job:
        if self._local:
            return Job("running" if ProcessIdentity.parse(job_id).is_alive() else "ended")
        said = self._ask("squeue", "-h", "-t", "all", "-j", self._number(job_id), "-o", "%T", wrong="Invalid job id").split()
        if not said:  # squeue forgets what ended some minutes ago; where there is accounting that knows
            with contextlib.suppress(EngineUnavailable, EngineRefused):
                said = self._ask("sacct", "-n", "-X", "-j", self._number(job_id), "-o", "State%32,ExitCode%16").split()
        if not said:
            return Job("unknown")
        state = _STATES.get(said[0].rstrip("+"), "ended")
        code = int(said[-1].partition(":")[0]) if len(said) > 1 and ":" in said[-1] else None
        return Job(state, code, f"Slurm says {said[0]}." if state == "ended" else "")

    def stop(self, job_id: str, *, force: bool = False) -> None:
        if self._local:
            number = signal.SIGKILL if force else signal.SIGTERM
            end_all(ProcessIdentity.parse(job_id), number, every_one=True)  # as scancel does
            return
        self._ask("scancel", *(["--signal=KILL", "--full"] if force else []), self._number(job_id), wrong="Invalid job id")

    def log_tail(self, job_id: str) -> str:
        folder = self._folders.get(job_id)
        if folder is None:
            return ""
        found = []
        for path in sorted(folder.glob("*_log.out")) + sorted(folder.glob("*_log.err")):
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - TAIL_BYTES))
                found.append(file.read().decode("utf-8", "replace"))
        return "\n".join(found)

    def _handed_over(self, folder: Path) -> str | None:
        """Of a try that was handed over before whoever did it could write down how it is called."""
        with contextlib.suppress(FileNotFoundError):
            job_id = (folder / "job").read_text(encoding="utf-8")
            self._folders[job_id] = folder
            return job_id
        if not self._local and folder.is_dir():
            found = self._ask("squeue", "-h", "-t", "all", "--name", folder.name, "-o", "%i").split()
            return found[0] if found else None
        return None

    @staticmethod
    def _number(job_id: str) -> str:
        if not job_id.isdigit():
            raise EngineRefused(f"{job_id!r} is no number of a Slurm job.")
        return job_id

    def _ask(self, *argv: str, wrong: str | None = None) -> str:
        """What a command of Slurm prints; nothing where it says ``wrong``."""
        program = shutil.which(argv[0])
        if program is None:
            raise EngineUnavailable(f"{self._engine.name}: {argv[0]} is not on this machine. Runs go to Slurm from a login node.")
        try:
            done = subprocess.run([program, *argv[1:]], capture_output=True, text=True, timeout=ASK_S, check=True)
        except subprocess.TimeoutExpired as error:
            raise EngineUnavailable(f"{self._engine.name}: {argv[0]} did not answer within {ASK_S:.0f} s.") from error
        except subprocess.CalledProcessError as error:
            if wrong is not None and wrong in error.stderr:
                return ""
            raise EngineUnavailable(f"{self._engine.name}: {argv[0]} says: {error.stderr.strip()[:300]}") from error
        return done.stdout


def _nodes(text: str) -> list[Node]:
    """Of lines ``name allocated/idle/other/total MEMORY FREE gres used``; a node of several partitions counts once."""
    found: dict[str, Node] = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) < 6 or parts[1].count("/") != 3:
            continue
        _, idle, _, total = (int(one) for one in parts[1].split("/"))
        memory = int(parts[2]) if parts[2].isdigit() else 0
        free = int(parts[3]) if parts[3].isdigit() else memory
        gpus, used = _gpus(parts[4]), _gpus(parts[5])
        found[parts[0]] = Node(parts[0], gpus, gpus - used, total, idle, memory, min(free, memory))
    return [*found.values()]


def _gpus(gres: str) -> int:
    """Of ``gpu:a100:4(S:0-1),gpu:2``."""
    return sum(int(count) for count in re.findall(r"gpu(?::[^:,()]+)?:(\d+)", gres))


def _words(error: BaseException) -> str:
    said = getattr(error, "stderr", None) or str(error) or type(error).__name__
    return (said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)).strip().splitlines()[-1][:300]
