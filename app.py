"""RLHF Workbench: ``streamlit run app.py``. The ASGI app: frame script, routes, and a lifespan that starts the supervisor.

A door. Pages live in ``pages/`` and are run by ``pages/frame.py`` on every rerun, so that a deep link into a cold server
passes the frame as well.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rlhf_core.api.routes import create
from rlhf_core.ground.errors import NotFound, RlhfError, StoreUnavailable
from rlhf_core.ground.settings import HOSTS_VARIABLE, SECRET_KEY_VARIABLE, Workspace, team_settings
from rlhf_core.services import collecting, rolling_out
from rlhf_core.services.workbench import Workbench
from rlhf_core.supervisor.supervise import Supervisor
from rlhf_core.ui import identity
from rlhf_core.ui.shell import Shell
from rlhf_core.ui.shell.hosts import Hosts

COLLECT_EVERY_S = 30.0
TEND_EVERY_S = 300.0
WATCH_EVERY_S = 5.0
opened: list[Workbench] = []  # one, while the server runs and its workspace can be opened
LOCAL_COOKIE_KEPT_S = 365 * 86_400


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Import what pages need, then supervise runs and collect garbage in the background until the server stops."""
    import altair  # noqa: F401  # here, so that no visitor waits for these imports
    import duckdb  # noqa: F401
    import pandas  # noqa: F401

    os.environ.pop(SECRET_KEY_VARIABLE, None)  # the operator's key is for commands: neither pages nor runs may hold it
    try:
        workbench: Workbench | None = Workbench.open()
    except RlhfError as error:
        workbench = None
        logging.getLogger("rlhf_core").error("%s", error)  # every page shows it too
    if workbench is not None:
        opened[:] = [workbench]
        if workbench.team is not None:
            import supabase  # noqa: F401
    _answer_at_once()
    gc.collect()
    gc.freeze()
    stop = threading.Event()
    threads = [threading.Thread(target=_collect_garbage, args=(stop,), name="garbage", daemon=True)]
    if workbench is not None:
        supervisor = Supervisor(workbench.workspace, workbench.ledger)
        threads.append(threading.Thread(target=supervisor.serve, args=(stop,), name="supervisor", daemon=True))
        threads.append(threading.Thread(target=_watch, args=(workbench, stop), name="roll-outs", daemon=True))
        threads.append(threading.Thread(target=_tend, args=(workbench, stop), name="collecting", daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield {}
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=5)


def _answer_at_once() -> None:
    """Switch Nagle's algorithm off where the server listens; what it accepts inherits that. asyncio does so for sockets that say
    they are TCP, which Streamlit's does not, and then whatever is sent in two pieces waits some 40 ms for an acknowledgement."""
    for descriptor in Path("/dev/fd").glob("*"):
        try:
            if not descriptor.is_socket():
                continue
            with socket.socket(fileno=os.dup(int(descriptor.name))) as one:
                if one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_STREAM:
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # no socket, or the descriptor of this very listing
            continue


def _tend(workbench: Workbench, stop: threading.Event) -> None:
    """What applications send: load what takes it in, delete what was kept for its time and what runs held of the erased."""
    log = logging.getLogger("rlhf_core")
    try:
        import scipy.stats  # noqa: F401  # for drift and comparisons: nobody waits for it there

        collecting.warm(workbench)
    except Exception:
        log.exception("what takes in chats of applications, or compares, could not be loaded beforehand")
    while not stop.is_set():
        try:
            collecting.tend(workbench)
        except Exception:  # whatever it is: it is tried again
            log.exception("chats that should go could not be deleted")
        stop.wait(TEND_EVERY_S)


def _watch(workbench: Workbench, stop: threading.Event) -> None:
    """Take back canaries that are worse. On a team's store an operator's command does it: see docs/rollout.md."""
    log = logging.getLogger("rlhf_core")
    took = 0.0
    while workbench.team is None and not stop.wait(max(WATCH_EVERY_S, 20 * took)):  # a twentieth of a core at most
        began = time.monotonic()
        try:
            for event in rolling_out.watch(workbench):
                log.warning("%s was taken back: %s", event.checkpoint_id, event.reason)
        except Exception:  # whatever it is: it is tried again
            log.exception("the roll-out could not be looked at")
        took = time.monotonic() - began


def _collect_garbage(stop: threading.Event) -> None:
    while not stop.wait(COLLECT_EVERY_S):
        gc.collect()


async def keep_cookie(request: Request) -> Response:
    """Set or take away the cookie that a page's ticket stands for; see :class:`rlhf_core.services.browsers.Browsers`."""
    if identity.COOKIE_HEADER not in request.headers:
        return Response("This is for the workbench's own pages.", status_code=403)
    try:
        value = identity.redeem((await request.body())[:200].decode("ascii", "replace"))
    except NotFound as error:
        return Response(str(error), status_code=403)
    response = Response(status_code=204)
    https = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
    if value is None:
        response.delete_cookie(identity.cookie_name())
    else:
        response.set_cookie(
            identity.cookie_name(), value, httponly=True, samesite="strict", secure=https,
            max_age=LOCAL_COOKIE_KEPT_S if value.startswith("local.") else None,
        )  # fmt: skip
    return response


def workbench_of_requests() -> Workbench:
    """
    Raises:
        StoreUnavailable: the workspace could not be opened when the server started.
    """
    if not opened:
        raise StoreUnavailable("The workspace cannot be opened. The server's log says why; it has to be started again.")
    return opened[0]


def hosts_from_settings() -> dict[str, Any]:
    """Names that the pages answer under. A wrong setting of the team's store is shown on every page; until then it is none."""
    names = [*os.environ.get(HOSTS_VARIABLE, "").split(","), str(st.get_option("browser.serverAddress") or "")]
    try:
        return {"names": names, "any_name": team_settings() is not None}
    except RlhfError:
        return {"names": names}


class Before:
    """What applications ask goes straight to the API: sessions and compression, which pages need, would take a fifth of its
    time."""

    def __init__(self, app: ASGIApp, path: str, api: ASGIApp) -> None:
        self.app, self.path, self.api = app, path, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(f"{self.path}/"):
            scope["root_path"] = scope.get("root_path", "") + self.path
            await self.api(scope, receive, send)
        else:
            await self.app(scope, receive, send)


api = create(workbench_of_requests, Workspace.root_named() / "logs")
app = st.App(
    "pages/frame.py", lifespan=lifespan,
    middleware=[Middleware(Before, path="/api", api=api), Middleware(Hosts, **hosts_from_settings()), Middleware(Shell)],
    routes=[Route(f"/{identity.COOKIE_ROUTE}", keep_cookie, methods=["POST"])],
)  # fmt: skip
