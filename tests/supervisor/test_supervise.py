"""The supervisor with real child processes. Short stand-ins for training keep most of it quick; one test trains."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlhf_core.ground import machine
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.machine import Device
from rlhf_core.ground.processes import ProcessIdentity
from rlhf_core.ground.runs import Run
from rlhf_core.services import snapshots, training
from rlhf_core.services.workbench import Workbench
from rlhf_core.supervisor import supervise
from rlhf_core.supervisor.supervise import Supervisor
from tests.conftest import learnable_chats

QUICK = {"cancel_grace_s": 0.3, "terminate_grace_s": 0.5, "stale_heartbeat_s": 1.0}


def until(condition: Callable[[], Any], round_: Callable[[], None] = lambda: None, timeout_s: float = 60) -> Any:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        round_()
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError("it did not come to that in time")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the supervisor start this Python text instead of a training run."""

    def use(script: str) -> None:
        monkeypatch.setattr(supervise, "train_command", lambda run, root: [sys.executable, "-c", script])

    return use


@pytest.fixture
def supervisor(workbench: Workbench) -> Iterator[Supervisor]:
    yield Supervisor(workbench.workspace, workbench.ledger, **QUICK)
    for run in workbench.ledger.recent():
        if alive(run):
            os.killpg(run.pid or 0, signal.SIGKILL)


def alive(run: Run) -> bool:
    return ProcessIdentity(run.pid or 0, run.pid_create_time or 0).is_alive()


def queued(workbench: Workbench, run_id: str = "r1") -> Run:
    return workbench.ledger.add(run_id, "reward", {}, "snap", None)


def ended(workbench: Workbench, supervisor: Supervisor, run_id: str = "r1") -> Run:
    until(lambda: not workbench.ledger.get(run_id).unfinished, supervisor.look_around)
    return workbench.ledger.get(run_id)


def test_a_child_lives_in_its_own_session_with_its_output_in_a_file(
    workbench: Workbench, supervisor: Supervisor, stand_in: Callable[[str], None]
) -> None:
    stand_in("import os, time; print('hello from', os.getsid(0), flush=True); time.sleep(60)")
    queued(workbench)
    supervisor.look_around()
    run = workbench.ledger.get("r1")
    assert run.status == "running"
    log = until(lambda: training.log_tail(workbench, "r1"))
    assert log.strip() == f"hello from {run.pid}"
    assert os.getsid(run.pid or 0) == run.pid != os.getsid(0)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "import os, signal; print('last words', flush=True); os.kill(os.getpid(), signal.SIGKILL)",
            "SIGKILL.*memory.*last words",
        ),
        ("raise SystemExit(7)", "without a word. Exit code 7"),
        ("print('done')", "without a word. Exit code 0. Last line of its log: done"),
    ],
)
def test_only_the_run_records_success(
    workbench: Workbench, supervisor: Supervisor, stand_in: Callable[[str], None], script: str, said: str
) -> None:
    stand_in(script)
    queued(workbench)
    run = ended(workbench, supervisor)
    assert run.status == "lost"
    assert re.search(said, run.message or "")


def test_a_run_that_ended_by_itself_leaves_no_zombie(
    workbench: Workbench, supervisor: Supervisor, stand_in: Callable[[str], None]
) -> None:
    stand_in("import time; time.sleep(0.5)")
    queued(workbench)
    supervisor.look_around()
    pid = workbench.ledger.get("r1").pid or 0
    workbench.ledger.finish("r1", "succeeded", "done", None)
    until(lambda: not psutil.pid_exists(pid), supervisor.look_around)
    assert workbench.ledger.get("r1").status == "succeeded"


def test_after_a_restart_a_new_supervisor_finds_the_run_again(
    workbench: Workbench, supervisor: Supervisor, stand_in: Callable[[str], None]
) -> None:
    stand_in("import time; time.sleep(60)")
    queued(workbench)
    supervisor.look_around()
    run = workbench.ledger.get("r1")
    other = Supervisor(workbench.workspace, workbench.ledger)
    other.look_around()
    assert workbench.ledger.get("r1").status == "running"
    os.killpg(run.pid or 0, signal.SIGKILL)
    until(lambda: not alive(run))
    other.look_around()
    assert workbench.ledger.get("r1").status == "lost"


