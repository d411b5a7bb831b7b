"""What a workspace is, who is in it, and whether it is whole."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, get_args

from rlhf_core.commands.carrying_out import carry_out
from rlhf_core.commands.shared import Command, existing_workbench, open_workbench
from rlhf_core.ground.applications import PER_MINUTE
from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.roles import ROLES
from rlhf_core.ground.settings import PROJECT_ROOT, SECRET_KEY_VARIABLE, WORKSPACE_VARIABLE
from rlhf_core.intake import formats


def add(command: Command) -> None:
    one = command("app", _app, "open the workbench in the browser")
    one.add_argument("--port", type=int, default=8501, help="where it answers on this machine (default: 8501)")
    one.add_argument("--no-browser", action="store_true", help="only serve: on a server, or where one opens the page oneself")
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
    one = command("applications", _applications, "list the chat applications that may send feedback; let one in, or no more")
    one.add_argument("what", nargs="?", choices=["add", "change", "revoke"])
    one.add_argument("name", nargs="?")
    one.add_argument("--per-minute", type=int, metavar="N", help=f"requests that it may send (default: {PER_MINUTE})")
    one.add_argument("--keep-days", type=int, metavar="N", help="delete its chats after so many days (0: keep them for ever)")
    one.add_argument("--consent-version", metavar="V", help="of the words by which its people are asked (default: 1)")
    one.add_argument("--consent-words", metavar="TEXT", help="the words")
    one.add_argument("--new-token", action="store_true", help="with change: the old token opens nothing any more")
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


def _app(arguments: argparse.Namespace) -> int:
    workbench = open_workbench(arguments)  # says at once if the workspace cannot be opened
    workbench.close()
    os.environ.pop(SECRET_KEY_VARIABLE, None)  # the app has no use for it, and must not hold it
    os.environ[WORKSPACE_VARIABLE] = str(workbench.workspace.root)
    os.chdir(PROJECT_ROOT)
    os.execv(
        sys.executable,
        [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            "app.py",
            "--server.port",
            str(arguments.port),
            *(["--server.headless", "true"] if arguments.no_browser else []),
        ],
    )


def _import(arguments: argparse.Namespace) -> None:
    from rlhf_core.services.importing import import_file

    report = import_file(
        open_workbench(arguments), arguments.file, preset=arguments.format, remove_personal=arguments.remove_personal
    )  # fmt: skip
    print(report)


def _demo(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import training
    from rlhf_core.services.demo import TINY_POLICY, has_policy, load_demo

    workbench = open_workbench(arguments)
    for report in load_demo(workbench):
        print(report)
    if arguments.no_policy:
        return 0
    if has_policy(workbench):
        print("Its tiny policy is here already.")
        return 0
    print(
        "Now a tiny policy learns the set's answers, so that PPO has something to improve: some minutes on a laptop. "
        "Its curve is on the page Train; Ctrl+C leaves it out.",
        flush=True,
    )
    from rlhf_core.services import snapshots

    snapshot, _ = snapshots.take(workbench)
    run = training.add_run(workbench, "sft", snapshot.id, TINY_POLICY, here=True)
    return carry_out(workbench.workspace, workbench.ledger, run, own_log=True, workbench=workbench)


def _team(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import accounts

    workbench = open_workbench(arguments)
    if arguments.email is None:
        for one in accounts.members(workbench):
            print(f"{one.role or 'no role':<9}  {one.ratings:>7} ratings  {one.email}  {one.display_name}")
        return
    if arguments.role is None:
        raise InvalidInput(f"Say which role {arguments.email} gets: {', '.join([*ROLES, 'none'])}.")
    member = accounts.grant(workbench, arguments.email, None if arguments.role == "none" else arguments.role)
    now = "has no role any more" if arguments.role == "none" else f"has the role {arguments.role} now"
    print(f"{member.display_name} ({member.email}) {now}.")


def _migrate(arguments: argparse.Namespace) -> int:
    from rlhf_core.services.migrating import migrate
    from rlhf_core.store.supabase import SupabaseStore

    people = {}
    for text in arguments.person:
        name, equals, email = text.partition("=")
        if not equals or not name.strip() or "@" not in email:
            raise InvalidInput(f"--person {text!r}: give NAME=EMAIL.")
        people[name.strip()] = email.strip()
    workbench = existing_workbench(arguments)
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
    rows = sum(one.rows for one in report.tables.values())
    print("Verified: every row is there." if rows else "There was nothing to carry over.")
    return 0


def _applications(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import collecting

    workbench = open_workbench(arguments)
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

    workbench = existing_workbench(arguments)
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


def _expire(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import collecting

    gone = collecting.expire(existing_workbench(arguments), try_only=arguments.try_only)
    for name, count in gone.items():
        print(f"{name}: {count:,} chats {'would go' if arguments.try_only else 'are deleted'}")
    if not gone:
        print("Nothing was kept for longer than it should be.")


def _backup(arguments: argparse.Namespace) -> None:
    from rlhf_core.services.backing_up import back_up

    out = back_up(
        existing_workbench(arguments), arguments.out, store_only=arguments.store_only,
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
        checkup.findings += doctor.examine_team(open_workbench(arguments))
    print(json.dumps(checkup.as_json(), indent=2) if arguments.json else checkup)
    return 0 if checkup.well else 2
