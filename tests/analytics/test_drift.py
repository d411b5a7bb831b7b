"""Drift of the questions, the raters and the reward model's agreement, told apart on data shifted in each of these ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from rlhf_core.analytics.drift import CAUSES, Finding, find

TOPICS = ("solar roof panel install", "wind turbine blade repair", "heat pump training course", "electrician license exam fee")
RATERS = ("Ana", "Ben", "Cleo", "Dov")


def made(shift: str | None, *, weeks: int = 8, a_week: int = 60, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Eight weeks of questions, each answer rated by three of four raters; from the sixth on something shifts."""
    rng = np.random.default_rng(seed)
    asked, given = [], []
    for k in range(weeks * a_week):
        week = k // a_week
        late = week >= 5
        at = pd.Timestamp("2026-01-05T10:00:00Z") + pd.Timedelta(days=7 * week + int(rng.integers(0, 7)))
        words = TOPICS[int(rng.integers(0, 4))]
        if shift == "inputs" and late and rng.random() < 0.6:
            words = "offshore geothermal drilling permit question"
        query = f"how do I {' '.join(rng.permutation(words.split()))} number {k:04d}"
        asked.append((at, query))
        good = float(rng.normal(3, 1))
        reward = float(np.clip(good + rng.normal(0, 0.5), 1, 5))
        if shift == "model" and late:
            good = 6 - good
        for rater in rng.choice(RATERS, 3, replace=False):
            moved = 1.5 if shift == "raters" and late and rater == "Dov" else 0.0
            given.append((at, f"t{k}", query, rater, float(np.clip(round(good + moved + rng.normal(0, 0.5)), 1, 5)), reward))
    return (
        pd.DataFrame(asked, columns=["at", "query"]),
        pd.DataFrame(given, columns=["at", "thing", "query", "rater", "score", "reward"]),
    )


def alarms(found: list[Finding]) -> set[str]:
    return {one.cause for one in found if one.alarm}


@pytest.mark.parametrize("shift", [*CAUSES])
def test_each_shift_is_told_from_the_others(shift: str) -> None:
    found = find(*made(shift))
    assert alarms(found) == {shift}
    began = {one.window for one in found if one.alarm}
    assert min(began) == pd.Timestamp("2026-02-09").date(), "not before it shifted"
    assert len(began) == 3
    if shift == "raters":
        assert {one.name for one in found if one.alarm} == {"Dov"}
        first = next(one for one in found if one.alarm)
        assert "Dov rates +" in str(first)
        assert "A rater rates +" in first.told
    if shift == "inputs":
        assert any("geothermal" in one.name or "drilling" in one.name or "offshore" in one.name for one in found if one.alarm)


@pytest.mark.slow
def test_without_a_shift_there_is_hardly_an_alarm() -> None:
    quiet = [bool(alarms(find(*made(None, seed=seed)))) for seed in range(10)]
    assert sum(quiet) <= 1


def test_two_shifts_at_once_are_two_alarms() -> None:
    questions, ratings = made("raters")
    asked, other = made("model")
    late = ratings["at"] >= pd.Timestamp("2026-02-09", tz="UTC")
    both = pd.concat(
        [other[other["rater"] != "Dov"], ratings[late & (ratings["rater"] == "Dov")], other[(other["rater"] == "Dov") & ~late]]
    )
    assert alarms(find(asked, both)) == {"raters", "model"}
    assert len(questions)


@pytest.mark.parametrize("what", ["nothing", "one week", "few", "no rewards", "one rater"])
def test_too_little_is_no_alarm(what: str) -> None:
    questions, ratings = made("raters")
    if what == "nothing":
        questions, ratings = questions[:0], ratings[:0]
    elif what == "one week":
        questions, ratings = questions[:60], ratings[:180]
    elif what == "few":
        questions, ratings = questions[::30], ratings[::90]
    elif what == "no rewards":
        ratings = ratings.assign(reward=float("nan"))
    else:
        ratings = ratings[ratings["rater"] == "Ana"]
    found = find(questions, ratings)
    assert alarms(found) <= ({"raters"} if what == "no rewards" else set())
    causes = {"no rewards": {"inputs", "raters"}, "one rater": {"inputs", "model"}}.get(what, set(CAUSES))
    assert {one.cause for one in found} <= causes


def test_counts_of_findings_are_whole() -> None:
    found: list[Any] = find(*made(None))
    assert all(one.p <= one.adjusted or one.adjusted == 1.0 for one in found)
    assert all(one.count >= 10 for one in found)


def test_steps_of_one_answer_count_once() -> None:
    """A taste that a rater has in one chat is in all its steps: it is no drift."""
    rng = np.random.default_rng(1)
    alarmed = 0
    for _ in range(10):
        given = []
        for k in range(8 * 8):
            at = pd.Timestamp("2026-01-05T10:00:00Z") + pd.Timedelta(days=7 * (k // 8) + int(rng.integers(0, 7)))
            for rater in RATERS[:3]:
                taste = rng.normal(0, 1)
                given += [
                    (at, f"t{k}:{n}", f"question {k}", rater, 3 + taste + rng.normal(0, 0.3), float("nan")) for n in range(6)
                ]
        ratings = pd.DataFrame(given, columns=["at", "thing", "query", "rater", "score", "reward"])
        alarmed += bool(alarms(find(ratings[:0][["at", "query"]], ratings)))
    assert alarmed <= 1
