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
from rlhf_core.ground.text import is_storable

FeedbackType = Literal["positive", "neutral", "negative"]
Scale = Literal["stars", "thumbs"]
Task = Literal["rate", "choose"]
Asks = Literal["everything", "aspects"]
Verdict = Literal["chat", "other", "tie", "both_bad"]
OpKind = Literal[
    "rate", "withdraw", "comment", "first_error", "flag", "unflag", "dwell", "edit", "submit", "skip", "aspect", "prefer",
    "rewrite",
]  # fmt: skip
ItemOrder = Literal["oldest", "random", "fewest", "disagreement", "uncertain", "convincing"]
Consent = Literal["given", "withdrawn"]
Origin = Literal["account", "local", "imported", "demo", "application"]  # the last: people of a chat application

SCORE_MIN, SCORE_MAX = 1, 5
SCORE_OF_TYPE: dict[str, int] = {"positive": 5, "negative": 1, "neutral": 3}
COMMENT_MAX_CHARS = 8000
REASON_MAX_CHARS = 500  # why a chat was skipped
EVERYTHING = "00000000-0000-0000-0000-000000000001"  # the queues that every store begins with
EVERY_PAIR = "00000000-0000-0000-0000-000000000002"
MAX_STEP_CHARS = 100_000
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


DISLIKED, MIDDLE, LIKED = 2.0, 3.0, 4.0  # stars: so many or fewer are no good, so many or more are good


def is_good(score: int | None) -> bool | None:
    """Whether a score says good (4-5) or bad (1-2); None for neither."""
    return None if score is None or score == 3 else score > 3


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
    if not is_storable(text):
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
class Marks:
    """One person's marks on one chat. ``first_error``: id of the first step that is wrong, where they marked one."""

    first_error: str | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preference:
    """Which of two answers somebody finds better. ``verdict`` chat: the first of the pair; ``strength`` 1 slightly to 3 much."""

    verdict: Verdict
    strength: int | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class LabelView:
    """One chat, or two with one question, as one person sees it. What they said is theirs alone.

    ``ratings`` by step id (None: the whole answer); ``aspects`` by (step id, aspect); ``rewrites`` by step id. Of a pair,
    ``chat.id < other.id`` and ``preferences`` are by (step order or None, aspect or "").
    """

    chat: Chat
    ratings: dict[str | None, Feedback]
    marks: Marks = Marks()
    aspects: dict[tuple[str | None, str], int] = field(default_factory=dict)
    rewrites: dict[str, str] = field(default_factory=dict)
    other: Chat | None = None
    preferences: dict[tuple[int | None, str], Preference] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabelOp:
    """One thing that somebody did on the label page. Its id is made there, so that it is stored once however often it is sent.

    ``value`` by kind: rate {"score": 1-5, "scale": ...}; comment {"text": ...}; flag and unflag {"flag": ...}; dwell
    {"ms": ...}; submit and skip {"queue": id, "reason": ...}, skip also {"noted": false} where the person wants no event of it.
    edit notes that a judgement was changed; first_error marks ``step_id``, or clears the mark (None). aspect {"queue": id,
    "version": of its rubric, "aspect": key, "score": 1-5 or None}; rewrite {"text": a better step, or ""}; prefer {"other": id of
    the second chat, "step": order or None, "aspect": key or "", "verdict": or None, "strength": 1-3 or None, "left": id,
    "comment": ...}.
    Of a pair, submit and skip name the ``other`` too.
    """

    id: str
    kind: OpKind
    chat_id: str
    step_id: str | None = None
    value: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """What is to be labelled, in which order, by how many. ``source`` and ``words`` choose chats; None: all.

    ``task``: rate single answers, or choose between two. ``asks`` aspects: only what its rubric asks, one question at a time.
    ``gold_rate``: share of items with a known answer; ``screening``: how many of those come before first work, of which
    ``screening_pass`` (share) have to be right. ``hint_checkpoint``: whose rewards are shown after submitting.
    """

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
    task: Task = "rate"
    asks: Asks = "everything"
    gold_rate: float = 0.0
    screening: int = 0
    screening_pass: float = 0.7
    hint_checkpoint: str | None = None
    archived: bool = False
    listed: bool = False
    """Only the chats of a list: see :meth:`rlhf_core.store.base.Store.set_queue_chats`."""

    @property
    def tells_after(self) -> bool:
        """Whether there may be something to show once an item is submitted: a known answer, or a checkpoint's opinion."""
        return self.gold_rate > 0 or self.screening > 0 or self.hint_checkpoint is not None


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
    if queue.task not in get_args(Task) or queue.asks not in get_args(Asks):
        raise InvalidInput(f"A queue is to rate or to choose and asks everything or aspects; got {queue.task}, {queue.asks}.")
    if queue.task == "choose" and queue.item_order in ("uncertain", "convincing"):
        raise InvalidInput("A checkpoint orders single answers only. Choose another order for pairs.")
    if not 0 <= queue.gold_rate <= 0.5:
        raise InvalidInput(f"Known answers are 0 to 50% of a queue; got {queue.gold_rate:.0%}.")
    if not 0 <= queue.screening <= 100 or not 0 <= queue.screening_pass <= 1:
        raise InvalidInput(
            f"Screening takes 0 to 100 items and 0 to 100% right; got {queue.screening}, {queue.screening_pass:.0%}."
        )


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
    other = op.value.get("other")
    if other is not None and not (isinstance(other, str) and op.chat_id < other):
        raise InvalidInput("Of a pair, the first chat is the one whose id comes first. Reload the page.")
    if op.kind == "aspect":
        if op.value.get("score") is not None:
            check_score(op.value["score"])
        version, aspect = op.value.get("version"), op.value.get("aspect")
        if not isinstance(version, int) or not 1 <= version < 2**31 or not isinstance(aspect, str) or not aspect:
            raise InvalidInput("An aspect's rating names the aspect and the version of its rubric. Reload the page.")
    if op.kind == "prefer":
        _check_preference(op)
    if op.kind == "rewrite":
        text = op.value.get("text")
        if not isinstance(text, str) or not is_storable(text):
            raise InvalidInput("The rewritten step holds a character that cannot be stored. Type it anew.")
        if len(text) > MAX_STEP_CHARS:
            raise InvalidInput(f"A rewritten step has at most {MAX_STEP_CHARS:,} characters; this one has {len(text):,}.")
        if op.step_id is None:
            raise InvalidInput("A step is rewritten, not the whole answer.")


