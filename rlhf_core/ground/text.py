"""How chats become text for models. One place, so that training and scoring can never format differently."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

_SPACES = re.compile(r"\s+")


def before_answer(query: str) -> str:
    """What stands before an answer wherever a model reads or writes one; a policy writes from its last colon on."""
    return f"User: {query}\n\nAssistant: "


def step_prefixes(response: str, steps: Sequence[str]) -> list[str]:
    """The answer up to and including each step, one text for each step.

    Where the steps stand in the response in order, word for word, a prefix is the response itself cut after the step,
    with whatever separates or numbers the steps kept. Otherwise (a response that only sums up its steps) a prefix is
    the steps themselves joined by blank lines.
    """
    prefixes: list[str] = []
    position = 0
    for step in steps:
        found = response.find(step, position) if step else -1
        if found < 0:
            return ["\n\n".join(steps[: k + 1]) for k in range(len(steps))]
        position = found + len(step)
        prefixes.append(response[:position])
    return prefixes


def storable(text: str) -> str:
    """Without characters that no store takes, which models write now and then: NUL, and halves of a character."""
    return "".join(c for c in text if is_storable(c))


def is_storable(text: str) -> bool:
    """Whether every store takes it: it holds no NUL and no half of a character."""
    return "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def query_key(query: str) -> str:
    """What makes two queries the same for a split: letter case and white space do not count."""
    normal = _SPACES.sub(" ", query).strip().casefold()
    return hashlib.sha256(normal.encode("utf-8", "surrogatepass")).hexdigest()


def shorten(text: str, limit: int = 80) -> str:
    """One line of at most ``limit`` characters, for messages, menus and tables."""
    line = _SPACES.sub(" ", text).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
