"""Immutable, content-addressed Parquet snapshots with a manifest. Training and analysis read these, never the live store.

A snapshot's id is a hash of its rows and rules: the same data gives the same id, whenever and however often it is taken.
Files are written beside and renamed, so a kill leaves no half snapshot. People appear under pseudonyms (HMAC-SHA256 with a
key of the workspace that is kept outside the snapshot).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_core import __version__
from rlhf_core.ground.errors import CorruptArtifact, NotEnoughData, NotFound, disk_errors
from rlhf_core.ground.files import building, canonical_json, publish, read_json, sha256_of, sweep_leftovers, write_json
from rlhf_core.ground.records import parse_utc, utc_now
from rlhf_core.ground.tables import EXPORT_COLUMNS, Export, TableName

FORMAT = 2
READABLE = (1, 2)  # a snapshot of format 1 holds chats, steps and feedback only
KEY_BYTES = 32
MANIFEST = "manifest.json"
_TIME = pa.timestamp("us", tz="UTC")
_TYPES: dict[str, pa.DataType] = {  # of columns that are no text
    "step_order": pa.int32(), "feedback_score": pa.int8(), "score": pa.int8(), "strength": pa.int8(),
    "rubric_version": pa.int32(), "asked": pa.int32(), "matched": pa.int32(), "value": pa.float64(), "reward": pa.float64(),
    **dict.fromkeys(("created_at", "updated_at", "at", "claimed_at", "finished_at", "decided_at"), _TIME),
}  # fmt: skip
_PEOPLE = {
    "owner_id": "owner",
    "user_id": "rater",
    "decided_by": "decided_by",
}  # columns of people, and their names here


def schema_of(table: TableName) -> pa.Schema:
    """Columns of a snapshot's table: those of the store, people under pseudonyms."""
    types = _TYPES | ({"value": pa.string()} if table == "decisions" else {})
    fields = [(_PEOPLE.get(name, name), types.get(name, pa.string())) for name in EXPORT_COLUMNS[table]]
    return pa.schema(fields + ([("is_demo", pa.bool_())] if table == "chat_feedback" else []))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot on disk. ``rows``: number of rows by table."""

    id: str
    folder: Path
    created_at: str
    rows: dict[str, int]
    facts: dict[str, Any]
    manifest: dict[str, Any]

    def file(self, table: TableName) -> Path:
        return self.folder / f"{table}.parquet"

    def holds(self, table: TableName) -> bool:
        """Whether the snapshot was taken with this table; older ones lack some."""
        return f"{table}.parquet" in self.manifest["files"]

    def table(self, table: TableName) -> pa.Table:
        """A whole table in memory; one that the snapshot does not hold is empty."""
        return pq.read_table(self.file(table)) if self.holds(table) else schema_of(table).empty_table()

    @property
    def ratings(self) -> int:
        return self.rows["chat_feedback"]

    def verify(self) -> None:
        """
        Raises:
            CorruptArtifact: a file is missing or not the one the manifest names.
        """
        for name, entry in self.manifest["files"].items():
            path = self.folder / name
            if not path.is_file():
                raise CorruptArtifact(f"Snapshot {self.id} lacks {name}. Delete {self.folder} and take it again.")
            if sha256_of(path) != entry["sha256"]:
                raise CorruptArtifact(f"Snapshot {self.id}: {name} was changed. Delete {self.folder} and take it again.")


def pseudonym_key(keys: Path) -> bytes:
    """The workspace's secret key, made on first use (32 bytes, readable by its owner only).

    Raises:
        CorruptArtifact: the file is there but holds no key.
    """
    path = keys / "pseudonym.key"
    if path.exists():
        return _read_key(path)
    keys.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(beside, path)  # unlike a rename, this lets the first of two processes win
    except FileExistsError:
        pass
    finally:
        beside.unlink()
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise CorruptArtifact(
            f"The pseudonym key {path} is damaged: it should hold {2 * KEY_BYTES} hex digits. Restore it from a backup; without "
            "it people's pseudonyms change. Delete it only if that does not matter."
        )
    return key


def take_snapshot(export: Export, folder: Path, key: bytes, *, since: str | None = None) -> tuple[Snapshot, bool]:
    """Write what ``export`` shows into ``folder``.

    Args:
        export: A consistent view of the store.
        folder: Where snapshots live.
        key: Pseudonym key.
        since: UTC text; feedback last changed before it stays out.

    Returns:
        The snapshot, and whether it is new (False: the same data had been taken before).

    Raises:
        NotEnoughData: there is no chat.
        StorageFull, StoreUnavailable: nothing was left behind.
    """
    with disk_errors("taking a snapshot", folder):
        sweep_leftovers(folder)
        with building(folder) as scratch:
            facts = _Facts(export.demo_raters())
            pseudonym = _Pseudonyms(key)
            files: dict[str, dict[str, Any]] = {}
            contents: dict[str, str] = {}
            for table in EXPORT_COLUMNS:
                path = scratch / f"{table}.parquet"
                rows, contents[table] = _write_table(export, table, path, pseudonym, facts, since)
                files[path.name] = {"rows": rows, "size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
            if files["chats.parquet"]["rows"] == 0:
                raise NotEnoughData("There is nothing to take a snapshot of. Import chats or load the demo set first.")
            rules = {"pseudonym": "hmac-sha256, first 16 hex digits, key outside the snapshot", "feedback_since": since}
            identity = {"format": FORMAT, "rows": contents}
            snapshot_id = hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:16]
            manifest = {
                "id": snapshot_id, "format": FORMAT, "created_at": utc_now(), "workbench": __version__, "rules": rules,
                "facts": facts.summary(), "content_sha256": contents, "files": files,
            }  # fmt: skip
            write_json(scratch / MANIFEST, manifest)
            new = publish(scratch, folder / snapshot_id)
            if not new:
                try:
                    open_snapshot(folder, snapshot_id, verify=True)
                except CorruptArtifact:  # what was taken before is damaged: put the good one in its place
                    shutil.rmtree(folder / snapshot_id)
                    new = publish(scratch, folder / snapshot_id)
    return open_snapshot(folder, snapshot_id), new


def open_snapshot(folder: Path, snapshot_id: str, *, verify: bool = False) -> Snapshot:
    """Open a snapshot by its id or the beginning of it.

    Raises:
        NotFound: none or several begin so.
        CorruptArtifact: broken manifest, or (with ``verify``) files that do not match it.
    """
    found = [path for path in _folders(folder) if snapshot_id and path.name.startswith(snapshot_id)]
    if len(found) != 1:
        known = ", ".join(path.name for path in _folders(folder)) or "none; take one with `python -m rlhf_core snapshot`"
        what = "No snapshot begins" if not found else f"{len(found)} snapshots begin"
        raise NotFound(f"{what} with {snapshot_id!r}. Snapshots here: {known}.")
    manifest = read_json(found[0] / MANIFEST, f"Snapshot {found[0].name}")
    try:
        if manifest["format"] not in READABLE or manifest["id"] != found[0].name:
            raise CorruptArtifact(
                f"Snapshot {found[0].name} has format {manifest['format']} and id {manifest['id']}; expected format "
                f"{' or '.join(map(str, READABLE))} and its folder's name. Take it again."
            )
        expected = EXPORT_COLUMNS if manifest["format"] > 1 else _FIRST_TABLES
        rows: dict[str, int] = {table: int(manifest["files"][f"{table}.parquet"]["rows"]) for table in expected}
        if _FACTS - set(manifest["facts"]):
            raise KeyError("facts")
        snapshot = Snapshot(manifest["id"], found[0], manifest["created_at"], rows, manifest["facts"], manifest)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorruptArtifact(f"Snapshot {found[0].name} has a broken manifest ({error!r}). Take it again.") from error
    if verify:
        snapshot.verify()
    return snapshot


def list_snapshots(folder: Path) -> list[Snapshot]:
    """All readable snapshots, newest first."""
    snapshots = []
    for path in _folders(folder):
        try:
            snapshots.append(open_snapshot(folder, path.name))
        except (CorruptArtifact, NotFound):
            continue  # a broken one is reported when it is named
    return sorted(snapshots, key=lambda snapshot: snapshot.created_at, reverse=True)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith("."))


class _Pseudonyms:
    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: dict[str, str] = {}

    def __call__(self, user_id: str | None) -> str | None:
        if user_id is None:
            return None
        if user_id not in self._known:
            self._known[user_id] = hmac.new(self._key, user_id.encode(), hashlib.sha256).hexdigest()[:16]
        return self._known[user_id]


_FIRST_TABLES: tuple[TableName, ...] = ("chats", "reasoning_steps", "chat_feedback")
_FACTS = {"raters", "step_ratings", "answer_ratings", "demo_ratings", "last_rated_at", "scores"}


class _Facts:
    """Counts for the manifest, so that a list of snapshots opens no Parquet file."""

    def __init__(self, demo_raters: frozenset[str]) -> None:
        self.demo_raters = demo_raters
        self._raters: set[str] = set()
        self._scores: Counter[int] = Counter()
        self._steps = self._demo = 0
        self._last = ""

    def see(self, row: tuple[Any, ...]) -> None:
        _, _, step_id, user_id, _, score, *_, updated_at = row
        self._last = max(self._last, updated_at)
        self._raters.add(user_id)
        self._scores[score] += 1
        self._steps += step_id is not None
        self._demo += user_id in self.demo_raters

    def summary(self) -> dict[str, Any]:
        total = sum(self._scores.values())
        return {
            "raters": len(self._raters),
            "step_ratings": self._steps,
            "answer_ratings": total - self._steps,
            "demo_ratings": self._demo,
            "last_rated_at": self._last,
            "scores": {str(score): self._scores[score] for score in range(1, 6)},
        }


def _write_table(
    export: Export, table: TableName, path: Path, pseudonym: Callable[[str | None], str | None], facts: _Facts,
    since: str | None,
) -> tuple[int, str]:  # fmt: skip
    schema, digest, count = schema_of(table), hashlib.sha256(), 0
    times = [index for index, field in enumerate(schema) if field.type == _TIME]
    people = [index for index, name in enumerate(EXPORT_COLUMNS[table]) if name in _PEOPLE]
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in export.rows(table, since=since):
            rows = [list(row) for row in batch]
            if table == "chat_feedback":
                for row, raw in zip(rows, batch, strict=True):
                    facts.see(raw)
                    row.append(raw[3] in facts.demo_raters)
            for index in people:
                for row in rows:
                    row[index] = pseudonym(row[index])
            digest.update(json.dumps(rows, ensure_ascii=False, separators=(",", ":"))[1:-1].encode() + b",")
            for row in rows:
                for index in times:
                    row[index] = parse_utc(row[index]) if row[index] is not None else None
            columns = list(zip(*rows, strict=True))
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            count += len(rows)
    return count, digest.hexdigest()
