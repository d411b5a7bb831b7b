"""Runs on a real Ray head, in a network of its own: real training, and whatever can go wrong on the way."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.checkpoints.registry import open_checkpoint
from rlhf_core.ground import engines
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.engines import EngineSettings, Resources
from rlhf_core.ground.runs import Run
from rlhf_core.services import snapshots, training
from rlhf_core.services.training import Where
from rlhf_core.services.workbench import Workbench
from rlhf_core.supervisor import elsewhere
from rlhf_core.supervisor.elsewhere import Elsewhere
from tests.conftest import learnable_chats, need
from tests.launchers.conftest import STUBBORN
from tests.launchers.ray_head import RayHead, namespaces
from tests.supervisor.test_supervise import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray"), pytest.mark.usefixtures("chats")]
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    need(namespaces(), "a network of its own for a Ray head (unshare)")
    one = RayHead(token=TOKEN)
    one.start()
    yield one
    one.close()


@pytest.fixture
def engine(head: RayHead, monkeypatch: pytest.MonkeyPatch) -> EngineSettings:
    found = EngineSettings("cluster", "ray", head.address, TOKEN, grace_s=2.0, terminate_s=1.0)
    use(monkeypatch, found)
    monkeypatch.setattr(elsewhere, "ASK_EVERY_S", 0.2)
    monkeypatch.setattr(elsewhere, "AGAIN_AFTER_S", 0.5)
    return found


def use(monkeypatch: pytest.MonkeyPatch, engine: EngineSettings) -> None:
    monkeypatch.setattr(engines, "engines", lambda: [engine])


@pytest.fixture
def chats(add_chats: Any) -> None:
    add_chats(*learnable_chats())


@pytest.fixture
def looks(workbench: Workbench, engine: EngineSettings) -> Elsewhere:
    return Elsewhere(workbench.workspace, workbench.ledger, stale_heartbeat_s=5.0)


def queued(workbench: Workbench, **needs: Any) -> Run:
    run_id = f"r{len(workbench.ledger.recent())}-{time.monotonic_ns()}"
    return workbench.ledger.add(run_id, "reward", {"device": "cpu"}, "snap", None, engine="cluster", resources=needs)


def now(workbench: Workbench, run: Run) -> Run:
    return workbench.ledger.get(run.id)


def ended(workbench: Workbench, looks: Elsewhere, run: Run, timeout_s: float = 90) -> Run:
    until(lambda: not now(workbench, run).unfinished, looks.look_around, timeout_s)
    return now(workbench, run)


def begun(workbench: Workbench, looks: Elsewhere, head: RayHead, run: Run) -> None:
    until(lambda: head.processes(f"{run.id}-1") or head.processes(STUBBORN[:60]), looks.look_around, 60)


def reward_run(workbench: Workbench, encoder: Path, **options: Any) -> Run:
    snapshot, _ = snapshots.take(workbench)
    config = RewardConfig(reward_base_model=str(encoder), device="cpu", learning_curve=False, **options)
    return training.add_run(workbench, "reward", snapshot.id, config, where=Where("cluster", Resources.parse({"cpus": 1})))


def test_a_reward_model_is_trained_there_and_the_ledger_here_says_so(
    workbench: Workbench, looks: Elsewhere, head: RayHead, tiny_encoder: Path
) -> None:
    run = reward_run(workbench, tiny_encoder, method="head")
    done = ended(workbench, looks, run)
    assert done.status == "succeeded", done.message
    assert done.checkpoint_id is not None
    open_checkpoint(workbench.workspace.checkpoints, done.checkpoint_id).verify()
    assert done.host
    assert done.attempt == 1
    assert done.started_at is not None
    assert "saving" in training.log_tail(workbench, run.id)
    assert [one.id for one in training.find(workbench, words="cluster")] == [run.id]


def test_what_it_asks_for_is_reserved_and_the_second_waits(
    workbench: Workbench, looks: Elsewhere, head: RayHead, stand_in: Callable[[str], None]
) -> None:
    stand_in("import time; time.sleep(60)")
    first, second = queued(workbench, gpus=1), queued(workbench, gpus=1)
    until(lambda: now(workbench, second).phase == "waiting for cluster to begin it", looks.look_around)
    until(lambda: (found := training.capacity(workbench, "cluster")).running == found.waiting == 1)
    assert training.capacity(workbench, "cluster").total("gpus") == 1
    assert now(workbench, second).status == "queued"
    training.cancel(workbench, second.id)
    training.cancel(workbench, first.id)  # neither said a word yet: both are taken back at once
    until(lambda: training.capacity(workbench, "cluster").running == 0, looks.look_around)
    assert {now(workbench, one).status for one in (first, second)} == {"cancelled"}
    assert not any(now(workbench, one).holds for one in (first, second))


def test_what_it_could_never_carry_out_is_refused(workbench: Workbench, looks: Elsewhere) -> None:
    run = ended(workbench, looks, queued(workbench, gpus=3))
    assert run.status == "failed"
    assert re.search("could never carry this out: no node of it has 3 GPUs.*the largest: 1 GPU", run.message or "")


def test_a_cancel_saves_what_was_learnt(workbench: Workbench, looks: Elsewhere, head: RayHead, tiny_encoder: Path) -> None:
    run = reward_run(workbench, tiny_encoder, method="finetune", epochs=100, batch_size=2, readout_first=False)
    until(lambda: now(workbench, run).step > 0, looks.look_around, 90)
    training.cancel(workbench, run.id)
    done = ended(workbench, looks, run)
    assert done.status == "cancelled"
    assert "what was learnt so far is saved" in (done.message or "")
    assert done.checkpoint_id is not None
    until(lambda: not head.processes(run.id))
    assert training.can_resume(workbench, done)


def test_one_that_hears_nothing_is_ended_by_the_cluster_after_its_grace(
    workbench: Workbench, looks: Elsewhere, head: RayHead, stand_in: Callable[[str], None], engine: EngineSettings
) -> None:
    stand_in(STUBBORN)
    run = queued(workbench)
    begun(workbench, looks, head, run)
    workbench.ledger.claim(run.id, "there")  # as if it had said that it began
    training.cancel(workbench, run.id)
    done = ended(workbench, looks, run)
    assert done.status == "cancelled"
    assert not head.processes(STUBBORN[:60])
    assert "here" in training.log_tail(workbench, run.id)  # what the cluster kept of its output


def test_a_worker_that_dies_is_lost_with_its_last_words(
    workbench: Workbench, looks: Elsewhere, head: RayHead, stand_in: Callable[[str], None]
) -> None:
    stand_in("import os, signal; print('last words', flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    run = queued(workbench)
    done = ended(workbench, looks, run)
    assert done.status == "failed"
    assert re.search("It ended before it began.*last words", done.message or "", re.DOTALL)


def test_a_workspace_that_is_not_there_is_named(
    workbench: Workbench, head: RayHead, engine: EngineSettings, monkeypatch: pytest.MonkeyPatch, tiny_encoder: Path
) -> None:
    use(monkeypatch, replace(engine, workspace="/nowhere/on/this/node"))
    looks = Elsewhere(workbench.workspace, workbench.ledger, stale_heartbeat_s=5.0)
    done = ended(workbench, looks, reward_run(workbench, tiny_encoder, method="head"))
    assert done.status == "failed"
    assert re.search("/nowhere/on/this/node on .* has no run .*Mount it on every node", done.message or "")
    assert not Path("/nowhere").exists()


def test_another_version_on_the_node_is_named(
    workbench: Workbench, looks: Elsewhere, monkeypatch: pytest.MonkeyPatch, tiny_encoder: Path
) -> None:
    monkeypatch.setattr(elsewhere, "__version__", "9.9.9")
    done = ended(workbench, looks, reward_run(workbench, tiny_encoder, method="head"))
    assert done.status == "failed"
    assert re.search(r"has RLHF Workbench [\d.]+, and 9.9.9 asks for this run", done.message or "")


def test_a_wrong_token_is_said_at_once(workbench: Workbench, engine: EngineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, replace(engine, token="f" * 32))
    looks = Elsewhere(workbench.workspace, workbench.ledger, stale_heartbeat_s=5.0)
    done = ended(workbench, looks, queued(workbench))
    assert done.status == "failed"
    assert "does not accept who asks (HTTP 40" in (done.message or "")


def test_a_dashboard_that_is_cut_off_stops_nothing(
    workbench: Workbench, looks: Elsewhere, head: RayHead, tiny_encoder: Path
) -> None:
    run = reward_run(workbench, tiny_encoder, method="finetune", epochs=4, batch_size=2, readout_first=False)
    waits = queued(workbench)
    head.cut.set()
    looks.look_around()
    assert "waiting: cluster" in (now(workbench, waits).phase or "")
    assert now(workbench, waits).status == "queued"
    head.cut.clear()
    training.cancel(workbench, waits.id)
    until(lambda: now(workbench, run).step > 0, looks.look_around, 90)
    head.cut.set()
    try:
        done = ended(workbench, looks, run)
    finally:
        head.cut.clear()
    assert done.status == "succeeded", done.message


def test_a_head_that_is_begun_anew_forgets_its_jobs_and_the_ledger_does_not(
    workbench: Workbench, looks: Elsewhere, head: RayHead, stand_in: Callable[[str], None], tiny_encoder: Path
) -> None:
    """The machine is gone in the middle of a run: that one is lost, and can go on; what waited there is handed over again."""
    run = reward_run(workbench, tiny_encoder, method="finetune", epochs=100, batch_size=2, readout_first=False)
    until(lambda: now(workbench, run).step > 0, looks.look_around, 90)
    stand_in("import time; time.sleep(60)")
    holds, waits = queued(workbench, gpus=1), queued(workbench, gpus=1)
    until(lambda: now(workbench, waits).phase == "waiting for cluster to begin it", looks.look_around)
    head.kill()
    looks.look_around()
    assert now(workbench, run).status == "running"  # nobody knows yet
    head.start()
    done = ended(workbench, looks, run)
    assert done.status == "lost"
    assert re.search("does not know it any more|gave no sign of life", done.message or "")
    until(lambda: now(workbench, waits).attempt + now(workbench, holds).attempt > 2, looks.look_around)
    until(lambda: training.capacity(workbench, "cluster").running == 1, looks.look_around)
    for one in (holds, waits):
        training.cancel(workbench, one.id)
    until(lambda: not workbench.ledger.given_up(), looks.look_around)


def test_processes_of_a_head_that_is_killed_do_not_stay_behind(
    workbench: Workbench, looks: Elsewhere, head: RayHead, stand_in: Callable[[str], None]
) -> None:
    stand_in(STUBBORN)
    run = queued(workbench)
    begun(workbench, looks, head, run)
    for one in head.processes("gcs_server") + head.processes("raylet"):
        one.send_signal(signal.SIGKILL)
    until(lambda: not head.processes(STUBBORN[:60]))
    head.kill()
    head.start()
    training.cancel(workbench, run.id)
    until(lambda: not workbench.ledger.given_up(), looks.look_around)
