"""Chat applications that send what their people say: who they are, and what they may send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.records import NAME_MAX_CHARS, Consent

Signal = Literal["copy", "regenerate", "edit", "dwell", "follow_up"]  # values: characters copied or changed, milliseconds
CONSENT_WORDS = (
    "May we use what you write and rate here, without your name, to teach the assistant? You can say no, look at what is kept, "
    "and have it erased at any time."
)
PER_MINUTE = 6000  # requests of an application, unless its operator says otherwise


@dataclass(frozen=True, slots=True)
class Application:
    """``per_minute``: requests that it may send. ``consent_version``: of the words by which its people are asked now.
    ``keep_days``: after which its chats, and all that was said of them, go; None: they stay."""

    id: str
    name: str
    per_minute: int
    consent_version: str
    consent_words: str
    created_at: str
    revoked_at: str | None = None
    keep_days: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request: an application, or one of its people (``visitor``, a store's user id) with a ticket of theirs."""

    application: Application
    visitor: str | None = None


@dataclass(frozen=True, slots=True)
class Consented:
    """What somebody answered last. ``consent`` None: they were never asked. ``asks``: they are to be asked, for the first time or
    because the words are others now."""

    consent: Consent | None
    version: str | None
    at: str | None
    asks: bool


def check_application(name: str, per_minute: int, consent_version: str, consent_words: str, keep_days: int | None = None) -> None:
    """
    Raises:
        InvalidInput: a name, rate or words that cannot be.
    """
    if not name.strip() or len(name) > NAME_MAX_CHARS or not name.isprintable():
        raise InvalidInput(f"An application needs a name: one line of at most {NAME_MAX_CHARS} characters.")
    if not 1 <= per_minute <= 10_000_000:
        raise InvalidInput(f"An application may send 1 to 10,000,000 requests a minute; got {per_minute}.")
    if keep_days is not None and not 1 <= keep_days <= 36_500:
        raise InvalidInput(f"Chats are kept for 1 to 36,500 days, or for ever; got {keep_days}.")
    if not consent_version.strip() or len(consent_version) > 100 or not consent_words.strip():
        raise InvalidInput("People are asked for their consent in words, and the words have a version of at most 100 characters.")
