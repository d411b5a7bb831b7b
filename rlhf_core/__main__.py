"""The command line: ``python -m rlhf_core COMMAND``."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import sys
from collections.abc import Callable, Collection
from typing import Any

from rlhf_core import __version__
from rlhf_core.commands import analysis, elsewhere, models, training, workspace
from rlhf_core.ground.errors import ImportRejected, RlhfError
from rlhf_core.ground.settings import WORKSPACE_VARIABLE


def main(argv: list[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's odd characters must not break a report
    parser, names = _parser()
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] not in names and (like := difflib.get_close_matches(given[0], names, 1)):
        parser.error(f"there is no command {given[0]!r}; did you mean {like[0]}?")
    arguments = parser.parse_args(given)
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


def _parser() -> tuple[argparse.ArgumentParser, Collection[str]]:
    """It, and the names of its commands."""
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

    for part in (workspace, analysis, models, elsewhere):
        part.add(command)
    training.add(command, commands, [shared])
    return parser, commands.choices


if __name__ == "__main__":
    sys.exit(main())
