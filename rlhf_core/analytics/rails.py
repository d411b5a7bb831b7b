"""Whether a canary's answers are worse: what people say of both arms, held against rails that a canary without a fault hardly
ever breaks, however often one looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from rlhf_core.analytics.sequential import Floats, Interval, crossed, differences, interval, signs, wealth
from rlhf_core.ground.rollout import Arm, Served, State

COUNTS_AT_MOST = 5  # answers of a person: nobody decides alone
MARGIN = 0.25  # stars; a canary that is shown not to be worse by more may grow


@dataclass(frozen=True, slots=True)
class Rail:
    """One thing that is watched. ``alpha``: how probable it is at most that it ever takes back a canary without a fault;
    ``wealth``: evidence against the canary after each comparison (see :mod:`rlhf_core.analytics.sequential`), which takes it back
    at 1/alpha; ``after``: comparisons until then, None: not yet. ``canary``, ``control``: what is shown of the arms, None: no
    data."""

    name: str
    about: str
    alpha: float
    wealth: Floats
    after: int | None
    canary: float | None
    control: float | None
    unit: str

    @property
    def evidence(self) -> float:
        return float(self.wealth[-1]) if len(self.wealth) else 1.0


@dataclass(frozen=True, slots=True)
class Look:
    """How a roll-out stands. ``number``: of the log's last entry. ``answers``, ``rated``, ``people``: by arm. ``difference``:
    canary minus control in stars, at every look together, at a level of 95%; ``not_worse_after``: comparisons until it was shown
    not to be worse by ``MARGIN``; ``fault``: why it has to go back."""

    state: State
    number: int = 0
    rails: list[Rail] = field(default_factory=list)
    answers: dict[Arm, int] = field(default_factory=dict)
    rated: dict[Arm, int] = field(default_factory=dict)
    people: dict[Arm, int] = field(default_factory=dict)
    difference: Interval | None = None
    not_worse_after: int | None = None
    fault: str | None = None

    @property
    def says(self) -> str:
        """In a sentence."""
        if self.state.canary is None:
            return "Nothing is being rolled out."
        if self.fault:
            return self.fault
        for arm in ("canary", "control"):
            if not self.rated.get(arm):
                return f"Nobody has rated an answer of the {arm} yet, so there is nothing to compare."
        if self.not_worse_after is not None:
            return f"It is not worse by more than {MARGIN:g} stars, so its share may grow."
        return "There is no sign that it is worse, and not enough yet to say that it is not."


def judge(now: State, served: Sequence[Served]) -> Look:
    """What the answers of both arms say. ``served``: in the order in which they came."""
    canary_of = [(one, one.checkpoint_id == now.canary) for one in served]
    rated = _values(canary_of, lambda one: one.rating)
    apart = differences(rated)
    refusals = _values(canary_of, lambda one: None if one.refused is None else float(one.refused))
    lengths = _values(canary_of, lambda one: float(one.characters))
    delays = _values(canary_of, lambda one: one.latency_ms)
    rails = [
        _rail("rating", "people rate its answers lower", 0.02, rated, wealth(apart, worst=4.0), "stars"),
        _rail("refusals", "it refuses more often", 0.01, refusals, wealth(-differences(refusals), worst=1.0, tolerated=0.05),
              "of answers"),
        _rail("length", "its answers are longer", 0.01, lengths, wealth(-signs(lengths), worst=0.5, tolerated=0.15),
              "characters"),
        _rail("latency", "it takes longer to answer", 0.01, delays, wealth(-signs(delays), worst=0.5, tolerated=0.15), "ms"),
    ]  # fmt: skip
    broken = [one for one in rails if one.after is not None]
    fault = None
    if broken:
        first = broken[0]
        assert first.after is not None
        fault = (
            f"{first.about[0].upper()}{first.about[1:]}: {_told(first.canary)} beside {_told(first.control)} {first.unit}, "
            f"sure after {first.after:,} comparisons (evidence {first.wealth[first.after - 1]:,.0f}, {1 / first.alpha:,.0f} is "
            "enough)."
        )
    count: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    for one, is_canary in canary_of:
        count[is_canary]["answers"] += 1
        count[is_canary]["rated"] += one.rating is not None
    people = {flag: len({one.user_id for one, is_canary in canary_of if is_canary == flag}) for flag in (False, True)}
    return Look(
        now, 0, rails,
        {"control": count[False]["answers"], "canary": count[True]["answers"]},
        {"control": count[False]["rated"], "canary": count[True]["rated"]},
        {"control": people[False], "canary": people[True]},
        interval(apart, 0.05), crossed(wealth(-(apart + MARGIN), worst=4.0 + MARGIN), 0.05), fault,
    )  # fmt: skip


def _rail(name: str, about: str, alpha: float, values: Sequence[tuple[bool, float]], grown: Floats, unit: str) -> Rail:
    means = [float(np.mean(some)) if (some := [one for flag, one in values if flag == arm]) else None for arm in (True, False)]
    return Rail(name, about, alpha, grown, crossed(grown, alpha), means[0], means[1], unit)


def _values(canary_of: Sequence[tuple[Served, bool]], value: Callable[[Served], float | None]) -> list[tuple[bool, float]]:
    """(whether it is the canary's, value) of each that has one."""
    return [(is_canary, found) for one, is_canary in canary_of if (found := value(one)) is not None]


def counted(served: Sequence[Served]) -> list[Served]:
    """Rated answers of a person count up to a limit, and so do those without a word."""
    seen: Counter[tuple[str, str, bool]] = Counter()
    kept = []
    for one in served:
        key = (one.user_id, one.checkpoint_id, one.rating is not None)
        seen[key] += 1
        if seen[key] <= COUNTS_AT_MOST:
            kept.append(one)
    return kept


def _told(value: float | None) -> str:
    return "nothing" if value is None else f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
