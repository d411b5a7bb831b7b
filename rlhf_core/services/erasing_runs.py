"""Take questions of people who were erased out of what runs wrote down: samples and answers.

A run at work writes on, so a note in its folder says which questions it is to forget; they are taken out when it is over.
Questions stand in notes and logs as keyed hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from rlhf_core.analytics.pseudonyms import workspace_key
from rlhf_core.ground.errors import disk_errors
from rlhf_core.ground.files import write_text
from rlhf_core.ground.runs import ANSWERS_FILE, SAMPLES_FILE
from rlhf_core.services.workbench import Workbench

FORGET_FILE = "forget.txt"  # in a run's folder: hashes of questions, one a line
_WRITTEN = (SAMPLES_FILE, ANSWERS_FILE)


def forget(workbench: Workbench, queries: Iterable[str]) -> list[str]:
    """Take all that answers these questions out of what runs wrote down, now or once they are over. Returns the questions'
    hashes."""
    name = _hasher(workbench)
    hashes = sorted({name(query) for query in queries})
    if not hashes:
        return []
    for run in workbench.ledger.not_over():
        folder = workbench.workspace.run_folder(run.id)
        note = folder / FORGET_FILE
        with disk_errors("noting what a run is to forget", note):
            folder.mkdir(parents=True, exist_ok=True)
            with note.open("a", encoding="utf-8") as file:
                file.write("".join(f"{one}\n" for one in hashes))
    busy = {run.id for run in workbench.ledger.not_over()}
    for path in _files(workbench):
        if path.parent.name not in busy:
            _take_out(path, hashes, name)
    settle(workbench)
    return hashes


def settle(workbench: Workbench) -> list[str]:
    """Carry out the notes of runs that are over by now. Returns the runs' ids."""
    notes = list(workbench.workspace.runs.glob(f"*/{FORGET_FILE}"))
    if not notes:
        return []
    busy = {run.id for run in workbench.ledger.not_over()}
    done = [note.parent.name for note in notes if note.parent.name not in busy]
    for run_id in done:
        settle_run(workbench, run_id)
        (workbench.workspace.run_folder(run_id) / FORGET_FILE).unlink(missing_ok=True)
    return done


def settle_run(workbench: Workbench, run_id: str) -> None:
    """Carry out the note of a run that writes no more. The note stays."""
    folder = workbench.workspace.run_folder(run_id)
    try:
        hashes = (folder / FORGET_FILE).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return
    for one in _WRITTEN:
        if (folder / one).is_file():
            _take_out(folder / one, hashes, _hasher(workbench))


def still_in(workbench: Workbench, hashes: Iterable[str]) -> list[str]:
    """Runs whose files hold something that answers one of these questions, by id."""
    sought, name = set(hashes), _hasher(workbench)
    if not sought:
        return []
    found = []
    for path in _files(workbench):
        with path.open(encoding="utf-8") as file:
            if any(name(query) in sought for line in file if (query := _query_of(line)) is not None):
                found.append(path.parent.name)
    return sorted(set(found))


def _files(workbench: Workbench) -> list[Path]:
    return [path for name in _WRITTEN for path in workbench.workspace.runs.glob(f"*/{name}")]


def _hasher(workbench: Workbench) -> Callable[[str], str]:
    key = workspace_key(workbench.workspace.keys, "questions")
    return lambda query: hmac.new(key, query.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def _take_out(path: Path, hashes: Iterable[str], name: Callable[[str], str]) -> None:
    gone = set(hashes)
    with disk_errors("taking a person out of runs", path):
        with path.open(encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("\n")]
        kept = [line for line in lines if (query := _query_of(line)) is None or name(query) not in gone]
        if len(kept) < len(lines):
            write_text(path, "".join(kept))


def _query_of(line: str) -> str | None:
    try:
        return str(json.loads(line)["query"])
    except (ValueError, KeyError, TypeError):
        return None  # half a line
