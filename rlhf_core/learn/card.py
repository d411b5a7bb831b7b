"""Writes a reward model's report card from its rewards on held-out queries. Torch-free: it sees rewards, not models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf_core.ground.cards import (
    BADNESS,
    AggregateFigure,
    Ceiling,
    Curve,
    FirstError,
    Floor,
    Group,
    Kind,
    OfKind,
    OfPairs,
    Probe,
    ReliabilityBin,
    ReportCard,
    State,
    StepReadings,
    Value,
)
from rlhf_core.ground.records import DISLIKED, LIKED
from rlhf_core.ground.text import query_key
from rlhf_core.learn.examples import Example
from rlhf_core.learn.floors import Predict, PredictPairs, length_floor, pair_length_floor, pair_words_floor, words_floor
from rlhf_core.learn.measures import (
    Floats,
    Interval,
    Statistic,
    best_threshold,
    calibration_error,
    first_below,
    first_error_f1,
    fit_scale,
    interval,
    kendall,
    liked_auc,
    pairs_ranked,
    partial_spearman,
    reliability,
    rmse,
    share,
    spearman,
)
from rlhf_core.learn.pairs import Pair
from rlhf_core.learn.probes import Score, liked_texts, probes

FEWEST_CLEAR, FEWEST_QUERIES = 8, 5
GROUP_AT_LEAST = 10
FLOORS: dict[str, Callable[[Sequence[Example]], Predict]] = {"length": length_floor, "bag of words": words_floor}
GROUPS_AT_MOST = 20
OFF_BY = 0.5  # stars of calibration error from which a card says so
PROBES_THAT_REFUSE = 2
FEWEST_PAIRS = 20


@dataclass(frozen=True, slots=True)
class Held:
    """Held-out examples and their rewards in stars, (N,)."""

    examples: Sequence[Example]
    rewards: Floats

    def only(self, keep: Sequence[bool] | NDArray[np.bool_]) -> Held:
        chosen = np.flatnonzero(np.asarray(keep, bool)).tolist()
        return Held([self.examples[k] for k in chosen], self.rewards[chosen])

    @property
    def scores(self) -> Floats:
        return np.array([one.score for one in self.examples], float)

    @property
    def chars(self) -> Floats:
        return np.array([len(one.own) for one in self.examples], float)

    @property
    def queries(self) -> NDArray[Any]:
        return np.array([query_key(one.query) for one in self.examples])


@dataclass(frozen=True, slots=True)
class HeldPairs:
    """Held-out pairs and the rewards of both texts, in stars, (N,) each."""

    pairs: Sequence[Pair]
    first: Floats
    second: Floats

    @property
    def decided(self) -> int:
        """How many of them one text won."""
        return sum(one.chance != 0.5 for one in self.pairs)

    @property
    def accuracy(self) -> float | None:
        """Share of decided pairs whose better text gets more reward; equal rewards count half."""
        right = [
            0.5 if first == second else float((first > second) == (one.chance > 0.5))
            for one, first, second in zip(self.pairs, self.first, self.second, strict=True)
            if one.chance != 0.5
        ]
        return sum(right) / len(right) if right else None


@dataclass(frozen=True, slots=True)
class Fold:
    """One part of a cross-validation: what was learned from, and which of the held-out examples and pairs it measured."""

    train: Sequence[Example]
    train_pairs: Sequence[Pair]
    test: Sequence[int]
    test_pairs: Sequence[int]


def _value(found: Interval) -> Value:
    return Value(**found.to_json())


def write_card(
    train: Sequence[Example], validation: Held, test: Held, score: Score, *, train_pairs: Sequence[Pair] = (),
    test_pairs: HeldPairs | None = None, folds: Sequence[Fold] | None = None, cut: int = 0, seed: int = 0,
    aggregates: Sequence[AggregateFigure] = (), step_readings: StepReadings | None = None, curve: Curve | None = None,
) -> ReportCard:  # fmt: skip
    """The report card.

    Args:
        train: What the model learned from; the floors learn from it too.
        validation: Where temperature and thresholds are fitted.
        test: What everything is measured on.
        score: Rewards in stars of new ``(query, answer)`` pairs, for the probes.
        train_pairs: Preferred pairs that it learned from.
        test_pairs: Those it is measured on.
        folds: Of a cross-validation; the floors are fitted in the same folds.
        cut: How many training texts were longer than the model reads.
        seed: Of bootstrap draws and probes.
        aggregates, step_readings, curve: As they were measured.
    """
    everything, everything_pairs, learned = test, test_pairs, len(train)
    train = [one for one in train if not one.aspect]
    if folds is None:
        folds = [Fold(train, train_pairs, range(len(test.examples)), range(len(test_pairs.pairs) if test_pairs else 0))]
    floors = {}
    if test.examples and all(any(not given.aspect for given in one.train) for one in folds if len(one.test)):
        floors = {name: _guesses(learn, folds, test) for name, learn in FLOORS.items()}
    earlier = {name: learn(train)(validation.examples) for name, learn in FLOORS.items()} if train and validation.examples else {}
    plain = [not one.aspect for one in test.examples]
    test, floors = test.only(plain), {name: some[np.array(plain, bool)] for name, some in floors.items()}
    test_pairs, folds = _plain_pairs(test_pairs, folds)
    of: dict[Kind, OfKind | None] = {}
    for kind in ("answers", "steps"):
        mine = np.array([one.is_step == (kind == "steps") for one in test.examples], bool)
        some = test.only(mine)
        before = validation.only([one.is_step == (kind == "steps") for one in validation.examples])
        same = [one.score for one in train if one.is_step == (kind == "steps") and not one.aspect]
        mean = np.mean(same or [one.score for one in train] or [3.0])
        guesses = {name: guess[mine] for name, guess in floors.items()}
        of[kind] = _of_kind(kind, some, before, guesses, float(mean), seed) if some.examples else None
    pairs = _of_pairs(folds, test_pairs, seed) if test_pairs and len(test_pairs.pairs) else None
    tried = probes(liked_texts(test.examples, test_pairs.pairs if test_pairs else ()), score, seed=seed)
    state, verdict, todo = _verdict(of, pairs, tried)
    return ReportCard(
        train_examples=learned, train_pairs=len(train_pairs), pairs=pairs, answers=of["answers"],
        steps=of["steps"], probes=tried, cut=cut,
        first_error=_first_error(validation, test, earlier, floors, seed), state=state, verdict=verdict, todo=todo,
        folds=len(folds) if len(folds) > 1 else 0, aspects=_aspects(everything, everything_pairs), aggregates=list(aggregates),
        step_readings=step_readings, curve=curve,
    )  # fmt: skip


def _guesses(learn: Callable[[Sequence[Example]], Predict], folds: Sequence[Fold], test: Held) -> Floats:
    """(N,): what a floor says of each held-out example, fitted on what the model itself learned from."""
    found = np.full(len(test.examples), np.nan)
    for fold in folds:
        if len(fold.test):
            plain = [one for one in fold.train if not one.aspect]
            found[list(fold.test)] = learn(plain)([test.examples[k] for k in fold.test])
    return found


def _plain_pairs(held: HeldPairs | None, folds: Sequence[Fold]) -> tuple[HeldPairs | None, list[Fold]]:
    """Pairs compared as a whole, and the folds with their numbers among these."""
    plain = [k for k, one in enumerate(held.pairs) if not one.aspect] if held else []
    at = {k: place for place, k in enumerate(plain)}
    fewer = [
        Fold(
            [given for given in one.train if not given.aspect],
            [pair for pair in one.train_pairs if not pair.aspect],
            one.test,
            [at[k] for k in one.test_pairs if k in at],
        )
        for one in folds
    ]
    return (HeldPairs([held.pairs[k] for k in plain], held.first[plain], held.second[plain]) if held else None), fewer


def _aspects(test: Held, pairs: HeldPairs | None) -> list[Group]:
    """Each aspect's own output against ratings of that aspect; where only pairs speak of it, the share ranked right as AUC."""
    found = []
    named = {one.aspect for one in test.examples} | {one.aspect for one in (pairs.pairs if pairs else ())}
    for aspect in sorted(named - {""}):
        some = test.only([one.aspect == aspect for one in test.examples])
        if len(some.examples) >= GROUP_AT_LEAST:
            found.append(Group(by="aspect", name=aspect, count=len(some.examples), auc=liked_auc(some.scores, some.rewards),
                               spearman=spearman(some.scores, some.rewards),
                               error=rmse(some.scores, some.rewards) or 0.0))  # fmt: skip
        elif pairs is not None:
            mine = [k for k, one in enumerate(pairs.pairs) if one.aspect == aspect]
            own = HeldPairs([pairs.pairs[k] for k in mine], pairs.first[mine], pairs.second[mine])
            if len(mine) >= GROUP_AT_LEAST:
                found.append(Group(by="aspect", name=aspect, count=len(mine), auc=own.accuracy, spearman=None, error=0.0))
    return found


