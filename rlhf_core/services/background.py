"""What takes a while to ask, for pages that do not wait: the last answer, while it is asked anew in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rlhf_core.ground.errors import RlhfError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """What was answered last, or why there was no answer (``problem``). Neither: it is being asked for the first time."""

    value: T | None = None
    problem: str = ""
    at: float = float("-inf")


class Background(Generic[T]):
    """Answers by name. Thread-safe.

    Args:
        good_for_s: An answer is asked anew after so many seconds, when somebody looks.
    """

    def __init__(self, good_for_s: float) -> None:
        self._good_for_s = good_for_s
        self._seen: dict[str, Seen[T]] = {}
        self._asking: set[str] = set()
        self._lock = threading.Lock()

    def look(self, name: str, ask: Callable[[], T]) -> Seen[T]:
        """The last answer. Where it is old, ``ask`` is begun in a thread; of errors only :class:`RlhfError` is an answer."""
        with self._lock:
            seen = self._seen.get(name, Seen())
            if name in self._asking or time.monotonic() - seen.at < self._good_for_s:
                return seen
            self._asking.add(name)
        threading.Thread(target=self._ask, args=(name, ask), name=f"asking {name}", daemon=True).start()
        return seen

    def forget(self, name: str) -> None:
        """The next look asks anew."""
        with self._lock:
            self._seen.pop(name, None)

    def _ask(self, name: str, ask: Callable[[], T]) -> None:
        found: Seen[T] = Seen(problem="It could not be asked: the server's log says why.", at=time.monotonic())
        try:
            found = Seen(ask(), at=time.monotonic())
        except RlhfError as error:
            found = Seen(problem=str(error), at=time.monotonic())
        finally:
            with self._lock:
                self._seen[name] = found
                self._asking.discard(name)
