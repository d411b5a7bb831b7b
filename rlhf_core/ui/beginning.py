"""Which snapshot a page is about; and what stands on a page whose beginning is missing: the step that is missing, and nothing
else."""

from __future__ import annotations

import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.services import exploring, snapshots
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import keys
from rlhf_core.ui.texts import plural, show_error


def snapshot_of_address(workbench: Workbench, about: str) -> snapshots.Snapshot:
    """The snapshot that the address names, else the newest. Without any, the page ends with the step that is missing; where
    the address names one that is not here, with what became of it.

    Args:
        workbench: Of whoever looks.
        about: As of :func:`without_a_snapshot`.
    """
    wanted = st.query_params.get(keys.URL_SNAPSHOT)
    if wanted is None:
        taken = snapshots.listing(workbench)
        if taken:
            return taken[0]
        without_a_snapshot(workbench, about)
    else:
        try:
            return snapshots.find(workbench, wanted)
        except RlhfError as error:
            if not snapshots.listing(workbench):
                st.warning("The snapshot that the address names is not here.")
                _forget_snapshot()
                without_a_snapshot(workbench, about)
                st.stop()
            show_error(error)
            st.button("Go to the newest snapshot", icon=":material/photo_camera:", on_click=_forget_snapshot)
    st.stop()
    raise AssertionError("the page has ended")


def _forget_snapshot() -> None:
    st.query_params.pop(keys.URL_SNAPSHOT, None)


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
