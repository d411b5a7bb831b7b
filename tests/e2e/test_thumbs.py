"""The example's chat page in a real browser against the real API: consent, a streamed answer, thumbs that fail and are sent
again, what is kept, and erasing it. No word of a person's is lost or counted twice."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from rlhf_core.ground.errors import NotEnoughData
from rlhf_core.ground.settings import PROJECT_ROOT
from rlhf_core.services import collecting, snapshots
from rlhf_core.services.workbench import Workbench
from tests.e2e.conftest import Server

pytestmark = pytest.mark.slow


@pytest.fixture
def chat_page(serve: Callable[[], Server], workbench: Workbench, tmp_path: Path) -> Iterator[str]:
    """The address of the example, which sends to a workbench."""
    _, token = collecting.add_application(workbench, "Example")
    server = serve()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "example.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(PROJECT_ROOT / "examples/chat/server.py"), "--port", str(port), "--workbench", server.url],
            env=os.environ | {"RLHF_APPLICATION_TOKEN": token}, stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        assert process.poll() is None, (tmp_path / "example.log").read_text()
        try:
            with urllib.request.urlopen(url, timeout=1):
                break
        except OSError:
            time.sleep(0.1)
    yield url
    process.terminate()
    process.wait()


def state(thumbs: Locator, wanted: str) -> None:
    expect(thumbs).to_have_attribute("state", wanted)


def test_a_visitors_whole_life(chat_page: str, page: Page, workbench: Workbench) -> None:
    page.goto(chat_page)
    expect(page.get_by_role("dialog")).to_contain_text("May we use")
    page.get_by_role("button", name="Yes").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Ask").click()
    thumbs = page.locator("rlhf-thumbs")
    expect(thumbs).to_have_count(3)
    expect(page.get_by_role("listitem").first).to_contain_text("MassHire career center")
    expect(page.get_by_role("group", name="Rate step 1")).to_be_visible()
    first, second, third = (thumbs.nth(k) for k in range(3))

    # said, thanked, changed
    first.get_by_role("button", name="Good: step 1").click()
    state(first, "thanked")
    expect(first.get_by_role("status")).to_have_text("Thank you!")
    expect(first.get_by_role("button", name="Good: step 1")).to_have_attribute("aria-pressed", "true")
    first.get_by_role("button", name="Bad: step 1").click()
    state(first, "thanked")
    expect(first.get_by_role("button", name="Good: step 1")).to_have_attribute("aria-pressed", "false")
    (chat,) = workbench.store.search_chats()
    steps = workbench.store.chat(chat.id).steps
    assert workbench.store.mean_scores(chat.id) == {steps[0].id: (1.0, 1)}

    # by keyboard; the first answer is lost on its way back, the second try changes nothing
    sent: list[str] = []

    def lose(route: Route) -> None:
        sent.append(str(route.request.post_data))
        if len(sent) == 1:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route("**/api/assistant/feedback", lose)
    second.get_by_role("button", name="Good: step 2").focus()
    page.keyboard.press("Enter")
    state(second, "failed")
    expect(second.get_by_role("status")).to_have_text("Not sent. No answer from the server.")
    expect(second.get_by_role("button", name="Try again")).to_be_focused()
    page.keyboard.press("Enter")
    state(second, "thanked")
    assert len(sent) == 2
    assert sent[0] == sent[1], "it is the same word with the same id"
    page.unroute("**/api/assistant/feedback")

    # busy while it is sent: a second press changes nothing
    held: list[Route] = []
    page.route("**/api/assistant/feedback", lambda route: held.append(route))  # it cannot take a method
    third.get_by_role("button", name="Bad: step 3").click()
    state(third, "sending")
    expect(third).to_have_attribute("aria-busy", "true")
    third.get_by_role("button", name="Good: step 3").click(force=True)
    assert len(held) == 1
    held[0].continue_()
    state(third, "thanked")
    page.unroute("**/api/assistant/feedback")
    assert workbench.store.mean_scores(chat.id) == {steps[0].id: (1.0, 1), steps[1].id: (5.0, 1), steps[2].id: (1.0, 1)}

    # what the server refuses is said in its words
    page.route("**/api/assistant/feedback", lambda route: route.fulfill(
        status=429, json={"detail": "Too many requests. Wait 9 s."}, headers={"Access-Control-Allow-Origin": "*"}
    ))  # fmt: skip
    first.get_by_role("button", name="Good: step 1").click()
    expect(first.get_by_role("status")).to_have_text("Not sent. Too many requests. Wait 9 s.")
    page.unroute("**/api/assistant/feedback")

    # copied, seen, erased
    page.get_by_role("listitem").first.evaluate(
        "(item) => { getSelection().selectAllChildren(item); document.execCommand('copy') }"
    )
    snapshot, _ = snapshots.take(workbench)
    assert snapshot.rows["chat_feedback"] == 3

    # one's own page: seen, downloaded, changed one's mind, erased
    with page.expect_popup() as opened:
        page.get_by_role("link", name="What is kept of me").click()
    yours = opened.value
    yours.emulate_media(reduced_motion="reduce")
    card = yours.get_by_role("article")
    expect(card.get_by_role("heading")).to_have_text("How do I start in solar?")
    expect(card.get_by_role("listitem").first).to_contain_text("MassHire career center")
    expect(card.get_by_role("listitem").nth(1)).to_contain_text("(you: thumb up)")
    assert "#" not in yours.url, "the ticket is in no history"
    for name, count in {"chats": 1, "steps": 3, "feedback": 3, "events": 1, "consents": 1}.items():
        expect(yours.locator("summary").filter(has_text=re.compile(f"^{name}: {count}$"))).to_be_visible()
    with yours.expect_download() as told:
        yours.get_by_role("button", name="Download all of it").click()
    saved = json.loads(told.value.path().read_text())
    assert [one["feedback_score"] for one in saved["feedback"]].count(5) == 1
    assert len(saved["steps"]) == 3
    expect(yours.locator("#consent")).to_contain_text("You agreed")
    yours.get_by_role("button", name="I do not agree").click()
    expect(yours.get_by_role("status")).to_have_text("Your answer is kept.")
    expect(yours.locator("#consent")).to_contain_text("did not agree")
    yours.get_by_role("button", name="Erase all of it").click()
    yours.get_by_role("button", name="Keep it").click()
    assert workbench.counts().chats == 1
    yours.get_by_role("button", name="Erase all of it").click()
    yours.get_by_role("button", name="Erase it", exact=True).click()
    expect(yours.get_by_role("status")).to_have_text("Erased: 1 chats and 3 ratings. Nothing is kept of you.")
    expect(card).to_have_count(0)
    assert workbench.counts().chats == 0
    (after,) = snapshots.listing(workbench)
    assert after.rows["chats"] == 0


def test_ones_own_page_without_a_ticket_and_without_a_server(chat_page: str, page: Page) -> None:
    page.goto(chat_page)
    with page.expect_popup() as opened:
        page.get_by_role("button", name="No").click()
        page.get_by_role("link", name="What is kept of me").click()
    yours = opened.value
    expect(yours.locator("#consent")).to_contain_text("did not agree")
    yours.route("**/me/consent", lambda route: route.abort())
    yours.get_by_role("button", name="I agree", exact=True).click()
    expect(yours.get_by_role("status")).to_have_text("No answer from the server. Try again in a moment.")
    yours.unroute("**/me/consent")
    yours.get_by_role("button", name="I agree", exact=True).click()
    expect(yours.get_by_role("status")).to_have_text("Your answer is kept.")
    yours.reload()
    expect(yours.get_by_role("status")).to_contain_text("opened without a ticket")
    expect(yours.get_by_role("button")).to_have_count(0)


def test_the_ticket_runs_out_and_the_page_goes_on(chat_page: str, page: Page, workbench: Workbench) -> None:
    page.goto(chat_page)
    page.get_by_role("button", name="No").click()
    page.get_by_role("button", name="Ask").click()
    thumbs = page.locator("rlhf-thumbs").first
    (workbench.workspace.keys / "tickets.key").unlink()  # tickets made before are worth nothing now
    thumbs.get_by_role("button", name="Good: step 1").click()
    state(thumbs, "thanked")
    assert workbench.counts().ratings == 1
    with pytest.raises(NotEnoughData):  # who says no is in no snapshot, and there is nobody else
        snapshots.take(workbench)
