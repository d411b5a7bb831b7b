"""Take a snapshot: rows of the store become Parquet files, people pseudonyms, and files that an older snapshot has are shared.

Files are written beside and renamed, so a kill leaves no half snapshot. Parts are read, converted and written by two threads;
memory holds two parts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlhf_core import __version__
from rlhf_core.analytics.pseudonyms import RULE, Pseudonyms
from rlhf_core.analytics.snapshot import (
    FORMAT,
    MANIFEST,
    PEOPLE,
    TIME,
    Snapshot,
    list_snapshots,
    open_snapshot,
    schema_of,
    snapshot_id,
)
from rlhf_core.ground.errors import CorruptArtifact, NotEnoughData, disk_errors
from rlhf_core.ground.files import building, publish, sha256_of, sweep_leftovers, write_json
from rlhf_core.ground.records import parse_utc, utc_now
from rlhf_core.ground.tables import EXPORT_COLUMNS, Export, Packed, PackedRows, Part, TableName

THREADS = 2
_PLAIN = ("id", "chat_id", "step_id", "step_content", "response", "query", "comment")  # columns without a dictionary: few repeats


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
            written = _write_all(export, scratch, _Converter(Pseudonyms(key), export.demo_raters()), _known_files(folder), since)
            if written.rows("chats") == 0:
                raise NotEnoughData("There is nothing to take a snapshot of. Import chats or load the demo set first.")
            rules = {"pseudonym": RULE, "feedback_since": since, "consent": "who withdrew it is left out"}
            return finish(scratch, folder, written, rules)


def finish(scratch: Path, folder: Path, written: Written, rules: dict[str, Any]) -> tuple[Snapshot, bool]:
    """Put a manifest beside the files and the whole in its place."""
    contents = written.contents()
    new_id = snapshot_id(contents)
    manifest = {
        "id": new_id, "format": FORMAT, "created_at": utc_now(), "workbench": __version__, "rules": rules,
        "facts": written.facts.summary(), "content_sha256": contents, "files": written.files,
    }  # fmt: skip
    write_json(scratch / MANIFEST, manifest)
    new = publish(scratch, folder / new_id)
    if not new:
        try:
            open_snapshot(folder, new_id, verify=True)
        except CorruptArtifact:  # what was taken before is damaged: put the good one in its place
            shutil.rmtree(folder / new_id)
            new = publish(scratch, folder / new_id)
    return open_snapshot(folder, new_id), new


def _known_files(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Files of older snapshots by the hash of their rows."""
    return {
        entry["rows_sha256"]: (snapshot.folder / name, entry)
        for snapshot in list_snapshots(folder)
        for name, entry in snapshot.manifest["files"].items()
        if "rows_sha256" in entry
    }


class Facts:
    """Counts for the manifest, so that a list of snapshots opens no Parquet file."""

    def __init__(self) -> None:
        self._raters: set[str] = set()
        self._scores: Counter[int] = Counter()
        self._steps = self._demo = 0
        self._last = ""
        self._consent: Counter[str] = Counter()

    def see(self, table: TableName, batch: pa.RecordBatch) -> None:
        if table == "people":
            self._consent.update(value or "not asked" for value in batch["consent"].to_pylist())
        if table != "chat_feedback" or not batch.num_rows:
            return
        self._raters.update(pc.unique(batch["rater"]).to_pylist())
        for one in pc.value_counts(batch["feedback_score"]).to_pylist():
            self._scores[one["values"]] += one["counts"]
        self._steps += batch.num_rows - batch["step_id"].null_count
        self._demo += pc.sum(batch["is_demo"]).as_py() or 0
        last: Any = pc.max(batch["updated_at"].cast(pa.int64())).as_py()
        self._last = max(self._last, pa.scalar(last, pa.timestamp("us")).as_py().isoformat(timespec="microseconds") + "Z")

    def summary(self) -> dict[str, Any]:
        total = sum(self._scores.values())
        return {
            "raters": len(self._raters),
            "step_ratings": self._steps,
            "answer_ratings": total - self._steps,
            "demo_ratings": self._demo,
            "last_rated_at": self._last,
            "scores": {str(score): self._scores[score] for score in range(1, 6)},
            "consent": dict(sorted(self._consent.items())),
        }


