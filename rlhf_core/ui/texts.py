"""Words on pages: what people and models wrote made safe for Markdown, times, durations, states."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal

import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.records import parse_utc
from rlhf_core.ground.runs import RunStatus
from rlhf_core.ui.formulas import pieces

PLAIN_FROM_CHARS = 50_000
_SIGNS = re.compile(r"([\\`*_{}\[\]#+\-!|<>~$&]|:(?=\w))")  # a colon begins an icon or an emoji
_NO_IMAGE = "!\u200b["  # a zero-width space: Markdown reads no image, and nobody sees it
STATUS_COLOURS: dict[RunStatus, Literal["gray", "blue", "green", "red", "orange"]] = {
    "queued": "gray", "running": "blue", "paused": "orange", "succeeded": "green", "failed": "red",
    "cancelled": "orange", "lost": "red",
}  # fmt: skip


def markdown_of(text: str) -> str:
    """Text for ``st.markdown``: LaTeX is kept, dollars that mean money are escaped, colour directives and images are not read.
    Very long ones are shown as they were written."""
    if len(text) > PLAIN_FROM_CHARS:
        return plain(text)
    parts = []
    for kind, part in pieces(text):
        if kind == "text":
            parts.append(re.sub(r"(?<!\\)\$", r"\\$", part).replace("![", "!\\[").replace(":", "\\:"))
        else:
            marks = {"code": "", "inline": "$", "display": "$$"}[kind]
            parts.append(f"{marks}{part}{marks}")
    return "".join(parts).replace("![", _NO_IMAGE)  # where Markdown sees code or a formula otherwise than we do


def plain(text: str) -> str:
    """Text for ``st.markdown`` that looks as it was written: names, cells of tables, what an address says."""
    return _SIGNS.sub(r"\\\1", text)


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


def plural(count: int, noun: str, many: str = "") -> str:
    """A count and its noun; ``many``: where it is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def show_error(error: RlhfError) -> None:
    """An error as a person should meet it. It may repeat what an address or a server said: no link hides behind words."""
    st.error(markdown_of(str(error)).replace("](", "]\u200b("), icon=":material/error:")
