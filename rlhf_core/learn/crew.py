"""Several processes that train one model, one on each device, as ``accelerate launch`` or ``torchrun`` starts them; or this one
alone.

Every process holds the whole model and reads its share of each batch's parts; gradients are summed before each step, so that
all take the same steps that one process would.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def rank_of_this_process() -> int:
    """0 for the first process and for one alone."""
    return int(os.environ.get("RANK", "0"))


class Crew:
    """
    Args:
        device_type: cpu or cuda; of cuda each process takes the device with its local number.
    """

    def __init__(self, device_type: str) -> None:
        self.rank, self.size = 0, 1
        self._state: Any = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState

            self._state = PartialState(cpu=device_type == "cpu")
            self.rank, self.size = self._state.process_index, self._state.num_processes

    @property
    def first(self) -> bool:
        """Whether this process writes and records."""
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """The one that this process works on."""
        return device if self._state is None else torch.device(self._state.device)

    def share(self, parts: Sequence[T]) -> Sequence[T]:
        """This process's of them."""
        return parts[self.rank :: self.size]

    def sum(self, value: float, device: torch.device) -> float:
        """Of every process's value."""
        if self._state is None:
            return value
        return float(self._reduced(torch.tensor([value], dtype=torch.float64, device=device))[0])

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Every process then has the sum of all; none means zero."""
        if self._state is None:
            return
        mine = [one for one in parameters if one.requires_grad]
        flat = torch.cat([(torch.zeros_like(one) if one.grad is None else one.grad).flatten().float() for one in mine])
        summed = self._reduced(flat)
        for one, part in zip(mine, summed.split([one.numel() for one in mine]), strict=True):
            one.grad = part.view_as(one).to(one.dtype)

    def alike(self, parameters: Iterable[Tensor]) -> None:
        """Every process then has the first one's values."""
        if self._state is None:
            return
        from accelerate.utils import broadcast

        with torch.no_grad():
            for one in parameters:
                one.copy_(broadcast(one.detach().clone()))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether it is true in any process; the same answer in each."""
        return self.sum(float(flag), device) > 0

    def _reduced(self, tensor: Tensor) -> Tensor:
        from accelerate.utils import reduce

        return reduce(tensor, "sum")
