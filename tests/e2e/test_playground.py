"""Two policies side by side in a real browser: streamed, stopped, preferred, kept; and a browser that is closed in mid-answer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from playwright.sync_api import Browser, Page, expect
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_core.checkpoints.registry import Checkpoint
from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench
from tests.e2e.conftest import Server
from tests.e2e.test_compare import SCORED_MS, reward_checkpoint
from tests.e2e.test_journey import no_exception
from tests.learn.policies import policy_checkpoint, tiny_tokenizer

pytestmark = pytest.mark.slow


def policy(workbench: Workbench, seed: int) -> Checkpoint:
    """One that never ends an answer by itself."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=len(tokenizer), n_positions=8192, n_embd=32, n_layer=2, n_head=2, initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    ))  # fmt: skip
    with torch.no_grad():
        model.transformer.ln_f.weight[0], model.transformer.ln_f.bias[0] = 0.0, 10.0
        model.transformer.wte.weight[tokenizer.eos_token_id, 0] = -10.0
    return policy_checkpoint(workbench.workspace.checkpoints, model, tokenizer, f"run-{seed}")


def ask(page: Page, query: str, tokens: int) -> None:
    page.get_by_role("button", name="Sampling").click()
    page.get_by_role("spinbutton", name="Tokens at most").fill(str(tokens))
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    page.get_by_placeholder("Ask something").fill(query)
    page.get_by_placeholder("Ask something").press("Enter")


def test_two_policies_side_by_side(
    serve: Callable[[], Server], page: Page, demo: Workbench, tiny_encoder: Path
) -> None:  # fmt: skip
    judge = reward_checkpoint(demo, tiny_encoder, 1)
    names = {policy(demo, seed).id for seed in (1, 2)}
    page.goto(f"{serve().url}/playground")
    expect(page.get_by_text("Ask something below")).to_be_visible(timeout=30_000)
    page.get_by_text("Blind", exact=True).click()
    ask(page, "how do I start as a roofer", 40)
    expect(page.get_by_role("button", name="Left is better")).to_be_visible(timeout=SCORED_MS)
    expect(page.get_by_text("tokens a second")).to_have_count(2)
    expect(page.locator(f'span[title^="{judge.id}"]').first).to_be_visible()
    sides = page.locator("[class*='st-key-playground-side-0-'] strong").filter(
        has_text=re.compile("^(Left|Right|policy-[0-9a-f]+ · taught)$")
    )
    expect(sides).to_have_text(["Left", "Right"])
    page.get_by_role("button", name="Right is better").click()
    expect(page.get_by_text("Kept as a preference: right is better")).to_be_visible()
    assert {text.split(" · ")[0] for text in sides.all_inner_texts()} == names
    no_exception(page)
    snapshot, _ = snapshots.take(demo)
    (pair,) = (row for row in snapshot.table("preferences").to_pylist() if row["chat_id"])
    kept = [demo.store.chat(pair[name]) for name in ("chat_id", "other_id")]
    assert {chat.model for chat in kept} == names
    preferred = kept[0] if pair["verdict"] == "chat" else kept[1]
    assert preferred.model == sides.last.inner_text().split(" · ")[0]
    page.get_by_role("link", name="Kept. Rate it").first.click()
    expect(page.locator(".pad")).to_contain_text("how do I start as a roofer", timeout=30_000)


def test_stopped_while_it_writes_and_left_by_its_reader(
    serve: Callable[[], Server], browser: Browser, page: Page, workbench: Workbench
) -> None:
    policy(workbench, 1)
    url = serve().url
    page.goto(f"{url}/playground")
    expect(page.get_by_text("Ask something below")).to_be_visible(timeout=30_000)
    ask(page, "how do I start", 4096)
    begins = page.get_by_text("Begins …")
    expect(begins).to_be_visible()
    expect(begins).to_have_count(0, timeout=SCORED_MS)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text(re.compile("^stopped · first token after"))).to_have_count(1)
    expect(page.get_by_role("button", name="Keep for labelling")).to_be_visible()
    no_exception(page)
    monitored = worker(workbench)
    assert busy(monitored) < 0.3

    context = browser.new_context()
    other = context.new_page()
    other.set_default_timeout(30_000)
    other.goto(f"{url}/playground")
    ask(other, "how do I start", 4096)
    expect(other.get_by_role("button", name="Stop")).to_be_visible()
    assert busy(monitored) > 0.2
    context.close()
    for _ in range(30):
        if busy(monitored) < 0.1:
            return
    raise AssertionError("it writes on for nobody")


def test_a_step_is_fixed_with_a_policys_help(
    serve: Callable[[], Server], page: Page, demo: Workbench, tiny_encoder: Path
) -> None:
    reward_checkpoint(demo, tiny_encoder, 1)
    policy(demo, 1)
    page.goto(f"{serve().url}/label")
    expect(page.locator(".pad .card").first).to_be_visible(timeout=30_000)
    chat = page.locator(".pad").get_attribute("data-chat")
    page.keyboard.press("j")
    page.keyboard.press("w")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Let a policy propose").click()
    fix = opened.value
    fix.set_default_timeout(30_000)
    expect(fix.get_by_role("heading", name="Instead of step 2")).to_be_visible(timeout=30_000)
    fix.get_by_role("button", name="Propose").click()
    go_on = fix.get_by_role("button", name="Go on from this")
    expect(go_on.first).to_be_visible(timeout=SCORED_MS)
    assert go_on.count() >= 2
    expect(fix.locator("span[title$='predicted stars']").first).to_be_visible()
    fix.get_by_role("radiogroup").nth(3).get_by_role("radio").nth(1).click()  # two stars for the second alternative
    go_on.first.click()
    expect(fix.get_by_text("The branch", exact=True)).to_be_visible(timeout=SCORED_MS)
    fix.get_by_role("button", name="Keep the branch").click()
    expect(fix.get_by_text("The branch is kept")).to_be_visible()
    no_exception(fix)
    snapshot, _ = snapshots.take(demo)
    branches = [row for row in snapshot.table("chats").to_pylist() if row["source"] == "branch"]
    assert len(branches) == 2
    pairs = [row for row in snapshot.table("preferences").to_pylist() if row["step_order"] == 2]
    ids = {row["id"] for row in branches} | {chat}
    assert len([row for row in pairs if {row["chat_id"], row["other_id"]} <= ids]) == 2
    fix.get_by_role("link", name="Look at it").click()
    expect(fix.locator(".pad .card").first).to_be_visible(timeout=30_000)


def worker(workbench: Workbench) -> psutil.Process:
    wanted = {"rlhf_core.inference.worker", str(workbench.workspace.checkpoints)}
    return next(one for one in psutil.process_iter(["cmdline"]) if wanted.issubset(one.info["cmdline"] or []))


def busy(process: psutil.Process) -> float:
    before = sum(process.cpu_times()[:2])
    time.sleep(1)
    return sum(process.cpu_times()[:2]) - before
