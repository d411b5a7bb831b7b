"""Policies from the page Train: taught, improved by rewards, watched, and refused in words; real server, browser and training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from rlhf_core.checkpoints.registry import list_checkpoints
from rlhf_core.services import snapshots, training
from rlhf_core.services.workbench import Workbench
from tests.e2e.conftest import Server
from tests.e2e.test_journey import no_exception
from tests.learn.policies import tiny_llama, tiny_tokenizer

pytestmark = pytest.mark.slow
ENDED_MS = 180_000


def fill(page: Page, **options: object) -> None:
    """Set options by their labels, each committed before the next."""
    for name, value in options.items():
        field = page.get_by_label(name.replace("_", " "), exact=True)
        field.fill(str(value))
        field.press("Tab")


def choose(page: Page, label: str, value: str) -> None:
    """Pick an entry of a menu, or type one that it does not have."""
    menu = page.get_by_role("combobox", name=label)
    menu.click()
    menu.fill(value)
    page.get_by_role("option").get_by_text(value).first.click()


def test_a_policy_is_taught_and_improved(serve: Callable[[], Server], page: Page, demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    page.goto(f"{serve().url}/train")

    # teach a tiny one
    page.get_by_role("button", name="Teach a policy").click()
    fill(page, Epochs=1, Min_score=4, Learning_rate=0.003)
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_text("answers learned in").first).to_be_visible(timeout=ENDED_MS)
    (taught,) = list_checkpoints(demo.workspace.checkpoints, "policy")
    assert taught.snapshot_id == snapshot.id
    expect(page.get_by_text(f"{taught.id}").first).to_be_visible()
    no_exception(page)

    # improve it by a function, refresh in the middle, see how it went
    page.get_by_role("button", name="Improve a policy").click()
    page.get_by_text("All options").click()
    choose(page, "Reward model", "tests.runs.rewards:count_e")
    fill(page, PPO_steps=4, Batch_size=4, Max_response_tokens=16, Min_response_tokens=8, Evaluate_every=2, Evaluate_prompts=4)
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_text("Command and options")).to_be_visible()
    page.reload()
    expect(page.get_by_text("4 of 4 steps in")).to_be_visible(timeout=ENDED_MS)
    for title in ("Reward", "KL to the reference", "Length", "Entropy", "Held-out prompts", "Before and after"):
        expect(page.get_by_text(title, exact=True).first).to_be_visible()
    expect(page.locator('[data-testid="stVegaLiteChart"]').nth(4)).to_be_visible()
    expect(page.get_by_text("nats from the reference").first).to_be_visible()
    no_exception(page)
    run = training.runs(demo)[0]
    assert (run.kind, run.status, run.step) == ("ppo", "succeeded", 4)
    assert run.config["reward"] == "tests.runs.rewards:count_e"
    assert run.config["base_model"] == taught.id


def test_a_policy_run_that_fails_says_why(serve: Callable[[], Server], page: Page, demo: Workbench, tmp_path: Path) -> None:
    """A reward that gives every answer the same: the page says so in words."""
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path / "policy")
    tiny_llama(tokenizer).save_pretrained(tmp_path / "policy")
    page.goto(f"{serve().url}/train")
    page.get_by_role("button", name="Improve a policy").click()
    page.get_by_text("All options").click()
    choose(page, "Policy", str(tmp_path / "policy"))
    choose(page, "Reward model", "tests.runs.rewards:always_two")
    fill(page, PPO_steps=20, Batch_size=4, Max_response_tokens=12, Min_response_tokens=8, Evaluate_prompts=2)
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_text("got the same reward (2)").first).to_be_visible(timeout=ENDED_MS)
    expect(page.get_by_text("failed", exact=True).first).to_be_visible()
    (run,) = training.runs(demo)
    assert run.status == "failed"
    no_exception(page)
