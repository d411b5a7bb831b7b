r"""Where a text that people or models wrote has code and formulas: ``\(..\)``, ``\[..\]``, ``$$..$$``, and ``$..$`` on one line.

Dollars that mean money are no formulas: an opening one stands before no blank and after no letter or digit, a closing one after
no blank and before no digit. One pass over the text; an opener without its closer is looked for once only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

FORMULA_MAX_CHARS = 5_000
_OPENERS = re.compile(r"`+|~~~|\\[(\[]|\$\$?|\\.", re.DOTALL)
_MATHS = re.compile(r"[\\^_{}=<>+*/]")
_CLOSERS = {"\\(": "\\)", "\\[": "\\]", "$$": "$$"}


class Piece(NamedTuple):
    """``text``: of a formula without its marks."""

    kind: Literal["text", "code", "inline", "display"]
    text: str


def pieces(text: str) -> Iterator[Piece]:
    """The whole text in order. Code comes with its marks."""
    hopeless: set[str] = set()
    at = begin = 0
    while found := _OPENERS.search(text, at):
        mark, at = found.group(), found.end()
        if mark in hopeless or (mark[0] == "\\" and mark not in _CLOSERS):
            continue
        if mark[0] in "`~":
            end = text.find(mark, at)
            if end < 0:
                hopeless.add(mark)
                continue
            if found.start() > begin:
                yield Piece("text", text[begin : found.start()])
            begin, at = found.start(), end + len(mark)
            yield Piece("code", text[begin:at])
            begin = at
            continue
        if mark == "$":
            line_end = text.find("\n", at)
            end = text.find("$", at, line_end if line_end >= 0 else len(text))
            blank = end < 0 or text[at : at + 1].isspace() or text[end - 1 : end].isspace()
            if blank or end == at or text[end + 1 : end + 2].isdigit() or text[found.start() - 1 : found.start()].isalnum():
                continue
            if " " in text[at:end] and not _MATHS.search(text, at, end):
                continue  # two prices
            closer = "$"
        else:
            closer = _CLOSERS[mark]
            end = text.find(closer, at)
            if end < 0:
                hopeless.add(mark)
                continue
        tex = text[at:end].strip()
        if not tex or len(tex) > FORMULA_MAX_CHARS or "\n\n" in tex:
            continue
        if found.start() > begin:
            yield Piece("text", text[begin : found.start()])
        yield Piece("display" if mark in ("\\[", "$$") else "inline", tex)
        at = begin = end + len(closer)
    if begin < len(text):
        yield Piece("text", text[begin:])
