"""Rate the reasoning steps of one chat after another."""

import streamlit as st

from rlhf_core.ground.errors import NotFound, RlhfError, SignInRequired
from rlhf_core.services import labeling
from rlhf_core.ui import identity, keys, rating, resources
from rlhf_core.ui.texts import markdown_of, show_error

workbench, session = resources.workbench(), resources.session()


def go_to(chat_id: str | None) -> None:
    st.session_state.pop(keys.LABEL_PROBLEM, None)
    if chat_id is None:
        st.query_params.pop(keys.URL_CHAT, None)
    else:
        st.query_params[keys.URL_CHAT] = chat_id


def go_on(here: str) -> None:
    try:
        go_to(labeling.next_chat(workbench, session, workbench.store.chat(here)))
    except NotFound:
        go_to(None)
    except RlhfError as error:
        st.session_state[keys.LABEL_PROBLEM] = str(error)


def go_back(here: str) -> None:
    try:
        go_to(labeling.previous_chat(workbench, workbench.store.chat(here)) or here)
    except NotFound:
        go_to(None)
    except RlhfError as error:
        st.session_state[keys.LABEL_PROBLEM] = str(error)


def nothing_to_rate() -> None:
    if problem := st.session_state.get(keys.LABEL_PROBLEM):
        st.error(problem, icon=":material/error:")
    if labeling.progress(workbench, session).chats_total == 0:
        st.info("There is nothing to rate yet. Load the demo set on the home page, or import your own chats.")
        st.page_link("home.py", label="Home", icon=":material/home:")
    else:
        st.success(f"Everything is rated. Thank you, {session.display_name}.", icon=":material/task_alt:")
        st.page_link("snapshots.py", label="Take a snapshot of the ratings", icon=":material/photo_camera:")


def cards(chat_id: str) -> None:
    """One round trip to the store: chat, ratings, progress."""
    view = labeling.open_chat(workbench, session, chat_id)
    st.markdown(f":gray[Question]\n\n{markdown_of(view.chat.query)}")
    done = view.progress
    st.progress(
        done.chats_done / max(1, done.chats_total),
        f"{done.chats_done} of {done.chats_total} chats done · in this chat {len(view.ratings)} of {view.places} rated",
    )
    if problem := st.session_state.get(keys.LABEL_PROBLEM):
        st.error(problem, icon=":material/error:")
    for step in view.chat.steps:
        rating.card(workbench, session, chat_id, step.id, f"Step {step.step_order}", step.step_content, view.ratings.get(step.id))
    rating.card(
        workbench, session, chat_id, None, "The whole answer", "How good is the answer, all steps together?",
        view.ratings.get(None),
    )  # fmt: skip


@st.fragment
def rate_chat(chat_id: str) -> None:
    try:
        cards(chat_id)
    except NotFound as error:
        st.error(str(error), icon=":material/error:")
        if st.button("Go to the next chat"):
            go_to(None)
            st.rerun()
    except SignInRequired as error:
        identity.ended(error)
    except RlhfError as error:  # the frame does not see what a fragment meets
        if problem := st.session_state.get(keys.LABEL_PROBLEM):
            st.error(problem, icon=":material/error:")
        show_error(error)
        st.button("Try again", icon=":material/refresh:")


chat_id = st.query_params.get(keys.URL_CHAT) or labeling.next_chat(workbench, session)
with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
    st.title("Label", width="content")
    st.page_link("account.py", label=session.display_name, icon=":material/person:", help="Whose ratings are stored")
if chat_id is None:
    nothing_to_rate()
else:
    rate_chat(chat_id)
    with st.container(horizontal=True):
        st.button("Previous", on_click=go_back, args=(chat_id,), icon=":material/arrow_back:", shortcut="P")
        st.button("Next", on_click=go_on, args=(chat_id,), type="primary", icon=":material/arrow_forward:", shortcut="N")
