"""A day's work at once, and what comes of it: annotators in real browsers, analysts over ten million ratings, a run that trains,
an application's traffic on the API. With ``--chaos`` processes are killed and the disk is filled meanwhile.

Afterwards every write that was acknowledged is looked for, and the workspace is examined as ``doctor`` does. Last line: one JSON
object. Figures of time are of this machine under this load; ``*_growth`` are ratios of the run's last tenth to its second.

    python benchmarks/soak.py --minutes 30 [--annotators 20] [--analysts 2] [--ratings 10000000]
    python benchmarks/soak.py --minutes 8 --chaos 10 --annotators 4 --ratings 100000
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # and not this folder, where a file would pass for a library

import httpx
import psutil
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from benchmarks.explore import make_snapshot
from benchmarks.label import HELPERS, quantile
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.settings import Workspace
from rlhf_core.services import collecting, doctor, importing, snapshots, training
from rlhf_core.services.workbench import Workbench
from tests.conftest import write_lines
from tests.e2e.conftest import CHROMIUM_ARGUMENTS, Server, start_server
from tests.install_browser import find_browser

STEPS = 6
THINK_MS = 2500  # between two keys of an annotator
LOOK_S = 12.0  # between two clicks of an analyst
API_EVERY_S = 0.25
SAMPLE_S = 5.0
FILLED_S = 12.0  # how long the disk stays full
ANNOTATE = """
([seconds, steps, think]) => { window.__acked = []; window.__slow = []; window.__bad = 0; window.__done = false;
  const end = performance.now() + 1000 * seconds, wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const quiet = async () => { while (window.__find()?.dataset.pending !== "0" && performance.now() < end + 90000) await wait(20); };
  (async () => {
    await wait(Math.random() * think);
    while (performance.now() < end) {
      const pad = window.__find();
      if (!pad?.dataset.chat) { await wait(500); continue; }
      for (let k = 0; k < steps && performance.now() < end; k++) {
        const chat = window.__find().dataset.chat, score = 1 + Math.floor(Math.random() * 5), begun = performance.now();
        document.dispatchEvent(new KeyboardEvent("keydown", { key: String(score), bubbles: true, composed: true }));
        await quiet();
        if (window.__find()?.dataset.pending === "0") {
          if (window.__find().querySelector(".status.bad")) window.__bad++; else { window.__acked.push([chat, k, score]); window.__slow.push(performance.now() - begun); }
        }
        await wait(think * (0.5 + Math.random()));
      }
      const before = window.__find()?.dataset.chat;
      for (let n = 0; n < 3 && window.__find()?.dataset.chat === before; n++) {
        document.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", ctrlKey: true, bubbles: true, composed: true }));
        await quiet(); await wait(300);
      }
    }
    await quiet(); window.__done = true;
  })();
}
"""


@dataclass
class Seen:
    """What was measured; threads append, nobody removes."""

    api_ms: list[tuple[float, float]] = field(default_factory=list)
    api_status: Counter[str] = field(default_factory=Counter)
    acked_chats: list[str] = field(default_factory=list)
    acked_words: list[tuple[str, str]] = field(default_factory=list)
    explore_s: list[float] = field(default_factory=list)
    page_errors: list[str] = field(default_factory=list)
    rss_mib: list[tuple[float, float]] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    done_to_it: list[str] = field(default_factory=list)


def traffic(url: Callable[[], str], token: str, stop: threading.Event, seen: Seen, k: int) -> None:
    """An application that sends chats, and what its people say of them; sent again until it is answered, as SDKs do."""
    client = httpx.Client(timeout=20, headers={"Authorization": f"Bearer {token}"})
    n = 0

    def send(path: str, body: dict[str, Any]) -> httpx.Response | None:
        for _ in range(60):
            began = time.monotonic()
            try:
                answer = client.post(f"{url()}/api{path}", json=body)
            except httpx.HTTPError as error:
                seen.api_status[type(error).__name__] += 1
                if stop.wait(0.5):
                    return None
                continue
            seen.api_ms.append((time.monotonic(), 1000 * (time.monotonic() - began)))
            seen.api_status[str(answer.status_code)] += 1
            if answer.status_code < 500 and answer.status_code != 429:
                return answer
            if stop.wait(0.5):
                return None
        return None

    while not stop.wait(API_EVERY_S):
        n += 1
        person, chat = f"visitor{k}-{n % 50}", f"{k}-{n}"
        body = {
            "id": chat,
            "query": f"How do I begin, {n}?",
            "steps": ["Call the career center.", f"Ask for voucher {n}."],
            "userId": person,
        }
        answer = send("/chats", body)
        if answer is None or answer.status_code not in (200, 201):
            continue
        seen.acked_chats.append(chat)
        words = {
            "id": f"w{chat}",
            "chatId": answer.json()["id"],
            "userId": person,
            "feedbackType": "positive" if n % 3 else "negative",
        }
        answer = send("/assistant/feedback", words)
        if answer is not None and answer.status_code in (200, 201):
            seen.acked_words.append((chat, str(words["feedbackType"])))


def analyse(page: Page, server: Server, big: str, seen: Seen, k: int) -> None:
    """One click of an analyst; a page takes its turn."""
    views = [
        f"explore?snapshot={big}",
        f"sql?snapshot={big}",
        "snapshots",
        f"explore?snapshot={big}&tab=Raters",
        "runs",
        "agreement",
    ]
    began = time.monotonic()
    page.goto(f"{server.url}/{views[k % len(views)]}", timeout=120_000)
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(timeout=120_000)
    page.locator("[data-testid=stMain] h1").first.wait_for(timeout=120_000)
    if "explore" in page.url:
        seen.explore_s.append(time.monotonic() - began)
    for error in page.locator("[data-testid=stException]").all_inner_texts():
        seen.page_errors.append(f"{page.url}: {error[:300]}")


def train(root: Path, seen: Seen) -> None:
    """One run after another, of the newest small snapshot; and a snapshot now and then."""
    workbench = Workbench(Workspace.resolve(root))
    try:
        taken, _ = snapshots.take(workbench)
        seen.taken.append(taken.id)
        if not any(run.unfinished for run in training.runs(workbench)):
            config = RewardConfig.parse({"method": "head", "reward_base_model": "minilm-l6"})
            training.add_run(workbench, "reward", taken.id, config)
    except RlhfError as error:
        seen.done_to_it.append(f"refused meanwhile: {str(error)[:120]}")
    finally:
        workbench.close()


def processes(root: Path, server: Server) -> dict[str, list[psutil.Process]]:
    """What works on this workspace, by kind."""
    found: dict[str, list[psutil.Process]] = {"server": [], "run": [], "worker": []}
    for one in psutil.process_iter(["pid", "cmdline", "environ"]):
        line = " ".join(one.info["cmdline"] or [])
        if one.pid == server.process.pid:
            found["server"].append(one)
        elif str(root) in line and " train " in f" {line} ":
            found["run"].append(one)
        elif "rlhf_core.inference.worker" in line or "sandbox_worker" in line:
            with contextlib.suppress(psutil.Error):
                if any(parent.pid == server.process.pid for parent in one.parents()):
                    found["worker"].append(one)
    return found


@contextlib.contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[Path]:
    """A file system of its own, so that it can be filled."""
    place = folder / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"--chaos fills a disk, so it has to mount one, as root: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False)


def fill(place: Path, seconds: float) -> None:
    """Leave not a byte for a while."""
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(b"\0" * (1 << 20))
            file.flush()
    time.sleep(seconds)
    filler.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--annotators", type=int, default=20)
    parser.add_argument("--analysts", type=int, default=2)
    parser.add_argument("--ratings", type=int, default=10_000_000)
    parser.add_argument("--chaos", type=int, default=0, metavar="ROUNDS")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright, contextlib.ExitStack() as stack:
        folder = Path(name)
        place = stack.enter_context(small_disk(folder, 3000)) if arguments.chaos else folder
        browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_ARGUMENTS)
        figures = soak(arguments, browser, folder, place / "workspace")
        with contextlib.suppress(PlaywrightError):
            browser.close()
    print(json.dumps(figures))


def soak(arguments: argparse.Namespace, browser: Browser, folder: Path, root: Path) -> dict[str, Any]:
    seen, chance = Seen(), random.Random(arguments.seed)
    workbench = Workbench(Workspace.resolve(root))
    print(f"a snapshot of {arguments.ratings:,} ratings", flush=True)
    big = make_snapshot(workbench.workspace.snapshots, arguments.ratings).id
    chats = int(arguments.annotators * (arguments.minutes + 2) * 60_000 / THINK_MS / STEPS * 1.5) + 50
    records = [
        {"id": str(k), "query": f"Question {k}?", "steps": [f"Part {n} of {k}: ask the career center." for n in range(STEPS - 1)],
         "feedback": [{"step": 1, "score": 1 + k % 5, "rater": "Rui"}] if k < 200 else []}
        for k in range(chats)
    ]  # fmt: skip
    importing.import_file(workbench, write_lines(folder / "chats.jsonl", records))
    people = [workbench.add_person(f"Annotator {k}") for k in range(arguments.annotators)]
    _, token = collecting.add_application(workbench, "Assistant", per_minute=100_000)
    server = start_server(root, folder / "app.log")
    port = int(server.url.rpartition(":")[2])
    stop = threading.Event()
    clients = [threading.Thread(target=traffic, args=(lambda: server.url, token, stop, seen, k), daemon=True) for k in range(2)]
    seconds = 60 * arguments.minutes
    try:
        pages: list[Page] = []
        for person in people:
            context = browser.new_context(viewport={"width": 1280, "height": 1000})
            context.add_cookies([{"name": f"rlhf_workbench_{port}", "value": f"local.{person.user_id}", "url": server.url}])
            page = context.new_page()
            page.set_default_timeout(120_000)
            page.goto(f"{server.url}/label")
            page.locator(".pad .card").first.wait_for(timeout=120_000)
            page.evaluate(HELPERS)
            pages.append(page)
        analysts = [browser.new_context(viewport={"width": 1280, "height": 1000}).new_page() for _ in range(arguments.analysts)]
        print(f"{len(pages)} annotators, {len(analysts)} analysts", flush=True)
        for page in pages:
            page.evaluate(ANNOTATE, [seconds, STEPS, THINK_MS])
        for thread in clients:
            thread.start()
        began = time.monotonic()
        looks, sampled, trained, rounds = 0, 0.0, 0.0, 0
        while (at := time.monotonic() - began) < seconds:
            if at - sampled >= SAMPLE_S:
                sampled = at
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(server.process.pid)
                    seen.rss_mib.append((at, process.memory_info().rss / 2**20))
                    seen.threads.append(process.num_threads())
                    seen.files.append(process.num_fds())
            if trained == 0 or at - trained >= 120:
                trained = at or 1.0
                train(root, seen)
            for k, page in enumerate(analysts):
                if at >= LOOK_S * (looks + k / max(1, len(analysts))) and looks * len(analysts) + k >= looks:
                    try:
                        analyse(page, server, big, seen, looks + k)
                    except PlaywrightError as error:
                        seen.page_errors.append(f"{page.url}: {str(error).splitlines()[0][:200]}")
            looks += 1 if at >= LOOK_S * looks else 0
            if arguments.chaos and rounds < arguments.chaos and at >= seconds * (rounds + 0.5) / (arguments.chaos + 1):
                rounds += 1
                server = disturb(rounds, chance, root, server, port, folder, seen)
            time.sleep(0.5)
        for page in pages:
            page.wait_for_function("window.__done", timeout=180_000)
        stop.set()
        for thread in clients:
            thread.join(30)
        acked = [
            (person, page.evaluate("[window.__acked, window.__slow, window.__bad]"))
            for person, page in zip(people, pages, strict=True)
        ]
    finally:
        stop.set()
        server.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(20)
    time.sleep(3)
    for kind in ("run", "worker"):
        for one in processes(root, server)[kind]:
            one.terminate()
    workbench.close()
    return told(arguments, root, acked, seen, folder)


def disturb(k: int, chance: random.Random, root: Path, server: Server, port: int, folder: Path, seen: Seen) -> Server:
    """Kill one of the processes, or fill the disk."""
    kinds = {kind: found for kind, found in processes(root, server).items() if found}
    what = ["disk", *sorted(kinds)][k % (1 + len(kinds))] if k % 3 else chance.choice(["disk", *sorted(kinds)])
    seen.done_to_it.append(what)
    print(f"round {k}: {what}", flush=True)
    if what == "disk":
        fill(root.parent, FILLED_S)
    else:
        for one in kinds[what]:
            with contextlib.suppress(psutil.Error):
                one.send_signal(signal.SIGKILL)
        if what == "server":
            server.process.wait()
            return start_server(root, folder / f"app{k}.log", port=port)
    return server


def told(
    arguments: argparse.Namespace, root: Path, acked: list[tuple[Any, Any]], seen: Seen, folder: Path
) -> dict[str, Any]:  # fmt: skip
    """Look for every acknowledged write, and examine the workspace."""
    workbench = Workbench(Workspace.resolve(root))
    lost: list[str] = []
    for person, (given, _, _) in acked:
        mine = workbench.store.for_user(Workbench.session(person))
        last = {(chat, k): score for chat, k, score in given}
        for (chat_id, k), score in last.items():
            chat = workbench.store.chat(chat_id)
            step = chat.steps[k].id if k < len(chat.steps) else None
            rating = mine.ratings(chat_id).get(step)
            if rating is None or rating.feedback_score != score:
                lost.append(f"{person.display_name}: {chat_id} {k}: {score}, stored {rating and rating.feedback_score}")
    with workbench._database.connection() as store:
        stored = {row[0] for row in store.execute("SELECT external_id FROM chats WHERE application_id IS NOT NULL")}
        words = dict(store.execute(
            "SELECT c.external_id, f.feedback_score FROM chat_feedback AS f JOIN chats AS c ON c.id = f.chat_id WHERE c.application_id IS NOT NULL"
        ).fetchall())  # fmt: skip
        double = store.execute(
            "SELECT count(*) FROM (SELECT 1 FROM assignments WHERE status = 'submitted' GROUP BY queue_id, chat_id HAVING count(*) > 1)"
        ).fetchone()[0]
    lost += [f"chat {one}" for one in seen.acked_chats if one not in stored]
    lost += [f"words on {chat}" for chat, kind in seen.acked_words if (words.get(chat) or 0) != (5 if kind == "positive" else 1)]
    runs = Counter(run.status for run in training.runs(workbench))
    workbench.close()
    checkup = doctor.examine(Workspace(root))
    wrong = [
        str(one) for one in checkup.findings
        if one.severity == "wrong" and f"{arguments.ratings:016x}" not in one.about  # the large one is made up, without ids of its rows
    ]  # fmt: skip
    for line in [*lost[:20], *wrong[:20], *seen.page_errors[:20]]:
        print(line)
    durable = [ms for _, (_, slow, _) in acked for ms in slow]
    tenth = max(1, len(seen.rss_mib) // 10)
    rss = [value for _, value in seen.rss_mib]
    api = [ms for _, ms in seen.api_ms]
    logs = "".join(path.read_text(errors="replace") for path in sorted(folder.glob("app*.log")))
    tracebacks = re.findall(r"^.*Traceback \(most recent call last\):\n(?:[ \t|].*\n|\n)*.*", logs, re.MULTILINE)
    for block in tracebacks[:20]:
        print(block, end="\n\n")
    return {
        "minutes": arguments.minutes, "annotators": arguments.annotators, "ratings_by_keys": len(durable),
        "durable_p50_ms": round(quantile(durable, 0.5)), "durable_p95_ms": round(quantile(durable, 0.95)), "durable_p99_ms": round(quantile(durable, 0.99)),
        "not_saved": sum(bad for _, (_, _, bad) in acked), "api_requests": len(api), "api_p50_ms": round(quantile(api, 0.5)),
        "api_p95_ms": round(quantile(api, 0.95)), "api_status": dict(seen.api_status),
        "explore_looks": len(seen.explore_s), "explore_p50_s": round(quantile(seen.explore_s, 0.5), 2) if seen.explore_s else None,
        "explore_p95_s": round(quantile(seen.explore_s, 0.95), 2) if seen.explore_s else None,
        "rss_mib": round(max(rss)), "rss_growth": round(sum(rss[-tenth:]) / sum(rss[tenth : 2 * tenth] or rss[:tenth]), 3),
        "threads": max(seen.threads), "files": max(seen.files), "files_growth": round(max(seen.files[-tenth:]) / max(seen.files[:tenth]), 3),
        "snapshots": len(set(seen.taken)), "runs": dict(runs), "disturbed": seen.done_to_it, "page_errors": len(seen.page_errors),
        "tracebacks": len(tracebacks), "double_assigned": double,
        "acknowledged": len(durable) + len(seen.acked_chats) + len(seen.acked_words), "lost": len(lost), "wrong": len(wrong),
    }  # fmt: skip


if __name__ == "__main__":
    main()
