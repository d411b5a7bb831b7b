"""Losses of a reward model. Outputs are standardised: 0 is the training set's mean score, 1 its standard deviation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def rating_loss(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of squared errors, a scalar.

    Args:
        outputs: ``(N,)`` float32.
        targets: ``(N,)``, standardised like the outputs.
        weights: ``(N,)``, how much each counts.
    """
    return (weights * (outputs - targets) ** 2).sum()


def preference_loss(leads: Tensor, chances: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of the Bradley-Terry cross-entropy, in nats, a scalar. A tie is a chance of 0.5.

    Args:
        leads: ``(N,)`` output of the first text less that of the second.
        chances: ``(N,)`` that the first is the better one, 0 to 1.
        weights: ``(N,)``, how much each counts.
    """
    return -(weights * (chances * logsigmoid(leads) + (1 - chances) * logsigmoid(-leads))).sum().to(torch.float32)


def ordinal_loss(outputs: Tensor, shares: Tensor, thresholds: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of the cross-entropy of a cumulative logistic model (McCullagh 1980), in nats, a scalar.

    The chance of more than k stars is ``sigmoid(output - threshold k)``.

    Args:
        outputs: ``(N,)`` float32.
        shares: ``(N, 5)``, how people's scores are shared out among 1 to 5 stars; rows sum to 1.
        thresholds: ``(N, 4)``, rising.
        weights: ``(N,)``, how much each counts.
    """
    more = torch.sigmoid(outputs[:, None] - thresholds)
    edges = torch.cat([torch.ones_like(more[:, :1]), more, torch.zeros_like(more[:, :1])], -1)
    chances = (edges[:, :-1] - edges[:, 1:]).clamp_min(1e-9)
    return -(weights * (shares * chances.log()).sum(-1)).sum()
