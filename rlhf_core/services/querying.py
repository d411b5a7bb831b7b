"""Somebody's own SQL on a snapshot: what it may name, running it in the sandbox, its history, and rows into a queue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rlhf_core.analytics.explorer import asking
from rlhf_core.analytics.sandbox import MAX_ROWS, TIMEOUT_S, Result, Running
from rlhf_core.ground.errors import InvalidInput, disk_errors
from rlhf_core.ground.files import write_json
from rlhf_core.ground.records import Queue, Task, new_id, utc_now
from rlhf_core.services import labeling, saved_queries, snapshots
from rlhf_core.services.workbench import Workbench

__all__ = [
    "MAX_ROWS",
    "TIMEOUT_S",
    "Asked",
    "Column",
    "Result",
    "Running",
    "examples",
    "forget",
    "history",
    "items",
    "run",
    "tables",
    "to_queue",
]

KEPT = 200
QUEUE_AT_MOST = 10_000
EXAMPLES: dict[str, str] = {
    "Steps that raters dispute": """SELECT s.chat_id, s.step_order, s.step_content,
       min(r.score) AS lowest, max(r.score) AS highest
FROM ratings AS r
JOIN reasoning_steps AS s USING (step_no)
GROUP BY ALL
HAVING max(r.score) - min(r.score) >= 3
ORDER BY highest - lowest DESC""",
    "Chats that nobody has rated": """SELECT c.id AS chat_id, c.source, c.query
FROM chats AS c
ANTI JOIN ratings AS r USING (chat_no)
ORDER BY c.created_at DESC""",
    "Good answers with a bad step": """SELECT c.id AS chat_id, c.query, avg(r.score) FILTER (WHERE r.step_no IS NULL) AS answer,
       min(r.score) FILTER (WHERE r.step_no IS NOT NULL) AS worst_step
FROM ratings AS r
JOIN chats AS c USING (chat_no)
GROUP BY ALL
HAVING answer >= 4 AND worst_step <= 2
ORDER BY answer DESC""",
    "Mean score by day": """SELECT day, avg(score) AS mean_score, count(*) AS ratings
FROM ratings
GROUP BY day
ORDER BY day""",
}


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: str
    about: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement of the history. ``outcome``: how many rows, or what was wrong."""

    sql: str
    at: str
    snapshot_id: str
    outcome: str


def tables(workbench: Workbench, snapshot_id: str) -> dict[tuple[str, str], list[Column]]:
    """Columns by (table, what it is about)."""
    with asking(snapshots.find(workbench, snapshot_id)) as connection:
        rows = connection.execute(
            """SELECT t.table_name, coalesce(t.comment, ''), c.column_name, c.data_type, coalesce(c.comment, '')
               FROM duckdb_tables() AS t JOIN duckdb_columns() AS c USING (database_name, schema_name, table_name)
               WHERE NOT t.internal AND NOT t.temporary
               ORDER BY t.estimated_size = 0, c.comment IS NULL, t.table_oid, c.column_index"""
        ).fetchall()
    found: dict[tuple[str, str], list[Column]] = {}
    for table, about, name, kind, words in rows:
        found.setdefault((table, about), []).append(Column(name, "ENUM" if kind.startswith("ENUM") else kind, words))
    return found


def examples() -> Mapping[str, str]:
    """SQL by what it asks."""
    return EXAMPLES


def run(workbench: Workbench, snapshot_id: str, sql: str, *, timeout_s: float = TIMEOUT_S, max_rows: int = MAX_ROWS) -> Running:
    """Begin a statement.

    Raises:
        Forbidden: the role. InvalidInput: nothing to run. NotFound, CorruptArtifact: the snapshot.
    """
    return workbench.sandbox.start(snapshots.find(workbench, snapshot_id), sql, timeout_s=timeout_s, max_rows=max_rows)


def _history_of(workbench: Workbench, user_id: str) -> Path:
    return saved_queries.folder(workbench) / f"{saved_queries.owner_of(user_id)}.json"


