"""Slurm through submitit: its local executor with real processes, and stand-ins for Slurm's own commands."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlhf_core.ground import engines
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.engines import EngineSettings, Node, Resources
from rlhf_core.ground.errors import EngineRefused, EngineUnavailable
from rlhf_core.ground.runs import Run
from rlhf_core.launchers.base import Work
from rlhf_core.launchers.slurm import SlurmLauncher
from rlhf_core.services import snapshots, training
from rlhf_core.services.training import Where
from rlhf_core.services.workbench import Workbench
from rlhf_core.supervisor import elsewhere
from rlhf_core.supervisor.elsewhere import Elsewhere
from tests.conftest import learnable_chats
from tests.launchers.conftest import STUBBORN
from tests.supervisor.test_supervise import until

HERE = EngineSettings("cluster", "slurm", executor="local", grace_s=1.0, terminate_s=0.5)


@pytest.fixture
def looks(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    monkeypatch.setattr(engines, "engines", lambda: [HERE])
    monkeypatch.setattr(elsewhere, "ASK_EVERY_S", 0.1)
    monkeypatch.setattr(elsewhere, "AGAIN_AFTER_S", 0.2)
    return Elsewhere(workbench.workspace, workbench.ledger, stale_heartbeat_s=5.0)


def queued(workbench: Workbench, **needs: Any) -> Run:
    return workbench.ledger.add("r1", "reward", {"device": "cpu"}, "snap", None, engine="cluster", resources=needs)


def ended(workbench: Workbench, looks: Elsewhere, run_id: str = "r1") -> Run:
    until(lambda: not workbench.ledger.get(run_id).unfinished, looks.look_around)
    return workbench.ledger.get(run_id)


def processes(words: str) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter():
        try:
            if any(words in part for part in one.cmdline()[1:]) and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except psutil.Error:
            continue
    return found


# With real processes, as on a cluster.
@pytest.mark.slow
def test_a_reward_model_is_trained_by_submitit(
    workbench: Workbench, looks: Elsewhere, add_chats: Any, tiny_encoder: Path
) -> None:
    add_chats(*learnable_chats())
    snapshot, _ = snapshots.take(workbench)
    config = RewardConfig(reward_base_model=str(tiny_encoder), device="cpu", learning_curve=False, method="head")
    run = training.add_run(workbench, "reward", snapshot.id, config, where=Where("cluster", Resources.parse({"cpus": 1})))
    done = ended(workbench, looks, run.id)
    assert done.status == "succeeded", done.message
    assert done.checkpoint_id
    assert "saving" in training.log_tail(workbench, run.id)


@pytest.mark.slow
def test_one_that_does_not_listen_is_ended_with_all_that_came_of_it(
    workbench: Workbench, looks: Elsewhere, stand_in: Callable[[str], None]
) -> None:
    mark = f"{STUBBORN} # {time.monotonic_ns()}"
    stand_in(mark)
    queued(workbench)
    until(lambda: processes(mark), looks.look_around)
    workbench.ledger.claim("r1", "there")
    training.cancel(workbench, "r1")
    assert ended(workbench, looks).status == "cancelled"
    assert not processes(mark)


def test_taken_back_before_it_said_a_word(workbench: Workbench, looks: Elsewhere, stand_in: Callable[[str], None]) -> None:
    mark = f"import time; time.sleep(600) # {time.monotonic_ns()}"
    stand_in(mark)
    queued(workbench)
    until(lambda: processes(mark), looks.look_around)
    training.cancel(workbench, "r1")
    until(lambda: not processes(mark), looks.look_around)
    assert workbench.ledger.given_up() == []


def test_one_that_dies_is_told_with_its_last_words(
    workbench: Workbench, looks: Elsewhere, stand_in: Callable[[str], None]
) -> None:
    stand_in("print('last words', flush=True); raise SystemExit(3)")
    queued(workbench)
    run = ended(workbench, looks)
    assert run.status == "failed"
    assert re.search("ended before it began", run.message or "")
    assert "last words" in training.log_tail(workbench, "r1")


def test_a_supervisor_that_dies_after_handing_over_hands_over_once(
    workbench: Workbench, looks: Elsewhere, stand_in: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"import time; time.sleep(600) # {time.monotonic_ns()}"
    stand_in(mark)
    queued(workbench)
    with monkeypatch.context() as dies:
        dies.setattr(workbench.ledger, "set_job", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            looks.look_around()
    until(lambda: processes(mark))
    other = Elsewhere(workbench.workspace, workbench.ledger, stale_heartbeat_s=5.0)
    other.look_around()
    run = workbench.ledger.get("r1")
    assert (run.job_id, run.attempt) != (None, 2)
    assert len([one for one in processes(mark) if one.name() != "sh"]) == 1
    training.cancel(workbench, "r1")
    until(lambda: not processes(mark), other.look_around)


def test_without_slurm_it_waits_and_says_why(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "engines", lambda: [replace(HERE, executor="slurm")])
    queued(workbench)
    Elsewhere(workbench.workspace, workbench.ledger, stale_heartbeat_s=5.0).look_around()
    run = workbench.ledger.get("r1")
    assert run.status == "queued"
    assert run.phase == "waiting: cluster: squeue is not on this machine. Runs go to Slurm from a login node."


# Slurm's own commands.
SINFO = """\
node1 8/24/0/32 256000 200000 gpu:a100:4(S:0-1) gpu:a100:3(IDX:0-2)
node1 8/24/0/32 256000 200000 gpu:a100:4(S:0-1) gpu:a100:3(IDX:0-2)
node2 0/16/0/16 64000 N/A (null) gpu:0
broken
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that print the file of their name, and write down how they were called."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name in ("sinfo", "squeue", "sacct", "scancel", "sbatch", "srun"):
        (folder / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >> {folder}/called\n'
            f"if [ -f {folder}/{name}.wrong ]; then cat {folder}/{name}.wrong >&2; exit 1; fi\n"
            f"cat {folder}/{name}.out 2>/dev/null\ntrue\n"
        )
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    (folder / "sinfo.out").write_text(SINFO)
    (folder / "squeue.out").write_text("PENDING\nRUNNING\nPENDING\n")
    return folder


