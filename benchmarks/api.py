"""People's feedback over HTTP while annotators label, beside a bare insert behind the same framework. The last line is JSON.

    .venv/bin/python benchmarks/api.py [--clients 100] [--words 50] [--annotators 10] [--rounds 3]

Loopback, one machine: the server, the clients and the annotators share its processors.

1. Bare: FastAPI and uvicorn, a validated body, one INSERT into one table of a SQLite file (WAL, synchronous=FULL) and its commit a request.
   Nobody else writes.
2. Ours: the workbench's own server as ``make run`` starts it. Each client is a person of one application with a ticket, and rates the steps
   of a chat, one after another; every tenth word is sent twice. Meanwhile annotators rate other chats in a process of their own.

Both with all clients at once, each on a connection of its own, sending the next word when the last is answered; in turns, so that what else
the machine does falls on both. ``p95_ratio``: 95th percentiles of the time to an answer, the median of the rounds. ``lost``: words that were
acknowledged and are not in the store; ``duplicated``: rows of the store beyond one for each word, annotators' ones included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
os.environ["RLHF_STORE"] = "sqlite"

import httpx

from rlhf_core.ground.records import LabelOp, Session, new_id
from rlhf_core.ground.settings import Workspace
from rlhf_core.services import collecting
from rlhf_core.services.workbench import Workbench
from tests.e2e.conftest import start_server

BARE = """
import sqlite3, sys, threading
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

class Word(BaseModel):
    id: str
    chatId: str
    stepOrder: int
    feedbackScore: int

local = threading.local()

def connection():
    if not hasattr(local, "one"):
        local.one = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
        local.one.execute("PRAGMA journal_mode = WAL")
        local.one.execute("PRAGMA synchronous = FULL")
    return local.one

connection().execute("CREATE TABLE words (id TEXT, chat_id TEXT, step_order INTEGER, score INTEGER)")
app = FastAPI()

@app.post("/words", status_code=201)
def add(word: Word) -> dict[str, bool]:
    connection().execute("INSERT INTO words VALUES (?, ?, ?, ?)", (word.id, word.chatId, word.stepOrder, word.feedbackScore))
    return {"kept": True}

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_until_it_answers(port: int) -> None:
    for _ in range(100):
        try:
            httpx.get(f"http://127.0.0.1:{port}/openapi.json")
            return
        except httpx.HTTPError:
            time.sleep(0.1)


