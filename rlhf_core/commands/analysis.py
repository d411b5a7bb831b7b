"""Snapshots, and what is asked of them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, get_args

from rlhf_core.commands.shared import Command, add_snapshot, newest, open_workbench
from rlhf_core.ground.configs import (
    options_in_markdown,
)
from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.judgement import By, Level, What
from rlhf_core.ground.metrics import metrics_in_markdown
from rlhf_core.ground.tables import EXPORT_FORMATS


def add(command: Command) -> None:
    one = command("snapshot", _snapshot, "export the store to an immutable snapshot and print its id")
    one.add_argument("--days", type=int, metavar="N", help="only feedback of the last N days (default: all)")
    one = command("snapshots", _snapshots, "list snapshots; compare two, or remove one")
    one.add_argument("--compare", nargs=2, metavar=("BEFORE", "AFTER"), help="what changed from one to the other")
    one.add_argument("--remove", metavar="ID")
    one.add_argument("--even-if-used", action="store_true", help="remove it although runs or checkpoints were made from it")
    one.add_argument("--verify", metavar="ID", help="compare every file's hash with the manifest")
    one = command(
        "export", _export, "write a snapshot's feedback for other tools",
        epilog="\n".join(["formats:", *(f"  {name:<16} {about}" for name, about in EXPORT_FORMATS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    one.add_argument("format", choices=list(EXPORT_FORMATS))
    one.add_argument("out", type=Path, help="a new file, or a new folder for --layout datasets")
    one.add_argument("--layout", choices=["jsonl", "parquet", "datasets"], default="jsonl")
    one.add_argument(
        "--plain", action="store_true", help="only the standard fields; an import then restores no single judgements"
    )
    add_snapshot(one)
    one = command("sql", _sql, "ask a snapshot in SQL: read-only, with limits of time and memory; prints CSV")
    one.add_argument("statement", help="one SELECT, or - to read it from standard input")
    add_snapshot(one)
    one.add_argument("--timeout-s", type=float, default=30.0, metavar="S")
    one.add_argument("--there", action="store_true", help="ask the depot's, without fetching it (--timeout-s does not count)")
    one = command("query", _query, "ask a named question of a snapshot")
    one.add_argument("name", nargs="?", help="leave out to list the questions")
    add_snapshot(one)
    one.add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
    one.add_argument("--csv", action="store_true", help="print CSV")
    one = command(
        "audit", _audit, "a report on the quality of a snapshot's feedback, as Markdown; exits with 2 where one has to act"
    )
    add_snapshot(one)
    one = command("agreement", _agreement, "how far the raters of a snapshot agree: Krippendorff's alpha, Cohen's kappa")
    one.add_argument("--on", choices=get_args(What), default="steps")
    one.add_argument("--by", choices=get_args(By), help="also of each part")
    one.add_argument("--level", choices=get_args(Level), help="how values differ (default: what fits)")
    add_snapshot(one)
    one = command(
        "drift", _drift, "what changed over time: questions, raters, the reward model's agreement; exits with 2 on an alarm"
    )
    add_snapshot(one)
    one.add_argument("--days", type=int, default=7, help="length of a window (default: 7)")
    one.add_argument("--checkpoint", metavar="ID", help="the reward model that is watched (default: what serves, or the newest)")
    one = command("reference", _reference, "what docs/ lists: options of runs, measures of runs, named questions; as Markdown")
    one.add_argument("what", choices=["options", "metrics", "questions"])


def _snapshot(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import snapshots

    snapshot, new = snapshots.take(open_workbench(arguments), days=arguments.days)
    what = "taken" if new else "is the same as one taken before"
    print(f"Snapshot {what}: {snapshot.ratings} ratings on {snapshot.rows['chats']} chats in {snapshot.folder}", file=sys.stderr)
    print(snapshot.id)


def _snapshots(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import snapshots

    workbench = open_workbench(arguments)
    if arguments.compare:
        for table in snapshots.difference(workbench, *arguments.compare):
            counts = f"{table.added:>9,} new  {table.removed:>9,} gone  {table.changed:>9,} changed  {table.same:>9,} the same"
            print(f"{table.table:<16} {counts}")
        return
    if arguments.remove:
        print(f"Removed snapshot {snapshots.remove(workbench, arguments.remove, even_if_used=arguments.even_if_used).id}.")
        return
    if arguments.verify:
        print(
            f"Every file of snapshot {snapshots.find(workbench, arguments.verify, verify=True).id} is the one that was written."
        )
        return
    for one in snapshots.listing(workbench):
        print(f"{one.id}  {one.created_at[:19]}Z  {one.rows['chats']} chats  {one.ratings} ratings  {one.facts['raters']} raters")


def _export(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import snapshots

    workbench = open_workbench(arguments)
    snapshot_id = arguments.snapshot or newest(workbench)
    print(
        snapshots.export_to(
            workbench, snapshot_id, arguments.format, arguments.out, layout=arguments.layout, plain=arguments.plain
        )
    )


def _sql(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import querying

    workbench = open_workbench(arguments)
    statement = sys.stdin.read() if arguments.statement == "-" else arguments.statement
    if arguments.there:
        from rlhf_core.services import keeping

        answer, by = keeping.ask_there(workbench, arguments.snapshot or "", statement)
        print(answer.to_csv(index=False), end="")
        print(f"Read there by {by}.", file=sys.stderr)
        return
    snapshot_id = arguments.snapshot or newest(workbench)
    result = querying.run(workbench, snapshot_id, statement, timeout_s=arguments.timeout_s).result()
    try:
        for begin in range(0, max(1, result.rows), 10_000):
            print(result.read(begin, 10_000).to_pandas().to_csv(index=False, header=begin == 0), end="")
        if result.truncated:
            print(f"These are the first {result.rows:,} rows; there are more.", file=sys.stderr)
    finally:
        result.drop()
        workbench.close()


def _query(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import snapshots

    workbench = open_workbench(arguments)
    if arguments.name is None:
        for question in snapshots.questions():
            print(f"{question.name}: {question.question}  params: {question.params or 'none'}")
        return
    arguments.snapshot = arguments.snapshot or newest(workbench)
    params: dict[str, Any] = {}
    for text in arguments.param:
        name, equals, value = text.partition("=")
        try:
            params[name] = json.loads(value if equals else "")
        except ValueError as error:
            raise InvalidInput(f"--param {text!r}: give NAME=NUMBER.") from error
    table = snapshots.answer(workbench, arguments.snapshot, arguments.name, **params)
    print(table.to_csv(index=False) if arguments.csv else table.to_string(index=False, max_colwidth=48), end="\n")


def _audit(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import auditing

    workbench = open_workbench(arguments)
    report = auditing.audit(workbench, arguments.snapshot or newest(workbench))
    print(report.markdown(), end="")
    return 2 if any(one.severity == "act" for one in report.findings) else 0


def _agreement(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import agreement

    workbench = open_workbench(arguments)
    snapshot_id = arguments.snapshot or newest(workbench)

    def words(one: agreement.Estimate) -> str:
        if one.value is None:
            return one.why
        return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}] over {one.units:,} things, {one.ratings:,} judgements"

    for row in agreement.rows(workbench, snapshot_id, arguments.on, arguments.by, arguments.level):
        print(f"alpha ({row.level})  {row.group}: {words(row.alpha)}")
    for pair in agreement.pairs(workbench, snapshot_id, arguments.on):
        print(f"kappa  {pair.first} and {pair.second}: {words(pair.kappa)}; alike {pair.same:.1%}")
    if arguments.on == "first errors":
        apart = agreement.first_errors(workbench, snapshot_id)
        for name, (value, low, high) in (
            ("same step", apart.exact),
            ("within one", apart.within_one),
            ("distance", apart.distance),
        ):
            print(f"{name}: " + ("not defined" if value is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"))


def _drift(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import drifting, serving

    workbench = open_workbench(arguments)
    snapshot_id = arguments.snapshot or newest(workbench)
    judge = arguments.checkpoint or serving.reward_model(workbench)
    found = drifting.drift(workbench, snapshot_id, days=arguments.days, checkpoint=judge)
    drifting.report(workbench, snapshot_id, found)
    alarms = [one for one in found if one.alarm]
    for one in alarms:
        print(f"{drifting.CAUSES[one.cause]}: {one}")
    print(f"{len(alarms)} alarms of {len(found)} tests of snapshot {snapshot_id}, rewards by {judge or 'none'}.")
    for said in [*drifting.untested(found), *drifting.inflations(drifting.generations(workbench, snapshot_id, judge))]:
        print(said)
    return 2 if alarms else 0


def _reference(arguments: argparse.Namespace) -> None:
    from rlhf_core.services.snapshots import questions_in_markdown

    pages = {"options": options_in_markdown, "metrics": metrics_in_markdown, "questions": questions_in_markdown}
    print(pages[arguments.what](), end="")
