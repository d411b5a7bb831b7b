"""Forms that start runs, drawn from the runs' own configs; what a person rarely changes opens on demand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from rlhf_core.ground import engines, settings
from rlhf_core.ground.configs import CONFIGS, PRESET_TITLES, PRESETS, TINY, PPOConfig, Preset
from rlhf_core.ground.engines import Resources
from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.runs import LOCAL, Run, RunKind
from rlhf_core.services import modelling, training
from rlhf_core.services.preflight import Preflight, time_in_words
from rlhf_core.services.snapshots import Snapshot
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import forms, keys
from rlhf_core.ui.texts import ago, markdown_of, plain, plural, show_error

TITLES: dict[RunKind, str] = {
    "reward": "New reward model",
    "sft": "Teach a policy",
    "ppo": "Improve a policy",
    "generate": "Write answers",
}
ABOUT: dict[RunKind, str] = {
    "reward": "Learns from people's judgement what a good step and a good answer are.",
    "sft": "A policy learns the answers that people rated well, so that improving it begins with sense.",
    "generate": "A policy or an endpoint writes answers to the snapshot's queries, to be labelled, chosen between, compared on.",
    "ppo": "A policy answers the snapshot's queries, a reward model judges the answers or their steps, and the policy learns.",
}
FIRST: dict[RunKind, tuple[str, ...]] = {
    "reward": ("method", "epochs", "batch_size", "learning_rate"),
    "sft": ("min_score", "epochs", "batch_size", "learning_rate"),
    "generate": ("answers", "max_queries", "max_tokens", "temperature", "batch_size"),
    "ppo": ("optimiser", "reward_on", "ppo_steps", "batch_size", "max_response_tokens"),
}
ELSEWHERE = ("reward_base_model", "base_model", "reward", "judge", "resume_from", "accept_ungated_reward")
SWEEP_HELP = "Several runs that differ in some options, compared on the page Runs by validation data."
CHECK_HELP = "Memory, time, disk, and what is odd about the data; nothing is started."
MARKS = {"stop": ("block", "red"), "mind": ("warning", "orange"), "fine": ("check_circle", "green")}
NO_SNAPSHOT = "five example questions"


@dataclass(frozen=True, slots=True)
class Sent:
    """What a form was sent off with: ``start`` it, or only look first. ``varied``: the lines of a sweep, none for a single run;
    ``draws``: how many of it are drawn, None for all combinations."""

    start: bool
    snapshot_id: str | None
    values: dict[str, Any]
    engine: str
    needs: dict[str, Any]
    varied: str
    draws: int | None


def run_form(workbench: Workbench, kind: RunKind, taken: Sequence[Snapshot]) -> Sent | None:
    """Draw it. Returns what was chosen once it was sent off."""
    fields = CONFIGS[kind].options()
    st.caption(ABOUT[kind])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        preset: Preset | None = st.segmented_control(
            "Preset", [*PRESET_TITLES], format_func=PRESET_TITLES.__getitem__, key=f"train:preset:{kind}",
            default=None if training.has_gpu() else "cpu",
            help="Options to begin with, at first those that suit this machine; none of them: the defaults. Each can be changed.",
        )  # fmt: skip
        all_options = st.toggle("All options", key=f"train:all:{kind}")
        sweeps = kind != "generate" and st.toggle("Sweep", key=f"train:sweep:{kind}", help=SWEEP_HELP)
    engine = _engine(workbench)
    values: dict[str, Any] = dict(PRESETS[kind][preset]) if preset else {}

    def draw(name: str) -> None:
        begins = {"value": values[name]} if name in values else {}
        values[name] = forms.option(kind, name, fields[name], preset or "", **begins)

    with st.form(f"train:form:{kind}", border=True):
        left, right = st.columns(2)
        with left:
            snapshot_id = _snapshot(taken, optional=kind == "ppo")
        with right:
            values |= _base(workbench, kind)
        if kind == "ppo":
            values |= _judges(workbench)
        varied, draws = _varied(kind) if sweeps else ("", None)
        for column, name in zip(st.columns(len(FIRST[kind])), FIRST[kind], strict=True):
            with column:
                draw(name)
        if kind == "reward":
            st.caption("Method head is fitted at once: epochs, batch size and learning rate are for the other methods.")
        if all_options:
            rest = [name for name in fields if name not in (*FIRST[kind], *ELSEWHERE)]
            for name, column in zip(rest, [column for _ in rest[::3] for column in st.columns(3)], strict=False):
                with column:
                    draw(name)
        needs = _needs(kind, engine, all_options=all_options)
        if kind == "ppo" and not all_options:  # a short limit without opening all options
            for lower, upper in (("min_response_tokens", "max_response_tokens"), ("mini_batch_size", "batch_size")):
                values[lower] = min(values.get(lower, fields[lower].default), values[upper] or 1)
        with st.container(horizontal=True):
            start = st.form_submit_button(
                "Start writing" if kind == "generate" else "Start all of them" if sweeps else "Start training", type="primary",
                icon=":material/play_arrow:",
            )  # fmt: skip
            look = st.form_submit_button("Check first", icon=":material/fact_check:", help=CHECK_HELP)
    return Sent(start, snapshot_id, values, engine, needs, varied, draws) if start or look else None


def _engine(workbench: Workbench) -> str:
    """Where the run is to go; asked only where there is more than this machine."""
    try:
        names = [LOCAL, *(one.name for one in engines.engines())]
    except InvalidInput as error:
        show_error(error)
        return LOCAL
    if len(names) == 1:
        return LOCAL
    with st.container(horizontal=True, vertical_alignment="center"):
        engine = st.segmented_control(
            "Carried out by", names, format_func=lambda name: "This machine" if name == LOCAL else name, default=LOCAL,
            required=True, key="train:engine", help="Engines of the settings: a Ray cluster, or Slurm.",
        )  # fmt: skip
        _free(workbench, engine)
    return engine


@st.fragment(run_every=3.0)
def _free(workbench: Workbench, engine: str) -> None:
    seen = training.capacity_seen(workbench, engine)
    if seen.value is not None:
        st.caption(training.capacity_in_words(seen.value))
    elif seen.problem:
        st.caption(f":orange[:material/warning:] {markdown_of(seen.problem)} A run would wait until it does.")
    else:
        st.caption("Asking what is free there …")


def _needs(kind: RunKind, engine: str, *, all_options: bool) -> dict[str, Any]:
    """What the run asks for: processes, and of another engine what it reserves."""
    names = (["processes", "sharding"] if kind in ("reward", "ppo") and all_options else []) + (
        ["gpus", "cpus", "memory_mb", "minutes"] if engine != LOCAL else []
    )
    values: dict[str, Any] = {}
    for name, column in zip(names, st.columns(len(names)) if names else [], strict=True):
        with column:
            values[name] = forms.option(f"{kind}:needs", name, Resources.model_fields[name])
    return values


def _varied(kind: RunKind) -> tuple[str, int | None]:
    lines, how = st.columns([3, 1])
    example = {"reward": "learning_rate = 1e-5, 3e-5\nepochs = 2, 4", "sft": "learning_rate = 1e-5, 1e-4"}.get(
        kind, "kl_coefficient = 0.05, 0.2\nppo_learning_rate = 1e-6, 1e-5"
    )  # fmt: skip
    varied = lines.text_area(
        "What is varied", key=f"train:varied:{kind}", height=100, placeholder=example,
        help="One line for each option: values with commas between them, or for drawing a range, as 1e-6 .. 1e-4 log. They go "
        "over what stands in this form.",
    )  # fmt: skip
    draws = how.number_input(
        "Draw at random", min_value=1, max_value=200, value=None, placeholder="all combinations", key=f"train:draws:{kind}"
    )  # fmt: skip
    return varied, draws


def fill(run: Run, taken: Sequence[Snapshot]) -> None:
    """Let the form of the run's kind begin with what the run had. Before the form is drawn."""
    state, kind = st.session_state, run.kind
    state[f"train:preset:{kind}"], state[f"train:all:{kind}"] = None, True
    config = CONFIGS[kind].parse(run.config)
    for name in CONFIGS[kind].options():
        if name not in ELSEWHERE:
            state[keys.option(kind, name)] = getattr(config, name)
    state[f"train:base:{kind}"] = config.begins_from
    if run.snapshot_id in {one.id for one in taken}:
        state[f"train:snapshot:{'Prompts from' if kind == 'ppo' else 'Snapshot'}"] = run.snapshot_id
    if isinstance(config, PPOConfig):
        state["train:reward"], state["train:judge"], state["train:accept"] = (
            config.reward,
            config.judge,
            config.accept_ungated_reward,
        )


