"""What runs cost the server, and the server the runs: real servers, a real browser, real training. The last line is JSON.

    .venv/bin/python benchmarks/runs.py [--rounds 25] [--steps 40] [--only list lag training memory]

1. ``rerun_ratio_training``: median of a page's rerun (as the browser sees it, from its start to its end) while a reward model is
   trained on the same machine, over that of the same idle server; measured idle, training, idle.
2. ``train_speed_ratio``: speed of that training started by the server, with a page of it open in a browser on the same machine, over
   the same started from a bare terminal; median time of an optimiser step. ``..._watched``: with the live page of the run open, whose
   curves are drawn anew each 1.5 s by the same two processors; ``..._reruns``: with reruns of a page one after another.
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

# from the key press to the last change; states that come and go within one turn of the browser are read from the records
RERUN = """() => new Promise((done, failed) => {
  const app = document.querySelector('[data-testid="stApp"]');
  const name = 'data-test-script-state';
  let begun = null, asked = false; const seen = [];
  const watch = new MutationObserver((records) => {
    for (const one of records) seen.push([performance.now() | 0, one.oldValue]);
    asked = asked || records.some((one) => one.oldValue === 'rerunRequested') || app.getAttribute(name) === 'rerunRequested';
    if (begun === null) { if (app.getAttribute(name) === 'notRunning') press(); }
    else if (asked && app.getAttribute(name) === 'notRunning') { watch.disconnect(); done(performance.now() - begun); }
  });
  const press = () => {
    begun = performance.now();
    for (const kind of ['keydown', 'keypress', 'keyup'])
      document.body.dispatchEvent(new KeyboardEvent(kind, {key: 'r', code: 'KeyR', keyCode: 82, bubbles: true}));
  };
  watch.observe(app, {attributes: true, attributeFilter: [name], attributeOldValue: true});
  if (app.getAttribute(name) === 'notRunning') press();
  setTimeout(() => { watch.disconnect(); failed(new Error('no rerun within 20 s: ' + begun + ' ' + location + app.getAttribute(name) + JSON.stringify(seen))); }, 20000);
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


def launched(tab: Page, server: Server, workbench: Workbench, snapshot: str, steps: int, *, watch: bool) -> float:
    """Seconds a step of a run that the server started, with its live page or another one open."""
    run = training.add_run(workbench, "reward", snapshot, config(steps))
    opened(tab, f"{server.url}/train?run={run.id}" if watch else server.url)
    until(workbench, run.id)
    return step_s(workbench, run.id)


def while_training(
    tab: Page, server: Server, workbench: Workbench, snapshot: str, rounds: int, steps: int
) -> tuple[list[float], list[float], float]:
    """Reruns of the page Models idle, and while a run trains; and the run's seconds a step."""
    opened(tab, f"{server.url}/models")
    rerun_ms(tab, 5)
    idle = rerun_ms(tab, rounds)
    run = training.add_run(workbench, "reward", snapshot, config(steps))
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
        run = training.add_run(workbench, "reward", snapshot, config(2))
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


def list_ratios(tab: Page, servers: dict[str, Server], rounds: int) -> dict[str, float]:
    listing: dict[tuple[str, str], list[float]] = {}
    for _ in range(3):
        for page in ("runs", "train"):
            for one in ("full", "none"):
                opened(tab, f"{servers[one].url}/{page}")
                rerun_ms(tab, 2)
                listing.setdefault((page, one), []).extend(rerun_ms(tab, max(3, rounds // 3)))
    for (page, one), taken in listing.items():
        print(f"page {page}, {1000 if one == 'full' else 0} runs: rerun {statistics.median(taken):.0f} ms", flush=True)
    return {
        name: round(statistics.median(listing[page, "full"]) / statistics.median(listing[page, "none"]), 3)
        for name, page in (("list_ratio", "runs"), ("list_ratio_train", "train"))
    }


def training_ratios(
    tab: Page, server: Server, workbench: Workbench, root: Path, snapshot: str, rounds: int, steps: int
) -> dict[str, float]:
    bare, served, watched, disturbed, idle, busy = [], [], [], [], [], []
    for _ in range(3):
        tab.goto("about:blank")
        bare.append(in_a_terminal(workbench, root, snapshot, steps))
        served.append(launched(tab, server, workbench, snapshot, steps, watch=False))
        watched.append(launched(tab, server, workbench, snapshot, steps, watch=True))
        calm, meanwhile, seconds = while_training(tab, server, workbench, snapshot, rounds, steps)
        idle, busy = idle + calm, busy + meanwhile
        disturbed.append(seconds)
    idle_ms, busy_ms = statistics.median(idle), statistics.median(busy)
    bare_s, served_s, watched_s, disturbed_s = (statistics.median(one) for one in (bare, served, watched, disturbed))
    print(f"rerun {idle_ms:.0f} ms idle ({len(idle)}), {busy_ms:.0f} ms while training ({len(busy)})")
    print(f"a step takes {bare_s:.2f} s from a terminal, {served_s:.2f} s started by the server, {watched_s:.2f} s watched, "
          f"{disturbed_s:.2f} s beside reruns one after another", flush=True)  # fmt: skip
    return {
        "rerun_ratio_training": round(busy_ms / idle_ms, 3), "train_speed_ratio": round(bare_s / served_s, 3),
        "train_speed_ratio_watched": round(bare_s / watched_s, 3),
        "train_speed_ratio_reruns": round(bare_s / disturbed_s, 3), "rerun_ms_idle": round(idle_ms, 1),
        "rerun_ms_training": round(busy_ms, 1),
    }  # fmt: skip


PARTS = ("list", "lag", "training", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    arguments = parser.parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        (bench, snapshot), (full_bench, full_snapshot) = (filled(folder / one) for one in ("busy", "full"))
        none_bench, _ = filled(folder / "none")
        servers = {one: start_server(folder / one, folder / f"{one}.log") for one in ("busy", "full", "none")}
        browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_ARGUMENTS)
        tab = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
        try:
            if "list" in arguments.only:
                many_runs(full_bench, full_snapshot, 1000)
                found |= list_ratios(tab, servers, arguments.rounds)
            for one in ("full", "none"):
                servers[one].process.terminate()
                servers[one].process.wait()
            server = servers["busy"]
            if "lag" in arguments.only:
                lag = metric_lag(tab, server, bench, 12)
                print(f"a measure is on the page after {lag:.2f} s", flush=True)
                found["metric_lag_s"] = round(lag, 3)
            if "training" in arguments.only:
                found |= training_ratios(tab, server, bench, folder / "busy", snapshot, arguments.rounds, arguments.steps)
            if "memory" in arguments.only:
                growth = memory_growth(tab, server, bench, snapshot)
                print(f"the server's memory after ten runs: {growth:.3f} of before", flush=True)
                found["memory_growth"] = round(growth, 3)
        finally:
            browser.close()
            for server in servers.values():
                if server.process.poll() is None:
                    server.process.terminate()
                    server.process.wait()
            for one_bench in (bench, full_bench, none_bench):
                one_bench.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
