"""A policy: a causal model of ``transformers`` with a value head, and the reference that it is held near.

Only public methods of the model are used. The head over the vocabulary runs on the sampled tokens alone, so that no logits of
prompts or padding are ever made. Rows are padded on the left up to the answers, which all begin in one column.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rlhf_core.learn.logprobs import selected_logprobs

Critic = Literal["shared", "separate"]


@dataclass(frozen=True, slots=True)
class Judged:
    """Of the N sampled tokens of a batch, row after row: log-probability and entropy in nats, and the value of the state that
    each was chosen in; all ``(N,)`` float32."""

    logprobs: Tensor
    entropy: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts and answers as tensors. ``ids`` and ``attention`` (B, P + T): prompts padded on the left up to column P, answers
    from there on; ``mask`` (B, T) bool: an answer's tokens."""

    ids: Tensor
    attention: Tensor
    mask: Tensor

    @property
    def answers(self) -> Tensor:
        """(B, T) token ids."""
        return self.ids[:, -self.mask.shape[1] :]

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> Batch:
        """Padded to the longest prompt and the longest answer; no answer is empty."""
        before, after = max(map(len, prompts)), max(map(len, answers))
        ids = torch.full((len(prompts), before + after), pad_id, dtype=torch.long)
        attention = torch.zeros_like(ids)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            some = slice(before - len(prompt), before + len(answer))
            ids[row, some] = torch.tensor([*prompt, *answer])
            attention[row, some] = 1
        return cls(ids.to(device), attention.to(device), attention[:, before:].bool().to(device))


def positions_of(attention: Tensor) -> Tensor:
    """``(B, T)``: each token's place among its row's real ones. Without them a model that learned positions reads rows padded on
    the left wrongly."""
    return (attention.cumsum(1) - 1).clamp_min(0)


class Policy(nn.Module):
    """
    Args:
        model: A causal model, or one that ``peft`` wrapped: its reference is then itself with the adapter off.
        critic: ``shared``: the value head reads the policy's own last states, and its errors teach the policy too.
            ``separate``: it reads a copy of the model's body that learns nothing else.
    """

    def __init__(self, model: Any, critic: Critic = "shared") -> None:
        super().__init__()
        self.model = model
        self.critic: Critic = critic
        self.adapted = hasattr(model, "peft_config")
        hidden = self.plain.config.get_text_config().hidden_size
        self.value_head = nn.Linear(hidden, 1)
        nn.init.zeros_(self.value_head.weight)  # values begin at 0: the first advantages are what is still to come
        nn.init.zeros_(self.value_head.bias)
        self.critic_body = copy.deepcopy(self.plain.base_model).requires_grad_(True) if critic == "separate" else None
        reference = None if self.adapted else copy.deepcopy(model).requires_grad_(False).eval()
        self._frozen = [reference]  # in a list it is neither a parameter nor saved
        self._keeps_logits = "logits_to_keep" in inspect.signature(self.plain.forward).parameters
        self._takes_positions = "position_ids" in inspect.signature(self.plain.forward).parameters

    @property
    def plain(self) -> Any:
        """The causal model itself, without what ``peft`` put around it."""
        return self.model.get_base_model() if self.adapted else self.model

    @property
    def reference(self) -> Any:
        """The frozen copy; None where it is the model with its adapter off."""
        return self._frozen[0]

    def to(self, *arguments: Any, **named: Any) -> Policy:
        super().to(*arguments, **named)
        if self.reference is not None:
            self.reference.to(*arguments, **named)
        return self

    def forward(self, batch: Batch, temperature: float) -> Judged:
        """Of every sampled token, with gradients where they are on."""
        logits, states = self._run(self.model, self.plain, batch)
        logprobs, entropy = selected_logprobs(logits, batch.answers[batch.mask], temperature)
        return Judged(logprobs, entropy, self.value_of(states) if self.critic_body is None else self.values(batch))

    def values(self, batch: Batch) -> Tensor:
        """``(N,)`` of a separate critic, which has to be there."""
        assert self.critic_body is not None
        out = self.critic_body(
            input_ids=batch.ids, attention_mask=batch.attention, use_cache=False, **self.places(batch.attention)
        )  # fmt: skip
        return self.value_of(out.last_hidden_state[:, -batch.mask.shape[1] - 1 : -1][batch.mask])

    @torch.no_grad()
    def ref_logprobs(self, batch: Batch, temperature: float) -> Tensor:
        """``(N,)`` of the reference."""
        if self.reference is not None:
            logits, _ = self._run(self.reference, self.reference, batch)
        else:
            with self.model.disable_adapter():
                logits, _ = self._run(self.model, self.plain, batch)
        return selected_logprobs(logits, batch.answers[batch.mask], temperature)[0]

    def value_of(self, states: Tensor) -> Tensor:
        """``(N,)`` float32 of states ``(N, H)``."""
        with torch.autocast(states.device.type, enabled=False):
            found: Tensor = self.value_head(states.to(self.value_head.weight.dtype)).squeeze(-1).float()
        return found

    def places(self, attention: Tensor) -> dict[str, Tensor]:
        """Position ids as an argument, for models that take them."""
        return {"position_ids": positions_of(attention)} if self._takes_positions else {}

    def keep_last(self, count: int) -> dict[str, int]:
        """The argument that spares logits of all but the last positions, for models that take it."""
        return {"logits_to_keep": count} if self._keeps_logits else {}

    @contextmanager
    def heard(self, model: Any, keep: Tensor | None = None) -> Iterator[list[Tensor]]:
        """Yields a list that gets what the head over the vocabulary reads. With ``keep``, ``(B, T + 1)`` bool over the last
        positions, the head reads those states alone, ``(N, H)``."""
        got: list[Tensor] = []

        def hook(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            states = given[0]
            if keep is not None:
                states = states[:, -keep.shape[1] :][keep]
            got.append(states)
            return (states, *given[1:])

        handle = model.get_output_embeddings().register_forward_pre_hook(hook)
        try:
            yield got
        finally:
            handle.remove()

    def _run(self, model: Any, plain: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits ``(N, V)`` that the answers' tokens were chosen from, and the states ``(N, H)`` under them: those one position
        earlier."""
        keep = torch.cat([batch.mask, torch.zeros_like(batch.mask[:, :1])], 1)
        with self.heard(plain, keep) as got:
            out = model(
                input_ids=batch.ids, attention_mask=batch.attention, use_cache=False, **self.places(batch.attention),
                **self.keep_last(keep.shape[1]),
            )  # fmt: skip
        return out.logits.reshape(-1, out.logits.shape[-1]), got[0]
