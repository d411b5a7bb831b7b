"""Answers that models score, and what they say of them."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from rlhf_core.ground.files import canonical_json


class Answer(NamedTuple):
    """A query's answer and its reasoning steps, in order; none where it has no steps."""

    query: str
    response: str
    steps: tuple[str, ...] = ()

    def part(self, order: int) -> str:
        """A step by its order from 1, or (0) the whole."""
        return self.steps[order - 1] if order else self.response

    @property
    def key(self) -> str:
        """SHA-256 of all that a model reads of it."""
        whole = canonical_json([self.query, self.response, list(self.steps)])
        return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """Rewards in stars of a whole answer and of each of its steps. ``left_out``: tokens that were cut from the middle of
    the longest reading because it was too long for the model; 0 where it read all."""

    whole: float
    steps: list[float]
    left_out: int = 0

    def of(self, order: int) -> float:
        """The reward of a step by its order from 1, or (0) of the whole."""
        return self.steps[order - 1] if order else self.whole

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Explained:
    """Which words moved a reward. ``reward`` and ``baseline`` in stars: of the text, and of the same with every token blanked.
    ``words``: begin and end in ``text`` and what each adds, in stars; they sum to the difference up to ``rest`` (the error of the
    estimate). ``left_out``: tokens that were not read."""

    text: str
    reward: float
    baseline: float
    words: list[tuple[int, int, float]]
    rest: float
    left_out: int
