"""Policies by the real command at toy size: taught, improved, stopped, gone on with, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_core.checkpoints.registry import Checkpoint, list_checkpoints
from rlhf_core.ground.configs import PPOConfig
from rlhf_core.ground.errors import InvalidInput, ModelUnavailable, NotEnoughData, NotFound, RlhfError, RunRefused, StorageFull
from rlhf_core.ground.runs import Run
from rlhf_core.ground.settings import PROJECT_ROOT, WORKSPACE_VARIABLE
from rlhf_core.runs import saving
from rlhf_core.runs.ppo import train_ppo
from rlhf_core.runs.recording import Silent
from rlhf_core.services import importing, snapshots, training
from rlhf_core.services.workbench import Workbench
from rlhf_core.supervisor.supervise import Supervisor
from tests.conftest import command, learnable_chats, write_lines
from tests.learn.policies import tiny_gpt2, tiny_llama, tiny_tokenizer
from tests.supervisor.test_supervise import until

pytestmark = pytest.mark.slow
FUNCTION = "tests.runs.rewards:count_e"


def config(policy: Path | str, **more: Any) -> PPOConfig:
    values = {
        "base_model": str(policy), "reward": FUNCTION, "ppo_steps": 6, "min_response_tokens": 12, "max_response_tokens": 20,
        "max_prompt_tokens": 80, "ppo_learning_rate": 1e-3, "evaluate_every": 3, "evaluate_prompts": 4, "sample_every": 2,
    }  # fmt: skip
    return PPOConfig.parse(values | more)


def arguments(policy: Path | str, **more: Any) -> list[str]:
    return config(policy, **more).arguments()


def train_here(workbench: Workbench, policy: Path, **more: Any) -> None:
    """A run in this process that tells nobody how it goes."""
    workbench.workspace.run_folder("here").mkdir(parents=True, exist_ok=True)
    train_ppo(workbench.workspace, "here", "", config(policy, **more), Silent())


def reward_run(snapshot_id: str, encoder: Path) -> list[object]:
    return ["train", "reward", "--snapshot", snapshot_id, "--reward-base-model", encoder, "--method", "head", "--max-length", 64]


def without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in line.items() if name not in ("time", "tokens_per_s") and not name.endswith("_s")}
        for line in lines
    ]


def policies(workbench: Workbench) -> list[Checkpoint]:
    return list_checkpoints(workbench.workspace.checkpoints, "policy")


def test_taught_then_improved_by_a_reward_model(workbench: Workbench, root: Path, add_chats: Any, tiny_encoder: Path) -> None:
    """The loop: ratings, a reward model of steps, a policy taught the answers, and PPO from the one by the other."""
    add_chats(*learnable_chats(60))
    snapshot, _ = snapshots.take(workbench)
    command(*reward_run(snapshot.id, tiny_encoder), root=root)
    (reward,) = list_checkpoints(workbench.workspace.checkpoints, "reward")
    done = command("train", "sft", "--base-model", "tiny", "--epochs", 12, "--learning-rate", 5e-3, "--min-score", 1, root=root)
    assert "succeeded" in done.stdout
    (taught,) = policies(workbench)
    assert (taught.parent, taught.snapshot_id, taught.complete) == ("tiny", snapshot.id, True)
    losses = [line["loss"] for line in training.metrics(workbench, taught.run_id)]
    assert losses[-1] < losses[0] / 2
    assert "# Policy" in (taught.folder / "README.md").read_text("utf-8")

    done = command("train", "ppo", *arguments(
        taught.id, reward=reward.id, judge=reward.id, reward_on="steps", ppo_steps=12, batch_size=8, mini_batch_size=4,
        max_response_tokens=24, min_response_tokens=24, evaluate_every=6, accept_ungated_reward=True, ppo_learning_rate=2e-4,
    ), root=root)  # fmt: skip
    assert "succeeded" in done.stdout
    run = training.runs(workbench)[0]
    assert (run.kind, run.status, run.step, run.total_steps) == ("ppo", "succeeded", 12, 12)
    best = next(one for one in policies(workbench) if one.id == run.checkpoint_id)
    assert (best.parent, best.snapshot_id, best.run_id) == (taught.id, snapshot.id, run.id)
    assert best.metrics["reward_checkpoints"] == [reward.id]
    assert (
        "no better than counting which words they hold" in best.metrics["ungated_reward"][0]
    )  # these steps differ by words alone
    best.verify()
    lines = training.metrics(workbench, run.id)
    steps = [line for line in lines if line["split"] == "train"]
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert steps[0]["first_ratio_off"] < 1e-4
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-3)
    assert steps[-1]["kl"] > 0.05  # it moved; that rewards go up is shown where runs are long enough to tell, in tests/learn
    tables = [line for line in lines if line["split"] == "validation"]
    assert [line["step"] for line in tables] == [0, 6, 12]
    assert all(line["judge"] == pytest.approx(line["reward"], abs=1e-4) for line in tables)
    samples = training.samples(workbench, run.id)
    assert {one["step"] for one in samples} == {0, 2, 4, 6, 8, 10, 12}
    assert all(len(one["rewards"]) == max(1, len(one["steps"])) for one in samples)

    from transformers import AutoModelForCausalLM, AutoTokenizer  # any tool opens it

    model, tokenizer = AutoModelForCausalLM.from_pretrained(best.folder), AutoTokenizer.from_pretrained(best.folder)
    ids = tokenizer("User: how do I start in solar job 3\n\nAssistant:", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.isfinite(model(ids).logits).all()
    shown = command("checkpoints", root=root).stdout
    assert f"{best.id}  " in shown
    assert f"reward {best.metrics['held_out']['reward']:.3f}" in shown


def test_a_stopped_run_goes_on_to_the_same_numbers(workbench: Workbench, root: Path, tiny_causal: Path) -> None:
    """On the five example questions, with everything that has a state: the controller, the moments, the order of prompts."""
    options = {"kl_goal": 1.0, "repetition_penalty": 0.5, "reward_on": "steps"}
    whole = command("train", "ppo", *arguments(tiny_causal, **options), root=root)
    assert "there are no recent chats; the policy learns on 5 example questions" in whole.stdout
    (run,) = training.runs(workbench)
    assert (run.snapshot_id, run.status) == ("", "succeeded")
    wanted = without_times(training.metrics(workbench, run.id))

    first = arguments(tiny_causal, **options)
    child = subprocess.Popen(
        [sys.executable, "-m", "rlhf_core", "train", "ppo", *first], cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL,
        env=os.environ | {WORKSPACE_VARIABLE: str(root), "STOP_REWARDS_AFTER": "4"},
    )  # fmt: skip
    assert child.wait(timeout=120) == 130
    stopped = training.runs(workbench)[0]
    assert stopped.status == "cancelled"
    assert "what was learnt so far is saved" in (stopped.message or "")
    assert 0 < stopped.step < 6
    saved = next(one for one in policies(workbench) if one.id == stopped.checkpoint_id)
    assert not saved.complete
    assert training.can_resume(workbench, stopped)

    command("train", "ppo", "--resume-from", stopped.id, root=root)
    resumed = training.runs(workbench)[0]
    assert (resumed.status, resumed.step) == ("succeeded", 6)
    assert without_times(training.metrics(workbench, resumed.id)) == wanted
    assert [one["answer"] for one in training.samples(workbench, resumed.id)] == [
        one["answer"] for one in training.samples(workbench, run.id)
    ]
    ends = [next(one for one in policies(workbench) if one.id == each.checkpoint_id) for each in (run, resumed)]
    hashes = [one.manifest["files"]["model.safetensors"]["sha256"] for one in ends]
    assert hashes[0] == hashes[1]
    assert not training.can_resume(workbench, training.run(workbench, stopped.id))


def test_a_paused_run_goes_on_as_itself_to_the_same_numbers(workbench: Workbench, root: Path, tiny_causal: Path) -> None:
    """Paused twice by a person while the supervisor's child is at work; what came after the saved state is forgotten."""
    slow = config(tiny_causal, kl_goal=1.0, reward="tests.runs.rewards:count_e_slowly")
    command("train", "ppo", *config(tiny_causal, kl_goal=1.0).arguments(), root=root)
    (whole,) = training.runs(workbench)
    run = training.add_run(workbench, "ppo", None, slow)
    supervisor = Supervisor(workbench.workspace, workbench.ledger)

    def reaches(status: str, step: int = 0) -> Run:
        def there() -> Run | None:
            now = training.run(workbench, run.id)
            assert now.status in ("queued", "running", status), now.message
            return now if now.status == status and now.step >= step else None

        return until(there, supervisor.look_around, timeout_s=120)

    for at_least in (1, 3):
        reaches("running", at_least)
        training.pause(workbench, run.id)
        paused = reaches("paused")
        assert at_least <= paused.step < 6
        assert training.go_on(workbench, run.id).status == "queued"
    done = reaches("succeeded")
    assert done.step == 6
    assert without_times(training.metrics(workbench, run.id)) == without_times(training.metrics(workbench, whole.id))
    assert len(training.samples(workbench, run.id)) == len(training.samples(workbench, whole.id))
    assert not training.can_resume(workbench, done)


