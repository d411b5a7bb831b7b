"""SQL lives in files. Reads ``-- name: x`` blocks and ordered migrations from the project's ``sql`` folder."""

from __future__ import annotations

import functools
import re
import sqlite3
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@functools.cache
def named_statements(path: Path) -> dict[str, str]:
    """Statements of one file by name."""
    parts = _NAME.split(path.read_text(encoding="utf-8"))
    statements: dict[str, str] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name in statements:
            raise AssertionError(f"{path} names {name} twice")
        statements[name] = body.strip()
    return statements


def migrations(folder: Path) -> list[tuple[int, str, list[str]]]:
    """Ordered migrations ``NNNN_name.sql``: (version, name, statements). Versions run 1, 2, 3, ... without gaps."""
    found = []
    for expected, path in enumerate(sorted(folder.glob("[0-9]*_*.sql")), start=1):
        number, name = path.stem.split("_", 1)
        if int(number) != expected:
            raise AssertionError(f"migration {path.name} should have the number {expected:04d}")
        found.append((expected, name, _split(path.read_text(encoding="utf-8"))))
    return found


def _split(script: str) -> list[str]:
    statements, buffer = [], ""
    for line in script.splitlines(keepends=True):
        buffer += line
        if sqlite3.complete_statement(buffer):
            statements.append(buffer.strip())
            buffer = ""
    if any(line.strip() and not line.strip().startswith("--") for line in buffer.splitlines()):
        raise AssertionError(f"unfinished SQL statement: {buffer.strip()[:80]}")
    return statements
