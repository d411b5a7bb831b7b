import threading
from pathlib import Path

import pytest

from rlhf_core.ground.errors import NotFound, RunRefused
from rlhf_core.store.sqlite import Database
from rlhf_core.store.sqlite_runs import SqliteRunLedger


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteRunLedger:
    return SqliteRunLedger(Database(tmp_path / "s.sqlite3"))


def test_a_run_is_claimed_by_exactly_one(ledger: SqliteRunLedger) -> None:
    for k in range(3):
        ledger.add(f"r{k}", "reward", {}, "snap", None)
    claims: list[str] = []
    barrier = threading.Barrier(8)

    def work(host: str) -> None:
        barrier.wait()
        run = ledger.claim_next(host)
        if run:
            claims.append(run.id)

    threads = [threading.Thread(target=work, args=(f"host{k}",)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claims) == ["r0", "r1", "r2"]


def test_one_run_at_a_time_on_a_host(ledger: SqliteRunLedger) -> None:
    for name in ("a", "b"):
        ledger.add(name, "reward", {"x": 1}, "snap", "u")
    first = ledger.claim_next("h")
    assert first is not None
    assert (first.id, first.status, first.config) == ("a", "running", {"x": 1})
    assert ledger.claim_next("h") is None
    ledger.finish("a", "succeeded", "done", "ckpt")
    second = ledger.claim_next("h")
    assert second is not None
    assert second.id == "b"


def test_a_run_started_in_a_terminal_is_never_queued(ledger: SqliteRunLedger) -> None:
    assert ledger.add("t", "reward", {}, "snap", None, "h").status == "running"
    assert ledger.claim_next("other") is None
    with pytest.raises(RunRefused, match="is running, not queued"):
        ledger.claim("t", "h")


def test_adding_again_changes_nothing(ledger: SqliteRunLedger) -> None:
    first = ledger.add("a", "reward", {"x": 1}, "snap", None)
    assert ledger.add("a", "reward", {"x": 2}, "other", None) == first


def test_an_ended_run_never_changes(ledger: SqliteRunLedger) -> None:
    ledger.add("a", "reward", {}, "snap", None)
    ledger.claim("a", "h")
    assert ledger.finish("a", "lost", "gone", None)
    assert not ledger.finish("a", "succeeded", "done", "c")
    assert ledger.beat("a", "training", 5, 10) is None
    with pytest.raises(RunRefused, match="has ended already"):
        ledger.request_cancel("a")
    run = ledger.get("a")
    assert (run.status, run.message, run.step) == ("lost", "gone", 0)


def test_cancelling(ledger: SqliteRunLedger) -> None:
    ledger.add("a", "reward", {}, "snap", None)
    ledger.add("b", "reward", {}, "snap", None)
    ledger.claim("a", "h")
    asked = ledger.request_cancel("a")
    assert asked.status == "running"
    assert asked.cancel_requested
    beaten = ledger.beat("a", "training", 1, 2)
    assert beaten is not None
    assert beaten.cancel_requested == asked.cancel_requested
    assert ledger.request_cancel("b").status == "cancelled"
    with pytest.raises(NotFound, match="no run 'zzz'"):
        ledger.request_cancel("zzz")


def test_newest_first(ledger: SqliteRunLedger) -> None:
    for name in ("a", "b", "c"):
        ledger.add(name, "reward", {}, "snap", None)
    assert [run.id for run in ledger.recent()] == ["c", "b", "a"]
    assert [run.id for run in ledger.recent(1)] == ["c"]
    assert [run.id for run in ledger.unfinished()] == ["a", "b", "c"]
