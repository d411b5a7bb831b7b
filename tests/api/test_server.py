"""The server's own module: what goes to the API, and how it listens."""

from __future__ import annotations

import socket
from typing import Any

import anyio

import app as server


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
