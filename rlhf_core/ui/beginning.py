"""What stands on a page whose beginning is missing: the step that is missing, and nothing else."""

from __future__ import annotations

import streamlit as st

from rlhf_core.services import exploring, snapshots
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui.texts import plural


def without_a_snapshot(workbench: Workbench, about: str) -> None:
    """Say what it takes until there is one, and offer it.

    Args:
        workbench: Of whoever looks.
        about: What the page does, as the beginning of a sentence: "SQL is asked of a snapshot".
    """
    counts = workbench.counts()
    if counts.chats == 0:
        st.info(f"{about}, and there are no chats yet. Import some, or load the demo set on the home page.")
        with st.container(horizontal=True):
            st.page_link("upload.py", label="Import", icon=":material/upload_file:")
            st.page_link("home.py", label="Home", icon=":material/home:")
        return
    if counts.ratings == 0:
        st.info(f"{about}, and of {plural(counts.chats, 'chat')} none is rated yet.")
        st.page_link("label.py", label="Rate some", icon=":material/thumbs_up_down:")
    else:
        st.info(f"{about}, and there is none yet of the {plural(counts.ratings, 'rating')} here.")
    if take_button(workbench) is not None:
        st.rerun()


def take_button(workbench: Workbench) -> tuple[snapshots.Snapshot, bool] | None:
    """A button that takes a snapshot and makes it ready for questions. Once pressed: what was taken, and whether it is new."""
    if not st.button("Take a snapshot", type="primary", icon=":material/photo_camera:"):
        return None
    with st.spinner("Exporting the store"):
        taken, new = snapshots.take(workbench)
        exploring.make_ready(workbench, taken.id)
    return taken, new
