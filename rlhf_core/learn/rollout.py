"""Answers sampled from a policy, with what is known of each token as it is sampled: no second pass over them is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from rlhf_core.learn.batching import padded
from rlhf_core.learn.policy import Policy

SHRINK_AT = 0.75  # of the rows still at work: finished ones leave the batch and the cache


@dataclass(frozen=True, slots=True)
class Sampled:
    """One answer: token ids (n,), an end token included; ``logprobs`` (n,) under the policy as it sampled; ``values`` (n,) of the
    states, None with a separate critic."""

    ids: list[int]
    logprobs: Tensor
    values: Tensor | None


def draw(logits: Tensor, uniforms: Tensor, banned: int | None = None) -> Tensor:
    """One token a row, ``(B,)``, by the inverse of the cumulative distribution.

    Args:
        logits: ``(B, V)`` float32.
        uniforms: ``(B,)``, from 0 to 1.
        banned: A token that is not drawn.
    """
    if banned is not None:
        logits = logits.index_fill(1, torch.tensor([banned], device=logits.device), float("-inf"))
    sums = torch.softmax(logits, -1).cumsum(-1)
    at = uniforms[:, None] * sums[:, -1:]
    return torch.searchsorted(sums, at, right=True).clamp_max(logits.shape[-1] - 1).squeeze(1)


@torch.no_grad()
def sample(
    policy: Policy, prompts: Sequence[Sequence[int]], *, eos_id: int, pad_id: int, temperature: float, uniforms: Tensor,
    at_least: int = 1,
) -> list[Sampled]:  # fmt: skip
    """One answer to each prompt, in the order given, from the full distribution at this temperature.

    Args:
        policy: In ``eval`` mode: with dropout the log-probabilities would be of another policy.
        prompts: Token ids of each, none empty.
        eos_id: Ends an answer.
        pad_id: Fills prompts up on the left.
        temperature: Above 0.
        uniforms: ``(N, T)``, from 0 to 1: what is drawn for each token of each answer, of at most T tokens. Which answers are
            sampled together, and on which device, then changes none of them.
        at_least: Tokens before which no end token is drawn. Log-probabilities stay those of the whole distribution.
    """
    device = policy.value_head.weight.device
    ids, real = padded(prompts, pad_id, left=True)
    (count, before), at_most = ids.shape, uniforms.shape[1]
    uniforms = uniforms.to(device)
    attention = torch.cat([real, torch.ones(count, at_most, dtype=torch.long)], 1).to(device)
    ids = ids.to(device)
    out_ids = torch.full((count, at_most), pad_id, dtype=torch.long, device=device)
    out_logprobs = torch.zeros(count, at_most, device=device)
    out_values = torch.zeros(count, at_most, device=device)
    lengths = torch.full((count,), at_most, dtype=torch.long, device=device)
    shared = policy.critic == "shared"

    rows = torch.arange(count, device=device)  # which answer each row of the batch is
    going = torch.ones(count, dtype=torch.bool, device=device)
    cache = DynamicCache(config=policy.plain.config)
    given = ids
    with policy.heard(policy.plain) as states:
        for token in range(at_most):
            states.clear()
            seen = attention[:, : before + token]
            places = {name: some[:, -given.shape[1] :] for name, some in policy.places(seen).items()}
            out = policy.model(
                input_ids=given, attention_mask=seen, past_key_values=cache, use_cache=True, **places, **policy.keep_last(1)
            )  # fmt: skip
            logits = out.logits[:, -1].float() / temperature
            drawn = draw(logits, uniforms[rows, token], eos_id if token < at_least - 1 else None)
            logprobs = logits.gather(1, drawn[:, None]).squeeze(1) - torch.logsumexp(logits, -1)
            live = rows[going]
            out_ids[live, token] = drawn[going]
            out_logprobs[live, token] = logprobs[going]
            if shared:
                out_values[live, token] = policy.value_of(states[0][:, -1])[going]
            ended = going & (drawn == eos_id)
            if ended.any():
                lengths[rows[ended]] = token + 1
                going = going & ~ended
                left = int(going.sum())
                if left == 0:
                    break
                if left <= SHRINK_AT * len(going):
                    kept = going.nonzero().squeeze(1)
                    cache.batch_select_indices(kept)
                    attention, rows, drawn = attention[kept], rows[kept], drawn[kept]
                    going = torch.ones(left, dtype=torch.bool, device=device)
            given = drawn[:, None]
    return [
        Sampled(out_ids[row, :n].tolist(), out_logprobs[row, :n], out_values[row, :n] if shared else None)
        for row, n in enumerate(lengths.tolist())
    ]
