"""What one person has labelled: how far they are, what they said and how they changed it; take it along, or delete it."""

import json

import streamlit as st

from rlhf_core.ground.text import shorten
from rlhf_core.services import labeling
from rlhf_core.ui import keys, resources, rows
from rlhf_core.ui.texts import ago, markdown_of, plural

PAGE = 50
workbench, session = resources.workbench(), resources.session()


def choose(chat_id: str) -> None:
    st.session_state[keys.WORK_CHAT] = chat_id


def give_back() -> None:
    for one in labeling.queues(workbench):
        labeling.release(workbench, session, one.id)
    st.session_state.pop(keys.PAD_ITEMS, None)
    st.toast("Others can be given these chats now.")


def erase() -> None:
    gone = labeling.erase(workbench, session)
    st.session_state.pop(keys.WORK_CHAT, None)
    st.toast(f"{plural(gone, 'rating')} and all that belonged to them are deleted.")


st.title("My work")
for queue in labeling.queues(workbench):
    progress = labeling.queue_progress(workbench, session, queue.id)
    st.markdown(
        f"**{markdown_of(queue.name)}**: {progress.submitted:,} of {plural(progress.items, 'chat')} submitted by you"
        + (f", {progress.skipped:,} skipped" if progress.skipped else "")
        + f"; {progress.finished:,} finished by everybody"
    )
st.button(
    "Give back the chats I hold", icon=":material/undo:", on_click=give_back,
    help="The next few chats are kept for you for a while. Your ratings on them stay.",
)  # fmt: skip
worked = labeling.history(workbench, session, limit=PAGE)
if not worked:
    st.info("You have rated nothing yet.")
    st.page_link("label.py", label="Label", icon=":material/thumbs_up_down:")
    st.stop()
chosen = st.session_state.get(keys.WORK_CHAT)
st.subheader("What you rated last")
ids = {one.chat_id[:8]: one.chat_id for one in worked}
rows.pick(
    "work",
    [
        rows.Row(
            one.chat_id[:8],
            f"{markdown_of(shorten(one.query, 90))} · {plural(one.ratings, 'rating')} · {one.mean_score:.1f} stars · "
            f"{ago(one.last_at)}",
        )
        for one in worked
    ],
    chosen,
    choose,
)
if chosen in ids:
    st.page_link("label.py", label="Look at it and change it", icon=":material/edit:", query_params={keys.URL_CHAT: ids[chosen]})
    for change in labeling.changes(workbench, session, ids[chosen]):
        st.text(
            f"{change.given_at[:16].replace('T', ' ')} UTC: {change.score} of 5"
            + (f", {change.comment!r}" if change.comment else "")
            + (" (taken back)" if change.withdrawn else " (changed since)")
        )
st.subheader("Yours to take or delete")
with st.container(horizontal=True):
    st.download_button(
        "Download all of it", lambda: json.dumps(labeling.everything(workbench, session), ensure_ascii=False, indent=1),
        "my-labels.json", "application/json", icon=":material/download:", help="Ratings, marks, and how long you looked at steps",
    )  # fmt: skip
    with st.popover("Delete all of it", icon=":material/delete:"):
        st.markdown(
            "This deletes every rating, comment, mark and time of yours from the store. Snapshots taken before keep theirs."
        )
        st.button("Delete my feedback", type="primary", on_click=erase)
