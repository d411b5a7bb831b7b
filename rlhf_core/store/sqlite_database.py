"""One SQLite file in WAL mode, safe from many threads and several processes at once: connections, transactions, migrations,
and the translation of SQLite's errors. A write is acknowledged only after a durable commit (``synchronous=FULL``)."""

from __future__ import annotations

import contextlib
import queue
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhf_core.ground.errors import StorageFull, StoreUnavailable
from rlhf_core.ground.settings import SQL_ROOT
from rlhf_core.store.sql import migrations

BUSY_TIMEOUT_S = 30.0


class Database:
    """A pool of connections to one SQLite file. Migrates on opening; connections wander between threads, one at a time."""

    def __init__(self, path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """
        Raises:
            StoreUnavailable: not a database, from a newer version of this program, or not writable.
        """
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._migrate()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a rating shown as saved survives a power cut
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -16000")  # 16 MB
        connection.execute("PRAGMA secure_delete = ON")  # what was erased is overwritten, not only unlinked
        return connection

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Borrow a connection. SQLite's errors come out as ours."""
        with self._translated():
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                connection = self._connect()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._idle.put(connection)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction. Committed and durable when the block ends; rolled back when it raises."""
        with self.connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def same_moment(self, count: int) -> Iterator[list[sqlite3.Connection]]:
        """Read transactions that show the store as of one moment, to be used side by side: ``count`` of them, or one where
        somebody writes for so long that they cannot be begun together."""
        with self._translated(), contextlib.ExitStack() as stack:
            connections = [stack.enter_context(self.connection()) for _ in range(count)]
            with self.connection() as writer:
                writer.execute("PRAGMA busy_timeout = 1000")
                try:
                    writer.execute("BEGIN IMMEDIATE")  # nobody else writes while the readers begin
                except sqlite3.OperationalError:
                    connections = connections[:1]
                for connection in connections:
                    connection.execute("BEGIN")
                    connection.execute("SELECT 1 FROM profiles LIMIT 1").fetchall()
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
                writer.execute(f"PRAGMA busy_timeout = {round(self._busy_timeout_s * 1000)}")
            try:
                yield connections
            finally:
                for connection in connections:
                    connection.execute("COMMIT")

    def forget_deleted(self) -> None:
        """Empty the log of writes, where what was deleted would stand until it is written over. Where somebody reads just now it
        is emptied up to what they see; the next call does the rest."""
        with self.connection() as connection:
            connection.execute("PRAGMA busy_timeout = 0")  # while it waits for readers nobody could write
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {round(self._busy_timeout_s * 1000)}")

    def close(self) -> None:
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", None)
            primary = (code or 0) & 0xFF
            if primary == sqlite3.SQLITE_FULL:
                raise StorageFull(
                    f"The disk is full: the write to {self.path} was undone. Free some space and try again."
                ) from error
            if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StoreUnavailable(
                    f"{self.path} was kept busy by another process for {self._busy_timeout_s:g} s; nothing was written. "
                    "Try again when its import or migration has ended."
                ) from error
            if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR):
                raise StoreUnavailable(
                    f"The store {self.path} cannot be read or written ({error}). Check that the folder exists, is "
                    "writable and its disk is healthy."
                ) from error
            raise
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise StoreUnavailable(
                    f"{self.path} is damaged or no SQLite database ({error}). Restore it from a backup, or move it away "
                    "to start with an empty store."
                ) from error
            raise

    def _migrate(self) -> None:
        steps = migrations(SQL_ROOT / "sqlite")
        with self.connection() as connection:
            have = connection.execute("PRAGMA user_version").fetchone()[0]
        if have == len(steps):
            return
        with self.transaction() as connection:
            have = connection.execute("PRAGMA user_version").fetchone()[0]  # another process may have been quicker
            if have > len(steps):
                raise StoreUnavailable(
                    f"{self.path} has schema {have}; this version of the workbench knows {len(steps)}. "
                    "Upgrade the workbench, or open another workspace."
                )
            for version, _, statements in steps[have:]:
                for statement in statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version}")
