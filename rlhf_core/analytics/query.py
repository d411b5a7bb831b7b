"""Named questions: one ``.sql`` file each, asked of a snapshot through DuckDB.

A file's header says its title, the question, its parameters and its columns with units; the file is the only place where a
question is described. Questions are asked of the tables of ``sql/explore/tables.sql``; nothing else can be read by one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_core.analytics.explorer import Filter, asking
from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.settings import SQL_ROOT
from rlhf_core.ground.text import shorten

if TYPE_CHECKING:
    import pandas as pd

FOLDER = SQL_ROOT / "analytics"
_HEADER = re.compile(r"^-- (\w+): (.+)$")


@dataclass(frozen=True, slots=True)
class Question:
    """One named question. ``params``: default by name. ``columns``: unit or meaning by name. ``topic``: what it stands under."""

    name: str
    title: str
    topic: str
    question: str
    params: dict[str, Any]
    columns: dict[str, str]
    sql: str


def read_question(path: Path) -> Question:
    """
    Raises:
        InvalidInput: the header lacks a line or has one that cannot be read.
    """
    header: dict[str, str] = {}
    text = path.read_text(encoding="utf-8")
    for line in text.splitlines():
        if match := _HEADER.match(line):
            header[match[1]] = match[2].strip()
        elif not line.startswith("--"):
            break
    try:
        params: dict[str, Any] = {}
        for part in [] if header["params"] == "none" else header["params"].split(";"):
            name, default = part.split("=")
            params[name.strip()] = float(default) if "." in default else int(default)
        unused = [name for name in params if not re.search(rf"\${re.escape(name)}\b", text)]
        if unused:
            raise ValueError(f"{', '.join(unused)} stands in params and nowhere in the statement as ${unused[0]}")
        columns = dict(part.strip().split(" ", 1) for part in header["columns"].split(";"))
        return Question(path.stem, header["title"], header.get("topic", "Others"), header["question"], params, columns, text)
    except (KeyError, ValueError) as error:
        raise InvalidInput(
            f"{path} needs the header lines title, question, params (none, or name=default; ...) and columns "
            f"(name unit; ...): {error!r}"
        ) from error


def questions() -> list[Question]:
    return [read_question(path) for path in sorted(FOLDER.glob("*.sql"))]


def ask(snapshot: Snapshot, name: str, only: Filter | None = None, **params: Any) -> pd.DataFrame:
    """Ask a named question of a snapshot, or of the part of it that ``only`` says.

    Raises:
        NotFound: no question of that name.
        InvalidInput: a parameter that the question does not have or cannot take, or a damaged file.
    """
    path = FOLDER / f"{name}.sql"
    if not path.is_file():
        known = ", ".join(question.name for question in questions())
        raise NotFound(f"There is no question {name!r}. Questions: {known}.")
    question = read_question(path)
    if unknown := set(params) - set(question.params):
        raise InvalidInput(f"{name} has no parameter {', '.join(sorted(unknown))}; it has {list(question.params)}.")
    if wrong := [f"{one}={value!r}" for one, value in params.items() if isinstance(value, bool | None | str)]:
        raise InvalidInput(f"{name}: {', '.join(wrong)} should be a number.")
    import duckdb

    with asking(snapshot, only) as connection:
        try:
            return connection.execute(question.sql, question.params | params).df()
        except (
            duckdb.InvalidInputException,
            duckdb.ConversionException,
            duckdb.BinderException,
            duckdb.CatalogException,
        ) as error:
            raise InvalidInput(f"{name} could not be answered from snapshot {snapshot.id}: {shorten(str(error), 200)}") from error


def questions_in_markdown() -> str:
    """Every named question by its header, as the documentation has it."""
    lines = [
        "# Named questions", "",
        "What the page Explore and `python -m rlhf_core query NAME` ask of a snapshot. Each is a file of `sql/analytics/`;",
        "how to write one: [exploring.md](exploring.md). Written by `python -m rlhf_core reference questions`.",
    ]  # fmt: skip
    for topic in dict.fromkeys(one.topic for one in questions()):
        lines += ["", f"## {topic}"]
        for one in (one for one in questions() if one.topic == topic):
            params = ", ".join(f"`{name}` ({value})" for name, value in one.params.items())
            columns = "; ".join(f"`{name}` {unit}" for name, unit in one.columns.items())
            lines += ["", f"### {one.name}", "", f"**{one.title}.** {one.question}", ""]
            lines += [f"Parameters: {params}.", ""] if params else []
            lines += [f"Columns: {columns}."]
    return "\n".join(lines) + "\n"
