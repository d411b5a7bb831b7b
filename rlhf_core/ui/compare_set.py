"""A set of answers scored by several checkpoints: where they part, how they agree, who is nearer to people, in which parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pandas as pd
import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.roles import may
from rlhf_core.ground.text import shorten
from rlhf_core.services import comparing_sets, snapshots
from rlhf_core.services.comparing import Candidate
from rlhf_core.services.comparing_sets import By, Compared, Gathered, Kind, Slice, Things
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import charts, keys, resources
from rlhf_core.ui.tables import csv_of
from rlhf_core.ui.texts import markdown_of, plain, plural, show_error

PARTS = {
    "apart": "Where they part",
    "between": "Between checkpoints",
    "people": "Against people",
    "slices": "Slices",
    "best": "Best of several",
}
SHOWN = 500  # rows of the table; the file has all
QUEUE_COUNT = 40  # steps, at first
KINDS: tuple[Kind, ...] = ("steps", "answers")
SLICES: dict[By | Literal["aspect"], str] = {"source": "source", "position": "step", "length": "length", "aspect": "aspect"}
ABOUT_APART = (
    "From the lowest to the highest reward, in stars, after each checkpoint's mean is taken off: one that is stricter with all "
    "does not disagree on anything."
)


@dataclass(slots=True)
class Report:
    """What was compared, and figures that were worked out of it so far."""

    compared: Compared
    things: Things
    table: pd.DataFrame
    known: dict[Any, Any]

    def recall(self, key: Any, work_out: Callable[[], Any]) -> Any:
        """Worked out once, however often the page is drawn."""
        if key not in self.known:
            self.known[key] = work_out()
        return self.known[key]


def draw(workbench: Workbench, chosen: Sequence[Candidate]) -> None:
    gathered = gather(workbench, chosen)
    if gathered is not None:
        with st.spinner("Scoring …"):
            first = f"{plural(len(gathered.answers), 'answer')}. Models are loaded in a process of their own the first time …"
            bar, stop = st.progress(0.0, first), st.empty()
            stop.button("Cancel", icon=":material/stop:", key="compare:stop")  # pressed, the page is drawn anew without this

            def say(done: int, of: int) -> None:
                bar.progress(done / of, f"{done:,} of {of:,} answers")

            compared = comparing_sets.compare(workbench, chosen, gathered, say)
            bar.empty()
            stop.empty()
            things = compared.things() if compared.scores else None
            st.session_state[keys.COMPARE_SET] = (
                Report(compared, things, comparing_sets.frame(compared, things), {}) if things is not None else compared.errors
            )
    report: Report | dict[str, str] | None = st.session_state.get(keys.COMPARE_SET)
    if report is None:
        st.text("Which checkpoint is better, where, and why? Every answer and every step is scored by each.")
        return
    if isinstance(report, dict):
        for label, message in report.items():
            st.error(markdown_of(f"{label}: {message}"), icon=":material/error:")
        return
    show(workbench, report)


def gather(workbench: Workbench, chosen: Sequence[Candidate]) -> Gathered | None:
    """The form; answers to compare when it was sent."""
    origin = st.radio("Answers of", ["a snapshot", "a file"], horizontal=True, key="compare:origin", label_visibility="collapsed")
    if origin == "a file":
        with st.form("compare:file", border=True):
            file = st.file_uploader("A file", help="Any format that Import reads. Nothing is stored.")
            sent = st.form_submit_button("Compare", type="primary", icon=":material/compare_arrows:", disabled=not chosen)
        return comparing_sets.of_file(workbench, file, file.name) if sent and file is not None else None
    taken = snapshots.listing(workbench)
    if not taken:
        st.info("There is no snapshot yet. Take one first, or compare over a file.")
        st.page_link("snapshots.py", label="Snapshots", icon=":material/photo_camera:")
        return None
    with st.form("compare:snapshot", border=True):
        left, right = st.columns(2)
        snapshot = left.selectbox("Snapshot", taken, format_func=lambda one: f"{one.id} · {plural(one.ratings, 'rating')}")
        words = right.text_input("The question contains", "")
        sources = left.multiselect("Source", comparing_sets.sources_of(workbench, snapshot.id), placeholder="all")
        at_most = right.number_input(
            "Answers at most", 1, 100_000, comparing_sets.AT_MOST, help="Whole questions are drawn, always the same ones."
        )
        with st.container(horizontal=True):
            held_out = st.checkbox(
                "Held out", key="compare:held_out",
                help="Leave out every question that one of the chosen checkpoints learned from.",
            )  # fmt: skip
            rated = st.checkbox(
                "Judged by people only", True, key="compare:rated", help="Answers that people rated, or chose between.",
            )  # fmt: skip
        sent = st.form_submit_button("Compare", type="primary", icon=":material/compare_arrows:", disabled=not chosen)
    if not sent:
        return None
    checkpoints = [one.checkpoint for one in chosen if one.checkpoint] if held_out else []
    return comparing_sets.of_snapshot(
        workbench, snapshot.id, sources=sources, words=words, rated_only=rated, unseen_by=checkpoints, at_most=int(at_most)
    )


def show(workbench: Workbench, report: Report) -> None:
    compared, things = report.compared, report.things
    for label, message in compared.errors.items():
        st.error(markdown_of(f"{label}: {message}"), icon=":material/error:")
    rated = int(things.rated.sum())
    steps = int(things.of_kind("steps").sum())
    st.markdown(
        f"**{plural(len(compared.answers), 'answer')}** with {plural(steps, 'step')}; people rated {rated:,} of these "
        f"{len(things.order):,} things."
    )
    for label, count in compared.seen.items():
        if count is None:
            st.caption(f":orange[:material/visibility:] {markdown_of(label)} does not say which questions it learned from.")
        elif count:
            st.caption(
                f":orange[:material/visibility:] {markdown_of(label)} learned from the questions of {count:,} of these answers: "
                "against people it looks better than it is. *Held out* leaves them out."
            )
    cut = sum(any(scores[k].left_out for scores in compared.scores.values()) for k in range(len(compared.answers)))
    if cut:
        st.caption(
            f":material/content_cut: {plural(cut, 'answer')} too long for a checkpoint: tokens in the middle were left out."
        )
    part = st.segmented_control("Part", PARTS, format_func=PARTS.__getitem__, key=keys.COMPARE_PART, default="apart",
                                label_visibility="collapsed")  # fmt: skip
    {"between": between, "people": against_people, "slices": slices, "best": best}.get(
        part or "apart", lambda one: apart(workbench, one)
    )(report)


def apart(workbench: Workbench, report: Report) -> None:
    compared, table = report.compared, report.table
    labels = compared.labels
    several = len(labels) > 1
    st.caption(ABOUT_APART if several else "The further a reward is from people's mean, the further up.")
    kinds = st.segmented_control("Rows", ["steps", "answers"], key="compare:rows", default=None, label_visibility="collapsed")
    rows = table if kinds is None else table[table["step"].notna() == (kinds == "steps")]
    shown = rows.head(SHOWN)
    numbers = {name: st.column_config.NumberColumn(format="%.2f") for name in ["apart", *labels, "people"]}
    words = {name: st.column_config.TextColumn(width="medium") for name in ("query", "text")}
    styled = shown.drop(columns=["chat_id"]).style.map(charts.colour_of_stars, subset=[*labels, "people"])
    picked = st.dataframe(
        styled,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key="compare:table",
        column_config=numbers | words,
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        marked = picked["selection"]["rows"]
        if marked and marked[0] < len(shown):
            chat_id = str(shown.iloc[marked[0]]["chat_id"])
            st.button("Step by step", icon=":material/timeline:", on_click=open_one, args=(chat_id,), key="compare:open")
        st.download_button(
            "All rows as CSV", lambda: csv_of(rows), "compared.csv", "text/csv", icon=":material/download:",
            on_click="ignore",
        )  # fmt: skip
    if may(resources.session().role, "queues"):
        send(workbench, report, rows)


def open_one(chat_id: str) -> None:
    st.session_state[keys.COMPARE_VIEW] = "one"
    st.session_state.pop(keys.COMPARE_CHAT, None)
    st.session_state.pop(keys.COMPARE_RESULT, None)
    st.query_params[keys.URL_CHAT] = chat_id


def send(workbench: Workbench, report: Report, rows: pd.DataFrame) -> None:
    """A queue of what the checkpoints disagree on most."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        count = int(
            st.number_input("How many rows", 1, max(1, len(rows)), min(QUEUE_COUNT, max(1, len(rows))), key="compare:count")
        )
        name = st.text_input(
            "Queue", f"Disagreements of {' and '.join(one.split(' · ')[0] for one in report.compared.labels)}"[:80]
        )
        go = st.button("Send the uppermost to labelling", icon=":material/low_priority:", type="primary", key="compare:send")
    if not go:
        return
    try:
        queue, chats = comparing_sets.to_queue(workbench, report.compared, rows, name, count=count)
    except RlhfError as error:
        show_error(error)
        return
    st.success(f"The queue {plain(queue.name)} hands out {plural(chats, 'chat')}.")
    st.page_link("label.py", label="Label it", icon=":material/thumbs_up_down:", query_params={keys.URL_QUEUE: queue.id})


