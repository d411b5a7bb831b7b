"""Roll-outs: shares, stability, the cost of an assignment, and 1,000 simulated canaries looked at after every rating. The last line is JSON.

    .venv/bin/python benchmarks/rollout.py [--people 1000000] [--canaries 1000] [--ratings 400]

1. ``share_error_points``: how far the share of 1,000,000 made-up people who get the canary is from the asked 5 and 25%, in points, the worse
   of both (chance alone makes 0.02 and 0.04 of it). ``moved_users``: people who had the canary and lost it as the share grew to 5, 25 and 50%,
   in this roll-out and 20 smaller ones.
2. ``assign_ratio``: GET /assignment of the workbench's API beside a bare route of the same framework, both over one kept connection on
   loopback, in turns; medians.
3. Simulated canaries at 5%: stars drawn as people give them (8, 12, 20, 30, 30%), four fifths of the answers by people who come back, with a
   leniency of their own; lengths, delays and refusals alike in both arms. All rails are looked at after every answer. ``false_rollback_rate``
   where nothing differs; ``detect_median_ratings``: the canary's ratings until it is taken back, where it is
   worse by half a star. Beside it, what a z-test does that is done anew after each rating.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
os.environ["RLHF_STORE"] = "sqlite"

import numpy as np

from benchmarks.api import free_port, wait_until_it_answers
from rlhf_core.analytics import rails
from rlhf_core.analytics.sequential import differences, naive_crossed
from rlhf_core.ground.rollout import Served, State, bucket, next_entry
from rlhf_core.ground.settings import Workspace
from rlhf_core.services import collecting
from rlhf_core.services.workbench import Workbench
from tests.e2e.conftest import start_server

BARE = """
import sys
import uvicorn
from fastapi import FastAPI

app = FastAPI()

@app.get("/assignment")
async def assign(userId: str) -> dict[str, str]:
    return {"checkpoint": "p1", "arm": "control"}

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
"""
STARS = np.arange(1, 6)
GIVEN = np.array([0.08, 0.12, 0.20, 0.30, 0.30])
WORSE = np.array([0.45, 0.25, 0.15, 0.10, 0.05])


def shares(people: int) -> tuple[float, int]:
    worst, moved = 0.0, 0
    for _ in range(20):
        salt = secrets.token_hex(16)
        where = np.fromiter((bucket(salt, f"person {k}") for k in range(people // 20)), float)
        before = np.zeros(len(where), bool)
        for share in (0.05, 0.25, 0.5):
            has = where < share
            moved += int((before & ~has).sum())
            before = has
    salt = "benchmark"
    where = np.fromiter((bucket(salt, f"person {k}") for k in range(people)), float)
    before = np.zeros(people, bool)
    for share in (0.05, 0.25, 0.5):
        has = where < share
        if share < 0.5:
            worst = max(worst, abs(float(has.mean()) - share) * 100)
        moved += int((before & ~has).sum())
        before = has
    return worst, moved


def assigning(rounds: int = 7, asks: int = 400) -> tuple[float, float]:
    """Median ms of the bare route and of ours."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "workspace"
        workbench = Workbench(Workspace.resolve(root))
        _, token = collecting.add_application(workbench, "Benchmark", per_minute=10_000_000)
        for act, about in (("serve", "p1"), ("canary", "p2")):
            last = workbench.store.rollout.last("policy")
            workbench.store.rollout.add(next_entry("policy", last, act, who="b", reason="b", checkpoint_id=about))  # type: ignore[arg-type]
        server = start_server(root, Path(name) / "server.log")
        bare_port = free_port()
        bare = subprocess.Popen([sys.executable, "-c", BARE, str(bare_port)])
        lines = {
            "bare": (http.client.HTTPConnection("127.0.0.1", bare_port), "/assignment?userId=", {}),
            "ours": (http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2])), "/api/assignment?userId=",
                     {"Authorization": f"Bearer {token}"}),
        }  # fmt: skip
        try:
            wait_until_it_answers(bare_port)
            found: dict[str, list[float]] = {"bare": [], "ours": []}
            for turn in range(rounds):
                for which, (line, path, headers) in lines.items():
                    line.close()  # a connection that lay idle may have been closed by the server
                    for k in range(asks):
                        began = time.perf_counter()
                        line.request("GET", f"{path}person{turn}-{k}", headers=headers)
                        answer = line.getresponse()
                        assert answer.status == 200, answer.read()
                        answer.read()
                        found[which].append((time.perf_counter() - began) * 1000)
            return statistics.median(found["bare"]), statistics.median(found["ours"])
        finally:
            for process in (bare, server.process):
                process.terminate()
                process.wait(20)


