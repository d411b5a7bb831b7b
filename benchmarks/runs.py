"""What runs cost the server, and the server the runs: real servers, a real browser, real training. The last line is JSON.

    .venv/bin/python benchmarks/runs.py [--rounds 25] [--steps 40]

1. ``rerun_ratio_training``: median of a page's rerun (as the browser sees it, from its start to its end) while a reward model is
   trained on the same machine, over that of the same idle server; measured idle, training, idle.
2. ``train_speed_ratio``: speed of that training started from the page, with the page open and reruns going on, over the same started
   from a bare terminal; median time of an optimiser step.
3. ``memory_growth``: the server's resident memory after ten runs that were watched, over before (after a first one).
4. ``list_ratio``: rerun of the page Runs with 1,000 ended runs over one with none, of two servers in turn; ``..._train`` of the page Train.
5. ``metric_lag_s``: median seconds from a line in a run's measures to the same words on the page.
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

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RLHF_STORE"] = "sqlite"

import itertools

import psutil
from playwright.sync_api import Page, sync_playwright

from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.settings import WORKSPACE_VARIABLE, Workspace
from rlhf_core.services import demo, snapshots, training
from rlhf_core.services.workbench import Workbench
from tests.e2e.conftest import CHROMIUM_ARGUMENTS, Server, start_server
from tests.install_browser import find_browser

RERUN = """() => new Promise((done) => {
  const app = document.querySelector('[data-testid="stApp"]');
  let begun = null;
  const watch = new MutationObserver(() => {
    const state = app.getAttribute('data-test-script-state');
    if (state === 'running' && begun === null) begun = performance.now();
    if (state === 'notRunning' && begun !== null) { watch.disconnect(); done(performance.now() - begun); }
  });
  watch.observe(app, {attributes: true, attributeFilter: ['data-test-script-state']});
  document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'r', code: 'KeyR', keyCode: 82, bubbles: true}));
})"""


def filled(root: Path) -> tuple[Workbench, str]:
    workbench = Workbench(Workspace.resolve(root))
    demo.load_demo(workbench)
    return workbench, snapshots.take(workbench)[0].id


def opened(tab: Page, address: str) -> None:
    tab.goto(address)
    tab.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"] h1', timeout=60_000)
    tab.wait_for_timeout(1500)


def rerun_ms(tab: Page, rounds: int) -> list[float]:
    found = []
    for _ in range(rounds):
        found.append(tab.evaluate(RERUN))
        tab.wait_for_timeout(100)
    return found


def config(steps: int) -> RewardConfig:
    return RewardConfig.parse({
        "reward_base_model": "minilm-l6", "max_steps": steps, "learning_curve": False, "readout_first": False, "max_eval_examples": 20,
        "max_examples": 60, "max_length": 128,
    })  # fmt: skip


def step_s(workbench: Workbench, run_id: str) -> float:
    times = [line["time"] for line in training.metrics(workbench, run_id) if line["split"] == "train"][4:]
    return statistics.median(later - earlier for earlier, later in itertools.pairwise(times))


def until(workbench: Workbench, run_id: str, at_least: int | None = None) -> Any:
    """The run at a step, or at its end."""
    while True:
        run = workbench.ledger.get(run_id)
        if not run.unfinished or (at_least is not None and run.step >= at_least):
            assert run.status in ("running", "succeeded"), run.message
            return run
        time.sleep(0.2)


def in_a_terminal(workbench: Workbench, root: Path, snapshot: str, steps: int) -> float:
    subprocess.run(
        [sys.executable, "-m", "rlhf_core", "train", "reward", "--snapshot", snapshot, *config(steps).arguments()],
        cwd=ROOT, env=os.environ | {WORKSPACE_VARIABLE: str(root)}, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return step_s(workbench, training.runs(workbench)[0].id)


def while_training(
    tab: Page, server: Server, workbench: Workbench, snapshot: str, rounds: int, steps: int
) -> tuple[list[float], list[float], float]:
    """Reruns of the page Explore idle, and while a run trains; and the run's seconds a step."""
    opened(tab, f"{server.url}/models")
    rerun_ms(tab, 5)
    idle = rerun_ms(tab, rounds)
    run = training.add_reward_run(workbench, snapshot, config(steps))
    until(workbench, run.id, 3)
    busy = []
    while workbench.ledger.get(run.id).phase == "training" and len(busy) < 4 * rounds:
        busy += rerun_ms(tab, 1)
    until(workbench, run.id)
    tab.wait_for_timeout(2000)
    return idle + rerun_ms(tab, rounds), busy, step_s(workbench, run.id)