def between(report: Report) -> None:
    labels = report.compared.labels
    if len(labels) < 2:
        st.info("Choose a second checkpoint to compare with this one.")
        return
    for kind in KINDS:
        table = pd.DataFrame(comparing_sets.correlations(report.things, kind), index=labels, columns=labels)
        st.markdown(f"**Rank correlation, {kind}**")
        st.dataframe(table.style.format("{:.3f}", na_rep="—"))
    left, right = st.columns(2)
    one = left.selectbox("Across", labels, index=0, key="compare:across")
    other = right.selectbox("Upwards", labels, index=1, key="compare:upwards")
    if one == other:
        return
    a, b = labels.index(one), labels.index(other)
    st.altair_chart(charts.rewards_against(report.things, a, b, one, other))
    for kind in reversed(KINDS):
        found = report.recall(("flips", a, b, kind), partial(comparing_sets.flips, report.things, a, b, kind))
        what = "answers to one question" if kind == "answers" else "steps of one answer"
        if not found.pairs:
            continue
        st.markdown(
            f"**They order {found.flipped:,} of {found.pairs:,} pairs of {what} otherwise.** Where people told them apart, they "
            f"agree with {markdown_of(one)} in {found.one_right:,} and with {markdown_of(other)} in {found.other_right:,}."
        )
        if found.greatest:
            st.dataframe(flip_table(report, found.greatest, a, b), hide_index=True)


