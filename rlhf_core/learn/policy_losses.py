"""What PPO minimises (Schulman et al. 2017, arXiv 1707.06347), token by token; callers mask and average."""

from __future__ import annotations

import torch
from torch import Tensor


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float) -> tuple[Tensor, Tensor, Tensor]:
    """The clipped surrogate (eq. 7), the ratio, and where clipping is in force, each of the shape given.

    Args:
        logprobs: Of the sampled tokens under the policy as it is.
        old_logprobs: The same under the policy that sampled them.
        advantages: Theirs.
        clip: How far from 1 the ratio may count.
    """
    ratio = torch.exp(logprobs - old_logprobs)
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip, 1 + clip)
    return torch.maximum(plain, clipped), ratio, clipped > plain


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None) -> tuple[Tensor, Tensor]:
    """Half the squared error, of the value or of the value held near the old one, whichever is worse; and where that one is.

    Args:
        values: Of each state, as the value head says now.
        old_values: As it said when the answer was sampled.
        returns: What they should say.
        clip: How far from the old value a new one may count; None for no limit.
    """
    plain = (values - returns).square()
    if clip is None:
        return 0.5 * plain, torch.zeros_like(plain, dtype=torch.bool)
    held = (old_values + (values - old_values).clamp(-clip, clip) - returns).square()
    return 0.5 * torch.maximum(plain, held), held > plain
