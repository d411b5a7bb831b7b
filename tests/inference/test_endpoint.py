"""Answers of OpenAI-compatible servers: a real one, and real ones that misbehave."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlhf_core.ground.errors import EndpointFailed, InvalidInput
from rlhf_core.ground.settings import EndpointSettings
from rlhf_core.inference import endpoint
from tests.learn.policies import tiny_llama, tiny_tokenizer

TEMPLATE = "User: {{ messages[-1]['content'] }}\n\nAssistant:"
KEY = "sk-test-not-a-secret"


def said(settings: EndpointSettings, query: str = "how do I start", max_tokens: int = 20, **how: float) -> tuple[str, bool]:
    parts, pieces = [], endpoint.stream(settings, query, max_tokens=max_tokens, **how)  # type: ignore[arg-type]
    while True:
        try:
            parts.append(next(pieces))
        except StopIteration as end:
            return "".join(parts), end.value


# a real server -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointSettings]:
    folder = tmp_path_factory.mktemp("served")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "transformers", "serve", str(folder), "--host", "127.0.0.1", "--port", str(port),
             "--device", "cpu"],
            env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "log.txt").read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            time.sleep(0.1)
        yield EndpointSettings("real", f"http://127.0.0.1:{port}/v1", str(folder))
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_real_server_writes_token_by_token(serving: EndpointSettings) -> None:
    pieces = endpoint.stream(serving, "how do I start", max_tokens=30, temperature=0)
    first = next(pieces)
    rest = list(pieces)
    assert len(rest) >= 3
    assert said(serving, max_tokens=30, temperature=0)[0] == first + "".join(rest)
    assert said(serving, "how do I start as a roofer in Ohio", 30, temperature=0)[0] != first + "".join(rest)
    text, ended = said(serving, max_tokens=4, temperature=0)
    assert (first + "".join(rest)).startswith(text)
    assert not ended


@pytest.mark.slow
def test_what_a_real_server_refuses_is_said(serving: EndpointSettings) -> None:
    with pytest.raises((EndpointFailed, InvalidInput), match="real"):
        said(EndpointSettings("real", serving.base_url, "no/such-model"))
    with pytest.raises(EndpointFailed, match="404"):
        said(EndpointSettings("real", serving.base_url.removesuffix("/v1"), serving.model))


@pytest.mark.slow
def test_hanging_up_in_mid_answer_leaves_the_server_free(serving: EndpointSettings) -> None:
    pieces = endpoint.stream(serving, "how do I start", max_tokens=200, temperature=5.0)
    next(pieces)
    pieces.close()
    assert said(serving, max_tokens=4)[0]


# real ones that misbehave ------------------------------------------------------------------------------------------


def chunk(text: str | None = None, finish: str | None = None) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


Behave = Callable[[http.server.BaseHTTPRequestHandler], None]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Behave], EndpointSettings]]:
    """A server on this machine that answers every request the way it is told."""
    monkeypatch.setattr(endpoint, "RETRIES", 0)
    running: list[http.server.ThreadingHTTPServer] = []

    def start(behave: Behave) -> EndpointSettings:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                with contextlib.suppress(OSError):
                    behave(self)

            def log_message(self, *_: object) -> None: ...

        one = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        one.daemon_threads = True
        threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
        running.append(one)
        return EndpointSettings("mine", f"http://127.0.0.1:{one.server_port}/v1", "m", KEY)

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


def stream_of(*parts: bytes, then: Callable[[http.server.BaseHTTPRequestHandler], None] | None = None) -> Behave:
    def behave(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("content-type", "text/event-stream; charset=utf-8")
        request.end_headers()
        for part in parts:
            request.wfile.write(part)
            request.wfile.flush()
        if then is not None:
            then(request)

    return behave


def refusal(code: int, body: dict[str, object], **headers: str) -> Behave:
    def behave(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        request.send_header("content-type", "application/json")
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(json.dumps(body).encode())

    return behave


def test_a_whole_answer_and_one_that_was_cut(server: Callable[[Behave], EndpointSettings]) -> None:
    counts = b'data: {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": []}\n\n'
    done = b"data: [DONE]\n\n"
    assert said(server(stream_of(chunk("1. Ca"), chunk("ll."), chunk(finish="stop"), counts, done))) == ("1. Call.", True)
    assert said(server(stream_of(counts, chunk("1. Ca"), chunk("ll", "length"), done))) == ("1. Call", False)


def test_what_no_store_takes_is_left_out(server: Callable[[Behave], EndpointSettings]) -> None:
    assert said(server(stream_of(chunk("1. C\x00a"), chunk("ll\ud800."), chunk(finish="stop")))) == ("1. Call.", True)


def test_one_that_never_stops_is_hung_up_on(server: Callable[[Behave], EndpointSettings]) -> None:
    def on(request: http.server.BaseHTTPRequestHandler) -> None:
        while True:
            request.wfile.write(chunk("go "))

    text, ended = said(server(stream_of(then=on)), max_tokens=5)
    assert not ended
    assert text == "go " * 11


def test_one_that_hangs(server: Callable[[Behave], EndpointSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "SILENCE_TIMEOUT_S", 0.3)
    settings = server(lambda _: time.sleep(2))
    with pytest.raises(EndpointFailed, match="mine was silent for 0 s"):
        said(settings)
    pieces = endpoint.stream(server(stream_of(chunk("1. Ca"), then=lambda _: time.sleep(2))), "q", max_tokens=5)
    assert next(pieces) == "1. Ca"
    with pytest.raises(EndpointFailed, match="was silent"):
        next(pieces)


def test_one_that_breaks_off_in_mid_step(server: Callable[[Behave], EndpointSettings]) -> None:
    pieces = endpoint.stream(server(stream_of(chunk('{"type": "step_start"}\n'), chunk("Call the"))), "q", max_tokens=50)
    assert [next(pieces), next(pieces)] == ['{"type": "step_start"}\n', "Call the"]
    with pytest.raises(EndpointFailed, match=r"broke off after \d+ s without saying that the answer is at its end"):
        next(pieces)

    def cut(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("content-type", "text/event-stream")
        request.send_header("content-length", "100000")
        request.end_headers()
        request.wfile.write(chunk("Call"))

    pieces = endpoint.stream(server(cut), "q", max_tokens=50)
    assert next(pieces) == "Call"
    with pytest.raises(EndpointFailed, match="The line to mine .* does not stand"):
        next(pieces)


def test_one_that_sends_a_web_page(server: Callable[[Behave], EndpointSettings]) -> None:
    def page(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("content-type", "text/html")
        request.end_headers()
        request.wfile.write(b"<html><h1>Welcome</h1></html>")

    with pytest.raises(EndpointFailed, match=r"answered with text/html and not with a stream.* ends in /v1"):
        said(server(page))


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (401, EndpointFailed, r"does not accept the key \(401\)"),
        (404, EndpointFailed, "knows no model 'm'"),
        (429, EndpointFailed, r"too many requests \(429\) and asks to wait 7 s: .*slow down"),
        (400, InvalidInput, r"does not take this question \(400\): .*slow down"),
        (500, EndpointFailed, r"failed \(500\): .*slow down"),
    ],
)
def test_one_that_refuses(
    server: Callable[[Behave], EndpointSettings], code: int, kind: type[Exception], words: str
) -> None:  # fmt: skip
    with pytest.raises(kind, match=words) as told:
        said(server(refusal(code, {"error": {"message": f"slow down, {KEY}"}}, retry_after="7")))
    assert KEY not in str(told.value)


@pytest.mark.parametrize(
    "nonsense",
    [b"data: {not json\n\n", b'data: {"id": "1"}\n\n', b'data: ["a"]\n\n', b'data: {"choices": 5}\n\n', b"data: \xff\n\n"],
)
def test_one_that_sends_nonsense(server: Callable[[Behave], EndpointSettings], nonsense: bytes) -> None:
    with pytest.raises(EndpointFailed, match="mine .*sent something that is no|broke off"):
        said(server(stream_of(chunk("Call"), nonsense)))


def test_an_error_within_the_stream(server: Callable[[Behave], EndpointSettings]) -> None:
    with pytest.raises(EndpointFailed, match=r"mine broke off: .*out of memory"):
        said(server(stream_of(chunk("Call"), b'data: {"error": {"message": "out of memory"}}\n\n')))


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EndpointFailed, match="Is the server running"):
        said(EndpointSettings("mine", f"http://127.0.0.1:{port}/v1", "m"))


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(EndpointSettings("mine", "http://localhost/v1", "m", KEY))
