"""Bring a file of chats into the store: whole or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, get_args

from rlhf_core.analytics.pseudonyms import Pseudonyms, pseudonym_key
from rlhf_core.analytics.snapshot import list_snapshots
from rlhf_core.ground.errors import InvalidInput, NotFound, disk_errors
from rlhf_core.ground.records import Origin, utc_now
from rlhf_core.intake.formats import PRESETS, READ_BY_PRESET, Preset, describe, fields_table
from rlhf_core.intake.parsing import Glimpse, glimpse, parse_file
from rlhf_core.intake.personal import told
from rlhf_core.intake.rows import BadRecord, build_rows
from rlhf_core.services import erasing
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.base import BulkCounts

__all__ = [
    "PRESETS", "Glimpse", "ImportReport", "Preset", "add_chats", "describe", "fields_table", "glimpse", "import_file",
    "import_stream", "passed_over", "preset_names",
]  # fmt: skip


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


LIKE = {
    "rating": "score", "stars": "score", "rate": "score", "prompt": "query", "question": "query", "instruction": "query",
    "answer": "response", "completion": "response", "output": "response", "annotator": "rater", "user": "rater",
    "note": "comment", "label": "score", "labels": "step_labels", "ratings": "step_labels",
}  # names that files elsewhere use, and the field that is meant  # fmt: skip


def preset_names() -> tuple[Preset, ...]:
    return get_args(Preset)


@dataclass(frozen=True, slots=True)
class ImportReport:
    name: str
    preset: str
    records: int
    added: BulkCounts
    ignored_fields: tuple[str, ...]
    removed: Counter[str] = field(default_factory=Counter)
    own: int = 0
    """Judgements that were left out because people of this workspace had given them."""

    def __str__(self) -> str:
        return f"{self.came_in} {self.passed_over}".rstrip()

    @property
    def came_in(self) -> str:
        """What came of the file, in sentences."""
        added = self.added
        text = f"{self.name}: read {counted(self.records, 'record')} as {self.preset}; "
        if added.chats == 0 and added.ratings == 0:
            text += f"nothing new ({added.known_chats} chats and {added.known_ratings} ratings were here already)."
        else:
            text += f"added {counted(added.chats, 'chat')}, {counted(added.steps, 'step')}, {counted(added.ratings, 'rating')}"
            known = [counted(n, what) for n, what in ((added.known_chats, "chat"), (added.known_ratings, "rating")) if n]
            text += f"; here already: {' and '.join(known)}." if known else "."
        if self.own:
            text += (
                f" {self.own} judgements were given in this workspace, by people whom its exports name by pseudonyms: they were "
                "left out, since they stand here already or were taken back."
            )
        if self.removed:
            text += f" Taken out of texts: {told(self.removed)}."
        return text

    @property
    def passed_over(self) -> str:
        """What of the file was not read, in a sentence; "" where all of it was."""
        return passed_over(self.ignored_fields, self.preset)


def passed_over(fields: Sequence[str], preset: str) -> str:
    """Fields of a file that are not read, in a sentence, with the names that this format would read; "" where there are none."""
    read = READ_BY_PRESET.get(preset, frozenset())
    known = LIKE | {name.casefold(): name for name in read}
    meant = [(one, known.get(one.casefold())) for one in fields]
    said = [f"{one} ({name} is the name that is read)" if name in read and name != one else one for one, name in meant]
    return f"Not read: {', '.join(said)}." if said else ""


def import_file(
    workbench: Workbench, path: Path, *, preset: Preset = "auto", origin: Origin = "imported", remove_personal: bool = False
) -> ImportReport:  # fmt: skip
    """
    Raises:
        NotFound, InvalidInput: no such file, a folder, not readable, a wrong format.
        ImportRejected: some lines are bad; nothing was imported.
    """
    with file_errors(path):
        if path.is_dir():
            files = sorted(path.glob("data/*.parquet"))  # what `export --layout datasets` makes
            if len(files) != 1:
                raise InvalidInput(f"{path} is a folder. Name a file in it, or a data set's folder with one data/*.parquet.")
            path = files[0]
    with file_errors(path), path.open("rb") as file:
        return import_stream(workbench, file, path.name, preset=preset, origin=origin, remove_personal=remove_personal)


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Say of a file that somebody named why it cannot be read.

    Raises:
        NotFound: there is none. InvalidInput: it is not readable.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}. Check the path.") from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}. Check the path and its permissions.") from error


def import_stream(
    workbench: Workbench,
    file: BinaryIO,
    name: str,
    *,
    preset: Preset = "auto",
    origin: Origin = "imported",
    on_progress: Callable[[int], None] | None = None,
    remove_personal: bool = False,
) -> ImportReport:
    """Import from an open, seekable file; see :func:`import_file`. Other people's writes wait only for the last part."""
    workbench.require("import")
    root = workbench.workspace.root
    with (
        disk_errors("reading the file", root),
        parse_file(file, name, preset=preset, scratch=root, on_progress=on_progress, remove_personal=remove_personal) as parsed,
    ):
        ours, own = _pseudonyms_here(workbench), 0
        with workbench.store.bulk() as (writer, counts):
            for batch in parsed.batches():
                own += batch.leave_out(ours)
                writer.add_profiles(list(batch.raters.items()), origin)
                writer.add_chats(batch.chats)
                writer.add_steps(batch.steps)
                writer.add_feedback(batch.feedback)
                if batch.preferences:
                    writer.add_preferences(batch.preferences)
                if batch.aspects:
                    writer.add_aspect_ratings(batch.aspects)
        workbench.note("import", name, chats=counts.chats, ratings=counts.ratings, removed=parsed.removed.total())
        return ImportReport(name, parsed.preset, parsed.records, counts, parsed.ignored_fields, parsed.removed, own)


def _pseudonyms_here(workbench: Workbench) -> frozenset[str]:
    """Under which exports of this workspace name people, and named those who were erased since: all that its snapshots hold, and
    all people of the store that whoever imports may see (on a team's store that is often themselves alone). What these said would
    come in a second time, as that of somebody else."""
    name = Pseudonyms(pseudonym_key(workbench.workspace.keys))
    here = {name(one.user_id) for one in workbench.store.profiles()}
    for snapshot in list_snapshots(workbench.workspace.snapshots):
        here.update(snapshot.table("people")["rater"].to_pylist())
    return frozenset(one for one in here if one) | erasing.erased(workbench)


def add_chats(workbench: Workbench, records: Sequence[Mapping[str, Any]], source: str) -> tuple[list[str], BulkCounts]:
    """Store chats that were made here, each a record as a file would have it, all or none. Known ones stay as they are.

    Args:
        workbench: Whose store.
        records: Chats without judgements.
        source: Of those that name none.

    Returns:
        Their ids, in order, and what was new.

    Raises:
        InvalidInput: one of them is no chat.
        Forbidden: the person may not add chats.
    """
    workbench.require("import")
    now = utc_now()
    try:
        rows = [build_rows(one, default_source=source, now=now) for one in records]
    except BadRecord as error:
        raise InvalidInput(f"An answer cannot be kept: {error}.") from error
    with workbench.store.bulk() as (writer, counts):
        writer.add_chats([one.chat for one in rows])
        writer.add_steps([step for one in rows for step in one.steps])
    return [str(one.chat[0]) for one in rows], counts
