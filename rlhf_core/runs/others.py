"""The other optimisers of a policy, by the trainers that TRL keeps: RLOO and GRPO on the same rewards, DPO on preferred pairs.

Same command, prompts, judges, held-out tables and checkpoints as PPO; :mod:`rlhf_core.runs.ppo` hands over to this.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.ground.configs import PPOConfig
from rlhf_core.ground.errors import NotEnoughData, RunRefused
from rlhf_core.learn.pairs import FEWEST_TO_LEARN, Pair, decided_pairs
from rlhf_core.learn.policy import Batch, Policy
from rlhf_core.learn.rewards import Answer, Source, steps_of
from rlhf_core.learn.writing import prompt_of, reply_of
from rlhf_core.runs.recording import Recorder
from rlhf_core.runs.trl_trainers import Watch, carry_out, options

NAMES = {  # TRL's names and ours
    "reward": "reward", "reward_std": "reward_std", "kl": "kl", "entropy": "entropy", "completions/mean_length": "tokens",
    "grad_norm": "gradient", "learning_rate": "learning_rate", "loss": "policy_loss", "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
}  # fmt: skip


def needs_positions(policy: Policy, prompt: Sequence[int], pad_id: int) -> bool:
    """Whether the model reads a row padded on the left otherwise than the row alone, unless it is told positions. TRL's RLOO and
    GRPO do not tell them."""
    batch = Batch.of([[pad_id] * 7 + list(prompt[:-1])], [[prompt[-1]]], pad_id, policy.value_head.weight.device)
    ids, attention = batch.ids, batch.attention.clone()
    attention[:, :7] = 0
    with torch.no_grad():
        padded = policy.model(input_ids=ids, attention_mask=attention).logits[0, -1]
        alone = policy.model(input_ids=ids[:, 7:]).logits[0, -1]
    return bool((torch.log_softmax(padded.float(), -1) - torch.log_softmax(alone.float(), -1)).abs().max() > 1e-2)


def optimise(
    policy: Policy, tokenizer: Any, queries: Sequence[str], source: Source, snapshot: Snapshot | None, config: PPOConfig,
    encode: Callable[[str], list[int]], recorder: Recorder, folder: Path, *, bf16: bool, device: str,
    look: Callable[[int], None],
) -> int:  # fmt: skip
    """Train the policy's model in place. Returns the steps done; fewer than asked for where the run was told to stop.

    Args:
        policy: Its model learns; its reference and value head are not used.
        tokenizer: Its own.
        queries: To answer (RLOO, GRPO).
        source: Judges answers (RLOO, GRPO).
        snapshot: Of preferred pairs (DPO).
        config: Options.
        encode: A query's prompt, to see whether the model can be trained so.
        recorder: Is told of each step.
        folder: Of the run; TRL's own files go into a scratch folder there.
        bf16: Compute in it.
        device: cpu or cuda.
        look: Called after every ``evaluate_every`` steps.

    Raises:
        RunRefused: RLOO or GRPO on a model that has to be told positions.
        NotEnoughData: DPO without preferred pairs.
    """
    from datasets import Dataset

    def after_step(step: int) -> None:
        if step % config.evaluate_every == 0 and step < config.ppo_steps:
            policy.eval()
            look(step)
            recorder.phase("learning", step=step)
            policy.model.train()

    def measured(logs: dict[str, Any]) -> dict[str, Any]:
        return {ours: float(logs[theirs]) for theirs, ours in NAMES.items() if theirs in logs}

    watch = Watch(recorder, measured, after_step)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        shared = options(Path(scratch), config.seed, device, bf16=bf16, checkpointing=config.gradient_checkpointing) | {
            "learning_rate": config.ppo_learning_rate, "max_steps": config.ppo_steps, "max_grad_norm": config.max_gradient,
        }  # fmt: skip
        named = {"processing_class": tokenizer, "callbacks": [watch]}
        if config.optimiser == "dpo":
            rows = [_pair_row(one, tokenizer) for one in pairs_of(snapshot)]
            trainer = _dpo(policy.model, Dataset.from_list(rows), config, shared, named)
        else:
            if needs_positions(policy, encode(queries[0]), tokenizer.pad_token_id or tokenizer.eos_token_id):
                raise RunRefused(
                    f"{config.base_model} learned absolute positions, and TRL's {config.optimiser.upper()} does not tell it "
                    "where rows padded on the left begin: its log-probabilities would be wrong. Use optimiser ppo or dpo, or a "
                    "policy with rotary positions."
                )
            rows = [{"prompt": prompt_of(query, tokenizer), "query": query} for query in queries]
            trainer = _online(policy.model, Dataset.from_list(rows), config, shared, named, source)
        done = carry_out(trainer)
    policy.eval()
    return done


def pairs_of(snapshot: Snapshot | None) -> list[Pair]:
    """Decided pairs of whole answers.

    Raises:
        NotEnoughData: too few.
    """
    decided = decided_pairs(snapshot) if snapshot is not None else []
    if len(decided) < FEWEST_TO_LEARN:
        name = snapshot.id if snapshot else "none"
        raise NotEnoughData(
            f"optimiser dpo learns from preferred pairs; snapshot {name} has {len(decided)} and it takes "
            f"{FEWEST_TO_LEARN}. Choose between more answers on the page Prefer, or use optimiser ppo."
        )
    return decided


def _pair_row(one: Pair, tokenizer: Any) -> dict[str, str]:
    first, second = (one.first, one.second) if one.chance > 0.5 else (one.second, one.first)
    return {
        "prompt": prompt_of(one.query, tokenizer), "chosen": reply_of(first, tokenizer), "rejected": reply_of(second, tokenizer)
    }  # fmt: skip


def _dpo(model: Any, rows: Any, config: PPOConfig, shared: dict[str, Any], named: dict[str, Any]) -> Any:
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    arguments = DPOConfig(
        **shared, per_device_train_batch_size=config.batch_size, beta=config.dpo_beta,
        max_length=config.max_prompt_tokens + config.max_response_tokens,
    )  # fmt: skip
    return DPOTrainer(model=model, args=arguments, train_dataset=rows, **named)


def _online(
    model: Any, rows: Any, config: PPOConfig, shared: dict[str, Any], named: dict[str, Any], source: Source
) -> Any:  # fmt: skip
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.rloo_config import RLOOConfig
    from trl.trainer.rloo_trainer import RLOOTrainer

    def reward(completions: list[str], query: list[str], **_: Any) -> list[float | None]:
        """Of whole answers: their own, or the mean of their steps'."""
        answers = []
        for text, asked in zip(completions, query, strict=True):
            plain = text.strip()
            split = steps_of(plain, config.step_unit) if config.reward_on == "steps" and plain else (plain, [])
            answers.append(Answer(asked, split[0], tuple(split[1])))
        return [sum(some) / len(some) for some in source(answers)]

    options = shared | {
        "per_device_train_batch_size": config.batch_size * config.generations, "num_generations": config.generations,
        "max_completion_length": config.max_response_tokens, "temperature": config.temperature, "beta": config.kl_coefficient,
    }  # fmt: skip
    if config.optimiser == "grpo":
        return GRPOTrainer(model=model, reward_funcs=reward, args=GRPOConfig(**options), train_dataset=rows, **named)
    return RLOOTrainer(model=model, reward_funcs=reward, args=RLOOConfig(**options), train_dataset=rows, **named)
