"""A sweep: runs of one kind on one snapshot that differ in some options, begun together through any engine and compared by what
they came to on validation data, which none of them learned from. The final test is shown beside it and chooses nothing."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from rlhf_core.ground.configs import CONFIGS, RunConfig
from rlhf_core.ground.errors import InvalidInput, NotFound, RlhfError, RunRefused
from rlhf_core.ground.records import new_id
from rlhf_core.ground.runs import Run, RunKind, Sweep
from rlhf_core.services import training
from rlhf_core.services.training import HERE, Where
from rlhf_core.services.workbench import Workbench

How = Literal["grid", "random"]
MOST_RUNS = 200
NOT_VARIED = {"resume_from", "report_to", "device"}
LOWER_IS_BETTER = frozenset({"rmse", "loss", "kl"})
MEASURES: dict[RunKind, tuple[str, ...]] = {  # that may choose, the usual one first
    "reward": ("rmse", "spearman", "accuracy", "step_auc", "answer_auc"),
    "ppo": ("judge", "reward", "kl"),
    "sft": ("loss",),
    "generate": (),
}
_RANGE = re.compile(r"^(?P<low>[^\s]+?)\s*\.\.\s*(?P<high>[^\s]+)(?:\s+(?P<scale>log))?$")


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from ``low`` to ``high``, both in; ``log``: as likely between 1 and 10 as between 10 and 100."""

    low: float
    high: float
    log: bool
    whole: bool

    def draw(self, rng: random.Random) -> float | int:
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        if self.whole:
            return (
                min(int(self.high), max(int(self.low), round(value))) if self.log else rng.randint(int(self.low), int(self.high))
            )
        return float(f"{value:.4g}")


Space = dict[str, list[Any] | Range]


def parse_space(kind: RunKind, text: str) -> Space:
    """Of lines ``option = value, value`` or, for a random search, ``option = low .. high`` (with ``log`` behind it where it spans
    powers of ten).

    Raises:
        InvalidInput: names the line that is wrong, and why.
    """
    fields = CONFIGS[kind].options()
    space: Space = {}
    for line in filter(None, (part.strip() for part in text.replace(";", "\n").splitlines())):
        name, equals, given = (part.strip() for part in line.partition("="))
        name = name.replace("-", "_")
        if not equals or not given:
            raise InvalidInput(f"{line!r} is no line of a sweep. Write option = value, value or option = low .. high.")
        if name not in fields or name in NOT_VARIED:
            raise InvalidInput(
                f"{name!r} cannot be varied: a run of {kind} has " + ", ".join(n for n in fields if n not in NOT_VARIED)
            )
        if name in space:
            raise InvalidInput(f"{name} stands there twice. Write all of its values in one line.")
        kinds = get_args(fields[name].annotation) or (fields[name].annotation,)
        if (match := _RANGE.match(given)) is not None:
            space[name] = _range(line, match, whole=float not in kinds)
        else:
            values = [None if one == "none" else one for one in (part.strip() for part in given.split(",")) if one != ""]
            if len(set(values)) != len(values):
                raise InvalidInput(f"{line!r} names a value twice.")
            space[name] = [*values]
    if not space:
        raise InvalidInput("Say what is varied: one line for each option, as learning_rate = 1e-5, 3e-5.")
    return space


def _range(line: str, match: re.Match[str], *, whole: bool) -> Range:
    try:
        low, high = float(match["low"]), float(match["high"])
    except ValueError as error:
        raise InvalidInput(f"{line!r}: a range goes from one number to another.") from error
    log = match["scale"] is not None
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high or (log and low <= 0):
        raise InvalidInput(f"{line!r}: the first number has to be the smaller one{', and above 0 with log' if log else ''}.")
    if whole and (low != int(low) or high != int(high)):
        raise InvalidInput(f"{line!r}: this option takes whole numbers.")
    return Range(low, high, log, whole)


