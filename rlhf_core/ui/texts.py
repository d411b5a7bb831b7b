"""Words on pages: what people and models wrote made safe for Markdown, times, durations, states."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal

import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.records import parse_utc
from rlhf_core.ground.runs import RunStatus

_INLINE_MATH = re.compile(r"\\\((.+?)\\\)", re.DOTALL)
_BLOCK_MATH = re.compile(r"\\\[(.+?)\\\]", re.DOTALL)
_MATH = re.compile(r"(\$\$.+?\$\$|\$(?![\s\d])[^$\n]*?[\\^_{}=][^$\n]*?(?<!\s)\$)", re.DOTALL)
STATUS_COLOURS: dict[RunStatus, Literal["gray", "blue", "green", "red", "orange"]] = {
    "queued": "gray", "running": "blue", "paused": "orange", "succeeded": "green", "failed": "red",
    "cancelled": "orange", "lost": "red",
}  # fmt: skip


def markdown_of(text: str) -> str:
    """Text for ``st.markdown``: LaTeX is kept, dollars that mean money are escaped, colour directives and images are not read."""
    text = _INLINE_MATH.sub(lambda match: f"${match[1].strip()}$", text)
    text = _BLOCK_MATH.sub(lambda match: f"$${match[1]}$$", text)
    parts = _MATH.split(text)
    for index in range(0, len(parts), 2):
        plain = re.sub(r"(?<!\\)\$", r"\\$", parts[index])
        parts[index] = plain.replace("![", "!\\[").replace(":", "\\:")
    return "".join(parts)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "…"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def ago(moment: str) -> str:
    """A stored time as "3 min ago"."""
    seconds = max(0.0, (datetime.now(UTC) - parse_utc(moment)).total_seconds())
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    return f"{int(seconds // 3600)} h ago" if seconds < 86_400 else f"{parse_utc(moment):%Y-%m-%d}"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def show_error(error: RlhfError) -> None:
    """An error as a person should meet it."""
    st.error(str(error).replace("$", "\\$"), icon=":material/error:")
