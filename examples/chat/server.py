"""A chat page of your own that collects feedback: streams an answer, sends the chat to the workbench, gives its browser a ticket.

    RLHF_APPLICATION_TOKEN=… .venv/bin/python examples/chat/server.py [--port 8600] [--workbench http://localhost:8501]

The token stays on this server. Put your own assistant in the place of ``answer``, your own sign-in in that of the cookie.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PAGE = Path(__file__).with_name("index.html")
COOKIE = "visitor"
STEPS = (
    "Start at the nearest MassHire career center: they know which training is paid for, and whether you qualify.",
    "Ask for the pre-apprenticeship closest to you. It takes some weeks in the evening, and no degree.",
    "Apply as a helper meanwhile. Companies teach lifting and fall protection on site.",
)


async def answer(_query: str) -> AsyncIterator[str]:
    """Your assistant. Lines ``step_start`` and ``step_end`` part its reasoning steps; all else is text."""
    for step in STEPS:
        yield '{"type": "step_start"}\n'
        for word in step.split(" "):
            yield f"{word} "
            await anyio.sleep(0.01)
        yield '\n{"type": "step_end"}\n'


async def page(request: Request) -> Response:
    found = FileResponse(PAGE, headers={"Cache-Control": "no-store"})  # a kept page would come without a cookie
    if COOKIE not in request.cookies:
        found.set_cookie(COOKIE, secrets.token_urlsafe(16), httponly=True, samesite="strict")
    return found


async def ask(request: Request) -> Response:
    """Stream the answer to the browser; once it is whole, send the chat to the workbench, and its ids after it."""
    visitor = request.cookies[COOKIE]
    query = str((await request.json())["query"])

    async def stream() -> AsyncIterator[str]:
        said = []
        async for piece in answer(query):
            said.append(piece)
            yield piece
        sent = {"id": secrets.token_urlsafe(12), "query": query, "transcript": "".join(said), "userId": visitor}
        chat = None  # the answer stands without it: only it cannot be rated
        try:
            async with workbench(request) as client:
                kept = await client.post("/api/chats", json=sent)
                chat = kept.json() if kept.is_success else None
        except httpx.HTTPError as error:
            logging.getLogger(__name__).warning("the workbench does not answer: %s", error)
        yield json.dumps({"type": "kept", "chat": chat}) + "\n"

    return StreamingResponse(stream(), media_type="text/plain")


async def ticket(request: Request) -> Response:
    """With which the browser talks to the workbench itself, as this visitor and nobody else."""
    async with workbench(request) as client:
        made = await client.post("/api/tickets", json={"userId": request.cookies[COOKIE]})
    return JSONResponse(made.json() | {"api": f"{request.app.state.workbench}/api"}, made.status_code)


def workbench(request: Request) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {request.app.state.token}"}
    return httpx.AsyncClient(base_url=request.app.state.workbench, headers=headers, timeout=30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8600)
    parser.add_argument("--workbench", default="http://localhost:8501")
    arguments = parser.parse_args()
    app = Starlette(routes=[Route("/", page), Route("/ask", ask, methods=["POST"]), Route("/ticket", ticket, methods=["POST"])])
    app.state.token, app.state.workbench = os.environ["RLHF_APPLICATION_TOKEN"], arguments.workbench.rstrip("/")
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
