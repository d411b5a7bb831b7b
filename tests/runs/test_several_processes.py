"""Two processes that learn together come to the losses that one comes to, whole or sharded; and none of them stays behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlhf_core.checkpoints.registry import Checkpoint, open_checkpoint
from rlhf_core.ground.configs import PPOConfig, RewardConfig, RunConfig
from rlhf_core.ground.engines import Resources
from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.runs import Run, RunKind
from rlhf_core.ground.settings import PROJECT_ROOT, WORKSPACE_VARIABLE
from rlhf_core.services import snapshots, training
from rlhf_core.services.training import Where
from rlhf_core.services.workbench import Workbench
from rlhf_core.supervisor.supervise import Supervisor
from tests.conftest import command, learnable_chats
from tests.supervisor.test_supervise import until

pytestmark = pytest.mark.slow
TWO = Where(resources=Resources.parse({"processes": 2}))


@pytest.fixture
def snapshot_id(workbench: Workbench, add_chats: Any) -> str:
    add_chats(*learnable_chats())
    return snapshots.take(workbench)[0].id


@pytest.fixture
def plain_encoder(tiny_encoder: Path, tmp_path: Path) -> Path:
    """Without dropout, which draws otherwise in each process."""
    folder = shutil.copytree(tiny_encoder, tmp_path / "no-dropout")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}))
    return folder


def reward_options(encoder: Path, **more: Any) -> RewardConfig:
    values = {
        "reward_base_model": str(encoder), "max_length": 64, "epochs": 2, "learning_rate": 1e-3, "micro_batch_tokens": 64,
        "learning_curve": False, "device": "cpu",
    }  # fmt: skip
    return RewardConfig.parse(values | more)


def ppo_options(policy: Path, **more: Any) -> PPOConfig:
    values = {
        "base_model": str(policy), "reward": "tests.runs.rewards:count_e", "ppo_steps": 4, "batch_size": 5, "mini_batch_size": 3,
        "min_response_tokens": 12, "max_response_tokens": 20, "max_prompt_tokens": 80, "ppo_learning_rate": 1e-3,
        "evaluate_every": 2, "evaluate_prompts": 3, "micro_batch_tokens": 100, "device": "cpu",
    }  # fmt: skip
    return PPOConfig.parse(values | more)


def carried_out(root: Path, workbench: Workbench, kind: RunKind, snapshot_id: str, config: RunConfig, *where: object) -> Run:
    command("train", kind, *(["--snapshot", snapshot_id] if snapshot_id else []), *config.arguments(), *where, root=root)
    run = training.runs(workbench)[0]
    assert run.status == "succeeded", run.message
    return run


def learned(workbench: Workbench, run: Run, *names: str) -> list[float]:
    lines = [line for line in training.metrics(workbench, run.id) if line["split"] in ("train", "validation")]
    return [line[name] for line in lines for name in names if line.get(name) is not None]


def made(workbench: Workbench, run: Run) -> Checkpoint:
    found = open_checkpoint(workbench.workspace.checkpoints, run.checkpoint_id or "")
    found.verify()
    return found


def weights_of(checkpoint: Checkpoint) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: one for path in sorted(checkpoint.folder.glob("*.safetensors")) for name, one in load_file(path).items()}


def alike(one: Checkpoint, other: Checkpoint) -> None:
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    assert max(float((first[name].double() - second[name].double()).abs().max()) for name in first) < 2e-3
    assert json.loads((one.folder / "config.json").read_text()) == json.loads((other.folder / "config.json").read_text())


SEVERAL: list[tuple[object, ...]] = [("--processes", 2), ("--processes", 2, "--sharding", "fsdp")]


@pytest.mark.parametrize(
    "more",
    [{"freeze_layers": 1}, {"method": "lora", "objective": "ordinal"}],
    ids=["whole, a layer frozen", "adapters, ordinal"],
)
def test_a_reward_model(workbench: Workbench, root: Path, snapshot_id: str, plain_encoder: Path, more: dict[str, Any]) -> None:
    config = reward_options(plain_encoder, **more)
    alone = carried_out(root, workbench, "reward", snapshot_id, config)
    losses, one = learned(workbench, alone, "loss", "rmse"), made(workbench, alone)
    assert len(losses) > 6
    for where in SEVERAL:
        together = carried_out(root, workbench, "reward", snapshot_id, config, *where)
        said = training.log_tail(workbench, together.id)
        assert f"2 processes share each batch{', and the weights' if 'fsdp' in where else ''}\n" in said
        assert learned(workbench, together, "loss", "rmse") == pytest.approx(losses, rel=1e-3, abs=1e-4)
        other = made(workbench, together)
        alike(one, other)
        assert other.metrics["test"]["rmse"] == pytest.approx(one.metrics["test"]["rmse"], abs=1e-3)


@pytest.mark.parametrize(
    "more",
    [{"critic": "separate"}, {"method": "lora", "kl_in": "loss", "kl_estimator": "k2"}],
    ids=["separate critic", "adapters"],
)
def test_a_policy(workbench: Workbench, root: Path, tiny_causal: Path, more: dict[str, Any]) -> None:
    config = ppo_options(tiny_causal, **more)
    alone = carried_out(root, workbench, "ppo", "", config)
    names = ("policy_loss", "value_loss", "reward", "kl", "tokens", "entropy", "gradient", "advantage_std")
    measures, answers = learned(workbench, alone, *names), [line["answer"] for line in training.samples(workbench, alone.id)]
    assert len(measures) > 30
    for where in SEVERAL:
        together = carried_out(root, workbench, "ppo", "", config, *where)
        said = training.log_tail(workbench, together.id)
        assert f"2 processes share each batch{', and the weights' if 'fsdp' in where else ''}\n" in said
        assert learned(workbench, together, *names) == pytest.approx(measures, rel=2e-3, abs=2e-4)
        assert [line["answer"] for line in training.samples(workbench, together.id)] == answers
        alike(made(workbench, alone), made(workbench, together))


# Ends.
def below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


def started(workbench: Workbench, supervisor: Supervisor, snapshot_id: str, encoder: Path, **more: Any) -> tuple[Run, list[Any]]:
    """A run of two processes in the midst of its learning, and these processes."""
    config = reward_options(encoder, epochs=100, batch_size=2, readout_first=False)
    run = training.add_run(
        workbench, "reward", snapshot_id, config, where=Where(resources=Resources.parse({"processes": 2} | more))
    )
    until(lambda: workbench.ledger.get(run.id).step > 2, supervisor.look_around, 90)
    run = workbench.ledger.get(run.id)
    processes = below(run.pid or 0)
    assert len([one for one in processes if "rlhf_core" in " ".join(one.cmdline())]) == 2
    return run, processes


def ended(workbench: Workbench, supervisor: Supervisor, run: Run) -> Run:
    until(lambda: not workbench.ledger.get(run.id).unfinished, supervisor.look_around, 90)
    return workbench.ledger.get(run.id)


@pytest.mark.parametrize("more", [{}, {"sharding": "fsdp"}], ids=["ddp", "fsdp"])
def test_cancelled_it_saves_and_goes_on_with_one_process(
    workbench: Workbench, snapshot_id: str, plain_encoder: Path, more: dict[str, Any]
) -> None:
    supervisor = Supervisor(workbench.workspace, workbench.ledger)
    run, processes = started(workbench, supervisor, snapshot_id, plain_encoder, **more)
    training.cancel(workbench, run.id)
    done = ended(workbench, supervisor, run)
    assert done.status == "cancelled"
    made(workbench, done)
    until(lambda: gone(processes), supervisor.look_around)
    assert training.can_resume(workbench, done)
    on = training.add_run(
        workbench, "reward", snapshot_id, RewardConfig.parse(done.config | {"resume_from": done.id}), where=training.HERE
    )
    until(lambda: workbench.ledger.get(on.id).step > done.step, supervisor.look_around, 90)
    training.cancel(workbench, on.id)
    ended(workbench, supervisor, on)


@pytest.mark.parametrize("victim", ["the first", "the second", "who started them"])
def test_when_one_is_killed_none_stays_behind(workbench: Workbench, snapshot_id: str, plain_encoder: Path, victim: str) -> None:
    supervisor = Supervisor(workbench.workspace, workbench.ledger)
    run, processes = started(workbench, supervisor, snapshot_id, plain_encoder)
    ranks = sorted((one for one in processes if "rlhf_core" in " ".join(one.cmdline())), key=lambda one: one.environ()["RANK"])
    pid = {"the first": ranks[0].pid, "the second": ranks[1].pid, "who started them": run.pid or 0}[victim]
    os.kill(pid, signal.SIGKILL)
    done = ended(workbench, supervisor, run)
    assert done.status in ("lost", "failed"), done.message
    until(lambda: gone(processes), supervisor.look_around)


def test_ended_by_force_all_of_them_are_gone(workbench: Workbench, snapshot_id: str, plain_encoder: Path) -> None:
    supervisor = Supervisor(workbench.workspace, workbench.ledger, cancel_grace_s=0.2, terminate_grace_s=0.3)
    run, processes = started(workbench, supervisor, snapshot_id, plain_encoder)
    for one in processes:
        one.suspend()  # they hear nothing
    training.cancel(workbench, run.id)
    done = ended(workbench, supervisor, run)
    assert done.status == "cancelled"
    until(lambda: gone(processes), supervisor.look_around)


def test_one_that_fails_ends_the_other_and_its_words_are_the_runs(workbench: Workbench, root: Path, tiny_causal: Path) -> None:
    config = ppo_options(tiny_causal, reward="tests.runs.rewards:only_in_the_first_process")
    command("train", "ppo", *config.arguments(), "--processes", 2, root=root, check=False)
    run = training.runs(workbench)[0]
    assert run.status in ("failed", "lost")  # which of the two sees it first
    assert re.search(r"it works only in the first process.*\(In process 2.\)", run.message or "")


def test_a_share_that_is_judged_alike_is_not_all_of_it(workbench: Workbench, root: Path, tiny_causal: Path) -> None:
    config = ppo_options(tiny_causal, reward="tests.runs.rewards:alike_in_the_second_process", batch_size=8, mini_batch_size=8)
    carried_out(root, workbench, "ppo", "", config, "--processes", 2)


@pytest.mark.parametrize(
    ("kind", "values", "needs", "said"),
    [
        ("reward", {"method": "head"}, {"processes": 2}, "takes one process"),
        ("ppo", {"optimiser": "rloo"}, {"processes": 2}, "takes one process"),
        ("ppo", {"batch_size": 2, "mini_batch_size": 1}, {"processes": 3}, "gives 3 processes no prompt each"),
        ("ppo", {}, {"sharding": "fsdp"}, "Sharding is between processes"),
        ("ppo", {}, {"processes": 2, "gpus": 1}, "2 processes take a GPU each"),
    ],
)
def test_what_takes_one_process_is_said(
    workbench: Workbench, snapshot_id: str, plain_encoder: Path, tiny_causal: Path, kind: RunKind, values: dict[str, Any],
    needs: dict[str, Any], said: str,
) -> None:  # fmt: skip
    make = {"reward": lambda: reward_options(plain_encoder, **values), "ppo": lambda: ppo_options(tiny_causal, **values)}
    with pytest.raises(InvalidInput, match=said):
        training.add_run(workbench, kind, snapshot_id, make[kind](), where=Where(resources=Resources.parse(needs)))


def test_by_accelerates_own_command(workbench: Workbench, root: Path, snapshot_id: str, plain_encoder: Path) -> None:
    """As people start it by hand, from a terminal."""
    config = reward_options(plain_encoder, epochs=1)
    done = subprocess.run(
        [
            sys.executable, "-m", "accelerate.commands.launch", "--config_file", "deploy/accelerate/ddp.yaml", "--module",
            "rlhf_core", "train", "reward", "--snapshot", snapshot_id, *config.arguments(),
        ],
        cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {WORKSPACE_VARIABLE: str(root), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = training.runs(workbench)
    assert run.status == "succeeded"
