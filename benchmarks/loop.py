"""What the loop costs beside doing without it: opening pages against an empty Streamlit page, importing against a bare
``executemany``. Side by side in one run; ratios of medians; the last line is one JSON object.

    make bench                      (or: python benchmarks/loop.py [--rounds 7] [--chats 10000])
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from playwright.sync_api import Page, sync_playwright

from rlhf_core.ground.settings import WORKSPACE_VARIABLE, Workspace
from rlhf_core.intake.parsing import parse_file
from rlhf_core.services import demo, snapshots
from rlhf_core.services.importing import import_file
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.sqlite_database import Database
from tests.checkpoints.test_registry import make
from tests.e2e.conftest import CHROMIUM_ARGUMENTS, start_server
from tests.install_browser import find_browser

PAGES = ("", "import", "label", "snapshots", "train", "compare")
STEPS = 5


def pages(rounds: int, folder: Path) -> dict[str, float]:
    """Seconds from a typed address to the heading on screen and the script at rest, by page; ``empty`` is the baseline."""
    root = folder / "workspace"
    workbench = Workbench(Workspace.resolve(root))
    demo.load_demo(workbench)
    session = Workbench.session(workbench.people()[0])
    mine = workbench.store.for_user(session)
    (chat,) = workbench.store.search_chats(limit=1)
    mine.rate(chat.id, None, 4, "stars")
    snapshots.take(workbench)
    make(workbench.workspace.checkpoints)
    workbench.close()
    blank = folder / "blank.py"
    blank.write_text('import streamlit as st\nst.title("Empty")\n')
    servers = [start_server(root, folder / "app.log"), start_server(root, folder / "blank.log", script=blank)]
    app, empty = (server.url for server in servers)
    addresses = {"empty": empty} | {page or "home": f"{app}/{page}" for page in PAGES}
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_ARGUMENTS)
            tab = browser.new_context().new_page()
            for address in addresses.values():  # warm: the server's imports, the browser's cache
                opening_s(tab, address)
            times: dict[str, list[float]] = {name: [] for name in addresses}
            for _ in range(rounds):
                for name, address in addresses.items():
                    times[name].append(opening_s(tab, address))
            browser.close()
    finally:
        for server in servers:
            server.process.terminate()
            server.process.wait()
    return {name: statistics.median(some) for name, some in times.items()}


def opening_s(tab: Page, address: str) -> float:
    tab.goto("about:blank")
    begun = time.perf_counter()
    tab.goto(address, wait_until="commit")
    tab.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"] h1', timeout=30_000)
    return time.perf_counter() - begun


def write_chats(path: Path, chats: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for k in range(chats):
            steps = [
                f"Step {n} of chat {k}: ask the career center which training fits, and what it costs. " * 2 for n in range(STEPS)
            ]
            file.write(
                json.dumps({"id": f"c{k}", "query": f"How do I begin in clean energy, question {k}?", "steps": steps}) + "\n"
            )
    return path


def bare_rows(path: Path) -> tuple[list[Any], list[Any]]:
    """The very rows that the import stores."""
    chats: list[Any] = []
    steps: list[Any] = []
    with path.open("rb") as file, parse_file(file, path.name) as parsed:
        for batch in parsed.batches():
            chats += batch.chats
            steps += batch.steps
    return chats, steps


def bare_insert_s(folder: Path, rows: tuple[list[Any], list[Any]]) -> float:
    """The baseline: the same rows, ready in memory, into the same tables and indices, by two ``executemany``."""
    path = folder / "bare.sqlite3"
    Database(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    begun = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO chats (id, query, response, source, model, external_id, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)", rows[0]
    )
    connection.executemany(
        "INSERT INTO reasoning_steps (id, chat_id, step_content, step_order, created_at) VALUES (?, ?, ?, ?, ?)", rows[1]
    )
    connection.execute("COMMIT")
    taken = time.perf_counter() - begun
    connection.close()
    for one in folder.glob("bare.sqlite3*"):
        one.unlink()
    return taken


def import_s(folder: Path, path: Path) -> float:
    """The whole import: read, check every line, store."""
    root = folder / f"import-{time.monotonic_ns()}"
    workbench = Workbench(Workspace.resolve(root))
    begun = time.perf_counter()
    report = import_file(workbench, path)
    taken = time.perf_counter() - begun
    assert report.added.steps == report.added.chats * STEPS
    workbench.close()
    return taken


def peak_mib(folder: Path, path: Path) -> float:
    """Peak resident memory of ``python -m rlhf_core import`` on a file."""
    script = (
        "import resource, sys; from rlhf_core.__main__ import main; code = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "import", str(path)], check=True, capture_output=True, text=True,
        cwd=Path(__file__).resolve().parents[1],
        env=os.environ | {WORKSPACE_VARIABLE: str(folder / f"memory-{path.stem}")},
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--chats", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_chats(folder / "chats.jsonl", arguments.chats)
        rows = bare_rows(path)
        bare, whole = [], []
        for _ in range(arguments.rounds):
            bare.append(bare_insert_s(folder, rows))
            whole.append(import_s(folder, path))
        import_ratio = statistics.median(whole) / statistics.median(bare)
        print(f"import of {arguments.chats} chats with {arguments.chats * STEPS} steps: {statistics.median(whole):.2f} s; "
              f"bare executemany of the same rows: {statistics.median(bare):.2f} s; ratio {import_ratio:.2f}")  # fmt: skip
        del rows
        small = peak_mib(folder, path)
        large = peak_mib(folder, write_chats(folder / "large.jsonl", arguments.chats * 5))
        print(f"peak memory of an import: {small:.0f} MiB; of a file five times as large: {large:.0f} MiB")

        seconds = pages(arguments.rounds, folder)
        ratios = {page: taken / seconds["empty"] for page, taken in seconds.items() if page != "empty"}
        print(f"empty Streamlit page: {seconds['empty'] * 1000:.0f} ms")
        for page, ratio in ratios.items():
            print(f"{page:<10} {seconds[page] * 1000:5.0f} ms  {ratio:.2f} x empty")
    print(json.dumps({
        "page_open_ratio": round(max(ratios.values()), 3),
        "import_ratio": round(import_ratio, 3),
        "import_memory_ratio_5x": round(large / small, 3),
        "page_open_ratios": {page: round(ratio, 3) for page, ratio in ratios.items()},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
