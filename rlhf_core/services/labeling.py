"""Rate reasoning steps: what the label page shows and does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlhf_core.ground.errors import NotFound
from rlhf_core.ground.records import Change, LabelOp, LabelView, Queue, QueueProgress, Session, Worked
from rlhf_core.services.workbench import Workbench


def queues(workbench: Workbench) -> list[Queue]:
    """The open queues, oldest first."""
    return [queue for queue in workbench.store.queues() if not queue.archived]


def queue(workbench: Workbench, queue_id: str | None) -> Queue:
    """The open queue with this id, or the first one.

    Raises:
        NotFound: every queue is closed.
    """
    found = queues(workbench)
    if not found:
        raise NotFound("Every queue is closed. An engineer or administrator opens one.")
    return next((one for one in found if one.id == queue_id), found[0])


def open_chat(workbench: Workbench, session: Session, chat_id: str) -> LabelView:
    """All that rating a chat needs, in one round trip.

    Raises:
        NotFound: no such chat.
    """
    return workbench.store.for_user(session).view(chat_id)


def claim(workbench: Workbench, session: Session, queue_id: str, count: int) -> list[LabelView]:
    """What this person is to label next: see :meth:`rlhf_core.store.base.UserStore.claim`."""
    workbench.require("label")
    return workbench.store.for_user(session).claim(queue_id, count)


def apply(workbench: Workbench, session: Session, ops: Sequence[LabelOp]) -> dict[str, str]:
    """Store what the label page sent: see :meth:`rlhf_core.store.base.UserStore.apply`."""
    workbench.require("label")
    return workbench.store.for_user(session).apply(ops)


def queue_progress(workbench: Workbench, session: Session, queue_id: str) -> QueueProgress:
    return workbench.store.for_user(session).queue_progress(queue_id)


def history(workbench: Workbench, session: Session, before: str | None = None, limit: int = 50) -> list[Worked]:
    return workbench.store.for_user(session).history(before, limit)


def changes(workbench: Workbench, session: Session, chat_id: str) -> list[Change]:
    return workbench.store.for_user(session).changes(chat_id)


def everything(workbench: Workbench, session: Session) -> dict[str, list[dict[str, Any]]]:
    return workbench.store.for_user(session).everything()


def erase(workbench: Workbench, session: Session) -> int:
    """Delete all that is kept of this person's labelling; returns how many judgements went."""
    return workbench.store.for_user(session).erase()
