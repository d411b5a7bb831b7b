"""Train anew on what people have said since, and propose the result only where it is better beyond chance.

A snapshot is taken, its audit is asked, a reward model is trained with the options of the one that serves, and both are held
against people's ratings of questions that neither learned from. Done again on the same ratings it finds what it did before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.checkpoints.registry import Checkpoint, open_checkpoint
from rlhf_core.ground.cards import Kind, read_card
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.errors import (
    CorruptArtifact,
    InvalidInput,
    ModelUnavailable,
    NotEnoughData,
    RlhfError,
    RunRefused,
    WorkerFailed,
    disk_errors,
)
from rlhf_core.ground.files import canonical_json, write_json, write_text
from rlhf_core.ground.records import parse_utc, utc_now
from rlhf_core.ground.runs import Run
from rlhf_core.services import auditing, comparing, comparing_sets, drifting, rolling_out, snapshots, training
from rlhf_core.services.comparing_sets import ahead, lead_in_words
from rlhf_core.services.retrained import REPORT, Gain, Outcome, Retraining, folder_of, past, read
from rlhf_core.services.workbench import Workbench

ALPHA = 0.05
FEWEST_QUESTIONS = 20  # held out, to be told apart from chance
RESAMPLES = 9_999
CONCLUSIVE: tuple[Outcome, ...] = ("candidate", "no gain")  # done again, it would come to the same
Carry = Callable[[Run], int]  # carries a run out and returns its exit status

__all__ = ["ALPHA", "Gain", "Outcome", "Retraining", "due", "gain_between", "past", "retrain"]


def due(workbench: Workbench, snapshot: Snapshot, min_new: int) -> str | None:
    """Why there is nothing to train on yet; None: there is."""
    before = next((one for one in past(workbench) if one.outcome in CONCLUSIVE), None)
    given = snapshot.table("chat_feedback")["created_at"]
    new = (
        len(given) if before is None else int(pc.sum(pc.greater(given, pa.scalar(parse_utc(before.at), given.type))).as_py() or 0)
    )
    if new < min_new:
        since = f"since {before.at[:10]}" if before else "so far"
        return f"{new:,} ratings came in {since}; {min_new:,} are asked for."
    return None


def retrain(
    workbench: Workbench, carry: Carry, *, config: RewardConfig | None = None, min_new: int = 0, alpha: float = ALPHA,
    on_drift: bool = False, despite_audit: str = "", again: bool = False,
) -> Retraining:  # fmt: skip
    """Do it all. Two at once are refused; one that was killed is taken up where it stood.

    Args:
        workbench: Whose ratings.
        carry: Carries out the run that is made.
        config: Of the run; None: as the checkpoint that serves was trained, or the defaults.
        min_new: Ratings since the last time without which nothing is done.
        alpha: Significance of the gain that makes a candidate.
        on_drift: Do it with fewer new ratings too, where something has drifted.
        despite_audit: Why to go on although the audit says to act first, or the model's own card refuses it; "": not.
        again: Even if it was done on these ratings with these options.

    Raises:
        RunRefused: another one is at work.
        InvalidInput: ``alpha`` is no probability, or the serving checkpoint's options cannot be read.
        NotEnoughData: nothing is rated.
    """
    workbench.require("train")
    workbench.require("promote")
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha is {alpha:g}; give more than 0 and less than 1.")
    folder = folder_of(workbench)
    with disk_errors("retraining", folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / "lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise RunRefused("Another retraining is at work in this workspace. Wait for its end.") from error
    try:
        return _retrain(workbench, carry, config, min_new, alpha, despite_audit.strip(), again, on_drift)
    finally:
        lock.release()


def _retrain(
    workbench: Workbench, carry: Carry, config: RewardConfig | None, min_new: int, alpha: float, despite: str, again: bool,
    on_drift: bool,
) -> Retraining:  # fmt: skip
    snapshot, _ = snapshots.take(workbench)
    serving_id = rolling_out.state(workbench, "reward").serving
    serving = open_checkpoint(workbench.workspace.checkpoints, serving_id, verify=True) if serving_id else None
    options = config or _as_before(serving)
    own_id = hashlib.sha256(canonical_json([snapshot.id, options.model_dump(), serving_id, alpha]).encode()).hexdigest()[:16]
    report = folder_of(workbench) / own_id / REPORT
    if report.is_file() and not again and (before := read(report)).outcome in CONCLUSIVE:
        return before

    drift: list[str] = []

    def told(outcome: Outcome, why: str, **more: Any) -> Retraining:
        done = Retraining(
            own_id, utc_now(), snapshot.id, snapshot.ratings, outcome, why, serving=serving_id, drift=drift,
            despite_audit=despite, **more,
        )  # fmt: skip
        if outcome != "not due":
            with disk_errors("writing a report", report):
                report.parent.mkdir(parents=True, exist_ok=True)
                write_text(report.with_name("report.md"), done.markdown())
                write_json(report, asdict(done))
            workbench.note("retrain", done.checkpoint_id or snapshot.id, outcome=outcome)
        return done

    nothing = due(workbench, snapshot, min_new)
    if nothing is not None and not on_drift:
        return told("not due", nothing)
    try:
        drifts = drifting.drift(workbench, snapshot.id, checkpoint=serving.id if serving else None)
    except RlhfError as error:
        drift.append(f"How far {serving_id} agrees with people could not be looked at: {error}")
        drifts = drifting.drift(workbench, snapshot.id)
    new = drifting.report(workbench, snapshot.id, drifts)
    drift += [one.told for one in drifts if one.alarm] + drifting.untested(drifts)
    if nothing is not None and not new:
        return told("not due", f"{nothing} Nothing new has drifted either.")
    act = [f"{one.topic}: {one.found}" for one in auditing.audit(workbench, snapshot.id).findings if one.severity == "act"]
    if act and not despite:
        return told(
            "refused",
            'The audit of the ratings says to act before training on them; `--despite-audit "why"` goes on all the same.',
            findings=act,
        )
    run, checkpoint = _trained(workbench, carry, snapshot, options)
    if checkpoint is None:
        return told("failed", f"Run {run.id} ended {run.status}: {run.message or 'it says no more'}", run_id=run.id, findings=act)
    more: dict[str, Any] = {"run_id": run.id, "checkpoint_id": checkpoint.id, "findings": act}
    if serving is None:
        card = read_card(checkpoint.folder)
        if card is not None and card.state == "refused":
            return told("no gain", "Nothing serves yet, and its own report card refuses its rewards.", **more)
        return _proposed(
            workbench, told, checkpoint, "Nothing serves yet, and its report card allows its rewards.", more, despite
        )
    if checkpoint.id == serving.id:
        return told("no gain", "What serves was trained on these ratings with these options.", **more)
    try:
        gain = gain_between(workbench, snapshot.id, checkpoint, serving)
    except (NotEnoughData, InvalidInput, ModelUnavailable, WorkerFailed, CorruptArtifact) as error:
        return told("failed", f"It could not be compared with {serving.id}: {error}", **more)
    card = read_card(checkpoint.folder)
    if card is not None and card.state == "refused" and not despite:
        return told("no gain", f"Its own report card refuses its rewards: {card.verdict}", gain=gain, **more)
    more["gain"] = gain
    apart = f"stars {'closer to' if gain.by > 0 else 'further from'} people's held-out ratings than {serving.id}"
    if gain.p >= alpha:
        chance = f"which may be chance (p = {gain.p:.3f}, below {alpha:g} is asked)"
        return told("no gain", f"It is {abs(gain.by):.3f} {apart}, {chance}.", **more)
    why = f"It is {gain.by:.3f} {apart} (p = {gain.p:.4f}, {gain.questions:,} questions)."
    return _proposed(workbench, told, checkpoint, why, more, despite)


def _proposed(
    workbench: Workbench, told: Callable[..., Retraining], checkpoint: Checkpoint, why: str, more: dict[str, Any], despite: str
) -> Retraining:  # fmt: skip
    now = rolling_out.state(workbench, "reward")
    if checkpoint.id not in (now.candidate, now.canary, now.serving):
        gain = more.get("gain")
        detail: dict[str, Any] = {"gain": asdict(gain)} if gain else {}
        if despite:
            detail["despite_audit"] = despite
        rolling_out.candidate(workbench, "reward", checkpoint.id, why, detail=detail)
    return told("candidate", why, **more)


def _trained(workbench: Workbench, carry: Carry, snapshot: Snapshot, options: RewardConfig) -> tuple[Run, Checkpoint | None]:
    """The run on this snapshot with these options: done before, going on where it was stopped, or begun now."""
    same = [
        run for run in workbench.ledger.recent(None)
        if run.kind == "reward" and run.snapshot_id == snapshot.id
        and run.config | {"resume_from": None} == options.model_dump() | {"resume_from": None}
    ]  # fmt: skip
    done = next((run for run in same if run.status == "succeeded" and run.checkpoint_id), None)
    if done is None:
        stood = next((run for run in same if training.can_resume(workbench, run)), None)
        run = (
            training.resume(workbench, stood.id, here=True) if stood
            else training.add_run(workbench, "reward", snapshot.id, options, here=True)
        )  # fmt: skip
        carry(run)
        done = workbench.ledger.get(run.id)
    if done.status != "succeeded" or not done.checkpoint_id:
        return done, None
    return done, open_checkpoint(workbench.workspace.checkpoints, done.checkpoint_id, verify=True)


def _as_before(serving: Checkpoint | None) -> RewardConfig:
    if serving is None:
        return RewardConfig.parse({})
    known = RewardConfig.options()
    kept = {name: value for name, value in serving.manifest["config"].items() if name in known}
    return RewardConfig.parse(kept | {"resume_from": None})


def gain_between(workbench: Workbench, snapshot_id: str, new: Checkpoint, old: Checkpoint) -> Gain:
    """Hold two reward models against people's ratings of questions that neither learned from.

    Raises:
        NotEnoughData: there are too few of them.
        ModelUnavailable, WorkerFailed: one cannot be scored with.
    """
    gathered = comparing_sets.of_snapshot(workbench, snapshot_id, unseen_by=[new, old], at_most=None)
    chosen = [comparing.candidate(workbench, one.id) for one in (new, old)]
    compared = comparing_sets.compare(workbench, chosen, gathered)
    for candidate in chosen:
        if candidate.label in compared.errors:
            raise NotEnoughData(f"{candidate.label} cannot score: {compared.errors[candidate.label]}")
    things = compared.things()
    rated = things.only(things.rated)
    labels = compared.labels
    first, second = labels.index(chosen[0].label), labels.index(chosen[1].label)
    distances = np.abs(rated.rewards - rated.people)
    _, of = np.unique(rated.query, return_inverse=True)
    counts = np.bincount(of)
    mine, theirs = (np.bincount(of, distances[k]) / counts for k in (first, second))
    if len(counts) < FEWEST_QUESTIONS:
        raise NotEnoughData(
            f"People have rated {len(counts)} questions that neither learned from; {FEWEST_QUESTIONS} are needed to compare."
        )
    p = _sign_flips(mine - theirs)
    kind: Kind = "steps" if bool(np.any(rated.order > 0)) else "answers"
    words = lead_in_words(chosen[0].label, chosen[1].label, ahead(things, first, second, kind))
    return Gain(float(mine.mean()), float(theirs.mean()), p, len(counts), len(rated.people), words)


def _sign_flips(apart: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """One-sided: how often chance alone would make the mean as low."""
    if not np.any(apart):
        return 1.0
    found = stats.permutation_test(
        (apart,), np.mean, permutation_type="samples", alternative="less", n_resamples=RESAMPLES, batch=200,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.pvalue)
