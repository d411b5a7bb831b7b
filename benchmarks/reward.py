"""Training and scoring reward models beside the plain way. One thread, CPU time, side by side in one run.

    .venv/bin/python benchmarks/reward.py [--data FILE] [--examples 120] [--epochs 3] [--texts 200] [--many 100000]

1. Training: this project's run (its own code, from the snapshot to the last step) beside the plain loop: tokenise each batch,
   random order, fp32, padded to the longest of the batch, all layers learn. Same snapshot, split, base (MiniLM), epochs, batch
   size, learning rate and schedule. ``train_cpu_ratio`` is plain over ours; ``auc_delta`` is ours less plain, of liked against
   disliked held-out texts.
2. Scoring ``--texts`` texts beside one by one in fp32; ``score_rank_corr`` is Spearman's between the two.
3. Scoring every step of an answer in one pass beside one prefix after another (``steps_ratio``), by a model trained to read so. The
   demonstration's answers have three steps or so; theirs are joined to seven, the median of ProcessBench's answers.
4. Memory over ``--many`` short texts streamed through a toy encoder: growth after the first tenth, in MB.

Without ``--data`` the demonstration set is used; a file is imported as chats with ratings. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from scipy.stats import spearmanr
from transformers.utils import logging as transformers_logging

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.settings import Workspace
from rlhf_core.learn.examples import mean_and_std
from rlhf_core.learn.measures import liked_auc
from rlhf_core.learn.networks import ClassNetwork, SpanNetwork
from rlhf_core.learn.reading import whole_answer
from rlhf_core.learn.reward_model import RewardModel
from rlhf_core.learn.scales import StarScale
from rlhf_core.runs import reward
from rlhf_core.runs.reward_data import read_data
from rlhf_core.services import importing, snapshots
from rlhf_core.services.demo import load_demo
from rlhf_core.services.workbench import Workbench

CPU = torch.device("cpu")


class Clock:
    """Stands in for a run's recorder: notes the CPU time at which each phase began."""

    should_stop = False

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.test: dict[str, Any] = {}

    def phase(self, phase: str, **_: Any) -> None:
        self.began[phase] = time.process_time()

    def step(self, *_: Any, **__: Any) -> None: ...

    def metrics(self, **values: Any) -> None:
        if values.get("split") == "test":
            self.test = values


def ours(workspace: Workspace, snapshot_id: str, config: RewardConfig) -> tuple[float, RewardModel]:
    """CPU seconds from tokenising to the last step, and the model."""
    clock = Clock()
    workspace.run_folder("benchmark").mkdir(parents=True, exist_ok=True)
    _, checkpoint = reward.train_reward(workspace, "benchmark", snapshot_id, config, clock)  # type: ignore[arg-type]
    return clock.began["testing"] - clock.began["tokenising"], RewardModel.open(workspace.checkpoints / checkpoint, device="cpu")


def plain(config: RewardConfig, train: list[Any]) -> tuple[float, RewardModel]:
    """CPU seconds of the plain loop on a classifier of ``transformers``, and the model."""
    base = locate(config.reward_base_model)
    model = RewardModel.from_base(base, max_length=config.max_length, seed=config.seed, device=CPU, readout="class")
    mean, std = mean_and_std([one.target for one in train])
    model.scales = [StarScale("", mean, std)]
    targets = torch.tensor([(one.target - mean) / std for one in train])
    rng = random.Random(config.seed)
    network = classifier(model)
    began = time.process_time()
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    total = config.epochs * math.ceil(len(train) / config.batch_size)
    warmup = max(1, round(config.warmup_fraction * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warmup, (total - step) / max(1, total - warmup))
    )
    network.train()
    for _ in range(config.epochs):
        order = list(range(len(train)))
        rng.shuffle(order)
        for begin in range(0, len(order), config.batch_size):
            batch = order[begin : begin + config.batch_size]
            texts = [f"User: {train[k].query}\n\nAssistant: {train[k].text}" for k in batch]
            inputs = model.tokenizer(texts, padding=True, truncation=True, max_length=config.max_length, return_tensors="pt")
            loss = torch.nn.functional.mse_loss(network(**inputs).logits.squeeze(-1), targets[batch])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
    network.eval()
    return time.process_time() - began, model


def classifier(model: RewardModel) -> Any:
    assert isinstance(model.network, ClassNetwork)
    return model.network.body


def auc(model: RewardModel, held_out: list[Any]) -> float:
    return liked_auc([one.score for one in held_out], model.score([one.reading for one in held_out])) or math.nan


