"""Where runs may be carried out: this machine, or an engine that others keep (a Ray cluster, Slurm). Only the operator names one,
in ``.streamlit/secrets.toml`` or the environment, so that nobody's run goes to a stranger's machine."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.runs import LOCAL
from rlhf_core.ground.settings import ENGINE_ADDRESS, checked_url, section_of

RAY_ADDRESS_VARIABLE, RAY_TOKEN_VARIABLE = "RLHF_RAY_ADDRESS", "RLHF_RAY_TOKEN"
EngineKind = Literal["ray", "slurm"]
Sharding = Literal["none", "fsdp"]


class Resources(BaseModel):
    """What a run asks for. The same losses come of it whatever is chosen, so that none of it is an option of the run itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    processes: int = Field(1, ge=1, le=64, description="processes that train together, each on a GPU of its own where it has one")
    sharding: Sharding = Field(
        "none", description="with several processes: each holds the whole model (none), or its share of it (fsdp)"
    )
    gpus: int | None = Field(
        None,
        ge=0,
        le=64,
        description="GPUs to reserve; none: one a process where the engine has any, unless device is cpu",
    )
    cpus: int | None = Field(None, ge=1, le=1024, description="processors to reserve; none: two for each process")
    memory_mb: int | None = Field(
        None, ge=256, le=2**24, description="memory to reserve, MiB; none: what the engine gives by itself"
    )
    minutes: int | None = Field(
        None, ge=1, le=60 * 24 * 30, description="how long it may take (Slurm ends it then); none: as the engine's settings say"
    )

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """
        Raises:
            InvalidInput: names what is wrong, and its rule.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            reasons = [f"{'.'.join(map(str, one['loc']))}: {one['msg']} (got {one['input']!r})" for one in error.errors()]
            raise InvalidInput(f"What the run asks for is wrong. {'; '.join(reasons)}.") from error

    def settled(self, gpus_there: int, device: str) -> Resources:
        """With numbers where there was ``None``: GPUs and processors.

        Args:
            gpus_there: How many the engine has in all.
            device: The run's own wish: auto, cpu or cuda.
        """
        gpus = self.gpus
        if gpus is None:
            gpus = self.processes if device == "cuda" or (device == "auto" and gpus_there) else 0
        return self.model_copy(update={"gpus": gpus, "cpus": self.cpus or 2 * self.processes})


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of an engine; ``free`` is what nobody reserved. Memory in MiB."""

    name: str
    gpus: float
    free_gpus: float
    cpus: float
    free_cpus: float
    memory_mb: int
    free_memory_mb: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an engine has and how many jobs wait there, of everybody."""

    nodes: list[Node]
    waiting: int
    running: int

    def total(self, what: str) -> float:
        """Of all nodes: gpus, free_gpus, cpus, ..."""
        return float(sum(getattr(node, what) for node in self.nodes))

    def lacks(self, needs: Resources) -> str | None:
        """Why no node could ever carry this out, in words; None where one could."""
        wants = {"gpus": needs.gpus or 0, "cpus": needs.cpus or 0, "memory_mb": needs.memory_mb or 0}
        if any(all(getattr(node, name) >= value for name, value in wants.items()) for node in self.nodes):
            return None
        if not self.nodes:
            return "it has no node at all"
        asked = ", ".join(_amount(name, value) for name, value in wants.items() if value)
        best = max(self.nodes, key=lambda node: (node.gpus, node.cpus, node.memory_mb))
        has = ", ".join(_amount(name, getattr(best, name)) for name in wants)
        return f"no node of it has {asked} (the largest: {has})"


def _amount(name: str, value: float) -> str:
    words = {"gpus": "GPU", "cpus": "processor"}
    if name == "memory_mb":
        return f"{value / 1024:.1f} GiB of memory"
    return f"{value:g} {words[name]}{'' if value == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """An engine by name.

    ``workspace`` and ``project``: where its nodes find this workspace and the code, where that is not where they are here;
    ``python``: the interpreter there. ``grace_s``: how long a run that is cancelled may take to save, seconds; then it
    is told by signal, and ``terminate_s`` later ended by force. ``autoscales``: it
    makes nodes when they are asked for, so nothing is impossible. ``minutes``: how long a run may take, of Slurm; ``setup``:
    shell lines before it; ``slurm``: partition, account, qos, and whatever else submitit's Slurm executor takes.
    """

    name: str
    kind: EngineKind
    address: str = ""
    token: str = field(default="", repr=False)
    workspace: str | None = None
    project: str | None = None
    python: str | None = None
    grace_s: float = 60.0
    terminate_s: float = 15.0

    autoscales: bool = False
    executor: Literal["slurm", "local"] = "slurm"
    minutes: int = 24 * 60
    setup: tuple[str, ...] = ()
    slurm: dict[str, Any] = field(default_factory=dict)


_FIELDS: dict[str, tuple[type, ...]] = {
    "kind": (str,), "address": (str,), "token": (str,), "workspace": (str,), "project": (str,), "python": (str,),
    "grace_s": (int, float), "terminate_s": (int, float), "autoscales": (bool,), "executor": (str,), "minutes": (int,),
    "setup": (list,), "slurm": (dict,),
}  # fmt: skip


def engines() -> list[EngineSettings]:
    """Those of ``[engines.NAME]`` in ``.streamlit/secrets.toml``, and ``ray``, the cluster that ``RLHF_RAY_ADDRESS`` names.

    Raises:
        InvalidInput: a setting is missing or wrong; the message names it and where it was read.
    """
    found = []
    if address := os.environ.get(RAY_ADDRESS_VARIABLE, "").strip():
        url = checked_url(address, RAY_ADDRESS_VARIABLE, ENGINE_ADDRESS)
        found.append(EngineSettings("ray", "ray", url, os.environ.get(RAY_TOKEN_VARIABLE, "").strip()))
    secrets, where = section_of("engines")
    for name, given in secrets.items():
        found.append(_engine(name, given, f"[engines.{name}] in {where}"))
    return found


def engine_named(name: str) -> EngineSettings:
    """
    Raises:
        NotFound: there is none of that name. InvalidInput: as of :func:`engines`.
    """
    known = engines()
    found = next((one for one in known if one.name == name), None)
    if found is None:
        names = ", ".join([LOCAL, *(one.name for one in known)])
        raise NotFound(f"There is no engine {name!r} in the settings (there: {names}). See .streamlit/secrets.toml.example.")
    return found


def _engine(name: str, given: Any, where: str) -> EngineSettings:
    if not isinstance(given, dict):
        raise InvalidInput(f"{where}: write it as a section, with kind and address below it.")
    if name == LOCAL:
        raise InvalidInput(f"{where}: {LOCAL} is this machine; call the engine otherwise.")
    for key, value in given.items():
        if key not in _FIELDS:
            raise InvalidInput(f"{where} has no setting {key!r}. There are {', '.join(_FIELDS)}.")
        if not isinstance(value, _FIELDS[key]) or (isinstance(value, bool) and bool not in _FIELDS[key]):
            raise InvalidInput(f"{key} under {where} is {value!r}; expected {_FIELDS[key][0].__name__}.")
    kind = given.get("kind")
    if kind not in get_args(EngineKind):
        raise InvalidInput(f"kind under {where} is {kind!r}; expected {' or '.join(get_args(EngineKind))}.")
    values = dict(given)
    if kind == "ray":
        values["address"] = checked_url(str(given.get("address", "")).strip(), f"address under {where}", ENGINE_ADDRESS)
    if values.get("executor", "slurm") not in ("slurm", "local"):
        raise InvalidInput(f"executor under {where} is {values['executor']!r}; expected slurm, or local to try it out.")
    for path in ("workspace", "project"):
        if path in values and not PurePosixPath(values[path]).is_absolute():
            raise InvalidInput(f"{path} under {where} is {values[path]!r}; expected an absolute path on its nodes.")
    if any(values.get(name, 1) <= 0 for name in ("grace_s", "terminate_s", "minutes")):
        raise InvalidInput(f"grace_s, terminate_s and minutes under {where} have to be above 0.")
    values["setup"] = tuple(map(str, values.get("setup", ())))
    return EngineSettings(name=name, **values)
