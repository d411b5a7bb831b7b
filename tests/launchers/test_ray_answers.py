"""A Ray dashboard that is none, or another one than this was written against."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground.engines import EngineSettings, Resources
from rlhf_core.ground.errors import EngineRefused, EngineUnavailable
from rlhf_core.launchers.base import Work
from rlhf_core.launchers.ray_jobs import RayLauncher

USAGE = {"n1": {"CPU": [1.0, 8.0], "GPU": [0.0, 2.0], "memory": [0.0, 2**34], "node:10.0.0.7": [0.0, 1.0]}}
STATUS = {"data": {"clusterStatus": {"loadMetricsReport": {"usageByNode": USAGE}}}}


class Answers(ThreadingHTTPServer):
    """``said``: by path, (status, body); anything else is not found. ``asked``: method, path, body, authorisation."""

    said: dict[str, tuple[int, Any]]
    asked: list[tuple[str, str, Any, str | None]]


class Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        self.server.asked.append((self.command, path, body, self.headers.get("Authorization")))
        status, answer = self.server.said.get(f"{self.command} {path}", self.server.said.get(path, (404, "nothing")))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/login")
        self.end_headers()
        self.wfile.write((answer if isinstance(answer, str) else json.dumps(answer)).encode())

    do_POST = do_GET  # noqa: N815  # as the library names it

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Answers]:
    one = Answers(("127.0.0.1", 0), Handler)
    one.said, one.asked = {}, []
    thread = threading.Thread(target=one.serve_forever, args=(0.01,))
    thread.start()
    yield one
    one.shutdown()
    thread.join()
    one.server_close()


@pytest.fixture
def launcher(server: Answers) -> RayLauncher:
    return RayLauncher(EngineSettings("cluster", "ray", f"http://127.0.0.1:{server.server_port}", "secret", terminate_s=7))


def work(**needs: Any) -> Work:
    return Work("r1-1", ["py", "-m", "a b"], "/pro ject", {"A": "b"}, Path("/x"), Resources.parse(needs).settled(2, "auto"))


def test_what_a_cluster_has_and_what_it_is_sent(server: Answers, launcher: RayLauncher) -> None:
    jobs = [{"type": "SUBMISSION", "status": one} for one in ("PENDING", "RUNNING", "RUNNING", "FAILED")]
    jobs.append({"type": "DRIVER", "status": "RUNNING"})
    server.said = {"/api/cluster_status": (200, STATUS), "GET /api/jobs/": (200, jobs), "POST /api/jobs/": (200, {})}
    found = launcher.capacity()
    (node,) = found.nodes
    assert (node.name, node.gpus, node.free_gpus, node.cpus, node.free_cpus, node.memory_mb) == ("10.0.0.7", 2, 2, 8, 7, 2**14)
    assert (found.waiting, found.running) == (1, 2)
    assert launcher.submit(work(memory_mb=1024)) == "r1-1"
    method, path, body, token = server.asked[-1]
    assert (method, path, token) == ("POST", "/api/jobs/", "Bearer secret")
    assert body["entrypoint"] == "cd '/pro ject' && exec py -m 'a b'"
    assert body["runtime_env"] == {"env_vars": {"A": "b", "RAY_JOB_STOP_WAIT_TIME_S": "7"}}
    assert (body["entrypoint_num_cpus"], body["entrypoint_num_gpus"], body["entrypoint_memory"]) == (2, 1, 2**30)


@pytest.mark.parametrize(
    ("status", "answer", "error", "said"),
    [
        (200, "<html>", EngineUnavailable, "answers otherwise than a Ray dashboard does"),
        (200, {"data": {}}, EngineUnavailable, "Is this its dashboard's address"),
        (200, {"data": {"clusterStatus": {"loadMetricsReport": {"usageByNode": [1]}}}}, EngineUnavailable, "answers otherwise"),
        (404, "x", EngineUnavailable, "is no Ray dashboard, or one that has no jobs"),
        (302, "x", EngineUnavailable, "is no Ray dashboard"),
        (503, "x", EngineUnavailable, "does not answer: HTTP 503"),
        (401, "x", EngineRefused, "does not accept who asks"),
        (500, "Traceback\n  File x\nValueError: no such thing.\n.", EngineRefused, "refused: ValueError: no such thing."),
    ],
)
def test_one_that_is_none(
    server: Answers, launcher: RayLauncher, status: int, answer: Any, error: type[Exception], said: str
) -> None:
    server.said = {"/api/cluster_status": (status, answer)}
    with pytest.raises(error, match=said):
        launcher.capacity()


def test_a_job_in_a_state_that_is_not_known(server: Answers, launcher: RayLauncher) -> None:
    server.said = {"/api/jobs/a": (200, {"status": "DREAMING"}), "/api/jobs/b": (200, {})}
    assert launcher.look("a").state == launcher.look("b").state == launcher.look("c").state == "unknown"


def test_a_job_that_was_handed_over_meanwhile(server: Answers, launcher: RayLauncher) -> None:
    """Asked for it, the cluster has none; handed over, it says that it has one."""
    looks = iter([(404, "none"), (200, {"status": "PENDING"})])

    class Changing(dict[str, tuple[int, Any]]):
        def get(self, key: str, default: Any = None) -> Any:
            return next(looks) if key == "GET /api/jobs/r1-1" else super().get(key, default)

    server.said = Changing({
        "/api/cluster_status": (200, STATUS), "GET /api/jobs/": (200, []), "POST /api/jobs/": (500, "ValueError: already exists"),
    })  # fmt: skip
    assert launcher.submit(work()) == "r1-1"
