"""Launch and watch training runs. What a page shows is read from the run's row and files; the run writes them itself."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlhf_core.analytics.snapshot import Snapshot, list_snapshots, open_snapshot
from rlhf_core.checkpoints.base_models import BUNDLED, DEFAULT, locate, offline_names
from rlhf_core.checkpoints.registry import Checkpoint, list_checkpoints, open_checkpoint
from rlhf_core.ground import footprint, machine, settings
from rlhf_core.ground.cards import Kind
from rlhf_core.ground.configs import CONFIGS, TINY, GenerateConfig, PPOConfig, RunConfig, parse_sources
from rlhf_core.ground.engines import Capacity, Resources, engine_named
from rlhf_core.ground.errors import InvalidInput, NotEnoughData, NotFound, RunRefused, disk_errors
from rlhf_core.ground.files import write_json
from rlhf_core.ground.processes import ProcessIdentity, this_host
from rlhf_core.ground.records import new_id, parse_utc
from rlhf_core.ground.runs import (
    ANSWERS_FILE,
    CONFIG_FILE,
    LOCAL,
    LOG_FILE,
    MACHINE_FILE,
    METRICS_FILE,
    SAMPLES_FILE,
    STATE_FILE,
    Run,
    RunKind,
    RunLine,
    RunStatus,
    train_command,
)
from rlhf_core.launchers.local import LocalLauncher
from rlhf_core.launchers.open import launcher_of
from rlhf_core.services import serving
from rlhf_core.services.background import Background, Seen
from rlhf_core.services.modelling import gate
from rlhf_core.services.preflight import memory_of
from rlhf_core.services.tailing import json_lines
from rlhf_core.services.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Where:
    """Where a run is carried out, and with what. ``sweep``: what runs that are begun together are called."""

    engine: str = LOCAL
    resources: Resources = Resources.parse({})  # noqa: RUF009  # frozen
    sweep: str | None = None


HERE = Where()
LOG_TAIL_BYTES = 20_000
CAPACITY_FOR_S = 10.0  # what an engine answered is good for so long


def add_run(
    workbench: Workbench, kind: RunKind, snapshot_id: str | None, config: RunConfig, *, here: bool = False, where: Where = HERE
) -> Run:  # fmt: skip
    """Write a run's options and its row. A supervisor starts it, or this process carries it out (``here``).

    Args:
        workbench: The opened workspace.
        kind: What it is to do.
        snapshot_id: What it learns from, or whose queries it answers. None: what the run had that it goes on from; a policy that
            improves then has five example questions, all others want one.
        config: Its options, of the kind's class (:data:`~rlhf_core.ground.configs.CONFIGS`).
        here: Whether it is running from the start, in this process.
        where: Which engine carries it out.

    Raises:
        NotFound, CorruptArtifact: the snapshot, a checkpoint or an endpoint.
        NotEnoughData: the snapshot has nothing of what is learned from.
        ModelUnavailable: a model's path has none.
        ModelRefused: a reward model's report card does not allow what it is for, and ``accept_ungated_reward`` is off.
        RunRefused: it is to go on from a run that is still at work, or had other options or another snapshot.
        InvalidInput: the options, or the place, do not fit.
    """
    workbench.require("train")
    if config.resume_from is not None and snapshot_id is None:
        snapshot_id = workbench.ledger.get(config.resume_from).snapshot_id or None
    if isinstance(config, PPOConfig) and config.reward is None:
        config = config.model_copy(update={"reward": _reward_model(workbench)})
    _check_resumable(workbench, kind, snapshot_id, config)
    if snapshot_id is None and kind != "ppo":
        raise NotFound("There is no snapshot yet. Take one with `python -m rlhf_core snapshot`.")
    snapshot = open_snapshot(workbench.workspace.snapshots, snapshot_id) if snapshot_id is not None else None
    _check_data(kind, snapshot)
    _check_models(workbench, config)
    return _add(workbench, kind, snapshot.id if snapshot else "", config, here, where)


def _check_data(kind: RunKind, snapshot: Snapshot | None) -> None:
    if snapshot is None or kind == "ppo":
        return  # without recent chats it has five example questions
    if kind == "reward" and snapshot.ratings == 0 and snapshot.rows["preferences"] == 0:
        raise NotEnoughData(f"Snapshot {snapshot.id} has no ratings. Rate some chats and take a new snapshot.")
    if snapshot.rows["chats"] == 0:
        raise NotEnoughData(f"Snapshot {snapshot.id} has no chats. Import some and take a new snapshot.")


def _check_models(workbench: Workbench, config: RunConfig) -> None:
    """All that it begins from, is judged by or asks is here, or can be fetched."""
    if isinstance(config, GenerateConfig) and config.endpoint is not None:
        settings.endpoint_named(config.endpoint)
    elif config.begins_from != TINY:
        locate(config.begins_from, workbench.workspace.checkpoints)
    if isinstance(config, PPOConfig):
        kind: Kind = "steps" if config.reward_on == "steps" else "answers"
        for name, _ in parse_sources(config.reward or ""):
            if ":" in name:
                settings.check_reward_function(name)
            elif not config.accept_ungated_reward:
                gate(workbench, name, kind, "PPO")
        if config.judge is not None:
            open_checkpoint(workbench.workspace.checkpoints, config.judge)


def _add(workbench: Workbench, kind: RunKind, snapshot_id: str, config: RunConfig, here: bool, where: Where) -> Run:
    check_place(kind, config, where)
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{new_id()[:6]}"
    folder = workbench.workspace.run_folder(run_id)
    with disk_errors("preparing the run", folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG_FILE, config.model_dump())
    host = this_host() if here else None
    device = "cpu" if config.device == "cpu" or not machine.gpus() else "gpu"
    parts = memory_of(workbench, config, device)
    need = None if parts is None else footprint.total(parts, device)
    run = workbench.ledger.add(
        run_id, kind, config.model_dump(), snapshot_id, workbench.name, host, need, engine=where.engine,
        resources=where.resources.model_dump(exclude_defaults=True), sweep=where.sweep,
    )  # fmt: skip
    workbench.note("train", run.id, kind=kind, snapshot=snapshot_id, engine=where.engine)
    return run


def check_place(kind: RunKind, config: RunConfig, where: Where) -> None:
    """
    Raises:
        NotFound: there is no such engine.
        InvalidInput: runs of this kind take one process.
    """
    if where.engine != LOCAL:
        engine_named(where.engine)
    needs = where.resources
    if needs.gpus and needs.gpus < needs.processes:
        raise InvalidInput(f"{needs.processes} processes take a GPU each, or none; it asks for {needs.gpus}.")
    if needs.processes == 1 and needs.sharding == "none":
        return
    if not config.takes_processes:
        raise InvalidInput(
            f"A run of {kind} with these options takes one process. Several train reward models (methods finetune, lora) and "
            "policies by optimiser ppo."
        )
    if needs.processes == 1:
        raise InvalidInput("Sharding is between processes; ask for two or more, or for sharding none.")
    if isinstance(config, PPOConfig) and config.batch_size < needs.processes:
        raise InvalidInput(f"batch_size {config.batch_size} gives {needs.processes} processes no prompt each. Raise it.")


def has_gpu() -> bool:
    """Whether this machine has one to train on."""
    return bool(machine.gpus())


def capacity(workbench: Workbench, engine: str) -> Capacity:
    """What an engine has, and what waits there. Asks it, which may take some seconds.

    Raises:
        NotFound: there is no such engine.
        EngineUnavailable, EngineRefused: it does not answer, or not to us.
    """
    workbench.require("train")
    launcher = LocalLauncher() if engine == LOCAL else launcher_of(engine_named(engine))
    return launcher.capacity()


_capacities: Background[Capacity] = Background(CAPACITY_FOR_S)


def capacity_seen(workbench: Workbench, engine: str) -> Seen[Capacity]:
    """The same for pages, which do not wait for an engine."""
    workbench.require("train")
    return _capacities.look(engine, lambda: capacity(workbench, engine))


def capacity_in_words(found: Capacity) -> str:
    """In one sentence."""

    def of(what: str, free: str) -> str:
        return f"{found.total(free):g} of {found.total(what):g}"

    gpus = f"{of('gpus', 'free_gpus')} GPUs, " if found.total("gpus") else "no GPU, "
    nodes = f" on {len(found.nodes)} nodes" if len(found.nodes) > 1 else ""
    queue = f"; {found.running} jobs run there, {found.waiting} wait" if found.running or found.waiting else ""
    return f"{gpus}{of('cpus', 'free_cpus')} processors free{nodes}{queue}."


def policies(workbench: Workbench) -> list[Checkpoint]:
    """All readable policies, newest first."""
    workbench.require("train")
    return list_checkpoints(workbench.workspace.checkpoints, "policy")


def checkpoint_folder(workbench: Workbench, checkpoint_id: str) -> Path:
    """Where it is on this machine."""
    return open_checkpoint(workbench.workspace.checkpoints, checkpoint_id).folder


def newest_snapshot(workbench: Workbench) -> str | None:
    """Its id; None where there is none."""
    found = list_snapshots(workbench.workspace.snapshots)
    return found[0].id if found else None


def _reward_model(workbench: Workbench) -> str:
    found = serving.reward_model(workbench)
    if found is None:
        raise NotFound(
            "There is no reward model to learn from. Train one first (`python -m rlhf_core train reward`), or name a function "
            "with reward package.module:function."
        )
    return found


def resume(workbench: Workbench, run_id: str, *, here: bool = False) -> Run:
    """A new run that goes on where a stopped or killed one stood, to the numbers that one would have come to.

    Raises:
        NotFound: there is no such run, or it saved no state.
        RunRefused: it is still at work.
    """
    workbench.require("train")
    old = workbench.ledger.get(run_id)
    config = CONFIGS[old.kind].parse(old.config | {"resume_from": old.id})
    where = HERE if here else place_of(old)
    return add_run(workbench, old.kind, old.snapshot_id or None, config, here=here, where=where)


def can_resume(workbench: Workbench, run: Run) -> bool:
    """Whether it has ended and left a state to go on from."""
    folder = workbench.workspace.run_folder(run.id)
    if run.kind == "generate":
        return not run.unfinished and run.status != "succeeded" and (folder / ANSWERS_FILE).is_file()
    return not run.unfinished and (folder / STATE_FILE).is_file()


def _check_resumable(workbench: Workbench, kind: RunKind, snapshot_id: str | None, config: RunConfig) -> None:
    if config.resume_from is None:
        return
    old = workbench.ledger.get(config.resume_from)
    if old.kind != kind:
        raise RunRefused(f"Run {old.id} is a run of {old.kind}; a run of {kind} cannot go on from it.")
    here = old.status == "running" and old.host == this_host() and old.pid is not None
    if here and not ProcessIdentity(old.pid or 0, old.pid_create_time or 0.0).is_alive():
        workbench.ledger.finish(old.id, "lost", "Its process is gone.", None)
        old = workbench.ledger.get(old.id)
    if old.unfinished:
        raise RunRefused(f"Run {old.id} is still {old.status}. Cancel it, or wait for its end.")
    if not can_resume(workbench, old):
        raise NotFound(
            f"Run {old.id} has no saved state to go on from: it had not begun to learn, or it came to its end. Start a new run."
        )
    then, now = (CONFIGS[kind].parse(one).model_dump(exclude={"resume_from"}) for one in (old.config, config.model_dump()))
    other = [name for name in now if now[name] != then[name]]
    same = old.snapshot_id.startswith(snapshot_id) if snapshot_id else not old.snapshot_id
    if other or not same:
        raise RunRefused(
            f"Run {old.id} can only go on as it began, on snapshot {old.snapshot_id}; "
            + (f"{', '.join(other)} would be different." if other else "this is another snapshot.")
        )


def command_of(workbench: Workbench, run: Run) -> list[str]:
    """The command line that carries it out, word by word."""
    return train_command(run, workbench.workspace.root)


def runs(workbench: Workbench, limit: int = 200) -> list[Run]:
    """The newest first, with their options; :func:`find` lists many more quickly.

    Raises:
        Forbidden: the role.
    """
    workbench.require("train")
    return workbench.ledger.recent(limit)


def find(
    workbench: Workbench, kinds: Sequence[str] = (), statuses: Sequence[str] = (), words: str = "", limit: int = -1,
    sweep: str | None = None,
) -> list[RunLine]:  # fmt: skip
    """Lines of a list of runs: see :meth:`RunLedger.find`."""
    workbench.require("train")
    return workbench.ledger.find(kinds, statuses, words, limit, sweep)


def tally(workbench: Workbench) -> dict[tuple[RunKind, RunStatus], int]:
    """How many runs there are of each kind and status."""
    workbench.require("train")
    return workbench.ledger.tally()


def run(workbench: Workbench, run_id: str) -> Run:
    """One run as it stands.

    Raises:
        Forbidden: the role. NotFound: there is no such run.
    """
    workbench.require("train")
    return workbench.ledger.get(run_id)


def cancel(workbench: Workbench, run_id: str) -> Run:
    """Ask a run to stop: it saves what it has learnt and ends. See :meth:`RunLedger.request_cancel` for errors."""
    workbench.require("train")
    run = workbench.ledger.request_cancel(run_id)
    workbench.note("cancel", run.id)
    return run


def pause(workbench: Workbench, run_id: str) -> Run:
    """Ask a run to save where it stands and give the machine back, until :func:`go_on`.

    Raises:
        NotFound: there is no such run.
        RunRefused: it has ended, or is of a kind that cannot go on.
    """
    workbench.require("train")
    run = workbench.ledger.get(run_id)
    if not can_pause(run):
        raise RunRefused(f"Run {run.id} cannot go on from its middle ({_what(run)}). Let it end, or cancel it.")
    run = workbench.ledger.request_pause(run_id)
    workbench.note("pause", run.id)
    return run


def can_pause(run: Run) -> bool:
    """Whether a run of this kind saves where it stands. One that only waits can always be held back."""
    return run.status == "queued" or (run.status == "running" and CONFIGS[run.kind].parse(run.config).goes_on)


def _what(run: Run) -> str:
    return "teaching a policy" if run.kind == "sft" else str(run.config.get("optimiser") or f"method {run.config.get('method')}")


def go_on(workbench: Workbench, run_id: str) -> Run:
    """Queue a paused run again; it goes on to the numbers that it would have come to without the pause. See
    :meth:`RunLedger.go_on` for errors."""
    workbench.require("train")
    run = workbench.ledger.go_on(run_id)
    workbench.note("go on", run.id)
    return run


def again(workbench: Workbench, run_id: str, **other: Any) -> Run:
    """A new run with the options and the snapshot of one that has ended, but for ``other`` ones.

    Raises:
        NotFound, NotEnoughData, ModelUnavailable, ModelRefused, InvalidInput: as of :func:`add_run`.
    """
    workbench.require("train")
    old = workbench.ledger.get(run_id)
    config = CONFIGS[old.kind].parse(old.config | {"resume_from": None} | other)
    return add_run(workbench, old.kind, old.snapshot_id or None, config, where=place_of(old))


def place_of(run: Run) -> Where:
    """Where it was carried out, and in which sweep, for another one like it."""
    return Where(run.engine, Resources.parse(run.resources), run.sweep)


def move_first(workbench: Workbench, run_id: str) -> Run:
    """Let a run that waits start before all others that do. See :meth:`RunLedger.set_priority` for errors."""
    workbench.require("train")
    highest = max((one.priority for one in workbench.ledger.unfinished() if one.status == "queued"), default=0)
    run = workbench.ledger.set_priority(run_id, highest + 1)
    workbench.note("move first", run.id)
    return run


def waiting_for(workbench: Workbench, run: Run) -> list[str]:
    """Ids of the runs that a queued one waits for: those at work on this machine, then those that start before it."""
    unfinished = [one for one in workbench.ledger.unfinished() if one.engine == run.engine]
    if run.engine != LOCAL:
        return []  # who waits for whom is its engine's to say
    working = [one.id for one in unfinished if one.status == "running" and one.host == this_host()]
    queued = [one.id for one in unfinished if one.status == "queued"]
    return working + (queued[: queued.index(run.id)] if run.id in queued else [])


def metrics(workbench: Workbench, run_id: str) -> list[dict[str, Any]]:
    """Every whole line that the run has written to its metrics file so far."""
    return _lines_of(workbench, run_id, METRICS_FILE)


def samples(workbench: Workbench, run_id: str) -> list[dict[str, Any]]:
    """Answers that a policy's run has written down so far: step, query, answer, its steps and their rewards."""
    return _lines_of(workbench, run_id, SAMPLES_FILE)


