"""Low-rank adapters (LoRA, arXiv 2106.09685) through ``peft``: put on before training, merged into the weights before saving."""

from __future__ import annotations

import warnings
from typing import Any

from rlhf_core.ground.errors import ModelUnavailable
from rlhf_core.learn.networks import Network


def adapted(model: Any, *, rank: int, alpha: int, task: str | None) -> Any:
    """The model with an adapter on every linear layer, which alone learn.

    Args:
        model: Of ``transformers``.
        rank, alpha: Of the adapters; their scale is alpha / rank.
        task: What ``peft`` calls it, as CAUSAL_LM; None for a body without a head.

    Raises:
        ModelUnavailable: the model has no layer that can carry one.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", lora_dropout=0.0, task_type=task)
    try:
        with warnings.catch_warnings():  # of names in transformers that peft still uses, and of GPT-2's turned weights
            warnings.simplefilter("ignore")
            return get_peft_model(model, config)
    except ValueError as error:
        raise ModelUnavailable(f"This base cannot carry adapters: {error} Choose another method than lora.") from error


def add_adapters(network: Network, *, rank: int, alpha: int) -> Any:
    """Give every linear layer of a reward model's body an adapter. Returns the wrapped body, for :func:`merge_adapters`.

    Raises:
        ModelUnavailable: the model has no layer that can carry one.
    """
    named = network.readout_kind == "class"  # a classifier's own head learns whole
    network.body = adapted(network.body, rank=rank, alpha=alpha, task="SEQ_CLS" if named else None)
    return network.body


def merged_weights(model: Any, weights: dict[str, Any] | None = None) -> dict[str, Any]:
    """The plain model's weights by name, with what the adapters learned added; the model stays as it is. ``weights``: of the
    base model, where they are not in one place."""
    found: dict[str, Any] = {}
    for name, one in (weights or model.get_base_model().state_dict()).items():
        if "lora_" not in name:
            found[name.replace(".base_layer.", ".")] = one
    for name, module in model.get_base_model().named_modules():
        if hasattr(module, "get_delta_weight"):
            found[f"{name}.weight"] = found[f"{name}.weight"] + module.get_delta_weight(module.active_adapters[0]).to(
                found[f"{name}.weight"].device
            )
    return found


def merge_adapters(network: Network, wrapped: Any) -> None:
    """Put what the adapters learned into the weights; what is saved then needs no ``peft``."""
    network.body = wrapped.merge_and_unload()
