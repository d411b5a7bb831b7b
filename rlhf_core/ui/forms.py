"""Widgets from a config's own definition: type, range, choices, default and help are said once, in the config."""

from __future__ import annotations

from typing import Any, get_args

import streamlit as st
from pydantic.fields import FieldInfo

from rlhf_core.ui import keys


def option(kind: str, name: str, field: FieldInfo) -> Any:
    """A widget for one option of a kind of run; returns its value."""
    label = name.replace("_", " ").capitalize()
    key = keys.option(kind, name)
    kinds = get_args(field.annotation) or (field.annotation,)
    choices = [kind for kind in kinds if isinstance(kind, str)]
    if choices:
        return st.selectbox(label, choices, index=choices.index(field.default), help=field.description, key=key)
    low = next((rule.ge for rule in field.metadata if hasattr(rule, "ge")), None)
    high = next((rule.le for rule in field.metadata if hasattr(rule, "le")), None)
    if bool in kinds:
        return st.toggle(label, value=field.default, help=field.description, key=key)
    if int in kinds:
        return st.number_input(
            label, value=field.default, min_value=low, max_value=high, step=1, help=field.description, key=key,
            placeholder="none" if field.default is None or type(None) in kinds else None,
        )  # fmt: skip
    if float in kinds:
        small = isinstance(field.default, float) and 0 < field.default < 0.001
        return st.number_input(
            label, value=field.default, min_value=None if low is None else float(low), help=field.description, key=key,
            max_value=None if high is None else float(high), step=field.default / 2 if small else 0.01,
            format="%.1e" if small else "%.2f",
        )  # fmt: skip
    return st.text_input(label, value=field.default, help=field.description, key=key)
