"""The nouns of trust: rubrics and their aspects, items with a known answer, disputes and decisions. Plain values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.records import SCORE_MAX, SCORE_MIN, Verdict, check_comment, check_score, is_good

DecisionKind = Literal["score", "first_error", "preference"]
Level = Literal["nominal", "ordinal", "interval", "ratio"]  # of measurement: how values differ
What = Literal["steps", "answers", "aspects", "preferences", "first errors"]  # that raters agree on
By = Literal["source", "queue", "aspect", "rater"]
MAX_ASPECTS = 12
OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class Aspect:
    """One question of a rubric. ``anchors``: what a score from 1 to 5 means. ``of``: the whole answer, or each step.

    The key ``overall`` is no further question: its anchors stand beside the score that is asked for anyway.
    """

    key: str
    question: str
    of: Literal["answer", "step"] = "answer"
    anchors: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rubric:
    """What a queue asks beside the score. A version never changes; ratings name the version that their person saw."""

    queue_id: str
    version: int
    aspects: tuple[Aspect, ...]
    created_at: str = ""


def first_bad(steps: Iterable[str], scores: Mapping[Any, int]) -> str:
    """The first of these steps (ids, in order) that somebody's scores call bad (1-2); "" for none."""
    return next((step for step in steps if is_good(scores.get(step)) is False), "")


def check_aspects(aspects: Sequence[Aspect]) -> tuple[Aspect, ...]:
    """
    Raises:
        InvalidInput: too many, two with one name, a name or question that is empty or too long, an anchor for no score.
    """
    if len(aspects) > MAX_ASPECTS:
        raise InvalidInput(f"A rubric has at most {MAX_ASPECTS} aspects; got {len(aspects)}.")
    checked = []
    for one in aspects:
        key = one.key.strip().lower()
        if not re.fullmatch(r"[a-z][a-z0-9 _-]{0,39}", key):
            raise InvalidInput(f"An aspect's name is 1 to 40 letters, digits, blanks or dashes; got {one.key!r}.")
        if one.of not in ("answer", "step"):
            raise InvalidInput(f"{key} is asked of the answer or of each step; got {one.of!r}.")
        if len(one.question) > 500 or (key != OVERALL and not one.question.strip()):
            raise InvalidInput(f"{key} needs a question of at most 500 characters.")
        if any(not isinstance(score, int) or not SCORE_MIN <= score <= SCORE_MAX for score in one.anchors):
            raise InvalidInput(f"{key}: anchors belong to the scores 1 to 5; got {sorted(one.anchors)}.")
        anchors = {score: text.strip() for score, text in sorted(one.anchors.items()) if text.strip()}
        if any(len(text) > 500 for text in anchors.values()):
            raise InvalidInput(f"{key}: an anchor has at most 500 characters.")
        checked.append(Aspect(key, one.question.strip(), one.of, anchors))
    if len({one.key for one in checked}) < len(checked):
        raise InvalidInput("Two aspects of the rubric have the same name.")
    return tuple(checked)


def aspects_to_json(aspects: Sequence[Aspect]) -> str:
    return json.dumps(
        [{"key": one.key, "question": one.question, "of": one.of, "anchors": {str(k): v for k, v in one.anchors.items()}}
         for one in aspects], ensure_ascii=False,
    )  # fmt: skip


def aspects_from_json(text: str) -> tuple[Aspect, ...]:
    return tuple(
        Aspect(one["key"], one["question"], one["of"], {int(k): v for k, v in one["anchors"].items()}) for one in json.loads(text)
    )


@dataclass(frozen=True, slots=True)
class GoldAnswer:
    """What is known of an item. ``scores`` by step id (None: the whole answer); ``first_error``: a step's id, or "" for none, or
    None where it is not asked; ``verdict`` of a pair."""

    scores: Mapping[str | None, int] = field(default_factory=dict)
    first_error: str | None = None
    verdict: Verdict | None = None

    def to_json(self) -> str:
        answer: dict[str, Any] = {}
        if self.scores:
            answer["scores"] = {step or "": score for step, score in self.scores.items()}
        if self.first_error is not None:
            answer["first_error"] = self.first_error
        if self.verdict is not None:
            answer["verdict"] = self.verdict
        return json.dumps(answer)

    @classmethod
    def from_json(cls, text: str) -> GoldAnswer:
        answer = json.loads(text)
        scores = {step or None: score for step, score in answer.get("scores", {}).items()}
        return cls(scores, answer.get("first_error"), answer.get("verdict"))


