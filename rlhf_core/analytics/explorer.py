"""A snapshot as one DuckDB file, quick to ask: made once from its Parquet files, beside the snapshots, then only read.

It can be deleted at any time. It is made again when the tables that it holds change, and from files whose hashes were looked at
first, so a damaged snapshot is named instead of answered from.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_core.analytics.snapshot import EXPLORE, Snapshot
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, disk_errors
from rlhf_core.ground.files import building
from rlhf_core.ground.settings import SQL_ROOT
from rlhf_core.ground.tables import EXPORT_COLUMNS
from rlhf_core.ground.text import shorten

if TYPE_CHECKING:
    import duckdb

TABLES = SQL_ROOT / "explore" / "tables.sql"
THREADS = 2
MEMORY = "2GB"
OPEN_AT_MOST = 4
_open: OrderedDict[Path, duckdb.DuckDBPyConnection] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Filter:
    """Which ratings (and their chats) questions look at. Empty: all. ``since`` and ``until``: days, both included."""

    sources: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    raters: tuple[str, ...] = ()
    scores: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    """Positions; 0 is the whole answer."""
    since: str | None = None
    until: str | None = None
    words: str | None = None
    """In the question, whatever their letter case."""
    demo: bool = True
    """Whether ratings of the demo set's fictional raters count."""

    def of_chats(self) -> list[str]:
        rules = []
        if self.sources:
            rules.append(f"source IN ({_list(self.sources)})")
        if self.models:
            rules.append(f"coalesce(model::VARCHAR, '') IN ({_list(self.models)})")
        if self.words:
            rules.append(f"contains(lower(query), lower({literal(self.words)}))")
        return rules

    def of_ratings(self, tables: str) -> list[str]:
        rules = [rule for rule in self.of_chats() if "query" not in rule]
        if self.words:
            asked = f"contains(lower(query), lower({literal(self.words)}))"
            rules.append(f"chat_no IN (SELECT chat_no FROM {tables}.chats WHERE {asked})")
        if self.raters:
            rules.append(f"rater IN ({_list(self.raters)})")
        if self.scores:
            rules.append(f"score IN ({', '.join(str(int(score)) for score in self.scores)})")
        if self.steps:
            rules.append(f"coalesce(step_order, 0) IN ({', '.join(str(int(step)) for step in self.steps)})")
        if self.since:
            rules.append(f"day >= DATE {literal(self.since)}")
        if self.until:
            rules.append(f"day <= DATE {literal(self.until)}")
        if not self.demo:
            rules.append("NOT is_demo")
        return rules

    def views(self, tables: str) -> Iterator[str]:
        """Statements that put filtered views in the place of the tables, for one connection. ``tables``: schema of those."""
        if rules := self.of_chats():
            yield f"CREATE TEMP VIEW chats AS FROM {tables}.chats WHERE {' AND '.join(rules)}"
        if rules := self.of_ratings(tables):
            yield f"CREATE TEMP VIEW ratings AS FROM {tables}.ratings WHERE {' AND '.join(rules)}"
            judged = [rule for rule in rules if rule.startswith(("source", "coalesce(model", "chat_no", "rater"))]
            if self.since:
                judged.append(f"began_at >= TIMESTAMP {literal(self.since)}")
            if self.until:
                judged.append(f"began_at < TIMESTAMP {literal(self.until)} + INTERVAL 1 DAY")
            if judged:
                yield f"CREATE TEMP VIEW judged_chats AS FROM {tables}.judged_chats WHERE {' AND '.join(judged)}"
            chats = "SELECT id FROM chats" if self.of_chats() else None
            for table, at in (("preferences", "created_at"), ("aspect_ratings", "created_at"), ("label_events", "at")):
                own = [f"rater IN ({_list(self.raters)})"] if self.raters else []
                own += [f"chat_id IN ({chats})"] if chats else []
                own += [f"{at} >= TIMESTAMP {literal(self.since)}"] if self.since else []
                own += [f"{at} < TIMESTAMP {literal(self.until)} + INTERVAL 1 DAY"] if self.until else []
                some = f"FROM {tables}.{table} WHERE {' AND '.join(own)}"
                if own and table == "aspect_ratings":  # its totals are of what is left
                    totals = "sum(score) OVER one AS chat_total, count(*) OVER one AS chat_ratings"
                    some = f"SELECT * REPLACE ({totals}) {some} WINDOW one AS (PARTITION BY aspect, chat_no)"
                if own:
                    yield f"CREATE TEMP VIEW {table} AS {some}"
            for table in ("score_runs", "looks", "gold_results"):
                if self.raters:
                    yield f"CREATE TEMP VIEW {table} AS FROM {tables}.{table} WHERE rater IN ({_list(self.raters)})"


