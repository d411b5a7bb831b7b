"""How the label pad feels: key to paint, submit to next chat, key to durable; ten annotators at once; fast keys; memory.

A real browser against the real server on 12-step chats; beside it a plain page of native widgets over the same store, in the
same run. Last line: one JSON object.

    python benchmarks/label.py [--rounds 40] [--people 10]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # and not this folder, where a file would pass for a library

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from rlhf_core.ground.records import EVERYTHING
from rlhf_core.ground.settings import Workspace
from rlhf_core.services import importing
from rlhf_core.services.workbench import Workbench
from tests.conftest import write_lines
from tests.e2e.conftest import CHROMIUM_ARGUMENTS, Server, start_server
from tests.install_browser import find_browser

STEPS = 12
NATIVE = """
import os
import streamlit as st
from rlhf_core.ground.records import EVERYTHING, LabelOp, new_id
from rlhf_core.services.workbench import Workbench
workbench = st.cache_resource(Workbench.open)()
session = Workbench.session(workbench.people()[0])
mine = workbench.store.for_user(session)
def rate(chat, step, key):
    mine.rate(chat, step, st.session_state[key] + 1, "stars")
def submit(chat):
    mine.apply([LabelOp(new_id(), "submit", chat, None, {"queue": EVERYTHING})])
(view,) = mine.claim(EVERYTHING, 1)
st.markdown(view.chat.query)
for step in view.chat.steps:
    st.markdown(step.step_content)
    key = f"stars:{step.id}"
    st.feedback("stars", key=key, on_change=rate, args=(view.chat.id, step.id, key))
