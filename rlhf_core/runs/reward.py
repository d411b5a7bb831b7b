"""Train a reward model on a snapshot's judgements: ``python -m rlhf_core train reward --snapshot ID``.

People's scores of whole answers and of steps, their leniency taken off, and a Bradley-Terry loss on preferred pairs, one scale
for all; each aspect has an output of its own. First a readout is fitted to the model as it is. With method ``head`` that is all;
otherwise the model learns too, and the weights kept are those of the epoch that validation found best. A report card is
written beside them.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from rlhf_core.analytics.snapshot import Snapshot, open_snapshot
from rlhf_core.checkpoints.base_models import locate
from rlhf_core.checkpoints.registry import SEEN_FILE, Checkpoint
from rlhf_core.ground.cards import CARD_FILE, ReportCard
from rlhf_core.ground.configs import MICRO_BATCH_TOKENS, RewardConfig
from rlhf_core.ground.errors import ModelUnavailable, RlhfError
from rlhf_core.ground.files import write_json
from rlhf_core.ground.settings import Workspace
from rlhf_core.learn.adapters import add_adapters, merge_adapters
from rlhf_core.learn.alarms import LossWatch
from rlhf_core.learn.batching import by_tokens, length_grouped
from rlhf_core.learn.card import FEWEST_PAIRS, Fold, Held, HeldPairs, write_card
from rlhf_core.learn.crew import Crew, clip_gradients
from rlhf_core.learn.curve import learning_curve
from rlhf_core.learn.examples import Example, learnable
from rlhf_core.learn.freezing import Frozen
from rlhf_core.learn.lessons import Lessons, Targets, Thresholds, lay_out, rows_of, total_loss, weight_in
from rlhf_core.learn.measures import Floats, measure
from rlhf_core.learn.model_card import model_card
from rlhf_core.learn.networks import SpanNetwork
from rlhf_core.learn.pairs import Pair
from rlhf_core.learn.readouts import Fitted, Pool, fit_choosing, folds_of
from rlhf_core.learn.reward_model import RewardModel, autocast, pick_device
from rlhf_core.learn.step_rewards import compare_step_readings, judged_by, learn_from_steps
from rlhf_core.runs.recording import Cancelled, Recorder, log
from rlhf_core.runs.reward_data import Data, folds_wanted, pair_weights_of, read_data, warnings_of, weights_of
from rlhf_core.runs.saved_state import EVERY_S, SavedState, forget, learning, put_back, stands_in
from rlhf_core.runs.saving import new_checkpoint

NO_NUMBERS = "The base model gives no numbers for these texts: its weights are damaged, or precision is too low. Use another one."


@dataclass(slots=True)
class Learned:
    """What the learning came to. ``test`` and ``test_pairs``: everything held out; ``folds``: of a cross-validation."""

    test: Held
    test_pairs: HeldPairs
    folds: list[Fold] | None = None
    steps: int = 0
    seconds: float = 0.0
    kept_epoch: int | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


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
    data = read_data(snapshot, config)
    split = data.rated
    log.info(
        "%d rated texts and %d pairs to train on, %d and %d to validate, %d and %d to test; scores %.2f +- %.2f",
        len(split.train), len(data.preferences), len(split.validation), len(data.validation_pairs), len(split.test),
        len(data.test_pairs), data.scales[0].mean, data.scales[0].std,
    )  # fmt: skip
    for warning in warnings_of(data):
        log.warning("mind: %s", warning)

    # 2. The model: a pretrained one with a new readout, seeded.
    recorder.phase("loading the base model")
    device = pick_device(config.device)
    crew = Crew(device.type)
    device = crew.device(device)
    base = locate(config.reward_base_model, workspace.checkpoints, verify=True)
    log.info("%s (%s) on %s", base.name, base.place, device)

    def build() -> RewardModel:
        return RewardModel.from_base(
            base, max_length=config.max_length, seed=config.seed, device=device, readout=config.readout,
            aspects=[one.aspect for one in data.scales[1:]], frozen=config.freeze_layers, lengths=config.see_length,
        )  # fmt: skip

    reward_model = build()
    reward_model.scales, reward_model.step_reading = data.scales, config.step_reading
    _check_stop(recorder)

    # 3. Tokens, once.
    recorder.phase("tokenising")
    one_pass = config.step_reading == "one_pass"
    lessons = lay_out(split.train, data.train_pairs, reward_model.encode, one_pass=one_pass)
    validation = lay_out(split.validation, data.validation_pairs, reward_model.encode, one_pass=one_pass)
    test = lay_out(split.test, data.test_pairs, reward_model.encode, one_pass=one_pass)
    if lessons.cut:
        log.warning("mind: %d of %d texts were longer than %d tokens; their middle was cut out", lessons.cut,
                    len(lessons.encoded), reward_model.max_length)  # fmt: skip
    _check_stop(recorder)

    # 4. What the untouched model makes of the texts; a readout is fitted to that.
    frozen = Frozen(reward_model.network.body, config.freeze_layers if config.method != "head" else 0)
    begun = time.monotonic()
    pool, fitted = None, None
    fits = config.method == "head" or config.readout_first
    if isinstance(reward_model.network, SpanNetwork) and (fits or config.learning_curve):
        recorder.phase("reading every text once")
        first = _remember(frozen, reward_model, lessons, config, _told_now_and_then(recorder))
        rest = [reward_model.features(part.encoded, config.precision) for part in (validation, test)]
        if not all(np.isfinite(some).all() for some in (first, *rest)):
            raise ModelUnavailable(NO_NUMBERS)
        pool = Pool.of([lessons, validation, test], [first, *rest], [data.train, split.validation, split.test], data.scales,
                       _learn(config))  # fmt: skip
        _check_stop(recorder)
        if fits:
            recorder.phase("fitting the readout")
            fitted = fit_choosing(
                pool.only(_groups(pool, lessons)).facts(), len(data.scales), ordinal=config.objective == "ordinal",
                seed=config.seed,
            )  # fmt: skip
            _put_readout(reward_model, fitted, data)
    else:
        _remember(frozen, reward_model, lessons, config)

    # 5. The learning.
    if config.method == "head":
        assert pool is not None
        learned = _measure_head(pool, lessons, validation, test, data, reward_model, config)
        learned.seconds = time.monotonic() - begun
    else:
        learned = _train(
            workspace, run_id, snapshot, data, lessons, validation, test, reward_model, frozen, fitted, config, recorder, crew,
            build,
        )  # fmt: skip
    if not crew.first:
        return "", ""  # the first process measures and writes

    # 6. The final test, on queries that nothing above has seen, and the report card.
    recorder.phase("testing", step=learned.steps)
    plain = learned.test.only([not one.aspect for one in learned.test.examples])
    measured = measure(plain.examples, plain.rewards.tolist(), guess=data.scales[0].mean)
    measured["accuracy"], measured["pairs"] = learned.test_pairs.accuracy, learned.test_pairs.decided
    recorder.metrics(split="test", step=learned.steps, **measured)
    before = judged_by(reward_model, validation, config.precision)[0]
    before = before.only([not one.aspect for one in before.examples])
    if config.method == "head" and before.examples:  # the others said so after each epoch
        of_validation = measure(before.examples, before.rewards.tolist(), guess=data.scales[0].mean)
        recorder.metrics(split="validation", step=learned.steps, **of_validation)
    aggregates = learn_from_steps(reward_model, before, plain)
    unseen = split.test if learned.folds is None else split.validation  # after a cross-validation the readout has seen the rest
    readings = compare_step_readings(reward_model, unseen, seed=config.seed)
    curve = None
    if pool is not None and config.learning_curve:
        recorder.phase("estimating what more judgements would bring", step=learned.steps)
        curve = learning_curve(pool.without_made_up(), ordinal=config.objective == "ordinal", seed=config.seed)
    recorder.phase("writing the report card", step=learned.steps)
    card = write_card(
        split.train, before, learned.test, reward_model.compute_batch_rewards, train_pairs=data.preferences,
        test_pairs=learned.test_pairs, folds=learned.folds, cut=lessons.cut, seed=config.seed, aggregates=aggregates,
        step_readings=readings, curve=curve,
    )  # fmt: skip
    reward_model.error_threshold = card.first_error.threshold if card.first_error else None
    for line in [f"{card.state}: {card.verdict}", *(curve.in_words() if curve else ())]:
        log.info("%s", line)

    # 7. The checkpoint.
    recorder.phase("saving", step=learned.steps)
    metrics = {
        "test": measured, "validation": learned.history, "trained_steps": learned.steps, "train_examples": len(split.train),
        "train_pairs": len(data.preferences), "made_up_pairs": len(data.train_pairs) - len(data.preferences),
        "kept_epoch": learned.kept_epoch, "train_seconds": round(learned.seconds, 1),
        "verdict": {"state": card.state, "words": card.verdict},
    }  # fmt: skip
    seen = data.seen(measured_on_all=learned.folds is not None)
    checkpoint = _save(workspace, run_id, snapshot, config, reward_model, True, metrics, card, seen)
    forget(workspace, run_id, config.resume_from)
    return (
        f"{checkpoint.id}: {card.verdict} {_in_words(measured)} on {measured['examples']} held-out examples, "
        f"{learned.seconds:.0f} s of training.",
        checkpoint.id,
    )


def _measure_head(
    pool: Pool, lessons: Lessons, validation: Lessons, test: Lessons, data: Data, reward_model: RewardModel, config: RewardConfig
) -> Learned:
    """The fitted readout on the test side; with folds, on everything but validation, by readouts that have not seen it. The
    readout that is kept has then seen all of that."""
    count, ordinal, heads = folds_wanted(data, config), config.objective == "ordinal", len(data.scales)
    if not count:
        return Learned(*judged_by(reward_model, test, config.precision))
    kept_out = np.setdiff1d(_groups(pool, lessons, validation), _groups(pool, lessons))
    pool = pool.only(np.setdiff1d(pool.groups, kept_out))
    examples: list[Example] = []
    pairs: list[Pair] = []
    found: list[tuple[Floats, Floats, Floats]] = []
    folds: list[Fold] = []
    for fold in folds_of(pool.groups, count, config.seed):
        rest, held = pool.only(np.setdiff1d(pool.groups, fold)), pool.only(fold)
        held = held.keep(np.ones(len(held.examples), bool), np.array([one.votes > 0 for one in held.pairs], bool))
        if not rest.examples and not rest.pairs:
            continue
        found.append(held.rewards(fit_choosing(rest.facts(), heads, ordinal=ordinal, seed=config.seed, folds=3)))
        learned, _, _ = pool.learn(rest.examples, rest.pairs)
        folds.append(Fold(
            learned, rest.without_made_up().pairs, range(len(examples), len(examples) + len(held.examples)),
            range(len(pairs), len(pairs) + len(held.pairs)),
        ))  # fmt: skip
        examples += held.examples
        pairs += held.pairs
    _put_readout(reward_model, fit_choosing(pool.facts(), heads, ordinal=ordinal, seed=config.seed), data)
    rated, first, second = (np.concatenate([one[k] for one in found]) for k in range(3))
    return Learned(Held(examples, rated), HeldPairs(pairs, first, second), folds)


def _train(
    workspace: Workspace, run_id: str, snapshot: Snapshot, data: Data, lessons: Lessons, validation: Lessons, test: Lessons,
    reward_model: RewardModel, frozen: Frozen, fitted: Fitted | None, config: RewardConfig, recorder: Recorder, crew: Crew,
    build: Callable[[], RewardModel],
) -> Learned:  # fmt: skip
    """Gradient descent on everything that is not frozen, or on adapters."""
    device, network = reward_model.device, reward_model.network
    adapted = add_adapters(network, rank=config.lora_rank, alpha=config.lora_alpha) if config.method == "lora" else None
    if config.gradient_checkpointing:
        network.body.activation_checkpointing_enable({"use_reentrant": False})
    thresholds = None
    if config.objective == "ordinal":
        thresholds = Thresholds(len(data.scales), fitted.thresholds if fitted else None).to(device)
    modules = [network, *([thresholds] if thresholds is not None else [])]
    for module in modules:
        crew.alike(module.parameters())
        crew.shard(module)
    targets = Targets.of(
        lessons, data.scales, weights_of(lessons.examples, config), pair_weights_of(lessons.pairs, config), device
    )  # fmt: skip
    micro = config.micro_batch_tokens or MICRO_BATCH_TOKENS["reward"][device.type]
    lengths = lessons.lengths

    # The optimiser and its schedule.
    steps_per_epoch = math.ceil(len(lessons.units) / config.batch_size)
    total = min(config.epochs * steps_per_epoch, config.max_steps or config.epochs * steps_per_epoch)
    optimiser = torch.optim.AdamW(_parameter_groups(modules, config.weight_decay), lr=config.learning_rate, fused=True)
    warmup = max(1, round(config.warmup_fraction * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warmup, (total - step) / max(1, total - warmup))
    )

    def learn_from(batch: Sequence[int]) -> float:
        """Gradients of the batch's mean loss, read in parts of a few tokens. Returns that loss."""
        weight = weight_in(rows_of(lessons, batch)[1], targets)
        loss = 0.0
        sizes = {k: lessons.tokens(k) for k in batch}
        at_once = crew.at_once(micro, len(batch) * max(sizes.values()))
        for part, counts in crew.even_share(list(by_tokens(sorted(batch, key=sizes.__getitem__), sizes, at_once))):
            texts, rows = rows_of(lessons, part)
            with autocast(device, config.precision), frozen.recalling(texts, device):
                outputs = reward_model.forward([lessons.encoded[k] for k in texts])
            mine = total_loss(outputs, rows.placed(device), targets, None if thresholds is None else thresholds()) / weight
            if not torch.isfinite(mine):
                lower = f"Lower learning_rate (now {config.learning_rate:g}), or set precision to fp32."
                raise RlhfError(f"The loss became {mine.item()} at step {step + 1}. {lower if step else NO_NUMBERS}")
            (mine if counts else mine * 0).backward()
            loss += mine.item() if counts else 0.0
        crew.sum_gradients(one for module in modules for one in module.parameters())
        return crew.sum(loss, device)

    # Where to begin: at the beginning, or where another run stood.
    set_seed(config.seed + crew.rank)
    network.train()
    frozen.settle()
    best = _Best(modules, config.select_by)
    state = SavedState(workspace.run_folder(run_id), modules, optimiser, schedule, crew)
    epoch, skipped, step, trained_s = 1, 0, 0, 0.0
    history: list[dict[str, Any]] = []
    stood = stands_in(workspace, run_id, config.resume_from)
    if stood is not None:
        place = state.load(stood)
        epoch, skipped, step, trained_s = (place[name] for name in ("epoch", "batches", "step", "seconds"))
        history = place["history"]
        best.put(place["best"])
        recorder.go_on_from(stood, step)
        log.info("going on from step %d of run %s", step, stood.name)
    if crew.size > 1:
        log.info("%d processes share each batch%s", crew.size, ", and the weights" if crew.sharded else "")
    recorder.phase("training", step=step, total=total)

    def stand(epoch: int, batches: int) -> dict[str, Any]:
        return {
            "epoch": epoch, "batches": batches, "step": step, "seconds": trained_s, "history": history, "best": best.taken(),
        }  # fmt: skip

    def ended_early() -> bool:
        return crew.any(config.patience is not None and best.epochs_since >= config.patience, device)

    # The loop.
    watch, alarmed = LossWatch(), False
    while epoch <= config.epochs and step < total and not ended_early():
        begun, seen, before_s = time.monotonic(), 0, trained_s
        batches = length_grouped(lengths, config.batch_size, random.Random(f"{config.seed}:{epoch}"))
        done = skipped
        stopping = False
        for batch in batches[skipped:]:
            stopping = crew.any(recorder.should_stop, device)
            if stopping or step == total:
                break
            loss = learn_from(batch)
            clip_gradients((one for module in modules for one in module.parameters()), 1.0)
            rate = schedule.get_last_lr()[0]
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            step, seen, done = step + 1, seen + len(batch), done + 1
            trained_s = before_s + time.monotonic() - begun
            recorder.step(
                step, epoch=epoch, loss=loss, learning_rate=rate, examples_per_s=round(seen / (time.monotonic() - begun), 3)
            )  # fmt: skip
            words = None if alarmed else watch.see(loss)
            if words is not None:
                alarmed = True
                log.warning("ALARM: %s", words)
                recorder.metrics(split="alarm", step=step, name="loss", words=words)
                if config.pause_on_alarm:
                    recorder.ask_to_pause(words)
            state.save(stand(epoch, done), at_most_every_s=EVERY_S)
        skipped = 0
        if stopping and step == 0:
            raise Cancelled.after(0, total, None)
        if stopping:
            recorder.phase("saving", step=step)
            state.save(stand(epoch, done))
            adapted, thresholds = _in_one_place(crew, reward_model, adapted, thresholds, build, config)
            if not crew.first:
                raise Cancelled("Stopped with the first process.")
            _finish_weights(reward_model, adapted, thresholds, data)
            checkpoint = _save(
                workspace, run_id, snapshot, config, reward_model, step == total, {"trained_steps": step}, None, data.seen()
            )
            raise Cancelled.after(step, total, checkpoint.id, run_id=run_id)
        if validation.units and (crew.first or crew.sharded):
            recorder.phase(f"validating after epoch {epoch}", step=step)
            reward_model.scales = _scales(data, thresholds)
            held, pairs = judged_by(reward_model, validation, config.precision)
            held = held.only([not one.aspect for one in held.examples])
            measured = measure(held.examples, held.rewards.tolist(), guess=data.scales[0].mean) | {"accuracy": pairs.accuracy}
            measured = crew.from_first(measured) if crew.sharded else measured
            history.append({"epoch": epoch} | measured)
            recorder.metrics(split="validation", step=step, **history[-1])
            log.info("epoch %d: %s", epoch, _in_words(history[-1]))
            best.see(history[-1])
        epoch += 1
        state.save(stand(epoch, 0))  # after the last one too: what fails from here on costs no training
        recorder.phase("training", step=step)
    if ended_early():
        log.info("no better epoch for %d: stopping early", config.patience)
    kept = best.restore() if crew.first or crew.sharded else None
    adapted, thresholds = _in_one_place(crew, reward_model, adapted, thresholds, build, config)
    if not crew.first:
        return Learned(Held([], np.empty(0)), HeldPairs([], np.empty(0), np.empty(0)))
    if kept is not None:
        log.info("the weights of epoch %d are kept, the best in %s", kept, config.select_by)
    _finish_weights(reward_model, adapted, thresholds, data)
    return Learned(
        *judged_by(reward_model, test, config.precision), steps=step, seconds=trained_s, kept_epoch=kept, history=history
    )  # fmt: skip


