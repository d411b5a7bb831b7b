"""Every page, with data and without, in light and dark, held against axe-core's rules for WCAG 2.2 AA, and what the keyboard
cannot reach.

axe-core: https://github.com/dequelabs/axe-core (MPL-2.0), as the wheel brings it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench
from tests.e2e.conftest import Server

pytestmark = pytest.mark.slow
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
REFUSED = ("serious", "critical")

OUT_OF_REACH = """() => {
  const asked = 'a[href], button, input, textarea, select, [role="button"], [role="combobox"]';
  // keys move within these; arrows beside a field that arrow keys change; what is behind Browse files; tags (Backspace)
  const roving = '[role="radiogroup"], [role="tablist"], [role="slider"], [data-testid="stDataFrame"], [aria-hidden="true"], '
    + '[data-testid="stHeadingWithActionElements"], [data-rac], [data-testid^="stNumberInputStep"], '
    + '[data-testid="stFileUploaderDropzoneInput"], [data-testid="stMultiSelect"] [aria-label^="Remove"]';
  return [...document.querySelectorAll(`[data-testid="stMain"] :is(${asked})`)]
    .filter((one) => one.tabIndex < 0 && !one.disabled && one.getClientRects().length && !one.closest(roving))
    .filter((one) => getComputedStyle(one).visibility !== "hidden")
    .map((one) => one.outerHTML.slice(0, 160));
}"""


def found_by_axe(page: Page, rules: dict[str, Any]) -> list[str]:
    answer = Axe().run(page, options=rules).response
    return [
        f"{one['impact']} {one['id']}: {one['help']}: {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for one in answer["violations"] if one["impact"] in REFUSED
        for node in one["nodes"][:3]
    ]  # fmt: skip


def settle(page: Page) -> None:
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    expect(page.get_by_test_id("stSpinner")).to_have_count(0)


def test_every_page(judged: Workbench, serve: Callable[..., Server], page: Page) -> None:
    snapshots.take(judged)
    look_at_all(page, serve().url, dark=True)


def test_every_page_of_an_empty_workspace(workbench: Workbench, serve: Callable[..., Server], page: Page) -> None:
    assert workbench.counts().chats == 0
    look_at_all(page, serve().url, dark=False)


def look_at_all(page: Page, url: str, *, dark: bool) -> None:
    page.goto(url)
    settle(page)
    page.add_style_tag(
        content="* { transition: none !important; animation: none !important; }"
    )  # no colour is half way to another
    links = page.get_by_test_id("stSidebarNavLink")
    expect(links).not_to_have_count(0)
    addresses = [str(link.get_attribute("href")) for link in links.all()]
    assert len(addresses) >= 22
    wrong: list[str] = []
    for address in addresses:
        page.locator(f"[data-testid=stSidebarNavLink][href='{address}']").click()
        settle(page)
        expect(page.get_by_test_id("stMain").get_by_role("heading").first).to_be_visible()
        settle(page)
        wrong += [f"{address}: {one}" for one in found_by_axe(page, RULES)]
        wrong += [f"{address}: out of the keyboard's reach: {one}" for one in page.evaluate(OUT_OF_REACH)]
        if dark:
            page.emulate_media(color_scheme="dark")
            expect(page.get_by_test_id("stApp")).to_have_css("background-color", "rgb(18, 23, 21)")
            wrong += [f"{address}, dark: {one}" for one in found_by_axe(page, CONTRAST)]
            page.emulate_media(color_scheme="light")
    assert not wrong, "\n".join(wrong)
