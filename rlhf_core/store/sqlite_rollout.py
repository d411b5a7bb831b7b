"""What serves whom, in the embedded store."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict

from rlhf_core.ground.errors import Conflict
from rlhf_core.ground.rollout import MEANWHILE, Act, ModelEvent, ModelKind, Served, state_from
from rlhf_core.ground.settings import SQL_ROOT
from rlhf_core.store.sql import named_statements
from rlhf_core.store.sqlite_database import Database

_SQL = named_statements(SQL_ROOT / "sqlite" / "queries" / "rollout.sql")


class SqliteRollout:
    """:class:`~rlhf_core.store.base.RolloutStore` over one SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def events(self, kind: ModelKind) -> list[ModelEvent]:
        with self._database.connection() as connection:
            return [_event(kind, *row) for row in connection.execute(_SQL["model_events"], {"kind": kind}).fetchall()]

    def last(self, kind: ModelKind) -> ModelEvent | None:
        with self._database.connection() as connection:
            row = connection.execute(_SQL["last_model_event"], {"kind": kind}).fetchone()
        return _event(kind, *row) if row else None

    def add(self, event: ModelEvent) -> None:
        values = asdict(event) | {"state": json.dumps(asdict(event.state)), "detail": json.dumps(dict(event.detail))}
        try:
            with self._database.transaction() as connection:
                connection.execute(_SQL["add_model_event"], values)
        except sqlite3.IntegrityError as error:
            if "meanwhile" in str(error) or "UNIQUE" in str(error):
                raise Conflict(MEANWHILE) from error
            raise

    def served(self, begun: int, canary: str, control: str) -> list[Served]:
        with self._database.connection() as connection:
            rows = connection.execute(_SQL["served"], {"begun": begun, "canary": canary, "control": control}).fetchall()
        return [
            Served(one, user_id, rating, characters, None if refused is None else bool(refused), latency_ms)
            for one, user_id, rating, characters, refused, latency_ms in rows
        ]


def _event(
    kind: ModelKind, number: int, at: str, who: str, act: Act, about: str, reason: str, state: str, detail: str
) -> ModelEvent:  # fmt: skip
    return ModelEvent(kind, number, at, who, act, about, reason, state_from(json.loads(state)), json.loads(detail))
