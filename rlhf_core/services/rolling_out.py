"""Let a better checkpoint reach people: a share of them first, watched by what they say of it, taken back where it is worse.

The log of decisions is in the store, so every machine of a team sees the same. While it cannot be read, people keep the control.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from rlhf_core.analytics.rails import Look, Rail, counted, judge
from rlhf_core.checkpoints.registry import Checkpoint, list_checkpoints, open_checkpoint
from rlhf_core.ground.errors import Conflict, CorruptArtifact, InvalidInput, NotFound, RlhfError, Unproven
from rlhf_core.ground.rollout import (
    ACTS,
    MAX_REASON,
    MEANWHILE,
    MODEL_KINDS,
    SHARES,
    Act,
    ModelEvent,
    ModelKind,
    State,
    next_entry,
    state_of,
)  # fmt: skip
from rlhf_core.services import serving
from rlhf_core.services.workbench import Workbench

KEEPS_LOOK_S = 4.0
_looks: WeakKeyDictionary[Any, dict[ModelKind, tuple[float, Look]]] = WeakKeyDictionary()  # by what is shared in a process
_lock = threading.Lock()
_log = logging.getLogger(__name__)

__all__ = [
    "ACTS", "MODEL_KINDS", "SHARES", "Look", "Rail", "State", "able", "back", "canary", "candidate", "decide", "done", "drop",
    "glance", "history", "look", "serve", "share_of_people", "state", "watch",
]  # fmt: skip


# deciding ---------------------------------------------------------------------------------------------------------------


def state(workbench: Workbench, kind: ModelKind) -> State:
    """How things stand now."""
    return state_of(_last(workbench, kind))


def _last(workbench: Workbench, kind: ModelKind) -> ModelEvent | None:
    workbench.require("compare")
    return workbench.store.rollout.last(kind)


def history(workbench: Workbench, kind: ModelKind) -> list[ModelEvent]:
    """All that was decided, in order."""
    workbench.require("compare")
    return workbench.store.rollout.events(kind)


def done(event: ModelEvent) -> str:
    """What an entry of the log did, in words."""
    return ACTS[event.act] + (", unproven" if event.detail.get("unproven") else "")


def candidate(
    workbench: Workbench, kind: ModelKind, checkpoint_id: str, reason: str, *, seen: int | None = None,
    detail: Mapping[str, Any] | None = None,
) -> ModelEvent:  # fmt: skip
    """Make a checkpoint the candidate.

    Args:
        workbench: Whose.
        kind: Of checkpoint.
        checkpoint_id: Which.
        reason: Why.
        seen: The number of the log's last entry when it was decided, here and in the functions below; None: it does not matter.
        detail: Figures, for the log.

    Raises:
        NotFound, CorruptArtifact, InvalidInput: no such checkpoint of the kind here, altered, unfinished, or it serves already.
        Conflict: somebody decided something meanwhile.
    """
    _fit(workbench, kind, checkpoint_id)
    return _decide(workbench, kind, "candidate", reason, seen=seen, checkpoint_id=checkpoint_id, detail=detail)


def drop(workbench: Workbench, kind: ModelKind, reason: str, *, seen: int | None = None) -> ModelEvent:
    """Let the candidate be none any more."""
    return _decide(workbench, kind, "drop", reason, seen=seen)


def canary(
    workbench: Workbench, kind: ModelKind, reason: str, *, checkpoint_id: str | None = None, share: float | None = None,
    again: bool = False, seen: int | None = None,
) -> ModelEvent:  # fmt: skip
    """Give a checkpoint, or the candidate, to a share of people.

    Args:
        workbench: Whose.
        kind: Of checkpoint.
        reason: Why.
        checkpoint_id: None: the candidate.
        share: Of people, above 0 and below 1; None: the first of :data:`SHARES`.
        again: Even where it was taken back before.
        seen: See :func:`candidate`.

    Raises:
        NotFound, CorruptArtifact: the checkpoint, or the one that serves, is gone or was altered.
        InvalidInput: it cannot be rolled out now, or was taken back before.
        Conflict: somebody decided something meanwhile.
    """
    events = history(workbench, kind)
    now = state_of(events[-1] if events else None)
    about = checkpoint_id or now.candidate
    if about is not None:
        _fit(workbench, kind, about, events, again=again)
    if now.serving is not None:
        _fit(workbench, kind, now.serving)
    known = len(events) if seen is None else seen
    return _decide(workbench, kind, "canary", reason, seen=known, checkpoint_id=about, share=share)


def share_of_people(workbench: Workbench, kind: ModelKind, share: float, reason: str, *, seen: int | None = None) -> ModelEvent:
    """Change the canary's share; whoever has it keeps it as it grows. The figures of the moment go into the log."""
    found = look(workbench, kind)
    _same(found, seen)
    if found.fault:
        raise InvalidInput(f"It has to go back: {found.fault}")
    if found.state.canary is not None:
        _fit(workbench, kind, found.state.canary)
    return _decide(workbench, kind, "share", reason, seen=found.number, share=share, detail=_figures(found))


