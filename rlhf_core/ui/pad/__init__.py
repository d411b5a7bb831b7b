"""The label pad: one custom component that holds a whole chat (``pad.js``). This side hands it chats and stores what it sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from rlhf_core.ground.errors import RlhfError, SignInRequired
from rlhf_core.ground.records import FLAGS, LabelOp, LabelView, Queue, Session
from rlhf_core.services import labeling
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import keys
from rlhf_core.ui.render import safe_html

AHEAD = 3  # chats in the browser: the one on screen and those after it
OUTCOMES_KEPT = 250
_HERE = Path(__file__).parent


@st.cache_resource(show_spinner=False)
def _component():  # type: ignore[no-untyped-def]  # Streamlit gives its type no public name
    return st.components.v2.component(
        "rlhf_workbench_pad", html='<div class="pad" tabindex="-1"></div>', js=(_HERE / "pad.js").read_text(encoding="utf-8"),
        css=(_HERE / "pad.css").read_text(encoding="utf-8"),
    )  # fmt: skip


@st.cache_resource(show_spinner=False)
def _acks_component():  # type: ignore[no-untyped-def]
    return st.components.v2.component("rlhf_workbench_acks", js=(_HERE / "acks.js").read_text(encoding="utf-8"))


def draw(workbench: Workbench, session: Session, queue: Queue, *, editing: str | None = None) -> None:
    """Draw the pad on a queue, or on one chat that is ``editing`` (its id). A queue without a chat gets a word instead.

    Raises:
        NotFound: no such chat, or the queue is closed.
    """
    at = (session.user_id, queue.id, editing)
    if st.session_state.get(keys.PAD_AT) != at:
        st.session_state[keys.PAD_AT] = at
        st.session_state[keys.PAD_OUTCOMES] = {}
        st.session_state.pop(keys.PAD_ITEMS, None)
    if keys.PAD_ITEMS not in st.session_state:
        _fetch(workbench, session, queue, editing)
    items: list[LabelView] = st.session_state[keys.PAD_ITEMS]
    progress = st.session_state[keys.PAD_PROGRESS]
    if not items and progress.items == 0:
        st.session_state.pop(keys.PAD_ITEMS)  # and look again next time
        st.info("There is nothing to rate here yet. Load the demo set on the home page, or import your own chats.")
        st.page_link("home.py", label="Home", icon=":material/home:")
        return
    done = f"Everything in this queue is done or in somebody's hands. Thank you, {session.display_name}."
    _component()(
        key=keys.PAD,
        data={
            "user": session.user_id, "queue_id": queue.id, "queue": queue.name, "editing": editing is not None, "done": done,
            "guidelines": safe_html(queue.guidelines) if queue.guidelines.strip() else "", "flags": FLAGS,
            "items": [_item(view) for view in items], "seen": bool(items and items[0].ratings),
        },
        on_ops_change=_store, on_done_change=_leave,
    )  # fmt: skip
    # apart from the chats: these stay the same while one rates, and what stays the same is not sent again
    _acks_component()(
        key=keys.PAD_ACKS, height=1,
        data={
            "user": session.user_id, "outcomes": st.session_state[keys.PAD_OUTCOMES],
            "progress": {"submitted": progress.submitted, "items": progress.items},
        },
    )  # fmt: skip
    st.session_state[keys.PAD_CONTEXT] = (workbench, session, queue, editing)


def _item(view: LabelView) -> dict[str, Any]:
    return {
        "chat": view.chat.id,
        "query": safe_html(view.chat.query),
        "steps": [{"id": step.id, "html": safe_html(step.step_content)} for step in view.chat.steps],
        "ratings": {
            step_id or "": {"score": one.feedback_score, "scale": one.scale, "comment": one.comment or ""}
            for step_id, one in view.ratings.items()
        },
        "first_error": view.marks.first_error,
        "flags": list(view.marks.flags),
    }


def _fetch(workbench: Workbench, session: Session, queue: Queue, editing: str | None) -> None:
    if editing:
        st.session_state[keys.PAD_ITEMS] = [labeling.open_chat(workbench, session, editing)]
    else:
        st.session_state[keys.PAD_ITEMS] = labeling.claim(workbench, session, queue.id, AHEAD)
    st.session_state[keys.PAD_PROGRESS] = labeling.queue_progress(workbench, session, queue.id)


def _store() -> None:
    """Store what the pad has sent. It runs before the pad is drawn again, so what it then shows is the store's word."""
    sent = st.session_state[keys.PAD].get("ops")
    workbench, session, queue, editing = st.session_state[keys.PAD_CONTEXT]
    if not sent or sent.get("from") != session.user_id:
        return  # somebody else signed in meanwhile: theirs is theirs, and stays in their browser
    ops = [LabelOp(one["id"], one["kind"], one["chat"], one["step"], one["value"] or {}) for one in sent["list"]]
    known: dict[str, str] = st.session_state[keys.PAD_OUTCOMES]
    fresh = [op for op in ops if op.id not in known]
    try:
        outcomes = labeling.apply(workbench, session, fresh) if fresh else {}
        st.session_state[keys.PAD_OUTCOMES] = dict([*known.items(), *outcomes.items()][-OUTCOMES_KEPT:])
        if any(op.kind in ("submit", "skip") for op in fresh):
            _fetch(workbench, session, queue, editing)
        st.session_state.pop(keys.LABEL_PROBLEM, None)
    except SignInRequired:
        pass  # the page finds out by itself; what was sent stays in the browser and comes again
    except RlhfError as error:
        st.session_state[keys.LABEL_PROBLEM] = f"Not saved yet, and kept in this browser. {error}"


def _leave() -> None:
    """Back from a chat that was edited to the queue."""
    st.query_params.pop(keys.URL_CHAT, None)
