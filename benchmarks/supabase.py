"""What a team's store costs: a rating, a snapshot, a count under every policy. Real Postgres, real client, over HTTP.

Side by side: the snapshot beside the embedded store's of the very same rows, and of a fifth of them (memory); each count beside
the same count past row level security. Last line: one JSON object.

    python benchmarks/supabase.py [--feedback 100000] [--steps 500000]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # and not this folder, where this file would pass for the library

import psycopg

from rlhf_core.ground.records import EVERYTHING, Session, content_id
from rlhf_core.ground.settings import WORKSPACE_VARIABLE, TeamSettings, Workspace
from rlhf_core.store.sqlite import SqliteStore
from rlhf_core.store.sqlite_database import Database
from rlhf_core.store.supabase import SupabaseStore
from rlhf_core.store.supabase_connection import Connection, Server
from tests.supabase.server import PASSWORD, TeamServer

STEPS_A_CHAT = 5
RATERS = 20
NOW = "2026-01-01T00:00:00.000000Z"
ANSWER = "Ask the career center which training fits, what it costs, and who pays for it. " * 6
TABLES = ("chats", "reasoning_steps", "chat_feedback", "profiles")
ROLES = (None, "annotator", "analyst", "engineer", "admin")


def chats(first: int, last: int) -> Iterator[tuple[Any, ...]]:
    for k in range(first, last):
        yield (content_id("c", str(k)), f"How do I begin in clean energy, question {k}?", ANSWER, "bench", None, str(k), NOW)


def steps(first: int, last: int) -> Iterator[tuple[Any, ...]]:
    for k in range(first, last):
        for n in range(1, STEPS_A_CHAT + 1):
            yield (content_id("s", str(k), str(n)), content_id("c", str(k)), f"Step {n} of {k}: {ANSWER[:160]}", n, NOW)


def feedback(first: int, last: int) -> Iterator[tuple[Any, ...]]:
    for k in range(first, last):
        for n in range(1, STEPS_A_CHAT + 1):
            score = 1 + (k * 7 + n * 3) % 5
            kind = "positive" if score >= 4 else "negative" if score <= 2 else "neutral"
            yield (
                content_id("f", str(k), str(n)), content_id("c", str(k)), content_id("s", str(k), str(n)),
                content_id("r", str(k % RATERS)), kind, score, "stars", None, NOW, NOW,
            )  # fmt: skip


def fill(team: TeamServer, first: int, last: int, *, rated: bool) -> None:
    """Straight into Postgres: what is measured is reading."""
    columns = {
        "chats": "id, query, response, source, model, external_id, created_at",
        "reasoning_steps": "id, chat_id, step_content, step_order, created_at",
        "chat_feedback": "id, chat_id, step_id, user_id, feedback_type, feedback_score, scale, comment, created_at, updated_at",
    }
    rows = {"chats": chats, "reasoning_steps": steps} | ({"chat_feedback": feedback} if rated else {})
    with psycopg.connect(team.dsn) as connection, connection.cursor() as cursor:
        for table, make in rows.items():
            with cursor.copy(f"copy public.{table} ({columns[table]}) from stdin") as copy:
                for row in make(first, last):
                    copy.write_row(row)
    team.sql("vacuum analyze")


def embedded(folder: Path, last: int) -> Path:
    root = folder / "embedded"
    store = SqliteStore(Database(Workspace.resolve(root).database))
    with store.bulk() as (writer, _):
        writer.add_profiles([(content_id("r", str(k)), f"Rater {k}") for k in range(RATERS)], "imported")
        for begin in range(0, last, 1000):
            writer.add_chats(list(chats(begin, min(last, begin + 1000))))
            writer.add_steps(list(steps(begin, min(last, begin + 1000))))
            writer.add_feedback(list(feedback(begin, min(last, begin + 1000))))
    return root


SNAPSHOT = (
    "import resource, sys, time; from rlhf_core.__main__ import main; begun = time.perf_counter(); code = main(['snapshot']); "
    "print(code, time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
)


def snapshot(root: Path, environment: dict[str, str]) -> tuple[str, float, float]:
    """Take one as the command does, in a process of its own: (id, seconds, peak MiB)."""
    done = subprocess.run(
        [sys.executable, "-c", SNAPSHOT], check=True, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[1],
        env=os.environ | {"RLHF_STORE": "sqlite"} | environment | {WORKSPACE_VARIABLE: str(root)},
    )  # fmt: skip
    snapshot_id, last = done.stdout.splitlines()[-2:]
    code, seconds, peak = last.split()
    assert code == "0", done.stderr
    return snapshot_id, float(seconds), float(peak)


def person(team: TeamServer, line: Server, role: str | None) -> tuple[Session, SupabaseStore]:
    user_id, email = team.add_account(f"bench-{role}", role)
    connection = Connection(line)
    connection.sign_in(email, PASSWORD)
    return Session(user_id, f"bench-{role}"), SupabaseStore(connection)


def clock(do: Callable[[], Any], rounds: int) -> float:
    """Median seconds."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        do()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def rating(team: TeamServer, line: Server, rounds: int) -> dict[str, float]:
    """One click on the label page: the rating, and what the page shows after it."""
    session, store = person(team, line, "annotator")
    mine = store.for_user(session)
    paths: list[str] = []
    line.http.event_hooks["request"].append(lambda request: paths.append(request.url.path))
    places = list(steps(0, rounds))

    def click() -> None:
        step_id, chat_id = places.pop()[:2]
        mine.rate(chat_id, step_id, 4, "stars")
        mine.view(chat_id)

    click()
    trips = len(paths)
    first = [(f"first {k}", content_id("c", str(k))) for k in range(2000)]
    rows = [(content_id(*row), row[1], None, session.user_id, "positive", 5, "stars", None, NOW, NOW) for row in first]
    operator = SupabaseStore(Connection(line, secret_key=team.secret_key))
    with operator.bulk() as (writer, _):  # somebody who has worked here for a while
        writer.add_feedback(rows)
    return {
        "rating_round_trips": trips,
        "rating_ms": clock(click, rounds) * 1000,
        "claim_ms": clock(lambda: mine.claim(EVERYTHING, 3), 5) * 1000,
        "home_counts_ms": clock(person(team, line, "analyst")[1].counts, 5) * 1000,
    }


