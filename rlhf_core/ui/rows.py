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


def pick(name: str, rows: Sequence[Row], chosen: str | None, on_pick: Callable[[str], None]) -> None:
    """Draw the newest rows, and a menu for older ones. ``on_pick`` is called with the id of the row that was pressed."""
    for row in rows[:SHOWN]:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            kind: Literal["secondary", "tertiary"] = "secondary" if row.id == chosen else "tertiary"
            st.button(
                row.name or row.id, key=f"{name}:row:{row.id}", type=kind, icon=":material/chevron_right:", on_click=on_pick,
                args=(row.id,),
            )  # fmt: skip
            st.markdown(row.words, width="content")
    if len(rows) > SHOWN:
        key = f"{name}:older"
        older = [row.id for row in rows[SHOWN:]]
        names = {row.id: row.name or row.id for row in rows}
        index = older.index(chosen) if chosen in older else None
        st.selectbox(
            f"{len(older)} more", older, index=index, key=key, placeholder="Choose one", format_func=names.__getitem__,
            on_change=lambda: on_pick(st.session_state[key]),
        )  # fmt: skip
