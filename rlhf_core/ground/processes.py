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

    def is_alive(self) -> bool:
        """Whether this very process still runs. A zombie (ended, not yet waited for) does not."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.create_time) < 0.05 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