CLUSTER = EngineSettings("big", "slurm", slurm={"partition": "gpu"}, grace_s=30.0, minutes=60)


def work(folder: Path, **needs: Any) -> Work:
    return Work("r1-1", ["python", "-m", "rlhf_core"], "/proj", {"A": "b c"}, folder, Resources.parse(needs).settled(0, "cpu"))


def test_what_slurm_has(slurm: Path) -> None:
    found = SlurmLauncher(CLUSTER).capacity()
    assert found.nodes == [Node("node1", 4, 1, 32, 24, 256000, 200000), Node("node2", 0, 0, 16, 16, 64000, 64000)]
    assert (found.waiting, found.running) == (2, 1)
    assert "-p gpu" in (slurm / "called").read_text()


def test_what_is_handed_to_slurm(slurm: Path, tmp_path: Path) -> None:
    (slurm / "sbatch.out").write_text("Submitted batch job 4711\n")
    launcher = SlurmLauncher(CLUSTER)
    assert launcher.submit(work(tmp_path / "run", gpus=2, cpus=8, memory_mb=4096, minutes=30)) == "4711"
    script = next((tmp_path / "run").rglob("*_submission.sh")).read_text()
    for line in ("--partition=gpu", "--time=30", "--cpus-per-task=8", "--mem=4GB", "--job-name=r1-1", "--gpus-per-node=2"):
        assert line in script, (line, script)
    assert SlurmLauncher(CLUSTER).submit(work(tmp_path / "run", gpus=2)) == "4711"  # another one finds it again
    assert (slurm / "called").read_text().count("sbatch") == 1


def test_what_slurm_refuses(slurm: Path, tmp_path: Path) -> None:
    launcher = SlurmLauncher(CLUSTER)
    with pytest.raises(EngineRefused, match="no node of it has 5 GPUs"):
        launcher.submit(work(tmp_path / "run", gpus=5))
    (slurm / "sbatch.wrong").write_text("sbatch: error: Invalid account or account/partition combination specified\n")
    with pytest.raises(EngineRefused, match="Invalid account"):
        launcher.submit(work(tmp_path / "run"))


@pytest.mark.parametrize(
    ("squeue", "sacct", "expected"),
    [
        ("PENDING", "", ("waiting", None)),
        ("RUNNING", "", ("running", None)),
        ("COMPLETED", "", ("ended", None)),
        ("", "TIMEOUT 0:15", ("ended", 0)),
        ("", "FAILED 3:0", ("ended", 3)),
        ("", "CANCELLED+ 0:0", ("ended", 0)),
        ("", "", ("unknown", None)),
    ],
)
def test_how_a_job_stands(slurm: Path, squeue: str, sacct: str, expected: tuple[str, int | None]) -> None:
    (slurm / "squeue.out").write_text(squeue)
    (slurm / "sacct.out").write_text(sacct)
    found = SlurmLauncher(CLUSTER).look("4711")
    assert (found.state, found.exit_code) == expected


def test_a_job_that_slurm_forgot_and_one_that_is_ended(slurm: Path) -> None:
    launcher = SlurmLauncher(CLUSTER)
    (slurm / "squeue.wrong").write_text("slurm_load_jobs error: Invalid job id specified\n")
    assert launcher.look("4711").state == "unknown"
    launcher.stop("4711")
    launcher.stop("4711", force=True)
    called = (slurm / "called").read_text()
    assert "scancel 4711" in called
    assert "scancel --signal=KILL --full 4711" in called
    (slurm / "squeue.wrong").write_text("slurm_load_jobs error: Unable to contact slurm controller\n")
    with pytest.raises(EngineUnavailable, match="Unable to contact"):
        launcher.look("4711")
