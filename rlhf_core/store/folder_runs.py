"""A run's record in its own folder, for one that an engine carries out on another machine: SQLite's file must not be opened from
two machines. The supervisor, who has the ledger, carries over what the run tells, and writes here what is asked of it.

Two files, each written whole by one side alone: :data:`ORDER_FILE` by the supervisor, :data:`TOLD_FILE` by the run.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from rlhf_core.ground.errors import CorruptArtifact, NotFound, RunRefused, disk_errors
from rlhf_core.ground.files import read_json, write_json
from rlhf_core.ground.records import utc_now
from rlhf_core.ground.runs import ORDER_FILE, TOLD_FILE, Run, RunStatus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of a run. ``run``: its row; of it ``attempt``, ``cancel_requested`` and ``pausing`` count as they are now.
    ``version``: of the workbench that asks. ``over``: nobody waits for it any more; it has to end."""

    run: Run
    version: str
    over: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What a run says of itself. ``beats``: grows with every word of it; ``end``: how it ended, None while it works."""

    attempt: int
    host: str
    pid: int = 0
    pid_create_time: float = 0.0
    beats: int = 0
    phase: str = "starting"
    step: int = 0
    total_steps: int | None = None
    wants_pause: bool = False
    end: dict[str, Any] | None = None


def write_order(folder: Path, order: Order) -> None:
    """
    Raises:
        StorageFull, StoreUnavailable: the folder cannot be written.
    """
    with disk_errors("handing the run over", folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / ORDER_FILE, asdict(order))


def read_order(folder: Path) -> Order:
    """
    Raises:
        NotFound: the folder holds none. CorruptArtifact: it cannot be read.
    """
    order: Order = _read(folder, ORDER_FILE, Order)
    return order


def read_told(folder: Path, attempt: int) -> Told | None:
    """What the run said in this try; None before it said anything.

    Raises:
        CorruptArtifact: it cannot be read.
    """
    try:
        told: Told = _read(folder, TOLD_FILE, Told)
    except NotFound:
        return None
    return told if told.attempt == attempt else None


def _read(folder: Path, name: str, kind: type[Any]) -> Any:
    try:
        return TypeAdapter(kind).validate_python(read_json(folder / name, f"Run {folder.name}"))
    except ValidationError as error:
        raise CorruptArtifact(f"{folder / name} is not as it was written: {str(error).splitlines()[0]}.") from error


def _one_at_a_time(method: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(method)
    def locked(self: FolderRecord, *arguments: Any, **named: Any) -> T:
        with self._lock:
            return method(self, *arguments, **named)

    return locked


class FolderRecord:
    """:class:`~rlhf_core.store.base.RunRecord` of one try of one run, by the files of its folder."""

    def __init__(self, folder: Path, attempt: int) -> None:
        self._folder, self._attempt = folder, attempt
        self._lock = threading.RLock()  # a heartbeat and the run's own words do not write over each other

    def _now(self) -> tuple[Order, Told | None]:
        return read_order(self._folder), read_told(self._folder, self._attempt)

    def _tell(self, told: Told) -> None:
        with disk_errors("saying how the run stands", self._folder):
            write_json(self._folder / TOLD_FILE, asdict(replace(told, beats=told.beats + 1)))

    def get(self, run_id: str) -> Run:
        order, told = self._now()
        if order.run.id != run_id:
            raise NotFound(f"{self._folder} is the folder of run {order.run.id}, not of {run_id}.")
        status: RunStatus = "queued"
        if order.over or order.run.attempt != self._attempt:
            status = "lost"
        elif told is not None:
            status = "running" if told.end is None else told.end["status"]
        if told is None or not told.pid:
            return replace(order.run, status=status, host=None, pid=None, pid_create_time=None)
        return replace(order.run, status=status, host=told.host, pid=told.pid, pid_create_time=told.pid_create_time)

    @_one_at_a_time
    def claim(self, run_id: str, host: str, device: str | None = None) -> Run:  # noqa: ARG002  # the engine gives it one
        run = self.get(run_id)
        if run.status != "queued":
            raise RunRefused(f"Run {run_id} is {run.status}, not queued, so it cannot be started.")
        self._tell(Told(self._attempt, host))
        return self.get(run_id)

    @_one_at_a_time
    def set_process(self, run_id: str, host: str, pid: int, pid_create_time: float) -> None:  # noqa: ARG002  # its own
        told = self._now()[1] or Told(self._attempt, host)
        self._tell(replace(told, host=host, pid=pid, pid_create_time=pid_create_time))

    @_one_at_a_time
    def beat(self, run_id: str, phase: str, step: int, total_steps: int | None) -> Run | None:
        told = self._now()[1]
        run = self.get(run_id)
        if told is None or run.status != "running":
            return None
        self._tell(replace(told, phase=phase, step=step, total_steps=total_steps))
        return replace(run, phase=phase, step=step, total_steps=total_steps, heartbeat_at=utc_now())

    @_one_at_a_time
    def finish(
        self, run_id: str, status: RunStatus, message: str | None, checkpoint_id: str | None,
        remedy: dict[str, Any] | None = None,
    ) -> bool:  # fmt: skip
        told = self._now()[1]
        if self.get(run_id).status != "running" or told is None:
            return False
        end = {"status": status, "message": message, "checkpoint_id": checkpoint_id, "remedy": remedy}
        self._tell(replace(told, end=end))
        return True

    @_one_at_a_time
    def request_pause(self, run_id: str) -> Run:
        run, told = self.get(run_id), self._now()[1]
        if run.status != "running" or told is None:
            raise RunRefused(f"Run {run_id} has ended already ({run.status}).")
        self._tell(replace(told, wants_pause=True))
        return replace(run, pausing=True, cancel_requested=run.cancel_requested or utc_now())
