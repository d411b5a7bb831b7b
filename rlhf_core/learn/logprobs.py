"""Log-probabilities of sampled tokens without a full copy of the logits in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ROWS = 64  # rows of logits worked on at once in float32


class _Selected(torch.autograd.Function):
    """Forward and backward keep the logits in their own dtype, and hold float32 of a few rows at a time."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        normaliser = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        entropy = torch.empty_like(normaliser)
        for begin in range(0, len(logits), ROWS):
            some = slice(begin, begin + ROWS)
            scaled = logits[some].float() * scale
            sums = torch.logsumexp(scaled, -1)
            normaliser[some] = sums
            entropy[some] = sums - (torch.exp(scaled - sums[:, None]) * scaled).sum(-1)
        chosen = logits.gather(1, ids[:, None]).squeeze(1).float() * scale
        ctx.save_for_backward(logits, ids, normaliser)
        ctx.scale = scale
        ctx.mark_non_differentiable(entropy)
        return chosen - normaliser, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits, ids, normaliser = ctx.saved_tensors
        given = gradients[0]
        out = torch.empty_like(logits)
        for begin in range(0, len(logits), ROWS):
            some = slice(begin, begin + ROWS)
            shares = torch.exp(logits[some].float() * ctx.scale - normaliser[some, None]).mul_(-given[some, None])
            shares.scatter_add_(1, ids[some, None], given[some, None])
            out[some] = (shares * ctx.scale).to(out.dtype)
        return out, None, None


def selected_logprobs(logits: Tensor, ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability of each row's token and entropy of its distribution, both ``(N,)`` float32, in nats. Only the first has
    gradients.

    Args:
        logits: ``(N, V)``.
        ids: ``(N,)``.
        temperature: Logits are divided by it, as they were in sampling.
    """
    found: tuple[Tensor, Tensor] = _Selected.apply(logits, ids, 1.0 / temperature)
    return found
