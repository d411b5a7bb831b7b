"""Take a person out of snapshots: those that hold them are rewritten under a new id; a note says what became of the old one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlhf_core.analytics.explorer import forget
from rlhf_core.analytics.snapshot import EXPLORE, GONE, PEOPLE, Snapshot, list_snapshots, remove, schema_of
from rlhf_core.analytics.taking import Facts, Written, finish, write_file
from rlhf_core.ground.errors import CorruptArtifact, disk_errors
from rlhf_core.ground.files import building, write_json
from rlhf_core.ground.records import utc_now
from rlhf_core.ground.tables import EXPORT_COLUMNS, WHENEVER, TableName

_ROWS_OF = ("rater",)  # whose rows go; of other columns only the name goes
_NAMES = tuple(name for name in PEOPLE.values() if name not in _ROWS_OF)
_DAMAGED = (pa.ArrowException, EOFError)  # what reading a damaged file raises


def take_out(folder: Path, pseudonym: str, *, chats: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """Rewrite every snapshot that holds the person, or one of these chats.

    Args:
        folder: The workspace's snapshots.
        pseudonym: Whom.
        chats: With the chats that are theirs, these ones too, and all that anybody said of them; None: theirs stay, as nobody's.

    Returns:
        (old id, new id) of each.

    Raises:
        StorageFull: no room to write anew; what was rewritten by then is reported by calling this again.
        CorruptArtifact: some are damaged; the others are rewritten.
    """
    also = pa.array(list(chats or ()), pa.string())

    def work(one: Snapshot) -> Snapshot | None:
        if not _holds(one, pseudonym) and not _has_chats(one, also):
            return None
        theirs = also if chats is None else pa.concat_arrays([also, _chats_of(one, pseudonym)])
        return _rewrite(one, folder, pseudonym, theirs, "a person was erased")

    return _of_each(folder, work)


def take_out_chats(folder: Path, chat_ids: Sequence[str], why: str) -> list[tuple[str, str]]:
    """Rewrite every snapshot that holds one of these chats, without them and all that was said of them. ``why`` is noted. Returns
    and raises as :func:`take_out`."""
    gone = pa.array(list(chat_ids), pa.string())

    return _of_each(folder, lambda one: _rewrite(one, folder, "", gone, why) if _has_chats(one, gone) else None)


def _has_chats(snapshot: Snapshot, chats: pa.Array) -> bool:
    return len(chats) > 0 and any(
        pc.any(pc.is_in(pq.read_table(path, columns=["id"])["id"], value_set=chats)).as_py() for path in snapshot.files("chats")
    )


def _of_each(folder: Path, work: Callable[[Snapshot], Snapshot | None]) -> list[tuple[str, str]]:
    """What became of each. A damaged one keeps no other from being rewritten."""
    became, damaged = [], []
    with disk_errors("taking a person out of snapshots", folder):
        for one in reversed(list_snapshots(folder)):  # the oldest first, so that what it becomes stays the oldest
            try:
                new = work(one)
            except _DAMAGED:
                damaged.append(one.id)
                continue
            if new is not None:
                became.append((one.id, new.id))
    if damaged:
        raise CorruptArtifact(
            f"The snapshots {', '.join(damaged)} are damaged, so it is unknown who stands in them. Remove them "
            "(`snapshots --remove`) and do this again; the others are done."
        )
    return became


def holding(folder: Path, pseudonym: str) -> list[Snapshot]:
    """Snapshots in which the person stands, and damaged ones, of which nobody knows."""
    found = []
    for one in list_snapshots(folder):
        try:
            holds = _holds(one, pseudonym)
        except _DAMAGED:
            holds = True
        if holds:
            found.append(one)
    return found


def _holds(snapshot: Snapshot, pseudonym: str) -> bool:
    return next(_people_among(snapshot, {pseudonym}), None) is not None


def people_in(snapshot: Snapshot, pseudonyms: Collection[str]) -> set[str]:
    """Those of these people who stand in a snapshot.

    Raises:
        CorruptArtifact: a file cannot be read.
    """
    try:
        return set(_people_among(snapshot, pseudonyms))
    except (*_DAMAGED, OSError) as error:
        raise CorruptArtifact(f"Snapshot {snapshot.id} cannot be read ({error}).") from error


def _people_among(snapshot: Snapshot, pseudonyms: Collection[str]) -> Iterator[str]:
    """Each as often as a batch of rows has them."""
    sought = pa.array(list(pseudonyms), pa.string())
    for table in EXPORT_COLUMNS:
        names = [name for name in (*_ROWS_OF, *_NAMES) if name in schema_of(table).names]
        for path in snapshot.files(table) if names else ():
            for batch in pq.ParquetFile(path).iter_batches(columns=names):
                for name in names:
                    yield from pc.unique(batch[name].filter(pc.is_in(batch[name], value_set=sought))).to_pylist()


def _rewrite(snapshot: Snapshot, folder: Path, pseudonym: str, theirs: pa.Array, why: str) -> Snapshot:
    with building(folder) as scratch:
        written = Written()
        facts = Facts()
        known = {
            entry["rows_sha256"]: (snapshot.folder / name, entry)
            for name, entry in snapshot.manifest["files"].items()
            if "rows_sha256" in entry
        }
        for table in EXPORT_COLUMNS:
            (scratch / table).mkdir()
            for path in snapshot.files(table):
                name = f"{table}/{path.name if path.parent.name == table else f'{WHENEVER}-000.parquet'}"
                kept = list(_without(path, table, pseudonym, theirs))
                if any(batch.num_rows for batch in kept):
                    written.files[name] = write_file(scratch / name, table, iter(kept), known)
                for batch in kept:
                    facts.see(table, batch)
        written.facts = facts
        rules = snapshot.manifest["rules"] | {"rewritten_from": snapshot.id}
        new, _ = finish(scratch, folder, written, rules)
    note_gone(snapshot, why, new.id)
    return new


def _chats_of(snapshot: Snapshot, pseudonym: str) -> pa.Array:
    found = [pa.array([], pa.string())]
    for path in snapshot.files("chats"):
        table = pq.read_table(path, columns=["id", "owner"])
        found.append(table.filter(pc.equal(table["owner"], pseudonym))["id"].combine_chunks())
    return pa.concat_arrays(found)


def _without(path: Path, table: TableName, pseudonym: str, theirs: pa.Array) -> Iterator[pa.RecordBatch]:
    schema = schema_of(table)
    for given in pq.ParquetFile(path).iter_batches(65_536):
        batch = given
        if "rater" in schema.names:
            batch = batch.filter(pc.fill_null(pc.not_equal(batch["rater"], pseudonym), True))
        for name in ("id",) if table == "chats" else ("chat_id", "other_id"):
            if len(theirs) and name in schema.names:
                batch = batch.filter(pc.invert(pc.fill_null(pc.is_in(batch[name], value_set=theirs), False)))
        for name in _NAMES:
            if name in schema.names:
                own = pc.fill_null(pc.equal(batch[name], pseudonym), False)
                column = pc.if_else(own, pa.scalar(None, pa.string()), batch[name])
                batch = batch.set_column(schema.get_field_index(name), name, column)
        yield batch.cast(schema)


def note_gone(snapshot: Snapshot, why: str, became: str | None) -> None:
    """Remove a snapshot, what was prepared of it and results of queries, and leave a note of it."""
    folder = snapshot.folder.parent
    (folder / GONE).mkdir(exist_ok=True)
    write_json(folder / GONE / f"{snapshot.id}.json", {"id": snapshot.id, "at": utc_now(), "why": why, "became": became})
    forget(snapshot.id)
    for path in (folder / EXPLORE).glob("result-*.arrow"):
        path.unlink(missing_ok=True)
    if became != snapshot.id:
        remove(snapshot)