def draw_preflight(found: Preflight) -> None:
    """What a run will need, how long it takes, and what is odd about its data."""
    for one in found.findings:
        icon, colour = MARKS[one.level]
        st.markdown(f":{colour}[:material/{icon}:] {markdown_of(one.words)}")
    st.markdown(f":gray[:material/schedule:] {time_in_words(found)}")
    if found.parts:
        with st.expander("What takes how much memory"):
            rows = [{"what": part.what, "MiB": round(part.mb)} for part in found.parts]
            st.dataframe(rows, hide_index=True)


def _snapshot(taken: Sequence[Snapshot], *, optional: bool) -> str | None:
    ids = {one.id: f"{one.id} · {plural(one.ratings, 'rating')} · {ago(one.created_at)}" for one in taken}
    if optional:
        ids[""] = NO_SNAPSHOT
    wanted = st.query_params.get(keys.URL_SNAPSHOT)
    index = [*ids].index(wanted) if wanted in ids else 0
    if wanted is not None and wanted not in ids:
        st.warning(f"Snapshot {plain(wanted)} of the address is not here. Choose another.", icon=":material/warning:")
    label = "Prompts from" if optional else "Snapshot"
    return st.selectbox(label, ids, format_func=ids.__getitem__, index=index, key=f"train:snapshot:{label}") or None


