"""Let a better checkpoint reach people: a share of them first, watched by what they say of it, taken back where it is worse.

The log of decisions is in the store, so every machine of a team sees the same. While it cannot be read, people keep the control.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from rlhf_core.analytics.sequential import Floats, Interval, crossed, differences, interval, signs, wealth
from rlhf_core.checkpoints.registry import Checkpoint, list_checkpoints, open_checkpoint
from rlhf_core.ground.errors import Conflict, CorruptArtifact, InvalidInput, NotFound, RlhfError
from rlhf_core.ground.rollout import (
    ACTS,
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
STEPS = (0.05, 0.25, 0.5)  # shares that are offered; everybody is the next one
MARGIN = 0.25  # stars; a canary that is shown not to be worse by more may grow
KEEPS_S = 2.0  # how long a state that was read serves assignments
_log = logging.getLogger(__name__)

__all__ = [
    "ACTS",
    "MODEL_KINDS",
    "SHARES",
    "STEPS",
    "Assignment",
    "Look",
    "Rail",
    "State",
    "able",
    "assignment",
    "back",
    "candidate",
    "drop",
    "grow",
    "history",
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
    """How a roll-out stands. ``answers``, ``rated``, ``people``: by arm. ``difference``: canary minus control in stars, at
    every look together, at a level of 95%; ``not_worse_after``: comparisons until it was shown not to be worse by ``MARGIN``;
    ``fault``: why it has to go back."""

    state: State
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


def candidate(workbench: Workbench, kind: ModelKind, checkpoint_id: str, reason: str, **detail: Any) -> ModelEvent:
    """
    Raises:
        NotFound, CorruptArtifact, InvalidInput: no such checkpoint of the kind here, altered, or it serves already.
    """
    _checked(workbench, kind, checkpoint_id)
    return _decide(workbench, kind, "candidate", reason, checkpoint_id=checkpoint_id, detail=detail)


def drop(workbench: Workbench, kind: ModelKind, reason: str) -> ModelEvent:
    """Let the candidate be none any more."""
    return _decide(workbench, kind, "drop", reason)


def start(
    workbench: Workbench, kind: ModelKind, reason: str, *, checkpoint_id: str | None = None, share: float = SHARES[0],
    again: bool = False,
) -> ModelEvent:  # fmt: skip
    """Give a checkpoint, or the candidate, to a share of people.

    Args:
        workbench: Whose.
        kind: Of checkpoint.
        reason: Why.
        checkpoint_id: None: the candidate.
        share: Of people, above 0 and below 1.
        again: Even where it was taken back before.

    Raises:
        NotFound, CorruptArtifact: the checkpoint, or the one that serves, is gone or was altered.
        InvalidInput: it cannot be rolled out now, or was taken back before.
        Conflict: somebody decided something meanwhile.
    """
    events = history(workbench, kind)
    now = state_of(events)
    about = checkpoint_id or now.candidate
    if about is not None:
        _checked(workbench, kind, about)
        before = next((one for one in reversed(events) if one.act == "back" and one.checkpoint_id == about), None)
        if before is not None and not again:
            raise InvalidInput(
                f"{about} was taken back on {before.at[:10]}: {before.reason} Say that it is to be tried again (--again) if you "
                "know better."
            )
    if now.serving is not None:
        _checked(workbench, kind, now.serving)
    return _decide(workbench, kind, "canary", reason, checkpoint_id=checkpoint_id, share=share)


def grow(workbench: Workbench, kind: ModelKind, share: float, reason: str) -> ModelEvent:
    """Change the canary's share; whoever has it keeps it as it grows. The figures of the moment go into the log."""
    seen = look(workbench, kind)
    if seen.fault:
        raise InvalidInput(f"It has to go back: {seen.fault}")
    if seen.state.canary is not None:
        _checked(workbench, kind, seen.state.canary)
    return _decide(workbench, kind, "share", reason, share=share, detail=_figures(seen))


