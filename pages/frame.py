"""The frame around every page: page list, and errors shown for people. Runs on every rerun, deep links included.

Kept lean on purpose: each kind of widget in the frame adds 50 to 130 ms to the opening of every page.
"""

import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ui import resources
from rlhf_core.ui.texts import show_error

st.set_page_config(page_title="RLHF Workbench", layout="wide")

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
try:
    resources.workbench()
    page.run()
except RlhfError as error:
    show_error(error)
