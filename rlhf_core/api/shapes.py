"""What requests and answers look like. Names in JSON are in camelCase; unknown ones are refused, so that a typo loses nothing."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel

from rlhf_core.ground.applications import Signal
from rlhf_core.ground.records import COMMENT_MAX_CHARS, SCORE_OF_TYPE, Consent, FeedbackType, feedback_type_of, format_utc
from rlhf_core.ground.text import is_storable
from rlhf_core.intake.rows import MAX_STEPS
from rlhf_core.services.collecting import Place

MAX_TEXT_CHARS = 200_000
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("holds a character that cannot be stored (NUL, or half a character)")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    return _storable(text)


def _in_text(value: object) -> object:
    """RFC 3339 in text: pydantic would take numbers, also within text, as seconds."""
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError("expected a time with its zone, such as 2026-01-31T09:30:00Z")
    return value


def _of_our_days(value: datetime) -> datetime:
    if not 1971 <= value.year <= 9998:
        raise ValueError("is not of our days")
    return value


Id = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")]
Person = Annotated[
    str, Field(min_length=1, max_length=200, description="who, by the application's own id; kept as a keyed hash only"),
    AfterValidator(_not_blank),
]  # fmt: skip
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS), AfterValidator(_not_blank)]
Moment = Annotated[AwareDatetime, BeforeValidator(_in_text, json_schema_input_type=AwareDatetime), AfterValidator(_of_our_days)]
Whole = Annotated[int, Field(strict=True)]


class Shape(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", validate_by_name=False, validate_by_alias=True)


class Answered(BaseModel):
    """What goes out."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", validate_by_name=True, validate_by_alias=True)


class ServedSent(Shape):
    """Which checkpoint answered, as ``GET /assignment`` had said."""

    checkpoint: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_not_blank)]
    refused: Annotated[bool, Field(strict=True)] | None = Field(None, description="whether it declined to answer")
    latency_ms: Annotated[float, Field(ge=0, le=86_400_000, allow_inf_nan=False)] | None = Field(
        None, description="until the answer was whole"
    )


class ChatSent(Shape):
    """A chat that the application had. Its answer: ``response``, with ``steps`` or without; or ``steps`` alone; or the raw
    ``transcript`` as it was streamed, with its ``step_start`` and ``step_end`` lines."""

    id: Id = Field(description="the application's own id of the chat; sent again, it is the same chat")
    query: Text
    response: Text | None = None
    steps: list[Text] | None = Field(None, min_length=1, max_length=MAX_STEPS)
    transcript: Text | None = None
    model: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_not_blank)] | None = None
    user_id: Person | None = None
    created_at: Moment | None = None
    served: ServedSent | None = None

    @model_validator(mode="after")
    def _one_answer(self) -> ChatSent:
        if self.transcript is not None and (self.response is not None or self.steps is not None):
            raise ValueError("send a transcript, or a response and steps; not both")
        if self.transcript is None and self.response is None and self.steps is None:
            raise ValueError("send a response, steps or a transcript")
        return self

    def record(self) -> dict[str, Any]:
        return {
            "query": self.query, "response": self.response if self.transcript is None else self.transcript, "steps": self.steps,
            "model": self.model, "created_at": format_utc(self.created_at) if self.created_at else None,
        }  # fmt: skip


class StepKept(Answered):
    id: str
    order: int
    text: str


class ChatKept(Answered):
    id: str = Field(description="the chat's id here, by which it is judged")
    steps: list[StepKept]
    removed: dict[str, int] = Field(description="what was taken out of its texts because it says who somebody is, by kind")


class Judged(Shape):
    """What is judged: ``stepId`` or ``stepOrder`` (from 1), or the whole answer where there is neither."""

    chat_id: Id
    step_id: Id | None = None
    step_order: Annotated[int, Field(strict=True, ge=1, le=MAX_STEPS)] | None = None

    @model_validator(mode="after")
    def _one_step(self) -> Judged:
        if self.step_id is not None and self.step_order is not None:
            raise ValueError("send stepId or stepOrder, not both")
        return self

    @property
    def place(self) -> Place:
        return Place(self.chat_id, self.step_id, self.step_order)


