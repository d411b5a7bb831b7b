"""Train a reward model on a snapshot's judgements: ``python -m rlhf_core train reward --snapshot ID``.

Regression on people's mean scores of whole answers and step prefixes, their leniency taken off, and a Bradley-Terry loss on
preferred pairs, one scale for both. The weights kept are those of the epoch that validation found best; a report card is
written beside them.
"""

from __future__ import annotations

import math
import random
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from rlhf_core.analytics.snapshot import Snapshot, open_snapshot
from rlhf_core.checkpoints.base_models import locate
from rlhf_core.checkpoints.registry import Checkpoint, seal
from rlhf_core.ground.cards import CARD_FILE, ReportCard
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.errors import NotEnoughData, RlhfError, disk_errors
from rlhf_core.ground.files import building, sweep_leftovers, write_json
from rlhf_core.ground.settings import Workspace
from rlhf_core.ground.text import query_key
from rlhf_core.learn.batching import length_grouped
from rlhf_core.learn.card import Held, HeldPairs, write_card
from rlhf_core.learn.examples import (
    Example,
    Split,
    build_examples,
    learnable,
    mean_and_std,
    sides,
    split_by_query,
    take_whole_queries,
)
from rlhf_core.learn.freezing import Frozen
from rlhf_core.learn.losses import preference_loss, rating_loss
from rlhf_core.learn.measures import measure
from rlhf_core.learn.model_card import model_card
from rlhf_core.learn.pairs import Pair, preferred_pairs, rated_pairs
from rlhf_core.learn.raters import spread
from rlhf_core.learn.reward_model import UNTRAINED_MEAN, UNTRAINED_STD, RewardModel, autocast, library_versions, pick_device
from rlhf_core.runs.recording import Cancelled, Recorder, log

BEST_FILE = "best.safetensors"
SMALL = 30  # held-out examples below which figures say little


