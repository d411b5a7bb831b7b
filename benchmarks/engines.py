"""What engines cost: a run through a real Ray head beside the bare command, two processes beside one, and ends.

    .venv/bin/python benchmarks/engines.py [--pairs 3] [--steps 30]

1. ``ray_overhead_s``: wall seconds of ``train reward --engine cluster`` less those of the bare command with the same options, from
   the start of the command to its end; median of pairs one after the other, the order changing. Asked: at most 5 s and 3% of the
   bare command (``ray_allowed_s``). The head is up before, in a network of its own; its processes share the machine.
2. ``ddp_speedup``: optimiser steps a second of two processes with one thread each, over those of one process with one thread, on the
   same work (MiniLM learns, all layers; the median step of a run, the first ones left out). Asked: at least 1.5 where two cores
   are free. ``ddp_over_threads``: over one process that has both cores' threads, which is the other way to use them;
   ``ppo_speedup``: the same as the first of PPO with a policy of MiniLM's size.
3. ``cancel_s``: from a cancel until every process of the run is gone, less its grace, for processes that hear nothing: of this
   machine (two processes under accelerate), and of Ray. The longest counts. Asked: at most 3.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])
os.environ |= {"HF_HUB_OFFLINE": "1", "RLHF_STORE": "sqlite"}

import itertools

import psutil

from rlhf_core.ground import engines
from rlhf_core.ground.configs import PPOConfig, RewardConfig, RunConfig
from rlhf_core.ground.engines import EngineSettings, Resources
from rlhf_core.ground.runs import RunKind
from rlhf_core.ground.settings import PROJECT_ROOT, Workspace
from rlhf_core.services import demo, snapshots, training
from rlhf_core.services.training import Where
from rlhf_core.services.workbench import Workbench
from rlhf_core.supervisor import elsewhere
from rlhf_core.supervisor.elsewhere import Elsewhere
from rlhf_core.supervisor.supervise import Supervisor
from tests.launchers.ray_head import RayHead

GRACE_S, TERMINATE_S = 2.0, 2.0


def filled(folder: Path) -> tuple[Workbench, str]:
    workbench = Workbench(Workspace.resolve(folder))
    list(demo.load_demo(workbench))
    return workbench, snapshots.take(workbench)[0].id


def reward_options(steps: int, **more: Any) -> RewardConfig:
    values = {"reward_base_model": "minilm-l6", "device": "cpu", "max_steps": steps, "epochs": 100, "batch_size": 16,
              "learning_curve": False, "readout_first": False, "folds": None, "validation_fraction": 0.0,
              "micro_batch_tokens": 512}  # fmt: skip
    return RewardConfig.parse(values | more)


def command(root: Path, kind: RunKind, snapshot: str, config: RunConfig, *more: str, **environment: str) -> float:
    """Wall seconds of it."""
    argv = [
        sys.executable,
        "-m",
        "rlhf_core",
        "--workspace",
        str(root),
        "train",
        kind,
        "--snapshot",
        snapshot,
        *config.arguments(),
        *more,
    ]
    begun = time.monotonic()
    done = subprocess.run(argv, cwd=PROJECT_ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return time.monotonic() - begun


def step_s(workbench: Workbench) -> float:
    """The median step of the newest run, seconds; the first ones are slower."""
    run = training.runs(workbench)[0]
    times = [line["time"] for line in training.metrics(workbench, run.id) if line["split"] == "train"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return statistics.median(gaps[len(gaps) // 4 :])


def ray_overhead(workbench: Workbench, snapshot: str, head: RayHead, pairs: int, steps: int) -> dict[str, float]:
    root, config = workbench.workspace.root, reward_options(steps)
    through = {"RLHF_RAY_ADDRESS": head.address}
    found: dict[str, list[float]] = {"bare": [], "ray": []}
    for k in range(pairs):
        for name in ("bare", "ray") if k % 2 else ("ray", "bare"):
            more = ("--engine", "ray", "--cpus", "2") if name == "ray" else ()
            found[name].append(command(root, "reward", snapshot, config, *more, OMP_NUM_THREADS="2", **through))
            print(f"  {name}: {found[name][-1]:.1f} s", flush=True)
    bare = statistics.median(found["bare"])
    over = [ray - alone for ray, alone in zip(found["ray"], found["bare"], strict=True)]
    return {
        "ray_overhead_s": round(statistics.median(over), 2),
        "bare_s": round(bare, 1),
        "ray_allowed_s": round(5 + 0.03 * bare, 2),
    }


def speedups(workbench: Workbench, snapshot: str, policy: str, pairs: int, steps: int) -> dict[str, float]:
    root = workbench.workspace.root
    ppo = PPOConfig.parse({
        "base_model": policy, "reward": "tests.runs.rewards:count_e", "device": "cpu", "ppo_steps": 6, "batch_size": 16,
        "mini_batch_size": 16, "ppo_epochs": 2, "min_response_tokens": 48, "max_response_tokens": 48, "evaluate_every": 100,
        "evaluate_prompts": 2, "micro_batch_tokens": 512, "sample_every": 100, "missing_eos_penalty": 0.0,
    })  # fmt: skip
    ways: dict[str, tuple[RunKind, RunConfig, tuple[str, ...], str]] = {
        "one": ("reward", reward_options(steps), (), "1"), "two": ("reward", reward_options(steps), ("--processes", "2"), "1"),
        "threads": ("reward", reward_options(steps), (), "2"), "ppo one": ("ppo", ppo, (), "1"),
        "ppo two": ("ppo", ppo, ("--processes", "2"), "1"),
    }  # fmt: skip
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(pairs):
        for name, (kind, config, more, threads) in ways.items():
            command(root, kind, snapshot, config, *more, OMP_NUM_THREADS=threads)
            found[name].append(step_s(workbench))
            print(f"  {name}: {found[name][-1]:.3f} s a step", flush=True)

    def over(slow: str, quick: str) -> float:
        return round(statistics.median(a / b for a, b in zip(found[slow], found[quick], strict=True)), 2)

    return {
        "ddp_speedup": over("one", "two"),
        "ddp_over_threads": over("threads", "two"),
        "ppo_speedup": over("ppo one", "ppo two"),
    }


def alive(processes: list[psutil.Process]) -> bool:
    return any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


def until(condition: Any, look: Any, patience_s: float = 120) -> float:
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        look()
        if condition():
            return time.monotonic()
        time.sleep(0.05)
    raise SystemExit("it did not come to that in time")


def local_cancel(workbench: Workbench, snapshot: str) -> float:
    """Two processes that are stopped, so that they hear nothing."""
    supervisor = Supervisor(workbench.workspace, workbench.ledger, cancel_grace_s=GRACE_S, terminate_grace_s=TERMINATE_S)
    where = Where(resources=Resources.parse({"processes": 2}))
    run = training.add_run(workbench, "reward", snapshot, reward_options(10_000), where=where)
    until(lambda: workbench.ledger.get(run.id).step > 1, supervisor.look_around)
    pid = workbench.ledger.get(run.id).pid or 0
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for one in processes:
        one.suspend()
    training.cancel(workbench, run.id)
    begun = time.monotonic()
    return until(lambda: not alive(processes), supervisor.look_around) - begun - GRACE_S - TERMINATE_S


def ray_cancel(workbench: Workbench, head: RayHead) -> float:
    """One that ignores every signal that can be ignored."""
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    engine = EngineSettings("ray", "ray", head.address, grace_s=GRACE_S, terminate_s=TERMINATE_S)
    before, elsewhere.train_command = elsewhere.train_command, lambda *_: [sys.executable, "-c", script]
    known, engines.engines = engines.engines, lambda: [engine]
    try:
        looks = Elsewhere(workbench.workspace, workbench.ledger, stale_heartbeat_s=600)
        run = workbench.ledger.add("stubborn", "reward", {"device": "cpu"}, "s", None, engine="ray", resources={"cpus": 1})
        until(lambda: head.processes(script[:60]), looks.look_around)
        workbench.ledger.claim(run.id, "there")
        training.cancel(workbench, run.id)
        begun = time.monotonic()
        return until(lambda: not head.processes(script[:60]), looks.look_around) - begun - GRACE_S - TERMINATE_S
    finally:
        elsewhere.train_command, engines.engines = before, known


def policy_of(folder: Path) -> str:
    """A causal model of MiniLM's size, which has not learned anything."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from tests.learn.policies import save_policy, tiny_tokenizer

    tokenizer = tiny_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=512, n_embd=384, n_layer=6, n_head=12, bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return str(save_policy(folder / "policy", GPT2LMHeadModel(config), tokenizer))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workbench, snapshot = filled(folder / "workspace")
        print("Two processes beside one", flush=True)
        result = speedups(workbench, snapshot, policy_of(folder), given.pairs, given.steps)
        print("Cancels", flush=True)
        ends = {"local": local_cancel(workbench, snapshot)}
        head = RayHead()
        try:
            head.start()
            ends["ray"] = ray_cancel(workbench, head)
            print(f"  beyond their grace: {ends}", flush=True)
            print("A run through Ray beside the bare command", flush=True)
            result |= ray_overhead(workbench, snapshot, head, given.pairs, given.steps)
        finally:
            head.close()
        workbench.close()
    result |= {
        "cancel_s": round(max(ends.values()), 2),
        "cancel_local_s": round(ends["local"], 2),
        "cancel_ray_s": round(ends["ray"], 2),
    }
    print(f"ray: {result['ray_overhead_s']} s over {result['bare_s']} s (allowed {result['ray_allowed_s']})")
    print(json.dumps(result | {"cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
