"""A person's own say over what they said: consent, and erasing it from store and snapshots."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from rlhf_core.analytics.erasing import take_out
from rlhf_core.analytics.pseudonyms import Pseudonyms, pseudonym_key
from rlhf_core.ground.records import Consent, Session
from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench

__all__ = ["Erasure", "consent", "erase", "set_consent"]


@dataclass(frozen=True, slots=True)
class Erasure:
    """``snapshots``: (old id, what it became). ``runs`` and ``checkpoints`` had been made from the old ones: what a model has
    learnt does not go away by itself."""

    judgements: int
    snapshots: list[tuple[str, str]]
    runs: list[str]
    checkpoints: list[str]

    def __str__(self) -> str:
        text = f"{self.judgements:,} judgements and all that belonged to them are deleted."
        if self.snapshots:
            text += f" {len(self.snapshots)} snapshots on this machine were rewritten without them."
        if self.runs or self.checkpoints:
            text += f" {len(self.runs)} runs and {len(self.checkpoints)} checkpoints had learnt from those."
        return text


def erase(workbench: Workbench, session: Session) -> Erasure:
    """Delete all that is kept of this person's labelling, here and in this workspace's snapshots. May be done again."""
    judgements = workbench.store.for_user(session).erase()
    workspace = workbench.workspace
    (workspace.root / "queries" / f"{hashlib.sha256(session.user_id.encode()).hexdigest()[:16]}.json").unlink(missing_ok=True)
    name = Pseudonyms(pseudonym_key(workspace.keys))(session.user_id)
    assert name is not None
    rewritten = take_out(workspace.snapshots, name)
    used = [snapshots.used_by(workbench, old) for old, _ in rewritten]
    return Erasure(judgements, rewritten, [run for runs, _ in used for run in runs], [one for _, some in used for one in some])


def consent(workbench: Workbench, session: Session) -> tuple[Consent | None, str | None]:
    """What this person said of the use of their words for training and analysis, and when."""
    return workbench.store.for_user(session).consent()


def set_consent(workbench: Workbench, session: Session, consent: Consent) -> None:
    """From the next snapshot on it counts: what was taken before keeps what it has."""
    workbench.store.for_user(session).set_consent(consent)