@dataclass
class Written:
    """Files of a snapshot under way: manifest entries by name."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)

    def rows(self, table: TableName) -> int:
        return sum(entry["rows"] for name, entry in self.files.items() if name.partition("/")[0] == table)

    def contents(self) -> dict[str, str]:
        """Hash of each table's rows."""
        digests = {table: hashlib.sha256() for table in EXPORT_COLUMNS}
        for name, entry in self.files.items():
            digests[name.partition("/")[0]].update(f"{name}:{entry['rows_sha256']}\n".encode())  # type: ignore[index]
        return {table: digest.hexdigest() for table, digest in digests.items()}


def _write_all(
    export: Export, scratch: Path, convert: _Converter, known: dict[str, tuple[Path, dict[str, Any]]], since: str | None
) -> Written:
    written = Written()
    with ThreadPoolExecutor(THREADS) as pool:
        under_way: list[Future[tuple[str, dict[str, Any], list[Any]]]] = []

        def settle() -> None:
            name, entry, seen = under_way.pop(0).result()
            written.files[name] = entry
            for facts in seen:
                written.facts.see(*facts)

        try:
            for table in EXPORT_COLUMNS:
                for part in export.parts(table, since=since):
                    under_way.append(pool.submit(_write_part, part, convert, scratch, known))
                    while len(under_way) > THREADS:
                        settle()
            while under_way:
                settle()
        finally:
            for one in under_way:
                one.cancel()
    return written


def _write_part(
    part: Part, convert: _Converter, scratch: Path, known: dict[str, tuple[Path, dict[str, Any]]]
) -> tuple[str, dict[str, Any], list[tuple[TableName, pa.RecordBatch]]]:
    name = f"{part.table}/{part.month}-{part.number:03}.parquet"
    (scratch / part.table).mkdir(exist_ok=True)
    seen: list[tuple[TableName, pa.RecordBatch]] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for rows in part.read():
            batch = convert(part.table, rows)
            if part.table in ("chat_feedback", "people"):
                kept = [
                    one
                    for one in ("rater", "feedback_score", "step_id", "is_demo", "updated_at", "consent")
                    if one in batch.schema.names
                ]
                seen.append((part.table, batch.select(kept)))
            yield batch

    return name, write_file(scratch / name, part.table, batches(), known), seen


def write_file(
    path: Path, table: TableName, batches: Iterator[pa.RecordBatch], known: dict[str, tuple[Path, dict[str, Any]]]
) -> dict[str, Any]:
    """Write one file, or share the one of an older snapshot with the same rows. Returns its manifest entry."""
    schema, digest, count = schema_of(table), RowsDigest(), 0
    plain = [column for column in schema.names if column not in _PLAIN]
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=plain) as writer:
        for batch in batches:
            digest.update(batch)
            count += batch.num_rows
            writer.write_batch(batch)
    rows_sha256 = digest.hexdigest()
    if rows_sha256 in known:
        older, entry = known[rows_sha256]
        with contextlib.suppress(OSError):  # gone meanwhile, or no links here: the file just written is as good
            shared = path.with_suffix(".shared")
            os.link(older, shared)
            if sha256_of(shared) == entry["sha256"]:
                shared.replace(path)
                return dict(entry)
            shared.unlink()
    return {"rows": count, "size_bytes": path.stat().st_size, "sha256": sha256_of(path), "rows_sha256": rows_sha256}


