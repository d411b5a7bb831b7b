"""Fix an answer from a step on: alternatives with their rewards, stars, own words, going on, and keeping the branch."""

from __future__ import annotations

from dataclasses import dataclass, field

import streamlit as st

from rlhf_core.ground.answers import Answer
from rlhf_core.ground.errors import RlhfError
from rlhf_core.services import best_of, branching
from rlhf_core.services.branching import Alternative, Start
from rlhf_core.services.comparing import Candidate
from rlhf_core.services.playing import Sampling
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import keys, resources
from rlhf_core.ui.stars import badges
from rlhf_core.ui.texts import markdown_of, show_error


@dataclass(slots=True)
class Fix:
    """What is being fixed, and how far it is. ``chat_id``: of the answer, where it is a chat already."""

    start: Start
    chat_id: str | None = None
    alternatives: list[Alternative] = field(default_factory=list)
    unscored: dict[str, str] = field(default_factory=dict)
    chosen: Alternative | None = None
    branch: Answer | None = None
    kept: str | None = None
    rounds: int = 0


def begin_from_url(workbench: Workbench) -> None:
    """Where the address names a chat and a step of it, as the pad's link does, that one is fixed."""
    chat_id, order = st.query_params.get(keys.URL_CHAT), st.query_params.get(keys.URL_STEP, "1")
    if not chat_id:
        return
    for name in (keys.URL_CHAT, keys.URL_STEP):
        st.query_params.pop(name, None)
    try:
        start = branching.of_chat(workbench, chat_id, int(order) if order.isascii() and order.isdigit() and len(order) < 6 else 0)
    except RlhfError as error:
        show_error(error)
    else:
        st.session_state[keys.PLAY_FIX] = Fix(start, chat_id)


def draw(workbench: Workbench, judges: list[Candidate], how: Sampling) -> None:
    """What is being fixed, if anything is."""
    fix: Fix | None = st.session_state.get(keys.PLAY_FIX)
    if fix is None:
        return
    with st.container(border=True, key="playground-fix"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"#### Instead of step {fix.start.at + 1}")
            st.button("Close", key="fix:close", type="tertiary", icon=":material/close:", on_click=_close)
        try:
            _panel(workbench, fix, judges, how)
        except RlhfError as error:
            show_error(error)


def _close() -> None:
    st.session_state.pop(keys.PLAY_FIX, None)


def _panel(workbench: Workbench, fix: Fix, judges: list[Candidate], how: Sampling) -> None:
    start = fix.start
    if fix.kept is not None:
        st.success(
            "The branch is kept: its steps rated, and preferred at that step to what it replaces.", icon=":material/check:"
        )
        st.page_link("label.py", label="Look at it", icon=":material/thumbs_up_down:", query_params={keys.URL_CHAT: fix.kept})
        return
    replaced = start.steps[start.at]
    st.caption("It said")
    st.markdown(markdown_of(replaced))
    ratings: dict[str, int] = {}
    _stars("Stars of the step that is there", "original", replaced, ratings)
    policies = best_of.policies(workbench)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        policy = st.selectbox(
            "Who proposes and goes on", [*policies, None], index=policies.index(start.model) if start.model in policies else 0,
            format_func=lambda one: one or "nobody: I write it myself", key="fix:policy",
        )  # fmt: skip
        count = st.number_input("Alternatives", 1, branching.MOST, 4, key="fix:count")
        asked = st.button("Propose", key="fix:propose", icon=":material/lightbulb:", disabled=policy is None)
    if asked and policy:
        fix.rounds += 1
        with st.spinner("Looking for other steps …"):
            wanted = Sampling(
                how.max_tokens, how.temperature, how.top_p, fix.rounds if how.seed is None else how.seed + fix.rounds
            )
            found, fix.unscored = branching.propose(workbench, start, policy, int(count), wanted, judges)
        known = {one.text for one in fix.alternatives}
        fix.alternatives += [one for one in found if one.text not in known]
    for label, message in fix.unscored.items():
        st.warning(markdown_of(f"{label}: {message}"), icon=":material/warning:")
    for k, one in enumerate(fix.alternatives):
        with st.container(border=True):
            st.markdown(markdown_of(one.text))
            if one.rewards:
                st.html(badges(one.rewards))
            with st.container(horizontal=True, vertical_alignment="center"):
                _stars(f"Stars of alternative {k + 1}", str(k), one.text, ratings)
                if st.button("Go on from this", key=f"fix:go:{k}", icon=":material/arrow_forward:"):
                    _go_on(workbench, fix, one, policy, how)
    own = st.text_area("Your own words", key="fix:own", height=80, placeholder=replaced)
    if st.button("Go on from these words", key="fix:go:own", icon=":material/edit:", disabled=not own.strip()):
        _go_on(workbench, fix, Alternative(own.strip(), None), policy, how)
    if fix.branch is None or fix.chosen is None:
        return
    st.markdown("**The branch**")
    for k, step in enumerate(fix.branch.steps):
        with st.container(border=True):
            st.markdown(markdown_of(step) if k != start.at else f":material/alt_route: {markdown_of(step)}")
    if st.button("Keep the branch", key="fix:keep", type="primary", icon=":material/bookmark_add:"):
        fix.kept = branching.keep(workbench, resources.session(), start, fix.chosen, fix.branch, ratings, fix.chat_id)
        st.rerun()


def _go_on(workbench: Workbench, fix: Fix, chosen: Alternative, policy: str | None, how: Sampling) -> None:
    with st.spinner("Going on …"):
        fix.branch = branching.go_on(workbench, fix.start, chosen.text, policy, how)
    fix.chosen = Alternative(chosen.text, chosen.model or policy, chosen.rewards)


def _stars(label: str, name: str, text: str, ratings: dict[str, int]) -> None:
    """Ask for stars; said ones are put into ``ratings``."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(label)
        given = st.feedback("stars", key=f"fix:stars:{name}")
    if given is not None:
        ratings[text] = given + 1
