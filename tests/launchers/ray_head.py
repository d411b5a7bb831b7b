"""A real Ray head for tests, in networks and process numbers of its own: nothing of it can be reached from other machines, and
whatever it starts ends with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from tests.launchers import ray_inside
from tests.line import Line


def namespaces() -> list[str] | None:
    """The command that gives a process networks and process numbers of its own; None where this machine does not allow it."""
    alone = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    for more in ([], ["--map-root-user", "--user"]):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            tried = [
                *alone[:1],
                *more,
                *alone[1:],
                sys.executable,
                "-c",
                "from tests.launchers.ray_inside import network; network()",
            ]
            if subprocess.run(tried, capture_output=True, timeout=20, cwd=Path(__file__).parents[2]).returncode == 0:
                return [*alone[:1], *more, *alone[1:]]
    return None


class RayHead(Line):
    """
    Args:
        cpus, gpus: What it says that it has; GPUs need not exist.
        token: Asks everybody for it, where it is set.
    """

    def __init__(self, *, cpus: int = 4, gpus: int = 1, token: str = "") -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # paths of sockets have to be short
        self._size, self._token = (str(cpus), str(gpus)), token
        self._outer: subprocess.Popen[bytes] | None = None

    def connect(self) -> socket.socket:
        there = socket.socket(socket.AF_UNIX)
        try:
            there.connect(str(self.folder / "dashboard.sock"))
        except OSError:
            there.close()
            raise
        return there

    def start(self) -> None:
        alone = namespaces()
        assert alone is not None
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("RLHF_", "COV_"))}
        environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "RAY_DISABLE_IMPORT_WARNING": "1"}
        if self._token:
            (self.folder / "token").write_text(self._token)
            environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.folder / "token")}
        with (self.folder / "out.log").open("ab") as out:
            self._outer = subprocess.Popen(
                [*alone, sys.executable, ray_inside.__file__, str(self.folder), *self._size], env=environment,
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        end = time.monotonic() + 90
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.get(f"{self.address}/api/cluster_status", params={"format": "0"}, headers=headers, timeout=5)
                if answer.is_success and answer.json()["data"]["clusterStatus"]["loadMetricsReport"]["usageByNode"]:
                    return
            time.sleep(0.2)
        raise AssertionError(f"the head did not come up: {(self.folder / 'head.log').read_text()[-2000:]}")

    def processes(self, words: str) -> list[psutil.Process]:
        """Those inside whose command line holds the words."""
        assert self._outer is not None
        found = []
        for one in psutil.Process(self._outer.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if words in " ".join(one.cmdline()):
                    found.append(one)
        return found

    def kill(self) -> None:
        """The whole machine is gone."""
        if self._outer is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._outer.pid, signal.SIGKILL)
            self._outer.wait()
        self._outer = None

    def close(self) -> None:
        self.kill()
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)
