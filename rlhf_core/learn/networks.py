"""What turns token ids into outputs: a pretrained body with a readout of our own, or a classifier of ``transformers``."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from rlhf_core.checkpoints.base_models import offline_choices
from rlhf_core.ground.errors import ModelUnavailable
from rlhf_core.learn.scales import StarScale

Readout = Literal["spans", "class"]
READOUT_FILE = "readout.safetensors"
CAUSAL_TOLERANCE = 1e-4  # of the largest state: float noise is far below it, what an encoder sees of one more token far above


def span_means(states: Tensor, spans: Tensor) -> Tensor:
    """(N, 2H) float32: mean state of all tokens up to a span's end, and of the span's own.

    Args:
        states: ``(B, T, H)``.
        spans: ``(N, 3)`` int64: row, first token, last token + 1.
    """
    rows, begins, ends = spans.unbind(-1)
    sums = nn.functional.pad(states.float().cumsum(1), (0, 0, 1, 0))  # (B, T + 1, H)
    upto = sums[rows, ends]
    return torch.cat([upto / ends[:, None], (upto - sums[rows, begins]) / (ends - begins)[:, None]], -1)


def span_lengths(spans: Tensor) -> Tensor:
    """(N, 6) float32: logarithms of a span's tokens, of those up to its end and of those before it (plus one), and their squares.

    Args:
        spans: ``(N, 3)`` int64: row, first token, last token + 1.
    """
    _, begins, ends = spans.unbind(-1)
    logs = torch.stack([ends - begins, ends, begins + 1], -1).float().log()
    return torch.cat([logs, logs.square()], -1)


class SpanNetwork(nn.Module):
    """A pretrained encoder or causal model, and a linear readout of :func:`span_means`, one output a head.

    Read are the last layer and one in the middle: what a frozen model says of quality stands there more plainly.

    Args:
        body: Any model of ``transformers`` with one state a token.
        heads: Outputs.
        middle: Number of the middle layer, the first one 1; None reads the last layer alone.
        lengths: Read :func:`span_lengths` too.

    Attributes:
        causal: Whether a token's state depends on nothing behind it, as :func:`load_network` found out.
    """

    readout_kind: Readout = "spans"

    def __init__(self, body: Any, heads: int, middle: int | None = None, *, lengths: bool = False) -> None:
        super().__init__()
        self.body = body
        self.middle = middle
        self.lengths = lengths
        self.causal = False
        self.readout = nn.Linear((2 if middle is None else 4) * body.config.hidden_size + (6 if lengths else 0), heads)
        nn.init.normal_(self.readout.weight, std=0.02)
        nn.init.zeros_(self.readout.bias)
        self._between: Tensor | None = None
        if middle is not None:
            layers_of(body)[middle - 1].register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _given: Any, out: Any) -> None:
        self._between = out if isinstance(out, Tensor) else out[0]

    @property
    def config(self) -> Any:
        return self.body.config

    def features(self, ids: Tensor, mask: Tensor, spans: Tensor) -> Tensor:
        """``(N, 2H)``, or ``(N, 4H)`` with a middle layer; 6 more with lengths.

        Args:
            ids, mask: ``(B, T)``, padded on the right.
            spans: ``(N, 3)``: row, first token, last token + 1.
        """
        found = [span_means(self.body(input_ids=ids, attention_mask=mask).last_hidden_state, spans)]
        if self._between is not None:
            found.append(span_means(self._between, spans))
            self._between = None
        if self.lengths:
            found.append(span_lengths(spans))
        return torch.cat(found, -1)

    def forward(self, ids: Tensor, mask: Tensor, spans: Tensor) -> Tensor:
        """``(N, heads)`` float32."""
        features = self.features(ids, mask, spans)
        with torch.autocast(ids.device.type, enabled=False):
            return self.readout(features)

    def save(self, folder: Path) -> None:
        self.body.save_pretrained(folder)
        state = {name: tensor.contiguous().cpu() for name, tensor in self.readout.state_dict().items()}
        state |= {"middle": torch.tensor(self.middle or 0), "lengths": torch.tensor(int(self.lengths))}
        save_file(state, folder / READOUT_FILE)


class ClassNetwork(nn.Module):
    """A sequence classifier of ``transformers`` with one label: any tool opens what it saves. Spans end where their text ends."""

    readout_kind: Readout = "class"

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.body = model

    @property
    def config(self) -> Any:
        return self.body.config

    def forward(self, ids: Tensor, mask: Tensor, spans: Tensor) -> Tensor:
        """``(N, 1)`` float32."""
        return self.body(input_ids=ids, attention_mask=mask).logits.float()[spans[:, 0]]

    def save(self, folder: Path) -> None:
        self.body.save_pretrained(folder)


Network = SpanNetwork | ClassNetwork


def load_tokenizer(place: str, name: str) -> Any:
    """
    Raises:
        ModelUnavailable: there is none, or it has neither a padding nor an end token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise _unavailable(name, error) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise ModelUnavailable(f"The tokenizer of {name!r} has no padding, end or unknown token to pad with; use another base.")
    tokenizer.padding_side = "right"
    return tokenizer


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The model's layers, the first one next to the embeddings: its longest list of modules."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len, default=nn.ModuleList())