def _base(workbench: Workbench, kind: RunKind) -> dict[str, str | None]:
    if kind == "reward":
        names, note = training.base_models(workbench)
        label, name = "Base model", "reward_base_model"
    else:
        names = [one.id for one in training.policies(workbench)]
        name, label = "base_model", "Policy"
        if kind == "generate":
            names += [f"endpoint:{one.name}" for one in settings.endpoints()]
            note = "A policy of this workspace, or an endpoint of the settings." if names else "Teach a policy first."
        elif kind == "sft":
            names, note = [TINY, *names], "tiny makes a new small one of the snapshot's own words, in a minute."
        else:
            note = "A policy of this workspace." if names else "Teach one first, or type a hub name or a folder."
    base = st.selectbox(
        label,
        _with_chosen(names, f"train:base:{kind}"),
        accept_new_options=True,
        help=f"{note} Or type a hub name or a folder.",
        key=f"train:base:{kind}",
        index=0 if names else None,
        placeholder="Type a hub name or a folder",
    )
    st.caption(note)
    return {name: base}


def _with_chosen(names: Iterable[str], key: str) -> list[str]:
    """What can be chosen, with what was: somebody may have typed it."""
    chosen = st.session_state.get(key)
    return list(dict.fromkeys([*names, *([chosen] if chosen else [])]))


def _judges(workbench: Workbench) -> dict[str, Any]:
    """Which reward model is learned from, and which only looks."""
    fields = CONFIGS["ppo"].model_fields
    found = {one.checkpoint.id: one for one in modelling.models(workbench) if one.checkpoint.complete}
    said = {
        name: f"{name} · {one.card.state if one.card else 'no card'} · {ago(one.checkpoint.created_at)}"
        for name, one in found.items()
    }
    if st.session_state.get("train:judge") not in found:
        st.session_state.pop("train:judge", None)  # of a run whose judge was removed since
    left, right = st.columns(2)
    reward = left.selectbox(
        "Reward model",
        _with_chosen(found, "train:reward"),
        format_func=lambda name: said.get(name, name),
        accept_new_options=True,
        key="train:reward",
        help=fields["reward"].description,
        index=0 if found else None,
        placeholder="Train one first, or type module:function",
    )
    judge = right.selectbox(
        "Held-out judge", [*found], format_func=said.__getitem__, index=None, placeholder="none", key="train:judge",
        help=fields["judge"].description,
    )  # fmt: skip
    card = found[reward].card if reward in found else None
    accept = False
    if card is not None and card.state == "refused":
        accept = left.checkbox(
            "Use it although its report card refuses it", help=fields["accept_ungated_reward"].description, key="train:accept"
        )  # fmt: skip
    return {"reward": reward, "judge": judge, "accept_ungated_reward": accept}
