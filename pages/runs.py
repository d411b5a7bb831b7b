"""Every run of the workspace: found, compared side by side, traced back to ratings, and cleaned up after."""

from collections.abc import Iterable

import pandas as pd
import pyarrow as pa
import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.metrics import METRICS
from rlhf_core.ground.records import parse_utc
from rlhf_core.ground.runs import RunLine
from rlhf_core.services import lineage, run_compare, storage, sweeping, training
from rlhf_core.ui import charts, depot_parts, keys, resources, run_curves
from rlhf_core.ui.texts import ago, markdown_of, plural, show_error

NEWEST = 50  # in the table; older ones are found by their words, or shown when asked for
VIEWS = {"runs": "Runs", "sweeps": "Sweeps", "lineage": "Lineage", "storage": "Storage"}
workbench = resources.workbench()


def table_of(lines: list[RunLine]) -> pa.Table:
    def column(name: str) -> list[object]:
        return [getattr(one, name) for one in lines]

    return pa.table({
        "run": column("id"), "kind": column("kind"), "status": column("status"),
        "begun": [parse_utc(one.created_at) for one in lines],
        "minutes": pa.array(column("minutes"), pa.float64()),
        "steps": [f"{one.step}/{one.total_steps}" if one.total_steps else "" for one in lines],
        "from": pa.array(column("base"), pa.string()), "checkpoint": pa.array(column("checkpoint_id"), pa.string()),
        "snapshot": pa.array(column("snapshot_id"), pa.string()), "outcome": column("outcome"),
    })  # fmt: skip


TELLING = ("step_auc", "reward", "loss")  # measures by which runs are compared at first


def titles_of(measures: Iterable[str]) -> dict[str, str]:
    return {name: METRICS[name].title if name in METRICS else name for name in measures}


def show_more(shown: int) -> None:
    st.session_state[keys.RUNS_SHOWN] = shown * 5


def show_runs() -> None:
    tally = training.tally(workbench)
    if not tally:
        st.info("No run yet. Train a reward model, teach a policy, or improve one.")
        st.page_link("train.py", label="Train", icon=":material/model_training:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input("Find", key="runs:find", placeholder="an id, a model, an option's value, words of the outcome",
                             label_visibility="collapsed")  # fmt: skip
        with st.popover("Filter", icon=":material/filter_list:"):
            kinds = st.multiselect("Kind", sorted({kind for kind, _ in tally}), key="runs:kinds", placeholder="all")
            statuses = st.multiselect("Status", sorted({status for _, status in tally}), key="runs:statuses", placeholder="all")
    shown = st.session_state.get(keys.RUNS_SHOWN, NEWEST)
    found = training.find(workbench, kinds, statuses, text, shown + 1)
    more, found = len(found) > shown, found[:shown]
    chosen = st.dataframe(
        table_of(found), hide_index=True, on_select="rerun", selection_mode="multi-row", key="runs:table",
        column_config={
            "begun": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm"),
            "minutes": st.column_config.NumberColumn(format="%.1f"),
        },
    )  # fmt: skip
    if more:
        st.button(f"Older than these {shown}", icon=":material/expand_more:", on_click=show_more, args=(shown,))
    if not found:
        st.caption("No run is like that.")
    marked = [found[k].id for k in chosen["selection"]["rows"] if k < len(found)]
    if len(marked) == 1:
        with st.container(horizontal=True):
            st.page_link("train.py", label="Curves, log and answers", icon=":material/monitoring:",
                         query_params={keys.URL_RUN: marked[0]})  # fmt: skip
            st.button("Where it comes from", icon=":material/account_tree:", on_click=trace, args=(marked[0],))
    elif marked:
        compare(marked)
    elif found:
        count = plural(len(found), "run") if not more else f"{sum(tally.values()):,} runs, {shown} of them here"
        st.caption(f"{count}. Mark one to open it, two or more to compare them.")


