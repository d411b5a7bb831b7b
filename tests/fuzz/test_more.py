"""The SQL workbench and statements that nobody would write: made by a grammar that puts what is refused wherever something may
stand. Whatever is asked, no file is read or written, and the process lives to answer the next one."""

# ruff: noqa: E501
from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhf_core.analytics import explorer, sandbox_worker
from rlhf_core.analytics.snapshot import Snapshot

# As the real one does, each process answers one statement; forked, because starting Python takes longer than most answers.
WORKER = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from sandbox_worker import answer
for line in sys.stdin:
    if (child := os.fork()) == 0:
        print(json.dumps(answer(json.loads(line))), flush=True)
        os._exit(0)
    if (status := os.waitpid(child, 0)[1]) != 0:
        print(json.dumps({"died": status}), flush=True)
"""
SECRET = secrets.token_hex(16)

# fmt: off
names = st.sampled_from(["ratings", "chats", "steps", "score", "chat_id", "step_order", "rater", "query", "nothing", "*", "1"])
texts = st.sampled_from(
    ["'a'", "'%'", "''", "'{file}'", "'{file}'", "'{folder}/*'", "'{folder}/x.csv'", "'/etc/passwd'", "'http://127.0.0.1:9/x'", "'\\x00'", "$$x$$"]
)
numbers = st.integers(-(2**63), 2**64).map(str) | st.sampled_from(
    ["0", "1e308", "-0.0", "NULL", "'nan'::DOUBLE", "INTERVAL 1 DAY"]
)
readers = st.sampled_from([
    "read_text", "read_blob", "read_csv", "read_csv_auto", "read_parquet", "parquet_scan", "read_json", "read_ndjson", "glob", "sniff_csv",
    "query_table", "query", "read_duckdb", "parquet_metadata", "st_read", "sqlite_scan", "postgres_scan", "iceberg_scan", "duckdb_secrets",
    "getenv", "current_setting", "pragma_table_info", "which_secret", "duckdb_settings", "range", "unnest", "repeat", "json_execute_serialized_sql",
])  # fmt: skip
verbs = st.sampled_from([
    "COPY ratings TO {text}", "COPY (SELECT 1) TO {text}", "ATTACH {text} AS x", "INSTALL httpfs", "LOAD {text}", "EXPORT DATABASE {text}",
    "SET enable_external_access = true", "SET lock_configuration = false", "PRAGMA {name}", "CALL {name}()", "CREATE TABLE {name} AS SELECT 1",
    "CREATE MACRO f() AS 1", "DROP TABLE {name}", "INSERT INTO {name} VALUES (1)", "CHECKPOINT", "VACUUM", "USE {name}", "BEGIN",
    "PREPARE p AS SELECT 1", "EXECUTE p", "DETACH {name}", "RESET memory_limit", "UPDATE {name} SET score = 1", "DELETE FROM {name}",
])  # fmt: skip

# fmt: on


def _expressions(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    call = st.tuples(readers, inner).map(lambda parts: f"{parts[0]}({parts[1]})")
    both = st.tuples(inner, st.sampled_from(["+", "||", "=", "LIKE", "AND", "->", "IN", "::", "^", "<->"]), inner)
    return st.one_of(
        call,
        both.map(" ".join),
        inner.map(lambda one: f"({one})"),
        inner.map(lambda one: f"(SELECT {one})"),
        inner.map(lambda one: f"[{one}]"),
        inner.map(lambda one: f"{{'a': {one}}}"),
        inner.map(lambda one: f"CAST({one} AS VARCHAR)"),
        inner.map(lambda one: f"list_transform([1], x -> {one})"),
        st.tuples(inner, inner).map(lambda parts: f"CASE WHEN {parts[0]} THEN {parts[1]} END"),
        inner.map(lambda one: f"count({one}) OVER (ORDER BY {one})"),
    )


expressions = st.recursive(names | texts | numbers, _expressions, max_leaves=6)
sources = st.one_of(
    st.sampled_from(["ratings", "chats", "steps", "'{file}'", '"{file}"', "'{folder}/*'", "range(3)", "nothing"]),
    st.tuples(readers, texts).map(lambda parts: f"{parts[0]}({parts[1]})"),
    st.tuples(readers, expressions).map(lambda parts: f"{parts[0]}({parts[1]})"),
    expressions.map(lambda one: f"(SELECT {one} AS a)"),
    expressions.map(lambda one: f"(VALUES ({one}))"),
)


@st.composite
def statements(draw: st.DrawFn) -> str:
    """One statement, several, or something like one."""
    what, source = draw(expressions), draw(sources)
    shape = draw(st.sampled_from([
        "SELECT {what} FROM {source}", "FROM {source}", "SELECT * FROM {source}", "SELECT {what}", "WITH t AS (SELECT {what} FROM {source}) SELECT * FROM t",
        "WITH t AS MATERIALIZED ({verb}) SELECT * FROM t", "SELECT * FROM ({verb})", "{verb}", "SELECT 1; {verb}", "{verb}; SELECT 1",
        "EXPLAIN {verb}", "EXPLAIN ANALYZE SELECT {what} FROM {source}", "DESCRIBE {verb}", "SUMMARIZE {source}", "SHOW {name}",
        "SELECT {what} FROM {source} UNION ALL SELECT {what} FROM {source}", "SELECT * FROM {source} AS a, LATERAL (SELECT {what}) AS b",
        "PIVOT {source} ON {name}", "SELECT {what} FROM {source} GROUP BY ALL QUALIFY {what}", "/* {verb} */ SELECT {what}",
        "SELECT {what} -- {verb}", "SELECT '{verb}'", "FROM {source} TABLESAMPLE 50%", "SELECT {what} FROM {source} ORDER BY {what} LIMIT {what}",
    ]))  # fmt: skip
    verb = draw(verbs).replace("{text}", draw(texts)).replace("{name}", draw(names))
    return shape.replace("{what}", what).replace("{source}", source).replace("{verb}", verb).replace("{name}", draw(names))


class Asked:
    """A process that answers one statement after another, and a folder with something to be kept from it."""

    def __init__(self, snapshot: Snapshot, folder: Path) -> None:
        self.folder = folder / "kept"
        self.folder.mkdir()
        self.file = self.folder / "kept.csv"
        self.file.write_text(f"secret\n{SECRET}\n")
        self._result = folder / "result.arrow"
        self._fixed = {
            "database": str(explorer.prepare(snapshot)), "result": str(self._result), "max_rows": 50, "max_bytes": 1 << 20,
            "settings": explorer.settings(threads=1, memory="200MB"), "timeout_s": 2.0,
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(Path(sandbox_worker.__file__).parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=folder, env={"PATH": "/usr/bin", "SECRET": SECRET},
        )  # fmt: skip

    def ask(self, sql: str) -> dict[str, Any]:
        self._result.unlink(missing_ok=True)
        sql = sql.replace("{file}", str(self.file)).replace("{folder}", str(self.folder))
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(self._fixed | {"sql": sql}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"it died of: {sql}"
        reply: dict[str, Any] = json.loads(line)
        assert "died" not in reply, f"it died of: {sql}"
        assert [one.name for one in self.folder.iterdir()] == ["kept.csv"], f"it wrote a file: {sql}"
        assert SECRET not in line, f"it read a file: {sql}"
        if "error" in reply:
            assert reply["error"].strip(), sql
        else:
            with pa.OSFile(str(self._result)) as file:
                found = pa.ipc.open_file(file).read_all()
            assert found.num_rows == reply["rows"] <= 50
            assert SECRET.encode() not in self._result.read_bytes(), f"it read a file: {sql}"
        return reply

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.wait(10)


@pytest.fixture(scope="module")
def asked(judged_snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    one = Asked(judged_snapshot, tmp_path_factory.mktemp("asked"))
    yield one
    one.close()


def test_the_process_does_answer(asked: Asked) -> None:
    assert asked.ask("SELECT count(*) AS n FROM ratings")["columns"] == [["n", "int64"]]
    assert "error" in asked.ask("SELECT * FROM read_csv('{file}')")


@pytest.mark.slow
@settings(
    max_examples=4000, deadline=None, derandomize=False, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sql=statements())
def test_whatever_is_asked_nothing_leaks(asked: Asked, sql: str) -> None:
    asked.ask(sql)
