"""The label pad: one custom component that holds a whole chat, or two answers (``pad.js``, ``pair.js``). This side hands it items
and stores what it sends."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import streamlit as st

from rlhf_core.ground.errors import NotFound, RlhfError, SignInRequired, StoreUnavailable
from rlhf_core.ground.judgement import OVERALL, Rubric
from rlhf_core.ground.records import (
    COMMENT_MAX_CHARS,
    FLAGS,
    MAX_STEP_CHARS,
    REASON_MAX_CHARS,
    Chat,
    LabelOp,
    LabelView,
    Queue,
    QueueProgress,
    Session,
    Task,
)
from rlhf_core.ground.roles import may
from rlhf_core.services import labeling, playing
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import identity, keys, resources
from rlhf_core.ui.pad.telling import stands_left, telling
from rlhf_core.ui.render import safe_html
from rlhf_core.ui.texts import duration, plain, show_error

AHEAD = 3  # chats in the browser: the one on screen and those after it
OUTCOMES_KEPT = 250
RUBRIC_KEPT_S = 60.0
BLANK = "<p><em>an empty answer</em></p>"
Item = tuple[str, str | None]  # a chat, or the two of a pair
_HERE = Path(__file__).parent


@st.cache_resource(show_spinner=False)
def _component():  # type: ignore[no-untyped-def]  # Streamlit gives its type no public name
    return st.components.v2.component(
        "rlhf_workbench_pad", html='<div class="pad" tabindex="-1"></div>',
        js="".join((_HERE / name).read_text(encoding="utf-8") for name in ("pad.js", "pair.js")),
        css=(_HERE / "pad.css").read_text(encoding="utf-8"),
    )  # fmt: skip


@st.cache_resource(show_spinner=False)
def _acks_component():  # type: ignore[no-untyped-def]
    return st.components.v2.component("rlhf_workbench_acks", js=(_HERE / "acks.js").read_text(encoding="utf-8"))


def page(title: str, task: Task) -> None:
    """A whole page around the pad: which queue, and the pad on it, or on one item that is looked at again."""
    workbench, session = resources.workbench(), resources.session()
    try:
        queues = labeling.queues(workbench, task)
    except StoreUnavailable:  # whoever is rating goes on with what they have
        if keys.PAD_ITEMS not in st.session_state or st.session_state[keys.PAD_CONTEXT][2].task != task:
            raise
        queues, away = [st.session_state[keys.PAD_CONTEXT][2]], True
    else:
        away = False
    chat = st.query_params.get(keys.URL_CHAT)
    chosen = keys.label_queue(task)
    if asked_for := st.query_params.get(keys.URL_QUEUE):  # an address may name it by its name as well
        by_name = next((one.id for one in queues if one.name.casefold() == asked_for.strip().casefold()), None)
        if by_name is not None:
            st.query_params[keys.URL_QUEUE] = by_name
    editing: Item | None = (chat, st.query_params.get(keys.URL_OTHER)) if chat else None
    wanted = st.query_params.get(keys.URL_QUEUE) if not editing else None
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.title(title, width="content")
        if len(queues) > 1 and not editing:  # not before: a menu makes the page slower to open
            names = {one.id: one.name for one in queues}
            if wanted in names:  # after a refresh
                st.session_state.setdefault(chosen, wanted)
            picked = st.selectbox("Queue", [*names], format_func=names.__getitem__, key=chosen, on_change=_keep_queue,
                                  args=(chosen,), label_visibility="collapsed", width=260)  # fmt: skip
            wanted = picked if wanted is None or wanted in names else wanted
        st.page_link("work.py", label=plain(session.display_name), icon=":material/person:", help="What you have judged so far")

    @st.fragment
    def label(queue: Queue) -> None:
        try:
            own = _asked_anew()
            if own.person is not None and own.person.role != session.role:
                st.rerun()  # the whole page: with the menu of the role that they have now
            draw(own, session, queue, editing=editing)
        except NotFound as error:
            st.session_state.pop(keys.PAD_ITEMS, None)  # so in all of these: the pad goes, and what comes back asks the store
            show_error(error)
            if st.button("Go to the next one"):
                _leave()
                st.rerun()
        except SignInRequired as error:
            identity.ended(error)
        except RlhfError as error:  # the frame does not see what a fragment meets
            st.session_state.pop(keys.PAD_ITEMS, None)
            show_error(error)
            st.button("Try again", icon=":material/refresh:")
        if (keys.URL_CHAT in st.query_params) != (editing is not None):
            st.rerun()

    try:
        queue = labeling.queue(queues, wanted)
    except NotFound as error:
        show_error(error)
        if queues:
            st.button("Go to an open queue", icon=":material/arrow_forward:", on_click=_forget_queue)
        return
    # what was fetched for a pad that has gone does not know what that one stored since
    if not away and keys.PAD_ITEMS in st.session_state:
        before = st.session_state.get(keys.PAD_CONTEXT)
        if before is not None and (before[2].id, before[3]) != (queue.id, editing):
            give_back()
        st.session_state.pop(keys.PAD_ITEMS, None)
    label(queue)
    _acks_component()(key=keys.PAD_WAKE, height=1, data={"wake": True}, on_wake_change=lambda: None)  # outside of the fragment


def _asked_anew() -> Workbench:
    """The workbench of whoever is there: a role may have been taken away. While a team's store is away the pad goes on with
    what it has; what is sent stays in the browser until it is stored."""
    try:
        return resources.workbench()
    except StoreUnavailable:
        if keys.PAD_ITEMS not in st.session_state:
            raise
        own: Workbench = st.session_state[keys.PAD_CONTEXT][0]
        return own


@st.cache_data(ttl=60, show_spinner=False)
def _somebody_proposes(root: str, _workbench: Workbench) -> bool:  # noqa: ARG001  # the root tells workspaces apart
    """Whether there is a policy, or an endpoint, that could write a step, in the workspace at ``root``."""
    try:
        return bool(playing.voices(_workbench))
    except RlhfError:  # a wrong setting of an endpoint is said where one talks to it
        return False


def _keep_queue(key: str) -> None:
    st.query_params[keys.URL_QUEUE] = st.session_state[key]


def _forget_queue() -> None:
    st.query_params.pop(keys.URL_QUEUE, None)


def draw(workbench: Workbench, session: Session, queue: Queue, *, editing: Item | None = None) -> None:
    """Draw the pad on a queue, or on one item that is looked at again. A queue without an item gets a word instead.

    Raises:
        NotFound: no such item, or the queue is closed.
        ScreeningFailed: this person's known answers were not right often enough.
    """
    at = (session.user_id, queue.id, editing)
    if st.session_state.get(keys.PAD_AT) != at:
        st.session_state[keys.PAD_AT] = at
        st.session_state[keys.PAD_OUTCOMES] = {}
        for key in (keys.PAD_ITEMS, keys.PAD_AFTER, keys.PAD_RUBRIC):
            st.session_state.pop(key, None)
    if keys.PAD_ITEMS not in st.session_state:
        _fetch(workbench, session, queue, editing)
    items: list[LabelView] = st.session_state[keys.PAD_ITEMS]
    progress = st.session_state[keys.PAD_PROGRESS]
    if not items and progress.items == 0:
        st.session_state.pop(keys.PAD_ITEMS)  # and look again next time
        _nothing(queue)
        return
    after = st.session_state.get(keys.PAD_AFTER)
    rubric: Rubric | None = st.session_state[keys.PAD_RUBRIC][1]
    done = _done(queue, progress, session)
    proposes = may(session.role, "compare") and _somebody_proposes(str(workbench.workspace.root), workbench)
    _component()(
        key=keys.PAD,
        data={
            "user": session.user_id, "queue_id": queue.id, "queue": queue.name, "editing": editing is not None, "done": done,
            "guidelines": safe_html(queue.guidelines) if queue.guidelines.strip() else "", "flags": FLAGS,
            "task": queue.task, "asks": queue.asks, "rubric": _asked(rubric), "proposes": proposes,
            "limits": {"comment": COMMENT_MAX_CHARS, "reason": REASON_MAX_CHARS, "step": MAX_STEP_CHARS},
            "items": st.session_state[keys.PAD_DRAWN], "seen": bool(items and (items[0].ratings or items[0].preferences)),
        },
        on_ops_change=_store, on_done_change=_leave, on_look_change=_look, on_again_change=_again,
    )  # fmt: skip
    # apart from the chats: these stay the same while one rates, and what stays the same is not sent again
    _acks_component()(
        key=keys.PAD_ACKS, height=1,
        data={
            "user": session.user_id, "outcomes": st.session_state[keys.PAD_OUTCOMES], "after": after,
            "progress": {"submitted": progress.submitted, "items": progress.items},
            "heard": st.session_state.get(keys.PAD_HEARD), "problem": st.session_state.get(keys.LABEL_PROBLEM, ""),
        },
    )  # fmt: skip
    st.session_state[keys.PAD_CONTEXT] = (workbench, session, queue, editing)


def _done(queue: Queue, progress: QueueProgress, session: Session) -> str:
    """What is said where there is nothing to hand out."""
    if progress.finished >= progress.items:
        return f"Everything in this queue is done. Thank you, {session.display_name}."
    if progress.submitted + progress.skipped >= progress.items:
        return f"You have done everything in this queue. Thank you, {session.display_name}."
    return (
        f"There is nothing for you at the moment: {progress.finished:,} of {progress.items:,} are done, and the rest you had, or "
        f"others have now. What they leave comes up here, {duration(queue.lease_s)} after they began at the latest."
    )


def _again() -> None:
    st.session_state.pop(keys.PAD_ITEMS, None)


def give_back() -> None:
    """Let go of what was handed out on the pad and not begun, where the pad was left for another page: others may have it. In a
    thread of its own: nobody waits for it, and a store may be away."""
    handed: list[LabelView] = st.session_state.pop(keys.PAD_ITEMS, [])
    if keys.PAD_CONTEXT not in st.session_state:
        return
    workbench, session, queue, editing = st.session_state[keys.PAD_CONTEXT]
    touched = st.session_state.get(keys.PAD_TOUCHED, set())
    idle = [(view.chat.id, view.other.id if view.other else None) for view in handed if view.chat.id not in touched]
    if editing is None and idle:
        threading.Thread(target=_release, args=(workbench, session, queue.id, idle), name="give back", daemon=True).start()


def _release(workbench: Workbench, session: Session, queue_id: str, items: list[tuple[str, str | None]]) -> None:
    """Those of them on which nothing of this person's is stored: it may have come from another tab, or before a refresh."""
    with contextlib.suppress(RlhfError):  # they come back by themselves after a time
        for chat_id, other_id in items:
            view = labeling.open_item(workbench, session, chat_id, other_id)
            marked = view.marks.first_error or view.marks.flags
            if not (view.ratings or view.preferences or view.aspects or view.rewrites or marked):
                labeling.release(workbench, session, queue_id, chat_id)


