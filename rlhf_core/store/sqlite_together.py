"""Many small writes in one transaction: those that wait while another one is being made durable go together into the next.

A commit waits for the disk, so a hundred clients that commit one after another wait for a hundred times that. Here whoever comes
first carries out what all the others have asked for in the meantime, and nobody is answered before it is durable.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from rlhf_core.store.sqlite_database import Database

MOST = 256  # writes in a transaction
T = TypeVar("T")


class _Job:
    def __init__(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        self.work = work
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None


class Together:
    """Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[_Job] = deque()
        self._lock = threading.Lock()

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out ``work`` within a transaction that others may share; what it raises undoes its own writes only. Returns once
        all of it is durable.

        Raises:
            StorageFull, StoreUnavailable: nothing of it was stored.
        """
        mine = _Job(work)
        self._waiting.append(mine)
        with self._lock:
            while not mine.done:
                self._carry_out([self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))])
        if mine.error is not None:
            raise mine.error
        result: T = mine.value
        return result

    def _carry_out(self, jobs: list[_Job]) -> None:
        try:
            with self._database.transaction() as connection:
                for one in jobs:
                    connection.execute("SAVEPOINT one")
                    try:
                        one.value = one.work(connection)
                    except Exception as error:
                        if not connection.in_transaction:  # SQLite gave it up as a whole: the disk is full
                            raise
                        connection.execute("ROLLBACK TO one")
                        one.error = error
                    connection.execute("RELEASE one")
        except BaseException as error:
            for one in jobs:
                one.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            for one in jobs:
                one.done = True