def compare(run_ids: list[str]) -> None:
    both = run_compare.compare_runs(workbench, run_ids)
    if both.curves:
        titles = titles_of(both.curves)
        first = next((k for k, one in enumerate(titles) if one in TELLING), 0)
        name = st.selectbox("Measure", [*titles], index=first, format_func=titles.__getitem__, key="runs:measure")
        if name in METRICS:
            st.caption(run_curves.help_of(METRICS[name]))
        unit = METRICS[name].unit if name in METRICS else name
        st.altair_chart(charts.overlaid(both.curves[name], unit))
    left, right = st.columns(2)
    with left:
        st.markdown("**Options that differ**")
        if both.options:
            words = {name: {run: str(value) for run, value in of.items()} for name, of in both.options.items()}
            st.dataframe(pd.DataFrame(words).T.reindex(columns=run_ids))
        else:
            st.caption("None: they ran with the same options on the same snapshot.")
    with right:
        st.markdown("**What they came to**", help="The last line that each wrote of held-out data.")
        if both.results:
            columns = {run: st.column_config.NumberColumn(format="%.3f") for run in run_ids}
            st.dataframe(pd.DataFrame(both.results).T.reindex(columns=run_ids), column_config=columns)
        else:
            st.caption("Nothing was measured on held-out data yet.")


def trace(focus: str) -> None:
    st.session_state[keys.RUNS_VIEW] = "lineage"
    st.session_state[keys.RUNS_FOCUS] = focus


def show_lineage() -> None:
    whole = lineage.lineage(workbench)
    names = [*whole.nodes]
    if not names:
        st.info("Nothing to trace yet: there is no snapshot, no run and no checkpoint.")
        return
    if st.session_state.get(keys.RUNS_FOCUS) not in names:
        st.session_state[keys.RUNS_FOCUS] = next((name for name in names if whole.nodes[name].kind == "checkpoint"), names[0])
    focus = st.selectbox(
        "What", names, key=keys.RUNS_FOCUS, format_func=lambda name: f"{name} · {whole.nodes[name].kind}",
        help="A snapshot, run, checkpoint, base model or queue: everything that went into it and all that came of it.",
    )  # fmt: skip
    part = whole.of(focus)
    ratings, made = whole.into(focus, "snapshot"), whole.out_of(focus, "checkpoint")
    kind = whole.nodes[focus].kind
    words = [f"Learned from {plural(len(ratings), 'snapshot')}: {', '.join(ratings)}."] if ratings else []
    words += [f"{plural(len(made), 'checkpoint')} came of it."] if made and kind != "checkpoint" else []
    st.markdown(" ".join(words) or f"Nothing is known to have gone into this {kind}.")
    st.graphviz_chart(lineage.as_dot(part, focus), width="stretch")
    with st.container(horizontal=True):
        for snapshot in ratings[:3]:
            st.page_link("audit.py", label=f"Audit of {snapshot}", icon=":material/fact_check:",
                         query_params={keys.URL_SNAPSHOT: snapshot})  # fmt: skip
        if kind == "run":
            st.page_link("train.py", label="Curves and log", icon=":material/monitoring:", query_params={keys.URL_RUN: focus})


def show_sweeps() -> None:
    known = sweeping.sweeps(workbench)
    if not known:
        st.info("No sweep yet. On Train, open a form and turn Sweep on: several runs that differ in some options.")
        st.page_link("train.py", label="Train", icon=":material/model_training:")
        return
    titles = {
        one.name: f"{one.name} · {plural(one.runs, 'run')} of {one.kind}"
        + (f", {one.unfinished} not over" if one.unfinished else "")
        for one in known
    }  # fmt: skip
    if st.session_state.get(keys.RUNS_SWEEP) not in titles:
        st.session_state[keys.RUNS_SWEEP] = known[0].name
    name = st.selectbox("Sweep", titles, format_func=titles.__getitem__, key=keys.RUNS_SWEEP, label_visibility="collapsed")
    going = next(one for one in known if one.name == name).unfinished > 0

    @st.fragment(run_every=5.0 if going else None)
    def live() -> None:
        try:
            sweep_table(name)
        except RlhfError as error:
            show_error(error)

    live()
    if going and st.button("Cancel what is not over", icon=":material/stop_circle:"):
        sweeping.cancel(resources.workbench(), name)
        st.rerun()


