import numpy as np
import pytest

from rlhf_core.ground.errors import InvalidInput
from rlhf_core.learn.aggregates import Aggregate, aggregate_rewards, learn_aggregate

REWARDS = np.array([4.0, 2.0, 3.0])


def test_by_hand() -> None:
    assert aggregate_rewards(REWARDS, "min") == 2
    assert aggregate_rewards(REWARDS, "last") == 3
    assert aggregate_rewards(REWARDS, "mean") == 3
    assert aggregate_rewards(REWARDS, "product") == pytest.approx(1 + 4 * 0.75 * 0.25 * 0.5)
    assert aggregate_rewards(np.array([7.0, 0.0]), "product") == 1
    assert aggregate_rewards(REWARDS, "learned", Aggregate((1, 0, 0, 2, 0), 0.5)) == pytest.approx(0.5 + 2 + 6)


def test_what_cannot_be() -> None:
    with pytest.raises(InvalidInput, match="without steps"):
        aggregate_rewards(np.array([]), "min")
    with pytest.raises(InvalidInput, match="never learned"):
        aggregate_rewards(REWARDS, "learned")


def test_it_learns_that_the_worst_step_decides() -> None:
    rng = np.random.default_rng(0)
    answers = [rng.uniform(1, 5, rng.integers(2, 7)) for _ in range(300)]
    worst = np.array([one.min() for one in answers])
    learned = learn_aggregate(answers, worst)
    assert learned is not None
    assert [aggregate_rewards(one, "learned", learned) for one in answers] == pytest.approx(worst.tolist(), abs=0.2)
    assert learn_aggregate(answers[:19], worst[:19]) is None
    assert learn_aggregate(answers, np.full(300, 3.0)) is None