def test_killed_while_saving_it_leaves_no_half_policy(workbench: Workbench, root: Path, tiny_causal: Path) -> None:
    script = (
        "import os, signal\nfrom rlhf_core.runs import saving\n"
        "saving.seal = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"from rlhf_core.__main__ import main\nmain(['train', 'ppo', *{arguments(tiny_causal)!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT_ROOT, env=os.environ | {WORKSPACE_VARIABLE: str(root)},
                          capture_output=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert policies(workbench) == []
    time.sleep(0.1)
    command("train", "ppo", *arguments(tiny_causal), root=root)
    assert policies(workbench)
    assert not [path for path in workbench.workspace.checkpoints.iterdir() if path.name.startswith(".")]


def test_a_disk_that_fills_up_while_saving_keeps_the_last_good_policy(
    workbench: Workbench, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves = [0]
    seal = saving.seal

    def full_at_the_second(scratch: Path, *args: Any, **named: Any) -> Checkpoint:
        saves[0] += 1
        if saves[0] == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return seal(scratch, *args, **named)

    monkeypatch.setattr(saving, "seal", full_at_the_second)
    with pytest.raises(StorageFull, match="saving the checkpoint"):
        train_here(workbench, tiny_causal, save_every=2)
    (kept,) = policies(workbench)
    kept.verify()
    assert kept.metrics["trained_steps"] == 2
    assert [one.name for one in workbench.workspace.checkpoints.iterdir()] == [kept.id]


def test_an_alarm_pauses_where_that_is_asked_for(workbench: Workbench, root: Path, tiny_causal: Path) -> None:
    first = config(tiny_causal, ppo_steps=14, kl_goal=1e-6, ppo_learning_rate=5e-3, pause_on_alarm=True)
    done = command("train", "ppo", *first.arguments(), root=root, check=False)
    assert done.returncode == 130
    (run,) = training.runs(workbench)
    assert run.status == "paused"
    assert "pausing: answers are" in done.stdout
    assert training.metrics(workbench, run.id)[-1]["split"] in ("alarm", "train")
    training.go_on(workbench, run.id)
    supervisor = Supervisor(workbench.workspace, workbench.ledger)
    ends = ("succeeded", "paused")  # another alarm may pause it again; the same one does not
    until(lambda: training.run(workbench, run.id).status in ends, supervisor.look_around, timeout_s=120)
    now = training.run(workbench, run.id)
    assert now.step > run.step
    alarmed = [line["name"] for line in training.metrics(workbench, run.id) if line["split"] == "alarm"]
    assert len(alarmed) == len(set(alarmed))


def test_a_refused_reward_model_has_to_be_accepted_and_is_never_forgotten(
    workbench: Workbench, root: Path, add_chats: Any, tiny_encoder: Path, tiny_causal: Path
) -> None:
    add_chats(*learnable_chats(8))
    snapshot, _ = snapshots.take(workbench)
    command(*reward_run(snapshot.id, tiny_encoder), "--folds", 0, root=root)
    options = arguments(tiny_causal, reward=None, ppo_steps=2)
    refused = command("train", "ppo", *options, root=root, check=False)
    assert refused.returncode == 1
    assert "PPO refuses reward-" in refused.stderr
    assert "too few to tell" in refused.stderr
    assert len(training.runs(workbench)) == 1  # nothing was started
    done = command("train", "ppo", *options, "--accept-ungated-reward", root=root)
    assert "accepted all the same: PPO refuses reward-" in done.stdout
    run = training.runs(workbench)[0]
    assert "refused by its report card and used all the same" in (run.message or "")
    policy = next(one for one in policies(workbench) if one.id == run.checkpoint_id)
    assert "PPO refuses reward-" in policy.metrics["ungated_reward"][0]
    assert "was refused by its report card" in (policy.folder / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reward": "tests.runs.rewards:always_two", "ppo_steps": 20}, "All 12 answers so far got the same reward (2)"),
        ({"reward": "tests.runs.rewards:not_a_number"}, "tests.runs.rewards:not_a_number gave the reward nan to the answer"),
        ({"reward": "tests.runs.rewards:too_few"}, "did not give one reward for each answer"),
        ({"reward": "tests.runs.rewards:nothing"}, "cannot be imported"),
        ({"max_response_tokens": 300}, "reads 256 tokens in all: that leaves no room for a prompt. Lower it to 192"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_said(workbench: Workbench, tiny_causal: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(RlhfError, match=re.escape(said)):
        train_here(workbench, tiny_causal, **options)


def test_what_is_no_policy_is_said(workbench: Workbench, tiny_encoder: Path, tiny_causal: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="is a bert model, which writes no text from left to right"):
        train_here(workbench, tiny_encoder)
    endless = tmp_path / "endless"
    tiny_llama(tiny_tokenizer()).save_pretrained(endless)
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(endless)
    with pytest.raises(ModelUnavailable, match="has no end token, so its answers would never end"):
        train_here(workbench, endless)
    with pytest.raises(NotFound, match="There is no reward model to learn from"):
        training.add_run(workbench, "ppo", None, PPOConfig.parse({"base_model": str(tiny_causal)}))
    with pytest.raises(NotFound, match="There is no checkpoint 'reward-1'"):
        training.add_run(workbench, "ppo", None, PPOConfig.parse({"base_model": str(tiny_causal), "reward": "reward-1=0.5"}))
    with pytest.raises(InvalidInput, match="min_response_tokens is above"):
        PPOConfig.parse({"base_model": "x", "min_response_tokens": 9, "max_response_tokens": 8})


def test_alarms_end_a_run_where_that_is_asked_for(workbench: Workbench, root: Path, tiny_causal: Path) -> None:
    done = command("train", "ppo", *arguments(tiny_causal, ppo_steps=40, stop_kl=0.5, ppo_learning_rate=1e-2, kl_coefficient=0.0),
                   root=root)  # fmt: skip
    assert "ended early: answers are" in done.stdout
    (run,) = training.runs(workbench)
    assert run.status == "succeeded"
    assert run.step < 40
    assert "above stop_kl (0.5)" in (run.message or "")


def test_adapters_and_checkpoints_on_the_way(workbench: Workbench, root: Path, tiny_causal: Path) -> None:
    command("train", "ppo", *arguments(tiny_causal, method="lora", ppo_steps=4, save_every=2, ppo_learning_rate=1e-2), root=root)
    found = policies(workbench)
    assert {one.metrics["trained_steps"] for one in found} >= {2, 4}
    for one in found:
        assert not [name for name in one.manifest["files"] if "adapter" in name]
        one.verify()


def test_a_queued_run_is_the_command_that_is_shown(workbench: Workbench, tiny_causal: Path) -> None:
    asked = PPOConfig.parse({"base_model": str(tiny_causal), "reward": FUNCTION})
    run = training.add_run(workbench, "ppo", None, asked)
    shown = training.command_of(workbench, run)
    assert shown[2:5] == ["rlhf_core", "train", "ppo"]
    assert "--snapshot" not in shown
    assert json.loads(Path(shown[shown.index("--config") + 1]).read_text("utf-8")) == asked.model_dump()


@pytest.mark.parametrize("optimiser", ["rloo", "grpo", "dpo"])
def test_trls_optimisers_by_the_same_command(
    optimiser: str, workbench: Workbench, root: Path, tiny_causal: Path, tmp_path: Path
) -> None:
    records = [
        {"query": f"how do I begin in trade {k}", "chosen": f"Ask the center. See the eel, number {k}.", "rejected": f"No, {k}."}
        for k in range(10)
    ]
    importing.import_file(workbench, write_lines(tmp_path / "pairs.jsonl", records))
    snapshot, _ = snapshots.take(workbench)
    done = command("train", "ppo", *arguments(
        tiny_causal, optimiser=optimiser, ppo_steps=4, evaluate_every=2, batch_size=2, mini_batch_size=2, kl_coefficient=0.05,
        reward_on="steps",
    ), root=root)  # fmt: skip
    assert "succeeded" in done.stdout
    (run,) = training.runs(workbench)
    assert (run.status, run.step, run.snapshot_id) == ("succeeded", 4, snapshot.id)
    lines = training.metrics(workbench, run.id)
    steps = [line for line in lines if line["split"] == "train"]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert all(("accuracy" if optimiser == "dpo" else "reward") in line for line in steps)
    tables = [line for line in lines if line["split"] == "validation"]
    assert [line["step"] for line in tables] == [0, 2, 4]
    assert tables[0]["kl"] == pytest.approx(0, abs=1e-3)
    assert abs(tables[-1]["kl"]) > 1e-3  # it learned something
    last = next(one for one in policies(workbench) if one.metrics["trained_steps"] == 4)
    assert f"steps of {optimiser.upper()}" in (last.folder / "README.md").read_text("utf-8")
    last.verify()


def test_trls_online_optimisers_refuse_policies_that_need_positions(workbench: Workbench, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tiny_gpt2(tokenizer).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    for optimiser in ("rloo", "grpo"):
        with pytest.raises(RunRefused, match=f"TRL's {optimiser.upper()} does not tell it where rows padded on the left begin"):
            train_here(workbench, tmp_path / "gpt2", optimiser=optimiser)
    with pytest.raises(NotEnoughData, match="learns from preferred pairs; snapshot none has 0"):
        train_here(workbench, tmp_path / "gpt2", optimiser="dpo")
    with pytest.raises(InvalidInput, match="a run of grpo does not go on from another"):
        config("x", optimiser="grpo", resume_from="r")
