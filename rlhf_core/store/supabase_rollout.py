"""What serves whom, in a team's store."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rlhf_core.ground.errors import Conflict, Duplicate
from rlhf_core.ground.rollout import MEANWHILE, Act, ModelEvent, ModelKind, Served, state_from


class SupabaseRollout:
    """:class:`~rlhf_core.store.base.RolloutStore` through the project's functions."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def events(self, kind: ModelKind) -> list[ModelEvent]:
        return [_event(kind, *row) for row in self._call("list_model_events", kind=kind)]

    def last(self, kind: ModelKind) -> ModelEvent | None:
        found = self._call("last_model_event", kind=kind)
        return _event(kind, *found) if found else None

    def add(self, event: ModelEvent) -> None:
        values = asdict(event) | {"state": json.dumps(asdict(event.state)), "detail": json.dumps(dict(event.detail))}
        try:
            self._call("add_model_event", **values)
        except Duplicate as error:
            raise Conflict(MEANWHILE) from error

    def served(self, begun: int, canary: str, control: str) -> list[Served]:
        return [Served(*row) for row in self._call("list_served", begun=begun, canary=canary, control=control)]


def _event(
    kind: ModelKind, number: int, at: str, who: str, act: Act, about: str, reason: str, *rest: dict[str, Any]
) -> ModelEvent:
    state, detail = rest
    return ModelEvent(kind, number, at, who, act, about, reason, state_from(state), detail)
