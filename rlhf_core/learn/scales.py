"""From a model's outputs to stars. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
UNTRAINED_MEAN, UNTRAINED_STD = 3.0, 1.0
STARS = np.arange(1.0, 6.0)


@dataclass(frozen=True, slots=True)
class StarScale:
    """What one head's outputs mean. ``aspect``: of which aspect, "" for the whole judgement.

    Without ``thresholds`` (regression) a reward is ``mean + std * output``, in stars, not clipped. With them (ordinal) the chance
    of more than k stars is ``sigmoid(output - thresholds[k - 1])`` and a reward is the expected stars, between 1 and 5.
    """

    aspect: str = ""
    mean: float = UNTRAINED_MEAN
    std: float = UNTRAINED_STD
    thresholds: tuple[float, ...] | None = None

    def stars(self, outputs: Floats) -> Floats:
        """Rewards of any number of outputs."""
        if self.thresholds is None:
            return np.asarray(self.mean + self.std * outputs)
        return np.asarray(1.0 + more_than(outputs, np.array(self.thresholds)).sum(-1))

    def to_json(self) -> dict[str, Any]:
        return {"aspect": self.aspect, "mean": self.mean, "std": self.std, "thresholds": self.thresholds}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> StarScale:
        """
        Raises:
            KeyError, TypeError, ValueError: it is not one.
        """
        thresholds = values["thresholds"]
        return cls(
            str(values["aspect"]), float(values["mean"]), float(values["std"]),
            None if thresholds is None else tuple(map(float, thresholds)),
        )  # fmt: skip


def more_than(outputs: Floats, thresholds: Floats) -> Floats:
    """(..., 4): chance of more than 1, 2, 3, 4 stars."""
    return np.asarray(1 / (1 + np.exp(-np.clip(np.asarray(outputs)[..., None] - thresholds, -50, 50))))


def star_shares(scores: Floats, weights: Floats | None = None) -> Floats:
    """(5,): how scores (any real number, kept within 1-5) are shared out among the five stars, 3.4 as 0.6 of 3 and 0.4 of 4."""
    scores = np.clip(np.asarray(scores, float), 1, 5)
    each = np.clip(1 - np.abs(scores[:, None] - STARS), 0, None)
    weights = np.ones(len(scores)) if weights is None else weights
    return np.asarray((each * weights[:, None]).sum(0) / weights.sum())
