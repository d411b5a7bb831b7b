"""Is the workspace whole? Looks at everything that is kept in it and changes nothing: the store, snapshots, checkpoints, runs,
who was erased, keys, what killed processes left, the room on the disk.

It opens the store read-only and by itself, so that a damaged one is a finding, and the rest is looked at all the same.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlhf_core.analytics.erasing import people_in
from rlhf_core.analytics.pseudonyms import workspace_key
from rlhf_core.analytics.snapshot import list_snapshots, open_snapshot, snapshot_id
from rlhf_core.checkpoints.registry import REMOVED, open_checkpoint
from rlhf_core.ground.cards import read_card
from rlhf_core.ground.errors import CorruptArtifact, NotFound, RlhfError
from rlhf_core.ground.files import half_built
from rlhf_core.ground.processes import ProcessIdentity, this_host
from rlhf_core.ground.rollout import MODEL_KINDS, state_from
from rlhf_core.ground.runs import CONFIG_FILE, LOCAL, METRICS_FILE
from rlhf_core.ground.settings import SQL_ROOT, Workspace
from rlhf_core.services.erasing import ERASED_FILE
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.sql import migrations, named_statements

Severity = Literal["wrong", "look"]
LITTLE_ROOM = 2**30  # bytes
_SHOWN = 20  # of one kind


@dataclass(frozen=True, slots=True)
class Finding:
    """``wrong``: something is lost, or not what was written. ``look``: nothing is lost, and somebody should know."""

    severity: Severity
    about: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity.upper():5}  {self.about} {self.what}\n       {self.remedy}"


@dataclass(slots=True)
class Checkup:
    """``looked_at``: how many things of each kind were."""

    findings: list[Finding] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        return not any(one.severity == "wrong" for one in self.findings)

    def as_json(self) -> dict[str, Any]:
        return {"well": self.well, "looked_at": self.looked_at, "findings": [asdict(one) for one in self.findings]}

    def __str__(self) -> str:
        looked = ", ".join(f"{count:,} {what}" for what, count in self.looked_at.items())
        wrong = sum(one.severity == "wrong" for one in self.findings)
        end = "Nothing is wrong." if not wrong else f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong."
        return "\n".join([*map(str, self.findings), f"Looked at {looked}. {end}"])


def examine(workspace: Workspace, *, quick: bool = False, on_progress: Callable[[str], None] | None = None) -> Checkup:
    """Look at all of it. Others may go on with their work meanwhile.

    Args:
        workspace: Which.
        quick: Without reading every file: sizes, not hashes; the store's pages, not their order in each index.
        on_progress: Called with what is being looked at.
    """
    say, found = on_progress or (lambda _: None), Checkup()

    def look(what: str, part: Callable[[], Iterator[Finding]]) -> None:
        say(what)
        try:
            found.findings += part()
        except RlhfError as error:
            found.findings.append(Finding("wrong", what, "could not be looked at", str(error)))

    look("the store", lambda: _store(workspace, found, quick))
    look("snapshots", lambda: _snapshots(workspace, found, quick))
    look("checkpoints", lambda: _checkpoints(workspace, found, quick))
    look("runs", lambda: _runs(workspace, found))
    look("keys", lambda: _keys(workspace, found))
    look("people who were erased", lambda: _erased(workspace, found))
    look("what was left behind", lambda: _leftovers(workspace))
    look("the disk", lambda: _room(workspace))
    return found


def examine_team(workbench: Workbench) -> Iterator[Finding]:
    """A team's store: whether it answers, with the schema that this version needs. Its rows are its database's to keep."""
    try:
        workbench.store.counts()
    except RlhfError as error:
        yield Finding("wrong", "the team's store", "does not answer as it should", str(error))


def _store(workspace: Workspace, found: Checkup, quick: bool) -> Iterator[Finding]:
    path = workspace.database
    restore = "Bring back a backup (`restore`); what the damaged file still holds: `sqlite3 workbench.sqlite3 .recover`."
    if not path.is_file():
        yield Finding("wrong", str(path), "is missing", "Bring back a backup, or start the app, which makes an empty one.")
        return
    try:
        with closing(_read_only(path)) as store:
            for (line,) in store.execute("PRAGMA quick_check" if quick else "PRAGMA integrity_check"):
                if line != "ok":
                    yield Finding("wrong", "the store", f"is damaged: {line}", restore)
            for table, row, parent, _ in store.execute("PRAGMA foreign_key_check").fetchmany(_SHOWN):
                yield Finding("wrong", f"row {row} of {table}", f"names a row of {parent} that is not there", restore)
            have, known = store.execute("PRAGMA user_version").fetchone()[0], len(migrations(SQL_ROOT / "sqlite"))
            if have != known:
                yield Finding(
                    "wrong" if have > known else "look", "the store",
                    f"has schema {have}; this version of the workbench writes {known}",
                    "Upgrade the workbench." if have > known else "It is brought up to date when the app or a command opens it.",
                )  # fmt: skip
                return
            for statement in named_statements(SQL_ROOT / "sqlite" / "queries" / "doctor.sql").values():
                for about, what in store.execute(statement):
                    yield Finding("wrong", about, what, restore)
            for name in ("chats", "reasoning_steps", "chat_feedback", "preferences"):
                found.looked_at[name] = store.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608
            yield from _named_checkpoints(workspace, store)
    except sqlite3.DatabaseError as error:
        yield Finding("wrong", "the store", f"cannot be read: {error}", restore)
    if workspace.score_cache.is_file():
        try:
            with closing(_read_only(workspace.score_cache)) as cache:
                broken = cache.execute("PRAGMA quick_check").fetchone()[0]
        except sqlite3.DatabaseError as error:
            broken = str(error)
        if broken != "ok":
            yield Finding("look", str(workspace.score_cache), f"is damaged: {broken}", "Delete it: it is made anew.")


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)


def _named_checkpoints(workspace: Workspace, store: sqlite3.Connection) -> Iterator[Finding]:
    """Checkpoints that queues and people depend on are there."""

    def there(name: str) -> bool:
        return (workspace.checkpoints / name).is_dir()

    queues = store.execute("SELECT name, hint_checkpoint FROM queues WHERE hint_checkpoint IS NOT NULL AND archived = 0")
    for name, checkpoint in queues:
        if not there(checkpoint):
            yield Finding(
                "look", f"queue {name}", f"shows the rewards of {checkpoint}, which is not here",
                "Rewards that were made ahead are still shown; choose another checkpoint on Queues.",
            )  # fmt: skip
    for kind in MODEL_KINDS:
        last = store.execute("SELECT state FROM model_log WHERE kind = ? ORDER BY number DESC LIMIT 1", [kind]).fetchone()
        if last is not None:
            for alias, checkpoint in state_from(json.loads(last[0])).aliases().items():
                if not there(checkpoint):
                    yield Finding(
                        "look" if alias == "previous" else "wrong",
                        checkpoint, f"is {alias} of the {kind} checkpoints and not here",
                        "Bring it back (`restore`, `depot fetch`, `import-run`), or decide otherwise on Roll-out.",
                    )  # fmt: skip


def _snapshots(workspace: Workspace, found: Checkup, quick: bool) -> Iterator[Finding]:
    folders = _folders(workspace.snapshots)
    found.looked_at["snapshots"] = len(folders)
    remedy = "Take it anew (the same rows give the same id), fetch it from the depot, or bring back a backup."
    for folder in folders:
        try:
            one = open_snapshot(workspace.snapshots, folder.name, verify=not quick)
        except (CorruptArtifact, NotFound) as error:
            yield Finding("wrong", f"snapshot {folder.name}", "is not as it was written", f"{error} {remedy}")
            continue
        contents = one.manifest.get("content_sha256")
        if one.manifest["format"] > 2 and snapshot_id(contents or {}) != one.id:
            yield Finding("wrong", f"snapshot {one.id}", "was changed: its id is not the hash of its contents", remedy)
        if quick:  # else every hash was looked at, and the size with it
            yield from _sizes(f"snapshot {one.id}", one.folder, one.manifest, remedy)


def _checkpoints(workspace: Workspace, found: Checkup, quick: bool) -> Iterator[Finding]:
    folders = _folders(workspace.checkpoints)
    found.looked_at["checkpoints"] = len(folders)
    for folder in folders:
        remedy = "Fetch it from the depot, bring back a backup, or remove the folder and train again."
        try:
            one = open_checkpoint(workspace.checkpoints, folder.name, verify=not quick)
            read_card(folder)
        except (CorruptArtifact, NotFound) as error:
            yield Finding("wrong", f"checkpoint {folder.name}", "is not as it was written", f"{error} {remedy}")
            continue
        if quick:
            yield from _sizes(f"checkpoint {one.id}", one.folder, one.manifest, remedy)


def _sizes(about: str, folder: Path, manifest: dict[str, Any], remedy: str) -> Iterator[Finding]:
    """Of the files that a manifest names: what can be told without reading them."""
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["size_bytes"]:
            yield Finding("wrong", about, f"lacks {name}, or a part of it", remedy)


def _runs(workspace: Workspace, found: Checkup) -> Iterator[Finding]:
    if not workspace.database.is_file():
        return
    columns = "id, status, engine, host, pid, pid_create_time, checkpoint_id"
    try:
        with closing(_read_only(workspace.database)) as store:
            rows = store.execute(f"SELECT {columns} FROM runs ORDER BY created_at").fetchall()  # noqa: S608
    except sqlite3.DatabaseError:
        return  # said of the store already
    found.looked_at["runs"] = len(rows)
    for run_id, status, engine, host, pid, created, checkpoint in rows:
        folder = workspace.run_folder(run_id)
        if status in ("queued", "running", "paused") and not (folder / CONFIG_FILE).is_file():
            yield Finding("wrong", f"run {run_id}", f"is {status} and has no {CONFIG_FILE}", f"Cancel it: `cancel {run_id}`.")
        here = status == "running" and engine == LOCAL and host == this_host() and pid is not None
        if here and not ProcessIdentity(pid, created or 0.0).is_alive():
            yield Finding(
                "look", f"run {run_id}", "is called running, and its process has gone",
                "The supervisor says what became of it: start the app, or `supervise`.",
            )  # fmt: skip
        known = (workspace.checkpoints / REMOVED / f"{checkpoint}.json", workspace.checkpoints / str(checkpoint))
        if checkpoint and not any(path.exists() for path in known):
            yield Finding(
                "wrong", f"run {run_id}", f"made {checkpoint}, which is not here and was not removed by the workbench",
                "Fetch it from the depot, bring back a backup, or train again.",
            )  # fmt: skip
        yield from _lines(run_id, folder / METRICS_FILE, status)
    strange = {path.name for path in _folders(workspace.runs)} - {row[0] for row in rows}
    for name in sorted(strange)[:_SHOWN]:
        yield Finding(
            "look", f"the folder runs/{name}", "belongs to no run of the ledger",
            "A process that was killed before it wrote the run down left it. It may be deleted.",
        )  # fmt: skip


def _lines(run_id: str, path: Path, status: str) -> Iterator[Finding]:
    """A run's measures are readable; the last line of one that was killed may be half a line."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, start=1):
        try:
            json.loads(line or "{}")
        except ValueError:
            if number < len(lines):
                yield Finding(
                    "wrong", f"run {run_id}", f"has a broken line {number} in {path.name}", "Its curves lack that point."
                )
            elif status in ("succeeded", "cancelled"):
                yield Finding("look", f"run {run_id}", f"ends in half a line in {path.name}", "Its curves lack the last point.")


