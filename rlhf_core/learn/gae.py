"""Generalised advantage estimation (Schulman et al. 2015, arXiv 1506.02438, eq. 16)."""

from __future__ import annotations

import torch
from torch import Tensor


def advantages_and_returns(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Advantage of each token and the return that its value should say, both ``(B, T)``, 0 outside the mask.

    An episode ends after its last token: the value of what would follow is 0.

    Args:
        rewards: ``(B, T)``, of each token.
        values: ``(B, T)``, of the state each token was chosen in.
        mask: ``(B, T)`` bool, True for an answer's tokens, which begin in column 0.
        gamma: Discount of each token.
        lam: 0 trusts the values (one step ahead), 1 the rewards alone.
    """
    kept = mask.to(rewards.dtype)
    rewards, values = rewards * kept, values * kept
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
    surprise = (rewards + gamma * following - values) * kept
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    for token in range(rewards.shape[1] - 1, -1, -1):
        running = surprise[:, token] + gamma * lam * running
        advantages[:, token] = running
    return advantages, advantages + values
