"""The embedded store's own promises: several processes, durability, old and broken files, a full disk."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground.errors import StorageFull, StoreUnavailable
from rlhf_core.ground.records import Session
from rlhf_core.ground.settings import PROJECT_ROOT, SQL_ROOT
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.sql import migrations, named_statements
from rlhf_core.store.sqlite import SqliteStore
from rlhf_core.store.sqlite_database import Database
from tests.contract.store_contract import NOW, add_chat

RATE = """
import sys
from pathlib import Path
from rlhf_core.ground.records import Session
from rlhf_core.store.sqlite import SqliteStore
from rlhf_core.store.sqlite_database import Database
from tests.contract.store_contract import step, uid
store = SqliteStore(Database(Path(sys.argv[1])))
chat = uid("chat", "a")
user = store.add_profile(sys.argv[2], sys.argv[2], "local").user_id
mine = store.for_user(Session(user, user))
for k in range(1, 51):
    mine.rate(chat, step(chat, k), 1 + k % 5, "stars")
    print(k, flush=True)
"""


def rater(path: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", RATE, str(path), name], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)


def test_several_processes_open_a_new_store_and_rate_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite3"
    starts = [subprocess.Popen([sys.executable, "-c", OPEN, str(path)], cwd=PROJECT_ROOT) for _ in range(3)]
    assert [process.wait(60) for process in starts] == [0, 0, 0]
    store = SqliteStore(Database(path))
    add_chat(store, "a", steps=50)
    processes = [rater(path, f"p{k}") for k in range(3)]
    for process in processes:
        process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert store.counts().ratings == 150


OPEN = "import sys; from pathlib import Path; from rlhf_core.store.sqlite_database import Database; Database(Path(sys.argv[1]))"


def test_every_acknowledged_rating_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite3"
    store = SqliteStore(Database(path))
    add_chat(store, "a", steps=50)
    acknowledged = 0
    with rater(path, "p") as process:
        assert process.stdout is not None
        for line in process.stdout:
            acknowledged = int(line)
            if acknowledged == 20:
                process.send_signal(signal.SIGKILL)
    assert 20 <= acknowledged <= store.counts().ratings <= acknowledged + 1


def test_commits_are_flushed_to_disk(tmp_path: Path) -> None:
    with Database(tmp_path / "s.sqlite3").connection() as connection:
        pragmas = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert pragmas == ["wal", 2, 1]  # 2: FULL, in WAL mode an fsync for each commit


def test_a_full_disk_undoes_the_write_and_says_so(tmp_path: Path) -> None:
    database = Database(tmp_path / "s.sqlite3")
    store = SqliteStore(database)
    add_chat(store, "a")
    with database.connection() as connection:  # the pool has this one connection, so later calls borrow it
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageFull, match="disk is full.*Free some space"), store.bulk() as (writer, _):
        writer.add_chats([(f"c{k}", "q" * 500, "r", "s", None, None, NOW) for k in range(200)])
    assert SqliteStore(Database(database.path)).counts().chats == 1


def test_a_store_kept_busy_says_so(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite3"
    holder, waiting = Database(path), SqliteStore(Database(path, busy_timeout_s=0.1))
    with holder.transaction(), pytest.raises(StoreUnavailable, match="kept busy"):
        waiting.add_profile("u", "U", "local")
    waiting.add_profile("u", "U", "local")


def test_readers_are_not_stopped_by_a_long_import(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite3"
    writing, reading = SqliteStore(Database(path)), SqliteStore(Database(path, busy_timeout_s=0.1))
    with writing.bulk() as (writer, _):
        writer.add_chats([("c", "q", "r", "s", None, None, NOW)])
        assert reading.counts().chats == 0
    assert reading.counts().chats == 1


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite3"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreUnavailable, match=r"damaged or no SQLite database.*backup"):
        Database(path)
    assert path.read_bytes().startswith(b"not a database")


def test_a_store_from_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite3"
    Database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreUnavailable, match="schema 99"):
        Database(path)


def test_a_half_done_migration_is_rolled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.sqlite3"
    broken = [*migrations(SQL_ROOT / "sqlite"), (3, "broken", ["CREATE TABLE extra (a)", "CREATE TABLE runs (a)"])]
    monkeypatch.setattr("rlhf_core.store.sqlite_database.migrations", lambda _: broken)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        Database(path)
    monkeypatch.undo()
    with Database(path).connection() as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone()[0] == 0


def test_a_connection_that_failed_is_not_used_again(tmp_path: Path) -> None:
    database = Database(tmp_path / "s.sqlite3")
    with pytest.raises(RuntimeError), database.transaction() as connection:
        connection.execute(
            "INSERT INTO profiles (user_id, display_name, origin, created_at) "
            "VALUES ('u', 'U', 'local', '2026-01-01T00:00:00.000000Z')"
        )
        raise RuntimeError
    assert SqliteStore(database).profiles() == []


def test_connections_are_shared_not_piled_up(tmp_path: Path) -> None:
    store = SqliteStore(Database(tmp_path / "s.sqlite3"))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    threads = [threading.Thread(target=store.counts) for _ in range(50)]
    for thread in threads:
        thread.start()
        thread.join()
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    assert after <= before + 6


def test_statement_files_name_each_statement_once() -> None:
    for path in (SQL_ROOT / "sqlite" / "queries").glob("*.sql"):
        statements = named_statements(path)
        assert statements
        assert all(sqlite3.complete_statement(text) for text in statements.values()), path


def test_a_person_has_no_ratings_of_others(tmp_path: Path) -> None:
    store = SqliteStore(Database(tmp_path / "s.sqlite3"))
    assert store.for_user(Session("ghost", "G")).history() == []


def test_what_is_deleted_is_forgotten_without_waiting_for_readers(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"query": "a very secret question", "response": "r"})
    database = workbench._database
    (chat,) = workbench.store.search_chats()
    with database.connection() as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM chats").fetchone()
        with database.transaction() as writer:
            writer.execute("DELETE FROM chats")
        workbench.embedded.forget_deleted()
        workbench.add_person("Somebody")  # others write meanwhile
        reader.execute("COMMIT")
    with database.connection() as connection:
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (30_000,)
    workbench.embedded.forget_deleted()
    for path in workbench.workspace.root.glob("workbench.sqlite3*"):
        assert b"very secret" not in path.read_bytes()
    assert chat.query == "a very secret question"
