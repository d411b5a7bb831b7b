"""Questions at ten million ratings, and the export that feeds them.

    .venv/bin/python benchmarks/explore.py [--ratings 10000000] [--export-ratings 1000000] [--no-browser]

Data are made up with DuckDB straight into a snapshot's Parquet layout: 24 ratings a chat (5 steps and the answer, 4 of 40 raters),
notes of dwell, marks, preferences, aspects and known answers beside them. Two threads, as the workbench uses.

1. Every named question, warm (third time), beside the same question in pandas in this process. pandas reads just the columns it
   needs from the same files (they are in the page cache) and computes; the share of the time that is computing alone, with the
   columns in memory already, is printed too and reported as ``min_ratio_vs_pandas_in_memory``. Both must say the same.
2. Preparing the snapshot for questions: once for each snapshot, so no part of 1.
3. The same questions on a tenth of the data: ``growth_1m_to_10m`` is how many times longer ten times the data take, in all; 10 is linear.
4. Export of ratings from SQLite to Parquet beside ``pandas.read_sql`` and ``to_parquet``, each in a process of its own, best of three;
   the rows are compared one by one (people have pseudonyms in ours, so that column is compared by whose rows are whose).
5. The explore page on the large snapshot in a real browser: until its title and until its first chart stand there.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import duckdb
import pandas as pd
import pyarrow.parquet as pq

from rlhf_core.analytics.explorer import prepare
from rlhf_core.analytics.query import ask, questions
from rlhf_core.analytics.snapshot import FORMAT, MANIFEST, Snapshot, open_snapshot, schema_of
from rlhf_core.ground.files import sha256_of, write_json
from rlhf_core.ground.records import utc_now
from rlhf_core.ground.settings import Workspace
from rlhf_core.ground.tables import EXPORT_COLUMNS
from rlhf_core.services.workbench import Workbench
from tests.analytics.reference import ANSWERS, Frames, same

PER_CHAT = 24
WORDS = [
    "solar",
    "panel",
    "wind",
    "turbine",
    "training",
    "program",
    "apply",
    "certificate",
    "hours",
    "wages",
    "union",
    "course",
    "state",
    "boston",
    "worcester",
    "install",
    "electric",
    "job",
    "career",
    "resume",
    "military",
    "experience",
    "credit",
    "grid",
    "battery",
    "heat",
    "pump",
    "audit",
    "energy",
    "offshore",
    "cable",
    "safety",
    "license",
    "permit",
]
RULES = """
CREATE MACRO uid(x) AS md5(x)::UUID::VARCHAR;
CREATE MACRO name_of(r) AS substr(md5('rater' || r), 1, 16);
CREATE MACRO score_of(i, j, r) AS (1 + least(4, greatest(0, (hash(i * 11 + j) % 5)::INT + (hash(i * 31 + j * 7 + r) % 3)::INT - 1)))::TINYINT;
CREATE MACRO moment(i) AS TIMESTAMPTZ '2025-01-01' + to_seconds(i * 60);
"""
TABLES = {
    "chats": """SELECT uid('c' || i) AS id, 'How do I ' || (i % (0.9 * {chats})::BIGINT) || ' become an installer?' AS query,
        repeat('An answer in words. ', 5 + (hash(i) % 15)::INT) AS response, ['web', 'phone', 'import', 'kiosk', 'partner'][1 + (hash(i || 's') % 5)::INT] AS source,
        'policy-' || (1 + i * 6 // {chats}) AS model, NULL AS external_id, NULL AS owner, moment(i) AS created_at FROM range({chats}) AS t(i)""",
    "reasoning_steps": """SELECT uid('s' || i || '.' || j) AS id, uid('c' || i) AS chat_id,
        array_to_string([({words})[1 + (hash(i * 97 + j * 13 + k) % {n})::INT] FOR k IN range(5 + (hash(i * 7 + j) % 20)::INT)], ' ') AS step_content,
        j AS step_order, moment(i) AS created_at FROM range({chats}) AS t(i), range(1, 6) AS u(j) ORDER BY i, j""",
    "chat_feedback": """SELECT uid('f' || i || '.' || j || '.' || r) AS id, uid('c' || i) AS chat_id, if(j = 0, NULL, uid('s' || i || '.' || j)) AS step_id,
        name_of((i + r * 7) % 40) AS rater, CASE WHEN score_of(i, j, r) >= 4 THEN 'positive' WHEN score_of(i, j, r) <= 2 THEN 'negative' ELSE 'neutral' END,
        score_of(i, j, r) AS feedback_score, 'stars', if(hash(i || 'x' || j) % 50 = 0, 'a comment', NULL), moment(i) + to_seconds(r * 3600 + j * 9) AS created_at,
        moment(i) + to_seconds(r * 3600 + j * 9) AS updated_at, FALSE FROM range({chats}) AS t(i), range(6) AS u(j), range(4) AS v(r) ORDER BY created_at""",
    "chat_marks": """SELECT uid('c' || i), name_of(i % 40), if(i % 3 = 0, NULL, uid('s' || i || '.' || (1 + i % 5))), '[]', moment(i)
        FROM range(0, {chats}, 4) AS t(i)""",
    "label_events": """SELECT uid('e' || i || '.' || j), uid('c' || i), uid('s' || i || '.' || j), name_of(i % 40), 'dwell', 500 + (hash(i * 5 + j) % 60000)::DOUBLE,
        moment(i) FROM range(0, {chats}, 2) AS t(i), range(1, 6) AS u(j)""",
    "preferences": """SELECT uid('p' || i), least(a, b), greatest(a, b), NULL, '', name_of(i % 40), ['chat', 'other', 'tie', 'both_bad'][1 + (hash(i) % 4)::INT], NULL,
        if(hash(i || 'l') % 2 = 0, a, b), NULL, moment(i), moment(i) FROM (SELECT i, uid('c' || i) AS a, uid('c' || (i + 1)) AS b FROM range(0, {chats} - 1, 4) AS t(i))""",
    "aspect_ratings": """SELECT uid('a' || i || x), uid('c' || i), NULL, name_of(i % 40), NULL, NULL, x, (1 + hash(i || x) % 5)::TINYINT, moment(i), moment(i)
        FROM range(0, {chats}, 2) AS t(i), (SELECT unnest(['factual', 'relevant', 'safe']) AS x)""",
    "gold_results": """SELECT uid('q'), uid('c' || i), NULL, name_of((i + r * 7) % 40), 5, (hash(i + r) % 6)::INT, moment(i) + to_seconds(r * 3600)
        FROM range(0, {chats}, 20) AS t(i), range(4) AS v(r)""",
    "decisions": """SELECT uid('d' || i), uid('c' || i), NULL, uid('s' || i || '.1'), 'score', (1 + hash(i) % 5)::VARCHAR, 'why', NULL, moment(i)
        FROM range(0, {chats}, 100) AS t(i)""",
    "hints_shown": """SELECT uid('q'), uid('c' || i), NULL, uid('s' || i || '.1'), name_of(i % 40), 'checkpoint', 1 + (hash(i) % 4)::DOUBLE, (1 + hash(i || 'h') % 5)::VARCHAR,
        moment(i) FROM range(0, {chats}, 1000) AS t(i)""",
    "people": "SELECT name_of(r), 'imported', if(r % 2 = 0, 'given', NULL) FROM range(40) AS t(r)",
}


