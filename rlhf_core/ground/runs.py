"""A training run as the ledger keeps it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

RunKind = Literal["reward", "sft", "ppo", "generate"]
RunStatus = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled", "lost"]

UNFINISHED: frozenset[str] = frozenset({"queued", "running"})

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
LOG_FILE = "log.txt"
MACHINE_FILE = "machine.jsonl"  # memory, processors and GPU of the run's process, a line each few seconds
SAMPLES_FILE = "samples.jsonl"  # answers that a policy gave, a line each
ANSWERS_FILE = "answers.jsonl"  # what a run that writes has written, an answer a line
STATE_FILE = "state.pt"  # where a run that learns stands, to go on from


@dataclass(frozen=True, slots=True)
class Run:
    """One training run. Times are UTC text. ``step`` counts steps done out of ``total_steps``; ``snapshot_id`` is empty where
    nothing was learned from one. ``pausing``: the stop that was asked for is a pause. ``memory_mb``: what it was thought to need,
    MiB; ``device``: what a supervisor gave it; ``remedy``: options with which another try may succeed."""

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


def train_command(run: Run, workspace_root: Path) -> list[str]:
    """The command line that carries out a queued run: what the supervisor starts and what the page shows."""
    config = workspace_root / "runs" / run.id / CONFIG_FILE
    verbs = [run.kind] if run.kind == "generate" else ["train", run.kind]
    return [
        sys.executable, "-m", "rlhf_core", *verbs, "--workspace", str(workspace_root),
        *(["--snapshot", run.snapshot_id] if run.snapshot_id else []), "--config", str(config), "--run-id", run.id,
    ]  # fmt: skip
