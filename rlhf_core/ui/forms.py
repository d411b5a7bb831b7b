"""Widgets from a config's own definition: type, range, choices, default and help are said once, in the config."""

from __future__ import annotations

from typing import Any, get_args

import streamlit as st
from pydantic.fields import FieldInfo

from rlhf_core.ui import keys

_SPELT = {
    "ppo": "PPO", "kl": "KL", "lora": "LoRA", "dpo": "DPO", "gamma": "gamma", "lam": "lambda", "eos": "end-of-text"
}  # fmt: skip


def option(kind: str, name: str, field: FieldInfo, preset: str = "", **begins: Any) -> Any:
    """A widget for one option of a kind of run; returns its value.

    Args:
        kind, name, field: Of the config.
        preset: A form of another preset has widgets of its own.
        begins: ``value``, where a preset has another than the default.
    """
    label = " ".join(_SPELT.get(word, word) for word in name.split("_"))
    label = label[0].upper() + label[1:]
    key = keys.option(kind, f"{preset}:{name}" if preset else name)
    begin = begins.get("value", field.default)
    kinds = get_args(field.annotation) or (field.annotation,)
    choices = [kind for kind in kinds if isinstance(kind, str)]
    if choices:
        return st.selectbox(label, choices, index=choices.index(begin), help=field.description, key=key)
    low = next((rule.ge for rule in field.metadata if hasattr(rule, "ge")), None)
    high = next((rule.le for rule in field.metadata if hasattr(rule, "le")), None)
    if bool in kinds:
        return st.toggle(label, value=begin, help=field.description, key=key)
    if int in kinds:
        return st.number_input(
            label, value=begin, min_value=low, max_value=high, step=1, help=field.description, key=key,
            placeholder="none" if field.default is None or type(None) in kinds else None,
        )  # fmt: skip
    if float in kinds:
        small = "learning_rate" in name or (isinstance(begin, float) and 0 < begin < 0.001)
        return st.number_input(
            label, value=begin, min_value=None if low is None else float(low), help=field.description, key=key,
            max_value=None if high is None else float(high), step=(begin or 2e-5) / 2 if small else 0.01,
            format="%.1e" if small else "%.2f", placeholder="none" if type(None) in kinds else None,
        )  # fmt: skip
    return st.text_input(label, value=begin, help=field.description, key=key)
