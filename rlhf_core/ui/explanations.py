"""Why a reward is what it is: its words coloured by what they add, and the rated examples that the checkpoint takes for alike."""

from __future__ import annotations

import html
from collections.abc import Mapping

import streamlit as st

from rlhf_core.ground.answers import Explained
from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.text import shorten
from rlhf_core.services import explaining
from rlhf_core.services.comparing import Candidate, Comparison
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import keys
from rlhf_core.ui.texts import markdown_of, plural, show_error

UP, DOWN = "13, 148, 136", "220, 68, 55"  # red, green, blue
ABOUT = (
    "Integrated gradients from the same text with every word blanked. What the words add sums up to the difference between the "
    "two rewards. It shows what the checkpoint reacts to, not whether it is right to."
)


def draw(workbench: Workbench, result: Comparison, chosen: Mapping[str, Candidate]) -> None:
    """For one place of a comparison that was made."""
    able = [label for label in result.rewards if label in chosen]
    if not able:
        return
    with st.expander("Why this reward", icon=":material/psychology:", key=keys.COMPARE_WHY, on_change="rerun") as box:
        if not box.open:
            return
        left, right = st.columns(2)
        label = left.selectbox("Checkpoint", able, key="compare:why:checkpoint")
        index = right.selectbox(
            "Place", range(len(result.places)), index=len(result.places) - 1, key=f"compare:why:place:{len(result.places)}",
            format_func=lambda k: f"{result.places[k].label}: {shorten(result.places[k].text, 60)}",
        )  # fmt: skip
        reading = explaining.reading_of(result.query, result.places, index)
        with st.container(horizontal=True):
            words = st.button("Words that moved it", icon=":material/format_color_text:", help=ABOUT)
            near = st.button("Rated examples like it", icon=":material/join_inner:")
        try:
            if words:
                with st.spinner("Asking what each word adds …"):
                    show_words(explaining.words(workbench, chosen[label], reading))
            if near:
                with st.spinner("Looking among rated examples …"):
                    show_near(
                        explaining.nearest(workbench, chosen[label], reading, whole=result.places[index].step_order is None)
                    )
        except RlhfError as error:
            show_error(error)


def show_words(found: Explained) -> None:
    st.html(f'<div style="line-height: 1.9">{coloured(found)}</div>')
    strongest = sorted(found.words, key=lambda one: -abs(one[2]))[:6]
    listed = ", ".join(f"{found.text[begin:end]} {weight:+.2f}" for begin, end, weight in strongest if abs(weight) >= 0.005)
    st.caption(
        f"{found.reward:.2f} stars, {found.baseline:.2f} with every word blanked"
        + (f". Most: {markdown_of(listed)}." if listed else ".")
        + (f" {plural(found.left_out, 'token')} in the middle were not read." if found.left_out else "")
        + (f" The estimate is off by {found.rest:+.2f}." if abs(found.rest) > 0.1 else "")
    )


def coloured(found: Explained) -> str:
    """The text as HTML, each word on the colour of what it adds. Whatever the text holds is escaped."""
    most = max((abs(weight) for *_, weight in found.words), default=0.0) or 1.0
    parts = []
    at = 0
    for begin, end, weight in found.words:
        parts.append(html.escape(found.text[at:begin]).replace("\n", "<br>"))
        colour = f"rgba({UP if weight > 0 else DOWN}, {0.6 * abs(weight) / most:.2f})"
        word = html.escape(found.text[begin:end])
        parts.append(f'<span title="{weight:+.3f} stars" style="background: {colour}; border-radius: 3px">{word}</span>')
        at = end
    return "".join(parts)


def show_near(found: list[explaining.Near]) -> None:
    if not found:
        st.caption("No rated example shares a word with it.")
    for near in found:
        one = near.example
        what = "answer" if one.step_order is None else f"step {one.step_order}"
        st.markdown(
            f"**{one.score:.1f} stars** ({plural(one.ratings, 'rating')}) · {what} · "
            f"likeness {near.likeness:.2f} · {markdown_of(shorten(one.query, 80))}"
        )
        st.caption(markdown_of(shorten(one.own, 300)))