def check_gold(answer: GoldAnswer, other_id: str | None) -> None:
    """
    Raises:
        InvalidInput: nothing is known, or what is known is not of this kind of item.
    """
    for score in answer.scores.values():
        check_score(score)
    if other_id is None and (answer.verdict is not None or not (answer.scores or answer.first_error is not None)):
        raise InvalidInput("A known answer says a score of a step or of the answer, or which step is the first error.")
    if other_id is not None and (answer.verdict not in get_args(Verdict) or answer.scores or answer.first_error is not None):
        raise InvalidInput("The known answer of a pair says which is better: chat, other, tie or both_bad.")


@dataclass(frozen=True, slots=True)
class Gold:
    """An item whose answer is known. ``given``: how often it was answered; ``share``: mean share of it that was right."""

    id: str
    chat_id: str
    other_id: str | None
    query: str
    source: str
    answer: GoldAnswer
    explanation: str
    created_at: str
    given: int = 0
    share: float | None = None

    @classmethod
    def of(cls, row: Sequence[Any]) -> Gold:
        """From a row of a store, whose known answer is JSON."""
        fields = list(row)
        fields[5] = GoldAnswer.from_json(fields[5])
        return cls(*fields)


@dataclass(frozen=True, slots=True)
class GoldPlace:
    """``place``: a step's id, "" for the whole answer, "first_error" or "verdict". ``known`` and ``given`` as text; "": none."""

    place: str
    known: str
    given: str
    same: bool


@dataclass(frozen=True, slots=True)
class After:
    """What may be told once an item is submitted. ``places``, ``explanation``: a known answer; ``rewards`` in stars by step id
    ("" for the whole answer), of a pair by the two chats' ids."""

    places: tuple[GoldPlace, ...] = ()
    explanation: str = ""
    checkpoint_id: str | None = None
    rewards: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Screening:
    """How somebody did on the known answers that come before first work. ``share`` right of those ``answered``."""

    user_id: str
    display_name: str
    answered: int
    share: float


@dataclass(frozen=True, slots=True)
class Dispute:
    """A chat or a pair that people judge differently. ``spread`` in stars between the highest and lowest score of one thing;
    ``stops``: different first errors (none is one of them); ``verdicts``: different words on which is better. ``decided``: how
    many decisions there are; ``open``: how many of the places on which they differ have none."""

    chat_id: str
    other_id: str | None
    query: str
    raters: int
    spread: int
    stops: int
    verdicts: int
    decided: int
    open: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """One person's word, for somebody who settles a dispute. ``place``: a step's id, a step's order (of a pair), or None.

    ``kind``: score, first_error, aspect:NAME, preference, preference:NAME. ``value``: a score, or a verdict with its strength.
    """

    user_id: str
    place: str | int | None
    kind: str
    value: str
    comment: str | None
    at: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What counts where raters dispute. ``value``: a score 1-5; for first_error a step's id or "" for none; a verdict."""

    id: str
    chat_id: str
    other_id: str | None
    step_id: str | None
    kind: DecisionKind
    value: str
    reason: str
    decided_at: str = ""


def check_decision(decision: Decision) -> None:
    """
    Raises:
        InvalidInput: no reason, or a value that this kind of decision cannot have.
    """
    if not decision.reason.strip():
        raise InvalidInput("A decision needs a reason: a word on why, for those who rated otherwise.")
    check_comment(decision.reason)
    allowed: tuple[str, ...] | None = {
        "score": ("1", "2", "3", "4", "5"), "preference": get_args(Verdict), "first_error": None,
    }[decision.kind]  # fmt: skip
    if allowed is not None and decision.value not in allowed:
        raise InvalidInput(f"The decision is {decision.value!r}; expected one of {', '.join(allowed)}.")
    if (decision.kind == "preference") != (decision.other_id is not None):
        raise InvalidInput("A preference is decided for two answers, a score or first error for one.")
