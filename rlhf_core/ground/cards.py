"""A reward model's report card: what a run measured, read by pages, by the gate before PPO and roll-out, and by people.

The card is one JSON file beside the weights. Scores and rewards are in stars; intervals are 95%.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from rlhf_core.ground.errors import CorruptArtifact, ModelRefused
from rlhf_core.ground.files import read_json

CARD_FILE = "card.json"
FORMAT = 1
Kind = Literal["answers", "steps"]
Measured = Literal["answers", "steps", "pairs"]
State = Literal["trusted", "careful", "refused"]
BADNESS: dict[State, int] = {"trusted": 0, "careful": 1, "refused": 2}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Value(_Part):
    """A figure with its interval; None where the data do not give one."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Floor(_Part):
    """What a model that cannot read would reach, and how far the reward model is above it."""

    name: Literal["length", "bag of words"]
    figure: Value
    ahead: Value


class ReliabilityBin(_Part):
    reward: float
    score: float
    count: int


class Group(_Part):
    """One source, model, position or rater. ``auc`` and ``error`` (stars) are of this group alone."""

    by: Literal["source", "model", "step", "rater", "aspect"]
    name: str
    count: int
    auc: float | None
    spearman: float | None
    error: float


class Ceiling(_Part):
    """How well one person agrees with the others' mean on things that several judged, and the model on the same things."""

    things: int
    people: float | None
    model: float | None


class FirstError(_Part):
    """Finding the first bad step of a chat: F1 as ProcessBench defines it, with the threshold fitted on validation."""

    chats: int
    with_error: int
    threshold: float
    f1: Value
    length: float | None
    bag_of_words: float | None


class OfKind(_Part):
    """Everything measured of whole answers, or of steps."""

    examples: int
    queries: int
    liked: int
    disliked: int
    auc: Value
    accuracy: Value
    spearman: Value
    kendall: Value
    error: Value
    error_of_mean: float | None
    floors: list[Floor]
    length_correlation: float | None
    people_length_correlation: float | None
    spearman_at_fixed_length: Value
    reliability: list[ReliabilityBin]
    calibration_error: float | None
    midpoint: float | None
    temperature: float | None
    chance_error: float | None
    groups: list[Group]
    ceiling: Ceiling | None
    enough: bool
    state: State
    reasons: list[str]


class OfPairs(_Part):
    """Everything measured of pairs that people preferred one of. ``accuracy``: share in which the better one gets more reward."""

    pairs: int
    queries: int
    accuracy: Value
    floors: list[Floor]
    enough: bool
    state: State
    reasons: list[str]


class Probe(_Part):
    """A text that deserves no reward, put to real queries. ``beats``: share of them where it gets more than the answer that
    people liked (of padding: more than the same answer without it)."""

    name: str
    text: str
    queries: int
    reward: float
    beats: float
    passed: bool


class StepReadings(_Part):
    """Steps read with what stands before them (``prefixes``), beside the answer read once for all of its steps (``one_pass``):
    AUC of each, how far prefixes are ahead, rank correlation of the two, and how many times the tokens prefixes take."""

    steps: int
    prefixes: Value
    one_pass: Value
    prefixes_ahead: Value
    rank_correlation: float | None
    tokens_ratio: float
    trained_on: Literal["prefixes", "one_pass"]
    better: Literal["prefixes", "one_pass", "either"]


class AggregateFigure(_Part):
    """How well a reward made of the steps' rewards (``min``, ``last`` ...) says what people gave the answer."""

    how: str
    answers: int
    auc: float | None
    spearman: float | None


class CurvePoint(_Part):
    """What readouts reach that are fitted on so many judgements."""

    judgements: int
    figure: Value


class KindGain(_Part):
    """What a hundred judgements of a kind bring."""

    kind: Measured
    gain: Value


class Curve(_Part):
    """What more judgements would bring, for AUC of steps or answers, or the share of pairs ranked right (0 to 1)."""

    of: Measured
    judgements: int
    more: int
    points: list[CurvePoint]
    gain: Value
    kinds: list[KindGain]

    def in_words(self) -> list[str]:
        """What to make of it."""
        what = "the share of pairs ranked right" if self.of == "pairs" else f"AUC on {self.of}"
        lines = [f"{self.more} more judgements like these: about {_points(self.gain)} in {what}."]
        if self.kinds:
            per = "; ".join(f"{one.kind} {_points(one.gain)}" for one in self.kinds)
            lines.append(f"What 100 judgements of a kind bring there: {per}.")
        return lines


def _points(gain: Value) -> str:
    """Percentage points with their interval."""
    if gain.value is None:
        return "unknown"
    span = "" if gain.low is None or gain.high is None else f" ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    return f"{100 * gain.value:+.1f} points{span}"


class ReportCard(_Part):
    """What is known of a reward model on queries that it has not seen."""

    format: Literal[1] = 1
    train_examples: int
    train_pairs: int
    answers: OfKind | None
    steps: OfKind | None
    pairs: OfPairs | None
    first_error: FirstError | None
    probes: list[Probe]
    cut: int
    state: State
    verdict: str
    todo: list[str]
    folds: int = 0
    aspects: list[Group] = []
    step_readings: StepReadings | None = None
    aggregates: list[AggregateFigure] = []
    curve: Curve | None = None

    def fit(self, kind: Kind) -> tuple[State, list[str]] | None:
        """Whether rewards of this kind can be acted on, and why not; None where nothing was measured of it.

        Ratings of answers and pairs of answers both speak of answers: what has enough data decides, the worse of two.
        """
        parts = [part for part in ((self.answers, self.pairs) if kind == "answers" else (self.steps,)) if part is not None]
        if not parts:
            return None
        deciding = [part for part in parts if part.enough] or parts
        worst = max(deciding, key=lambda part: BADNESS[part.state])
        return worst.state, worst.reasons


