"""Which of two answers people prefer becomes pairs to learn from (Bradley-Terry 1952). Torch-free arithmetic."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.ground.text import query_key, step_prefixes
from rlhf_core.learn.examples import Example
from rlhf_core.learn.reading import Reading, up_to_step, whole_answer

STRENGTH: dict[int | None, float] = {None: 0.85, 1: 0.7, 2: 0.85, 3: 0.95}
"""Chance that the winner is the better one, by how much better the rater called it (1 slightly, 3 far better)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts for one query. ``chance``: that the first is the better one, 0.5 for a tie. ``weight``: 1 for one vote.
    ``own``: the words of the two steps that were compared, None where whole answers were. ``aspect``: in which aspect, "" for
    the whole judgement."""

    query: str
    first: str
    second: str
    chance: float
    weight: float
    votes: int
    chat_ids: tuple[str, str]
    source: str = ""
    own: tuple[str, str] | None = None
    aspect: str = ""

    @property
    def readings(self) -> tuple[Reading, Reading]:
        """What is read to judge the two."""
        if self.own is None:
            return whole_answer(self.query, self.first), whole_answer(self.query, self.second)
        return up_to_step(self.query, self.first, self.own[0]), up_to_step(self.query, self.second, self.own[1])


def _rows(table: pa.Table, *columns: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in columns), strict=True)


FEWEST_TO_LEARN = 4  # decided pairs of whole answers from which dpo learns at all


def decided_pairs(snapshot: Snapshot) -> list[Pair]:
    """Pairs of whole answers of which people prefer one: what dpo learns from."""
    chats, steps, decisions = (snapshot.table(name) for name in ("chats", "reasoning_steps", "decisions"))
    found = preferred_pairs(chats, steps, snapshot.table("preferences"), decisions)
    return [one for one in found if one.chance != 0.5 and not one.aspect]


def preferred_pairs(chats: pa.Table, steps: pa.Table, preferences: pa.Table, decisions: pa.Table | None = None) -> list[Pair]:
    """One pair for each two answers (or steps) that were compared, as a whole or in one aspect, in the order of their ids.

    Each rater counts once; the chance is the mean of theirs, and the weight grows with the root of the votes, since raters of
    one pair mostly repeat each other. A verdict "both bad" says nothing of which is better.

    Args:
        chats: Columns id, query, response, source.
        steps: Columns chat_id, step_content, step_order.
        preferences: Columns chat_id, other_id, step_order, aspect, rater, verdict, strength.
        decisions: Columns chat_id, other_id, step_id, kind, value; what was decided of a pair stands for its votes.
    """
    votes: dict[tuple[str, str, int | None, str], dict[str, float]] = defaultdict(dict)
    for chat_id, other_id, order, aspect, rater, verdict, strength in _rows(
        preferences, "chat_id", "other_id", "step_order", "aspect", "rater", "verdict", "strength"
    ):
        if verdict == "both_bad":
            continue
        sure = STRENGTH.get(strength, STRENGTH[None])
        votes[chat_id, other_id, order, aspect or ""][rater] = {"chat": sure, "other": 1 - sure}.get(verdict, 0.5)
    if decisions is not None:
        for chat_id, other_id, step_id, kind, value in _rows(decisions, "chat_id", "other_id", "step_id", "kind", "value"):
            if kind == "preference" and other_id is not None and step_id is None:
                votes.pop((chat_id, other_id, None, ""), None)
                verdict, _, strength = value.partition(" ")
                if verdict != "both_bad":
                    sure = STRENGTH[int(strength) if strength else None]
                    votes[chat_id, other_id, None, ""][""] = {"chat": sure, "other": 1 - sure}.get(verdict, 0.5)
    wanted = {chat_id for pair in votes for chat_id in pair[:2]}
    texts = {row[0]: row[1:] for row in _rows(chats, "id", "query", "response", "source") if row[0] in wanted}
    contents: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for chat_id, content, order in _rows(steps, "chat_id", "step_content", "step_order"):
        if chat_id in wanted:
            contents[chat_id].append((order, content))

    def text(chat_id: str, order: int | None) -> tuple[str, str] | None:
        """The text, and the words of the step itself."""
        response = str(texts[chat_id][1])
        if order is None:
            return response, response
        ordered = [content for _, content in sorted(contents[chat_id])]
        return (step_prefixes(response, ordered)[order - 1], ordered[order - 1]) if order <= len(ordered) else None

    found = []
    for (chat_id, other_id, order, aspect), mine in sorted(
        votes.items(), key=lambda one: (*one[0][:2], one[0][2] or 0, one[0][3])
    ):
        if chat_id in texts and other_id in texts:
            first, second = text(chat_id, order), text(other_id, order)
            if first is not None and second is not None and first[0] != second[0]:
                query, _, source = texts[chat_id]
                chance = sum(mine.values()) / len(mine)
                own = None if order is None else (first[1], second[1])
                found.append(Pair(
                    query, first[0], second[0], chance, len(mine) ** 0.5, len(mine), (chat_id, other_id), source, own, aspect
                ))  # fmt: skip
    return found


def rated_pairs(examples: Sequence[Example], *, spread: float, at_most: int = 4) -> list[Pair]:
    """Pairs of whole answers to one query that people gave different scores, each answer in at most ``at_most`` of them.

    Args:
        examples: Rated answers; steps are left out.
        spread: Standard deviation in stars of a difference of two scores by chance: the chance that the higher one is better
            is the normal distribution's at their difference.
        at_most: Pairs of one answer; the most different first.
    """
    by_query: dict[str, list[Example]] = defaultdict(list)
    for one in examples:
        if not one.is_step and not one.aspect:
            by_query[query_key(one.query)].append(one)
    found = []
    for some in by_query.values():
        used: dict[int, int] = defaultdict(int)
        both = [(abs(a.target - b.target), i, j) for i, a in enumerate(some) for j, b in enumerate(some[:i])]
        for apart, i, j in sorted(both, reverse=True):
            if apart > 0 and used[i] < at_most and used[j] < at_most and some[i].text != some[j].text:
                used[i], used[j] = used[i] + 1, used[j] + 1
                better, worse = (some[i], some[j]) if some[i].target > some[j].target else (some[j], some[i])
                chance = 0.5 * (1 + math.erf(apart / (spread * math.sqrt(2)))) if spread > 0 else 1.0
                ids = (better.chat_id, worse.chat_id)
                found.append(Pair(better.query, better.text, worse.text, chance, 1.0, 0, ids, better.source))
    return found
