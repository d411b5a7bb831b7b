"""Answers that a run wrote, put into the store: ready to be labelled, preferred and compared."""

from __future__ import annotations

from typing import Any

from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.runs import ANSWERS_FILE, Run
from rlhf_core.services import erasing_runs, importing
from rlhf_core.services.tailing import json_lines
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.base import BulkCounts

SOURCE = "generated"  # of chats
AT_ONCE = 1000


def written(workbench: Workbench, run_id: str) -> list[dict[str, Any]]:
    """Answers of a run so far, in the order written: ``query``, ``response``, ``model``, ``ended``."""
    return json_lines(workbench.workspace.run_folder(run_id) / ANSWERS_FILE)


def store(workbench: Workbench, run: Run) -> BulkCounts:
    """Add them as chats. Those that are there already, alike ones, and those without a word are not added.

    Raises:
        InvalidInput: it has written none.
        SignInRequired: the store is a team's, and nobody has said who asks.
        Forbidden: the person may not add chats.
    """
    workbench.require("import")
    erasing_runs.settle_run(workbench, run.id)  # whoever asked may have been erased meanwhile
    records = [
        {name: one[name] for name in ("query", "response", "model")}
        for one in written(workbench, run.id)
        if one["response"].strip()
    ]
    if not records:
        raise InvalidInput(f"Run {run.id} has written no answer yet.")
    total = BulkCounts()
    for k in range(0, len(records), AT_ONCE):
        _, counts = importing.add_chats(workbench, records[k : k + AT_ONCE], SOURCE)
        total.chats, total.known_chats = total.chats + counts.chats, total.known_chats + counts.known_chats
        total.steps += counts.steps
    return total
