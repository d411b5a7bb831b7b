"""What this machine has: memory, GPUs, disk. Asked without torch, so that a page or a supervisor may ask it often."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

MB = 2**20
GPUS_FOR_S = 2.0  # an answer of nvidia-smi is good for so long
_CGROUP = Path("/sys/fs/cgroup")
_lock = threading.Lock()
_asked: tuple[float, list[Device]] | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """Where a run computes. ``name``: cpu, cuda:0, ...; memory in MiB; ``busy``: share of its time, None where unknown."""

    name: str
    title: str
    total_mb: int
    free_mb: int
    busy: float | None = None


def cpu() -> Device:
    """The processors and the memory that this process may use: a container's limit counts where it is lower."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if limit is not None and used is not None and limit < total:
        total, free = limit, min(free, limit - used + _reclaimable())
    return Device("cpu", f"{cores()} processors", total // MB, max(0, free) // MB, psutil.cpu_percent(None) / 100)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[Device]:
    """Graphics processors that nvidia-smi knows; none where it is missing or does not answer."""
    global _asked
    with _lock:
        if _asked is None or time.monotonic() - _asked[0] > GPUS_FOR_S:
            _asked = time.monotonic(), _ask_gpus()
        return _asked[1]


def disk_free_mb(folder: Path) -> int:
    """MiB free on the disk of a folder that exists."""
    return shutil.disk_usage(folder).free // MB


def _ask_gpus() -> list[Device]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = "--query-gpu=index,name,memory.total,memory.used,utilization.gpu"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return read_gpus(done.stdout)


def read_gpus(text: str) -> list[Device]:
    """Of lines ``index, name, MiB in all, MiB used, percent busy``; lines of GPUs that say no memory are left out."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 5 and parts[2].isdigit() and parts[3].isdigit():
            busy = int(parts[4]) / 100 if parts[4].isdigit() else None
            found.append(Device(f"cuda:{parts[0]}", parts[1], int(parts[2]), int(parts[2]) - int(parts[3]), busy))
    return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _reclaimable() -> int:
    """Bytes of file cache that count as used and are given up under pressure."""
    try:
        lines = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
