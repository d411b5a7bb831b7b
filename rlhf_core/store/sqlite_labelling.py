"""The label page's side of the embedded store: queues, leases, and what the page sends, each in one transaction."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rlhf_core.ground.errors import NotFound, RlhfError, ScreeningFailed
from rlhf_core.ground.records import (
    MINE,
    REASON_MAX_CHARS,
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
)
from rlhf_core.store.sqlite_judgement import Judging


class Labelling(Judging):
    """What one person does, on a connection inside a transaction that somebody else opened and will commit."""

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
                self._connection.execute("SAVEPOINT op")
                try:
                    self._apply(op)
                    outcome = ""
                except RlhfError as error:
                    outcome = str(error)
                except (sqlite3.IntegrityError, sqlite3.ProgrammingError, OverflowError) as error:  # what no page sends
                    outcome = f"The store refuses this: {error}."
                if outcome:
                    self._connection.execute("ROLLBACK TO op")
                self._connection.execute("RELEASE op")
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
            "aspect": lambda: self._aspect(op),
            "prefer": lambda: self._prefer(op),
            "rewrite": lambda: self._rewrite(op),
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
        reason = str(op.value.get("reason") or "").strip()[:REASON_MAX_CHARS] or None
        item = {"queue_id": op.value.get("queue"), "chat_id": op.chat_id, "other_id": op.value.get("other")}
        if self._row("finish", status=status, reason=reason, **item) is None:
            raise NotFound(
                "This chat had been handed to somebody else after your time for it ran out, or it is gone. Your ratings are kept."
            )
        if status == "submitted":
            self.grade(**item)  # type: ignore[arg-type]
            return
        if self._row("gold_is_asked", **item) and self.being_screened(self.queue(str(item["queue_id"]))):
            self.grade(**item, skipped=True)  # type: ignore[arg-type]
        if op.value.get("noted", True):
            self._event(op, "skip", None)

    # queues ---------------------------------------------------------------------------------------------------------

    def claim(self, queue_id: str, count: int) -> list[tuple[str, str | None]]:
        """Items as (chat, other chat of a pair or None)."""
        queue = self.queue(queue_id)
        if queue.archived:
            raise NotFound(f"The queue {queue.name} is closed. Choose another.")
        now = datetime.now(UTC)
        values = {"queue_id": queue_id, "now": format_utc(now), "until": format_utc(now + timedelta(seconds=queue.lease_s))}
        self._rows("drop_lost_leases", **values)
        self._rows("renew_leases", **values)
        mine = [(chat, other) for chat, other in self._rows("my_open", **values)]
        fresh = self._fresh(queue, count - len(mine), values) if len(mine) < count else []
        for k, (chat_id, other_id) in enumerate(fresh):
            order = format_utc(now + timedelta(microseconds=k))  # so that they stay in this order
            self._rows("assign", **values | {"chat_id": chat_id, "other_id": other_id, "now": order})
        return [*mine, *fresh][:count]

    def _fresh(self, queue: Queue, count: int, values: dict[str, str]) -> list[tuple[str, str | None]]:
        """Items that this person gets next: screening first, then the queue's order with known answers among it."""
        gold: list[tuple[str, str | None]] = []
        if queue.screening or queue.gold_rate:
            again = self.being_screened(queue)
            gold = [(chat, other) for chat, other in self._rows("gold_candidates", count=count, again=again, **values)]
        if queue.screening:
            answered, share = self.screened(queue)
            held = self._row("gold_in_hand", **values)
            missing = queue.screening - answered
            if missing > 0 and (gold or (held and held[0])):
                return gold[: max(0, missing - (held[0] if held else 0))]  # and nothing else before these are answered
            if answered and share < queue.screening_pass:
                raise ScreeningFailed(share, queue.screening_pass)
        plan = [bool(gold) and random.random() < queue.gold_rate for _ in range(count)]
        work = [(chat, other) for chat, other in self._rows("candidates", count=count, **values)]
        fresh: list[tuple[str, str | None]] = []
        for wants_gold in plan:
            source = gold if wants_gold and gold else work
            if source:
                fresh.append(source.pop(0))
        return fresh

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
        self._rows("erase_my_rewritten_chats")  # first: what one wrote goes with what was said of it
        judgements = ("erase_my_feedback", "erase_my_preferences", "erase_my_aspect_ratings")
        erased = sum(self._connection.execute(self._sql[name], {"user_id": self._user_id}).rowcount for name in judgements)
        for name in ("history", "marks", "events", "assignments", "gold_results", "gold_details", "hints"):
            self._rows(f"erase_my_{name}")
        return erased


def queue_of(row: Sequence[Any]) -> Queue:
    return replace(Queue(*row), archived=bool(row[-2]), listed=bool(row[-1]))


def queue_values(queue: Queue) -> dict[str, Any]:
    check_queue(queue)
    return {
        "id": queue.id, "name": queue.name.strip(), "guidelines": queue.guidelines, "item_order": queue.item_order,
        "overlap": queue.overlap, "lease_s": queue.lease_s, "checkpoint_id": queue.checkpoint_id, "source": queue.source or None,
        "words": (queue.words or "").strip() or None, "task": queue.task, "asks": queue.asks, "gold_rate": queue.gold_rate,
        "screening": queue.screening, "screening_pass": queue.screening_pass, "hint_checkpoint": queue.hint_checkpoint,
        "listed": queue.listed,
    }  # fmt: skip
