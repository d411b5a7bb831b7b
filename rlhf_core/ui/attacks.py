"""The suite of attacks, edited and run, and what each checkpoint withstood."""

from __future__ import annotations

from typing import Any, get_args

import pandas as pd
import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.text import shorten
from rlhf_core.services import attacking, best_of, comparing
from rlhf_core.services.attacking import Case, Kind, Outcome
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import keys
from rlhf_core.ui.texts import ago, markdown_of, plural, show_error


def draw(workbench: Workbench) -> None:
    try:
        cases = attacking.suite(workbench)
    except RlhfError as error:
        show_error(error)
        return
    st.caption(
        "Prompts that lead astray, asked of a policy; and of a reward model, whether it likes the better of two answers better. "
        "Words are looked for, so a case that was withstood is no proof, and one that was not is worth reading."
    )
    policies = best_of.policies(workbench)
    rewards = [one.checkpoint.id for one in comparing.candidates(workbench) if one.checkpoint]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect("Checkpoints", [*policies, *rewards], default=[*policies[:1], *rewards[:1]], key="attack:whom")
        go = st.button("Attack", type="primary", icon=":material/bolt:", disabled=not chosen)
    if go:
        bar = st.progress(0.0, "Asking …")
        for k, one in enumerate(chosen):
            bar.progress(k / len(chosen), f"Asking {one} …")
            try:
                attacking.attack(workbench, one)
            except RlhfError as error:
                st.error(markdown_of(f"{one}: {error}"), icon=":material/error:")
        bar.empty()
    found = attacking.outcomes(workbench)
    if found:
        _table(found, {one.checkpoint: attacking.history(workbench, one.checkpoint) for one in found})
        names = {f"{one.checkpoint} · {one.withstood:.0%}": one for one in found}
        label = st.selectbox("What it was asked", names, key="attack:of")
        _cases(names[label])
    else:
        st.text("Nothing was attacked yet.")
    with st.expander(f"The suite: {plural(len(cases), 'case')}", icon=":material/edit_note:"):
        _editor(workbench, cases)


def _table(found: list[Outcome], before: dict[str, list[Outcome]]) -> None:
    """The newest of each checkpoint, and how it did before where it was asked more than once."""
    again = any(len(some) > 1 for some in before.values())
    rows: list[dict[str, Any]] = [
        {"checkpoint": one.checkpoint, "is": "policy" if one.of == "policy" else "reward model", "when": ago(one.at),
         "suite": one.suite, "withstood": one.withstood} | {kind: one.of_kind(kind) for kind in get_args(Kind)}
        | ({"so far": [each.withstood for each in before[one.checkpoint]]} if again else {}) for one in found
    ]  # fmt: skip
    columns: dict[str, Any] = {
        name: st.column_config.NumberColumn(format="percent", help=attacking.ABOUT.get(name))
        for name in ("withstood", *get_args(Kind))
    }
    columns["so far"] = st.column_config.LineChartColumn(
        y_min=0, y_max=1, help=f"What was withstood each time, the newest {attacking.KEPT} times; suites may have differed"
    )
    st.dataframe(pd.DataFrame(rows).dropna(axis="columns", how="all"), hide_index=True, column_config=columns)


def _cases(one: Outcome) -> None:
    for result in sorted(one.results, key=lambda result: result.withstood):
        mark = ":green[:material/shield:]" if result.withstood else ":red[:material/heart_broken:]"
        with st.container(border=True):
            st.markdown(f"{mark} {markdown_of(result.query)}")
            if one.of == "policy":
                st.caption(markdown_of(shorten(result.answer, 600)) or "(nothing)")
            else:
                st.caption(f"good answer {result.good:.2f} stars, bad answer {result.bad:.2f}")


def _editor(workbench: Workbench, cases: list[Case]) -> None:
    st.caption(
        "Several words are parted by semicolons. Policies are asked where there are words; reward models, where there is a pair."
    )
    frame = pd.DataFrame(
        [
            {"kind": one.kind, "query": one.query, "avoid": "; ".join(one.avoid), "expect": "; ".join(one.expect), "bad": one.bad,
             "good": one.good} for one in cases
        ]
    )  # fmt: skip
    edited = st.data_editor(
        frame, num_rows="dynamic", hide_index=True, key="attack:suite", height=420,
        column_config={
            "kind": st.column_config.SelectboxColumn(options=[*get_args(Kind)], required=True),
            "query": st.column_config.TextColumn(width="large", required=True),
            "avoid": st.column_config.TextColumn("must not say"), "expect": st.column_config.TextColumn("should say one of"),
            "bad": st.column_config.TextColumn("bad answer"), "good": st.column_config.TextColumn("good answer"),
        },
    )  # fmt: skip
    with st.container(horizontal=True):
        save = st.button("Save the suite", icon=":material/save:")
        reset = st.button("Take the one that comes along", type="tertiary", icon=":material/restart_alt:")
    if save or reset:
        rows = (
            []
            if reset
            else [
                {str(name): value for name, value in row.items() if isinstance(value, str)} for row in edited.to_dict("records")
            ]
        )
        attacking.save_suite(workbench, rows)
        st.session_state.pop("attack:suite", None)
        st.session_state[keys.PLAY_NOTICE] = "The suite is saved."
        st.rerun()
    if notice := st.session_state.pop(keys.PLAY_NOTICE, None):
        st.toast(notice)
