"""Runs: begun, followed, compared, cleaned up."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, get_args

from rlhf_core import __version__
from rlhf_core.commands.carrying_out import carry_out, check, train_along
from rlhf_core.commands.shared import RUNS, Command, add_place, add_snapshot, open_workbench, options_of, place_of
from rlhf_core.ground.configs import (
    CONFIGS,
    PRESETS,
    Preset,
)
from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.runs import LOCAL, Run, RunKind
from rlhf_core.services.workbench import Workbench


def add(command: Command, commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    command("runs", _runs, "list training runs")
    one = command("cancel", _cancel, "ask a run to save and stop")
    one.add_argument("run_id")
    one = command("pause", _pause, "ask a run to save where it stands and give the machine back")
    one.add_argument("run_id")
    one = command("resume", _resume, "queue a paused run again; of a stopped or killed one, a new run that goes on from it")
    one.add_argument("run_id")
    one = command("export-run", _export_run, "write an ended run with its checkpoints to a folder of its own")
    one.add_argument("run_id")
    one.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a folder that is not there yet")
    one = command("import-run", _import_run, "take in such a folder: whole or not at all, every file verified")
    one.add_argument("folder", type=Path)
    command("checkpoints", _checkpoints, "list checkpoints")
    one = command("push", _push, "upload a checkpoint to the Hugging Face hub")
    one.add_argument("checkpoint", metavar="ID")
    one.add_argument("repository", help="NAME or OWNER/NAME there; made where it is missing")
    one.add_argument("--public", action="store_true", help="let everybody see it (default: private)")
    one = command("clean", _clean, "list what training left and why it is kept; with --remove, remove what serves nothing")
    one.add_argument("--remove", action="store_true")
    one = command(
        "sweep", _sweep, "queue runs that differ in some options: all combinations, or some drawn at random",
        epilog='example: sweep reward --snapshot 4f2c --vary "learning_rate = 1e-5, 3e-5" --vary "epochs = 2, 4"\n'
        '         sweep ppo --config base.json --vary "kl_coefficient = 0.01 .. 0.5 log" --random 8',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    one.add_argument("kind", choices=[kind for kind, _, _ in RUNS if kind != "generate"])
    add_snapshot(one)
    one.add_argument(
        "--vary", action="append", required=True, metavar="LINE", help="option = value, value or option = low .. high"
    )
    one.add_argument("--random", type=int, metavar="N", help="draw so many instead of taking all combinations")
    one.add_argument("--draw-seed", type=int, default=0, metavar="N", help="of the drawing (default: 0)")
    one.add_argument("--config", type=Path, metavar="FILE", help="options that all have, from a JSON file")
    one.add_argument("--preset", choices=get_args(Preset), help="options to begin with")
    one.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option that all have")
    one.add_argument("--try", dest="try_only", action="store_true", help="only say what would be queued")
    add_place(one)
    one = command("sweeps", _sweeps, "list sweeps; with a name, what its runs came to, the best on validation data first")
    one.add_argument("name", nargs="?")
    one.add_argument("--by", metavar="MEASURE", help="what decides (default: what the runs choose their weights by)")
    one.add_argument("--cancel", action="store_true", help="cancel those of its runs that are not over")
    command("supervise", _supervise, "start queued runs on this machine (the app does so by itself)")
    train = commands.add_parser("train", help="train a model").add_subparsers(metavar="MODEL", required=True)
    for kind, about, snapshot in RUNS:
        one = (commands if kind == "generate" else train).add_parser(kind, parents=parents, help=about, description=about)
        one.set_defaults(do=_train, kind=kind)
        one.add_argument("--snapshot", metavar="ID", help=snapshot)
        one.add_argument("--config", type=Path, metavar="FILE", help="options from a JSON file; options given here win")
        one.add_argument("--preset", choices=[*PRESETS[kind]], help="options to begin with; options given here win")
        one.add_argument("--run-id", metavar="ID", help="carry out this queued run")
        one.add_argument("--check", action="store_true", help="only say what the run will need, and what is odd about its data")
        one.add_argument("--attempt", type=int, help=argparse.SUPPRESS)  # an engine carries the queued run out
        add_place(one)
        for name, field in CONFIGS[kind].options().items():
            choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
            default = "required" if field.is_required() else f"default: {'none' if field.default is None else field.default}"
            flag = f"--{name.replace('_', '-')}"
            switch: dict[str, Any] = {"nargs": "?", "const": "true"} if field.annotation is bool else {}
            one.add_argument(
                flag, default=argparse.SUPPRESS, choices=choices or None,
                metavar=None if choices else name.rsplit("_", 1)[-1].upper(), help=f"{field.description} ({default})", **switch,
            )  # fmt: skip


def _runs(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import training

    found = training.runs(open_workbench(arguments))
    if not found:
        print("There are no runs yet. `train reward` begins one.", file=sys.stderr)
    for run in found:
        done = f"{run.step}/{run.total_steps or '?'}"
        print(f"{run.id}  {run.kind:<8}  {run.status:<9}  {done:>9}  {run.created_at[:19]}Z  {run.message or run.phase or ''}")


def _cancel(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import training

    run = training.cancel(open_workbench(arguments), arguments.run_id)
    print(f"Run {run.id}: {run.message if run.status == 'cancelled' else 'asked to save and stop'}")


def _pause(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import training

    run = training.pause(open_workbench(arguments), arguments.run_id)
    print(f"Run {run.id}: {'paused' if run.status == 'paused' else 'asked to save and pause'}")


def _resume(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import training

    workbench = open_workbench(arguments)
    if training.run(workbench, arguments.run_id).status == "paused":
        run = training.go_on(workbench, arguments.run_id)
    else:
        run = training.resume(workbench, arguments.run_id)
    print(f"Run {run.id}: queued; the app or `python -m rlhf_core supervise` starts it")


def _export_run(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import run_folders

    print(run_folders.export_run(open_workbench(arguments), arguments.run_id, arguments.out))


def _import_run(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import run_folders

    run, checkpoints = run_folders.import_run(open_workbench(arguments), arguments.folder)
    print(f"Run {run.id} ({run.kind}, {run.status}) with {len(checkpoints)} checkpoints: {', '.join(checkpoints) or 'none'}")


def _checkpoints(arguments: argparse.Namespace) -> None:
    from rlhf_core.checkpoints.registry import list_checkpoints

    for one in list_checkpoints(open_workbench(arguments).workspace.checkpoints):
        about = f"from {one.parent}  run {one.run_id}" + (f"  snapshot {one.snapshot_id}" if one.snapshot_id else "")
        if one.kind == "policy":
            table = one.metrics.get("held_out") or {}
            judge = f"  judge {table['judge']:.3f}" if table.get("judge") is not None else ""
            figures = f"reward {table['reward']:.3f}{judge}" if table else "not measured"
        else:
            auc = one.metrics.get("test", {}).get("step_auc")
            figures = (
                f"step AUC {'none' if auc is None else f'{auc:.3f}'}  {one.metrics.get('verdict', {}).get('state', 'no card')}"
            )
        print(f"{one.id}  {one.created_at[:19]}Z  {about}  {figures}{'' if one.complete else '  stopped early'}")


def _push(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import pushing

    print(pushing.push(open_workbench(arguments), arguments.checkpoint, arguments.repository, private=not arguments.public))


def _clean(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import storage

    workbench = open_workbench(arguments)
    found = storage.stored(workbench)
    if arguments.remove:
        storage.remove(workbench, [one.id for one in found if not one.kept_for])
    for one in found:
        why = "; ".join(one.kept_for) or ("removed" if arguments.remove else "serves nothing")
        print(f"{one.id}  {one.kind:<6}  {one.size_mb:>9,.1f} MiB  {why}")


def _sweep(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import sweeping, training

    kind: RunKind = arguments.kind
    base: dict[str, Any] = dict(PRESETS[kind][arguments.preset]) if arguments.preset else {}
    if arguments.config is not None:
        base |= options_of(arguments.config)
    for pair in arguments.set:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise InvalidInput(f"{pair!r}: write --set option=value.")
        base[name.replace("-", "_")] = None if value == "none" else value
    space = sweeping.parse_space(kind, "\n".join(arguments.vary))
    how: sweeping.How = "grid" if arguments.random is None else "random"
    varied = sweeping.points(space, how, arguments.random, arguments.draw_seed)
    if arguments.try_only:
        for one in varied:
            CONFIGS[kind].parse({**base, **one})
            print(sweeping.in_words(one))
        print(f"{len(varied)} runs; nothing was queued.")
        return 0
    workbench = open_workbench(arguments)
    snapshot_id = arguments.snapshot or training.newest_snapshot(workbench)
    name, runs = sweeping.begin(workbench, kind, snapshot_id, base, varied, where=place_of(arguments))
    for run, one in zip(runs, varied, strict=True):
        print(f"{run.id}  {sweeping.in_words(one)}")
    print(f"{name}: {len(runs)} runs are queued; the app or `python -m rlhf_core supervise` starts them.")
    return 0


def _sweeps(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import sweeping

    workbench = open_workbench(arguments)
    if arguments.name is None:
        known = sweeping.sweeps(workbench)
        if not known:
            print(
                "No sweep yet: several runs that differ in some options. `sweep --help` says how to begin one.", file=sys.stderr
            )
        for one in known:
            left = f", {one.unfinished} not over" if one.unfinished else ""
            print(f"{one.name}  {one.created_at[:19]}  {one.runs} runs of {one.kind}{left}")
        return 0
    if arguments.cancel:
        print(f"{sweeping.cancel(workbench, arguments.name)} runs were cancelled.")
        return 0
    found = sweeping.results(workbench, arguments.name)
    if arguments.by is not None and arguments.by not in found.measures:
        raise InvalidInput(
            f"There is no {arguments.by!r} on validation data; there is {', '.join(found.measures) or 'nothing yet'}."
        )
    by = arguments.by or (found.measures[0] if found.measures else "")
    print("\t".join(["run", "status", *found.varied, *(f"{name}, validation" for name in found.measures), f"{by}, test"]))
    for row in found.ranked(by):
        figures = [row.validation.get(name) for name in found.measures] + [row.test.get(by)]
        print("\t".join([row.run.id, row.run.status, *map(str, row.options.values()),
                         *("" if value is None else f"{value:.4f}" for value in figures)]))  # fmt: skip
    return 0


def _supervise(arguments: argparse.Namespace) -> None:
    from rlhf_core.supervisor.supervise import Supervisor

    workbench = open_workbench(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    print("Waiting for this workspace's turn. Ctrl+C ends this; running runs go on.", file=sys.stderr)
    try:
        Supervisor(workbench.workspace, workbench.ledger).serve(threading.Event())
    except KeyboardInterrupt:
        print("Ended.", file=sys.stderr)


def _train(arguments: argparse.Namespace) -> int:
    kind: RunKind = arguments.kind
    if arguments.attempt is not None:
        return _train_elsewhere(arguments)
    options = CONFIGS[kind]
    values: dict[str, Any] = {}
    if arguments.config is not None:
        values = options_of(arguments.config)
    if arguments.preset is not None:
        values = PRESETS[kind][arguments.preset] | values
    given = {name: value for name, value in vars(arguments).items() if name in options.model_fields}
    values |= {name: None if value == "none" else value for name, value in given.items()}

    from rlhf_core.services import training

    workbench = open_workbench(arguments)
    snapshot_id = arguments.snapshot
    if snapshot_id is None and values.get("resume_from"):
        old = training.run(workbench, str(values["resume_from"]))
        snapshot_id = old.snapshot_id or None
        if [*values] == ["resume_from"]:  # all the rest as it was
            values = old.config | values
    elif snapshot_id is None:
        snapshot_id = training.newest_snapshot(workbench)
    config = options.parse(values)
    if int(os.environ.get("RANK", "0")):
        return train_along(workbench.workspace, arguments.run_id or "", snapshot_id, config)
    if arguments.check:
        return check(workbench, kind, snapshot_id, config)
    if arguments.run_id is not None:
        run = workbench.ledger.get(arguments.run_id)
        return carry_out(workbench.workspace, workbench.ledger, run, own_log=False, workbench=workbench)
    where = place_of(arguments)
    if arguments.engine != LOCAL or (where.resources.processes > 1 and "RANK" not in os.environ):
        return _follow(workbench, training.add_run(workbench, kind, snapshot_id, config, where=where))
    run = training.add_run(workbench, kind, snapshot_id, config, here=True)
    return carry_out(workbench.workspace, workbench.ledger, run, own_log=True, workbench=workbench)


def _follow(workbench: Workbench, run: Run) -> int:
    """Look after a queued run, and after others where nobody else does, and print its log until it is over."""
    from rlhf_core.ground.runs import LOG_FILE
    from rlhf_core.supervisor.supervise import Supervisor

    print(f"Run {run.id}: queued for {run.engine}. Ctrl+C ends the looking on; the run goes on.", flush=True)
    stop = threading.Event()
    supervisor = threading.Thread(target=Supervisor(workbench.workspace, workbench.ledger).serve, args=(stop,), daemon=True)
    supervisor.start()
    log_file, shown, said = workbench.workspace.run_folder(run.id) / LOG_FILE, 0, None
    try:
        over = False
        while not over:
            over = not run.unfinished
            run = workbench.ledger.get(run.id)
            if log_file.is_file():
                with log_file.open("rb") as file:
                    file.seek(shown)
                    text = file.read()
                shown += len(text)
                print(text.decode("utf-8", "replace"), end="", flush=True)
            if run.status == "queued" and run.phase and run.phase != said:
                said = run.phase
                print(said, flush=True)
            time.sleep(0.5)
    except KeyboardInterrupt:
        print(f"It goes on. The app or `python -m rlhf_core supervise` looks after it; `cancel {run.id}` ends it.")
        return 130
    finally:
        stop.set()
        supervisor.join(timeout=5)
    print(f"Run {run.id}: {run.status}. {run.message or ''}".rstrip())
    return 0 if run.status == "succeeded" else 1


def _train_elsewhere(arguments: argparse.Namespace) -> int:
    """A run that an engine carries out: its folder is its record, for the ledger is another machine's."""
    from rlhf_core.ground.processes import this_host
    from rlhf_core.ground.runs import ORDER_FILE
    from rlhf_core.ground.settings import Workspace
    from rlhf_core.store.folder_runs import FolderRecord, read_order

    root, run_id = Workspace.root_named(arguments.workspace), str(arguments.run_id)
    folder = Workspace(root).run_folder(run_id)
    if not (folder / ORDER_FILE).is_file():
        raise NotFound(
            f"{root} on {this_host()} has no run {run_id}: the workspace is not there. Mount it on every node, and set "
            "workspace in the engine's settings to where it is."
        )
    workspace, record = Workspace(root), FolderRecord(folder, arguments.attempt)
    order, run = read_order(folder), record.get(run_id)
    if int(os.environ.get("RANK", "0")):
        return train_along(workspace, run_id, run.snapshot_id, CONFIGS[run.kind].parse(run.config))
    if run.status == "queued" and order.version != __version__:
        record.claim(run_id, this_host())
        words = f"{this_host()} has RLHF Workbench {__version__}, and {order.version} asks for this run. Install one on all."
        record.finish(run_id, "failed", words, None)
        raise InvalidInput(words)
    return carry_out(workspace, record, run, own_log=True)
