"""Every error a user can cause or meet. A message says what happened, with which value, and what to do next.

Pages and the command line show an :class:`RlhfError` as it is; anything else that escapes is a bug and surfaces as one.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class RlhfError(Exception):
    """Base of all errors with a message meant for a person."""


class InvalidInput(RlhfError):
    """A value given by a person or a file breaks a stated rule."""


class NotFound(RlhfError):
    """A chat, snapshot, run, checkpoint or file that was named does not exist."""


class StoreUnavailable(RlhfError):
    """The store cannot be opened, is locked for too long, or is damaged. Nothing was written."""


class StoreTimeout(StoreUnavailable):
    """The store did not answer in time. Whether the write was stored is unknown; trying again counts nothing double."""


class Unproven(InvalidInput):
    """A checkpoint would serve everybody although people's ratings have not shown that it is no worse. Nothing was decided.
    ``known``: what they have shown so far."""

    def __init__(self, known: str) -> None:
        super().__init__(
            f"{known} Give it to a share of people first, or say that it is to serve everybody unproven (--unproven)."
        )
        self.known = known


class Duplicate(InvalidInput):
    """Something with this name or id is there already."""


class Conflict(RlhfError):
    """Something else was sent under the same id before. Nothing was written."""


class Forbidden(RlhfError):
    """The person's role does not allow it. Nothing was written."""


class ScreeningFailed(Forbidden):
    """The person's answers to a queue's known items were not right often enough to go on."""

    def __init__(self, share: float, needed: float) -> None:
        super().__init__(
            f"This queue begins with items whose answer is known. You were right on {share:.0%} of them; it takes {needed:.0%}. "
            "Read the guidelines, and ask whoever keeps the queue to let you try again. What you rated is kept."
        )


class SignInRequired(RlhfError):
    """Nobody is signed in, and the store belongs to a team."""


class SessionExpired(SignInRequired):
    """The person was signed in; the server does not accept it any more. Nothing was written."""


class StorageFull(RlhfError):
    """The disk is full or the quota is used up. Nothing was half written."""


class CorruptArtifact(RlhfError):
    """A snapshot or checkpoint on disk does not match its manifest."""


class NotEnoughData(RlhfError):
    """Fewer ratings than the run needs."""


class ModelUnavailable(RlhfError):
    """A model name that is neither a folder, nor cached, nor downloadable."""


class ModelRefused(RlhfError):
    """A reward model's report card does not let anything act on its rewards."""


class RunRefused(RlhfError):
    """A run cannot be started, claimed or changed in the state it is in."""


class OutOfMemory(RlhfError):
    """The device's memory does not hold what a run asks for."""


class HubUnavailable(RlhfError):
    """A model hub does not answer, does not know who asks, or refuses."""


class WorkerFailed(RlhfError):
    """The scoring process died or did not answer in time."""


class EndpointFailed(RlhfError):
    """A server that should write an answer does not answer, refuses, or breaks off."""


class EngineUnavailable(RlhfError):
    """An engine that carries out runs does not answer. What it was doing goes on or not; nobody knows yet."""


class EngineRefused(RlhfError):
    """An engine does not take a run: it could never carry it out, or does not accept who asks."""


class StorageUnavailable(RlhfError):
    """A place that keeps snapshots and checkpoints does not answer, or refuses. What was copied before stays."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One bad place in an imported file. ``line`` counts from 1 (a record's number where a format has no lines)."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class ImportRejected(InvalidInput):
    """A file was refused whole; ``problems`` lists every bad line in file order."""

    shown = 10

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.name = name
        self.problems = problems
        lines = "\n".join(f"  {problem}" for problem in problems[: self.shown])
        more = f"\n  ... and {len(problems) - self.shown} more" if len(problems) > self.shown else ""
        noun = "problem" if len(problems) == 1 else "problems"
        super().__init__(
            f"{name}: nothing was imported, because of {len(problems)} {noun}:\n{lines}{more}\n"
            "Mend or remove these lines and import the file again."
        )


@contextmanager
def disk_errors(doing: str, where: Path) -> Iterator[None]:
    """Turn whatever the disk refuses (full, no permission, read-only, no such path) into a :class:`RlhfError` that names it.

    Raises:
        StorageFull: no space or quota left.
        StoreUnavailable: the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"The disk is full: {doing} in {where} was undone. Free some space and try again.") from error
        raise StoreUnavailable(
            f"{doing[:1].upper()}{doing[1:]} in {where} failed: {error.strerror or error}. Check the path and its permissions, "
            "or choose another folder with --workspace or RLHF_WORKSPACE."
        ) from error
