"""One opened workspace: its store, its run ledger, its scoring process. Made once for each process that serves or commands.

On a team's store each person has a workbench of their own (:meth:`Workbench.for_person`); what is local to the machine (runs,
snapshots, checkpoints, the scoring process) is shared by all of them.
"""

from __future__ import annotations

import copy
import getpass
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_core.ground.errors import Forbidden, InvalidInput, RlhfError, SignInRequired
from rlhf_core.ground.records import Profile, Session, StoreCounts, new_id
from rlhf_core.ground.roles import Action, may, refusal
from rlhf_core.ground.settings import SECRET_KEY_VARIABLE, STORE_VARIABLE, TeamSettings, Workspace, secret_key, team_settings
from rlhf_core.inference.client import ScoringClient
from rlhf_core.inference.score_cache import ScoreCache
from rlhf_core.store.base import RunLedger, Store, TeamLog
from rlhf_core.store.sqlite import SqliteStore
from rlhf_core.store.sqlite_audit import SqliteAudit
from rlhf_core.store.sqlite_collecting import SqliteCollecting
from rlhf_core.store.sqlite_database import Database
from rlhf_core.store.sqlite_runs import SqliteRunLedger

if TYPE_CHECKING:
    from rlhf_core.analytics.sandbox import Sandbox
    from rlhf_core.store.supabase_connection import Connection, Server


class Workbench:
    """Thread-safe: every part of it is."""

    def __init__(self, workspace: Workspace, team: TeamSettings | None = None) -> None:
        self.workspace = workspace
        self.team = team
        self.person: Session | None = None
        """Who uses it, on a team's store; None: nobody yet, or everybody (embedded), or the operator."""
        self.local_name: str | None = None
        """What whoever is at the keyboard is called, on the embedded store; None: the account that it runs under."""
        self._database = Database(workspace.database)
        self.embedded = SqliteStore(self._database)
        self._store: Store | None = self.embedded if team is None else None
        self.team_log: TeamLog | None = None
        """That of all machines of a team; None: embedded, or nobody has said who asks."""
        self._server: Server | None = None
        self.ledger: RunLedger = SqliteRunLedger(self._database)
        self.collecting = SqliteCollecting(self._database)
        self.audit = SqliteAudit(self._database)
        self.scoring = ScoringClient(workspace.checkpoints, workspace.root / "logs" / "scoring.log")
        self.score_cache = ScoreCache(workspace.score_cache)
        self._sandboxes: list[Sandbox] = []  # one, made on first use; shared with the workbenches of a team's people

    @classmethod
    def open(cls, workspace: str | Path | None = None) -> Workbench:
        """
        Raises:
            InvalidInput, StoreUnavailable: the workspace cannot be opened, or a setting of the team's store is wrong; the
                message says why.
        """
        team = team_settings()
        return cls(Workspace.resolve(workspace), team)

    @classmethod
    def open_for_command(cls, workspace: str | Path | None = None) -> Workbench:
        """As :meth:`open`; on a team's store as its operator, where the environment holds the secret key."""
        workbench = cls.open(workspace)
        if workbench.team is not None and (key := secret_key()):
            from rlhf_core.store.supabase import SupabaseStore
            from rlhf_core.store.supabase_connection import Connection

            workbench._store = workbench.team_log = SupabaseStore(Connection(workbench.server, secret_key=key))
        return workbench

    @property
    def store(self) -> Store:
        """
        Raises:
            SignInRequired: it is a team's, and nobody has said who asks.
        """
        if self._store is None:
            raise SignInRequired(
                f"The store belongs to a team. Sign in on the web page; for commands, set {SECRET_KEY_VARIABLE} in the "
                f"environment. {STORE_VARIABLE}=sqlite uses the embedded store instead."
            )
        return self._store

    @property
    def server(self) -> Server:
        """The line to the team's project, made on first use."""
        if self._server is None:
            from rlhf_core.store.supabase_connection import Server

            assert self.team is not None
            self._server = Server(self.team)
        return self._server

    def for_person(self, connection: Connection, person: Session) -> Workbench:
        """This workspace with the team's store as one signed-in person sees it."""
        from rlhf_core.store.supabase import SupabaseStore

        own = copy.copy(self)
        own._store = own.team_log = SupabaseStore(connection)
        own.person = person
        return own

    def named(self, name: str) -> Workbench:
        """This workspace on the embedded store, as somebody uses it who is called so."""
        own = copy.copy(self)
        own.local_name = name
        return own

    def may(self, action: Action) -> bool:
        """Whether whoever uses it may. Everybody may everything on the embedded store, and so may the operator."""
        return self.person is None or may(self.person.role, action)

    def require(self, action: Action) -> None:
        """
        Raises:
            Forbidden: the person's role does not allow it; see :meth:`may`.
        """
        if self.person is not None and not may(self.person.role, action):
            raise Forbidden(refusal(self.person.role, action))

    @property
    def name(self) -> str:
        """Of who decides, for logs: the person here, or the account that it runs under."""
        return self.person.display_name if self.person else self.local_name or _account_name()

    def note(self, act: str, what: str, who: str | None = None, **detail: Any) -> None:
        """Write into the log of who did what (``who`` None: the person here), here and on a team's store; see
        :mod:`rlhf_core.services.activity`."""
        self.audit.add(who or self.name, act, what, detail)
        if self.team_log is not None:
            try:
                self.team_log.note_act(act, what, detail)
            except RlhfError:
                logging.getLogger(__name__).exception("the team's log could not be written; this machine's has it")

    @property
    def sandbox(self) -> Sandbox:
        """Where people's own SQL runs."""
        from rlhf_core.analytics.sandbox import Sandbox

        if not self._sandboxes:
            self._sandboxes.append(Sandbox())
        return self._sandboxes[0]

    def close(self) -> None:
        for sandbox in self._sandboxes:
            sandbox.close()
        self.scoring.close()
        self._database.close()
        if self._server is not None:
            self._server.close()

    def counts(self) -> StoreCounts:
        return self.store.counts()

    def people(self) -> list[Profile]:
        """Local people, who can rate here; made on first use from the name of the account this runs under."""
        people = self.embedded.profiles("local")
        return people or [self.embedded.add_profile("local-1", _account_name(), "local")]

    def add_person(self, name: str) -> Profile:
        """
        Raises:
            InvalidInput: no name, or one that is taken.
        """
        if name.strip().casefold() in {person.display_name.casefold() for person in self.people()}:
            raise InvalidInput(f"{name.strip()} is here already. Pick them from the list, or choose another name.")
        return self.embedded.add_profile(new_id(), name, "local")

    @staticmethod
    def session(person: Profile) -> Session:
        return Session(person.user_id, person.display_name)


def _account_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "local annotator"
