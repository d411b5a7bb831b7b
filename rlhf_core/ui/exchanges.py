"""Exchanges of the playground: drawn while they are written, then kept, preferred, looked at again."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.text import shorten
from rlhf_core.services import branching, playing
from rlhf_core.services.playing import Exchange, Said
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import keys, resources
from rlhf_core.ui.branches import Fix
from rlhf_core.ui.stars import badges
from rlhf_core.ui.texts import markdown_of, show_error

REDRAW_S = 0.5  # at most so often while an answer is written: drawing takes its policy processor time on one machine
SIDES = ("Left", "Right")


def draw(workbench: Workbench, history: list[Exchange]) -> None:
    at = min(st.session_state.get(keys.PLAY_AT, len(history) - 1), len(history) - 1)
    _exchange(workbench, history[at], at)
    earlier = [k for k in reversed(range(len(history))) if k != at]
    if earlier:
        with st.expander(f"Asked before ({len(earlier)})"):
            for k in earlier:
                st.button(
                    markdown_of(shorten(history[k].query, 100)), key=f"playground:again:{k}", type="tertiary",
                    icon=":material/history:", on_click=_open, args=(k,),
                )  # fmt: skip


def _open(k: int) -> None:
    st.session_state[keys.PLAY_AT] = k


def _exchange(workbench: Workbench, exchange: Exchange, at: int) -> None:
    """No fragment: clicks within one would wait for the run that draws to end, and Stop must not."""
    st.subheader(markdown_of(shorten(exchange.query, 200)))
    writing = exchange.writing
    bar = st.empty()
    clock = None
    if writing:
        with bar.container(horizontal=True, vertical_alignment="center"):
            st.button("Stop", key=f"playground:stop:{at}", icon=":material/stop_circle:", on_click=exchange.stop)
            clock = st.empty()
    columns = st.columns(len(exchange.order), gap="large")
    places = [column.container(key=f"playground-side-{at}-{shown}").empty() for shown, column in enumerate(columns)]
    drawn: list[Said | None] = [None] * len(places)
    for sides in playing.watched(exchange):
        began = time.monotonic()
        if clock is not None:  # also what lets a click on Stop through: a script is interrupted only where it draws
            clock.caption(f"{exchange.seconds:.0f} s")
        for shown, k in enumerate(exchange.order):
            if drawn[shown] != sides[k]:
                drawn[shown] = sides[k]
                with places[shown].container():
                    _side(exchange, sides[k], shown, at)
        if any(one.writing and one.text for one in sides):  # the first word is not made to wait
            time.sleep(max(0.0, REDRAW_S - (time.monotonic() - began)))
    if writing:
        bar.empty()
    for shown, k in enumerate(exchange.order):
        with columns[shown]:
            _after(workbench, exchange, k, at)
    if len(exchange.order) == 2 and all(one.text.strip() for one in exchange.sides):
        _choice(workbench, exchange, at)
    if (problem := st.session_state.pop(keys.PLAY_PROBLEM, None)) is not None:
        show_error(problem)


def _side(exchange: Exchange, said: Said, shown: int, at: int) -> None:
    name = SIDES[shown] if exchange.hidden else said.voice.label
    st.markdown(f"**{markdown_of(name)}**")
    if not said.text and said.writing:
        st.caption("Begins …")
    for k, step in enumerate(said.steps):
        with st.container(border=True):
            st.markdown(markdown_of(step))
            rewards = {label: some[k] for label, some in said.rewards.items() if k < len(some)}
            with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
                if rewards:
                    st.html(badges(rewards), width="content")
                if not said.writing:
                    st.button(
                        "Fix from here", key=f"playground:fix:{at}:{shown}:{k}", type="tertiary", icon=":material/alt_route:",
                        on_click=_fix, args=(exchange, said, k), help="Other steps in its place, and what follows from them",
                    )  # fmt: skip
    if said.error:
        st.error(markdown_of(said.error), icon=":material/error:")
    for label, message in said.unscored.items():
        st.warning(markdown_of(f"{label}: {message}"), icon=":material/warning:")
    if said.writing:
        return
    if said.whole:
        st.html("Whole answer " + badges(said.whole))
    if not said.text.strip() and not said.error:
        st.caption("It said nothing.")
    told = []
    if said.stopped:
        told.append("stopped")
    elif said.ended is False:
        told.append("cut off: it had no tokens left")
    if said.first_s is not None:
        told.append(f"first token after {said.first_s:.2f} s")
    if said.pieces > 1 and said.first_s is not None and said.seconds > said.first_s:
        told.append(f"{(said.pieces - 1) / (said.seconds - said.first_s):.0f} tokens a second")
    st.caption(" · ".join(told))


def _fix(exchange: Exchange, said: Said, step: int) -> None:
    st.session_state[keys.PLAY_FIX] = Fix(branching.of_text(exchange.query, said.text, step + 1, said.voice.name))


def _after(workbench: Workbench, exchange: Exchange, k: int, at: int) -> None:
    if k in exchange.kept:
        st.page_link(
            "label.py", label="Kept. Rate it", icon=":material/thumbs_up_down:", query_params={keys.URL_CHAT: exchange.kept[k]}
        )
    elif exchange.sides[k].text.strip():
        st.button(
            "Keep for labelling", key=f"playground:keep:{at}:{k}", icon=":material/bookmark_add:", on_click=_try,
            args=(playing.keep, workbench, exchange, k), help="Becomes a chat of the source playground",
        )  # fmt: skip


def _choice(workbench: Workbench, exchange: Exchange, at: int) -> None:
    if exchange.verdict is not None:
        words = {"tie": "both alike", "both_bad": "both bad"}
        verdict = exchange.verdict
        told = words[verdict] if isinstance(verdict, str) else f"{SIDES[exchange.order.index(verdict)].lower()} is better"
        st.caption(f"Kept as a preference: {told}. Training on pairs takes it with the next snapshot.")
        return
    with st.container(horizontal=True, horizontal_alignment="center", key=f"playground-choice-{at}"):
        for label, icon, verdict in (
            ("Left is better", ":material/arrow_back:", 0), ("Alike", ":material/drag_handle:", "tie"),
            ("Both are bad", ":material/thumb_down:", "both_bad"), ("Right is better", ":material/arrow_forward:", 1),
        ):  # fmt: skip
            value: Any = exchange.order[verdict] if isinstance(verdict, int) else verdict
            st.button(
                label, key=f"playground:choose:{at}:{verdict}", icon=icon, on_click=_try,
                args=(playing.prefer, workbench, resources.session(), exchange, value),
            )  # fmt: skip


def _try(what: Any, *arguments: Any) -> None:
    """Do it; what goes wrong is shown where the person looks."""
    try:
        what(*arguments)
    except RlhfError as error:
        st.session_state[keys.PLAY_PROBLEM] = error
