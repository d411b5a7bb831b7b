"""Two people and an administrator on a team's store, in real browsers: pairs, rubrics, rewrites, known answers, disputes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Page, expect

from rlhf_core.ground.judgement import Aspect, GoldAnswer
from rlhf_core.ground.records import EVERYTHING, Queue, new_id
from rlhf_core.services import demo as demo_set
from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.supabase import SupabaseStore
from tests.e2e.conftest import Server
from tests.e2e.test_journey import card, no_exception, rate, saved
from tests.e2e.test_team import at_a_browser, field, menu, sign_in
from tests.supabase.server import TeamServer

pytestmark = pytest.mark.slow
Serve = Callable[..., Server]


@pytest.fixture
def team_workbench(
    team: TeamServer, operator: SupabaseStore, monkeypatch: pytest.MonkeyPatch, root: object
) -> Iterator[Workbench]:
    """The demonstration set on a team's store, as its operator sees it."""
    for name, value in team.environment.items():
        monkeypatch.setenv(name, value)
    opened = Workbench.open()
    opened._store = operator
    demo_set.load_demo(opened)
    yield opened
    opened.close()


def choose(page: Page, place: int, number: int) -> None:
    card(page, place).locator(f'[data-choice="{number}"]').click()


def test_two_people_choose_and_an_administrator_settles_it(
    serve: Serve, browser: Browser, team: TeamServer, team_workbench: Workbench
) -> None:
    kay, uma, vic = (
        team.add_account(name, role) for name, role in (("Kay", "admin"), ("Uma", "annotator"), ("Vic", "annotator"))
    )
    queue = team_workbench.store.save_queue(Queue(new_id(), "Twice", task="choose", overlap=2, words="New Bedford"))
    team_workbench.store.save_rubric(queue.id, [Aspect("helpful", "Which would help more?")])
    server = serve()
    with at_a_browser(browser) as one, at_a_browser(browser) as two, at_a_browser(browser) as three:
        pages = [context.new_page() for context in (one, two, three)]
        for page, (_, email) in zip(pages, (uma, vic, kay), strict=True):
            page.goto(f"{server.url}/prefer")
            sign_in(page, email)
        first, second, keeper = pages
        for page in (first, second):
            page.get_by_role("combobox", name="Queue").click()
            page.get_by_role("option", name="Twice").click()
            expect(page.get_by_text("Should I move to New Bedford")).to_be_visible()
            expect(page.locator(".pad .answer")).to_have_count(2)
            page.get_by_role("heading", name="All in all").click()  # out of the menu, which takes keys itself

        # each says which answer is better by what they see on their own side; they disagree
        def better(page: Page, text: str) -> str:
            return "A" if text in page.locator(".pad .answer").first.inner_text() else "B"

        for page, text in ((first, "Visit first"), (second, "It depends on your family")):
            page.keyboard.press("1" if better(page, text) == "A" else "7")  # much better
            expect(card(page, 0)).to_have_attribute("aria-label", f"All in all, {better(page, text)} is much better")
            page.keyboard.press("4")  # helpful: equal
            page.keyboard.press("k")
            page.keyboard.press("Enter")
            page.keyboard.type("because 1 2 3")
            page.keyboard.press("Enter")
            saved(page)
        second.reload()
        expect(second.get_by_text("Should I move to New Bedford")).to_be_visible()
        expect(second.locator(".pad .said").first).to_have_text("because 1 2 3")
        rows = team.sql(
            "select verdict, strength, aspect, comment, shown_left is not null from public.preferences p "
            "join public.profiles who using (user_id) where who.origin = 'account' order by aspect, verdict"
        )
        assert {row[0] for row in rows[:2]} == {"chat", "other"}
        assert [row[1:] for row in rows] == [(3, "", "because 1 2 3", True)] * 2 + [(None, "helpful", None, True)] * 2

        # step by step, then back as a whole; what was said stays
        first.keyboard.press("d")
        expect(first.locator(".pad .choice")).to_have_count(5)
        first.keyboard.press("0")
        saved(first)
        assert team.sql("select step_order, verdict from public.preferences where step_order is not null") == [(1, "both_bad")]
        first.keyboard.press("u")
        first.keyboard.press("d")
        expect(first.locator(".pad .choice")).to_have_count(2)
        saved(first)
        assert team.sql("select count(*) from public.preferences where step_order is not null") == [(0,)]
        for page in (first, second):
            page.keyboard.press("Control+Enter")
            expect(page.get_by_text(re.compile("verything in this queue"))).to_be_visible()
            saved(page)
            no_exception(page)
        progress = team.sql("select count(*) from public.assignments where status = 'submitted' and other_id is not null")
        assert progress == [(2,)]

        # what one chose can be looked at again and changed
        menu(first, "My work")
        first.get_by_role("button", name="Should I move to New Bedford").click()
        first.get_by_role("link", name="Look at it and change it").click()
        expect(first.get_by_text("Judged before; 1 of 1 chosen")).to_be_visible()
        no_exception(first)

        # no annotator settles disputes; the administrator does, and it goes into the snapshot
        first.goto(f"{server.url}/disputes")
        expect(first.get_by_text("Your role is annotator")).to_be_visible()
        menu(keeper, "Disputes")
        keeper.get_by_role("button", name="Should I move to New Bedford").click()
        keeper.get_by_role("radio", name="Equal").or_(keeper.get_by_role("button", name="Equal")).first.click()
        field(keeper, "Why").fill("Both are honest.")
        keeper.get_by_role("button", name="Decide").click()
        expect(keeper.get_by_text("Decided, better is: equal: Both are honest.")).to_be_visible()
        no_exception(keeper)
        assert team.sql("select kind, value, reason from public.decisions") == [("preference", "tie", "Both are honest.")]
    snapshot, _ = snapshots.take(team_workbench)
    assert (snapshot.rows["preferences"], snapshot.rows["decisions"]) == (32 + 4, 1)


