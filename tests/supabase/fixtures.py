"""Fixtures over one Supabase-compatible server for the whole test run; accounts are kept, rows are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from rlhf_core.ground.records import Session
from rlhf_core.ground.roles import Role
from rlhf_core.ground.settings import TeamSettings
from rlhf_core.store.supabase import SupabaseStore
from rlhf_core.store.supabase_connection import Connection, Server
from tests.supabase.server import PASSWORD, TeamServer


@pytest.fixture(scope="session")
def team_process() -> Iterator[TeamServer]:
    server = TeamServer()
    yield server
    server.close()


@pytest.fixture
def team(team_process: TeamServer) -> TeamServer:
    """The server without a row; whoever had an account has no role."""
    team_process.empty()
    return team_process


@pytest.fixture(scope="session")
def line(team_process: TeamServer) -> Iterator[Server]:
    server = Server(TeamSettings(team_process.url, team_process.publishable_key))
    yield server
    server.close()


@pytest.fixture
def operator(team: TeamServer, line: Server) -> SupabaseStore:
    return SupabaseStore(Connection(line, secret_key=team.secret_key))


@pytest.fixture(scope="session")
def accounts(team_process: TeamServer, line: Server) -> dict[str, tuple[str, str, Connection]]:
    """(user id, e-mail, connection) by name; signing up is slow on purpose, so accounts are made once."""
    return {}


@pytest.fixture
def sign_in(
    team: TeamServer, line: Server, accounts: dict[str, tuple[str, str, Connection]]
) -> Callable[..., tuple[Session, SupabaseStore]]:
    """Sign somebody in with a role; returns their session and the store as they see it."""

    def do(name: str, role: Role | None = "annotator") -> tuple[Session, SupabaseStore]:
        if name not in accounts:
            user_id, email = team.add_account(name)
            connection = Connection(line)
            connection.sign_in(email, PASSWORD)
            accounts[name] = (user_id, email, connection)
        user_id, _, connection = accounts[name]
        team.sql("update public.profiles set role = %s, display_name = %s where user_id = %s", (role, name, user_id))
        return Session(user_id, name, role), SupabaseStore(connection)

    return do
