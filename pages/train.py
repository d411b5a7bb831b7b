"""Launch runs on this machine and watch them: reward models, and policies that learn from them."""

import shlex
from typing import Any

import streamlit as st

from rlhf_core.ground.configs import CONFIGS
from rlhf_core.ground.engines import Resources
from rlhf_core.ground.errors import InvalidInput, NotFound, RlhfError, SignInRequired
from rlhf_core.ground.runs import LOCAL, Run, RunKind
from rlhf_core.ground.text import shorten
from rlhf_core.services import generating, preflight, snapshots, sweeping, training
from rlhf_core.services.training import Where
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import identity, keys, resources, rows, run_curves, run_forms
from rlhf_core.ui.beginning import without_a_snapshot
from rlhf_core.ui.texts import STATUS_COLOURS, ago, duration, markdown_of, plain, plural, show_error

WHAT: dict[RunKind, str] = {
    "reward": "reward model",
    "sft": "policy taught",
    "ppo": "policy improved",
    "generate": "answers written",
}

REFRESH_S = 1.5  # each takes a fifth of a processor here, browser and all; a new measure is to be seen within 2 s
NEWEST = 12  # in the list here; the page Runs has all
PAUSE_HELP = "It saves where it stands and gives the machine back. Go on whenever you like, to the same numbers."
RESUME_HELP = "A new run with the same options, from the last saved state, to the numbers that this one would have come to."

workbench, session = resources.workbench(), resources.session()


def launch_form(kind: RunKind) -> None:
    if not taken and kind != "ppo":
        without_a_snapshot(workbench, "Training reads a snapshot")
        return
    sent = run_forms.run_form(workbench, kind, taken)
    waiting: dict[str, Any] | None = st.session_state.get(keys.TRAIN_CHECKED)
    anyway = False
    if sent is None and waiting is not None and waiting["kind"] == kind:
        sent, found = waiting["sent"], waiting["found"]
        run_forms.draw_preflight(found)
        anyway = sent.start and st.button("Start all the same", icon=":material/play_arrow:", key="train:anyway")
        if not anyway:
            return
    elif sent is None:
        return
    try:
        if not (sent.values.get("base_model") or sent.values.get("reward_base_model")):
            raise InvalidInput("Choose a policy to begin with, or type a hub name or a folder. Teach a policy makes a tiny one.")
        where = Where(sent.engine, Resources.parse(sent.needs))
        varied: list[dict[str, Any]] = []
        if sent.varied.strip():
            varied = sweeping.points(
                sweeping.parse_space(kind, sent.varied), "grid" if sent.draws is None else "random", sent.draws
            )  # fmt: skip
        config = CONFIGS[kind].parse(sent.values | (varied[0] if varied else {}))
        found = preflight.check(workbench, kind, sent.snapshot_id, config)
        if not anyway and (not sent.start or found.stops):
            st.session_state[keys.TRAIN_CHECKED] = {"kind": kind, "sent": sent, "found": found}
            st.rerun()
        if varied:
            name, _ = sweeping.begin(workbench, kind, sent.snapshot_id, sent.values, varied, where=where)
            show_sweep(name)
        run = training.add_run(workbench, kind, sent.snapshot_id, config, where=where)
    except RlhfError as error:
        st.session_state.pop(keys.TRAIN_CHECKED, None)
        show_error(error)
    else:
        choose(run.id)
        st.rerun()


def show_sweep(name: str) -> None:
    for key in (keys.TRAIN_FORM, keys.TRAIN_CHECKED):
        st.session_state.pop(key, None)
    st.session_state[keys.RUNS_VIEW], st.session_state[keys.RUNS_SWEEP] = "sweeps", name
    st.switch_page("runs.py")


def show_form(kind: RunKind) -> None:
    st.session_state[keys.TRAIN_FORM] = kind
    st.session_state.pop(keys.TRAIN_CHECKED, None)
    st.query_params.pop(keys.URL_RUN, None)


def change(run: Run) -> None:
    try:
        run_forms.fill(run, taken)
    except InvalidInput as error:  # of a version that had other options
        st.toast(markdown_of(str(error)))
    show_form(run.kind)


