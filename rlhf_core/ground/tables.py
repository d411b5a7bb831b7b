"""The tables that leave the store for a snapshot, and what a consistent view of them looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

TableName = Literal[
    "chats", "reasoning_steps", "chat_feedback", "chat_marks", "label_events", "preferences", "aspect_ratings", "assignments",
    "queues", "gold_results", "decisions", "hints_shown",
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
}  # fmt: skip


# to a team's store
CARRIED: tuple[TableName, ...] = ("chats", "reasoning_steps", "chat_feedback", "preferences", "aspect_ratings")


class Export(Protocol):
    """A consistent view of the whole store at one moment."""

    def rows(self, table: TableName, *, since: str | None = None) -> Iterator[list[tuple[Any, ...]]]:
        """Batches of rows, columns as in :data:`EXPORT_COLUMNS`, always in the same order for the same data.

        Args:
            table: Which table.
            since: UTC text; feedback last changed before it is left out. Other tables ignore it.
        """

    def demo_raters(self) -> frozenset[str]:
        """User ids of fictional raters."""
