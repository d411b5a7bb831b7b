"""The torch-free side of scoring: finds this machine's scoring process or starts it, asks it, starts it again when it died."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_core.ground import errors, machine
from rlhf_core.ground.answers import Answer, AnswerScore, Explained
from rlhf_core.ground.errors import InvalidInput, RlhfError, WorkerFailed
from rlhf_core.ground.processes import ProcessIdentity
from rlhf_core.ground.settings import PROJECT_ROOT
from rlhf_core.learn.reading import Reading

START_TIMEOUT_S = 120.0
REQUEST_TIMEOUT_S = 120.0  # and a hundredth of a second for each token that each model has to read
WARM_DELAY_S = 1.0
LAST_WORDS_WAIT_S = 1.0
AT_ONCE = 32  # answers in a request; between two of them others have their turn
AT_ONCE_TOKENS = 65_536  # of them, about: one that has more goes alone
BUDGET_VARIABLE = "RLHF_SCORING_MEMORY_MB"
_LONGEST_SOCKET_PATH = 100


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


def tokens_of(answer: Answer) -> int:
    """About how many tokens have to be read to score it and its steps: each with what stands before it, cut to some length."""
    return (1 + len(answer.steps)) * min(512, 64 + (len(answer.query) + len(answer.response)) // 3)


def parts_of(answers: Sequence[Answer]) -> Iterator[list[Answer]]:
    """As many as go into one request, again and again."""
    part: list[Answer] = []
    tokens = 0
    for one in answers:
        more = tokens_of(one)
        if part and (len(part) == AT_ONCE or tokens + more > AT_ONCE_TOKENS):
            yield part
            part, tokens = [], 0
        part.append(one)
        tokens += more
    if part:
        yield part


def budget_mb() -> float:
    """MiB of weights that the scoring process may keep: ``$RLHF_SCORING_MEMORY_MB``, else a quarter of the machine's memory.

    Raises:
        InvalidInput: the variable is no positive number.
    """
    given = os.environ.get(BUDGET_VARIABLE, "").strip()
    if not given:
        return machine.cpu().total_mb / 4
    try:
        value = float(given)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise InvalidInput(f"{BUDGET_VARIABLE} is {given!r}; expected MiB, a positive number.")
    return value


class ScoringClient:
    """Thread-safe. Each thread's request goes over a connection of its own; the process serves them in turns, and ends when
    nobody is connected any more."""

    def __init__(self, checkpoints: Path, log_file: Path) -> None:
        self._checkpoints, self._log_file = checkpoints, log_file
        self._starting, self._warming = threading.Lock(), threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._free: list[_Line] = []
        self._ids = itertools.count()

    def warm(self) -> None:
        """Start the process soon and without waiting for it, so that its imports overlap with the person's choosing and not with
        the page's first drawing."""
        if self.pid is None:
            timer = threading.Timer(WARM_DELAY_S, self._warm_now)
            timer.daemon = True
            timer.start()

    def _warm_now(self) -> None:
        if self._warming.acquire(blocking=False):
            try:
                with contextlib.suppress(RlhfError), self._line():  # whoever scores next hears of it
                    pass
            finally:
                self._warming.release()

    def score(
        self, models: Sequence[ModelRef], answers: Sequence[Answer], *, device: str = "auto",
        on_progress: Callable[[int], None] | None = None,
    ) -> list[list[AnswerScore] | RlhfError]:  # fmt: skip
        """Rewards of each answer and of its steps.

        Args:
            models: That score; those that share a body read each text once.
            answers: Any number.
            device: auto: a GPU where there is one; cpu; cuda.
            on_progress: Called with how many answers are done.

        Returns:
            For each model one :class:`AnswerScore` for each answer, or why it cannot score.

        Raises:
            WorkerFailed: the process died twice, or took much longer than these answers should.
        """
        found: list[list[AnswerScore] | RlhfError] = [[] for _ in models]
        done = 0
        for some in parts_of(answers):
            able = [k for k, one in enumerate(found) if isinstance(one, list)]
            if not able:
                break
            patience = REQUEST_TIMEOUT_S + 0.01 * len(able) * sum(map(tokens_of, some))
            reply = self._ask(timeout_s=patience, request={
                "op": "score", "device": device, "models": [models[k].to_request() for k in able],
                "answers": [[one.query, one.response, list(one.steps)] for one in some],
            })  # fmt: skip
            for k, result in zip(able, reply["results"], strict=True):
                so_far = found[k]
                assert isinstance(so_far, list)
                if "error" in result:
                    found[k] = _error(result)
                else:
                    so_far += [AnswerScore(**one) for one in result["scores"]]
            done += len(some)
            if on_progress:
                on_progress(done)
        return found

    def explain(self, model: ModelRef, reading: Reading, *, device: str = "auto") -> Explained:
        """Which words moved a reward.

        Args:
            model: That gave it.
            reading: What it read; the reward is that of its first span.
            device: As of :meth:`score`.

        Raises:
            RlhfError: it cannot be loaded or explained.
        """
        reply = self._ask({"op": "explain", "device": device, "model": model.to_request(), "reading": _sent(reading)})
        words = [(begin, end, stars) for begin, end, stars in reply["words"]]
        return Explained(reply["text"], reply["reward"], reply["baseline"], words, reply["rest"], reply["left_out"])

    def alike(
        self, model: ModelRef, reading: Reading, others: Sequence[Reading], *, device: str = "auto"
    ) -> list[float]:  # fmt: skip
        """How alike the model takes each of the others to be to a reading: a cosine from -1 to 1.

        Raises:
            RlhfError: it cannot be loaded, or shows no states.
        """
        reply = self._ask({
            "op": "alike", "device": device, "model": model.to_request(), "reading": _sent(reading),
            "others": [_sent(one) for one in others],
        })  # fmt: skip
        return list(reply["likeness"])

    def write(
        self, policy: str, query: str, count: int, *, max_tokens: int, temperature: float = 1.0, top_p: float = 1.0,
        seed: int = 0, begun: str = "", device: str = "auto",
    ) -> list[tuple[str, bool]]:  # fmt: skip
        """Answers of a policy (a checkpoint, or a causal model's name or folder) to one query, and whether it ended each itself.
        Arguments as of :meth:`rlhf_core.learn.writing.Writer.write`.

        Raises:
            RlhfError: it cannot be loaded, or the question is too long for it.
        """
        how = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed, "begun": begun}
        reply = self._ask({"op": "write", "device": device, "policy": policy, "query": query, "count": count, "how": how})
        return [(text, ended) for text, ended in reply["answers"]]

    def stream(
        self, policy: str, query: str, *, max_tokens: int, temperature: float = 1.0, top_p: float = 1.0, seed: int = 0,
        begun: str = "", device: str = "auto",
    ) -> Generator[str, None, bool]:  # fmt: skip
        """One answer of a policy as it is written. Closing the generator, or dropping it, stops the writing.

        Args:
            policy: A checkpoint, or a causal model's name or folder.
            query, max_tokens, temperature, top_p, seed, begun: As of :meth:`rlhf_core.learn.writing.Writer.stream`.
            device: As of :meth:`score`.

        Yields:
            What a token adds, which may be nothing.

        Returns:
            Whether the policy ended it itself.

        Raises:
            RlhfError: it cannot be loaded, or the question is too long for it.
            WorkerFailed: the process died, at any token.
        """
        how = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed, "begun": begun}
        request = {"op": "stream", "device": device, "policy": policy, "query": query, "how": how, "id": next(self._ids)}
        line = self._connected()
        try:
            reply = line.ask(request, REQUEST_TIMEOUT_S)
            while "delta" in reply:
                yield reply["delta"]
                reply = line.more(REQUEST_TIMEOUT_S)
        except _Gone as gone:
            raise WorkerFailed(f"The scoring process died while it wrote. {self._last_words()}") from gone
        finally:
            line.close()
        if "error" in reply:
            raise _error(reply)
        return bool(reply["ended"])

    def close(self) -> None:
        """Hang up. The process ends by itself when nobody else is connected."""
        while self._free:
            self._free.pop().close()

    @property
    def pid(self) -> int | None:
        """The process's id, once it was connected and while it lives."""
        return next((one.process.pid for one in self._free if one.process.is_alive()), None)

    def _ask(self, request: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """
        Raises:
            RlhfError: what the process said of the request as a whole.
        """
        request |= {"id": next(self._ids)}
        try:
            reply = self._once(request, timeout_s or REQUEST_TIMEOUT_S)
        except _Gone:  # it may have ended from idleness, or somebody ended it: one fresh try
            self.close()  # other connections to it are dead too
            try:
                reply = self._once(request, timeout_s or REQUEST_TIMEOUT_S)
            except _Gone as gone:
                raise WorkerFailed(f"The scoring process died twice over this. {self._last_words()}") from gone
        if reply["id"] != request["id"]:
            raise AssertionError(f"reply {reply['id']} to request {request['id']}")
        if "error" in reply:
            raise _error(reply)
        return reply

    def _once(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        with self._line() as line:
            return line.ask(request, timeout_s)

    @contextlib.contextmanager
    def _line(self) -> Iterator[_Line]:
        """A connection of one's own for a request; one that broke is not used again."""
        try:
            line = self._free.pop()
        except IndexError:
            line = self._connected()
        try:
            yield line
        except BaseException:
            line.close()
            raise
        self._free.append(line)

    def _connected(self) -> _Line:
        """
        Raises:
            WorkerFailed: it cannot be started.
        """
        path = socket_path(self._checkpoints)
        budget = budget_mb()
        deadline = time.monotonic() + START_TIMEOUT_S
        failures = 0
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, _Gone):
                return _Line(path, deadline)
            with self._starting:
                if self._child is None or self._child.poll() is not None:
                    if self._child is not None and self._child.returncode:
                        failures += 1
                    if failures > 1:
                        raise WorkerFailed(f"The scoring process cannot be started. {self._last_words()}")
                    self._child = self._start(path, budget)
            time.sleep(0.1)
        raise WorkerFailed(f"The scoring process did not answer within {START_TIMEOUT_S:.0f} s. {self._last_words()}")

    def _start(self, path: Path, budget: float) -> subprocess.Popen[bytes]:
        with errors.disk_errors("starting the scoring process", self._log_file.parent):
            self._log_file.parent.mkdir(parents=True, exist_ok=True)
            with self._log_file.open("wb") as log:
                return subprocess.Popen(
                    [sys.executable, "-m", "rlhf_core.inference.worker", "--checkpoints", str(self._checkpoints),
                     "--socket", str(path), "--budget-mb", f"{budget:.0f}"],
                    cwd=PROJECT_ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip

    def _last_words(self) -> str:
        """How it ended and the last thing that it wrote."""
        code = None
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs up a moment before it is gone
                code = self._child.wait(LAST_WORDS_WAIT_S)
        how = ""
        if code is not None and code < 0:
            how = f"It was ended by {signal.Signals(-code).name}"
            how += "; memory may have run out: choose fewer checkpoints. " if -code == signal.SIGKILL else ". "
        try:
            lines = self._log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return f"{how}{lines[-1] if lines else ''} The log is {self._log_file}.".strip()


class _Gone(Exception):
    """The process hung up."""


class _Line:
    """One connection. Opening it waits for the process's first words."""

    def __init__(self, path: Path, deadline: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._rest = b""
        try:
            self._socket.connect(str(path))
            hello = self._receive(max(0.1, deadline - time.monotonic()))
        except BaseException:
            self.close()
            raise
        self.process = ProcessIdentity(hello["pid"], hello["create_time"])

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """
        Raises:
            _Gone: it died. WorkerFailed: it does not answer, and was ended.
        """
        try:
            self._socket.settimeout(timeout_s)
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise _Gone from error
        return self.more(timeout_s)

    def more(self, timeout_s: float) -> dict[str, Any]:
        """The next reply. Raises as :meth:`ask`."""
        try:
            return self._receive(timeout_s)
        except TimeoutError:
            if self.process.is_alive():
                os.kill(self.process.pid, signal.SIGKILL)
            raise WorkerFailed(
                f"The scoring process did not answer within {timeout_s:.0f} s and was ended. Try again, or with fewer answers."
            ) from None
        except OSError as error:
            raise _Gone from error

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        self._socket.settimeout(timeout_s)
        parts = [self._rest]
        while b"\n" not in parts[-1]:
            data = self._socket.recv(2**20)
            if not data:
                raise _Gone
            parts.append(data)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return dict(json.loads(line))

    def close(self) -> None:
        self._socket.close()


def socket_path(checkpoints: Path) -> Path:
    """Where the scoring process of these checkpoints listens: in a folder that only this account can enter.

    Raises:
        WorkerFailed: somebody else made that folder.
    """
    name = f"{hashlib.sha256(str(checkpoints.resolve()).encode()).hexdigest()[:16]}.sock"
    folder = Path(tempfile.gettempdir()) / f"rlhf-workbench-{os.getuid()}"
    if len(str(folder / name)) > _LONGEST_SOCKET_PATH:  # a socket's path may be no longer
        folder = Path("/tmp") / folder.name  # noqa: S108  # whose it is, and who may enter, is looked at below
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise WorkerFailed(f"{folder} is not a folder of this account alone. Remove it; the scoring process listens there.")
    return folder / name


def _sent(reading: Reading) -> list[Any]:
    """As the process reads it: query, answer, and where the judged span begins and ends."""
    return [reading.query, reading.answer, *reading.spans[0]]


def _error(said: dict[str, Any]) -> RlhfError:
    kind = getattr(errors, said["kind"], RlhfError) if said["expected"] else WorkerFailed
    found = kind(said["error"])
    assert isinstance(found, RlhfError)
    return found
