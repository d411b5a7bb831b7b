"""Train a reward model on a snapshot's ratings: ``python -m rlhf_core train reward --snapshot ID``.

Regression on people's mean scores, of whole answers and of step prefixes. Left out: preferences, rater offsets, resuming.
"""

from __future__ import annotations

import math
import random
import time
from typing import Any

import torch
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from rlhf_core.analytics.snapshot import Snapshot, open_snapshot
from rlhf_core.checkpoints.base_models import locate
from rlhf_core.checkpoints.registry import Checkpoint, seal
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.errors import NotEnoughData, RlhfError, disk_errors
from rlhf_core.ground.files import building, sweep_leftovers
from rlhf_core.ground.settings import Workspace
from rlhf_core.learn.batching import length_grouped
from rlhf_core.learn.examples import Example, Split, build_examples, mean_and_std, split_by_query, take_whole_queries
from rlhf_core.learn.measures import measure
from rlhf_core.learn.reward_model import RewardModel, autocast, library_versions, pick_device
from rlhf_core.runs.recording import Cancelled, Recorder, log


def train_reward(
    workspace: Workspace, run_id: str, snapshot_id: str, config: RewardConfig, recorder: Recorder
) -> tuple[str, str]:
    """Run the whole of it. Returns (what came of it in words, checkpoint id).

    Raises:
        NotEnoughData, ModelUnavailable, CorruptArtifact, StorageFull: said in the ledger as they are.
        Cancelled: a checkpoint was saved if training had begun.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()

    # 1. The ratings, from an immutable snapshot whose files are what its manifest says.
    recorder.phase("reading the snapshot")
    snapshot = open_snapshot(workspace.snapshots, snapshot_id, verify=True)
    split = _examples(snapshot, config)
    mean, std = mean_and_std([example.score for example in split.train])
    log.info(
        "%d examples to train on, %d to validate, %d to test; scores %.2f +- %.2f",
        len(split.train), len(split.validation), len(split.test), mean, std,
    )  # fmt: skip

    # 2. The model: a pretrained encoder with a new head, seeded.
    recorder.phase("loading the base model")
    device = pick_device(config.device)
    base = locate(config.reward_base_model, workspace.checkpoints, verify=True)
    log.info("%s (%s) on %s", base.name, base.place, device)
    reward_model = RewardModel.from_base(base, max_length=config.max_length, seed=config.seed, device=device)
    reward_model.mean, reward_model.std = mean, std
    _check_stop(recorder)

    # 3. Tokens, once.
    recorder.phase("tokenising")
    encoded = {name: _encode(reward_model, getattr(split, name)) for name in ("train", "validation", "test")}
    targets = torch.tensor([(example.score - mean) / std for example in split.train], device=device)
    lengths = [len(ids) for ids in encoded["train"]]
    _check_stop(recorder)

    # 4. The optimiser and its schedule.
    steps_per_epoch = math.ceil(len(split.train) / config.batch_size)
    total = min(config.epochs * steps_per_epoch, config.max_steps or config.epochs * steps_per_epoch)
    optimiser = torch.optim.AdamW(_parameter_groups(reward_model.model, config.weight_decay), lr=config.learning_rate)
    warmup = max(1, round(config.warmup_fraction * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warmup, (total - step) / max(1, total - warmup))
    )

    # 5. The loop.
    set_seed(config.seed)
    rng = random.Random(config.seed)
    reward_model.model.train()
    recorder.phase("training", step=0, total=total)
    step, trained_s = 0, 0.0
    history: list[dict[str, Any]] = []
    for epoch in range(1, config.epochs + 1):
        begun, seen = time.monotonic(), 0
        for batch in length_grouped(lengths, config.batch_size, rng):
            if recorder.should_stop or step == total:
                break
            with autocast(device, config.precision):
                outputs = reward_model.forward([encoded["train"][i] for i in batch])
            loss = torch.nn.functional.mse_loss(outputs, targets[batch])
            if not torch.isfinite(loss):
                raise RlhfError(
                    f"The loss became {loss.item()} at step {step + 1}. Lower learning_rate (now {config.learning_rate:g})."
                )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(reward_model.model.parameters(), 1.0)
            rate = schedule.get_last_lr()[0]
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            step, seen = step + 1, seen + len(batch)
            recorder.step(
                step, epoch=epoch, loss=loss.item(), learning_rate=rate,
                examples_per_s=round(seen / (time.monotonic() - begun), 3),
            )  # fmt: skip
        trained_s += time.monotonic() - begun
        if recorder.should_stop:
            recorder.phase("saving", step=step)
            checkpoint = _save(workspace, run_id, snapshot, config, reward_model, step == total, {"trained_steps": step})
            raise Cancelled(f"Stopped after step {step} of {total}; what was learnt so far is saved.", checkpoint.id)
        if split.validation:
            recorder.phase(f"validating after epoch {epoch}", step=step)
            history.append({"epoch": epoch} | _measure(reward_model, split.validation, encoded["validation"], mean, config))
            recorder.metrics(split="validation", step=step, **history[-1])
            log.info("epoch %d: %s", epoch, _in_words(history[-1]))
        if step == total:
            break
        recorder.phase("training", step=step)

    # 6. The final test, on queries that nothing above has seen.
    recorder.phase("testing", step=step)
    test = _measure(reward_model, split.test, encoded["test"], mean, config)
    recorder.metrics(split="test", step=step, **test)

    # 7. The checkpoint.
    recorder.phase("saving", step=step)
    metrics = {
        "test": test, "validation": history, "trained_steps": step, "train_examples": len(split.train),
        "train_seconds": round(trained_s, 1),
    }  # fmt: skip
    checkpoint = _save(workspace, run_id, snapshot, config, reward_model, True, metrics)
    return (
        f"{checkpoint.id}: {_in_words(test)} on {test['examples']} held-out examples, {trained_s:.0f} s of training.",
        checkpoint.id,
    )


def _examples(snapshot: Snapshot, config: RewardConfig) -> Split:
    if snapshot.ratings == 0:
        raise NotEnoughData(f"Snapshot {snapshot.id} has no ratings. Rate some chats, take a new snapshot, and train on that.")
    examples = build_examples(
        snapshot.table("chats"), snapshot.table("reasoning_steps"), snapshot.table("chat_feedback"), config.learn_from,
        snapshot.table("decisions"),
    )  # fmt: skip
    if not examples:
        wanted = "whole answers" if config.learn_from == "answers" else "steps"
        raise NotEnoughData(f"Snapshot {snapshot.id} has no ratings of {wanted}. Set learn_from to both, or rate {wanted}.")
    split = split_by_query(examples, test=config.test_fraction, validation=config.validation_fraction, seed=config.seed)
    return Split(
        take_whole_queries(split.train, config.max_examples),
        take_whole_queries(split.validation, config.max_eval_examples),
        take_whole_queries(split.test, config.max_eval_examples),
    )


def _encode(reward_model: RewardModel, examples: list[Example]) -> list[list[int]]:
    return reward_model.encode([(example.query, example.text) for example in examples]) if examples else []


def _measure(
    reward_model: RewardModel, examples: list[Example], encoded: list[list[int]], guess: float, config: RewardConfig
) -> dict[str, Any]:
    return measure(examples, reward_model.score_encoded(encoded, config.precision), guess=guess)


def _parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    decayed = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _check_stop(recorder: Recorder) -> None:
    if recorder.should_stop:
        raise Cancelled("Stopped before the first training step; there was nothing to save.")


def _save(
    workspace: Workspace, run_id: str, snapshot: Snapshot, config: RewardConfig, reward_model: RewardModel,
    complete: bool, metrics: dict[str, Any],
) -> Checkpoint:  # fmt: skip
    with disk_errors("saving the checkpoint", workspace.checkpoints):
        sweep_leftovers(workspace.checkpoints)
        with building(workspace.checkpoints) as scratch:
            reward_model.save(scratch)
            return seal(
                scratch, workspace.checkpoints, kind="reward", run_id=run_id, snapshot_id=snapshot.id,
                parent=config.reward_base_model, complete=complete, config=config.model_dump(), metrics=metrics,
                scoring=reward_model.scoring, libraries=library_versions(),
            )  # fmt: skip


def _in_words(measured: dict[str, Any]) -> str:
    show = lambda name: "none" if measured[name] is None else f"{measured[name]:.3f}"  # noqa: E731  # a local shorthand
    return (
        f"step AUC {show('step_auc')} (length alone {show('length_auc')}), answer AUC {show('answer_auc')}, "
        f"error {show('rmse')} stars (guessing {show('rmse_of_mean')})"
    )
