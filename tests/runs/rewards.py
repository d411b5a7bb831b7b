"""Reward functions for policies' runs."""

from __future__ import annotations

import os
import signal
import time

calls = 0


def count_e(prompts: list[str], completions: list[str], steps: list[list[str]] | None = None) -> list[float] | list[list[float]]:
    """More of one letter is better. With STOP_REWARDS_AFTER set, the process is asked to stop at that call."""
    global calls
    calls += 1
    if str(calls) == os.environ.get("STOP_REWARDS_AFTER"):
        os.kill(os.getpid(), signal.SIGTERM)
    if steps is None:
        return [one.count("e") / 4 for one in completions]
    return [[step.count("e") / 4 for step in some] for some in steps]


def count_e_slowly(prompts: list[str], completions: list[str]) -> list[float]:
    """The same, so slowly that somebody can step in."""
    time.sleep(0.7)
    return [one.count("e") / 4 for one in completions]


def always_two(prompts: list[str], completions: list[str]) -> list[float]:
    return [2.0 for _ in completions]


def not_a_number(prompts: list[str], completions: list[str]) -> list[float]:
    return [float("nan") for _ in completions]


def too_few(prompts: list[str], completions: list[str]) -> list[float]:
    return [1.0]


def only_in_the_first_process(prompts: list[str], completions: list[str]) -> list[float]:
    if os.environ.get("RANK") == "1":
        raise RuntimeError("it works only in the first process")
    return count_e(prompts, completions)  # type: ignore[return-value]


def alike_in_the_second_process(prompts: list[str], completions: list[str]) -> list[float]:
    if os.environ.get("RANK") == "1":
        return [1.0 for _ in completions]
    return count_e(prompts, completions)  # type: ignore[return-value]
