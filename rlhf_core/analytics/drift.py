"""What changed over time, told apart: the questions, the raters, or how far the reward model agrees with people.

Each window is held against the first ones, each cause by a test that fits its data:

- *inputs*: lengths of questions by a Kolmogorov-Smirnov test; words by chi-square tests of how many questions hold each, combined
  by Simes' rule.
- *raters*: each rater's distance from the others who rated the same thing, a question at a time, by a Mann-Whitney test.
- *model*: distance of rewards from people's scores, a question at a time, by a Mann-Whitney test; without raters who moved and
  without questions that hold words which are new, so that neither looks like the model's fault.

All tests of all windows of a cause are corrected together (Benjamini and Yekutieli 2001, valid however they depend on each
other), and an alarm also takes a change that matters.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    import pandas as pd

Cause = Literal["inputs", "raters", "model"]
CAUSES: dict[Cause, str] = {
    "inputs": "people ask something else",
    "raters": "a rater rates otherwise than before",
    "model": "the reward model agrees less with people",
}
LEAST = 20  # questions, or things rated, on each side of a test
LEAST_OF_RATER = 10  # questions with something that others have rated too: steps of one answer hang together
WORDS = 200  # the most frequent ones
MATTERS: dict[str, float] = {"length": 0.15, "words": 0.05, "rater": 0.25, "distance": 0.1}  # see Finding.size


@dataclass(frozen=True, slots=True)
class Finding:
    """One test of one window. ``about``: length, words, rater or distance; ``name``: which words or rater. ``before``, ``now``:
    mean characters, share of questions, mean distance from other raters or of rewards from people, stars; ``size``: the change
    that has to matter: the Kolmogorov-Smirnov statistic, or the difference. ``p``: of the test; ``adjusted``: for all of them."""

    window: date
    cause: Cause
    about: str
    name: str
    before: float
    now: float
    size: float
    count: int
    p: float
    adjusted: float = 1.0
    alarm: bool = False
    days: int = 7

    def __str__(self) -> str:
        return self._words(self.name)

    @property
    def told(self) -> str:
        """The same without a rater's name: for reports and alarms, which outlive an erasure."""
        return self._words("a rater" if self.about == "rater" else self.name)

    def _words(self, name: str) -> str:
        what = {
            "length": "Questions are {now:.0f} characters long, {before:.0f} before",
            "words": "{now:.0%} of questions hold {name}, {before:.0%} before",
            "rater": "{name} rates {now:+.2f} stars from the others, {before:+.2f} before",
            "distance": "Rewards are {now:.2f} stars from people's scores, {before:.2f} before",
        }[self.about].format(now=self.now, before=self.before, name=name)
        return f"From {self.window}: {what[0].upper()}{what[1:]} (adjusted p = {self.adjusted:.2g})."


