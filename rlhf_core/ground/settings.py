"""Where things live. Everything a user makes is in one folder: the workspace."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rlhf_core.ground.errors import InvalidInput, disk_errors

PROJECT_ROOT = Path(__file__).resolve().parents[2]
SQL_ROOT = PROJECT_ROOT / "sql"
WORKSPACE_VARIABLE = "RLHF_WORKSPACE"


@dataclass(frozen=True, slots=True)
class Workspace:
    """One folder that holds everything a user makes. Copy the folder and you have copied the work."""

    root: Path

    @classmethod
    def resolve(cls, explicit: str | Path | None = None) -> Workspace:
        """``explicit``, else ``$RLHF_WORKSPACE``, else ``data/`` beside ``app.py``; created where it is missing.

        Raises:
            InvalidInput: the path is a file.
            StoreUnavailable: the folder cannot be made.
        """
        root = cls.root_named(explicit)
        workspace = cls(root)
        with disk_errors("making the workspace", root):
            if root.exists() and not root.is_dir():
                raise InvalidInput(f"The workspace {root} is a file. Name a folder with --workspace or {WORKSPACE_VARIABLE}.")
            for folder in (root, workspace.snapshots, workspace.runs, workspace.checkpoints, workspace.keys):
                folder.mkdir(parents=True, exist_ok=True)
        return workspace

    @staticmethod
    def root_named(explicit: str | Path | None = None) -> Path:
        """Which folder :meth:`resolve` would open; touches no disk.

        Raises:
            InvalidInput: ``~somebody`` who does not exist.
        """
        given = Path(explicit or os.environ.get(WORKSPACE_VARIABLE) or PROJECT_ROOT / "data")
        try:
            return given.expanduser().absolute()
        except RuntimeError as error:
            raise InvalidInput(f"The workspace {given} cannot be found: {error}") from error

    @property
    def database(self) -> Path:
        return self.root / "workbench.sqlite3"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def keys(self) -> Path:
        """Secrets of the workspace. Kept outside snapshots: without them a pseudonym leads to nobody."""
        return self.root / "keys"

    @property
    def supervisor_lock(self) -> Path:
        return self.root / "supervisor.lock"

    def run_folder(self, run_id: str) -> Path:
        return self.runs / run_id
