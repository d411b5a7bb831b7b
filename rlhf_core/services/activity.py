"""The log of who took, trained, imported, changed and erased what. Services write it by :meth:`Workbench.note`."""

from __future__ import annotations

from rlhf_core.ground import rollout
from rlhf_core.ground.records import LogEntry
from rlhf_core.ground.runs import LOCAL
from rlhf_core.services.workbench import Workbench

__all__ = ["ACTS", "about", "deed", "log", "particulars"]
ACTS = {
    "snapshot": "took a snapshot",
    "remove snapshot": "removed a snapshot",
    "export": "exported ratings",
    "import": "imported chats",
    "train": "started a run",
    "cancel": "cancelled a run",
    "pause": "paused a run",
    "go on": "let a paused run go on",
    "move first": "let a run start before others",
    "hand over": "handed training over to another trainer",
    "take back": "took in what another trainer made",
    "remove checkpoint": "removed a checkpoint or a run's state",
    "push": "uploaded a checkpoint",
    "queue": "made or changed a queue",
    "queue order": "let a checkpoint order a queue",
    "hints": "let a checkpoint score a queue ahead",
    "rubric": "changed a queue's questions",
    "known answer": "made a known answer",
    "remove known answer": "removed a known answer",
    "screening": "let somebody be screened again",
    "decide": "settled a dispute",
    "undecide": "opened a dispute again",
    "role": "gave a role",
    "erase": "erased a person",
    "expire": "deleted what was kept for its time",
    "application": "changed which applications may ask",
    "back up": "backed the workspace up",
    "keep": "copied something to a depot",
    "fetch": "fetched something from a depot",
    "drop": "removed something from a depot",
    "retrain": "trained anew",
    "drift": "saw something drift",
} | {f"model {act}": words for act, words in rollout.ACTS.items()}


def deed(entry: LogEntry) -> str:
    """What was done, in words."""
    if entry.act == "role" and not entry.detail.get("role"):
        return "took a role away"
    if entry.act == "queue" and "archived" in entry.detail:
        return "closed a queue" if entry.detail["archived"] else "opened a queue again"
    if entry.act == "application":
        words = {"added": "let an application in", "revoked": "shut an application out"}
        return next((words[one] for one in words if entry.detail.get(one)), "changed an application")
    return ACTS.get(entry.act, entry.act)


def about(entry: LogEntry) -> str:
    """What it was done to: its name where it has one."""
    return str(entry.detail.get("name") or entry.what)


def particulars(entry: LogEntry) -> str:
    """What else is known of it."""
    if entry.act == "role":
        return f"{entry.detail.get('before') or 'no role'} → {entry.detail.get('role') or 'no role'}"
    return ", ".join(
        name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}"
        for name, value in entry.detail.items()
        if value not in (None, "", False) and name != "name" and (name, value) != ("engine", LOCAL)
    )


def log(workbench: Workbench, words: str = "", limit: int = 500) -> list[LogEntry]:
    """The newest acts first; those that hold the words. On a team's store those of every machine; otherwise this one's.

    Raises:
        Forbidden: for administrators only.
    """
    workbench.require("manage")
    if workbench.team_log is not None:
        return workbench.team_log.acts(words, limit)
    return workbench.audit.entries(words, limit)