def prepare(snapshot: Snapshot, on_progress: Callable[[str], None] | None = None) -> Path:
    """The snapshot's DuckDB file; made if it is not there.

    Raises:
        CorruptArtifact: a file of the snapshot is not what the manifest says.
        StorageFull: no room for it.
    """
    version = hashlib.sha256(TABLES.read_bytes()).hexdigest()[:8]
    folder = snapshot.folder.parent / EXPLORE
    path = folder / f"{snapshot.id}-{version}.duckdb"
    if path.is_file():
        return path
    snapshot.verify()
    with disk_errors("preparing a snapshot for questions", folder), building(folder) as scratch:
        _build(snapshot, scratch / "new.duckdb", on_progress)
        for old in folder.glob(f"{snapshot.id}-*.duckdb"):
            old.unlink()  # of an earlier version; whoever has it open keeps reading it
        (scratch / "new.duckdb").replace(path)
    return path


def _build(snapshot: Snapshot, path: Path, on_progress: Callable[[str], None] | None) -> None:
    import duckdb

    with duckdb.connect(str(path)) as connection:
        connection.execute(f"SET threads = {THREADS}")
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute(f"SET temp_directory = {literal(str(path.parent / 'spill'))}")
        connection.execute("SET TimeZone = 'UTC'")
        for table in EXPORT_COLUMNS:
            if files := snapshot.files(table):
                names = ", ".join(literal(str(file)) for file in files)
                connection.execute(f"CREATE TEMP VIEW snapshot_{table} AS FROM read_parquet([{names}])")
            else:
                connection.register(f"snapshot_{table}", snapshot.table(table))
        for statement in duckdb.extract_statements(TABLES.read_text(encoding="utf-8")):
            if on_progress and statement.query.startswith("CREATE TABLE"):
                on_progress(statement.query.split()[2])
            try:
                connection.execute(statement)
            except duckdb.OutOfMemoryException as error:
                raise InvalidInput(
                    f"Snapshot {snapshot.id} does not fit into {MEMORY} of memory and the disk: {error}"
                ) from error
        connection.execute("CHECKPOINT")


@contextmanager
def asking(snapshot: Snapshot, only: Filter | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of one's own to the snapshot's DuckDB file: read-only, and it reaches nothing else.

    Raises:
        CorruptArtifact: the snapshot, or what was made of it, is damaged.
        InvalidInput: a filter that cannot be.
    """
    import duckdb

    path = prepare(snapshot)
    with _lock:
        base = _open.pop(path, None)
        if base is None:
            base = _connect(path, snapshot)
        _open[path] = base
        while len(_open) > OPEN_AT_MOST:
            _open.popitem(last=False)[1].close()
        connection = base.cursor()
    try:
        for statement in only.views(f'"{path.stem}".main') if only else ():
            try:
                connection.execute(statement)
            except (duckdb.ConversionException, duckdb.BinderException, duckdb.ParserException) as error:
                raise InvalidInput(f"The filter cannot be applied: {shorten(str(error), 200)}") from error
        yield connection
    finally:
        connection.close()


def _connect(path: Path, snapshot: Snapshot) -> duckdb.DuckDBPyConnection:
    import duckdb

    try:
        connection = duckdb.connect(str(path), read_only=True, config=settings())
    except duckdb.Error as error:
        path.unlink(missing_ok=True)
        raise CorruptArtifact(
            f"What was prepared of snapshot {snapshot.id} for questions is damaged and was deleted ({shorten(str(error), 120)}). "
            "Try again: it is made anew."
        ) from error
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    return connection


def settings(*, threads: int = THREADS, memory: str = MEMORY) -> dict[str, Any]:
    """DuckDB's settings for reading one file and nothing else."""
    return {
        "threads": threads, "memory_limit": memory, "enable_external_access": False, "autoload_known_extensions": False,
        "autoinstall_known_extensions": False, "allow_community_extensions": False, "allow_unsigned_extensions": False,
        "python_enable_replacements": False, "temp_directory": "", "max_temp_directory_size": "0KB",
    }  # fmt: skip


def forget(path_prefix: str) -> None:
    """Close what is open of a snapshot that goes away."""
    with _lock:
        for path in [path for path in _open if path.name.startswith(path_prefix)]:
            _open.pop(path).close()


def literal(value: str) -> str:
    """A text as DuckDB writes it in a statement: for settings and names, which take no parameters."""
    return "'" + value.replace("'", "''") + "'"


def _list(values: Sequence[str]) -> str:
    return ", ".join(literal(value) for value in values)