class _Best:
    """The weights of the best epoch so far."""

    def __init__(self, modules: Sequence[torch.nn.Module], by: str) -> None:
        self._modules, self._by = modules, by
        self._value: tuple[float, ...] | None = None
        self._epoch: int | None = None
        self._weights: list[dict[str, Tensor]] = []
        self.epochs_since = 0

    def see(self, measured: dict[str, Any]) -> None:
        """Note an epoch's measures; keep its weights if no epoch was better."""
        value = _selection(measured, self._by)
        if value is None:
            return
        if self._value is not None and value <= self._value:
            self.epochs_since += 1
            return
        self._value, self._epoch, self.epochs_since = value, measured["epoch"], 0
        if self._by != "last":
            self._weights = [learning(module) for module in self._modules]

    def restore(self) -> int | None:
        """Put the best epoch's weights back. Returns which epoch that was, None where none was measured."""
        if not self._weights:
            return None
        for module, weights in zip(self._modules, self._weights, strict=True):
            put_back(module, weights)
        return self._epoch

    def taken(self) -> dict[str, Any]:
        """For :meth:`put`."""
        return {"value": self._value, "epoch": self._epoch, "weights": self._weights, "since": self.epochs_since}

    def put(self, taken: dict[str, Any]) -> None:
        """Go on from there."""
        self._value, self._epoch = taken["value"], taken["epoch"]
        self._weights, self.epochs_since = taken["weights"], taken["since"]


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


