"""A policy writes several answers; every checkpoint says which is best."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from rlhf_core.ground.text import shorten
from rlhf_core.services import best_of
from rlhf_core.services.best_of import Ranked
from rlhf_core.services.comparing import Candidate
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import charts, keys
from rlhf_core.ui.texts import markdown_of, plural


def draw(workbench: Workbench, chosen: Sequence[Candidate]) -> None:
    policies = best_of.policies(workbench)
    st.caption("For answers that people compared already, see *A set of answers*, Best of several.")
    if not policies:
        st.info("There is no policy on this machine yet. Teach one first.")
        st.page_link("train.py", label="Train", icon=":material/model_training:")
        return
    with st.form("compare:best", border=True):
        query = st.text_area(
            "Question", height=80, placeholder="What training do I need for solar installation?", key="compare:best:query"
        )
        first, second, third, fourth = st.columns(4)
        policy = first.selectbox("Policy", policies)
        count = int(second.number_input("Answers", 1, best_of.MOST, 8))
        max_tokens = int(third.number_input("Tokens at most", 1, 4096, 128))
        temperature = float(
            fourth.number_input("Temperature", 0.0, 5.0, 1.0, 0.1, help="0: the likeliest token each time; one answer")
        )
        sent = st.form_submit_button("Write and compare", type="primary", icon=":material/emoji_events:", disabled=not chosen)
    if sent:
        with st.spinner("The policy writes, then every checkpoint scores …"):
            sampled = best_of.sample(workbench, policy, query, count, max_tokens=max_tokens, temperature=temperature)
            st.session_state[keys.COMPARE_BEST] = best_of.rank(workbench, chosen, query, sampled)
    found: Ranked | None = st.session_state.get(keys.COMPARE_BEST)
    if found is not None:
        show(found)


def show(found: Ranked) -> None:
    for label, message in found.errors.items():
        st.error(markdown_of(f"{label}: {message}"), icon=":material/error:")
    if not found.rewards:
        return
    st.subheader(markdown_of(shorten(found.query, 140)))
    first = next(iter(found.rewards))
    winners: dict[int, list[str]] = {}
    for label in found.rewards:
        winners.setdefault(found.winner(label), []).append(label)
    if len(found.rewards) > 1:
        alike = len(winners) == 1
        st.markdown(
            "All checkpoints choose the same answer." if alike else f"The checkpoints choose {plural(len(winners), 'answer')}."
        )
    for k, labels in winners.items():
        one = found.sampled[k]
        with st.container(border=True):
            st.markdown(f":material/emoji_events: **{markdown_of(' and '.join(labels))}**")
            st.markdown(markdown_of(one.answer.response))
            if not one.ended:
                st.caption("It was cut off: the policy had no tokens left.")
    frame = pd.DataFrame(found.rewards)
    frame["answer"] = [shorten(one.answer.response, 300) for one in found.sampled]
    frame["steps"] = [len(one.answer.steps) for one in found.sampled]
    frame = frame.sort_values(first, ascending=False)
    numbers = {label: st.column_config.NumberColumn(format="%.2f") for label in found.rewards}
    styled = frame.style.map(charts.colour_of_stars, subset=[*found.rewards])
    st.dataframe(styled, hide_index=True, column_config=numbers | {"answer": st.column_config.TextColumn(width="large")})
