"""Measures sent to a tracker that people have elsewhere, by accelerate's adapters. The run's own files stay the record."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf_core.ground.configs import Tracking
from rlhf_core.ground.errors import InvalidInput

PROJECT = "rlhf-workbench"
Track = Callable[[dict[str, float], int], None]


def open_tracker(name: Tracking, run_id: str, folder: Path, config: dict[str, Any]) -> tuple[Track, Callable[[], None]] | None:
    """What takes ``(values by name, step)``, and what ends it; None for ``none``.

    Raises:
        InvalidInput: its library is not installed.
    """
    if name == "none":
        return None
    known = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",)}[name]
    if not any(importlib.util.find_spec(one) for one in known):
        raise InvalidInput(f"report_to is {name}, which is not installed. `pip install {known[-1]}`, or set report_to to none.")
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    if name == "tensorboard":
        tracker = kind(run_id, logging_dir=str(folder / "tensorboard"))
    else:
        tracker = kind(PROJECT, name=run_id)
    tracker.start()
    tracker.store_init_configuration({key: value if value is not None else "none" for key, value in config.items()})
    return lambda values, step: tracker.log(values, step=step), tracker.finish