def _learn(config: RewardConfig) -> Callable[[list[Example], list[Pair]], tuple[list[Example], list[float], list[float]]]:
    """What is to be learned of some of the examples: see :data:`rlhf_core.learn.readouts.Learn`."""

    def learn(examples: list[Example], pairs: list[Pair]) -> tuple[list[Example], list[float], list[float]]:
        learned = learnable(examples, leniency=config.leniency, thumbs_weight=config.thumbs_weight)
        return learned, weights_of(learned, config), pair_weights_of(pairs, config)

    return learn


def _told_now_and_then(recorder: Recorder) -> Callable[[int, int], None]:
    told = time.monotonic()

    def on_read(done: int, of: int) -> None:
        nonlocal told
        if time.monotonic() - told >= 3:
            told = time.monotonic()
            recorder.phase(f"reading every text once: {done:,} of {of:,}")

    return on_read


def _remember(
    frozen: Frozen, reward_model: RewardModel, lessons: Lessons, config: RewardConfig,
    on_read: Callable[[int, int], None] | None = None,
) -> Floats:  # fmt: skip
    """Read every lesson once: keep what frozen layers give, and return what the readout sees, ``(N, F)``."""
    network = reward_model.network
    network.eval()
    found: dict[int, Floats] = {}

    def forward(some: Sequence[Any]) -> None:
        with autocast(reward_model.device, config.precision):
            inputs = reward_model.inputs(some)
            seen = network.features(*inputs) if isinstance(network, SpanNetwork) else network(*inputs)
        ends = np.cumsum([len(one.spans) for one in some])[:-1]
        found.update(zip(map(id, some), np.split(seen.float().cpu().numpy(), ends), strict=True))

    stored = frozen.remember(lessons.encoded, forward, network.config.hidden_size)
    if frozen.count:
        log.info("%d layers are frozen; what they give is %s", frozen.count, "computed once" if stored else "computed each time")
    if stored:
        return np.concatenate([found[id(one)] for one in lessons.encoded])
    if isinstance(network, SpanNetwork):
        return reward_model.features(lessons.encoded, config.precision, on_read)
    return np.empty((0, 0))


