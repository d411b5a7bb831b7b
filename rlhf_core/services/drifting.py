"""What changed over time in a snapshot: drift by cause, and how generations of a model were rated and rewarded."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pandas as pd
from scipy import stats

from rlhf_core.analytics.drift import CAUSES, Cause, Finding, find
from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.checkpoints.registry import seen_by
from rlhf_core.ground.answers import Answer
from rlhf_core.ground.errors import InvalidInput, RlhfError
from rlhf_core.ground.text import query_key
from rlhf_core.services import comparing, snapshots
from rlhf_core.services.workbench import Workbench

WEBHOOK_VARIABLE = "RLHF_WEBHOOK_URL"
WEBHOOK_TIMEOUT_S = 10.0
MOST_SCORED = 5_000  # answers, drawn by their ids, so evenly over time
MADE_HERE = ("generated", "branch", "rewrite")  # sources of chats that nobody asked; as the view made_chats in sql/sqlite
FEWEST = 30  # rated answers of a generation, to call its reward inflated
_log = logging.getLogger(__name__)

__all__ = ["CAUSES", "Cause", "Finding", "Generation", "drift", "generations", "inflations", "report", "untested"]


@dataclass(frozen=True, slots=True)
class Generation:
    """What one model answered. Means with their 95% intervals (t), None where there is too little; ``reward``: by one and the
    same checkpoint, in stars."""

    model: str
    first: str
    answers: int
    rated: int
    rating: tuple[float, float, float] | None
    reward: tuple[float, float, float] | None
    ratings: np.ndarray[Any, np.dtype[np.float64]]
    rewards: np.ndarray[Any, np.dtype[np.float64]]
    gaps: np.ndarray[Any, np.dtype[np.float64]]  # reward minus rating, of answers with both


def drift(workbench: Workbench, snapshot_id: str, *, days: int = 7, checkpoint: str | None = None) -> list[Finding]:
    """All tests of a snapshot's windows, oldest first.

    Args:
        workbench: Where it is.
        snapshot_id: Which one.
        days: Length of a window.
        checkpoint: Of the reward model that is watched; None: that one is left out.

    Raises:
        NotFound, CorruptArtifact: the snapshot or the checkpoint.
        InvalidInput: ``days`` is below 1.
        WorkerFailed, ModelUnavailable: the checkpoint cannot score.
    """
    if days < 1:
        raise InvalidInput(f"A window of {days} days is none. Give 1 or more.")
    snapshot = snapshots.find(workbench, snapshot_id)
    chats, ratings = _frames(snapshot)
    chats = chats[~chats["source"].isin(MADE_HERE)]
    ratings["reward"] = np.nan
    if checkpoint is not None and len(ratings):
        rewards = _rewards(workbench, checkpoint, snapshot, set(ratings["chat_id"]))
        ratings["reward"] = [rewards.get(key, np.nan) for key in zip(ratings["chat_id"], ratings["order"], strict=True)]
    return find(chats[["at", "query"]], ratings[["at", "thing", "query", "rater", "score", "reward"]], days=days)


def report(workbench: Workbench, snapshot_id: str, found: Sequence[Finding]) -> list[Finding]:
    """Note alarms in the log of acts, each once, and send them to the webhook that ``RLHF_WEBHOOK_URL`` names. Returns the new
    ones. A webhook that does not answer is logged and keeps nobody."""
    known = {one.what for one in workbench.audit.entries("drift", 5_000) if one.act == "drift"}
    new = [one for one in found if one.alarm and _name(one) not in known]
    for one in new:
        workbench.note("drift", _name(one), "the workbench", cause=CAUSES[one.cause], found=one.told, snapshot=snapshot_id)
    url = os.environ.get(WEBHOOK_VARIABLE)
    if new and url:
        body = {"snapshot": snapshot_id, "alarms": [{"cause": one.cause, "found": one.told} for one in new]}
        try:
            httpx.post(url, json=body, timeout=WEBHOOK_TIMEOUT_S).raise_for_status()
        except httpx.HTTPError as error:
            _log.warning("the webhook did not take %d alarms: %s", len(new), type(error).__name__)
    return new


def _name(one: Finding) -> str:
    rater = hashlib.sha256(one.name.encode()).hexdigest()[:8] if one.about == "rater" else ""
    return " ".join(filter(None, (one.about, rater, f"from {one.window}", f"{one.days} days")))


def untested(found: Sequence[Finding]) -> list[str]:
    """What could not be said, for reports."""
    missing = [cause for cause in CAUSES if not any(one.cause == cause for one in found)]
    words = {"inputs": "the questions", "raters": "the raters", "model": "the reward model's agreement"}
    return [f"Not tested: {words[cause]}; there is too little to compare." for cause in missing]


def generations(workbench: Workbench, snapshot_id: str, checkpoint: str | None = None) -> list[Generation]:
    """How each model's answers were rated, and rewarded by one checkpoint, in the order in which the models began.

    Raises:
        NotFound, CorruptArtifact, WorkerFailed, ModelUnavailable: as :func:`drift`.
    """
    snapshot = snapshots.find(workbench, snapshot_id)
    chats, ratings = _frames(snapshot)
    chats = chats[chats["model"].notna()]
    rewards = _rewards(workbench, checkpoint, snapshot, set(chats["id"])) if checkpoint and len(chats) else {}
    rated = ratings.groupby("chat_id")["score"].mean()
    found = []
    for model, mine in chats.groupby("model"):
        stars = rated.reindex(mine["id"]).dropna().to_numpy(float)
        given = np.array([rewards[one, 0] for one in mine["id"] if (one, 0) in rewards], float)
        both = [one for one in mine["id"] if (one, 0) in rewards and one in rated.index]
        gaps = np.array([rewards[one, 0] - rated[one] for one in both], float)
        found.append(
            Generation(
                str(model), str(mine["at"].min())[:10], len(mine), len(stars), _mean(stars), _mean(given), stars, given, gaps
            )
        )
    return sorted(found, key=lambda one: (one.first, one.model))


def inflations(models: Sequence[Generation], alpha: float = 0.05) -> list[str]:
    """Of which generations the reward is not to be believed: it rose, and away from people's ratings, both beyond chance for all
    pairs of neighbours together (Bonferroni)."""
    pairs = list(itertools.pairwise(models))
    return [said for before, after in pairs if (said := _inflated(before, after, alpha / len(pairs)))]


def _inflated(before: Generation, after: Generation, alpha: float) -> str | None:
    if min(len(before.gaps), len(after.gaps)) < FEWEST:
        return None
    reward = stats.ttest_ind(after.rewards, before.rewards, equal_var=False, alternative="greater")
    apart = stats.ttest_ind(after.gaps, before.gaps, equal_var=False, alternative="greater")
    if max(reward.pvalue, apart.pvalue) >= alpha:
        return None
    return (
        f"Reward inflation: from {before.model} to {after.model} the reward rose by "
        f"{after.rewards.mean() - before.rewards.mean():.2f} stars, people's ratings by "
        f"{after.ratings.mean() - before.ratings.mean():+.2f} (beyond chance, p = {apart.pvalue:.2g}). Train the reward "
        "model anew first."
    )


def _mean(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float, float] | None:
    if len(values) < 2:
        return None
    mean, error = float(values.mean()), float(stats.sem(values))
    wide = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return mean, mean - wide, mean + wide


def _frames(snapshot: Snapshot) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Questions, and ratings of steps and whole answers (``order`` 0)."""
    chats = snapshot.table("chats").select(["id", "query", "source", "model", "created_at"]).to_pandas()
    chats["at"] = pd.to_datetime(chats["created_at"], utc=True, format="ISO8601")
    steps = snapshot.table("reasoning_steps")
    order_of = dict(zip(steps["id"].to_pylist(), steps["step_order"].to_pylist(), strict=True))
    rows = snapshot.table("chat_feedback").select(["chat_id", "step_id", "rater", "feedback_score", "created_at"]).to_pandas()
    rows["at"] = pd.to_datetime(rows["created_at"], utc=True, format="ISO8601")
    rows["order"] = [order_of.get(one, 0) if isinstance(one, str) else 0 for one in rows["step_id"]]
    rows["thing"] = rows["chat_id"] + ":" + rows["order"].astype(str)
    rows = rows.merge(chats[["id", "query"]], left_on="chat_id", right_on="id", how="inner")
    return chats, rows.rename(columns={"feedback_score": "score"})


