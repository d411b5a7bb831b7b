"""Where the loop stands and what to do next."""

import streamlit as st

from rlhf_core.ground.roles import Action, may
from rlhf_core.ground.runs import UNFINISHED
from rlhf_core.services import demo, snapshots, training
from rlhf_core.services.comparing import trained_count
from rlhf_core.ui import resources
from rlhf_core.ui.texts import ago, plain, plural

FEW = 24  # chats: too few to train on
TILE, CARD = 150, 262  # pixels; a screen 1280 wide has room for five tiles and for three cards beside the menu
workbench, session = resources.workbench(), resources.session()
counts = workbench.counts()


def load_demo() -> None:
    with st.spinner("Loading the demo set"):
        demo.load_demo(workbench)
    st.rerun()


with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
    st.title("RLHF Workbench", width="content")
    st.page_link("account.py", label=plain(session.display_name), icon=":material/person:", help="Who is working; change it here")
st.markdown("People's judgement of an assistant's **reasoning steps** becomes a better model: rate, snapshot, train, compare.")

if counts.chats == 0 and not may(session.role, "import"):
    st.info("There is nothing to rate yet. An engineer or administrator of your team imports chats first.")
    st.stop()
if counts.chats == 0:
    with st.container(border=True):
        st.subheader("This workspace is empty")
        st.markdown(
            "Look around with 60 rated chats about clean-energy jobs in Massachusetts and 16 more in eight pairs of answers "
            "(raters are fictional and marked as demo), or bring your own chats."
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Load the demo set", type="primary", icon=":material/science:"):
                load_demo()
            st.page_link("upload.py", label="Import a file", icon=":material/upload_file:")
    st.stop()

explores, trains, compares = (may(session.role, action) for action in ("explore", "train", "compare"))
taken = snapshots.listing(workbench) if explores else []
tally = training.tally(workbench) if trains else {}
runs = sum(tally.values())
checkpoints = trained_count(workbench) if compares else 0
running = sum(count for (_, status), count in tally.items() if status in UNFINISHED)
stale = not taken or (taken[0].ratings, taken[0].facts["last_rated_at"]) != (counts.ratings, counts.last_rated_at or "")
if not taken:
    frozen = "take one when ratings are in"
else:
    frozen = "the newest lacks recent ratings" if stale else f"the newest taken {ago(taken[0].created_at)}"
rated = f"ratings by {plural(counts.raters, 'person', 'people')}" if explores else "ratings of yours"
stages: list[tuple[Action, str, str, int, str]] = [
    ("import", "Import", "upload.py", counts.chats, f"chats with {plural(counts.steps, 'step')}"),
    ("label", "Label", "label.py", counts.ratings, rated),
    ("explore", "Snapshots", "snapshots.py", len(taken), frozen),
    ("train", "Train", "train.py", runs, f"runs, {running} in progress" if running else "runs on this machine"),
    ("compare", "Compare", "compare.py", checkpoints, "trained checkpoints" if checkpoints != 1 else "trained checkpoint"),
]
stages = [stage for stage in stages if may(session.role, stage[0])]
with st.container(horizontal=True):
    for _, title, target, figure, note in stages:
        with st.container(border=True, width=TILE, height="stretch"):
            st.page_link(target, label=f"**{title}**", icon=":material/arrow_forward:", icon_position="right")
            st.markdown(f"#### {figure:,}\n{note}")


def role(title: str, words: str, *links: tuple[str, str, str]) -> None:
    """What somebody in this role does next: in words, and the pages for it, the first one the very next."""
    with st.container(border=True, width=CARD, height="stretch"):
        st.markdown(f"**{title}**  \n{words}")
        with st.container(horizontal=True):
            for target, label, icon in links:
                st.page_link(target, label=label, icon=f":material/{icon}:")


def rate() -> None:
    if counts.ratings == 0:
        words = (
            "Nothing is rated yet." if explores else "You have rated nothing yet."
        ) + " Rate each step with 1-5, then the whole answer: two dozen chats are enough for a first look."
    else:
        words = "Rate the next chat, step by step; or choose the better of two answers. `?` shows the keys."
    role(
        "To rate",
        words,
        ("label.py", "Label", "thumbs_up_down"),
        ("prefer.py", "Prefer", "balance"),
        ("work.py", "My work", "history"),
    )


def analyse() -> None:
    if counts.ratings == 0:
        role(
            "To analyse",
            "As soon as something is rated, a snapshot of it answers questions.",
            ("snapshots.py", "Snapshots", "photo_camera"),
        )
    elif stale:
        words = "There are ratings that no snapshot holds. Take one: questions, training and the audit all read snapshots."
        role("To analyse", words, ("snapshots.py", "Take a snapshot", "photo_camera"))
    else:
        words = "See what people say, how far they agree, and whether it is good enough to train on."
        role(
            "To analyse", words, ("explore.py", "Explore", "insights"), ("agreement.py", "Agreement", "handshake"),
            ("audit.py", "Audit", "fact_check"), ("disputes.py", "Disputes", "gavel"),
        )  # fmt: skip


def train() -> None:
    watch = ("runs.py", "Runs", "monitoring")
    if not taken:
        role("To train", "Training reads a snapshot, and there is none yet.", ("snapshots.py", "Snapshots", "photo_camera"))
    elif running:
        role("To train", f"{plural(running, 'run')} in progress.", ("train.py", "Watch", "model_training"), watch)
    elif not checkpoints and not any(kind == "reward" for kind, _ in tally):
        words = "A snapshot is ready. Train a reward model on it: a readout (`head`) takes a minute or so."
        role("To train", words, ("train.py", "Train", "model_training"))
    elif checkpoints:
        words = "How far can the newest checkpoint be trusted, where do checkpoints part, and should it reach people?"
        role(
            "To train", words, ("models.py", "Models", "verified"), ("compare.py", "Compare", "compare_arrows"),
            ("train.py", "Train", "model_training"), ("rollout.py", "Roll-out", "rocket_launch"),
        )  # fmt: skip
    else:
        role("To train", "No run has ended with a checkpoint yet. See why.", watch, ("train.py", "Train", "model_training"))


st.subheader("What next?")
mine = [draw for draw, theirs in ((rate, may(session.role, "label")), (analyse, explores), (train, trains)) if theirs]
with st.container(horizontal=True):
    for draw in mine:
        draw()

if counts.chats < FEW and may(session.role, "import") and not demo.is_loaded(workbench):
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            "Only a few chats are here. The demo set shows what the pages do with more; it can be told apart by its source."
        )
        if st.button("Load the demo set", icon=":material/science:"):
            load_demo()
