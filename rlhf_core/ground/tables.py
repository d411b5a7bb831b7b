"""The tables that leave the store for a snapshot, and what a consistent view of them looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

TableName = Literal["chats", "reasoning_steps", "chat_feedback"]

EXPORT_COLUMNS: dict[TableName, tuple[str, ...]] = {
    "chats": ("id", "query", "response", "source", "model", "external_id", "owner_id", "created_at"),
    "reasoning_steps": ("id", "chat_id", "step_content", "step_order", "created_at"),
    "chat_feedback": (
        "id", "chat_id", "step_id", "user_id", "feedback_type", "feedback_score", "scale", "comment", "created_at",
        "updated_at",
    ),
}  # fmt: skip


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
