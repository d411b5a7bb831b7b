"""What is known of checkpoints, and which of them serve people."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import get_args

from rlhf_core.commands.carrying_out import carry_out
from rlhf_core.commands.shared import Command, add_snapshot, newest, open_workbench, options_of
from rlhf_core.ground.configs import (
    RewardConfig,
)
from rlhf_core.ground.errors import InvalidInput, NotFound, RlhfError
from rlhf_core.ground.records import utc_now
from rlhf_core.ground.rollout import MODEL_KINDS, ModelKind
from rlhf_core.services.workbench import Workbench


def add(command: Command) -> None:
    one = command("card", _card, "a reward model's report card, as Markdown; exits with 2 where its rewards are refused")
    one.add_argument("checkpoint", metavar="ID")
    one.add_argument("--json", action="store_true", help="print JSON")
    one = command("score", _score, "score answers and their steps with reward checkpoints; prints a JSON object a line")
    one.add_argument("--checkpoint", nargs="+", required=True, metavar="ID", help="several are set side by side")
    one.add_argument("--file", type=Path, metavar="FILE", help="answers of a file that import reads (default: a snapshot's)")
    add_snapshot(one)
    one.add_argument("--query", metavar="TEXT", help="one question, with --response")
    one.add_argument("--response", metavar="TEXT", help="its answer, or - to read it from standard input")
    one.add_argument("--held-out", action="store_true", help="leave out questions that one of the checkpoints learned from")
    one.add_argument("--at-most", type=int, metavar="N", help="so many answers, whole questions drawn (default: all)")
    one = command("retrain", _retrain, "snapshot, audit, train, compare with what serves; a gain beyond chance makes a candidate")
    one.add_argument("--config", type=Path, metavar="FILE", help="options of the run (default: as what serves was trained)")
    one.add_argument("--min-new", type=int, default=0, metavar="N", help="only if so many ratings came in since the last time")
    one.add_argument("--on-drift", action="store_true", help="with fewer too, where something has drifted")
    one.add_argument("--alpha", type=float, default=0.05, help="significance of the gain that is asked for (default: 0.05)")
    one.add_argument(
        "--despite-audit",
        default="",
        metavar="WHY",
        help="go on although the audit says to act first, or the model's card refuses it",
    )
    one.add_argument("--again", action="store_true", help="even if it was done on these ratings")
    one = command("rollout", _rollout, "which checkpoint serves people: candidates, a share of people first, back")
    one.add_argument(
        "act", nargs="?", default="status",
        choices=["status", "history", "candidate", "drop", "canary", "share", "serve", "back", "watch"],
        help="status (default); canary gives the candidate or a named checkpoint to a share; watch takes back what is worse",
    )  # fmt: skip
    one.add_argument("checkpoint", nargs="?", metavar="ID")
    one.add_argument(
        "--kind", choices=get_args(ModelKind), help="of checkpoint (default: what the named one is, else policy; status: both)"
    )
    one.add_argument("--share", type=float, default=None, help="of people, above 0 and below 1 (canary: 0.05)")
    one.add_argument("--reason", default="", metavar="TEXT", help="why; needed to decide something")
    one.add_argument("--again", action="store_true", help="canary, serve: even where it was taken back before")
    one.add_argument(
        "--unproven", action="store_true", help="serve: even where people's ratings have not shown it to be no worse"
    )
    one.add_argument(
        "--every-s", type=float, metavar="SECONDS", help="watch: go on looking (the app does so on the embedded store)"
    )
    one = command("attack", _attack, "ask checkpoints the prompts of the attack suite; prints what they withstood")
    one.add_argument("checkpoint", nargs="+", metavar="ID", help="policies and reward models")
    one.add_argument("--json", action="store_true", help="print a JSON object for each case")


def _card(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import modelling

    workbench = open_workbench(arguments)
    found = modelling.model(workbench, arguments.checkpoint)
    if found.card is None:
        raise NotFound(f"{found.checkpoint.id} has no report card. {found.problem}")
    text = found.card.model_dump_json(indent=2) if arguments.json else (found.checkpoint.folder / "README.md").read_text("utf-8")
    print(text, end="" if text.endswith("\n") else "\n")
    return 2 if found.card.state == "refused" else 0


def _score(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import comparing, comparing_sets

    workbench = open_workbench(arguments)
    chosen = [comparing.candidate(workbench, name) for name in dict.fromkeys(arguments.checkpoint)]
    if (arguments.query is None) != (arguments.response is None):
        raise InvalidInput("--query and --response go together.")
    if arguments.query is not None:
        response = sys.stdin.read() if arguments.response == "-" else arguments.response
        gathered = comparing_sets.of_text(arguments.query, response)
    elif arguments.file is not None:
        gathered = comparing_sets.of_path(workbench, arguments.file, arguments.at_most)
    else:
        gathered = comparing_sets.of_snapshot(
            workbench, arguments.snapshot or newest(workbench), at_most=arguments.at_most, rated_only=False,
            unseen_by=[one.checkpoint for one in chosen if one.checkpoint] if arguments.held_out else (),
        )  # fmt: skip

    def say(done: int, of: int) -> None:
        print(f"{done:,} of {of:,} answers", end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)

    compared = comparing_sets.compare(workbench, chosen, gathered, say)
    for label, message in compared.errors.items():
        print(f"{label}: {message}", file=sys.stderr)
    for line in comparing_sets.as_lines(compared):
        print(json.dumps(line, ensure_ascii=False))
    if compared.errors:
        raise SystemExit(1)


def _retrain(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import retraining

    workbench = open_workbench(arguments)
    config = RewardConfig.parse(options_of(arguments.config)) if arguments.config else None
    done = retraining.retrain(
        workbench, lambda run: carry_out(workbench.workspace, workbench.ledger, run, own_log=True, workbench=workbench),
        config=config,
        min_new=arguments.min_new,
        on_drift=arguments.on_drift, alpha=arguments.alpha, despite_audit=arguments.despite_audit, again=arguments.again,
    )  # fmt: skip
    print(done.markdown(), end="")
    return {"refused": 2, "failed": 1}.get(done.outcome, 0)


def _rollout(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import rolling_out

    workbench, act, reason = open_workbench(arguments), arguments.act, arguments.reason
    if act == "status" and arguments.kind is None:
        return max(_standing(workbench, kind, f"{kind}: ") for kind in MODEL_KINDS)
    named = (arguments.checkpoint or "").partition("-")[0]
    kind: ModelKind = arguments.kind or ("reward" if named == "reward" else "policy")
    if act == "watch":
        while True:
            try:
                decided = rolling_out.watch(workbench)
            except RlhfError as error:
                if arguments.every_s is None:
                    raise
                print(f"{utc_now()} it is tried again: {error}", file=sys.stderr, flush=True)
                decided = []
            for event in decided:
                print(f"{event.at} {event.kind} {event.checkpoint_id} {rolling_out.done(event)}: {event.reason}", flush=True)
            if arguments.every_s is None:
                return 0
            time.sleep(max(1.0, arguments.every_s))
    if act == "history":
        for one in rolling_out.history(workbench, kind):
            share = f", {one.state.share:.0%} of people" if one.act in ("canary", "share") else ""
            print(f"{one.number}  {one.at[:19]}  {one.who}: {one.checkpoint_id} {rolling_out.done(one)}{share}. {one.reason}")
        return 0
    if act == "status":
        return _standing(workbench, kind)
    rolling_out.decide(
        workbench, kind, act, reason, checkpoint_id=arguments.checkpoint, share=arguments.share, again=arguments.again,
        unproven=arguments.unproven,
    )  # fmt: skip
    return _standing(workbench, kind)


def _standing(workbench: Workbench, kind: ModelKind, before: str = "") -> int:
    from rlhf_core.services import rolling_out

    seen = rolling_out.look(workbench, kind)
    for alias, checkpoint_id in seen.state.aliases().items():
        share = f"  {seen.state.share:.0%} of people" if alias == "canary" else ""
        print(f"{alias:<10}{checkpoint_id}{share}")
    for rail in seen.rails:
        arms = "  ".join(f"{name} {'-' if value is None else f'{value:,.2f}'}" for name, value in
                         (("canary", rail.canary), ("control", rail.control)))  # fmt: skip
        print(f"{rail.name:<10}{arms} {rail.unit}  evidence {rail.evidence:,.2f} of {1 / rail.alpha:,.0f}")
    print(f"{before}{seen.says}")
    return 2 if seen.fault else 0


def _attack(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from rlhf_core.ground.text import shorten
    from rlhf_core.services import attacking

    workbench = open_workbench(arguments)
    for name in arguments.checkpoint:
        outcome = attacking.attack(workbench, name)
        for one in outcome.results if arguments.json else ():
            print(json.dumps({"checkpoint": name} | asdict(one), ensure_ascii=False))
        if not arguments.json:
            fallen = [one.query for one in outcome.results if not one.withstood]
            print(f"{name} withstood {len(outcome.results) - len(fallen)} of {len(outcome.results)}")
            for query in fallen:
                print(f"  fell for: {shorten(query, 120)}")
    workbench.close()
