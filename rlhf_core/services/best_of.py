"""Best of n: a policy writes several answers to a question, and every checkpoint says which is best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlhf_core.checkpoints.registry import list_checkpoints
from rlhf_core.ground.answers import Answer
from rlhf_core.ground.errors import InvalidInput
from rlhf_core.intake.splitting import answer_of
from rlhf_core.services import comparing, scoring
from rlhf_core.services.comparing import Candidate
from rlhf_core.services.workbench import Workbench

MOST = 64  # answers


@dataclass(frozen=True, slots=True)
class Sampled:
    """An answer. ``ended``: the policy ended it itself, or it had no tokens left."""

    answer: Answer
    ended: bool


@dataclass(frozen=True, slots=True)
class Ranked:
    """``rewards[label][k]`` in stars of ``sampled[k]``; ``errors`` by label."""

    query: str
    sampled: list[Sampled]
    rewards: dict[str, list[float]]
    errors: dict[str, str]

    def winner(self, label: str) -> int:
        """Index of the answer of the highest reward."""
        rewards = self.rewards[label]
        return rewards.index(max(rewards))


def policies(workbench: Workbench) -> list[str]:
    """Ids of the policies of this workspace, newest first."""
    workbench.require("compare")
    return [one.id for one in list_checkpoints(workbench.workspace.checkpoints, "policy")]


def sample(
    workbench: Workbench, policy: str, query: str, count: int, *, max_tokens: int = 128, temperature: float = 1.0,
    top_p: float = 1.0, seed: int = 0,
) -> list[Sampled]:  # fmt: skip
    """So many answers of a policy. Those without a word are left out.

    Raises:
        InvalidInput: no question, too many answers, or more tokens than the policy reads.
        NotFound, CorruptArtifact, ModelUnavailable: the policy.
    """
    workbench.require("compare")
    if not query.strip():
        raise InvalidInput("Type a question for the policy.")
    if not 1 <= count <= MOST:
        raise InvalidInput(f"{count} answers were asked for; 1 to {MOST} can be.")
    given = workbench.scoring.write(
        policy, query.strip(), count, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed,
        device=scoring.scoring_device(workbench),
    )  # fmt: skip
    found = []
    for text, ended in given:
        if text.strip():
            found.append(Sampled(answer_of(query, text), ended))
    return found


def rank(
    workbench: Workbench, chosen: Sequence[Candidate], query: str, sampled: Sequence[Sampled],
    on_progress: Callable[[int, int], None] | None = None,
) -> Ranked:  # fmt: skip
    """What each checkpoint says of each answer as a whole.

    Raises:
        InvalidInput: nothing to choose from, or nobody to choose.
    """
    if not chosen:
        raise InvalidInput("Choose at least one checkpoint.")
    if not sampled:
        raise InvalidInput("The policy said nothing at all. Raise the temperature or the number of answers.")
    scores, errors = comparing.scores_of(workbench, chosen, [one.answer for one in sampled], on_progress)
    return Ranked(query, [*sampled], {label: [one.whole for one in some] for label, some in scores.items()}, errors)
