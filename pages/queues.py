"""What is to be labelled, in which order, by how many people. For engineers and administrators."""

from dataclasses import replace

import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.records import ItemOrder, Queue, new_id
from rlhf_core.services import comparing, labeling
from rlhf_core.ui import keys, resources, rows
from rlhf_core.ui.texts import markdown_of, plural, show_error

ORDERS: dict[ItemOrder, str] = {
    "oldest": "oldest first", "random": "random", "fewest": "fewest raters first", "disagreement": "most disagreement first",
    "uncertain": "where a checkpoint is least certain", "convincing": "bad answers that a checkpoint likes",
}  # fmt: skip
NEW = "new"
workbench, session = resources.workbench(), resources.session()
found = {one.id: one for one in labeling.all_queues(workbench)}


def choose(queue_id: str) -> None:
    st.session_state[keys.QUEUE] = queue_id


def describe(queue: Queue) -> str:
    progress = labeling.queue_progress(workbench, session, queue.id)
    filters = [f"source {queue.source}" if queue.source else "", f"questions with {queue.words!r}" if queue.words else ""]
    return markdown_of(
        f"{ORDERS[queue.item_order]} · {plural(queue.overlap, 'rater')} each · {progress.finished:,} of "
        f"{plural(progress.items, 'chat')} finished" + "".join(f" · {one}" for one in filters if one)
        + (" · closed" if queue.archived else "")
    )  # fmt: skip


def form(old: Queue | None) -> None:
    start = old or Queue(new_id(), "")
    checkpoints = [one.checkpoint.id for one in comparing.candidates(workbench) if one.checkpoint]
    with st.form(f"queues:form:{old.id if old else NEW}"):
        left, right = st.columns(2)
        name = left.text_input("Name", start.name, max_chars=200)
        order = right.selectbox("Order", ORDERS, index=[*ORDERS].index(start.item_order), format_func=ORDERS.__getitem__)
        overlap = left.number_input("Raters for each chat", 1, 1000, start.overlap)
        minutes = right.number_input("Minutes that a person keeps a chat", 1, 10_080, max(1, start.lease_s // 60))
        words = left.text_input("Only questions with these words", start.words or "")
        source = right.text_input("Only chats from this source", start.source or "")
        checkpoint = None
        if checkpoints:
            index = checkpoints.index(start.checkpoint_id) if start.checkpoint_id in checkpoints else None
            checkpoint = left.selectbox("Checkpoint, for the last two orders", checkpoints, index=index, placeholder="None")
        guidelines = st.text_area("Guidelines", start.guidelines, height=160, help="Markdown, shown above each chat")
        if not st.form_submit_button("Save", type="primary"):
            return
        changed = replace(
            start, name=name, item_order=order, overlap=int(overlap), lease_s=int(minutes) * 60, words=words or None,
            source=source or None, checkpoint_id=checkpoint, guidelines=guidelines,
        )  # fmt: skip
        try:
            saved = labeling.save_queue(workbench, changed)
            if saved.item_order in ("uncertain", "convincing"):
                bar = st.progress(0.0, "Scoring the queue's chats …")

                def show(done: int, total: int) -> None:
                    bar.progress(done / max(1, total))

                placed = labeling.prioritise(workbench, saved, on_progress=show)
                st.toast(f"{plural(placed, 'chat')} placed.")
        except RlhfError as error:
            show_error(error)
            return
    choose(saved.id)
    st.rerun()


st.title("Queues")
st.markdown("A queue hands each chat to as many people as it says, and to nobody twice.")
chosen = st.session_state.get(keys.QUEUE)
short = {queue_id[-12:]: queue_id for queue_id in found}
rows.pick(
    "queues", [rows.Row(name, f"**{markdown_of(found[full].name)}** · {describe(found[full])}") for name, full in short.items()],
    chosen[-12:] if chosen else None, lambda name: choose(short[name]),
)  # fmt: skip
if chosen in found:
    queue = found[chosen]
    st.subheader(queue.name)
    form(queue)
    label = "Open it again" if queue.archived else "Close it"
    if st.button(label, icon=":material/inventory_2:", help="Nothing is deleted; a closed queue hands nothing out"):
        labeling.archive_queue(workbench, queue.id, archived=not queue.archived)
        st.rerun()
if chosen == NEW:
    st.subheader("New queue")
    form(None)
else:
    st.button("New queue", icon=":material/add:", on_click=choose, args=(NEW,))
