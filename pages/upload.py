"""Bring in a file of chats."""

from typing import Any

import pandas as pd
import streamlit as st

from rlhf_core.ground.errors import ImportRejected, RlhfError
from rlhf_core.ground.text import shorten
from rlhf_core.services import importing
from rlhf_core.ui import keys, resources
from rlhf_core.ui.tables import csv_of
from rlhf_core.ui.texts import plain, plural, show_error

MOST_PREVIEWED = 8_000_000  # bytes
ABOUT = "JSON Lines, JSON, CSV or Parquet. A file comes in whole or not at all; importing it again adds nothing."
workbench = resources.workbench()
st.title("Import chats")
file = st.file_uploader("File", type=["jsonl", "ndjson", "json", "csv", "parquet"], help=ABOUT)
preset: importing.Preset = "auto"
clean = False
if file is not None:  # not before: each kind of widget makes the page slower to open
    preset = st.selectbox(
        "Format",
        importing.preset_names(),
        format_func=lambda name: f"{name}: {importing.PRESETS[name]}",
        help="auto fits most files",
    )
    clean = st.checkbox("Take e-mail addresses, phone numbers and the like out of texts")


def preview(file: Any) -> None:
    """What the first records would become, before anything is stored."""
    if file.name.lower().endswith(".json") and file.size > MOST_PREVIEWED:
        return  # a list is read whole
    try:
        seen = importing.glimpse(file, file.name, preset=preset)
    except RlhfError as error:
        show_error(error)
        return
    if not seen.chats:
        st.info("It holds no records.")
        return
    good = [one for one in seen.chats if isinstance(one, tuple)]
    st.markdown(f"Read as **{seen.preset}**, it begins with" + (":" if good else " bad lines:"))
    rows = [
        {"question": shorten(one[0], 160), "steps": one[1], "judgements": one[2]} if isinstance(one, tuple)
        else {"question": f"line {one.line}: {one.reason}", "steps": None, "judgements": None} for one in seen.chats
    ]  # fmt: skip
    st.dataframe(
        pd.DataFrame(rows), hide_index=True,
        column_config={
            "question": st.column_config.TextColumn(width="large"), "steps": st.column_config.NumberColumn(width="small"),
            "judgements": st.column_config.NumberColumn(width="small"),
        },
    )  # fmt: skip
    if words := importing.passed_over(seen.ignored_fields, seen.preset):
        st.warning(plain(words), icon=":material/warning:")


def show_progress(records: int) -> None:
    bar.progress(min(0.95, records / (records + 5000)), f"{records:,} records read")


place = st.container()
if st.button("Import", type="primary", disabled=file is None, icon=":material/upload_file:") and file is not None:
    st.session_state.pop(keys.IMPORT_RESULT, None)
    st.session_state[keys.IMPORT_OF] = (file.file_id, preset)  # what it came to stands in the place of what it begins with
    bar = st.progress(0.0, "Checking every line before anything is stored …")
    try:
        report = importing.import_stream(
            workbench, file, file.name, preset=preset, on_progress=show_progress, remove_personal=clean
        )
        st.session_state[keys.IMPORT_RESULT] = report
    except RlhfError as error:
        st.session_state[keys.IMPORT_RESULT] = error
    bar.empty()

result = st.session_state.get(keys.IMPORT_RESULT)
if file is not None and st.session_state.get(keys.IMPORT_OF) != (file.file_id, preset):
    result = None  # that of another file, or of another reading
    with place:
        preview(file)
if isinstance(result, ImportRejected):
    st.error(
        f"{result.name}: nothing was imported, because of {plural(len(result.problems), 'bad line')}.", icon=":material/error:"
    )
    frame = pd.DataFrame([(problem.line, problem.reason) for problem in result.problems], columns=["line", "reason"])
    alike = frame["reason"].value_counts()
    for reason, count in alike[alike > 1].head(3).items():
        st.markdown(f"{plural(count, 'line')} of the same kind: {plain(str(reason))}")
    st.dataframe(
        frame, hide_index=True, row_height=60,
        column_config={
            "line": st.column_config.NumberColumn(width="small"), "reason": st.column_config.TextColumn(width="large"),
        },
    )  # fmt: skip
    st.download_button("Download the list", csv_of(frame), "problems.csv", "text/csv", icon=":material/download:")
elif isinstance(result, RlhfError):
    show_error(result)
elif isinstance(result, importing.ImportReport):
    st.success(plain(result.came_in), icon=":material/check_circle:")
    if result.passed_over:
        st.warning(plain(result.passed_over), icon=":material/warning:")
    st.page_link("label.py", label="Rate these chats", icon=":material/thumbs_up_down:")

with st.popover("What a file may contain", icon=":material/help:", width="stretch"):
    st.markdown("Steps are taken from the file, or split from the response: numbered and bulleted lists, *Step n:*, paragraphs, "
                "and streamed `step_start` / `step_end` lines.")  # fmt: skip
    st.markdown("""For example: `{"query": "…", "steps": ["…", "…"], "step_labels": [1, -1], "score": 2, "rater": "Ana"}`""")
    st.markdown(importing.fields_table())
