"""One raw record becomes rows for the store, or the reason why not. Every rule of the import is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlhf_core.ground.records import (
    COMMENT_MAX_CHARS,
    SCORE_MAX,
    SCORE_MIN,
    SCORE_OF_TYPE,
    content_id,
    feedback_type_of,
    format_utc,
    parse_utc,
)
from rlhf_core.ground.text import shorten, step_prefixes
from rlhf_core.intake.splitting import split_answer

MAX_TEXT_CHARS = 1_000_000
MAX_STEPS = 500
_TYPES = {
    "positive": "positive", "up": "positive", "thumbs_up": "positive", "like": "positive",
    "negative": "negative", "down": "negative", "thumbs_down": "negative", "dislike": "negative",
    "neutral": "neutral",
}  # fmt: skip
_THUMBS = {1: "positive", -1: "negative", 0: "neutral"}


class BadRecord(Exception):
    """Why a record cannot be imported; becomes a line's :class:`Problem`."""


@dataclass(slots=True)
class ChatRows:
    """What one record adds; tuples as :class:`~rlhf_core.store.base.BulkWriter` takes them."""

    external_id: str | None
    chat: tuple[Any, ...]
    steps: list[tuple[Any, ...]]
    feedback: list[tuple[Any, ...]] = field(default_factory=list)
    preferences: list[tuple[Any, ...]] = field(default_factory=list)
    aspects: list[tuple[Any, ...]] = field(default_factory=list)
    raters: dict[str, str] = field(default_factory=dict)


def rater_id(name: str) -> str:
    """The person behind a name in a file: the same name is the same person in every file."""
    return content_id("rater", name)


def build_rows(record: Mapping[str, Any], *, default_source: str, now: str, may_be_blank: bool = False) -> ChatRows:
    """Check a record (fields as in :data:`~rlhf_core.intake.formats.FIELDS`) and make its rows.

    A chat's id comes of its content, so importing it again adds nothing, under whatever file name. With ``may_be_blank`` an
    answer may be blank; it has no steps then.

    Raises:
        BadRecord: with the reason.
    """
    query = _text(record, "query", required=True)
    assert query is not None
    response = _text(record, "response")
    external = record.get("id")
    if isinstance(external, int) and not isinstance(external, bool):
        external = str(external)
    if external is not None and (not isinstance(external, str) or not external.strip()):
        raise BadRecord(f"id is {external!r}; expected text or a whole number")
    _check_text("id", external or "")
    contents, attached = _steps(record.get("steps"))
    blank = may_be_blank and isinstance(record.get("response"), str) and response is None  # a model that said nothing
    if blank:
        response = ""
    elif not contents:
        if response is None:
            raise BadRecord(f"has neither response nor steps (fields: {shorten(', '.join(record), 100)})")
        response, contents = split_answer(response)
        if not contents:
            raise BadRecord("response holds nothing but marks of a stream")
        if len(contents) > MAX_STEPS:  # the file gave no steps, so it cannot be at fault for their number
            cut = len(step_prefixes(response, contents)[MAX_STEPS - 2])
            contents = [*contents[: MAX_STEPS - 1], response[cut:].strip()]
    if response is None:
        response = "\n\n".join(contents)
    if len(contents) > MAX_STEPS:
        raise BadRecord(f"{len(contents)} steps; at most {MAX_STEPS} are taken")
    source = _text(record, "source") or default_source
    created_at = _time(record.get("created_at"), "created_at") or now

    chat_id = content_id("chat", external or "", query, response, *contents)
    steps = [(content_id("step", chat_id, str(k)), chat_id, text, k, created_at) for k, text in enumerate(contents, 1)]
    rows = ChatRows(external, (chat_id, query, response, source, _text(record, "model"), external, created_at), steps)
    default_rater = _text(record, "rater") or f"labels of {source}"
    judged: set[tuple[str, int | None, str]] = set()
    for place, judgement in _judgements(record, attached, len(contents)):
        rater = _text(judgement, "rater") or default_rater
        aspect = (_text(judgement, "aspect") or "").strip().lower()
        if (rater, place, aspect) in judged:
            what = "the whole answer" if place is None else f"step {place}"
            raise BadRecord(f"{rater!r} judges {what} twice; a person judges one thing once")
        judged.add((rater, place, aspect))
        row = _feedback_row(judgement, chat_id, place, steps, rater, created_at)
        if aspect:
            _, _, step_id, user_id, _, score, _, _, given_at, _ = row
            own_id = content_id("aspect", chat_id, step_id or "", user_id, aspect)
            rows.aspects.append((own_id, chat_id, step_id, user_id, None, None, aspect, score, given_at, given_at))
        else:
            rows.feedback.append(row)
        rows.raters[rater_id(rater)] = rater
    return rows


