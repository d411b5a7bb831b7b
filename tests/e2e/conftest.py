"""A real server and a real browser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from rlhf_core.ground.settings import PROJECT_ROOT, WORKSPACE_VARIABLE
from tests.install_browser import find_browser

CHROMIUM_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
expect.set_options(timeout=20_000)  # machines are busy: what comes late still counts


@dataclass
class Server:
    url: str
    process: subprocess.Popen[bytes]
    log: Path


def start_server(root: Path, log: Path, *, script: Path = PROJECT_ROOT / "app.py", port: int = 0) -> Server:
    """Start the app as users do and wait until it answers."""
    if not port:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port), "--server.headless", "true"],
            cwd=PROJECT_ROOT, env=os.environ | {WORKSPACE_VARIABLE: str(root)}, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1):
                return Server(url, process, log)
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise AssertionError(f"the server did not answer within 30 s\n{log.read_text()}")


@pytest.fixture
def serve(root: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers on the test's workspace; all are stopped at the end."""
    servers: list[Server] = []

    def start(port: int = 0) -> Server:
        servers.append(start_server(root, tmp_path / f"server{len(servers)}.log", port=port))
        return servers[-1]

    yield start
    for server in servers:
        server.process.terminate()
        try:
            server.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(30_000)
    refused: list[str] = []  # something of ours that the page's policy does not let work
    page.on("console", lambda said: refused.append(f"{page.url}: {said.text}") if "Security Policy" in said.text else None)
    yield page
    context.close()
    assert not refused, "\n".join(refused)
