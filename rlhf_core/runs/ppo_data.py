"""What a policy run begins with: prompts from a snapshot, a causal model with its tokenizer, and what judges its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlhf_core.checkpoints.registry import open_trusted
from rlhf_core.ground.cards import Kind
from rlhf_core.ground.configs import PPOConfig, parse_sources
from rlhf_core.ground.errors import InvalidInput, ModelRefused
from rlhf_core.learn.reward_model import RewardModel
from rlhf_core.learn.rewards import CheckpointRewards, FunctionRewards, Source, Weighed
from rlhf_core.learn.writing import prompt_ids


class PromptOrder:
    """Queries without replacement: all of them once in a mixed order, then all of them again in another."""

    def __init__(self, queries: Sequence[str], generator: torch.Generator) -> None:
        self._queries, self._generator = queries, generator
        self._order: list[int] = []
        self._at = 0

    def next(self, count: int) -> list[str]:
        """So many; one comes twice only where there are fewer."""
        found: list[str] = []
        while len(found) < count:
            if self._at == len(self._order):
                self._order, self._at = torch.randperm(len(self._queries), generator=self._generator).tolist(), 0
            found.append(self._queries[self._order[self._at]])
            self._at += 1
        return found

    def taken(self) -> dict[str, Any]:
        """For :meth:`put`."""
        return {"order": self._order, "at": self._at}

    def put(self, taken: dict[str, Any]) -> None:
        """Go on from there."""
        self._order, self._at = taken["order"], taken["at"]


def prompt_encoder(model: Any, tokenizer: Any, config: PPOConfig) -> tuple[Callable[[str], list[int]], list[str]]:
    """What makes token ids of a query, and what it has cut so far (a list that grows).

    A prompt that is too long loses its beginning.

    Raises:
        InvalidInput: answers alone are longer than the model's context.
    """
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**30
    room = min(config.max_prompt_tokens, context - config.max_response_tokens)
    if room < 8:
        raise InvalidInput(
            f"max_response_tokens is {config.max_response_tokens}, and {config.base_model} reads {context} tokens in all: that "
            f"leaves no room for a prompt. Lower it to {max(1, context - 64)} or less."
        )
    cut: list[str] = []

    def encode(query: str) -> list[int]:
        ids = prompt_ids(query, tokenizer)
        if len(ids) > room:
            cut.append(query)
            ids = ids[-room:]
        return ids

    return encode, cut


@dataclass(frozen=True, slots=True)
class Judges:
    """``source``: what is learned from; ``judge``: what only looks, None for none; ``ungated``: why reward models should not have
    been used, where they were all the same; ``checkpoints``: ids of those that are learned from."""

    source: Source
    judge: Source | None
    ungated: list[str]
    checkpoints: list[str]


def load_judges(checkpoints: Path, config: PPOConfig, device: str) -> Judges:
    """
    Raises:
        NotFound, CorruptArtifact: a checkpoint.
        ModelRefused: its report card does not allow it and ``accept_ungated_reward`` is off.
        InvalidInput: a function cannot be imported.
    """
    sources: list[tuple[str, float, Source]] = []
    ungated: list[str] = []
    ids: list[str] = []
    kind: Kind = "steps" if config.reward_on == "steps" else "answers"
    for name, weight in parse_sources(config.reward or ""):
        if ":" in name:
            sources.append((name, weight, FunctionRewards(name)))
            continue
        try:
            open_trusted(checkpoints, name, kind, "PPO")
        except ModelRefused as error:
            if not config.accept_ungated_reward:
                raise
            ungated.append(str(error))
        ids.append(name)
        sources.append((name, weight, CheckpointRewards(RewardModel.open(checkpoints / name, device=device))))
    judge = None if config.judge is None else CheckpointRewards(RewardModel.open(checkpoints / config.judge, device=device))
    return Judges(Weighed(sources), judge, ungated, ids)
