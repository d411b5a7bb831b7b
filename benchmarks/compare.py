"""Checkpoints over a set of answers, as the page, the API and the command line score them, beside the plain way. The last line is JSON.

    .venv/bin/python benchmarks/compare.py --data FILE [--texts FILE] [--answers 1000] [--steps 6] [--typed 15]

Two reward models are trained from FILE (answers with rated steps, any format that imports read) the way a machine without a GPU
does by default: readouts over a frozen MiniLM. Then, through the warm scoring process, over answers of --data or of --texts (JSON
lines with query, response, steps):

1. ``bulk_ratio``: every answer and every step of ``--answers`` answers by both, beside reading prefix after prefix one at a time in
   fp32, once a checkpoint; wall time. ``rank_corr``: Spearman's between the two, of all rewards. ``bulk_ratio_causal``: the same of a
   tenth of the answers by two untrained causal models of that size, which share no body, and read every beginning of an answer with it.
2. ``typed_ratio``: a chat that was typed, by three warm models (the two, and an untrained one), from the request to the rewards,
   over the bare forward passes of the three over the same token ids in batches; median of ``--typed``.
3. ``cached_ratio``: the set again, from the cache: first time over second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RLHF_STORE"] = "sqlite"

import torch
from scipy.stats import spearmanr
from tokenizers import processors
from transformers import AutoModel, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.ground.answers import Answer, AnswerScore
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.settings import Workspace
from rlhf_core.inference.client import ModelRef
from rlhf_core.learn.reading import step_readings, whole_answer
from rlhf_core.learn.reward_model import RewardModel
from rlhf_core.runs import reward
from rlhf_core.services import importing, scoring, snapshots
from rlhf_core.services.workbench import Workbench

CAUSAL_LENGTH = 2048  # tokens


class NoRecorder:
    should_stop = False

    def phase(self, *_: Any, **__: Any) -> None: ...
    def step(self, *_: Any, **__: Any) -> None: ...
    def metrics(self, **_: Any) -> None: ...


def trained(workbench: Workbench, snapshot_id: str, seed: int) -> str:
    workspace = workbench.workspace
    workspace.run_folder(f"benchmark-{seed}").mkdir(parents=True)
    config = RewardConfig.parse({
        "reward_base_model": "minilm-l6", "method": "head", "seed": seed, "max_examples": 200, "max_eval_examples": 60, "folds": 0,
        "learning_curve": False, "device": "cpu",
    })  # fmt: skip
    _, checkpoint = reward.train_reward(workspace, f"benchmark-{seed}", snapshot_id, config, NoRecorder())  # type: ignore[arg-type]
    return checkpoint


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


@torch.inference_mode()
def prefix_by_prefix(model: RewardModel, answers: list[Answer]) -> list[list[float]]:
    found = []
    for one in answers:
        rewards = []
        for reading in (whole_answer(one.query, one.response), *step_readings(one.query, one.steps, one.response)):
            (encoded,) = model.encode([reading])
            rewards.append(float(model.scales[0].stars(model.network(*model.inputs([encoded]))[0, 0].item())))  # type: ignore[arg-type]
        found.append(rewards)
    return found


@torch.inference_mode()
def bare_passes(models: list[RewardModel], answer: Answer) -> float:
    """Seconds of the forward passes alone: token ids are there already."""
    batches = []
    for model in models:
        readings = [whole_answer(answer.query, answer.response), *step_readings(answer.query, answer.steps, answer.response)]
        batches.append((model, model.inputs(model.encode(readings))))
    return timed(lambda: [model.network(*batch) for model, batch in batches])[1]


def answers_of(workbench: Workbench, texts: Path | None, count: int, steps: int) -> list[Answer]:
    """So many different answers with this many steps on average: those of as many steps, and of one more and one less in turn."""
    by_steps: dict[int, list[Answer]] = {}
    if texts is None:
        chats = [workbench.store.chat(one.id) for one in workbench.store.search_chats(limit=100_000)]
        answers = [Answer(one.query, one.response, tuple(step.step_content for step in one.steps)) for one in chats]
    else:
        lines = map(json.loads, texts.read_text(encoding="utf-8").splitlines())
        answers = [Answer(one["query"], one["response"], tuple(one["steps"])) for one in lines]
    for one in dict.fromkeys(answers):
        by_steps.setdefault(len(one.steps), []).append(one)
    found = by_steps.get(steps, [])[:count]
    for apart in range(1, 50):
        pairs = list(zip(by_steps.get(steps - apart, []), by_steps.get(steps + apart, []), strict=False))
        found += [one for pair in pairs for one in pair][: count - len(found)]
    return found


def causal_base(folder: Path, seed: int) -> Path:
    """An untrained causal model with as many layers and as wide as MiniLM-L6, and its words."""
    bare = AutoTokenizer.from_pretrained(locate("minilm-l6").load_from).backend_tokenizer
    bare.post_processor = processors.Sequence([])  # no token behind a text, as causal models have none
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    AutoModel.from_config(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1024,
        max_position_embeddings=CAUSAL_LENGTH,
    )).save_pretrained(folder)  # fmt: skip
    return folder


def flat(scores: list[AnswerScore]) -> list[float]:
    return [reward for one in scores for reward in (one.whole, *one.steps)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--typed", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        workbench = Workbench(Workspace.resolve(name))
        importing.import_file(workbench, arguments.data)
        snapshot, _ = snapshots.take(workbench)
        checkpoints = [trained(workbench, snapshot.id, seed) for seed in (1, 2)]
        refs = [ModelRef(checkpoint=one) for one in checkpoints]
        models = [RewardModel.open(workbench.workspace.checkpoints / one, device="cpu", precision="fp32") for one in checkpoints]
        answers = answers_of(workbench, arguments.texts, arguments.answers, arguments.steps)
        steps = sum(len(one.steps) for one in answers)
        print(f"{len(answers)} answers with {steps} steps; {', '.join(checkpoints)}", flush=True)
        third = ModelRef(base="minilm-l6")

        warm = Answer("warm", "up")
        scoring.score_answers(workbench, [*refs, third], [warm])
        ours, ours_s = timed(lambda: scoring.score_answers(workbench, refs, answers))
        again, again_s = timed(lambda: scoring.score_answers(workbench, refs, answers))
        assert again == ours
        print(f"both together {ours_s:.1f} s, again {again_s:.3f} s", flush=True)

        typed = []
        models.append(RewardModel.from_base(locate("minilm-l6"), max_length=512, seed=0, device=torch.device("cpu")))
        models[-1].network.eval()
        for k in range(arguments.typed):
            one = answers[k * len(answers) // arguments.typed]
            new = Answer(f"{one.query} (asked again, {k})", one.response, one.steps)
            bare = bare_passes(models, new)
            found, took = timed(lambda new=new: scoring.score_answers(workbench, [*refs, third], [new]))  # type: ignore[misc]
            assert all(isinstance(score, list) for score in found)
            typed.append((took, bare))
        typed_ratio = statistics.median(took / bare for took, bare in typed)
        print(f"a typed chat: {statistics.median(took for took, _ in typed) * 1000:.0f} ms, the bare passes "
              f"{statistics.median(bare for _, bare in typed) * 1000:.0f} ms", flush=True)  # fmt: skip

        plain, plain_s = [], 0.0
        for model in models[:2]:
            given, took = timed(lambda model=model: prefix_by_prefix(model, answers))  # type: ignore[misc]
            plain += [reward for one in given for reward in one]
            plain_s += took
        print(f"prefix by prefix {plain_s:.1f} s", flush=True)

        causal = [causal_base(Path(name) / f"causal-{seed}", seed) for seed in (1, 2)]
        tenth = answers[:: max(1, len(answers) // 100)]
        causal_refs = [ModelRef(base=str(one), max_length=CAUSAL_LENGTH) for one in causal]
        scoring.score_answers(workbench, causal_refs, [warm])
        causal_ours, causal_ours_s = timed(lambda: scoring.score_answers(workbench, causal_refs, tenth))
        causal_plain_s, causal_rank = 0.0, 1.0
        for folder, scores in zip(causal, causal_ours, strict=True):
            model = RewardModel.from_base(locate(str(folder)), max_length=CAUSAL_LENGTH, seed=0, device=torch.device("cpu"))
            model.network.eval()
            given, took = timed(lambda model=model: prefix_by_prefix(model, tenth))  # type: ignore[misc]
            causal_plain_s += took
            causal_rank = min(causal_rank, spearmanr(flat(scores), [one for some in given for one in some]).statistic)  # type: ignore[arg-type]
        print(f"causal: ours {causal_ours_s:.1f} s, prefix by prefix {causal_plain_s:.1f} s, rank {causal_rank:.6f}", flush=True)
        workbench.close()

    mine = [reward for scores in ours for reward in flat(scores)]  # type: ignore[arg-type]
    half = len(mine) // 2
    rank = min(spearmanr(mine[part], plain[part]).statistic for part in (slice(half), slice(half, None)))
    print(json.dumps({
        "bulk_ratio": round(plain_s / ours_s, 2), "bulk_ratio_causal": round(causal_plain_s / causal_ours_s, 2),
        "rank_corr": round(float(rank), 6), "typed_ratio": round(typed_ratio, 2), "cached_ratio": round(ours_s / again_s, 1),
        "answers": len(answers), "steps": steps,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