def _groups(pool: Pool, *parts: Lessons) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The queries of the pool's first parts."""
    rated = sum(len(unit.rated) for part in parts for unit in part.units)
    pairs = sum(len(part.pairs) for part in parts)
    return np.unique(np.concatenate([pool.rated_groups[:rated], pool.pair_groups[:pairs]]))


def _put_readout(reward_model: RewardModel, fitted: Fitted, data: Data) -> None:
    assert isinstance(reward_model.network, SpanNetwork)
    with torch.no_grad():
        reward_model.network.readout.weight.copy_(fitted.weight)
        reward_model.network.readout.bias.copy_(fitted.bias)
    reward_model.scales = fitted.scales(data.scales)
    log.info("the readout was fitted with a penalty of %.3g", fitted.l2)


def _scales(data: Data, thresholds: Thresholds | None) -> list[Any]:
    if thresholds is None:
        return data.scales
    return [replace(one, thresholds=tuple(mine)) for one, mine in zip(data.scales, thresholds().tolist(), strict=True)]


def _in_one_place(
    crew: Crew, reward_model: RewardModel, adapted: Any, thresholds: Thresholds | None, build: Callable[[], RewardModel],
    config: RewardConfig,
) -> tuple[Any, Thresholds | None]:  # fmt: skip
    """Where processes share the weights: the first one gets all of them in a network of its own, for testing and saving. Returns
    its adapters and thresholds."""
    if not crew.sharded:
        return adapted, thresholds
    weights = crew.whole_weights(reward_model.network)
    of_thresholds = None if thresholds is None else crew.whole_weights(thresholds)
    if not crew.first:
        return adapted, thresholds
    network = build().network
    adapted = add_adapters(network, rank=config.lora_rank, alpha=config.lora_alpha) if config.method == "lora" else None
    network.load_state_dict(weights)
    reward_model.network = network.to(reward_model.device)
    if of_thresholds is not None:
        thresholds = Thresholds(len(reward_model.scales)).to(reward_model.device)
        thresholds.load_state_dict(of_thresholds)
    return adapted, thresholds