def flip_table(report: Report, found: Sequence[Any], a: int, b: int) -> pd.DataFrame:
    things, answers, labels = report.things, report.compared.answers, report.compared.labels

    def text(k: int) -> str:
        answer, order = answers[things.answer[k]].answer, int(things.order[k])
        return shorten(f"{order}. {answer.part(order)}" if order else answer.response, 160)

    return pd.DataFrame([
        {
            "one": text(flip.first), "other": text(flip.second),
            f"{labels[a]} prefers": "one" if things.rewards[a, flip.first] > things.rewards[a, flip.second] else "other",
            f"{labels[b]} prefers": "one" if things.rewards[b, flip.first] > things.rewards[b, flip.second] else "other",
            "people prefer": {1: "one", -1: "other", 0: "neither", None: None}[flip.people], "by (stars)": round(flip.by, 2),
        }
        for flip in found
    ])  # fmt: skip


def against_people(report: Report) -> None:
    labels, things = report.compared.labels, report.things
    for kind in KINDS:
        if not (things.of_kind(kind) & things.rated).any():
            continue
        found, leads = report.recall(("people", kind), partial(figures, things, kind))
        st.markdown(f"**{kind.capitalize()}** that people rated: {found[0].things:,}")
        st.dataframe(pd.DataFrame([
            {
                "checkpoint": label, "AUC": span(one.auc), "pairs ranked right": span(one.pairs),
                "rank correlation": span(one.spearman), "error (stars)": span(one.error),
                "calibration error": one.calibration_error,
            }
            for label, one in zip(labels, found, strict=True)
        ]), hide_index=True, column_config={"calibration error": st.column_config.NumberColumn(format="%.2f")})  # fmt: skip
        for label, lead in zip(labels[1:], leads, strict=True):
            st.caption(markdown_of(comparing_sets.lead_in_words(label, labels[0], lead)))
        if found[0].reliability:
            st.altair_chart(charts.reliabilities(dict(zip(labels, (one.reliability for one in found), strict=True))))
    errors = comparing_sets.first_errors(report.compared)
    if errors:
        st.markdown("**First error** of answers whose every step was rated")
        st.dataframe(pd.DataFrame([
            {"checkpoint": label, "answers": one.answers, "F1": one.f1, "same step, or none": one.same}
            for label, one in errors.items()
        ]), hide_index=True, column_config={
            name: st.column_config.NumberColumn(format="%.3f") for name in ("F1", "same step, or none")
        })  # fmt: skip
    if not things.rated.any():
        st.info("People rated nothing of this. Send what the checkpoints disagree on to labelling.")


