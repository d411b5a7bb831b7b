"""People's own SQL: what it may do, what it may not, and that nothing it does stops the server."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_core.analytics.sandbox import Sandbox
from rlhf_core.analytics.snapshot import EXPLORE, Snapshot
from rlhf_core.ground.errors import InvalidInput
from rlhf_core.services import querying, snapshots
from rlhf_core.services.workbench import Workbench
from tests.conftest import command

BOMB = "WITH RECURSIVE t AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM t)"
REFUSED: dict[str, list[str]] = {
    "writing": [
        "INSERT INTO ratings SELECT * FROM ratings",
        "UPDATE ratings SET score = 5",
        "DELETE FROM ratings",
        "DROP TABLE ratings",
        "TRUNCATE ratings",
        "ALTER TABLE ratings ADD COLUMN x INT",
        "CREATE TABLE x AS SELECT 1",
        "CREATE TEMP TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "CREATE OR REPLACE TABLE chats AS SELECT 1",
        "CREATE MACRO f(x) AS x",
        "CREATE SCHEMA s",
        "CREATE INDEX i ON ratings (score)",
        "CREATE SEQUENCE s",
        "CREATE TYPE t AS ENUM ('a')",
        "CREATE SECRET s (TYPE s3)",
        "MERGE INTO ratings USING chats ON TRUE WHEN MATCHED THEN DELETE",
        "WITH x AS (SELECT 1) INSERT INTO ratings SELECT * FROM x",
        "COMMENT ON TABLE ratings IS 'mine'",
        "DROP SCHEMA main CASCADE",
        "DROP TYPE rater_name",
        "VACUUM",
        "ANALYZE",
    ],
    "files": [
        "COPY ratings TO '{out}/x.csv'",
        "COPY (SELECT 1) TO '{out}/x.parquet' (FORMAT parquet)",
        "COPY ratings FROM '/etc/passwd'",
        "COPY (SELECT 1) TO '/dev/stdout'",
        "EXPORT DATABASE '{out}/db'",
        "IMPORT DATABASE '{out}/db'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_csv_auto('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM read_parquet('{snapshot}/chats/*.parquet')",
        "SELECT * FROM parquet_metadata('{snapshot}/chats/*.parquet')",
        "SELECT * FROM parquet_scan('{snapshot}/chats/*.parquet')",
        "SELECT * FROM read_json('{snapshot}/manifest.json')",
        "SELECT * FROM read_ndjson('{snapshot}/manifest.json')",
        "SELECT * FROM read_json_objects('{snapshot}/manifest.json')",
        "FROM '/etc/passwd'",
        "SELECT * FROM '/etc/passwd'",
        'SELECT * FROM "/etc/passwd"',
        "SELECT * FROM '{keys}/pseudonym.key'",
        "SELECT * FROM read_text('{keys}/pseudonym.key')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM read_csv('/proc/self/environ')",
        "SELECT * FROM read_text('/proc/self/mem')",
        "SELECT * FROM read_csv('{out}/../*')",
        "SELECT * FROM '../workbench.sqlite3'",
        "SELECT content FROM read_text(['/etc/hosts', '/etc/passwd'])",
        "FROM read_duckdb('{out}/x.duckdb')",
        "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
        "SELECT * FROM query_table('/etc/passwd')",
        "SELECT (SELECT content FROM read_text('/etc/passwd'))",
        "EXPLAIN ANALYZE SELECT * FROM read_text('/etc/passwd')",
        "EXPLAIN ANALYZE COPY ratings TO '{out}/x.csv'",
        "DESCRIBE SELECT * FROM read_csv('/etc/passwd')",
        "SUMMARIZE SELECT * FROM read_csv('/etc/passwd')",
    ],
    "other databases": [
        "ATTACH '{store}' AS s (TYPE sqlite)",
        "ATTACH '{out}/new.duckdb'",
        "ATTACH ':memory:' AS m",
        "DETACH memory",
        "USE memory",
        "SELECT * FROM sqlite_scan('{store}', 'profiles')",
        "SELECT * FROM postgres_scan('', '', '')",
        "CHECKPOINT",
        "FORCE CHECKPOINT",
        "CREATE TABLE memory.x AS SELECT 1",
    ],
    "network": [
        "SELECT * FROM read_csv('https://example.com/x.csv')",
        "SELECT * FROM 's3://bucket/x.parquet'",
        "SELECT * FROM read_parquet('http://127.0.0.1:1/x.parquet')",
        "SELECT * FROM read_json('hf://datasets/x/y.json')",
        "ATTACH 'https://example.com/x.duckdb'",
        "FROM 'gcs://bucket/x'",
    ],
    "extensions and settings": [
        "INSTALL httpfs",
        "LOAD httpfs",
        "FORCE INSTALL sqlite",
        "INSTALL spatial FROM community",
        "LOAD '{out}/evil.duckdb_extension'",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "SET threads = 64",
        "SET temp_directory = '{out}'",
        "SET lock_configuration = false",
        "SET GLOBAL allowed_directories = ['/']",
        "SET SESSION TimeZone = 'America/New_York'",
        "RESET memory_limit",
        "PRAGMA enable_profiling",
        "PRAGMA database_list",
        "PRAGMA version",
        "PRAGMA disable_object_cache",
        "PRAGMA memory_limit = '100GB'",
        "SET VARIABLE x = 1",
        "UPDATE EXTENSIONS",
        "CALL pragma_version()",
        "PRAGMA enable_logging",
        "CALL enable_logging()",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DEALLOCATE p",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "BEGIN TRANSACTION",
    ],
    "several at once": [
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE ratings",
        "SELECT 1; SET threads = 64;",
        "/* c */ SELECT 1; -- c\nCOPY ratings TO 'x'",
        "SELECT 1;;SELECT 2",
        "--",
        "/* only words */",
        ";",
        "  ",
        "SELECT 'a'; ATTACH ':memory:' AS m",
    ],
    "nonsense": [
        "SELEC 1",
        "SELECT",
        "SELECT * FROM nothing",
        "SELECT nothing FROM ratings",
        "\\d",
        "quit",
        "SELECT getenv('HOME')",
        "' OR 1=1 --",
        "SELECT 1 FROM",
        "{{}}",
        "SELECT ÿ",
        "SELECT current_setting('nothing')",
        "SELECT $x",
        "SELECT ?",
    ],
}
STOPPED: dict[str, str] = {
    "a recursion without end": f"{BOMB} SELECT sum(x) FROM t",
    "a recursion of rows": f"{BOMB} SELECT * FROM t, t AS u ORDER BY ALL",
    "a cross join": "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE a.range * b.range % 7 = 3",
    "a sorted cross join": "SELECT * FROM range(1000000) a, range(1000000) b ORDER BY hash(a.range, b.range)",
    "a wide list": "SELECT list(range(1000000)) FROM range(100000)",
    "a long text": "SELECT length(string_agg(repeat('x', 1000000), '')) FROM range(100000)",
    "a huge text": "SELECT repeat('x', 4000000000)",
    "many groups": "SELECT range, count(*) FROM range(3000000000) GROUP BY range ORDER BY 2 DESC",
    "a slow pattern": "SELECT count(*) FROM range(100000000) WHERE regexp_matches(repeat('a', 200) || range, '(a|aa)+(a|aa)+b')",
}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    one = Sandbox()
    yield one
    one.close()


@pytest.fixture
def snapshot(demo: Workbench) -> Snapshot:
    return snapshots.take(demo)[0]


def rows(sandbox: Sandbox, snapshot: Snapshot, sql: str, **more: float) -> list[dict[str, object]]:
    result = sandbox.start(snapshot, sql, **more).result()  # type: ignore[arg-type]
    try:
        return result.read().to_pylist()
    finally:
        result.drop()


def test_there_are_a_hundred_of_them() -> None:
    assert sum(map(len, REFUSED.values())) + len(STOPPED) >= 130


@pytest.mark.slow
@pytest.mark.parametrize("kind", REFUSED)
def test_hostile_statements_are_refused(kind: str, sandbox: Sandbox, snapshot: Snapshot, demo: Workbench, tmp_path: Path) -> None:
    places = {"out": tmp_path, "snapshot": snapshot.folder, "keys": demo.workspace.keys, "store": demo.workspace.database}
    before = {path: path.stat().st_mtime_ns for path in snapshot.folder.rglob("*") if path.is_file()}
    for statement in REFUSED[kind]:
        with pytest.raises(InvalidInput) as refused:
            rows(sandbox, snapshot, statement.format(**places) if "{" in statement and "{{" not in statement else statement)
        assert str(refused.value).strip(), statement
        assert "root:" not in str(refused.value), statement
    assert rows(sandbox, snapshot, "SELECT count(*) AS n FROM ratings") == [{"n": snapshot.ratings}]
    assert before == {path: path.stat().st_mtime_ns for path in snapshot.folder.rglob("*") if path.is_file()}
    assert [path for path in tmp_path.iterdir() if path.name != "workspace"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", STOPPED)
def test_bombs_are_stopped_and_others_are_answered(name: str, sandbox: Sandbox, snapshot: Snapshot) -> None:
    running = sandbox.start(snapshot, STOPPED[name], timeout_s=3)
    assert rows(sandbox, snapshot, "SELECT 1 AS one") == [{"one": 1}]
    with pytest.raises(InvalidInput, match="Stopped after 3 s|[Mm]emory|Ask for less"):
        running.result()
    assert running.elapsed_s < 30
    assert list((snapshot.folder.parent / EXPLORE).glob("result-*.arrow")) == []


def test_a_query_can_be_cancelled(sandbox: Sandbox, snapshot: Snapshot) -> None:
    running = sandbox.start(snapshot, STOPPED["a cross join"])
    threading.Timer(0.5, running.cancel).start()
    with pytest.raises(InvalidInput, match="Cancelled"):
        running.result()
    assert running.elapsed_s < 20


def test_results_are_read_in_pieces(sandbox: Sandbox, snapshot: Snapshot) -> None:
    result = sandbox.start(snapshot, "SELECT range AS n FROM range(25000)").result()
    assert (result.rows, result.truncated, result.columns) == (25_000, False, [("n", "int64")])
    assert result.read(9_990, 20)["n"].to_pylist() == list(range(9_990, 10_010))
    assert result.read(24_999, 50)["n"].to_pylist() == [24_999]
    assert len(result.read()) == 25_000
    result.drop()
    result = sandbox.start(snapshot, "SELECT range AS n FROM range(25000)", max_rows=12_345).result()
    assert (result.rows, result.truncated) == (12_345, True)
    result.drop()


def test_what_may_be_asked(sandbox: Sandbox, snapshot: Snapshot) -> None:
    assert rows(sandbox, snapshot, "-- how many\nSELECT count(*) AS n FROM chats;") == [{"n": 60}]
    assert rows(sandbox, snapshot, "FROM chats SELECT count(*) AS n") == [{"n": 60}]
    assert len(rows(sandbox, snapshot, "DESCRIBE ratings")) > 10
    assert rows(sandbox, snapshot, "WITH a AS (VALUES (1), (2)) SELECT sum(col0)::INT AS s FROM a") == [{"s": 3}]
    odd = rows(
        sandbox,
        snapshot,
        "SELECT uuid() u, INTERVAL 1 DAY i, 1::HUGEINT h, {'a': [1]} s, 'x'::BLOB b, NULL n, rater r FROM ratings",
    )
    assert len(odd) == snapshot.ratings


def test_the_process_sees_nothing_of_ours(sandbox: Sandbox, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "hush")
    sandbox.warm()
    ready = sandbox._ready[0]
    time.sleep(0.5)
    assert b"hush" not in Path(f"/proc/{ready.pid}/environ").read_bytes()
    assert Path(f"/proc/{ready.pid}/cwd").readlink() == Path("/")


@pytest.mark.slow
def test_rows_become_a_queue(judged: Workbench) -> None:
    snapshot, _ = snapshots.take(judged)

    def ask(sql: str) -> querying.Result:
        return querying.run(judged, snapshot.id, sql).result()

    lowest = ask(
        "SELECT s.chat_id, s.step_order FROM ratings r JOIN reasoning_steps s USING (step_no) "
        "WHERE r.score = 1 AND r.step_order <= 2"
    )
    chats = querying.items(judged, snapshot.id, lowest)
    assert all(orders and set(orders) <= {1, 2} for orders in chats.values())
    queue, count = querying.to_queue(judged, snapshot.id, lowest, "Low first steps", overlap=2)
    assert count == len(chats)
    assert (queue.listed, queue.overlap) == (True, 2)
    person = Workbench.session(judged.people()[0])
    handed = judged.store.for_user(person).claim(queue.id, 100)
    assert {view.chat.id for view in handed} == set(chats)
    assert judged.store.steps_asked(queue.id, list(chats)) == chats
    steps = "FROM reasoning_steps"
    for column in ("chat_no FROM chats", "id AS chat_id FROM chats", f"id AS step_id {steps}", f"step_no {steps}"):
        assert querying.items(judged, snapshot.id, ask(f"SELECT {column} LIMIT 3")), column
    with pytest.raises(InvalidInput, match="select one of the columns"):
        querying.items(judged, snapshot.id, ask("SELECT 1 AS x"))
    with pytest.raises(InvalidInput, match="No row's chat_id is one"):
        querying.items(judged, snapshot.id, ask("SELECT 'nobody' AS chat_id"))


def test_the_history_is_each_person_s_own(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    for sql in ("SELECT 1", "SELECT 2", "SELECT 1"):
        querying.remember(demo, "ana", snapshot.id, sql, "1 row")
    assert [one.sql for one in querying.history(demo, "ana")] == ["SELECT 1", "SELECT 2"]
    assert querying.history(demo, "ben") == []


@pytest.mark.slow
def test_from_the_command_line(demo: Workbench, root: Path) -> None:
    snapshots.take(demo)
    assert command("sql", "SELECT count(*) AS n FROM chats", root=root).stdout == "n\n60\n"
    assert "is not allowed here" in command("sql", "DROP TABLE chats", root=root, check=False).stderr
