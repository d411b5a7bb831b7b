"""Who did what, when: a log that is only added to, in the workspace's own database, on a team's machine too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rlhf_core.ground.records import LogEntry, utc_now
from rlhf_core.store.sqlite_database import Database


class SqliteAudit:
    """Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, who: str, act: str, what: str, detail: Mapping[str, Any]) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO audit_log (at, who, act, what, detail) VALUES (?, ?, ?, ?, ?)",
                (utc_now(), who, act, what, json.dumps(detail)),
            )

    def entries(self, words: str = "", limit: int = 500) -> list[LogEntry]:
        """The newest first; those that hold the words, small and capital letters alike."""
        with self._database.connection() as connection:
            rows = connection.execute(
                "SELECT at, who, act, what, detail FROM audit_log "
                "WHERE instr(lower(who || ' ' || act || ' ' || what || ' ' || detail), lower(?)) > 0 ORDER BY id DESC LIMIT ?",
                (words.strip(), limit),
            ).fetchall()
        return [LogEntry(at, who, act, what, json.loads(detail)) for at, who, act, what, detail in rows]