@torch.inference_mode()
def one_by_one(model: RewardModel, pairs: list[tuple[str, str]]) -> list[float]:
    """Each text alone in fp32, as ``transformers`` would be called by hand."""
    found = []
    for query, text in pairs:
        (encoded,) = model.encode([whole_answer(query, text)])
        output = model.network(*model.inputs([encoded]))[0, 0].item()
        found.append(float(model.scales[0].stars(output)))  # type: ignore[arg-type]
    return found


def of_seven(chats: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """Answers of seven steps, one for each query: its own steps and then those of the next chats."""
    return [
        (query, [step for k in range(len(chats)) for step in chats[(at + k) % len(chats)][1]][:7])
        for at, (query, _) in enumerate(chats)
    ]  # fmt: skip


def timed(work: Any) -> tuple[Any, float]:
    began = time.process_time()
    return work(), time.process_time() - began


def memory_growth(many: int) -> float:
    """MB that the process grew by between the first tenth of the texts and the last."""
    from transformers import BertConfig, BertModel

    base = RewardModel.from_base(locate("minilm-l6"), max_length=64, seed=0, device=CPU)
    toy = BertModel(BertConfig(
        vocab_size=len(base.tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )).eval()  # fmt: skip
    model = RewardModel(SpanNetwork(toy, 1), base.tokenizer, max_length=64, device=CPU)

    def texts() -> Iterator[tuple[str, str]]:
        rng = random.Random(0)
        for k in range(many):
            yield f"question {k}", "word " * rng.randrange(1, 20)

    first = 0.0
    for k, _ in enumerate(model.iter_rewards(texts())):
        if k == many // 10:
            first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--examples", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--freeze-layers", type=int, default=4)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--many", type=int, default=100_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        workbench = Workbench(Workspace.resolve(Path(scratch) / "workspace"))
        if arguments.data:
            importing.import_file(workbench, arguments.data)
        else:
            load_demo(workbench)
        snapshot, _ = snapshots.take(workbench)
        config = RewardConfig(
            reward_base_model="minilm-l6", epochs=arguments.epochs, max_examples=arguments.examples, max_length=256,
            learning_rate=5e-5, validation_fraction=0.0, test_fraction=0.4, max_eval_examples=400, preference_weight=0.0,
            freeze_layers=arguments.freeze_layers, device="cpu", aspect_weight=0.0, learning_curve=False,
            step_reading="one_pass", guard_weight=0.0,
        )  # fmt: skip
        split = read_data(snapshot, config).rated
        our_s, model = ours(workbench.workspace, snapshot.id, config)
        plain_s, other = plain(config, split.train)
        our_auc, plain_auc = auc(model, split.test), auc(other, split.test)
        print(f"training {len(split.train)} examples, {config.epochs} epochs: {our_s:.1f} s, AUC {our_auc:.3f}; plain {plain_s:.1f} s, "
              f"AUC {plain_auc:.3f}; {len(split.test)} held out", flush=True)  # fmt: skip
        everything = [(one.query, one.text) for one in [*split.train, *split.test]]
        texts = (everything * (arguments.texts // len(everything) + 1))[: arguments.texts]
        alone, alone_s = timed(lambda: one_by_one(model, texts))
        together, together_s = timed(lambda: model.compute_batch_rewards(texts))
        rank = float(spearmanr(alone, together).statistic)
        print(
            f"scoring {len(texts)} texts: {together_s:.1f} s; one by one {alone_s:.1f} s; rank correlation {rank:.5f}", flush=True
        )
        chats = [workbench.store.chat(one.id) for one in workbench.store.search_chats(limit=30)]
        steps = [(chat.query, [step.step_content for step in chat.steps]) for chat in chats if len(chat.steps) > 1]
        if not arguments.data:
            steps = of_seven(steps)
        _, steps_s = timed(lambda: [model.score_steps(query, some) for query, some in steps])
        prefixes = [(query, "\n\n".join(some[: k + 1])) for query, some in steps for k in range(len(some))]
        _, prefixes_s = timed(lambda: one_by_one(model, prefixes))
        print(f"steps of {len(steps)} answers: {steps_s:.1f} s; prefix by prefix {prefixes_s:.1f} s", flush=True)
        workbench.close()
    growth = memory_growth(arguments.many)
    print(json.dumps({
        "train_cpu_ratio": round(plain_s / our_s, 2), "auc_delta": round(our_auc - plain_auc, 4),
        "score_ratio": round(alone_s / together_s, 2), "score_rank_corr": round(rank, 5), "steps_ratio": round(prefixes_s / steps_s, 2),
        "auc": round(our_auc, 4), "plain_auc": round(plain_auc, 4), "memory_growth_mb": round(growth, 1), "many": arguments.many,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
