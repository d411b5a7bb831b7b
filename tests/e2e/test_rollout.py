"""A roll-out decided in a real browser: a reason for everything, 5% to everybody, and back by itself while one looks on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from rlhf_core.services import collecting, rolling_out
from rlhf_core.services.workbench import Workbench
from tests.e2e.conftest import Server
from tests.e2e.test_journey import no_exception
from tests.services.test_rolling_out import Make, answer, make

pytestmark = pytest.mark.slow
__all__ = ["make"]  # a fixture
Serve = Callable[..., Server]


def decide(page: Page, button: str, reason: str) -> None:
    page.get_by_role("textbox", name="Why").fill(reason)
    page.get_by_role("button", name=button).click()


def test_from_the_first_checkpoint_to_everybody_and_back(serve: Serve, page: Page, workbench: Workbench, make: Make) -> None:
    url = serve().url
    page.goto(f"{url}/rollout")
    expect(page.get_by_text("There is no checkpoint of this kind that could serve.")).to_be_visible()
    old, new = make("old").id, make("new").id
    page.reload()

    def choose(checkpoint: str) -> None:
        page.get_by_role("combobox", name="Checkpoint").click()
        page.get_by_role("option", name=checkpoint).click()

    choose(old)
    page.get_by_role("button", name="Let it serve everybody").click()
    expect(page.get_by_text("Say why, in at most 2,000 characters")).to_be_visible()
    decide(page, "Let it serve everybody", "the first one")
    expect(page.get_by_role("button", name="Give it to this share")).to_be_visible()
    decide(page, "Give it to this share", "better in tests")
    expect(page.get_by_text("5% of people")).to_be_visible()
    expect(page.get_by_text("Nobody has rated an answer of the canary yet").first).to_be_visible()
    expect(page.get_by_role("button", name="Change the share")).to_be_visible()  # the form is drawn after what stands above it
    shares = page.get_by_role("combobox", name="Share of people")
    shares.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # a list that opens while the page still moves closes again
    shares.click()
    page.get_by_role("option", name="50%").click()
    decide(page, "Change the share", "quicker for a test")
    expect(page.get_by_text("50% of people")).to_be_visible()
    assert rolling_out.state(workbench, "policy").canary == new

    # nothing speaks for it yet: everybody gets it only where that is said once more
    decide(page, "Let it serve everybody", "I like it")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Nobody has rated an answer of the canary yet")
    expect(dialog).to_contain_text(f"Nothing shows yet that {new} is no worse for people than {old}")
    dialog.get_by_role("button", name="Keep things as they are").click()
    expect(dialog).to_have_count(0)
    assert rolling_out.state(workbench, "policy").canary == new

    # bad ratings come in while the page is open: the server itself takes it back, and the page follows
    caller = collecting.caller_of(workbench, collecting.add_application(workbench, "Assistant", per_minute=10**6)[1])
    for number in range(120):
        person = f"person {number}"
        arm = collecting.assignment(workbench, caller, "policy", person).arm
        answer(workbench, caller, person, 1, 1 + number % 2 if arm == "canary" else 4 + number % 2)
    expect(page.get_by_role("button", name="Give it to this share")).to_be_visible(timeout=40_000)
    last = rolling_out.history(workbench, "policy")[-1]
    assert (last.act, last.who) == ("back", "the workbench")
    assert last.reason.startswith("People rate its answers lower")
    decide(page, "Give it to this share", "again")
    expect(page.get_by_text("was taken back on")).to_be_visible()
    page.get_by_text("Even if it was taken back before").click()
    decide(page, "Let it serve everybody", "for all that")
    page.get_by_role("dialog").get_by_role("button", name="Serve everybody all the same").click()
    expect(page.get_by_role("button", name=f"Back to {old}")).to_be_visible()
    last = rolling_out.history(workbench, "policy")[-1]
    assert (last.act, last.checkpoint_id, rolling_out.done(last)) == ("serve", new, "lets it serve everybody, unproven")
    no_exception(page)
