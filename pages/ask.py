"""Ask a snapshot in SQL: read-only, in a process of its own that can be stopped; rows go to labelling."""

import io
from functools import partial

import pandas as pd
import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.text import shorten
from rlhf_core.services import querying, saved_queries
from rlhf_core.ui import keys, resources
from rlhf_core.ui.beginning import snapshot_of_address
from rlhf_core.ui.tables import csv_of
from rlhf_core.ui.texts import ago, markdown_of, plain, plural, show_error

PAGE = 200
NO_ANSWER = "The query was not answered."
workbench = resources.workbench()
session = resources.session()
st.title("SQL")
snapshot = snapshot_of_address(workbench, "SQL is asked of a snapshot")
with st.spinner("Preparing the snapshot for questions (once)"):
    tables = resources.explore_tables(snapshot.id)
state = st.session_state
wanted = st.query_params.get(keys.URL_QUERY)
if keys.SQL_TEXT not in state:  # opened anew, or come back to: with what the address names, else with what was asked last
    past = querying.history(workbench, session.user_id)
    state[keys.SQL_TEXT] = past[0].sql if past else next(iter(querying.examples().values()))
    if wanted is not None:
        try:
            state[keys.SQL_TEXT] = saved_queries.find(workbench, wanted).sql
            state[keys.SQL_NAME], state[keys.SQL_SIDE] = wanted, "Saved"
        except RlhfError as error:
            state[keys.SQL_PROBLEM] = ("That query is not here.", error)


def begin() -> None:
    """Start the statement, unless one is at work: a click that was under way when Ctrl+Enter began it changes nothing."""
    if keys.SQL_RUNNING in state:
        return
    state.pop(keys.SQL_PROBLEM, None)
    if old := state.pop(keys.SQL_RESULT, None):
        old[0].drop()
    try:
        state[keys.SQL_RUNNING] = (querying.run(workbench, snapshot.id, state[keys.SQL_TEXT]), state[keys.SQL_TEXT], snapshot.id)
    except RlhfError as error:
        state[keys.SQL_PROBLEM] = (NO_ANSWER, error)


def take(sql: str, name: str = "") -> None:
    state[keys.SQL_TEXT] = sql
    state[keys.SQL_NAME] = name
    if name:
        st.query_params[keys.URL_QUERY] = name  # so that the address can be sent
    else:
        st.query_params.pop(keys.URL_QUERY, None)


def save() -> None:
    state.pop(keys.SQL_PROBLEM, None)
    try:
        kept = saved_queries.save(workbench, session, state[keys.SQL_NAME], state[keys.SQL_TEXT])
    except RlhfError as error:
        state[keys.SQL_PROBLEM] = ("The query was not saved.", error)
        return
    state[keys.SQL_SAVE], state[keys.SQL_SIDE], state[keys.SQL_SAVED] = False, "Saved", kept.name
    take(kept.sql, kept.name)


def remove(name: str) -> None:
    state.pop(keys.SQL_PROBLEM, None)
    try:
        saved_queries.remove(workbench, session, name)
    except RlhfError as error:
        state[keys.SQL_PROBLEM] = ("The query was not removed.", error)
    if st.query_params.get(keys.URL_QUERY) == name:
        st.query_params.pop(keys.URL_QUERY)


def settle() -> None:
    """Keep what a finished statement gave, and note it in the history."""
    running, sql, snapshot_id = state.pop(keys.SQL_RUNNING)
    try:
        result = running.result()
        state[keys.SQL_RESULT] = (result, snapshot_id)
        outcome = plural(result.rows, "row")
    except RlhfError as error:
        outcome = "cancelled" if running.cancelled else shorten(str(error), 200)
        state[keys.SQL_PROBLEM] = ("", error) if running.cancelled else (NO_ANSWER, error)
    querying.remember(workbench, session.user_id, snapshot_id, sql, outcome)