def machine_use(workbench: Workbench, run_id: str) -> list[dict[str, Any]]:
    """What the run's process took of the machine: ``time``, ``memory_mb``, ``cpu`` (processors), and of its GPUs
    ``gpu_memory_mb``, ``gpu_total_mb``, ``gpu`` (share of time)."""
    return _lines_of(workbench, run_id, MACHINE_FILE)


def _lines_of(workbench: Workbench, run_id: str, name: str) -> list[dict[str, Any]]:
    workbench.require("train")
    return json_lines(workbench.workspace.run_folder(run_id) / name)


def log_tail(workbench: Workbench, run_id: str) -> str:
    """The end of the run's log."""
    workbench.require("train")
    try:
        with (workbench.workspace.run_folder(run_id) / LOG_FILE).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return text if size <= LOG_TAIL_BYTES else text.partition("\n")[2]


def seconds_left(run: Run, lines: list[dict[str, Any]]) -> float | None:
    """Estimated seconds to the last training step, from the pace of the last steps; None before there is a pace."""
    steps = [line for line in lines if line.get("split") == "train"][-30:]
    if run.total_steps is None or len(steps) < 2:
        return None
    paces = sorted(later["time"] - earlier["time"] for earlier, later in itertools.pairwise(steps))
    return float(paces[len(paces) // 2]) * max(0, run.total_steps - int(steps[-1]["step"]))


def seconds_running(run: Run) -> float | None:
    """From its start to its end, or so far; None before it began."""
    if run.started_at is None:
        return None
    end = parse_utc(run.finished_at) if run.finished_at else datetime.now(UTC)
    return (end - parse_utc(run.started_at)).total_seconds()


def base_models(workbench: Workbench) -> tuple[list[str], str]:
    """Names to offer, best first, and one sentence on what needs a network. Looks at this machine only."""
    offline = offline_names(workbench.workspace.checkpoints)
    if DEFAULT in offline:
        return offline, f"{DEFAULT} is on this machine."
    if BUNDLED in offline:
        note = f"{BUNDLED} is bundled and works without a network. {DEFAULT} would be downloaded from the model hub first."
        return [BUNDLED, DEFAULT, *(name for name in offline if name != BUNDLED)], note
    return [DEFAULT, *offline], f"{DEFAULT} will be downloaded from the model hub first."
