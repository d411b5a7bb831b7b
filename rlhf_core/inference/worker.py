"""The scoring process of a machine: ``python -m rlhf_core.inference.worker``. It serves one workspace's pages, API and commands.

It listens on a socket that only this account can open; a connection carries a JSON request a line, and a reply to each in order.
Requests of several connections take turns. An answer that is streamed is many replies, a token each, and ends when its connection
does; all that are being written take turns by the token. It ends when nobody is connected any more, or nobody asked for a while.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Generator
from pathlib import Path
from typing import Any

import filelock
import psutil

from rlhf_core.ground.errors import RlhfError

ALONE_EXIT_S = 10.0  # after the last connection
FIRST_CONNECTION_S = 60.0
IDLE_EXIT_S = 900.0
MODEL_IDLE_S = 300.0
SEND_TIMEOUT_S = 30.0


def scored(models: Any, request: dict[str, Any]) -> dict[str, Any]:
    """A reply: for each model its ``scores`` (an :class:`AnswerScore` for each answer), or what is wrong with it."""
    from rlhf_core.ground.answers import Answer
    from rlhf_core.learn.scoring import score_together

    answers = [Answer(query, response, tuple(steps)) for query, response, steps in request["answers"]]
    results: list[dict[str, Any]] = [{} for _ in request["models"]]
    ready = {}
    for k, ref in enumerate(request["models"]):
        try:
            ready[k] = models.reward_model(ref, request["device"])
        except Exception as error:
            results[k] = _said(error)
    for k, scores in zip(ready, score_together([*ready.values()], answers), strict=True):
        results[k] = {"scores": [one.to_json() for one in scores]}
    return {"results": results}


def explained(models: Any, request: dict[str, Any]) -> dict[str, Any]:
    """A reply: an :class:`~rlhf_core.ground.answers.Explained` of one reading."""
    from dataclasses import asdict

    from rlhf_core.learn.explaining import explain

    return asdict(explain(models.reward_model(request["model"], request["device"]).model, _reading(request["reading"])))


def alike(models: Any, request: dict[str, Any]) -> dict[str, Any]:
    """A reply: ``likeness`` of each of ``others`` to ``reading``."""
    from rlhf_core.learn.explaining import likeness

    model = models.reward_model(request["model"], request["device"]).model
    return {"likeness": likeness(model, _reading(request["reading"]), [_reading(one) for one in request["others"]])}


def written(models: Any, request: dict[str, Any]) -> dict[str, Any]:
    """A reply: ``answers``, of which each is a text and whether the policy ended it."""
    writer = models.writer({"policy": request["policy"]}, request["device"])
    return {"answers": [[one.text, one.ended] for one in writer.write(request["query"], request["count"], **request["how"])]}


def streamed(models: Any, request: dict[str, Any]) -> Generator[str, None, bool]:
    """The tokens of one answer: see :meth:`rlhf_core.learn.writing.Writer.stream`."""
    writer = models.writer({"policy": request["policy"]}, request["device"])
    ended: bool = yield from writer.stream(request["query"], **request["how"])
    return ended


def _reading(given: list[Any]) -> Any:
    from rlhf_core.learn.reading import Reading

    query, answer, begin, end = given
    return Reading(query, answer, ((begin, end),))


def answer(models: Any, request: dict[str, Any]) -> dict[str, Any]:
    """What the request asks for; an error as ``error``, ``kind`` (an exception's name) and ``expected`` (a user can mend it)."""
    try:
        return {"score": scored, "explain": explained, "alike": alike, "write": written}[request["op"]](models, request)
    except Exception as error:
        return _said(error)


def _said(error: Exception) -> dict[str, Any]:
    kind, expected = type(error).__name__, isinstance(error, RlhfError)
    return {"error": str(error) if expected else f"{kind}: {error}", "kind": kind, "expected": expected}


class Server:
    """Accepts connections and answers their requests, one at a time, in turns."""

    def __init__(self, listening: socket.socket, models: Any) -> None:
        self._listening, self._models = listening, models
        self._waiting: OrderedDict[socket.socket, deque[bytes]] = OrderedDict()
        self._parts: dict[socket.socket, bytearray] = {}
        self._streams: dict[socket.socket, tuple[int, Generator[str, None, bool]]] = {}  # of each connection: of which request
        self._selector = selectors.DefaultSelector()
        self._selector.register(listening, selectors.EVENT_READ)
        process = psutil.Process()
        self._hello = {"pid": process.pid, "create_time": process.create_time()}

    def serve(self) -> None:
        """Until nobody is connected, or nobody asks."""
        asked, alone = time.monotonic(), time.monotonic() + FIRST_CONNECTION_S - ALONE_EXIT_S
        while True:
            busy = self._streams or any(self._waiting.values())
            for key, _ in self._selector.select(0 if busy else 1.0):
                self._accept() if key.fileobj is self._listening else self._read(key.fileobj)  # type: ignore[arg-type]
            now = time.monotonic()
            answered, streamed_on = self._answer_one(), self._stream_on()
            if answered or streamed_on:
                asked = now
            elif now - asked > IDLE_EXIT_S:
                return
            self._models.let_go(MODEL_IDLE_S)
            if self._waiting:
                alone = now
            elif now - alone > ALONE_EXIT_S:
                return

    def _accept(self) -> None:
        connection, _ = self._listening.accept()
        connection.settimeout(SEND_TIMEOUT_S)
        self._waiting[connection], self._parts[connection] = deque(), bytearray()
        self._selector.register(connection, selectors.EVENT_READ)
        self._send(connection, self._hello)

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(2**20)
        except OSError:
            data = b""
        if not data:
            self._drop(connection)  # with what it still waited for
            return
        part = self._parts[connection]
        part += data
        if b"\n" in data:
            *lines, rest = bytes(part).split(b"\n")
            self._waiting[connection].extend(lines)
            self._parts[connection] = bytearray(rest)

    def _answer_one(self) -> bool:
        """Answer the oldest request of the connection whose turn it is."""
        connection = next((one for one, lines in self._waiting.items() if lines and one not in self._streams), None)
        if connection is None:
            return False
        line = self._waiting[connection].popleft()
        self._waiting.move_to_end(connection)
        try:
            request = json.loads(line)
            number = request["id"]
        except (ValueError, KeyError, TypeError):
            self._drop(connection)  # no client of ours
            return True
        if request["op"] == "stream":
            self._streams[connection] = number, streamed(self._models, request)
            return True
        self._send(connection, answer(self._models, request) | {"id": number})
        return True

    def _stream_on(self) -> bool:
        """One token more of each answer that is being written."""
        for connection, (number, tokens) in [*self._streams.items()]:
            try:
                reply: dict[str, Any] = {"delta": next(tokens)}
            except StopIteration as end:
                reply = {"ended": end.value}
            except Exception as error:
                reply = _said(error)
            if "delta" not in reply:
                del self._streams[connection]
            self._send(connection, reply | {"id": number})
        return bool(self._streams)

    def _send(self, connection: socket.socket, value: dict[str, Any]) -> None:
        try:
            connection.sendall(json.dumps(value).encode() + b"\n")
        except OSError:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        if self._waiting.pop(connection, None) is not None:
            del self._parts[connection]
            self._streams.pop(connection, None)
            self._selector.unregister(connection)
            connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--budget-mb", type=float, required=True)
    arguments = parser.parse_args()
    lock = filelock.FileLock(arguments.socket.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return 0  # another one serves
    arguments.socket.unlink(missing_ok=True)
    os.dup2(2, 1)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(arguments.socket))
    listening.listen(64)  # callers may wait here while the slow imports go on
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    from rlhf_core.inference.models import WarmModels

    try:
        Server(listening, WarmModels(arguments.checkpoints, arguments.budget_mb)).serve()
    finally:
        arguments.socket.unlink(missing_ok=True)  # before the lock goes, so that a successor's is never removed
        lock.release()
    return 0


if __name__ == "__main__":
    sys.exit(main())