def sweep_table(name: str) -> None:
    found = sweeping.results(resources.workbench(), name)
    titles = titles_of(found.measures)
    by = ""
    if found.measures:
        better = {one: "lower" if one in sweeping.LOWER_IS_BETTER else "higher" for one in found.measures}
        by = st.segmented_control(
            "Best by", found.measures, format_func=lambda one: f"{titles[one]} ({better[one]})", default=found.measures[0],
            required=True, key=f"runs:sweep:by:{name}",
            help="On validation data, which no run learned from. The test beside it chooses nothing: what is chosen by it would "
            "look better than it is.",
        )  # fmt: skip
    ranked = found.ranked(by)
    table: dict[str, list[object]] = {"run": [row.run.id for row in ranked], "status": [row.run.status for row in ranked]}
    table |= {option: [str(row.options[option]) for row in ranked] for option in found.varied}
    for one in sorted(found.measures, key=lambda measure: measure != by):
        table[f"{titles[one]}, validation"] = [row.validation.get(one) for row in ranked]
        if one == by:
            table[f"{titles[one]}, test"] = [row.test.get(one) for row in ranked]
    numbers = {title: st.column_config.NumberColumn(format="%.4f") for title in table if title.endswith(("validation", "test"))}
    st.dataframe(pd.DataFrame(table), hide_index=True, column_config=numbers)
    best = next((row for row in ranked if row.run.status == "succeeded" and by in row.validation), None)
    if best is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"The best so far: `{best.run.id}` with {markdown_of(sweeping.in_words(best.options))}.", width="content")
            st.page_link("train.py", label="Open it", icon=":material/monitoring:", query_params={keys.URL_RUN: best.run.id})
    elif not found.measures:
        st.caption("Nothing was measured on validation data yet.")
    if by and found.varied:
        option = found.varied[0] if len(found.varied) == 1 else st.selectbox("Against", found.varied, key=f"runs:sweep:x:{name}")
        points = [(row.run.id, row.options[option], row.validation[by]) for row in ranked if by in row.validation]
        if len(points) > 1:
            st.altair_chart(charts.by_option(points, option, titles[by]))


def show_storage() -> None:
    show_disk()
    depot_parts.copies(workbench, "checkpoints")


def show_disk() -> None:
    stored = storage.stored(workbench)
    if not stored:
        st.info("No checkpoint and no saved state yet.")
        return
    spare = [one for one in stored if not one.kept_for]
    total, free = sum(one.size_mb for one in stored), sum(one.size_mb for one in spare)
    st.markdown(f"{total:,.0f} MiB in {plural(len(stored), 'item')}; nothing uses {free:,.0f} MiB of them.")
    frame = pd.DataFrame(
        {"what": one.id, "kind": one.kind, "MiB": one.size_mb, "made": ago(one.created_at), "run": one.run_id,
         "kept because": "; ".join(one.kept_for) or None} for one in stored
    )  # fmt: skip
    chosen = st.dataframe(
        frame, hide_index=True, on_select="rerun", selection_mode="multi-row", key="runs:stored",
        column_config={"MiB": st.column_config.NumberColumn(format="%.1f")},
    )  # fmt: skip
    marked = [stored[k] for k in chosen["selection"]["rows"] if k < len(stored)]
    going = marked or spare
    bound = [one for one in going if one.serves]
    for one in bound:
        st.warning(f"{one.id} stays: {markdown_of('; '.join(one.serves))}.", icon=":material/lock:")
    going = [one for one in going if not one.serves]
    if not going:
        return
    what = "What is marked" if marked else "What nothing uses (neither best nor last of its run, nothing begins from it)"
    st.markdown(f"{what}: {plural(len(going), 'item')}, {sum(one.size_mb for one in going):,.1f} MiB.")
    sure = st.checkbox("I want them gone; a note of each stays", key=f"runs:sure:{len(going)}:{going[0].id}")
    if st.button("Remove them", icon=":material/delete:", disabled=not sure, key="runs:remove"):
        storage.remove(workbench, [one.id for one in going])
        st.rerun()


st.title("Runs")
view = st.segmented_control(
    "View", VIEWS, format_func=VIEWS.__getitem__, default=None if keys.RUNS_VIEW in st.session_state else "runs",
    key=keys.RUNS_VIEW, label_visibility="collapsed",
)  # fmt: skip
try:
    {"lineage": show_lineage, "storage": show_storage, "sweeps": show_sweeps}.get(view or "runs", show_runs)()
except RlhfError as error:
    show_error(error)
