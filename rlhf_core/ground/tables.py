"""The tables that leave the store for a snapshot, and what a consistent view of them looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

TableName = Literal[
    "chats", "reasoning_steps", "chat_feedback", "chat_marks", "label_events", "preferences", "aspect_ratings", "assignments",
    "queues", "gold_results", "decisions", "hints_shown", "people",
]  # fmt: skip

EXPORT_COLUMNS: dict[TableName, tuple[str, ...]] = {
    "chats": ("id", "query", "response", "source", "model", "external_id", "owner_id", "created_at"),
    "reasoning_steps": ("id", "chat_id", "step_content", "step_order", "created_at"),
    "chat_feedback": (
        "id", "chat_id", "step_id", "user_id", "feedback_type", "feedback_score", "scale", "comment", "created_at",
        "updated_at",
    ),
    "chat_marks": ("chat_id", "user_id", "first_error", "flags", "updated_at"),
    "label_events": ("id", "chat_id", "step_id", "user_id", "kind", "value", "at"),
    "preferences": (
        "id", "chat_id", "other_id", "step_order", "aspect", "user_id", "verdict", "strength", "shown_left", "comment",
        "created_at", "updated_at",
    ),
    "aspect_ratings": (
        "id", "chat_id", "step_id", "user_id", "queue_id", "rubric_version", "aspect", "score", "created_at", "updated_at",
    ),
    "assignments": ("queue_id", "chat_id", "other_id", "user_id", "status", "claimed_at", "finished_at"),
    "queues": ("id", "name", "task"),
    "gold_results": ("queue_id", "chat_id", "other_id", "user_id", "asked", "matched", "at"),
    "decisions": ("id", "chat_id", "other_id", "step_id", "kind", "value", "reason", "decided_by", "decided_at"),
    "hints_shown": ("queue_id", "chat_id", "other_id", "step_id", "user_id", "checkpoint_id", "reward", "said", "at"),
    "people": ("user_id", "origin", "consent"),
}  # fmt: skip

PART_TIME: dict[TableName, str] = {  # the time by whose month a table is cut into files; steps go with their chat
    "chats": "created_at", "reasoning_steps": "created_at", "chat_feedback": "created_at", "chat_marks": "updated_at",
    "label_events": "at", "preferences": "created_at", "aspect_ratings": "created_at", "assignments": "claimed_at",
    "gold_results": "at", "decisions": "decided_at", "hints_shown": "at",
}  # fmt: skip
PART_ROWS: dict[TableName, int] = {"chats": 32_768, "reasoning_steps": 32_768}  # of steps: chats; other tables: OTHER_PART_ROWS
OTHER_PART_ROWS = 131_072
WHENEVER = "all"  # the "month" of tables without a time

# to a team's store
CARRIED: tuple[TableName, ...] = ("chats", "reasoning_steps", "chat_feedback", "preferences", "aspect_ratings")

Format = Literal["chats", "trl-preference", "trl-unpaired", "trl-stepwise", "prm800k", "processbench", "math-shepherd"]
EXPORT_FORMATS: dict[Format, str] = {
    "chats": "this workbench's own: chats with all their judgements",
    "trl-preference": "TRL preference: prompt, chosen, rejected; from what people preferred",
    "trl-unpaired": "TRL unpaired preference: prompt, completion, label; from ratings of whole answers",
    "trl-stepwise": "TRL stepwise supervision: prompt, completions, labels; from ratings of steps",
    "prm800k": "PRM800K: question, label.steps with ratings -1, 0, 1; a line for each rater of a chat",
    "processbench": "ProcessBench: problem, steps, label = index of the first wrong step, -1 none",
    "math-shepherd": "Math-Shepherd: input with a mark after each step, label with + or - in its place",
}


@dataclass(frozen=True, slots=True)
class Packed:
    """One column of many rows as one run of UTF-8 bytes.

    ``width``: bytes of every value; ``words``: what each value stands for, if not for itself (then of width 1). With a width of
    0, ``lengths`` has the number of bytes of each value, as 8 decimal digits. ``there``: a 1 for each row with a value, a 0 for
    the others, of which nothing else is here; empty where all rows have one.
    """

    data: bytes
    width: int = 0
    words: tuple[tuple[str, str], ...] = ()
    there: bytes = b""
    lengths: bytes = b""


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Rows by column, in the order of :data:`EXPORT_COLUMNS`: quicker by far than a million tuples."""

    count: int
    columns: tuple[Packed, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that make one file of a snapshot: those of one month (``2026-11``), at most so many (:data:`PART_ROWS`).

    ``read`` may be called once, from any thread, and yields the rows in order.
    """

    table: TableName
    month: str
    number: int
    read: Callable[[], Iterator[list[tuple[Any, ...]] | PackedRows]]


def parts_of(table: TableName, batches: Iterable[list[tuple[Any, ...]]]) -> Iterator[Part]:
    """Cut rows that come in the order of their time into parts. Steps are cut between chats."""
    time = EXPORT_COLUMNS[table].index(PART_TIME[table]) if table in PART_TIME else None
    chat = EXPORT_COLUMNS[table].index("chat_id") if table == "reasoning_steps" else None
    most = PART_ROWS.get(table, OTHER_PART_ROWS)
    rows: list[tuple[Any, ...]] = []
    month, number, counted, last = "", 0, 0, None
    for batch in batches:
        for row in batch:
            begins = chat is None or row[chat] != last
            own = month if not begins else WHENEVER if time is None else row[time][:7]
            if begins and (own != month or counted >= most):
                if rows:
                    yield Part(table, month, number, lambda rows=rows: iter([rows]))  # type: ignore[misc]
                number = number + 1 if own == month else 0
                rows, month, counted = [], own, 0
            counted += begins
            last = row[chat] if chat is not None else None
            rows.append(row)
    if rows:
        yield Part(table, month, number, lambda: iter([rows]))


class Export(Protocol):
    """A consistent view of the whole store at one moment. Who withdrew their consent is not in it: neither what they said nor
    their chats."""

    def parts(self, table: TableName, *, since: str | None = None) -> Iterator[Part]:
        """The same rows as :meth:`rows`, cut in the same way by every store. May be read in any order, several at once."""

    def rows(self, table: TableName, *, since: str | None = None) -> Iterator[list[tuple[Any, ...]]]:
        """Batches of rows, columns as in :data:`EXPORT_COLUMNS`, in the order of their time (then of their key): the same order
        for the same data. Steps come in the order of their chats.

        Args:
            table: Which table.
            since: UTC text; feedback last changed before it is left out. Other tables ignore it.
        """

    def demo_raters(self) -> frozenset[str]:
        """User ids of fictional raters."""
