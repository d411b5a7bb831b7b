"""Several runs side by side: curves of one measure, options that differ, what each came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_core.ground.metrics import METRICS
from rlhf_core.ground.runs import Run
from rlhf_core.services import training
from rlhf_core.services.workbench import Workbench

POINTS = 400  # of a curve; more are thinned out evenly
NO_MEASURES = {"time", "split", "step", "epoch", "name", "words", "prompts", "examples"}
Values = dict[str, dict[str, Any]]  # of each name (an option, a measure) by run


@dataclass(frozen=True, slots=True)
class RunComparison:
    """``curves[measure]``: points ``(run, where, step, value)``, ``where`` being train or validation."""

    runs: list[Run]
    curves: dict[str, list[tuple[str, str, int, float]]]
    options: Values
    results: Values


def compare_runs(workbench: Workbench, run_ids: Sequence[str]) -> RunComparison:
    """
    Raises:
        NotFound: one of them.
    """
    runs = [training.run(workbench, run_id) for run_id in run_ids]
    curves: dict[str, list[tuple[str, str, int, float]]] = {}
    results: Values = {}
    for run in runs:
        of_run: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for line in training.metrics(workbench, run.id):
            where = str(line.get("split"))
            for name, value in line.items():
                if name in NO_MEASURES or isinstance(value, bool) or not isinstance(value, int | float):
                    continue
                if where in ("train", "validation"):
                    of_run.setdefault((name, where), []).append((int(line["step"]), float(value)))
                if where in ("validation", "test"):  # the last one stands
                    results.setdefault(f"{name}, {where}", {})[run.id] = float(value)
        for (name, where), points in of_run.items():
            thin = points[:: max(1, -(-len(points) // POINTS))]
            curves.setdefault(name, []).extend((run.id, where, step, value) for step, value in thin)
    return RunComparison(runs, _known_first(curves), differing(runs), results)


def differing(runs: Sequence[Run]) -> Values:
    """Options, kinds and snapshots that are not the same in all of them."""
    every: Values = {}
    for run in runs:
        for name, value in ({"kind": run.kind, "snapshot": run.snapshot_id or None} | run.config).items():
            every.setdefault(name, {})[run.id] = value
    return {
        name: values for name, values in every.items()
        if len(values) < len(runs) or any(value != next(iter(values.values())) for value in values.values())
    }  # fmt: skip


def _known_first(curves: dict[str, list[tuple[str, str, int, float]]]) -> dict[str, list[tuple[str, str, int, float]]]:
    order = {name: k for k, name in enumerate(METRICS)}
    return dict(sorted(curves.items(), key=lambda one: (order.get(one[0], len(order)), one[0])))