def build_pair(record: Mapping[str, Any], *, default_source: str, now: str) -> list[ChatRows]:
    """Check a record of two answers and make the rows of both chats; the second brings the preferences.

    Raises:
        BadRecord: with the reason.
    """
    shared = {name: record[name] for name in ("query", "source", "created_at") if name in record}
    external = record.get("id")
    answers = []
    for side in "ab":
        own = {name: record.get(f"{name}_{side}") for name in ("response", "steps", "model")}
        if own["response"] is None and own["steps"] is None:
            raise BadRecord(f"has no response_{side} (fields: {shorten(', '.join(map(str, record)), 100)})")
        for name in ("id", "source", "created_at"):  # of this answer alone
            if record.get(f"{name}_{side}") is not None:
                own[name] = record[f"{name}_{side}"]
        if external is not None:  # makes the two answers their own, as an id does for a chat
            own["id"] = f"{external}:{side}"
        answers.append(build_rows(shared | own, default_source=default_source, now=now, may_be_blank=True))
    a, b = answers
    if a.chat[0] == b.chat[0]:
        raise BadRecord("both answers are the same; give the record an id if that is meant")
    default_rater = _text(record, "rater") or f"labels of {a.chat[3]}"
    seen: set[str] = set()
    for judgement in _choices(record):
        rater = _text(judgement, "rater") or default_rater
        if rater in seen:
            raise BadRecord(f"{rater!r} chooses twice between these answers; a person judges one thing once")
        seen.add(rater)
        b.preferences.append(_preference_row(judgement, a.chat[0], b.chat[0], rater, a.chat[6]))
        b.raters[rater_id(rater)] = rater
    return [a, b]


