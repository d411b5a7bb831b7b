"""Forms that start runs, drawn from the runs' own configs; what a person rarely changes opens on demand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from rlhf_core.ground.configs import CONFIGS
from rlhf_core.ground.runs import RunKind
from rlhf_core.services import modelling, training
from rlhf_core.services.snapshots import Snapshot
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import forms, keys
from rlhf_core.ui.texts import ago, plural

TITLES: dict[RunKind, str] = {"reward": "New reward model", "sft": "Teach a policy", "ppo": "Improve a policy"}
ABOUT: dict[RunKind, str] = {
    "reward": "Learns from people's judgement what a good step and a good answer are.",
    "sft": "A policy learns the answers that people rated well, so that improving it begins with sense.",
    "ppo": "A policy answers the snapshot's queries, a reward model judges the answers or their steps, and the policy learns.",
}
FIRST: dict[RunKind, tuple[str, ...]] = {
    "reward": ("method", "epochs", "batch_size", "learning_rate"),
    "sft": ("min_score", "epochs", "batch_size", "learning_rate"),
    "ppo": ("optimiser", "reward_on", "ppo_steps", "batch_size", "max_response_tokens"),
}
ELSEWHERE = ("reward_base_model", "base_model", "reward", "judge", "resume_from", "accept_ungated_reward")
NO_SNAPSHOT = "five example questions"


def run_form(workbench: Workbench, kind: RunKind, taken: Sequence[Snapshot]) -> tuple[str | None, dict[str, Any]] | None:
    """Draw it. Returns the snapshot and the options once it was sent off."""
    fields = CONFIGS[kind].model_fields
    st.caption(ABOUT[kind])
    all_options = st.toggle("All options", key=f"train:all:{kind}")
    values: dict[str, Any] = {}
    with st.form(f"train:form:{kind}", border=True):
        left, right = st.columns(2)
        with left:
            snapshot_id = _snapshot(taken, optional=kind == "ppo")
        with right:
            values |= _base(workbench, kind)
        if kind == "ppo":
            values |= _judges(workbench)
        for column, name in zip(st.columns(len(FIRST[kind])), FIRST[kind], strict=True):
            with column:
                values[name] = forms.option(kind, name, fields[name])
        if all_options:
            rest = [name for name in fields if name not in (*FIRST[kind], *ELSEWHERE)]
            for name, column in zip(rest, [column for _ in rest[::3] for column in st.columns(3)], strict=False):
                with column:
                    values[name] = forms.option(kind, name, fields[name])
        elif kind == "ppo":  # a short limit without opening all options
            values["min_response_tokens"] = min(fields["min_response_tokens"].default, values["max_response_tokens"] or 1)
            values["mini_batch_size"] = min(fields["mini_batch_size"].default, values["batch_size"] or 1)
        if st.form_submit_button("Start training", type="primary", icon=":material/play_arrow:"):
            return snapshot_id, values
    return None


def _snapshot(taken: Sequence[Snapshot], *, optional: bool) -> str | None:
    ids = {one.id: f"{one.id} · {plural(one.ratings, 'rating')} · {ago(one.created_at)}" for one in taken}
    if optional:
        ids[""] = NO_SNAPSHOT
    wanted = st.query_params.get(keys.URL_SNAPSHOT)
    index = [*ids].index(wanted) if wanted in ids else 0
    label = "Prompts from" if optional else "Snapshot"
    return st.selectbox(label, ids, format_func=ids.__getitem__, index=index, key=f"train:snapshot:{label}") or None


def _base(workbench: Workbench, kind: RunKind) -> dict[str, str | None]:
    if kind == "reward":
        names, note = training.base_models(workbench)
        label, name = "Base model", "reward_base_model"
    else:
        names = [one.id for one in training.policies(workbench)]
        name, label = "base_model", "Policy"
        if kind == "sft":
            names, note = [training.NEW_TINY, *names], "tiny makes a new small one of the snapshot's own words, in a minute."
        else:
            note = "A policy of this workspace." if names else "Teach one first, or type a hub name or a folder."
    base = st.selectbox(
        label, names, accept_new_options=True, help=f"{note} Or type a hub name or a folder.", key=f"train:base:{kind}",
        index=0 if names else None, placeholder="Type a hub name or a folder",
    )  # fmt: skip
    st.caption(note)
    return {name: base}


def _judges(workbench: Workbench) -> dict[str, Any]:
    """Which reward model is learned from, and which only looks."""
    fields = CONFIGS["ppo"].model_fields
    found = {one.checkpoint.id: one for one in modelling.models(workbench) if one.checkpoint.complete}
    said = {
        name: f"{name} · {one.card.state if one.card else 'no card'} · {ago(one.checkpoint.created_at)}"
        for name, one in found.items()
    }
    left, right = st.columns(2)
    reward = left.selectbox(
        "Reward model", [*found], format_func=lambda name: said.get(name, name), accept_new_options=True, key="train:reward",
        help=fields["reward"].description, index=0 if found else None, placeholder="Train one first, or type module:function",
    )  # fmt: skip
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
