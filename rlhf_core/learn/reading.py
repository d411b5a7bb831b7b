"""Texts become token ids, and the tokens that each judged span of an answer covers. Torch-free.

Read is always ``User: {query}\\n\\nAssistant: {answer}``. A span is a step of the answer, or the whole answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_core.ground.errors import ModelUnavailable
from rlhf_core.ground.text import before_answer, step_prefixes


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer to read, and which spans of it get a reward each: their first and last character + 1 in the answer."""

    query: str
    answer: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, special tokens included. ``spans``: first and last token + 1 of each, never empty. ``left_out``: tokens that
    were cut from the middle, because it was too long. ``lost``: spans whose end went with them."""

    ids: list[int]
    spans: list[tuple[int, int]]
    left_out: int = 0
    lost: tuple[int, ...] = ()

    @property
    def cut(self) -> bool:
        return self.left_out > 0


def whole_answer(query: str, answer: str) -> Reading:
    return Reading(query, answer, ((0, len(answer)),))


def up_to_step(query: str, prefix: str, step: str) -> Reading:
    """An answer up to and including a step, to be judged by that step. ``prefix`` ends with the step, or is judged whole."""
    begin = len(prefix) - len(step) if prefix.endswith(step) else 0
    return Reading(query, prefix, ((begin, len(prefix)),))


def step_readings(query: str, steps: Sequence[str], response: str | None = None) -> list[Reading]:
    """One for each step, with what stands before it: see :func:`rlhf_core.ground.text.step_prefixes`."""
    prefixes = step_prefixes(response if response is not None else "\n\n".join(steps), steps)
    return [up_to_step(query, prefix, step) for prefix, step in zip(prefixes, steps, strict=True)]


def all_steps(query: str, steps: Sequence[str], response: str | None = None) -> Reading:
    """The whole answer once, with every step as a span of it."""
    readings = step_readings(query, steps, response)
    spans = tuple(one.spans[0] for one in readings)
    whole = "\n\n".join(steps) if response is None or not response.startswith(readings[-1].answer) else response
    return Reading(query, whole, spans)


def fewest_texts(encoded: Sequence[Encoded], *, beginnings: bool) -> tuple[list[Encoded], list[tuple[int, int]]]:
    """Each text once, with all spans that are asked of it.

    Args:
        encoded: Texts and their spans.
        beginnings: A text that another one begins with is read with it: a causal model says the same of it there.

    Returns:
        The texts; and for each span of ``encoded``, in order, which text it is in and its place among that text's spans.
    """
    within = {tuple(one.ids): tuple(one.ids) for one in encoded}
    longer: tuple[int, ...] = ()
    if beginnings:
        for ids in sorted(within, reverse=True):  # whatever begins with a text stands right behind it in order
            if longer[: len(ids)] != ids:
                longer = ids
            within[ids] = longer
    numbers = {ids: k for k, ids in enumerate(dict.fromkeys(within.values()))}
    spans: list[dict[tuple[int, int], int]] = [{} for _ in numbers]
    asked = []
    for one in encoded:
        number = numbers[within[tuple(one.ids)]]
        asked += [(number, spans[number].setdefault(span, len(spans[number]))) for span in one.spans]
    return [Encoded(list(ids), list(some)) for ids, some in zip(numbers, spans, strict=True)], asked


class Encoder:
    """Tokenises readings for one model.

    Args:
        tokenizer: Of ``transformers``; it needs no padding token.
        max_length: Longest input in tokens. From a longer one the middle is cut out: up to a third is kept of its beginning (the
            query), the rest of its end, because a prefix is judged by its last step.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self._before, self._after = _special_tokens(tokenizer)

    def encode(self, readings: Sequence[Reading]) -> list[Encoded]:
        """Of each reading."""
        if not readings:
            return []
        texts = [f"{before_answer(one.query)}{one.answer}" for one in readings]
        tokens = self.tokenizer(texts, add_special_tokens=False, verbose=False)
        return [self._of(one, tokens, k) for k, one in enumerate(readings)]

    def _of(self, one: Reading, tokens: Any, k: int) -> Encoded:
        ids = tokens.input_ids[k]
        starts = len(before_answer(one.query))
        spans = [self._tokens_of(one, tokens, k, starts + begin, starts + end) for begin, end in one.spans]
        room = self.max_length - len(self._before) - len(self._after)
        over = len(ids) - room
        lost: list[int] = []
        if over > 0:
            question = self.tokenizer(f"User: {one.query}", add_special_tokens=False, verbose=False).input_ids
            head = min(len(question) + 3, room // 3)
            ids = ids[:head] + ids[head + over :]
            lost = [at for at, (_, end) in enumerate(spans) if head < end <= head + over]

            def moved(token: int) -> int:
                return token if token <= head else max(head, token - over)

            spans = [(moved(begin), moved(end)) for begin, end in spans]
        shift, last = len(self._before), len(ids)
        spans = [(shift + min(begin, max(0, end - 1)), shift + max(end, 1)) for begin, end in spans]
        found = [*self._before, *ids, *self._after]
        return Encoded(found, [(begin, min(end, shift + max(1, last))) for begin, end in spans], max(0, over), tuple(lost))

    def _tokens_of(self, one: Reading, tokens: Any, k: int, begin: int, end: int) -> tuple[int, int]:
        """First and last token + 1 of the characters from ``begin`` to ``end``; white space around them does not count."""
        text = f"{before_answer(one.query)}{one.answer}"
        if not tokens.is_fast:  # nothing says where its tokens stand: count those of what stands before
            count = lambda part: len(self.tokenizer(part, add_special_tokens=False, verbose=False).input_ids)  # noqa: E731
            return count(text[:begin].rstrip()), count(text[:end])
        first = next((at for c in range(begin, end) if (at := tokens.char_to_token(k, c)) is not None), None)
        last = next((at for c in range(end - 1, begin - 1, -1) if (at := tokens.char_to_token(k, c)) is not None), None)
        if first is None or last is None:  # empty, or blank: the last token before it
            at = next((at for c in range(begin - 1, -1, -1) if (at := tokens.char_to_token(k, c)) is not None), 0)
            return at, at + 1
        return first, last + 1


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids that the tokenizer puts before and after a single text."""
    bare = tokenizer("a", add_special_tokens=False).input_ids
    full = tokenizer("a").input_ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start], full[start + len(bare) :]
    raise ModelUnavailable(f"The tokenizer {tokenizer.name_or_path} changes text when it adds special tokens; use another base.")