def _nothing(queue: Queue) -> None:
    if queue.task == "choose":
        st.info(
            "There is nothing to choose between yet: it takes two answers to the same question. Load the demo set on the home "
            "page, or import chats whose questions are the same word for word."
        )
    else:
        st.info("There is nothing to rate here yet. Load the demo set on the home page, or import your own chats.")
    st.page_link("home.py", label="Home", icon=":material/home:")


def _asked(rubric: Rubric | None) -> dict[str, Any] | None:
    if rubric is None:
        return None
    return {
        "version": rubric.version,
        "overall": next((dict(one.anchors) for one in rubric.aspects if one.key == OVERALL), {}),
        "aspects": [
            {"key": one.key, "question": one.question, "of": one.of, "anchors": dict(one.anchors)}
            for one in rubric.aspects
            if one.key != OVERALL
        ],
    }


def _item(view: LabelView, session: Session) -> dict[str, Any]:
    if view.other is not None:
        return _pair(view, view.other, session)
    ratings: dict[str, dict[str, Any]] = {
        step_id or "": {"score": one.feedback_score, "scale": one.scale, "comment": one.comment or ""}
        for step_id, one in view.ratings.items()
    }
    ratings |= {f"{step or ''}|{aspect}": {"score": score} for (step, aspect), score in view.aspects.items()}
    return {
        "id": view.chat.id,
        "chat": view.chat.id,
        "query": safe_html(view.chat.query),
        "steps": [{"id": one.id, "html": safe_html(one.step_content), "text": one.step_content} for one in view.chat.steps],
        "ratings": ratings,
        "rewrites": view.rewrites,
        "first_error": view.marks.first_error,
        "flags": list(view.marks.flags),
    }


