"""What every engine can do with a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rlhf_core.ground.engines import Capacity, Resources

JobState = Literal["waiting", "running", "ended", "unknown"]


@dataclass(frozen=True, slots=True)
class Job:
    """How an engine says a job stands. ``unknown``: it knows none of that id (any more). ``words``: what it says of it."""

    state: JobState
    exit_code: int | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be carried out. ``name``: the same work has the same name, so that it is handed over once; ``argv``: the command
    line, in ``cwd``, with this in its ``environment`` beside what is there; ``folder``: the run's, for what the engine writes."""

    name: str
    argv: Sequence[str]
    cwd: str
    environment: dict[str, str]
    folder: Path
    needs: Resources


class Launcher(Protocol):
    """An engine. Every method may raise :class:`~rlhf_core.ground.errors.EngineUnavailable` (it does not answer) and
    :class:`~rlhf_core.ground.errors.EngineRefused` (it does not accept who asks, or what).

    Used by one thread at a time.
    """

    def capacity(self) -> Capacity:
        """What it has, and what waits there."""

    def submit(self, work: Work) -> str:
        """Hand it over. Returns how the engine knows it. Work of a name that it has already is not handed over again.

        Raises:
            EngineRefused: no node of it could ever carry this out.
        """

    def find(self, work_name: str, folder: Path) -> str | None:
        """How it knows work of this name that it has; None where it has none. ``folder``: of the run."""

    def look(self, job_id: str) -> Job: ...

    def stop(self, job_id: str, *, force: bool = False) -> None:
        """Tell all of its processes to end (a second time, or with ``force``, at once). None of that id: nothing."""

    def log_tail(self, job_id: str) -> str:
        """The end of what it wrote, where the engine keeps that; else nothing."""
