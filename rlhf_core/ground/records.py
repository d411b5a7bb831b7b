"""The nouns of the store: who, which chat, which reasoning step, which judgement. Plain values, no behaviour on disk."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.roles import Role

FeedbackType = Literal["positive", "neutral", "negative"]
Scale = Literal["stars", "thumbs"]
OpKind = Literal["rate", "withdraw", "comment", "first_error", "flag", "unflag", "dwell", "edit", "submit", "skip"]
ItemOrder = Literal["oldest", "random", "fewest", "disagreement", "uncertain", "convincing"]
Origin = Literal["account", "local", "imported", "demo"]

SCORE_MIN, SCORE_MAX = 1, 5
SCORE_OF_TYPE: dict[str, int] = {"positive": 5, "negative": 1, "neutral": 3}
COMMENT_MAX_CHARS = 8000
EVERYTHING = "00000000-0000-0000-0000-000000000001"  # the queue that every store begins with
FLAGS = {"bad_prompt": "The question itself is bad", "unsure": "I am not sure", "unreadable": "It cannot be read"}
NAME_MAX_CHARS = 200
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def feedback_type_of(score: int) -> FeedbackType:
    """The type that agrees with a score: 4-5 positive, 3 neutral, 1-2 negative. The store holds rows to this rule."""
    check_score(score)
    return "positive" if score >= 4 else "negative" if score <= 2 else "neutral"


def check_score(score: object) -> int:
    """Return ``score`` as an int.

    Raises:
        InvalidInput: not a whole number from 1 to 5 (NaN, 6 stars, 3.5, text).
    """
    if isinstance(score, bool) or not isinstance(score, int) or not SCORE_MIN <= score <= SCORE_MAX:
        raise InvalidInput(f"A score is a whole number from {SCORE_MIN} to {SCORE_MAX}; got {score!r}.")
    return score


def utc_now() -> str:
    """Now, as the store keeps time: UTC, microseconds, ``2026-01-31T09:30:00.000000Z``. Sorts as text."""
    return format_utc(datetime.now(UTC))


def format_utc(moment: datetime) -> str:
    """A moment as stored text. A naive datetime is read as UTC."""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_utc(text: str) -> datetime:
    """The inverse of :func:`format_utc`; takes any ISO-8601 text.

    Raises:
        ValueError: not a timestamp.
    """
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def new_id() -> str:
    """A random identifier. Made by the client, so that a retried write is idempotent."""
    return str(uuid.uuid4())


def check_name(name: str) -> str:
    """A person's name without blanks around it.

    Raises:
        InvalidInput: empty, longer than 200 characters, or with line breaks or other control characters.
    """
    name = name.strip()
    if not name:
        raise InvalidInput("A person needs a name. Type one and try again.")
    if len(name) > NAME_MAX_CHARS:
        raise InvalidInput(f"A name has at most {NAME_MAX_CHARS} characters; this one has {len(name):,}.")
    if not name.isprintable():
        raise InvalidInput("A name is one line of letters: take out line breaks and other characters that cannot be seen.")
    return name


def plain_name(name: str) -> str:
    """A name that came with a file, made fit to be shown: on one line, cut where it is too long."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())[:NAME_MAX_CHARS].strip() or "somebody"


def check_comment(text: str) -> str:
    """A comment without blanks around it.

    Raises:
        InvalidInput: longer than 8,000 characters, or with characters that cannot be stored.
    """
    text = text.strip()
    if len(text) > COMMENT_MAX_CHARS:
        raise InvalidInput(f"A comment has at most {COMMENT_MAX_CHARS:,} characters; this one has {len(text):,}.")
    if "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise InvalidInput("The comment holds a character that cannot be stored (NUL, or half a character). Type it anew.")
    return text


def is_uuid(text: str) -> bool:
    """Whether this is an identifier in the one form that both stores write: 36 characters, lower case."""
    return _UUID.fullmatch(text) is not None


def content_id(*parts: str) -> str:
    """A UUID-shaped identifier of some content: the same parts always give the same id."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    h = digest.hexdigest()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


@dataclass(frozen=True, slots=True)
class Session:
    """Who is at the keyboard. A store bound to a session writes as this person and no other.

    ``role`` is None for somebody who has an account but no role yet. On the embedded store everybody may do everything.
    """

    user_id: str
    display_name: str
    role: Role | None = "admin"


@dataclass(frozen=True, slots=True)
class Profile:
    user_id: str
    display_name: str
    origin: Origin
    created_at: str


@dataclass(frozen=True, slots=True)
class Step:
    """One visible reasoning step. ``step_order`` counts from 1."""

    id: str
    chat_id: str
    step_content: str
    step_order: int


@dataclass(frozen=True, slots=True)
class Chat:
    """One query, the answer to it, and the steps the answer was built from."""

    id: str
    query: str
    response: str
    source: str
    model: str | None
    external_id: str | None
    owner_id: str | None
    created_at: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Feedback:
    """One person's judgement of a step, or of the whole answer where ``step_id`` is None."""

    id: str
    chat_id: str
    step_id: str | None
    user_id: str
    feedback_type: FeedbackType
    feedback_score: int
    scale: Scale
    comment: str | None
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one person is. A chat is done when they rated the whole answer and each of its steps."""

    chats_done: int
    chats_total: int
    ratings: int


@dataclass(frozen=True, slots=True)
class Marks:
    """One person's marks on one chat. ``first_error``: id of the first step that is wrong, where they marked one."""

    first_error: str | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelView:
    """One chat as one person sees it. ``ratings`` by step id (None: the whole answer) are theirs alone."""

    chat: Chat
    ratings: dict[str | None, Feedback]
    progress: Progress
    marks: Marks = Marks()

    @property
    def places(self) -> int:
        """How many things there are to rate: each step and the whole answer."""
        return len(self.chat.steps) + 1