def points(space: Space, how: How, count: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """What each run has of the varied options, none twice: all combinations (grid), or ``count`` that a seed draws (random).

    Raises:
        InvalidInput: a range in a grid, no number of draws, or too many runs.
    """
    if how == "grid":
        ranges = [name for name, one in space.items() if isinstance(one, Range)]
        if ranges:
            raise InvalidInput(f"{', '.join(ranges)}: a grid needs single values; a range is for a random search.")
        lists = {name: one for name, one in space.items() if not isinstance(one, Range)}
        total = math.prod(len(one) for one in lists.values())
        if total > MOST_RUNS:
            raise InvalidInput(f"That would be {total} runs, and {MOST_RUNS} are the most. Draw some at random instead.")
        return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
    if count is None or not 1 <= count <= MOST_RUNS:
        raise InvalidInput(f"Say how many runs a random search draws, 1 to {MOST_RUNS}.")
    rng, found = random.Random(f"sweep:{seed}"), []
    for _ in range(count * 50):  # where there are fewer than asked for, all of them
        one = {name: some.draw(rng) if isinstance(some, Range) else rng.choice(some) for name, some in space.items()}
        if one not in found:
            found.append(one)
        if len(found) == count:
            break
    return found


def begin(
    workbench: Workbench, kind: RunKind, snapshot_id: str | None, base: Mapping[str, Any], varied: Sequence[Mapping[str, Any]], *,
    where: Where = HERE,
) -> tuple[str, list[Run]]:  # fmt: skip
    """Queue a run for each. Returns what the sweep is called, and the runs.

    Args:
        workbench: The workspace.
        kind, snapshot_id: Of all runs.
        base: Options that all have.
        varied: Options of each, over those.
        where: Which engine carries them out.

    Raises:
        InvalidInput: one of them has wrong options; nothing was queued.
        NotFound, NotEnoughData, ModelUnavailable, ModelRefused: as of :func:`rlhf_core.services.training.add_run`.
    """
    configs: list[RunConfig] = []
    for one in varied:
        try:
            configs.append(CONFIGS[kind].parse({**base, **one}))
        except InvalidInput as error:
            raise InvalidInput(f"With {in_words(one)}: {error} No run was queued.") from error
    for config in configs:
        training.check_place(kind, config, where)
    name = f"sweep-{datetime.now(UTC):%Y%m%d-%H%M%S}-{new_id()[:4]}"
    place = replace(where, sweep=name)
    runs: list[Run] = []
    for config in configs:
        try:
            runs.append(training.add_run(workbench, kind, snapshot_id, config, where=place))
        except RlhfError:
            for run in runs:  # all of them or none
                with contextlib.suppress(RunRefused):
                    training.cancel(workbench, run.id)
            raise
    return name, runs


def in_words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {'none' if value is None else value}" for name, value in options.items())


def sweeps(workbench: Workbench) -> list[Sweep]:
    """Newest first."""
    workbench.require("train")
    return workbench.ledger.sweeps()


@dataclass(frozen=True, slots=True)
class Row:
    """One run of a sweep: the options that differ, and what it came to on ``validation`` and ``test`` data, by measure."""

    run: Run
    options: dict[str, Any]
    validation: dict[str, float]
    test: dict[str, float]


@dataclass(frozen=True, slots=True)
class Results:
    """``measures``: that may choose, the usual one first; ``rows``: in the order in which the runs were queued."""

    kind: RunKind
    varied: list[str]
    measures: list[str]
    rows: list[Row]

    def ranked(self, measure: str) -> list[Row]:
        """The best on validation data first; those without a figure last. One that is not over has the figures of so far."""

        def key(row: Row) -> tuple[bool, float]:
            value = row.validation.get(measure)
            return value is None, 0.0 if value is None else value if measure in LOWER_IS_BETTER else -value

        return sorted(self.rows, key=key)


def results(workbench: Workbench, name: str) -> Results:
    """What the runs of a sweep came to so far. Of a run that was tried again as it was, both stand there.

    Raises:
        NotFound: there is no such sweep.
    """
    workbench.require("train")
    runs = [workbench.ledger.get(line.id) for line in reversed(workbench.ledger.find(sweep=name))]
    if not runs:
        raise NotFound(f"There is no sweep {name!r} in this workspace. `python -m rlhf_core sweeps` lists them.")
    differ = [option for option in runs[0].config if len({repr(run.config.get(option)) for run in runs}) > 1]
    rows = []
    for run in runs:
        lines = training.metrics(workbench, run.id)
        of = {split: [_figures(line) for line in lines if line.get("split") == split] for split in ("validation", "test")}
        options = {option: run.config[option] for option in differ}
        rows.append(Row(run, options, _kept(run, of["validation"]), of["test"][-1] if of["test"] else {}))
    kind = runs[0].kind
    measures = [one for one in MEASURES[kind] if any(one in row.validation for row in rows)]
    usual = str(runs[0].config.get("select_by", ""))
    return Results(kind, differ, sorted(measures, key=lambda one: one != usual), rows)


def _figures(line: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value) for name, value in line.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in ("time", "step", "epoch")
    }  # fmt: skip


def _kept(run: Run, lines: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of the lines about validation data the one whose weights the run keeps: the best, or the last."""
    if not lines:
        return {}
    chooses = {"reward": str(run.config.get("select_by", "last")), "ppo": "judge" if "judge" in lines[-1] else "reward"}
    by = chooses.get(run.kind, "last")
    known = [line for line in lines if by in line]
    if not known:
        return lines[-1]
    return min(known, key=lambda line: line[by] if by in LOWER_IS_BETTER else -line[by])


def cancel(workbench: Workbench, name: str) -> int:
    """Cancel every run of a sweep that is not over. Returns how many those are."""
    lines = workbench.ledger.find(statuses=("queued", "running", "paused"), sweep=name)
    if not lines and not workbench.ledger.find(sweep=name, limit=1):
        raise NotFound(f"There is no sweep {name!r} in this workspace. `python -m rlhf_core sweeps` lists them.")
    cancelled = 0
    for line in lines:
        with contextlib.suppress(RunRefused):  # it has ended meanwhile
            training.cancel(workbench, line.id)
            cancelled += 1
    return cancelled
