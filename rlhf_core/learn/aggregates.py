"""From rewards of steps to one reward of the answer. Torch-free; rewards in stars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rlhf_core.ground.errors import InvalidInput
from rlhf_core.learn.measures import Floats

How = Literal["min", "product", "last", "mean", "learned"]
HOWS: tuple[How, ...] = get_args(How)
FEWEST = 20  # answers with a rating and rated steps from which an aggregate is learned


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Learned: ``bias + sum(weights * (min, product, last, mean, log steps))``, in stars."""

    weights: tuple[float, ...]
    bias: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _product(rewards: Floats) -> float:
    """Chances of 1 to 5 stars as 0 to 1, multiplied, and back in stars (PRM800K's score of a solution, arXiv 2305.20050)."""
    return float(1 + 4 * np.prod(np.clip((rewards - 1) / 4, 0, 1)))


def _shape(rewards: Floats) -> list[float]:
    return [rewards.min(), _product(rewards), rewards[-1], rewards.mean(), np.log(len(rewards))]


def aggregate_rewards(rewards: Floats, how: How, learned: Aggregate | None = None) -> float:
    """
    Args:
        rewards: (N,) of the steps in order, at least one.
        how: ``min``, ``product`` (of rewards as shares of 5 stars), ``last``, ``mean``, or ``learned``.
        learned: For ``learned``.

    Raises:
        InvalidInput: there are no steps, or nothing was learned.
    """
    if not len(rewards):
        raise InvalidInput("An answer without steps has no reward from its steps. Score the whole answer.")
    if how == "learned":
        if learned is None:
            raise InvalidInput(f"This model never learned how answers follow from steps. Take one of {', '.join(HOWS[:-1])}.")
        return float(learned.bias + np.dot(learned.weights, _shape(rewards)))
    by_name = {"min": rewards.min(), "product": _product(rewards), "last": rewards[-1], "mean": rewards.mean()}
    return float(by_name[how])


def learn_aggregate(rewards: Sequence[Floats], scores: Floats) -> Aggregate | None:
    """Ridge regression of answers' scores on their steps' rewards; None below twenty answers or where scores do not vary.

    Args:
        rewards: Of each answer's steps.
        scores: (N,) what people gave each answer.
    """
    if len(scores) < FEWEST or np.ptp(scores) == 0:
        return None
    model = make_pipeline(StandardScaler(), Ridge(3.0)).fit(np.array([_shape(one) for one in rewards]), scores)
    scaler, ridge = model[0], model[1]
    weights = ridge.coef_ / scaler.scale_
    return Aggregate(tuple(weights.tolist()), float(ridge.intercept_ - weights @ scaler.mean_))
