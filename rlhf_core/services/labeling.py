"""Rate reasoning steps: what the label page shows and does."""

from __future__ import annotations

from rlhf_core.ground.records import Chat, Feedback, LabelView, Progress, Scale, Session
from rlhf_core.services.workbench import Workbench


def open_chat(workbench: Workbench, session: Session, chat_id: str) -> LabelView:
    """All that rating a chat needs, in one round trip.

    Raises:
        NotFound: no such chat.
    """
    return workbench.store.for_user(session).view(chat_id)


def next_chat(workbench: Workbench, session: Session, after: Chat | None = None) -> str | None:
    """The next chat this person has not finished, from the top again when the end is reached; None when all are done.

    Never ``after`` itself unless it is the only one left.
    """
    mine = workbench.store.for_user(session)
    return mine.next_chat(after) or (mine.next_chat() if after is not None else None)


def previous_chat(workbench: Workbench, chat: Chat) -> str | None:
    return workbench.store.previous_chat(chat)


def rate(workbench: Workbench, session: Session, chat_id: str, step_id: str | None, score: int, scale: Scale) -> Feedback:
    """Store a rating; durable when this returns. See :meth:`rlhf_core.store.base.UserStore.rate` for errors."""
    return workbench.store.for_user(session).rate(chat_id, step_id, score, scale)


def withdraw(workbench: Workbench, session: Session, chat_id: str, step_id: str | None) -> bool:
    return workbench.store.for_user(session).withdraw(chat_id, step_id)


def comment(workbench: Workbench, session: Session, chat_id: str, step_id: str | None, text: str) -> Feedback:
    return workbench.store.for_user(session).comment(chat_id, step_id, text)


def progress(workbench: Workbench, session: Session) -> Progress:
    return workbench.store.for_user(session).progress()
