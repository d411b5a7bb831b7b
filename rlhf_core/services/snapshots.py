"""Take, list and question snapshots."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_core.analytics.erasing import note_gone
from rlhf_core.analytics.exports import Exported, Layout, export
from rlhf_core.analytics.pseudonyms import pseudonym_key
from rlhf_core.analytics.query import Question, ask, questions, questions_in_markdown
from rlhf_core.analytics.snapshot import Difference, Snapshot, changing, compare, list_snapshots, open_snapshot
from rlhf_core.analytics.taking import take_snapshot
from rlhf_core.checkpoints.registry import list_checkpoints
from rlhf_core.ground.errors import InvalidInput, RunRefused
from rlhf_core.ground.records import format_utc
from rlhf_core.ground.tables import EXPORT_FORMATS, Format
from rlhf_core.services.workbench import Workbench

if TYPE_CHECKING:
    import pandas as pd

MAX_DAYS = 36_500
__all__ = [
    "EXPORT_FORMATS", "Difference", "Exported", "Format", "Layout", "Question", "Snapshot", "answer", "difference", "export_to",
    "find", "listing", "questions", "questions_in_markdown", "remove", "take", "used_by",
]  # fmt: skip


def take(workbench: Workbench, *, days: int | None = None) -> tuple[Snapshot, bool]:
    """Export the store. Returns the snapshot and whether it is new.

    Args:
        workbench: The opened workspace.
        days: Only feedback given or changed in the last so many days; None takes all.

    Raises:
        NotEnoughData: the store is empty.
        InvalidInput: ``days`` is not positive.
    """
    if days is not None and not 1 <= days <= MAX_DAYS:
        raise InvalidInput(f"days is {days}; give 1 to {MAX_DAYS:,}, or leave it out to take everything.")
    workbench.require("explore")
    since = None if days is None else format_utc(datetime.now(UTC) - timedelta(days=days))
    with changing(workbench.workspace.snapshots), workbench.store.export() as shown:  # the lock first: see there
        taken, new = take_snapshot(shown, workbench.workspace.snapshots, pseudonym_key(workbench.workspace.keys), since=since)
    if new:
        workbench.note("snapshot", taken.id, ratings=taken.ratings, chats=taken.rows["chats"])
    return taken, new


def listing(workbench: Workbench) -> list[Snapshot]:
    workbench.require("explore")
    return list_snapshots(workbench.workspace.snapshots)


def find(workbench: Workbench, snapshot_id: str, *, verify: bool = False) -> Snapshot:
    """A snapshot by its id or the beginning of it; ``verify`` reads and hashes every file.

    Raises:
        Forbidden: the role. NotFound: there is none, or several; it says what became of one that is gone. CorruptArtifact.
    """
    workbench.require("explore")
    return open_snapshot(workbench.workspace.snapshots, snapshot_id, verify=verify)


def answer(workbench: Workbench, snapshot_id: str, question: str, **params: Any) -> pd.DataFrame:
    """A named question's answer: see :func:`rlhf_core.analytics.query.ask`, also for errors."""
    return ask(find(workbench, snapshot_id), question, **params)


def used_by(workbench: Workbench, snapshot_id: str) -> tuple[list[str], list[str]]:
    """Runs and checkpoints made from a snapshot, by id."""
    runs = [run.id for run in workbench.ledger.recent(None) if run.snapshot_id == snapshot_id]
    found = list_checkpoints(workbench.workspace.checkpoints)
    return runs, [one.id for one in found if one.snapshot_id == snapshot_id]


def difference(workbench: Workbench, before: str, after: str) -> list[Difference]:
    """What changed from one snapshot to the other, by table."""
    return compare(find(workbench, before), find(workbench, after))


def remove(workbench: Workbench, snapshot_id: str, *, even_if_used: bool = False) -> Snapshot:
    """Delete a snapshot; a note of it stays.

    Raises:
        NotFound: no such snapshot.
        RunRefused: a run is using it, or (without ``even_if_used``) runs or checkpoints were made from it: their ratings could
            not be traced any more.
    """
    snapshot = find(workbench, snapshot_id)
    busy = [run.id for run in workbench.ledger.not_over() if run.snapshot_id == snapshot.id]
    if busy:
        raise RunRefused(f"Snapshot {snapshot.id} is in use by run {busy[0]}. Wait for its end, or cancel it.")
    runs, checkpoints = used_by(workbench, snapshot.id)
    if (runs or checkpoints) and not even_if_used:
        raise RunRefused(
            f"{len(runs)} runs and {len(checkpoints)} checkpoints were made from snapshot {snapshot.id}; without it nobody can "
            "say from which ratings. Say that you mean it (--even-if-used) to remove it all the same."
        )
    with changing(workbench.workspace.snapshots):
        note_gone(snapshot, "it was removed", None)
    workbench.note("remove snapshot", snapshot.id)
    return snapshot


def export_to(
    workbench: Workbench, snapshot_id: str, what: Format, out: Path, *, layout: Layout = "jsonl", plain: bool = False
) -> Exported:
    """Write a snapshot's feedback for other tools: see :func:`rlhf_core.analytics.exports.export`."""
    snapshot = find(workbench, snapshot_id)
    exported = export(snapshot, what, out, layout=layout, plain=plain)
    workbench.note("export", snapshot.id, format=what)
    return exported