def find(questions: pd.DataFrame, ratings: pd.DataFrame, *, days: int = 7, alpha: float = 0.05) -> list[Finding]:
    """All tests of all windows, oldest first.

    Args:
        questions: ``at`` (timestamps), ``query``: each question that was asked.
        ratings: ``at``, ``thing`` (what was rated), ``query``, ``rater``, ``score`` (stars), ``reward`` (stars; NaN: none).
        days: Length of a window.
        alpha: Rate of false alarms among alarms.
    """
    moments = [*questions["at"], *ratings["at"]]
    if not moments:
        return []
    monday = _monday()  # windows begin on the same days whatever the oldest rating is: that one may be deleted
    began = monday + _days(int((min(moments) - monday).days // days) * days)
    asked = questions.assign(window=((questions["at"] - began).dt.days // days).astype(int))
    given = ratings.assign(window=((ratings["at"] - began).dt.days // days).astype(int))
    last = max([*asked["window"], *given["window"]])
    first = max(1, min(4, (last + 1) // 2))  # windows that the others are held against
    given = given.assign(apart=_apart(given))
    found: list[Finding] = []
    new_words: dict[int, set[str]] = {}
    for window in range(first, last + 1):
        start = (began + _days(window * days)).date()
        inputs, new_words[window] = _inputs(asked, first, window, start)
        found += inputs + _raters(given, first, window, start)
    found = _adjusted(found, alpha)
    moved = {(one.window, one.name) for one in found if one.cause == "raters" and one.alarm}
    models = []
    for window in range(first, last + 1):
        start = (began + _days(window * days)).date()
        models += _model(given, first, window, start, {name for at, name in moved if at == start}, new_words[window])
    found = _adjusted([*found, *models], alpha)
    return sorted((replace(one, days=days) for one in found), key=lambda one: (one.window, one.cause, one.about, one.name))


def _days(count: int) -> pd.Timedelta:
    import pandas as pd

    return pd.Timedelta(days=count)


def _monday() -> pd.Timestamp:
    import pandas as pd

    return pd.Timestamp("1970-01-05", tz="UTC")


def _adjusted(found: list[Finding], alpha: float) -> list[Finding]:
    """Each cause by itself, so that a plain one lends no weight to another; three causes, so three times."""
    done = []
    for cause in CAUSES:
        mine = [one for one in found if one.cause == cause]
        if mine:
            adjusted = np.minimum(1.0, len(CAUSES) * stats.false_discovery_control([one.p for one in mine], method="by"))
            done += [
                replace(one, adjusted=float(p), alarm=bool(p < alpha and abs(one.size) >= MATTERS[one.about]))
                for one, p in zip(mine, adjusted, strict=True)
            ]
    return done


def words_of(query: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]{3,}", query.lower()))


def _inputs(asked: pd.DataFrame, first: int, window: int, start: date) -> tuple[list[Finding], set[str]]:
    """Tests of the questions, and the words that have become more frequent."""
    before, now = asked[asked["window"] < first]["query"], asked[asked["window"] == window]["query"]
    if min(len(before), len(now)) < LEAST:
        return [], set()
    lengths = [side.str.len().to_numpy(float) for side in (before, now)]
    test = stats.ks_2samp(*lengths)
    found = [
        Finding(
            start, "inputs", "length", "", float(lengths[0].mean()), float(lengths[1].mean()), float(test.statistic), len(now),
            float(test.pvalue),
        )
    ]  # fmt: skip
    held = [Counter(word for query in side for word in words_of(query)) for side in (before, now)]
    sizes = (len(before), len(now))
    frequent = [word for word, count in (held[0] + held[1]).most_common(WORDS) if count >= 10]
    tests = []
    for word in frequent:
        table = np.array([[held[k][word], sizes[k] - held[k][word]] for k in (0, 1)])
        if (table.sum(0) == 0).any():
            continue
        tests.append((float(stats.chi2_contingency(table).pvalue), held[1][word] / sizes[1] - held[0][word] / sizes[0], word))
    if not tests:
        return found, set()
    combined = float(stats.false_discovery_control([p for p, _, _ in tests]).min())  # Simes
    strongest = sorted(tests)[:3]
    most = max(strongest, key=lambda one: abs(one[1]))
    words = " or ".join(repr(word) for _, _, word in strongest)
    share = [np.mean([bool({word for _, _, word in strongest} & words_of(query)) for query in side]) for side in (before, now)]
    found.append(Finding(start, "inputs", "words", words, float(share[0]), float(share[1]), most[1], len(now), combined))
    risen = {word for (p, more, word) in tests if more > 0 and p < 0.01}
    return found, risen


def _apart(given: pd.DataFrame) -> pd.Series:
    """Each score minus the mean of the others' on the same thing; NaN where nobody else rated it."""
    total = given.groupby("thing")["score"].transform("sum")
    count = given.groupby("thing")["score"].transform("count")
    return (given["score"] - (total - given["score"]) / (count - 1).where(count > 1)).astype(float)


def _raters(given: pd.DataFrame, first: int, window: int, start: date) -> list[Finding]:
    found = []
    shared = given[given["apart"].notna()].groupby(["rater", "query", "window"], as_index=False)["apart"].mean()
    for name, mine in shared.groupby("rater"):
        before, now = mine[mine["window"] < first]["apart"], mine[mine["window"] == window]["apart"]
        if min(len(before), len(now)) < LEAST_OF_RATER:
            continue
        p = _mann_whitney(before.to_numpy(), now.to_numpy())
        values = float(before.mean()), float(now.mean())
        found.append(Finding(start, "raters", "rater", str(name), *values, values[1] - values[0], len(now), p))
    return _who_moved(found)


def _who_moved(found: list[Finding]) -> list[Finding]:
    """When one moves away, the others seem to move the other way: what all have in common is taken off, by the median."""
    if len(found) < 3:
        return found
    common = float(np.median([one.size for one in found]))
    return [replace(one, size=one.size - common) for one in found]


def _model(given: pd.DataFrame, first: int, window: int, start: date, moved: set[str], new_words: set[str]) -> list[Finding]:
    scored = given[given["reward"].notna() & ~given["rater"].isin(moved)]
    if scored.empty:
        return []
    things = scored.groupby(["thing", "query", "window"], as_index=False).agg(score=("score", "mean"), reward=("reward", "mean"))
    things["distance"] = (things["score"] - things["reward"]).abs()
    if new_words:
        things = things[[not (words_of(query) & new_words) for query in things["query"]]]
    each = things.groupby(["query", "window"], as_index=False)["distance"].mean()
    before, now = each[each["window"] < first]["distance"], each[each["window"] == window]["distance"]
    if min(len(before), len(now)) < LEAST:
        return []
    values = float(before.mean()), float(now.mean())
    p = _mann_whitney(before.to_numpy(), now.to_numpy())
    return [Finding(start, "model", "distance", "", *values, values[1] - values[0], len(now), p)]


def _mann_whitney(before: np.ndarray, now: np.ndarray) -> float:
    p = float(stats.mannwhitneyu(before, now).pvalue)
    return 1.0 if np.isnan(p) else p
