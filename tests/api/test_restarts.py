"""A server that is killed while people send: what was acknowledged is there, what was not is sent again, nothing counts twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from rlhf_core.services import collecting
from rlhf_core.services.workbench import Workbench
from tests.e2e.conftest import Server, start_server

PEOPLE, WORDS = 8, 60


@pytest.mark.slow
def test_killed_between_request_and_answer(workbench: Workbench, root: Path, tmp_path: Path) -> None:
    _, token = collecting.add_application(workbench, "Assistant")
    caller = collecting.caller_of(workbench, token)
    chats, tickets = [], []
    for k in range(PEOPLE):
        record = {"query": f"q {k}", "steps": [f"step {n}" for n in range(WORDS)]}
        chats.append(collecting.add_chat(workbench, caller, f"c{k}", record, f"person {k}")["id"])
        tickets.append(collecting.ticket(workbench, caller, f"person {k}")[0])
    server = start_server(root, tmp_path / "first.log")
    port = int(server.url.rpartition(":")[2])
    acknowledged: list[str] = []
    failures = 0

    def send(k: int) -> None:
        nonlocal failures
        with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {tickets[k]}"}, timeout=10) as client:
            for n in range(WORDS):
                word: dict[str, Any] = {"id": f"w{n}", "chatId": chats[k], "stepOrder": n + 1, "feedbackScore": 1 + n % 5}
                while True:
                    try:
                        answer = client.post("/api/assistant/feedback", json=word)
                    except httpx.HTTPError:
                        failures += 1
                        time.sleep(0.1)
                        continue
                    assert answer.status_code == 201, answer.text
                    acknowledged.append(f"{k} {n}")
                    break

    threads = [threading.Thread(target=send, args=(k,)) for k in range(PEOPLE)]
    for thread in threads:
        thread.start()
    servers: list[Server] = [server]
    for number in range(2):
        wanted = PEOPLE * WORDS * (number + 1) // 4
        while len(acknowledged) < wanted:
            time.sleep(0.005)
        servers[-1].process.kill()
        servers[-1].process.wait()
        servers.append(start_server(root, tmp_path / f"again{number}.log", port=port))
    for thread in threads:
        thread.join(60)
    servers[-1].process.terminate()
    servers[-1].process.wait()
    assert len(acknowledged) == PEOPLE * WORDS
    assert failures >= 2, "somebody was cut off"
    with sqlite3.connect(root / "workbench.sqlite3") as connection:
        rows = connection.execute(
            "SELECT count(*), sum(f.feedback_score = 1 + (s.step_order - 1) % 5), count(DISTINCT f.step_id) "
            "FROM chat_feedback AS f JOIN reasoning_steps AS s ON s.id = f.step_id"
        ).fetchone()
        history = connection.execute("SELECT count(*) FROM feedback_history").fetchone()[0]
    connection.close()
    assert rows == (PEOPLE * WORDS,) * 3
    assert history == 0, "no word was carried out twice"
