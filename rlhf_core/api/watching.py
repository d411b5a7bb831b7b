"""What the API does, for those who run it: figures for Prometheus, and a log of requests without what was sent or by whom."""

from __future__ import annotations

import json
import logging
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlhf_core.ground.records import StoreCounts, new_id, utc_now

LOG_BYTES, LOG_FILES = 10 * 2**20, 5
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
HIDDEN = ("/health", "/ready", "/metrics")  # asked every few seconds by machines: not logged


class Watch:
    """Figures of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "rlhf_api_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )  # fmt: skip
        self.seconds = Histogram(
            "rlhf_api_request_seconds", "Seconds to an answer.", ["method", "route"], buckets=SECONDS, registry=self.registry
        )
        self.open = Gauge("rlhf_api_requests_open", "Requests being answered.", registry=self.registry)
        self.rows = Gauge("rlhf_store_rows", "Rows of the store.", ["table"], registry=self.registry)

    def figures(self, counts: StoreCounts | None) -> bytes:
        """In Prometheus' text format. ``counts`` None: of a team's store, whose rows are not this server's to count."""
        if counts is not None:
            for table in ("chats", "steps", "ratings", "raters"):
                self.rows.labels(table).set(getattr(counts, table))
        return generate_latest(self.registry)


class Watched:
    """Counts and times each request, and logs it as one JSON line: when, which route, which answer, how long, an id that the
    answer's header ``x-request-id`` bears. Routes by their templates, never addresses or what was sent."""

    def __init__(self, app: ASGIApp, watch: Watch, log: logging.Logger) -> None:
        self.app, self.watch, self.log = app, watch, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, number = time.perf_counter(), 0, new_id()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", number.encode())]
            await send(message)

        self.watch.open.inc()
        try:
            await self.app(scope, receive, noted)
        finally:
            self.watch.open.dec()
            took = time.perf_counter() - began
            found = scope.get("route")
            route, method = "none", "any"  # what strangers make up is one thing
            if isinstance(found, APIRoute):
                route, method = found.path, scope["method"]
            self.watch.requests.labels(method, route, status or "gone").inc()
            self.watch.seconds.labels(method, route).observe(took)
            if route not in HIDDEN:
                ms = round(took * 1000, 1)
                line = {"at": utc_now(), "id": number, "method": method, "route": route, "status": status, "ms": ms}
                self.log.info("%s", json.dumps(line))


class RequestFile(RotatingFileHandler):
    """A full disk costs lines of the log, and no request; that it does is said once, until a line can be written again."""

    said = failed = False

    def emit(self, record: logging.LogRecord) -> None:
        self.failed = False
        super().emit(record)
        self.said = self.said and self.failed

    def handleError(self, _: logging.LogRecord) -> None:  # noqa: N802  # the library's name
        self.failed = True
        if not self.said:
            self.said = True
            logging.getLogger("rlhf_core.api").warning("the log of requests cannot be written: %s", sys.exc_info()[1])


def request_log(folder: Path) -> logging.Logger:
    """``api.jsonl`` in a folder; 50 MiB at most, the oldest go first."""
    log = logging.getLogger(f"rlhf_core.api.requests.{folder}")
    if not log.handlers:
        folder.mkdir(parents=True, exist_ok=True)
        handler = RequestFile(folder / "api.jsonl", maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
    return log
