"""Take in what chat applications send, and let their people look at what is kept of them and have it erased.

An application's own id of a person never reaches the store: it becomes a keyed hash (HMAC-SHA256, the key in the workspace).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rlhf_core.analytics.pseudonyms import workspace_key
from rlhf_core.ground.answers import Answer
from rlhf_core.ground.applications import (
    CONSENT_WORDS,
    PER_MINUTE,
    Application,
    Caller,
    Consented,
    Signal,
    check_application,
)
from rlhf_core.ground.errors import Forbidden, InvalidInput, ModelUnavailable, NotFound, SessionExpired, SignInRequired
from rlhf_core.ground.records import Consent, content_id, format_utc, new_id, utc_now
from rlhf_core.ground.rollout import ModelKind
from rlhf_core.intake import personal
from rlhf_core.intake.personal import without_personal
from rlhf_core.intake.rows import BadRecord, build_rows
from rlhf_core.services import comparing, erasing, erasing_runs, serving
from rlhf_core.services.erasing import Erasure
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.sqlite_collecting import Place, Request

TOKEN_PREFIX, TICKET_PREFIX = "rlhfa_", "rlhfv."
TICKET_MAX_CHARS = 500
MOST_AHEAD = timedelta(minutes=5)  # of our clock that a sender's may be
TICKET_S = 3600

__all__ = [
    "Place", "add_application", "add_chat", "applications", "assignment", "caller_of", "change_application", "consent",
    "erase", "erase_named", "erasures", "everything", "expire", "person", "proof", "rate", "ready", "removed",
    "revoke_application", "score", "set_consent", "signal", "tend", "ticket", "warm",
]  # fmt: skip


# applications -----------------------------------------------------------------------------------------------------------


def add_application(
    workbench: Workbench,
    name: str,
    *,
    per_minute: int = PER_MINUTE,
    consent_version: str = "1",
    consent_words: str = CONSENT_WORDS,
    keep_days: int | None = None,
) -> tuple[Application, str]:
    """Let an application send what its people say. Returns it and its token, which is kept nowhere: only a hash of it is.

    Raises:
        Forbidden: for administrators only.
        Duplicate, InvalidInput: a name that is taken, or cannot be.
    """
    workbench.require("manage")
    check_application(name, per_minute, consent_version, consent_words, keep_days)
    one = Application(
        new_id(), name.strip(), per_minute, consent_version.strip(), consent_words.strip(), utc_now(), keep_days=keep_days
    )
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    workbench.collecting.add_application(one, _hash(token))
    workbench.note("application", one.name, added=True)
    return one, token


def applications(workbench: Workbench) -> list[Application]:
    return workbench.collecting.applications()


def revoke_application(workbench: Workbench, name: str) -> Application:
    """Take no more from it. What it sent stays.

    Raises:
        NotFound: there is none of this name.
    """
    workbench.require("manage")
    one = replace(_named(workbench, name), revoked_at=utc_now())
    workbench.collecting.change_application(one)
    workbench.note("application", one.name, revoked=True)
    return one


def change_application(
    workbench: Workbench, name: str, *, new_token: bool = False, per_minute: int | None = None,
    consent_version: str | None = None, consent_words: str | None = None, keep_days: int | None = None,
) -> tuple[Application, str | None]:  # fmt: skip
    """Other words to ask by, another rate or time to keep (0: for ever), a new token in place of the old; what is None stays. A
    new token lets a revoked one in again.

    Raises:
        NotFound: there is none of this name.
        InvalidInput: new words under the version of the old ones, by which people have been asked.
    """
    workbench.require("manage")
    old = _named(workbench, name)
    words = old.consent_words if consent_words is None else consent_words.strip()
    version = old.consent_version if consent_version is None else consent_version.strip()
    if words != old.consent_words and version == old.consent_version:
        raise InvalidInput(
            f"Version {version!r} of the words has been shown to people. Give the new words a version of their own."
        )
    kept = old.keep_days if keep_days is None else keep_days or None
    one = replace(old, per_minute=per_minute or old.per_minute, consent_version=version, consent_words=words, keep_days=kept)
    check_application(one.name, one.per_minute, version, words, kept)
    token = TOKEN_PREFIX + secrets.token_urlsafe(32) if new_token else None
    if token:
        one = replace(one, revoked_at=None)
    workbench.collecting.change_application(one, _hash(token) if token else None)
    workbench.note(
        "application", one.name, new_token=new_token, per_minute=one.per_minute, consent_version=version, keep_days=kept
    )
    return one, token


def _named(workbench: Workbench, name: str) -> Application:
    found = applications(workbench)
    one = next((one for one in found if name.strip() in (one.name, one.id)), None)
    if one is None:
        raise NotFound(f"There is no application {name!r}. There are: {', '.join(one.name for one in found) or 'none'}.")
    return one


def caller_of(workbench: Workbench, token: str) -> Caller:
    """Who sends a request with this token or ticket.

    Raises:
        SignInRequired: it is none, or has been revoked or run out.
    """
    if token.startswith(TOKEN_PREFIX):
        application = workbench.collecting.application_of(_hash(token))
        if application is None:
            raise SignInRequired("This token is not known here, or was revoked. Ask the workbench's operator for another one.")
        return Caller(application)
    if token.startswith(TICKET_PREFIX):
        return _ticket_holder(workbench, token)
    raise SignInRequired("Send a token of an application, or a ticket of one of its people: Authorization: Bearer …")


def person(workbench: Workbench, application: Application, external_id: str) -> str:
    """The store's user id of somebody whom an application knows by this id."""
    key = workspace_key(workbench.workspace.keys, "visitors")
    digest = hmac.new(key, f"{application.id} {external_id}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    return content_id(digest)


def ticket(workbench: Workbench, caller: Caller, external_id: str, seconds: int = TICKET_S) -> tuple[str, str]:
    """With which a person's own browser may send what they say, look at it and erase it, and until when (UTC text).

    Raises:
        Forbidden: a ticket asks for another one.
    """
    if caller.visitor is not None:
        raise Forbidden("Tickets are made for the application itself, which asks with its token.")
    until = int(time.time()) + seconds
    visitor = person(workbench, caller.application, external_id)
    body = base64.urlsafe_b64encode(json.dumps([caller.application.id, visitor, until]).encode()).decode()
    return f"{TICKET_PREFIX}{body}.{_sign(workbench, body, caller.application.id)}", format_utc(
        datetime.fromtimestamp(until, UTC)
    )


def _ticket_holder(workbench: Workbench, token: str) -> Caller:
    body, _, signature = token.removeprefix(TICKET_PREFIX).partition(".")
    strange = SignInRequired("This ticket was not made here. Ask the application for another one.")
    if len(body) > TICKET_MAX_CHARS:  # nobody's is: before anything reads it
        raise strange
    try:
        application_id, visitor, until = json.loads(base64.urlsafe_b64decode(body))
        right = _sign(workbench, body, str(application_id))
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise strange from error
    if not hmac.compare_digest(right.encode(), signature.encode("utf-8", "surrogatepass")):
        raise strange
    if until < time.time():
        raise SessionExpired("This ticket has run out. Ask the application for another one.")
    application = workbench.collecting.application(application_id)
    if application is None or application.revoked_at is not None:
        raise SignInRequired("The application of this ticket is no longer let in.")
    return Caller(application, visitor)


def _sign(workbench: Workbench, body: str, application_id: str) -> str:
    """By a key that changes with the application's token: those who had the old one have no tickets either."""
    key = workspace_key(workbench.workspace.keys, "tickets") + workbench.collecting.token_of(application_id).encode()
    return (
        base64.urlsafe_b64encode(hmac.new(key, body.encode("utf-8", "surrogatepass"), hashlib.sha256).digest())
        .decode()
        .rstrip("=")
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def who(workbench: Workbench, caller: Caller, external_id: str | None) -> str:
    """The person whom a request is about: the ticket's, or the one that the application names.

    Raises:
        InvalidInput: an application that names nobody.
        Forbidden: a ticket of one person for another.
    """
    if caller.visitor is None:
        if not external_id:
            raise InvalidInput("Say whose it is: userId is missing.")
        return person(workbench, caller.application, external_id)
    if external_id and person(workbench, caller.application, external_id) != caller.visitor:
        raise Forbidden("This ticket is another person's.")
    return caller.visitor


# what is sent -----------------------------------------------------------------------------------------------------------


def add_chat(
    workbench: Workbench, caller: Caller, request_id: str, record: Mapping[str, Any], external_id: str | None = None,
    served: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Keep a chat that an application had.

    Args:
        workbench: Whose store.
        caller: The application.
        request_id: The application's own id of the chat. Sent again, it is the same chat.
        record: query, and response or steps; model, created_at.
        external_id: Whose chat it is; None: nobody's.
        served: checkpoint, refused, latency_ms: what answered; None: it is not known.

    Raises:
        InvalidInput: it is no chat.
        Conflict: another chat was sent under this id.
        Forbidden: people's own browsers send no chats.
    """
    _embedded(workbench)
    if caller.visitor is not None:
        raise Forbidden("A chat is sent by the application itself, with its token.")
    user_id = person(workbench, caller.application, external_id) if external_id else ""
    given = {name: value for name, value in record.items() if value is not None}
    try:
        rows = build_rows(given, default_source=caller.application.name, now=utc_now())
    except BadRecord as error:
        raise InvalidInput(f"The chat {error}.") from error
    _, query, response, source, model, _, created_at = rows.chat
    _check_time(created_at)
    query, of_query = without_personal(query)
    response, of_response = without_personal(response)
    steps = [without_personal(step[2])[0] for step in rows.steps]  # pieces of the answer: not counted again
    removed = of_query + of_response
    sent = given | ({"served": dict(served)} if served else {})
    request = Request(caller.application, request_id, _print(sent), user_id, removed=removed)
    if served:
        model = model or served["checkpoint"]  # snapshots tell generations apart by it
    chat = {"query": query, "response": response, "source": source, "model": model, "created_at": created_at}
    told = None
    if served:
        begun = serving.under_way(workbench, served["checkpoint"]) if user_id else None
        told = {"checkpoint_id": served["checkpoint"], "begun": begun}
        told |= {name: served.get(name) for name in ("refused", "latency_ms")}
    return workbench.collecting.add_chat(request, chat, steps, told)


def assignment(
    workbench: Workbench, caller: Caller, kind: ModelKind, external_id: str | None = None
) -> serving.Assignment:  # fmt: skip
    """Which checkpoint answers a person; see :func:`rlhf_core.services.serving.assignment`. Raises as :func:`who`."""
    _embedded(workbench)
    return serving.assignment(workbench, kind, who(workbench, caller, external_id))


def rate(
    workbench: Workbench, caller: Caller, request_id: str, place: Place, score: int, *, thumbs: bool, comment: str | None = None,
    said_at: str | None = None, external_id: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Keep what a person says of a step, or of the whole answer.

    Args:
        workbench: Whose store.
        caller: The application, or the person.
        request_id: The sender's own id of this word. Sent again, it changes nothing.
        place: What is judged.
        score: 1 to 5 stars.
        thumbs: Given by thumbs.
        comment: Words beside it.
        said_at: When, by the sender's clock (UTC text): an older word that arrives late does not undo a newer one.
        external_id: Whose word, where the application sends it.

    Raises:
        NotFound, Conflict, InvalidInput, Forbidden: as of :class:`~rlhf_core.store.sqlite_collecting.SqliteCollecting`.
    """
    _embedded(workbench)
    user_id = who(workbench, caller, external_id)
    _check_time(said_at)
    sent = {
        "place": [place.chat_id, place.step_id, place.step_order],
        "score": score,
        "thumbs": thumbs,
        "comment": comment,
        "at": said_at,
    }
    removed: Counter[str] = Counter()
    if comment:
        comment, removed = without_personal(comment)
    request = Request(caller.application, request_id, _print(sent), user_id, said_at, removed)
    return workbench.collecting.rate(request, place, score, "thumbs" if thumbs else "stars", comment)


def signal(
    workbench: Workbench, caller: Caller, place: Place, what: Signal, value: float | None = None, *,
    request_id: str | None = None, said_at: str | None = None, external_id: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Keep an implicit signal of a person. Without an id of the sender's, the same thing at the same time is one. Raises as
    :func:`rate`."""
    _embedded(workbench)
    user_id = who(workbench, caller, external_id)
    _check_time(said_at)
    sent = _print({"place": [place.chat_id, place.step_id, place.step_order], "signal": what, "value": value, "at": said_at})
    request = Request(caller.application, request_id or sent, sent, user_id, said_at)
    return workbench.collecting.note(request, place, what, value)


def score(workbench: Workbench, answer: Answer, checkpoint: str | None = None) -> tuple[str, float, list[float]]:
    """The reward of an answer and of its steps in stars, by a checkpoint; without one, by the one that
    serves, or the newest.

    Raises:
        NotFound: there is none.
        InvalidInput, ModelUnavailable, CorruptArtifact, WorkerFailed: as of comparing.
    """
    checkpoint = checkpoint or serving.reward_model(workbench)
    if checkpoint is None:
        raise NotFound("There is no reward checkpoint here. Train one first.")
    chosen = comparing.candidate(workbench, checkpoint)
    scores, errors = comparing.scores_of(workbench, [chosen], [answer])
    if chosen.label in errors:
        raise ModelUnavailable(errors[chosen.label])
    (found,) = scores[chosen.label]
    return checkpoint, found.whole, list(found.steps)


# what people may ask of it ----------------------------------------------------------------------------------------------


def consent(workbench: Workbench, caller: Caller, external_id: str | None = None) -> Consented:
    return workbench.collecting.consent(caller.application, who(workbench, caller, external_id))


def set_consent(workbench: Workbench, caller: Caller, version: str, said: Consent, external_id: str | None = None) -> Consented:
    """Keep what a person answered to the words of this version. From the next snapshot on it counts."""
    _embedded(workbench)
    return workbench.collecting.set_consent(caller.application, who(workbench, caller, external_id), version, said)


def everything(workbench: Workbench, caller: Caller, external_id: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """All that is kept of a person, by table."""
    _embedded(workbench)
    return workbench.collecting.mine(who(workbench, caller, external_id))


def erase(workbench: Workbench, caller: Caller, external_id: str | None = None) -> Erasure:
    """Delete all that is kept of a person: their chats, what they said and did, here and in this workspace's snapshots. It may be
    done again, and goes on where it was interrupted. It is logged, without saying who it was."""
    _embedded(workbench)
    by = "themselves" if caller.visitor else f"application {caller.application.name}"
    return erasing.erase_visitor(workbench, who(workbench, caller, external_id), by)


def erase_named(workbench: Workbench, application_name: str, external_id: str) -> Erasure:
    """As :func:`erase`, by the operator.

    Raises:
        NotFound: there is no application of this name.
    """
    workbench.require("manage")
    _embedded(workbench)
    return erasing.erase_visitor(workbench, person(workbench, _named(workbench, application_name), external_id), None)


def expire(workbench: Workbench, *, try_only: bool = False) -> dict[str, int]:
    """Delete the chats that applications wanted kept for a time which is over, and all that was said of them, from the store and
    from snapshots. May be done again, and goes on where it was interrupted.

    Args:
        workbench: Whose.
        try_only: Delete nothing.

    Returns:
        How many chats of which application.
    """
    workbench.require("manage")
    gone = {}
    for one in applications(workbench):
        if one.keep_days is None:
            continue
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)  # once a day: snapshots get new ids by it
        chats = workbench.collecting.expired(one, format_utc(today - timedelta(days=one.keep_days)))
        if chats and not try_only:
            erasing.delete_chats(workbench, chats, f"chats of {one.name} had been kept for {one.keep_days} days")
            workbench.note("expire", one.name, "the server", chats=len(chats), keep_days=one.keep_days)
        if chats:
            gone[one.name] = len(chats)
    if not try_only and workbench.team is None:
        workbench.embedded.forget_deleted()  # what could not be overwritten before, because somebody read
    return gone


def tend(workbench: Workbench) -> None:
    """What is to be done from time to time: :func:`expire`, and taking out of runs that are over what they were to forget."""
    erasing_runs.settle(workbench)
    expire(workbench)


def proof(workbench: Workbench, application_name: str, external_id: str) -> dict[str, Any]:
    """Look for a person everywhere, by what an application knows them by.

    Returns:
        ``found``: rows by table of the store, snapshots and runs, where they still stand (none: proven); ``erasures``: of theirs;
        ``late``: checkpoints that runs at work then have saved since.
    """
    workbench.require("manage")
    user_id = person(workbench, _named(workbench, application_name), external_id)
    return erasing.traces(workbench, user_id)


def erasures(workbench: Workbench) -> list[dict[str, Any]]:
    workbench.require("manage")
    return workbench.collecting.erasures()


def removed(workbench: Workbench) -> list[tuple[str, str, str]]:
    """What was taken out of texts that came in: (application's name, month, in words)."""
    workbench.require("manage")
    found: dict[tuple[str, str], Counter[str]] = {}
    for name, month, kind, count in workbench.collecting.removed():
        found.setdefault((name, month), Counter())[kind] += count
    return [(name, month, personal.told(counts)) for (name, month), counts in found.items()]


def warm(workbench: Workbench) -> None:
    """Load what takes in what applications send, where there are any."""
    if any(one.revoked_at is None for one in applications(workbench)):
        personal.warm()


def ready(workbench: Workbench) -> None:
    """
    Raises:
        StoreUnavailable: the store does not answer.
    """
    workbench.collecting.ready()


def _embedded(workbench: Workbench) -> None:
    if workbench.team is not None:
        raise InvalidInput(
            "This workbench keeps feedback in a team's Supabase project. Ask that: feedback is written to its tables directly, "
            "under row level security, and select assignment('policy') says which checkpoint answers whom. docs/collecting.md "
            "and docs/rollout.md show both."
        )


def _print(sent: Mapping[str, Any]) -> str:
    return content_id(json.dumps(sent, sort_keys=True))


def _check_time(text: str | None) -> None:
    if text is not None and text > format_utc(datetime.now(UTC) + MOST_AHEAD):
        raise InvalidInput(f"{text} is still to come. Set the sender's clock right.")
