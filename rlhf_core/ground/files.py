"""Files that are whole or absent: durable writes, atomic folders, hashes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlhf_core.ground.errors import CorruptArtifact, NotFound
from rlhf_core.ground.processes import ProcessIdentity

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_BUILDING = ".building-"
_BUILDER = re.compile(re.escape(_BUILDING) + r"(\d+)_([\d.]+)_\w+")


def canonical_json(value: Any) -> str:
    """JSON text that is the same for equal values: sorted keys, no spaces, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write beside ``path`` and rename into place, so a reader never meets half a file and none is lost."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        beside.write_text(text, encoding="utf-8")
        sync_file(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """The same of JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def is_plain_name(name: str) -> bool:
    """Whether a name that came from elsewhere may be the name of a folder here: nothing hidden, nowhere else."""
    return _PLAIN_NAME.fullmatch(name) is not None


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.
        what: What it belongs to, for messages ("snapshot 4f2c").

    Raises:
        NotFound: no such file.
        CorruptArtifact: not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"{what} has no {path.name} in {path.parent}.") from error
    except (OSError, ValueError) as error:
        raise CorruptArtifact(f"{what}: {path} cannot be read as JSON ({error}). Restore it or delete the folder.") from error
    if not isinstance(value, dict):
        raise CorruptArtifact(f"{what}: {path} does not hold a JSON object. Restore it or delete the folder.")
    return value


@contextmanager
def building(parent: Path) -> Iterator[Path]:
    """A fresh folder inside ``parent`` to build an artifact in; deleted if it is still there at the end.

    Finish with :func:`publish`. The folder's name carries the builder's process, so what a killed process left behind
    is told from what a living one is writing (see :func:`sweep_leftovers`).
    """
    parent.mkdir(parents=True, exist_ok=True)
    me = ProcessIdentity.of_this_process()
    folder = parent / f"{_BUILDING}{me.pid}_{me.create_time}_{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, final: Path) -> bool:
    """Make a built folder durable and rename it to its final name. True if it was new, False if it was there already."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            sync_file(path)
    sync_file(folder)
    try:
        folder.rename(final)
    except OSError:
        if final.is_dir():
            return False
        raise
    sync_file(final.parent)
    return True


def half_built(parent: Path) -> Iterator[Path]:
    """Folders that killed processes left half built."""
    for folder in sorted(parent.glob(f"{_BUILDING}*")):
        match = _BUILDER.fullmatch(folder.name)
        if match is None or not ProcessIdentity(int(match[1]), float(match[2])).is_alive():
            yield folder


def sweep_leftovers(parent: Path) -> list[Path]:
    """Delete them. Returns what was deleted."""
    swept = list(half_built(parent))
    for folder in swept:
        shutil.rmtree(folder, ignore_errors=True)
    return swept
