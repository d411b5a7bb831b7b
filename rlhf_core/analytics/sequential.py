"""Tests that stay valid however often one looks: is the canary worse than the control?

By betting (Waudby-Smith and Ramdas, *Estimating means of bounded random variables by betting*, JRSS B 86, 2024; for two samples
Shekhar and Ramdas, *Nonparametric two-sample testing by betting*, 2023). Each rating of the canary is set against the mean of
the control's ratings that came in since the one before. A gambler who starts with 1 and bets on "worse" keeps, as long as the
canary is not worse, a wealth whose expectation never grows; by Ville's inequality it ever reaches 1/alpha with probability alpha
at most, whenever and however often one looks. The stake is decided by what was seen before (aGRAPA in the paper).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LARGEST_STAKE = 0.9  # of the wealth: a single surprise never ruins the gambler


def differences(values: Iterable[tuple[bool, float]]) -> Floats:
    """Canary minus control, (N,), in the order in which they came. Each value counts once: a difference is there as soon as both
    arms have something new, of the means of what each has.

    Args:
        values: (whether it is the canary's, value) of each, in order.
    """
    found: list[float] = []
    totals, counts = [0.0, 0.0], [0, 0]  # control, canary
    for canary, value in values:
        totals[canary] += value
        counts[canary] += 1
        if all(counts):
            found.append(totals[1] / counts[1] - totals[0] / counts[0])
            totals, counts = [0.0, 0.0], [0, 0]
    return np.array(found)


def wealth(differences: Floats, *, worst: float, tolerated: float = 0.0) -> Floats:
    """Of a gambler who bets that the mean is below ``-tolerated``, after each, (N,).

    Args:
        differences: (N,), each from ``-worst`` to ``worst``.
        worst: Its bound.
        tolerated: A drop that is no fault, in the same unit, at least 0.
    """
    if not len(differences):
        return np.empty(0)
    scaled = (np.asarray(differences, np.float64) + tolerated) / (worst + tolerated)  # from -1 to 1; at least 0 in the mean
    count = np.arange(1, len(scaled) + 1)
    mean = np.cumsum(scaled) / (count + 1)
    spread = (0.25 + np.cumsum((scaled - mean) ** 2)) / (count + 1)
    stakes = np.clip(-mean / (spread + mean**2), 0.0, LARGEST_STAKE)
    before = np.concatenate([[0.0], stakes[:-1]])  # what was known when each came
    grown: Floats = np.exp(np.minimum(np.cumsum(np.log1p(-before * scaled)), 700.0))
    return grown


def crossed(wealth: Floats, alpha: float) -> int | None:
    """After how many values it first reached 1/alpha; None: never."""
    reached = np.flatnonzero(wealth >= 1 / alpha)
    return int(reached[0]) + 1 if len(reached) else None


@dataclass(frozen=True, slots=True)
class Interval:
    """Of a mean difference, valid at every look together."""

    mean: float
    low: float
    high: float


def interval(differences: Floats, alpha: float) -> Interval | None:
    """An asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, *Time-uniform central limit theory and
    asymptotic confidence sequences*, Annals of Statistics 52, 2024, equation 3), tightest at about 100 values; None: too few, or
    all the same."""
    count = len(differences)
    if count < 10:
        return None
    rho2 = _tightest_at(100, alpha)
    mean, spread = float(np.mean(differences)), float(np.std(differences))
    if spread == 0:
        return None
    wide = spread * np.sqrt(2 * (count * rho2 + 1) / (count**2 * rho2) * np.log(np.sqrt(count * rho2 + 1) / alpha))
    return Interval(mean, mean - float(wide), mean + float(wide))


def _tightest_at(count: int, alpha: float) -> float:
    return float((-2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1)) / count)


def naive_crossed(differences: Floats, alpha: float, first: int = 10) -> int | None:
    """When a one-sided z-test, wrongly done anew after each value, first says "worse": what peeking does. None: never."""
    from scipy.stats import norm

    count = np.arange(1, len(differences) + 1)
    mean = np.cumsum(differences) / count
    spread = np.sqrt(np.maximum(np.cumsum(np.square(differences)) / count - mean**2, 1e-12) / count)
    said = np.flatnonzero((mean / spread < norm.ppf(alpha)) & (count >= first))
    return int(said[0]) + 1 if len(said) else None


def signs(values: Sequence[tuple[bool, float]], alike: float = 1.1) -> Floats:
    """Of each value of the canary 0.5 where it is larger than the control's last one, -0.5 where it is not, (N,): it needs no
    scale, so no single long answer decides. ``alike``: up to this ratio it is not larger."""
    found, last = [], None
    for canary, value in values:
        if not canary:
            last = value
        elif last is not None:
            found.append(0.5 if value > last * alike else -0.5)
            last = None
    return np.array(found)
