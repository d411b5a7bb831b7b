"""What people do, in a real browser against the real server, with real training."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Locator, Page, expect

from rlhf_core.checkpoints.registry import list_checkpoints
from rlhf_core.ground.settings import PROJECT_ROOT
from rlhf_core.services import snapshots, training
from rlhf_core.services.workbench import Workbench
from tests.e2e.conftest import Server

pytestmark = pytest.mark.slow


def card(page: Page, place: int) -> Locator:
    return page.locator(".pad .card").nth(place)


def rate(page: Page, place: int, stars: int) -> None:
    card(page, place).locator(f'[data-score="{stars}"]').click()


def saved(page: Page) -> None:
    """Wait until the pad says that all is stored."""
    expect(page.locator('.pad[data-pending="0"] .status.good')).to_have_text("Saved", timeout=15_000)


def no_exception(page: Page) -> None:
    assert page.locator('[data-testid="stException"]').count() == 0, page.locator('[data-testid="stException"]').all_inner_texts()


def test_from_the_demo_set_to_a_comparison(serve: Callable[[], Server], page: Page, workbench: Workbench) -> None:
    server = serve()

    # an empty workspace offers the demo set
    page.goto(server.url)
    page.get_by_role("button", name="Load the demo set").click()
    expect(page.get_by_text("chats with 321 steps")).to_be_visible()
    assert workbench.counts().chats == 76

    # rate: stars on the first step, a thumb on the second, and see them saved
    page.get_by_role("link", name="Label").first.click()
    expect(card(page, 0)).to_be_visible()
    before = workbench.counts().ratings
    rate(page, 0, 4)
    card(page, 1).locator('[data-thumb="5"]').click()
    saved(page)
    assert workbench.counts().ratings == before + 2
    chat = page.locator(".pad").get_attribute("data-chat")
    page.reload()
    expect(card(page, 0)).to_have_attribute("aria-label", "Step 1, 4 of 5 stars")
    expect(card(page, 1)).to_have_attribute("aria-label", "Step 2, 5 of 5 stars")
    page.get_by_role("button", name="Submit and next").click()
    expect(page.locator(".pad .status.bad")).to_contain_text("not rated yet. Submit again to leave them out.")
    page.get_by_role("button", name="Submit and next").click()
    expect(page.locator(".pad")).not_to_have_attribute("data-chat", chat)
    saved(page)
    no_exception(page)

    # freeze it
    page.get_by_role("link", name="Snapshots").first.click()
    page.get_by_role("button", name="Take a snapshot").click()
    expect(page.get_by_role("link", name="Explore it")).to_be_visible()
    (snapshot,) = snapshots.listing(workbench)
    assert snapshot.ratings == before + 2
    no_exception(page)

    # train a few steps, refresh in the middle, and see it end
    page.get_by_role("link", name="Train").first.click()
    page.get_by_role("button", name="New reward model").click()
    page.get_by_text("All options").click()
    menu = page.get_by_role("combobox", name="Method")  # begins with the one that suits a machine without a GPU
    menu.click()
    page.get_by_role("option", name="finetune").click()
    for label, value in (("Max length", "64"), ("Max steps", "6"), ("Max eval examples", "20")):
        field = page.get_by_label(label, exact=True)
        field.fill(value)
        field.press("Tab")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_text("Command and options")).to_be_visible()
    page.reload()
    expect(page.get_by_text("6 of 6 steps in")).to_be_visible(timeout=120_000)
    expect(page.locator('[data-testid="stVegaLiteChart"]').first).to_be_visible()
    expect(page.get_by_text(re.compile("succeeded")).first).to_be_visible()
    (run,) = training.runs(workbench)
    assert run.status == "succeeded", run.message
    (checkpoint,) = list_checkpoints(workbench.workspace.checkpoints)
    no_exception(page)

    # compare it with its untrained base, people's means beside
    page.get_by_role("link", name="Compare").first.click()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_text("The answer in full")).to_be_visible(timeout=120_000)
    expect(page.locator('[data-testid="stVegaLiteChart"]')).to_be_visible()
    expect(page.get_by_text(checkpoint.id).first).to_be_visible()
    no_exception(page)

    # the process that served all this never loaded torch
    maps = Path(f"/proc/{server.process.pid}/maps")
    if maps.exists():
        assert "libtorch" not in maps.read_text()
    children = psutil.Process(server.process.pid).children()
    assert any("rlhf_core.inference.worker" in " ".join(child.cmdline()) for child in children)


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (PROJECT_ROOT / "pages").glob("*.py") if path.stem not in ("frame", "home"))
)
def test_a_deep_link_into_a_cold_server_passes_the_frame(
    name: str, serve: Callable[[], Server], page: Page, demo: Workbench
) -> None:
    server = serve()
    page.goto(f"{server.url}/{'import' if name == 'upload' else name}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_role("link", name="Home").first).to_be_visible()
    no_exception(page)


def test_a_refused_file_lists_its_bad_lines(
    serve: Callable[[], Server], page: Page, workbench: Workbench, tmp_path: Path
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"query": "q", "response": "r", "score": 6}\n{"query": "q"}\n')
    page.goto(f"{serve().url}/import")
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("nothing was imported, because of 2 bad lines")).to_be_visible()
    assert workbench.counts().chats == 0


def test_a_run_outlives_the_server_and_is_found_again(
    serve: Callable[[], Server], page: Page, demo: Workbench, tiny_encoder: Path
) -> None:
    from rlhf_core.ground.configs import RewardConfig

    first = serve()
    snapshot, _ = snapshots.take(demo)
    config = RewardConfig(reward_base_model=str(tiny_encoder), epochs=100, batch_size=1, max_length=64, max_eval_examples=20)
    run = training.add_run(demo, "reward", snapshot.id, config)
    page.goto(f"{first.url}/train?run={run.id}")
    expect(page.locator('[data-testid="stVegaLiteChart"]').first).to_be_visible(timeout=60_000)
    first.process.kill()
    first.process.wait()
    assert training.run(demo, run.id).status == "running"
    second = serve()
    page.goto(f"{second.url}/train")  # the running run is shown without being named
    expect(page.get_by_text(run.id).first).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("what was learnt so far is saved").first).to_be_visible(timeout=60_000)
    assert training.run(demo, run.id).status == "cancelled"


def test_two_people_at_once_lose_nothing(serve: Callable[[], Server], page: Page, browser: object, demo: Workbench) -> None:
    for name in ("Ana", "Ben"):
        demo.add_person(name)
    server = serve()
    other = page.context.browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()  # type: ignore[union-attr]
    before = demo.counts().ratings
    for one, name in ((page, "Ana"), (other, "Ben")):
        one.goto(f"{server.url}/account")
        one.locator('[data-testid="stRadio"]').get_by_text(name, exact=True).click()
        expect(one.locator('[data-testid="stSidebarNavLink"]').get_by_text(name, exact=True)).to_be_visible()
        one.wait_for_timeout(500)  # for the cookie
        one.goto(f"{server.url}/label")  # a page loaded anew knows them still
        expect(one.locator('[data-testid="stSidebarNavLink"]').get_by_text(name, exact=True)).to_be_visible()
    for place in (0, 1, 2):
        for one in (page, other):
            rate(one, place, 5)
    for one in (page, other):
        saved(one)
    assert demo.counts().ratings == before + 6
    other.context.close()