Line = tuple[str, str, str]
READ: dict[str, str] = {"prefixes": "each with what stands before it", "one_pass": "the answer once for all of its steps"}


def figure(value: Value | float | None, form: str = ".2f") -> str:
    """A value for people, with its interval if it has one."""
    if isinstance(value, Value):
        span = "" if value.low is None or value.high is None else f" ({value.low:{form}} to {value.high:{form}})"
        return figure(value.value, form) + span
    return "–" if value is None else f"{value:{form}}"


def lines_of(part: OfKind | OfPairs | FirstError | StepReadings) -> list[Line]:
    """What was measured as (measure, value with its interval, what to hold beside it), for pages and model cards."""
    if isinstance(part, StepReadings):
        verdict = "neither is better beyond doubt" if part.better == "either" else f"better: {READ[part.better]}"
        return [
            (f"AUC, {READ['prefixes']}", figure(part.prefixes), f"{part.tokens_ratio:.1f} times the tokens"),
            (f"AUC, {READ['one_pass']}", figure(part.one_pass), f"{part.steps:,} steps"),
            ("the first is ahead by", figure(part.prefixes_ahead), verdict),
            ("rank correlation of the two", figure(part.rank_correlation), f"trained on: {READ[part.trained_on]}"),
        ]
    if isinstance(part, FirstError):
        floor = max((one for one in (part.length, part.bag_of_words) if one is not None), default=None)
        worse = floor is not None and part.f1.value is not None and part.f1.value < floor
        beside = f"{part.chats} chats, {part.with_error} with an error"
        return [
            ("F1 of the first error", figure(part.f1), beside + ("; less than length or words alone find" if worse else "")),
            ("length and position alone", figure(part.length), ""),
            ("bag of words alone", figure(part.bag_of_words), ""),
            ("threshold, stars", figure(part.threshold), "a step below it is taken for an error"),
        ]
    floors = [(f"{one.name} alone", figure(one.figure), f"the model is ahead by {figure(one.ahead)}") for one in part.floors]
    if isinstance(part, OfPairs):
        return [("pairs ranked right", figure(part.accuracy), f"0.5 is chance; {part.pairs:,} pairs"), *floors]
    people = part.people_length_correlation
    found = [
        ("AUC, liked against disliked", figure(part.auc), "0.5 is chance"),
        *floors,
        ("pairs of one query ranked as people do", figure(part.accuracy), "0.5 is chance"),
        ("rank correlation (Spearman)", figure(part.spearman), f"Kendall {figure(part.kendall)}"),
        ("the same at fixed length", figure(part.spearman_at_fixed_length),
         f"reward and length {figure(part.length_correlation)}, people and length {figure(people)}"),
        ("error, stars", figure(part.error), f"of guessing the mean {figure(part.error_of_mean)}"),
        ("calibration error, stars", figure(part.calibration_error),
         f"of the chance of being liked {figure(part.chance_error)}"),
    ]  # fmt: skip
    if part.ceiling is not None:
        model = f"the model on the same things {figure(part.ceiling.model)}"
        found.append(("one person against the others", figure(part.ceiling.people), model))
    return found


def lines_of_aspects(aspects: Sequence[Group]) -> list[Line]:
    """Of each aspect that the model has an output for."""
    return [
        (
            one.name,
            figure(one.auc),
            f"rank correlation {figure(one.spearman)}, error {figure(one.error)} stars, {one.count:,} rated",
        )
        for one in aspects
    ]


def lines_of_aggregates(aggregates: Sequence[AggregateFigure]) -> list[Line]:
    """Of each way from rewards of steps to one of the answer."""
    return [(one.how, figure(one.auc), f"rank correlation {figure(one.spearman)}, {one.answers:,} answers") for one in aggregates]


def read_card(folder: Path) -> ReportCard | None:
    """The card beside a checkpoint's weights; None for one that was trained before there were cards.

    Raises:
        CorruptArtifact: it cannot be read as one.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        return None
    try:
        return ReportCard.model_validate(read_json(path, f"The report card of {folder.name}"))
    except ValidationError as error:
        raise CorruptArtifact(
            f"The report card of {folder.name} is not one this version reads ({error.error_count()} problems). Train again."
        ) from error


def require_trust(name: str, card: ReportCard | None, kind: Kind, purpose: str) -> None:
    """The gate: whatever acts on rewards asks here first.

    Args:
        name: The checkpoint's id.
        card: Its card.
        kind: What will be scored.
        purpose: What the rewards are for, as in "PPO".

    Raises:
        ModelRefused: there is no card, nothing was measured of this kind, or the card refuses it.
    """
    found = card.fit(kind) if card else None
    if card is None or found is None:
        what = "has no report card" if card is None else f"was not measured on {kind}"
        raise ModelRefused(f"{name} {what}, so {purpose} cannot trust it. Train again on a snapshot with ratings of {kind}.")
    state, reasons = found
    if state == "refused" or card.state == "refused":
        why = " ".join(reasons) if state == "refused" else card.verdict
        raise ModelRefused(" ".join([f"{purpose} refuses {name}: {why}", *card.todo]))