@dataclass(frozen=True, slots=True)
class Data:
    """Everything learned from and measured on. A query stands on one side only, with its ratings and its pairs."""

    rated: Split
    train_pairs: list[Pair]
    validation_pairs: list[Pair]
    test_pairs: list[Pair]


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

    # 1. The judgements, from an immutable snapshot whose files are what its manifest says.
    recorder.phase("reading the snapshot")
    snapshot = open_snapshot(workspace.snapshots, snapshot_id, verify=True)
    data = _data(snapshot, config)
    split = data.rated
    mean, std = mean_and_std([one.target for one in split.train]) if split.train else (UNTRAINED_MEAN, UNTRAINED_STD)
    log.info(
        "%d rated texts and %d pairs to train on, %d and %d to validate, %d and %d to test; scores %.2f +- %.2f",
        len(split.train), len(data.train_pairs), len(split.validation), len(data.validation_pairs), len(split.test),
        len(data.test_pairs), mean, std,
    )  # fmt: skip
    for warning in _warnings(data):
        log.warning("mind: %s", warning)

    # 2. The model: a pretrained encoder with a new head, seeded.
    recorder.phase("loading the base model")
    device = pick_device(config.device)
    base = locate(config.reward_base_model, workspace.checkpoints, verify=True)
    log.info("%s (%s) on %s", base.name, base.place, device)
    reward_model = RewardModel.from_base(base, max_length=config.max_length, seed=config.seed, device=device)
    reward_model.mean, reward_model.std = mean, std
    _check_stop(recorder)

    # 3. Tokens, once. A unit of training is a rated text, or a pair of texts.
    recorder.phase("tokenising")
    encoded, cut = _encode(reward_model, split.train)
    paired, cut_of_pairs = _encode_pairs(reward_model, data.train_pairs)
    units = [[ids] for ids in encoded] + paired
    cut += cut_of_pairs
    if cut:
        log.warning("mind: %d of %d texts were longer than %d tokens; their middle was cut out", cut,
                    sum(map(len, units)), reward_model.max_length)  # fmt: skip
    held_out = {name: _encode(reward_model, some)[0] for name, some in (("validation", split.validation), ("test", split.test))}
    rated = len(split.train)
    targets = torch.tensor([(one.target - mean) / std for one in split.train], device=device)
    chances = torch.tensor([one.chance for one in data.train_pairs], device=device)
    weights = torch.tensor(_weights(data, config), device=device)
    lengths = [max(map(len, unit)) for unit in units]
    begins = np.cumsum([0, *map(len, units)]).tolist()  # of each unit, among all texts
    _check_stop(recorder)
    frozen = Frozen(reward_model.model, config.freeze_layers)
    if frozen.count:
        recorder.phase("computing what the frozen layers give")
        reward_model.model.eval()
        texts = [ids for unit in units for ids in unit]
        stored = frozen.remember(texts, reward_model.forward, reward_model.model.config.hidden_size)
        log.info("%d layers are frozen; what they give is %s", frozen.count, "computed once" if stored else "computed each time")

    # 4. The optimiser and its schedule.
    steps_per_epoch = math.ceil(len(units) / config.batch_size)
    total = min(config.epochs * steps_per_epoch, config.max_steps or config.epochs * steps_per_epoch)
    groups = _parameter_groups(reward_model.model, config.weight_decay)
    optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    warmup = max(1, round(config.warmup_fraction * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warmup, (total - step) / max(1, total - warmup))
    )

    def loss_of(batch: Sequence[int]) -> Tensor:
        """Weighted mean over the batch's units of their losses, in squared standard deviations and nats."""
        rows = [row for k in batch for row in range(begins[k], begins[k + 1])]
        with autocast(device, config.precision), frozen.recalling(rows, device):
            outputs = reward_model.forward([ids for k in batch for ids in units[k]])
        texts, pairs = [k for k in batch if k < rated], [k - rated for k in batch if k >= rated]
        ends = np.cumsum([0, *(len(units[k]) for k in batch)])
        of_texts = [int(ends[at]) for at, k in enumerate(batch) if k < rated]
        of_pairs = [int(ends[at]) for at, k in enumerate(batch) if k >= rated]
        one = rating_loss(outputs[of_texts], targets[texts], weights[texts])
        leads = outputs[of_pairs] - outputs[[at + 1 for at in of_pairs]]
        other = preference_loss(leads, chances[pairs], weights[[k + rated for k in pairs]])
        return (one + other) / weights[list(batch)].sum()

    # 5. The loop.
    set_seed(config.seed)
    rng = random.Random(config.seed)
    reward_model.model.train()
    frozen.settle()
    recorder.phase("training", step=0, total=total)
    best = _Best(workspace.run_folder(run_id) / BEST_FILE, config)
    step, trained_s = 0, 0.0
    history: list[dict[str, Any]] = []
    for epoch in range(1, config.epochs + 1):
        begun, seen = time.monotonic(), 0
        for batch in length_grouped(lengths, config.batch_size, rng):
            if recorder.should_stop or step == total:
                break
            loss = loss_of(batch)
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
            best.drop()
            checkpoint = _save(workspace, run_id, snapshot, config, reward_model, step == total, {"trained_steps": step}, None)
            raise Cancelled(f"Stopped after step {step} of {total}; what was learnt so far is saved.", checkpoint.id)
        if split.validation or data.validation_pairs:
            recorder.phase(f"validating after epoch {epoch}", step=step)
            rewards = reward_model.score_encoded(held_out["validation"], config.precision)
            pairs = _score_pairs(reward_model, data.validation_pairs)
            history.append({"epoch": epoch} | measure(split.validation, rewards, guess=mean) | {"accuracy": _accuracy(pairs)})
            recorder.metrics(split="validation", step=step, **history[-1])
            log.info("epoch %d: %s", epoch, _in_words(history[-1]))
            best.see(reward_model, history[-1])
        if step == total:
            break
        if config.patience is not None and best.epochs_since >= config.patience:
            log.info("no better epoch for %d: stopping early", config.patience)
            break
        recorder.phase("training", step=step)
    kept = best.restore(reward_model)
    if kept is not None:
        log.info("the weights of epoch %d are kept, the best in %s", kept, config.select_by)

    # 6. The final test, on queries that nothing above has seen, and the report card.
    recorder.phase("testing", step=step)
    held = {name: np.array(reward_model.score_encoded(held_out[name], config.precision)) for name in held_out}
    test_pairs = _score_pairs(reward_model, data.test_pairs)
    test = measure(split.test, held["test"].tolist(), guess=mean) | {"accuracy": _accuracy(test_pairs)}
    recorder.metrics(split="test", step=step, **test)
    recorder.phase("writing the report card", step=step)
    card = write_card(
        split.train, Held(split.validation, held["validation"]), Held(split.test, held["test"]), reward_model.score,
        train_pairs=data.train_pairs, test_pairs=test_pairs, cut=cut, seed=config.seed,
    )  # fmt: skip
    log.info("%s: %s", card.state, card.verdict)

    # 7. The checkpoint.
    recorder.phase("saving", step=step)
    metrics = {
        "test": test, "validation": history, "trained_steps": step, "train_examples": len(split.train),
        "train_pairs": len(data.train_pairs), "kept_epoch": kept, "train_seconds": round(trained_s, 1),
        "verdict": {"state": card.state, "words": card.verdict},
    }  # fmt: skip
    checkpoint = _save(workspace, run_id, snapshot, config, reward_model, True, metrics, card)
    return (
        f"{checkpoint.id}: {card.verdict} {_in_words(test)} on {test['examples']} held-out examples, "
        f"{trained_s:.0f} s of training.",
        checkpoint.id,
    )


