"""A consistent view of the embedded store for snapshots, quick to read.

A row that becomes a Python tuple costs several microseconds, and a million of them hold the interpreter. So SQLite joins each
column of a part into one long text (its threads run beside each other, for SQLite lets go of the interpreter), and the snapshot
cuts it up again as arrays. Ids and times have a fixed width; where a part has others, it is read row by row.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rlhf_core.ground.records import feedback_type_of
from rlhf_core.ground.tables import EXPORT_COLUMNS, OTHER_PART_ROWS, PART_ROWS, Packed, PackedRows, Part, TableName, parts_of

BATCH_ROWS = 10_000
CHATS_AT_ONCE = 2_048  # whose texts are in memory at a time
READERS = 2
_WIDTHS = {"id": 36, "chat_id": 36, "created_at": 27, "updated_at": 27, "feedback_score": 1}
_TYPES = tuple((str(score), feedback_type_of(score)) for score in range(1, 6))  # the schema holds type and score together
_SCALES = (("s", "stars"), ("t", "thumbs"))
_ID = 36  # characters
_USER = 36  # characters; shorter names of people are filled up with spaces
_PACKED: tuple[TableName, ...] = ("chats", "reasoning_steps", "chat_feedback")
_FIRST, _LAST = ("", ""), ("\U0010ffff", "")
Key = tuple[str, str]


class SqliteExport:
    """:class:`~rlhf_core.ground.tables.Export` inside read transactions that began at one moment."""

    def __init__(self, connection: sqlite3.Connection, readers: Sequence[sqlite3.Connection], sql: Mapping[str, str]) -> None:
        self._connection = connection
        self._sql = sql
        self._readers = list(readers)
        self._free = threading.Semaphore(len(self._readers))
        self._lock = threading.Lock()
        self._picking = threading.Lock()
        # where every person's id has one width, none has to be filled up
        odd, withdrawn = connection.execute(sql["people_who_are_special"], {"width": _USER}).fetchone()
        self._uniform = not odd
        self._of_feedback = {"nobody_withdrew": not withdrawn}

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        with self._free:
            with self._picking:
                reader = self._readers.pop()
            try:
                yield reader
            finally:
                with self._picking:
                    self._readers.append(reader)

    def rows(self, table: TableName, *, since: str | None = None) -> Iterator[list[tuple[Any, ...]]]:
        values = {"since": since} if table == "chat_feedback" else {}
        cursor = self._connection.execute(self._sql[f"export_{table}"], values)
        while batch := cursor.fetchmany(BATCH_ROWS):
            yield batch

    def parts(self, table: TableName, *, since: str | None = None) -> Iterator[Part]:
        if table not in _PACKED:
            yield from parts_of(table, self.rows(table, since=since))
            return
        most = PART_ROWS.get(table, OTHER_PART_ROWS)
        begin = self._bound(table, _FIRST, 0, since)
        month, number = "", 0
        while begin is not None:
            number = number + 1 if begin[0][:7] == month else 0
            month = begin[0][:7]
            end = self._bound(table, begin, most, since, month)
            yield Part(table, month, number, self._read(table, begin, end or (month + "~", ""), since))
            begin = end or self._bound(table, (month + "~", ""), 0, since)

    def _bound(self, table: TableName, begin: Key, skip: int, since: str | None, month: str = "") -> Key | None:
        """The key of the row that is ``skip`` rows after ``begin``, if there is one (in this month)."""
        name = "chat_feedback_bound" if table == "chat_feedback" else "chats_bound"
        values = {"from_at": begin[0], "from_id": begin[1], "skip": skip, "month": month + "~" if month else _LAST[0]}
        more = {"since": since, **self._of_feedback} if table == "chat_feedback" else {}
        with self._lock:  # not a reader: those are busy with the parts found before
            found = self._connection.execute(self._sql[name], values | more).fetchone()
        return (found[0], found[1]) if found else None

    def _read(
        self, table: TableName, begin: Key, end: Key, since: str | None
    ) -> Callable[[], Iterator[list[tuple[Any, ...]] | PackedRows]]:
        def read() -> Iterator[list[tuple[Any, ...]] | PackedRows]:
            at: Key | None = begin
            while at is not None:
                until = end
                if table != "chat_feedback":  # texts: a few at a time
                    until = min(self._bound(table, at, CHATS_AT_ONCE, None) or end, end)
                with self._reader() as reader:
                    rows = self._range(reader, table, at, until, since)
                yield rows
                at = until if until != end else None

        return read

    def _range(
        self, reader: sqlite3.Connection, table: TableName, begin: Key, end: Key, since: str | None
    ) -> list[tuple[Any, ...]] | PackedRows:
        values = {"from_at": begin[0], "from_id": begin[1], "to_at": end[0], "to_id": end[1]}
        values |= {"since": since, **self._of_feedback} if table == "chat_feedback" else {}  # type: ignore[dict-item]
        picked = self._sql[f"{table}_between"]
        # ratings are walked through by the index that the statement names, in its order; a subquery would copy all columns first
        source = picked.partition("FROM ")[2].partition("ORDER BY")[0] if table == "chat_feedback" else f"({picked})"
        made: list[str] = []
        for name in EXPORT_COLUMNS[table]:
            if name in _WIDTHS:
                made.append(f"CAST(group_concat({name}, '') AS BLOB)")
            elif name == "step_id" and table == "chat_feedback":
                made.append("CAST(group_concat(step_id, '') AS BLOB)")
                made.append("CAST(group_concat(step_id IS NOT NULL, '') AS BLOB)")
            elif name == "user_id":
                filled = f"iif(length({name}) = {_USER}, {name}, substr({name} || '{' ' * _USER}', 1, {_USER}))"
                made.append(f"CAST(group_concat({name if self._uniform else filled}, '') AS BLOB)")
                made.append("0" if self._uniform else f"max(length({name}))")
            elif name == "feedback_type":
                made.append("NULL")  # comes of the score
            elif name == "scale":
                made.append(f"CAST(group_concat(iif({name} = 'stars', 's', 't'), '') AS BLOB)")
            else:
                made.append(f"CAST(group_concat(CAST({name} AS BLOB), '') AS BLOB)")
                made.append(f"CAST(group_concat({name} IS NOT NULL, '') AS BLOB)")
                length = f"printf('%08d', length(CAST({name} AS BLOB)))"
                made.append(f"CAST(group_concat(CASE WHEN {name} IS NOT NULL THEN {length} END, '') AS BLOB)")
        with contextlib.suppress(sqlite3.DataError, sqlite3.OperationalError):  # more than SQLite joins into one text
            count, *texts = reader.execute(f"SELECT count(*), {', '.join(made)} FROM {source}", values).fetchone()  # noqa: S608  # our own names
            if packed := _packed(table, count, texts):
                return packed
        return reader.execute(picked, values).fetchall()

    def rows_of(self, table: TableName, chat_ids: Sequence[str]) -> list[tuple[Any, ...]]:
        """Steps or feedback of these chats."""
        return self._connection.execute(self._sql[f"{table}_of_chats"], {"chat_ids": json.dumps(list(chat_ids))}).fetchall()

    def demo_raters(self) -> frozenset[str]:
        rows = self._connection.execute(self._sql["export_people"]).fetchall()
        return frozenset(user_id for user_id, origin, _ in rows if origin == "demo")


def _packed(table: TableName, count: int, texts: Sequence[bytes | None]) -> PackedRows | None:
    """None where a value has another width than its column should."""
    columns = []
    rest = iter([text or b"" for text in texts])
    for name in EXPORT_COLUMNS[table]:
        data = next(rest)
        if name == "scale":
            columns.append(Packed(data, 1, _SCALES))
        elif name == "feedback_type":
            columns.append(Packed(b"", 1, _TYPES))
        elif name == "user_id":
            if int(next(rest) or 0) > _USER or len(data) != _USER * count or not data.isascii():
                return None
            columns.append(Packed(data, _USER))
        elif name == "step_id" and table == "chat_feedback":
            there = next(rest)
            if len(data) != _ID * there.count(b"1") or not data.isascii():
                return None
            columns.append(Packed(data, _ID, there=there))
        elif width := _WIDTHS.get(name):
            if len(data) != width * count or not data.isascii():
                return None
            columns.append(Packed(data, width))
            if name == "feedback_score":
                columns[-2] = replace(columns[-2], data=data)
        else:
            columns.append(Packed(data, there=next(rest), lengths=next(rest)))
    return PackedRows(count, tuple(columns))
