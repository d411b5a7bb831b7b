"""A copy of an embedded workspace, taken while it is in use, checked when it is brought back."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from rlhf_core import __version__
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, NotFound, disk_errors
from rlhf_core.ground.files import building, publish, read_json, sha256_of, write_json
from rlhf_core.ground.records import utc_now
from rlhf_core.ground.runs import LOCAL
from rlhf_core.ground.settings import Workspace
from rlhf_core.services import erasing
from rlhf_core.services.workbench import Workbench

FORMAT = 1
MANIFEST = "backup.json"
STORE = "workbench.sqlite3"
SMALL = ("keys", "attacks", "queries")  # what goes along with the store in any case
LARGE = ("snapshots", "checkpoints", "runs")  # each of their folders is whole or absent


def back_up(
    workbench: Workbench, out: Path, *, store_only: bool = False, on_progress: Callable[[str], None] | None = None
) -> Path:
    """Copy the workspace to a new folder: whole or not at all. Others may go on with their work meanwhile.

    The store is copied first, as of one moment, so that what it names is there: snapshots, checkpoints and runs are made before
    they are named. Logs and caches stay behind.

    Args:
        workbench: What to copy.
        out: The new folder.
        store_only: Only the store, keys and small files: quick, and snapshots can be taken anew from it.
        on_progress: Called with what is being copied.

    Raises:
        InvalidInput: the folder is there already, or lies within the workspace.
        StorageFull: there is no room; nothing is left behind.
    """
    workbench.require("manage")
    root, say = workbench.workspace.root, on_progress or (lambda _: None)
    if out.exists():
        raise InvalidInput(f"{out} is there already. Name a new folder.")
    if out.resolve().is_relative_to(root.resolve()):
        raise InvalidInput(f"{out} lies within the workspace. A backup belongs on another disk.")
    began = utc_now()
    with disk_errors("making the backup", out.parent), building(out.parent) as scratch:
        scratch.chmod(0o700)  # keys make tickets and tell who is who
        say("the store")
        with (
            closing(sqlite3.connect(workbench.workspace.database)) as source,
            closing(sqlite3.connect(scratch / STORE)) as target,
        ):
            source.backup(target)  # in one go: in parts it would begin anew whenever somebody writes
            target.execute("PRAGMA journal_mode = DELETE")  # one file
        for name in (*SMALL, *(() if store_only else LARGE)):
            if (root / name).is_dir():
                say(name)
                _copy(root / name, scratch / name)
        if (root / erasing.ERASED_FILE).is_file():
            shutil.copyfile(root / erasing.ERASED_FILE, scratch / erasing.ERASED_FILE)
        for path in (scratch / "keys").glob("*"):
            path.chmod(0o600)
        say("hashes")
        files = {str(path.relative_to(scratch)): sha256_of(path) for path in _files(scratch)}
        manifest = {"format": FORMAT, "version": __version__, "at": began, "store_only": store_only, "files": files}
        write_json(scratch / MANIFEST, manifest)
        publish(scratch, out)
    workbench.note("back up", out.name, store_only=store_only)
    return out


def restore(backup: Path, root: Path, *, erased: Path | None = None) -> tuple[Workbench, int]:
    """Make a workspace of a backup, each file checked against its hash.

    Args:
        backup: The folder that :func:`back_up` made.
        root: A new folder, or an empty one.
        erased: The newest ``erased.jsonl`` of the workspace: who was erased after the backup was made is erased again.

    Returns:
        The workspace opened, and how many people were erased again.

    Raises:
        NotFound, CorruptArtifact: it is no backup, or not as it was made. InvalidInput: the folder holds something.
    """
    manifest = read_json(backup / MANIFEST, f"the backup {backup}")
    if manifest.get("format") != FORMAT or not isinstance(manifest.get("files"), dict):
        raise CorruptArtifact(f"The backup {backup} is of another version of the workbench ({manifest.get('version')}).")
    if root.exists() and any(root.iterdir()):
        raise InvalidInput(f"{root} holds something. Name a new folder.")
    names = set[str]()
    for path in (erased, backup / erasing.ERASED_FILE):  # the backup's own names who was erased while it was made
        if path is not None and (path is erased or path.is_file()):
            names |= _erased(path, manifest["at"])
    there = root.is_dir()  # and empty: perhaps a volume, which cannot be made anew
    parent = root if there else root.parent
    with disk_errors("bringing the backup back", parent), building(parent) as scratch:
        scratch.chmod(0o700)
        for name, sha256 in manifest["files"].items():
            source, target = backup / name, scratch / name
            if not source.resolve().is_relative_to(backup.resolve()) or not target.resolve().is_relative_to(scratch.resolve()):
                raise CorruptArtifact(f"The backup {backup} names a file outside of it: {name}.")
            if not source.is_file():
                raise CorruptArtifact(f"The backup {backup} lacks {name}.")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            if sha256_of(target) != sha256:
                raise CorruptArtifact(f"{source} is not as it was backed up. Use another backup.")
        for path in (scratch / "keys").glob("*"):
            path.chmod(0o600)
        if there:
            for one in [*scratch.iterdir()]:
                one.rename(root / one.name)
        else:
            publish(scratch, root)
    workbench = Workbench(Workspace.resolve(root))
    for run in workbench.ledger.not_over():
        if run.engine != LOCAL:  # its engine's job is the original's, if anybody's
            workbench.ledger.set_holds(run, False)
            workbench.ledger.set_job(run, None)
            if run.status == "running":
                workbench.ledger.finish(run.id, "lost", "It was at work when the backup was made that this came back from.", None)
    return workbench, erasing.erase_again(workbench, names)


def _erased(path: Path, since: str) -> set[str]:
    """Pseudonyms of who was erased since a time (UTC text): who came back after an erasure before it stays."""
    try:
        with path.open(encoding="utf-8") as lines:
            entries = [json.loads(line) for line in lines if line.strip()]
            return {str(one["pseudonym"]) for one in entries if str(one["at"]) >= since}
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path} is no list of people who were erased: {error}.") from error


def _copy(source: Path, target: Path) -> None:
    """What is whole now; what is removed meanwhile is left out."""
    target.mkdir(exist_ok=True)
    for one in sorted(source.iterdir()):
        if one.name.startswith(".") and not one.name.startswith(".gone"):
            continue  # half built, or made anew on use
        with contextlib.suppress(FileNotFoundError):
            if one.is_dir():
                shutil.copytree(one, target / one.name, copy_function=_copy_if_there)
            else:
                shutil.copyfile(one, target / one.name)
        if not one.exists():
            shutil.rmtree(target / one.name, ignore_errors=True)


def _copy_if_there(source: str, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # a run at work writes beside and renames
        shutil.copyfile(source, target)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
