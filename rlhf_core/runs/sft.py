"""Teach a policy the answers that people rated well: ``python -m rlhf_core train sft --base-model NAME``.

PPO then begins with something to improve. TRL's SFTTrainer does the learning; only answers' tokens count, not prompts'.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from transformers import set_seed
from transformers.utils import logging as transformers_logging

from rlhf_core.analytics.snapshot import Snapshot, open_snapshot
from rlhf_core.checkpoints.base_models import locate
from rlhf_core.ground.configs import TINY, SFTConfig
from rlhf_core.ground.errors import NotEnoughData, RlhfError
from rlhf_core.ground.settings import Workspace
from rlhf_core.ground.text import before_answer
from rlhf_core.learn.adapters import adapted, merged_weights
from rlhf_core.learn.examples import build_examples
from rlhf_core.learn.reward_model import in_bf16, pick_device
from rlhf_core.learn.tiny_policy import tiny_policy
from rlhf_core.learn.writing import load_policy, prompt_of, reply_of
from rlhf_core.runs.recording import Cancelled, Recorder, log
from rlhf_core.runs.saving import new_checkpoint
from rlhf_core.runs.trl_trainers import Watch, carry_out, options


def train_sft(
    workspace: Workspace, run_id: str, snapshot_id: str, config: SFTConfig, recorder: Recorder
) -> tuple[str, str]:  # fmt: skip
    """Run the whole of it. Returns (what came of it in words, checkpoint id).

    Raises:
        NotEnoughData: no answer was rated well enough.
        ModelUnavailable, CorruptArtifact, StorageFull: said in the ledger as they are.
        Cancelled: a checkpoint was saved if a step had been done.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()

    # 1. The answers.
    recorder.phase("reading the snapshot")
    snapshot = open_snapshot(workspace.snapshots, snapshot_id, verify=True)
    answers = good_answers(snapshot, config)

    # 2. The policy.
    recorder.phase("loading the policy")
    set_seed(config.seed)
    device = pick_device(config.device)
    if config.base_model == TINY:
        model, tokenizer = tiny_policy([f"{before_answer(query)}{answer}" for query, answer in answers], config.seed)
    else:
        model, tokenizer = load_policy(locate(config.base_model, workspace.checkpoints, verify=True))
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or config.max_length
    longest = min(config.max_length, context)
    rows = [_row(query, answer, tokenizer) for query, answer in answers]
    fitting = [one for one in rows if len(tokenizer(one["prompt"] + one["completion"]).input_ids) < longest]
    if len(fitting) < len(rows):
        log.warning(
            "mind: %d of %d answers are longer than %d tokens and are left out", len(rows) - len(fitting), len(rows), longest
        )
    if not fitting:
        raise NotEnoughData(
            f"All {len(rows)} answers are longer than {longest} tokens. Raise max_length, or take another policy."
        )
    log.info("%d answers to learn, on %s", len(fitting), device)
    if config.method == "lora":
        model = adapted(model, rank=config.lora_rank, alpha=config.lora_alpha, task="CAUSAL_LM")

    # 3. The learning.
    with tempfile.TemporaryDirectory(dir=workspace.run_folder(run_id)) as scratch:
        done, total, losses, seconds = _learn(model, tokenizer, fitting, config, recorder, Path(scratch), device.type, longest)
    stopped = recorder.should_stop and done < total
    if stopped and done == 0:
        raise Cancelled.after(0, total, None)

    # 4. The checkpoint: a plain folder of transformers.
    recorder.phase("saving", step=done)
    metrics = {
        "trained_steps": done,
        "answers": len(fitting),
        "seconds": round(seconds, 1),
        "loss": losses[-1] if losses else None,
    }
    with new_checkpoint(workspace, "policy", run_id, snapshot.id, config, complete=not stopped, metrics=metrics) as making:
        plain = model.get_base_model() if config.method == "lora" else model
        plain.save_pretrained(making.folder, **({"state_dict": merged_weights(model)} if config.method == "lora" else {}))
        tokenizer.save_pretrained(making.folder)
        (making.folder / "README.md").write_text(_card(config, snapshot.id, len(fitting)), encoding="utf-8")
    checkpoint = making.checkpoint
    if stopped:
        raise Cancelled.after(done, total, checkpoint.id)
    loss = f", loss {losses[0]:.2f} to {losses[-1]:.2f} nats a token" if losses else ""
    return f"{checkpoint.id}: {len(fitting)} answers learned in {seconds:.0f} s{loss}.", checkpoint.id