class FeedbackSent(Judged):
    """A thumb, or stars: ``feedbackType`` alone is a thumb (positive 5, neutral 3, negative 1); ``feedbackScore`` are stars, and
    agrees with the type where both are sent."""

    id: Id = Field(description="the sender's own id of this word; sent again, it changes nothing")
    feedback_type: FeedbackType | None = None
    feedback_score: Annotated[int, Field(strict=True, ge=1, le=5)] | None = None
    comment: Annotated[str, Field(max_length=COMMENT_MAX_CHARS), AfterValidator(_storable)] | None = None
    user_id: Person | None = None
    timestamp: Moment | None = Field(
        None, description="when it was said; an older word that arrives late does not undo a newer one"
    )

    @model_validator(mode="after")
    def _agree(self) -> FeedbackSent:
        if self.feedback_type is None and self.feedback_score is None:
            raise ValueError("send feedbackType or feedbackScore")
        if self.feedback_type and self.feedback_score and feedback_type_of(self.feedback_score) != self.feedback_type:
            raise ValueError(f"feedbackType {self.feedback_type} and feedbackScore {self.feedback_score} say different things")
        return self

    @property
    def score(self) -> int:
        return self.feedback_score if self.feedback_score is not None else SCORE_OF_TYPE[str(self.feedback_type)]

    @property
    def thumbs(self) -> bool:
        return self.feedback_score is None

    @property
    def said_at(self) -> str | None:
        return format_utc(self.timestamp) if self.timestamp else None


class FeedbackKept(Answered):
    """``score``: this person's judgement as it stands now; ``kept``: whether it is the one that was sent."""

    chat_id: str
    step_id: str | None
    score: int | None
    kept: bool


class SignalSent(Judged):
    """What somebody did: copied, asked for another answer, edited, looked, asked on. ``value``: characters or milliseconds."""

    id: Id | None = None
    signal: Signal
    value: Annotated[float, Field(strict=True, ge=0, le=1e12, allow_inf_nan=False)] | None = None


class EventSent(Shape):
    user_id: Person | None = None
    timestamp: Moment
    event_type: Literal["chat_feedback"]
    details: SignalSent

    @property
    def said_at(self) -> str:
        return format_utc(self.timestamp)


class EventKept(Answered):
    id: str


class AnswerSent(Shape):
    """An answer to be scored: ``response``, ``steps``, or both."""

    query: Text
    response: Text | None = None
    steps: list[Text] | None = Field(None, min_length=1, max_length=MAX_STEPS)
    checkpoint: Id | None = Field(None, description="a reward checkpoint; without one, the newest")

    @model_validator(mode="after")
    def _something(self) -> AnswerSent:
        if self.response is None and self.steps is None:
            raise ValueError("send a response or steps")
        return self


class Reward(Answered):
    """Predicted stars."""

    checkpoint: str
    reward: float
    steps: list[float]


class TicketAsked(Shape):
    user_id: Person
    seconds: Annotated[int, Field(strict=True, ge=60, le=86_400)] = 3600


class Ticket(Answered):
    """With which a person's browser sends what they say: ``Authorization: Bearer TICKET``."""

    ticket: str
    expires_at: str


class ConsentSent(Shape):
    version: Annotated[str, Field(min_length=1, max_length=100)] = Field(description="of the words by which the person was asked")
    consent: Consent
    user_id: Person | None = None


class ConsentKept(Answered):
    """``asks``: the person is to be asked, by ``words``: for the first time, or because the words are others now."""

    consent: Consent | None
    version: str | None
    at: str | None
    asks: bool
    current_version: str
    words: str


class Everything(Answered):
    """All that is kept of a person, by table."""

    tables: dict[str, list[dict[str, Any]]]


class Erased(Answered):
    """``runs`` and ``checkpoints`` had learnt from it before: what a model has learnt does not go away by itself."""

    chats: int
    judgements: int
    snapshots: list[str] = Field(description="that were rewritten without the person")
    runs: list[str]
    checkpoints: list[str]


class Status(Answered):
    status: Literal["ok"]


class Trouble(Answered):
    where: str
    what: str


class Problem(Answered):
    """Problem details, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[Trouble] | None = None


class AssignmentKept(Answered):
    """What a person gets. ``checkpoint``: null where nothing serves yet."""

    checkpoint: str | None
    arm: Literal["control", "canary"]
