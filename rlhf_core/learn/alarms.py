"""Signs that a policy exploits its reward model or falls apart, from what its steps measured. Torch-free."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

WINDOW = 5  # steps, averaged
KL_TIMES_GOAL = 3.0
LONGER, SHORTER = 1.6, 0.5  # times the tokens of the first steps
REPEATS_MORE = 0.25
LESS_ENTROPY = 0.2  # of that of the first steps
FEWER_ENDED = 0.5
JUDGE_FALLS = 0.5  # deviations of the judge's rewards in one table


def alarms(steps: Sequence[dict[str, Any]], tables: Sequence[dict[str, Any]], *, kl_goal: float | None) -> dict[str, str]:
    """What is wrong now, by name, in words.

    Args:
        steps: Measures of every step so far, as a run's metrics name them.
        tables: Of the answers to held-out prompts so far: ``step``, ``reward``, ``judge``, ``judge_std``.
        kl_goal: Nats of an answer that are aimed at.
    """
    found: dict[str, str] = {}
    if len(steps) >= 2 * WINDOW:
        first, now = _mean(steps[:WINDOW]), _mean(steps[-WINDOW:])
        if kl_goal is not None and now["kl"] > KL_TIMES_GOAL * kl_goal:
            found["kl"] = f"answers are {now['kl']:.1f} nats from the reference; the goal is {kl_goal:g}"
        if not SHORTER * first["tokens"] <= now["tokens"] <= LONGER * first["tokens"]:
            found["length"] = f"answers went from {first['tokens']:.0f} to {now['tokens']:.0f} tokens"
        if now["repetition"] > first["repetition"] + REPEATS_MORE:
            found["repetition"] = f"{now['repetition']:.0%} of an answer repeats itself; at first {first['repetition']:.0%} did"
        if now["entropy"] < LESS_ENTROPY * first["entropy"]:
            found["entropy"] = f"the entropy of a token fell from {first['entropy']:.2f} to {now['entropy']:.2f} nats"
        if first["ended"] > 0 and now["ended"] < FEWER_ENDED * first["ended"]:
            found["ended"] = f"{now['ended']:.0%} of the answers end by themselves; at first {first['ended']:.0%} did"
    judged = [one for one in tables if one.get("judge") is not None]
    if len(judged) >= 3:
        best = max(judged, key=lambda one: one["judge"])
        fallen = [one["judge"] < best["judge"] - JUDGE_FALLS * (one.get("judge_std") or 0.0) for one in judged[-2:]]
        now = judged[-1]
        if all(fallen) and best["reward"] - now["reward"] < (best["judge"] - now["judge"]) / 2:
            found["judge"] = (
                f"the judge's reward fell from {best['judge']:.2f} (step {best['step']}) to {now['judge']:.2f}, while the reward "
                f"that is learned from went from {best['reward']:.2f} to {now['reward']:.2f}"
            )
    return found


class LossWatch:
    """Whether a training loss runs away: its mean over the last 20 steps against the first and the lowest such mean."""

    WINDOW = 20
    TIMES_FIRST, TIMES_LOWEST = 1.5, 2.0

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=self.WINDOW)
        self._first = self._lowest = math.inf

    def see(self, loss: float) -> str | None:
        """Note a step's loss. What is wrong, in words; None while nothing is."""
        self._last.append(loss)
        if len(self._last) < self.WINDOW:
            return None
        now = sum(self._last) / self.WINDOW
        if math.isinf(self._first):
            self._first = now
        self._lowest = min(self._lowest, now)
        if now > max(self.TIMES_FIRST * self._first, self.TIMES_LOWEST * self._lowest):
            return f"the loss rose from {self._lowest:.3f} to {now:.3f} (means of {self.WINDOW} steps); lower learning_rate"
        return None


def _mean(steps: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {
        name: sum(step[name] for step in steps) / len(steps) for name in ("kl", "tokens", "repetition", "entropy", "ended")
    }  # fmt: skip
