"""What stands before every route: how large, how often, from whom; and how a refusal is said (RFC 9457)."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlhf_core.ground import errors
from rlhf_core.ground.applications import Caller
from rlhf_core.ground.errors import RlhfError

MAX_BODY_BYTES = 2**20
VISITOR_PER_MINUTE = 240  # requests of one person
STRANGERS_PER_MINUTE = 60  # refused requests from one address, after which none is looked at without a good token
PROBLEM = "application/problem+json"
STATUS: dict[type[RlhfError], HTTPStatus] = {  # the nearest class in an error's line counts
    errors.SignInRequired: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.StoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ModelUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.WorkerFailed: HTTPStatus.SERVICE_UNAVAILABLE,
}
log = logging.getLogger(__name__)


class TooMany(Exception):
    """``wait_s``: until the next request is taken."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s


class Limits:
    """How often who may ask. Thread-safe; of this process."""

    def __init__(self) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def hit(self, per_minute: int, *who: str) -> None:
        """
        Raises:
            TooMany: they asked too often.
        """
        item = RateLimitItemPerMinute(per_minute)
        if not self._limiter.hit(item, *who):
            reset = self._limiter.get_window_stats(item, *who).reset_time
            raise TooMany(max(1, round(reset - time.time())))

    def caller(self, caller: Caller) -> None:
        if caller.visitor is not None:
            self.hit(VISITOR_PER_MINUTE, "visitor", caller.visitor)
        self.hit(caller.application.per_minute, "application", caller.application.id)


class SizeLimit:
    """Refuses a body as soon as it is known to be too large, whatever its header says."""

    def __init__(self, app: ASGIApp, most: int = MAX_BODY_BYTES) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if not told.isdigit() or int(told) > self.most:
            await problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._words, {"Connection": "close"})(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._words)
            return message

        await self.app(scope, counted, send)

    @property
    def _words(self) -> str:
        return f"A request holds at most {self.most:,} bytes."


class Caught:
    """Answers a fault of ours within what counts, logs and adds headers; Starlette's own answer to it would stand outside."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception:
            log.exception("a request failed")
            if begun:
                raise
            detail = "This is a fault of the workbench. Its log says more."
            await problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail)(scope, receive, send)


def problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, errors: Sequence[Mapping[str, str]] | None = None
) -> Response:  # fmt: skip
    """A refusal. ``errors``: what is wrong, and where."""
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": int(status), "detail": detail}
    if errors is not None:
        body["errors"] = [*errors]
    text = json.dumps(body, ensure_ascii=True)
    return Response(text, int(status), dict(headers or {}), PROBLEM)


def say_problems(app: FastAPI) -> None:
    """Answer every error as problem details. What was sent is not repeated: it may be personal."""

    @app.exception_handler(RlhfError)
    def ours(_: Request, error: RlhfError) -> Response:
        kind = next((one for one in type(error).__mro__ if one in STATUS), None)
        status = STATUS[kind] if kind else HTTPStatus.BAD_REQUEST
        headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
        headers |= {"Retry-After": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        return problem(status, str(error), headers)

    @app.exception_handler(TooMany)
    def often(_: Request, error: TooMany) -> Response:
        detail = f"Too many requests. Wait {error.wait_s} s."
        return problem(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(error.wait_s)})

    @app.exception_handler(RequestValidationError)
    def wrong(_: Request, error: RequestValidationError) -> Response:
        found = [
            {"where": ".".join(map(str, one["loc"])) or "body", "what": str(one["msg"])} for one in error.errors()[:20]
        ]  # fmt: skip
        detail = "; ".join(f"{one['where']}: {one['what']}" for one in found[:3])
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=found)

    @app.exception_handler(StarletteHTTPException)
    def http(_: Request, error: StarletteHTTPException) -> Response:
        return problem(error.status_code, str(error.detail), error.headers)