def memory_growth(tab: Page, server: Server, workbench: Workbench, snapshot: str) -> float:
    process = psutil.Process(server.process.pid)

    def one() -> None:
        run = training.add_reward_run(workbench, snapshot, config(2))
        opened(tab, f"{server.url}/train?run={run.id}")
        until(workbench, run.id)
        tab.wait_for_timeout(1500)

    one()
    before = process.memory_info().rss
    for _ in range(10):
        one()
    opened(tab, f"{server.url}/models")
    tab.wait_for_timeout(35_000)  # the server collects garbage each half minute
    return process.memory_info().rss / before


def many_runs(workbench: Workbench, snapshot: str, count: int) -> None:
    settings = config(10).model_dump()
    for k in range(count):
        name = f"20260101-000000-{k:06d}"
        workbench.ledger.add(name, "reward", settings, snapshot, None, "elsewhere")
        workbench.ledger.finish(name, "succeeded" if k % 5 else "failed", f"reward-{k:012x}: step AUC 0.8 on 308 examples.", None)


def metric_lag(tab: Page, server: Server, workbench: Workbench, rounds: int) -> float:
    """A run that is at work elsewhere, so that only its files change."""
    run = workbench.ledger.add("20260101-000000-lagged", "ppo", {"base_model": "p"}, "", None, "elsewhere")
    folder = workbench.workspace.run_folder(run.id)
    folder.mkdir(parents=True)
    opened(tab, f"{server.url}/train?run={run.id}")
    lags = []
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for k in range(rounds):
            time.sleep(0.37)  # at odds with the page's own clock
            begun = time.perf_counter()
            file.write(
                json.dumps({"time": k, "split": "alarm", "step": k, "name": "kl", "words": f"measure number {k} is here"}) + "\n"
            )
            file.flush()
            tab.get_by_text(f"measure number {k} is here").wait_for(timeout=20_000)
            lags.append(time.perf_counter() - begun)
    workbench.ledger.finish(run.id, "succeeded", "done", None)
    return statistics.median(lags)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        (busy_bench, snapshot), (full_bench, full_snapshot) = (filled(folder / one) for one in ("busy", "full"))
        none_bench, _ = filled(folder / "none")
        servers = {one: start_server(folder / one, folder / f"{one}.log") for one in ("busy", "full", "none")}
        browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_ARGUMENTS)
        tab = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
        try:
            many_runs(full_bench, full_snapshot, 1000)
            listing: dict[tuple[str, str], list[float]] = {}
            for _ in range(3):
                for page in ("runs", "train"):
                    for one in ("full", "none"):
                        opened(tab, f"{servers[one].url}/{page}")
                        rerun_ms(tab, 2)
                        listing.setdefault((page, one), []).extend(rerun_ms(tab, max(3, arguments.rounds // 3)))
            lists = {
                page: statistics.median(listing[page, "full"]) / statistics.median(listing[page, "none"])
                for page in ("runs", "train")
            }
            for (page, one), taken in listing.items():
                print(f"page {page}, {1000 if one == 'full' else 0} runs: rerun {statistics.median(taken):.0f} ms", flush=True)
            for one in ("full", "none"):
                servers[one].process.terminate()
                servers[one].process.wait()

            lag = metric_lag(tab, servers["busy"], busy_bench, 12)
            print(f"a measure is on the page after {lag:.2f} s", flush=True)
            bare, launched, idle, busy = [], [], [], []
            for _ in range(3):
                bare.append(in_a_terminal(busy_bench, folder / "busy", snapshot, arguments.steps))
                calm, disturbed, seconds = while_training(
                    tab, servers["busy"], busy_bench, snapshot, arguments.rounds, arguments.steps
                )
                idle, busy = idle + calm, busy + disturbed
                launched.append(seconds)
            speed = statistics.median(bare) / statistics.median(launched)
            rerun = statistics.median(busy) / statistics.median(idle)
            print(
                f"rerun {statistics.median(idle):.0f} ms idle ({len(idle)}), {statistics.median(busy):.0f} ms while training ({len(busy)})"
            )
            print(
                f"a step takes {statistics.median(bare):.2f} s from a terminal, {statistics.median(launched):.2f} s from the page",
                flush=True,
            )
            growth = memory_growth(tab, servers["busy"], busy_bench, snapshot)
            print(f"the server's memory after ten runs: {growth:.3f} of before", flush=True)
        finally:
            browser.close()
            for server in servers.values():
                if server.process.poll() is None:
                    server.process.terminate()
                    server.process.wait()
            for bench in (busy_bench, full_bench, none_bench):
                bench.close()
    print(json.dumps({
        "rerun_ratio_training": round(rerun, 3), "train_speed_ratio": round(speed, 3), "memory_growth": round(growth, 3),
        "list_ratio": round(lists["runs"], 3), "list_ratio_train": round(lists["train"], 3), "metric_lag_s": round(lag, 3),
        "reruns_ms": {"idle": round(statistics.median(idle), 1), "training": round(statistics.median(busy), 1)},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