def make_snapshot(folder: Path, ratings: int) -> Snapshot:
    """A snapshot of made-up data."""
    chats = ratings // PER_CHAT
    name = f"{ratings:016x}"
    home = folder / name
    files: dict[str, Any] = {}
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2; SET TimeZone = 'UTC'")
        connection.execute(RULES)
        for table in EXPORT_COLUMNS:
            path = home / table / "2025-01-000.parquet"
            path.parent.mkdir(parents=True)
            if table in TABLES:
                schema = schema_of(table)
                kinds = {"string": "VARCHAR", "int8": "TINYINT", "int32": "INTEGER", "double": "DOUBLE", "bool": "BOOLEAN"}
                columns = ", ".join(
                    f'col{k}::{kinds.get(str(field.type), "TIMESTAMPTZ")} AS "{field.name}"' for k, field in enumerate(schema)
                )
                aliases = ", ".join(f"col{k}" for k in range(len(schema)))
                made = TABLES[table].format(chats=chats, words=WORDS, n=len(WORDS))
                connection.execute(
                    f"COPY (SELECT {columns} FROM ({made}) AS made({aliases})) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
                )
            else:
                pq.write_table(schema_of(table).empty_table(), path)
            rows = pq.ParquetFile(path).metadata.num_rows
            if rows:
                files[f"{table}/{path.name}"] = {
                    "rows": rows,
                    "size_bytes": path.stat().st_size,
                    "sha256": sha256_of(path),
                    "rows_sha256": "",
                }
    facts = {
        "raters": 40,
        "step_ratings": chats * 20,
        "answer_ratings": chats * 4,
        "demo_ratings": 0,
        "last_rated_at": "",
        "scores": {},
    }
    write_json(home / MANIFEST, {"id": name, "format": FORMAT, "created_at": utc_now(), "workbench": "", "rules": {}, "facts": facts,
                                 "content_sha256": {}, "files": files})  # fmt: skip
    return open_snapshot(folder, name)


