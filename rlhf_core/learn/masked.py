"""Means and whitening over the tokens that count. Masks are bool, True where a token was sampled."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean where the mask is True, a scalar; 0 where nothing is."""
    kept = mask.to(values.dtype)
    return (values * kept).sum() / kept.sum().clamp_min(1)


def masked_variance(values: Tensor, mask: Tensor) -> Tensor:
    """Unbiased variance where the mask is True, a scalar; 0 where fewer than two are."""
    kept = mask.to(values.dtype)
    count = kept.sum()
    mean = (values * kept).sum() / count.clamp_min(1)
    return ((values - mean).square() * kept).sum() / (count - 1).clamp_min(1)


def whiten(values: Tensor, mask: Tensor, *, keep_mean: bool) -> Tensor:
    """Scaled to variance 1 over the mask, 0 outside it.

    Args:
        values: ``(B, T)``.
        mask: ``(B, T)``.
        keep_mean: Scale around the mean and leave it where it is, as for rewards; otherwise the mean becomes 0, as for
            advantages.
    """
    mean, variance = masked_mean(values, mask), masked_variance(values, mask)
    white = (values - mean) * torch.rsqrt(variance + 1e-8)
    return (white + mean if keep_mean else white) * mask.to(values.dtype)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 where values say the returns, 0 where they say no more than the mean does; a scalar."""
    return 1 - masked_variance(returns - values, mask) / masked_variance(returns, mask).clamp_min(1e-8)