class RowsDigest:
    """SHA-256 of rows by column, whatever batches they come in: which values are missing, how long texts are, the values."""

    def __init__(self) -> None:
        self._columns: list[Any] = []

    def update(self, batch: pa.RecordBatch) -> None:
        if not self._columns:
            self._columns = [[hashlib.sha256() for _ in range(3)] for _ in batch.columns]
        for (valid, lengths, values), column in zip(self._columns, batch.columns, strict=True):
            valid.update(np.ascontiguousarray(column.is_valid().to_numpy(zero_copy_only=False)).view(np.uint8))
            if pa.types.is_string(column.type):
                offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
                lengths.update(np.diff(offsets).astype("<i4"))  # a missing text takes no bytes
                if column.buffers()[2] is not None:
                    values.update(memoryview(column.buffers()[2])[offsets[0] : offsets[-1]])
            elif pa.types.is_boolean(column.type):
                values.update(column.fill_null(False).to_numpy(zero_copy_only=False).astype(np.uint8))
            else:
                plain = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
                values.update(np.ascontiguousarray(plain.fill_null(0).to_numpy(zero_copy_only=False)))

    def hexdigest(self) -> str:
        whole = hashlib.sha256()
        for column in self._columns:
            for one in column:
                whole.update(one.digest())
        return whole.hexdigest()


class _Converter:
    """Rows of the store as a snapshot's: people under pseudonyms, times as times, ``is_demo`` beside each rating."""

    def __init__(self, pseudonym: Pseudonyms, demo_raters: frozenset[str]) -> None:
        self._pseudonym = pseudonym
        self._demo = pa.array(sorted(demo_raters), pa.string())

    def __call__(self, table: TableName, rows: Sequence[tuple[Any, ...]] | PackedRows) -> pa.RecordBatch:
        schema = schema_of(table)
        names = EXPORT_COLUMNS[table]
        columns = (
            [_unpacked(one, rows.count) for one in rows.columns] if isinstance(rows, PackedRows)
            else list(zip(*rows, strict=True)) if rows else [()] * len(names)
        )  # fmt: skip
        arrays: list[pa.Array] = []
        demo = None
        for name, values, kind in zip(names, columns, schema.types, strict=False):
            if name in PEOPLE:
                array = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
                people = array.dictionary_encode()
                if name == "user_id" and table == "chat_feedback":
                    demo = pc.take(pc.is_in(pc.utf8_rtrim(people.dictionary, " "), value_set=self._demo), people.indices)
                known = pa.array([self._pseudonym(one and one.rstrip(" ")) for one in people.dictionary.to_pylist()], pa.string())
                arrays.append(pa.DictionaryArray.from_arrays(people.indices, known).cast(pa.string()))
            elif isinstance(values, pa.Array):
                arrays.append(values.cast(kind))
            else:
                given = [parse_utc(one) if one is not None else None for one in values] if kind == TIME else values
                arrays.append(pa.array(given, kind))
        if demo is not None:
            arrays.append(demo)
        return pa.record_batch(arrays, schema=schema)


def _unpacked(packed: Packed, count: int) -> pa.Array:
    """The texts of a column; values missing as null."""
    if packed.words:
        codes = np.zeros(256, np.int8)
        codes[[ord(letter) for letter, _ in packed.words]] = np.arange(len(packed.words))
        words = pa.array([word for _, word in packed.words], pa.string())
        return pa.DictionaryArray.from_arrays(pa.array(codes[np.frombuffer(packed.data, np.uint8)]), words)
    there = np.frombuffer(packed.there, np.uint8) == ord("1") if packed.there else np.ones(count, bool)
    lengths = there * np.int64(packed.width)
    if not packed.width:
        digits = np.frombuffer(packed.lengths, np.uint8).reshape(-1, 8)
        lengths[there] = ((digits - ord("0")).astype(np.int64) * 10 ** np.arange(7, -1, -1)).sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if offsets[-1] != len(packed.data):
        raise AssertionError(f"{offsets[-1]} bytes counted, {len(packed.data)} read")
    valid = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
    if offsets[-1] < 2**31:
        return pa.StringArray.from_buffers(count, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(packed.data), valid)
    whole = pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(packed.data), valid)
    return whole.cast(pa.string())