@dataclass(frozen=True, slots=True)
class LabelOp:
    """One thing that somebody did on the label page. Its id is made there, so that it is stored once however often it is sent.

    ``value`` by kind: rate {"score": 1-5, "scale": ...}; comment {"text": ...}; flag and unflag {"flag": ...}; dwell
    {"ms": ...}; submit and skip {"queue": id, "reason": ...}, skip also {"noted": false} where the person wants no event of it.
    edit notes that a judgement was changed; first_error marks ``step_id``, or clears the mark (None).
    """

    id: str
    kind: OpKind
    chat_id: str
    step_id: str | None = None
    value: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """What is to be labelled, in which order, by how many. ``source`` and ``words`` choose chats; None: all."""

    id: str
    name: str
    guidelines: str = ""
    item_order: ItemOrder = "oldest"
    overlap: int = 1
    lease_s: int = 1800
    checkpoint_id: str | None = None
    source: str | None = None
    words: str | None = None
    created_at: str = ""
    archived: bool = False


def check_queue(queue: Queue) -> None:
    """
    Raises:
        InvalidInput: no name, an overlap or time that makes no sense, an order by a checkpoint without one.
    """
    if not queue.name.strip() or len(queue.name) > NAME_MAX_CHARS:
        raise InvalidInput(f"A queue needs a name of at most {NAME_MAX_CHARS} characters.")
    if queue.item_order not in get_args(ItemOrder):
        raise InvalidInput(f"The order is {queue.item_order!r}; expected one of {', '.join(get_args(ItemOrder))}.")
    if not 1 <= queue.overlap <= 1000:
        raise InvalidInput(f"Each item goes to 1 to 1,000 people; got {queue.overlap}.")
    if not 1 <= queue.lease_s <= 604_800:
        raise InvalidInput(f"A person keeps an item for 1 second to 7 days; got {queue.lease_s} s.")
    if queue.item_order in ("uncertain", "convincing") and not queue.checkpoint_id:
        raise InvalidInput("This order needs a reward checkpoint. Choose one.")


def check_op(op: LabelOp) -> None:
    """
    Raises:
        InvalidInput: what the label page sent is not what it may send.
    """
    if op.kind not in get_args(OpKind):
        raise InvalidInput(f"The page sent {op.kind!r}, which is unknown here. Reload the page.")
    if op.kind == "rate":
        check_score(op.value.get("score"))
        if op.value.get("scale") not in get_args(Scale):
            raise InvalidInput(f"A scale is stars or thumbs; got {op.value.get('scale')!r}.")
    if op.kind == "comment":
        check_comment(str(op.value.get("text", "")))
    if op.kind in ("flag", "unflag") and op.value.get("flag") not in FLAGS:
        raise InvalidInput(f"A flag is one of {', '.join(FLAGS)}; got {op.value.get('flag')!r}.")


MINE: dict[str, tuple[str, ...]] = {  # all that is kept of one person's labelling, by column
    "feedback": (
        "id", "chat_id", "step_id", "user_id", "feedback_type", "feedback_score", "scale", "comment", "created_at", "updated_at",
    ),
    "marks": ("chat_id", "first_error", "flags", "updated_at"),
    "events": ("id", "chat_id", "step_id", "kind", "value", "at"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class QueueProgress:
    """``submitted`` and ``skipped`` by one person; ``finished`` of ``items`` by as many people as the overlap says."""

    submitted: int
    skipped: int
    items: int
    finished: int


@dataclass(frozen=True, slots=True)
class Worked:
    """A chat that somebody has judged: how many judgements, when last, their mean score (stars)."""

    chat_id: str
    query: str
    ratings: int
    last_at: str
    mean_score: float


@dataclass(frozen=True, slots=True)
class Change:
    """A judgement as it was before it was changed, or taken back (``withdrawn``)."""

    step_id: str | None
    score: int
    scale: Scale
    comment: str | None
    given_at: str
    withdrawn: bool


@dataclass(frozen=True, slots=True)
class StoreCounts:
    chats: int
    steps: int
    ratings: int
    raters: int
    last_rated_at: str | None
