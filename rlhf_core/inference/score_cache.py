"""Rewards that were worked out before, by checkpoint and text. Both are named by hashes of what they are: nothing grows old."""

from __future__ import annotations

import logging
import sqlite3
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from rlhf_core.ground.answers import AnswerScore

LARGEST_MB = 1024  # it begins anew where it has become larger
SCORED_BY = 1  # counts up when the same checkpoint would be scored otherwise
_TABLE = """
CREATE TABLE IF NOT EXISTS scores (
    checkpoint_id TEXT NOT NULL,
    answer        BLOB NOT NULL, -- SHA-256 of what was read
    whole         REAL NOT NULL, -- stars
    steps         BLOB NOT NULL, -- float64 each, stars
    left_out      INTEGER NOT NULL, -- tokens
    PRIMARY KEY (checkpoint_id, answer)
) STRICT, WITHOUT ROWID
"""
_log = logging.getLogger(__name__)


class ScoreCache:
    """Thread-safe, and shared by processes. It may be deleted at any time; without it, or where its disk is full, everything is
    scored again and a warning is logged."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, checkpoint_id: str, answers: Sequence[str]) -> dict[str, AnswerScore]:
        """What is known of answers, by their keys."""
        found: dict[str, AnswerScore] = {}

        def work(database: sqlite3.Connection) -> None:
            for key in dict.fromkeys(answers):
                row = database.execute(
                    "SELECT whole, steps, left_out FROM scores WHERE checkpoint_id = ? AND answer = ?",
                    (_model(checkpoint_id), bytes.fromhex(key)),
                ).fetchone()
                if row:
                    found[key] = AnswerScore(row[0], array("d", row[1]).tolist(), row[2])

        if self._path.is_file():
            self._do(work)
        return found

    def write(self, checkpoint_id: str, scores: Mapping[str, AnswerScore]) -> None:
        """Keep what was worked out, by the answers' keys."""
        rows = [
            (_model(checkpoint_id), bytes.fromhex(key), one.whole, array("d", one.steps).tobytes(), one.left_out)
            for key, one in scores.items()
        ]
        self._do(lambda database: database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?)", rows))

    def forget(self, checkpoint_id: str) -> None:
        """What a checkpoint said, when it is removed."""
        if self._path.is_file():
            self._do(lambda database: database.execute("DELETE FROM scores WHERE checkpoint_id = ?", (_model(checkpoint_id),)))

    def _do(self, work: Callable[[sqlite3.Connection], object]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.is_file() and self._path.stat().st_size > LARGEST_MB * 2**20:
                self._begin_anew()
            with closing(sqlite3.connect(self._path, timeout=10)) as database, database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")
                database.execute(_TABLE)
                work(database)
        except (sqlite3.Error, OSError) as error:
            _log.warning("The cache of scores %s is of no use just now: %s", self._path, error)
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                self._begin_anew()  # not a database, or damaged

    def _begin_anew(self) -> None:
        for path in (self._path, *(self._path.with_name(self._path.name + end) for end in ("-wal", "-shm"))):
            path.unlink(missing_ok=True)


def _model(checkpoint_id: str) -> str:
    return f"{checkpoint_id}/{SCORED_BY}"
