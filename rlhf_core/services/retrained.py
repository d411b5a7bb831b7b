"""Reports of past retrainings: what came of each and why. Light, so that pages can show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rlhf_core.ground.files import read_json
from rlhf_core.services.workbench import Workbench

REPORT = "report.json"
Outcome = Literal["candidate", "no gain", "refused", "not due", "failed"]

__all__ = ["REPORT", "Gain", "Outcome", "Retraining", "folder_of", "past", "read"]


def _code(name: str | None) -> str:
    return f"`{name}`" if name else "none"


@dataclass(frozen=True, slots=True)
class Gain:
    """A new reward model beside the one that serves, on ratings of questions that neither learned from. ``new``, ``old``: mean
    distance from people, stars; ``p``: one-sided, of a sign-flip test over questions (their distances are one thing each)."""

    new: float
    old: float
    p: float
    questions: int
    ratings: int
    words: str

    @property
    def by(self) -> float:
        """Stars by which it is closer to people."""
        return self.old - self.new


@dataclass(frozen=True, slots=True)
class Retraining:
    """What came of it. ``why``: in a sentence; ``findings``: of the audit, on which one has to act; ``drift``:
    alarms of these ratings, and what could not be tested."""

    id: str
    at: str
    snapshot_id: str
    ratings: int
    outcome: Outcome
    why: str
    run_id: str | None = None
    checkpoint_id: str | None = None
    serving: str | None = None
    gain: Gain | None = None
    findings: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)
    despite_audit: str = ""

    def markdown(self) -> str:
        """The report as a document."""
        lines = [
            "# Retraining report", "", f"**{self.outcome[0].upper()}{self.outcome[1:]}.** {self.why}", "",
            f"- Made {self.at[:19]}Z from snapshot `{self.snapshot_id}`: {self.ratings:,} ratings.",
            f"- Run: {_code(self.run_id)}, checkpoint: {_code(self.checkpoint_id)}; serving: {_code(self.serving)}.",
        ]  # fmt: skip
        if self.findings:
            lines += ["", "The audit says to act first on: " + "; ".join(self.findings)]
        if self.despite_audit:
            lines += ["", f"Done all the same: {self.despite_audit}"]
        if self.gain is not None:
            one = self.gain
            lines += [
                "", "| | mean distance from people, stars |", "| --- | --- |", f"| new | {one.new:.3f} |",
                f"| serving | {one.old:.3f} |", "",
                f"{one.questions:,} questions that neither learned from, {one.ratings:,} rated answers and steps; "
                f"p = {one.p:.4f} (one-sided sign-flip test over questions). {one.words}",
            ]  # fmt: skip
        lines += ["", "## Drift", ""]
        lines += [f"- {one}" for one in self.drift] or ["No alarm of the questions, the raters or the serving model's agreement."]
        return "\n".join(lines) + "\n"


def past(workbench: Workbench) -> list[Retraining]:
    """Reports, the newest first."""
    workbench.require("compare")
    found = [read(path) for path in folder_of(workbench).glob(f"*/{REPORT}")]
    return sorted(found, key=lambda one: one.at, reverse=True)


def folder_of(workbench: Workbench) -> Path:
    return workbench.workspace.root / "retraining"


def read(path: Path) -> Retraining:
    values = read_json(path, f"Report {path.parent.name}")
    gain = values.pop("gain", None)
    return Retraining(**values, gain=Gain(**gain) if gain else None)
