"""Checkpoints compared in a real browser: one answer and why, a set and its disagreements labelled, the best of several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page, expect

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.checkpoints.registry import Checkpoint, retire, seal
from rlhf_core.ground.files import building
from rlhf_core.learn.reward_model import RewardModel
from rlhf_core.services import labeling, snapshots
from rlhf_core.services.workbench import Workbench
from tests.e2e.conftest import Server
from tests.e2e.test_journey import no_exception, saved
from tests.learn.policies import policy_checkpoint

pytestmark = pytest.mark.slow
SCORED_MS = 120_000


def reward_checkpoint(workbench: Workbench, base: Path, seed: int) -> Checkpoint:
    model = RewardModel.from_base(locate(str(base)), max_length=128, seed=seed, device=torch.device("cpu"))
    model.error_threshold = 3.0
    with building(workbench.workspace.checkpoints) as scratch:
        model.save(scratch)
        return seal(
            scratch, workbench.workspace.checkpoints, kind="reward", run_id=f"run-{seed}", snapshot_id="",
            parent=str(base), complete=True, config={}, metrics={}, scoring=model.scoring, libraries={},
        )  # fmt: skip


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def part(page: Page, name: str) -> None:
    """A part of what was compared; the view of the same name stands above it."""
    page.get_by_role("radio", name=name, exact=True).last.click()


def label_to_its_end(page: Page, workbench: Workbench, queue_id: str) -> None:
    """Rate the steps that are asked for in each chat of a queue, until it is done."""
    user = workbench.store.for_user(Workbench.session(workbench.people()[0]))
    items = user.queue_progress(queue_id).items
    assert 1 <= items <= 4
    for k in range(items):
        pad = page.locator(".pad[data-chat]")
        expect(pad).to_be_visible(timeout=30_000)
        chat = pad.get_attribute("data-chat")
        assert chat
        asked = workbench.store.steps_asked(queue_id, [chat])[chat]
        step = next(one for one in workbench.store.chat(chat).steps if one.step_order == asked[0])
        assert step.step_content[:20] in page.locator(".card.asked, .card").all_inner_texts()[asked[0] - 1]
        page.locator(".pad .card").nth(asked[0] - 1).locator('[data-score="2"]').click()
        page.keyboard.press("Control+Enter")
        expect(page.locator(f'.pad[data-chat="{chat}"]')).to_have_count(0)
        for _ in range(200):  # the pad goes on before the store has it
            if step.id in user.ratings(chat):
                break
            page.wait_for_timeout(100)
        assert user.ratings(chat)[step.id].feedback_score == 2, k
    expect(page.get_by_text("Everything in this queue is done")).to_be_visible()
    saved(page)
    assert user.queue_progress(queue_id).submitted == items


def test_from_one_answer_to_a_queue_of_disagreements(
    serve: Callable[[], Server], page: Page, browser: Browser, demo: Workbench, tiny_encoder: Path
) -> None:
    snapshots.take(demo)
    first, second = (reward_checkpoint(demo, tiny_encoder, seed) for seed in (1, 2))
    policy_checkpoint(demo.workspace.checkpoints)
    url = serve().url

    # one answer, and why
    page.goto(f"{url}/compare")
    press(page, "Compare")
    expect(page.get_by_text("falls most at step").first).to_be_visible(timeout=SCORED_MS)
    page.get_by_text("Why this reward").click()
    press(page, "Words that moved it")
    expect(page.get_by_text("stars, ").and_(page.get_by_text("with every word blanked"))).to_be_visible(timeout=SCORED_MS)
    expect(page.locator('span[title$=" stars"]').nth(10)).to_be_attached()
    press(page, "Rated examples like it")
    expect(page.get_by_text("likeness").first).to_be_visible(timeout=SCORED_MS)
    no_exception(page)

    # a set, while somebody else compares too
    part(page, "A set of answers")
    other = browser.new_context().new_page()
    other.goto(f"{url}/compare")
    expect(other.get_by_role("button", name="Compare", exact=True)).to_be_enabled()
    expect(page.get_by_text("Held out")).to_be_visible()
    press(page, "Compare")
    press(other, "Compare")
    expect(other.get_by_text("falls most at step").first).to_be_visible(timeout=SCORED_MS)
    other.context.close()
    expect(page.get_by_text("does not say which questions it learned from").first).to_be_visible(timeout=SCORED_MS)
    expect(page.get_by_text("60 answers with")).to_be_visible()
    for name, words in (
        ("Between checkpoints", "pairs of steps of one answer otherwise"), ("Against people", "First error"), ("Slices", "Steps"),
        ("Best of several", "No question here has several answers"), ("Where they part", "From the lowest to the highest reward"),
    ):  # fmt: skip
        part(page, name)
        expect(page.get_by_text(words).last).to_be_visible(timeout=30_000)
        no_exception(page)
    page.get_by_role("spinbutton", name="How many rows").fill("4")
    page.get_by_role("textbox", name="Queue").fill("Apart")
    page.get_by_role("textbox", name="Queue").press("Tab")
    press(page, "Send the uppermost to labelling")
    expect(page.get_by_text("The queue Apart hands out")).to_be_visible(timeout=30_000)
    queue = next(one for one in labeling.all_queues(demo) if one.name == "Apart")
    assert queue.listed
    page.get_by_role("link", name="Label it").click()
    expect(page).to_have_url(f"{url}/label?queue={queue.id}")
    label_to_its_end(page, demo, queue.id)

    # the best of several answers of a policy
    page.goto(f"{url}/compare")
    part(page, "Best of several")
    page.get_by_role("textbox", name="Question").fill("how do I start as a roofer in Lynn")
    page.get_by_role("spinbutton", name="Answers").fill("4")
    press(page, "Write and compare")
    expect(page.get_by_text("choose").first).to_be_visible(timeout=SCORED_MS)
    expect(page.locator('[data-testid="stDataFrame"]')).to_be_visible()
    no_exception(page)

    # one that is removed while the page is open
    part(page, "One answer")
    expect(page.get_by_role("combobox", name="Answer")).to_be_visible()
    retire(second)
    press(page, "Compare")
    expect(page.get_by_text("is not on this machine any more").filter(has_text=second.id)).to_be_visible(timeout=SCORED_MS)
    expect(page.get_by_text("falls most").filter(has_text=first.id).first).to_be_visible()
    no_exception(page)
