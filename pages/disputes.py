"""What raters judge differently: their words side by side, and a decision with a reason, which then counts."""

from typing import get_args

import pandas as pd
import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.judgement import Decision, Dispute
from rlhf_core.ground.records import Verdict
from rlhf_core.ground.roles import may
from rlhf_core.ground.text import shorten
from rlhf_core.services import judging
from rlhf_core.ui import keys, resources, rows
from rlhf_core.ui.tables import show_table
from rlhf_core.ui.texts import markdown_of, plural, show_error

LISTED = 200
SHOWN_STEPS = 60
SPREAD = 2  # stars apart
VERDICTS: dict[str, str] = {"chat": "A", "other": "B", "tie": "Equal", "both_bad": "Both bad"}
workbench, session = resources.workbench(), resources.session()


def id_of(one: Dispute) -> str:
    return f"{one.chat_id[:8]}{'+' + one.other_id[:8] if one.other_id else ''}"


def choose(row: str) -> None:
    st.session_state[keys.DISPUTE] = row


def describe(one: Dispute) -> str:
    facts = [
        f"{one.spread} stars apart" if one.spread >= SPREAD else "",
        f"first bad step seen at {one.stops} places" if one.stops > 1 else "",
    ]
    facts += ["which answer is better" if one.verdicts else ""]
    said = ", ".join(fact for fact in facts if fact)
    state = " · :green[decided]" if not one.open else f" · {one.open} of its places open" if one.decided else ""
    return f"{plural(one.raters, 'rater')}: {said}{state}"


def letters(case: judging.Case) -> dict[str, str]:
    """Raters as A, B, C ...: who they are says nothing of who is right."""
    return {rater: chr(65 + k) if k < 26 else f"rater {k + 1}" for k, rater in enumerate(case.raters)}


def words_on(case: judging.Case, place: str | int | None, kind: str) -> str:
    names = letters(case)
    return " · ".join(sorted(f"{names[rater]} **{one.value}**" for rater, one in case.said(place, kind).items()))


def comments_on(case: judging.Case, place: str | int | None, kind: str) -> None:
    names = letters(case)
    for rater, one in case.said(place, kind).items():
        if one.comment:
            st.caption(f"{names[rater]}: {markdown_of(one.comment)}")


def score_of(case: judging.Case, place: str | None, label: str) -> Decision | None:
    """Everybody's score of one place, and what counts; None where nothing is chosen."""
    said = case.said(place, "score")
    scores = [int(one.value) for one in said.values()]
    decided = case.decision("score", place)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(words_on(case, place, "score") or "not rated", width="content")
        if decided or (scores and max(scores) - min(scores) >= SPREAD):
            chosen = st.segmented_control(
                f"What counts for {label} (stars)", [1, 2, 3, 4, 5], default=int(decided.value) if decided else None,
                key=f"disputes:score:{case.chat.id}:{place}",
            )  # fmt: skip
        else:
            chosen = None
    comments_on(case, place, "score")
    return Decision("", case.chat.id, None, place, "score", str(chosen), "") if chosen else None


def chat_case(case: judging.Case) -> list[Decision]:
    found: list[Decision | None] = []
    firsts = case.first_errors()
    names, orders = letters(case), {step.id: step.step_order for step in case.chat.steps}
    for step in case.chat.steps[:SHOWN_STEPS]:
        with st.container(border=True):
            here = ", ".join(names[rater] for rater, first in firsts.items() if first == step.id)
            st.markdown(f"**Step {step.step_order}**" + (f" :red[first bad step for {here}]" if here else ""))
            st.markdown(markdown_of(step.step_content))
            found.append(score_of(case, step.id, f"step {step.step_order}"))
    if len(case.chat.steps) > SHOWN_STEPS:
        st.caption(f"{len(case.chat.steps) - SHOWN_STEPS} more steps are not shown.")
    with st.container(border=True):
        st.markdown("**The whole answer**")
        found.append(score_of(case, None, "the whole answer"))
        if len(set(firsts.values())) > 1:
            decided = case.decision("first_error")
            places = ["", *orders]
            chosen = st.selectbox(
                "The first error", places, index=places.index(decided.value) if decided else None, placeholder="Not decided",
                key=f"disputes:first:{case.chat.id}",
                format_func=lambda step: f"Step {orders[step]}" if step else "There is none",
            )  # fmt: skip
            if chosen is not None:
                found.append(Decision("", case.chat.id, None, None, "first_error", chosen, ""))
    return [one for one in found if one is not None]


