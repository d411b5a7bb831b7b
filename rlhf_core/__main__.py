"""The command line: ``python -m rlhf_core COMMAND``. A door: parses, calls one service or run, prints. Heavy imports stay
inside the commands that need them."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rlhf_core import __version__
from rlhf_core.ground.applications import PER_MINUTE
from rlhf_core.ground.configs import (
    CONFIGS,
    PRESETS,
    GenerateConfig,
    PPOConfig,
    Preset,
    RewardConfig,
    RunConfig,
    SFTConfig,
    less_memory,
    options_in_markdown,
)
from rlhf_core.ground.engines import Resources
from rlhf_core.ground.errors import ImportRejected, InvalidInput, NotFound, RlhfError, SignInRequired
from rlhf_core.ground.judgement import By, Level, What
from rlhf_core.ground.metrics import metrics_in_markdown
from rlhf_core.ground.records import utc_now
from rlhf_core.ground.roles import ROLES
from rlhf_core.ground.rollout import MODEL_KINDS, ModelKind
from rlhf_core.ground.runs import LOCAL, Run, RunKind
from rlhf_core.ground.settings import PROJECT_ROOT, SECRET_KEY_VARIABLE, WORKSPACE_VARIABLE
from rlhf_core.ground.tables import EXPORT_FORMATS
from rlhf_core.intake import formats
from rlhf_core.services.workbench import Workbench

if TYPE_CHECKING:
    from rlhf_core.ground.settings import Workspace
    from rlhf_core.runs.recording import Recorder
    from rlhf_core.services.training import Where
    from rlhf_core.store.base import RunRecord


def main(argv: list[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's odd characters must not break a report
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.do(arguments) or 0)
    except ImportRejected as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        print(f"error: {error.name}: nothing was imported, because of {len(error.problems)} problem(s) above.", file=sys.stderr)
    except RlhfError as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("Stopped. What was not finished was not stored.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader (head, less) has gone: no complaint
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rlhf_core", description="People's judgement of reasoning steps becomes a better model."
    )
    parser.add_argument("--version", action="version", version=f"RLHF Workbench {__version__}")
    shared = argparse.ArgumentParser(add_help=False)
    for one, default in ((parser, None), (shared, argparse.SUPPRESS)):
        one.add_argument(
            "--workspace", metavar="DIR", default=default,
            help=f"folder that holds everything you make (default: ${WORKSPACE_VARIABLE}, else data/)",
        )  # fmt: skip
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    parser.set_defaults(do=lambda _: parser.print_help())

    def command(name: str, do: Callable[[argparse.Namespace], int | None], help_: str, **more: Any) -> argparse.ArgumentParser:
        one = commands.add_parser(name, parents=[shared], help=help_, description=help_, **more)
        one.set_defaults(do=do)
        return one

    one = command("app", _app, "open the workbench in the browser")
    one.add_argument("--port", type=int, default=8501)
    one = command(
        "import", _import, "bring in a file of chats: whole or not at all", epilog=formats.describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    one.add_argument("file", type=Path, help=f"one of {', '.join(formats.SUFFIXES)}")
    one.add_argument("--format", choices=get_args(formats.Preset), default="auto")
    one.add_argument(
        "--remove-personal", action="store_true", help="take e-mail addresses, phone numbers and the like out of texts"
    )
    one = command("demo", _demo, "load the demonstration set, and teach a tiny policy its answers")
    one.add_argument("--no-policy", action="store_true", help="load the set only")
    one = command("team", _team, "list a team's people, or give one of them a role")
    one.add_argument("email", nargs="?", help="whose role to set; leave out to list everybody")
    one.add_argument("role", nargs="?", choices=[*ROLES, "none"])
    one = command("migrate", _migrate, "carry the embedded store over to a team's store; may be run again at any time")
    one.add_argument("--to", required=True, choices=["supabase"])
    one.add_argument(
        "--person", action="append", default=[], metavar="NAME=EMAIL",
        help="this local person's ratings become those of the account with this address; may be given again for others",
    )  # fmt: skip
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
    one.add_argument("--snapshot", metavar="ID", help="id or its beginning (default: the newest)")
    one = command("sql", _sql, "ask a snapshot in SQL: read-only, with limits of time and memory; prints CSV")
    one.add_argument("statement", help="one SELECT, or - to read it from standard input")
    one.add_argument("--snapshot", metavar="ID", help="id or its beginning (default: the newest)")
    one.add_argument("--timeout-s", type=float, default=30.0, metavar="S")
    one.add_argument("--there", action="store_true", help="ask the depot's, without fetching it (--timeout-s does not count)")
    one = command("depot", _depot, "snapshots and checkpoints in the place elsewhere that keeps them: docs/engines.md")
    one.add_argument("act", nargs="?", default="list", choices=["list", "keep", "fetch", "verify", "drop"])
    one.add_argument("id", nargs="*", metavar="ID", help="of snapshots and checkpoints, or their beginning")
    one.add_argument("--all", action="store_true", help="keep: all that is not there yet; fetch: all that is not here")
    one = command(
        "audit", _audit, "a report on the quality of a snapshot's feedback, as Markdown; exits with 2 where one has to act"
    )
    one.add_argument("--snapshot", metavar="ID", help="id or its beginning (default: the newest)")
    one = command("erase", _erase, "delete all that a person has said, also from snapshots, and list what learnt from it")
    one.add_argument("person", help="their name; with --application, the id by which that knows them")
    one.add_argument("--application", metavar="NAME", help="a person of this chat application, with their chats")
    one.add_argument("--prove", action="store_true", help="erase nothing, look where they still stand; exits with 2 if anywhere")
    one.add_argument("--yes", action="store_true", help="do not ask whether that is meant")
    one = command("expire", _expire, "delete chats that applications wanted kept for a time; the app does it every five minutes")
    one.add_argument("--try", dest="try_only", action="store_true", help="delete nothing, say how many they are")
    one = command("backup", _backup, "copy the workspace to a new folder, also while it is in use")
    one.add_argument("out", type=Path, metavar="FOLDER")
    one.add_argument("--store-only", action="store_true", help="without snapshots, checkpoints and runs")
    one = command("restore", _restore, "make the workspace (--workspace) of a backup, every file checked")
    one.add_argument("backup", type=Path, metavar="FOLDER")
    one.add_argument(
        "--erased", type=Path, metavar="FILE",
        help="the newest erased.jsonl of the old workspace: who was erased since the backup is erased again",
    )  # fmt: skip
    one = command(
        "doctor",
        _doctor,
        "look whether everything in the workspace is whole; changes nothing; exits with 2 where something is wrong",
    )
    one.add_argument("--quick", action="store_true", help="without reading every file")
    one.add_argument("--json", action="store_true", help="as one JSON object")

    one = command("applications", _applications, "list the chat applications that may send feedback; let one in, or no more")
    one.add_argument("what", nargs="?", choices=["add", "change", "revoke"])
    one.add_argument("name", nargs="?")
    one.add_argument("--per-minute", type=int, metavar="N", help=f"requests that it may send (default: {PER_MINUTE})")
    one.add_argument("--keep-days", type=int, metavar="N", help="delete its chats after so many days (0: keep them for ever)")
    one.add_argument("--consent-version", metavar="V", help="of the words by which its people are asked (default: 1)")
    one.add_argument("--consent-words", metavar="TEXT", help="the words")
    one.add_argument("--new-token", action="store_true", help="with change: the old token opens nothing any more")
    one = command("query", _query, "ask a named question of a snapshot")
    one.add_argument("name", nargs="?", help="leave out to list the questions")
    one.add_argument("--snapshot", metavar="ID", help="id or its beginning (default: the newest)")
    one.add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
    one.add_argument("--csv", action="store_true", help="print CSV")
    one = command("agreement", _agreement, "how far the raters of a snapshot agree: Krippendorff's alpha, Cohen's kappa")
    one.add_argument("--on", choices=get_args(What), default="steps")
    one.add_argument("--by", choices=get_args(By), help="also of each part")
    one.add_argument("--level", choices=get_args(Level), help="how values differ (default: what fits)")
    one.add_argument("--snapshot", metavar="ID", help="id or its beginning (default: the newest)")
    command("runs", _runs, "list training runs")
    one = command("cancel", _cancel, "ask a run to save and stop")
    one.add_argument("run_id")
    one = command("pause", _pause, "ask a run to save where it stands and give the machine back")
    one.add_argument("run_id")
    one = command("resume", _resume, "queue a paused run again; of a stopped or killed one, a new run that goes on from it")
    one.add_argument("run_id")
    one = command("export-run", _export_run, "write an ended run with its checkpoints to a folder of its own")
    one.add_argument("run_id")
    one.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a folder that is not there yet")
    one = command("import-run", _import_run, "take in such a folder: whole or not at all, every file verified")
    one.add_argument("folder", type=Path)
    command("checkpoints", _checkpoints, "list checkpoints")
    one = command("push", _push, "upload a checkpoint to the Hugging Face hub")
    one.add_argument("checkpoint", metavar="ID")
    one.add_argument("repository", help="NAME or OWNER/NAME there; made where it is missing")
    one.add_argument("--public", action="store_true", help="let everybody see it (default: private)")
    one = command("clean", _clean, "list what training left and why it is kept; with --remove, remove what serves nothing")
    one.add_argument("--remove", action="store_true")
    one = command("card", _card, "a reward model's report card, as Markdown; exits with 2 where its rewards are refused")
    one.add_argument("checkpoint", metavar="ID")
    one.add_argument("--json", action="store_true", help="print JSON")
    one = command("reference", _reference, "what docs/ lists: options of runs, measures of runs, named questions; as Markdown")
    one.add_argument("what", choices=["options", "metrics", "questions"])
    command("supervise", _supervise, "start queued runs on this machine (the app does so by itself)")

    one = command("score", _score, "score answers and their steps with reward checkpoints; prints a JSON object a line")
    one.add_argument("--checkpoint", nargs="+", required=True, metavar="ID", help="several are set side by side")
    one.add_argument("--file", type=Path, metavar="FILE", help="answers of a file that import reads (default: a snapshot's)")
    one.add_argument("--snapshot", metavar="ID", help="id or its beginning (default: the newest)")
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
    one = command(
        "drift", _drift, "what changed over time: questions, raters, the reward model's agreement; exits with 2 on an alarm"
    )
    one.add_argument("--snapshot", metavar="ID", help="id or its beginning (default: the newest)")
    one.add_argument("--days", type=int, default=7, help="length of a window (default: 7)")
    one.add_argument("--checkpoint", metavar="ID", help="the reward model that is watched (default: what serves, or the newest)")
    one = command("rollout", _rollout, "which checkpoint serves people: candidates, a share of people first, back")
    one.add_argument(
        "act", nargs="?", default="status",
        choices=["status", "history", "candidate", "drop", "start", "share", "serve", "back", "watch"],
        help="status (default); start gives the candidate or a named checkpoint to a share; watch takes back what is worse",
    )  # fmt: skip
    one.add_argument("checkpoint", nargs="?", metavar="ID")
    one.add_argument(
        "--kind", choices=get_args(ModelKind), help="of checkpoint (default: what the named one is, else policy; status: both)"
    )
    one.add_argument("--share", type=float, default=None, help="of people, above 0 and below 1 (start: 0.05)")
    one.add_argument("--reason", default="", metavar="TEXT", help="why; needed to decide something")
    one.add_argument("--again", action="store_true", help="start, serve: even where it was taken back before")
    one.add_argument(
        "--every-s", type=float, metavar="SECONDS", help="watch: go on looking (the app does so on the embedded store)"
    )
    one = command("attack", _attack, "ask checkpoints the prompts of the attack suite; prints what they withstood")
    one.add_argument("checkpoint", nargs="+", metavar="ID", help="policies and reward models")
    one.add_argument("--json", action="store_true", help="print a JSON object for each case")
    one = command(
        "sweep", _sweep, "queue runs that differ in some options: all combinations, or some drawn at random",
        epilog='example: sweep reward --snapshot 4f2c --vary "learning_rate = 1e-5, 3e-5" --vary "epochs = 2, 4"\n'
        '         sweep ppo --config base.json --vary "kl_coefficient = 0.01 .. 0.5 log" --random 8',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    one.add_argument("kind", choices=[kind for kind, _, _ in _RUNS if kind != "generate"])
    one.add_argument("--snapshot", metavar="ID", help="id or its beginning (default: the newest)")
    one.add_argument(
        "--vary", action="append", required=True, metavar="LINE", help="option = value, value or option = low .. high"
    )
    one.add_argument("--random", type=int, metavar="N", help="draw so many instead of taking all combinations")
    one.add_argument("--draw-seed", type=int, default=0, metavar="N", help="of the drawing (default: 0)")
    one.add_argument("--config", type=Path, metavar="FILE", help="options that all have, from a JSON file")
    one.add_argument("--preset", choices=get_args(Preset), help="options to begin with")
    one.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option that all have")
    one.add_argument("--try", dest="try_only", action="store_true", help="only say what would be queued")
    _add_place(one)
    one = command("sweeps", _sweeps, "list sweeps; with a name, what its runs came to, the best on validation data first")
    one.add_argument("name", nargs="?")
    one.add_argument("--by", metavar="MEASURE", help="what decides (default: what the runs choose their weights by)")
    one.add_argument("--cancel", action="store_true", help="cancel those of its runs that are not over")
    one = command("hand-over", _hand_over, "write what OpenRLHF or verl needs to improve a policy that is too large for here")
    one.add_argument("to", choices=["openrlhf", "verl"])
    one.add_argument("out", type=Path, metavar="FOLDER", help="a new one")
    one.add_argument("--reward", required=True, metavar="CHECKPOINT", help="the reward model, which serve-reward will serve")
    one.add_argument(
        "--policy", required=True, metavar="NAME", help="where it begins: a hub name, a folder there, or a checkpoint"
    )
    one.add_argument("--snapshot", metavar="ID", help="where prompts come from (default: the newest)")
    one.add_argument("--config", type=Path, metavar="FILE", help="options of a ppo run, from a JSON file")
    one.add_argument("--url", default="http://127.0.0.1:5000", help="where the served reward model is reached from there")
    one.add_argument("--gpus", type=int, default=8, help="of each machine there")
    one.add_argument("--accept-ungated-reward", action="store_true", help="although its report card refuses it")
    one = command("take-back", _take_back, "take in the policy that came of what was handed over, with its lineage")
    one.add_argument("handed", type=Path, metavar="FOLDER", help="what hand-over wrote")
    one.add_argument("model", type=Path, metavar="MODEL", help="the policy, a folder as transformers saves one")
    one = command("serve-reward", _serve_reward, "a reward model over HTTP, for trainers of other makers")
    one.add_argument("checkpoint", metavar="ID")
    one.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; then set --token")
    one.add_argument("--port", type=int, default=5000)
    one.add_argument(
        "--token", default=os.environ.get("RLHF_REWARD_TOKEN", ""), help="asked of everybody (default: $RLHF_REWARD_TOKEN)"
    )
    one.add_argument("--reward-on", choices=["answer", "steps"], default="answer")
    one.add_argument("--step-unit", choices=["as_imported", "sentences"], default="as_imported")
    one.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    one.add_argument("--accept-ungated-reward", action="store_true", help="although its report card refuses it")
    command("engines", _engines, "where runs may be carried out, and what is free there")
    train = commands.add_parser("train", help="train a model").add_subparsers(metavar="MODEL", required=True)
    for kind, about, snapshot in _RUNS:
        one = (commands if kind == "generate" else train).add_parser(kind, parents=[shared], help=about, description=about)
        one.set_defaults(do=_train, kind=kind)
        one.add_argument("--snapshot", metavar="ID", help=snapshot)
        one.add_argument("--config", type=Path, metavar="FILE", help="options from a JSON file; options given here win")
        one.add_argument("--preset", choices=[*PRESETS[kind]], help="options to begin with; options given here win")
        one.add_argument("--run-id", metavar="ID", help="carry out this queued run")
        one.add_argument("--check", action="store_true", help="only say what the run will need, and what is odd about its data")
        one.add_argument("--attempt", type=int, help=argparse.SUPPRESS)  # an engine carries the queued run out
        _add_place(one)
        for name, field in CONFIGS[kind].options().items():
            choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
            default = "required" if field.is_required() else f"default: {'none' if field.default is None else field.default}"
            flag = f"--{name.replace('_', '-')}"
            switch: dict[str, Any] = {"nargs": "?", "const": "true"} if field.annotation is bool else {}
            one.add_argument(
                flag, default=argparse.SUPPRESS, choices=choices or None,
                metavar=None if choices else name.rsplit("_", 1)[-1].upper(), help=f"{field.description} ({default})", **switch,
            )  # fmt: skip
    return parser


def _add_place(one: argparse.ArgumentParser) -> None:
    """Flags that say where a run is carried out, and with what."""
    where = one.add_argument_group("where it is carried out")
    where.add_argument(
        "--engine", metavar="NAME", default=LOCAL,
        help="a Ray cluster or Slurm by its name in the settings: queue the run there and follow it (default: this machine)",
    )  # fmt: skip
    for name, field in Resources.model_fields.items():
        choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
        where.add_argument(
            f"--{name.replace('_', '-')}", default=argparse.SUPPRESS, choices=choices or None, help=field.description,
            metavar=None if choices else "N",
        )  # fmt: skip


def _place_of(arguments: argparse.Namespace) -> Where:
    from rlhf_core.services.training import Where

    asked = {name: value for name, value in vars(arguments).items() if name in Resources.model_fields}
    return Where(arguments.engine, Resources.parse(asked))


_RUNS: tuple[tuple[RunKind, str, str], ...] = (
    ("reward", "Train a reward model on a snapshot.", "id or its beginning; not needed with --resume-from"),
    ("sft", "Teach a policy the answers that people rated well.", "whose answers: id or its beginning (default: the newest)"),
    (
        "ppo", "Improve a policy by rewards (PPO).",
        "where prompts come from: id or its beginning (default: the newest; without any, five example questions)",
    ),
    (
        "generate", "Write answers to a snapshot's queries, into the store.",
        "whose queries: id or its beginning (default: the newest)",
    ),
)  # fmt: skip


def _open(arguments: argparse.Namespace) -> Workbench:
    return Workbench.open_for_command(arguments.workspace)


def _app(arguments: argparse.Namespace) -> int:
    workbench = _open(arguments)  # says at once if the workspace cannot be opened
    workbench.close()
    os.environ.pop(SECRET_KEY_VARIABLE, None)  # the app has no use for it, and must not hold it
    os.environ[WORKSPACE_VARIABLE] = str(workbench.workspace.root)
    os.chdir(PROJECT_ROOT)
    os.execv(
        sys.executable,
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(arguments.port)],
    )


def _import(arguments: argparse.Namespace) -> None:
    from rlhf_core.services.importing import import_file

    report = import_file(
        _open(arguments), arguments.file, preset=arguments.format, remove_personal=arguments.remove_personal
    )  # fmt: skip
    print(report)


def _demo(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import training
    from rlhf_core.services.demo import TINY_POLICY, load_demo

    workbench = _open(arguments)
    for report in load_demo(workbench):
        print(report)
    if arguments.no_policy or training.policies(workbench):
        return 0
    print(
        "Now a tiny policy learns the set's answers, so that PPO has something to improve: some minutes on a laptop. "
        "Its curve is on the page Train; Ctrl+C leaves it out.",
        flush=True,
    )
    from rlhf_core.services import snapshots

    snapshot, _ = snapshots.take(workbench)
    run = training.add_run(workbench, "sft", snapshot.id, TINY_POLICY, here=True)
    return _carry_out(workbench.workspace, workbench.ledger, run, own_log=True, workbench=workbench)


def _team(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import accounts

    workbench = _open(arguments)
    if arguments.email is None:
        for one in accounts.members(workbench):
            print(f"{one.role or 'no role':<9}  {one.ratings:>7} ratings  {one.email}  {one.display_name}")
        return
    if arguments.role is None:
        raise InvalidInput(f"Say which role {arguments.email} gets: {', '.join([*ROLES, 'none'])}.")
    member = accounts.grant(workbench, arguments.email, None if arguments.role == "none" else arguments.role)
    print(f"{member.display_name} ({member.email}) has the role {arguments.role} now.")


def _migrate(arguments: argparse.Namespace) -> int:
    from rlhf_core.services.migrating import migrate
    from rlhf_core.store.supabase import SupabaseStore

    people = {}
    for text in arguments.person:
        name, equals, email = text.partition("=")
        if not equals or not name.strip() or "@" not in email:
            raise InvalidInput(f"--person {text!r}: give NAME=EMAIL.")
        people[name.strip()] = email.strip()
    workbench = _open(arguments)
    if not isinstance(workbench.store, SupabaseStore):
        raise InvalidInput(
            "There is no team's store to migrate to. Set SUPABASE_URL, SUPABASE_KEY and SUPABASE_SECRET_KEY in the environment."
        )
    report = migrate(
        workbench, workbench.store, people, lambda done, total: print(f"{done:,} of {total:,} chats", file=sys.stderr)
    )
    print(report)
    if not report.complete:
        print("error: not every row arrived. Run it again; what is there is not sent twice.", file=sys.stderr)
        return 1
    print("Verified: every row is there.")
    return 0


def _snapshot(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import snapshots

    snapshot, new = snapshots.take(_open(arguments), days=arguments.days)
    what = "taken" if new else "is the same as one taken before"
    print(f"Snapshot {what}: {snapshot.ratings} ratings on {snapshot.rows['chats']} chats in {snapshot.folder}", file=sys.stderr)
    print(snapshot.id)


def _snapshots(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import snapshots

    workbench = _open(arguments)
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

    workbench = _open(arguments)
    snapshot_id = arguments.snapshot or _newest(workbench)
    print(
        snapshots.export_to(
            workbench, snapshot_id, arguments.format, arguments.out, layout=arguments.layout, plain=arguments.plain
        )
    )


def _sql(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import querying

    workbench = _open(arguments)
    statement = sys.stdin.read() if arguments.statement == "-" else arguments.statement
    if arguments.there:
        from rlhf_core.services import keeping

        answer, by = keeping.ask_there(workbench, arguments.snapshot or "", statement)
        print(answer.to_csv(index=False), end="")
        print(f"Read there by {by}.", file=sys.stderr)
        return
    snapshot_id = arguments.snapshot or _newest(workbench)
    result = querying.run(workbench, snapshot_id, statement, timeout_s=arguments.timeout_s).result()
    try:
        for begin in range(0, max(1, result.rows), 10_000):
            print(result.read(begin, 10_000).to_pandas().to_csv(index=False, header=begin == 0), end="")
        if result.truncated:
            print(f"These are the first {result.rows:,} rows; there are more.", file=sys.stderr)
    finally:
        result.drop()
        workbench.close()


def _audit(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import auditing

    workbench = _open(arguments)
    report = auditing.audit(workbench, arguments.snapshot or _newest(workbench))
    print(report.markdown(), end="")
    return 2 if any(one.severity == "act" for one in report.findings) else 0


def _expire(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import collecting

    gone = collecting.expire(_open(arguments), try_only=arguments.try_only)
    for name, count in gone.items():
        print(f"{name}: {count:,} chats {'would go' if arguments.try_only else 'are deleted'}")
    if not gone:
        print("Nothing was kept for longer than it should be.")


def _backup(arguments: argparse.Namespace) -> None:
    from rlhf_core.services.backing_up import back_up

    out = back_up(
        _open(arguments), arguments.out, store_only=arguments.store_only,
        on_progress=lambda what: print(f"copying {what}", file=sys.stderr),
    )  # fmt: skip
    print(f"The workspace is backed up in {out}. Keep erased.jsonl of the workspace beside your newest backup.")


def _restore(arguments: argparse.Namespace) -> None:
    from rlhf_core.ground.settings import Workspace
    from rlhf_core.services.backing_up import restore

    root = Workspace.root_named(arguments.workspace)
    workbench, again = restore(arguments.backup, root, erased=arguments.erased)
    counts = workbench.counts()
    print(f"{root} holds {counts.chats:,} chats and {counts.ratings:,} ratings; {again} people were erased again.")
    workbench.close()


def _doctor(arguments: argparse.Namespace) -> int:
    from rlhf_core.ground.settings import Workspace, team_settings
    from rlhf_core.services import doctor

    root = Workspace.root_named(arguments.workspace)
    if not root.is_dir():
        raise NotFound(f"There is no workspace {root}. Name it with --workspace or {WORKSPACE_VARIABLE}.")
    workspace = Workspace(root)  # opened by nothing: a damaged one is what this is for
    checkup = doctor.examine(
        workspace, quick=arguments.quick, on_progress=lambda what: print(f"looking at {what}", file=sys.stderr)
    )
    if team_settings() is not None:
        checkup.findings += doctor.examine_team(_open(arguments))
    print(json.dumps(checkup.as_json(), indent=2) if arguments.json else checkup)
    return 0 if checkup.well else 2


def _applications(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import collecting

    workbench = _open(arguments)
    if arguments.what is None:
        for one in collecting.applications(workbench):
            state = f"revoked {one.revoked_at[:10]}" if one.revoked_at else f"{one.per_minute:,} requests a minute"
            print(f"{one.name}  since {one.created_at[:10]}  {state}  consent version {one.consent_version}")
        for name, month, what in collecting.removed(workbench):
            print(f"{name}  {month}: taken out of texts: {what}")
        return
    if arguments.name is None:
        raise InvalidInput(f"Say which application to {arguments.what}.")
    given = {name: getattr(arguments, name) for name in ("per_minute", "keep_days", "consent_version", "consent_words")}
    given = {name: value for name, value in given.items() if value is not None}
    token = None
    if arguments.what == "revoke":
        print(f"{collecting.revoke_application(workbench, arguments.name).name} is let in no more. What it sent stays.")
    elif arguments.what == "add":
        _, token = collecting.add_application(workbench, arguments.name, **given)
    else:
        one, token = collecting.change_application(workbench, arguments.name, new_token=arguments.new_token, **given)
        print(f"{one.name} is changed.", file=sys.stderr)
    if token:
        print(
            "Its token, which is shown this once and kept nowhere. Keep it on your server; no browser may hold it:",
            file=sys.stderr,
        )
        print(token)


def _erase(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import collecting, erasing

    workbench = _open(arguments)
    if workbench.team is not None:
        raise InvalidInput("On a team's store people erase their own words on the page My work.")
    if arguments.prove and not arguments.application:
        raise InvalidInput("--prove looks for a person of a chat application. Name it with --application.")
    if arguments.prove:
        return _prove(collecting.proof(workbench, arguments.application, arguments.person))
    if arguments.application:
        theirs = f"{arguments.person} of {arguments.application}, their chats and all that was said of those."
        if not (arguments.yes or _is_sure(arguments.person, theirs)):
            print("Nothing was deleted.")
            return 1
        done = collecting.erase_named(workbench, arguments.application, arguments.person)
    else:
        known = [one for one in workbench.embedded.profiles() if one.origin != "application"]
        found = [one for one in known if arguments.person in (one.display_name, one.user_id)]
        if not found:
            names = ", ".join(one.display_name for one in known)
            raise NotFound(
                f"There is no {arguments.person!r} here. "
                + (f"There are: {names}." if names else "Nobody is here yet.")
                + " Somebody of a chat application is named with --application."
            )
        if len(found) > 1:
            ids = ", ".join(f"{one.user_id} ({one.origin})" for one in found)
            raise InvalidInput(f"{len(found)} people are called {arguments.person}. Name one by their id: {ids}.")
        session = workbench.session(found[0])
        if not (arguments.yes or _is_sure(arguments.person, erasing.weigh(workbench, session))):
            print("Nothing was deleted.")
            return 1
        done = erasing.erase(workbench, session)
    print(done)
    for old, new in done.snapshots:
        print(f"snapshot {old} became {new}")
    for kind, used in (("run", done.runs), ("checkpoint", done.checkpoints)):
        for name in used:
            print(f"{kind} {name} had used it")
    return 0


def _is_sure(person: str, what: str) -> bool:
    """Ask whoever is at the keyboard; where nobody is, say how to do without.

    Raises:
        InvalidInput: nobody can be asked.
    """
    print(f"This deletes for good: {what}", file=sys.stderr)
    if not sys.stdin.isatty():
        raise InvalidInput("Nobody can be asked here whether that is meant. Give --yes if it is.")
    return input(f"Type {person} to go on: ").strip() == person


def _prove(traces: dict[str, Any]) -> int:
    for one in traces["erasures"]:
        gone = ", ".join(f"{count} {table}" for table, count in one["rows"].items()) or "nothing was there"
        print(f"erased {one['at']}: {gone}{'' if one['finished'] else '; interrupted, erase again'}")
    for where, what in traces["found"].items():
        print(f"still in {where}: {what}")
    for one in traces["late"]:
        print(f"checkpoint {one} was saved since by a run that had begun before")
    if not traces["found"]:
        print("They stand in no table of the store, in no snapshot and in nothing that runs wrote down.")
    return 2 if traces["found"] else 0


def _query(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import snapshots

    workbench = _open(arguments)
    if arguments.name is None:
        for question in snapshots.questions():
            print(f"{question.name}: {question.question}  params: {question.params or 'none'}")
        return
    arguments.snapshot = arguments.snapshot or _newest(workbench)
    params: dict[str, Any] = {}
    for text in arguments.param:
        name, equals, value = text.partition("=")
        try:
            params[name] = json.loads(value if equals else "")
        except ValueError as error:
            raise InvalidInput(f"--param {text!r}: give NAME=NUMBER.") from error
    table = snapshots.answer(workbench, arguments.snapshot, arguments.name, **params)
    print(table.to_csv(index=False) if arguments.csv else table.to_string(index=False, max_colwidth=48), end="\n")


def _agreement(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import agreement

    workbench = _open(arguments)
    snapshot_id = arguments.snapshot or _newest(workbench)

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


def _newest(workbench: Workbench) -> str:
    from rlhf_core.services import snapshots

    known = snapshots.listing(workbench)
    if not known:
        raise NotFound("There is no snapshot yet. Take one with `python -m rlhf_core snapshot`.")
    return known[0].id


def _runs(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import training

    found = training.runs(_open(arguments))
    if not found:
        print("There are no runs yet. `train reward` begins one.", file=sys.stderr)
    for run in found:
        done = f"{run.step}/{run.total_steps or '?'}"
        print(f"{run.id}  {run.kind:<8}  {run.status:<9}  {done:>9}  {run.created_at[:19]}Z  {run.message or run.phase or ''}")


def _cancel(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import training

    run = training.cancel(_open(arguments), arguments.run_id)
    print(f"Run {run.id}: {run.message if run.status == 'cancelled' else 'asked to save and stop'}")


def _pause(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import training

    run = training.pause(_open(arguments), arguments.run_id)
    print(f"Run {run.id}: {'paused' if run.status == 'paused' else 'asked to save and pause'}")


def _resume(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import training

    workbench = _open(arguments)
    if training.run(workbench, arguments.run_id).status == "paused":
        run = training.go_on(workbench, arguments.run_id)
    else:
        run = training.resume(workbench, arguments.run_id)
    print(f"Run {run.id}: queued; the app or `python -m rlhf_core supervise` starts it")


def _export_run(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import run_folders

    print(run_folders.export_run(_open(arguments), arguments.run_id, arguments.out))


def _import_run(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import run_folders

    run, checkpoints = run_folders.import_run(_open(arguments), arguments.folder)
    print(f"Run {run.id} ({run.kind}, {run.status}) with {len(checkpoints)} checkpoints: {', '.join(checkpoints) or 'none'}")


def _push(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import pushing

    print(pushing.push(_open(arguments), arguments.checkpoint, arguments.repository, private=not arguments.public))


def _score(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import comparing, comparing_sets

    workbench = _open(arguments)
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
            workbench, arguments.snapshot or _newest(workbench), at_most=arguments.at_most, rated_only=False,
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


def _clean(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import storage

    workbench = _open(arguments)
    for one in storage.stored(workbench):
        removed = arguments.remove and not one.kept_for
        if removed:
            storage.remove(workbench, one.id)
        why = "; ".join(one.kept_for) or ("removed" if removed else "serves nothing")
        print(f"{one.id}  {one.kind:<6}  {one.size_mb:>9,.1f} MiB  {why}")


def _checkpoints(arguments: argparse.Namespace) -> None:
    from rlhf_core.checkpoints.registry import list_checkpoints

    for one in list_checkpoints(_open(arguments).workspace.checkpoints):
        about = f"from {one.parent}  run {one.run_id}" + (f"  snapshot {one.snapshot_id}" if one.snapshot_id else "")
        if one.kind == "policy":
            table = one.metrics.get("held_out") or {}
            judge = f"  judge {table['judge']:.3f}" if table.get("judge") is not None else ""
            figures = f"reward {table['reward']:.3f}{judge}" if table else "not measured"
        else:
            auc = one.metrics.get("test", {}).get("step_auc")
            figures = (
                f"step AUC {'none' if auc is None else f'{auc:.3f}'}  {one.metrics.get('verdict', {}).get('state', 'no card')}"
            )
        print(f"{one.id}  {one.created_at[:19]}Z  {about}  {figures}{'' if one.complete else '  stopped early'}")


def _card(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import modelling

    workbench = _open(arguments)
    found = modelling.model(workbench, arguments.checkpoint)
    if found.card is None:
        raise NotFound(f"{found.checkpoint.id} has no report card. {found.problem}")
    text = found.card.model_dump_json(indent=2) if arguments.json else (found.checkpoint.folder / "README.md").read_text("utf-8")
    print(text, end="" if text.endswith("\n") else "\n")
    return 2 if found.card.state == "refused" else 0


def _retrain(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import retraining

    workbench = _open(arguments)
    config = RewardConfig.parse(_options_of(arguments.config)) if arguments.config else None
    done = retraining.retrain(
        workbench, lambda run: _carry_out(workbench.workspace, workbench.ledger, run, own_log=True, workbench=workbench),
        config=config,
        min_new=arguments.min_new,
        on_drift=arguments.on_drift, alpha=arguments.alpha, despite_audit=arguments.despite_audit, again=arguments.again,
    )  # fmt: skip
    print(done.markdown(), end="")
    return {"refused": 2, "failed": 1}.get(done.outcome, 0)


def _drift(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import drifting

    workbench = _open(arguments)
    snapshot_id = arguments.snapshot or _newest(workbench)
    judge = arguments.checkpoint or drifting.judge_of(workbench)
    found = drifting.drift(workbench, snapshot_id, days=arguments.days, checkpoint=judge)
    drifting.report(workbench, snapshot_id, found)
    alarms = [one for one in found if one.alarm]
    for one in alarms:
        print(f"{drifting.CAUSES[one.cause]}: {one}")
    print(f"{len(alarms)} alarms of {len(found)} tests of snapshot {snapshot_id}, rewards by {judge or 'none'}.")
    for said in [*drifting.untested(found), *drifting.inflations(drifting.generations(workbench, snapshot_id, judge))]:
        print(said)
    return 2 if alarms else 0


def _rollout(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import rolling_out

    workbench, act, reason = _open(arguments), arguments.act, arguments.reason
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
                print(f"{event.at} {event.kind} {event.checkpoint_id} {rolling_out.ACTS[event.act]}: {event.reason}", flush=True)
            if arguments.every_s is None:
                return 0
            time.sleep(max(1.0, arguments.every_s))
    if act == "candidate":
        if arguments.checkpoint is None:
            raise InvalidInput("Name the checkpoint that is to be the candidate.")
        rolling_out.candidate(workbench, kind, arguments.checkpoint, reason)
    elif act == "drop":
        rolling_out.drop(workbench, kind, reason)
    elif act == "start":
        share = rolling_out.SHARES[0] if arguments.share is None else arguments.share
        rolling_out.start(workbench, kind, reason, checkpoint_id=arguments.checkpoint, share=share, again=arguments.again)
    elif act == "share":
        if arguments.share is None:
            raise InvalidInput("Say which share of people is to get it with --share.")
        rolling_out.grow(workbench, kind, arguments.share, reason)
    elif act == "serve":
        rolling_out.serve(workbench, kind, reason, arguments.checkpoint, again=arguments.again)
    elif act == "back":
        rolling_out.back(workbench, kind, reason)
    elif act == "history":
        for one in rolling_out.history(workbench, kind):
            share = f", {one.state.share:.0%} of people" if one.act in ("canary", "share") else ""
            print(f"{one.number}  {one.at[:19]}  {one.who}: {one.checkpoint_id} {rolling_out.ACTS[one.act]}{share}. {one.reason}")
        return 0
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

    workbench = _open(arguments)
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


def _reference(arguments: argparse.Namespace) -> None:
    from rlhf_core.services.snapshots import questions_in_markdown

    pages = {"options": options_in_markdown, "metrics": metrics_in_markdown, "questions": questions_in_markdown}
    print(pages[arguments.what](), end="")


def _supervise(arguments: argparse.Namespace) -> None:
    from rlhf_core.supervisor.supervise import Supervisor

    workbench = _open(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    print("Waiting for this workspace's turn. Ctrl+C ends this; running runs go on.", file=sys.stderr)
    try:
        Supervisor(workbench.workspace, workbench.ledger).serve(threading.Event())
    except KeyboardInterrupt:
        print("Ended.", file=sys.stderr)


def _options_of(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(values, dict):
        raise InvalidInput(f"{path} does not hold a JSON object of options.")
    return values


def _train(arguments: argparse.Namespace) -> int:
    kind: RunKind = arguments.kind
    if arguments.attempt is not None:
        return _train_elsewhere(arguments)
    options = CONFIGS[kind]
    values: dict[str, Any] = {}
    if arguments.config is not None:
        values = _options_of(arguments.config)
    if arguments.preset is not None:
        values = PRESETS[kind][arguments.preset] | values
    given = {name: value for name, value in vars(arguments).items() if name in options.model_fields}
    values |= {name: None if value == "none" else value for name, value in given.items()}

    from rlhf_core.services import training

    workbench = _open(arguments)
    if [*values] == ["resume_from"] and arguments.snapshot is None and values["resume_from"]:  # all the rest as it was
        old = training.run(workbench, str(values["resume_from"]))
        values, arguments.snapshot = old.config | values, old.snapshot_id
    config = options.parse(values)
    if arguments.snapshot is None and kind == "reward":
        raise InvalidInput("Say which snapshot to learn from with --snapshot; only --resume-from alone takes that of its run.")
    if int(os.environ.get("RANK", "0")):
        snapshot_id = arguments.snapshot if arguments.snapshot is not None else training.newest_snapshot(workbench)
        return _train_along(workbench.workspace, arguments.run_id or "", snapshot_id, config)
    if arguments.check:
        return _check(workbench, kind, arguments.snapshot, config)
    if arguments.run_id is not None:
        run = workbench.ledger.get(arguments.run_id)
        return _carry_out(workbench.workspace, workbench.ledger, run, own_log=False, workbench=workbench)
    snapshot_id = arguments.snapshot if arguments.snapshot is not None else training.newest_snapshot(workbench)
    where = _place_of(arguments)
    if arguments.engine != LOCAL or (where.resources.processes > 1 and "RANK" not in os.environ):
        return _follow(workbench, training.add_run(workbench, kind, snapshot_id, config, where=where))
    run = training.add_run(workbench, kind, snapshot_id, config, here=True)
    return _carry_out(workbench.workspace, workbench.ledger, run, own_log=True, workbench=workbench)


def _follow(workbench: Workbench, run: Run) -> int:
    """Look after a queued run, and after others where nobody else does, and print its log until it is over."""
    from rlhf_core.ground.runs import LOG_FILE
    from rlhf_core.supervisor.supervise import Supervisor

    print(f"Run {run.id}: queued for {run.engine}. Ctrl+C ends the looking on; the run goes on.", flush=True)
    stop = threading.Event()
    supervisor = threading.Thread(target=Supervisor(workbench.workspace, workbench.ledger).serve, args=(stop,), daemon=True)
    supervisor.start()
    log_file, shown, said = workbench.workspace.run_folder(run.id) / LOG_FILE, 0, None
    try:
        over = False
        while not over:
            over = not run.unfinished
            run = workbench.ledger.get(run.id)
            if log_file.is_file():
                with log_file.open("rb") as file:
                    file.seek(shown)
                    text = file.read()
                shown += len(text)
                print(text.decode("utf-8", "replace"), end="", flush=True)
            if run.status == "queued" and run.phase and run.phase != said:
                said = run.phase
                print(said, flush=True)
            time.sleep(0.5)
    except KeyboardInterrupt:
        print(f"It goes on. The app or `python -m rlhf_core supervise` looks after it; `cancel {run.id}` ends it.")
        return 130
    finally:
        stop.set()
        supervisor.join(timeout=5)
    print(f"Run {run.id}: {run.status}. {run.message or ''}".rstrip())
    return 0 if run.status == "succeeded" else 1


def _train_elsewhere(arguments: argparse.Namespace) -> int:
    """A run that an engine carries out: its folder is its record, for the ledger is another machine's."""
    from rlhf_core.ground.processes import this_host
    from rlhf_core.ground.runs import ORDER_FILE
    from rlhf_core.ground.settings import Workspace
    from rlhf_core.store.folder_runs import FolderRecord, read_order

    root, run_id = Workspace.root_named(arguments.workspace), str(arguments.run_id)
    folder = Workspace(root).run_folder(run_id)
    if not (folder / ORDER_FILE).is_file():
        raise NotFound(
            f"{root} on {this_host()} has no run {run_id}: the workspace is not there. Mount it on every node, and set "
            "workspace in the engine's settings to where it is."
        )
    workspace, record = Workspace(root), FolderRecord(folder, arguments.attempt)
    order, run = read_order(folder), record.get(run_id)
    if int(os.environ.get("RANK", "0")):
        return _train_along(workspace, run_id, run.snapshot_id, CONFIGS[run.kind].parse(run.config))
    if run.status == "queued" and order.version != __version__:
        record.claim(run_id, this_host())
        words = f"{this_host()} has RLHF Workbench {__version__}, and {order.version} asks for this run. Install one on all."
        record.finish(run_id, "failed", words, None)
        raise InvalidInput(words)
    return _carry_out(workspace, record, run, own_log=True)


