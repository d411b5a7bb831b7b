"""Let a better checkpoint reach people: a share of them first, watched by what they say of it, taken back where it is worse.

The log of decisions is in the store, so every machine of a team sees the same. While it cannot be read, people keep the control.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from rlhf_core.analytics.sequential import Floats, Interval, crossed, differences, interval, signs, wealth
from rlhf_core.checkpoints.registry import Checkpoint, list_checkpoints, open_checkpoint
from rlhf_core.ground.errors import Conflict, CorruptArtifact, InvalidInput, NotFound, RlhfError
from rlhf_core.ground.rollout import (
    ACTS,
    MAX_REASON,
    MEANWHILE,
    MODEL_KINDS,
    SHARES,
    Act,
    Arm,
    ModelEvent,
    ModelKind,
    Served,
    State,
    assigned,
    decide,
    state_of,
)
from rlhf_core.services.workbench import Workbench

COUNTS_AT_MOST = 5  # answers of a person: nobody decides alone
MARGIN = 0.25  # stars; a canary that is shown not to be worse by more may grow
KEEPS_LOOK_S = 4.0
KEEPS_S = 2.0  # how long a state that was read serves assignments
_log = logging.getLogger(__name__)

__all__ = [
    "ACTS",
    "MODEL_KINDS",
    "SHARES",
    "Assignment",
    "Look",
    "Rail",
    "State",
    "able",
    "assignment",
    "back",
    "candidate",
    "counted",
    "drop",
    "forget_standing",
    "glance",
    "grow",
    "history",
    "judge",
    "look",
    "serve",
    "standing",
    "start",
    "state",
    "under_way",
    "watch",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rail:
    """One thing that is watched. ``alpha``: how probable it is at most that it ever takes back a canary without a fault;
    ``wealth``: evidence against the canary after each comparison (see :mod:`rlhf_core.analytics.sequential`), which takes it back
    at 1/alpha; ``after``: comparisons until then, None: not yet. ``canary``, ``control``: what is shown of the arms, None: no
    data."""

    name: str
    about: str
    alpha: float
    wealth: Floats
    after: int | None
    canary: float | None
    control: float | None
    unit: str

    @property
    def evidence(self) -> float:
        return float(self.wealth[-1]) if len(self.wealth) else 1.0


@dataclass(frozen=True, slots=True)
class Look:
    """How a roll-out stands. ``number``: of the log's last entry. ``answers``, ``rated``, ``people``: by arm. ``difference``:
    canary minus control in stars, at every look together, at a level of 95%; ``not_worse_after``: comparisons until it was shown
    not to be worse by ``MARGIN``; ``fault``: why it has to go back."""

    state: State
    number: int = 0
    rails: list[Rail] = field(default_factory=list)
    answers: dict[Arm, int] = field(default_factory=dict)
    rated: dict[Arm, int] = field(default_factory=dict)
    people: dict[Arm, int] = field(default_factory=dict)
    difference: Interval | None = None
    not_worse_after: int | None = None
    fault: str | None = None

    @property
    def says(self) -> str:
        """In a sentence."""
        if self.state.canary is None:
            return "Nothing is being rolled out."
        if self.fault:
            return self.fault
        for arm in ("canary", "control"):
            if not self.rated.get(arm):
                return f"Nobody has rated an answer of the {arm} yet, so there is nothing to compare."
        if self.not_worse_after is not None:
            return f"It is not worse by more than {MARGIN:g} stars, so its share may grow."
        return "There is no sign that it is worse, and not enough yet to say that it is not."


@dataclass(frozen=True, slots=True)
class Assignment:
    """``checkpoint``: None where nothing serves yet; ``begun``: the roll-out, None where none is under way."""

    checkpoint: str | None
    arm: Arm
    begun: int | None


# deciding ---------------------------------------------------------------------------------------------------------------


def state(workbench: Workbench, kind: ModelKind) -> State:
    return state_of(history(workbench, kind))


def history(workbench: Workbench, kind: ModelKind) -> list[ModelEvent]:
    """All that was decided, in order."""
    workbench.require("compare")
    return workbench.store.rollout.events(kind)


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


def start(
    workbench: Workbench, kind: ModelKind, reason: str, *, checkpoint_id: str | None = None, share: float = SHARES[0],
    again: bool = False, seen: int | None = None,
) -> ModelEvent:  # fmt: skip
    """Give a checkpoint, or the candidate, to a share of people.

    Args:
        workbench: Whose.
        kind: Of checkpoint.
        reason: Why.
        checkpoint_id: None: the candidate.
        share: Of people, above 0 and below 1.
        again: Even where it was taken back before.
        seen: See :func:`candidate`.

    Raises:
        NotFound, CorruptArtifact: the checkpoint, or the one that serves, is gone or was altered.
        InvalidInput: it cannot be rolled out now, or was taken back before.
        Conflict: somebody decided something meanwhile.
    """
    events = history(workbench, kind)
    now = state_of(events)
    about = checkpoint_id or now.candidate
    if about is not None:
        _fit(workbench, kind, about, events, again=again)
    if now.serving is not None:
        _fit(workbench, kind, now.serving)
    known = len(events) if seen is None else seen
    return _decide(workbench, kind, "canary", reason, seen=known, checkpoint_id=about, share=share)


def grow(workbench: Workbench, kind: ModelKind, share: float, reason: str, *, seen: int | None = None) -> ModelEvent:
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
    seen: int | None = None,
) -> ModelEvent:  # fmt: skip
    """Let a checkpoint serve everybody: the one named, the canary, or the candidate. Args and raises as :func:`start`."""
    found = look(workbench, kind)
    _same(found, seen)
    about = checkpoint_id or found.state.canary or found.state.candidate
    if found.fault and about == found.state.canary:
        raise InvalidInput(f"It has to go back: {found.fault}")
    if about is not None:
        events = history(workbench, kind) if about != found.state.canary else ()
        _fit(workbench, kind, about, events, again=again)
    return _decide(workbench, kind, "serve", reason, seen=found.number, checkpoint_id=about, detail=_figures(found))


def back(workbench: Workbench, kind: ModelKind, reason: str, *, seen: int | None = None) -> ModelEvent:
    """Take the canary back; without one, let the checkpoint serve again that did before."""
    found = look(workbench, kind)
    _same(found, seen)
    if found.state.canary is None and found.state.previous is not None:
        _fit(workbench, kind, found.state.previous)
    return _decide(workbench, kind, "back", reason, seen=found.number, detail=_figures(found))


def _same(found: Look, seen: int | None) -> None:
    if seen is not None and seen != found.number:
        raise Conflict(MEANWHILE)


def _decide(
    workbench: Workbench, kind: ModelKind, act: Act, reason: str, *, seen: int | None = None, by: str | None = None, **more: Any
) -> ModelEvent:  # fmt: skip
    workbench.require("promote")
    rollout = workbench.store.rollout
    event = decide(kind, rollout.events(kind), act, who=by or workbench.name, reason=reason, seen=seen, **more)
    rollout.add(event)
    forget_standing(workbench)
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


def _kind_of(one: Checkpoint) -> ModelKind:
    return "policy" if one.kind == "policy" else "reward"


def able(workbench: Workbench, kind: ModelKind) -> list[str]:
    """Checkpoints of the kind on this machine that were trained to their end, the newest first."""
    found = list_checkpoints(workbench.workspace.checkpoints)
    return [one.id for one in found if one.complete and _kind_of(one) == kind]


# watching ---------------------------------------------------------------------------------------------------------------


def look(workbench: Workbench, kind: ModelKind) -> Look:
    """How the roll-out stands now; nothing is decided by it."""
    events = history(workbench, kind)
    now = state_of(events)
    if now.canary is None or now.serving is None or now.begun is None:
        return Look(now, len(events))
    served = counted(workbench.store.rollout.served(now.begun, now.canary, now.serving))
    seen = replace(judge(now, served), number=len(events))
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


def judge(now: State, served: Sequence[Served]) -> Look:
    """What the answers of both arms say. ``served``: in the order in which they came."""
    canary_of = [(one, one.checkpoint_id == now.canary) for one in served]
    rated = _values(canary_of, lambda one: one.rating)
    apart = differences(rated)
    refusals = _values(canary_of, lambda one: None if one.refused is None else float(one.refused))
    lengths = _values(canary_of, lambda one: float(one.characters))
    delays = _values(canary_of, lambda one: one.latency_ms)
    rails = [
        _rail("rating", "people rate its answers lower", 0.02, rated, wealth(apart, worst=4.0), "stars"),
        _rail("refusals", "it refuses more often", 0.01, refusals, wealth(-differences(refusals), worst=1.0, tolerated=0.05),
              "of answers"),
        _rail("length", "its answers are longer", 0.01, lengths, wealth(-signs(lengths), worst=0.5, tolerated=0.15),
              "characters"),
        _rail("latency", "it takes longer to answer", 0.01, delays, wealth(-signs(delays), worst=0.5, tolerated=0.15), "ms"),
    ]  # fmt: skip
    broken = [one for one in rails if one.after is not None]
    fault = None
    if broken:
        first = broken[0]
        assert first.after is not None
        fault = (
            f"{first.about[0].upper()}{first.about[1:]}: {_told(first.canary)} beside {_told(first.control)} {first.unit}, "
            f"sure after {first.after:,} comparisons (evidence {first.wealth[first.after - 1]:,.0f}, {1 / first.alpha:,.0f} is "
            "enough)."
        )
    count: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    for one, is_canary in canary_of:
        count[is_canary]["answers"] += 1
        count[is_canary]["rated"] += one.rating is not None
    people = {flag: len({one.user_id for one, is_canary in canary_of if is_canary == flag}) for flag in (False, True)}
    return Look(
        now, 0, rails,
        {"control": count[False]["answers"], "canary": count[True]["answers"]},
        {"control": count[False]["rated"], "canary": count[True]["rated"]},
        {"control": people[False], "canary": people[True]},
        interval(apart, 0.05), crossed(wealth(-(apart + MARGIN), worst=4.0 + MARGIN), 0.05), fault,
    )  # fmt: skip


def _rail(name: str, about: str, alpha: float, values: Sequence[tuple[bool, float]], grown: Floats, unit: str) -> Rail:
    means = [float(np.mean(some)) if (some := [one for flag, one in values if flag == arm]) else None for arm in (True, False)]
    return Rail(name, about, alpha, grown, crossed(grown, alpha), means[0], means[1], unit)


def _values(canary_of: Sequence[tuple[Served, bool]], value: Callable[[Served], float | None]) -> list[tuple[bool, float]]:
    """(whether it is the canary's, value) of each that has one."""
    return [(is_canary, found) for one, is_canary in canary_of if (found := value(one)) is not None]


def counted(served: Sequence[Served]) -> list[Served]:
    """Rated answers of a person count up to a limit, and so do those without a word."""
    seen: Counter[tuple[str, str, bool]] = Counter()
    kept = []
    for one in served:
        key = (one.user_id, one.checkpoint_id, one.rating is not None)
        seen[key] += 1
        if seen[key] <= COUNTS_AT_MOST:
            kept.append(one)
    return kept


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


def _told(value: float | None) -> str:
    return "nothing" if value is None else f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


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
            failed = error
    if failed is not None and not done:
        raise failed
    return done


# serving ----------------------------------------------------------------------------------------------------------------

_known: WeakKeyDictionary[Any, dict[ModelKind, tuple[float, State]]] = WeakKeyDictionary()  # by what is shared in a process
_looks: WeakKeyDictionary[Any, dict[ModelKind, tuple[float, Look]]] = WeakKeyDictionary()
_lock = threading.Lock()


def _seen_by(workbench: Workbench) -> dict[ModelKind, tuple[float, State]]:
    with _lock:
        return _known.setdefault(workbench.embedded, {})


def forget_standing(workbench: Workbench) -> None:
    """Read anew how things stand, because something was decided."""
    _seen_by(workbench).clear()
    with _lock:
        _looks.pop(workbench.embedded, None)


def standing(workbench: Workbench, kind: ModelKind) -> State:
    """How things stand, as of some seconds ago at most. Where the store does not answer: what served when it last did."""
    known = _seen_by(workbench)
    read_at, now = known.get(kind, (-KEEPS_S, State()))
    if time.monotonic() - read_at > KEEPS_S:
        try:
            now = state_of(workbench.store.rollout.events(kind))
            known[kind] = (time.monotonic(), now)
        except RlhfError as error:
            _log.warning("people keep the control of %s: %s", kind, error)
            now = State(now.serving, now.previous)
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
