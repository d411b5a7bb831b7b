"""A policy's model card: README.md beside its weights, as model hubs show it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlhf_core.ground.configs import PPOConfig


def policy_card(config: PPOConfig, snapshot_id: str, metrics: dict[str, Any]) -> str:
    """The whole of it.

    Args:
        config: How it was trained.
        snapshot_id: Where its prompts come from; empty for the built-in examples.
        metrics: What the manifest keeps: tables of held-out answers before and now, alarms, reward checkpoints.
    """
    return "\n".join(_lines(config, snapshot_id, metrics)) + "\n"


def _lines(config: PPOConfig, snapshot_id: str, metrics: dict[str, Any]) -> Iterator[str]:
    yield from ("---", "library_name: transformers", "pipeline_tag: text-generation", "tags: [policy, rlhf, ppo]")
    yield from (f"base_model: {config.base_model}", "---", "", "# Policy", "")
    source = f"queries of snapshot `{snapshot_id}`" if snapshot_id else "five built-in example questions"
    unit = "each reasoning step" if config.reward_on == "steps" else "whole answers"
    yield f"{metrics['trained_steps']} steps of {config.optimiser.upper()} from `{config.base_model}`, on {source},"
    yield f"by rewards of {unit} from `{config.reward}`."
    for why in metrics["ungated_reward"]:
        yield from ("", f"**Its reward model was refused by its report card and used all the same.** {why}")
    for alarm in metrics["alarms"]:
        yield from ("", f"**Alarm during training:** {alarm}.")
    before, now = metrics["before"], metrics["held_out"]
    if before and now:
        yield from ("", f"On {now['prompts']} held-out prompts:", "", "| measure | before | now |", "| --- | --- | --- |")
        for name, title in (
            ("reward", "reward"), ("judge", "reward of the judge that it did not learn from"), ("kl", "nats from the reference"),
            ("tokens", "tokens of an answer"), ("ended", "answers that ended by themselves"), ("repetition", "repetition"),
        ):  # fmt: skip
            if before[name] is not None and now[name] is not None:
                yield f"| {title} | {before[name]:.2f} | {now[name]:.2f} |"
    yield from ("", "Answers follow the tokenizer's chat template, or `User: ...` and `Assistant:` where it has none.")
