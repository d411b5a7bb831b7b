"""Tables that people read: on a page, where words are no Markdown; as CSV, where they are no formulas of a spreadsheet."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from rlhf_core.ui.texts import plain

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def show_table(frame: pd.DataFrame) -> None:
    """``st.table`` reads Markdown in texts, names of columns and the index; here it finds none."""
    shown = frame.map(_plain)
    shown.columns = [_plain(one) for one in frame.columns]
    if not isinstance(frame.index, pd.RangeIndex):
        shown.index = pd.Index([_plain(one) for one in frame.index], name=_plain(frame.index.name))
    st.table(shown)


def csv_of(frame: pd.DataFrame) -> bytes:
    """For a spreadsheet: a text that it would read as a formula has an apostrophe before it, which a spreadsheet does not show.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    safe = frame.map(lambda value: f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value)
    return safe.to_csv(index=False).encode()


def _plain(value: Any) -> Any:
    return plain(value) if isinstance(value, str) else value
