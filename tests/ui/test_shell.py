"""Under which names the pages answer, who may open a live connection, and what the page may run."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

import app as server
from rlhf_core.ui.shell import Shell, dressed, policy
from rlhf_core.ui.shell.hosts import Hosts

PAGE = "<!DOCTYPE html><html><head><script>\n  before()\n</script></head><body>é</body></html>"


async def greet(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


def site(**options: Any) -> TestClient:
    inner = Starlette(routes=[
        Route("/_stcore/health", lambda _: PlainTextResponse("ok")), Route("/static/a.html", lambda _: HTMLResponse(PAGE)),
        Route("/data.txt", lambda _: PlainTextResponse("a" * 100_000)), Route("/{rest:path}", lambda _: HTMLResponse(PAGE)),
        WebSocketRoute("/_stcore/stream", greet),
    ])  # fmt: skip
    return TestClient(Hosts(Shell(inner), **options), base_url="http://localhost:8501")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8501", "127.0.0.1:99", "127.8.9.1", "[::1]:8501", "app.localhost", "good.example:1"]
)
def test_names_of_this_machine_and_of_the_operator(host: str) -> None:
    assert site(names=["", " Good.example "]).get("/label", headers={"host": host}).status_code == 200


STRANGE = [
    "rebind.example", "rebind.example:8501", "localhost.evil.example", "192.168.1.5", "", "127.0.0.1.evil.example", "[::1",
    "@localhost",
]  # fmt: skip


@pytest.mark.parametrize("host", STRANGE)
def test_a_name_that_somebody_else_chose(host: str) -> None:
    answer = site(names=["good.example"]).get("/", headers={"host": host})
    assert answer.status_code == (200 if host == "@localhost" else 403)
    if answer.status_code == 403:
        assert "RLHF_HOSTS=" in answer.text
        with pytest.raises(WebSocketDisconnect), site().websocket_connect("/_stcore/stream", headers={"host": host}):
            pass
    assert site(any_name=True).get("/", headers={"host": host}).status_code == 200


def test_where_a_live_connection_may_come_from() -> None:
    def opened(origin: str | None, host: str = "localhost:8501", **options: Any) -> bool:
        headers = {"host": host} | ({"origin": origin} if origin is not None else {})
        try:
            with site(**options).websocket_connect("/_stcore/stream", headers=headers) as socket:
                return bool(socket.receive_text() == "hello")
        except WebSocketDisconnect:
            return False

    assert opened("http://localhost:8501")
    assert opened(None)  # no browser
    for strange in ("http://localhost:9999", "http://127.0.0.1:8501", "http://evil.example", "null", "http://[::1", "file://"):
        assert not opened(strange), strange
        assert not opened(strange, any_name=True), strange
    assert opened("https://team.example", host="127.0.0.1:8501", names=["team.example"])  # a proxy that keeps the name to itself
    assert opened("https://team.example", host="team.example", any_name=True)


def test_what_the_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_HOSTS", "a.example, b.example")
    assert server.hosts_from_settings() == {"names": ["a.example", " b.example", "localhost"], "any_name": False}
    monkeypatch.setenv("RLHF_STORE", "nonsense")
    assert "any_name" not in server.hosts_from_settings()


def test_only_scripts_of_ours_run() -> None:
    answer = site().get("/label?chat=%3Cscript%3E")
    assert answer.headers["content-length"] == str(len(answer.content))
    rules = dict(one.split(" ", 1) for one in answer.headers["content-security-policy"].split("; "))
    for script in ("\n  before()\n", dressed("</head>").split("<script>")[1].split("</script>")[0]):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in rules["script-src"]
        assert f"<script>{script}</script>" in answer.text
    assert "unsafe-inline" not in rules["script-src"]
    assert "http" not in " ".join(rules.values())
    assert rules["frame-ancestors"] == "'self'"
    assert (answer.headers["x-frame-options"], answer.headers["x-content-type-options"]) == ("SAMEORIGIN", "nosniff")
    assert policy("<p>").count("sha256") == 0


def test_what_is_no_page_is_left_alone() -> None:
    client = site()
    assert client.get("/static/a.html").text == PAGE
    assert client.get("/_stcore/health").headers.get("content-security-policy") is None
    assert len(client.get("/data.txt").text) == 100_000
    assert client.post("/label").status_code == 405
    head = client.head("/label")
    assert head.content == b""
    assert int(head.headers["content-length"]) > len(PAGE)
