"""What pages share: the opened workbench (thread-safe), and answers about snapshots, which never change."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from rlhf_core.ground.records import Session
from rlhf_core.ground.settings import Workspace
from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import keys


@st.cache_resource(show_spinner=False, max_entries=8)
def _workbench_at(root: str) -> Workbench:
    return Workbench.open(root)


def workbench() -> Workbench:
    """The workbench of the configured workspace.

    Raises:
        RlhfError: it cannot be opened; the frame shows why.
    """
    return _workbench_at(str(Workspace.root_named()))  # asked on every rerun: no folder is made or looked at here


def session() -> Session:
    """Who is at the keyboard: as chosen on the label page, kept in its address so that a refresh changes nobody's name."""
    people = workbench().people()
    chosen = st.session_state.get(keys.RATER) or st.query_params.get(keys.URL_RATER)
    person = next((one for one in people if one.user_id == chosen), people[0])
    return Workbench.session(person)


@st.cache_data(show_spinner=False, max_entries=64)
def _answer(root: str, snapshot_id: str, question: str, params: tuple[tuple[str, Any], ...]) -> pd.DataFrame:
    return snapshots.answer(_workbench_at(root), snapshot_id, question, **dict(params))


def answer(snapshot_id: str, question: str, **params: Any) -> pd.DataFrame:
    """A named question's answer, kept by snapshot id."""
    return _answer(str(workbench().workspace.root), snapshot_id, question, tuple(sorted(params.items())))