def _finish_weights(reward_model: RewardModel, adapted: Any, thresholds: Thresholds | None, data: Data) -> None:
    """Adapters into the weights, thresholds into the scales."""
    if adapted is not None:
        merge_adapters(reward_model.network, adapted)
    reward_model.scales = _scales(data, thresholds)


def _parameter_groups(modules: Sequence[torch.nn.Module], weight_decay: float) -> list[dict[str, Any]]:
    learning_ones = [one for module in modules for one in module.parameters() if one.requires_grad]
    decayed, others = [one for one in learning_ones if one.ndim >= 2], [one for one in learning_ones if one.ndim < 2]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _check_stop(recorder: Recorder) -> None:
    if recorder.should_stop:
        raise Cancelled.after(0, 0, None)


def _save(
    workspace: Workspace, run_id: str, snapshot: Snapshot, config: RewardConfig, reward_model: RewardModel,
    complete: bool, metrics: dict[str, Any], card: ReportCard | None, seen: Sequence[str],
) -> Checkpoint:  # fmt: skip
    with new_checkpoint(workspace, "reward", run_id, snapshot.id, config, complete=complete, metrics=metrics) as making:
        reward_model.save(making.folder)
        making.scoring = reward_model.scoring
        write_json(making.folder / SEEN_FILE, {"queries": [*seen]})
        if card is not None:
            write_json(making.folder / CARD_FILE, card.model_dump())
            (making.folder / "README.md").write_text(model_card(card, config, snapshot.id), encoding="utf-8")
    return making.checkpoint


def _in_words(measured: dict[str, Any]) -> str:
    show = lambda name: "none" if measured[name] is None else f"{measured[name]:.3f}"  # noqa: E731  # a local shorthand
    pairs, count = "", measured.get("pairs", 0)
    if measured["accuracy"] is not None:
        pairs = f", {measured['accuracy']:.0%} of {f'{count} ' if count else ''}pairs right"
    if 0 < count < FEWEST_PAIRS:
        pairs = f", {count} pairs are too few to tell"
    return (
        f"step AUC {show('step_auc')}, answer AUC {show('answer_auc')}, "
        f"error {show('rmse')} stars (guessing {show('rmse_of_mean')}){pairs}"
    )
