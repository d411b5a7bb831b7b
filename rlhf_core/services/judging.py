"""Judgement that can be trusted: items with a known answer, screening, disputes and what settles them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.judgement import Decision, DecisionKind, Dispute, Gold, GoldAnswer, Judgement, Screening, first_bad
from rlhf_core.ground.records import Chat, LabelView, Queue, Session, content_id, new_id
from rlhf_core.ground.text import shorten
from rlhf_core.services.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Case:
    """A dispute with everything that settles it. Raters are named A, B, C ... in an order that says nothing of who they are."""

    chat: Chat
    other: Chat | None
    words: list[Judgement]
    raters: list[str]
    decisions: list[Decision]

    def said(self, place: str | int | None, kind: str) -> dict[str, Judgement]:
        """By rater, what was said of one place."""
        return {one.user_id: one for one in self.words if (one.place, one.kind) == (place, kind)}

    def first_errors(self) -> dict[str, str]:
        """By rater, the first step they marked or else found bad ("" for none). Those who judged no step are left out."""
        order = [step.id for step in self.chat.steps]
        marked = {one.user_id: str(one.place) for one in self.words if one.kind == "first_error"}
        found: dict[str, str] = {}
        for rater in self.raters:
            scores = {
                one.place: int(one.value) for one in self.words if one.user_id == rater and one.kind == "score" and one.place
            }
            if rater in marked or scores:
                found[rater] = marked.get(rater) or first_bad(order, scores)
        return found

    def decision(self, kind: DecisionKind, step_id: str | None = None) -> Decision | None:
        return next((one for one in self.decisions if (one.kind, one.step_id) == (kind, step_id)), None)


def gold(workbench: Workbench) -> list[Gold]:
    """All known answers.

    Raises:
        Forbidden: the role.
    """
    workbench.require("queues")
    return workbench.store.gold()


def known_answer(view: LabelView) -> GoldAnswer:
    """What one person said of an item, as its known answer.

    Raises:
        InvalidInput: they have said nothing of it.
    """
    if view.other is not None:
        mine = view.preferences.get((None, ""))
        if mine is None:
            raise InvalidInput("Choose between the two answers first; what you choose becomes the known answer.")
        return GoldAnswer(verdict=mine.verdict)
    scores = {place: one.feedback_score for place, one in view.ratings.items()}
    first = view.marks.first_error or first_bad((step.id for step in view.chat.steps), scores) or None
    if first is None and view.chat.steps and all(step.id in scores for step in view.chat.steps):
        first = ""  # each step was judged, and none is wrong
    if not scores and first is None:
        raise InvalidInput("Rate the chat first; what you say of it becomes the known answer.")
    return GoldAnswer(scores, first)


def make_gold(workbench: Workbench, session: Session, chat_id: str, explanation: str, other_id: str | None = None) -> GoldAnswer:
    """Make what this person said of an item its known answer.

    Raises:
        Forbidden: the role. InvalidInput: they have said nothing of it. NotFound: no such item.
    """
    workbench.require("queues")
    mine = workbench.store.for_user(session)
    answer = known_answer(mine.view(chat_id, other_id))
    gold_id = mine.save_gold(chat_id, answer, explanation, other_id)
    workbench.note("known answer", gold_id, chat=chat_id)
    return answer


def gold_of_case(workbench: Workbench, session: Session, case: Case) -> GoldAnswer:
    """Make what was decided of a dispute the item's known answer.

    Raises:
        Forbidden: the role. InvalidInput: nothing is decided yet.
    """
    workbench.require("queues")
    if not case.decisions:
        raise InvalidInput("Decide something first; the decision becomes the known answer.")
    scores = {one.step_id: int(one.value) for one in case.decisions if one.kind == "score"}
    first, verdict = case.decision("first_error"), case.decision("preference")
    answer = GoldAnswer(scores, first.value if first else None, verdict.value if verdict else None)  # type: ignore[arg-type]
    reasons = dict.fromkeys(one.reason for one in case.decisions)
    gold_id = workbench.store.for_user(session).save_gold(
        case.chat.id, answer, "\n\n".join(reasons), case.other.id if case.other else None
    )  # fmt: skip
    workbench.note("known answer", gold_id, chat=case.chat.id)
    return answer


def remove_gold(workbench: Workbench, gold_id: str) -> None:
    """Its item is one like all others again.

    Raises:
        Forbidden: the role.
    """
    workbench.require("queues")
    workbench.store.remove_gold(gold_id)
    workbench.note("remove known answer", gold_id)


def screenings(workbench: Workbench, queue: Queue) -> list[Screening]:
    """How everybody who met known answers in the queue did.

    Raises:
        Forbidden: the role.
    """
    workbench.require("queues")
    return workbench.store.screenings(queue)


def forget_screening(workbench: Workbench, queue_id: str, user_id: str) -> None:
    """Let somebody try again."""
    workbench.require("queues")
    workbench.store.forget_screening(queue_id, user_id)
    workbench.note("screening", queue_id)


def disputes(workbench: Workbench, limit: int = 200) -> list[Dispute]:
    """What people judge differently, open ones first."""
    workbench.require("adjudicate")
    return workbench.store.disputes(limit)


def case(workbench: Workbench, chat_id: str, other_id: str | None = None) -> Case:
    """
    Raises:
        Forbidden: the role. NotFound: no such chat.
    """
    workbench.require("adjudicate")
    store = workbench.store
    words = store.judgements(chat_id, other_id)
    raters = sorted({one.user_id for one in words}, key=lambda user: content_id("alias", chat_id, user))
    chats = store.chat(chat_id), store.chat(other_id) if other_id else None
    return Case(*chats, words, raters, store.decisions(chat_id, other_id))


def decide(workbench: Workbench, session: Session, decisions: Sequence[Decision], reason: str) -> None:
    """Settle what is in dispute; each decision with the same reason.

    Raises:
        Forbidden: the role. InvalidInput: no reason, or a value that cannot be. NotFound: the item is gone.
    """
    workbench.require("adjudicate")
    if not decisions:
        raise InvalidInput("Nothing is decided yet. Choose what counts for one of the places first.")
    mine = workbench.store.for_user(session)
    for one in decisions:
        mine.decide(replace(one, id=new_id(), reason=reason))
    workbench.note("decide", decisions[0].chat_id, decisions=len(decisions), reason=shorten(reason, 500))


def undecide(workbench: Workbench, session: Session, decision: Decision) -> None:
    """Take a decision back: what people said counts again.

    Raises:
        Forbidden: the role.
    """
    workbench.require("adjudicate")
    workbench.store.for_user(session).undecide(decision)
    workbench.note("undecide", decision.chat_id, kind=decision.kind)