def _of_kind(kind: Kind, test: Held, validation: Held, floors: dict[str, Floats], mean: float, seed: int) -> OfKind:
    scores, rewards, queries = test.scores, test.rewards, test.queries

    def value(statistic: Statistic, *arrays: NDArray[Any]) -> Value:
        return _value(interval(statistic, queries, *arrays, seed=seed))

    def error(some: Floats, guess: Floats) -> float | None:
        return rmse(some, guess)

    auc = value(liked_auc, scores, rewards)
    written = []
    for name, guesses in floors.items():
        ahead = interval(_ahead, queries, scores, rewards, guesses, seed=seed)
        written.append(Floor(name=name, figure=value(liked_auc, scores, guesses), ahead=_value(ahead)))  # type: ignore[arg-type]
    names, right, of_pairs = pairs_ranked(scores, rewards, queries)
    bins = reliability(rewards, scores)
    scale = fit_scale(validation.scores, validation.rewards) if validation.examples else None
    fixed = value(partial_spearman, rewards, scores, test.chars)
    liked, disliked = int((scores >= LIKED).sum()), int((scores <= DISLIKED).sum())
    off = calibration_error(bins)
    guessing = rmse(scores, np.full(len(scores), mean))
    measured = value(error, scores, rewards)
    enough = min(liked, disliked) >= FEWEST_CLEAR and len(set(queries)) >= FEWEST_QUERIES
    state, reasons = _judge(kind, liked, disliked, len(set(queries)), auc, written, fixed, off, measured.value, guessing)
    return OfKind(
        examples=len(scores), queries=len(set(queries)), liked=liked, disliked=disliked, auc=auc,
        accuracy=_value(interval(share, names, right, of_pairs, seed=seed)), spearman=value(spearman, scores, rewards),
        kendall=value(kendall, scores, rewards), error=measured, error_of_mean=guessing, floors=written,
        length_correlation=spearman(rewards, test.chars), people_length_correlation=spearman(scores, test.chars),
        spearman_at_fixed_length=fixed,
        reliability=[ReliabilityBin(reward=one.reward, score=one.score, count=one.count) for one in bins], calibration_error=off,
        midpoint=scale.midpoint if scale else None, temperature=scale.temperature if scale else None,
        chance_error=_chance_error(scores, scale.chance(rewards)) if scale else None,
        groups=_groups(kind, test), ceiling=_ceiling(test), enough=enough, state=state, reasons=reasons,
    )  # fmt: skip


