"""The pages' side of scoring: starts the worker process when first needed, asks it, restarts it when it died. Torch-free."""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rlhf_core.ground import errors
from rlhf_core.ground.errors import RlhfError, WorkerFailed
from rlhf_core.ground.settings import PROJECT_ROOT

START_TIMEOUT_S = 120.0
REQUEST_TIMEOUT_S = 300.0
WARM_DELAY_S = 1.0


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Which model should score: a checkpoint, or a base model with an untrained, seeded head."""

    checkpoint: str | None = None
    base: str | None = None
    seed: int = 0
    max_length: int = 512

    def to_request(self) -> dict[str, Any]:
        if self.checkpoint is not None:
            return {"checkpoint": self.checkpoint}
        return {"base": self.base, "seed": self.seed, "max_length": self.max_length}


class ScoringClient:
    """Thread-safe; requests go one after another. The worker ends with this process, or after a quarter of an hour idle."""

    def __init__(self, checkpoints: Path, log_file: Path) -> None:
        self._checkpoints, self._log_file = checkpoints, log_file
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._replies: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._ready = False
        self._ids = itertools.count()

    def warm(self) -> None:
        """Start the worker soon and without waiting for it, so that its imports overlap with the person's choosing and
        not with the page's first drawing."""
        if self.pid is None:
            timer = threading.Timer(WARM_DELAY_S, self._warm_now)
            timer.daemon = True
            timer.start()

    def _warm_now(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                self._ensure_started()
            finally:
                self._lock.release()

    def score(self, model: ModelRef, pairs: Sequence[tuple[str, str]], steps: Sequence[str] = ()) -> list[float]:
        """Rewards in stars of ``(query, answer)`` pairs; before them those of the first answer's ``steps``, if they are given.

        Raises:
            WorkerFailed: the process died or took longer than five minutes.
            RlhfError: what the worker said (a corrupt checkpoint, a model that is not available).
        """
        with self._lock:
            try:
                reply = self._ask(model, pairs, steps)
            except _WorkerGone:  # it may have ended from idleness just now; one fresh try
                reply = self._ask_freshly(model, pairs, steps)
        if "error" in reply:
            kind = getattr(errors, reply["kind"], RlhfError) if reply["expected"] else WorkerFailed
            raise kind(reply["error"])
        return list(reply["rewards"])

    def close(self) -> None:
        with self._lock:
            self._end()

    @property
    def pid(self) -> int | None:
        """The worker's process id while it lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def _ask_freshly(self, model: ModelRef, pairs: Sequence[tuple[str, str]], steps: Sequence[str]) -> dict[str, Any]:
        self._end()
        try:
            return self._ask(model, pairs, steps)
        except _WorkerGone as gone:
            self._end()
            raise WorkerFailed(f"The scoring process died twice. {self._last_words()} The log is {self._log_file}.") from gone

    def _ask(self, model: ModelRef, pairs: Sequence[tuple[str, str]], steps: Sequence[str]) -> dict[str, Any]:
        process = self._ensure_started()
        if not self._ready:
            self._next_reply(START_TIMEOUT_S)
            self._ready = True
        request = {
            "id": next(self._ids),
            "model": model.to_request(),
            "pairs": [list(pair) for pair in pairs],
            "steps": list(steps),
        }
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError as error:
            raise _WorkerGone from error
        reply = self._next_reply(REQUEST_TIMEOUT_S)
        if reply["id"] != request["id"]:
            raise AssertionError(f"reply {reply['id']} to request {request['id']}")
        return reply

    def _next_reply(self, timeout_s: float) -> dict[str, Any]:
        try:
            line = self._replies.get(timeout=timeout_s)
        except queue.Empty:
            self._end()
            raise WorkerFailed(f"The scoring process did not answer within {timeout_s:.0f} s and was ended.") from None
        if not line:
            raise _WorkerGone
        return dict(json.loads(line))

    def _ensure_started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rlhf_core.inference.worker", "--checkpoints", str(self._checkpoints)],
                cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self._process.stdout is not None
        threading.Thread(target=_pump, args=(self._process.stdout, self._replies), daemon=True, name="scoring").start()
        return self._process

    def _end(self) -> None:
        process, self._process, self._ready = self._process, None, False
        self._replies = queue.SimpleQueue()
        if process is not None:
            process.kill()
            process.wait()
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):  # what it was never going to read
                    process.stdin.close()

    def _last_words(self) -> str:
        try:
            lines = self._log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""


class _WorkerGone(Exception):
    """The worker's output ended."""


def _pump(stream: IO[bytes], replies: queue.SimpleQueue[bytes]) -> None:
    with stream:
        for line in stream:
            replies.put(line)
    replies.put(b"")