def choose(run_id: str) -> None:
    for key in (keys.TRAIN_FORM, keys.TRAIN_CHECKED):
        st.session_state.pop(key, None)
    st.query_params.from_dict({keys.URL_RUN: run_id})


def describe(run: Run) -> str:
    outcome = markdown_of(shorten(run.message or run.phase or "", 80))
    parts = (f":{STATUS_COLOURS[run.status]}[{run.status}]", WHAT[run.kind], ago(run.created_at), outcome)
    return " · ".join(filter(None, parts))


def buttons(workbench: Workbench, run: Run) -> None:
    """What can be done with a run as it stands; each button is one service call."""

    def button(name: str, label: str, icon: str, **more: Any) -> bool:
        return st.button(label, icon=f":material/{icon}:", key=f"train:{name}:{run.id}", **more)

    stopping = run.cancel_requested is not None
    if run.unfinished and stopping:
        button("stopping", "Pausing …" if run.pausing else "Stopping …", "hourglass_empty", disabled=True)
        if run.pausing and button("cancel", "Cancel", "stop_circle"):
            training.cancel(workbench, run.id)
            st.rerun()
        return
    if run.status == "queued" and training.waiting_for(workbench, run) and button("first", "Start before others", "first_page"):
        training.move_first(workbench, run.id)
        st.rerun()
    if training.can_pause(run) and button("pause", "Pause", "pause_circle", help=PAUSE_HELP):
        training.pause(workbench, run.id)
        st.rerun()
    if run.status == "paused" and button("go_on", "Go on", "play_circle", type="primary"):
        training.go_on(workbench, run.id)
        st.rerun()
    if (run.unfinished or run.status == "paused") and button("cancel", "Cancel", "stop_circle"):
        training.cancel(workbench, run.id)
        st.rerun()
    if run.unfinished or run.status == "paused":
        return
    if training.can_resume(workbench, run) and button("resume", "Go on from here", "resume", help=RESUME_HELP):
        choose(training.resume(workbench, run.id).id)
        st.rerun()
    if button("again", "Run again", "replay", help="A new run with the same options on the same snapshot."):
        choose(training.again(workbench, run.id).id)
        st.rerun()
    button("change", "Change its options", "edit", on_click=change, args=(run,), help="The form, as this run had it.")
    if run.remedy:
        options = " and ".join(f"{name} {value}" for name, value in run.remedy.items())
        if button("remedy", "Try again with less memory", "healing", type="primary", help=f"A new run with {options}."):
            choose(training.again(workbench, run.id, **run.remedy).id)
            st.rerun()


def answers_into_store(workbench: Workbench, run: Run) -> None:
    """Put what a run wrote into the store; one that came to its end on the embedded store did so itself."""
    if not st.button("Put its answers into the store", key=f"train:store:{run.id}", icon=":material/playlist_add:"):
        return
    counts = generating.store(workbench, run)
    st.toast(f"{plural(counts.chats, 'chat')} added; {plural(counts.known_chats, 'chat')} there already.")


