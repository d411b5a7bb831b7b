"""Which checkpoint serves people: the candidate, a share of people first, what they say of it, back."""

import pandas as pd
import streamlit as st

from rlhf_core.ground.errors import RlhfError, Unproven
from rlhf_core.ground.rollout import Act, ModelKind
from rlhf_core.services import retrained, rolling_out
from rlhf_core.ui import keys, resources, rollout_parts
from rlhf_core.ui.texts import ago, markdown_of, plural, show_error

KINDS: dict[ModelKind, str] = {"policy": "Policies", "reward": "Reward models"}
LATEST = 200
workbench = resources.workbench()
session = resources.session()
st.title("Roll-out")
st.caption(
    "A new checkpoint serves a share of people first. What they say of its answers is compared with the rest after every rating; "
    "where it is worse, it goes back by itself. docs/rollout.md says how an application asks which one to use."
)
kind: ModelKind = st.segmented_control(
    "Kind", [*KINDS], format_func=lambda one: KINDS[one], default="policy", required=True, label_visibility="collapsed",
    key="rollout:kind",
)  # fmt: skip
PROBLEM, SEEN, SHOWN = (f"{key}:{kind}" for key in (keys.ROLLOUT_PROBLEM, keys.ROLLOUT_SEEN, keys.ROLLOUT_SHOWN))


def decide(
    act: Act, reason: str, checkpoint: str | None, share: float | None, *, again: bool, seen: int, unproven: bool = False
) -> None:  # fmt: skip
    try:
        rolling_out.decide(
            workbench, kind, act, reason, checkpoint_id=checkpoint, share=share, again=again, unproven=unproven, seen=seen
        )
    except Unproven as error:
        ask_once_more(error.known, reason, checkpoint, again, seen)
    except RlhfError as error:
        st.session_state[PROBLEM] = error
    else:
        st.session_state.pop(PROBLEM, None)
        st.toast("It is decided, and in the log.", icon=":material/check:")
        st.rerun()


@st.dialog("Serve everybody, unproven?")
def ask_once_more(known: str, reason: str, checkpoint: str | None, again: bool, seen: int) -> None:
    st.markdown(markdown_of(known))
    st.caption("A share of people first costs some days and shows it; the log will say that it was let through without.")
    with st.container(horizontal=True):
        if st.button("Keep things as they are", type="primary"):
            st.rerun()
        if st.button("Serve everybody all the same"):
            decide("serve", reason, checkpoint, None, again=again, seen=seen, unproven=True)
            st.rerun()  # what was refused is said on the page


@st.fragment(run_every=5.0)
def stand() -> None:
    """How it goes, anew every few seconds."""
    seen = rolling_out.glance(workbench, kind)
    if st.session_state.get(SEEN, seen.state) != seen.state:
        st.session_state[SEEN] = seen.state
        st.rerun()  # somebody, or the workbench itself, decided something: what can be decided is another thing now
    st.session_state[SEEN] = seen.state
    rollout_parts.aliases(seen.state)
    if seen.state.canary is not None:
        rollout_parts.comparison(seen)


def choices(seen: rolling_out.Look) -> None:
    """What can be decided now. Each needs a reason."""
    now = seen.state
    shown = st.session_state.get(SHOWN, seen.number)  # what stood on the page when a button was pressed
    st.session_state[SHOWN] = seen.number
    able = rolling_out.able(workbench, kind)
    others = [one for one in able if one not in (now.serving, now.canary)]
    with st.form("rollout:decide", border=True):
        st.markdown("**Decide**")
        picked, share, again = None, None, False
        acts: dict[Act, str] = {}
        if now.canary is not None:
            options = [one for one in rolling_out.SHARES if one != now.share]
            share = st.selectbox(
                "Share of people", options, index=next((k for k, one in enumerate(options) if one > now.share), 0),
                format_func=lambda one: f"{one:.0%}",
            )  # fmt: skip
            acts = {"share": "Change the share", "serve": "Let it serve everybody", "back": "Take it back"}
        elif others:
            first = others.index(now.candidate) if now.candidate in others else 0
            picked = st.selectbox("Checkpoint", others, index=first, help="The newest first; the candidate where there is one")
            if now.serving is not None:
                share = st.selectbox("Share of people", rolling_out.SHARES, format_func=lambda one: f"{one:.0%}")
                again = st.checkbox("Even if it was taken back before")
                acts = {"canary": "Give it to this share", "candidate": "Make it the candidate"}
            acts["serve"] = "Let it serve everybody"
        if now.canary is None and now.previous is not None:
            acts["back"] = f"Back to {now.previous}"
        if now.candidate is not None and now.canary is None:
            acts["drop"] = "Drop the candidate"
        if not acts:
            if now.serving is None:
                st.info("There is no checkpoint of this kind that could serve. Train one first; it has to come to its end.")
            else:
                st.info("The only checkpoint of this kind serves already. Train another one, and there is something to decide.")
            st.form_submit_button("Nothing to decide", disabled=True)
            return
        if now.serving is None:
            st.caption("Nothing serves yet, so the first one serves everybody: what comes later is compared with it.")
        reason = st.text_input("Why", help="Kept in the log for ever", max_chars=2000, key=f"rollout:why:{kind}:{seen.number}")
        if now.canary is not None and seen.not_worse_after is None:
            st.caption(f"{seen.says} A share that grows now grows on trust.")
        pressed = None
        with st.container(horizontal=True):
            for k, (act, words) in enumerate(acts.items()):
                if st.form_submit_button(words, type="primary" if k == 0 else "secondary"):
                    pressed = act
    if pressed:
        decide(pressed, reason, picked, share, again=again, seen=shown)
    if problem := st.session_state.pop(PROBLEM, None):  # said once
        show_error(problem)


stand()
if workbench.may("promote"):
    choices(rolling_out.glance(workbench, kind))
else:
    st.info("Engineers and administrators decide which checkpoint serves.")
events = rolling_out.history(workbench, kind)
if events:
    st.subheader("Decided so far")
    rows = [
        {"when": pd.Timestamp(one.at), "who": one.who, "did": rolling_out.done(one), "checkpoint": one.checkpoint_id,
         "share": f"{one.state.share:.0%}" if one.act in ("canary", "share") else "", "why": one.reason}
        for one in reversed(events[-LATEST:])
    ]  # fmt: skip
    st.dataframe(
        pd.DataFrame(rows), hide_index=True,
        column_config={
            "when": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", help="UTC"),
            "share": st.column_config.TextColumn(alignment="right"),
            "why": st.column_config.TextColumn(width="large"),
        },
    )  # fmt: skip
    last = events[-1]
    st.caption(f"{plural(len(events), 'decision')}, the last {ago(last.at)} by {markdown_of(last.who)}.")
if kind == "reward":
    reports = retrained.past(workbench)
    if reports:
        st.subheader("Trained anew")
        for one in reports[:5]:
            with st.expander(f"{one.at[:10]} · {one.outcome} · {plural(one.ratings, 'rating')}"):
                st.markdown(markdown_of(one.markdown().replace("\n#", "\n####").replace("# Retraining report", "", 1)))
    else:
        st.caption("Nothing was trained anew yet: `python -m rlhf_core retrain`, or by a timer; docs/rollout.md says how.")
