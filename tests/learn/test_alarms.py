"""Signs of a policy that exploits its reward, each by a history that shows it and one that does not."""

from typing import Any

from rlhf_core.learn.alarms import LossWatch, alarms

CALM = {"kl": 2.0, "tokens": 100.0, "repetition": 0.1, "entropy": 2.0, "ended": 0.9}


def steps(**last: float) -> list[dict[str, Any]]:
    return [CALM] * 6 + [CALM | last] * 5


def tables(*rewards_and_judges: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"step": k, "reward": r, "judge": j, "judge_std": 0.4} for k, (r, j) in enumerate(rewards_and_judges)]


def test_a_calm_run_gives_none() -> None:
    assert alarms(steps(), tables((3, 3), (3.5, 3.2), (4, 3.4)), kl_goal=2.0) == {}
    assert alarms([CALM | {"kl": 99.0}] * 9, [], kl_goal=2.0) == {}  # too early to say


def test_each_sign_by_itself() -> None:
    assert alarms(steps(kl=7.0), [], kl_goal=2.0) == {"kl": "answers are 7.0 nats from the reference; the goal is 2"}
    assert alarms(steps(kl=7.0), [], kl_goal=None) == {}
    assert alarms(steps(tokens=170.0), [], kl_goal=None) == {"length": "answers went from 100 to 170 tokens"}
    assert list(alarms(steps(tokens=40.0), [], kl_goal=None)) == ["length"]
    assert list(alarms(steps(repetition=0.4), [], kl_goal=None)) == ["repetition"]
    assert list(alarms(steps(entropy=0.3), [], kl_goal=None)) == ["entropy"]
    assert list(alarms(steps(ended=0.4), [], kl_goal=None)) == ["ended"]


def test_a_judge_that_falls_while_the_reward_does_not() -> None:
    found = alarms(steps(), tables((3, 3), (3.5, 3.4), (4, 3.1), (4.2, 2.9)), kl_goal=None)
    words = "the judge's reward fell from 3.40 (step 1) to 2.90, while the reward that is learned from went from 3.50 to 4.20"
    assert found == {"judge": words}
    assert list(alarms(steps(), tables((4, 4), (3.9, 3.7), (3.95, 3.3)), kl_goal=None)) == ["judge"]  # flat is enough
    assert alarms(steps(), tables((4, 4), (3.6, 3.6), (3.3, 3.3)), kl_goal=None) == {}  # both fall: it learned nothing
    assert alarms(steps(), tables((3, 3), (3.5, 3.4), (4, 2.9), (4.2, 3.4)), kl_goal=None) == {}  # once is chance


def test_a_loss_that_runs_away() -> None:
    falling = LossWatch()
    assert all(falling.see(2.0 / (1 + k / 10) + (0.5 if k % 7 == 0 else 0)) is None for k in range(300))
    flat = LossWatch()
    assert all(flat.see(1.0 + (-1) ** k * 0.6) is None for k in range(300))
    watch = LossWatch()
    said = [watch.see(1.0 / (1 + k / 20)) for k in range(60)] + [watch.see(0.3 + k / 10) for k in range(60)]
    first = next(k for k, words in enumerate(said) if words)
    assert first > 60
    assert "lower learning_rate" in (said[first] or "")
    assert LossWatch().see(1e9) is None, "one step is no trend"
