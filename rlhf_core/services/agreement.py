"""How far the raters of a snapshot agree."""

from __future__ import annotations

from rlhf_core.analytics.agreement import (
    EVERYBODY,
    LEVELS,
    FirstErrors,
    PairRow,
    Row,
    first_error_distances,
    measure,
    rater_pairs,
)
from rlhf_core.analytics.reliability import Estimate
from rlhf_core.ground.judgement import By, Level, What
from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench

TENTATIVE, RELIABLE = 2 / 3, 0.8  # alpha from which conclusions may be tentative, and from which ratings are reliable

__all__ = [
    "EVERYBODY", "LEVELS", "RELIABLE", "TENTATIVE", "By", "Estimate", "FirstErrors", "Level", "PairRow", "Row", "What",
    "first_errors", "pairs", "rows",
]  # fmt: skip


def rows(workbench: Workbench, snapshot_id: str, what: What, by: By | None, level: Level | None = None) -> list[Row]:
    """Alpha of everything, and of each part: see :func:`rlhf_core.analytics.agreement.measure`."""
    return measure(snapshots.find(workbench, snapshot_id), what, by, level=level)


def pairs(workbench: Workbench, snapshot_id: str, what: What) -> list[PairRow]:
    """Cohen's kappa of each two raters."""
    return rater_pairs(snapshots.find(workbench, snapshot_id), what)


def first_errors(workbench: Workbench, snapshot_id: str) -> FirstErrors:
    return first_error_distances(snapshots.find(workbench, snapshot_id))
