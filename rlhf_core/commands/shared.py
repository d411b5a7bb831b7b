"""What several commands share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rlhf_core.ground.engines import Resources
from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.runs import LOCAL, RunKind
from rlhf_core.ground.settings import WORKSPACE_VARIABLE, Workspace
from rlhf_core.services.workbench import Workbench

if TYPE_CHECKING:
    from rlhf_core.services.training import Where

Command = Callable[..., argparse.ArgumentParser]
"""Adds a command: its name, what does it, what it is for."""

RUNS: tuple[tuple[RunKind, str, str], ...] = (
    ("reward", "Train a reward model on a snapshot.", "id or its beginning; not needed with --resume-from"),
    ("sft", "Teach a policy the answers that people rated well.", "whose answers: id or its beginning (default: the newest)"),
    (
        "ppo", "Improve a policy by rewards (PPO).",
        "where prompts come from: id or its beginning (default: the newest; without any, five example questions)",
    ),
    (
        "generate", "Write answers to a snapshot's queries, into the store.",
        "whose queries: id or its beginning (default: the newest)",
    ),
)  # fmt: skip


def add_snapshot(one: argparse.ArgumentParser) -> None:
    """The flag that names one; see :func:`newest`."""
    one.add_argument("--snapshot", metavar="ID", help="id or its beginning (default: the newest)")


def add_place(one: argparse.ArgumentParser) -> None:
    """Flags that say where a run is carried out, and with what."""
    where = one.add_argument_group("where it is carried out")
    where.add_argument(
        "--engine", metavar="NAME", default=LOCAL,
        help="a Ray cluster or Slurm by its name in the settings: queue the run there and follow it (default: this machine)",
    )  # fmt: skip
    for name, field in Resources.model_fields.items():
        choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
        where.add_argument(
            f"--{name.replace('_', '-')}", default=argparse.SUPPRESS, choices=choices or None, help=field.description,
            metavar=None if choices else "N",
        )  # fmt: skip


def place_of(arguments: argparse.Namespace) -> Where:
    from rlhf_core.services.training import Where

    asked = {name: value for name, value in vars(arguments).items() if name in Resources.model_fields}
    return Where(arguments.engine, Resources.parse(asked))


def open_workbench(arguments: argparse.Namespace) -> Workbench:
    return Workbench.open_for_command(arguments.workspace)


def existing_workbench(arguments: argparse.Namespace) -> Workbench:
    """As :func:`open_workbench`, for what has nothing to do in a workspace that would be made for it.

    Raises:
        NotFound: there is no workspace in the folder.
    """
    root = Workspace.root_named(arguments.workspace)
    if not Workspace(root).database.is_file():
        raise NotFound(f"There is no workspace in {root}. Name it with --workspace or {WORKSPACE_VARIABLE}.")
    return open_workbench(arguments)


def newest(workbench: Workbench) -> str:
    from rlhf_core.services import snapshots

    known = snapshots.listing(workbench)
    if not known:
        raise NotFound("There is no snapshot yet. Take one with `python -m rlhf_core snapshot`.")
    return known[0].id


def options_of(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(values, dict):
        raise InvalidInput(f"{path} does not hold a JSON object of options.")
    return values
