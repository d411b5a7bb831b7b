"""The real command at toy size: what it learns, writes, and says when it is stopped or cannot go on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.checkpoints.registry import list_checkpoints, open_checkpoint
from rlhf_core.ground.cards import read_card
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.errors import ModelRefused
from rlhf_core.ground.settings import PROJECT_ROOT, WORKSPACE_VARIABLE
from rlhf_core.services import importing, modelling, snapshots, training
from rlhf_core.services.workbench import Workbench
from tests.conftest import BAD, GOOD, command, learnable_chats, need, write_lines

pytestmark = pytest.mark.slow


@pytest.fixture
def snapshot_id(workbench: Workbench, add_chats: Any) -> str:
    add_chats(*learnable_chats())
    return snapshots.take(workbench)[0].id


def options(tiny_encoder: Path, **more: Any) -> list[str]:
    return RewardConfig(reward_base_model=str(tiny_encoder), learning_rate=1e-3, max_length=64, **more).arguments()


def test_it_learns_writes_a_checkpoint_and_repeats_itself(
    workbench: Workbench, root: Path, snapshot_id: str, tiny_encoder: Path
) -> None:
    arguments = ["train", "reward", "--snapshot", snapshot_id, *options(tiny_encoder, epochs=20)]
    done = command(*arguments, root=root)
    assert "succeeded" in done.stdout
    (run,) = training.runs(workbench)
    assert (run.status, run.step) == ("succeeded", run.total_steps)
    lines = training.metrics(workbench, run.id)
    steps = [line for line in lines if line["split"] == "train"]
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    epochs = [[line["loss"] for line in steps if line["epoch"] == epoch] for epoch in (1, 20)]
    assert sum(epochs[1]) < sum(epochs[0]) / 2
    test = next(line for line in lines if line["split"] == "test")
    assert test["step_auc"] == 1.0
    assert test["rmse"] < test["rmse_of_mean"]
    assert "succeeded" in training.log_tail(workbench, run.id)

    checkpoint = open_checkpoint(workbench.workspace.checkpoints, run.checkpoint_id or "", verify=True)
    assert (checkpoint.run_id, checkpoint.snapshot_id, checkpoint.complete) == (run.id, snapshot_id, True)
    assert checkpoint.manifest["config"]["epochs"] == 20
    assert checkpoint.metrics["test"]["step_auc"] == 1.0
    assert {"torch", "transformers", "python"} <= set(checkpoint.manifest["libraries"])
    assert not [path for path in checkpoint.folder.iterdir() if path.suffix not in (".json", ".safetensors", ".txt", ".md")]

    card = read_card(checkpoint.folder)
    assert card is not None
    assert card.steps is not None
    assert (card.steps.auc.value, card.state) == (1.0, "refused")  # 5 queries' worth of held-out steps prove nothing
    assert "too few to tell" in card.verdict
    assert json.loads(command("card", checkpoint.id, "--json", root=root, check=False).stdout) == json.loads(
        card.model_dump_json()
    )
    printed = command("card", checkpoint.id, root=root, check=False)
    assert printed.returncode == 2
    assert "# Reward model" in printed.stdout
    with pytest.raises(ModelRefused, match=r"PPO refuses .* too few to tell"):
        modelling.gate(workbench, checkpoint.id, "steps", "PPO")
    assert checkpoint.metrics["kept_epoch"] in range(1, 21)
    assert not (workbench.workspace.run_folder(run.id) / "state.pt").exists()

    command(*arguments, root=root)
    again = list_checkpoints(workbench.workspace.checkpoints)[0]
    assert again.id != checkpoint.id
    weights = [one.manifest["files"]["model.safetensors"]["sha256"] for one in (checkpoint, again)]
    assert weights[0] == weights[1]

    score = command("score", "--checkpoint", checkpoint.id, "--query", "how do i start in solar job 3",
                    "--response", "1. ask for the training voucher\n2. lie about your licence", root=root)  # fmt: skip
    reply = json.loads(score.stdout)
    first, second = reply["rewards"][checkpoint.id]["steps"]
    assert first > second + 1
    assert "step AUC 1.000" in command("checkpoints", root=root).stdout


def test_pairs_alone_teach_it_and_it_stops_early(workbench: Workbench, root: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    records = [
        {"query": f"how do I begin in trade {k}", "chosen": f"{GOOD[k % 3]}, number {k}", "rejected": f"{BAD[k % 3]}, number {k}"}
        for k in range(40)
    ]
    importing.import_file(workbench, write_lines(tmp_path / "pairs.jsonl", records))
    snapshot, _ = snapshots.take(workbench)
    assert snapshot.ratings == 0
    run = ["train", "reward", "--snapshot", snapshot.id, *options(tiny_encoder, epochs=60, patience=5, select_by="accuracy")]
    command(*run, root=root)
    checkpoint = list_checkpoints(workbench.workspace.checkpoints)[0]
    assert checkpoint.metrics["test"]["accuracy"] == 1.0
    assert checkpoint.metrics["train_pairs"] > 20
    assert len(checkpoint.metrics["validation"]) < 60  # all pairs right for five epochs
    card = read_card(checkpoint.folder)
    assert card is not None
    assert card.pairs is not None
    assert (card.train_examples, card.answers, card.pairs.accuracy.value) == (0, None, 1.0)


def start(root: Path, snapshot_id: str, arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rlhf_core", "train", "reward", "--snapshot", snapshot_id, *arguments],
        cwd=PROJECT_ROOT, env=os.environ | {WORKSPACE_VARIABLE: str(root)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for_step(workbench: Workbench, process: subprocess.Popen[str]) -> str:
    for _ in range(600):
        runs = training.runs(workbench)
        if runs and runs[0].unfinished and any(line["split"] == "train" for line in training.metrics(workbench, runs[0].id)):
            return runs[0].id
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    raise AssertionError("no training step within a minute")


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "cancel"])
def test_stopped_it_saves_what_it_has_learnt(
    workbench: Workbench, root: Path, snapshot_id: str, tiny_encoder: Path, how: str
) -> None:
    with start(root, snapshot_id, options(tiny_encoder, epochs=100, batch_size=1)) as process:
        run_id = wait_for_step(workbench, process)
        if how == "cancel":
            assert "asked to save and stop" in command("cancel", run_id, root=root).stdout
        else:
            process.send_signal(getattr(signal, how))
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    run = training.run(workbench, run_id)
    assert run.status == "cancelled"
    assert "saved" in (run.message or "")
    checkpoint = open_checkpoint(workbench.workspace.checkpoints, run.checkpoint_id or "", verify=True)
    assert not checkpoint.complete
    assert 0 < checkpoint.metrics["trained_steps"] < (run.total_steps or 0)


def losses(workbench: Workbench, run_id: str) -> list[float]:
    return [line["loss"] for line in training.metrics(workbench, run_id) if line["split"] == "train"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_or_killed_it_goes_on_to_the_same_numbers(
    workbench: Workbench, root: Path, snapshot_id: str, tiny_encoder: Path, how: signal.Signals
) -> None:
    arguments = options(
        tiny_encoder, epochs=12, batch_size=1, objective="ordinal", freeze_layers=1, learning_curve=False
    )  # fmt: skip
    command("train", "reward", "--snapshot", snapshot_id, *arguments, root=root)
    whole = training.runs(workbench)[0]
    with start(root, snapshot_id, arguments) as process:
        run_id = wait_for_step(workbench, process)
        state = workbench.workspace.run_folder(run_id) / "state.pt"
        while how == signal.SIGKILL and not state.exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(how)
        process.communicate(timeout=60)
    assert state.exists()
    refused = command(
        "train", "reward", "--snapshot", snapshot_id, "--resume-from", run_id, "--epochs", "3", root=root, check=False
    )
    assert refused.returncode == 1
    assert "can only go on as it began" in refused.stderr
    command("train", "reward", "--resume-from", run_id, root=root)
    first, resumed = training.run(workbench, run_id), training.runs(workbench)[0]
    assert first.status == ("cancelled" if how == signal.SIGTERM else "lost")
    assert (resumed.status, resumed.step) == ("succeeded", whole.step)
    assert losses(workbench, resumed.id) == losses(workbench, whole.id)
    weights = [
        open_checkpoint(workbench.workspace.checkpoints, run.checkpoint_id or "").manifest["files"]["model.safetensors"]["sha256"]
        for run in (whole, resumed)
    ]
    assert weights[0] == weights[1]
    assert not state.exists()
    again = command("train", "reward", "--resume-from", run_id, root=root, check=False)
    assert "no saved state to go on from" in again.stderr


@pytest.mark.parametrize(
    "more",
    [
        {"method": "head", "objective": "ordinal"},
        {"method": "lora", "learning_rate": 1e-2, "epochs": 8, "gradient_checkpointing": True},
        {"step_reading": "one_pass", "freeze_layers": 1, "epochs": 8, "balance": True, "micro_batch_tokens": 64},
        {"readout": "class", "epochs": 15, "readout_first": False, "learning_curve": False, "select_by": "last"},
    ],
    ids=["head", "lora", "one pass", "class"],
)
def test_every_way_to_learn_tells_good_steps_from_bad(
    workbench: Workbench, root: Path, snapshot_id: str, tiny_encoder: Path, more: dict[str, Any]
) -> None:
    config = RewardConfig(reward_base_model=str(tiny_encoder), max_length=64, **({"learning_rate": 1e-3} | more))
    command("train", "reward", "--snapshot", snapshot_id, *config.arguments(), root=root)
    checkpoint = list_checkpoints(workbench.workspace.checkpoints)[0]
    assert checkpoint.metrics["test"]["step_auc"] > 0.95
    card = read_card(checkpoint.folder)
    assert card is not None
    assert (card.folds or 1) > 1 if more.get("method") == "head" else card.folds == 0
    assert (card.curve is None) == (more.get("learning_curve") is False)
    assert (card.step_readings is None) == (more.get("readout") == "class")
    reply = json.loads(command("score", "--checkpoint", checkpoint.id, "--query", "how do i start in solar job 3",
                       "--response", "1. ask for the training voucher\n2. lie about your licence", root=root).stdout)  # fmt: skip
    first, second = reply["rewards"][checkpoint.id]["steps"]
    assert first > second


@pytest.mark.parametrize("fits", [True, False])
def test_a_base_that_gives_no_numbers_is_said_at_once(
    workbench: Workbench, root: Path, snapshot_id: str, tiny_encoder: Path, tmp_path: Path, fits: bool
) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_encoder, tmp_path / "damaged")
    weights = load_file(folder / "model.safetensors")
    save_file({name: one * float("nan") for name, one in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    done = command("train", "reward", "--snapshot", snapshot_id,
                   *options(folder, readout_first=fits, learning_curve=fits), root=root, check=False)  # fmt: skip
    assert done.returncode == 1
    assert "gives no numbers" in (training.runs(workbench)[0].message or "")


def test_max_steps_ends_a_run_early_but_whole(workbench: Workbench, root: Path, snapshot_id: str, tiny_encoder: Path) -> None:
    command("train", "reward", "--snapshot", snapshot_id, *options(tiny_encoder, max_steps=3), root=root)
    (run,) = training.runs(workbench)
    assert (run.status, run.step, run.total_steps) == ("succeeded", 3, 3)


def test_a_changed_snapshot_fails_the_run(workbench: Workbench, root: Path, snapshot_id: str, tiny_encoder: Path) -> None:
    snapshots.find(workbench, snapshot_id).files("chat_feedback")[0].write_bytes(b"PAR1")
    done = command("train", "reward", "--snapshot", snapshot_id, *options(tiny_encoder), root=root, check=False)
    assert done.returncode == 1
    (run,) = training.runs(workbench)
    assert run.status == "failed"
    assert "was changed" in (run.message or "")


def test_a_full_disk_fails_the_run_and_leaves_no_half_checkpoint(
    workbench: Workbench, root: Path, snapshot_id: str, tiny_encoder: Path
) -> None:
    mount = 'mount -t tmpfs -o size=64k tmpfs "$0/checkpoints" && exec "$@"'
    unshare = ["unshare", "--map-root-user", "--mount", "bash", "-c", mount, str(root)]
    need(
        shutil.which("unshare") and subprocess.run([*unshare, "true"], check=False).returncode == 0,
        "a private mount of a tiny disk",
    )
    arguments = ["train", "reward", "--snapshot", snapshot_id, *options(tiny_encoder, max_steps=1)]
    done = subprocess.run(
        [*unshare, sys.executable, "-m", "rlhf_core", *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=200,
        env=os.environ | {WORKSPACE_VARIABLE: str(root)}, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    (run,) = training.runs(workbench)
    assert run.status == "failed"
    assert "The disk is full: saving the checkpoint" in (run.message or "")
    assert list(workbench.workspace.checkpoints.iterdir()) == []

    # What it had learnt is not lost: with room again it goes on to the test, without a step.
    again = command("train", "reward", "--resume-from", run.id, root=root)
    assert f"going on from step 1 of run {run.id}" in again.stdout + again.stderr
    (second,) = [one for one in training.runs(workbench) if one.id != run.id]
    assert second.status == "succeeded"
    assert (second.checkpoint_id or "") in [one.id for one in list_checkpoints(workbench.workspace.checkpoints)]
    assert [one["step"] for one in training.metrics(workbench, second.id) if one.get("split") == "train"] == [1]  # the other's
    assert not any(training.can_resume(workbench, one) for one in (run, second))
