"""A workspace in which every field that a person or a model can fill is hostile, and every page over it in a browser whose
content security policy is switched off: nothing of theirs runs, and nobody's server is asked for anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from rlhf_core.ground.judgement import Aspect, Decision
from rlhf_core.ground.records import LabelOp, Queue, new_id
from rlhf_core.ground.rollout import next_entry
from rlhf_core.services import collecting, importing, snapshots
from rlhf_core.services.workbench import Workbench
from tests.conftest import write_lines
from tests.e2e.conftest import Server
from tests.e2e.test_accessible import settle
from tests.services.test_lineage import made

pytestmark = pytest.mark.slow

HOSTILE = (
    "{n} ![x](http://evil.example/{n}.png)<img src=//evil.example/{n} onerror=\"window.owned='{n}'\">"
    "<script>window.owned = '{n}'</script><svg/onload=\"window.owned='{n}'\"> `$`![x](http://evil.example/{n}-b.png?a=b)`$`"
    " \\$![x](http://evil.example/{n}-c.png?a=b)$ [y](javascript:window.owned='{n}') :material/home: </textarea>"
    "<iframe src=//evil.example/{n}></iframe>"
)


def hostile(name: str) -> str:
    return HOSTILE.replace("{n}", name)


@pytest.fixture
def poisoned(workbench: Workbench, tmp_path: Any) -> dict[str, str]:
    """Ids by kind."""
    name = hostile("name")[:200]
    records = []
    for k in range(6):
        judged = [{"step": 1, "score": 1 + k % 5, "rater": f"{k % 2}{name}"[:190], "comment": hostile("comment")}]
        judged += [{"step": 1, "score": 5 - k % 5, "rater": "Rui", "comment": hostile("other")}, {"score": 1, "rater": "Rui"}]
        records.append({
            "id": f"{k}{hostile('id')}"[:150], "query": f"{k // 2} " + hostile("query"),
            "steps": [hostile("step"), hostile("later")],
            "source": hostile("source")[:100], "model": hostile("model")[:100], "feedback": judged,
        })  # fmt: skip
    importing.import_file(workbench, write_lines(tmp_path / "poison.jsonl", records))
    people = [workbench.add_person(f"{k}{name}"[:190]) for k in range(2)]
    store = workbench.store
    queue = store.save_queue(Queue(new_id(), name, guidelines=hostile("guidelines"), overlap=3))
    store.save_rubric(queue.id, [Aspect("tone", hostile("rubric")[:400], "answer", {1: hostile("anchor")[:200]})])
    chats = [store.chat(one.id) for one in store.search_chats(limit=6)]
    for k, person in enumerate(people):
        mine = store.for_user(Workbench.session(person))
        for chat in chats[:4]:
            mine.rate(chat.id, chat.steps[0].id, 1 if k else 5, "stars")
            mine.comment(chat.id, chat.steps[0].id, hostile("mine"))
        verdict = {
            "other": chats[1].id,
            "verdict": "chat" if k else "other",
            "strength": 2,
            "left": chats[0].id,
            "comment": hostile("pair"),
        }
        first, second = sorted((chats[0].id, chats[1].id))
        ops = [LabelOp(new_id(), "prefer", first, None, verdict | {"other": second, "left": first})]
        ops.append(LabelOp(new_id(), "rewrite", chats[2].id, chats[2].steps[1].id, {"text": hostile("rewrite")}))
        ops.append(
            LabelOp(new_id(), "skip", chats[5].id, None, {"queue": queue.id, "reason": hostile("reason")[:400], "noted": True})
        )
        mine.apply(ops)
    keeper = store.for_user(Workbench.session(people[0]))
    keeper.decide(Decision(new_id(), chats[0].id, None, chats[0].steps[0].id, "score", "2", hostile("decision")))
    collecting.add_application(workbench, hostile("app")[:190].replace("\n", " "))
    snapshot, _ = snapshots.take(workbench)
    home = workbench.workspace
    run = workbench.ledger.add("run-1", "reward", {"reward_base_model": hostile("base")}, snapshot.id, requested_by=name)
    checkpoint = made(workbench, run, parent=hostile("parent"))
    folder = home.run_folder(run.id)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(run.config))
    (folder / "log.txt").write_text(hostile("log"))
    workbench.ledger.claim(run.id, "here")
    workbench.ledger.finish(run.id, "failed", hostile("message"), checkpoint.id)
    store.rollout.add(next_entry("reward", None, "serve", who=name, reason=hostile("why"), checkpoint_id=checkpoint.id))
    store.save_queue(replace(queue, hint_checkpoint=checkpoint.id))
    workbench.note("model serve", hostile("what")[:400], who=name, reason=hostile("detail"))
    return {
        "chat": chats[0].id,
        "other": chats[1].id,
        "run": run.id,
        "snapshot": snapshot.id,
        "checkpoint": checkpoint.id,
        "queue": queue.id,
    }


def test_no_page_runs_or_fetches_what_somebody_wrote(
    poisoned: dict[str, str], serve: Callable[..., Server], browser: Browser
) -> None:  # fmt: skip
    url = serve().url
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, bypass_csp=True)
    page = context.new_page()
    page.set_default_timeout(30_000)
    asked: list[str] = []

    def listen(request: Request) -> None:
        if urlsplit(request.url).hostname not in ("127.0.0.1", None, "") and request.url.startswith("http"):
            asked.append(f"{page.url} asked {request.url}")

    page.on("request", listen)
    page.on("dialog", lambda dialog: asked.append(f"{page.url} showed {dialog.message}"))
    page.goto(url)
    settle(page)
    addresses = [str(link.get_attribute("href")) for link in page.get_by_test_id("stSidebarNavLink").all()]
    word, ids = quote(hostile("address"), safe=""), poisoned
    pair = sorted((ids["chat"], ids["other"]))
    paths = [
        f"label?chat={ids['chat']}", f"prefer?chat={pair[0]}&other={pair[1]}", f"label?queue={ids['queue']}",
        f"label?chat={word}",
        f"train?run={ids['run']}", f"train?run={word}", f"runs?run={ids['run']}", f"runs?run={word}",
        f"snapshots?snapshot={ids['snapshot']}", f"snapshots?snapshot={word}", f"models?checkpoint={ids['checkpoint']}",
        f"models?checkpoint={word}", f"compare?chat={ids['chat']}", f"compare?chat={word}",
        f"playground?chat={ids['chat']}&step=1", f"explore?source={word}", f"explore?tab={word}&{word}={word}",
    ]  # fmt: skip
    addresses += [f"{url}/{path}" for path in paths]
    for address in addresses:
        page.goto(address)
        settle(page)
        look_closer(page)
        assert page.evaluate("window.owned") is None, address
    context.close()
    assert not asked, "\n".join(asked)


def look_closer(page: Page) -> None:
    """Open what is closed, and choose what can be chosen in a list of rows and in views."""
    expect(page.get_by_test_id("stMain")).to_be_visible()
    for closed in page.locator("[data-testid=stMain] details:not([open]) > summary").all()[:6]:
        if closed.is_visible():
            closed.click()
    rows = page.locator("[data-testid=stMain] [data-testid=stBaseButton-tertiary]")
    if rows.count() and rows.first.is_enabled():
        rows.first.click()
        settle(page)
    views = page.locator("[data-testid=stMain] [data-testid^=stBaseButton-segmented_control]")
    for k in range(1, min(views.count(), 6)):
        if views.nth(k).is_visible():
            views.nth(k).click()
            settle(page)
