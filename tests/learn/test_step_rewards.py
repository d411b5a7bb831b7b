"""Both ways to read steps beside each other, and from steps to answers, on a toy model and by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.learn.card import Held
from rlhf_core.learn.examples import Example
from rlhf_core.learn.reward_model import RewardModel
from rlhf_core.learn.step_rewards import compare_step_readings, learn_from_steps


@pytest.fixture
def model(tiny_encoder: Path) -> RewardModel:
    return RewardModel.from_base(locate(str(tiny_encoder)), max_length=64, seed=3, device=torch.device("cpu"))


def answer(k: int, scores: list[float], whole_score: float | None) -> list[Example]:
    words = ["ask for the training voucher" if score > 3 else "lie about your licence" for score in scores]
    whole = "\n\n".join(words)
    found = [
        Example(f"c{k}", f"query {k}", "\n\n".join(words[: at + 1]), at + 1, score, 1, own=words[at], whole=whole)
        for at, score in enumerate(scores)
    ]
    if whole_score is not None:
        found.append(Example(f"c{k}", f"query {k}", whole, None, whole_score, 1, own=whole, whole=whole))
    return found


def test_both_ways_are_measured(model: RewardModel) -> None:
    steps = [one for k in range(20) for one in answer(k, [5.0, 1.0, 5.0] if k % 2 else [1.0, 5.0], None)]
    found = compare_step_readings(model, steps)
    assert found is not None
    assert (found.steps, found.trained_on) == (50, "prefixes")
    assert found.tokens_ratio > 1.5
    assert -1 <= (found.rank_correlation or 0) <= 1
    assert found.prefixes_ahead.value == pytest.approx((found.prefixes.value or 0) - (found.one_pass.value or 0))
    assert compare_step_readings(model, [one for one in steps if one.score > 3]) is None  # nothing to tell apart
    assert compare_step_readings(model, []) is None


def test_the_way_that_people_follow_is_learned(model: RewardModel) -> None:
    rng = np.random.default_rng(0)

    def held(count: int) -> Held:
        """People give the answer what its worst step deserves; rewards of steps are right, those of answers say nothing."""
        examples, rewards = [], []
        for k in range(count):
            scores = [float(one) for one in rng.choice([1.0, 2.0, 4.0, 5.0], rng.integers(2, 5))]
            examples += answer(k, scores, min(scores))
            rewards += [*scores, 3.0 + rng.normal()]
        return Held(examples, np.array(rewards))

    found = {one.how: one for one in learn_from_steps(model, held(60), held(80))}
    assert set(found) == {"whole answer", "min", "product", "last", "mean", "learned"}
    assert found["min"].auc == 1.0
    assert found["min"].spearman == pytest.approx(1.0)
    assert (found["last"].auc or 1) < 0.95
    assert (found["learned"].auc or 0) > (found["last"].auc or 1)
    assert model.learned is not None
    assert learn_from_steps(model, held(5), held(5)) == []
    assert model.learned is None
