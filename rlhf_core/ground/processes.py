"""Which process is which. A pid alone is not an identity: after a reboot or a long week it names somebody else."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Self

import psutil


def this_host() -> str:
    return socket.gethostname()


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process of this machine by pid **and** create time (epoch seconds)."""

    pid: int
    create_time: float

    @classmethod
    def of_this_process(cls) -> Self:
        return cls(os.getpid(), psutil.Process().create_time())

    @classmethod
    def of_this_run(cls) -> Self:
        """This process, or the one that started it along with others to train together: whose end is the end of all."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            parent = psutil.Process(os.getppid())
            return cls(parent.pid, parent.create_time())
        return cls.of_this_process()

    def __str__(self) -> str:
        return f"{self.pid}:{self.create_time!r}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of what :meth:`__str__` gives."""
        pid, _, created = text.partition(":")
        return cls(int(pid), float(created or 0))

    def is_alive(self) -> bool:
        """Whether this very process still runs. A zombie (ended, not yet waited for) does not."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.create_time) < 0.05 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
