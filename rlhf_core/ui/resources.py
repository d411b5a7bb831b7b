"""What pages share: the opened workbench (thread-safe) as the person at this browser may use it, and answers about snapshots,
which never change."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from rlhf_core.ground.errors import SignInRequired
from rlhf_core.ground.records import Session
from rlhf_core.ground.settings import TeamSettings, Workspace, team_settings
from rlhf_core.services import agreement, auditing, exploring, querying, snapshots
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import identity


@st.cache_resource(show_spinner=False, max_entries=8)
def _workbench_at(root: str, team: TeamSettings | None) -> Workbench:
    return Workbench(Workspace.resolve(root), team)


def shared() -> Workbench:
    """The workbench of the configured workspace and store, whoever asks.

    Raises:
        RlhfError: it cannot be opened; the frame shows why.
    """
    return _workbench_at(str(Workspace.root_named()), team_settings())  # no folder is made or looked at on a rerun


def workbench() -> Workbench:
    """The workbench as the person at this browser may use it.

    Raises:
        SignInRequired: it is a team's, and nobody is signed in here.
    """
    one = shared()
    if one.team is None:
        return one.named(identity.local_person(one).display_name)
    person = identity.signed_in()
    if person is None:
        raise SignInRequired("Sign in first.")
    return person.workbench()


def session() -> Session:
    """Who is at the keyboard."""
    one = workbench()
    return one.person or identity.local_person(one)


@st.cache_data(show_spinner=False, max_entries=64)
def _answer(_workbench: Workbench, at: tuple[str, str, str], params: tuple[tuple[str, Any], ...]) -> pd.DataFrame:
    _, snapshot_id, question = at
    return snapshots.answer(_workbench, snapshot_id, question, **dict(params))


@st.cache_data(show_spinner="Measuring agreement", max_entries=64)
def _agreement(_workbench: Workbench, at: tuple[str, str], what: agreement.What, by: Any, level: Any) -> list[agreement.Row]:
    return agreement.rows(_workbench, at[1], what, by, level)


@st.cache_data(show_spinner="Measuring agreement", max_entries=64)
def _rater_pairs(_workbench: Workbench, at: tuple[str, str], what: agreement.What) -> list[agreement.PairRow]:
    return agreement.pairs(_workbench, at[1], what)


@st.cache_data(show_spinner="Measuring agreement", max_entries=64)
def _first_errors(_workbench: Workbench, at: tuple[str, str]) -> agreement.FirstErrors:
    return agreement.first_errors(_workbench, at[1])


def _explorer(snapshot_id: str) -> tuple[Workbench, tuple[str, str]]:
    one = workbench()
    one.require("explore")  # also where the answer is kept already
    return one, (str(one.workspace.root), snapshot_id)


def agreement_rows(
    snapshot_id: str, what: agreement.What, by: agreement.By | None, level: agreement.Level | None
) -> list[agreement.Row]:
    return _agreement(*_explorer(snapshot_id), what, by, level)


def rater_pairs(snapshot_id: str, what: agreement.What) -> list[agreement.PairRow]:
    return _rater_pairs(*_explorer(snapshot_id), what)


def first_errors(snapshot_id: str) -> agreement.FirstErrors:
    return _first_errors(*_explorer(snapshot_id))


@st.cache_data(show_spinner=False, max_entries=256)
def _explore(_workbench: Workbench, at: tuple[str, str], question: str, only: exploring.Filter) -> pd.DataFrame:
    return exploring.answer(_workbench, at[1], question, only)


@st.cache_data(show_spinner=False, max_entries=16)
def _explore_parts(_workbench: Workbench, at: tuple[str, str]) -> exploring.Parts:
    return exploring.parts(_workbench, at[1])


@st.cache_data(show_spinner=False, max_entries=64)
def _explore_behind(
    _workbench: Workbench, at: tuple[str, str], only: exploring.Filter, begin: int, count: int
) -> tuple[list[exploring.Behind], int]:
    return exploring.behind(_workbench, at[1], only, begin=begin, count=count)


@st.cache_data(show_spinner=False, max_entries=16)
def _explore_tables(_workbench: Workbench, at: tuple[str, str]) -> dict[tuple[str, str], list[querying.Column]]:
    return querying.tables(_workbench, at[1])


def explore_tables(snapshot_id: str) -> dict[tuple[str, str], list[querying.Column]]:
    found = _explore_tables(*_explorer(snapshot_id))
    workbench().sandbox.warm()
    return found


def explore(snapshot_id: str, question: str, only: exploring.Filter) -> pd.DataFrame:
    """A named question's answer for a filter, kept by workspace, snapshot id and filter."""
    return _explore(*_explorer(snapshot_id), question, only)


@st.cache_data(show_spinner="Looking at the snapshot", max_entries=16)
def _audit(_workbench: Workbench, at: tuple[str, str]) -> auditing.Audit:
    return auditing.audit(_workbench, at[1])


def audit(snapshot_id: str) -> auditing.Audit:
    return _audit(*_explorer(snapshot_id))


def question_topic(name: str) -> str:
    """What a named question stands under on the explore page."""
    return next((one.topic for one in exploring.questions() if one.name == name), "")


def explore_parts(snapshot_id: str) -> exploring.Parts:
    return _explore_parts(*_explorer(snapshot_id))


def explore_behind(snapshot_id: str, only: exploring.Filter, begin: int, count: int) -> tuple[list[exploring.Behind], int]:
    return _explore_behind(*_explorer(snapshot_id), only, begin, count)


def answer(snapshot_id: str, question: str, **params: Any) -> pd.DataFrame:
    """A named question's answer, kept by workspace and snapshot id."""
    one, at = _explorer(snapshot_id)
    return _answer(one, (*at, question), tuple(sorted(params.items())))
