"""Launch and watch training runs. What a page shows is read from the run's row and files; the run writes them itself."""

from __future__ import annotations

import itertools
import json
import os
from datetime import UTC, datetime
from typing import Any

from rlhf_core.analytics.snapshot import open_snapshot
from rlhf_core.checkpoints.base_models import BUNDLED, DEFAULT, locate, offline_names
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.errors import NotEnoughData, NotFound, RunRefused, disk_errors
from rlhf_core.ground.files import write_json
from rlhf_core.ground.processes import ProcessIdentity, this_host
from rlhf_core.ground.records import new_id, parse_utc
from rlhf_core.ground.runs import CONFIG_FILE, LOG_FILE, METRICS_FILE, STATE_FILE, Run, train_command
from rlhf_core.services.workbench import Workbench

LOG_TAIL_BYTES = 20_000


def add_reward_run(
    workbench: Workbench,
    snapshot_id: str,
    config: RewardConfig,
    *,
    requested_by: str | None = None,
    here: bool = False,
) -> Run:
    """Write the config and a row. A supervisor starts it, or this process does (``here``).

    Raises:
        NotFound, CorruptArtifact: the snapshot.
        NotEnoughData: it has no ratings.
        ModelUnavailable: the base model's path has no model.
        RunRefused: it is to go on from a run that is still at work, or had other options or another snapshot.
    """
    workbench.require("train")
    if config.resume_from is not None:
        _check_resumable(workbench, config.resume_from, snapshot_id, config)
    snapshot = open_snapshot(workbench.workspace.snapshots, snapshot_id)
    if snapshot.ratings == 0 and snapshot.rows["preferences"] == 0:
        raise NotEnoughData(f"Snapshot {snapshot.id} has no ratings. Rate some chats and take a new snapshot.")
    locate(config.reward_base_model, workbench.workspace.checkpoints)
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{new_id()[:6]}"
    folder = workbench.workspace.run_folder(run_id)
    with disk_errors("preparing the run", folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG_FILE, config.model_dump())
    host = this_host() if here else None
    return workbench.ledger.add(run_id, "reward", config.model_dump(), snapshot.id, requested_by, host)


def resume(workbench: Workbench, run_id: str, *, requested_by: str | None = None, here: bool = False) -> Run:
    """A new run that goes on where a stopped or killed one stood, to the numbers that one would have come to.

    Raises:
        NotFound: there is no such run, or it saved no state.
        RunRefused: it is still at work.
    """
    workbench.require("train")
    old = workbench.ledger.get(run_id)
    config = RewardConfig.parse(old.config | {"resume_from": old.id})
    return add_reward_run(workbench, old.snapshot_id, config, requested_by=requested_by, here=here)


def can_resume(workbench: Workbench, run: Run) -> bool:
    """Whether it has ended and left a state to go on from."""
    return not run.unfinished and (workbench.workspace.run_folder(run.id) / STATE_FILE).is_file()


def _check_resumable(workbench: Workbench, run_id: str, snapshot_id: str, config: RewardConfig) -> None:
    old = workbench.ledger.get(run_id)
    here = old.status == "running" and old.host == this_host() and old.pid is not None
    if here and not ProcessIdentity(old.pid or 0, old.pid_create_time or 0.0).is_alive():
        workbench.ledger.finish(old.id, "lost", "Its process is gone.", None)
        old = workbench.ledger.get(run_id)
    if old.unfinished:
        raise RunRefused(f"Run {old.id} is still {old.status}. Cancel it, or wait for its end.")
    if not can_resume(workbench, old):
        raise NotFound(
            f"Run {old.id} has no saved state to go on from: it had not begun to learn, or it came to its end. Start a new run."
        )
    then, now = (RewardConfig.parse(one).model_dump(exclude={"resume_from"}) for one in (old.config, config.model_dump()))
    other = [name for name in now if now[name] != then[name]]
    if other or not old.snapshot_id.startswith(snapshot_id):
        raise RunRefused(
            f"Run {old.id} can only go on as it began, on snapshot {old.snapshot_id}; "
            + (f"{', '.join(other)} would be different." if other else "this is another snapshot.")
        )


def command_of(workbench: Workbench, run: Run) -> list[str]:
    return train_command(run, workbench.workspace.root)


def runs(workbench: Workbench, limit: int = 200) -> list[Run]:
    workbench.require("train")
    return workbench.ledger.recent(limit)


def run(workbench: Workbench, run_id: str) -> Run:
    workbench.require("train")
    return workbench.ledger.get(run_id)


def cancel(workbench: Workbench, run_id: str) -> Run:
    """Ask a run to stop: it saves what it has learnt and ends. See :meth:`RunLedger.request_cancel` for errors."""
    workbench.require("train")
    return workbench.ledger.request_cancel(run_id)


def metrics(workbench: Workbench, run_id: str) -> list[dict[str, Any]]:
    """Every whole line that the run has written to its metrics file so far."""
    workbench.require("train")
    try:
        text = (workbench.workspace.run_folder(run_id) / METRICS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def log_tail(workbench: Workbench, run_id: str) -> str:
    """The end of the run's log."""
    workbench.require("train")
    try:
        with (workbench.workspace.run_folder(run_id) / LOG_FILE).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return text if size <= LOG_TAIL_BYTES else text.partition("\n")[2]


def seconds_left(run: Run, lines: list[dict[str, Any]]) -> float | None:
    """Estimated seconds to the last training step, from the pace of the last steps; None before there is a pace."""
    steps = [line for line in lines if line.get("split") == "train"][-30:]
    if run.total_steps is None or len(steps) < 2:
        return None
    paces = sorted(later["time"] - earlier["time"] for earlier, later in itertools.pairwise(steps))
    return float(paces[len(paces) // 2]) * max(0, run.total_steps - int(steps[-1]["step"]))


def seconds_running(run: Run) -> float | None:
    if run.started_at is None:
        return None
    end = parse_utc(run.finished_at) if run.finished_at else datetime.now(UTC)
    return (end - parse_utc(run.started_at)).total_seconds()


def base_models(workbench: Workbench) -> tuple[list[str], str]:
    """Names to offer, best first, and one sentence on what needs a network. Looks at this machine only."""
    offline = offline_names(workbench.workspace.checkpoints)
    if DEFAULT in offline:
        return offline, f"{DEFAULT} is on this machine."
    if BUNDLED in offline:
        note = f"{BUNDLED} is bundled and works without a network. {DEFAULT} would be downloaded from the model hub first."
        return [BUNDLED, DEFAULT, *(name for name in offline if name != BUNDLED)], note
    return [DEFAULT, *offline], f"{DEFAULT} will be downloaded from the model hub first."
