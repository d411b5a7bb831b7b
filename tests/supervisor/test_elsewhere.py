"""What becomes of a run that an engine has, with an engine that does as it is told: answers lost, hung, away."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground import engines
from rlhf_core.ground.engines import Capacity, EngineSettings, Node
from rlhf_core.ground.errors import EngineRefused, EngineUnavailable, InvalidInput, RunRefused, StoreUnavailable
from rlhf_core.ground.runs import Run
from rlhf_core.launchers.base import Job, Work
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.folder_runs import FolderRecord, read_order
from rlhf_core.supervisor import elsewhere
from rlhf_core.supervisor.elsewhere import Elsewhere

ENGINE = EngineSettings("cluster", "ray", "http://head:8265", grace_s=0.2, terminate_s=0.2)


@dataclass
class Obedient:
    """An engine in memory. ``wrong``: what each of its methods raises, by name; ``after``: only after it has done it."""

    jobs: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, Exception] = field(default_factory=dict)
    after: bool = False
    stopped: list[tuple[str, bool]] = field(default_factory=list)

    def _do(self, name: str, work: Callable[[], Any] = lambda: None) -> Any:
        if name in self.wrong and not self.after:
            raise self.wrong[name]
        done = work()
        if name in self.wrong:
            raise self.wrong[name]
        return done

    def capacity(self) -> Capacity:
        return self._do("capacity", lambda: Capacity([Node("a", 1, 1, 8, 8, 10_000, 10_000)], 0, 0))

    def submit(self, work: Work) -> str:
        self._do("submit", lambda: self.jobs.setdefault(work.name, "waiting"))
        return work.name

    def find(self, work_name: str, folder: Path) -> str | None:
        return self._do("find", lambda: work_name if work_name in self.jobs else None)

    def look(self, job_id: str) -> Job:
        return self._do("look", lambda: Job(self.jobs.get(job_id, "unknown")))  # type: ignore[arg-type]

    def stop(self, job_id: str, *, force: bool = False) -> None:
        def end() -> None:
            self.stopped.append((job_id, force))
            self.jobs[job_id] = "ended"

        self._do("stop", end)

    def log_tail(self, job_id: str) -> str:
        return self._do("log_tail", lambda: "its output")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Obedient:
    monkeypatch.setattr(engines, "engines", lambda: [ENGINE])
    monkeypatch.setattr(elsewhere, "ASK_EVERY_S", 0.0)
    monkeypatch.setattr(elsewhere, "AGAIN_AFTER_S", 0.0)
    monkeypatch.setattr(elsewhere, "SILENT_S", 0.05)
    return Obedient()


@pytest.fixture
def looks(workbench: Workbench, engine: Obedient) -> Elsewhere:
    return Elsewhere(workbench.workspace, workbench.ledger, stale_heartbeat_s=0.3, open_launcher=lambda _: engine)


def queued(workbench: Workbench, name: str = "r1", **needs: Any) -> Run:
    return workbench.ledger.add(name, "reward", {"device": "cpu"}, "snap", None, engine="cluster", resources=needs)


def begun(workbench: Workbench, engine: Obedient, name: str = "r1") -> FolderRecord:
    """Its job begins, and says so."""
    engine.jobs[f"{name}-1"] = "running"
    record = FolderRecord(workbench.workspace.run_folder(name), 1)
    record.claim(name, "node")
    record.set_process(name, "node", 77, 1.0)
    return record


def test_from_the_queue_to_the_end(workbench: Workbench, looks: Elsewhere, engine: Obedient) -> None:
    queued(workbench)
    looks.look_around()
    run = workbench.ledger.get("r1")
    assert (run.status, run.job_id, run.holds, run.phase) == ("queued", "r1-1", True, None)
    looks.look_around()
    assert workbench.ledger.get("r1").phase == "waiting for cluster to begin it"
    record = begun(workbench, engine)
    record.beat("r1", "training", 3, 9)
    looks.look_around()
    run = workbench.ledger.get("r1")
    assert (run.status, run.host, run.pid, run.phase, run.step, run.total_steps) == ("running", "node", 77, "training", 3, 9)
    record.finish("r1", "succeeded", "done", "reward-1")
    looks.look_around()
    run = workbench.ledger.get("r1")
    assert (run.status, run.checkpoint_id, run.message, run.holds) == ("succeeded", "reward-1", "done", False)
    assert engine.stopped == []


def test_a_hand_over_whose_answer_is_lost_and_a_cancel(workbench: Workbench, looks: Elsewhere, engine: Obedient) -> None:
    """The engine has it, nobody here knows how it is called, and it must not train."""
    engine.wrong, engine.after = {"submit": EngineUnavailable("timed out")}, True
    queued(workbench)
    looks.look_around()
    assert engine.jobs == {"r1-1": "waiting"}
    assert workbench.ledger.get("r1").job_id is None
    workbench.ledger.request_cancel("r1")
    engine.wrong = {}
    looks.look_around()
    assert engine.stopped == [("r1-1", False)]
    assert read_order(workbench.workspace.run_folder("r1")).over
    assert workbench.ledger.given_up() == []


def test_a_hand_over_whose_answer_is_lost_is_found_again(workbench: Workbench, looks: Elsewhere, engine: Obedient) -> None:
    engine.wrong, engine.after = {"submit": EngineUnavailable("timed out")}, True
    queued(workbench)
    looks.look_around()
    engine.wrong = {}
    looks.look_around()
    run = workbench.ledger.get("r1")
    assert (run.job_id, run.attempt, list(engine.jobs)) == ("r1-1", 1, ["r1-1"])


@pytest.mark.parametrize("wrong", [StoreUnavailable("the store is busy"), EngineUnavailable("away")])
def test_what_may_pass_fails_nothing(workbench: Workbench, looks: Elsewhere, engine: Obedient, wrong: Exception) -> None:
    engine.wrong = {"submit": wrong}
    queued(workbench)
    looks.look_around()
    run = workbench.ledger.get("r1")
    assert run.status == "queued"
    assert run.phase == f"waiting: {wrong}"
    engine.wrong = {}
    looks.look_around()
    assert workbench.ledger.get("r1").job_id == "r1-1"


def test_settings_that_are_half_saved_fail_nothing(
    workbench: Workbench, looks: Elsewhere, engine: Obedient, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued(workbench)
    with monkeypatch.context() as half:
        half.setattr(engines, "engines", lambda: (_ for _ in ()).throw(InvalidInput("no TOML")))
        looks.look_around()
    assert workbench.ledger.get("r1").status == "queued"
    assert "no TOML" in (workbench.ledger.get("r1").phase or "")
    looks.look_around()
    assert workbench.ledger.get("r1").job_id == "r1-1"


def test_what_is_refused_fails_at_once(workbench: Workbench, looks: Elsewhere, engine: Obedient) -> None:
    engine.wrong = {"submit": EngineRefused("no node of it has 5 GPUs")}
    queued(workbench)
    queued(workbench, "r2", processes=0)
    looks.look_around()
    assert workbench.ledger.get("r1").message == "no node of it has 5 GPUs"
    assert "greater than or equal to 1" in (workbench.ledger.get("r2").message or "")
    assert workbench.ledger.given_up() == []


def test_a_bug_with_one_run_keeps_no_other_waiting(workbench: Workbench, looks: Elsewhere, engine: Obedient) -> None:
    queued(workbench)
    looks.look_around()
    (workbench.workspace.run_folder("r1") / "order.json").unlink()
    (workbench.workspace.run_folder("r1") / "order.json").mkdir()
    engine.wrong = {}
    queued(workbench, "r2")
    looks.look_around()
    assert workbench.ledger.get("r2").job_id == "r2-1"


def test_a_hung_run_whose_engine_is_away_is_ended_there_later(workbench: Workbench, looks: Elsewhere, engine: Obedient) -> None:
    queued(workbench)
    looks.look_around()
    begun(workbench, engine)
    looks.look_around()
    engine.wrong = {"look": EngineUnavailable("away"), "stop": EngineUnavailable("away"), "find": EngineUnavailable("away")}
    time.sleep(0.4)
    looks.look_around()
    run = workbench.ledger.get("r1")
    assert run.status == "lost"
    assert "gave no sign of life" in (run.message or "")
    assert run.holds
    looks.look_around()
    assert engine.stopped == []
    engine.wrong = {}
    looks.look_around()
    assert engine.stopped == [("r1-1", True)]
    assert not workbench.ledger.get("r1").holds


def test_a_pause_that_the_engine_has_not_heard_of_is_not_undone(workbench: Workbench, looks: Elsewhere, engine: Obedient) -> None:
    queued(workbench)
    looks.look_around()
    workbench.ledger.request_pause("r1")
    with pytest.raises(RunRefused, match="has not heard of the pause yet"):
        workbench.ledger.go_on("r1")
    looks.look_around()
    assert engine.stopped == [("r1-1", False)]
    assert workbench.ledger.go_on("r1").attempt == 2
    looks.look_around()
    assert workbench.ledger.get("r1").job_id == "r1-2"


def test_a_snapshot_that_is_rewritten_while_it_waits(workbench: Workbench, looks: Elsewhere, engine: Obedient) -> None:
    queued(workbench)
    looks.look_around()
    workbench.ledger.move("snap", "other")
    looks.look_around()
    assert read_order(workbench.workspace.run_folder("r1")).run.snapshot_id == "other"


def test_it_ends_without_a_word(workbench: Workbench, looks: Elsewhere, engine: Obedient) -> None:
    queued(workbench)
    looks.look_around()
    begun(workbench, engine)
    looks.look_around()
    engine.jobs["r1-1"] = "ended"
    (workbench.workspace.run_folder("r1") / "along.txt").write_text("The loss became nan. (In process 2.)")
    looks.look_around()
    run = workbench.ledger.get("r1")
    assert run.status == "lost"
    assert "The loss became nan. (In process 2.)" in (run.message or "")
    assert "its output" in (workbench.workspace.run_folder("r1") / "log.txt").read_text()
    assert not run.holds


def test_a_row_from_elsewhere_has_no_job_here(workbench: Workbench, looks: Elsewhere, engine: Obedient) -> None:
    run = queued(workbench)
    workbench.ledger.restore(replace(run, id="r9", status="cancelled", job_id="--user=me", attempt=3, holds=True))
    assert (workbench.ledger.get("r9").job_id, workbench.ledger.get("r9").holds) == (None, False)
    assert workbench.ledger.given_up() == []


def test_what_is_in_an_order(workbench: Workbench, looks: Elsewhere, engine: Obedient) -> None:
    queued(workbench)
    looks.look_around()
    text = (workbench.workspace.run_folder("r1") / "order.json").read_text()
    assert json.loads(text)["run"]["id"] == "r1"
    assert "token" not in text
