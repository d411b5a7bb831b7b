"""Which checkpoint answers whom, as of a moment ago: asked for with every answer, so it is read seldom and never fails.

While the log of decisions cannot be read, people keep the control.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from rlhf_core.checkpoints.registry import list_checkpoints
from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.rollout import MODEL_KINDS, Arm, ModelKind, State, assigned, state_of
from rlhf_core.services.workbench import Workbench

KEEPS_S = 2.0  # how long a state that was read serves assignments
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assignment:
    """``checkpoint``: None where nothing serves yet; ``begun``: the roll-out, None where none is under way."""

    checkpoint: str | None
    arm: Arm
    begun: int | None


_known: WeakKeyDictionary[Any, dict[ModelKind, tuple[float, State]]] = WeakKeyDictionary()  # by what is shared in a process
_lock = threading.Lock()


def _seen_by(workbench: Workbench) -> dict[ModelKind, tuple[float, State]]:
    with _lock:
        return _known.setdefault(workbench.embedded, {})


def forget(workbench: Workbench) -> None:
    """Read anew how things stand, because something was decided."""
    _seen_by(workbench).clear()


def standing(workbench: Workbench, kind: ModelKind) -> State:
    """How things stand, as of some seconds ago at most. Where the store does not answer: what served when it last did."""
    known = _seen_by(workbench)
    read_at, now = known.get(kind, (-KEEPS_S, State()))
    if time.monotonic() - read_at > KEEPS_S:
        try:
            now = state_of(workbench.store.rollout.last(kind))
        except RlhfError as error:
            _log.warning("people keep the control of %s: %s", kind, error)
            now = State(now.serving, now.previous)
        known[kind] = (time.monotonic(), now)
    return now


def assignment(workbench: Workbench, kind: ModelKind, user_id: str) -> Assignment:
    """What a person gets."""
    now = standing(workbench, kind)
    checkpoint, arm = assigned(now, user_id)
    return Assignment(checkpoint, arm, now.begun)


def under_way(workbench: Workbench, checkpoint_id: str) -> int | None:
    """The number of the roll-out in which this checkpoint answers, in either arm; None: in none."""
    states = (standing(workbench, kind) for kind in MODEL_KINDS)
    return next((now.begun for now in states if checkpoint_id in (now.serving, now.canary)), None)


def reward_model(workbench: Workbench) -> str | None:
    """The reward checkpoint to take where none is named: the one that serves, else the newest whose training came to its end.
    None: there is none here. Whoever learns from it asks its report card too (:func:`rlhf_core.services.modelling.gate`)."""
    here = [one.id for one in list_checkpoints(workbench.workspace.checkpoints, "reward") if one.complete]
    asks = workbench.team is None or workbench.person is not None  # who answers applications has no seat in a team
    serves = standing(workbench, "reward").serving if asks else None
    return serves if serves in here else next(iter(here), None)
