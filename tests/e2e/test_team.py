"""A team at work: two annotators and an administrator, each in a browser of their own, on a real server and a real Postgres."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from rlhf_core.ground.settings import Workspace
from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.supabase import SupabaseStore
from tests.e2e.conftest import Server
from tests.e2e.test_journey import card, no_exception, rate, saved
from tests.supabase.server import PASSWORD, TeamServer

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def team_settings(team: TeamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in team.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", team.secret_key)  # as in a careless shell: the app must let go of it


@contextmanager
def at_a_browser(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(30_000)
    yield context
    context.close()


def field(page: Page, name: str) -> Locator:
    return page.get_by_role("textbox", name=name, exact=True)


def sign_in(page: Page, email: str) -> None:
    field(page, "E-mail").fill(email)
    field(page, "Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).last.click()


def sign_up(page: Page, url: str, name: str) -> str:
    email = f"{name.lower()}.{time.time_ns()}@example.com"
    page.goto(f"{url}/label")
    page.get_by_text("Create an account").click()
    field(page, "Your name").fill(name)
    field(page, "E-mail").fill(email)
    field(page, "Password").fill(PASSWORD)
    page.get_by_role("button", name="Create the account").click()
    expect(page.get_by_role("heading", name=f"Welcome, {name}")).to_be_visible()
    return email


def eventually(true: Callable[[], bool]) -> None:
    for _ in range(100):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("not within ten seconds")


def menu(page: Page, name: str) -> None:
    page.locator('[data-testid="stSidebarNavLink"]').get_by_text(name, exact=True).click()


def pick(page: Page, label: str, option: str) -> None:
    """Choose from a menu; a page that is drawn anew closes an open one, so open it again, as a person would."""
    for patience_ms in (3_000, 6_000, 30_000):
        page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
        page.get_by_role("combobox", name=label).click()
        try:
            page.get_by_role("option", name=option).click(timeout=patience_ms)
        except PlaywrightTimeout:
            page.keyboard.press("Escape")
        else:
            return
    raise AssertionError(f"{label} never offered {option}")


def test_two_annotators_and_an_administrator(
    serve: Callable[[], Server], browser: Browser, team: TeamServer, operator: SupabaseStore
) -> None:
    server = serve()
    with at_a_browser(browser) as ada_s, at_a_browser(browser) as ana_s, at_a_browser(browser) as ben_s:
        ada, ana, ben = (context.new_page() for context in (ada_s, ana_s, ben_s))

        # everybody signs up; the operator makes the first administrator
        email = sign_up(ada, server.url, "Ada")
        for page, name in ((ana, "Ana"), (ben, "Ben")):
            sign_up(page, server.url, name)
        team.sql(
            "update public.profiles set role = 'admin' where user_id = (select id from auth.users where email = %s)", (email,)
        )
        ada.get_by_role("button", name="Look again").click()
        expect(ada.get_by_role("link", name="Import").first).to_be_visible()
        menu(ada, "Home")
        ada.get_by_role("button", name="Load the demo set").click()
        expect(ada.get_by_text("chats with 321 steps")).to_be_visible()

        # she gives the others roles
        menu(ada, "Team")
        for name in ("Ana", "Ben"):
            pick(ada, f"Role of {name}", "annotator")
            eventually(
                lambda name=name: (
                    team.sql("select role from public.profiles where display_name = %s", (name,)) == [("annotator",)]
                )
            )
        no_exception(ada)

        # they rate side by side, each their own chats, and see nothing of each other
        for page in (ana, ben):
            page.get_by_role("button", name="Look again").click()
            expect(card(page, 0)).to_be_visible()
        chats = [page.locator(".pad").get_attribute("data-chat") for page in (ana, ben)]
        assert chats[0] != chats[1], "one item is handed to one person"
        for place in range(3):
            rate(ana, place, 5)
            rate(ben, place, 2)
        for page in (ana, ben):
            saved(page)
        assert team.sql(
            "select p.display_name, count(*), min(f.feedback_score) from public.chat_feedback f join public.profiles p "
            "using (user_id) where p.origin = 'account' group by 1 order by 1"
        ) == [("Ana", 3, 5), ("Ben", 3, 2)]

        # no page of the others' is in their menu, and its address leads nowhere
        expect(ana.locator('[data-testid="stSidebarNavLink"]')).to_have_count(5)
        url = ana.url
        for address in ("train", "snapshots", "team", "import", "compare"):
            ana.goto(f"{server.url}/{address}")
            expect(ana.get_by_text("Your role is annotator")).to_be_visible()
        ana.goto(url)
        expect(card(ana, 2)).to_have_attribute("aria-label", "Step 3, 5 of 5 stars")

        # a refresh and a second tab keep who they are; the cookie is out of scripts' reach
        second = ana_s.new_page()
        second.goto(url)
        expect(card(second, 2)).to_have_attribute("aria-label", "Step 3, 5 of 5 stars")
        assert "rlhf_workbench" not in second.evaluate("document.cookie")
        (cookie,) = [one for one in ana_s.cookies() if one["name"].startswith("rlhf_workbench")]
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")

        # signing out ends both tabs, and the next person at this browser starts afresh
        menu(second, "Ana")
        second.get_by_role("button", name="Sign out").click()
        expect(field(second, "Password")).to_be_visible()
        rate(ana, 0, 1)
        expect(field(ana, "Password")).to_be_visible()
        expect(ana.get_by_text("Your session has ended")).to_be_visible()
        second.reload()
        expect(field(second, "Password")).to_be_visible()
        sign_in(second, email)
        expect(second.locator('[data-testid="stSidebarNavLink"]')).to_have_count(23)
        no_exception(second)

        # the administrator freezes everybody's ratings
        menu(ada, "Snapshots")
        ada.get_by_role("button", name="Take a snapshot").click()
        expect(ada.get_by_role("link", name="Explore it")).to_be_visible()
        no_exception(ada)

        workbench = Workbench(Workspace.resolve())
        (snapshot,) = snapshots.listing(workbench)
        assert (snapshot.ratings, snapshot.facts["raters"]) == (822 + 6, 6)
        workbench.close()
        for page in (ada, ana, ben, second):
            assert team.secret_key not in page.content()
        assert team.secret_key not in server.log.read_text()


def test_a_store_that_goes_away_in_mid_work(serve: Callable[[], Server], browser: Browser, team: TeamServer) -> None:
    """The pad stays and is rated on; what was typed is stored when the store is back, and shown as it is."""
    server = serve()
    with at_a_browser(browser) as ana_s:
        ana = ana_s.new_page()
        email = sign_up(ana, server.url, "Ana")
        team.sql(
            "update public.profiles set role = 'engineer' where user_id = (select id from auth.users where email = %s)", (email,)
        )
        ana.get_by_role("button", name="Look again").click()
        expect(ana.get_by_text("There is nothing to rate here yet")).to_be_visible()
        menu(ana, "Home")
        ana.get_by_role("button", name="Load the demo set").click()
        expect(ana.get_by_text("chats with 321 steps")).to_be_visible()
        menu(ana, "Label")
        rate(ana, 0, 4)
        saved(ana)
        team.stop(kill=True)
        try:
            rate(ana, 1, 2)
            expect(ana.locator(".pad .status.bad")).to_contain_text("kept in this browser: the store does not answer")
            expect(card(ana, 0)).to_have_attribute("aria-label", "Step 1, 4 of 5 stars")
            rate(ana, 2, 3)
            expect(card(ana, 2)).to_have_attribute("aria-label", "Step 3, 3 of 5 stars")
        finally:
            team.start()
        saved(ana)
        for place, score in enumerate((4, 2, 3)):
            expect(card(ana, place)).to_have_attribute("aria-label", f"Step {place + 1}, {score} of 5 stars")
        expect(ana.get_by_text("Not saved yet")).to_have_count(0)
        assert team.sql(
            "select count(*), sum(f.feedback_score) from public.chat_feedback f join public.profiles p using (user_id) "
            "where p.origin = 'account'"
        ) == [(3, 9)]
        menu(ana, "Home")
        menu(ana, "Label")
        expect(card(ana, 2)).to_have_attribute("aria-label", "Step 3, 3 of 5 stars")

        # and one that takes requests and never answers
        assert team._process is not None
        os.kill(team._process.pid, signal.SIGSTOP)
        try:
            rate(ana, 0, 5)
            expect(ana.locator(".pad .status.bad")).to_contain_text("kept in this browser", timeout=40_000)
            ana.wait_for_timeout(20_000)  # the whole page is asked for meanwhile
            expect(card(ana, 0)).to_have_attribute("aria-label", "Step 1, 5 of 5 stars")
        finally:
            os.kill(team._process.pid, signal.SIGCONT)
        expect(ana.locator(".pad")).to_have_attribute("data-pending", "0", timeout=60_000)
        for place, score in enumerate((5, 2, 3)):
            expect(card(ana, place)).to_have_attribute("aria-label", f"Step {place + 1}, {score} of 5 stars")
        no_exception(ana)


def test_the_cookies_route_serves_only_tickets(serve: Callable[[], Server]) -> None:
    url = f"{serve().url}/browser"
    for headers, body in (({}, "x"), ({"X-Workbench": "1"}, "x"), ({"X-Workbench": "1"}, ""), ({"X-Workbench": "1"}, "é" * 999)):
        answer = httpx.post(url, content=body.encode(), headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    assert httpx.get(url).status_code != 500