def history(workbench: Workbench, user_id: str) -> list[Asked]:
    """What this person has asked here, the last first."""
    path = _history_of(workbench, user_id)
    try:
        return [Asked(**one) for one in json.loads(path.read_text(encoding="utf-8"))["asked"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError):
        return []  # a damaged history is begun anew; nothing else hangs on it


def forget(workbench: Workbench, user_id: str) -> None:
    """Delete a person's history, and take their name from what they saved."""
    _history_of(workbench, user_id).unlink(missing_ok=True)
    saved_queries.forget_owner(workbench, user_id)


def remember(workbench: Workbench, user_id: str, snapshot_id: str, sql: str, outcome: str) -> None:
    """Put a statement on top of the history; the same one asked again moves up."""
    path = _history_of(workbench, user_id)
    with disk_errors("saving the history of queries", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        older = [one for one in history(workbench, user_id) if one.sql != sql]
        kept = [Asked(sql, utc_now(), snapshot_id, outcome), *older][:KEPT]
        asked = [{"sql": one.sql, "at": one.at, "snapshot_id": one.snapshot_id, "outcome": one.outcome} for one in kept]
        write_json(path, {"asked": asked})


_KEYS = ("step_id", "step_no", "chat_id", "chat_no")


def items(workbench: Workbench, snapshot_id: str, result: Result) -> dict[str, list[int]]:
    """The chats of a result's rows, in their order, and the orders of the steps that they name.

    A row names a step by ``step_id`` or ``step_no``, or by ``chat_id`` or ``chat_no`` with ``step_order``; a chat by one of
    those alone.

    Raises:
        InvalidInput: no such column, or more than :data:`QUEUE_AT_MOST` chats.
    """
    names = [name for name, _ in result.columns]
    key = next((name for name in _KEYS if name in names), None)
    if key is None:
        raise InvalidInput(f"To send rows to labelling, select one of the columns {', '.join(_KEYS)} (chats.id AS chat_id).")
    table = result.read().select([key, *(["step_order"] if "step_order" in names and key.startswith("chat") else [])])
    orders = table["step_order"].to_pylist() if "step_order" in table.column_names else [None] * len(table)
    rows = [
        (n, str(value), order)
        for n, (value, order) in enumerate(zip(table[key].to_pylist(), orders, strict=True))
        if value is not None
    ]
    with asking(snapshots.find(workbench, snapshot_id)) as connection:
        connection.execute("CREATE TEMP TABLE wanted (n BIGINT, key VARCHAR, step_order VARCHAR)")
        import pandas as pd

        frame = pd.DataFrame(rows, columns=["n", "key", "step_order"]).astype({"key": str})
        connection.register("given_rows", frame)
        connection.execute("INSERT INTO wanted SELECT n, key, step_order::VARCHAR FROM given_rows")
        source = {
            "step_id": "reasoning_steps AS s ON s.id = w.key", "step_no": "reasoning_steps AS s ON s.step_no::VARCHAR = w.key",
            "chat_id": "chats AS s ON s.id = w.key", "chat_no": "chats AS s ON s.chat_no::VARCHAR = w.key",
        }[key]  # fmt: skip
        picked = "s.chat_id, s.step_order" if key.startswith("step") else "s.id, try_cast(w.step_order AS DOUBLE)::INT"
        found = connection.execute(f"SELECT {picked} FROM wanted AS w JOIN {source} ORDER BY w.n").fetchall()  # noqa: S608  # ours
    chats: dict[str, list[int]] = {}
    for chat_id, order in found:
        steps = chats.setdefault(chat_id, [])
        if order is not None and order >= 1 and order not in steps:
            steps.append(order)
    if not chats:
        raise InvalidInput(f"No row's {key} is one of this snapshot.")
    if len(chats) > QUEUE_AT_MOST:
        raise InvalidInput(f"These are {len(chats):,} chats; a queue takes {QUEUE_AT_MOST:,}. Add a LIMIT.")
    return chats


def to_queue(
    workbench: Workbench,
    snapshot_id: str,
    result: Result,
    name: str,
    *,
    task: Task = "rate",
    overlap: int = 1,
    guidelines: str = "",
) -> tuple[Queue, int]:
    """Make a queue of a result's chats. Returns it and how many chats it has; chats deleted since the snapshot are left out.

    Raises:
        Forbidden: the role. InvalidInput, Duplicate: see :func:`items` and
            :meth:`~rlhf_core.store.base.Store.save_queue`.
    """
    workbench.require("queues")
    chats = items(workbench, snapshot_id, result)
    return labeling.queue_of_chats(workbench, Queue(new_id(), name, guidelines, overlap=overlap, task=task), chats)
