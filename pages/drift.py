"""What changed over time: the questions, the raters, the reward model's agreement; generations of a model."""

import altair as alt
import pandas as pd
import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.services import drifting, serving
from rlhf_core.ui import resources
from rlhf_core.ui.beginning import snapshot_of_address
from rlhf_core.ui.texts import ago, markdown_of, plural, show_error

TITLES = {"inputs": "Questions", "raters": "Raters", "model": "Reward model"}
workbench = resources.workbench()
st.title("Drift")
snapshot = snapshot_of_address(workbench, "Drift is looked for in a snapshot")
st.caption(
    f"Snapshot **{snapshot.id}**, taken {ago(snapshot.created_at)}. Each window is held against the first ones; all tests are "
    "corrected together, and an alarm also takes a change that matters."
)
left, right = st.columns([1, 2])
days = left.segmented_control("Window", [7, 14, 28], format_func=lambda n: f"{n} days", default=7, required=True)
judge = serving.reward_model(workbench)
by_model = right.toggle(
    f"Watch the reward model {judge}" if judge else "Watch a reward model", value=False, disabled=judge is None,
    help="Scores the rated answers first, which takes a while the first time" if judge else "Train one first",
)  # fmt: skip


@st.cache_data(show_spinner="Looking for drift", max_entries=20)
def drifted(snapshot_id: str, days: int, checkpoint: str | None) -> list[drifting.Finding]:
    found = drifting.drift(workbench, snapshot_id, days=days, checkpoint=checkpoint)
    drifting.report(workbench, snapshot_id, found)
    return found


@st.cache_data(show_spinner="Rewarding generations", max_entries=20)
def generations(snapshot_id: str, checkpoint: str | None) -> list[drifting.Generation]:
    return drifting.generations(workbench, snapshot_id, checkpoint)


chosen = judge if by_model else None
try:
    found = drifted(snapshot.id, days, chosen)
    models = generations(snapshot.id, chosen)
except RlhfError as error:
    show_error(error)
    st.stop()
alarms = [one for one in found if one.alarm]
for cause, words in drifting.CAUSES.items():
    mine = [one for one in alarms if one.cause == cause]
    tests = [one for one in found if one.cause == cause]
    title = TITLES[cause]
    with st.container(border=True):
        if mine:
            st.markdown(f"**{title}** :red-badge[:material/warning: {words}]")
            st.markdown("\n".join(f"- {markdown_of(str(one))}" for one in mine[-6:]))
        elif tests:
            st.markdown(f"**{title}** :green-badge[:material/check: no drift] {plural(len(tests), 'test')}")
        else:
            why = "too few rated answers, or all of one window: it takes two windows to compare"
            if cause == "model" and chosen is None:
                why = "switch it on above" if judge else "train a reward model first"
            st.markdown(f"**{title}** :gray-badge[cannot be said] {why}")
if found:
    rows = [
        {"window": pd.Timestamp(one.window), "cause": TITLES[one.cause], "p": max(one.adjusted, 1e-12), "alarm": one.alarm,
         "said": str(one)} for one in found
    ]  # fmt: skip
    points = (
        alt.Chart(pd.DataFrame(rows))
        .mark_point(filled=True, size=70)
        .encode(
            x=alt.X("window:T", title=None, axis=alt.Axis(format="%b %-d", tickCount=8, labelOverlap=True)),
            y=alt.Y("p:Q", title="adjusted p", scale=alt.Scale(type="log", reverse=True), axis=alt.Axis(format="~g")),
            color=alt.Color("cause:N", title=None, legend=alt.Legend(orient="top")),
            shape=alt.Shape("alarm:N", legend=None, scale=alt.Scale(domain=[False, True], range=["circle", "triangle-up"])),
            tooltip=["said:N"],
        )
    )
    limit = alt.Chart(pd.DataFrame({"p": [0.05]})).mark_rule(strokeDash=[4, 4], color="#888").encode(y="p:Q")
    st.altair_chart((limit + points).properties(height=260))
st.subheader("Generations")
if not models:
    st.caption("No chat says which model answered, so there are no generations to tell apart.")
else:
    for said in drifting.inflations(models):
        st.warning(markdown_of(said), icon=":material/trending_up:")
    rows = [
        {"model": one.model, "what": what, "mean": value[0], "low": value[1], "high": value[2], "since": one.first}
        for one in models for what, value in (("rating by people", one.rating), ("reward", one.reward)) if value is not None
    ]  # fmt: skip
    if rows:
        base = alt.Chart(pd.DataFrame(rows)).encode(
            x=alt.X("model:N", title=None, sort=[one.model for one in models]),
            color=alt.Color("what:N", title=None, legend=alt.Legend(orient="top")),
            xOffset="what:N",
        )
        st.altair_chart(
            (
                base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title="stars", scale=alt.Scale(domain=[1, 5])), y2="high:Q")
                + base.mark_point(filled=True, size=80).encode(
                    y="mean:Q", tooltip=["model", "what", alt.Tooltip("mean:Q", format=".2f")]
                )
            ).properties(height=280)
        )
    st.dataframe(
        pd.DataFrame(
            [{"model": one.model, "since": one.first, "answers": one.answers, "rated": one.rated,
              "rating": one.rating and one.rating[0], "reward": one.reward and one.reward[0]} for one in models]
        ),
        hide_index=True,
        column_config={name: st.column_config.NumberColumn(format="%.2f") for name in ("rating", "reward")},
    )  # fmt: skip