def serve(workbench: Workbench, kind: ModelKind, reason: str, checkpoint_id: str | None = None) -> ModelEvent:
    """Let a checkpoint serve everybody: the one named, the canary, or the candidate.

    Raises:
        NotFound, CorruptArtifact, InvalidInput, Conflict: as :func:`start`.
    """
    seen = look(workbench, kind)
    about = checkpoint_id or seen.state.canary or seen.state.candidate
    if seen.fault and about == seen.state.canary:
        raise InvalidInput(f"It has to go back: {seen.fault}")
    if about is not None:
        _checked(workbench, kind, about)
    return _decide(workbench, kind, "serve", reason, checkpoint_id=checkpoint_id, detail=_figures(seen))


def back(workbench: Workbench, kind: ModelKind, reason: str) -> ModelEvent:
    """Take the canary back; without one, let the checkpoint serve again that did before."""
    seen = look(workbench, kind)
    if seen.state.canary is None and seen.state.previous is not None:
        _checked(workbench, kind, seen.state.previous)
    return _decide(workbench, kind, "back", reason, detail=_figures(seen))


def _decide(workbench: Workbench, kind: ModelKind, act: Act, reason: str, *, by: str | None = None, **more: Any) -> ModelEvent:
    workbench.require("promote")
    rollout = workbench.store.rollout
    event = decide(kind, rollout.events(kind), act, who=by or workbench.name, reason=reason, **more)
    rollout.add(event)
    _seen_by(workbench).pop(kind, None)
    workbench.note(f"model {act}", event.checkpoint_id, by, kind=kind, share=event.state.share or None, reason=event.reason)
    return event


def _checked(workbench: Workbench, kind: ModelKind, checkpoint_id: str) -> Checkpoint:
    one = open_checkpoint(workbench.workspace.checkpoints, checkpoint_id, verify=True)
    if ("policy" if one.kind == "policy" else "reward") != kind:
        raise InvalidInput(f"{checkpoint_id} is a {one.kind} checkpoint, not a {kind} one.")
    return one


def able(workbench: Workbench, kind: ModelKind) -> list[str]:
    """Checkpoints of the kind on this machine that were trained to their end, the newest first."""
    found = list_checkpoints(workbench.workspace.checkpoints)
    return [one.id for one in found if one.complete and ("policy" if one.kind == "policy" else "reward") == kind]


# watching ---------------------------------------------------------------------------------------------------------------


def look(workbench: Workbench, kind: ModelKind) -> Look:
    """How the roll-out stands now; nothing is decided by it."""
    now = state(workbench, kind)
    if now.canary is None or now.serving is None or now.begun is None:
        return Look(now)
    served = counted(workbench.store.rollout.served(now.begun, now.canary, now.serving))
    seen = judge(now, served)
    return seen if seen.fault else _with_files(workbench, seen)


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
        now, rails,
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
    except (NotFound, CorruptArtifact) as error:
        if workbench.team is not None and isinstance(error, NotFound):
            return seen  # it may lie on another machine of the team
        return replace(seen, fault=f"Its files are not what they were: {error}")
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
    """Look at every roll-out, and take back what has to go. Returns what was decided."""
    done = []
    for kind in MODEL_KINDS:
        seen = look(workbench, kind)
        if seen.fault is None:
            continue
        try:
            done.append(_decide(workbench, kind, "back", seen.fault, by="the workbench", detail=_figures(seen)))
        except Conflict:
            _log.info("somebody decided about the %s roll-out meanwhile", kind)
    return done


# serving ----------------------------------------------------------------------------------------------------------------

_known: WeakKeyDictionary[Any, dict[ModelKind, tuple[float, State]]] = WeakKeyDictionary()  # by what is shared in a process
_lock = threading.Lock()


def _seen_by(workbench: Workbench) -> dict[ModelKind, tuple[float, State]]:
    with _lock:
        return _known.setdefault(workbench.embedded, {})


def forget_standing(workbench: Workbench) -> None:
    """Read anew how things stand, because somebody else decided something."""
    _seen_by(workbench).clear()


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
