"""Launch reward-model runs on this machine and watch them."""

import shlex

import pandas as pd
import streamlit as st

from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.errors import NotFound, RlhfError, SignInRequired
from rlhf_core.ground.metrics import REWARD_METRICS
from rlhf_core.ground.runs import Run
from rlhf_core.ground.text import shorten
from rlhf_core.services import snapshots, training
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import charts, forms, identity, keys, resources, rows
from rlhf_core.ui.texts import STATUS_COLOURS, ago, duration, markdown_of, plural, show_error

FIRST = ("method", "epochs", "batch_size", "learning_rate")
ELSEWHERE = ("reward_base_model", "resume_from")
workbench, session = resources.workbench(), resources.session()


def launch_form() -> None:
    if not taken:
        st.info("Training reads a snapshot. Take one first.")
        st.page_link("snapshots.py", label="Snapshots", icon=":material/photo_camera:")
        return
    ids = {one.id: f"{one.id} · {plural(one.ratings, 'rating')} · {ago(one.created_at)}" for one in taken}
    wanted = st.query_params.get(keys.URL_SNAPSHOT)
    names, note = training.base_models(workbench)
    all_options = st.toggle("All options")
    with st.form("train:form", border=True):
        left, right = st.columns(2)
        snapshot_id = left.selectbox(
            "Snapshot", ids, format_func=ids.__getitem__, index=[*ids].index(wanted) if wanted in ids else 0
        )
        base = right.selectbox("Base model", names, accept_new_options=True, help=f"{note} Or type a hub name or a folder.")
        right.caption(note)
        values: dict[str, object] = {"reward_base_model": base}
        for column, name in zip(st.columns(len(FIRST)), FIRST, strict=True):
            with column:
                values[name] = forms.option(name, RewardConfig.model_fields[name])
        if all_options:
            rest = [name for name in RewardConfig.model_fields if name not in (*FIRST, *ELSEWHERE)]
            for name, column in zip(rest, [column for _ in rest[::3] for column in st.columns(3)], strict=False):
                with column:
                    values[name] = forms.option(name, RewardConfig.model_fields[name])
        if st.form_submit_button("Start training", type="primary", icon=":material/play_arrow:"):
            try:
                run = training.add_reward_run(workbench, snapshot_id, RewardConfig.parse(values), requested_by=session.user_id)
            except RlhfError as error:
                show_error(error)
            else:
                choose(run.id)
                st.rerun()


def show_form() -> None:
    st.session_state[keys.TRAIN_FORM] = True
    st.query_params.pop(keys.URL_RUN, None)


def choose(run_id: str) -> None:
    st.session_state.pop(keys.TRAIN_FORM, None)
    st.query_params.from_dict({keys.URL_RUN: run_id})


def describe(run: Run) -> str:
    outcome = markdown_of(shorten(run.message or run.phase or "", 140))
    return f":{STATUS_COLOURS[run.status]}[{run.status}] · {ago(run.created_at)} · {outcome}"


