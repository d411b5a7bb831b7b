"""Choose or add the person whose ratings are stored."""

from __future__ import annotations

import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.records import Session
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import keys


def picker(workbench: Workbench, session: Session) -> None:
    """A small menu that shows who is rating. The choice stays for this browser tab and in the page's address."""
    people = {person.user_id: person.display_name for person in workbench.people()}
    st.session_state[keys.RATER_CHOICE] = session.user_id
    with st.popover(session.display_name, icon=":material/person:", help="Whose ratings are stored"):
        st.selectbox("Working as", people, format_func=people.__getitem__, key=keys.RATER_CHOICE, on_change=_choose)
        st.text_input(
            "Somebody new", key=keys.RATER_NEW, on_change=_add, args=(workbench,), placeholder="Type a name, then Enter"
        )
    if problem := st.session_state.pop(keys.RATER_PROBLEM, None):
        st.error(problem, icon=":material/error:")


def _choose() -> None:
    _become(st.session_state[keys.RATER_CHOICE])


def _add(workbench: Workbench) -> None:
    try:
        _become(workbench.add_person(st.session_state[keys.RATER_NEW]).user_id)
        st.session_state[keys.RATER_NEW] = ""
    except RlhfError as error:
        st.session_state[keys.RATER_PROBLEM] = str(error)


def _become(user_id: str) -> None:
    st.session_state[keys.RATER] = user_id
    st.query_params.from_dict({keys.URL_RATER: user_id})  # and their own next chat
