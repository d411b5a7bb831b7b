"""What is kept in the depot, beside what is here: sent, fetched, without the page waiting."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from rlhf_core.ground.errors import Forbidden, InvalidInput
from rlhf_core.services import keeping
from rlhf_core.services.keeping import Kind
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import resources
from rlhf_core.ui.texts import ago, markdown_of, plural, show_error

MB = 2**20
ABOUT = "The depot of the settings. What is there is whole, and every file is what its hash says."
WORDS = {"keep": ("On its way there", "It is there"), "fetch": ("On its way here", "It is here")}


def copies(workbench: Workbench, kind: Kind) -> None:
    """A part of a page; nothing where no depot is set, or for whom it is none of their business."""
    try:
        workbench.require("train")
        depot = keeping.settings()
    except Forbidden:
        return
    except InvalidInput as error:
        show_error(error)
        return
    if depot is None:
        return
    st.subheader(
        "Copies elsewhere", help="The depot of the settings. An artifact is there whole or not at all, every file by its hash."
    )
    _table(kind, depot.url)


@st.fragment(run_every=3.0)
def _table(kind: Kind, url: str) -> None:
    workbench = resources.workbench()
    seen = keeping.listing_seen(workbench)
    if seen.problem:
        st.warning(markdown_of(seen.problem), icon=":material/cloud_off:")
        return
    if seen.value is None:
        st.caption(f"Looking at {url} …")
        return
    there = {one.id: one for one in seen.value if one.kind == kind}
    here = keeping.here(workbench)[kind]
    ids = [*here, *(one for one in there if one not in here)]
    if not ids:
        st.caption(f"Nothing here and nothing in {url} yet.")
        return
    frame = pd.DataFrame({
        "id": ids,
        "where": ["both" if one in here and one in there else "here alone" if one in here else "there alone" for one in ids],
        "MiB there": [there[one].size_bytes / MB if one in there else None for one in ids],
        "made": [ago(there[one].created_at) if one in there else None for one in ids],
    })  # fmt: skip
    chosen = st.dataframe(
        frame, hide_index=True, on_select="rerun", selection_mode="multi-row", key=f"depot:{kind}",
        column_config={"MiB there": st.column_config.NumberColumn(format="%.1f")},
    )  # fmt: skip
    marked = [ids[k] for k in chosen["selection"]["rows"] if k < len(ids)]
    lacking = [one for one in marked or here if one not in there]
    coming = [one for one in marked if one not in here]
    with st.container(horizontal=True, vertical_alignment="center"):
        if lacking and st.button(f"Send {len(lacking)}", icon=":material/cloud_upload:", key=f"depot:send:{kind}"):
            for one in lacking:
                keeping.send_for(workbench, "keep", one)
        if coming and st.button(f"Fetch {len(coming)}", icon=":material/cloud_download:", key=f"depot:fetch:{kind}"):
            for one in coming:
                keeping.send_for(workbench, "fetch", one)
        size = sum(one.size_bytes for one in there.values()) / MB
        st.caption(f"In {url}: {plural(len(there), 'item')}, {size:,.1f} MiB.")
    for one in ids:
        errand = keeping.errand(one)
        if errand is None:
            continue
        if errand.problem:
            st.warning(f"`{one}`: {markdown_of(errand.problem)}")
        elif not errand.over:
            st.caption(f":material/sync: `{one}`: {WORDS[errand.what][0]} … {markdown_of(errand.said)}")
