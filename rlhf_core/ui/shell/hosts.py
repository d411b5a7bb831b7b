"""Under which names the pages answer, and which pages may speak to them.

On the embedded store nobody signs in: whoever reaches the pages may do everything. A page of the web reaches a server on this
machine by a name of its own that it lets point here (DNS rebinding), and any other server on this machine is the same site to a
browser. So the pages answer under names of this machine and those that the operator gives, and a live connection is taken only
from a page that came from here.

Source: https://owasp.org/www-community/attacks/DNS_rebinding ; RFC 6454 and RFC 6455, section 10.2
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from rlhf_core.ground.settings import HOSTS_VARIABLE


class Hosts:
    """ASGI middleware: refuses requests for other hosts' names, and live connections of other pages.

    Args:
        app: What is behind it.
        names: Names, without a port, that it answers under beside this machine's own.
        any_name: Under every name: where people sign in, one that somebody else chose gets to nobody's session.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = (), *, any_name: bool = False) -> None:
        self.app, self._any_name = app, any_name
        self._names = {name.strip().lower() for name in names if name.strip()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            host, origin = headers.get("host", ""), headers.get("origin")
            if not self._any_name and not self._answers_as(host):
                refusal = PlainTextResponse(
                    f"The workbench does not answer as {_name(host)!r}: a page of the web could reach it by a name of its own. "
                    f"To serve it under that name, start it with {HOSTS_VARIABLE}={_name(host)}.\n", status_code=403,
                )  # fmt: skip
                await (refusal if scope["type"] == "http" else WebSocketClose(1008))(scope, receive, send)
                return
            if scope["type"] == "websocket" and origin is not None and not self._is_ours(origin, host):
                await WebSocketClose(1008)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _answers_as(self, host: str) -> bool:
        name = _name(host)
        return name in self._names or _is_this_machine(name)

    def _is_ours(self, origin: str, host: str) -> bool:
        """A page from the very server that is asked; behind a proxy that hides which that was, from a name of the operator's."""
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.netloc.lower() == host.lower() or (parts.hostname or "") in self._names


def _name(host: str) -> str:
    """Of a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_this_machine(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