@st.fragment(run_every=0.3)
def under_way() -> None:
    running: querying.Running | None = state[keys.SQL_RUNNING][0] if keys.SQL_RUNNING in state else None
    if running is None or running.done:
        if running is not None:
            settle()
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f":material/hourglass_top: Running for {running.elapsed_s:.1f} s of at most {querying.TIMEOUT_S:.0f}", width="content"
        )
        st.button("Cancel", icon=":material/stop:", on_click=running.cancel)


def show(result: querying.Result, snapshot_id: str) -> None:
    more = f", the first {result.rows:,} of more" if result.truncated else ""
    st.caption(f"{plural(result.rows, 'row')}{more} in {result.seconds:.2f} s · snapshot {snapshot_id}")
    if not result.rows:
        st.info("No rows.")
        return
    view = st.segmented_control(
        "View", ["Rows", "Chart", "Files", "To labelling"], default="Rows", required=True, label_visibility="collapsed"
    )
    if view == "Rows":
        pages = (result.rows + PAGE - 1) // PAGE
        page = st.number_input(f"Page of {pages:,}", 1, pages, 1, width=160) if pages > 1 else 1
        st.dataframe(frame_of(result, (page - 1) * PAGE, PAGE), hide_index=True)
    elif view == "Chart":
        draw(frame_of(result, 0, 5_000))
    elif view == "Files":
        st.caption("Up to a million rows.")
        for kind, label in (("csv", "CSV"), ("parquet", "Parquet")):
            st.download_button(label, partial(file_of, result, kind), f"result.{kind}", icon=":material/download:")
    else:
        send(result, snapshot_id)


def frame_of(result: querying.Result, start: int, count: int | None) -> pd.DataFrame:
    frame: pd.DataFrame = result.read(start, count).to_pandas()
    return frame


def file_of(result: querying.Result, kind: str) -> bytes:
    frame = frame_of(result, 0, None)
    if kind == "csv":
        return csv_of(frame)
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def draw(frame: pd.DataFrame) -> None:
    names = [str(name) for name in frame]
    numbers = [name for name in names if pd.api.types.is_numeric_dtype(frame[name])]
    if not numbers:
        st.info("There is no column of numbers to draw.")
        return
    left, middle, right = st.columns(3)
    kind = left.segmented_control("Kind", ["bars", "line", "points"], default="bars", required=True)
    across = middle.selectbox("Across", [name for name in names if [name] != numbers] or names)
    up = right.selectbox("Up", [name for name in numbers if name != across] or numbers)
    shown = pd.DataFrame({across: frame[across], up: frame[up]}) if across != up else frame[[up]]
    {"bars": st.bar_chart, "line": st.line_chart, "points": st.scatter_chart}[kind](shown, x=across, y=up)
    if len(frame) == 5_000:
        st.caption("The first 5,000 rows.")


def send(result: querying.Result, snapshot_id: str) -> None:
    """Rows to a queue."""
    if not workbench.may("queues"):
        st.info("Engineers and administrators make queues.")
        return
    try:
        chats = querying.items(workbench, snapshot_id, result)
    except RlhfError as error:
        st.info(markdown_of(str(error)))
        return
    asked = sum(map(len, chats.values()))
    st.markdown(
        f"A queue of {plural(len(chats), 'chat')}" + (f", asking about {plural(asked, 'step')} of them" if asked else "") + "."
    )
    with st.form("sql:queue"):
        name = st.text_input("Name of the queue")
        overlap = st.number_input("Raters for each", 1, 100, 1)
        guidelines = st.text_area("What raters should look at", height=80)
        if not st.form_submit_button("Make the queue", type="primary"):
            return
    try:
        queue, count = querying.to_queue(workbench, snapshot_id, result, name, overlap=overlap, guidelines=guidelines)
    except RlhfError as error:
        show_error(error)
        return
    st.success(f"{markdown_of(queue.name)}: {plural(count, 'chat')} to label.", icon=":material/low_priority:")
    st.page_link("label.py", label="Label them", icon=":material/thumbs_up_down:", query_params={keys.URL_QUEUE: queue.id})


