"""A line to a server that can be cut: a port of this machine's loopback, whatever is on its other end."""

from __future__ import annotations

import contextlib
import socket
import threading
from abc import ABC, abstractmethod


class Line(ABC):
    """Bytes in both directions, as they come. ``cut``: nobody gets through while it is set. ``sent`` and ``got``: bytes to the
    other end and from it; once there are more than ``cut_after`` or ``cut_after_got``, the line is cut."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.cut = threading.Event()
        self.sent = self.got = 0
        self.cut_after: int | None = None
        self.cut_after_got: int | None = None
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._hand_out, daemon=True).start()

    @abstractmethod
    def connect(self) -> socket.socket:
        """The other end.

        Raises:
            OSError: nobody is there.
        """

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def drop(self) -> None:
        """Whoever is connected is so no more."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def close(self) -> None:
        self._listener.close()

    def _hand_out(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.cut.is_set():
                    raise OSError("cut")
                there = self.connect()
            except OSError:
                client.close()
                continue
            self._ends += [client, there]
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
