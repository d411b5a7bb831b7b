"""What a reward run learns from and is measured on, read from a snapshot."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.errors import NotEnoughData
from rlhf_core.ground.records import DISLIKED, LIKED
from rlhf_core.ground.text import query_key
from rlhf_core.learn.examples import (
    Example,
    Split,
    build_examples,
    learnable,
    mean_and_std,
    sides,
    split_by_query,
    take_whole_queries,
)
from rlhf_core.learn.guards import MADE_UP, guard_pairs
from rlhf_core.learn.pairs import Pair, preferred_pairs, rated_pairs
from rlhf_core.learn.raters import spread
from rlhf_core.learn.scales import StarScale

SMALL = 30  # held-out examples below which figures say little
ASPECT_AT_LEAST = 20  # ratings and pairs of an aspect from which it gets an output
FEW_QUERIES = 200  # below which a readout is measured by cross-validation, unless asked otherwise
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Data:
    """A query stands on one side only, with its ratings and its pairs. ``train``: as people gave it, before leniency is taken
    off; ``rated.train``: what to learn. ``scales``: of the whole judgement and of each aspect that has enough."""

    rated: Split
    train: list[Example]
    train_pairs: list[Pair]
    validation_pairs: list[Pair]
    test_pairs: list[Pair]
    scales: list[StarScale]

    @property
    def preferences(self) -> list[Pair]:
        """Of the training pairs those that were not made up."""
        return [one for one in self.train_pairs if one.source != MADE_UP]

    @property
    def queries(self) -> int:
        """How many queries were judged."""
        texts: Sequence[Example | Pair] = [*self.rated.train, *self.rated.validation, *self.rated.test,
                                           *self.train_pairs, *self.validation_pairs, *self.test_pairs]  # fmt: skip
        return len({query_key(one.query) for one in texts})

    def seen(self, *, measured_on_all: bool = False) -> list[str]:
        """Keys of the queries that a model learns from. ``measured_on_all``: after a cross-validation it has learned from what is
        tested on too."""
        texts: list[Example | Pair] = [*self.rated.train, *self.train_pairs]
        if measured_on_all:
            texts += [*self.rated.test, *self.test_pairs]
        return sorted({query_key(one.query) for one in texts})


def read_data(snapshot: Snapshot, config: RewardConfig) -> Data:
    """
    Raises:
        NotEnoughData: there is nothing to learn from, or nothing to tell apart.
    """
    chats, steps, decisions = (snapshot.table(name) for name in ("chats", "reasoning_steps", "decisions"))
    aspects = snapshot.table("aspect_ratings") if config.aspect_weight and config.readout == "spans" else None
    examples = build_examples(chats, steps, snapshot.table("chat_feedback"), config.learn_from, decisions, aspects)
    pairs = preferred_pairs(chats, steps, snapshot.table("preferences"), decisions) if config.preference_weight else []
    if config.thumbs_weight == 0:
        examples = [one for one in examples if one.decided or not one.given or len(one.thumbs) < len(one.given)]
    counts = Counter([one.aspect for one in examples] + [one.aspect for one in pairs])
    named = sorted(aspect for aspect, count in counts.items() if aspect and count >= ASPECT_AT_LEAST and aspects is not None)
    examples = [one for one in examples if not one.aspect or one.aspect in named]
    pairs = [one for one in pairs if not one.aspect or one.aspect in named]
    if not examples and not pairs:
        if snapshot.ratings == 0:
            raise NotEnoughData(
                f"Snapshot {snapshot.id} has no ratings. Rate some chats, take a new snapshot, and train on that."
            )
        wanted = "whole answers" if config.learn_from == "answers" else "steps"
        raise NotEnoughData(
            f"Snapshot {snapshot.id} has no ratings of {wanted} that this run would learn from. Set learn_from to both, or rate "
            f"{wanted}."
        )
    shares = {"test": config.test_fraction, "validation": config.validation_fraction, "seed": config.seed}
    split = split_by_query(examples, queries=[one.query for one in pairs], **shares)  # type: ignore[arg-type]
    side = sides([*(one.query for one in examples), *(one.query for one in pairs)], **shares)  # type: ignore[arg-type]
    of = {name: [one for one in pairs if side[query_key(one.query)] == name] for name in ("train", "validation", "test")}
    raw = take_whole_queries(split.train, config.max_examples)
    train = learnable(raw, leniency=config.leniency, thumbs_weight=config.thumbs_weight)
    if config.pairs_of_ratings and config.preference_weight:
        of["train"] += pairs_of(train)
    if not train and not of["train"]:
        raise NotEnoughData(f"Snapshot {snapshot.id} leaves nothing to learn from once queries are held out. Rate more chats.")
    if train and not of["train"] and len({(one.aspect, one.target) for one in train}) == len({one.aspect for one in train}):
        raise NotEnoughData(
            f"All {len(train)} texts to learn from have the same score ({train[0].score:g} stars), so there is nothing to tell "
            "apart. Rate some that are better or worse."
        )
    if config.guard_weight:
        of["train"] += guard_pairs(train, of["train"], weight=config.guard_weight, seed=config.seed)
    most = config.max_eval_examples
    rated = Split(train, take_whole_queries(split.validation, most), take_whole_queries(split.test, most))
    return Data(rated, raw, of["train"], of["validation"][:most], of["test"][:most], scales_of(train, ["", *named]))


def pairs_of(train: Sequence[Example]) -> list[Pair]:
    """Pairs of answers to one query that were rated differently."""
    within, _ = spread([one.given for one in train])
    return rated_pairs(train, spread=math.sqrt(2 * within) or 1.0)


def scales_of(train: Sequence[Example], aspects: Sequence[str]) -> list[StarScale]:
    """Of each aspect, from the targets of its training examples; untrained ones where only pairs speak of it."""
    targets: dict[str, list[float]] = defaultdict(list)
    for one in train:
        targets[one.aspect].append(one.target)
    return [StarScale(aspect, *mean_and_std(targets[aspect])) if targets[aspect] else StarScale(aspect) for aspect in aspects]


def warnings_of(data: Data) -> list[str]:
    """What a person should know before minutes are spent."""
    found = []
    held = len(data.rated.test) + len(data.test_pairs)
    if held < SMALL:
        found.append(f"only {held} judgements are held out; the figures will say little")
    overall = [one for one in data.rated.train if not one.aspect]
    scores = Counter(round(one.score) for one in overall)
    if scores and max(scores.values()) > 0.9 * len(overall):
        found.append(f"{max(scores.values()) / len(overall):.0%} of the texts have {max(scores, key=scores.__getitem__)} stars")
    for none, what in ((min, f"{DISLIKED:g} stars or fewer"), (max, f"{LIKED:g} stars or more")):
        extreme = none((one.score for one in overall), default=None)
        if extreme is not None and (extreme > DISLIKED if none is min else extreme < LIKED):
            found.append(f"no text has {what}, so nothing can be said of telling liked from disliked ones")
    texts: dict[tuple[str, str], list[float]] = {}
    for one in overall:
        texts.setdefault((query_key(one.query), one.text), []).append(one.score)
    torn = sum(max(some) - min(some) >= 2 for some in texts.values())
    if torn:
        found.append(f"{torn} texts were scored more than once, 2 or more stars apart")
    return found


def weights_of(examples: Sequence[Example], config: RewardConfig) -> list[float]:
    """How much each example counts. Their mean over rated answers is about 1."""
    counts = Counter((one.aspect, round(one.score)) for one in examples)
    of_aspect = Counter(one.aspect for one in examples)
    levels = Counter(aspect for aspect, _ in counts)
    found = []
    for one in examples:
        weight = one.weight * (config.step_weight if one.is_step else 1.0) * (config.aspect_weight if one.aspect else 1.0)
        even = of_aspect[one.aspect] / levels[one.aspect]
        found.append(weight * (min(10.0, even / counts[one.aspect, round(one.score)]) if config.balance else 1.0))
    return found


def pair_weights_of(pairs: Sequence[Pair], config: RewardConfig) -> list[float]:
    """How much each pair counts."""
    return [
        one.weight * (1.0 if one.source == MADE_UP else config.preference_weight) * (config.aspect_weight if one.aspect else 1.0)
        for one in pairs
    ]


def folds_wanted(data: Data, config: RewardConfig) -> int:
    """How many folds to measure with; 0 for none."""
    if config.method != "head":
        return 0
    if config.folds is not None:
        return config.folds if config.folds > 1 else 0
    return FOLDS if data.queries < FEW_QUERIES else 0