def test_a_known_answer_is_told_only_after_submitting(serve: Serve, page: Page, judged: Workbench) -> None:
    person = Workbench.session(judged.people()[0])
    keeper = judged.store.for_user(person)
    chat = judged.store.chat(judged.store.search_chats(limit=20)[12].id)
    queue = judged.store.save_queue(Queue(new_id(), "Screened", screening=1, screening_pass=0.5, words=chat.query))
    keeper.save_gold(chat.id, GoldAnswer({chat.steps[0].id: 1, None: 5}, chat.steps[0].id), "The **first** step <b>misleads</b>.")
    judged.store.set_hints(queue.id, "ck-2", {chat.id: {chat.steps[0].id: 1.75}})
    judged.store.save_queue(replace(queue, hint_checkpoint="ck-2"))
    page.goto(f"{serve().url}/label")
    page.get_by_role("combobox", name="Queue").click()
    page.get_by_role("option", name="Screened").click()
    expect(page.get_by_text(chat.query)).to_be_visible()
    assert "misleads" not in page.content()
    rate(page, 0, 2)
    rate(page, len(chat.steps), 2)
    saved(page)
    assert "misleads" not in page.content()
    assert "1.75" not in page.content()
    for _ in range(2):  # not all is rated
        page.get_by_role("button", name="Submit and next").click()
    told = page.locator(".pad .told")
    expect(told).to_contain_text("you were right on 2 of 3")
    expect(told).to_contain_text("The first step <b>misleads</b>.")
    assert told.locator("b").count() == 0
    expect(told).to_contain_text("1.75 stars")
    told.get_by_role("button", name="Look at it again").click()
    expect(page.get_by_text("Judged before")).to_be_visible()
    rate(page, 0, 1)
    saved(page)
    page.get_by_role("button", name="Done").click()
    expect(page.locator(".pad .done")).to_be_visible()
    no_exception(page)
    with judged.store.export() as export:
        shown = [row for batch in export.rows("hints_shown") for row in batch if row[5] == "ck-2"]
    assert [(row[3], row[6], row[7]) for row in shown] == [(chat.steps[0].id, 1.75, "2")]