def _of_pairs(folds: Sequence[Fold], held: HeldPairs, seed: int) -> OfPairs:
    decided = np.array([one.chance != 0.5 for one in held.pairs], bool)
    pairs = [one for one, keep in zip(held.pairs, decided, strict=True) if keep]
    wins = np.array([one.chance > 0.5 for one in pairs], bool)
    lead = (held.first - held.second)[decided]
    queries = np.array([query_key(one.query) for one in pairs])

    def right(won: NDArray[np.bool_], by: Floats) -> float | None:
        return float(np.mean(np.where(by == 0, 0.5, (by > 0) == won))) if len(won) else None

    def ahead(won: NDArray[np.bool_], by: Floats, other: Floats) -> float | None:
        ours, theirs = right(won, by), right(won, other)
        return None if ours is None or theirs is None else ours - theirs

    accuracy = _value(interval(right, queries, wins, lead, seed=seed))
    floors: list[Floor] = []
    if pairs and all(sum(one.chance != 0.5 for one in fold.train_pairs) > 1 for fold in folds if fold.test_pairs):
        for name, fit in (("length", pair_length_floor), ("bag of words", pair_words_floor)):
            leads = np.full(len(held.pairs), np.nan)
            for fold in folds:
                if fold.test_pairs:
                    predict: PredictPairs = fit([one for one in fold.train_pairs if one.chance != 0.5])
                    leads[list(fold.test_pairs)] = predict([held.pairs[k] for k in fold.test_pairs])
            by = leads[decided]
            floors.append(Floor(
                name=name, figure=_value(interval(right, queries, wins, by, seed=seed)),  # type: ignore[arg-type]
                ahead=_value(interval(ahead, queries, wins, lead, by, seed=seed)),
            ))  # fmt: skip
    enough = len(pairs) >= FEWEST_PAIRS and len(set(queries)) >= FEWEST_QUERIES
    refused, careful = [], []
    if not enough:
        refused.append(f"{len(pairs)} decided held-out pairs of {len(set(queries))} queries are too few to tell; "
                       f"{FEWEST_PAIRS} pairs and {FEWEST_QUERIES} queries are the least.")  # fmt: skip
    else:
        if accuracy.value is None or accuracy.low is None or accuracy.low <= 0.5:
            refused.append(f"It may be guessing: it ranks {_span(accuracy)} of held-out pairs right, and 0.5 is chance.")
        for floor in floors:
            by_what = {"length": "looking at which is longer", "bag of words": "counting which words they hold"}[floor.name]
            if floor.ahead.value is None or floor.ahead.value <= 0:
                refused.append(f"On pairs it is no better than {by_what}: {_span(accuracy)} right against {_span(floor.figure)}.")
            elif floor.ahead.low is None or floor.ahead.low <= 0:
                careful.append(f"On pairs it may be no better than {by_what}: ahead by {_span(floor.ahead)}.")
    state: State = "refused" if refused else "careful" if careful else "trusted"
    return OfPairs(
        pairs=len(pairs), queries=len(set(queries)), accuracy=accuracy, floors=floors, enough=enough, state=state,
        reasons=refused + careful,
    )  # fmt: skip