def list_saved() -> None:
    """What anybody saved, the own ones with a way to remove them."""
    try:
        kept = saved_queries.listing(workbench)
    except RlhfError as error:
        show_error(error)
        return
    if not kept:
        st.caption("Nobody has saved a query yet. **Save**, below the editor, keeps one for everybody who explores here.")
    for k, one in enumerate(kept):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.button(
                plain(one.name), key=f"sql:saved:{k}", type="tertiary", icon=":material/arrow_back:", on_click=take,
                args=(one.sql, one.name),
            )  # fmt: skip
            if saved_queries.removable(workbench, session, one):
                st.button(
                    "Remove", key=f"sql:remove:{k}", type="tertiary", icon=":material/delete:", help=f"Remove {plain(one.name)}",
                    on_click=remove, args=(one.name,),
                )  # fmt: skip
            st.caption(f"{f'{plain(one.by)}, ' if one.by else ''}{ago(one.at)}", width="content")


st.caption(
    f"Snapshot **{snapshot.id}**, taken {ago(snapshot.created_at)}. Read-only: no files, no network; at most "
    f"{querying.TIMEOUT_S:.0f} s and 1 GB."
)
editor, side = st.columns([3, 2], gap="medium")
with editor:
    st.text_area("SQL", key=keys.SQL_TEXT, height=220, help="DuckDB's SQL; Ctrl+Enter runs it.")
    with st.container(horizontal=True):
        st.button(
            "Run",
            type="primary",
            icon=":material/play_arrow:",
            on_click=begin,
            disabled=keys.SQL_RUNNING in state,
            shortcut="Ctrl+Enter",
        )
        with (
            st.popover("Save", icon=":material/bookmark_add:", key=keys.SQL_SAVE, on_change="rerun"),
            st.form("sql:saving", border=False),
        ):
            st.text_input(
                "Name", key=keys.SQL_NAME, max_chars=saved_queries.MAX_NAME,
                help="Whoever explores on this workbench finds it under Saved; your own of the same name is replaced.",
            )  # fmt: skip
            st.form_submit_button("Save the query", on_click=save)
    if said := state.pop(keys.SQL_SAVED, None):
        st.toast(f"Saved as {plain(said)}", icon=":material/bookmark_added:")
    if keys.SQL_RUNNING in state:
        under_way()
    if problem := state.get(keys.SQL_PROBLEM):
        title, said = problem
        if title:
            st.error(title, icon=":material/error:")
            st.code(str(said), language=None, wrap_lines=True)
        else:
            st.info(markdown_of(str(said)), icon=":material/stop_circle:")  # as one wished
    if kept := state.get(keys.SQL_RESULT):
        show(*kept)
with side:
    state.setdefault(keys.SQL_SIDE, "Tables")
    what = st.segmented_control(
        "Help", ["Tables", "Examples", "Saved", "History"], required=True, label_visibility="collapsed", key=keys.SQL_SIDE
    )
    if what == "Tables":
        for (table, about), columns in tables.items():
            with st.expander(f"**{table}** · {about}"):
                st.markdown(
                    "\n".join(f"- `{one.name}` {one.kind.lower()}" + (f": {one.about}" if one.about else "") for one in columns)
                )
    elif what == "Examples":
        for k, (words, sql) in enumerate(querying.examples().items()):
            st.button(words, key=f"sql:example:{k}", type="tertiary", icon=":material/arrow_back:", on_click=take, args=(sql,))
    elif what == "Saved":
        list_saved()
    else:
        asked = querying.history(workbench, session.user_id)
        if not asked:
            st.caption("What you run is kept here, for you alone.")
        for k, one in enumerate(asked[:20]):
            first = " ".join(one.sql.split())[:60]
            st.button(
                markdown_of(first),
                key=f"sql:past:{k}",
                type="tertiary",
                icon=":material/arrow_back:",
                on_click=take,
                args=(one.sql,),
            )
            st.caption(f"{ago(one.at)} · {markdown_of(shorten(one.outcome, 60))}")