def _choices(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    given = record.get("preferences") or []
    if not isinstance(given, Sequence) or isinstance(given, str) or not all(isinstance(one, Mapping) for one in given):
        raise BadRecord(f"preferences is {shorten(repr(given), 40)}; expected a list of objects")
    if record.get("choice") is not None:
        given = [*given, {name: record.get(name) for name in ("choice", "strength", "rater", "comment")}]
    return list(given)


def _preference_row(judgement: Mapping[str, Any], a: str, b: str, rater: str, chat_time: str) -> tuple[Any, ...]:
    choice, strength = judgement.get("choice"), judgement.get("strength")
    if choice not in ("a", "b", "tie", "both_bad"):
        raise BadRecord(f"choice is {shorten(repr(choice), 40)}; expected a, b, tie or both_bad")
    if strength is not None and (isinstance(strength, bool) or strength not in (1, 2, 3) or choice not in ("a", "b")):
        raise BadRecord(f"strength is {shorten(repr(strength), 40)}; expected 1, 2 or 3, for a choice of a or b")
    comment = _text(judgement, "comment")
    if comment and len(comment) > COMMENT_MAX_CHARS:
        raise BadRecord(f"the comment has {len(comment):,} characters; at most {COMMENT_MAX_CHARS:,} are taken")
    first, second = sorted((a, b))
    verdict = choice if choice in ("tie", "both_bad") else "chat" if (choice == "a") == (first == a) else "other"
    created_at = _time(judgement.get("created_at"), "created_at of a preference") or chat_time
    user_id = rater_id(rater)
    return (
        content_id("preference", first, second, user_id), first, second, None, "", user_id, verdict,
        None if strength is None else int(strength), None, comment, created_at, created_at,
    )  # fmt: skip


def _check_text(name: str, text: str) -> None:
    if len(text) > MAX_TEXT_CHARS:
        raise BadRecord(f"{name} has {len(text):,} characters; at most {MAX_TEXT_CHARS:,} are taken")
    if "\x00" in text:
        raise BadRecord(f"{name} contains a NUL character")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise BadRecord(f"{name} contains half a character (an unpaired surrogate)") from None


def _text(record: Mapping[str, Any], name: str, *, required: bool = False) -> str | None:
    value = record.get(name)
    if value is None:
        if required:
            raise BadRecord(f"has no {name} (fields: {shorten(', '.join(map(str, record)), 100)})")
        return None
    if not isinstance(value, str):
        raise BadRecord(f"{name} is {shorten(repr(value), 40)}; expected text")
    _check_text(name, value)
    if not value.strip():
        if required:
            raise BadRecord(f"{name} is blank")
        return None
    return value


def _steps(value: Any) -> tuple[list[str], list[tuple[int, Mapping[str, Any]]]]:
    """Step texts, and judgements attached to step objects as (step order, judgement)."""
    if value is None:
        return [], []
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadRecord(f"steps is {shorten(repr(value), 40)}; expected a list")
    contents: list[str] = []
    attached: list[tuple[int, Mapping[str, Any]]] = []
    for k, step in enumerate(value, start=1):
        if isinstance(step, Mapping):
            text = next((step[key] for key in ("content", "step_content", "text") if key in step), None)
            given = step.get("feedback")
            given = [given] if isinstance(given, Mapping) else given or []
            if not isinstance(given, Sequence) or not all(isinstance(one, Mapping) for one in given):
                raise BadRecord(f"step {k}: feedback is {shorten(repr(given), 40)}; expected a list of objects")
            attached.extend((k, one) for one in given)
        else:
            text = step
        if not isinstance(text, str) or not text.strip():
            raise BadRecord(f"step {k} is {shorten(repr(text), 40)}; expected text")
        _check_text(f"step {k}", text)
        contents.append(text)
    return contents, attached


def _judgements(
    record: Mapping[str, Any], attached: list[tuple[int, Mapping[str, Any]]], step_count: int
) -> list[tuple[int | None, Mapping[str, Any]]]:
    """Every judgement in a record as (step order or None, judgement)."""
    found: list[tuple[int | None, Mapping[str, Any]]] = list(attached)
    labels = record.get("step_labels")
    if labels is not None:
        if not isinstance(labels, Sequence) or isinstance(labels, str) or len(labels) != step_count:
            raise BadRecord(f"step_labels is {shorten(repr(labels), 40)}; expected a list of {step_count}, one a step")
        for k, label in enumerate(labels, start=1):
            if label is not None:
                found.append((k, {"type": _thumb(k, label)}))
    feedback = record.get("feedback")
    if feedback is not None:
        if not isinstance(feedback, Sequence) or isinstance(feedback, str):
            raise BadRecord(f"feedback is {shorten(repr(feedback), 40)}; expected a list of objects")
        for n, one in enumerate(feedback, start=1):
            if not isinstance(one, Mapping):
                raise BadRecord(f"feedback {n} is {shorten(repr(one), 40)}; expected an object")
            place = one.get("step")
            if place is not None and (not isinstance(place, int) or isinstance(place, bool) or not 1 <= place <= step_count):
                raise BadRecord(f"feedback {n} is for step {place!r}; this chat has steps 1 to {step_count}")
            found.append((place, one))
    if record.get("score") is not None or record.get("feedback_type") is not None:
        found.append((None, {
            "score": record.get("score"), "type": record.get("feedback_type"), "comment": record.get("comment"),
        }))  # fmt: skip
    elif record.get("comment") is not None:
        raise BadRecord("has a comment on the whole answer without a score or feedback_type")
    return found


def _thumb(k: int, label: Any) -> str:
    if isinstance(label, (int, float)) and not isinstance(label, bool) and label in _THUMBS:
        return _THUMBS[int(label)]
    if isinstance(label, bool):
        return "positive" if label else "negative"
    if isinstance(label, str) and label.lower() in _TYPES:
        return _TYPES[label.lower()]
    raise BadRecord(f"label of step {k} is {shorten(repr(label), 40)}; expected 1, 0, -1 or null")


def _feedback_row(
    judgement: Mapping[str, Any], chat_id: str, place: int | None, steps: list[tuple[Any, ...]], rater: str, chat_time: str
) -> tuple[Any, ...]:
    where = "answer" if place is None else f"step {place}"
    score, scale = _score(judgement, where)
    comment = _text(judgement, "comment")
    if comment and len(comment) > COMMENT_MAX_CHARS:
        raise BadRecord(f"{where}: the comment has {len(comment):,} characters; at most {COMMENT_MAX_CHARS:,} are taken")
    created_at = _time(judgement.get("created_at"), f"{where}: created_at") or chat_time
    user_id = rater_id(rater)
    step_id = None if place is None else steps[place - 1][0]
    return (
        content_id("feedback", chat_id, step_id or "", user_id), chat_id, step_id, user_id, feedback_type_of(score), score,
        scale, comment, created_at, created_at,
    )  # fmt: skip


def _score(judgement: Mapping[str, Any], where: str) -> tuple[int, str]:
    """(score, scale). Where there is only a type it counts 5, 3 or 1 and the scale is thumbs."""
    given, kind = judgement.get("score"), judgement.get("type", judgement.get("feedback_type"))
    if kind is not None:
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise BadRecord(f"{where}: type is {shorten(repr(kind), 40)}; expected positive, negative or neutral")
        kind = _TYPES[kind.lower()]
    if given is None:
        if kind is None:
            raise BadRecord(f"{where}: a judgement with neither score nor type")
        return SCORE_OF_TYPE[kind], "thumbs"
    whole = isinstance(given, int) or (isinstance(given, float) and given.is_integer())
    if isinstance(given, bool) or not whole:
        raise BadRecord(f"{where}: score is {shorten(repr(given), 40)}; expected a whole number from 1 to 5")
    if not SCORE_MIN <= given <= SCORE_MAX:
        raise BadRecord(f"{where}: score is {shorten(str(given), 40)}; expected {SCORE_MIN} to {SCORE_MAX}")
    score = int(given)
    if kind is not None and kind != feedback_type_of(score):
        raise BadRecord(f"{where}: type {kind!r} contradicts score {score}, which is {feedback_type_of(score)!r}")
    return score, "thumbs" if judgement.get("scale") == "thumbs" else "stars"


def _time(value: Any, name: str) -> str | None:
    if value is None:
        return None
    try:
        return format_utc(value if hasattr(value, "astimezone") else parse_utc(value))
    except (ValueError, TypeError, OverflowError):
        raise BadRecord(f"{name} is {shorten(repr(value), 40)}; expected an ISO-8601 time") from None
