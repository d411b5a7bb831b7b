"""A person's own say over what they said: consent, and erasing it from store and snapshots."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_core.analytics.erasing import holding, take_out, take_out_chats
from rlhf_core.analytics.pseudonyms import Pseudonyms, pseudonym_key
from rlhf_core.analytics.snapshot import Snapshot, changing
from rlhf_core.checkpoints.registry import list_checkpoints
from rlhf_core.ground.errors import CorruptArtifact, disk_errors
from rlhf_core.ground.records import Consent, Session, new_id, utc_now
from rlhf_core.services import erasing_runs, querying, snapshots
from rlhf_core.services.depots import with_depots_snapshots
from rlhf_core.services.workbench import Workbench

ERASED_FILE = "erased.jsonl"  # pseudonyms of people who were erased, in the workspace
__all__ = [
    "ERASED_FILE", "Erasure", "consent", "delete_chats", "erase", "erase_again", "erase_visitor", "erased", "set_consent",
    "traces", "weigh",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Erasure:
    """``snapshots``: (old id, what it became). ``runs`` and ``checkpoints`` had been made from the old ones: what a model has
    learnt does not go away by itself."""

    judgements: int
    snapshots: list[tuple[str, str]]
    runs: list[str]
    checkpoints: list[str]
    chats: int = 0

    def __str__(self) -> str:
        chats = f"{self.chats:,} chats, " if self.chats else ""
        text = f"{chats}{self.judgements:,} judgements and all that belonged to them are deleted."
        if self.snapshots:
            text += f" {len(self.snapshots)} snapshots on this machine were rewritten without them."
        if self.runs or self.checkpoints:
            text += f" {len(self.runs)} runs and {len(self.checkpoints)} checkpoints had learnt from those."
        return text


def erase(workbench: Workbench, session: Session) -> Erasure:
    """Delete all that is kept of this person's labelling, here and in this workspace's snapshots. May be done again."""
    pseudonym = _pseudonym(workbench, session.user_id)
    _remember(workbench, pseudonym, chats=False)
    judgements = workbench.store.for_user(session).erase()
    if workbench.team is None:
        workbench.embedded.forget_deleted()
    done = _from_snapshots(workbench, session.user_id, judgements)
    workbench.note("erase", pseudonym, "themselves", judgements=judgements, snapshots=len(done.snapshots))
    querying.forget(workbench, session.user_id)  # last: a damaged file of queries keeps nobody in the store or in a snapshot
    return done


def weigh(workbench: Workbench, session: Session) -> str:
    """What erasing this person would take away, in words; nothing is changed."""
    rows = {table: len(found) for table, found in workbench.store.for_user(session).everything().items() if found}
    with changing(workbench.workspace.snapshots):
        holds = [one.id for one in holding(workbench.workspace.snapshots, _pseudonym(workbench, session.user_id))]
    said = ", ".join(f"{count:,} {table.replace('_', ' ')}" for table, count in rows.items()) or "nothing in the store"
    rewritten = f"; {len(holds)} snapshots are rewritten without them ({', '.join(holds)})" if holds else ""
    return f"{said}{rewritten}."


def erase_visitor(workbench: Workbench, user_id: str, by: str | None = "themselves") -> Erasure:
    """Delete all that is kept of a person of a chat application, the chats that are theirs included, and log that it was done.

    Args:
        workbench: Whose.
        user_id: Whom.
        by: Who asked for it, for the log; None: who uses the workbench.
    """
    pseudonym, erasure_id = _pseudonym(workbench, user_id), new_id()
    if not workbench.collecting.knows(user_id, pseudonym):
        return Erasure(0, [], [], [])
    _remember(workbench, pseudonym, chats=True)
    questions = erasing_runs.forget(workbench, {query for _, query in workbench.collecting.to_erase(user_id)})  # while known
    gone = workbench.collecting.erase(user_id, pseudonym, erasure_id, questions)
    rows = gone["rows"]
    judgements = sum(rows.get(table, 0) for table in ("feedback", "preferences", "aspect_ratings"))
    done = _from_snapshots(workbench, user_id, judgements, chats=gone["chats"])
    workbench.collecting.finish_erasures(pseudonym, erasure_id, {
        "rows": rows, "finished": True, "snapshots": done.snapshots, "runs": done.runs, "checkpoints": done.checkpoints,
        "questions": questions,
    })  # fmt: skip
    workbench.note("erase", pseudonym, by, judgements=judgements, chats=done.chats, snapshots=len(done.snapshots))
    return done


def delete_chats(workbench: Workbench, chats: Sequence[tuple[str, str]], why: str) -> None:
    """Delete chats, ids and questions, everywhere: from what runs wrote down, snapshots, the store, in this order, so that it can
    be done again where it is interrupted."""
    ids = [one for one, _ in chats]
    erasing_runs.forget(workbench, {query for _, query in chats})
    with changing(workbench.workspace.snapshots), with_depots_snapshots(workbench) as replace_there:
        rewritten = take_out_chats(workbench.workspace.snapshots, ids, why)
        _move_runs(workbench, rewritten)
        replace_there(rewritten)
        workbench.collecting.delete_chats(ids)


def _move_runs(workbench: Workbench, rewritten: Sequence[tuple[str, str]]) -> None:
    """Those that wait for their turn learn from what their snapshot became."""
    for old, new in rewritten:
        workbench.ledger.move(old, new)


def erase_again(workbench: Workbench, pseudonyms: Iterable[str]) -> int:
    """Erase the people who stand in the store under these pseudonyms: those who had been erased before it was brought back from
    a backup. How many they were."""
    known, name = set(pseudonyms), Pseudonyms(pseudonym_key(workbench.workspace.keys))
    people = [one for one in workbench.embedded.profiles() if name(one.user_id) in known]
    for one in people:
        if one.origin == "application":
            erase_visitor(workbench, one.user_id, "the backup's restorer")
        else:
            erase(workbench, Session(one.user_id, one.display_name))
    with changing(workbench.workspace.snapshots), with_depots_snapshots(workbench) as replace_there:
        for pseudonym in known:  # those of whom only snapshots know
            replace_there(take_out(workbench.workspace.snapshots, pseudonym, chats=()))
    return len(people)


def take_out_since(workbench: Workbench, folder: Path, snapshot: Snapshot) -> str:
    """Take everybody out of a snapshot who was erased here since it was taken; who came back after an erasure before it stays.
    ``folder`` holds it alone. Returns its id, or what it became."""
    found = snapshot.id
    for entry in _erasures(workbench):
        if entry["at"] > snapshot.created_at:
            chats = () if entry["chats"] else None
            found = dict(take_out(folder, entry["pseudonym"], chats=chats)).get(found, found)
    return found


def erased(workbench: Workbench) -> frozenset[str]:
    """Pseudonyms of everybody who was erased here."""
    return frozenset(entry["pseudonym"] for entry in _erasures(workbench))


def _erasures(workbench: Workbench) -> list[dict[str, Any]]:
    """In order: ``pseudonym``, ``at``, and whether their ``chats`` went with them."""
    path = workbench.workspace.root / ERASED_FILE
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        return [{"pseudonym": one["pseudonym"], "at": one["at"], "chats": one.get("chats", True)} for one in lines]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # no JSON, or of another shape
        raise CorruptArtifact(f"{path} says who was erased, and cannot be read: {error}. Put it back from a backup.") from error


def _remember(workbench: Workbench, pseudonym: str, *, chats: bool) -> None:
    """For whoever brings back an older backup: see :mod:`rlhf_core.services.backing_up`."""
    path = workbench.workspace.root / ERASED_FILE
    with disk_errors("noting that somebody is erased", path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"pseudonym": pseudonym, "at": utc_now(), "chats": chats}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def traces(workbench: Workbench, user_id: str) -> dict[str, Any]:
    """Where a person of a chat application still stands: ``found``, rows by table of the store, and ``snapshots`` and ``runs`` by
    their ids; ``erasures``, when they were erased and what went; ``late``, checkpoints that runs then at work saved since."""
    pseudonym = _pseudonym(workbench, user_id)
    erasing_runs.settle(workbench)
    found: dict[str, Any] = dict(workbench.collecting.places_of(user_id))
    with changing(workbench.workspace.snapshots), with_depots_snapshots(workbench):
        snapshots_with = [one.id for one in holding(workbench.workspace.snapshots, pseudonym)]
    if snapshots_with:
        found["snapshots"] = snapshots_with
    erasures = workbench.collecting.erasures(pseudonym)
    if runs := erasing_runs.still_in(workbench, (one for what in erasures for one in what.get("questions", ()))):
        found["runs"] = runs
    told = {one for what in erasures for one in what.get("checkpoints", ())}
    old = {before for what in erasures for before, _ in what.get("snapshots", ())}
    late = [one.id for one in list_checkpoints(workbench.workspace.checkpoints) if one.snapshot_id in old and one.id not in told]
    return {"found": found, "erasures": erasures, "late": late}


def _pseudonym(workbench: Workbench, user_id: str) -> str:
    name = Pseudonyms(pseudonym_key(workbench.workspace.keys))(user_id)
    assert name is not None
    return name


def _from_snapshots(workbench: Workbench, user_id: str, judgements: int, *, chats: Sequence[str] | None = None) -> Erasure:
    """``chats``: those that go with them, beside the ones that snapshots know as theirs; None: chats stay."""
    pseudonym, folder = _pseudonym(workbench, user_id), workbench.workspace.snapshots
    with changing(folder), with_depots_snapshots(workbench) as replace_there:
        rewritten = take_out(folder, pseudonym, chats=chats)
        used = [snapshots.used_by(workbench, old) for old, _ in rewritten]
        _move_runs(workbench, rewritten)
        replace_there(rewritten)
    runs = list(dict.fromkeys(run for runs, _ in used for run in runs))
    checkpoints = list(dict.fromkeys(one for _, some in used for one in some))
    return Erasure(judgements, rewritten, runs, checkpoints, len(chats or ()))


def consent(workbench: Workbench, session: Session) -> tuple[Consent | None, str | None]:
    """What this person said of the use of their words for training and analysis, and when."""
    return workbench.store.for_user(session).consent()


def set_consent(workbench: Workbench, session: Session, consent: Consent) -> None:
    """From the next snapshot on it counts: what was taken before keeps what it has."""
    workbench.store.for_user(session).set_consent(consent)
