"""Snapshots and checkpoints in the depot: sent there, fetched, compared with their hashes, asked where they are."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_core.analytics.distant import asking_there
from rlhf_core.analytics.snapshot import GONE, changing, list_snapshots, names_of, open_snapshot
from rlhf_core.checkpoints.registry import list_checkpoints, open_checkpoint
from rlhf_core.depot.depot import KINDS, Kept, Kind, Moved, Say
from rlhf_core.ground.errors import InvalidInput, RlhfError
from rlhf_core.ground.tables import EXPORT_COLUMNS
from rlhf_core.services import erasing
from rlhf_core.services.background import Background, Seen
from rlhf_core.services.depots import INCOMING, note_used, open_depot, settings
from rlhf_core.services.workbench import Workbench

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KINDS", "Kept", "Kind", "Moved", "settings"]
LARGEST_ANSWER = 1_000_000  # rows
LISTING_FOR_S = 30.0


def kind_of(workbench: Workbench, artifact_id: str) -> Kind:
    """Of an id or its beginning: checkpoints' ids begin with what they are."""
    workbench.require("train")
    return "checkpoints" if artifact_id.partition("-")[0] in ("reward", "policy") else "snapshots"


def here(workbench: Workbench) -> dict[Kind, list[str]]:
    """Ids of what is on this machine, newest first."""
    return {
        "snapshots": [one.id for one in list_snapshots(workbench.workspace.snapshots)],
        "checkpoints": [one.id for one in list_checkpoints(workbench.workspace.checkpoints)],
    }


def listing(workbench: Workbench) -> list[Kept]:
    """Everything in the depot."""
    workbench.require("train")
    there = open_depot()
    return [one for kind in KINDS for one in there.listing(kind)]


_listings: Background[list[Kept]] = Background(LISTING_FOR_S)


def listing_seen(workbench: Workbench) -> Seen[list[Kept]]:
    """The same for pages, which do not wait for the depot."""
    workbench.require("train")
    return _listings.look(str(workbench.workspace.root), lambda: listing(workbench))


def keep(workbench: Workbench, artifact_id: str, say: Say = lambda _: None) -> tuple[str, Moved]:
    """Send a snapshot or a checkpoint of this machine to the depot. Returns its whole id.

    Raises:
        NotFound: it is not here. CorruptArtifact: it is damaged here.
        StorageUnavailable: the depot does not answer, or refuses; what was sent stays, and is not sent again.
    """
    workbench.require("train")
    kind, there = kind_of(workbench, artifact_id), open_depot()
    if kind == "snapshots":
        with changing(workbench.workspace.snapshots):  # nobody erases somebody from it meanwhile
            snapshot = open_snapshot(workbench.workspace.snapshots, artifact_id)
            moved = there.push(kind, snapshot.folder, say)
        found = snapshot.id
    else:
        checkpoint = open_checkpoint(workbench.workspace.checkpoints, artifact_id)
        moved, found = there.push(kind, checkpoint.folder, say), checkpoint.id
    note_used(workbench)
    workbench.note("keep", found, depot=there.settings.url)
    return found, moved


def fetch(workbench: Workbench, artifact_id: str, say: Say = lambda _: None) -> tuple[str, Moved]:
    """Bring one here, without the people who were erased here before. Returns its id here.

    Raises:
        NotFound: it is not there, or was rewritten or removed here. CorruptArtifact: it is damaged there, or no artifact of ours.
        StorageUnavailable: the depot does not answer, or refuses; what came stays, and is not fetched again.
    """
    workbench.require("train")
    kind, there = kind_of(workbench, artifact_id), open_depot()
    home = _home(workbench, kind)
    incoming = home / INCOMING
    kept = there.find(kind, artifact_id)
    if (home / kept.id).is_dir():
        return kept.id, Moved(0, kept.size_bytes)
    if kind == "checkpoints":
        came, moved = there.pull(kind, kept.id, incoming, say)
        open_checkpoint(incoming, kept.id, verify=True)  # before anybody sees it
        came.rename(home / kept.id)
        found = kept.id
    else:
        if (home / GONE / f"{kept.id}.json").is_file():
            open_snapshot(home, kept.id)  # says when it went, and why: it does not come back by this way
        with changing(home):
            came, moved = there.pull(kind, kept.id, incoming, say)
            snapshot = open_snapshot(incoming, kept.id, verify=True)
            found = erasing.take_out_since(workbench, incoming, snapshot)
            if not (home / found).is_dir():
                (incoming / found).rename(home / found)
            shutil.rmtree(incoming, ignore_errors=True)
            if found != kept.id:  # somebody was erased here since: they go from there too
                there.push(kind, home / found)
                there.remove(kind, kept.id)
    workbench.note("fetch", found, depot=there.settings.url)
    return found, moved