async def client(port: int, requests: list[bytes], times: list[float], statuses: list[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reader.readexactly(length)
        times.append(time.perf_counter() - began)
        statuses.append(int(head.split(b" ", 2)[1]))
    writer.close()


def post(path: str, body: dict[str, Any], token: str = "") -> bytes:
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
    return (head + (f"Authorization: Bearer {token}\r\n" if token else "") + "\r\n").encode() + text


def drive(port: int, requests: list[list[bytes]]) -> tuple[list[float], list[int]]:
    """All clients at once; seconds to each answer, and its status."""
    times: list[float] = []
    statuses: list[int] = []

    async def all_of_them() -> None:
        await asyncio.gather(*(client(port, some, times, statuses) for some in requests))

    asyncio.run(all_of_them())
    return times, statuses


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def label(root: str, annotators: int, pause_s: float) -> None:
    """Annotators at work, until standard input closes; then the number of ratings that were acknowledged is printed."""
    workbench = Workbench(Workspace.resolve(root))
    people = [Session(one.user_id, one.display_name) for one in workbench.people()][:annotators]
    chats = [workbench.store.chat(one.id) for one in workbench.store.search_chats("annotators", limit=40)]
    stop, done = threading.Event(), [0] * annotators

    def one(k: int) -> None:
        mine = workbench.store.for_user(people[k])
        while not stop.is_set():
            for chat in chats:
                for step in chat.steps:
                    op = LabelOp(new_id(), "rate", chat.id, step.id, {"score": 1 + done[k] % 5, "scale": "stars"})
                    if mine.apply([op])[op.id] == "":
                        done[k] += 1
                    if stop.wait(pause_s):
                        return

    threads = [threading.Thread(target=one, args=(k,)) for k in range(annotators)]
    for thread in threads:
        thread.start()
    print("labelling", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    print(sum(done), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--words", type=int, default=50, help="of each client, in each round")
    parser.add_argument("--annotators", type=int, default=10)
    parser.add_argument("--pause-s", type=float, default=0.25, help="between two ratings of an annotator")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--label", metavar="WORKSPACE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.label:
        label(arguments.label, arguments.annotators, arguments.pause_s)
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "workspace"
        workbench = Workbench(Workspace.resolve(root))
        _, token = collecting.add_application(workbench, "Benchmark", per_minute=10_000_000)
        caller = collecting.caller_of(workbench, token)
        for k in range(arguments.annotators - 1):
            workbench.people()
            workbench.add_person(f"Annotator {k}")
        for k in range(40):
            record = {"query": f"for annotators {k}", "response": None, "steps": [f"step {n}" for n in range(8)]}
            collecting.add_chat(workbench, caller, f"a{k}", record)
        chats, tickets = [], []
        for k in range(arguments.clients):
            record = {"query": f"of person {k}", "steps": [f"step {n}" for n in range(arguments.words * arguments.rounds)]}
            chats.append(collecting.add_chat(workbench, caller, f"c{k}", record, f"person {k}")["id"])
            tickets.append(collecting.ticket(workbench, caller, f"person {k}", 86_400)[0])
        bare_port = free_port()
        bare = subprocess.Popen([sys.executable, "-c", BARE, str(Path(name) / "bare.sqlite3"), str(bare_port)])
        os.environ["RLHF_WORKSPACE"] = str(root)
        server = start_server(root, Path(name) / "server.log")
        port = int(server.url.rpartition(":")[2])
        wait_until_it_answers(bare_port)
        bare_p95, our_p95, acknowledged, labelled = [], [], 0, 0
        from rlhf_core.api import guard

        assert arguments.words * 1.1 < guard.VISITOR_PER_MINUTE, "each person may send only so many words a minute"
        try:
            for turn in range(arguments.rounds):
                words = [
                    [{"id": f"w{turn}-{n}", "chatId": chat, "stepOrder": turn * arguments.words + n + 1, "feedbackScore": 1 + n % 5}
                     for n in range(arguments.words)] for chat in chats
                ]  # fmt: skip
                times, statuses = drive(bare_port, [[post("/words", word) for word in some] for some in words])
                assert set(statuses) == {201}
                bare_p95.append(p95(times))
                annotators = subprocess.Popen(
                    [sys.executable, __file__, "--label", str(root), "--annotators", str(arguments.annotators), "--pause-s",
                     str(arguments.pause_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )  # fmt: skip
                assert annotators.stdout
                assert annotators.stdout.readline() == "labelling\n"
                requests = [
                    [one for k, word in enumerate(some) for one in [post("/api/assistant/feedback", word, ticket)] * (1 + (k % 10 == 9))]
                    for some, ticket in zip(words, tickets, strict=True)
                ]  # fmt: skip
                times, statuses = drive(port, requests)
                our_p95.append(p95(times))
                assert set(statuses) == {201}, set(statuses)
                acknowledged += arguments.clients * arguments.words
                labelled += int(annotators.communicate()[0])
                print(f"p95: bare {bare_p95[-1] * 1000:.0f} ms, ours {our_p95[-1] * 1000:.0f} ms", flush=True)
        finally:
            for process in (bare, server.process):
                process.terminate()
                process.wait()
        with sqlite3.connect(root / "workbench.sqlite3") as connection:
            rows = connection.execute("SELECT count(*), count(DISTINCT user_id || chat_id || ifnull(step_id, '')) FROM chat_feedback f "
                                      "WHERE user_id IN (SELECT user_id FROM visitors)").fetchone()  # fmt: skip
            right = connection.execute(
                "SELECT count(*) FROM chat_feedback f JOIN reasoning_steps s ON s.id = f.step_id WHERE user_id IN (SELECT user_id FROM "
                "visitors) AND f.feedback_score = 1 + (s.step_order - 1) % ? % 5", (arguments.words,)
            ).fetchone()[0]  # fmt: skip
            applied = connection.execute("SELECT count(*) FROM applied_ops WHERE outcome = ''").fetchone()[0]
        workbench.close()
    lost = acknowledged - right + max(0, labelled - applied)
    duplicated = rows[0] - rows[1] + max(0, rows[0] - acknowledged) + max(0, applied - labelled)
    print(f"{acknowledged:,} words of {arguments.clients} people acknowledged, {right:,} in the store as they were said; "
          f"{labelled:,} ratings of {arguments.annotators} annotators acknowledged, {applied:,} in the store")  # fmt: skip
    print(json.dumps({
        "lost": lost, "duplicated": duplicated,
        "p95_ratio": round(statistics.median(ours / its for ours, its in zip(our_p95, bare_p95, strict=True)), 2),
        "bare_p95_ms": round(statistics.median(bare_p95) * 1000), "our_p95_ms": round(statistics.median(our_p95) * 1000),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