def _sweep(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import sweeping, training

    kind: RunKind = arguments.kind
    base: dict[str, Any] = dict(PRESETS[kind][arguments.preset]) if arguments.preset else {}
    if arguments.config is not None:
        base |= _options_of(arguments.config)
    for pair in arguments.set:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise InvalidInput(f"{pair!r}: write --set option=value.")
        base[name.replace("-", "_")] = None if value == "none" else value
    space = sweeping.parse_space(kind, "\n".join(arguments.vary))
    how: sweeping.How = "grid" if arguments.random is None else "random"
    varied = sweeping.points(space, how, arguments.random, arguments.draw_seed)
    if arguments.try_only:
        for one in varied:
            CONFIGS[kind].parse({**base, **one})
            print(sweeping.in_words(one))
        print(f"{len(varied)} runs; nothing was queued.")
        return 0
    workbench = _open(arguments)
    snapshot_id = arguments.snapshot or training.newest_snapshot(workbench)
    name, runs = sweeping.begin(workbench, kind, snapshot_id, base, varied, where=_place_of(arguments))
    for run, one in zip(runs, varied, strict=True):
        print(f"{run.id}  {sweeping.in_words(one)}")
    print(f"{name}: {len(runs)} runs are queued; the app or `python -m rlhf_core supervise` starts them.")
    return 0


def _sweeps(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import sweeping

    workbench = _open(arguments)
    if arguments.name is None:
        for one in sweeping.sweeps(workbench):
            left = f", {one.unfinished} not over" if one.unfinished else ""
            print(f"{one.name}  {one.created_at[:19]}  {one.runs} runs of {one.kind}{left}")
        return 0
    if arguments.cancel:
        print(f"{sweeping.cancel(workbench, arguments.name)} runs were cancelled.")
        return 0
    found = sweeping.results(workbench, arguments.name)
    if arguments.by is not None and arguments.by not in found.measures:
        raise InvalidInput(
            f"There is no {arguments.by!r} on validation data; there is {', '.join(found.measures) or 'nothing yet'}."
        )
    by = arguments.by or (found.measures[0] if found.measures else "")
    print("\t".join(["run", "status", *found.varied, *(f"{name}, validation" for name in found.measures), f"{by}, test"]))
    for row in found.ranked(by):
        figures = [row.validation.get(name) for name in found.measures] + [row.test.get(by)]
        print("\t".join([row.run.id, row.run.status, *map(str, row.options.values()),
                         *("" if value is None else f"{value:.4f}" for value in figures)]))  # fmt: skip
    return 0


def _depot(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import keeping

    workbench = _open(arguments)
    here = {one for ids in keeping.here(workbench).values() for one in ids}
    there = {one.id: one for one in keeping.listing(workbench)} if arguments.act == "list" or arguments.all else {}
    if arguments.act == "list":
        for one in there.values():
            where = "here too" if one.id in here else "only there"
            print(f"{one.id}  {one.created_at[:19]}  {one.size_bytes / 2**20:10.1f} MiB  {where}")
        for artifact_id in sorted(here - there.keys()):
            print(f"{artifact_id}  only here")
        return 0
    ids = list(arguments.id)
    if arguments.all and arguments.act in ("keep", "fetch"):
        ids += sorted(here - there.keys() if arguments.act == "keep" else there.keys() - here)
    if not ids:
        print("Nothing to do." if arguments.all else f"Name what to {arguments.act}: an id, or its beginning.")
        return 0 if arguments.all else 2
    for artifact_id in ids:
        if arguments.act == "verify":
            print(f"{keeping.verify(workbench, artifact_id).id}: every file there is what its manifest says")
        elif arguments.act == "drop":
            print(f"{keeping.drop(workbench, artifact_id)}: gone from the depot")
        else:
            name, moved = {"keep": keeping.keep, "fetch": keeping.fetch}[arguments.act](workbench, artifact_id, print)
            print(f"{name}: {moved.sent_bytes / 2**20:.1f} MiB went over, {moved.there_bytes / 2**20:.1f} were there already")
    return 0


def _hand_over(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import handing_over, training

    values: dict[str, Any] = {"base_model": arguments.policy} | (_options_of(arguments.config) if arguments.config else {})
    values |= {"reward": arguments.reward, "base_model": arguments.policy}
    if arguments.accept_ungated_reward:
        values["accept_ungated_reward"] = True
    workbench = _open(arguments)
    config = PPOConfig.parse(values)
    snapshot_id = arguments.snapshot or training.newest_snapshot(workbench)
    out = handing_over.hand_over(
        workbench, arguments.to, snapshot_id, config, arguments.out, url=arguments.url, gpus=arguments.gpus
    )  # fmt: skip
    print(f"{out}: its README.md says how to go on.")


def _take_back(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import handing_over

    run, checkpoint = handing_over.take_back(_open(arguments), arguments.handed, arguments.model)
    print(f"{checkpoint.id}: a policy of run {run.id}")


def _serve_reward(arguments: argparse.Namespace) -> int:
    import uvicorn

    from rlhf_core.api import rewards
    from rlhf_core.services.handing_over import Reading
    from rlhf_core.services.modelling import gate, model

    workbench = _open(arguments)
    checkpoint_id = model(workbench, arguments.checkpoint).checkpoint.id
    if not arguments.accept_ungated_reward:
        gate(workbench, checkpoint_id, "steps" if arguments.reward_on == "steps" else "answers", "PPO")
    if arguments.host not in ("127.0.0.1", "localhost", "::1") and not arguments.token:
        raise InvalidInput(f"With --host {arguments.host} everybody on the network could ask. Set --token, or RLHF_REWARD_TOKEN.")
    app = rewards.create(
        workbench.scoring, checkpoint_id, Reading(arguments.reward_on, arguments.step_unit), token=arguments.token,
        device=arguments.device,
    )  # fmt: skip
    print(f"{checkpoint_id} at http://{arguments.host}:{arguments.port}", flush=True)
    uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning")
    workbench.close()
    return 0


def _engines(arguments: argparse.Namespace) -> int:
    from rlhf_core.ground.engines import engines
    from rlhf_core.services import training

    workbench, wrong = _open(arguments), 0
    for name in [LOCAL, *(one.name for one in engines())]:
        try:
            found = training.capacity(workbench, name)
        except RlhfError as error:
            print(f"{name}: {error}")
            wrong = 1
        else:
            print(f"{name}: {training.capacity_in_words(found)}")
    return wrong


def _check(workbench: Workbench, kind: RunKind, snapshot_id: str | None, config: RunConfig) -> int:
    from rlhf_core.services import preflight, training

    found = preflight.check(workbench, kind, snapshot_id or training.newest_snapshot(workbench), config)
    for one in found.findings:
        print(f"{one.level:<5} {one.words}")
    print(preflight.time_in_words(found))
    return 2 if found.stops else 0


def _carry_out(
    workspace: Workspace, record: RunRecord, run: Run, *, own_log: bool, workbench: Workbench | None = None
) -> int:  # fmt: skip
    """Do a run's work in this process, by the options in its row alone. ``workbench``: where it may write to the store."""
    from rlhf_core.ground.processes import ProcessIdentity

    if own_log and run.status == "running" and workbench is not None:  # it was added for this very process
        me = ProcessIdentity.of_this_run()
        record.set_process(run.id, run.host or "", me.pid, me.create_time)
    config = CONFIGS[run.kind].parse(run.config)
    try:
        work = _body_of(workspace, run, config)
        from rlhf_core.runs.recording import record_run
        from rlhf_core.runs.trackers import open_tracker
    except BaseException as error:
        record.finish(run.id, "failed", f"It could not be started: {error!r}.", None)
        raise

    def body(recorder: Recorder) -> tuple[str, str]:
        tracker = open_tracker(config.report_to, run.id, workspace.run_folder(run.id), run.config)
        if tracker is not None:
            recorder.send_to(tracker[0])
        try:
            done = work(recorder)
        finally:
            if tracker is not None:
                tracker[1]()
        return _stored(workbench, run, done) if run.kind == "generate" else done

    print(f"Run {run.id}{f', snapshot {run.snapshot_id}' if run.snapshot_id else ''}", flush=True)
    return record_run(
        record, run.id, workspace.run_folder(run.id), body, own_log=own_log, remedy=less_memory(run.kind, run.config)
    )  # fmt: skip


def _body_of(workspace: Workspace, run: Run, config: RunConfig) -> Callable[[Recorder], tuple[str, str]]:
    """What carries out a run of this kind; the import of torch and all that learns."""
    if isinstance(config, PPOConfig):
        from rlhf_core.runs.ppo import train_ppo

        return lambda recorder: train_ppo(workspace, run.id, run.snapshot_id, config, recorder)
    if isinstance(config, SFTConfig):
        from rlhf_core.runs.sft import train_sft

        return lambda recorder: train_sft(workspace, run.id, run.snapshot_id, config, recorder)
    if isinstance(config, GenerateConfig):
        from rlhf_core.runs.generate import generate

        return lambda recorder: generate(workspace, run.id, run.snapshot_id, config, recorder)
    assert isinstance(config, RewardConfig)
    from rlhf_core.runs.reward import train_reward

    return lambda recorder: train_reward(workspace, run.id, run.snapshot_id, config, recorder)


def _stored(workbench: Workbench | None, run: Run, done: tuple[str, str]) -> tuple[str, str]:
    """Put what a run wrote into the store, where this process may."""
    from rlhf_core.services import generating

    message, checkpoint_id = done
    try:
        if workbench is None:
            raise SignInRequired("The store is another machine's.")
        counts = generating.store(workbench, run)
    except SignInRequired:
        return f"{message} They wait in its folder: somebody who is signed in puts them into the store, on Train.", checkpoint_id
    known = f", {counts.known_chats} were there already" if counts.known_chats else ""
    return f"{message} {counts.chats} chats were added to the store{known}.", checkpoint_id


def _train_along(workspace: Workspace, run_id: str, snapshot_id: str | None, config: RunConfig) -> int:
    """The work of one of several processes that is not the first: it learns its share, and records nothing."""
    from rlhf_core.runs.recording import Cancelled, Silent, end_with_the_others, say_along

    end_with_the_others()
    try:
        if isinstance(config, RewardConfig) and snapshot_id is not None:
            from rlhf_core.runs.reward import train_reward

            train_reward(workspace, run_id, snapshot_id, config, Silent())
        elif isinstance(config, PPOConfig):
            from rlhf_core.runs.ppo import train_ppo

            train_ppo(workspace, run_id, snapshot_id or "", config, Silent())
        else:
            raise InvalidInput("Several processes train reward models and policies by rewards; start other runs in one process.")
    except Cancelled:
        pass  # with the first one, which says so: an error here would end it while it saves
    except BaseException as error:
        say_along(workspace.run_folder(run_id) if run_id else workspace.root, int(os.environ["RANK"]), error)
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