class _Best:
    """Keeps the weights of the best epoch on disk beside the run."""

    def __init__(self, path: Path, config: RewardConfig) -> None:
        self._path, self._by = path, config.select_by
        weakref.finalize(self, path.unlink, missing_ok=True)  # also where the run fails
        self._found: tuple[tuple[float, ...], int] | None = None
        self.epochs_since = 0

    def see(self, reward_model: RewardModel, measured: dict[str, Any]) -> None:
        """Note an epoch's measures; keep its weights if no epoch was better."""
        value = _selection(measured, self._by)
        if value is None:
            return
        if self._found is not None and value <= self._found[0]:
            self.epochs_since += 1
            return
        self._found, self.epochs_since = (value, measured["epoch"]), 0
        if self._by != "last":
            self._path.parent.mkdir(parents=True, exist_ok=True)
            state = {name: tensor.contiguous().cpu().clone() for name, tensor in reward_model.model.state_dict().items()}
            save_file(state, self._path)

    def restore(self, reward_model: RewardModel) -> int | None:
        """Put the best epoch's weights back. Returns which epoch that was, None where none was measured."""
        if self._by == "last" or self._found is None:
            return None
        reward_model.model.load_state_dict(load_file(self._path))
        self.drop()
        return self._found[1]

    def drop(self) -> None:
        self._path.unlink(missing_ok=True)


def _selection(measured: dict[str, Any], by: str) -> tuple[float, ...] | None:
    """What is to be as large as possible; where it has no value, the next thing that has one. Of equals, the smaller error."""
    order = {
        "rmse": ("rmse", "accuracy"),
        "spearman": ("spearman", "accuracy", "rmse"),
        "accuracy": ("accuracy", "spearman", "rmse"),
        "last": ("epoch",),
    }[by]
    for name in order:
        if measured[name] is not None:
            value = -float(measured[name]) if name == "rmse" else round(float(measured[name]), 6)
            return (value,) if measured["rmse"] is None else (value, -float(measured["rmse"]))
    return None


def _data(snapshot: Snapshot, config: RewardConfig) -> Data:
    chats, steps, decisions = (snapshot.table(name) for name in ("chats", "reasoning_steps", "decisions"))
    feedback = snapshot.table("chat_feedback")
    examples = build_examples(chats, steps, feedback, config.learn_from, decisions)
    pairs = preferred_pairs(chats, steps, snapshot.table("preferences"), decisions) if config.preference_weight else []
    if not examples and not pairs:
        if snapshot.ratings == 0:
            raise NotEnoughData(
                f"Snapshot {snapshot.id} has no ratings. Rate some chats, take a new snapshot, and train on that."
            )
        wanted = "whole answers" if config.learn_from == "answers" else "steps"
        raise NotEnoughData(f"Snapshot {snapshot.id} has no ratings of {wanted}. Set learn_from to both, or rate {wanted}.")
    shares = {"test": config.test_fraction, "validation": config.validation_fraction, "seed": config.seed}
    split = split_by_query(examples, queries=[one.query for one in pairs], **shares)  # type: ignore[arg-type]
    side = sides([*(one.query for one in examples), *(one.query for one in pairs)], **shares)  # type: ignore[arg-type]
    of = {name: [one for one in pairs if side[query_key(one.query)] == name] for name in ("train", "validation", "test")}
    train = learnable(take_whole_queries(split.train, config.max_examples), leniency=config.leniency)
    if config.pairs_of_ratings and config.preference_weight:
        within, _ = spread([one.given for one in train])
        of["train"] += rated_pairs(train, spread=math.sqrt(2 * within) or 1.0)
    if not train and not of["train"]:
        raise NotEnoughData(f"Snapshot {snapshot.id} leaves nothing to learn from once queries are held out. Rate more chats.")
    if train and not of["train"] and len({one.target for one in train}) == 1:
        raise NotEnoughData(
            f"All {len(train)} texts to learn from have the same score ({train[0].score:g} stars), so there is nothing to tell "
            "apart. Rate some that are better or worse."
        )
    most = config.max_eval_examples
    rated = Split(train, take_whole_queries(split.validation, most), take_whole_queries(split.test, most))
    return Data(rated, of["train"], of["validation"][:most], of["test"][:most])


