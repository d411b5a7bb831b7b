"""The label pad in a real browser: keys, fast keys, lost connections, killed servers, two tabs, hostile and huge content."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from rlhf_core.ground.records import EVERYTHING, Feedback, Queue, new_id
from rlhf_core.services import importing
from rlhf_core.services.workbench import Workbench
from tests.conftest import write_lines
from tests.e2e.conftest import Server
from tests.e2e.test_journey import card, no_exception, saved

pytestmark = pytest.mark.slow
Serve = Callable[..., Server]


@pytest.fixture
def chats(workbench: Workbench, tmp_path: Path) -> Workbench:
    """Six chats of four steps."""
    records = [{"id": f"c{k}", "query": f"Question {k}?", "steps": [f"Part {n}" for n in range(1, 5)]} for k in range(6)]
    importing.import_file(workbench, write_lines(tmp_path / "chats.jsonl", records))
    return workbench


KEPT = "localStorage.getItem('rlhf-pad:local-1')"


def open_pad(page: Page, url: str) -> None:
    page.goto(f"{url}/label")
    expect(card(page, 0)).to_be_visible()


def first_chat(workbench: Workbench) -> str:
    return workbench.store.search_chats(limit=1)[0].id


def mine(workbench: Workbench) -> dict[str | None, Feedback]:
    """What is stored of the first chat, by step content (None: the whole answer)."""
    user = workbench.store.for_user(Workbench.session(workbench.people()[0]))
    chat = workbench.store.chat(first_chat(workbench))
    names = {step.id: step.step_content for step in chat.steps}
    return {names.get(key or ""): one for key, one in user.ratings(chat.id).items()}


def scores(workbench: Workbench) -> dict[str | None, int]:
    return {name: one.feedback_score for name, one in mine(workbench).items()}


def test_a_chat_by_keyboard_alone(serve: Serve, page: Page, chats: Workbench) -> None:
    open_pad(page, serve().url)
    first = page.locator(".pad").get_attribute("data-chat")
    page.wait_for_timeout(500)  # read step 1: a glance of under 300 ms is no dwell
    page.keyboard.press("4")  # rates step 1 and goes on
    page.keyboard.press("t")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("g")
    page.keyboard.press("k")
    page.keyboard.press("e")  # the first error is step 4
    expect(card(page, 3)).to_have_class("card rated here wrong")
    page.keyboard.press("Enter")
    page.keyboard.type("12 pounds? J5")  # and no digit rates while one types
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    page.keyboard.press("2")
    page.keyboard.press("5")
    page.keyboard.press("u")
    page.keyboard.press("q")
    saved(page)
    assert scores(chats) == {"Part 1": 4, "Part 2": 5, "Part 4": 1, None: 2}
    assert mine(chats)["Part 4"].comment == "12 pounds? J5"
    user = chats.store.for_user(Workbench.session(chats.people()[0]))
    marks = user.view(str(first)).marks
    assert marks.flags == ("unsure",)
    assert chats.store.chat(str(first)).steps[3].id == marks.first_error
    page.keyboard.press("?")
    expect(page.locator(".pad .help")).to_contain_text("submit, and on to the next chat")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Enter")  # of what comes before the first error, step 3 is missing
    expect(page.locator(".pad .status.bad")).to_have_text("1 of 5 not rated yet. Submit again to leave it out.")
    expect(card(page, 2)).to_have_class("card here")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".pad")).not_to_have_attribute("data-chat", str(first))
    page.keyboard.press("u")
    expect(page.locator(".pad .status.bad")).to_contain_text("What you submitted is under My work")
    page.keyboard.press("s")
    page.keyboard.type("not a question")
    page.keyboard.press("Enter")
    saved(page)
    progress = user.queue_progress(EVERYTHING)
    assert (progress.submitted, progress.skipped) == (1, 1)
    kinds = {one["kind"] for one in user.everything()["events"]}
    assert kinds == {"dwell", "edit", "skip"}
    page.keyboard.press("?")
    page.get_by_role("button", name="are noted with your ratings").click()
    page.keyboard.press("Escape")
    before = len(user.everything()["events"])
    for key in ("3", "k", "4", "s", "Enter"):
        page.keyboard.press(key)
    saved(page)
    assert user.queue_progress(EVERYTHING).skipped == 2
    assert len(user.everything()["events"]) == before, "switched off, nothing is noted"
    no_exception(page)


def test_two_hundred_keys_in_four_seconds(serve: Serve, page: Page, chats: Workbench) -> None:
    open_pad(page, serve().url)
    begun = time.monotonic()
    for k in range(200):
        page.keyboard.press(str(1 + (k + k // 5) % 5))
        if k % 5 == 4:
            page.keyboard.press("k")
            page.keyboard.press("k")
            page.keyboard.press("k")
            page.keyboard.press("k")
    assert time.monotonic() - begun < 30
    saved(page)
    user = chats.store.for_user(Workbench.session(chats.people()[0]))
    chat = first_chat(chats)
    shown = {
        place: int(str(card(page, place).locator('[aria-checked="true"]').get_attribute("data-score"))) for place in range(5)
    }
    stored = user.ratings(chat)
    steps = [*(one.id for one in chats.store.chat(chat).steps), None]
    assert {place: stored[step].feedback_score for place, step in enumerate(steps)} == shown
    assert len(user.changes(chat)) + len(stored) == 200, "each key was stored, not only the last"


def test_without_a_connection_nothing_is_lost(serve: Serve, page: Page, chats: Workbench) -> None:
    open_pad(page, serve().url)
    page.keyboard.press("4")
    saved(page)
    page.context.set_offline(True)
    for key in "532":
        page.keyboard.press(key)
    expect(card(page, 1)).to_have_attribute("aria-label", "Step 2, 5 of 5 stars")
    expect(page.locator(".pad .status")).to_have_text("Saving …")
    page.wait_for_timeout(1500)
    page.context.set_offline(False)
    saved(page)
    assert scores(chats) == {"Part 1": 4, "Part 2": 5, "Part 3": 3, "Part 4": 2}


@pytest.mark.parametrize("refresh", [False, True], ids=["waits", "refreshes"])
def test_a_server_killed_in_mid_keystroke(refresh: bool, serve: Serve, page: Page, chats: Workbench) -> None:
    server = serve()
    open_pad(page, server.url)
    page.keyboard.press("4")
    saved(page)
    page.keyboard.press("5")
    server.process.kill()
    server.process.wait()
    page.keyboard.press("2")
    page.keyboard.press("1")
    expect(card(page, 3)).to_have_attribute("aria-label", "Step 4, 1 of 5 stars")
    kept = page.evaluate(
        "Object.keys(localStorage).filter((name) => name.startsWith('rlhf-pad:')).map((name) => localStorage[name])"
    )
    assert len(json.loads(kept[0])) >= 2
    serve(port=int(server.url.rpartition(":")[2]))
    if refresh:
        page.goto(f"{server.url}/label")
    saved(page)
    assert scores(chats) == {"Part 1": 4, "Part 2": 5, "Part 3": 2, "Part 4": 1}
    assert page.evaluate(KEPT) is None
    user = chats.store.for_user(Workbench.session(chats.people()[0]))
    assert user.changes(first_chat(chats)) == [], "sent again, stored once"


def test_a_server_begun_anew_under_a_quiet_pad(serve: Serve, page: Page, chats: Workbench) -> None:
    """Nothing was under way when it went, so nothing asks it for the page when it is back but the pad itself."""
    server = serve()
    open_pad(page, server.url)
    page.keyboard.press("4")
    saved(page)
    server.process.kill()
    server.process.wait()
    expect(page.get_by_role("dialog")).to_be_visible()  # that of the connection
    port = int(server.url.rpartition(":")[2])
    again = serve(port=port)
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.wait_for_timeout(3_000)  # connected, and quiet
    page.keyboard.press("5")
    expect(page.locator(".pad")).to_have_attribute("data-pending", "0", timeout=60_000)
    assert scores(chats) == {"Part 1": 4, "Part 2": 5}
    again.process.kill()
    again.process.wait()
    page.keyboard.press("2")
    expect(page.locator(".pad .status.bad")).to_contain_text("kept in this browser: the server does not answer", timeout=30_000)
    serve(port=port)
    expect(page.locator(".pad")).to_have_attribute("data-pending", "0", timeout=60_000)
    expect(page.locator(".pad .status")).to_have_text("Saved")
    assert scores(chats) == {"Part 1": 4, "Part 2": 5, "Part 3": 2}
    no_exception(page)


def test_words_for_what_was_just_rated(serve: Serve, page: Page, chats: Workbench) -> None:
    """A key that rates goes on to the next step; Enter still means the one that was rated. What cannot be commented on takes no
    letters for commands."""
    open_pad(page, serve().url)
    page.keyboard.press("4")
    page.keyboard.press("Enter")
    page.keyboard.type("too vague")
    page.keyboard.press("Enter")
    page.keyboard.press("j")  # a step that is not rated
    page.keyboard.press("Enter")
    expect(page.locator(".pad .status.bad")).to_have_text("Rate first, then comment.")
    page.keyboard.type("vague 5, guess")
    assert page.locator(".pad .ask").count() == 0
    page.wait_for_timeout(1600)
    page.keyboard.press("3")
    saved(page)
    user = chats.store.for_user(Workbench.session(chats.people()[0]))
    view = user.view(str(page.locator(".pad").get_attribute("data-chat")))
    assert {view.chat.steps[n].id: score for n, score in ((0, 4), (2, 3))} == {
        step: one.feedback_score for step, one in view.ratings.items()
    }
    assert view.ratings[view.chat.steps[0].id].comment == "too vague"
    assert (view.marks.first_error, view.marks.flags) == (None, ())


def test_by_tab_alone(serve: Serve, page: Page, chats: Workbench) -> None:
    open_pad(page, serve().url)
    card(page, 0).focus()
    page.keyboard.press("Tab")  # the stars are one stop
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")  # the second star
    saved(page)
    assert scores(chats) == {"Part 1": 2}
    for _ in range(6):  # thumbs and words of this step
        page.keyboard.press("Tab")
    expect(card(page, 1)).to_have_class("card here")  # on to the next step
    card(page, 0).focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="2 of 5 stars").first).to_be_focused()  # where one had chosen


def test_the_keys_window_and_what_comes_after_it(serve: Serve, page: Page, chats: Workbench) -> None:
    open_pad(page, serve().url)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys").get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Keys")).to_have_count(0)
    page.keyboard.press("3")
    saved(page)
    page.keyboard.press("j")
    page.keyboard.press("Enter")  # nothing is rated here yet
    expect(page.locator(".pad .status.bad")).to_have_text("Rate first, then comment.")
    page.keyboard.press("4")  # as it was told
    saved(page)
    assert scores(chats) == {"Part 1": 3, "Part 3": 4}


def test_a_queue_that_was_chosen_gets_the_next_key(serve: Serve, page: Page, chats: Workbench) -> None:
    chats.store.save_queue(Queue(new_id(), "Worst steps", "Mind the sources.", words="Question"))
    open_pad(page, serve().url)
    page.get_by_role("combobox").click()
    page.get_by_role("option", name="Worst steps").click()
    expect(page.get_by_text("Mind the sources.")).to_be_visible()  # guidelines are open until one folds them
    page.keyboard.press("5")
    saved(page)
    assert 5 in [view.feedback_score for view in mine(chats).values()]
    page.get_by_text("Guidelines: Worst steps").click()
    expect(page.get_by_text("Mind the sources.")).not_to_be_visible()
    page.reload()
    expect(card(page, 0)).to_be_visible()
    expect(page.get_by_text("Mind the sources.")).not_to_be_visible()


def test_words_that_were_begun_survive_a_reload(serve: Serve, page: Page, chats: Workbench) -> None:
    open_pad(page, serve().url)
    page.keyboard.press("w")
    page.get_by_label("How should this step read?").fill("Ask the career center first")
    page.reload()
    expect(card(page, 0)).to_be_visible()
    page.keyboard.press("w")
    expect(page.get_by_label("How should this step read?")).to_have_value("Ask the career center first")
    page.keyboard.press("Escape")
    page.keyboard.press("w")
    expect(page.get_by_label("How should this step read?")).to_have_value("Part 1")  # dropped is dropped


def test_another_page_and_back_shows_what_was_rated(serve: Serve, page: Page, chats: Workbench) -> None:
    open_pad(page, serve().url)
    page.keyboard.press("4")
    page.keyboard.press("2")
    saved(page)
    page.get_by_role("link", name="Home").first.click()
    expect(page.get_by_role("heading", name="RLHF Workbench")).to_be_visible()
    page.get_by_role("link", name="Label", exact=True).first.click()
    expect(card(page, 1)).to_have_attribute("aria-label", "Step 2, 2 of 5 stars")
    expect(card(page, 2)).to_have_attribute("aria-current", "true")  # where one goes on
    assert scores(chats) == {"Part 1": 4, "Part 2": 2}


def test_what_was_only_looked_at_is_given_back(serve: Serve, page: Page, chats: Workbench) -> None:
    queue = chats.store.save_queue(Queue(new_id(), "Few", words="Question 1"))
    assert len(chats.people()) == 1  # who is at the browser
    other = chats.add_person("~ Zoe")
    url = serve().url
    page.goto(f"{url}/label?queue={queue.id}")
    expect(card(page, 0)).to_be_visible()
    hers = chats.store.for_user(Workbench.session(other))
    assert hers.claim(queue.id, 3) == []
    page.get_by_role("link", name="Home").first.click()
    expect(page.get_by_role("heading", name="RLHF Workbench")).to_be_visible()
    for _ in range(50):  # it is given back beside the page
        if held := hers.claim(queue.id, 3):
            break
        page.wait_for_timeout(100)
    page.goto(f"{url}/label?queue={queue.id}")
    expect(page.locator(".pad .done")).to_contain_text("0 of 1 are done, and the rest you had, or others have now")
    hers.release(queue.id, held[0].chat.id)
    page.get_by_role("button", name="Look again").click()
    page.locator(".pad .card").first.wait_for()
    page.keyboard.press("e")
    saved(page)
    page.reload()  # and the session does not know of it any more
    expect(card(page, 0)).to_be_visible()
    page.get_by_role("link", name="Home").first.click()
    expect(page.get_by_role("heading", name="RLHF Workbench")).to_be_visible()
    page.wait_for_timeout(1_000)
    assert hers.claim(queue.id, 3) == [], "what was begun is kept"


def test_two_tabs_of_one_person(serve: Serve, page: Page, chats: Workbench) -> None:
    url = serve().url
    open_pad(page, url)
    other = page.context.new_page()
    open_pad(other, url)
    assert page.locator(".pad").get_attribute("data-chat") == other.locator(".pad").get_attribute("data-chat")
    page.keyboard.press("4")
    expect(card(other, 0)).to_have_attribute("aria-label", "Step 1, 4 of 5 stars")  # one tab knows of the other
    other.keyboard.press("j")
    other.keyboard.press("5")
    expect(card(page, 1)).to_have_attribute("aria-label", "Step 2, 5 of 5 stars")
    saved(page)
    saved(other)
    assert scores(chats) == {"Part 1": 4, "Part 2": 5}
    for _ in range(2):  # there are gaps
        page.keyboard.press("Control+Enter")
    saved(page)
    expect(other.locator(".pad .status")).to_have_text("You submitted the one before in another tab.")
    assert page.locator(".pad").get_attribute("data-chat") == other.locator(".pad").get_attribute("data-chat")
    other.keyboard.press("3")
    saved(other)
    expect(card(page, 0)).to_have_attribute("aria-label", "Step 1, 3 of 5 stars")
    assert chats.store.for_user(Workbench.session(chats.people()[0])).queue_progress(EVERYTHING).submitted == 1


def test_a_chat_deleted_under_the_annotator(serve: Serve, page: Page, chats: Workbench) -> None:
    open_pad(page, serve().url)
    with chats._database.transaction() as connection:
        connection.execute("DELETE FROM chats WHERE id = ?", (page.locator(".pad").get_attribute("data-chat"),))
    page.keyboard.press("4")
    expect(page.locator(".pad .status.bad")).to_contain_text("Not saved")
    page.reload()
    expect(card(page, 0)).to_contain_text("Part 1")
    no_exception(page)


HOSTILE = [
    "<script>window.hacked = 1</script> <img src=x onerror='window.hacked = 1'>",
    "x" * 1_000_000,
    "שלום עולם 🌞 " * 3,
    "| a " * 3_000,
    r"\( \frac{1}{2} \) and $$ \sum_i x_i $$",
    "```\n<b onclick='window.hacked = 1'>x</b>\n```",
]


def test_hostile_and_huge_steps(serve: Serve, page: Page, workbench: Workbench, tmp_path: Path) -> None:
    record: dict[str, Any] = {"query": "<script>window.hacked = 1</script>?", "steps": HOSTILE}
    long = {"query": "long?", "steps": [f"step {k}" for k in range(200)]}
    importing.import_file(workbench, write_lines(tmp_path / "c.jsonl", [record, long]))
    open_pad(page, serve().url)
    seen = set()
    for _ in range(2):
        expect(card(page, 0)).to_be_visible()
        seen.add(page.locator(".pad .card").count())
        for key in ("3", "End", "k", "4"):
            page.keyboard.press(key)
        page.wait_for_timeout(300)
        assert page.evaluate("window.hacked") is None
        for _ in range(2):  # there are gaps
            page.keyboard.press("Control+Enter")
        saved(page)
    assert seen == {len(HOSTILE) + 1, 201}
    no_exception(page)


def test_at_phone_width_by_touch(serve: Serve, browser: Any, chats: Workbench) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    open_pad(page, serve().url)
    for place in range(2):
        card(page, place).locator('[data-score="4"]').tap()
    card(page, 1).get_by_role("button", name="First error").tap()
    saved(page)
    assert scores(chats) == {"Part 1": 4, "Part 2": 4}
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
