"""Take snapshots of the store, see what is in them and what became of them, compare, export, remove."""

import tempfile
from pathlib import Path

import pandas as pd
import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.roles import Action
from rlhf_core.services import snapshots
from rlhf_core.ui import depot_parts, keys, resources, rows
from rlhf_core.ui.beginning import take_button
from rlhf_core.ui.tables import show_table
from rlhf_core.ui.texts import ago, plural, show_error

MB = 1_000_000
workbench = resources.workbench()
st.title("Snapshots")
st.markdown(
    "A snapshot freezes all chats and ratings. Training and analysis read snapshots only, so every result can be traced to "
    "the ratings behind it. People appear under pseudonyms. The same data always gives the same snapshot."
)
if pressed := take_button(workbench):
    snapshot, new = pressed
    st.query_params[keys.URL_SNAPSHOT] = snapshot.id
    st.toast(f"Snapshot {snapshot.id} taken." if new else f"Nothing has changed since snapshot {snapshot.id}.")

taken = snapshots.listing(workbench)
if not taken:
    st.info("No snapshot yet. Import or load chats, rate some, then take one.")
    depot_parts.copies(workbench, "snapshots")
    st.stop()


def choose(snapshot_id: str) -> None:
    if snapshot_id:
        st.query_params[keys.URL_SNAPSHOT] = snapshot_id
    else:
        st.query_params.pop(keys.URL_SNAPSHOT, None)


def remove(snapshot_id: str) -> None:
    try:
        snapshots.remove(workbench, snapshot_id, even_if_used=st.session_state.get(f"{keys.SNAPSHOT_VIEW}:sure", False))
    except RlhfError as error:
        st.session_state[f"{keys.SNAPSHOT_VIEW}:problem"] = error
        return
    st.toast(f"Snapshot {snapshot_id} is removed.")
    st.query_params.pop(keys.URL_SNAPSHOT, None)


def what_is_in_it() -> None:
    facts, files = snapshot.facts, snapshot.manifest["files"]
    rows = {"table": list(snapshot.rows), "rows": [f"{n:,}" for n in snapshot.rows.values()]}
    show_table(pd.DataFrame(rows).set_index("table"))
    consent = ", ".join(f"{n} {words}" for words, n in facts.get("consent", {}).items())
    st.caption(
        f"{plural(len(files), 'file')}, {snapshot.size_bytes / MB:.1f} MB; taken by version {snapshot.manifest['workbench']}."
        + (f" Consent: {consent}." if consent else "")
    )
    if st.button("Check every file", icon=":material/verified:", help="Compares each file's hash with the manifest"):
        snapshots.find(workbench, snapshot.id, verify=True)
        st.success("Every file is the one that was written.", icon=":material/verified:")


def lineage() -> None:
    runs, checkpoints = snapshots.used_by(workbench, snapshot.id)
    older = snapshot.manifest["rules"].get("rewritten_from")
    if older:
        st.markdown(f"It took the place of snapshot {older}, from which a person was erased.")
    if not runs:
        st.info("No run has used it yet.")
    for run in runs:
        st.page_link("train.py", label=f"Run {run}", icon=":material/model_training:", query_params={keys.URL_RUN: run})
    if checkpoints:
        st.markdown("Checkpoints: " + ", ".join(f"`{one}`" for one in checkpoints))


def compared() -> None:
    others = [one.id for one in taken if one.id != snapshot.id]
    if not others:
        st.info("There is no other snapshot to compare it with.")
        return
    other = st.selectbox("With", others)
    found = snapshots.difference(workbench, other, snapshot.id)
    changed = [one for one in found if one.added or one.removed or one.changed]
    st.markdown(f"From {other} to {snapshot.id}:" if changed else "Both hold the same rows.")
    if changed:
        columns = {"table": "table", "new": "added", "gone": "removed", "changed": "changed", "the same": "same"}
        table = {
            words: [f"{getattr(one, name):,}" if name != "table" else one.table for one in changed]
            for words, name in columns.items()
        }
        show_table(pd.DataFrame(table).set_index("table"))


def exported() -> None:
    what = st.selectbox(
        "Format", list(snapshots.EXPORT_FORMATS), format_func=lambda one: f"{one}: {snapshots.EXPORT_FORMATS[one]}"
    )
    plain = st.toggle("Only the standard fields", help="Without the single judgements from which an import restores everything")
    if st.button("Make the file", icon=":material/description:"):
        with tempfile.TemporaryDirectory() as folder:
            try:
                done = snapshots.export_to(workbench, snapshot.id, what, Path(folder) / f"{what}.jsonl", plain=plain)
            except RlhfError as error:
                show_error(error)
                return
            st.download_button(
                f"Download {plural(done.records, 'record')}",
                done.path.read_bytes(),
                f"{what}-{snapshot.id}.jsonl",
                icon=":material/download:",
            )
        for why, count in done.skipped.items():
            st.caption(f"Left out {count:,}: {why}.")
    st.caption(
        f"`python -m rlhf_core export {what} FILE --snapshot {snapshot.id}` writes any size, as JSON lines, Parquet or a folder "
        "that `datasets.load_dataset` opens."
    )


def away() -> None:
    if problem := st.session_state.pop(f"{keys.SNAPSHOT_VIEW}:problem", None):
        show_error(problem)
    st.checkbox("Also if runs or checkpoints were made from it", key=f"{keys.SNAPSHOT_VIEW}:sure")
    st.button(f"Remove {snapshot.id}", icon=":material/delete:", on_click=remove, args=(snapshot.id,))
    st.caption("Its files go; a note that it was there stays. Files that other snapshots share stay with them.")


def show_missing(snapshot_id: str) -> None:
    """The address names one that is not in the list."""
    try:
        choose(snapshots.find(workbench, snapshot_id).id)  # the beginning of an id names it too
        st.rerun()
    except RlhfError as error:
        show_error(error)


def show(_: str) -> None:
    """What there is to know of the chosen one and to do with it."""
    ways: list[tuple[str, str, str, Action]] = [
        ("explore.py", "Explore it", ":material/insights:", "explore"),
        ("ask.py", "Ask it in SQL", ":material/database_search:", "explore"),
        ("audit.py", "Audit it", ":material/fact_check:", "explore"),
        ("train.py", "Train on it", ":material/model_training:", "train"),
    ]
    with st.container(horizontal=True):
        for page, label, icon, action in ways:
            if workbench.may(action):
                st.page_link(page, label=label, icon=icon, query_params={keys.URL_SNAPSHOT: snapshot.id})
    views = {"What is in it": what_is_in_it, "Made from it": lineage, "Compare": compared, "Export": exported, "Remove": away}
    view = st.segmented_control(
        "View", list(views), default="What is in it", required=True, key=keys.SNAPSHOT_VIEW, label_visibility="collapsed"
    )
    views[view]()


chosen = st.query_params.get(keys.URL_SNAPSHOT)
snapshot = next((one for one in taken if one.id == chosen), taken[0])
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
    show,
)
if chosen is None:
    st.caption("Press a snapshot to see what is in it.")
elif chosen not in {one.id for one in taken}:
    show_missing(chosen)
if chosen != snapshot.id:
    depot_parts.copies(workbench, "snapshots")
