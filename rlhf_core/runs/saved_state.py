"""Where a run stands, on disk: enough to go on to the same numbers after it was stopped or killed."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlhf_core.ground.errors import CorruptArtifact, NotFound, disk_errors
from rlhf_core.ground.runs import STATE_FILE
from rlhf_core.ground.settings import Workspace
from rlhf_core.learn.crew import Crew, shared_like, whole

EVERY_S = 600.0


class SavedState:
    """The state file of one run's folder, written whole or not at all.

    Args:
        folder: The run's folder.
        modules: What learns; of their parameters those with gradients are kept.
        optimiser, schedule: Theirs.
        crew: The processes that learn together; all of them save and load, and the first one writes.
    """

    def __init__(
        self, folder: Path, modules: Sequence[nn.Module], optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler, crew: Crew,
    ) -> None:  # fmt: skip
        self._crew = crew
        self._path = folder / STATE_FILE
        self._modules, self._optimiser, self._schedule = modules, optimiser, schedule
        self._written = time.monotonic()

    def save(self, place: dict[str, Any], *, at_most_every_s: float = 0.0) -> None:
        """Write where the run stands, unless that was done a short while ago.

        Args:
            place: Plain numbers and texts: epoch, batches done in it, step, history.
            at_most_every_s: Seconds since the last writing.
        """
        crew = self._crew
        due = crew.decided(time.monotonic() - self._written >= at_most_every_s)  # in all of them or in none
        if not due:
            return
        state = {
            "place": place, "optimiser": _whole(self._optimiser.state_dict()), "schedule": self._schedule.state_dict(),
            "weights": [learning(module) for module in self._modules],
            "rng_of_each": crew.gather([torch.get_rng_state()]), "rng_gpu_of_each": _each_gpu(crew),
        }  # fmt: skip
        self._written = time.monotonic()
        if not crew.first:
            return
        scratch = self._path.with_suffix(".part")
        with disk_errors("saving where the run stands", self._path.parent):
            try:
                with scratch.open("wb") as file:  # given a path, torch hides what a full disk says
                    torch.save(state, file)
                scratch.replace(self._path)
            finally:
                scratch.unlink(missing_ok=True)

    def load(self, folder: Path) -> dict[str, Any]:
        """Put back what a run's folder holds. Returns its ``place``.

        Raises:
            NotFound: it holds nothing.
            CorruptArtifact: what it holds cannot be read or is of another model.
        """
        path = folder / STATE_FILE
        if not path.is_file():
            raise NotFound(
                f"Run {folder.name} has no saved state to go on from: it had not begun to learn, or it came to its end. Start a "
                "new run."
            )
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            for module, weights in zip(self._modules, state["weights"], strict=True):
                put_back(module, weights)
            self._optimiser.load_state_dict(state["optimiser"])
            for parameter, kept in self._optimiser.state.items():
                kept.update({
                    name: shared_like(one, parameter) for name, one in kept.items() if isinstance(one, torch.Tensor)
                })  # fmt: skip
            self._schedule.load_state_dict(state["schedule"])
            torch.set_rng_state(self._mine(state.get("rng_of_each") or [state["rng"]]))
            if (gpus := state.get("rng_gpu_of_each", state.get("rng_gpu"))) and torch.cuda.is_available():
                torch.cuda.set_rng_state(self._mine(gpus))
        except (RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError, OSError) as error:
            raise CorruptArtifact(f"The saved state of run {folder.name} cannot be read: {error}. Start a new run.") from error
        return dict(state["place"])

    def _mine(self, of_each: list[torch.Tensor]) -> torch.Tensor:
        """This process's; the first one's where they were not as many then."""
        return of_each[self._crew.rank if len(of_each) == self._crew.size else 0]


def forget(workspace: Workspace, run_id: str, resume_from: str | None) -> None:
    """What came of a run is saved: nothing is left to go on from, neither of it nor of the run that it went on from."""
    for one in filter(None, (run_id, resume_from)):
        (workspace.run_folder(one) / STATE_FILE).unlink(missing_ok=True)


def stands_in(workspace: Workspace, run_id: str, resume_from: str | None) -> Path | None:
    """Whose folder says where to go on: the run's own, where it was paused; that of the run it goes on from; None for a new one.

    Raises:
        NotFound: that run has no saved state.
    """
    mine = workspace.run_folder(run_id)
    if run_id and (mine / STATE_FILE).is_file():
        return mine
    return None if resume_from is None else workspace.run_folder(resume_from)


def learning(module: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the parameters that learn, by name; whole ones, whoever keeps a share of them."""
    return {name: whole(one.detach()).cpu().clone() for name, one in module.named_parameters() if one.requires_grad}


def put_back(module: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """
    Raises:
        ValueError: they are of another module.
    """
    mine = {name: one for name, one in module.named_parameters() if one.requires_grad}
    if mine.keys() != weights.keys() or any(mine[name].shape != one.shape for name, one in weights.items()):
        raise ValueError("its parameters are not those of this model")
    with torch.no_grad():
        for name, one in weights.items():
            mine[name].copy_(shared_like(one, mine[name]))


def _each_gpu(crew: Crew) -> list[torch.Tensor]:
    """The random state of every process's own GPU."""
    return crew.gather([torch.cuda.get_rng_state()]) if torch.cuda.is_available() else []


def _whole(state: Any) -> Any:
    """An optimiser's state with whole tensors in it."""
    if isinstance(state, torch.Tensor):
        return whole(state)
    if isinstance(state, dict):
        return {name: _whole(one) for name, one in state.items()}
    return [_whole(one) for one in state] if isinstance(state, list) else state
