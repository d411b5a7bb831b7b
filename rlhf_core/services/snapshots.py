"""Take, list and question snapshots."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rlhf_core.analytics.pseudonyms import pseudonym_key
from rlhf_core.analytics.query import Question, ask, questions
from rlhf_core.analytics.snapshot import Snapshot, list_snapshots, open_snapshot
from rlhf_core.analytics.taking import take_snapshot
from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.records import format_utc
from rlhf_core.services.workbench import Workbench

if TYPE_CHECKING:
    import pandas as pd

MAX_DAYS = 36_500
__all__ = ["Question", "Snapshot", "answer", "find", "listing", "questions", "take"]


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
    with workbench.store.export() as export:
        return take_snapshot(export, workbench.workspace.snapshots, pseudonym_key(workbench.workspace.keys), since=since)


def listing(workbench: Workbench) -> list[Snapshot]:
    workbench.require("explore")
    return list_snapshots(workbench.workspace.snapshots)


def find(workbench: Workbench, snapshot_id: str, *, verify: bool = False) -> Snapshot:
    workbench.require("explore")
    return open_snapshot(workbench.workspace.snapshots, snapshot_id, verify=verify)


def answer(workbench: Workbench, snapshot_id: str, question: str, **params: Any) -> pd.DataFrame:
    return ask(find(workbench, snapshot_id), question, **params)
