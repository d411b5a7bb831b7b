"""A short list to pick from: a button and a line of words for each row. Much quicker to draw than a data grid or a menu."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import streamlit as st

SHOWN = 12


@dataclass(frozen=True, slots=True)
class Row:
    """``id`` is what is picked; the button says ``name``, or the id. ``words`` and ``name`` are Markdown, made safe by whoever
    writes them."""

    id: str
    words: str
    name: str = ""


def pick(
    name: str, rows: Sequence[Row], chosen: str | None, on_pick: Callable[[str], None], show: Callable[[str], None] | None = None
) -> None:  # fmt: skip
    """Draw the newest rows, and a menu for older ones.

    Args:
        name: Of the list, for keys.
        rows: All of them.
        chosen: The row that was picked before; None or "": none.
        on_pick: Called with the id of the row that was pressed; with "" where it closes the one that is open.
        show: Draws what belongs to the chosen row (its id), right under it; without it a page draws that elsewhere.
    """
    for row in rows[:SHOWN]:
        opened = show is not None and row.id == chosen
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            kind: Literal["secondary", "tertiary"] = "secondary" if row.id == chosen else "tertiary"
            st.button(
                row.name or row.id, key=f"{name}:row:{row.id}", type=kind, on_click=on_pick,
                icon=":material/expand_more:" if opened else ":material/chevron_right:", args=("" if opened else row.id,),
            )  # fmt: skip
            st.markdown(row.words, width="content")
        if opened and show is not None:
            with st.container(border=True):
                show(row.id)
    if len(rows) > SHOWN:
        key = f"{name}:older"
        older = [row.id for row in rows[SHOWN:]]
        names = {row.id: row.name or row.id for row in rows}
        index = older.index(chosen) if chosen in older else None
        st.selectbox(
            f"{len(older)} more", older, index=index, key=key, placeholder="Choose one", format_func=names.__getitem__,
            on_change=lambda: on_pick(st.session_state[key]),
        )  # fmt: skip
        if show is not None and chosen is not None and chosen in older:
            with st.container(border=True):
                show(chosen)
