"""Rate the reasoning steps of one chat after another, on the pad."""

import streamlit as st

from rlhf_core.ground.errors import NotFound, RlhfError, SignInRequired
from rlhf_core.ground.records import Queue
from rlhf_core.services import labeling
from rlhf_core.ui import identity, keys, pad, resources
from rlhf_core.ui.texts import show_error

workbench, session = resources.workbench(), resources.session()


@st.fragment
def label(queue: Queue, editing: str | None) -> None:
    if problem := st.session_state.get(keys.LABEL_PROBLEM):
        st.error(problem, icon=":material/error:")
    try:
        pad.draw(resources.workbench(), session, queue, editing=editing)  # asked anew: a role may have been taken away
    except NotFound as error:
        st.error(str(error), icon=":material/error:")
        if st.button("Go to the next chat"):
            st.query_params.pop(keys.URL_CHAT, None)
            st.rerun()
    except SignInRequired as error:
        identity.ended(error)
    except RlhfError as error:  # the frame does not see what a fragment meets
        show_error(error)
        st.button("Try again", icon=":material/refresh:")
    if editing and keys.URL_CHAT not in st.query_params:
        st.rerun()


queues = labeling.queues(workbench)
editing = st.query_params.get(keys.URL_CHAT)
with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
    st.title("Label", width="content")
    if len(queues) > 1 and not editing:  # not before: a menu makes the page slower to open
        st.selectbox("Queue", [one.id for one in queues], format_func={one.id: one.name for one in queues}.__getitem__,
                     key=keys.LABEL_QUEUE, label_visibility="collapsed", width=260)  # fmt: skip
    st.page_link("work.py", label=session.display_name, icon=":material/person:", help="What you have rated so far")
label(labeling.queue(queues, st.session_state.get(keys.LABEL_QUEUE)), editing)