def serve(
    workbench: Workbench, kind: ModelKind, reason: str, checkpoint_id: str | None = None, *, again: bool = False,
    unproven: bool = False, seen: int | None = None,
) -> ModelEvent:  # fmt: skip
    """Let a checkpoint serve everybody: the one named, the canary, or the candidate.

    Args:
        workbench: Whose.
        kind: Of checkpoint.
        reason: Why.
        checkpoint_id: None: the canary, or else the candidate.
        again: Even where it was taken back before.
        unproven: Even where people's ratings have not shown that it is no worse than the one that serves.
        seen: See :func:`candidate`.

    Raises:
        Unproven: they have not, and ``unproven`` is not said.
        NotFound, CorruptArtifact, InvalidInput, Conflict: as of :func:`canary`.
    """
    found = look(workbench, kind)
    _same(found, seen)
    about = checkpoint_id or found.state.canary or found.state.candidate
    if found.fault and about == found.state.canary:
        raise InvalidInput(f"It has to go back: {found.fault}")
    if about is not None:
        events = history(workbench, kind) if about != found.state.canary else ()
        _fit(workbench, kind, about, events, again=again)
    figures = _figures(found)
    if about is not None and reason.strip() and (doubt := _doubt(found, about)):
        if not unproven:
            raise Unproven(doubt)
        figures["unproven"] = True
    return _decide(workbench, kind, "serve", reason, seen=found.number, checkpoint_id=about, detail=figures)


def back(workbench: Workbench, kind: ModelKind, reason: str, *, seen: int | None = None) -> ModelEvent:
    """Take the canary back; without one, let the checkpoint serve again that did before."""
    found = look(workbench, kind)
    _same(found, seen)
    if found.state.canary is None and found.state.previous is not None:
        _fit(workbench, kind, found.state.previous)
    return _decide(workbench, kind, "back", reason, seen=found.number, detail=_figures(found))


def decide(
    workbench: Workbench, kind: ModelKind, act: Act, reason: str, *, checkpoint_id: str | None = None, share: float | None = None,
    again: bool = False, unproven: bool = False, seen: int | None = None,
) -> ModelEvent:  # fmt: skip
    """Any of the acts above, by its name in the log.

    Args:
        workbench: Whose.
        kind: Of checkpoint.
        act: See :data:`ACTS`.
        reason: Why.
        checkpoint_id: Of ``candidate``, ``canary`` and ``serve``.
        share: Of ``canary`` and ``share``.
        again: Of ``canary`` and ``serve``: even where it was taken back before.
        unproven: Of ``serve``: see :func:`serve`.
        seen: See :func:`candidate`.

    Raises:
        InvalidInput: what the act needs is not named.
        Unproven, NotFound, CorruptArtifact, Conflict: as of each.
    """
    if act == "candidate":
        if checkpoint_id is None:
            raise InvalidInput("Name the checkpoint that is to be the candidate.")
        return candidate(workbench, kind, checkpoint_id, reason, seen=seen)
    if act == "canary":
        return canary(workbench, kind, reason, checkpoint_id=checkpoint_id, share=share, again=again, seen=seen)
    if act == "share":
        if share is None:
            raise InvalidInput("Say which share of people is to get it (--share).")
        return share_of_people(workbench, kind, share, reason, seen=seen)
    if act == "serve":
        return serve(workbench, kind, reason, checkpoint_id, again=again, unproven=unproven, seen=seen)
    if act == "drop":
        return drop(workbench, kind, reason, seen=seen)
    if act == "back":
        return back(workbench, kind, reason, seen=seen)
    raise InvalidInput(f"{act} is nothing that can be decided; one of {', '.join(ACTS)} is.")


def _same(found: Look, seen: int | None) -> None:
    if seen is not None and seen != found.number:
        raise Conflict(MEANWHILE)


def _decide(
    workbench: Workbench, kind: ModelKind, act: Act, reason: str, *, seen: int | None = None, by: str | None = None, **more: Any
) -> ModelEvent:  # fmt: skip
    workbench.require("promote")
    rollout = workbench.store.rollout
    event = next_entry(kind, rollout.last(kind), act, who=by or workbench.name, reason=reason, seen=seen, **more)
    rollout.add(event)
    serving.forget(workbench)
    with _lock:
        _looks.pop(workbench.embedded, None)
    workbench.note(f"model {act}", event.checkpoint_id, by, kind=kind, share=event.state.share or None, reason=event.reason)
    return event