def test_a_step_is_written_anew(serve: Serve, page: Page, demo: Workbench) -> None:
    page.goto(f"{serve().url}/label")
    expect(card(page, 1)).to_be_visible()
    chat = str(page.locator(".pad").get_attribute("data-chat"))
    page.keyboard.press("j")
    page.keyboard.press("e")
    page.keyboard.press("w")
    area = page.get_by_role("textbox", name="How should this step read?")
    assert area.input_value() == demo.store.chat(chat).steps[1].step_content
    area.fill("Ask the career center which shops are hiring.\nThen call two of them.")
    area.press("Enter")
    expect(card(page, 1).locator(".better")).to_contain_text("Ask the career center")
    expect(card(page, 1)).to_have_attribute("aria-label", re.compile("1 of 5 stars, the first error"))
    saved(page)
    page.reload()
    expect(card(page, 1).locator(".better")).to_contain_text("Ask the career center")
    (made,) = [one for one in demo.store.search_chats(limit=500) if one.source == "rewrite"]
    assert demo.store.chat(made.id).steps[-1].step_content.startswith("Ask the career center")
    for _ in range(9):
        page.keyboard.press("k")
    page.keyboard.press("j")
    page.keyboard.press("w")
    page.get_by_role("textbox", name="How should this step read?").fill("")
    page.keyboard.press("Enter")
    expect(card(page, 1).locator(".better")).to_be_empty()
    saved(page)
    assert [one for one in demo.store.search_chats(limit=500) if one.source == "rewrite"] == []

    # undone at once, the rating that it brought is undone too
    rate(page, 2, 5)
    page.keyboard.press("w")
    page.get_by_role("textbox", name="How should this step read?").fill("Better.")
    page.keyboard.press("Enter")
    expect(card(page, 2)).to_have_attribute("aria-label", re.compile("1 of 5 stars"))
    page.keyboard.press("u")
    expect(card(page, 2)).to_have_attribute("aria-label", re.compile("5 of 5 stars"))
    saved(page)
    mine = demo.store.for_user(Workbench.session(demo.people()[0])).ratings(chat)
    assert mine[demo.store.chat(chat).steps[2].id].feedback_score == 5
    no_exception(page)


def test_one_question_at_a_time(serve: Serve, page: Page, demo: Workbench) -> None:
    queue = demo.store.save_queue(Queue(EVERYTHING, "Everything", asks="aspects"))
    aspects = [Aspect("factual", "Is it true?", "answer", {1: "made up", 5: "checked"}), Aspect("kind", "Is it kind?"),
               Aspect("safe", "Could it hurt?", "step")]  # fmt: skip
    demo.store.save_rubric(queue.id, aspects)
    page.goto(f"{serve().url}/label")
    expect(page.locator(".pad .card.here")).to_contain_text("Could it hurt?")
    steps = page.locator(".pad .context").count()
    assert page.locator(".pad .card").count() == steps + 2
    assert page.locator(".pad .card .words:visible").count() == 1
    for _ in range(steps):
        page.keyboard.press("5")
    expect(page.locator(".pad .card.here")).to_contain_text("Is it true?")
    expect(page.locator(".pad .card.here .anchors")).to_contain_text("made up")
    page.keyboard.press("1")
    page.keyboard.press("2")
    page.keyboard.press("u")
    saved(page)
    mine = demo.store.for_user(Workbench.session(demo.people()[0]))
    kept = mine.everything()
    assert sorted((one["aspect"], one["score"]) for one in kept["aspect_ratings"]) == [("factual", 1), *[("safe", 5)] * steps]
    assert kept["feedback"] == []
    no_exception(page)


def test_choices_made_offline_and_over_a_refresh_are_not_lost(serve: Serve, page: Page, judged: Workbench) -> None:
    server = serve()
    page.goto(f"{server.url}/prefer")
    expect(card(page, 0)).to_be_visible()
    pair = str(page.locator(".pad").get_attribute("data-chat")).split("+")
    port = int(server.url.rpartition(":")[2])
    server.process.kill()
    server.process.wait()
    page.keyboard.press("6")
    page.keyboard.press("k")
    page.keyboard.press("2")
    expect(card(page, 0)).to_have_attribute("aria-label", "All in all, A is clearly better")
    serve(port)
    page.goto(f"{server.url}/prefer")
    saved(page)
    expect(card(page, 0)).to_have_attribute("aria-label", "All in all, A is clearly better")
    mine = judged.store.for_user(Workbench.session(judged.people()[0])).view(*pair)
    assert [one.strength for one in mine.preferences.values()] == [2]
    no_exception(page)