def load_network(
    place: str, name: str, readout: Readout, heads: int, pad_id: int, frozen: int = 0, *, lengths: bool = False
) -> Network:
    """A network with its weights; a readout that is not stored beside them is new, drawn from the current seed.

    Args:
        place: What ``from_pretrained`` takes.
        name: How people call it.
        readout: Of our own, or a classifier's.
        heads: Outputs; a stored readout of another number is not taken.
        pad_id: The tokenizer's padding token.
        frozen: Lowest layers that will not learn; the middle layer that is read is none below them.
        lengths: A new readout sees how long spans are and where they stand; a stored one does if it did.

    Raises:
        ModelUnavailable: it cannot be loaded, or is not a model that reads text into one state a token.
    """
    try:
        if readout == "class":
            model = AutoModelForSequenceClassification.from_pretrained(
                place, num_labels=1, use_safetensors=True, dtype=torch.float32
            )
            model.config.pad_token_id = padding_of(model.config, pad_id)
            return ClassNetwork(model)
        if getattr(AutoConfig.from_pretrained(place), "is_encoder_decoder", False):
            raise ModelUnavailable(
                f"{name!r} has an encoder and a decoder; choose an encoder or a causal model. {offline_choices()}"
            )
        body = AutoModel.from_pretrained(place, use_safetensors=True, dtype=torch.float32)
        count = len(layers_of(body))
        stored = Path(place) / READOUT_FILE
        weights = load_file(stored) if stored.is_file() else {}
        middle = int(weights["middle"]) if weights else min(max(count // 2, frozen), count - 1)
        lengths = bool(weights.get("lengths", 0)) if weights else lengths
        network = SpanNetwork(body, heads, middle if middle > 0 else None, lengths=lengths)
        if weights and weights["weight"].shape == network.readout.weight.shape:
            network.readout.load_state_dict({part: weights[part] for part in ("weight", "bias")})
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError, safetensors.SafetensorError) as error:
        raise _unavailable(name, error) from error
    _try(network, name)
    return network


@torch.inference_mode()
def _try(network: SpanNetwork, name: str) -> None:
    """Read a few tokens, so that a base which is no language model is known before minutes are spent, and a causal one too."""
    network.eval()
    padding = padding_of(network.config, -1)
    ids = torch.tensor([[k for k in range(min(4, getattr(network.config, "vocab_size", 4))) if k != padding][:3]])
    try:
        long, short = (
            network.body(input_ids=some, attention_mask=torch.ones_like(some)).last_hidden_state for some in (ids, ids[:, :-1])
        )
    except (TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        raise ModelUnavailable(
            f"{name!r} does not read text ({_first_line(error)}); choose an encoder or a causal model."
        ) from error
    if long.shape != (1, ids.shape[1], network.config.hidden_size):
        raise ModelUnavailable(f"{name!r} gives no state for each token; choose an encoder or a causal model.")
    network.causal = bool((long[:, :-1] - short).abs().max() < CAUSAL_TOLERANCE * short.abs().max())


def padding_of(config: Any, pad_id: int) -> int:
    """What to pad with: the model's own padding token, which some count positions from; the tokenizer's where it has none."""
    own = getattr(config, "pad_token_id", None)
    return own if isinstance(own, int) and 0 <= own < config.vocab_size else pad_id


def check_saved(folder: Path, save: Any) -> None:
    """Save, with a full disk said as one."""
    try:
        save(folder)
    except safetensors.SafetensorError as error:
        if f"os error {errno.ENOSPC}" in str(error):  # its own error type hides a full disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def new_scales(aspects: Sequence[str]) -> list[StarScale]:
    """One for the whole judgement and one for each aspect, that mean nothing yet."""
    return [StarScale(), *(StarScale(aspect) for aspect in aspects)]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _unavailable(name: str, error: Exception) -> ModelUnavailable:
    return ModelUnavailable(
        f"The model {name!r} could not be loaded: {_first_line(error)} If it is a hub name, the hub does not answer or does not "
        f"know it. {offline_choices()}"
    )
