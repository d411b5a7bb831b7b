"""Reward models and their report cards: what is known of each, and whether its rewards can be acted on."""

import pandas as pd
import streamlit as st

from rlhf_core.ground.cards import (
    Line,
    OfKind,
    OfPairs,
    ReportCard,
    State,
    lines_of,
    lines_of_aggregates,
    lines_of_aspects,
)
from rlhf_core.ground.errors import RlhfError
from rlhf_core.services import modelling
from rlhf_core.ui import charts, keys, resources, rows
from rlhf_core.ui.tables import show_table
from rlhf_core.ui.texts import ago, markdown_of, plain, plural, show_error

LOOKS: dict[State, tuple[str, str]] = {
    "trusted": (":material/verified:", "green"), "careful": (":material/visibility:", "orange"),
    "refused": (":material/block:", "red"),
}  # fmt: skip
workbench = resources.workbench()


def choose(checkpoint_id: str) -> None:
    st.query_params[keys.URL_MODEL] = checkpoint_id


def badge(state: State) -> str:
    return f":{LOOKS[state][1]}-badge[{LOOKS[state][0]} {state}]"


def described(one: modelling.Model) -> str:
    what = badge(one.card.state) if one.card else ":gray-badge[no card]"
    checkpoint = one.checkpoint
    return f"{what} {ago(checkpoint.created_at)} · from {markdown_of(checkpoint.parent)} · snapshot {checkpoint.snapshot_id}"


def table(lines: list[Line]) -> None:
    show_table(pd.DataFrame(lines, columns=["measure", "value (95% interval)", "beside it"]).set_index("measure"))


def reasons(part: OfKind | OfPairs) -> None:
    st.markdown(badge(part.state) + (" " + markdown_of(" ".join(part.reasons)) if part.reasons else ""))


def of_kind(part: OfKind, name: str) -> None:
    reasons(part)
    st.caption(
        f"{plural(part.examples, 'held-out example')}, queries: {part.queries:,}; {part.liked} liked, {part.disliked} disliked"
    )
    left, right = st.columns([3, 2])
    with left:
        st.altair_chart(charts.against_floors(part.auc, part.floors))
    with right:
        if part.reliability:
            st.altair_chart(charts.reliability(part.reliability))
    table(lines_of(part))
    if part.groups:
        with st.expander("By source, model, position and rater"):
            frame = pd.DataFrame([one.model_dump() for one in part.groups])
            numbers = {column: st.column_config.NumberColumn(format="%.2f") for column in ("auc", "spearman", "error")}
            st.dataframe(frame, hide_index=True, column_config=numbers, key=f"models:groups:{name}")


def show(one: modelling.Model) -> None:
    card: ReportCard | None = one.card
    st.subheader(one.checkpoint.id)
    st.caption(described(one))
    if card is None:
        st.info(markdown_of(one.problem or ""), icon=":material/help:")
        return
    with st.container(border=True):
        st.markdown(f"{LOOKS[card.state][0]} :{LOOKS[card.state][1]}[**{card.state.capitalize()}.**] {markdown_of(card.verdict)}")
        for todo in card.todo:
            st.markdown(f":material/arrow_forward: {markdown_of(todo)}")
    st.caption(
        f"Learned from {plural(card.train_examples, 'rated text')} and {plural(card.train_pairs, 'pair')}"
        + (f"; {plural(card.cut, 'text')} too long, the middle cut out" if card.cut else "")
        + (f"; measured on every query by {card.folds} readouts that had not seen it" if card.folds else "")
    )
    for name, part in (("Steps", card.steps), ("Whole answers", card.answers)):
        if part is not None:
            st.markdown(f"#### {plain(name)}")
            of_kind(part, name)
    if card.pairs is not None:
        st.markdown("#### Preferred pairs")
        reasons(card.pairs)
        table(lines_of(card.pairs))
    if card.aspects:
        st.markdown("#### Aspects", help="Each has an output of its own; AUC of liked against disliked.")
        table(lines_of_aspects(card.aspects))
    if card.curve is not None:
        st.markdown("#### What more would bring", help="Readouts fitted on growing parts of the data, each on other queries.")
        left, right = st.columns([3, 2])
        left.altair_chart(charts.learning_curve(card.curve))
        with right:
            for line in card.curve.in_words():
                st.markdown(f":material/trending_up: {markdown_of(line)}")
    if card.step_readings is not None or card.aggregates:
        with st.expander("How steps are read, and what they say of the answer"):
            if card.step_readings is not None:
                table(lines_of(card.step_readings))
            if card.aggregates:
                table(lines_of_aggregates(card.aggregates))
    if card.first_error is not None:
        st.markdown("#### First error", help="F1 as ProcessBench defines it: of chats with an error and of chats without.")
        table(lines_of(card.first_error))
    if card.probes:
        st.markdown("#### Probes", help="Texts that deserve no reward, put to real queries.")
        show_table(pd.DataFrame([
            {"text": probe.name, "mean reward": f"{probe.reward:.2f}", "beats the liked answer": f"{probe.beats:.0%}",
             "": "passed" if probe.passed else "failed"}
            for probe in card.probes
        ]).set_index("text"))  # fmt: skip
    with st.container(horizontal=True):
        st.download_button(
            "Card as JSON", card.model_dump_json(indent=2), f"{one.checkpoint.id}.card.json", "application/json",
            icon=":material/download:",
        )  # fmt: skip
        st.page_link("compare.py", label="Compare", icon=":material/compare_arrows:")


st.title("Models")
found = modelling.models(workbench)
if not found:
    st.info("No reward model has been trained here yet. Train one: its report card says whether its rewards can be trusted.")
    st.page_link("train.py", label="Train", icon=":material/model_training:")
    st.stop()
chosen = st.query_params.get(keys.URL_MODEL) or found[0].checkpoint.id
rows.pick("models", [rows.Row(one.checkpoint.id, described(one)) for one in found], chosen, choose)
try:
    show(modelling.model(workbench, chosen))
except RlhfError as error:
    show_error(error)