def _fit(
    workbench: Workbench, kind: ModelKind, checkpoint_id: str, events: Sequence[ModelEvent] = (), *, again: bool = False
) -> None:  # fmt: skip
    """That it is there as it was made, of the kind, trained to its end, and was not taken back (by these entries)."""
    one = open_checkpoint(workbench.workspace.checkpoints, checkpoint_id, verify=True)
    if _kind_of(one) != kind:
        raise InvalidInput(f"{checkpoint_id} is a {one.kind} checkpoint, not a {kind} one.")
    if not one.complete:
        raise InvalidInput(f"The training of {checkpoint_id} was stopped before its end. Let it go on, or take another one.")
    before = next((one for one in reversed(events) if one.act == "back" and one.checkpoint_id == checkpoint_id), None)
    if before is not None and not again:
        raise InvalidInput(
            f"{checkpoint_id} was taken back on {before.at[:10]}: {before.reason} Say that it is to be tried again (--again) if "
            "you know better."
        )


def _doubt(found: Look, checkpoint_id: str) -> str | None:
    """Why nobody knows that a checkpoint is no worse than the one whose place it would take; None: people's ratings show it."""
    now = found.state
    if now.serving in (None, checkpoint_id) or now.canary not in (None, checkpoint_id) or found.not_worse_after is not None:
        return None
    known = found.says if now.canary else "No share of people has had it first."
    return f"{known} Nothing shows yet that {checkpoint_id} is no worse for people than {now.serving}, which serves them now."


def _kind_of(one: Checkpoint) -> ModelKind:
    return "policy" if one.kind == "policy" else "reward"


def able(workbench: Workbench, kind: ModelKind) -> list[str]:
    """Checkpoints of the kind on this machine that were trained to their end, the newest first."""
    found = list_checkpoints(workbench.workspace.checkpoints)
    return [one.id for one in found if one.complete and _kind_of(one) == kind]


# watching ---------------------------------------------------------------------------------------------------------------


def look(workbench: Workbench, kind: ModelKind) -> Look:
    """How the roll-out stands now; nothing is decided by it."""
    last = _last(workbench, kind)
    now, number = state_of(last), last.number if last else 0
    if now.canary is None or now.serving is None or now.begun is None:
        return Look(now, number)
    served = counted(workbench.store.rollout.served(now.begun, now.canary, now.serving))
    seen = replace(judge(now, served), number=number)
    return seen if seen.fault else _with_files(workbench, seen)


def glance(workbench: Workbench, kind: ModelKind) -> Look:
    """The same, some seconds old at most unless something was decided: for pages that look again and again."""
    workbench.require("compare")
    with _lock:
        looks = _looks.setdefault(workbench.embedded, {})
    at, seen = looks.get(kind, (-KEEPS_LOOK_S, None))
    if seen is None or time.monotonic() - at > KEEPS_LOOK_S:
        seen = look(workbench, kind)
        looks[kind] = (time.monotonic(), seen)
    return seen


def _with_files(workbench: Workbench, seen: Look) -> Look:
    """A canary whose files are gone or of another size cannot go on; that they are what they were is checked whenever its share
    grows."""
    assert seen.state.canary is not None
    try:
        one = open_checkpoint(workbench.workspace.checkpoints, seen.state.canary)
        for name, entry in one.manifest["files"].items():
            path = one.folder / name
            if not path.is_file() or path.stat().st_size != entry["size_bytes"]:
                raise CorruptArtifact(f"{name} is gone or was altered.")
    except NotFound:
        if workbench.team is not None:
            return seen  # it may lie on another machine of the team
        return replace(seen, fault="Its files are gone from this machine.")
    except CorruptArtifact as error:
        return replace(seen, fault=f"Its files are not what they were: {error}"[:MAX_REASON])
    return seen


def _figures(seen: Look) -> dict[str, Any]:
    """For the log."""
    if not seen.rails:
        return {}
    return {
        "answers": seen.answers, "rated": seen.rated,
        "rails": {one.name: {"canary": one.canary, "control": one.control, "evidence": one.evidence} for one in seen.rails},
    }  # fmt: skip


def watch(workbench: Workbench) -> list[ModelEvent]:
    """Look at every roll-out, and take back what has to go. Returns what was decided. What keeps one kind from being looked at
    keeps no other; the last such error is raised at the end where nothing was decided."""
    done: list[ModelEvent] = []
    failed: RlhfError | None = None
    for kind in MODEL_KINDS:
        try:
            seen = look(workbench, kind)
            if seen.fault is not None:
                reason = seen.fault[:MAX_REASON]
                done.append(_decide(workbench, kind, "back", reason, seen=seen.number, by="the workbench", detail=_figures(seen)))
        except Conflict:
            _log.info("somebody decided about the %s roll-out meanwhile", kind)
        except RlhfError as error:
            _log.warning("the %s roll-out could not be looked at: %s", kind, error)
            failed = error
    if failed is not None and not done:
        raise failed
    return done
