"""Ask a snapshot: charts with a sentence each, a filter in the address, and the chats behind every mark."""

import io
from dataclasses import replace
from datetime import timedelta

import pandas as pd
import streamlit as st

from rlhf_core.ground.text import shorten
from rlhf_core.services import exploring
from rlhf_core.ui import explore_charts, filters, keys, resources, rows
from rlhf_core.ui.beginning import snapshot_of_address
from rlhf_core.ui.tables import csv_of, show_table
from rlhf_core.ui.texts import ago, markdown_of, plural

SHOWN = 10
FEW = 6
TEXT = 140  # characters
workbench = resources.workbench()
st.title("Explore")
snapshot = snapshot_of_address(workbench, "Questions are asked of a snapshot")
only = filters.read()
with st.spinner("Preparing the snapshot for questions (once)"):
    parts = resources.explore_parts(snapshot.id)


def topic_chosen() -> None:
    st.query_params[keys.URL_TOPIC] = st.session_state[keys.EXPLORE_TOPIC]


def drop(field: str, value: object) -> None:
    old = getattr(only, field)
    now = tuple(one for one in old if one != value) if isinstance(old, tuple) else True if field == "demo" else None
    filters.write(filters.changed(only, field, now))


def picked(name: str) -> None:
    """A mark was clicked, or the click taken back."""
    column, field = explore_charts.PICKS[name]
    marks = st.session_state[keys.explore_chart(name)].selection.get(explore_charts.PICK, [])
    values = [mark[column] for mark in marks if column in mark]
    if field == "since":
        if not values:
            filters.write(replace(only, since=None, until=None))
            return
        days = sorted(explore_charts.day_of(value) for value in values)
        filters.write(replace(only, since=days[0].isoformat(), until=(days[-1] + timedelta(days=6)).isoformat()))
    else:
        known = tuple("" if value == "(not said)" else value for value in values)
        filters.write(filters.changed(only, field, known))


def toggle(name: str, value: str) -> None:
    if st.query_params.get(name) == value:
        del st.query_params[name]
    else:
        st.query_params[name] = value


def as_bytes(frame: pd.DataFrame, kind: str) -> bytes:
    if kind == "csv":
        return csv_of(frame)
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


@st.fragment
def numbers(name: str) -> None:
    """The table under a chart, and files of it."""
    question = asked[name]
    frame = resources.explore(snapshot.id, name, only)
    st.dataframe(frame, hide_index=True, column_config={
        column: st.column_config.Column(column.replace("_", " "), help=unit) for column, unit in question.columns.items()
    })  # fmt: skip
    with st.container(horizontal=True):
        for kind in ("csv", "parquet"):
            st.download_button(
                kind.upper() if kind == "csv" else "Parquet", as_bytes(frame, kind), f"{name}-{snapshot.id}.{kind}",
                key=f"{keys.explore_chart(name)}:{kind}", icon=":material/download:", type="tertiary",
            )  # fmt: skip
        st.caption(
            f"`python -m rlhf_core query {name} --snapshot {snapshot.id}` gives the same. PNG: the buttons over the chart."
        )


def table(frame: pd.DataFrame) -> None:
    """The first rows of an answer without a chart."""
    shown = frame.drop(columns=[name for name in ("chat_id", "first_id", "last_id") if name in frame]).head(FEW)
    for column in shown:
        shown[column] = [
            "" if pd.isna(one) else f"{one:.2f}" if isinstance(one, float) else shorten(str(one), TEXT) for one in shown[column]
        ]  # fmt: skip
    show_table(shown.rename(columns=lambda column: column.replace("_", " ")).set_index(shown.columns[0].replace("_", " ")))


def panel(name: str) -> None:
    question = asked[name]
    field = explore_charts.PICKS.get(name, ("", ""))[1]
    frame = resources.explore(snapshot.id, name, exploring.without(only, field) if field else only)
    st.subheader(question.title, help=question.question)
    st.markdown(markdown_of(exploring.sentence(name, frame) or question.question))
    if frame.empty:
        return
    chosen = (
        ()
        if not field
        else (only.since,)
        if field == "since" and only.since
        else ()
        if field == "since"
        else getattr(only, field)
    )
    drawn = explore_charts.chart(name, frame, tuple(one for one in chosen if one is not None))
    if drawn is None:
        table(frame)
    elif field:
        st.altair_chart(drawn, key=keys.explore_chart(name), on_select=lambda: picked(name), selection_mode=[explore_charts.PICK])
    else:
        st.altair_chart(drawn, key=keys.explore_chart(name))
    open_now = st.query_params.get(keys.URL_OPEN) == name
    st.button(
        "Close" if open_now else "Numbers and files", key=f"{keys.explore_chart(name)}:open", type="tertiary",
        icon=":material/table_chart:", on_click=toggle, args=(keys.URL_OPEN, name),
    )  # fmt: skip
    if open_now:
        numbers(name)


