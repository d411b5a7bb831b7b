"""A snapshot's tables become examples: one text to score and the mean of what people gave it. Torch-free arithmetic.

An example is a whole answer, or the answer up to and including a rated step (its prefix). Ratings of the same thing by
several people become one example, so a thing that many rated does not count double.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from rlhf_core.ground.errors import NotEnoughData
from rlhf_core.ground.text import query_key, step_prefixes

LearnFrom = Literal["both", "answers", "steps"]
LIKED, DISLIKED = 4.0, 2.0


@dataclass(frozen=True, slots=True)
class Example:
    """``score``: mean of people's scores in stars, 1-5. ``step_order`` is None for a whole answer."""

    chat_id: str
    query: str
    text: str
    step_order: int | None
    score: float
    ratings: int

    @property
    def is_step(self) -> bool:
        return self.step_order is not None


@dataclass(frozen=True, slots=True)
class Split:
    train: list[Example]
    validation: list[Example]
    test: list[Example]


def build_examples(
    chats: pa.Table, steps: pa.Table, feedback: pa.Table, learn_from: LearnFrom = "both", decisions: pa.Table | None = None
) -> list[Example]:
    """All rated answers and step prefixes, ordered by chat and position. Where a dispute was decided, that is the score."""
    totals: dict[tuple[str, str | None], tuple[int, int]] = {}
    for chat_id, step_id, score in zip(
        *(feedback[name].to_pylist() for name in ("chat_id", "step_id", "feedback_score")), strict=True
    ):
        total, count = totals.get((chat_id, step_id), (0, 0))
        totals[chat_id, step_id] = (total + score, count + 1)
    if decisions is not None:
        for chat_id, step_id, kind, value in zip(
            *(decisions[name].to_pylist() for name in ("chat_id", "step_id", "kind", "value")), strict=True
        ):
            if kind == "score":
                _, count = totals.get((chat_id, step_id), (0, 1))
                totals[chat_id, step_id] = (int(value) * count, count)
    rated = {chat_id for chat_id, _ in totals}

    steps_of: dict[str, list[tuple[int, str, str]]] = {}
    for step_id, chat_id, content, order in zip(
        *(steps[name].to_pylist() for name in ("id", "chat_id", "step_content", "step_order")), strict=True
    ):
        if chat_id in rated:
            steps_of.setdefault(chat_id, []).append((order, step_id, content))

    examples: list[Example] = []
    for chat_id, query, response in zip(*(chats[name].to_pylist() for name in ("id", "query", "response")), strict=True):
        if chat_id not in rated:
            continue
        ordered = sorted(steps_of.get(chat_id, []))
        if learn_from != "answers":
            prefixes = step_prefixes(response, [content for _, _, content in ordered])
            for (order, step_id, _), prefix in zip(ordered, prefixes, strict=True):
                if (chat_id, step_id) in totals:
                    total, count = totals[chat_id, step_id]
                    examples.append(Example(chat_id, query, prefix, order, total / count, count))
        if learn_from != "steps" and (chat_id, None) in totals:
            total, count = totals[chat_id, None]
            examples.append(Example(chat_id, query, response, None, total / count, count))
    return examples


def split_by_query(examples: Sequence[Example], *, test: float, validation: float, seed: int) -> Split:
    """Split so that a query stands on one side only, whatever its letter case and spacing.

    Queries are ordered by a seeded hash; the first share goes to test, the next to validation. At least one query goes to
    test, to train, and (where ``validation`` > 0 and there are three) to validation.

    Raises:
        NotEnoughData: fewer than two different queries.
    """
    by_query: dict[str, list[Example]] = {}
    for example in examples:
        by_query.setdefault(query_key(example.query), []).append(example)
    keys = sorted(by_query, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    if len(keys) < 2:
        raise NotEnoughData(
            f"Training needs ratings on at least 2 different queries, one side to learn and one to test; there are ratings "
            f"on {len(keys)}. Rate more chats."
        )
    tests = min(max(1, round(test * len(keys))), len(keys) - 1)
    left = len(keys) - tests
    validations = min(max(1, round(validation * len(keys))), left - 1) if validation > 0 and left > 1 else 0
    pick = lambda some: [example for key in some for example in by_query[key]]  # noqa: E731  # three uses, one line each
    return Split(pick(keys[tests + validations :]), pick(keys[tests : tests + validations]), pick(keys[:tests]))


def take_whole_queries(examples: list[Example], at_most: int | None) -> list[Example]:
    """The first whole queries that fit into ``at_most`` examples (always at least one). Keeps the order it is given."""
    if at_most is None or len(examples) <= at_most:
        return examples
    taken: list[Example] = []
    group: list[Example] = []
    for example in [*examples, None]:
        if group and (example is None or query_key(example.query) != query_key(group[0].query)):
            if taken and len(taken) + len(group) > at_most:
                break
            taken, group = taken + group, []
        if example is not None:
            group.append(example)
    return taken


def mean_and_std(scores: Sequence[float]) -> tuple[float, float]:
    """Mean and population deviation, in stars. A deviation of 0 (all raters alike) becomes 1, so that nothing divides by it."""
    mean = sum(scores) / len(scores)
    variance = sum((score - mean) ** 2 for score in scores) / len(scores)
    return mean, variance**0.5 or 1.0
