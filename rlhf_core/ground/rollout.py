"""Which checkpoint serves whom: a log of what was decided, the state that the last entry leaves, and a person's arm.

Entries are numbered by kind without gaps, so of two people who decide at once the second is refused. An entry holds the whole
state after it: whoever reads the last one, in Python or in the database, knows it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rlhf_core.ground.errors import Conflict, InvalidInput
from rlhf_core.ground.records import utc_now

ModelKind = Literal["reward", "policy"]
Act = Literal["candidate", "drop", "serve", "canary", "share", "back"]
Arm = Literal["control", "canary"]
ACTS: dict[Act, str] = {
    "candidate": "made it the candidate",
    "drop": "dropped the candidate",
    "serve": "lets it serve everybody",
    "canary": "began its roll-out",
    "share": "changed its share",
    "back": "took it back",
}
SHARES = (0.05, 0.25, 0.5)  # that are offered, the first one to begin with; after the last one it serves everybody
MODEL_KINDS: tuple[ModelKind, ...] = ("policy", "reward")
MAX_REASON = 2000  # characters
MEANWHILE = "Somebody else decided something meanwhile. Look at how things stand now, and decide again."


@dataclass(frozen=True, slots=True)
class State:
    """What serves. ``share``: of people who get the canary, 0 to 1; ``salt``: of its hash; ``begun``: the number of the entry
    with which the roll-out began."""

    serving: str | None = None
    previous: str | None = None
    candidate: str | None = None
    canary: str | None = None
    share: float = 0.0
    salt: str | None = None
    begun: int | None = None

    def aliases(self) -> dict[str, str]:
        """Checkpoint id by alias."""
        found = {"serving": self.serving, "canary": self.canary, "candidate": self.candidate, "previous": self.previous}
        return {name: one for name, one in found.items() if one}


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """An entry of the log. ``number``: from 1, of its kind."""

    kind: ModelKind
    number: int
    at: str
    who: str
    act: Act
    checkpoint_id: str
    reason: str
    state: State
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Served:
    """An answer that a checkpoint gave to a person, as an application told it. ``rating``: the mean of what the person said of
    it, in stars; None: nothing. ``characters``: of the answer; ``refused``, ``latency_ms``: None where it was not told."""

    checkpoint_id: str
    user_id: str
    rating: float | None
    characters: int
    refused: bool | None
    latency_ms: float | None


def state_from(values: Mapping[str, Any]) -> State:
    """As it is stored. What a newer version may have added is left out."""
    return State(**{name: values[name] for name in State.__dataclass_fields__ if name in values})


def state_of(last: ModelEvent | None) -> State:
    """How things stand after a log's last entry; None: nothing was decided yet."""
    return last.state if last else State()


def next_entry(
    kind: ModelKind, last: ModelEvent | None, act: Act, *, who: str, reason: str, checkpoint_id: str | None = None,
    share: float | None = None, detail: Mapping[str, Any] | None = None, seen: int | None = None,
) -> ModelEvent:  # fmt: skip
    """The next entry.

    Args:
        kind: Of checkpoint.
        last: The log's last entry of the kind; None: there is none.
        act: What is decided.
        who: By whom.
        reason: Why.
        checkpoint_id: Of ``candidate``, ``serve`` and ``canary``; the last two take the candidate without it.
        share: Of ``canary`` and ``share``, 0 to 1 without both ends.
        detail: Figures it was decided on.
        seen: The number of the last entry when it was decided; None: the last one is.

    Raises:
        Conflict: there is a newer entry.
        InvalidInput: it cannot be decided now, or without saying why.
    """
    now, number = state_of(last), last.number + 1 if last else 1
    if seen is not None and seen != number - 1:
        raise Conflict(MEANWHILE)
    if not reason.strip() or len(reason) > MAX_REASON:
        raise InvalidInput(f"Say why, in at most {MAX_REASON:,} characters: everybody who looks at the log later wants to know.")
    if share is not None and not 0 < share < 1:
        raise InvalidInput(f"The share is {share:g}; give more than 0 and less than 1. All of it is to let the checkpoint serve.")
    state, about = _after(now, act, checkpoint_id, share, number)
    return ModelEvent(kind, number, utc_now(), who, act, about, reason.strip(), state, dict(detail or {}))


def _after(now: State, act: Act, checkpoint_id: str | None, share: float | None, number: int) -> tuple[State, str]:
    if act == "candidate":
        if not checkpoint_id or checkpoint_id in (now.serving, now.canary):
            raise InvalidInput(
                f"{checkpoint_id} {'serves already' if checkpoint_id == now.serving else 'is being rolled out'}."
                if checkpoint_id
                else "Say which checkpoint is to be the candidate."
            )
        return replace(now, candidate=checkpoint_id), checkpoint_id
    if act == "drop":
        if now.candidate is None:
            raise InvalidInput("There is no candidate.")
        return replace(now, candidate=None), now.candidate
    if act == "serve":
        about = checkpoint_id or now.canary or now.candidate
        if about is None:
            raise InvalidInput("Say which checkpoint is to serve: name it, or make it the candidate first.")
        if about == now.serving:
            raise InvalidInput(f"{about} serves already.")
        if now.canary not in (None, about):
            raise InvalidInput(f"{now.canary} is being rolled out. Let it serve, or take it back, first.")
        candidate = None if now.candidate == about else now.candidate
        return State(about, now.serving, candidate), about
    if act == "canary":
        about = checkpoint_id or now.candidate
        if now.canary is not None:
            raise InvalidInput(f"{now.canary} is being rolled out already. Let it serve, or take it back, first.")
        if now.serving is None:
            raise InvalidInput(
                "Nothing serves yet, so there is nothing to compare with. Let a checkpoint serve everybody first "
                "(`rollout serve ID`)."
            )
        if about is None:
            raise InvalidInput("Say which checkpoint is to be rolled out: name it, or make it the candidate first.")
        if about == now.serving:
            raise InvalidInput(f"{about} serves already.")
        candidate = None if now.candidate == about else now.candidate
        return replace(
            now, candidate=candidate, canary=about, share=share or SHARES[0], salt=secrets.token_hex(16), begun=number
        ), about
    if act == "share":
        if now.canary is None:
            raise InvalidInput("Nothing is being rolled out.")
        if share is None or share == now.share:
            raise InvalidInput(f"{now.canary} has a share of {now.share:g} already.")
        return replace(now, share=share), now.canary
    if now.canary is not None:
        return State(now.serving, now.previous, now.candidate), now.canary
    if now.serving is None or now.previous is None:
        raise InvalidInput("Nothing can be taken back: nothing is being rolled out, and nothing served before.")
    return State(now.previous, None, now.candidate), now.serving


def bucket(salt: str, user_id: str) -> float:
    """Where a person stands between 0 and 1: SHA-256 of the roll-out's secret salt and their id, its first 32 bits. The same in
    the database: ``private.rollout_bucket`` in ``sql/supabase``."""
    return int(hashlib.sha256(f"{salt}:{user_id}".encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) / 2**32


def assigned(state: State, user_id: str) -> tuple[str | None, Arm]:
    """The checkpoint that a person gets, and the arm. Whoever has the canary keeps it as its share grows."""
    if state.canary is not None and state.salt is not None and bucket(state.salt, user_id) < state.share:
        return state.canary, "canary"
    return state.serving, "control"
