"""Two ways to read steps, and several from steps to an answer: which is better for a model, by what was held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from rlhf_core.ground.cards import AggregateFigure, StepReadings, Value
from rlhf_core.ground.text import query_key
from rlhf_core.learn.aggregates import FEWEST, HOWS, aggregate_rewards, learn_aggregate
from rlhf_core.learn.card import Held, HeldPairs
from rlhf_core.learn.examples import Example
from rlhf_core.learn.lessons import Lessons, lay_out, rows_of
from rlhf_core.learn.measures import Floats, interval, liked_auc, spearman
from rlhf_core.learn.networks import SpanNetwork
from rlhf_core.learn.readouts import stars_of
from rlhf_core.learn.reward_model import RewardModel


def judged_by(reward_model: RewardModel, lessons: Lessons, precision: str | None = None) -> tuple[Held, HeldPairs]:
    """Rewards of everything in these lessons."""
    outputs = reward_model.outputs(lessons.encoded, precision)
    rows = rows_of(lessons, range(len(lessons.units)))[1]
    rated, first, second = stars_of(outputs, rows, lessons.examples, lessons.pairs, reward_model.scales)
    return Held(lessons.examples, rated), HeldPairs(lessons.pairs, first, second)


def compare_step_readings(reward_model: RewardModel, examples: Sequence[Example], *, seed: int = 0) -> StepReadings | None:
    """Steps read with what stands before them, beside an answer read once for all of its steps.

    None where a classifier's readout has no second way, or where liked or disliked steps are missing.
    """
    steps = [one for one in examples if one.is_step]
    if not steps or not isinstance(reward_model.network, SpanNetwork):
        return None
    lessons = {way: lay_out(steps, [], reward_model.encode, one_pass=way == "one_pass") for way in ("prefixes", "one_pass")}
    rewards = {way: judged_by(reward_model, some)[0].rewards for way, some in lessons.items()}
    tokens = {way: sum(len(one.ids) for one in some.encoded) for way, some in lessons.items()}
    scores = np.array([one.score for one in steps], float)
    if liked_auc(scores, rewards["prefixes"]) is None:
        return None
    queries = np.array([query_key(one.query) for one in steps])

    def ahead(some: Floats, prefixes: Floats, one_pass: Floats) -> float | None:
        first, second = liked_auc(some, prefixes), liked_auc(some, one_pass)
        return None if first is None or second is None else first - second

    value = lambda *of: Value(**interval(*of, seed=seed).to_json())  # noqa: E731  # a local shorthand
    lead = value(ahead, queries, scores, rewards["prefixes"], rewards["one_pass"])
    better: Literal["prefixes", "one_pass", "either"] = "either"
    if lead.low is not None and lead.high is not None and not lead.low <= 0 <= lead.high:
        better = "prefixes" if lead.low > 0 else "one_pass"
    return StepReadings(
        steps=len(steps), prefixes=value(liked_auc, queries, scores, rewards["prefixes"]),
        one_pass=value(liked_auc, queries, scores, rewards["one_pass"]), prefixes_ahead=lead,
        rank_correlation=spearman(rewards["prefixes"], rewards["one_pass"]), tokens_ratio=tokens["prefixes"] / tokens["one_pass"],
        trained_on=reward_model.step_reading, better=better,
    )  # fmt: skip


def learn_from_steps(reward_model: RewardModel, validation: Held, test: Held) -> list[AggregateFigure]:
    """How well rewards of steps say what people gave the answer, by each way to put them together, and beside it the model's
    reward of the whole answer. The learned way is fitted on validation and kept in the model."""
    said_before, before, _ = _answers(validation)
    reward_model.learned = learn_aggregate(before, said_before)
    scores, rewards, whole = _answers(test)
    if len(scores) < FEWEST:
        return []
    ways: dict[str, Floats] = {"whole answer": whole}
    for how in HOWS:
        if how != "learned" or reward_model.learned is not None:
            ways[how] = np.array([aggregate_rewards(one, how, reward_model.learned) for one in rewards])
    count = len(scores)
    return [
        AggregateFigure(how=how, answers=count, auc=liked_auc(scores, mine), spearman=spearman(scores, mine))
        for how, mine in ways.items()
    ]


def _answers(held: Held) -> tuple[Floats, list[Floats], Floats]:
    """Answers with a score and rated steps: the scores, their steps' rewards in order, the rewards of the whole."""
    steps: dict[str, list[tuple[int, float]]] = {}
    answers: dict[str, tuple[float, float]] = {}
    for one, reward in zip(held.examples, held.rewards.tolist(), strict=True):
        if one.aspect:
            continue
        if one.step_order is None:
            answers[one.chat_id] = (one.score, reward)
        else:
            steps.setdefault(one.chat_id, []).append((one.step_order, reward))
    both = [chat_id for chat_id in answers if chat_id in steps]
    return (
        np.array([answers[one][0] for one in both]), [np.array([reward for _, reward in sorted(steps[one])]) for one in both],
        np.array([answers[one][1] for one in both]),
    )  # fmt: skip
