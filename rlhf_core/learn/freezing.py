"""Lower layers that do not learn: no gradients are kept for them, and what they make of each training text is computed once.

Works on any model of ``transformers`` whose layers stand in one list and hand a hidden state on; others are frozen without the
store of what they computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_core.learn.batching import by_tokens
from rlhf_core.learn.networks import layers_of
from rlhf_core.learn.reading import Encoded

FORWARD_TOKENS = 4096
STORE_AT_MOST = 2 << 30  # bytes of hidden states; beyond, they are computed anew each time


class Frozen:
    """The lowest ``count`` layers of a model and everything below them, frozen.

    Their weights keep no gradients and their dropout is off. :meth:`remember` computes what they give for each text once;
    inside :meth:`recalling`, a forward pass of those texts begins above them.
    """

    def __init__(self, model: nn.Module, count: int) -> None:
        self._layers = list(layers_of(model))[:count]
        self.count = len(self._layers)
        self._given: Tensor | None = None
        self._taken: Tensor | None = None
        self._kept: list[Tensor] = []
        self._plain = True
        if self.count:
            for module in (_embeddings(model), *self._layers):
                for parameter in module.parameters():
                    parameter.requires_grad_(False)
            for k, layer in enumerate(self._layers):
                layer.forward = self._instead_of(layer.forward, last=k == self.count - 1)

    def _instead_of(self, forward: Callable[..., Any], *, last: bool) -> Callable[..., Any]:
        def run(hidden: Tensor, *arguments: Any, **named: Any) -> Any:
            if self._given is not None:
                return self._given if last else hidden
            with torch.no_grad():
                out = forward(hidden, *arguments, **named)
            if last:
                self._plain = isinstance(out, Tensor)
                self._taken = out if isinstance(out, Tensor) else None
            return out

        return run

    def settle(self) -> None:
        """Switch the frozen layers' dropout off; call after ``model.train()``."""
        for layer in self._layers:
            layer.eval()

    def remember(self, texts: Sequence[Encoded], forward: Callable[[Sequence[Encoded]], Any], width: int) -> bool:
        """Compute the frozen layers' output for each text, kept in half precision. False where they cannot be or do not fit.

        Args:
            texts: All that will be read.
            forward: Runs the model on a batch, padded on the right.
            width: Size of a hidden state.
        """
        lengths = [len(one.ids) for one in texts]
        if not self.count or 2 * width * sum(lengths) > STORE_AT_MOST:
            return False
        kept: dict[int, Tensor] = {}
        order = sorted(range(len(texts)), key=lengths.__getitem__)
        with torch.inference_mode():
            for batch in by_tokens(order, lengths, FORWARD_TOKENS):
                forward([texts[k] for k in batch])
                if not self._plain or self._taken is None:
                    return False
                for row, k in enumerate(batch):
                    kept[k] = self._taken[row, : lengths[k]].to("cpu", torch.float16).clone()
        self._kept, self._taken = [kept[k] for k in range(len(texts))], None
        return True

    @contextmanager
    def recalling(self, rows: Sequence[int], device: torch.device) -> Iterator[None]:
        """Forward passes inside are of these remembered texts, in this order, padded on the right to the longest."""
        if not self._kept:
            yield
            return
        longest = max(len(self._kept[k]) for k in rows)
        given = torch.zeros(len(rows), longest, self._kept[rows[0]].shape[1])
        for at, k in enumerate(rows):
            given[at, : len(self._kept[k])] = self._kept[k]
        self._given = given.to(device)
        try:
            yield
        finally:
            self._given = None


def _embeddings(model: nn.Module) -> nn.Module:
    """The module that holds all embeddings, with the norm over them where there is one."""
    base = getattr(model, getattr(model, "base_model_prefix", ""), model)
    found = getattr(base, "embeddings", None)
    return found if isinstance(found, nn.Module) else model.get_input_embeddings()  # type: ignore[operator]
