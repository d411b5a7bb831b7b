"""The rating card: one step or the whole answer, with thumbs, stars and a comment. Draws what the store holds."""

from __future__ import annotations

import streamlit as st

from rlhf_core.ground.errors import Forbidden, NotFound, RlhfError
from rlhf_core.ground.records import Feedback, Scale, Session
from rlhf_core.services import labeling
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import identity, keys
from rlhf_core.ui.texts import markdown_of

_THUMB_SCORES = {0: 1, 1: 5}  # st.feedback: 0 is down, 1 is up


def card(
    workbench: Workbench, session: Session, chat_id: str, step_id: str | None, title: str, text: str, given: Feedback | None
) -> None:
    """Draw one card. ``given`` is the rating the store holds, if any; a click is stored before it shows as saved."""
    thumbs, stars, words = (keys.rating(one, session.user_id, chat_id, step_id) for one in ("thumbs", "stars", "comment"))
    score = given.feedback_score if given else None
    # The widgets show what is stored, so a rating that could not be saved jumps back instead of looking saved. One that shows it
    # already is left alone: setting it would take back a click that is on its way.
    for key, value in (
        (thumbs, None if score is None or score == 3 else int(score > 3)),
        (stars, None if score is None else score - 1),
    ):
        if st.session_state.get(key) != value:
            st.session_state[key] = value
    at = (workbench, session, chat_id, step_id)
    with st.container(border=True):
        st.markdown(f"**{title}**\n\n{markdown_of(text)}")
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            st.feedback("thumbs", key=thumbs, on_change=_save, args=(*at, thumbs, "thumbs"))
            st.feedback("stars", key=stars, on_change=_save, args=(*at, stars, "stars"))
            if given is not None:
                st.caption(f":green[:material/check:] saved {given.updated_at[11:16]} UTC", width="content")
                with st.popover(":material/comment:", help="Comment"):
                    st.session_state.setdefault(words, given.comment or "")
                    st.text_area(
                        f"Comment on {title.lower()}", key=words, max_chars=8000, on_change=_comment, args=(*at, words),
                        placeholder="Why? Saved when you leave the box.",
                    )  # fmt: skip
        if given is not None and given.comment:
            st.caption(f":material/comment: {markdown_of(given.comment)}")


def _save(workbench: Workbench, session: Session, chat_id: str, step_id: str | None, key: str, scale: Scale) -> None:
    value = st.session_state[key]
    try:
        if value is None:
            labeling.withdraw(workbench, session, chat_id, step_id)
        else:
            score = value + 1 if scale == "stars" else _THUMB_SCORES[value]
            labeling.rate(workbench, session, chat_id, step_id, score, scale)
        st.session_state.pop(keys.LABEL_PROBLEM, None)
        st.query_params[keys.URL_CHAT] = chat_id  # a refresh stays here, even when this was the last thing to rate
    except RlhfError as error:
        st.session_state[keys.LABEL_PROBLEM] = f"Not saved. {error}"
        if isinstance(error, (Forbidden, NotFound)):
            identity.ask_again()  # a role may have been taken away: without one there is no chat to be seen


def _comment(workbench: Workbench, session: Session, chat_id: str, step_id: str | None, key: str) -> None:
    try:
        labeling.comment(workbench, session, chat_id, step_id, st.session_state[key])
        st.session_state.pop(keys.LABEL_PROBLEM, None)
    except RlhfError as error:
        st.session_state[keys.LABEL_PROBLEM] = f"The comment is not saved. {error}"
