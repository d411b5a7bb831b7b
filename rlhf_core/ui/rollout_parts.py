"""How a roll-out stands, drawn: who serves, what people say of both arms, the evidence after each comparison."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from rlhf_core.services.rolling_out import Look, Rail, State
from rlhf_core.ui.texts import markdown_of, plural

MOST_POINTS = 400  # of a curve
PLACE = 188  # pixels; as many in a row as there is room for
ROLES = {
    "serving": ("Serving", ":material/groups:", "Everybody else gets it"),
    "canary": ("Canary", ":material/science:", "A share of people gets it"),
    "candidate": ("Candidate", ":material/upcoming:", "Waits for its roll-out"),
    "previous": ("Previous", ":material/history:", "Served before; can serve again"),
}


def aliases(now: State) -> None:
    """Four places, filled or not."""
    held = now.aliases()
    with st.container(horizontal=True):
        for alias, (title, icon, about) in ROLES.items():
            with st.container(border=True, width=PLACE, height="stretch"):
                share = f" · {now.share:.0%} of people" if alias == "canary" and now.canary else ""
                st.markdown(f"{icon} **{title}**{share}")
                st.markdown(markdown_of(held[alias]) if alias in held else ":gray[nothing]")
                st.caption("Everybody gets it" if alias == "serving" and now.canary is None else about)


def figure(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"


def comparison(seen: Look) -> None:
    if seen.fault:
        st.error(f"It goes back: {markdown_of(seen.fault)}", icon=":material/undo:")
    elif seen.not_worse_after is not None:
        st.success(seen.says, icon=":material/check_circle:")
    else:
        st.info(seen.says, icon=":material/hourglass_top:")
    left, right = st.columns(2, gap="medium")
    with left:
        rows = [
            {"": rail.name, "canary": figure(rail.canary), "control": figure(rail.control), "unit": rail.unit,
             "evidence": f"{rail.evidence:,.2f} of {1 / rail.alpha:,.0f}"} for rail in seen.rails
        ]  # fmt: skip
        st.dataframe(
            pd.DataFrame(rows), hide_index=True,
            column_config={name: st.column_config.TextColumn(alignment="right") for name in ("canary", "control", "evidence")},
        )  # fmt: skip
        counts = " · ".join(
            f"{arm}: {plural(seen.answers.get(arm, 0), 'answer')}, {seen.rated.get(arm, 0):,} rated, "
            f"{plural(seen.people.get(arm, 0), 'person').replace('persons', 'people')}"
            for arm in ("canary", "control")
        )  # fmt: skip
        st.caption(f"{counts}. Evidence grows with each comparison that speaks against the canary; at its limit it goes back.")
        if seen.difference is not None:
            one = seen.difference
            st.caption(
                f"Canary minus control: {one.mean:+.2f} stars, {one.low:+.2f} to {one.high:+.2f} at every look together (95%)."
            )
    with right:
        drawn = [rail for rail in seen.rails if len(rail.wealth)]
        if drawn:
            st.altair_chart(evidence(drawn))
            st.caption("Evidence against the canary after each comparison. A rail that reaches its limit takes it back.")


def evidence(rails: list[Rail]) -> alt.LayerChart:
    """Evidence of each rail after each comparison, as a share of what is enough, on a logarithmic scale."""
    parts = []
    for rail in rails:
        kept = np.unique(np.linspace(0, len(rail.wealth) - 1, min(MOST_POINTS, len(rail.wealth))).astype(int))
        parts.append(
            pd.DataFrame(
                {"comparison": kept + 1, "evidence": np.maximum(rail.wealth[kept] * rail.alpha, 1e-6), "rail": rail.name}
            )
        )
    data = pd.concat(parts)
    limit = alt.Chart(pd.DataFrame({"enough": [1.0]})).mark_rule(strokeDash=[4, 4], color="#888").encode(y="enough:Q")
    lines = (
        alt.Chart(data)
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("comparison:Q", title="comparisons", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y(
                "evidence:Q",
                title="of what is enough",
                scale=alt.Scale(type="log", domainMin=1e-4),
                axis=alt.Axis(format="~g", values=[1e-4, 1e-3, 0.01, 0.1, 1, 10]),
            ),
            color=alt.Color("rail:N", title=None, legend=alt.Legend(orient="top")),
            tooltip=["rail:N", "comparison:Q", alt.Tooltip("evidence:Q", format=".3g", title="of what is enough")],
        )
    )
    return (limit + lines).properties(height=260)
