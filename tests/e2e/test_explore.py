"""From a mark on a chart to the chats behind it, from a query to a queue, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench
from tests.e2e.conftest import Server
from tests.e2e.test_journey import no_exception

pytestmark = pytest.mark.slow
Serve = Callable[..., Server]


def chart(page: Page, title: str) -> Locator:
    """The chart under a heading."""
    block = page.locator("[data-testid=stVerticalBlock]", has=page.get_by_role("heading", name=title, exact=True)).last
    return block.locator("[data-testid=stVegaLiteChart] :is(canvas, svg)").first


def click_a_mark(page: Page, drawing: Locator, name: str) -> None:
    """Click along the chart until a mark is hit, which the address shows."""
    drawing.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    box = drawing.bounding_box()
    assert box is not None
    for up in (0.75, 0.6, 0.45):
        for across in range(12, 96, 4):
            page.mouse.click(box["x"] + box["width"] * across / 100, box["y"] + box["height"] * up)
            page.wait_for_timeout(300)  # a selection is told to the server after 150 ms
            page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
            if f"{name}=" in page.url:
                return
    raise AssertionError(f"no mark of {name} was hit: {page.url}")


def test_from_a_mark_to_the_chats_behind_it(serve: Serve, page: Page, judged: Workbench) -> None:
    snapshots.take(judged)
    page.goto(f"{serve().url}/explore")
    drawing = chart(page, "How scores are spread")
    expect(drawing).to_be_visible()
    behind = page.get_by_text(re.compile(r"of \d+ chats"))
    expect(behind).to_be_visible()
    before = behind.inner_text()
    click_a_mark(page, drawing, "score")
    expect(page.get_by_role("button", name=re.compile("stars [1-5]"))).to_be_visible()
    expect(behind).not_to_have_text(before, timeout=30_000)
    no_exception(page)
    page.locator("[class*='st-key-behind-row'] button").first.click()
    expect(page.get_by_text(re.compile(r"Step 1 · "))).to_be_visible()
    expect(page.get_by_role("link", name="Rate it")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name=re.compile("stars [1-5]"))).to_be_visible()
    page.get_by_role("button", name=re.compile("stars [1-5]")).click()
    expect(behind).to_have_text(before)
    with page.expect_download() as told:
        page.get_by_role("button", name="Numbers and files").first.click()
        page.get_by_role("button", name="CSV", exact=True).click()
    assert told.value.suggested_filename.startswith("scores_over_time-")
    drawing.hover()
    with page.expect_download() as told:
        drawing.locator("xpath=ancestor::*[@data-testid='stElementContainer'][1]").get_by_role(
            "button", name="Download as PNG"
        ).click()
    assert told.value.suggested_filename.endswith(".png")
    no_exception(page)


def run(page: Page, sql: str) -> None:
    area = page.get_by_role("textbox", name="SQL")
    area.fill(sql)
    area.press("Control+Enter")


def test_from_a_query_to_a_queue(serve: Serve, page: Page, judged: Workbench) -> None:
    snapshots.take(judged)
    url = serve().url
    page.goto(f"{url}/sql")
    run(page, "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range * b.range % 7 = 3")
    expect(page.get_by_text(re.compile(r"Running for \d"))).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled.")).to_be_visible()
    run(page, "SELECT chat_id, step_order FROM reasoning_steps WHERE step_order = 2 ORDER BY chat_id LIMIT 3")
    expect(page.get_by_text(re.compile(r"^3 rows in"))).to_be_visible()
    page.get_by_role("button", name="To labelling").or_(page.get_by_role("radio", name="To labelling")).click()
    page.get_by_label("Name of the queue").fill("Second steps")
    page.get_by_role("button", name="Make the queue").click()
    expect(page.get_by_text("Second steps: 3 chats to label.")).to_be_visible()
    page.get_by_role("link", name="Label them").click()
    expect(page.locator(".pad .card.here h3")).to_have_text("Step 2 · asked about")
    no_exception(page)