def behind() -> None:
    """Chats behind what is shown."""
    at = st.query_params.get(keys.URL_AT, "0")
    begin = int(at) if at.isascii() and at.isdigit() and len(at) < 9 else 0
    found, count = resources.explore_behind(snapshot.id, only, begin, SHOWN)
    st.subheader("The chats behind it", help="Chats with ratings that the filter chooses, the lowest scored first.")
    if not found:
        st.caption("No rated chat fits the filter.")
        return
    st.caption(
        f"{begin + 1:,} to {begin + len(found):,} of {plural(count, 'chat')}, the lowest scored first. Press one to read it."
    )
    chat = st.query_params.get(keys.URL_CHAT)
    rows.pick(
        "behind",
        [
            rows.Row(
                one.chat_id, f"{one.mean_score:.2f} stars · {plural(one.ratings, 'rating')} · {markdown_of(one.source)}"
                + (f" · {markdown_of(one.model)}" if one.model else ""), markdown_of(shorten(one.query, 60)),
            )
            for one in found
        ],
        chat, lambda chat_id: toggle(keys.URL_CHAT, chat_id or str(chat)), read,
    )  # fmt: skip
    with st.container(horizontal=True):
        if begin:
            st.button("Before", icon=":material/chevron_left:", on_click=turn, args=(max(0, begin - SHOWN),))
        if begin + len(found) < count:
            st.button("Next", icon=":material/chevron_right:", on_click=turn, args=(begin + SHOWN,))
    if chat is not None and chat not in {one.chat_id for one in found}:  # of a page of the list before or after
        with st.container(border=True):
            read(chat)


def read(chat_id: str) -> None:
    """One of the chats, with what people said of each step."""
    query, steps = exploring.shown(workbench, snapshot.id, chat_id)
    st.markdown(f"**{markdown_of(query)}**" if steps else "This chat is not in the snapshot.")
    for step in steps:
        said = (
            f"{step.mean_score:.2f} stars from {plural(step.ratings, 'rating')}" if step.mean_score is not None else "not rated"
        )
        st.caption(f"{'Whole answer' if step.step_order == 0 else f'Step {step.step_order}'} · {said}")
        if step.step_order or len(steps) == 1:
            st.markdown(markdown_of(step.text))
    if steps:
        st.page_link("label.py", label="Rate it", icon=":material/thumbs_up_down:", query_params={keys.URL_CHAT: chat_id})


def turn(begin: int) -> None:
    st.query_params[keys.URL_AT] = str(begin)


with st.container(horizontal=True, vertical_alignment="center"):
    st.markdown(
        f"Snapshot **{snapshot.id}** · {ago(snapshot.created_at)} · {plural(parts.ratings, 'rating')} on "
        f"{plural(parts.chats, 'chat')}",
        width="content",
    )
    st.button(
        "Filter",
        key="explore:filters",
        icon=":material/filter_alt:",
        type="secondary",
        on_click=toggle,
        args=(keys.URL_FORM, "1"),
    )
    for field, value, words in filters.rules(only):
        st.button(
            markdown_of(words), key=f"explore:rule:{field}:{value}", icon=":material/close:", type="tertiary", on_click=drop,
            args=(field, value), help="Take this away",
        )  # fmt: skip
if snapshot.ratings == 0:
    st.info("This snapshot has chats and no ratings: what they cover can be seen, scores come when people rate.")
if st.query_params.get(keys.URL_FORM):
    wanted = filters.form(only, parts)
    if wanted is not None:
        filters.write(wanted)
        del st.query_params[keys.URL_FORM]
        st.rerun()

asked = {question.name: question for question in exploring.questions()}
topics = list(dict.fromkeys(["Scores", "Steps", "Raters", "Coverage", "Quality", *(one.topic for one in asked.values())]))
topics = [topic for topic in topics if any(one.topic == topic for one in asked.values())]
topic = st.query_params.get(keys.URL_TOPIC)
topic = topic if topic in topics else topics[0]
st.segmented_control(
    "Topic", topics, default=topic, required=True, key=keys.EXPLORE_TOPIC, on_change=topic_chosen, label_visibility="collapsed"
)
names = [name for name, one in asked.items() if one.topic == topic]
names.sort(key=lambda name: list(explore_charts.DRAW).index(name) if name in explore_charts.DRAW else len(explore_charts.DRAW))
drawn_names = [name for name in names if name in explore_charts.DRAW]
columns = st.columns(2, gap="large")
for k, name in enumerate(drawn_names):
    with columns[k % 2]:
        panel(name)
for name in names:
    if name not in drawn_names:
        panel(name)
behind()
