"""Who rates mildly, who harshly, and how much a mean of so many ratings is worth. Torch-free arithmetic.

A thing is what was rated: an answer or a step. Its ratings are (rater, score in stars) with each rater once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

Given = Sequence[tuple[str, float]]
SHRINK = 5.0  # as if each rater had rated so many things more, without any leniency
ROUNDS, CLOSE = 100, 1e-9


def once_each(given: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """Each rater once, with the mean of what they gave: who says it twice does not count double."""
    by_rater: dict[str, list[float]] = defaultdict(list)
    for rater, score in given:
        by_rater[rater].append(score)
    return [(rater, sum(scores) / len(scores)) for rater, scores in by_rater.items()]


def rater_offsets(things: Sequence[Given], *, shrink: float = SHRINK) -> dict[str, float]:
    """How many stars each rater gives more (or fewer) than the others who judged the same things, shrunken towards 0.

    Minimises ``sum (score - worth[thing] - offset[rater])**2 + shrink * sum offset**2`` over things with two raters or more,
    by turns; a thing's worth is not shrunken, so that only overlap says anything about leniency. Who shares no thing with
    anybody has 0. The offsets are centred, weighted by ratings, so that they move no mean.
    """
    shared = [thing for thing in things if len(thing) > 1]
    of_rater: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for k, thing in enumerate(shared):
        for rater, score in thing:
            of_rater[rater].append((k, score))
    offsets = dict.fromkeys(of_rater, 0.0)
    for _ in range(ROUNDS):
        worth = [sum(score - offsets[rater] for rater, score in thing) / len(thing) for thing in shared]
        moved = 0.0
        for rater, scores in of_rater.items():
            new = sum(score - worth[k] for k, score in scores) / (len(scores) + shrink)
            moved, offsets[rater] = max(moved, abs(new - offsets[rater])), new
        if moved < CLOSE:
            break
    total = sum(len(scores) for scores in of_rater.values())
    if total:
        middle = sum(offsets[rater] * len(scores) for rater, scores in of_rater.items()) / total
        offsets = {rater: offset - middle for rater, offset in offsets.items()}
    return offsets


def spread(things: Sequence[Given]) -> tuple[float, float]:
    """Variance of one rating of a thing (people differ) and of things' true means (things differ), in squared stars.

    One-way analysis of variance with unequal group sizes; neither is below 0. The first is 0 where nothing was rated twice.
    """
    groups = [[score for _, score in thing] for thing in things if thing]
    count, ratings = len(groups), sum(map(len, groups))
    if count < 2:
        return 0.0, 0.0
    grand = sum(map(sum, groups)) / ratings
    means = [sum(group) / len(group) for group in groups]
    inside = sum((score - mean) ** 2 for group, mean in zip(groups, means, strict=True) for score in group)
    between = sum(len(group) * (mean - grand) ** 2 for group, mean in zip(groups, means, strict=True))
    within = inside / (ratings - count) if ratings > count else 0.0
    size = (ratings - sum(len(group) ** 2 for group in groups) / ratings) / (count - 1)
    return within, max(0.0, (between / (count - 1) - within) / size)


def weight_of(ratings: int, within: float, between: float) -> float:
    """How much a mean of ``ratings`` counts against a single rating: 1 for one, at most ``1 + within / between``.

    The inverse variance of the mean around what a model could know, taking things' own spread as what it does not know.
    """
    if between <= 0:
        return 1.0
    return (between + within) / (between + within / max(1, ratings))
