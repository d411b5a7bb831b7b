"""Which launcher an engine's settings ask for."""

from __future__ import annotations

from rlhf_core.ground.engines import EngineSettings
from rlhf_core.launchers.base import Launcher
from rlhf_core.launchers.ray_jobs import RayLauncher
from rlhf_core.launchers.slurm import SlurmLauncher


def launcher_of(engine: EngineSettings) -> Launcher:
    return RayLauncher(engine) if engine.kind == "ray" else SlurmLauncher(engine)
