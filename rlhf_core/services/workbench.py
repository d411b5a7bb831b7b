"""One opened workspace: its store, its run ledger, its scoring process. Made once for each process that serves or commands."""

from __future__ import annotations

import getpass
from pathlib import Path

from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.records import Profile, Session, StoreCounts, new_id
from rlhf_core.ground.settings import Workspace
from rlhf_core.inference.client import ScoringClient
from rlhf_core.store.base import RunLedger, Store
from rlhf_core.store.sqlite import Database, SqliteStore
from rlhf_core.store.sqlite_runs import SqliteRunLedger


class Workbench:
    """Thread-safe: every part of it is."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._database = Database(workspace.database)
        self.store: Store = SqliteStore(self._database)
        self.ledger: RunLedger = SqliteRunLedger(self._database)
        self.scoring = ScoringClient(workspace.checkpoints, workspace.root / "logs" / "scoring.log")

    @classmethod
    def open(cls, workspace: str | Path | None = None) -> Workbench:
        """
        Raises:
            InvalidInput, StoreUnavailable: the workspace cannot be opened; the message says why.
        """
        return cls(Workspace.resolve(workspace))

    def close(self) -> None:
        self.scoring.close()
        self._database.close()

    def counts(self) -> StoreCounts:
        return self.store.counts()

    def people(self) -> list[Profile]:
        """Local people, who can rate here; made on first use from the name of the account this runs under."""
        people = self.store.profiles("local")
        return people or [self.store.add_profile("local-1", _account_name(), "local")]

    def add_person(self, name: str) -> Profile:
        """
        Raises:
            InvalidInput: no name, or one that is taken.
        """
        if name.strip().casefold() in {person.display_name.casefold() for person in self.people()}:
            raise InvalidInput(f"{name.strip()} is here already. Pick them from the list, or choose another name.")
        return self.store.add_profile(new_id(), name, "local")

    @staticmethod
    def session(person: Profile) -> Session:
        return Session(person.user_id, person.display_name)


def _account_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "local annotator"
