"""Sign in to a team's workbench; people and their roles. Imported where there is a team, because it brings supabase along."""

from __future__ import annotations

import time
from collections.abc import Callable

from rlhf_core.ground.errors import Forbidden, NotFound, SessionExpired, StoreUnavailable
from rlhf_core.ground.records import Session
from rlhf_core.ground.roles import Role
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.supabase import Member, SupabaseStore
from rlhf_core.store.supabase_connection import Connection

__all__ = [
    "Member", "SignedIn", "change_password", "grant", "members", "recover", "rename", "send_recovery", "set_role", "sign_in",
    "sign_in_with_id_token", "sign_out", "sign_up",
]  # fmt: skip
ROLE_KEPT_S = 30.0
AWAY_ASK_S = 5.0  # while the server does not answer, it is asked for a role so often
AWAY_S = 15 * 60.0  # so long what was last known of a role holds while the server does not answer
IDLE_S = 12 * 3600.0


class SignedIn:
    """Somebody at a browser, with a connection that is theirs alone. Thread-safe: tabs of one browser share it."""

    def __init__(self, workbench: Workbench, connection: Connection, person: Session) -> None:
        self.connection = connection
        self._shared = workbench
        self._workbench = workbench.for_person(connection, person)
        self._ask_at = time.monotonic() + ROLE_KEPT_S
        self._known_at = self._used_at = time.monotonic()

    @property
    def alive(self) -> bool:
        """Signed in still, as far as this side knows, and not idle for longer than :data:`IDLE_S`."""
        return self.connection.account is not None and time.monotonic() - self._used_at < IDLE_S

    @property
    def email(self) -> str:
        return self.connection.account.email if self.connection.account else ""

    def workbench(self) -> Workbench:
        """The workbench as this person may use it. Asks the server for their role every half minute; while it is away, the
        role that was last known holds for :data:`AWAY_S`, and pages over what lies on this machine go on.

        Raises:
            SessionExpired: signed out, here or in another tab, or idle for too long.
            StoreUnavailable: the server has not answered for too long.
        """
        if not self.alive:
            raise SessionExpired("You are signed out. Sign in and go on where you were.")
        self._used_at = time.monotonic()
        if time.monotonic() >= self._ask_at:
            try:
                self.refresh()
            except StoreUnavailable:
                if time.monotonic() - self._known_at > AWAY_S:
                    raise
                self._ask_at = time.monotonic() + AWAY_ASK_S
        return self._workbench

    def refresh(self) -> None:
        """Ask the server now who this is and what their role is."""
        self._workbench = self._shared.for_person(self.connection, SupabaseStore(self.connection).me())
        self._known_at = time.monotonic()
        self._ask_at = self._known_at + ROLE_KEPT_S


def sign_in(workbench: Workbench, email: str, password: str) -> SignedIn:
    """See :meth:`rlhf_core.store.supabase_connection.Connection.sign_in` for errors."""
    return _opened(workbench, lambda connection: connection.sign_in(email, password))


def sign_in_with_id_token(workbench: Workbench, provider: str, token: str) -> SignedIn:
    return _opened(workbench, lambda connection: connection.sign_in_with_id_token(provider, token))


def sign_up(workbench: Workbench, email: str, password: str, display_name: str) -> SignedIn | None:
    """None: the server wants the address confirmed first, and has sent a mail."""
    connection = Connection(workbench.server)
    if connection.sign_up(email, password, display_name) is None:
        return None
    store = SupabaseStore(connection)
    if store.me().display_name != display_name.strip():  # not every server hands the name on to the new profile
        store.rename_me(display_name)
    return SignedIn(workbench, connection, store.me())


def send_recovery(workbench: Workbench, email: str) -> None:
    Connection(workbench.server).send_recovery(email)


def recover(workbench: Workbench, email: str, code: str, password: str) -> SignedIn:
    return _opened(workbench, lambda connection: connection.recover(email, code, password))


def _opened(workbench: Workbench, how: Callable[[Connection], object]) -> SignedIn:
    connection = Connection(workbench.server)
    how(connection)
    return SignedIn(workbench, connection, SupabaseStore(connection).me())


def sign_out(signed_in: SignedIn) -> None:
    """End the session in every tab that shares it, and on the server where it answers."""
    signed_in.connection.sign_out()


def change_password(signed_in: SignedIn, password: str) -> None:
    signed_in.connection.change_password(password)


def rename(signed_in: SignedIn, display_name: str) -> None:
    SupabaseStore(signed_in.connection).rename_me(display_name)
    signed_in.refresh()


def _team_store(workbench: Workbench) -> SupabaseStore:
    if not isinstance(workbench.store, SupabaseStore):
        raise Forbidden("The embedded store has no team: everybody at this machine may do everything.")
    return workbench.store


def members(workbench: Workbench) -> list[Member]:
    """Everybody with an account, those who wait for a role first.

    Raises:
        Forbidden: for administrators and the operator only.
    """
    workbench.require("manage")
    return _team_store(workbench).team()


def set_role(workbench: Workbench, user_id: str, role: Role | None) -> None:
    """
    Raises:
        Forbidden: for administrators and the operator only.
        InvalidInput: the last administrator would be none.
    """
    workbench.require("manage")
    _team_store(workbench).set_role(user_id, role)


def grant(workbench: Workbench, email: str, role: Role | None) -> Member:
    """Give the account with this address a role.

    Raises:
        NotFound: nobody signed up with it.
    """
    known = members(workbench)
    member = next((one for one in known if one.email.casefold() == email.strip().casefold()), None)
    if member is None:
        raise NotFound(
            f"Nobody has signed up as {email.strip()}. Signed up: {', '.join(one.email for one in known) or 'nobody'}."
        )
    set_role(workbench, member.user_id, role)
    return member
