"""Immutable, content-addressed Parquet snapshots with a manifest: what they look like, opening, listing, comparing, removing.
Training and analysis read these, never the live store. :mod:`~rlhf_core.analytics.taking` makes them.

A snapshot's id is a hash of its rows: the same data gives the same id, whenever, however often and from whichever store it is
taken. A table is a folder of Parquet files, one for each month and at most so many rows; a file whose rows an older snapshot
holds already is shared with it (a hard link). People appear under pseudonyms; who withdrew their consent does not appear.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_core.ground.errors import CorruptArtifact, NotFound
from rlhf_core.ground.files import canonical_json, read_json, sha256_of
from rlhf_core.ground.tables import EXPORT_COLUMNS, TableName

FORMAT = 3
ID_CHARS = 16
READABLE = (1, 2, 3)  # 1 and 2: one file a table; 1 holds chats, steps and feedback only
MANIFEST = "manifest.json"
GONE = ".gone"  # folder of notes on snapshots that were rewritten or removed
EXPLORE = ".explore"  # folder of what questions are asked of; see explorer
TIME = pa.timestamp("us", tz="UTC")
_TYPES: dict[str, pa.DataType] = {  # of columns that are no text
    "step_order": pa.int32(), "feedback_score": pa.int8(), "score": pa.int8(), "strength": pa.int8(),
    "rubric_version": pa.int32(), "asked": pa.int32(), "matched": pa.int32(), "value": pa.float64(), "reward": pa.float64(),
    **dict.fromkeys(("created_at", "updated_at", "at", "claimed_at", "finished_at", "decided_at"), TIME),
}  # fmt: skip
PEOPLE = {"owner_id": "owner", "user_id": "rater", "decided_by": "decided_by"}  # columns of people, and their names here
_FIRST_TABLES: tuple[TableName, ...] = ("chats", "reasoning_steps", "chat_feedback")
_FACTS = {"raters", "step_ratings", "answer_ratings", "demo_ratings", "last_rated_at", "scores"}


def schema_of(table: TableName) -> pa.Schema:
    """Columns of a snapshot's table: those of the store, people under pseudonyms."""
    types = _TYPES | ({"value": pa.string()} if table == "decisions" else {})
    fields = [(PEOPLE.get(name, name), types.get(name, pa.string())) for name in EXPORT_COLUMNS[table]]
    return pa.schema(fields + ([("is_demo", pa.bool_())] if table == "chat_feedback" else []))


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Nobody else takes, rewrites or removes snapshots here meanwhile, in this process or another: a snapshot that was begun
    before a person was erased is there when they are looked for."""
    with filelock.FileLock(folder.with_name(f"{folder.name}.lock")):
        yield


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot on disk. ``rows``: number of rows by table."""

    id: str
    folder: Path
    created_at: str
    rows: dict[str, int]
    facts: dict[str, Any]
    manifest: dict[str, Any]

    def files(self, table: TableName) -> list[Path]:
        """The table's files, in the order of their rows."""
        return [self.folder / name for name in names_of(self.manifest, table)]

    def table(self, table: TableName) -> pa.Table:
        """A whole table in memory; one that the snapshot does not hold is empty.

        Raises:
            CorruptArtifact: a file is missing or cannot be read.
        """
        files = self.files(table)
        try:
            return pa.concat_tables([pq.read_table(path) for path in files]) if files else schema_of(table).empty_table()
        except (OSError, pa.ArrowInvalid) as error:
            self.verify()
            raise CorruptArtifact(f"Snapshot {self.id}: {table} cannot be read ({error}).") from error

    @property
    def ratings(self) -> int:
        return self.rows["chat_feedback"]

    @property
    def size_bytes(self) -> int:
        """Of all files, those shared with other snapshots too."""
        return sum(entry["size_bytes"] for entry in self.manifest["files"].values())

    def verify(self) -> None:
        """
        Raises:
            CorruptArtifact: a file is missing or not the one the manifest names.
        """
        for name, entry in self.manifest["files"].items():
            path = self.folder / name
            if not path.is_file():
                raise CorruptArtifact(f"Snapshot {self.id} lacks {name}. Delete {self.folder} and take it again.")
            if path.stat().st_size != entry["size_bytes"] or sha256_of(path) != entry["sha256"]:
                raise CorruptArtifact(f"Snapshot {self.id}: {name} was changed. Delete {self.folder} and take it again.")


def names_of(manifest: dict[str, Any], table: TableName) -> list[str]:
    """Of a table's files, in the order of their rows."""
    return [name for name in manifest["files"] if name.partition("/")[0].partition(".")[0] == table]


def snapshot_id(contents: dict[str, str]) -> str:
    """Of the hashes of its tables."""
    return hashlib.sha256(canonical_json({"format": FORMAT, "rows": contents}).encode()).hexdigest()[:ID_CHARS]


