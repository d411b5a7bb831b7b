"""Drift of a snapshot, its alarms in the log and at a webhook, and generations of a model."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rlhf_core.ground.errors import InvalidInput
from rlhf_core.services import activity, drifting, snapshots
from rlhf_core.services.drifting import Generation, inflations
from rlhf_core.services.workbench import Workbench
from tests.analytics.test_drift import made


@pytest.fixture
def snapshot_id(workbench: Workbench, add_chats: Any) -> str:
    """Eight weeks in which one of four raters moves."""
    questions, ratings = made("raters", a_week=30)
    records = []
    for (at, query), (_, mine) in zip(questions.itertuples(index=False), ratings.groupby("thing", sort=False), strict=True):
        said = [{"rater": one.rater, "score": int(one.score), "created_at": one.at.isoformat()} for one in mine.itertuples()]
        model = "policy-2" if at > pd.Timestamp("2026-02-01", tz="UTC") else "policy-1"
        records.append({"query": query, "response": "An answer.", "feedback": said, "created_at": at.isoformat(), "model": model})
    add_chats(*records)
    return snapshots.take(workbench)[0].id


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    seen: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv(drifting.WEBHOOK_VARIABLE, f"http://127.0.0.1:{server.server_port}/")
    yield seen
    server.shutdown()
    server.server_close()


def test_a_moved_rater_is_found_and_told_once(workbench: Workbench, snapshot_id: str, webhook: list[Any]) -> None:
    found = drifting.drift(workbench, snapshot_id)
    alarms = [one for one in found if one.alarm]
    assert {one.cause for one in alarms} == {"raters"}
    assert len({one.name for one in alarms}) == 1
    new = drifting.report(workbench, snapshot_id, found)
    assert new == alarms
    assert drifting.report(workbench, snapshot_id, found) == []
    (sent,) = webhook
    assert sent["snapshot"] == snapshot_id
    assert {one["cause"] for one in sent["alarms"]} == {"raters"}
    name = alarms[0].name
    assert name not in json.dumps(sent), "no rater is named where an erasure does not reach"
    acts = activity.log(workbench, "drift")
    assert len(acts) == len(alarms)
    assert "A rater rates" in acts[0].detail["found"]
    assert all(name not in f"{one.what} {one.detail}" for one in acts)
    with pytest.raises(InvalidInput, match="window of 0 days"):
        drifting.drift(workbench, snapshot_id, days=0)


def test_a_webhook_that_is_away_keeps_nobody(workbench: Workbench, snapshot_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(drifting.WEBHOOK_VARIABLE, "http://127.0.0.1:9/")
    assert drifting.report(workbench, snapshot_id, drifting.drift(workbench, snapshot_id))


def test_generations_of_a_model(workbench: Workbench, snapshot_id: str) -> None:
    one, two = drifting.generations(workbench, snapshot_id)
    assert (one.model, two.model) == ("policy-1", "policy-2")
    assert one.answers + two.answers == 240
    assert one.rating is not None
    assert one.rating[0] == pytest.approx(one.ratings.mean())
    assert one.rating[1] < one.rating[0] < one.rating[2]
    assert one.reward is None
    assert inflations([one, two]) == [], "nothing was rewarded"


def generation(name: str, rating: float, reward: float, count: int = 200) -> Generation:
    rng = np.random.default_rng(len(name))
    good = rng.normal(0, 1, count)
    ratings, rewards = rating + good + rng.normal(0, 0.5, count), reward + good + rng.normal(0, 0.5, count)
    return Generation(name, "2026-01-01", count, count, None, None, ratings, rewards, rewards - ratings)


def test_reward_up_and_ratings_flat_is_called_out() -> None:
    (said,) = inflations([generation("a", 3.5, 3.5), generation("bb", 3.5, 4.2)])
    assert said.startswith("Reward inflation: from a to bb the reward rose by 0.")
    assert inflations([generation("a", 3.5, 3.5), generation("bb", 4.2, 4.2)]) == []
    assert inflations([generation("a", 3.5, 3.5), generation("bb", 3.5, 3.5)]) == []
    assert inflations([generation("a", 3.5, 3.5, 20), generation("bb", 3.5, 4.2)]) == []
    assert len(inflations([generation("a", 3.5, 3.5), generation("bb", 3.5, 4.2), generation("ccc", 3.5, 4.9)])) == 2