def test_a_reused_pid_is_not_taken_for_the_run(workbench: Workbench, supervisor: Supervisor) -> None:
    workbench.ledger.add("r1", "reward", {}, "snap", None, supervise.this_host())
    workbench.ledger.set_process("r1", supervise.this_host(), os.getpid(), psutil.Process().create_time() - 5000)
    supervisor.look_around()
    assert workbench.ledger.get("r1").status == "lost"


def test_a_run_of_a_machine_that_is_gone_does_not_run_for_ever(
    workbench: Workbench, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    workbench.ledger.add("r1", "reward", {}, "snap", None, "old-name")
    supervisor.look_around()
    assert workbench.ledger.get("r1").status == "running"
    monkeypatch.setattr(supervise, "ELSEWHERE_GONE_S", -1.0)
    supervisor.look_around()
    assert workbench.ledger.get("r1").status == "lost"
    assert "old-name" in (workbench.ledger.get("r1").message or "")


@pytest.mark.slow
def test_a_frozen_run_is_ended(workbench: Workbench, supervisor: Supervisor, stand_in: Callable[[str], None]) -> None:
    stand_in("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
    queued(workbench)
    run = ended(workbench, supervisor)
    assert run.status == "lost"
    assert "no sign of life" in (run.message or "")
    until(lambda: not alive(run))


def test_a_run_deaf_to_cancelling_is_ended_by_force(
    workbench: Workbench, supervisor: Supervisor, stand_in: Callable[[str], None]
) -> None:
    stand_in("import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(1)")
    supervisor._stale_heartbeat_s = 100
    queued(workbench)
    supervisor.look_around()
    workbench.ledger.request_cancel("r1")
    run = ended(workbench, supervisor)
    assert run.status == "cancelled"
    assert "SIGKILL" in (run.message or "")


@pytest.mark.slow
def test_one_supervisor_at_a_time(workbench: Workbench, stand_in: Callable[[str], None]) -> None:
    stand_in("import time; time.sleep(1)")
    stops = [threading.Event(), threading.Event()]
    supervisors = [Supervisor(workbench.workspace, workbench.ledger, **QUICK) for _ in stops]
    rounds = [0, 0]
    for k, one in enumerate(supervisors):
        original = one.look_around
        one.look_around = lambda k=k, original=original: (rounds.__setitem__(k, rounds[k] + 1), original())[1]  # type: ignore[method-assign]
    threads = [threading.Thread(target=one.serve, args=(stop,)) for one, stop in zip(supervisors, stops, strict=True)]
    for thread in threads:
        thread.start()
    until(lambda: sum(rounds) >= 2)
    first = rounds.index(max(rounds))
    assert rounds[1 - first] == 0
    stops[first].set()
    until(lambda: rounds[1 - first] >= 1)
    stops[1 - first].set()
    for thread in threads:
        thread.join()


def test_waiting_runs_start_one_after_another(
    workbench: Workbench, supervisor: Supervisor, stand_in: Callable[[str], None]
) -> None:
    stand_in("pass")
    queued(workbench, "r1")
    queued(workbench, "r2")
    supervisor.look_around()
    assert [workbench.ledger.get(name).status for name in ("r1", "r2")] == ["running", "queued"]
    ended(workbench, supervisor, "r2")
    first, second = workbench.ledger.get("r1"), workbench.ledger.get("r2")
    assert (first.finished_at or "") <= (second.started_at or "")


def test_the_first_that_waits_is_the_one_that_was_moved_up(
    workbench: Workbench, supervisor: Supervisor, stand_in: Callable[[str], None]
) -> None:
    stand_in("import time; time.sleep(60)")
    for name in ("r1", "r2", "r3"):
        queued(workbench, name)
    training.move_first(workbench, "r3")
    assert training.waiting_for(workbench, workbench.ledger.get("r2")) == ["r3", "r1"]
    supervisor.look_around()
    assert [workbench.ledger.get(name).status for name in ("r1", "r2", "r3")] == ["queued", "queued", "running"]
    assert workbench.ledger.get("r3").device == "cpu"
    assert training.waiting_for(workbench, workbench.ledger.get("r2")) == ["r3", "r1"]


def waits(config: dict[str, Any], memory_mb: int | None, device: str | None = None) -> Run:
    return Run(
        "r", "reward", "queued", config, "s", None, "", None, None, None, None, None, None, None, 0, None, None, None, None, 0,
        False, memory_mb, device, None,
    )  # fmt: skip


def test_room_on_a_machine() -> None:
    cpu = Device("cpu", "16 processors", 64_000, 60_000)
    first, second = Device("cuda:0", "A", 80_000, 79_000), Device("cuda:1", "A", 80_000, 70_000)

    def room(run: Run, *working: Run, gpus: Sequence[Device] = (), cores: int = 16) -> str | None:
        return supervise.room_for(run, working, cpu, gpus, cores)

    # alone, a run gets its device whatever it needs: an estimate must not keep it from trying
    assert room(waits({}, None)) == "cpu"
    assert room(waits({}, 10**9)) == "cpu"
    # beside another, where both are known to fit and four processors are left to each
    assert room(waits({}, 4_000), waits({}, 4_000, "cpu")) == "cpu"
    assert room(waits({}, 4_000), waits({}, 4_000, "cpu"), cores=7) is None
    assert room(waits({}, 4_000), waits({}, None, "cpu")) is None
    assert room(waits({}, None), waits({}, 4_000, "cpu")) is None
    assert room(waits({}, 40_000), waits({}, 30_000, "cpu")) is None
    # a free GPU first, the emptier one before; then beside another where memory allows; the CPU only where it was asked for
    assert room(waits({}, 9_000), gpus=(second, first)) == "cuda:0"
    assert room(waits({}, 90_000), waits({}, 9_000, "cuda:0"), gpus=(first, second)) == "cuda:1"
    busy = (waits({}, 60_000, "cuda:0"), waits({}, 60_000, "cuda:1"))
    assert room(waits({}, 5_000), *busy, gpus=(first, second)) == "cuda:0"
    assert room(waits({}, 20_000), *busy, gpus=(first, second)) is None
    assert room(waits({"device": "cpu"}, 20_000), *busy, gpus=(first, second)) == "cpu"


def test_what_waits_for_a_gpu_does_not_keep_others_from_the_cpu(
    workbench: Workbench, supervisor: Supervisor, stand_in: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: [Device("cuda:0", "A", 80_000, 79_000)])
    stand_in("import os, time; print('sees', repr(os.environ.get('CUDA_VISIBLE_DEVICES')), flush=True); time.sleep(60)")
    for name, config in (("r1", {}), ("r2", {}), ("r3", {"device": "cpu"}), ("r4", {})):
        workbench.ledger.add(name, "reward", config, "snap", None)
    supervisor.look_around()
    supervisor.look_around()
    runs = [workbench.ledger.get(name) for name in ("r1", "r2", "r3", "r4")]
    assert [run.status for run in runs] == ["running", "queued", "running", "queued"]
    assert [run.device for run in runs] == ["cuda:0", None, "cpu", None]
    for name, seen in (("r1", "'0'"), ("r3", "''")):
        assert until(lambda name=name: training.log_tail(workbench, name)).strip() == f"sees {seen}"


def test_killed_for_memory_it_says_with_what_to_try_again(
    workbench: Workbench, supervisor: Supervisor, stand_in: Callable[[str], None]
) -> None:
    stand_in("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    queued(workbench)
    assert ended(workbench, supervisor).remedy == {"micro_batch_tokens": 256, "gradient_checkpointing": True}


@pytest.mark.slow
def test_the_app_dies_training_goes_on_and_is_recorded(
    workbench: Workbench, root: Path, add_chats: Any, tiny_encoder: Path
) -> None:
    add_chats(*learnable_chats())
    config = RewardConfig(reward_base_model=str(tiny_encoder), epochs=2)
    run = training.add_run(workbench, "reward", snapshots.take(workbench)[0].id, config)
    headless = subprocess.Popen(
        [sys.executable, "-m", "rlhf_core", "supervise", "--workspace", str(root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: workbench.ledger.get(run.id).pid)
    headless.kill()
    headless.wait()
    until(lambda: not workbench.ledger.get(run.id).unfinished)
    done = workbench.ledger.get(run.id)
    assert done.status == "succeeded", done.message
    assert done.checkpoint_id
