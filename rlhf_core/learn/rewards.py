"""What judges a policy's answers: reward checkpoints, or a function on text, alone or several weighed together.

Every source reads text, so the policy's tokenizer need not be the reward model's.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rlhf_core.ground.errors import InvalidInput, RlhfError
from rlhf_core.ground.settings import check_reward_function
from rlhf_core.intake.splitting import SplitAnswer, split_answer, split_sentences
from rlhf_core.learn.reward_model import RewardModel


@dataclass(frozen=True, slots=True)
class Answer:
    """What is judged. ``steps`` stand in ``text`` in order, word for word; none: the answer is judged whole."""

    query: str
    text: str
    steps: tuple[str, ...] = ()


def steps_of(text: str, unit: str) -> SplitAnswer:
    """The answer without protocol lines, and its steps: ``sentences``, or ``as_imported``."""
    return split_sentences(text) if unit == "sentences" else split_answer(text)


class Source(Protocol):
    """Of each answer: one reward for each of its steps, or a single one where it has none."""

    def __call__(self, answers: Sequence[Answer]) -> list[list[float]]: ...


class CheckpointRewards:
    """Rewards in stars of a reward model."""

    def __init__(self, model: RewardModel) -> None:
        self.model = model

    def __call__(self, answers: Sequence[Answer]) -> list[list[float]]:
        """Steps as the model was trained to read them."""
        whole = iter(self.model.compute_batch_rewards([(one.query, one.text) for one in answers if not one.steps]))
        stepwise = iter(self.model.score_steps_of([(one.query, one.steps, one.text) for one in answers if one.steps]))
        return [next(stepwise) if one.steps else [next(whole)] for one in answers]


class FunctionRewards:
    """Rewards of a function of lists of texts, in any unit: ``(prompts, completions)`` gives one for each answer, and for rewards
    of steps ``(prompts, completions, steps)`` gives a list for each answer, one for each of its steps.

    Args:
        name: ``package.module:function``, importable from the current folder.

    Raises:
        InvalidInput: it cannot be imported or called, or the operator does not list it.
    """

    def __init__(self, name: str) -> None:
        check_reward_function(name)  # as it is begun; a config may have come from elsewhere
        self.name = name
        module, colon, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute) if colon and attribute else None
        except (ImportError, AttributeError) as error:
            raise InvalidInput(
                f"The reward function {name!r} cannot be imported: {error}. Give package.module:function."
            ) from error
        if not callable(found):
            raise InvalidInput(f"{name!r} is no function. Give package.module:function.")
        self._function: Callable[..., Any] = found

    def __call__(self, answers: Sequence[Answer]) -> list[list[float]]:
        """
        Raises:
            RlhfError: it gave another number of rewards than there are answers or steps.
        """
        prompts, texts = [one.query for one in answers], [one.text for one in answers]
        stepwise = any(one.steps for one in answers)
        steps = [list(one.steps) or [one.text] for one in answers]  # an answer without any is one
        given = self._function(prompts, texts, steps) if stepwise else self._function(prompts, texts)
        try:
            found = [[float(value) for value in some] if stepwise else [float(some)]
                     for _, some in zip(answers, given, strict=True)]  # fmt: skip
        except (TypeError, ValueError) as error:
            raise RlhfError(
                f"The reward function {self.name} did not give one reward for each answer or step: {error}."
            ) from error
        for one, some in zip(answers, found, strict=True):
            if len(some) != max(1, len(one.steps)):
                raise RlhfError(f"The reward function {self.name} gave {len(some)} rewards for {len(one.steps)} steps.")
        return found


class Weighed:
    """The weighted sum of several sources.

    Args:
        sources: Name, weight and source of each.
    """

    def __init__(self, sources: Sequence[tuple[str, float, Source]]) -> None:
        self.sources = list(sources)

    def __call__(self, answers: Sequence[Answer]) -> list[list[float]]:
        """
        Raises:
            RlhfError: a source gave a reward that is no number.
        """
        total = [[0.0] * max(1, len(one.steps)) for one in answers]
        for name, weight, source in self.sources:
            for one, mine, some in zip(answers, total, source(answers), strict=True):
                for k, reward in enumerate(some):
                    if not math.isfinite(reward):
                        raise RlhfError(
                            f"{name} gave the reward {reward} to the answer {one.text[:80]!r}. A policy cannot learn from it: "
                            "mend the function, or train the reward model again."
                        )
                    mine[k] += weight * reward
        return total
