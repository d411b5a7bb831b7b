"""PPO beside TRL 1.12's PPOTrainer, the last that TRL had: CPU time of a step, memory, and what both learn. Side by side, in one run.

    .venv/bin/python benchmarks/ppo.py [--rounds 3] [--speed-steps 3] [--learn-steps 40] [--seeds 3] [--trl FOLDER]

Same tiny policy, prompts, answers' length, batch, epochs over it and reward, one thread, every variant in a process of its own and
the variants taking turns. TRL 1.12 is installed without its dependencies into a folder of its own (``--trl`` names one that is
there already) and gets a text reward through an adapter.

1. Speed: four passes over 32 answers of up to 64 tokens that end by themselves, the policy held still; CPU seconds of a step (the
   first one left out), with the value head on the policy's states and with a critic of its own, which is what TRL has.
   ``cpu_ratio_*`` is TRL's over ours; ``..._fixed`` the same where every answer has 64 tokens.
2. Memory: the process's peak over what it held with the model loaded. ``peak_memory_ratio`` is ours (separate critic) over TRL's.
3. Learning: a reward of 0 to 3 for the word "because"; mean of the last five steps, KL there, over seeds. ``reward_delta`` is ours
   (shared) less TRL's, ``reward_delta_separate`` with a separate critic.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
os.environ["HF_HUB_OFFLINE"] = "1"
BATCH, TOKENS, EPOCHS = 32, 64, 4
LEARN = {"learning_rate": 3e-4, "kl": 0.05}
ROLES = ("roofer", "solar installer", "energy auditor", "grid engineer", "heat pump fitter", "battery technician", "forester")
PLACES = ("Lynn", "Boston", "Worcester", "Lowell", "Springfield", "Salem", "Quincy")
VERBS = ("Take", "Finish", "Find", "Join", "Call", "Visit", "Write to")
THINGS = ("a safety course", "the union", "a mentor", "the career center", "three employers", "a job fair", "the licence board")
WHYS = ("because it pays", "so that you learn", "because they ask for it", "to see the work", "before you apply")


def question(rng: random.Random) -> str:
    return f"How do I become a {rng.choice(ROLES)} in {rng.choice(PLACES)}?"


def answer(rng: random.Random) -> str:
    steps = [f"{k + 1}. {rng.choice(VERBS)} {rng.choice(THINGS)}" for k in range(rng.randint(1, 4))]
    return " ".join(one + (f" {rng.choice(WHYS)}" if rng.random() < 0.5 else "") + "." for one in steps)


def reward_of(text: str) -> float:
    return float(min(text.count("because"), 3))


def make_policy(folder: Path, seconds: float) -> None:
    """A tiny policy that answers such questions."""
    import torch

    from rlhf_core.ground.text import before_answer
    from rlhf_core.learn.tiny_policy import tiny_policy

    rng = random.Random(0)
    pairs = [(before_answer(question(rng)).rstrip(), f" {answer(rng)}") for _ in range(3000)]
    model, tokenizer = tiny_policy([one + two for one, two in pairs], 0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    began = time.process_time()
    while time.process_time() - began < seconds:
        rows = [[*tokenizer(one + two).input_ids, tokenizer.eos_token_id] for one, two in rng.sample(pairs, 32)]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
        labels = ids.masked_fill(ids == tokenizer.pad_token_id, -100)
        loss = model(input_ids=ids, attention_mask=(labels >= 0).long(), labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(
        f"a policy of {sum(p.numel() for p in model.parameters()) / 1e6:.1f} million weights, loss {loss.item():.2f}", flush=True
    )


def load(folder: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(folder, padding_side="left"),
    )


def prompts_of(count: int) -> list[str]:
    rng = random.Random(11)
    return [question(rng) for _ in range(count)]


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours(folder: Path, critic: str, steps: int, seed: int, *, mode: str) -> dict[str, Any]:
    from rlhf_core.ground.configs import PPOConfig
    from rlhf_core.ground.text import before_answer
    from rlhf_core.learn.policy import Policy
    from rlhf_core.learn.ppo import Learner

    model, tokenizer = load(folder)
    fixed, rate = mode == "fixed", LEARN["learning_rate"] if mode == "learn" else 1e-9
    config = PPOConfig.parse({
        "base_model": str(folder), "critic": critic, "batch_size": BATCH, "mini_batch_size": BATCH, "ppo_epochs": EPOCHS,
        "ppo_steps": steps, "ppo_learning_rate": rate, "min_response_tokens": TOKENS,
        "max_response_tokens": TOKENS, "kl_coefficient": LEARN["kl"], "target_kl": None, "normalise_rewards": False, "seed": seed,
        "missing_eos_penalty": 0.0 if fixed else 1.0, "value_coefficient": 1.0 if critic == "shared" else 0.1,
    })  # fmt: skip
    began_mb = peak_mb()
    learner = Learner(
        Policy(model, critic), tokenizer, lambda answers: [[reward_of(one.text)] for one in answers], config,
        lambda query: list(tokenizer(before_answer(query).rstrip()).input_ids),
    )  # fmt: skip
    if fixed:
        learner.eos_id = -1  # no token ends an answer
    questions = prompts_of(512)
    rng = random.Random(seed)
    seconds, rewards, kls = [], [], []
    for _ in range(steps):
        began = time.process_time()
        _, measured = learner.step(rng.sample(questions, BATCH), TOKENS)
        seconds.append(time.process_time() - began)
        rewards.append(measured["reward"])
        kls.append(measured["kl"])
    return {"seconds": seconds, "rewards": rewards, "kls": kls, "mb": peak_mb() - began_mb}


def trl(folder: Path, steps: int, seed: int, *, mode: str) -> dict[str, Any]:
    import contextlib
    import copy
    import io
    import warnings
    from types import SimpleNamespace

    import torch
    from datasets import Dataset
    from transformers import LlamaForSequenceClassification, TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    from rlhf_core.ground.text import before_answer

    warnings.simplefilter("ignore")
    fixed, rate = mode == "fixed", LEARN["learning_rate"] if mode == "learn" else 1e-9
    model, tokenizer = load(folder)
    prompts = [tokenizer(before_answer(query).rstrip()).input_ids for query in prompts_of(512)]

    class Reader(torch.nn.Module):
        """In place of a reward model's body: reads the text and hands its reward on as a state."""

        def forward(self, input_ids: Any, attention_mask: Any, **_: Any) -> Any:
            texts = tokenizer.batch_decode(
                input_ids.masked_fill(attention_mask == 0, tokenizer.pad_token_id), skip_special_tokens=True
            )
            answers = [text.partition("Assistant:")[2] for text in texts]
            rewards = torch.tensor([reward_of(one) for one in answers])
            return SimpleNamespace(hidden_states=[rewards[:, None, None].expand(-1, input_ids.shape[1], 1)])

    class TextReward(torch.nn.Module):
        base_model_prefix = "reader"

        def __init__(self) -> None:
            super().__init__()
            self.reader, self.score = Reader(), torch.nn.Identity()

    seconds: list[float] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.process_time() - self.began)
            self.began = time.process_time()

    began_mb = peak_mb()
    config = copy.deepcopy(model.config)
    config.num_labels = 1
    critic = LlamaForSequenceClassification(config)
    critic.model.load_state_dict(model.model.state_dict())
    torch.nn.init.zeros_(critic.score.weight)
    if fixed:
        model.generation_config.eos_token_id = None
    with tempfile.TemporaryDirectory() as out:
        arguments = PPOConfig(
            output_dir=out, per_device_train_batch_size=BATCH, gradient_accumulation_steps=1, total_episodes=BATCH * steps,
            response_length=TOKENS, num_ppo_epochs=EPOCHS, num_mini_batches=1, stop_token=None if fixed else "eos",
            missing_eos_penalty=None if fixed else 1.0, report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False,
            num_sample_generations=0, save_strategy="no", learning_rate=rate, kl_coef=LEARN["kl"], vf_coef=0.1,
            temperature=1.0, disable_tqdm=True, seed=seed, logging_steps=1,
        )  # fmt: skip
        trainer = PPOTrainer(
            args=arguments, processing_class=tokenizer, model=model, ref_model=None, reward_model=TextReward(), value_model=critic,
            train_dataset=Dataset.from_dict({"input_ids": prompts}), callbacks=[Clock()],
        )  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
    history = [one for one in trainer.state.log_history if "objective/scores" in one]
    return {
        "seconds": seconds, "rewards": [one["objective/scores"] for one in history],
        "kls": [one["objective/kl"] for one in history], "mb": peak_mb() - began_mb,
    }  # fmt: skip