st.button("Next", on_click=submit, args=(view.chat.id,))
"""
HELPERS = """
() => {
  const pad = () => document.querySelector("[data-testid=stApp]") && window.__find();
  window.__find = () => {
    const walk = (root) => { const hit = root.querySelector(".pad[data-chat]"); if (hit) return hit;
      for (const one of root.querySelectorAll("*")) if (one.shadowRoot) { const found = walk(one.shadowRoot); if (found) return found; }
      return null; };
    return window.__pad?.isConnected ? window.__pad : (window.__pad = walk(document));
  };
  const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))));
  const key = (name, more = {}) => document.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, composed: true, ...more }));
  const until = (true_, ms = 20000) => new Promise((done, fail) => { const begun = performance.now();
    const look = () => true_() ? done(performance.now()) : performance.now() - begun > ms ? fail(new Error("not within " + ms)) : setTimeout(look, 2);
    look(); });
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  window.__key = async (name) => { const begun = performance.now(); key(name); return (await painted()) - begun; };
  window.__durable = async (name) => { const begun = performance.now(); key(name); return (await until(() => window.__find().dataset.pending === "0")) - begun; };
  window.__next = async () => { const chat = window.__find().dataset.chat, begun = performance.now(); key("Enter", { ctrlKey: true });
    await until(() => window.__find().dataset.chat !== chat); return (await painted()) - begun; };
  window.__fast = async (count, every) => { const begun = performance.now();
    for (let k = 0; k < count; k++) { key(String(1 + (k + Math.floor(k / 13)) % 5)); if (k % 13 === 12) for (let j = 0; j < 13; j++) key("k");
      await wait(Math.max(0, begun + (k + 1) * every - performance.now())); }
    const took = performance.now() - begun; await until(() => window.__find().dataset.pending === "0"); return took; };
  window.__work = async (items, steps, think) => { const durable = [], keys = []; let errors = 0;
    for (let n = 0; n < items && window.__find().dataset.chat; n++) {
      for (let k = 0; k < steps; k++) { durable.push(await window.__durable(String(1 + (n + k) % 5))); keys.push(1);
        if (window.__find().querySelector(".status.bad")) errors++; await wait(think); }
      await window.__next(); await until(() => window.__find().dataset.pending === "0"); }
    return { durable, keys: keys.length, errors }; };
}
"""


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def open_pad(page: Page, url: str) -> None:
    page.goto(f"{url}/label")
    page.locator(".pad .card").first.wait_for(timeout=60_000)
    page.evaluate(HELPERS)


def one_person(browser: Browser, server: Server, rounds: int) -> dict[str, list[float]]:
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    open_pad(page, server.url)
    painted, durable, following = [], [], []
    for k in range(rounds):
        painted += [page.evaluate(f"window.__key('{1 + (k + n) % 5}')") for n in range(3)]
        page.wait_for_timeout(150)
        durable.append(page.evaluate(f"window.__durable('{1 + (k + 3) % 5}')"))
        page.wait_for_timeout(100)
        following.append(page.evaluate("window.__next()"))
        page.wait_for_timeout(250)
    page.context.close()
    return {"painted": painted, "durable": durable, "next": following}


def native(browser: Browser, server: Server, rounds: int) -> list[float]:
    """Click on Next to the next question on screen, with native widgets."""
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    page.goto(server.url)
    heading = page.locator('[data-testid="stMarkdownContainer"]').first
    heading.wait_for(timeout=60_000)
    times = []
    for _ in range(rounds):
        page.wait_for_timeout(400)
        times.append(
            page.evaluate("""() => new Promise((done) => {
          const words = () => document.querySelector('[data-testid="stMarkdownContainer"]')?.textContent;
          const before = words(), begun = performance.now();
          [...document.querySelectorAll("button")].find((one) => one.textContent.includes("Next")).click();
          const look = () => words() && words() !== before
            ? requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begun))) : setTimeout(look, 2);
          look(); })""")
        )
    page.context.close()
    return times


def fast_keys(browser: Browser, server: Server, workbench: Workbench, cookie: tuple[str, str]) -> tuple[int, float]:
    """200 keys in 4 seconds: how many of them are stored, as judgements and as their history."""
    page = visitor(browser, server, cookie)
    chat = page.locator(".pad").get_attribute("data-chat")
    took = page.evaluate("window.__fast(200, 20)")
    page.context.close()
    user = next(one for one in workbench.people() if one.user_id == cookie[1].removeprefix("local."))
    mine = workbench.store.for_user(Workbench.session(user))
    return len(mine.changes(str(chat))) + len(mine.ratings(str(chat))), took / 1000


def visitor(browser: Browser, server: Server, cookie: tuple[str, str]) -> Page:
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.add_cookies([{"name": cookie[0], "value": cookie[1], "url": server.url}])
    page = context.new_page()
    open_pad(page, server.url)
    return page


def many(browser: Browser, server: Server, cookies: list[tuple[str, str]], items: int) -> dict[str, Any]:
    """Everybody labels at once, each in a browser context and a websocket of their own."""
    pages = [visitor(browser, server, cookie) for cookie in cookies]
    for page in pages:
        page.evaluate("([items, steps]) => { window.__done = null; window.__work(items, steps, 250).then((one) => window.__done = one, "
                      "(error) => window.__done = { durable: [], keys: 0, errors: 1, error: String(error) }); }", [items, STEPS + 1])  # fmt: skip
    results = []
    for page in pages:
        page.wait_for_function("window.__done !== null", timeout=300_000)
        results.append(page.evaluate("window.__done"))
        page.context.close()
    return {
        "durable": [one for result in results for one in result["durable"]],
        "keys": sum(result["keys"] for result in results),
        "errors": sum(result["errors"] for result in results),
        "problems": [result["error"] for result in results if "error" in result],
    }


def rss_mib(server: Server) -> float:
    return float(psutil.Process(server.process.pid).memory_info().rss / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--items", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        words = "Ask the career center which training fits, what it costs, and who pays for it. "
        records = [
            {"id": str(k), "query": f"Question {k}?", "steps": [f"Part {n} of {k}: {words * 2}" for n in range(STEPS)]}
            for k in range(arguments.rounds * 2 + arguments.people * arguments.items * 2 + 60)
        ]
        root = folder / "workspace"
        workbench = Workbench(Workspace.resolve(root))
        importing.import_file(workbench, write_lines(folder / "chats.jsonl", records))
        workbench.people()
        people = [workbench.add_person(f"Annotator {k}") for k in range(arguments.people + 1)]
        plain = folder / "native.py"
        plain.write_text(NATIVE)
        other = folder / "native"
        importing.import_file(Workbench(Workspace.resolve(other)), folder / "chats.jsonl")
        servers = [start_server(root, folder / "app.log"), start_server(other, folder / "native.log", script=plain)]
        try:
            browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_ARGUMENTS)
            one_person(browser, servers[0], 3)  # warm
            native(browser, servers[1], 3)
            alone = one_person(browser, servers[0], arguments.rounds)
            plain_next = native(browser, servers[1], arguments.rounds)
            port = servers[0].url.rpartition(":")[2]
            cookies = [(f"rlhf_workbench_{port}", f"local.{one.user_id}") for one in people]
            saved, took = fast_keys(browser, servers[0], workbench, cookies[-1])
            before = rss_mib(servers[0])
            counted = workbench.counts().ratings
            crowd = many(browser, servers[0], cookies[:-1], arguments.items)
            ratio = rss_mib(servers[0]) / before
            browser.close()
        finally:
            for server in servers:
                server.process.terminate()
                server.process.wait()
        with workbench._database.connection() as connection:
            handed = connection.execute(
                "SELECT chat_id, count(*) FROM assignments WHERE queue_id = ? AND status = 'submitted' GROUP BY chat_id",
                (EVERYTHING,),
            ).fetchall()
        double = sum(count > 1 for _, count in handed)
        lost = crowd["keys"] - (workbench.counts().ratings - counted)
        workbench.close()
    figures = {
        "painted_p95_ms": quantile(alone["painted"], 0.95),
        "next_p50_ms": statistics.median(alone["next"]),
        "durable_p95_ms": quantile(alone["durable"], 0.95),
        "ten_durable_p95_ms": quantile(crowd["durable"], 0.95),
        "double_assigned": double,
        "lost": lost,
        "errors": crowd["errors"],
        "fast_keys_saved": saved,
        "rss_ratio": ratio,
        "native_next_ratio": statistics.median(plain_next) / statistics.median(alone["next"]),
    }
    print(f"native page: next item painted p50 {statistics.median(plain_next):.0f} ms; pad {figures['next_p50_ms']:.0f} ms")
    print(f"key to durable p50 {statistics.median(alone['durable']):.0f} ms; {arguments.people} people at once p50 "
          f"{statistics.median(crowd['durable']):.0f} ms over {crowd['keys']} keys; 200 keys sent in {took:.1f} s")  # fmt: skip
    for problem in crowd["problems"]:
        print("problem:", problem)
    print(json.dumps({name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()}))


if __name__ == "__main__":
    main()
