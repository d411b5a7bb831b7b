"""Rate reasoning steps: what the label page shows and does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlhf_core.ground.answers import Answer, AnswerScore
from rlhf_core.ground.errors import InvalidInput, NotFound, RlhfError
from rlhf_core.ground.judgement import After, Aspect, Rubric
from rlhf_core.ground.records import MIDDLE, Change, Chosen, LabelOp, LabelView, Queue, QueueProgress, Session, Task, Worked
from rlhf_core.inference.client import ModelRef
from rlhf_core.services import scoring
from rlhf_core.services.workbench import Workbench

SCORED_AT_MOST = 1000  # chats
SCORED_AT_ONCE = 16


def all_queues(workbench: Workbench) -> list[Queue]:
    """Closed ones too, oldest first."""
    return workbench.store.queues()


def queues(workbench: Workbench, task: Task | None = None) -> list[Queue]:
    """The open queues (of one task), oldest first."""
    return [queue for queue in workbench.store.queues() if not queue.archived and task in (None, queue.task)]


def save_queue(workbench: Workbench, queue: Queue) -> Queue:
    """Add or change a queue. Where a checkpoint decides its order, :func:`prioritise` comes next.

    Raises:
        Forbidden, Duplicate, InvalidInput: see :meth:`rlhf_core.store.base.Store.save_queue`.
    """
    workbench.require("queues")
    saved = workbench.store.save_queue(queue)
    workbench.note("queue", saved.id, name=saved.name)
    return saved


def queue_of_chats(workbench: Workbench, queue: Queue, chats: Mapping[str, Sequence[int]]) -> tuple[Queue, int]:
    """Add a queue of these chats alone, by id, each with the steps that are asked for (none named: all of it).

    Returns:
        The queue, and how many of them are in the store and so in it.

    Raises:
        Forbidden, Duplicate, InvalidInput: as of :func:`save_queue`.
    """
    saved = save_queue(workbench, replace(queue, listed=True))
    try:
        return saved, workbench.store.set_queue_chats(saved.id, chats)
    except RlhfError:  # nobody is to be sent to a queue of nothing
        workbench.store.archive_queue(saved.id)
        raise


def archive_queue(workbench: Workbench, queue_id: str, *, archived: bool = True) -> None:
    """Close a queue, or with ``archived=False`` open it again. What people said in it stays.

    Raises:
        Forbidden: the role. NotFound: there is no such queue.
    """
    workbench.require("queues")
    workbench.store.archive_queue(queue_id, archived=archived)
    workbench.note("queue", queue_id, archived=archived)


def prioritise(
    workbench: Workbench, queue: Queue, limit: int = SCORED_AT_MOST, on_progress: Callable[[int, int], None] | None = None
) -> int:
    """Score the queue's chats with its checkpoint and put those first that are worth a person's time.

    ``uncertain``: the reward of the whole answer is near the middle of the scale. ``convincing``: people find the answer bad
    (mean below 3 stars) and the checkpoint likes it; chats that nobody has rated are left out.

    Returns:
        How many chats have a place in the queue now.

    Raises:
        Forbidden: the role. InvalidInput: the queue is not ordered by a checkpoint.
        NotFound, ModelUnavailable, WorkerFailed: the checkpoint cannot score.
    """
    workbench.require("queues")
    if queue.item_order not in ("uncertain", "convincing") or not queue.checkpoint_id:
        raise InvalidInput(f"The queue {queue.name} is not ordered by a checkpoint.")
    chats = workbench.store.chats_of_queue(queue.id, limit)
    people: dict[str, float] = {}
    if queue.item_order == "convincing":
        for chat in chats:
            given = workbench.store.mean_scores(chat.id)
            if given:
                people[chat.id] = sum(mean * n for mean, n in given.values()) / sum(n for _, n in given.values())
        chats = [chat for chat in chats if people.get(chat.id, MIDDLE) < MIDDLE]
    priorities: dict[str, float] = {}
    model = ModelRef(checkpoint=queue.checkpoint_id)
    for begin in range(0, len(chats), SCORED_AT_ONCE):
        some = chats[begin : begin + SCORED_AT_ONCE]
        for chat, score in zip(some, _scores(workbench, model, [Answer(one.query, one.response) for one in some]), strict=True):
            reward = score.whole
            priorities[chat.id] = -abs(reward - MIDDLE) if queue.item_order == "uncertain" else reward - people[chat.id]
        if on_progress:
            on_progress(begin + len(some), len(chats))
    workbench.store.set_priorities(queue.id, priorities)
    workbench.note("queue order", queue.id, checkpoint=queue.checkpoint_id, chats=len(priorities))
    return len(priorities)


def prepare_hints(
    workbench: Workbench, queue: Queue, limit: int = SCORED_AT_MOST, on_progress: Callable[[int, int], None] | None = None
) -> int:
    """Let the queue's hint checkpoint score each answer and each step ahead, so that nobody waits for it when they submit.

    Returns:
        How many chats have rewards now.

    Raises:
        Forbidden: the role. InvalidInput: the queue shows no hints.
        NotFound, ModelUnavailable, WorkerFailed: the checkpoint cannot score.
    """
    workbench.require("queues")
    if queue.hint_checkpoint is None:
        raise InvalidInput(f"The queue {queue.name} shows no hints.")
    chats = workbench.store.chats_of_queue(queue.id, limit)
    rewards: dict[str, dict[str, float]] = {}
    model = ModelRef(checkpoint=queue.hint_checkpoint)
    for begin in range(0, len(chats), SCORED_AT_ONCE):
        some = chats[begin : begin + SCORED_AT_ONCE]
        steps = [workbench.store.chat(chat.id).steps if queue.task == "rate" else () for chat in some]
        answers = [
            Answer(chat.query, chat.response, tuple(step.step_content for step in of_chat))
            for chat, of_chat in zip(some, steps, strict=True)
        ]
        for chat, of_chat, score in zip(some, steps, _scores(workbench, model, answers), strict=True):
            rewards[chat.id] = dict(zip([*(step.id for step in of_chat), ""], [*score.steps, score.whole], strict=True))
        if on_progress:
            on_progress(begin + len(some), len(chats))
    workbench.store.set_hints(queue.id, queue.hint_checkpoint, rewards)
    workbench.note("hints", queue.id, checkpoint=queue.hint_checkpoint, chats=len(rewards))
    return len(rewards)


def _scores(workbench: Workbench, model: ModelRef, answers: Sequence[Answer]) -> list[AnswerScore]:
    (scores,) = scoring.score_answers(workbench, [model], answers)
    if isinstance(scores, RlhfError):
        raise scores
    return scores


def queue(found: Sequence[Queue], queue_id: str | None = None) -> Queue:
    """Of these open queues the one with this id, or, where none is named, the first.

    Raises:
        NotFound: every queue is closed, or the one that is named is none of these.
    """
    if not found:
        raise NotFound("Every queue is closed. An engineer or administrator opens one.")
    if queue_id is None:
        return found[0]
    if (named := next((one for one in found if one.id == queue_id), None)) is None:
        raise NotFound("That queue is closed, or there is none of that name. Nothing was taken from another one instead.")
    return named


def open_item(workbench: Workbench, session: Session, chat_id: str, other_id: str | None = None) -> LabelView:
    """All that judging a chat or a pair needs, in one round trip.

    Raises:
        NotFound: no such chat or pair.
    """
    return workbench.store.for_user(session).view(chat_id, other_id)


def claim(workbench: Workbench, session: Session, queue_id: str, count: int) -> list[LabelView]:
    """What this person is to label next: see :meth:`rlhf_core.store.base.UserStore.claim`."""
    workbench.require("label")
    return workbench.store.for_user(session).claim(queue_id, count)


def after(workbench: Workbench, session: Session, queue_id: str, chat_id: str, other_id: str | None) -> After | None:
    """What may be told of an item that was submitted: see :meth:`rlhf_core.store.base.UserStore.after`."""
    return workbench.store.for_user(session).after(queue_id, chat_id, other_id)


def rubric(workbench: Workbench, queue_id: str) -> Rubric | None:
    """What the queue asks beside the score, in its newest version."""
    return workbench.store.rubric(queue_id)


def save_rubric(workbench: Workbench, queue_id: str, aspects: Sequence[Aspect]) -> Rubric:
    """
    Raises:
        Forbidden, InvalidInput, NotFound: see :meth:`rlhf_core.store.base.Store.save_rubric`.
    """
    workbench.require("queues")
    saved = workbench.store.save_rubric(queue_id, aspects)
    workbench.note("rubric", queue_id, version=saved.version)
    return saved


def apply(workbench: Workbench, session: Session, ops: Sequence[LabelOp]) -> dict[str, str]:
    """Store what the label page sent: see :meth:`rlhf_core.store.base.UserStore.apply`."""
    workbench.require("label")
    return workbench.store.for_user(session).apply(ops)


def steps_asked(workbench: Workbench, queue: Queue, chat_ids: Sequence[str]) -> dict[str, list[int]]:
    """Where the queue was made from certain steps: their orders by chat id."""
    return workbench.store.steps_asked(queue.id, chat_ids) if queue.listed and chat_ids else {}


def release(workbench: Workbench, session: Session, queue_id: str, chat_id: str | None = None) -> None:
    """Give back a chat that this person holds in the queue; None: every one."""
    workbench.store.for_user(session).release(queue_id, chat_id)


def queue_progress(workbench: Workbench, session: Session, queue_id: str) -> QueueProgress:
    return workbench.store.for_user(session).queue_progress(queue_id)


def chosen(workbench: Workbench, session: Session, limit: int = 50) -> list[Chosen]:
    return workbench.store.for_user(session).chosen(limit)


def history(workbench: Workbench, session: Session, before: str | None = None, limit: int = 50) -> list[Worked]:
    return workbench.store.for_user(session).history(before, limit)


def changes(workbench: Workbench, session: Session, chat_id: str) -> list[Change]:
    return workbench.store.for_user(session).changes(chat_id)


def everything(workbench: Workbench, session: Session) -> dict[str, list[dict[str, Any]]]:
    return workbench.store.for_user(session).everything()
