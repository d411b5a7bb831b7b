"""Reward models on this machine and their report cards; the gate in front of whatever acts on rewards."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_core.checkpoints.registry import Checkpoint, list_checkpoints, open_checkpoint, open_trusted
from rlhf_core.ground.cards import Kind, ReportCard, read_card
from rlhf_core.ground.errors import CorruptArtifact
from rlhf_core.services.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint with its card; ``problem`` says why there is none."""

    checkpoint: Checkpoint
    card: ReportCard | None
    problem: str | None = None


def models(workbench: Workbench) -> list[Model]:
    """All readable reward checkpoints, newest first."""
    workbench.require("compare")
    return [_with_card(one) for one in list_checkpoints(workbench.workspace.checkpoints, "reward")]


def model(workbench: Workbench, checkpoint_id: str) -> Model:
    """
    Raises:
        NotFound, CorruptArtifact: the checkpoint.
    """
    workbench.require("compare")
    return _with_card(open_checkpoint(workbench.workspace.checkpoints, checkpoint_id))


def gate(workbench: Workbench, checkpoint_id: str, kind: Kind, purpose: str) -> None:
    """Ask before acting on a checkpoint's rewards.

    Raises:
        NotFound, CorruptArtifact: the checkpoint, or its card.
        ModelRefused: what its card says does not allow it.
    """
    open_trusted(workbench.workspace.checkpoints, checkpoint_id, kind, purpose)


def _with_card(checkpoint: Checkpoint) -> Model:
    try:
        card = read_card(checkpoint.folder)
    except CorruptArtifact as error:
        return Model(checkpoint, None, str(error))
    if card is not None:
        return Model(checkpoint, card)
    if not checkpoint.complete:
        return Model(checkpoint, None, "Its training was stopped before it was measured. Train again to the end.")
    return Model(checkpoint, None, "It was trained before there were report cards. Train again to get one.")