def counts(team: TeamServer, line: Server, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of ``select count(*)`` by table and role, in SQL and through the API; ``owner`` bypasses every policy."""
    found: dict[str, dict[str, float]] = {}
    for table in TABLES:
        statement = f"select count(*) from public.{table}"
        found[table] = {"owner": clock(lambda statement=statement: team.sql(statement), rounds)}  # type: ignore[misc]
    for role in ROLES:
        session, store = person(team, line, role)
        client = store._connection._client
        if role is None:
            team.sql(
                "update public.chats set owner_id = %s where id in (select id from public.chats limit 1000)", (session.user_id,)
            )
        for table in TABLES:
            with psycopg.connect(team.dsn) as connection:
                for name, value in (
                    ("request.jwt.claims", json.dumps({"sub": session.user_id, "role": "authenticated"})),
                    ("request.jwt.claim.sub", session.user_id),
                ):
                    connection.execute("select set_config(%s, %s, true)", (name, value))
                connection.execute("set local role authenticated")
                found[table][f"{role or 'no role'}, SQL"] = clock(
                    lambda connection=connection, table=table: connection.execute(f"select count(*) from public.{table}"),  # type: ignore[misc]
                    rounds,
                )
            found[table][f"{role or 'no role'}, API"] = clock(
                lambda client=client, table=table: client.table(table).select("*", count="exact", head=True).execute(),  # type: ignore[misc]
                rounds,
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feedback", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rated, all_chats = arguments.feedback // STEPS_A_CHAT, arguments.steps // STEPS_A_CHAT
    team = TeamServer()
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            line = Server(TeamSettings(team.url, team.publishable_key))
            for k in range(RATERS):
                team.sql(
                    "insert into public.profiles (user_id, display_name, origin) values (%s, %s, 'imported')",
                    (content_id("r", str(k)), f"Rater {k}"),
                )
            online = team.environment | {"SUPABASE_SECRET_KEY": team.secret_key}
            fill(team, 0, rated // 5, rated=True)
            _, _, small = snapshot(folder / "small", online)
            fill(team, rated // 5, rated, rated=True)
            local_root = embedded(folder, rated)
            ours, theirs = [], []
            for k in range(arguments.rounds):
                _, seconds, large = snapshot(folder / f"team{k}", online)
                ours.append(seconds)
                for one in (local_root / "snapshots").iterdir():
                    subprocess.run(["rm", "-r", str(one)], check=True)
                _, seconds, local_peak = snapshot(local_root, {})
                theirs.append(seconds)
            snapshot_s, local_s = statistics.median(ours), statistics.median(theirs)
            rows = f"{rated:,} chats, {arguments.feedback:,} steps and {arguments.feedback:,} ratings"
            print(
                f"snapshot of {rows}: {snapshot_s:.1f} s over HTTP, {local_s:.1f} s from the embedded store, "
                f"ratio {snapshot_s / local_s:.2f}"
            )
            print(f"peak memory: {large:.0f} MiB; of a fifth of the rows {small:.0f} MiB; embedded {local_peak:.0f} MiB")
            fill(team, rated, all_chats, rated=False)
            _, whole_s, whole_peak = snapshot(folder / "whole", online)
            print(f"snapshot with {arguments.steps:,} steps: {whole_s:.1f} s, {whole_peak:.0f} MiB")
            found = counts(team, line, arguments.rounds)
            for table, times in found.items():
                print(f"{table:<16}", ", ".join(f"{who} {seconds:.3f} s" for who, seconds in times.items()))
            worst = max(seconds for times in found.values() for who, seconds in times.items() if who != "owner")
            click = rating(team, line, 30)
            print(", ".join(f"{name} {value:.1f}" for name, value in click.items()))
            line.close()
    finally:
        team.close()
    print(json.dumps({
        "rating_round_trips": click["rating_round_trips"],
        "snapshot_100k_s": round(snapshot_s, 2),
        "count_500k_s": round(worst, 3),
        "snapshot_ratio_to_embedded": round(snapshot_s / local_s, 2),
        "snapshot_memory_ratio_5x": round(large / small, 3),
        "count_ratio_to_unprotected": round(
            max(seconds for who, seconds in found["reasoning_steps"].items()) / found["reasoning_steps"]["owner"], 2),
        "rating_ms": round(click["rating_ms"], 1),
        "claim_ms": round(click["claim_ms"], 1),
        "feedback_rows": arguments.feedback, "step_rows": arguments.steps,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
