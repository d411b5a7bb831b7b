"""Take snapshots of the store, and see what is in them."""

import streamlit as st

from rlhf_core.services import snapshots
from rlhf_core.ui import charts, keys, resources, rows
from rlhf_core.ui.texts import ago, plural

workbench = resources.workbench()
st.title("Snapshots")
st.markdown(
    "A snapshot freezes all chats and ratings. Training and analysis read snapshots only, so every result can be traced to "
    "the ratings behind it. People appear under pseudonyms. The same data always gives the same snapshot."
)
if st.button("Take a snapshot", type="primary", icon=":material/photo_camera:"):
    with st.spinner("Exporting the store"):
        snapshot, new = snapshots.take(workbench)
    st.query_params[keys.URL_SNAPSHOT] = snapshot.id
    st.toast(f"Snapshot {snapshot.id} taken." if new else f"Nothing has changed since snapshot {snapshot.id}.")

taken = snapshots.listing(workbench)
if not taken:
    st.info("No snapshot yet. Import or load chats, rate some, then take one.")
    st.stop()


def choose(snapshot_id: str) -> None:
    st.query_params[keys.URL_SNAPSHOT] = snapshot_id


chosen = st.query_params.get(keys.URL_SNAPSHOT)
rows.pick(
    "snapshots",
    [
        rows.Row(
            one.id,
            f"{ago(one.created_at)} · {plural(one.ratings, 'rating')} by {plural(one.facts['raters'], 'rater')} "
            f"on {plural(one.rows['chats'], 'chat')}"
            + (f" · {one.facts['demo_ratings']:,} of them demo" if one.facts["demo_ratings"] else ""),
        )
        for one in taken
    ],
    chosen,
    choose,
)
ids = [one.id for one in taken]
if chosen not in ids:
    st.caption("Press a snapshot to see what is in it.")
    st.stop()
snapshot = taken[ids.index(chosen)]
if snapshot.ratings == 0:
    st.info(f"Snapshot {chosen} has {plural(snapshot.rows['chats'], 'chat')} and no ratings: nothing to show or train on yet.")
    st.stop()

titles = {question.name: question for question in snapshots.questions()}
left, right = st.columns(2)
for column, name, draw in (
    (left, "score_distribution", charts.score_distribution),
    (right, "scores_by_step_position", charts.scores_by_position),
):
    with column:
        st.subheader(titles[name].title, help=titles[name].question)
        st.altair_chart(draw(resources.answer(chosen, name)))
worst = titles["most_problematic_steps"]
st.subheader(worst.title, help=worst.question)
st.dataframe(resources.answer(chosen, worst.name), hide_index=True, column_config={
    "shrunken_score": st.column_config.NumberColumn("shrunken score", format="%.2f", help=worst.columns["shrunken_score"]),
    "mean_score": st.column_config.NumberColumn("mean score", format="%.2f", help=worst.columns["mean_score"]),
    "step_order": st.column_config.NumberColumn("step", width="small"),
    "step_content": st.column_config.TextColumn("step text", width="large"),
})  # fmt: skip
st.page_link(
    "train.py", label="Train a reward model on it", icon=":material/model_training:", query_params={keys.URL_SNAPSHOT: chosen}
)