def _ahead(scores: Floats, rewards: Floats, guesses: Floats) -> float | None:
    """AUC of the rewards less that of the guesses."""
    ours, theirs = liked_auc(scores, rewards), liked_auc(scores, guesses)
    return None if ours is None or theirs is None else ours - theirs


def _chance_error(scores: Floats, chances: Floats) -> float | None:
    """Calibration error of the chance of being liked, on clear things: 0 to 1."""
    clear = (scores >= LIKED) | (scores <= DISLIKED)
    return calibration_error(reliability(chances[clear], (scores[clear] >= LIKED).astype(float)))


def _groups(kind: Kind, test: Held) -> list[Group]:
    found: list[Group] = []

    def add(by: Any, name: str, scores: Floats, rewards: Floats) -> None:
        if len(scores) >= GROUP_AT_LEAST:
            found.append(Group(by=by, name=name, count=len(scores), auc=liked_auc(scores, rewards),
                               spearman=spearman(scores, rewards), error=rmse(scores, rewards) or 0.0))  # fmt: skip

    def each(by: Any, names: Sequence[str]) -> None:
        labels = np.array(names)
        for name, _ in sorted(_counted(names).items(), key=lambda one: -one[1])[:GROUPS_AT_MOST]:
            add(by, name, test.scores[labels == name], test.rewards[labels == name])

    each("source", [one.source for one in test.examples])
    each("model", [one.model or "(not said)" for one in test.examples])
    if kind == "steps":
        each("step", [str(one.step_order) if (one.step_order or 0) < 10 else "10 or later" for one in test.examples])
    of_rater: dict[str, list[tuple[float, float]]] = {}
    for one, reward in zip(test.examples, test.rewards, strict=True):
        for rater, score in one.given:
            of_rater.setdefault(rater, []).append((score, reward))
    for rater, both in sorted(of_rater.items(), key=lambda one: -len(one[1]))[:GROUPS_AT_MOST]:
        add("rater", rater, np.array([score for score, _ in both]), np.array([reward for _, reward in both]))
    return found