def status_line(workbench: Workbench, run: Run, lines: list[dict[str, object]]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(run.status, color=STATUS_COLOURS[run.status])
        where = f"on snapshot `{run.snapshot_id}`" if run.snapshot_id else f"on {run_forms.NO_SNAPSHOT}"
        if run.engine != LOCAL:
            where += f", by {run.engine}"
        st.markdown(f"**{run.id}** · {WHAT[run.kind]} {where}", width="content")
        buttons(workbench, run)
    elapsed = duration(training.seconds_running(run))
    if run.status == "running":
        left = training.seconds_left(run, lines)
        text = f"{run.phase or 'starting'} · {elapsed}"
        if run.phase in ("training", "learning") and left is not None:
            text += f" · about {duration(left)} of training left"
        st.progress(min(1.0, run.step / run.total_steps) if run.total_steps else 0.0, text)
    elif run.status == "queued":
        before = training.waiting_for(workbench, run)
        if run.engine != LOCAL:
            st.progress(0.0, markdown_of(run.phase or f"Waiting for a supervisor to hand it to {run.engine}."))
        else:
            st.progress(0.0, f"Waiting for {before[0]}" + (f" and {plural(len(before) - 1, 'other')}." if before[1:] else ".")
                        if before else "It starts in a moment.")  # fmt: skip
    elif run.status == "paused":
        st.info(f"Paused at step {run.step} of {run.total_steps or '?'}; what it holds of the machine is free.")
    elif run.message:
        show = st.success if run.status == "succeeded" else st.warning if run.status == "cancelled" else st.error
        show(markdown_of(run.message))
        st.caption(f"{run.step} of {run.total_steps} steps in {elapsed}" if run.total_steps else f"In {elapsed}")
    if run.kind == "generate" and not run.unfinished:
        answers_into_store(workbench, run)
    if run.checkpoint_id:
        with st.container(horizontal=True):
            if run.kind == "reward":
                query = {keys.URL_MODEL: run.checkpoint_id}
                st.page_link("models.py", label="Its report card", icon=":material/verified:", query_params=query)
                st.page_link("compare.py", label=f"Compare {run.checkpoint_id}", icon=":material/compare_arrows:")
            else:
                st.page_link("playground.py", label="Talk to it", icon=":material/forum:")
                st.page_link("rollout.py", label="Roll it out", icon=":material/rocket_launch:")
                st.caption(f"The policy is the folder `{training.checkpoint_folder(workbench, run.checkpoint_id)}`.")


def watch(run_id: str) -> None:
    run = training.run(workbench, run_id)

    @st.fragment(run_every=REFRESH_S if run.unfinished else None)
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
            if now.kind == "generate":
                run_curves.draw_answers(lines, generating.written(workbench, run_id))
            else:
                run_curves.draw(now.kind, lines, unfinished=now.unfinished, at_once=now.config.get("method") == "head")
        with log:
            run_curves.draw_machine(training.machine_use(workbench, run_id))
            text = training.log_tail(workbench, run_id)
            words = st.text_input("Log", placeholder="find in the log", key=f"train:log:{run_id}")
            if words:
                text = "\n".join(line for line in text.splitlines() if words.casefold() in line.casefold())
            with st.container(height=380, autoscroll=True):
                st.text(text or ("No line holds that." if words else "Nothing yet."))
        if now.kind == "ppo":
            run_curves.draw_samples(training.samples(workbench, run_id))
        if now.status != run.status:
            st.rerun()  # once more in full: the runs' table, and no timer when it has ended

    with st.container(border=True):
        live()
        if st.toggle("All measures", key=f"train:measures:{run_id}", help="As of now; press again for newer ones."):
            steps = [line for line in training.metrics(workbench, run_id) if line.get("split") == "train"]
            run_curves.draw_all(run_curves.thinned(steps), {"reward", "loss", *run_curves.SMALL})
        with st.expander("Command and options"):
            st.code(shlex.join(training.command_of(workbench, run)), language="bash", wrap_lines=True)
            asks = run.resources | ({"engine": run.engine, "job": run.job_id} if run.engine != LOCAL else {})
            if asks:
                st.json(asks)
            st.json(run.config)
            if run.requested_by:
                st.caption(f"Begun by {plain(run.requested_by)}.")


st.title("Train")
runs, taken = training.runs(workbench, NEWEST), snapshots.listing(workbench)
chosen = st.query_params.get(keys.URL_RUN) or next((run.id for run in runs if run.unfinished), None)
if chosen:
    try:
        watch(chosen)
    except NotFound as error:
        show_error(error)
asked: RunKind | None = st.session_state.get(keys.TRAIN_FORM)
if asked is None and (not taken or st.query_params.get(keys.URL_SNAPSHOT)):
    asked = "reward"
with st.container(horizontal=True):
    for kind, title in run_forms.TITLES.items():
        st.button(  # all of them always, so that none moves under the pointer
            title, type="primary" if kind == (asked or "reward") else "secondary",
            icon=":material/edit_note:" if kind == asked else ":material/add:", on_click=show_form, args=(kind,),
            key=f"train:new:{kind}",
        )  # fmt: skip
if asked is not None:
    st.subheader(run_forms.TITLES[asked])
    launch_form(asked)

if runs:
    st.subheader("Runs")
    rows.pick("train", [rows.Row(run.id, describe(run)) for run in runs[:NEWEST]], chosen, choose)
    st.page_link("runs.py", label="All runs: find, compare, trace, clean up", icon=":material/monitoring:")
elif not chosen:
    st.text("A run learns on this machine, in a process of its own. No run yet.")
