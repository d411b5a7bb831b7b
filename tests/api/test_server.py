"""The server's own module: what goes to the API, and how it listens."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import anyio
import pytest

import app as server
from rlhf_core.api.watching import RequestFile, request_log


def test_answers_wait_for_no_acknowledgement() -> None:
    """Where the server listens, and what it accepts, Nagle's algorithm is off."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:  # as Streamlit makes it
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        assert not listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        server._answer_at_once()
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_only_the_api_goes_to_the_api() -> None:
    seen: list[tuple[str, str, str]] = []

    def app_named(name: str) -> Any:
        async def one(scope: Any, *_: Any) -> None:
            seen.append((name, scope["path"], scope.get("root_path", "")))

        return one

    before = server.Before(app_named("pages"), "/api", app_named("api"))
    for kind, path in (("http", "/api/health"), ("http", "/apis"), ("http", "/api"), ("websocket", "/api/x"), ("http", "/label")):
        anyio.run(before, {"type": kind, "path": path}, None, None)
    assert seen[0] == ("api", "/api/health", "/api")
    assert [one for one, _, root in seen if not root] == ["pages"] * 4


def test_a_full_disk_costs_lines_of_the_log_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    requests = request_log(tmp_path)
    (handler,) = requests.handlers
    assert isinstance(handler, RequestFile)
    requests.info("one")

    def full(_: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(handler.stream, "write", full, raising=False)
            for _ in range(3):
                requests.info("lost")
        requests.info("written")
    assert (tmp_path / "api.jsonl").read_text().splitlines() == ["one", "written", "written"]
    assert [one.message for one in caplog.records if "cannot be written" in one.message] == [
        "the log of requests cannot be written: [Errno 28] No space left on device"
    ] * 2
    handler.close()
    requests.removeHandler(handler)