def status_line(workbench: Workbench, run: Run, lines: list[dict[str, object]]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(run.status, color=STATUS_COLOURS[run.status])
        st.markdown(f"**{run.id}** on snapshot `{run.snapshot_id}`", width="content")
        if run.unfinished:
            stopping = run.cancel_requested is not None
            if st.button(
                "Stopping …" if stopping else "Cancel",
                disabled=stopping,
                icon=":material/stop_circle:",
                key=f"train:cancel:{run.id}",
            ):
                training.cancel(workbench, run.id)
                st.rerun()
        elif training.can_resume(workbench, run) and st.button(
            "Go on from here", icon=":material/resume:", key=f"train:resume:{run.id}",
            help="A new run with the same options, from the last saved state, to the numbers that this one would have come to.",
        ):  # fmt: skip
            choose(training.resume(workbench, run.id, requested_by=session.user_id).id)
            st.rerun()
    elapsed = duration(training.seconds_running(run))
    if run.status == "running":
        left = training.seconds_left(run, lines)
        text = f"{run.phase} · {elapsed}"
        if run.phase == "training" and left is not None:
            text += f" · about {duration(left)} of training left"
        st.progress(min(1.0, run.step / run.total_steps) if run.total_steps else 0.0, text)
    elif run.status == "queued":
        st.progress(0.0, "Waiting for its turn; one run at a time on this machine.")
    elif run.message:
        show = st.success if run.status == "succeeded" else st.warning if run.status == "cancelled" else st.error
        show(run.message.replace("$", "\\$"))
        st.caption(f"{run.step} of {run.total_steps or '?'} steps in {elapsed}")
    if run.checkpoint_id:
        with st.container(horizontal=True):
            st.page_link(
                "models.py", label="Its report card", icon=":material/verified:", query_params={keys.URL_MODEL: run.checkpoint_id}
            )
            st.page_link("compare.py", label=f"Compare {run.checkpoint_id}", icon=":material/compare_arrows:")


def measures(lines: list[dict[str, object]]) -> None:
    held_out = [
        {"measured on": "test" if line["split"] == "test" else f"validation, epoch {line['epoch']}"}
        | {
            name: line.get(name)
            for name in ("step_auc", "length_auc", "answer_auc", "accuracy", "rmse", "rmse_of_mean", "spearman", "examples")
        }
        for line in lines
        if line.get("split") in ("validation", "test")
    ]
    if held_out:
        columns = {
            metric.name: st.column_config.NumberColumn(
                metric.title, format="%.3f", help=f"{metric.definition} Unit: {metric.unit}. Healthy: {metric.healthy}."
            )
            for metric in REWARD_METRICS.values()
        }
        st.dataframe(pd.DataFrame(held_out), hide_index=True, column_config=columns)


def watch(run_id: str) -> None:
    run = training.run(workbench, run_id)

    @st.fragment(run_every=1.0 if run.unfinished else None)
    def live() -> None:
        try:
            draw()
        except SignInRequired as error:  # the frame does not see what a fragment meets
            identity.ended(error)
        except RlhfError as error:
            show_error(error)

    def draw() -> None:
        workbench = resources.workbench()  # asked anew: a role may have been taken away, or its person signed out
        now = training.run(workbench, run_id)
        lines = training.metrics(workbench, run_id)
        status_line(workbench, now, lines)
        curve, log = st.columns([3, 2])
        with curve:
            st.markdown("**Loss**", help=REWARD_METRICS["loss"].definition + " Healthy: " + REWARD_METRICS["loss"].healthy)
            if any(line.get("split") == "train" for line in lines):
                st.altair_chart(charts.loss_curve(lines))
            else:
                st.caption("The curve begins with the first training step." if now.unfinished else "No training step was done.")
            measures(lines)
        with log:
            st.markdown("**Log**")
            with st.container(height=380):
                st.text(training.log_tail(workbench, run_id) or "Nothing yet.")
        if now.status != run.status:
            st.rerun()  # once more in full: the runs' table, and no timer when it has ended

    with st.container(border=True):
        live()
        with st.expander("Command and options"):
            st.code(shlex.join(training.command_of(workbench, run)), language="bash", wrap_lines=True)
            st.json(run.config)


st.title("Train")
runs, taken = training.runs(workbench), snapshots.listing(workbench)
chosen = st.query_params.get(keys.URL_RUN) or next((run.id for run in runs if run.unfinished), None)
if chosen:
    try:
        watch(chosen)
    except NotFound as error:
        show_error(error)
if not taken or st.session_state.get(keys.TRAIN_FORM) or st.query_params.get(keys.URL_SNAPSHOT):
    st.subheader("New reward model")
    launch_form()
else:
    st.button("New reward model", type="primary", icon=":material/add:", on_click=show_form)

if runs:
    st.subheader("Runs")
    rows.pick("train", [rows.Row(run.id, describe(run)) for run in runs], chosen, choose)
elif not chosen:
    st.text("A run learns from a snapshot's ratings on this machine, in a process of its own. No run yet.")