def open_snapshot(folder: Path, snapshot_id: str, *, verify: bool = False) -> Snapshot:
    """Open a snapshot by its id or the beginning of it.

    Raises:
        NotFound: none or several begin so, or it was removed or rewritten.
        CorruptArtifact: broken manifest, or (with ``verify``) files that do not match it.
    """
    exact = folder / snapshot_id
    whole = len(snapshot_id) == ID_CHARS and snapshot_id.isalnum() and exact.is_dir()
    found = [exact] if whole else [path for path in _folders(folder) if snapshot_id and path.name.startswith(snapshot_id)]
    if (
        not found
        and len(snapshot_id) == ID_CHARS
        and snapshot_id.isalnum()
        and (note := folder / GONE / f"{snapshot_id}.json").is_file()
    ):
        gone = read_json(note, f"Snapshot {snapshot_id}")
        became = f" It became {gone['became']}." if gone["became"] else ""
        raise NotFound(f"Snapshot {snapshot_id} is gone since {gone['at'][:19]}: {gone['why']}.{became}")
    if len(found) != 1:
        known = ", ".join(path.name for path in _folders(folder)) or "none; take one with `python -m rlhf_core snapshot`"
        what = "No snapshot begins" if not found else f"{len(found)} snapshots begin"
        raise NotFound(f"{what} with {snapshot_id!r}. Snapshots here: {known}.")
    snapshot = _read(found[0])
    if verify:
        snapshot.verify()
    return snapshot


def _read(folder: Path) -> Snapshot:
    manifest = read_json(folder / MANIFEST, f"Snapshot {folder.name}")
    try:
        if manifest["format"] not in READABLE or manifest["id"] != folder.name:
            raise CorruptArtifact(
                f"Snapshot {folder.name} has format {manifest['format']} and id {manifest['id']}; expected format "
                f"{' or '.join(map(str, READABLE))} and its folder's name. Take it again."
            )
        expected = EXPORT_COLUMNS if manifest["format"] > 1 else _FIRST_TABLES
        rows: dict[str, int] = dict.fromkeys(expected, 0)
        for name, entry in manifest["files"].items():
            rows[name.partition("/")[0].partition(".")[0]] += int(entry["rows"])
            if not isinstance(entry["size_bytes"], int) or not isinstance(entry["sha256"], str):
                raise TypeError(f"{name} has no size and no hash")
        if _FACTS - set(manifest["facts"]):
            raise KeyError("facts")
        return Snapshot(manifest["id"], folder, manifest["created_at"], rows, manifest["facts"], manifest)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorruptArtifact(f"Snapshot {folder.name} has a broken manifest ({error!r}). Take it again.") from error


def list_snapshots(folder: Path) -> list[Snapshot]:
    """All readable snapshots, newest first."""
    snapshots = []
    for path in _folders(folder):
        try:
            snapshots.append(_read(path))
        except (CorruptArtifact, NotFound):
            continue  # a broken one is reported when it is named
    return sorted(snapshots, key=lambda snapshot: snapshot.created_at, reverse=True)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith("."))


@dataclass(frozen=True, slots=True)
class Difference:
    """What a table of one snapshot has that the other's has not, by key; ``changed``: same key, other content."""

    table: str
    added: int
    removed: int
    changed: int
    same: int


_KEYS: dict[TableName, tuple[str, ...]] = {
    "chat_marks": ("chat_id", "rater"),
    "assignments": ("queue_id", "chat_id", "other_id", "rater"),
    "gold_results": ("queue_id", "chat_id", "other_id", "rater", "at"),
    "hints_shown": ("queue_id", "chat_id", "other_id", "step_id", "rater"),
    "people": ("rater",),
}


def compare(before: Snapshot, after: Snapshot) -> list[Difference]:
    """What changed from one snapshot to another. Files that both share are not read."""
    shared = {entry["sha256"] for entry in before.manifest["files"].values()}
    shared &= {entry["sha256"] for entry in after.manifest["files"].values()}
    found = []
    for table in EXPORT_COLUMNS:
        keys = _KEYS.get(table, ("id",))
        one, other = (_rows_by_key(snapshot, table, keys, shared) for snapshot in (before, after))
        both = one.keys() & other.keys()
        changed = sum(one[key] != other[key] for key in both)
        kept = sum(
            int(entry["rows"]) for name, entry in before.manifest["files"].items()
            if name.partition("/")[0].partition(".")[0] == table and entry["sha256"] in shared
        )  # fmt: skip
        found.append(Difference(table, len(other) - len(both), len(one) - len(both), changed, len(both) - changed + kept))
    return found


def _rows_by_key(snapshot: Snapshot, table: TableName, keys: tuple[str, ...], shared: set[str]) -> dict[tuple[Any, ...], bytes]:
    rows: dict[tuple[Any, ...], bytes] = {}
    for path in snapshot.files(table):
        if snapshot.manifest["files"][str(path.relative_to(snapshot.folder))]["sha256"] in shared:
            continue
        for batch in pq.ParquetFile(path).iter_batches(50_000):
            for row in batch.to_pylist():
                rows[tuple(row[key] for key in keys)] = hashlib.blake2b(repr(row).encode(), digest_size=16).digest()
    return rows


def remove(snapshot: Snapshot) -> None:
    """Delete a snapshot and what was made from it for questions. Files that others share stay with them."""
    for path in (snapshot.folder.parent / EXPLORE).glob(f"{snapshot.id}*"):
        path.unlink(missing_ok=True)
    beside = snapshot.folder.with_name(f".removed-{snapshot.id}")
    shutil.rmtree(beside, ignore_errors=True)
    snapshot.folder.rename(beside)  # gone at once, whatever happens to the rest
    shutil.rmtree(beside, ignore_errors=True)
