"""A training run as the ledger keeps it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

RunKind = Literal["reward", "sft", "ppo", "generate"]
RunStatus = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled", "lost"]

ACCELERATE_CONFIGS = {"none": "deploy/accelerate/ddp.yaml", "fsdp": "deploy/accelerate/fsdp.yaml"}
LOCAL = "local"  # the engine that is this machine
UNFINISHED: frozenset[str] = frozenset({"queued", "running"})

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
LOG_FILE = "log.txt"
MACHINE_FILE = "machine.jsonl"  # memory, processors and GPU of the run's process, a line each few seconds
SAMPLES_FILE = "samples.jsonl"  # answers that a policy gave, a line each
ANSWERS_FILE = "answers.jsonl"  # what a run that writes has written, an answer a line
STATE_FILE = "state.pt"  # where a run that learns stands, to go on from
ORDER_FILE = "order.json"  # of a run that an engine carries out: its row as it was handed over, and what is asked of it now
TOLD_FILE = "told.json"  # and what it says of itself
ALONG_FILE = "along.txt"  # what a process that trained along ended by


@dataclass(frozen=True, slots=True)
class Run:
    """One training run. Times are UTC text. ``step`` counts steps done out of ``total_steps``; ``snapshot_id`` is empty where
    nothing was learned from one. ``pausing``: the stop that was asked for is a pause. ``memory_mb``: what it was thought to need,
    MiB; ``device``: what a supervisor gave it; ``remedy``: options with which another try may succeed. ``engine``: where it is
    carried out, ``local`` or a name of the settings; ``resources``: what it asks for there; ``job_id``: how the engine knows it;
    ``attempt``: how often it was handed over; ``holds``: the engine may still carry it out, whatever the status. ``sweep``: what
    runs that were begun together are called."""

    id: str
    kind: RunKind
    status: RunStatus
    config: dict[str, Any]
    snapshot_id: str
    requested_by: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    heartbeat_at: str | None
    host: str | None
    pid: int | None
    pid_create_time: float | None
    phase: str | None
    step: int
    total_steps: int | None
    cancel_requested: str | None
    message: str | None
    checkpoint_id: str | None
    priority: int
    pausing: bool
    memory_mb: int | None
    device: str | None
    remedy: dict[str, Any] | None
    engine: str = LOCAL
    resources: dict[str, Any] = field(default_factory=dict)
    job_id: str | None = None
    attempt: int = 0
    holds: bool = False
    sweep: str | None = None

    @property
    def unfinished(self) -> bool:
        return self.status in UNFINISHED


class RunLine(NamedTuple):
    """A run in a list of many. ``minutes``: from its start to its end, or so far; ``base``: the model it begins with;
    ``outcome``: the first words of its message, or its phase."""

    id: str
    kind: RunKind
    status: RunStatus
    created_at: str
    minutes: float | None
    step: int
    total_steps: int | None
    base: str | None
    checkpoint_id: str | None
    snapshot_id: str | None
    outcome: str


class Sweep(NamedTuple):
    """Runs that were begun together. ``unfinished``: how many of them wait, run or are paused."""

    name: str
    created_at: str
    runs: int
    unfinished: int
    kind: RunKind


def said_along(folder: Path) -> str:
    """What one of several processes said that it ended by, where one did."""
    try:
        return (folder / ALONG_FILE).read_text(encoding="utf-8")
    except OSError:
        return ""


def train_command(run: Run, workspace_root: Path, python: str = sys.executable) -> list[str]:
    """The command line that carries out a queued run: what the supervisor starts and what the page shows. Several processes are
    started by ``accelerate launch``."""
    config = workspace_root / "runs" / run.id / CONFIG_FILE
    verbs = [run.kind] if run.kind == "generate" else ["train", run.kind]
    processes = int(run.resources.get("processes", 1))
    several = [
        "-m", "accelerate.commands.launch", "--config_file", ACCELERATE_CONFIGS[run.resources.get("sharding", "none")],
        "--num_processes", str(processes), "--main_process_port", "0",
        "--module",
    ]  # fmt: skip
    return [
        python, *(several if processes > 1 else ["-m"]), "rlhf_core", *verbs, "--workspace", str(workspace_root),
        *(["--snapshot", run.snapshot_id] if run.snapshot_id else []), "--config", str(config), "--run-id", run.id,
    ]  # fmt: skip
