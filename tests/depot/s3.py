"""A real S3-compatible server (moto's), in a process of its own, on the other end of a line that can be cut."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

BUCKET = "bucket"


class S3:
    """
    Args:
        refuses: It accepts nobody after its bucket was made: keys are looked at, and none is right.
    """

    def __init__(self, *, refuses: bool = False) -> None:
        self._refuses = refuses
        self._process: subprocess.Popen[bytes] | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._inner = free.getsockname()[1]
        self.cut = threading.Event()  # no new line while it is set
        self.sent = 0  # bytes that went to the server
        self.got = 0  # bytes that came from it
        self.cut_after: int | None = None  # the lines are cut after so many more bytes to the server
        self.cut_after_got: int | None = None
        self._lines: list[socket.socket] = []
        threading.Thread(target=self._hand_out, daemon=True).start()
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

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
        self.drop_lines()

    def close(self) -> None:
        self.kill()
        self._listener.close()

    def drop_lines(self) -> None:
        for line in self._lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        self._lines.clear()

    def _hand_out(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.cut.is_set():
                    raise OSError("cut")
                there = socket.create_connection(("127.0.0.1", self._inner), timeout=5)
                there.settimeout(None)
            except OSError:
                client.close()
                continue
            self._lines += [client, there]
            threading.Thread(target=self._pump, args=(client, there, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(there, client, False), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket, to_server: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(16384):
                if to_server:
                    self.sent += len(data)
                else:
                    self.got += len(data)
                limit = self.cut_after if to_server else self.cut_after_got
                if limit is not None and (self.sent if to_server else self.got) > limit:
                    self.cut.set()
                    break
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
