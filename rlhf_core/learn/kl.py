"""How far a policy is from its reference, estimated from what the policy sampled, and what holds it there.

Estimators: Schulman, "Approximating KL divergence" (2020). With d = log pi - log reference of a sampled token:

- k1 = d: unbiased, noisy, negative for single tokens. In the reward it is the penalty of the RLHF objective.
- k2 = d^2 / 2: biased as a figure; as a loss its gradient is that of the KL (arXiv 2510.01555).
- k3 = exp(-d) - 1 + d: unbiased, never negative, less noisy. As a loss its gradient is biased.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, estimator: Estimator) -> Tensor:
    """Nats of each token, of the shape given."""
    lead = logprobs - ref_logprobs
    if estimator == "k1":
        return lead
    if estimator == "k2":
        return 0.5 * lead.square()
    return torch.expm1(-lead) + lead


@dataclass(slots=True)
class KLController:
    """The coefficient of the KL penalty: fixed where ``target`` is None, otherwise steered towards ``target`` nats an answer
    (Ziegler et al. 2019, arXiv 1909.08593, section 2.2)."""

    coefficient: float
    target: float | None = None
    horizon: int = 10_000

    def update(self, kl: float, episodes: int) -> None:
        """After a step that measured ``kl`` nats an answer over so many answers."""
        if self.target is not None:
            error = max(-0.2, min(0.2, kl / self.target - 1))
            self.coefficient *= 1 + error * episodes / self.horizon
