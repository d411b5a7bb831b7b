import threading
from pathlib import Path

import pytest

from rlhf_core.ground.errors import NotFound, RunRefused
from rlhf_core.store.sqlite_database import Database
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
        for k in range(3):
            try:
                claims.append(ledger.claim(f"r{k}", host).id)
            except RunRefused:
                continue

    threads = [threading.Thread(target=work, args=(f"host{k}",)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claims) == ["r0", "r1", "r2"]


def test_what_starts_first(ledger: SqliteRunLedger) -> None:
    for name in ("a", "b", "c"):
        ledger.add(name, "reward", {"x": 1}, "snap", "u", memory_mb=700)
    assert [run.id for run in ledger.unfinished()] == ["a", "b", "c"]
    assert ledger.set_priority("c", 1).memory_mb == 700
    assert [run.id for run in ledger.unfinished()] == ["c", "a", "b"]
    first = ledger.claim("c", "h", "cuda:0")
    assert (first.id, first.status, first.config, first.device) == ("c", "running", {"x": 1}, "cuda:0")
    with pytest.raises(RunRefused, match="only one that waits"):
        ledger.set_priority("c", 2)
    with pytest.raises(NotFound):
        ledger.set_priority("nothing", 2)


def test_pausing_and_going_on(ledger: SqliteRunLedger) -> None:
    for name in ("a", "b", "c", "d"):
        ledger.add(name, "reward", {}, "snap", None)
    ledger.claim("a", "h")
    asked = ledger.request_pause("a")
    assert (asked.status, asked.pausing) == ("running", True)
    assert asked.cancel_requested
    assert ledger.finish("a", "cancelled", "saved", "ck")
    paused = ledger.get("a")
    assert (paused.status, paused.message, paused.checkpoint_id, paused.unfinished) == ("paused", "saved", "ck", False)
    assert [run.id for run in ledger.not_over()] == ["a", "b", "c", "d"]
    assert [run.id for run in ledger.unfinished()] == ["b", "c", "d"]
    again = ledger.go_on("a")
    assert (again.status, again.cancel_requested, again.pausing, again.message, again.pid) == ("queued", None, False, None, None)
    assert ledger.claim("a", "h").started_at == asked.started_at

    # one that waits is held back at once; a pause may become a cancel, a cancel never a pause
    assert ledger.request_pause("b").status == "paused"
    assert ledger.request_cancel("b").status == "cancelled"
    with pytest.raises(RunRefused, match="is cancelled, not paused"):
        ledger.go_on("b")
    ledger.claim("c", "h")
    ledger.request_cancel("c")
    assert not ledger.request_pause("c").pausing
    ledger.finish("c", "cancelled", "saved", None)
    assert ledger.get("c").status == "cancelled"
    ledger.claim("d", "h")
    ledger.request_pause("d")
    assert not ledger.request_cancel("d").pausing

    # what was to pause and came to its end, or died, did that
    ledger.request_pause("a")
    ledger.finish("a", "succeeded", "done", "ck2")
    assert ledger.get("a").status == "succeeded"
    ledger.finish("d", "lost", "gone", None, {"batch_size": 2})
    assert ledger.get("d").remedy == {"batch_size": 2}
    with pytest.raises(RunRefused, match="has ended already"):
        ledger.request_pause("a")


def test_a_run_started_in_a_terminal_is_never_queued(ledger: SqliteRunLedger) -> None:
    assert ledger.add("t", "reward", {}, "snap", None, "h").status == "running"
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
