"""The run ledger over the embedded store's file. Local to a machine even where feedback lives elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from rlhf_core.ground.errors import NotFound, RunRefused
from rlhf_core.ground.files import canonical_json
from rlhf_core.ground.records import utc_now
from rlhf_core.ground.runs import LOCAL, Run, RunKind, RunLine, RunStatus, Sweep
from rlhf_core.ground.settings import SQL_ROOT
from rlhf_core.store.sql import named_statements
from rlhf_core.store.sqlite_database import Database

_STATEMENTS = SQL_ROOT / "sqlite" / "queries" / "runs.sql"


class SqliteRunLedger:
    """:class:`~rlhf_core.store.base.RunLedger` over one SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = named_statements(_STATEMENTS)

    @staticmethod
    def _run(row: tuple[Any, ...]) -> Run:
        values: dict[str, Any] = dict(zip((field.name for field in fields(Run)), row, strict=True))
        read = {name: json.loads(values[name] or "null") for name in ("config", "remedy", "resources")}
        return Run(**values | read | {"pausing": bool(values["pausing"]), "holds": bool(values["holds"])})

    def _write(self, name: str, **values: Any) -> Run | None:
        with self._database.transaction() as connection:
            row = connection.execute(self._sql[name], values | {"now": utc_now()}).fetchone()
        return self._run(row) if row else None

    def _read(self, name: str, **values: Any) -> list[Run]:
        with self._database.connection() as connection:
            return [self._run(row) for row in connection.execute(self._sql[name], values).fetchall()]

    def add(
        self, run_id: str, kind: RunKind, config: dict[str, Any], snapshot_id: str, requested_by: str | None,
        host: str | None = None, memory_mb: int | None = None, *, engine: str = LOCAL,
        resources: dict[str, Any] | None = None, sweep: str | None = None,
    ) -> Run:  # fmt: skip
        self._write(
            "add_run", id=run_id, kind=kind, config=canonical_json(config), snapshot_id=snapshot_id,
            requested_by=requested_by, host=host, memory_mb=memory_mb, engine=engine, resources=canonical_json(resources or {}),
            sweep=sweep,
        )  # fmt: skip
        return self.get(run_id)

    def restore(self, run: Run) -> bool:
        row = asdict(run) | {"config": canonical_json(run.config), "pausing": int(run.pausing)}
        row["resources"] = canonical_json(run.resources)
        row["remedy"] = None if run.remedy is None else canonical_json(run.remedy)
        return self._write("restore_run", **row) is not None

    def get(self, run_id: str) -> Run:
        rows = self._read("run", id=run_id)
        if not rows:
            raise NotFound(f"There is no run {run_id!r} in this workspace. `python -m rlhf_core runs` lists them.")
        return rows[0]

    def recent(self, limit: int | None = 200) -> list[Run]:
        return self._read("runs", limit=-1 if limit is None else limit)

    def find(
        self, kinds: Sequence[str] = (), statuses: Sequence[str] = (), words: str = "", limit: int = -1, sweep: str | None = None
    ) -> list[RunLine]:  # fmt: skip
        wanted: dict[str, Any] = {"limit": limit, "words": words.strip(), "now": utc_now(), "sweep": sweep}
        wanted |= {"kinds": json.dumps([*kinds]), "statuses": json.dumps([*statuses])}
        with self._database.connection() as connection:
            return [RunLine(*row) for row in connection.execute(self._sql["find_runs"], wanted).fetchall()]

    def tally(self) -> dict[tuple[RunKind, RunStatus], int]:
        with self._database.connection() as connection:
            found = connection.execute(self._sql["tally_of_runs"]).fetchall()
        return {(kind, status): count for kind, status, count in found}

    def unfinished(self) -> list[Run]:
        return self._read("unfinished_runs")

    def not_over(self) -> list[Run]:
        return self._read("runs_not_over")

    def claim(self, run_id: str, host: str, device: str | None = None) -> Run:
        run = self._write("claim", id=run_id, host=host, device=device)
        if run is None:
            raise RunRefused(f"Run {run_id} is {self.get(run_id).status}, not queued, so it cannot be started.")
        return run

    def next_attempt(self, run_id: str) -> Run:
        run = self._write("next_attempt", id=run_id)
        if run is None:
            raise RunRefused(f"Run {run_id} is {self.get(run_id).status}, not queued, so it cannot be handed over.")
        return run

    def set_holds(self, run: Run, holds: bool) -> None:
        self._write("holds", id=run.id, attempt=run.attempt, holds=int(holds))

    def set_job(self, run: Run, job_id: str | None) -> None:
        self._write("set_job", id=run.id, attempt=run.attempt, job_id=job_id)

    def given_up(self) -> list[Run]:
        return self._read("given_up")

    def say_phase(self, run_id: str, phase: str) -> None:
        self._write("say_phase", id=run_id, phase=phase)

    def fail_queued(self, run_id: str, message: str) -> bool:
        return self._write("fail_queued", id=run_id, message=message) is not None

    def sweeps(self) -> list[Sweep]:
        with self._database.connection() as connection:
            return [Sweep(*row) for row in connection.execute(self._sql["sweeps"]).fetchall()]

    def set_process(self, run_id: str, host: str, pid: int, pid_create_time: float) -> None:
        self._write("set_process", id=run_id, host=host, pid=pid, pid_create_time=pid_create_time)

    def beat(self, run_id: str, phase: str, step: int, total_steps: int | None) -> Run | None:
        return self._write("beat", id=run_id, phase=phase, step=step, total_steps=total_steps)

    def finish(
        self, run_id: str, status: RunStatus, message: str | None, checkpoint_id: str | None,
        remedy: dict[str, Any] | None = None,
    ) -> bool:  # fmt: skip
        row = self._write(
            "finish", id=run_id, status=status, message=message, checkpoint_id=checkpoint_id,
            remedy=None if remedy is None else canonical_json(remedy),
        )  # fmt: skip
        return row is not None

    def request_cancel(self, run_id: str) -> Run:
        return self._change("request_cancel", run_id)

    def request_pause(self, run_id: str) -> Run:
        return self._change("request_pause", run_id)

    def go_on(self, run_id: str) -> Run:
        run = self._write("go_on", id=run_id)
        if run is None and self.get(run_id).holds:
            raise RunRefused(f"Run {run_id}: its engine has not heard of the pause yet. Try again in a moment.")
        if run is None:
            raise RunRefused(f"Run {run_id} is {self.get(run_id).status}, not paused.")
        return run

    def set_priority(self, run_id: str, priority: int) -> Run:
        run = self._write("set_priority", id=run_id, priority=priority)
        if run is None:
            raise RunRefused(f"Run {run_id} is {self.get(run_id).status}; only one that waits can be moved.")
        return run

    def move(self, old_snapshot_id: str, new_snapshot_id: str) -> int:
        with self._database.transaction() as connection:
            return len(connection.execute(self._sql["move_runs"], {"old": old_snapshot_id, "new": new_snapshot_id}).fetchall())

    def _change(self, name: str, run_id: str) -> Run:
        run = self._write(name, id=run_id)
        if run is None:
            raise RunRefused(f"Run {run_id} has ended already ({self.get(run_id).status}).")
        return run
