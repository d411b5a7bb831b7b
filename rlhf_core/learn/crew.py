"""Several processes that train one model, one on each device, as ``accelerate launch`` or ``torchrun`` starts them; or this one
alone.

Each reads its share of each batch's parts, and gradients are summed before each step, so that all take the same steps that one
process would. Every process holds the whole model; or, where accelerate's settings say FSDP, its share of weights, gradients and
moments (fully sharded data parallel, arXiv 2304.11277, in PyTorch's second form).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rlhf_core.learn.networks import layers_of

T = TypeVar("T")


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

            # the others wait while the first one measures, tests or saves; NCCL's own patience is ten minutes
            self._state = PartialState(cpu=device_type == "cpu", timeout=timedelta(hours=12))
            self.rank, self.size = self._state.process_index, self._state.num_processes
        self.sharded = self.size > 1 and os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
        self._reshards = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() == "true"

    @property
    def first(self) -> bool:
        """Whether this process writes and records."""
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """The one that this process works on."""
        return device if self._state is None else torch.device(self._state.device)

    # Work, and what comes of it.
    def share(self, parts: Sequence[T]) -> Sequence[T]:
        """This process's of them."""
        return parts[self.rank :: self.size]

    def even_share(self, parts: Sequence[T]) -> list[tuple[T, bool]]:
        """This process's of them, and whether each counts: where weights are sharded all processes have to read equally often, so
        some read one that others read too, which does not count."""
        mine = [(part, True) for part in self.share(parts)]
        most = -(-len(parts) // self.size) if self.sharded else len(mine)
        return mine + [(parts[0], False)] * (most - len(mine))

    def at_once(self, tokens: int, total: int) -> int:
        """How many tokens a part may have where one process would take so many: fewer, so that everybody gets a part of
        ``total`` tokens."""
        return tokens if self._state is None else max(1, min(tokens, -(-total // self.size)))

    def gather(self, mine: Sequence[T]) -> list[T]:
        """Everybody's, in the order in which :meth:`share` dealt the parts out."""
        if self._state is None:
            return [*mine]
        everybody: list[list[T]] = [[] for _ in range(self.size)]
        torch.distributed.all_gather_object(everybody, [*mine])
        found: list[T] = []
        for k in range(max(map(len, everybody))):
            found += [some[k] for some in everybody if k < len(some)]
        return found

    def from_first(self, value: T) -> T:
        """The first process's, in all."""
        if self._state is None:
            return value
        told = [value]
        torch.distributed.broadcast_object_list(told)
        return told[0]

    def sum(self, value: float, device: torch.device) -> float:
        """Of every process's value."""
        return float(self.sum_all(torch.tensor([value], dtype=torch.float64, device=device))[0])

    def sum_all(self, values: Tensor) -> Tensor:
        """The same of each number of a tensor."""
        if self._state is None:
            return values
        from accelerate.utils import reduce

        return reduce(values, "sum")

    def decided(self, flag: bool) -> bool:
        """The first process's, in all."""
        return flag if self._state is None else self.any(self.first and flag, self._state.device)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether it is true in any process; the same answer in each."""
        return self.sum(float(flag), device) > 0

    # Weights.
    def alike(self, parameters: Iterable[Tensor]) -> None:
        """Every process then has the first one's values. Of whole weights: before :meth:`shard`."""
        if self._state is None:
            return
        from accelerate.utils import broadcast

        with torch.no_grad():
            for one in parameters:
                one.copy_(broadcast(one.detach().clone()))

    def shard(self, module: nn.Module) -> None:
        """Where that is wanted: keep this process's share of the module's weights alone, those of each layer together. An
        optimiser has to be made after it."""
        if not self.sharded:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        mesh = init_device_mesh(self._state.device.type, (self.size,))
        for one in (*layers_of(module), module):
            fully_shard(one, mesh=mesh, reshard_after_forward=self._reshards)
        for unit in module.modules():
            if isinstance(unit, FSDPModule):
                unit.set_gradient_divide_factor(1.0)  # sums: losses are divided by the whole batch already
                unit.set_force_sum_reduction_for_comms(True)

    @contextmanager
    def gathered(self, *modules: nn.Module | None) -> Iterator[None]:
        """Inside, the modules' weights are whole, and processes may read with them unequally often. Nothing learns inside."""
        units = []
        if self.sharded:
            from torch.distributed.fsdp import FSDPModule

            units = [
                unit for module in modules if module is not None for unit in module.modules() if isinstance(unit, FSDPModule)
            ]
        for unit in units:
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()
        try:
            yield
        finally:
            for unit in units:
                unit.reshard()
                unit.set_reshard_after_forward(self._reshards, recurse=False)

    def whole_weights(self, module: nn.Module) -> dict[str, Tensor]:
        """Its state by name, of all processes' shares, on the CPU. Every process has to ask."""
        return {name: whole(one.detach()).cpu() for name, one in module.state_dict().items()}

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every process then has the sum of all; none means zero."""
        if self._state is None or self.sharded:  # sharded ones were summed on the way back
            return
        mine = [one for one in parameters if one.requires_grad]
        flat = torch.cat([(torch.zeros_like(one) if one.grad is None else one.grad).flatten().float() for one in mine])
        summed = self.sum_all(flat)
        for one, part in zip(mine, summed.split([one.numel() for one in mine]), strict=True):
            one.grad = part.view_as(one).to(one.dtype)


def clip_gradients(parameters: Iterable[nn.Parameter], at_most: float) -> float:
    """Scale all gradients so that their norm is no larger. Returns what it was."""
    return float(whole(nn.utils.clip_grad_norm_([*parameters], at_most)))


def whole(tensor: Tensor) -> Tensor:
    """Of a process's share the whole; every process has to ask. Of a plain tensor itself."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def shared_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Of a whole tensor this process's share, as ``like`` is one; every process has to ask."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or isinstance(tensor, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