def _warnings(data: Data) -> list[str]:
    found = []
    held = len(data.rated.test) + len(data.test_pairs)
    if held < SMALL:
        found.append(f"only {held} judgements are held out; the figures will say little")
    scores = Counter(round(one.score) for one in data.rated.train)
    if scores and max(scores.values()) > 0.9 * len(data.rated.train):
        found.append(
            f"{max(scores.values()) / len(data.rated.train):.0%} of the texts have {max(scores, key=scores.__getitem__)} stars"
        )
    texts: dict[tuple[str, str], list[float]] = {}
    for one in data.rated.train:
        texts.setdefault((query_key(one.query), one.text), []).append(one.score)
    torn = sum(max(some) - min(some) >= 2 for some in texts.values())
    if torn:
        found.append(f"{torn} texts stand there more than once with scores 2 or more stars apart")
    return found


def _weights(data: Data, config: RewardConfig) -> list[float]:
    """How much each unit counts: rated texts, then pairs. Their mean over rated answers is about 1."""
    counts = Counter(round(one.score) for one in data.rated.train)
    even = len(data.rated.train) / max(1, len(counts))
    found = []
    for one in data.rated.train:
        weight = one.weight * (config.step_weight if one.is_step else 1.0)
        found.append(weight * (min(10.0, even / counts[round(one.score)]) if config.balance else 1.0))
    return found + [one.weight * config.preference_weight for one in data.train_pairs]


def _encode(reward_model: RewardModel, examples: Sequence[Example]) -> tuple[list[list[int]], int]:
    return reward_model.encode_counting([(one.query, one.text) for one in examples]) if examples else ([], 0)


def _encode_pairs(reward_model: RewardModel, pairs: Sequence[Pair]) -> tuple[list[list[list[int]]], int]:
    texts = [(one.query, text) for one in pairs for text in (one.first, one.second)]
    encoded, cut = reward_model.encode_counting(texts) if texts else ([], 0)
    return [encoded[k : k + 2] for k in range(0, len(encoded), 2)], cut


def _score_pairs(reward_model: RewardModel, pairs: Sequence[Pair]) -> HeldPairs:
    rewards = reward_model.score([(one.query, text) for one in pairs for text in (one.first, one.second)])
    return HeldPairs(pairs, np.array(rewards[::2]), np.array(rewards[1::2]))


def _accuracy(held: HeldPairs) -> float | None:
    """Share of decided pairs whose better text gets more reward; equal rewards count half."""
    right = [
        0.5 if first == second else float((first > second) == (one.chance > 0.5))
        for one, first, second in zip(held.pairs, held.first, held.second, strict=True)
        if one.chance != 0.5
    ]
    return sum(right) / len(right) if right else None


def _parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    decayed = [parameter for parameter in model.parameters() if parameter.ndim >= 2 and parameter.requires_grad]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2 and parameter.requires_grad]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _check_stop(recorder: Recorder) -> None:
    if recorder.should_stop:
        raise Cancelled("Stopped before the first training step; there was nothing to save.")


def _save(
    workspace: Workspace, run_id: str, snapshot: Snapshot, config: RewardConfig, reward_model: RewardModel,
    complete: bool, metrics: dict[str, Any], card: ReportCard | None,
) -> Checkpoint:  # fmt: skip
    with disk_errors("saving the checkpoint", workspace.checkpoints):
        sweep_leftovers(workspace.checkpoints)
        with building(workspace.checkpoints) as scratch:
            reward_model.save(scratch)
            if card is not None:
                write_json(scratch / CARD_FILE, card.model_dump())
                (scratch / "README.md").write_text(model_card(card, config, snapshot.id), encoding="utf-8")
            return seal(
                scratch, workspace.checkpoints, kind="reward", run_id=run_id, snapshot_id=snapshot.id,
                parent=config.reward_base_model, complete=complete, config=config.model_dump(), metrics=metrics,
                scoring=reward_model.scoring, libraries=library_versions(),
            )  # fmt: skip


def _in_words(measured: dict[str, Any]) -> str:
    show = lambda name: "none" if measured[name] is None else f"{measured[name]:.3f}"  # noqa: E731  # a local shorthand
    pairs = "" if measured["accuracy"] is None else f", {measured['accuracy']:.0%} of pairs right"
    return (
        f"step AUC {show('step_auc')} (length alone {show('length_auc')}), answer AUC {show('answer_auc')}, "
        f"error {show('rmse')} stars (guessing {show('rmse_of_mean')}){pairs}"
    )
