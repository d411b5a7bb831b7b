"""Files of JSON lines that grow while they are watched: only what is new is read."""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEPT = 8  # files whose lines are remembered
CHECKED = 64  # bytes before the place where reading went on, which have to be the same still


@dataclass(slots=True)
class _Read:
    at: int = 0
    before: bytes = b""
    lines: list[dict[str, Any]] = field(default_factory=list)


_read: OrderedDict[Path, _Read] = OrderedDict()
_lock = threading.Lock()


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole line; what a writer has half written is left for the next time. A missing file has none."""
    with _lock:
        try:
            with path.open("rb") as file:
                known = _read.pop(path, _Read())
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, known.at - CHECKED))
                if known.at > size or file.read(min(known.at, CHECKED)) != known.before:
                    known = _Read()  # written anew, by a run that went on from an earlier step
                    file.seek(0)
                new = file.read()
        except FileNotFoundError:
            _read.pop(path, None)
            return []
        whole = new[: new.rfind(b"\n") + 1]
        known.lines += [json.loads(line) for line in whole.splitlines()]
        known.at += len(whole)
        known.before = (known.before + whole)[-CHECKED:]
        _read[path] = known
        while len(_read) > KEPT:
            _read.popitem(last=False)
        return list(known.lines)