def _pair(view: LabelView, other: Chat, session: Session) -> dict[str, Any]:
    left = stands_left(session.user_id, view.chat.id, other.id)
    a, b = (view.chat, other) if left == view.chat.id else (other, view.chat)
    return {
        "id": f"{view.chat.id}+{other.id}", "chat": view.chat.id, "other": other.id, "left": left,
        "query": safe_html(view.chat.query), "a": _answer(a), "b": _answer(b),
        "choices": {
            (str(step) if step else "") + (f"|{aspect}" if aspect else ""):
                {"verdict": one.verdict, "strength": one.strength, "comment": one.comment or ""}
            for (step, aspect), one in view.preferences.items()
        },
    }  # fmt: skip


def _answer(chat: Chat) -> dict[str, Any]:
    return {
        "whole": safe_html(chat.response) if chat.response.strip() else BLANK,
        "steps": [safe_html(step.step_content) for step in chat.steps],
    }


def _fetch(workbench: Workbench, session: Session, queue: Queue, editing: Item | None) -> None:
    if editing:
        st.session_state[keys.PAD_ITEMS] = [labeling.open_item(workbench, session, *editing)]
    else:
        st.session_state[keys.PAD_ITEMS] = labeling.claim(workbench, session, queue.id, AHEAD)
    views: list[LabelView] = st.session_state[keys.PAD_ITEMS]
    asked = labeling.steps_asked(workbench, queue, [view.chat.id for view in views])
    st.session_state[keys.PAD_DRAWN] = [_item(view, session) | {"asked": asked.get(view.chat.id, [])} for view in views]
    st.session_state[keys.PAD_PROGRESS] = labeling.queue_progress(workbench, session, queue.id)
    asked_at, _ = st.session_state.get(keys.PAD_RUBRIC, (-RUBRIC_KEPT_S, None))
    if time.monotonic() - asked_at >= RUBRIC_KEPT_S:  # it may be changed in the middle of the work
        st.session_state[keys.PAD_RUBRIC] = (time.monotonic(), labeling.rubric(workbench, queue.id))