def _counted(names: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _ceiling(test: Held) -> Ceiling | None:
    """One rater against the mean of the others, over all raters of a thing, as Spearman's correlation."""
    alone, others, rewards = [], [], []
    for one, reward in zip(test.examples, test.rewards, strict=True):
        if len(one.given) < 2:
            continue
        total = sum(score for _, score in one.given)
        for _, score in one.given:
            alone.append(score)
            others.append((total - score) / (len(one.given) - 1))
            rewards.append(reward)
    if len(alone) < GROUP_AT_LEAST:
        return None
    things = sum(len(one.given) > 1 for one in test.examples)
    return Ceiling(things=things, people=spearman(alone, others), model=spearman(rewards, others))


def _chats(held: Held) -> tuple[list[str], list[int], list[NDArray[np.int64]]]:
    """Chats whose rated steps begin at the first one: their query, index of the first bad step (-1: none), rows in ``held``."""
    rows: dict[str, list[int]] = {}
    for k, one in enumerate(held.examples):
        if one.is_step:
            rows.setdefault(one.chat_id, []).append(k)
    queries, said, members = [], [], []
    for mine in rows.values():
        mine.sort(key=lambda k: held.examples[k].step_order or 0)
        scores = [held.examples[k].score for k in mine]
        if (held.examples[mine[0]].step_order or 0) > 1 or len(mine) < 2:
            continue
        queries.append(query_key(held.examples[mine[0]].query))
        said.append(next((at for at, score in enumerate(scores) if score <= DISLIKED), -1))
        members.append(np.array(mine))
    return queries, said, members


def _first_error(
    validation: Held, test: Held, earlier: dict[str, Floats], floors: dict[str, Floats], seed: int
) -> FirstError | None:
    queries, said, members = _chats(test)
    _, said_before, before = _chats(validation)
    if first_error_f1(said, [-1] * len(said)) is None:
        return None

    def predicted(on_validation: Floats, on_test: Floats) -> tuple[float, list[int]] | None:
        threshold = best_threshold(said_before, [on_validation[rows] for rows in before])
        return None if threshold is None else (threshold, first_below([on_test[rows] for rows in members], threshold))

    ours = predicted(validation.rewards, test.rewards)
    if ours is None:
        return None
    theirs = {name: predicted(earlier[name], floors[name]) for name in floors if name in earlier}

    def f1(some: NDArray[Any], other: NDArray[Any]) -> float | None:
        return first_error_f1(some.tolist(), other.tolist())

    return FirstError(
        chats=len(said), with_error=sum(one >= 0 for one in said), threshold=ours[0],
        f1=_value(interval(f1, np.array(queries), np.array(said), np.array(ours[1]), seed=seed)),
        length=first_error_f1(said, length[1]) if (length := theirs.get("length")) else None,
        bag_of_words=first_error_f1(said, words[1]) if (words := theirs.get("bag of words")) else None,
    )  # fmt: skip


def _span(value: Value) -> str:
    figure = f"{value.value:.2f}" if value.value is not None else "none"
    return figure if value.low is None else f"{figure} (95% interval {value.low:.2f} to {value.high:.2f})"


def _judge(
    kind: Kind, liked: int, disliked: int, queries: int, auc: Value, floors: Sequence[Floor], fixed: Value,
    off: float | None, error: float | None, guessing: float | None,
) -> tuple[State, list[str]]:  # fmt: skip
    """Whether rewards of this kind can be acted on, and why not. The first reason is the worst."""
    refused: list[str] = []
    careful: list[str] = []
    if min(liked, disliked) < FEWEST_CLEAR or queries < FEWEST_QUERIES:
        return "refused", [
            f"{liked} liked and {disliked} disliked held-out {kind} of {queries} queries are too few to tell; "
            f"{FEWEST_CLEAR} of each and {FEWEST_QUERIES} queries are the least."
        ]
    if auc.value is None or auc.value <= 0.5 or auc.low is None or auc.low <= 0.5:
        refused.append(f"It may be guessing: AUC {_span(auc)} on {kind}, and 0.5 is chance.")
    for floor in floors:
        by = {"length": "looking at how long they are", "bag of words": "counting which words they hold"}[floor.name]
        if floor.ahead.value is None or floor.ahead.value <= 0:
            refused.append(f"On {kind} it is no better than {by}: AUC {_span(auc)} against {_span(floor.figure)}.")
        elif floor.ahead.low is None or floor.ahead.low <= 0:
            careful.append(f"On {kind} it may be no better than {by}: ahead by {_span(floor.ahead)}.")
    if fixed.value is None or fixed.value <= 0:
        refused.append(f"Among {kind} of one length it does not rank as people do: correlation {_span(fixed)}.")
    elif fixed.low is None or fixed.low <= 0:
        careful.append(f"Among {kind} of one length it may not rank as people do: correlation {_span(fixed)}.")
    if off is not None and off > OFF_BY:
        careful.append(f"Rewards of {kind} are off people's scores by {off:.2f} stars on average; trust their order only.")
    elif error is not None and guessing is not None and error >= guessing:
        careful.append(f"Rewards of {kind} are no closer to people's scores than their mean is; trust their order only.")
    return ("refused" if refused else "careful" if careful else "trusted"), refused + careful


def _verdict(of: dict[Kind, OfKind | None], pairs: OfPairs | None, tried: Sequence[Probe]) -> tuple[State, str, list[str]]:
    """The state of the whole, what to say of it, and what to do next."""
    parts: dict[str, OfKind | OfPairs] = {kind: found for kind, found in of.items() if found is not None}
    if pairs is not None:
        parts["pairs"] = pairs
    failed = [probe.name for probe in tried if not probe.passed]
    todo: list[str] = []
    for name, found in parts.items():
        if isinstance(found, OfKind) and not found.enough:
            short = max(FEWEST_CLEAR - found.liked, FEWEST_CLEAR - found.disliked)
            lacking = "disliked" if found.disliked < found.liked else "liked"
            more = f"{short} {lacking} ones are lacking" if short > 0 else "they are of too few queries"
            todo.append(f"Rate more {name}: of those held out {more}.")
        elif isinstance(found, OfPairs) and not found.enough:
            todo.append(f"Compare more answers: {found.pairs} decided pairs were held out.")
        elif found.state != "trusted":
            todo.append(
                "Compare more answers of like length." if name == "pairs"
                else f"Rate more {name} of different queries, above all good short ones and bad long ones."
            )  # fmt: skip
    if failed:
        todo.append(f"Import or write answers like these and rate them low: {', '.join(failed)}.")
    if not parts:
        return "refused", "Nothing was held out to measure it on.", ["Rate chats of more queries."]
    deciding = {name: found for name, found in parts.items() if found.enough} or parts
    best = min((found.state for found in deciding.values()), key=BADNESS.__getitem__)
    many = len(failed) >= PROBES_THAT_REFUSE
    reasons = [found.reasons[0] for found in deciding.values() if found.reasons]
    if failed:
        tricked = f"It gives these more than answers that people liked: {', '.join(failed)}."
        reasons = [tricked, *reasons] if many and best != "refused" else [*reasons, tricked]
    if best == "refused" or many:
        return "refused", " ".join(["Do not act on its rewards.", *reasons]), todo
    fit = " and ".join(name for name, found in deciding.items() if found.state != "refused")
    if all(found.state == "trusted" for found in deciding.values()) and not failed:
        return "trusted", f"Its rewards of {fit} can be acted on.", todo
    return "careful", " ".join([f"Its rewards of {fit} can be tried, with care.", *reasons]), todo
