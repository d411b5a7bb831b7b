"""Where the loop stands and what to do next."""

import streamlit as st

from rlhf_core.ground.roles import Action, may
from rlhf_core.ground.runs import UNFINISHED
from rlhf_core.services import demo, snapshots, training
from rlhf_core.services.comparing import trained_count
from rlhf_core.ui import resources
from rlhf_core.ui.texts import plural

workbench, session = resources.workbench(), resources.session()
counts = workbench.counts()

st.title("RLHF Workbench")
st.markdown("People's judgement of an assistant's **reasoning steps** becomes a better model: rate, snapshot, train, compare.")

if counts.chats == 0 and not may(session.role, "import"):
    st.info("There is nothing to rate yet. An engineer or administrator of your team imports chats first.")
    st.stop()
if counts.chats == 0:
    with st.container(border=True):
        st.subheader("This workspace is empty")
        st.markdown(
            "Look around with 60 rated chats about clean-energy jobs in Massachusetts and eight pairs of answers (raters are "
            "fictional and marked as demo), or bring your own chats."
        )
        with st.container(horizontal=True):
            if st.button("Load the demo set", type="primary", icon=":material/science:"):
                with st.spinner("Loading the demo set"):
                    demo.load_demo(workbench)
                st.rerun()
            st.page_link("upload.py", label="Import a file", icon=":material/upload_file:")
    st.stop()

taken = snapshots.listing(workbench) if may(session.role, "explore") else []
tally = training.tally(workbench) if may(session.role, "train") else {}
runs = sum(tally.values())
checkpoints = trained_count(workbench) if may(session.role, "compare") else 0
running = sum(count for (_, status), count in tally.items() if status in UNFINISHED)
stale = not taken or (taken[0].ratings, taken[0].facts["last_rated_at"]) != (counts.ratings, counts.last_rated_at or "")
if not taken:
    frozen = "take one when ratings are in"
else:
    frozen = "the newest lacks recent ratings" if stale else "ready to train on"
rated = f"ratings, raters: {counts.raters}" if may(session.role, "explore") else "ratings of yours"
stages: list[tuple[Action, str, str, int, str]] = [
    ("import", "Import", "upload.py", counts.chats, f"chats with {plural(counts.steps, 'step')}"),
    ("label", "Label", "label.py", counts.ratings, rated),
    ("explore", "Snapshots", "snapshots.py", len(taken), frozen),
    ("train", "Train", "train.py", runs, f"runs, {running} in progress" if running else "runs on this machine"),
    ("compare", "Compare", "compare.py", checkpoints, "checkpoints to compare"),
]
stages = [stage for stage in stages if may(session.role, stage[0])]
for column, (_, title, target, figure, note) in zip(st.columns(len(stages)), stages, strict=True):
    with column.container(border=True, height="stretch"):
        st.page_link(target, label=f"**{title}**")
        st.markdown(f"### {figure:,}\n{note}")

if not may(session.role, "explore"):
    hint = "**Label** the next chat: rate each step, then the whole answer."
elif counts.ratings == 0:
    hint = "Nothing is rated yet. **Label** some chats: two dozen are enough for a first look."
elif stale:
    hint = "There are ratings that no snapshot holds. Take a **snapshot**, then train on it."
elif not may(session.role, "train"):
    hint = "A **snapshot** holds all ratings. Look at what it shows, or **compare** checkpoints."
elif not runs:
    hint = "A snapshot is ready. **Train** a reward model on it."
elif running:
    hint = "A run is in progress. Watch it under **Train**."
elif checkpoints:
    hint = "**Compare** checkpoints on a chat, step by step, then rate what they get wrong."
else:
    hint = "No run has finished with a checkpoint yet. See **Train** for why."
st.info(hint, icon=":material/lightbulb:")