def _store() -> None:
    """Store what the pad has sent. It runs before the pad is drawn again, so what it then shows is the store's word."""
    sent = st.session_state[keys.PAD].get("ops")
    workbench, session, queue, editing = st.session_state[keys.PAD_CONTEXT]
    if not sent or sent.get("from") != session.user_id:
        return  # somebody else signed in meanwhile: theirs is theirs, and stays in their browser
    st.session_state[keys.PAD_HEARD] = sent.get("n")
    ops = [LabelOp(one["id"], one["kind"], one["chat"], one["step"], one["value"] or {}) for one in sent["list"]]
    st.session_state.setdefault(keys.PAD_TOUCHED, set()).update(op.chat_id for op in ops if op.kind != "dwell")
    known: dict[str, str] = st.session_state[keys.PAD_OUTCOMES]
    fresh = [op for op in ops if op.id not in known]
    try:
        outcomes = labeling.apply(workbench, session, fresh) if fresh else {}
        st.session_state[keys.PAD_OUTCOMES] = dict([*known.items(), *outcomes.items()][-OUTCOMES_KEPT:])
        st.session_state.pop(keys.LABEL_PROBLEM, None)
    except SignInRequired:
        return  # the page finds out by itself; what was sent stays in the browser and comes again
    except StoreUnavailable:
        st.session_state[keys.LABEL_PROBLEM] = (
            "Not saved yet, and kept in this browser: the store does not answer. Go on; it is sent again every few seconds."
        )
        return
    except RlhfError as error:
        st.session_state[keys.LABEL_PROBLEM] = f"Not saved yet, and kept in this browser. {error}"
        return
    try:
        if queue.tells_after:
            told = [_tell(workbench, session, queue, op) for op in fresh if op.kind == "submit" and outcomes[op.id] == ""]
            if any(told):
                st.session_state[keys.PAD_AFTER] = [one for one in told if one]
        if any(op.kind in ("submit", "skip") for op in fresh):
            _fetch(workbench, session, queue, editing)
    except RlhfError:
        st.session_state.pop(keys.PAD_ITEMS, None)  # what was sent is stored; drawing asks again, and says what is wrong


def _tell(workbench: Workbench, session: Session, queue: Queue, op: LabelOp) -> dict[str, Any] | None:
    other = op.value.get("other")
    after = labeling.after(workbench, session, queue.id, op.chat_id, other)
    if after is None:
        return None
    return telling(after, labeling.open_item(workbench, session, op.chat_id, other), session.user_id, op.id)


def _look() -> None:
    """Look at an item again that was submitted."""
    sent = st.session_state[keys.PAD].get("look")
    if sent and sent.get("chat"):
        st.query_params[keys.URL_CHAT] = sent["chat"]
        if sent.get("other"):
            st.query_params[keys.URL_OTHER] = sent["other"]


def _leave() -> None:
    """Back from an item that was looked at again to the queue."""
    st.query_params.pop(keys.URL_CHAT, None)
    st.query_params.pop(keys.URL_OTHER, None)
