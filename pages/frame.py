"""The frame around every page: page list, who is here, errors shown for people. Runs on every rerun, deep links included."""

import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ui import keys, resources
from rlhf_core.ui.texts import show_error

st.set_page_config(page_title="RLHF Workbench", page_icon=":material/thumbs_up_down:", layout="wide")

page = st.navigation(
    [
        st.Page("home.py", title="Home", icon=":material/home:", default=True),
        st.Page("upload.py", title="Import", icon=":material/upload_file:", url_path="import"),
        st.Page("label.py", title="Label", icon=":material/thumbs_up_down:"),
        st.Page("snapshots.py", title="Snapshots", icon=":material/photo_camera:"),
        st.Page("train.py", title="Train", icon=":material/model_training:"),
        st.Page("compare.py", title="Compare", icon=":material/compare_arrows:"),
    ]
)


def add_person() -> None:
    name = st.session_state["frame:new_name"]
    try:
        st.session_state[keys.RATER] = resources.workbench().add_person(name).user_id
        st.session_state["frame:new_name"] = ""
    except RlhfError as error:
        st.session_state["frame:problem"] = str(error)


try:
    workbench = resources.workbench()
    people = {person.user_id: person.display_name for person in workbench.people()}
    with st.sidebar:
        st.session_state.setdefault(keys.RATER, next(iter(people)))
        st.selectbox(
            "Working as", people, format_func=people.__getitem__, key=keys.RATER, help="Ratings are stored as this person."
        )
        with st.popover("Add a person", icon=":material/person_add:"):
            st.text_input("Name", key="frame:new_name", on_change=add_person, placeholder="Type a name, then Enter")
        if problem := st.session_state.pop("frame:problem", None):
            st.error(problem)
        st.caption(f"Workspace `{workbench.workspace.root}`")
    page.run()
except RlhfError as error:
    show_error(error)
