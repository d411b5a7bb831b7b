"""Several reward models over the same answers: a text is read once for all its spans, and once for all models that share a body.

Models whose readouts were fitted over one frozen body (method head) differ in those alone, so what the body says of a text serves
them all.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlhf_core.ground.answers import Answer, AnswerScore
from rlhf_core.learn.measures import Floats
from rlhf_core.learn.networks import SpanNetwork
from rlhf_core.learn.reading import whole_answer
from rlhf_core.learn.reward_model import RewardModel


@dataclass(frozen=True, slots=True)
class Ready:
    """A model, and what names its body: two of one ``body`` read texts alike. None: nobody else's."""

    model: RewardModel
    body: Hashable | None = None

    @property
    def group(self) -> Any:
        network = self.model.network
        if self.body is None or not isinstance(network, SpanNetwork):
            return id(self.model)
        return (self.body, network.middle, network.lengths, self.model.max_length, self.model.step_reading, self.model.precision)


def score_together(models: Sequence[Ready], answers: Sequence[Answer]) -> list[list[AnswerScore]]:
    """What each model says of each answer, its steps read the way it was trained.

    Returns:
        For each model, one for each answer.
    """
    groups: dict[Any, list[int]] = {}
    for k, one in enumerate(models):
        groups.setdefault(one.group, []).append(k)
    found: list[list[AnswerScore]] = [[] for _ in models]
    for members in groups.values():
        first = models[members[0]].model
        whole = first.encode([whole_answer(one.query, one.response) for one in answers])
        steps = first.encode_steps([(one.query, one.steps, one.response) for one in answers])
        encoded = [[one, *some] for one, some in zip(whole, steps, strict=True)]
        texts = [part for of_answer in encoded for part in of_answer]
        features = first.features(texts) if len(members) > 1 else None
        for k in members:
            model = models[k].model
            outputs = model.outputs(texts) if features is None else _read_out(model, features)
            stars = iter(model.scales[0].stars(outputs[:, 0].astype(float)).tolist())
            for of_answer in encoded:
                left_out = max(part.left_out for part in of_answer)
                values = [next(stars) for part in of_answer for _ in part.spans]
                found[k].append(AnswerScore(values[0], values[1:], left_out))
    return found


@torch.inference_mode()
def _read_out(model: RewardModel, features: Floats) -> Floats:
    network = model.network
    assert isinstance(network, SpanNetwork)
    return network.readout(torch.from_numpy(features).to(model.device)).float().cpu().numpy()
