"""Low-rank adapters (LoRA, arXiv 2106.09685) through ``peft``: put on before training, merged into the weights before saving."""

from __future__ import annotations

import warnings
from typing import Any

from rlhf_core.ground.errors import ModelUnavailable
from rlhf_core.learn.networks import Network


def add_adapters(network: Network, *, rank: int, alpha: int) -> Any:
    """Freeze the body and give every linear layer of it an adapter. Returns the wrapped body, for :func:`merge_adapters`.

    Raises:
        ModelUnavailable: the model has no layer that can carry one.
    """
    from peft import LoraConfig, get_peft_model

    named = network.readout_kind == "class"  # a classifier's own head learns whole
    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules="all-linear", lora_dropout=0.0, task_type="SEQ_CLS" if named else None
    )
    try:
        with warnings.catch_warnings():  # of names in transformers that peft still uses, and of GPT-2's turned weights
            warnings.simplefilter("ignore")
            wrapped = get_peft_model(network.body, config)
    except ValueError as error:
        raise ModelUnavailable(f"This base cannot carry adapters: {error} Set method to finetune or head.") from error
    network.body = wrapped
    return wrapped


def merge_adapters(network: Network, wrapped: Any) -> None:
    """Put what the adapters learned into the weights; what is saved then needs no ``peft``."""
    network.body = wrapped.merge_and_unload()
