"""What runs by TRL's trainers have in common: options, what is said of each step, and stopping."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from rlhf_core.runs.recording import Recorder


def options(scratch: Path, seed: int, device: str, *, bf16: bool, checkpointing: bool) -> dict[str, Any]:
    """Arguments that every trainer gets: nothing saved, nothing printed, nothing sent anywhere."""
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    return {
        "output_dir": str(scratch), "logging_steps": 1, "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
        "use_cpu": device == "cpu", "bf16": bf16, "seed": seed, "dataloader_pin_memory": False, "optim": "adamw_torch_fused",
        "lr_scheduler_type": "linear", "activation_checkpointing": checkpointing,
    }  # fmt: skip


class Watch(TrainerCallback):
    """Says where a trainer stands, and stops it where the run is told to stop.

    Args:
        recorder: Is told of each step.
        measured: Our names and figures, of what a trainer logs with its loss.
        after_step: Called with the number of steps done.
    """

    def __init__(
        self, recorder: Recorder, measured: Callable[[dict[str, Any]], dict[str, Any]],
        after_step: Callable[[int], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._recorder, self._measured, self._after_step = recorder, measured, after_step

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  # as transformers calls it
        self._recorder.phase("learning", step=0, total=state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, **named: Any) -> None:  # noqa: ARG002
        logs = named.get("logs") or {}
        if "loss" in logs:
            self._recorder.step(state.global_step, **self._measured(logs))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        self._after_step(state.global_step)
        control.should_training_stop = control.should_training_stop or self._recorder.should_stop


def carry_out(trainer: Any) -> int:
    """Train, without a table of figures on the screen. Returns the steps done."""
    for one in [one for one in trainer.callback_handler.callbacks if "Print" in type(one).__name__]:
        trainer.remove_callback(one)
    trainer.train()
    return int(trainer.state.global_step)
