"""Reasoning steps from an answer's text, where a file gives none.

Tried in this order: the streamed ``step_start``/``step_end`` protocol, "Step n:" headings, a numbered list, a bulleted list,
paragraphs. Each step is a verbatim piece of the answer, so a step's prefix is the answer cut after it. Lines inside fenced
code are never taken for headings, items or breaks.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from rlhf_core.ground.answers import Answer

_STEP = re.compile(r"\s{0,3}(?:#{1,6}\s*|[*_]{1,2})?step\s+(\d+)\b\s*[:.)\-–—]?\s*[*_]{0,2}\s*[:.)\-–—]?\s*", re.IGNORECASE)
_NUMBER = re.compile(r"\s{0,3}(?:[*_]{1,2})?(\d{1,3})[.)]\s+")
_BULLET = re.compile(r"\s{0,3}[-*+•]\s+")
_FENCE = re.compile(r"\s{0,3}(```|~~~)")


_SENTENCE_END = re.compile(r"[.!?][\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9])")
_NO_END = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Mt|No|vs|etc|e\.g|i\.e|Inc|Ltd|Co|Corp|approx)|\b[A-HJ-Z])\.$")


class SplitAnswer(NamedTuple):
    response: str
    steps: list[str]


def split_answer(text: str) -> SplitAnswer:
    """The answer without protocol lines, and its steps in order (at least one, unless the answer is blank)."""
    streamed = parse_stream(text)
    if streamed is not None:
        return streamed
    lines = _lines(text)
    for marker, numbered in ((_STEP, True), (_NUMBER, True), (_BULLET, False)):
        starts = _marked(lines, marker, numbered)
        if len(starts) >= 2:
            return SplitAnswer(text, _cut_at(text, lines, starts))
    return SplitAnswer(text, _paragraphs(lines))


def answer_of(query: str, text: str) -> Answer:
    """A typed or written answer to a query, its steps split from it."""
    split = split_answer(text)
    return Answer(query.strip(), split.response, tuple(split.steps))


def split_sentences(text: str) -> SplitAnswer:
    """The answer, and its sentences as steps, each a verbatim piece of it. English: a sentence ends at a full stop, exclamation
    mark or question mark before a capital or a digit, but not after an initial or a common abbreviation."""
    steps, begin = [], 0
    for match in _SENTENCE_END.finditer(text):
        if not _NO_END.search(text[begin : match.start() + 1]):
            steps.append(text[begin : match.end()].strip())
            begin = match.end()
    steps.append(text[begin:].strip())
    return SplitAnswer(text, [step for step in steps if step])


def parse_stream(text: str) -> SplitAnswer | None:
    """Read a streamed transcript: JSON lines of type ``step_start`` / ``step_end`` mark steps, all else is text.

    A step that is never closed ends at the next ``step_start`` or at the end. Text outside steps stays in the answer. None
    if no line is such a mark.
    """
    steps: list[list[str]] = []
    kept: list[str] = []
    inside = marked = False
    for line in text.splitlines(keepends=True):
        kind = _mark(line)
        if kind is None:
            kept.append(line)
            if inside:
                steps[-1].append(line)
            continue
        marked = True
        inside = kind == "step_start"
        if inside:
            steps.append([])
    if not marked:
        return None
    contents = ["".join(step).strip() for step in steps]
    return SplitAnswer("".join(kept).strip(), [content for content in contents if content])


def _mark(line: str) -> str | None:
    stripped = line.strip()
    if not (stripped.startswith("{") and "step_" in stripped):
        return None
    try:
        value = json.loads(stripped)
    except ValueError:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    return kind if kind in ("step_start", "step_end") else None


class _Line(NamedTuple):
    start: int
    text: str
    fenced: bool

    @property
    def blank(self) -> bool:
        return not self.fenced and not self.text.strip()


def _lines(text: str) -> list[_Line]:
    lines, position, fence = [], 0, ""
    for raw in text.splitlines(keepends=True):
        opened = _FENCE.match(raw)
        was_fenced = bool(fence)
        if opened and not fence:
            fence = opened[1]
        elif opened and opened[1] == fence:
            fence = ""
        lines.append(_Line(position, raw, was_fenced or bool(fence)))
        position += len(raw)
    return lines


def _marked(lines: list[_Line], marker: re.Pattern[str], numbered: bool) -> list[tuple[int, int]]:
    """(line index, length of the mark) for each line that begins a step. Numbers must count up from 0 or 1."""
    starts: list[tuple[int, int]] = []
    expected: int | None = None
    for index, line in enumerate(lines):
        match = None if line.fenced else marker.match(line.text)
        if match is None:
            continue
        if numbered:
            number = int(match[1])
            if number != expected and not (expected is None and number in (0, 1)):
                continue
            expected = number + 1
        starts.append((index, match.end() if line.text[match.end() :].strip() else 0))
    return starts


def _cut_at(text: str, lines: list[_Line], starts: list[tuple[int, int]]) -> list[str]:
    steps: list[str] = []
    first_line, first_mark = starts[0]
    before = text[: lines[first_line].start].strip()
    begin = lines[first_line].start + first_mark
    if before.endswith(":"):
        begin = 0  # "Here is how:" introduces the first step
    elif before:
        steps.extend(_paragraphs(lines[:first_line]))
    for (index, _), following in zip(starts, [*starts[1:], None], strict=True):
        if following is not None:
            end = lines[following[0]].start
            steps.append(text[begin:end].strip())
            begin = end + following[1]
            continue
        tail = _tail_after_item(lines, index)
        end = lines[tail].start if tail is not None else len(text)
        steps.append(text[begin:end].strip())
        if tail is not None:
            steps.extend(_paragraphs(lines[tail:]))
    return [step for step in steps if step]


def _tail_after_item(lines: list[_Line], item: int) -> int | None:
    """The line where text after the last item begins: not indented, behind a blank line."""
    for index in range(item + 1, len(lines)):
        line = lines[index]
        if lines[index - 1].blank and not line.blank and not line.fenced and not line.text[:1].isspace():
            return index
    return None


def _paragraphs(lines: list[_Line]) -> list[str]:
    paragraphs: list[str] = []
    current: list[str] = []
    for line in lines:
        if line.blank:
            paragraphs.append("".join(current).strip())
            current = []
        else:
            current.append(line.text)
    paragraphs.append("".join(current).strip())
    return [paragraph for paragraph in paragraphs if paragraph]
