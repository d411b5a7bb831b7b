from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from rlhf_core.ground import machine


def test_gpus_as_nvidia_smi_says_them() -> None:
    text = "0, NVIDIA H100 80GB HBM3, 81559, 1559, 37\n1, Odd One, [N/A], [N/A], [N/A]\n2, Busy, 100, 40, [N/A]\n\n"
    assert machine.read_gpus(text) == [
        machine.Device("cuda:0", "NVIDIA H100 80GB HBM3", 81559, 80000, 0.37), machine.Device("cuda:2", "Busy", 100, 60, None)
    ]  # fmt: skip


def test_without_nvidia_smi_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "_asked", None)
    assert machine.gpus() == []
    broken = tmp_path / "nvidia-smi"
    broken.write_text("#!/bin/sh\nexit 9\n")
    broken.chmod(0o755)
    monkeypatch.setattr(machine, "_asked", None)
    assert machine.gpus() == []


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    whole = machine.cpu()
    assert whole.total_mb == psutil.virtual_memory().total // machine.MB
    assert 0 < whole.free_mb <= whole.total_mb
    (tmp_path / "memory.max").write_text("104857600\n")
    (tmp_path / "memory.current").write_text("94371840\n")
    assert (machine.cpu().total_mb, machine.cpu().free_mb) == (100, 10)
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 20971520\n")
    assert machine.cpu().free_mb == 30
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.cpu().total_mb == whole.total_mb
