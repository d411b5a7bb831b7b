"""Who took, trained, imported, changed and erased what."""

import pandas as pd
import streamlit as st

from rlhf_core.services import activity
from rlhf_core.ui import resources

MOST = 500
workbench = resources.workbench()
st.title("Activity")
st.caption("Who did what with the feedback, the newest first. It is only ever added to.")
words = st.text_input("Find", placeholder="A name, a snapshot, a run, erase …", key="activity:words")
entries = activity.log(workbench, words, MOST)
if not entries:
    st.info("Nobody did such a thing." if words else "Nothing was done yet. Import chats, or load the demo set on Home.")
else:
    rows = [
        {"when": pd.Timestamp(one.at), "who": one.who, "did": activity.deed(one), "what": activity.about(one),
         "more": activity.particulars(one)}
        for one in entries
    ]  # fmt: skip
    st.dataframe(
        pd.DataFrame(rows), hide_index=True, height="content" if len(rows) < 18 else 640,
        column_config={
            "when": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", help="UTC"),
            "did": st.column_config.TextColumn(width=210), "what": st.column_config.TextColumn(width=180),
            "more": st.column_config.TextColumn(width="large"),
        },
    )  # fmt: skip
    if len(entries) == MOST:
        st.caption(f"The newest {MOST}. Find older ones by their words.")