def figures(things: Things, kind: Kind) -> tuple[list[Any], list[Any]]:
    """Each checkpoint's, and by how much those after the first are ahead of it."""
    with st.spinner("Drawing intervals …"):
        count = len(things.rewards)
        return (
            [comparing_sets.measured(things, k, kind) for k in range(count)],
            [comparing_sets.ahead(things, k, 0, kind) for k in range(1, count)],
        )


def span(found: Any) -> str | None:
    """A value and its interval."""
    if found.value is None:
        return None
    return f"{found.value:.3f}" + ("" if found.low is None else f" ({found.low:.3f} to {found.high:.3f})")


def slices(report: Report) -> None:
    labels, things = report.compared.labels, report.things
    by = st.segmented_control("By", SLICES, format_func=SLICES.__getitem__, default="source", key="compare:by") or "source"
    parts: dict[str, list[Slice]] = (
        {"both": comparing_sets.aspect_slices(report.compared)} if by == "aspect"
        else {kind: comparing_sets.slices(things, kind, by) for kind in KINDS}
    )  # fmt: skip
    if not any(parts.values()):
        st.info("No part has ten things that people rated.")
    for kind, found in parts.items():
        if not found:
            continue
        if kind != "both":
            st.markdown(f"**{kind.capitalize()}**")
        rows = []
        for one in found:
            row: dict[str, Any] = {SLICES[by]: one.name, "rated": one.things}
            for k, label in enumerate(labels):
                name = label.split(" · ")[0]
                row |= {f"AUC {name}": one.auc[k], f"correlation {name}": one.spearman[k], f"error {name}": one.error[k]}
            rows.append(row)
        frame = pd.DataFrame(rows)
        numbers = {name: st.column_config.NumberColumn(format="%.2f") for name in frame.columns[2:]}
        st.dataframe(frame, hide_index=True, column_config=numbers)


def best(report: Report) -> None:
    found = report.recall("best", partial(comparing_sets.best_of_n, report.compared))
    if not found:
        st.info("No question here has several answers that people told apart, by comparing pairs of them or by scores.")
        return
    first = next(iter(found.values()))
    st.markdown(
        f"Of **{plural(first.queries, 'question')}** with several answers, how often that of the highest reward is one that "
        f"people prefer to the others. A draw would be right in {first.chance:.0%}."
    )
    st.dataframe(pd.DataFrame([
        {"checkpoint": label, "picks people's": span(one.right)} for label, one in found.items()
    ]), hide_index=True)  # fmt: skip