def pair_case(case: judging.Case) -> list[Decision]:
    assert case.other is not None
    names = letters(case)
    for column, chat, title in zip(st.columns(2), (case.chat, case.other), ("A", "B"), strict=True):
        with column.container(border=True, height="stretch"):
            st.markdown(f"**{title}**")
            st.markdown(markdown_of(chat.response) or "*an empty answer*")
    table = []
    for one in case.words:
        verdict, _, strength = one.value.partition(" ")
        aspect = one.kind.partition(":")[2]
        table.append({
            "rater": names[one.user_id], "on": f"step {one.place}" if one.place else aspect or "all in all",
            "better": VERDICTS[verdict], "how much": {"1": "slightly", "2": "clearly", "3": "much"}.get(strength, ""),
            "comment": one.comment or "",
        })  # fmt: skip
    show_table(pd.DataFrame(table).sort_values(["on", "rater"]).set_index("rater"))
    decided = case.decision("preference")
    chosen = st.segmented_control(
        "What counts", get_args(Verdict), format_func=VERDICTS.__getitem__, default=decided.value if decided else None,
        key=f"disputes:verdict:{case.chat.id}:{case.other.id}",
    )  # fmt: skip
    return [Decision("", case.chat.id, case.other.id, None, "preference", chosen, "")] if chosen else []


def decision_in_words(case: judging.Case, one: Decision) -> str:
    """What was decided of which place."""
    orders = {step.id: step.step_order for step in case.chat.steps}
    if one.kind == "first_error":
        return f"the first error is step {orders.get(one.value, '?')}" if one.value else "there is no error"
    if one.kind == "preference":
        return f"better is: {VERDICTS.get(one.value, one.value).lower()}"
    place = f"step {orders.get(one.step_id, '?')}" if one.step_id else "the whole answer"
    return f"{place} counts {one.value} of 5"


def settle(one: Dispute, following: str | None) -> None:
    case = judging.case(workbench, one.chat_id, one.other_id)
    st.subheader(markdown_of(shorten(case.chat.query, 160)), anchor=False)
    chosen = pair_case(case) if case.other else chat_case(case)
    for old in case.decisions:
        st.caption(f"Decided, {decision_in_words(case, old)}: {markdown_of(old.reason)}")
    if case.decisions and one.open:
        st.markdown(f":orange[:material/pending:] {plural(one.open, 'point')} of it still undecided.")
    settled = {(old.kind, old.step_id): old.value for old in case.decisions}
    fresh = [new for new in chosen if settled.get((new.kind, new.step_id)) != new.value]
    reason = st.text_area(
        "Why", placeholder="A reason, for those who judged otherwise", key=f"disputes:why:{id_of(one)}", height=80
    )
    gold = may(session.role, "queues") and st.toggle(
        "Ask it as a known answer from now on", help="Slipped into queues that ask known answers; the reason is told afterwards"
    )
    with st.container(horizontal=True):
        if st.button("Decide", type="primary", icon=":material/gavel:"):
            try:
                judging.decide(workbench, session, fresh or chosen, reason)
                if gold:
                    judging.gold_of_case(workbench, session, judging.case(workbench, one.chat_id, one.other_id))
                st.toast("Decided. Snapshots taken from now on, and what is trained on them, use it.")
                st.rerun()
            except RlhfError as error:
                show_error(error)
        if following is not None and not one.open:
            st.button("Next dispute", icon=":material/arrow_forward:", on_click=choose, args=(following,))
        if case.decisions and st.button("Take it back", icon=":material/undo:"):
            for old in case.decisions:
                judging.undecide(workbench, session, old)
            for key in [key for key in st.session_state if str(key).startswith("disputes:")]:
                if key != keys.DISPUTE:
                    del st.session_state[key]
            st.rerun()


st.title("Disputes")
st.markdown(
    "Where people differ by two stars or more, on the first error, or on which answer is better. A decision counts in training."
)
found = judging.disputes(workbench, LISTED)
if not found:
    st.info("Nobody disagrees: nothing is in dispute yet. It takes a queue whose chats go to two raters or more.")
    st.stop()
open_ones = sum(one.open > 0 for one in found)
st.caption(
    f"{plural(open_ones, 'dispute')} open, {len(found) - open_ones} decided"
    + (f"; the first {LISTED} are listed" if len(found) == LISTED else "")
)
by_row = {id_of(one): one for one in found}
chosen_row = st.session_state.get(keys.DISPUTE)
if chosen_row in by_row:  # above the list: what one pressed is in sight
    settle(by_row[chosen_row], next((row for row, one in by_row.items() if one.open and row != chosen_row), None))
    st.subheader("All disputes")
rows.pick(
    "disputes",
    [rows.Row(row, describe(one), markdown_of(shorten(one.query, 100))) for row, one in by_row.items()],
    chosen_row,
    choose,
)
