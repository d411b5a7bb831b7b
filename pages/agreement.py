"""How good the feedback is: agreement between raters, each rater's ways, known answers, and what hints do."""

from typing import get_args

import pandas as pd
import streamlit as st

from rlhf_core.services import agreement, snapshots
from rlhf_core.ui import charts, keys, resources
from rlhf_core.ui.tables import show_table
from rlhf_core.ui.texts import ago, markdown_of, plural

VIEWS = ["Agreement", "Raters", "Known answers", "Hints"]
USUALLY = f"from {agreement.RELIABLE:.2f} reliable, from {agreement.TENTATIVE:.2f} good enough for tentative conclusions"
ABOUT_ALPHA = (
    "Krippendorff's alpha: 1 is full agreement, 0 what chance would give, below 0 worse than that. "
    f"A usual reading: {USUALLY}. The interval is a 95% bootstrap over chats."
)
workbench = resources.workbench()


def figure(value: float | None, low: float | None, high: float | None, form: str = ".2f") -> str:
    if value is None:
        return "not defined"
    return f"{value:{form}}" + (f" [{low:{form}}, {high:{form}}]" if low is not None and high is not None else "")


def short(rater: str) -> str:
    return rater[:6] if len(rater) == 16 else rater  # a pseudonym


def show(name: str, **formats: str) -> pd.DataFrame:
    """A named question and its answer as a table."""
    question = titles[name]
    st.subheader(question.title, help=question.question)
    frame = resources.answer(chosen, name)
    if frame.empty:
        st.caption("Nothing to say yet.")
        return frame
    shown = frame.assign(rater=frame["rater"].map(short)) if "rater" in frame else frame
    for column, form in formats.items():
        shown[column] = [("" if pd.isna(value) else format(value, form)) for value in shown[column]]
    show_table(shown.rename(columns=lambda column: column.replace("_", " ")).set_index(shown.columns[0].replace("_", " ")))
    st.caption(
        " · ".join(f"{column.replace('_', ' ')}: {unit}" for column, unit in question.columns.items() if column != "rater")
    )
    return frame


def agree() -> None:
    left, right = st.columns([3, 1])
    what = left.segmented_control("On", get_args(agreement.What), default="steps", required=True, key=keys.AGREEMENT_ON)
    by = left.segmented_control("By", get_args(agreement.By), default="source", required=True, key=keys.AGREEMENT_BY)
    usual = agreement.LEVELS[what]
    levels = [usual, *(one for one in get_args(agreement.Level) if one != usual)]
    level = right.selectbox(
        "Values differ as", levels, key=f"{keys.AGREEMENT_ON}:level:{what}",
        help="nominal: the same or not; ordinal: by ranks; interval: by their difference; ratio: by their ratio",
    )  # fmt: skip
    found = resources.agreement_rows(chosen, what, by, level)
    whole = found[0].alpha
    st.metric(
        f"Krippendorff's alpha ({level}), {what}", figure(whole.value, whole.low, whole.high), help=ABOUT_ALPHA, width="content"
    )
    if whole.value is None:
        st.info(f"There is no figure for {what}: {whole.why}. A queue whose chats go to two raters or more gives one.")
        return
    note = " Ratings after a rater's own first error are left out." if what == "steps" else ""
    over = f"Over {plural(whole.units, 'thing')} that two or more of {plural(whole.raters, 'rater')} judged"
    reads = (
        "reliable"
        if whole.value >= agreement.RELIABLE
        else "enough for tentative conclusions"
        if whole.value >= agreement.TENTATIVE
        else "too little to rely on"
    )
    st.caption(f"{over}, {plural(whole.ratings, 'judgement')}: {reads}, as alpha is usually read.{note}")
    if what == "first errors":
        apart()
    if len(found) > 1:
        st.caption(f"The dashed lines: {USUALLY}.")
        st.altair_chart(charts.agreement_by(found, short, by))
        if missing := [row for row in found if row.alpha.value is None]:
            st.caption(
                "Without a figure: " + "; ".join(f"{markdown_of(short(row.group))}, {row.alpha.why}" for row in missing[:6])
            )
    pairs = resources.rater_pairs(chosen, what)
    if pairs:
        st.subheader("Two by two", help="Cohen's kappa, unweighted, over what both judged, with a 95% bootstrap interval")
        table = [
            {
                "raters": f"{short(one.first)} and {short(one.second)}",
                "in common": f"{one.kappa.units:,}",
                "alike": f"{one.same:.0%}",
                "Cohen's kappa": one.kappa.why or figure(one.kappa.value, one.kappa.low, one.kappa.high),
            }
            for one in pairs
        ]
        show_table(pd.DataFrame(table).set_index("raters"))


def apart() -> None:
    one = resources.first_errors(chosen)
    columns = st.columns(3)
    columns[0].metric("The very same step", figure(*one.exact, form=".0%"), help="Share of pairs of raters; none is a place too")
    columns[1].metric("At most one step apart", figure(*one.within_one, form=".0%"))
    columns[2].metric("Mean distance, steps", figure(*one.distance))


def raters() -> None:
    show("rater_leniency", mean_score=".2f", leniency="+.2f", low=".0%", high=".0%")
    show("rater_pace", median_s=".1f", s_per_100_chars=".1f", length_correlation=".2f", quick=".0%")
    show("straight_lining", share=".0%")
    show("position_bias", left_share=".0%", undecided=".0%")


def known() -> None:
    frame = resources.answer(chosen, "gold_over_time")
    question = titles["gold_over_time"]
    st.subheader(question.title, help=question.question)
    if frame.empty:
        st.info("No known answer has been given yet. Make some under Queues or Disputes, and give a queue a share of them.")
        return
    st.altair_chart(charts.gold_over_time(frame.assign(rater=frame["rater"].map(short))))
    each = (
        frame.assign(matched=frame["right"] * frame["asked"])
        .groupby("rater", as_index=False)[["items", "asked", "matched"]]
        .sum()
    )
    each = each.assign(rater=each["rater"].map(short), right=[f"{one:.0%}" for one in each["matched"] / each["asked"]])
    show_table(each[["rater", "items", "asked", "right"]].set_index("rater"))


def hints() -> None:
    frame = show("hint_flips", flip_rate=".0%", toward=".0%")
    if frame.empty:
        st.info(
            "No opinion of a checkpoint was shown yet. A queue shows one after each chat when you choose a checkpoint for it."
        )


st.title("Agreement")
taken = snapshots.listing(workbench)
if not taken:
    st.info("Agreement is measured on a snapshot. Take one first.")
    st.page_link("snapshots.py", label="Snapshots", icon=":material/photo_camera:")
    st.stop()
ids = {one.id: f"{one.id} · {ago(one.created_at)} · {plural(one.ratings, 'rating')}" for one in taken}
titles = {question.name: question for question in snapshots.questions()}
with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
    view = st.segmented_control(
        "View", VIEWS, default=VIEWS[0], required=True, key=keys.AGREEMENT_VIEW, label_visibility="collapsed"
    )
    chosen = next(iter(ids))
    if len(ids) > 1:
        chosen = st.selectbox("Snapshot", ids, format_func=ids.__getitem__, label_visibility="collapsed", width=380)
    else:
        st.caption(f"Snapshot {ids[chosen]}")
{"Agreement": agree, "Raters": raters, "Known answers": known, "Hints": hints}[view]()
