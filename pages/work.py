"""What one person has labelled: how far they are, what they said and how they changed it; take it along, or delete it."""

import json

import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.records import Consent
from rlhf_core.ground.roles import may
from rlhf_core.ground.text import shorten
from rlhf_core.services import erasing, judging, labeling
from rlhf_core.ui import keys, resources, rows
from rlhf_core.ui.texts import ago, markdown_of, plural, show_error

PAGE = 50
workbench, session = resources.workbench(), resources.session()


def choose(chat_id: str) -> None:
    st.session_state[keys.WORK_CHAT] = chat_id


def gold(chat_id: str, other_id: str | None = None) -> None:
    """For those who keep queues: what they said of an item becomes its known answer."""
    if not may(session.role, "queues"):
        return
    with st.popover("Make it a known answer", icon=":material/verified:"):
        st.markdown("What you said of it is slipped into queues that ask known answers, and told to people after they submit.")
        why = st.text_area("Why is it so?", key=f"work:gold:{chat_id}:{other_id}", help="Told afterwards. Markdown.")
        if st.button("Make it a known answer", key=f"work:gold_it:{chat_id}:{other_id}", type="primary"):
            try:
                judging.make_gold(workbench, session, chat_id, why, other_id)
                st.toast("It is a known answer now.")
            except RlhfError as error:
                show_error(error)


def pairs() -> bool:
    """Draw the pairs; False where there are none."""
    chosen = labeling.chosen(workbench, session, PAGE)
    if not chosen:
        return False
    st.subheader("Answers that you chose between last")
    ids = {f"{one.chat_id}+{one.other_id}": one for one in chosen}
    picked = st.session_state.get(keys.WORK_PAIR)
    rows.pick(
        "pairs",
        [rows.Row(row, ago(one.last_at), markdown_of(shorten(one.query, 100))) for row, one in ids.items()],
        picked,
        choose_pair,
        lambda row: pair(ids[row].chat_id, ids[row].other_id),
    )
    return True


def pair(chat_id: str, other_id: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        query = {keys.URL_CHAT: chat_id, keys.URL_OTHER: other_id}
        st.page_link("prefer.py", label="Look at it and change it", icon=":material/edit:", query_params=query)
        gold(chat_id, other_id)


def said(chat_id: str) -> None:
    """What one says of a chat now, place by place, and what one said of it before."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link("label.py", label="Look at it and change it", icon=":material/edit:", query_params={keys.URL_CHAT: chat_id})
        gold(chat_id)
    try:
        view = labeling.open_item(workbench, session, chat_id)
    except RlhfError as error:
        show_error(error)
        return
    places: dict[str | None, tuple[str, str]] = {
        step.id: (f"Step {step.step_order}", shorten(step.step_content, 90)) for step in view.chat.steps
    }
    places[None] = ("The whole answer", "")
    for place, (name, words) in places.items():
        rating = view.ratings.get(place)
        if rating is None:
            continue
        marks = " · the first error" if place and place == view.marks.first_error else ""
        st.markdown(f"**{name}**, {rating.feedback_score} of 5{marks}  \n{markdown_of(words)}")
        if rating.comment:
            st.caption(f"Comment: {markdown_of(rating.comment)}")
        if better := view.rewrites.get(place or ""):
            st.caption(f"Better: {markdown_of(better)}")
    changes = labeling.changes(workbench, session, chat_id)
    if not changes:
        return
    with st.expander(f"What you said before ({len(changes)})"):
        for change in changes:
            name, _ = places.get(change.step_id, places[None])
            st.text(
                f"{change.given_at[:16].replace('T', ' ')} UTC, {name}: {change.score} of 5"
                + (f", {change.comment!r}" if change.comment else "")
                + (" (taken back)" if change.withdrawn else " (changed since)")
            )


def choose_pair(row: str) -> None:
    st.session_state[keys.WORK_PAIR] = row


def give_back() -> None:
    for one in labeling.queues(workbench):
        labeling.release(workbench, session, one.id)
    st.toast("Others can be given these chats now.")


def erase() -> None:
    gone = erasing.erase(workbench, session)
    st.session_state.pop(keys.WORK_CHAT, None)
    st.cache_data.clear()  # answers about snapshots that held it
    st.toast(str(gone))


def agree(consent: Consent) -> None:
    erasing.set_consent(workbench, session, consent)


def agree_or_not() -> None:
    agree("given" if st.session_state[keys.WORK_CONSENT] else "withdrawn")


def ask_consent() -> None:
    """Whether what one says may be used; asked at the top until it is answered, and changed at the bottom."""
    st.markdown("**May what you say be used for training and analysis?** You have not said yet; until you say no, it may.")
    with st.container(horizontal=True):
        st.button("Yes, it may", icon=":material/check:", on_click=agree, args=("given",))
        st.button("No", on_click=agree, args=("withdrawn",), help="Nothing of yours is in snapshots taken from then on.")


st.title("My work")
consent, since = erasing.consent(workbench, session)
if consent is None:
    with st.container(border=True):
        ask_consent()
for queue in labeling.queues(workbench):
    progress = labeling.queue_progress(workbench, session, queue.id)
    if queue.task == "choose" and progress.items == 0:
        continue
    noun = "pair" if queue.task == "choose" else "chat"
    st.markdown(
        f"**{markdown_of(queue.name)}**: {progress.submitted:,} of {plural(progress.items, noun)} submitted by you"
        + (f", {progress.skipped:,} skipped" if progress.skipped else "")
        + f"; {progress.finished:,} done by as many people as it takes"
    )
worked = labeling.history(workbench, session, limit=PAGE)
if worked:
    st.button(
        "Give back the chats I hold", icon=":material/undo:", on_click=give_back,
        help="Chats that you began and did not submit are kept for you for a while. Your ratings on them stay.",
    )  # fmt: skip
if not pairs() and not worked:
    st.info("You have rated nothing yet.")
    st.page_link("label.py", label="Label", icon=":material/thumbs_up_down:")
    st.stop()
chosen = st.session_state.get(keys.WORK_CHAT)
if worked:
    st.subheader("What you rated last")
rows.pick(
    "work",
    [
        rows.Row(
            one.chat_id,
            f"{plural(one.ratings, 'rating')} · {one.mean_score:.1f} stars · {ago(one.last_at)}",
            markdown_of(shorten(one.query, 100)),
        )
        for one in worked
    ],
    chosen,
    choose,
    said,
)
st.subheader("Yours to take or delete")
if consent is not None:
    st.toggle(
        "What I say may be used for training and analysis", value=consent != "withdrawn", key=keys.WORK_CONSENT,
        on_change=agree_or_not, help="Switched off, nothing of yours is in snapshots taken from then on.",
    )  # fmt: skip
    st.caption(f"Said {ago(since)}." if since else "")
with st.container(horizontal=True):
    st.download_button(
        "Download all of it", lambda: json.dumps(labeling.everything(workbench, session), ensure_ascii=False, indent=1),
        "my-labels.json", "application/json", icon=":material/download:", help="Ratings, marks, and how long you looked at steps",
    )  # fmt: skip
    with st.popover("Delete all of it", icon=":material/delete:"):
        st.markdown(
            "This deletes every rating, comment, mark and time of yours from the store, and takes you out of the snapshots on "
            "this machine. What models have learnt from them stays learnt."
        )
        sure = st.checkbox("I know that this cannot be undone", key="work:sure")
        st.button("Delete my feedback", type="primary", on_click=erase, disabled=not sure)