def seconds(what: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    return what(), time.perf_counter() - began


def warm(snapshot: Snapshot, name: str) -> tuple[pd.DataFrame, float]:
    for _ in range(2):
        ask(snapshot, name)
    return seconds(lambda: ask(snapshot, name))


def ours_to_parquet(database: str, out: str) -> None:
    """All parts of the ratings, as a snapshot writes them."""
    from concurrent.futures import ThreadPoolExecutor

    from rlhf_core.analytics import taking
    from rlhf_core.analytics.pseudonyms import Pseudonyms
    from rlhf_core.store.sqlite import SqliteStore
    from rlhf_core.store.sqlite_database import Database

    began = time.perf_counter()
    store = SqliteStore(Database(Path(database)))
    with store.export() as export, ThreadPoolExecutor(taking.THREADS) as pool:
        convert = taking._Converter(Pseudonyms(b"k" * 32), export.demo_raters())
        list(pool.map(lambda part: taking._write_part(part, convert, Path(out), {}), export.parts("chat_feedback")))
    _report(out, began)


def pandas_to_parquet(database: str, out: str) -> None:
    import sqlite3

    began = time.perf_counter()
    columns = ", ".join(EXPORT_COLUMNS["chat_feedback"])
    with sqlite3.connect(database) as connection:
        frame = pd.read_sql(f"SELECT {columns} FROM chat_feedback", connection)
    frame.to_parquet(Path(out) / "pandas.parquet", index=False)
    _report(out, began)


def _report(out: str, began: float) -> None:
    taken = time.perf_counter() - began
    Path(out, "report.json").write_text(json.dumps([taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def export_both(workbench: Workbench, folder: Path, rounds: int = 3) -> tuple[float, float, float, float]:
    """Best seconds of ours and of pandas, and their largest memory in MB. The rows must be the same."""
    fresh = multiprocessing.get_context("spawn")
    best: dict[str, tuple[float, float]] = {}
    for k in range(rounds):
        for name, work in (("ours", ours_to_parquet), ("pandas", pandas_to_parquet)):
            out = folder / f"{name}{k}"
            out.mkdir()
            process = fresh.Process(target=work, args=(str(workbench.workspace.database), str(out)))
            process.start()
            process.join()
            taken, memory = json.loads((out / "report.json").read_text())
            old = best.get(name, (taken, memory))
            best[name] = (min(old[0], taken), max(old[1], memory))
    ours = pd.concat([pd.read_parquet(path) for path in sorted((folder / "ours0").rglob("*.parquet"))]).sort_values(
        "id", ignore_index=True
    )
    theirs = pd.read_parquet(folder / "pandas0" / "pandas.parquet").sort_values("id", ignore_index=True)
    for name in ("created_at", "updated_at"):
        theirs[name] = pd.to_datetime(theirs[name], utc=True)
    for name in EXPORT_COLUMNS["chat_feedback"]:
        if name != "user_id":
            one, other = ours[name], theirs[name]
            equal = (one == other) | (one.isna() & other.isna())
            assert len(ours) == len(theirs), f"{len(ours)} rows and {len(theirs)}"
            assert equal.all(), name
    whose = pd.crosstab(ours["rater"], theirs["user_id"])
    assert ((whose > 0).sum(axis=1) == 1).all(), "a pseudonym of two people"
    return best["ours"][0], best["pandas"][0], best["ours"][1], best["pandas"][1]


def fill(workbench: Workbench, ratings: int) -> None:
    from rlhf_core.ground.records import content_id, feedback_type_of, format_utc

    raters = [content_id("rater", str(k)) for k in range(40)]
    chats = ratings // PER_CHAT
    from datetime import UTC, datetime, timedelta

    begin = datetime(2025, 1, 1, tzinfo=UTC)
    with workbench.store.bulk() as (writer, _):
        writer.add_profiles([(rater, f"rater {k}") for k, rater in enumerate(raters)], "imported")
        for low in range(0, chats, 5_000):
            some = range(low, min(low + 5_000, chats))
            times = {i: format_utc(begin + timedelta(minutes=i, microseconds=i % 1000)) for i in some}
            ids = {i: content_id("c", str(i)) for i in some}
            steps = {(i, j): content_id("s", str(i), str(j)) for i in some for j in range(1, 6)}
            writer.add_chats([(ids[i], f"question {i}", "answer " * 30, "web", "m", None, times[i]) for i in some])
            writer.add_steps(
                [(step, ids[i], f"step {j} of chat {i} in some words", j, times[i]) for (i, j), step in steps.items()]
            )
            rows = []
            for i in some:
                for j in range(6):
                    for r in range(4):
                        score = 1 + (i * 7 + j * 3 + r) % 5
                        rows.append((content_id("f", str(i), str(j), str(r)), ids[i], steps.get((i, j)), raters[(i + r * 7) % 40], feedback_type_of(score), score,
                                     "stars", "a comment" if (i + j) % 50 == 0 else None, times[i], times[i]))  # fmt: skip
            writer.add_feedback(rows)


def first_paint(root: Path) -> dict[str, float]:
    """Seconds from asking for the page: its title, its first chart (medians of 5, after one that warms the server)."""
    import statistics

    from playwright.sync_api import sync_playwright

    from tests.e2e.conftest import CHROMIUM_ARGUMENTS, find_browser, start_server

    server = start_server(root, root / "server.log")
    titles, charts = [], []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_ARGUMENTS)
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            for k in range(6):
                began = time.perf_counter()
                page.goto(f"{server.url}/explore", wait_until="commit")
                page.get_by_role("heading", name="Explore", exact=True).wait_for(timeout=120_000)
                title = time.perf_counter() - began
                page.locator("[data-testid=stVegaLiteChart] :is(canvas, svg)").first.wait_for(timeout=120_000)
                if k:
                    titles.append(title)
                    charts.append(time.perf_counter() - began)
            browser.close()
    finally:
        server.process.terminate()
        server.process.wait(20)
    return {"page_title_s": round(statistics.median(titles), 3), "page_chart_s": round(statistics.median(charts), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, default=10_000_000)
    parser.add_argument("--export-ratings", type=int, default=1_000_000)
    parser.add_argument("--no-browser", action="store_true")
    arguments = parser.parse_args()
    os.environ["RLHF_STORE"] = "sqlite"
    with tempfile.TemporaryDirectory(prefix="rlhf-explore-") as scratch:
        report = run(arguments, Path(scratch))
    print(json.dumps(report))


def run(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    workbench = Workbench(Workspace.resolve(scratch / "exported"))
    fill(workbench, arguments.export_ratings)
    ours_s, pandas_s, ours_mb, pandas_mb = export_both(workbench, scratch)
    workbench.close()
    print(
        f"export of {arguments.export_ratings:,} ratings: {ours_s:.2f} s, {ours_mb:.0f} MB; pandas {pandas_s:.2f} s, {pandas_mb:.0f} MB",
        flush=True,
    )

    workspace = Workspace.resolve(scratch / "explored")
    small, small_s = seconds(lambda: make_snapshot(workspace.snapshots, arguments.ratings // 10))
    large, large_s = seconds(lambda: make_snapshot(workspace.snapshots, arguments.ratings))
    _, prepared_small_s = seconds(lambda: prepare(small))
    path, prepared_s = seconds(lambda: prepare(large))
    sizes = f"{large.size_bytes / 1e6:.0f} MB of Parquet, {path.stat().st_size / 1e6:.0f} MB prepared"
    print(
        f"made in {small_s:.0f} and {large_s:.0f} s; prepared in {prepared_small_s:.1f} and {prepared_s:.1f} s; {sizes}",
        flush=True,
    )

    kept = Frames(large, keep=True)
    taken: dict[str, tuple[float, float, float, float]] = {}
    print(f"{'question':<26} {'1/10':>7} {'all':>7} {'pandas':>8} {'in memory':>9} {'ratio':>7} {'in mem.':>7}", flush=True)
    for question in questions():
        name = question.name
        _, tenth_s = warm(small, name)
        answer, all_s = warm(large, name)
        expected, read_s = seconds(lambda name=name: ANSWERS[name](Frames(large)))
        ANSWERS[name](kept)
        _, memory_s = seconds(lambda name=name: ANSWERS[name](kept))
        kept._kept.clear()
        difference = same(answer, expected)
        assert not difference, f"{name}: {difference}"
        taken[name] = (tenth_s, all_s, read_s, memory_s)
        print(
            f"{name:<26} {tenth_s:>7.3f} {all_s:>7.3f} {read_s:>8.2f} {memory_s:>9.2f} {read_s / all_s:>7.1f} {memory_s / all_s:>7.1f}",
            flush=True,
        )
    every = list(taken.values())
    slowest = max(taken, key=lambda name: taken[name][1])
    least = min(taken, key=lambda name: taken[name][2] / taken[name][1])
    paint = {} if arguments.no_browser else first_paint(workspace.root)
    return {
        "slowest_question_s": round(taken[slowest][1], 3), "slowest_question": slowest,
        "min_ratio_vs_pandas": round(min(read / ours for _, ours, read, _ in every), 1), "min_ratio_question": least,
        "min_ratio_vs_pandas_in_memory": round(min(memory / ours for _, ours, _, memory in every), 1),
        "export_ratio": round(pandas_s / ours_s, 2), "export_s": round(ours_s, 2), "export_peak_mb": round(ours_mb),
        "growth_1m_to_10m": round(sum(ours for _, ours, _, _ in every) / sum(tenth for tenth, *_ in every), 2),
        "prepare_s": round(prepared_s, 1), "ratings": arguments.ratings, **paint,
    }  # fmt: skip


if __name__ == "__main__":
    main()
