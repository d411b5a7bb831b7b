"""The HTML page that carries the app: what Streamlit's own one lacks for screen readers and against foreign scripts.

Streamlit's menu is a list whose items are no children of it, so screen readers do not tell how long it is; its bright buttons in
the dark theme have white words, which few can read. A script and a style of ours, put into the page, mend both. Headers say which
scripts may run there (Streamlit's and ours, by their origin and hash: none that a stored text brings along), that no other site
may show the page in a frame, and that addresses are not told to others.

Source: https://www.w3.org/TR/CSP3/ ; https://www.w3.org/TR/WCAG22/
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HERE = Path(__file__).parent
ICON = _HERE / "icon.svg"  # a file of ours: the pages' own symbols would come from a server of Google's
_SCRIPT = (_HERE / "shell.js").read_text(encoding="utf-8")
_STYLE = (_HERE / "shell.css").read_text(encoding="utf-8")
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_POLICY = {
    "default-src": "'self'",
    "script-src": "'self' blob: 'unsafe-eval'",  # charts compile their expressions; components come as blobs
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",  # no picture in a stored text tells its maker who reads it
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self'",
    "worker-src": "'self' blob:",
    "frame-src": "'self' blob: data:",
    "frame-ancestors": "'self'",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}


class Shell:
    """ASGI middleware around the app, outside of its compression."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or not _asks_for_a_page(scope):
            await self.app(scope, receive, send)
            return
        plain = [
            (name, value) for name, value in scope["headers"] if name not in (b"accept-encoding", b"if-none-match", b"range")
        ]
        start: dict[str, Any] = {}
        body = bytearray()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                if not _is_html(message):
                    await send(message)
            elif not _is_html(start):
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    page = dressed(body.decode("utf-8"))
                    await send({**start, "headers": _headers(start, page)})
                    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else page.encode()})

        await self.app({**scope, "headers": plain}, receive, collect)


def dressed(page: str) -> str:
    """Streamlit's page with our script and style in its head."""
    return page.replace("</head>", f"<style>{_STYLE}</style>\n<script>{_SCRIPT}</script>\n</head>", 1)


def policy(page: str) -> str:
    """The content security policy of a page: its own inline scripts run, by their hashes, and no others."""
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in _INLINE.findall(page)]
    named = _POLICY | {"script-src": " ".join([_POLICY["script-src"], *(f"'sha256-{one}'" for one in hashes)])}
    return "; ".join(f"{name} {values}" for name, values in named.items())


def _asks_for_a_page(scope: Scope) -> bool:
    """Streamlit answers with its page wherever it has no file; files and its own routes are left alone."""
    path: str = scope["path"]
    return "/_stcore/" not in path and "/static/" not in path


def _is_html(start: Mapping[str, Any]) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in start.get("headers", ()))


def _headers(start: Mapping[str, Any], page: str) -> list[tuple[bytes, bytes]]:
    kept = [
        (name, value) for name, value in start["headers"] if name.lower() not in (b"content-length", b"etag", b"last-modified")
    ]
    more = {
        "content-length": str(len(page.encode())), "content-security-policy": policy(page), "x-frame-options": "SAMEORIGIN",
        "x-content-type-options": "nosniff", "referrer-policy": "same-origin",
    }  # fmt: skip
    return kept + [(name.encode(), value.encode()) for name, value in more.items()]
