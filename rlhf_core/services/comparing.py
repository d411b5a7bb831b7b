"""Reward scores of several checkpoints side by side, for a whole answer and each of its step prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_core.checkpoints.base_models import offline_names
from rlhf_core.checkpoints.registry import Checkpoint, list_checkpoints
from rlhf_core.ground.errors import InvalidInput, RlhfError
from rlhf_core.ground.records import Chat
from rlhf_core.ground.text import shorten
from rlhf_core.inference.client import ModelRef
from rlhf_core.intake.splitting import split_answer
from rlhf_core.services.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that can score: a checkpoint, or a base model with an untrained head."""

    label: str
    ref: ModelRef
    checkpoint: Checkpoint | None = None


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
    """``rewards[label][k]`` is the reward in stars that a candidate gives to ``places[k]``; ``errors`` by label."""

    query: str
    places: list[Place]
    rewards: dict[str, list[float]]
    errors: dict[str, str]


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
    response = places[-1].text
    steps = [place.text for place in places[:-1]]
    rewards: dict[str, list[float]] = {}
    failures: dict[str, str] = {}
    for candidate in chosen:
        try:
            rewards[candidate.label] = workbench.scoring.score(candidate.ref, [(query, response)], steps)
        except RlhfError as error:
            failures[candidate.label] = str(error)
    return Comparison(query, places, rewards, failures)


def trained_count(workbench: Workbench) -> int:
    workbench.require("compare")
    return len(list_checkpoints(workbench.workspace.checkpoints, "reward"))
