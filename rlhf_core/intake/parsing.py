"""A whole file is checked before anything is stored; good rows wait in a temporary file, so memory stays flat."""

from __future__ import annotations

import array
import hashlib
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO

from rlhf_core.ground.errors import ImportRejected, InvalidInput, Problem
from rlhf_core.ground.records import utc_now
from rlhf_core.intake.formats import CONVERTERS, READ_BY_PRESET, Preset, detect, own_record
from rlhf_core.intake.personal import record_without_personal
from rlhf_core.intake.reader import read_records
from rlhf_core.intake.rows import BadRecord, ChatRows, build_pair, build_rows

_BATCH_CHATS = 500


@dataclass(slots=True)
class Batch:
    """Rows for one round of :class:`~rlhf_core.store.base.BulkWriter` calls."""

    raters: dict[str, str] = field(default_factory=dict)
    chats: list[tuple[Any, ...]] = field(default_factory=list)
    steps: list[tuple[Any, ...]] = field(default_factory=list)
    feedback: list[tuple[Any, ...]] = field(default_factory=list)
    preferences: list[tuple[Any, ...]] = field(default_factory=list)
    aspects: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, rows: ChatRows) -> None:
        self.raters.update(rows.raters)
        self.chats.append(rows.chat)
        self.steps.extend(rows.steps)
        self.feedback.extend(rows.feedback)
        self.preferences.extend(rows.preferences)
        self.aspects.extend(rows.aspects)

    def leave_out(self, names: Collection[str]) -> int:
        """Take the judgements of raters of these names out. How many they were."""
        gone = {user_id for user_id, name in self.raters.items() if name in names}
        if not gone:
            return 0
        before = len(self.feedback) + len(self.preferences) + len(self.aspects)
        self.raters = {user_id: name for user_id, name in self.raters.items() if user_id not in gone}
        self.feedback = [row for row in self.feedback if row[3] not in gone]
        self.preferences = [row for row in self.preferences if row[5] not in gone]
        self.aspects = [row for row in self.aspects if row[3] not in gone]
        return before - len(self.feedback) - len(self.preferences) - len(self.aspects)

    def line(self) -> bytes:
        """All of it as a line of JSON."""
        parts = (self.raters, self.chats, self.steps, self.feedback, self.preferences, self.aspects)
        return json.dumps(parts, separators=(",", ":")).encode() + b"\n"


@dataclass(slots=True)
class ParsedFile:
    """A file without a bad line, ready to be stored."""

    name: str
    preset: Preset
    records: int
    ignored_fields: tuple[str, ...]
    removed: Counter[str]
    _spool: IO[bytes]
    _batches: int

    def batches(self) -> Iterator[Batch]:
        self._spool.seek(0)
        for _ in range(self._batches):
            raters, *rows = json.loads(self._spool.readline())
            yield Batch(raters, *([tuple(row) for row in some] for some in rows))


@contextmanager
def parse_file(
    file: BinaryIO,
    name: str,
    *,
    preset: Preset = "auto",
    scratch: Path | None = None,
    on_progress: Callable[[int], None] | None = None,
    remove_personal: bool = False,
) -> Iterator[ParsedFile]:
    """Read and check a whole file.

    Args:
        file: Seekable, open for bytes.
        name: File name; its suffix says the format.
        preset: How to read records; ``auto`` looks at the first one.
        scratch: Folder for the temporary file (the system's by default).
        on_progress: Called now and then with the number of records read so far.
        remove_personal: Take e-mail addresses, phone numbers and the like out of texts.

    Raises:
        ImportRejected: lists every bad line.
        InvalidInput: the file as a whole cannot be read.
    """
    problems: list[Problem] = []
    seen = _Seen("its id stands already in line {}")
    judged = _Seen("the same person judges the same thing as in line {}")
    batch, batches, records = Batch(), 0, 0
    fields: dict[str, None] = {}
    removed: Counter[str] = Counter()
    now = utc_now()
    chosen = preset
    with tempfile.TemporaryFile(dir=scratch) as spool:
        for line, record in read_records(file, name):
            records += 1
            if isinstance(record, Problem):
                problems.append(record)
                continue
            if chosen == "auto":
                chosen = detect(record)
            own, made = _rows_of(line, record, chosen, now, removed if remove_personal else None)
            if isinstance(made, Problem):
                problems.append(made)
                continue
            fields.update(dict.fromkeys(record))
            for rows in made:
                if rows.external_id is not None and (not own or chosen != "pairs"):  # one answer may be of several pairs
                    seen.add(rows.external_id, line)
                else:  # an id makes a chat its own, so only chats without one can be judged twice over
                    for row in (*rows.feedback, *rows.aspects):
                        judged.add(row[0], line)
                for row in rows.preferences:
                    judged.add(row[0], line)
                batch.add(rows)
            if len(batch.chats) >= _BATCH_CHATS:
                spool.write(batch.line())
                batch, batches = Batch(), batches + 1
                if on_progress is not None:
                    on_progress(records)
        spool.write(batch.line())
        problems += seen.again() + judged.again()
        if problems:
            raise ImportRejected(name, sorted(problems, key=lambda problem: problem.line))
        if records == 0:
            raise InvalidInput(f"{name} has no records. Choose another file.")
        yield ParsedFile(name, chosen, records, _ignored(fields, chosen), removed, spool, batches + 1)