def verify(workbench: Workbench, artifact_id: str) -> Kept:
    """Compare every file there with its hash. Raises as of :func:`fetch`."""
    return open_depot().verify(kind_of(workbench, artifact_id), artifact_id)


def drop(workbench: Workbench, artifact_id: str) -> str:
    """Remove one from the depot; here it stays. Returns its whole id.

    Raises:
        NotFound: it is not there.
    """
    kind, there = kind_of(workbench, artifact_id), open_depot()
    found = artifact_id if artifact_id in there.unfinished(kind) else there.find(kind, artifact_id).id
    there.remove(kind, found)
    workbench.note("drop", found, depot=there.settings.url)
    return found


def _home(workbench: Workbench, kind: Kind) -> Path:
    return workbench.workspace.snapshots if kind == "snapshots" else workbench.workspace.checkpoints


def ask_there(workbench: Workbench, snapshot_id: str, statement: str) -> tuple[pd.DataFrame, str]:
    """Ask a snapshot in the depot without fetching it. Returns the answer, and who read: ``httpfs`` or ``pyarrow``.

    Raises:
        NotFound: it is not there. InvalidInput: the statement is wrong, or its answer too large.
    """
    import duckdb

    workbench.require("explore")
    there = open_depot()
    kept = there.find("snapshots", snapshot_id)
    paths = {name: there.path("snapshots", kept.id, name) for table in EXPORT_COLUMNS for name in names_of(kept.manifest, table)}
    with asking_there(kept.manifest, paths, there.filesystem, there.settings) as (connection, by):
        try:
            statements = duckdb.extract_statements(statement)
            if len(statements) != 1:
                raise InvalidInput("Ask one statement.")
            if statements[0].type != duckdb.StatementType.SELECT:
                raise InvalidInput("The statement does not work: only questions (SELECT) are asked there.")
            found = connection.sql(statement)
            answer = None if found is None else found.limit(LARGEST_ANSWER + 1).df()
        except duckdb.Error as error:
            raise InvalidInput(f"The statement does not work: {str(error).strip().splitlines()[0]}") from error
    if answer is None:
        raise InvalidInput("Only questions have an answer: write a SELECT.")
    if len(answer) > LARGEST_ANSWER:
        raise InvalidInput(f"The answer has more than {LARGEST_ANSWER:,} rows. Sum up, or fetch the snapshot and export it.")
    return answer, by


# For pages: in the background.
@dataclass(frozen=True, slots=True)
class Errand:
    """Something on its way to the depot or from it. ``said``: the last word of it; ``over`` with ``problem`` or without."""

    what: str
    artifact_id: str
    said: str = ""
    over: bool = False
    problem: str = ""


_errands: dict[str, Errand] = {}
_lock = threading.Lock()


def errand(artifact_id: str) -> Errand | None:
    """The last one of this artifact since the server began."""
    with _lock:
        return _errands.get(artifact_id)


def send_for(workbench: Workbench, what: str, artifact_id: str) -> None:
    """Begin an errand: ``keep`` or ``fetch``. One that is on its way is left alone."""
    workbench.require("train")
    acts: dict[str, Callable[..., tuple[str, Any]]] = {"keep": keep, "fetch": fetch}
    with _lock:
        if (known := _errands.get(artifact_id)) is not None and not known.over:
            return
        _errands[artifact_id] = Errand(what, artifact_id)

    def change(**values: Any) -> None:
        with _lock:
            _errands[artifact_id] = replace(_errands[artifact_id], **values)

    def go() -> None:
        try:
            acts[what](workbench, artifact_id, lambda words: change(said=words))
            _listings.forget(str(workbench.workspace.root))
            change(over=True)
        except RlhfError as error:
            change(over=True, problem=str(error))
        except Exception as error:
            change(over=True, problem=f"{type(error).__name__}: {error}")
            raise

    threading.Thread(target=go, name=f"depot-{artifact_id}", daemon=True).start()