def _keys(workspace: Workspace, found: Checkup) -> Iterator[Finding]:
    files = sorted(workspace.keys.glob("*.key"))
    found.looked_at["keys"] = len(files)
    if not (workspace.keys / "pseudonym.key").is_file() and list_snapshots(workspace.snapshots):
        yield Finding(
            "wrong", "the key of people's pseudonyms", "is missing, and there are snapshots",
            "Bring back keys/pseudonym.key from a backup: without it the same people get other names, and nobody can be erased "
            "from the snapshots that are here.",
        )  # fmt: skip
    for path in files:
        try:
            workspace_key(workspace.keys, path.stem)
        except CorruptArtifact as error:
            yield Finding("wrong", str(path), "holds no key", str(error))
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield Finding("look", str(path), "can be read by others on this machine", f"chmod 600 {path}")


def _erased(workspace: Workspace, found: Checkup) -> Iterator[Finding]:
    """Who was erased stands in no snapshot that is older than that."""
    try:
        lines = (workspace.root / ERASED_FILE).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return
    erased: dict[str, str] = {}
    for number, line in enumerate((line for line in lines if line.strip()), start=1):
        try:
            entry = json.loads(line)
            erased[entry["pseudonym"]] = max(entry["at"], erased.get(entry["pseudonym"], ""))
        except (ValueError, KeyError, TypeError):
            yield Finding("wrong", f"line {number} of {ERASED_FILE}", "cannot be read", "Bring back the file from a backup.")
    found.looked_at["people who were erased"] = len(erased)
    for one in list_snapshots(workspace.snapshots):
        before = {person for person, at in erased.items() if one.created_at <= at}
        try:
            standing = people_in(one, before) if before else set[str]()
        except CorruptArtifact:
            continue  # said of the snapshot already
        for person in sorted(standing):
            yield Finding(
                "wrong", f"snapshot {one.id}", f"still holds {person}, who was erased since",
                f"Remove it (`snapshots --remove {one.id}`) and take a new one.",
            )  # fmt: skip


def _leftovers(workspace: Workspace) -> Iterator[Finding]:
    for parent in (workspace.root, workspace.snapshots, workspace.checkpoints, workspace.runs):
        for folder in half_built(parent):
            yield Finding(
                "look", str(folder), f"was left by a process that was killed ({_megabytes(folder):,.1f} MiB)",
                "It goes by itself when something is next built there; it may be deleted.",
            )  # fmt: skip
    for folder in workspace.snapshots.glob(".removed-*"):
        yield Finding("look", str(folder), "was being removed when a process was killed", "It may be deleted.")


def _room(workspace: Workspace) -> Iterator[Finding]:
    free = shutil.disk_usage(workspace.root).free
    if free < LITTLE_ROOM:
        yield Finding(
            "look", "the disk", f"has {free / 2**20:,.0f} MiB left",
            "`clean` lists what training left and serves nothing; writes that find no room are undone, not halved.",
        )  # fmt: skip


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def _folders(parent: Path) -> list[Path]:
    """Those that hold something; what a store keeps beside them begins with a dot."""
    return sorted(path for path in parent.glob("*") if path.is_dir() and not path.name.startswith("."))
