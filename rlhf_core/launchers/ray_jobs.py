"""Jobs of a Ray cluster, by the HTTP interface that its dashboard documents: nothing of Ray has to be installed here, and any
version of it that has that interface will do. Source: https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from rlhf_core.ground.engines import Capacity, EngineSettings, Node
from rlhf_core.ground.errors import EngineRefused, EngineUnavailable
from rlhf_core.ground.machine import MB
from rlhf_core.launchers.base import Job, JobState, Work

TIMEOUT_S = 5.0
LOG_LINES = 200
_STATES: Mapping[str, JobState] = {
    "PENDING": "waiting", "RUNNING": "running", "SUCCEEDED": "ended", "FAILED": "ended", "STOPPED": "ended",
}  # fmt: skip


class RayLauncher:
    """:class:`~rlhf_core.launchers.base.Launcher` of one cluster."""

    def __init__(self, engine: EngineSettings) -> None:
        self._engine = engine
        self._headers = {"Authorization": f"Bearer {engine.token}"} if engine.token else {}

    def capacity(self) -> Capacity:
        status = self._ask("GET", "/api/cluster_status", params={"format": "0"})
        try:
            usage = status["data"]["clusterStatus"]["loadMetricsReport"]["usageByNode"]
            nodes = [_node(name, has) for name, has in usage.items()]
            jobs = [one["status"] for one in self._ask("GET", "/api/jobs/") if one.get("type") == "SUBMISSION"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EngineUnavailable(
                f"{self._engine.name} ({self._engine.address}) answers otherwise than a Ray dashboard does ({error!r}). Is "
                "this its dashboard's address?"
            ) from error
        return Capacity(nodes, jobs.count("PENDING"), jobs.count("RUNNING"))

    def submit(self, work: Work) -> str:
        needs = work.needs
        if not self._engine.autoscales and (lacking := self.capacity().lacks(needs)) is not None:
            raise EngineRefused(
                f"{self._engine.name} could never carry this out: {lacking}. Ask for less, or set autoscales where it makes "
                "nodes when they are asked for."
            )
        lines = [*self._engine.setup, f"cd {shlex.quote(work.cwd)}", f"exec {shlex.join(work.argv)}"]
        wait_s = max(1, round(self._engine.terminate_s))
        wanted: dict[str, Any] = {
            "entrypoint": " && ".join(lines), "submission_id": work.name, "metadata": {"run": work.name},
            "runtime_env": {"env_vars": work.environment | {"RAY_JOB_STOP_WAIT_TIME_S": str(wait_s)}},
            "entrypoint_num_cpus": needs.cpus or 1, "entrypoint_num_gpus": needs.gpus or 0,
        }  # fmt: skip
        if needs.memory_mb:
            wanted["entrypoint_memory"] = needs.memory_mb * MB
        if self.look(work.name).state == "unknown":
            try:
                self._ask("POST", "/api/jobs/", json=wanted)
            except EngineRefused:
                if self.look(work.name).state == "unknown":  # else it was handed over meanwhile
                    raise
        return work.name

    def find(self, work_name: str, folder: Path) -> str | None:  # noqa: ARG002  # the cluster knows
        return None if self.look(work_name).state == "unknown" else work_name

    def look(self, job_id: str) -> Job:
        found = self._ask("GET", f"/api/jobs/{job_id}", missing=None)
        if found is None:
            return Job("unknown")
        state = _STATES.get(str(found.get("status")), "unknown")
        words = str(found.get("message") or "").partition(", last available logs")[0].strip() if state == "ended" else ""
        return Job(state, found.get("driver_exit_code"), words)

    def stop(self, job_id: str, *, force: bool = False) -> None:  # noqa: ARG002  # Ray ends it by force itself, terminate_s later
        self._ask("POST", f"/api/jobs/{job_id}/stop", missing=None)

    def log_tail(self, job_id: str) -> str:
        found = self._ask("GET", f"/api/jobs/{job_id}/logs", missing={})
        return "\n".join(str(found.get("logs", "")).split("\n")[-LOG_LINES:])

    def _ask(self, method: str, path: str, *, missing: Any = ..., **more: Any) -> Any:
        """JSON of the answer; ``missing`` where the cluster knows nothing of that name."""
        name, address = self._engine.name, self._engine.address
        try:
            answer = httpx.request(
                method, f"{address}{path}", headers=self._headers, timeout=TIMEOUT_S, verify=address.startswith("https:"), **more
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise EngineUnavailable(f"{name} ({address}) does not answer: {error or type(error).__name__}.") from error
        if answer.status_code in (401, 403):
            raise EngineRefused(
                f"{name} ({address}) does not accept who asks (HTTP {answer.status_code}). Set token in its settings to what "
                "`ray get-auth-token` shows on the cluster."
            )
        if answer.status_code == 404 and missing is not ...:
            return missing
        if answer.status_code == 404 or answer.is_redirect:
            raise EngineUnavailable(
                f"{name} ({address}) is no Ray dashboard, or one that has no jobs: HTTP {answer.status_code}."
            )
        if answer.status_code in (502, 503, 504):
            raise EngineUnavailable(f"{name} ({address}) does not answer: HTTP {answer.status_code}.")
        if answer.is_error:
            raise EngineRefused(f"{name} ({address}) refused: {_last_line(answer.text)}")
        try:
            return answer.json()
        except ValueError as error:
            raise EngineUnavailable(f"{name} ({address}) answers otherwise than a Ray dashboard does.") from error


def _node(name: str, has: dict[str, list[float]]) -> Node:
    def of(what: str) -> tuple[float, float]:
        used, total = has.get(what, (0.0, 0.0))
        return float(total), float(total) - float(used)

    address = next((one.removeprefix("node:") for one in has if one.startswith("node:") and "nternal" not in one), name)
    memory, free_memory = of("memory")
    return Node(address, *of("GPU"), *of("CPU"), int(memory // MB), int(free_memory // MB))


def _last_line(text: str) -> str:
    """What an error's traceback ends with."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" .")]
    return lines[-1][:300] if lines else "it does not say why."
