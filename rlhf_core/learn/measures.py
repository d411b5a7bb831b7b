"""How good a reward model is on held-out examples, beside what guessing the mean and counting characters would reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from rlhf_core.learn.examples import DISLIKED, LIKED, Example


def liked_auc(scores: Sequence[float], rewards: Sequence[float]) -> float | None:
    """Area under the ROC curve: chance that a liked thing (mean score >= 4) gets more reward than a disliked one (<= 2).

    Things in between are left out. None where one of the two kinds is missing.
    """
    clear = [(score, reward) for score, reward in zip(scores, rewards, strict=True) if not DISLIKED < score < LIKED]
    liked = [score >= LIKED for score, _ in clear]
    if all(liked) or not any(liked):
        return None
    return float(roc_auc_score(liked, [reward for _, reward in clear]))


def measure(examples: Sequence[Example], rewards: Sequence[float], *, guess: float) -> dict[str, float | int | None]:
    """Metrics by name as :data:`rlhf_core.ground.metrics.REWARD_METRICS` defines them, with counts.

    Args:
        examples: Held-out examples (at least one).
        rewards: Their rewards in stars.
        guess: The training set's mean score, in stars.
    """
    scores = np.array([example.score for example in examples])
    given = np.array(rewards)
    steps = [k for k, example in enumerate(examples) if example.is_step]
    answers = [k for k, example in enumerate(examples) if not example.is_step]
    by_length = liked_auc(scores[steps].tolist(), [float(len(examples[k].text)) for k in steps])
    varied = len(examples) > 1 and scores.std() > 0 and given.std() > 0
    return {
        "examples": len(examples),
        "steps": len(steps),
        "answers": len(answers),
        "rmse": float(np.sqrt(np.mean((given - scores) ** 2))),
        "rmse_of_mean": float(np.sqrt(np.mean((guess - scores) ** 2))),
        "step_auc": liked_auc(scores[steps].tolist(), given[steps].tolist()),
        "answer_auc": liked_auc(scores[answers].tolist(), given[answers].tolist()),
        "length_auc": None if by_length is None else max(by_length, 1 - by_length),
        "spearman": float(spearmanr(scores, given).statistic) if varied else None,
    }
