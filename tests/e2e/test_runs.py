"""Runs and servers that come and go, in a real browser."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, expect

from rlhf_core.ground.configs import RewardConfig
from rlhf_core.services import snapshots, training
from rlhf_core.services.workbench import Workbench
from tests.e2e.conftest import Server
from tests.e2e.test_journey import no_exception
from tests.supervisor.test_supervise import until

pytestmark = pytest.mark.slow


def trainers(run_id: str) -> list[psutil.Process]:
    """Processes that carry out this run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if run_id in words and "train" in words:
            found.append(process)
    return found


def test_two_servers_one_run_and_nobody_watching(
    serve: Callable[[], Server], page: Page, demo: Workbench, tiny_encoder: Path
) -> None:
    snapshot, _ = snapshots.take(demo)
    servers = [serve(), serve()]
    config = RewardConfig(
        reward_base_model=str(tiny_encoder), epochs=100, batch_size=1, max_length=64, max_eval_examples=20, learning_curve=False,
        readout_first=False,
    )  # fmt: skip
    run = training.add_run(demo, "reward", snapshot.id, config)
    other = page.context.new_page()
    for tab, server in zip((page, other), servers, strict=True):
        tab.goto(f"{server.url}/train?run={run.id}")
        expect(tab.locator('[data-testid="stVegaLiteChart"]').first).to_be_visible(timeout=90_000)
    assert len(trainers(run.id)) == 1

    # nobody looks on, and the first server is told to end: the other goes on supervising
    page.goto("about:blank")
    other.close()
    (process,) = trainers(run.id)
    step = training.run(demo, run.id).step
    servers[0].process.send_signal(signal.SIGTERM)
    servers[0].process.wait(timeout=30)
    until(lambda: training.run(demo, run.id).step > step)
    assert trainers(run.id) == [process]

    # pause and go on by the remaining one
    page.goto(f"{servers[1].url}/train?run={run.id}")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("what it holds of the machine is free")).to_be_visible(timeout=60_000)
    until(lambda: not trainers(run.id))
    paused = training.run(demo, run.id)
    assert (paused.status, 0 < paused.step < (paused.total_steps or 0)) == ("paused", True)
    page.get_by_role("button", name="Go on", exact=True).click()
    until(lambda: training.run(demo, run.id).step > paused.step, timeout_s=90)
    page.reload()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("what was learnt so far is saved").first).to_be_visible(timeout=60_000)
    no_exception(page)

    # the page of all runs
    page.get_by_role("link", name="All runs").click()
    expect(page.get_by_text("1 run. Mark one to open it, two or more to compare them.")).to_be_visible()
    page.get_by_text("Lineage", exact=True).click()
    expect(page.locator('[data-testid="stGraphVizChart"] svg')).to_be_visible(timeout=30_000)
    expect(page.get_by_text(f"Learned from 1 snapshot: {snapshot.id}")).to_be_visible()
    no_exception(page)
