"""A run as one folder: its row, config, measures, log, answers, and the checkpoints that it made; taken in elsewhere."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from rlhf_core.analytics.snapshot import open_snapshot
from rlhf_core.checkpoints.registry import MANIFEST, list_checkpoints, open_checkpoint
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, NotFound, RunRefused, disk_errors
from rlhf_core.ground.files import building, is_plain_name, publish, read_json, write_json
from rlhf_core.ground.runs import ANSWERS_FILE, CONFIG_FILE, LOG_FILE, MACHINE_FILE, METRICS_FILE, SAMPLES_FILE, Run, RunKind
from rlhf_core.services.workbench import Workbench

FORMAT = 1
ROW_FILE, SNAPSHOT_FILE = "run.json", "snapshot.json"
FILES = (CONFIG_FILE, METRICS_FILE, SAMPLES_FILE, ANSWERS_FILE, MACHINE_FILE, LOG_FILE)


def export_run(workbench: Workbench, run_id: str, out: Path) -> Path:
    """Write an ended run to a new folder: whole or not at all. Of its snapshot only the manifest goes along (counts, hashes), no
    rating.

    Raises:
        NotFound: there is no such run.
        RunRefused: it has not ended.
        InvalidInput: the folder is there already.
        CorruptArtifact: a checkpoint of it is not what was written.
    """
    workbench.require("train")
    run = workbench.ledger.get(run_id)
    if run.unfinished or run.status == "paused":
        raise RunRefused(f"Run {run.id} is {run.status}; it can be exported once it has ended.")
    if out.exists():
        raise InvalidInput(f"{out} is there already. Name a new folder.")
    folder = workbench.workspace.run_folder(run.id)
    with disk_errors("exporting the run", out.parent), building(out.parent) as scratch:
        write_json(scratch / ROW_FILE, {"format": FORMAT, "run": asdict(run)})
        for name in FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, scratch / name)
        with contextlib.suppress(NotFound):  # removed since, or the run had none
            write_json(scratch / SNAPSHOT_FILE, open_snapshot(workbench.workspace.snapshots, run.snapshot_id).manifest)
        for one in list_checkpoints(workbench.workspace.checkpoints):
            if one.run_id == run.id:
                one.verify()
                shutil.copytree(one.folder, scratch / "checkpoints" / one.id)
        publish(scratch, out)
    return out


def import_run(workbench: Workbench, folder: Path) -> tuple[Run, list[str]]:
    """Take in such a folder: whole or not at all. Returns the run and the ids of its checkpoints.

    Raises:
        NotFound: there is no such folder.
        CorruptArtifact: it is no exported run, or a checkpoint's files are not those that its manifest names.
        RunRefused: a run of this id is here.
    """
    workbench.require("train")
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.")
    run = _row_of(read_json(folder / ROW_FILE, f"The row of the run in {folder}"), folder)
    if any(one.id == run.id for one in workbench.ledger.recent(None)):
        raise RunRefused(f"Run {run.id} is in this workspace already.")
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    if links:
        raise CorruptArtifact(f"{links[0]} is a link; an exported run has none.")
    home = workbench.workspace
    names = sorted(path.name for path in (folder / "checkpoints").glob("*") if (path / MANIFEST).is_file())
    for name in names:
        one = open_checkpoint(folder / "checkpoints", name, verify=True)
        if one.run_id != run.id:
            raise CorruptArtifact(f"Checkpoint {name} is of run {one.run_id}, not of {run.id}.")
    with disk_errors("importing the run", home.root):
        for name in names:
            with building(home.checkpoints) as scratch:
                shutil.copytree(folder / "checkpoints" / name, scratch, dirs_exist_ok=True)
                publish(scratch, home.checkpoints / name)
        if not home.run_folder(run.id).exists():
            with building(home.runs) as scratch:
                for name in FILES:
                    if (folder / name).is_file():
                        shutil.copyfile(folder / name, scratch / name)
                publish(scratch, home.run_folder(run.id))
    workbench.ledger.restore(run)
    return run, names


def _row_of(read: dict[str, Any], folder: Path) -> Run:
    try:
        if read["format"] != FORMAT:
            raise CorruptArtifact(f"{folder} was exported in format {read['format']!r}; this workbench reads {FORMAT}.")
        run = TypeAdapter(Run).validate_python(read["run"])
    except (KeyError, TypeError, ValidationError) as error:
        raise CorruptArtifact(f"{folder} is no exported run: {str(error).splitlines()[0]}.") from error
    if run.unfinished or run.status == "paused" or run.kind not in get_args(RunKind) or not is_plain_name(run.id):
        raise CorruptArtifact(f"{folder} is no exported run: its row is of a {run.status} run {run.id!r} of kind {run.kind!r}.")
    return run
