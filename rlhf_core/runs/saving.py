"""A checkpoint as a run makes it: built in a folder of its own, sealed when all of it is there, or not there at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlhf_core.checkpoints.registry import Checkpoint, seal
from rlhf_core.ground.configs import RunConfig
from rlhf_core.ground.errors import disk_errors
from rlhf_core.ground.files import building, sweep_leftovers
from rlhf_core.ground.settings import Workspace
from rlhf_core.learn.reward_model import library_versions


@dataclass
class Making:
    """``folder``: where its files go; ``checkpoint``: it, once it is sealed. ``scoring``: what a scorer of it needs to know, to
    be said before then."""

    folder: Path
    scoring: dict[str, Any]
    _sealed: Checkpoint | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        assert self._sealed is not None, "it is sealed when its block ends"
        return self._sealed


@contextmanager
def new_checkpoint(
    workspace: Workspace, kind: Literal["reward", "policy"], run_id: str, snapshot_id: str, config: RunConfig, *, complete: bool,
    metrics: dict[str, Any],
) -> Iterator[Making]:  # fmt: skip
    """
    Args:
        workspace: Whose.
        kind: What it is.
        run_id, snapshot_id, config: Of the run that makes it.
        complete: Whether the run came to its end.
        metrics: What was measured, by name.

    Raises:
        StorageFull, StoreUnavailable: the disk is full, or does not let itself be written; nothing of it stays.
    """
    with disk_errors("saving the checkpoint", workspace.checkpoints):
        sweep_leftovers(workspace.checkpoints)
        with building(workspace.checkpoints) as scratch:
            making = Making(scratch, {})
            yield making
            making._sealed = seal(
                scratch, workspace.checkpoints, kind=kind, run_id=run_id, snapshot_id=snapshot_id, parent=config.begins_from,
                complete=complete, config=config.model_dump(), metrics=metrics, scoring=making.scoring,
                libraries=library_versions(),
            )  # fmt: skip