def good_answers(snapshot: Snapshot, config: SFTConfig) -> list[tuple[str, str]]:
    """``(query, answer)`` of chats whose whole answer, or else whose steps, have the mean score that is asked for.

    Raises:
        NotEnoughData: there are none.
    """
    chats, steps = snapshot.table("chats"), snapshot.table("reasoning_steps")
    examples = build_examples(chats, steps, snapshot.table("chat_feedback"), "both", snapshot.table("decisions"), None)
    whole = {one.chat_id: one.score for one in examples if not one.is_step}
    of_steps: dict[str, list[float]] = {}
    for one in examples:
        if one.is_step:
            of_steps.setdefault(one.chat_id, []).append(one.score)
    found: dict[tuple[str, str], None] = {}
    for chat_id, query, response in zip(*(chats[name].to_pylist() for name in ("id", "query", "response")), strict=True):
        scores = of_steps.get(chat_id, [])
        score = whole.get(chat_id, sum(scores) / len(scores) if scores else None)
        good = config.unrated if score is None else score >= config.min_score
        if good and (query or "").strip() and (response or "").strip():
            found[query, response] = None
    if not found:
        raise NotEnoughData(
            f"Snapshot {snapshot.id} has no answer with {config.min_score:g} stars or more. Lower min_score, rate more answers, "
            "or set unrated to learn those that nobody rated."
        )
    return list(found)


def _row(query: str, answer: str, tokenizer: Any) -> dict[str, str]:
    """Prompt and completion as a policy is asked and answers in PPO."""
    return {"prompt": prompt_of(query, tokenizer), "completion": reply_of(answer, tokenizer) + tokenizer.eos_token}


def _learn(
    model: Any, tokenizer: Any, rows: list[dict[str, str]], config: SFTConfig, recorder: Recorder, scratch: Path, device: str,
    longest: int,
) -> tuple[int, int, list[float], float]:  # fmt: skip
    """Steps done, of how many, the losses that were seen, and seconds."""
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig as TrlConfig
    from trl.trainer.sft_trainer import SFTTrainer

    losses: list[float] = []

    def measured(logs: dict[str, Any]) -> dict[str, Any]:
        losses.append(float(logs["loss"]))
        return {
            "epoch": round(float(logs["epoch"]), 3), "loss": losses[-1], "learning_rate": float(logs["learning_rate"]),
            "accuracy": logs.get("mean_token_accuracy"),
        }  # fmt: skip

    bf16 = in_bf16(pick_device(config.device), config.precision)
    arguments = TrlConfig(
        **options(scratch, config.seed, device, bf16=bf16, checkpointing=config.gradient_checkpointing),
        per_device_train_batch_size=config.batch_size, num_train_epochs=config.passes, learning_rate=config.rate,
        warmup_steps=0.05, data_seed=config.seed, max_length=longest, completion_only_loss=True, packing=False,
        train_sampling_strategy="group_by_length", eos_token=tokenizer.eos_token,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        callbacks=[Watch(recorder, measured)],
    )  # fmt: skip
    begun = time.monotonic()
    done = carry_out(trainer)
    if losses and losses[-1] != losses[-1]:
        raise RlhfError(f"The loss became {losses[-1]}. Lower learning_rate (now {config.rate:g}).")
    return done, int(trainer.state.max_steps), losses, time.monotonic() - begun


def _card(config: SFTConfig, snapshot_id: str, answers: int) -> str:
    base = "a new tiny model" if config.base_model == TINY else f"`{config.base_model}`"
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation", "tags: [policy, sft]"]
    lines += [] if config.base_model == TINY else [f"base_model: {config.base_model}"]
    lines += [
        "---",
        "",
        "# Policy",
        "",
        f"{base[0].upper()}{base[1:]}, taught {answers:,} answers of snapshot `{snapshot_id}` that people",
    ]
    lines += [f"gave {config.min_score:g} stars or more on average{' or did not rate' if config.unrated else ''}."]
    lines += ["", "Answers follow the tokenizer's chat template, or `User: ...` and `Assistant:` where it has none."]
    return "\n".join(lines) + "\n"
