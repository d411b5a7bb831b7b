"""A snapshot's tables become examples: one text to score and what people gave it. Torch-free arithmetic.

An example is a whole answer, or the answer up to and including a rated step (its prefix). Ratings of the same thing by
several people become one example, so a thing that many rated does not count double; raters' leniency is taken off what is
learned, never off what a model is measured against.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from rlhf_core.ground.errors import NotEnoughData
from rlhf_core.ground.text import query_key, step_prefixes
from rlhf_core.learn.raters import once_each, rater_offsets, spread, weight_of
from rlhf_core.learn.reading import Reading, up_to_step, whole_answer
from rlhf_core.learn.scales import star_shares

LearnFrom = Literal["both", "answers", "steps"]


@dataclass(frozen=True, slots=True)
class Example:
    """One text and what people gave it.

    ``score``: mean of people's scores in stars, 1-5, or what was decided where they disputed. ``target``: what to learn, the
    same with the raters' leniency taken off (not clipped to 1-5). ``weight``: how much it counts, 1 for a single rating.
    ``given``: (rater's pseudonym, score in stars), each rater once. ``step_order`` is None for a whole answer. ``own``: the
    words of the step itself, or the whole answer. ``decided``: the score is what a dispute came to. ``aspect``: of which aspect,
    "" for the judgement as a whole. ``thumbs``: raters whose score was a thumb. ``shares``: how what to learn is shared out among
    1 to 5 stars. ``whole``: the answer that the text is the beginning of.
    """

    chat_id: str
    query: str
    text: str
    step_order: int | None
    score: float
    ratings: int
    target: float = 0.0
    weight: float = 1.0
    given: tuple[tuple[str, float], ...] = ()
    source: str = ""
    model: str | None = None
    own: str = ""
    decided: bool = False
    aspect: str = ""
    thumbs: frozenset[str] = frozenset()
    shares: tuple[float, ...] = ()
    whole: str = ""

    @property
    def is_step(self) -> bool:
        return self.step_order is not None

    @property
    def reading(self) -> Reading:
        """What is read to judge it: a step with what stands before it."""
        return up_to_step(self.query, self.text, self.own) if self.is_step else whole_answer(self.query, self.text)


@dataclass(frozen=True, slots=True)
class Split:
    train: list[Example]
    validation: list[Example]
    test: list[Example]


def _rows(table: pa.Table, *columns: str) -> Any:
    return zip(*(table[name].to_pylist() for name in columns), strict=True)


def build_examples(
    chats: pa.Table, steps: pa.Table, feedback: pa.Table, learn_from: LearnFrom = "both", decisions: pa.Table | None = None,
    aspects: pa.Table | None = None,
) -> list[Example]:  # fmt: skip
    """All rated answers and step prefixes, ordered by chat and position, then aspect. Where a dispute was decided, that is the
    score.

    Args:
        chats: Columns id, query, response, source, model.
        steps: Columns id, chat_id, step_content, step_order.
        feedback: Columns chat_id, step_id, rater, feedback_score, scale.
        learn_from: Whole answers, step prefixes, or both.
        decisions: Columns chat_id, step_id, kind, value.
        aspects: Columns chat_id, step_id, rater, aspect, score; None leaves aspects out.
    """
    said: dict[tuple[str, str | None, str], list[tuple[str, float]]] = defaultdict(list)
    thumbs: dict[tuple[str, str | None, str], set[str]] = defaultdict(set)
    for chat_id, step_id, rater, score, scale in _rows(feedback, "chat_id", "step_id", "rater", "feedback_score", "scale"):
        said[chat_id, step_id, ""].append((rater, float(score)))
        if scale == "thumbs":
            thumbs[chat_id, step_id, ""].add(rater)
    if aspects is not None:
        for chat_id, step_id, rater, aspect, score in _rows(aspects, "chat_id", "step_id", "rater", "aspect", "score"):
            said[chat_id, step_id, aspect].append((rater, float(score)))
    given = {thing: once_each(ratings) for thing, ratings in said.items()}
    decided: dict[tuple[str, str | None, str], float] = {}
    if decisions is not None:
        for chat_id, step_id, kind, value in _rows(decisions, "chat_id", "step_id", "kind", "value"):
            if kind == "score":
                decided[chat_id, step_id, ""] = float(value)
    aspects_of: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for chat_id, step_id, aspect in given.keys() | decided.keys():
        aspects_of[chat_id, step_id].append(aspect)
    rated = {chat_id for chat_id, _ in aspects_of}

    steps_of: dict[str, list[tuple[int, str, str]]] = {}
    for step_id, chat_id, content, order in _rows(steps, "id", "chat_id", "step_content", "step_order"):
        if chat_id in rated:
            steps_of.setdefault(chat_id, []).append((order, step_id, content))

    examples: list[Example] = []

    def add(
        chat: tuple[str, str, str, str, str | None], step_id: str | None, text: str, order: int | None, own: str, whole: str
    ) -> None:
        chat_id, query, _, source, model = chat
        for aspect in sorted(aspects_of.get((chat_id, step_id), ())):
            thing = (chat_id, step_id, aspect)
            ratings = given.get(thing, [])
            settled = decided.get(thing)
            score = sum(one for _, one in ratings) / len(ratings) if settled is None else settled
            examples.append(Example(
                chat_id, query, text, order, score, max(1, len(ratings)), score, 1.0, tuple(sorted(ratings)), source, model, own,
                settled is not None, aspect, frozenset(thumbs.get(thing, ())), (), whole,
            ))  # fmt: skip

    for chat in _rows(chats, "id", "query", "response", "source", "model"):
        if chat[0] not in rated:
            continue
        ordered = sorted(steps_of.get(chat[0], []))
        if learn_from != "answers":
            prefixes = step_prefixes(chat[2], [content for _, _, content in ordered])
            whole = chat[2] if prefixes and chat[2].startswith(prefixes[-1]) else (prefixes or [""])[-1]
            for (order, step_id, content), prefix in zip(ordered, prefixes, strict=True):
                add(chat, step_id, prefix, order, content, whole)
        if learn_from != "steps":
            add(chat, None, chat[2], None, chat[2], chat[2])
    return examples


def learnable(examples: Sequence[Example], *, leniency: bool = True, thumbs_weight: float = 1.0) -> list[Example]:
    """Examples with what to learn from them: targets, their shares among the stars, and weights.

    The leniency of their raters is taken off, in each aspect on its own (not of what was decided). A thumb counts
    ``thumbs_weight`` of a star rating; with 0, what has thumbs alone is left out. Everything is estimated from these examples
    alone, so that nothing held out speaks in training.
    """
    of_aspect: dict[str, list[int]] = defaultdict(list)
    for k, one in enumerate(examples):
        of_aspect[one.aspect].append(k)
    found: dict[int, Example] = {}
    for members in of_aspect.values():
        some = [examples[k] for k in members]
        offsets = rater_offsets([one.given for one in some]) if leniency else {}
        within, between = spread([[(rater, score - offsets.get(rater, 0.0)) for rater, score in one.given] for one in some])
        for k, one in zip(members, some, strict=True):
            scores = [one.score] if one.decided or not one.given else [x - offsets.get(rater, 0.0) for rater, x in one.given]
            counts = [1.0] * len(scores)
            if not one.decided and one.given:
                counts = [thumbs_weight if rater in one.thumbs else 1.0 for rater, _ in one.given]
            total = sum(counts)
            if total > 0:
                target = sum(count * score for count, score in zip(counts, scores, strict=True)) / total
                weight = weight_of(one.ratings, within, between) * total / len(counts)
                shares = tuple(star_shares(np.array(scores), np.array(counts)).tolist())
                found[k] = replace(one, target=target, weight=weight, shares=shares)
    return [found[k] for k in sorted(found)]


Side = Literal["train", "validation", "test"]


def sides(queries: Iterable[str], *, test: float, validation: float, seed: int) -> dict[str, Side]:
    """On which side each query stands, by :func:`query_key`: whatever its letter case and spacing, on one only.

    Queries are ordered by a seeded hash; the first share goes to test, the next to validation. At least one query goes to
    test, to train, and (where ``validation`` > 0 and there are three) to validation.

    Raises:
        NotEnoughData: fewer than two different queries.
    """
    keys = sorted({query_key(query) for query in queries}, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    if len(keys) < 2:
        raise NotEnoughData(
            f"Training needs ratings on at least 2 different queries, one side to learn and one to test; there are ratings "
            f"on {len(keys)}. Rate more chats."
        )
    tests = min(max(1, round(test * len(keys))), len(keys) - 1)
    left = len(keys) - tests
    validations = min(max(1, round(validation * len(keys))), left - 1) if validation > 0 and left > 1 else 0
    return {key: "test" if k < tests else "validation" if k < tests + validations else "train" for k, key in enumerate(keys)}


def split_by_query(
    examples: Sequence[Example], *, test: float, validation: float, seed: int, queries: Iterable[str] = ()
) -> Split:
    """Split examples as :func:`sides` says, in the seeded order of their queries. ``queries``: of other things to split too."""
    side = sides([*(one.query for one in examples), *queries], test=test, validation=validation, seed=seed)
    by_query: dict[str, list[Example]] = {}
    for example in examples:
        by_query.setdefault(query_key(example.query), []).append(example)
    chosen: dict[Side, list[Example]] = {"train": [], "validation": [], "test": []}
    for key, name in side.items():
        chosen[name] += by_query.get(key, [])
    return Split(chosen["train"], chosen["validation"], chosen["test"])


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
