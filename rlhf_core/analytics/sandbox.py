"""Somebody's SQL, asked of a snapshot in a process of its own that can be killed: whatever a statement does, pages go on.

One process waits ready, its libraries imported, so that an answer takes as long as the query. DuckDB opens the prepared file
read-only, without files, network, extensions or settings (see ``sandbox_worker``).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from rlhf_core.analytics.explorer import prepare, settings
from rlhf_core.analytics.snapshot import EXPLORE, Snapshot
from rlhf_core.ground.errors import InvalidInput

WORKER = Path(__file__).with_name("sandbox_worker.py")
TIMEOUT_S = 30.0
GRACE_S = 3.0
MAX_ROWS = 1_000_000
MAX_BYTES = 256 << 20
MEMORY = "1GB"
MAX_SQL_CHARS = 100_000
KEPT_S = 24 * 3600.0  # results of closed browsers


@dataclass(frozen=True, slots=True)
class Result:
    """Rows of an answer, read from disk as they are looked at. ``columns``: (name, type)."""

    path: Path
    columns: list[tuple[str, str]]
    rows: int
    truncated: bool
    seconds: float

    def read(self, begin: int = 0, count: int | None = None) -> pa.Table:
        """Rows from ``begin`` on."""
        with pa.memory_map(str(self.path)) as file:
            reader = pa.ipc.open_file(file)
            found, at, end = [], 0, self.rows if count is None else begin + count
            for k in range(reader.num_record_batches):
                if at >= end:
                    break
                batch = reader.get_batch(k)
                if at + batch.num_rows > begin:
                    found.append(batch.slice(max(0, begin - at), end - max(at, begin)))
                at += batch.num_rows
            return pa.Table.from_batches(found, schema=reader.schema)

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)


def _told(error: str) -> str:
    """DuckDB's words, and what to do where they leave that open."""
    if "Values were not provided for the following" in error:
        return f"{error}. Statements take no parameters here: write the value itself. Named questions (`query`) have some."
    return error


class Running:
    """A statement under way."""

    def __init__(self, process: subprocess.Popen[bytes], result: Path, timeout_s: float) -> None:
        self._process, self._result = process, result
        self._timeout_s = timeout_s
        self.began = time.monotonic()
        self.cancelled = False  # by whoever asked
        self._killer = threading.Timer(timeout_s + GRACE_S, self._kill)
        self._killer.daemon = True
        self._killer.start()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began

    @property
    def done(self) -> bool:
        return self._process.poll() is not None

    def _kill(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def cancel(self) -> None:
        """Stop it now."""
        self.cancelled = True
        self._kill()

    def result(self) -> Result:
        """Wait for the end.

        Raises:
            InvalidInput: what was wrong with the statement, or why it was stopped.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self._process.wait()
        self._process.stdout.close()
        self._killer.cancel()
        reply: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"error": self._why_it_died()}
        if "error" in reply or self.cancelled:
            self._result.unlink(missing_ok=True)
            raise InvalidInput("Cancelled." if self.cancelled else _told(reply["error"]))
        columns = [(name, kind) for name, kind in reply["columns"]]
        return Result(self._result, columns, reply["rows"], reply["truncated"], reply["seconds"])

    def _why_it_died(self) -> str:
        if self.elapsed_s >= self._timeout_s:
            return f"Stopped after {self._timeout_s:g} s. Ask for less: fewer rows, a filter, no join of everything."
        return "The query took more memory than it may have and was stopped. Ask for less: fewer columns, a filter, an aggregate."


class Sandbox:
    """Starts statements; keeps one process ready."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready: list[subprocess.Popen[bytes]] = []
        weakref.finalize(self, _dismiss, self._ready)

    def warm(self) -> None:
        """Have a process ready."""
        with self._lock:
            if self._ready and self._ready[0].poll() is not None:
                _dismiss(self._ready)
            if not self._ready:
                self._ready.append(_spawn())

    def start(self, snapshot: Snapshot, sql: str, *, timeout_s: float = TIMEOUT_S, max_rows: int = MAX_ROWS) -> Running:
        """
        Raises:
            InvalidInput: nothing was written, or more than a statement can be.
            CorruptArtifact: the snapshot is damaged.
        """
        if not sql.strip():
            raise InvalidInput("Write a SELECT first.")
        if len(sql) > MAX_SQL_CHARS or "\0" in sql:
            raise InvalidInput(f"A statement has at most {MAX_SQL_CHARS:,} characters, none of them NUL.")
        folder = snapshot.folder.parent / EXPLORE
        database = prepare(snapshot)
        _sweep(folder)
        result = folder / f"result-{uuid.uuid4().hex}.arrow"
        request = {
            "database": str(database), "sql": sql, "result": str(result), "max_rows": max_rows, "max_bytes": MAX_BYTES,
            "timeout_s": timeout_s, "settings": settings(memory=MEMORY),
        }  # fmt: skip
        self.warm()
        with self._lock:
            process = self._ready.pop() if self._ready else _spawn()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: waiting for its result says so
            process.stdin.write(json.dumps(request).encode() + b"\n")
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        return Running(process, result, timeout_s)

    def close(self) -> None:
        with self._lock:
            _dismiss(self._ready)


def _dismiss(ready: list[subprocess.Popen[bytes]]) -> None:
    while ready:
        process = ready.pop()
        process.kill()
        process.communicate()


def _spawn() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath}, cwd="/", start_new_session=True,
    )  # fmt: skip


def _sweep(folder: Path) -> None:
    for path in folder.glob("result-*.arrow"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > KEPT_S:
                path.unlink()
