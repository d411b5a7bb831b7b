"""Questions asked of a snapshot that is in the depot, without a copy of it here.

DuckDB reads the files by itself where its ``httpfs`` extension is present and the place speaks S3; else pyarrow reads them
through fsspec. Either way columns and row groups that a question does not need are left where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rlhf_core.analytics.explorer import literal
from rlhf_core.analytics.snapshot import names_of, schema_of
from rlhf_core.ground.depots import DepotSettings
from rlhf_core.ground.tables import EXPORT_COLUMNS, TableName

if TYPE_CHECKING:
    import duckdb

THREADS, MEMORY = 4, "4GB"


@contextmanager
def asking_there(
    manifest: dict[str, Any], paths: dict[str, str], filesystem: Any, settings: DepotSettings
) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """A connection with a view of each table, which reaches nothing else; and who reads: ``httpfs`` or ``pyarrow``.

    Args:
        manifest: Of the snapshot.
        paths: Of each of its files there, by name.
        filesystem: Of fsspec.
        settings: Of the depot.
    """
    import duckdb

    connection = duckdb.connect(config={"threads": THREADS, "memory_limit": MEMORY})
    try:
        by = "httpfs" if settings.protocol == "s3" and _speaks_s3(connection, settings) else "pyarrow"
        for table in EXPORT_COLUMNS:
            mine = [paths[name] for name in names_of(manifest, table)]
            if by == "httpfs" and mine:
                listed = ", ".join(literal(f"s3://{path}") for path in mine)
                connection.execute(f'CREATE VIEW "{table}" AS FROM read_parquet([{listed}], union_by_name = true)')
            else:
                connection.register(table, _dataset(table, mine, filesystem))
        connection.execute("SET TimeZone = 'UTC'")
        if by == "httpfs":
            connection.execute(f"SET allowed_directories = [{literal(settings.url + '/')}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection, by
    finally:
        connection.close()


def _dataset(table: TableName, paths: list[str], filesystem: Any) -> Any:
    import pyarrow.dataset as ds
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    if not paths:
        return schema_of(table).empty_table()
    return ds.dataset(paths, filesystem=PyFileSystem(FSSpecHandler(filesystem)), format="parquet")


def _speaks_s3(connection: duckdb.DuckDBPyConnection, settings: DepotSettings) -> bool:
    """Load ``httpfs`` where it is installed, and tell it how to get in."""
    import duckdb

    try:
        connection.execute("LOAD httpfs")
    except duckdb.Error:
        return False
    options = settings.options
    endpoint = urlsplit(str(options.get("endpoint_url") or options.get("client_kwargs", {}).get("endpoint_url") or ""))
    said = {"KEY_ID": options.get("key"), "SECRET": options.get("secret"), "SESSION_TOKEN": options.get("token"),
            "ENDPOINT": endpoint.netloc or None}  # fmt: skip
    parts = ["TYPE s3", *(f"{name} {literal(str(value))}" for name, value in said.items() if value)]
    if endpoint.netloc:
        parts += ["URL_STYLE 'path'", f"USE_SSL {str(endpoint.scheme == 'https').lower()}"]
    elif not options.get("key"):
        parts.append("PROVIDER credential_chain")
    try:
        connection.execute(f"CREATE SECRET depot ({', '.join(parts)})")
    except duckdb.Error:
        return False
    return True