def _check_preference(op: LabelOp) -> None:
    verdict, strength, step = (op.value.get(name) for name in ("verdict", "strength", "step"))
    if verdict is not None and verdict not in get_args(Verdict):
        raise InvalidInput(f"A verdict is one of {', '.join(get_args(Verdict))}; got {verdict!r}.")
    if strength is not None and (strength not in (1, 2, 3) or verdict not in ("chat", "other")):
        raise InvalidInput(f"A strength is 1, 2 or 3 and belongs to a preference; got {strength!r} for {verdict!r}.")
    if step is not None and (not isinstance(step, int) or isinstance(step, bool) or not 1 <= step < 2**31):
        raise InvalidInput(f"A step's place counts from 1; got {step!r}.")
    if not isinstance(op.value.get("aspect") or "", str) or not isinstance(op.value.get("other"), str):
        raise InvalidInput("A preference names the other answer, and an aspect in words. Reload the page.")
    if op.value.get("left") not in (None, op.chat_id, op.value.get("other")):
        raise InvalidInput("What stood on the left is one of the two answers. Reload the page.")
    check_comment(str(op.value.get("comment") or ""))


MINE: dict[str, tuple[str, ...]] = {  # all that is kept of one person's labelling, by column
    "feedback": (
        "id", "chat_id", "step_id", "user_id", "feedback_type", "feedback_score", "scale", "comment", "created_at", "updated_at",
    ),
    "marks": ("chat_id", "first_error", "flags", "updated_at"),
    "events": ("id", "chat_id", "step_id", "kind", "value", "at"),
    "preferences": (
        "id", "chat_id", "other_id", "step_order", "aspect", "verdict", "strength", "comment", "created_at", "updated_at",
    ),
    "aspect_ratings": (
        "id", "chat_id", "step_id", "queue_id", "rubric_version", "aspect", "score", "created_at", "updated_at",
    ),
    "rewrites": ("step_id", "rewrite_id", "text", "updated_at"),
    "gold_results": ("queue_id", "chat_id", "other_id", "asked", "matched", "at"),
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
class Chosen:
    """A pair that somebody has judged: their word on the whole answers, if they gave one, and when they last said something."""

    chat_id: str
    other_id: str
    query: str
    verdict: Verdict | None
    last_at: str


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


@dataclass(frozen=True, slots=True)
class LogEntry:
    """Who did what. ``who``: a member's name, or the account that the workbench runs under; ``what``: a snapshot, run, ..."""

    at: str
    who: str
    act: str
    what: str
    detail: dict[str, Any]