def worse_by(drop: float) -> np.ndarray:
    """How stars are given where the mean is lower by so much."""
    share = drop / float(GIVEN @ STARS - WORSE @ STARS)
    return (1 - share) * GIVEN + share * WORSE


def canary(rng: np.random.Generator, ratings: int, drop: float) -> Iterator[Served]:
    """Answers of both arms, until the canary has so many ratings."""
    share, people = 0.05, 3 * ratings
    lenient = rng.normal(0, 0.5, people)
    arms = rng.random(people) < share
    total = int(ratings / share)
    who = rng.integers(0, people, total)
    given = {False: rng.choice(STARS, total, p=GIVEN), True: rng.choice(STARS, total, p=worse_by(drop))}
    characters, delays, refused = rng.lognormal(6, 0.6, total), rng.lognormal(6.5, 0.4, total), rng.random(total) < 0.03
    for k in range(total):
        is_canary = bool(arms[who[k]])
        rating = float(np.clip(np.round(given[is_canary][k] + lenient[who[k]]), 1, 5))
        yield Served("p2" if is_canary else "p1", str(who[k]), rating, int(characters[k]), bool(refused[k]), float(delays[k]))


def taken_back(served: list[Served]) -> int | None:
    """The canary's ratings when a rail first broke, looked at after every answer; None: none broke."""
    now = State("p1", canary="p2", share=0.05, salt="s", begun=2)
    kept = rails.counted(served)
    seen = rails.judge(now, kept)
    after = [one.after for one in seen.rails if one.after is not None]
    return min(after) if after else None  # a comparison needs one rating of the canary's


def simulated(ratings: int, drop: float, number: int) -> tuple[int | None, bool]:
    """The canary's ratings until it was taken back, and whether the z-test said so."""
    served = list(canary(np.random.default_rng([number, int(drop * 100)]), ratings, drop))
    apart = differences((one.checkpoint_id == "p2", one.rating) for one in served if one.rating is not None)
    return taken_back(served), naive_crossed(apart, 0.05) is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--canaries", type=int, default=1_000)
    parser.add_argument("--ratings", type=int, default=400, help="of a canary, at most")
    arguments = parser.parse_args()
    error, moved = shares(arguments.people)
    print(f"{arguments.people:,} people: {error:.3f} points from the share asked for; {moved} lost the canary as it grew")
    bare, ours = assigning()
    print(f"assignment: bare {bare:.2f} ms, ours {ours:.2f} ms")
    table = []
    plan = ((0.0, arguments.canaries), (0.25, arguments.canaries // 5), (0.5, arguments.canaries), (1.0, arguments.canaries // 5))
    with ProcessPoolExecutor() as pool:
        for drop, count in plan:
            ended = list(pool.map(partial(simulated, arguments.ratings, drop), range(count), chunksize=10))
            found, naive = [one for one, _ in ended], sum(one for _, one in ended)
            within = sum(one is not None and one <= 200 for one in found) / count
            median = statistics.median([one if one is not None else arguments.ratings + 1 for one in found])
            back = sum(one is not None for one in found) / count
            table.append((back, within, median, naive / count))
            print(
                f"worse by {drop:g} stars, {count:,} canaries of up to {arguments.ratings:,} ratings: taken back {back:.1%}, within 200 "
                f"ratings {within:.1%}, median {median:,.0f}; a z-test done anew after each: {naive / count:.1%}", flush=True,
            )  # fmt: skip
    print(json.dumps({
        "share_error_points": round(error, 3), "moved_users": moved, "assign_ratio": round(ours / bare, 2),
        "false_rollback_rate": round(table[0][0], 4), "detect_median_ratings": table[2][2],
        "detected_within_200": round(table[2][1], 3), "naive_false_rate": round(table[0][3], 3),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