def _rewards(workbench: Workbench, checkpoint: str, snapshot: Snapshot, wanted: set[str]) -> dict[tuple[str, int], float]:
    """By chat and step order (0: the whole answer), of answers to questions that it did not learn from."""
    chosen = comparing.candidate(workbench, checkpoint)
    chats = snapshot.table("chats").select(["id", "query", "response", "created_at"]).to_pylist()
    learned = (seen_by(chosen.checkpoint) if chosen.checkpoint else None) or set()  # a model is nearer to those
    chats = [one for one in chats if one["id"] in wanted and query_key(one["query"]) not in learned]
    chats = sorted(chats, key=lambda one: hashlib.sha256(one["id"].encode()).digest())[:MOST_SCORED]
    kept = {one["id"] for one in chats}
    steps: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in snapshot.table("reasoning_steps").select(["chat_id", "step_order", "step_content"]).to_pylist():
        if row["chat_id"] in kept:
            steps[row["chat_id"]].append((row["step_order"], row["step_content"]))
    answers = [
        Answer(one["query"], one["response"], tuple(text for _, text in sorted(steps[one["id"]]))) for one in chats
    ]  # fmt: skip
    scores, errors = comparing.scores_of(workbench, [chosen], answers)
    if chosen.label in errors:
        raise RlhfError(f"{checkpoint} cannot score: {errors[chosen.label]}")
    found = {}
    for one, score in zip(chats, scores[chosen.label], strict=True):
        for order in range(len(steps[one["id"]]) + 1):
            found[one["id"], order] = score.of(order)
    return found
