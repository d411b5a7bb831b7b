"""Queries that somebody saved under a name, for everybody who explores on this workbench."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import filelock

from rlhf_core.ground.errors import CorruptArtifact, Duplicate, Forbidden, InvalidInput, NotFound, disk_errors
from rlhf_core.ground.files import read_json, write_json
from rlhf_core.ground.records import Session, utc_now
from rlhf_core.services.workbench import Workbench

MAX_NAME = 80  # characters
MAX_SQL = 100_000  # characters
MOST = 1000  # that are kept


@dataclass(frozen=True, slots=True)
class SavedQuery:
    """``owner``: a hash of who saved it; ``by``: their name, "" once they were erased; ``at``: when, UTC."""

    name: str
    sql: str
    owner: str
    by: str
    at: str


def owner_of(user_id: str) -> str:
    """What stands in files in the place of a person's id: the first 64 bits of its SHA-256, as hexadecimal digits."""
    return hashlib.sha256(user_id.encode()).hexdigest()[:16]


def folder(workbench: Workbench) -> Path:
    """Where the histories of people's queries are as well."""
    return workbench.workspace.root / "queries"


def listing(workbench: Workbench) -> list[SavedQuery]:
    """By name.

    Raises:
        Forbidden: the role. CorruptArtifact: the file that holds them cannot be read.
    """
    workbench.require("explore")
    return _read(folder(workbench) / "saved.json")


def find(workbench: Workbench, name: str) -> SavedQuery:
    """
    Raises:
        NotFound: none is saved under this name. Forbidden, CorruptArtifact: as of :func:`listing`.
    """
    found = next((one for one in listing(workbench) if one.name == name), None)
    if found is None:
        raise NotFound(f"No query is saved as {name[:MAX_NAME]!r}. It may have been removed; Saved lists those that there are.")
    return found


def save(workbench: Workbench, session: Session, name: str, sql: str) -> SavedQuery:
    """Save a query; one that this person saved under the same name is replaced.

    Raises:
        InvalidInput: no name, no query, or too long. Duplicate: somebody else's has this name. Forbidden: the role.
        StorageFull: nothing was saved. CorruptArtifact: as of :func:`listing`.
    """
    workbench.require("explore")
    name, sql = " ".join(name.split()), sql.strip()
    if not 0 < len(name) <= MAX_NAME:
        raise InvalidInput(f"Give the query a name of at most {MAX_NAME} characters.")
    if not 0 < len(sql) <= MAX_SQL:
        raise InvalidInput(f"There is no query to save, or it has more than {MAX_SQL:,} characters.")
    made = SavedQuery(name, sql, owner_of(session.user_id), session.display_name, utc_now())
    with _changing(workbench) as kept:
        same = next((one for one in kept if one.name.casefold() == name.casefold()), None)
        if same is not None and same.owner != made.owner:
            raise Duplicate(f"{same.by or 'Somebody'} saved another one as {same.name!r}. Take another name.")
        if same is None and len(kept) >= MOST:
            raise InvalidInput(f"{MOST:,} queries are saved; remove some that nobody needs first.")
        if same is not None:
            kept.remove(same)
        kept.append(made)
    return made


def removable(workbench: Workbench, session: Session, query: SavedQuery) -> bool:
    """Whether this person may remove it: their own, on a team's store; any, for administrators and on the embedded store."""
    return query.owner == owner_of(session.user_id) or workbench.may("manage")


def remove(workbench: Workbench, session: Session, name: str) -> None:
    """
    Raises:
        NotFound: none is saved under this name. Forbidden: it is somebody else's. StorageFull: nothing was changed.
        CorruptArtifact: as of :func:`listing`.
    """
    query = find(workbench, name)
    if not removable(workbench, session, query):
        raise Forbidden(f"{query.by or 'Somebody else'} saved {name!r}; they and administrators can remove it.")
    with _changing(workbench) as kept:
        kept[:] = [one for one in kept if one != query]


def forget_owner(workbench: Workbench, user_id: str) -> None:
    """Take a person's name from what they saved; the queries stay for the others."""
    if (folder(workbench) / "saved.json").exists():
        with _changing(workbench) as kept:
            kept[:] = [replace(one, owner="", by="") if one.owner == owner_of(user_id) else one for one in kept]


@contextmanager
def _changing(workbench: Workbench) -> Iterator[list[SavedQuery]]:
    """What is saved, to be changed by one process at a time."""
    path = folder(workbench) / "saved.json"
    with disk_errors("saving queries", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            kept = _read(path)
            yield kept
            write_json(path, {"saved": [asdict(one) for one in sorted(kept, key=lambda one: one.name.casefold())]})


def _read(path: Path) -> list[SavedQuery]:
    if not path.exists():
        return []
    what = "the file of saved queries"
    try:
        return [SavedQuery(**one) for one in read_json(path, what)["saved"]]
    except (KeyError, TypeError) as error:
        raise CorruptArtifact(f"{path} is not {what} any more. Put it back from a backup, or move it away.") from error
