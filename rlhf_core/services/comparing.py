"""Reward scores of several checkpoints side by side, for a whole answer and each of its step prefixes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlhf_core.checkpoints.base_models import offline_names
from rlhf_core.checkpoints.registry import Checkpoint, list_checkpoints, open_scorer
from rlhf_core.ground.answers import Answer, AnswerScore
from rlhf_core.ground.errors import InvalidInput, RlhfError
from rlhf_core.ground.records import DISLIKED, Chat
from rlhf_core.ground.text import shorten
from rlhf_core.inference.client import ModelRef
from rlhf_core.intake.splitting import split_answer
from rlhf_core.services import scoring
from rlhf_core.services.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that can score: a checkpoint, or a base model with an untrained head."""

    label: str
    ref: ModelRef
    checkpoint: Checkpoint | None = None

    @property
    def error_threshold(self) -> float | None:
        """Stars below which it takes a step for an error; None where it has none."""
        return self.checkpoint.manifest["scoring"].get("error_threshold") if self.checkpoint else None


@dataclass(frozen=True, slots=True)
class Place:
    """A row of the comparison: a step (``step_order`` from 1) or the whole answer (None). ``people``: mean score, ratings."""

    step_order: int | None
    text: str
    people: tuple[float, int] | None = None

    @property
    def label(self) -> str:
        return "Whole answer" if self.step_order is None else f"Step {self.step_order}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """``rewards[label][k]`` is the reward in stars that a candidate gives to ``places[k]``; ``errors`` by label. ``left_out``:
    tokens that a candidate left out of the middle of what it read, because it was too long. ``thresholds``: stars below which a
    candidate takes a step for an error, where it knows."""

    query: str
    places: list[Place]
    rewards: dict[str, list[float]]
    errors: dict[str, str]
    left_out: dict[str, int]
    thresholds: dict[str, float]

    @property
    def first_bad(self) -> int | None:
        """Index of the first step that people call bad (a mean of 2 stars or less); None where there is none."""
        return next((k for k, one in enumerate(self.places[:-1]) if one.people and one.people[0] <= DISLIKED), None)

    def drop(self, label: str) -> int | None:
        """Index of the step at which the reward falls most from the step before; None where it never falls."""
        rewards = self.rewards[label][:-1]
        falls = [later - earlier for earlier, later in itertools.pairwise(rewards)]
        return None if not falls or min(falls) >= 0 else falls.index(min(falls)) + 1


def candidates(workbench: Workbench) -> list[Candidate]:
    """All checkpoints, newest first, then the untrained bases that are on this machine (parents of checkpoints first)."""
    workbench.require("compare")
    checkpoints = list_checkpoints(workbench.workspace.checkpoints, "reward")
    trained = [
        Candidate(f"{one.id} · {one.parent}{'' if one.complete else ' · stopped early'}", ModelRef(checkpoint=one.id), one)
        for one in checkpoints
    ]
    known = {one.id for one in checkpoints}
    parents = [one.parent for one in checkpoints if one.parent not in known]
    names = dict.fromkeys([*parents, *(name for name in offline_names() if name not in known)])
    return trained + [Candidate(f"untrained {shorten(name, 40)}", ModelRef(base=name)) for name in names]


def trained(workbench: Workbench) -> list[str]:
    """Ids of reward checkpoints, newest first."""
    workbench.require("compare")
    return [one.id for one in list_checkpoints(workbench.workspace.checkpoints, "reward")]


def candidate(workbench: Workbench, name: str) -> Candidate:
    """The reward checkpoint of this id, labelled by it.

    Raises:
        NotFound, CorruptArtifact: there is none, or it cannot be read.
        InvalidInput: it is a policy.
    """
    workbench.require("compare")
    checkpoint = open_scorer(workbench.workspace.checkpoints, name)
    return Candidate(checkpoint.id, ModelRef(checkpoint=checkpoint.id), checkpoint)


def find_chats(workbench: Workbench, text: str = "", limit: int = 200) -> tuple[list[Chat], bool]:
    """The first chats whose query contains ``text``, without their steps, and whether there are more."""
    found = workbench.store.search_chats(text, limit=limit + 1)
    return found[:limit], len(found) > limit


def chat(workbench: Workbench, chat_id: str) -> Chat:
    """One with its steps.

    Raises:
        NotFound: it is not in the store.
    """
    return workbench.store.chat(chat_id)


def places_of_chat(workbench: Workbench, chat: Chat) -> list[Place]:
    people = workbench.store.mean_scores(chat.id)
    steps = [Place(step.step_order, step.step_content, people.get(step.id)) for step in chat.steps]
    return [*steps, Place(None, chat.response, people.get(None))]


def places_of_text(response: str) -> tuple[str, list[Place]]:
    """The answer (streamed marks taken out) and its places, steps split from it.

    Raises:
        InvalidInput: the text is blank.
    """
    if not response.strip():
        raise InvalidInput("Type or paste an answer to score.")
    split = split_answer(response)
    return split.response, [*(Place(k, step) for k, step in enumerate(split.steps, 1)), Place(None, split.response)]


def scores_of(
    workbench: Workbench, chosen: Sequence[Candidate], answers: Sequence[Answer],
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, list[AnswerScore]], dict[str, str]]:  # fmt: skip
    """By label, in the order chosen: what each candidate says of each answer; and of those that cannot score, why."""
    scores: dict[str, list[AnswerScore]] = {}
    errors: dict[str, str] = {}
    given = scoring.score_answers(workbench, [one.ref for one in chosen], answers, on_progress)
    for candidate, result in zip(chosen, given, strict=True):
        if isinstance(result, RlhfError):
            errors[candidate.label] = str(result)
        else:
            scores[candidate.label] = result
    return scores, errors


def compare(workbench: Workbench, chosen: Sequence[Candidate], query: str, places: list[Place]) -> Comparison:
    """Score every place with every candidate. A candidate that cannot be loaded gets an error instead of rewards.

    Raises:
        InvalidInput: no query or no candidate.
    """
    workbench.require("compare")
    if not query.strip():
        raise InvalidInput("Type the question that the answer is for.")
    if not chosen:
        raise InvalidInput("Choose at least one checkpoint.")
    answer = Answer(query, places[-1].text, tuple(place.text for place in places[:-1]))
    scores, failures = scores_of(workbench, chosen, [answer])
    rewards = {label: [*one.steps, one.whole] for label, (one,) in scores.items()}
    left_out = {label: one.left_out for label, (one,) in scores.items()}
    thresholds = {one.label: one.error_threshold for one in chosen if one.label in scores and one.error_threshold is not None}
    return Comparison(query, places, rewards, failures, left_out, thresholds)


def in_words(result: Comparison) -> list[str]:
    """Where people see the first bad step, and where each checkpoint's reward falls most."""
    found = []
    bad = result.first_bad
    if bad is not None:
        found.append(f"People call {result.places[bad].label.lower()} the first bad one.")
    for label, rewards in result.rewards.items():
        drop = result.drop(label)
        if drop is None:
            continue
        by = rewards[drop - 1] - rewards[drop]
        words = f"{label} falls most at {result.places[drop].label.lower()}, by {by:.2f} stars"
        if bad is not None:
            words += ", as people do" if drop == bad else ""
        threshold = result.thresholds.get(label)
        if threshold is not None:
            below = next((k for k, one in enumerate(rewards[:-1]) if one < threshold), None)
            words += (
                f"; it takes no step for an error (below {threshold:.2f})" if below is None
                else f"; it takes {result.places[below].label.lower()} for the first error (below {threshold:.2f})"
            )  # fmt: skip
        found.append(f"{words}.")
    return found


def trained_count(workbench: Workbench) -> int:
    workbench.require("compare")
    return len(list_checkpoints(workbench.workspace.checkpoints, "reward"))
