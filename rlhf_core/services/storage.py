"""What training left on the disk, why it is kept, and removing what serves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rlhf_core.checkpoints.registry import list_checkpoints, open_checkpoint, retire
from rlhf_core.ground.errors import NotFound, RunRefused, disk_errors
from rlhf_core.ground.runs import STATE_FILE
from rlhf_core.services.lineage import serves, went_into_runs
from rlhf_core.services.workbench import Workbench

MB = 2**20


@dataclass(frozen=True, slots=True)
class Stored:
    """A checkpoint, or where a run stood (``state``, its id is the run's). ``serves``: what uses it now, so that it cannot be
    removed; ``kept_for``: these and other reasons why cleaning leaves it."""

    id: str
    kind: Literal["reward", "policy", "state"]
    size_mb: float
    created_at: str
    run_id: str
    serves: list[str] = field(default_factory=list)
    kept_for: list[str] = field(default_factory=list)


def stored(workbench: Workbench) -> list[Stored]:
    """All of it, the largest first."""
    workbench.require("train")
    checkpoints = list_checkpoints(workbench.workspace.checkpoints)
    runs = workbench.ledger.recent(None)
    used, best = serves(workbench), {run.checkpoint_id for run in runs}
    begun = went_into_runs(runs)
    last = {one.run_id: one.id for one in sorted(checkpoints, key=lambda one: one.metrics.get("trained_steps") or 0)}
    found = []
    for one in checkpoints:
        reasons = list(used.get(one.id, []))
        reasons += ["the best of its run"] if one.id in best else []
        reasons += ["the last of its run"] if last[one.run_id] == one.id and one.id not in best else []
        reasons += ["a run began from it or was judged by it"] if one.id in begun else []
        kind: Literal["reward", "policy"] = "policy" if one.kind == "policy" else "reward"
        found.append(Stored(one.id, kind, one.size_bytes / MB, one.created_at, one.run_id, used.get(one.id, []), reasons))
    for run in runs:
        path = workbench.workspace.run_folder(run.id) / STATE_FILE
        if path.is_file():
            uses = [f"run {run.id} is {run.status}"] if run.unfinished or run.status == "paused" else []
            reasons = uses or ["it can go on from here"] if run.status in ("failed", "lost", "cancelled", "paused") else uses
            size = path.stat().st_size / MB
            found.append(Stored(run.id, "state", size, run.finished_at or run.created_at, run.id, uses, reasons))
    return sorted(found, key=lambda one: -one.size_mb)


def remove(workbench: Workbench, ids: Sequence[str]) -> None:
    """Remove checkpoints, of which a note stays, and where ended runs stood: all of them, or none.

    Raises:
        NotFound: there is no such thing.
        RunRefused: something uses one now.
    """
    workbench.require("train")
    found = {one.id: one for one in stored(workbench)}
    for what in ids:
        if what not in found:
            raise NotFound(f"There is no checkpoint and no saved state {what!r} here.")
        if uses := found[what].serves:
            raise RunRefused(f"{what} cannot be removed: {'; '.join(uses)}.")
    for what in ids:
        with disk_errors("removing it", workbench.workspace.root):
            if found[what].kind == "state":
                (workbench.workspace.run_folder(what) / STATE_FILE).unlink(missing_ok=True)
            else:
                retire(open_checkpoint(workbench.workspace.checkpoints, what))
                workbench.score_cache.forget(what)
        workbench.note("remove checkpoint", what, kind=found[what].kind)
