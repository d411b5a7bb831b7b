"""Rate the reasoning steps of one chat after another."""

import streamlit as st

from rlhf_core.ground.errors import NotFound
from rlhf_core.services import labeling
from rlhf_core.ui import keys, people, rating, resources
from rlhf_core.ui.texts import markdown_of

workbench, session = resources.workbench(), resources.session()
if keys.RATER in st.session_state and st.query_params.get(keys.URL_RATER) != session.user_id:
    st.query_params[keys.URL_RATER] = session.user_id  # coming from another page loses it, and a refresh would then rename


def go_to(chat_id: str | None) -> None:
    st.session_state.pop(keys.LABEL_PROBLEM, None)
    if chat_id is None:
        st.query_params.pop(keys.URL_CHAT, None)
    else:
        st.query_params[keys.URL_CHAT] = chat_id


chat_id = st.query_params.get(keys.URL_CHAT) or labeling.next_chat(workbench, session)
if chat_id is None:
    st.title("Label")
    if labeling.progress(workbench, session).chats_total == 0:
        st.info("There is nothing to rate yet. Load the demo set on the home page, or import your own chats.")
        st.page_link("home.py", label="Home", icon=":material/home:")
    else:
        people.picker(workbench, session)
        st.success(f"Everything is rated. Thank you, {session.display_name}.", icon=":material/task_alt:")
        st.page_link("snapshots.py", label="Take a snapshot of the ratings", icon=":material/photo_camera:")
    st.stop()
try:
    chat = labeling.open_chat(workbench, session, chat_id).chat
except NotFound as error:
    st.error(str(error))
    st.button("Go to the next chat", on_click=go_to, args=(None,))
    st.stop()


@st.fragment
def rate_chat() -> None:
    view = labeling.open_chat(workbench, session, chat.id)
    done = labeling.progress(workbench, session)
    st.progress(
        done.chats_done / done.chats_total,
        f"{done.chats_done} of {done.chats_total} chats done · in this chat {len(view.ratings)} of {view.places} rated",
    )
    if problem := st.session_state.get(keys.LABEL_PROBLEM):
        st.error(problem, icon=":material/error:")
    for step in chat.steps:
        rating.card(workbench, session, chat.id, step.id, f"Step {step.step_order}", step.step_content, view.ratings.get(step.id))
    rating.card(
        workbench, session, chat.id, None, "The whole answer", "How good is the answer, all steps together?",
        view.ratings.get(None),
    )  # fmt: skip


def go_on() -> None:
    following = labeling.next_chat(workbench, session, chat)
    go_to(following)


def go_back() -> None:
    go_to(labeling.previous_chat(workbench, chat) or chat.id)


with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
    st.title("Label", width="content")
    people.picker(workbench, session)
st.markdown(f":gray[Question]\n\n{markdown_of(chat.query)}")
rate_chat()
with st.container(horizontal=True):
    st.button("Previous", on_click=go_back, icon=":material/arrow_back:", shortcut="P")
    st.button("Next", on_click=go_on, type="primary", icon=":material/arrow_forward:", shortcut="N")
