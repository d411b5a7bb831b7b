"""A real S3-compatible server (moto's), in a process of its own, on the other end of a line that can be cut."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import Any

from tests.line import Line

BUCKET = "bucket"


class S3(Line):
    """
    Args:
        refuses: It accepts nobody after its bucket was made: keys are looked at, and none is right.
    """

    def __init__(self, *, refuses: bool = False) -> None:
        super().__init__()
        self._refuses = refuses
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._inner = free.getsockname()[1]
        self.start()

    def connect(self) -> socket.socket:
        there = socket.create_connection(("127.0.0.1", self._inner), timeout=5)
        there.settimeout(None)
        return there

    @property
    def options(self) -> dict[str, Any]:
        return {
            "key": "key", "secret": "secret", "endpoint_url": self.address,
            "config_kwargs": {"connect_timeout": 2, "read_timeout": 5, "retries": {"max_attempts": 0}},
        }  # fmt: skip

    def start(self) -> None:
        """With an empty bucket: whatever it had is gone."""
        environment = os.environ | {"PYTHONWARNINGS": "ignore"}
        if self._refuses:
            environment["INITIAL_NO_AUTH_ACTION_COUNT"] = "1"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._inner)], env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._inner), timeout=5) as line:
                line.sendall(f"PUT /{BUCKET} HTTP/1.1\r\nHost: s3.amazonaws.com\r\nContent-Length: 0\r\n\r\n".encode())
                if b" 200 " in line.recv(4096).split(b"\r\n")[0] + b" ":
                    return
            time.sleep(0.1)
        raise AssertionError("moto did not come up")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None
        self.drop()

    def close(self) -> None:
        self.kill()
        super().close()
