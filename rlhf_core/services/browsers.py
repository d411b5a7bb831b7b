"""Which browser is whose, so that a refreshed page knows the person who sits there."""

from __future__ import annotations

import secrets
import threading
import time
from typing import Generic, Protocol, TypeVar

from rlhf_core.ground.errors import NotFound

TICKET_S = 60.0


class Guest(Protocol):
    @property
    def alive(self) -> bool:
        """Whether they are to be remembered still."""


G = TypeVar("G", bound=Guest)


class Browsers(Generic[G]):
    """Random tokens, kept in a cookie that scripts cannot read, and who they stand for.

    A cookie is set by an HTTP answer, which a page cannot give. The page hands its script a ticket instead, good once and for a
    minute, and the script brings it to the route that sets the cookie. All of it is in this process' memory: when the server
    restarts, people sign in again. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guests: dict[str, G] = {}
        self._tickets: dict[str, tuple[float, str | None]] = {}

    def remember(self, guest: G) -> str:
        """A ticket for the cookie that will bring this person back."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._sweep()
            self._guests[token] = guest
        return self.ticket(token)

    def forget(self, guest: G) -> str:
        """Drop this person's tokens; returns a ticket that takes the cookie away."""
        with self._lock:
            self._guests = {token: one for token, one in self._guests.items() if one is not guest}
        return self.ticket(None)

    def ticket(self, value: str | None) -> str:
        """A ticket for a cookie with this value; None takes the cookie away."""
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            self._sweep()
            self._tickets[ticket] = (time.monotonic(), value)
        return ticket

    def pending(self, ticket: str) -> bool:
        """Whether it waits to be brought still."""
        with self._lock:
            self._sweep()
            return ticket in self._tickets

    def redeem(self, ticket: str) -> str | None:
        """What the cookie is to hold.

        Raises:
            NotFound: no such ticket, used already, or too old.
        """
        with self._lock:
            self._sweep()
            if ticket not in self._tickets:
                raise NotFound("This ticket is used or too old.")
            return self._tickets.pop(ticket)[1]

    def whose(self, token: str) -> G | None:
        with self._lock:
            self._sweep()
            return self._guests.get(token)

    def _sweep(self) -> None:
        now = time.monotonic()
        self._guests = {token: one for token, one in self._guests.items() if one.alive}
        self._tickets = {name: one for name, one in self._tickets.items() if now - one[0] < TICKET_S}