def child(arguments: argparse.Namespace) -> None:
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    if arguments.child == "trl":
        found = trl(arguments.policy, arguments.steps, arguments.seed, mode=arguments.mode)
    else:
        found = ours(arguments.policy, arguments.child, arguments.steps, arguments.seed, mode=arguments.mode)
    print(json.dumps(found))


def run(variant: str, policy: Path, steps: int, seed: int, trl_folder: Path, mode: str) -> dict[str, Any]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    if variant == "trl":
        environment["PYTHONPATH"] = str(trl_folder)
    done = subprocess.run(
        [sys.executable, __file__, "--child", variant, "--policy", str(policy), "--steps", str(steps), "--seed", str(seed),
         "--mode", mode],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{variant} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--speed-steps", type=int, default=3)
    parser.add_argument("--learn-steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trl", type=Path, help="a folder that holds trl 1.12.0")
    parser.add_argument("--child", choices=["shared", "separate", "trl"], help=argparse.SUPPRESS)
    for name, kind in (("policy", Path), ("steps", int), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--mode", choices=["natural", "fixed", "learn"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    variants = ("trl", "separate", "shared")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.trl
        if folder is None:
            folder = Path(scratch) / "trl"
            subprocess.run(
                [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, "trl==1.12.0"], check=True
            )
        policy = Path(scratch) / "policy"
        make_policy(policy, 60)
        seconds: dict[tuple[str, str], list[float]] = {}
        memory: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(arguments.rounds):
            for mode in ("natural", "fixed"):
                for name in variants:
                    found = run(name, policy, 1 + arguments.speed_steps, 0, folder, mode)
                    seconds.setdefault((mode, name), []).extend(found["seconds"][1:])
                    if mode == "fixed":
                        memory[name].append(found["mb"])
        middle = {key: statistics.median(some) for key, some in seconds.items()}
        for (mode, name), value in middle.items():
            print(
                f"{name}, answers of {mode} length: {value:.2f} CPU s a step, {statistics.median(memory[name]):.0f} MB",
                flush=True,
            )
        rewards: dict[str, list[float]] = {name: [] for name in variants}
        kls: dict[str, list[float]] = {name: [] for name in variants}
        for seed in range(arguments.seeds):
            for name in variants:
                found = run(name, policy, arguments.learn_steps, seed, folder, "learn")
                rewards[name].append(statistics.mean(found["rewards"][-5:]))
                kls[name].append(statistics.mean(found["kls"][-5:]))
                print(f"{name}, seed {seed}: reward {statistics.mean(found['rewards'][:5]):.2f} to {rewards[name][-1]:.2f}, "
                      f"KL {kls[name][-1]:.1f}", flush=True)  # fmt: skip
    mean = {name: statistics.mean(some) for name, some in rewards.items()}
    ratio = {key: round(middle[key[0], "trl"] / value, 2) for key, value in middle.items()}
    print(json.dumps({
        "cpu_ratio_shared": ratio["natural", "shared"], "cpu_ratio_separate": ratio["natural", "separate"],
        "cpu_ratio_shared_fixed": ratio["fixed", "shared"], "cpu_ratio_separate_fixed": ratio["fixed", "separate"],
        "reward_delta": round(mean["shared"] - mean["trl"], 3), "reward_delta_separate": round(mean["separate"] - mean["trl"], 3),
        "peak_memory_ratio": round(statistics.median(memory["separate"]) / statistics.median(memory["trl"]), 2),
        "peak_memory_ratio_shared": round(statistics.median(memory["shared"]) / statistics.median(memory["trl"]), 2),
        "rewards": {name: [round(one, 3) for one in some] for name, some in rewards.items()},
        "kls": {name: [round(one, 2) for one in some] for name, some in kls.items()},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
