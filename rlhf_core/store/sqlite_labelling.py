"""The label page's side of the embedded store: queues, leases, and what the page sends, each in one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rlhf_core.ground.errors import NotFound, RlhfError
from rlhf_core.ground.records import (
    MINE,
    Change,
    Feedback,
    LabelOp,
    Marks,
    Queue,
    QueueProgress,
    Worked,
    check_comment,
    check_op,
    check_queue,
    check_score,
    feedback_type_of,
    format_utc,
    new_id,
    utc_now,
)
from rlhf_core.ground.settings import SQL_ROOT
from rlhf_core.store.sql import named_statements

_FOLDER = SQL_ROOT / "sqlite" / "queries"


class Labelling:
    """What one person does, on a connection inside a transaction that somebody else opened and will commit."""

    def __init__(self, connection: sqlite3.Connection, user_id: str) -> None:
        self._connection = connection
        self._user_id = user_id
        self._sql = named_statements(_FOLDER / "feedback.sql") | named_statements(_FOLDER / "labelling.sql")

    def _rows(self, name: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(self._sql[name], {"user_id": self._user_id, "now": utc_now()} | values).fetchall()

    def _row(self, name: str, **values: Any) -> tuple[Any, ...] | None:
        rows = self._rows(name, **values)
        return rows[0] if rows else None

    # judgements -----------------------------------------------------------------------------------------------------

    def rate(self, chat_id: str, step_id: str | None, score: Any, scale: Any) -> Feedback:
        check_score(score)
        row = self._row(
            "rate", id=new_id(), chat_id=chat_id, step_id=step_id, feedback_type=feedback_type_of(score), feedback_score=score,
            scale=scale,
        )  # fmt: skip
        if row is None:
            what = f"Chat {chat_id!r} does not exist" if step_id is None else f"Chat {chat_id!r} has no step {step_id!r}"
            raise NotFound(f"{what}. Reload the page to see the chat as it is now.")
        return Feedback(*row)

    def comment(self, chat_id: str, step_id: str | None, text: str) -> Feedback:
        row = self._row("comment", chat_id=chat_id, step_id=step_id, comment=check_comment(text) or None)
        if row is None:
            raise NotFound("There is no rating to comment on yet. Rate first, then comment.")
        return Feedback(*row)

    def withdraw(self, chat_id: str, step_id: str | None) -> bool:
        return self._row("withdraw", chat_id=chat_id, step_id=step_id) is not None

    def marks(self, chat_id: str) -> Marks:
        row = self._row("marks", chat_id=chat_id)
        return Marks(row[0], tuple(json.loads(row[1]))) if row else Marks()

    # what the page sends --------------------------------------------------------------------------------------------

    def apply(self, ops: Sequence[LabelOp]) -> dict[str, str]:
        outcomes: dict[str, str] = {}
        for op in ops:
            known = self._row("outcome_of", id=op.id)
            if known is None:
                try:
                    self._apply(op)
                    outcome = ""
                except RlhfError as error:
                    outcome = str(error)
                self._rows("note_outcome", id=op.id, outcome=outcome)
            else:
                outcome = known[0]
            outcomes[op.id] = outcome
        return outcomes

    def _apply(self, op: LabelOp) -> None:
        check_op(op)
        value = op.value
        do: Mapping[str, Callable[[], object]] = {
            "rate": lambda: self.rate(op.chat_id, op.step_id, value.get("score"), value.get("scale")),
            "comment": lambda: self.comment(op.chat_id, op.step_id, str(value.get("text", ""))),
            "withdraw": lambda: self.withdraw(op.chat_id, op.step_id),
            "first_error": lambda: self._found(self._row("set_first_error", chat_id=op.chat_id, step_id=op.step_id), op),
            "flag": lambda: self._flag(op, on=True),
            "unflag": lambda: self._flag(op, on=False),
            "dwell": lambda: self._event(op, "dwell", value.get("ms")),
            "edit": lambda: self._event(op, "edit", None),
            "submit": lambda: self._finish(op, "submitted"),
            "skip": lambda: self._finish(op, "skipped"),
        }
        do[op.kind]()

    @staticmethod
    def _found(row: tuple[Any, ...] | None, op: LabelOp) -> None:
        if row is None:
            raise NotFound(f"Chat {op.chat_id!r}, or this step of it, is no longer there. Reload the page.")

    def _flag(self, op: LabelOp, *, on: bool) -> None:
        flag = str(op.value["flag"])
        flags = set(self.marks(op.chat_id).flags)
        flags = flags | {flag} if on else flags - {flag}
        self._found(self._row("set_flags", chat_id=op.chat_id, flags=json.dumps(sorted(flags))), op)

    def _event(self, op: LabelOp, kind: str, value: Any) -> None:
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        self._rows("add_event", id=op.id, chat_id=op.chat_id, step_id=op.step_id, kind=kind, value=number)

    def _finish(self, op: LabelOp, status: str) -> None:
        reason = str(op.value.get("reason") or "").strip()[:500] or None
        row = self._row("finish", queue_id=op.value.get("queue"), chat_id=op.chat_id, status=status, reason=reason)
        if row is None:
            raise NotFound(
                "This chat had been handed to somebody else after your time for it ran out, or it is gone. Your ratings are kept."
            )
        if status == "skipped" and op.value.get("noted", True):
            self._event(op, "skip", None)

    # queues ---------------------------------------------------------------------------------------------------------

    def claim(self, queue_id: str, count: int) -> list[str]:
        queue = self.queue(queue_id)
        if queue.archived:
            raise NotFound(f"The queue {queue.name} is closed. Choose another.")
        now = datetime.now(UTC)
        values = {"queue_id": queue_id, "now": format_utc(now), "until": format_utc(now + timedelta(seconds=queue.lease_s))}
        self._rows("drop_lost_leases", **values)
        self._rows("renew_leases", **values)
        mine = [row[0] for row in self._rows("my_open", **values)]
        if len(mine) < count:
            for k, (chat_id,) in enumerate(self._rows("candidates", count=count - len(mine), **values)):
                order = format_utc(now + timedelta(microseconds=k))  # so that they stay in this order
                self._rows("assign", **values | {"chat_id": chat_id, "now": order})
                mine.append(chat_id)
        return mine[:count]

    def queue(self, queue_id: str) -> Queue:
        row = self._row("queue", queue_id=queue_id)
        if row is None:
            raise NotFound(f"There is no queue {queue_id!r}. It may have been deleted.")
        return queue_of(row)

    def release(self, queue_id: str, chat_id: str | None) -> None:
        self._rows("release", queue_id=queue_id, chat_id=chat_id)

    def progress(self, queue_id: str) -> QueueProgress:
        row = self._row("queue_progress", queue_id=queue_id)
        return QueueProgress(*row) if row else QueueProgress(0, 0, 0, 0)

    # my work --------------------------------------------------------------------------------------------------------

    def history(self, before: str | None, limit: int) -> list[Worked]:
        return [Worked(*row) for row in self._rows("my_history", before=before, limit=limit)]

    def changes(self, chat_id: str) -> list[Change]:
        rows = self._rows("my_changes", chat_id=chat_id)
        return [replace(Change(*row), withdrawn=bool(row[-1])) for row in rows]

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        return {
            table: [dict(zip(names, row, strict=True)) for row in self._rows(f"my_{table}")] for table, names in MINE.items()
        }  # fmt: skip

    def erase(self) -> int:
        erased = self._connection.execute(self._sql["erase_my_feedback"], {"user_id": self._user_id}).rowcount
        for name in ("erase_my_history", "erase_my_marks", "erase_my_events", "erase_my_assignments"):
            self._rows(name)
        return erased


def queue_of(row: Sequence[Any]) -> Queue:
    return replace(Queue(*row), archived=bool(row[-1]))


def queue_values(queue: Queue) -> dict[str, Any]:
    check_queue(queue)
    return {
        "id": queue.id, "name": queue.name.strip(), "guidelines": queue.guidelines, "item_order": queue.item_order,
        "overlap": queue.overlap, "lease_s": queue.lease_s, "checkpoint_id": queue.checkpoint_id, "source": queue.source or None,
        "words": (queue.words or "").strip() or None,
    }  # fmt: skip