def _rows_of(
    line: int, record: dict[str, Any], chosen: Preset, now: str, removed: Counter[str] | None = None
) -> tuple[bool, list[ChatRows] | Problem]:
    """Whether a record is one that this workbench exported, and its rows, or what is wrong with it. ``removed``: None: what is
    personal stays in texts; else what was taken out of them is counted there."""
    try:
        own = own_record(record)
        converted = CONVERTERS[chosen](record) if own is None else own
        if removed is not None:
            converted = record_without_personal(converted, removed)
        if own is not None and not own:
            return True, []
        if chosen == "pairs":
            return own is not None, build_pair(converted, default_source=chosen, now=now)
        return own is not None, [build_rows(converted, default_source=chosen, now=now, may_be_blank=own is not None)]
    except (BadRecord, ValueError) as error:
        return False, Problem(line, str(error))
    except (TypeError, AttributeError, RecursionError) as error:
        return False, Problem(line, f"does not have the shape of the format {chosen!r} ({error})")


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What the first records of a file would become. ``chats``: question, how many steps and judgements, or what is wrong."""

    preset: Preset
    chats: list[tuple[str, int, int] | Problem]
    ignored_fields: tuple[str, ...]


def glimpse(file: BinaryIO, name: str, *, preset: Preset = "auto", records: int = 5) -> Glimpse:
    """Read the first records of a file as :func:`parse_file` would; it is at its beginning again afterwards.

    Raises:
        InvalidInput: the file as a whole cannot be read.
    """
    chosen, now = preset, utc_now()
    chats: list[tuple[str, int, int] | Problem] = []
    fields: dict[str, None] = {}
    try:
        for line, record in itertools.islice(read_records(file, name), records):
            if isinstance(record, Problem):
                chats.append(record)
                continue
            if chosen == "auto":
                chosen = detect(record)
            _, made = _rows_of(line, record, chosen, now)
            fields.update(dict.fromkeys(record))
            if isinstance(made, Problem):
                chats.append(made)
            else:
                chats += [(str(one.chat[1]), len(one.steps), _judgements_in(one)) for one in made]
    finally:
        file.seek(0)
    return Glimpse(chosen, chats, _ignored(fields, chosen))


def _judgements_in(one: ChatRows) -> int:
    return len(one.feedback) + len(one.preferences) + len(one.aspects)


def _ignored(fields: Iterable[str], chosen: Preset) -> tuple[str, ...]:
    return tuple(str(one) for one in fields if one not in READ_BY_PRESET.get(chosen, frozenset()) | {"workbench"})


class _Seen:
    """Finds what stands twice, in 16 bytes for each thing: a 64-bit hash and a line number. ``reason`` takes the first line."""

    def __init__(self, reason: str) -> None:
        self._reason = reason
        self._hashes = array.array("Q")
        self._lines = array.array("Q")

    def add(self, name: str, line: int) -> None:
        digest = hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest()
        self._hashes.append(int.from_bytes(digest, "little"))
        self._lines.append(line)

    def again(self) -> list[Problem]:
        import numpy as np

        hashes, lines = np.array(self._hashes, np.uint64), np.array(self._lines, np.uint64)
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        earlier = first[inverse]
        found = np.flatnonzero(earlier != np.arange(len(hashes)))
        repeated = {int(lines[k]): int(lines[earlier[k]]) for k in found[::-1]}
        return [Problem(line, self._reason.format(before)) for line, before in repeated.items()]
