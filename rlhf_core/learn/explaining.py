"""Why a text got its reward: which of its words moved it, and which rated texts the model takes for alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from captum.attr import LayerIntegratedGradients
from torch import Tensor

from rlhf_core.ground.answers import Explained
from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.text import before_answer
from rlhf_core.learn.measures import Floats
from rlhf_core.learn.networks import SpanNetwork
from rlhf_core.learn.reading import Encoded, Reading
from rlhf_core.learn.reward_model import RewardModel

STEPS = 32  # of the integral
TOGETHER_TOKENS = 2048  # of one pass
_WORD = re.compile(r"\S+")


def explain(model: RewardModel, reading: Reading) -> Explained:
    """Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) from the text with blank tokens to the text itself.

    Args:
        model: The reward model.
        reading: What it reads; the reward is that of its first span.

    Raises:
        InvalidInput: the tokenizer does not say where its tokens stand in the text.
    """
    text = f"{before_answer(reading.query)}{reading.answer}"
    if not getattr(model.tokenizer, "is_fast", False):
        raise InvalidInput("This model's tokenizer does not say where its tokens stand in a text, so words cannot be told apart.")
    (encoded,) = model.encode([reading])
    ids, mask, spans = model.inputs([encoded])
    spans = spans[:1]
    special = set(model.tokenizer.all_special_ids)
    blank_id = model.tokenizer.mask_token_id if model.tokenizer.mask_token_id is not None else model.tokenizer.pad_token_id
    blank = torch.where(torch.isin(ids, torch.tensor(sorted(special), device=ids.device)), ids, blank_id)

    def reward(some: Tensor, attention: Tensor) -> Tensor:
        rows = torch.arange(len(some), device=some.device)[:, None]
        return model.network(some, attention, torch.cat([rows, spans[:, 1:].expand(len(some), 2)], 1))[:, 0]

    was = [(parameter, parameter.requires_grad) for parameter in model.network.parameters()]
    try:
        for parameter, _ in was:
            parameter.requires_grad_(False)
        embeddings = model.network.body.get_input_embeddings()
        embeddings.weight.requires_grad_(True)  # something has to, for there to be gradients
        lig = LayerIntegratedGradients(reward, embeddings)
        given = lig.attribute(
            ids, blank, additional_forward_args=(mask,), n_steps=STEPS,
            internal_batch_size=max(1, TOGETHER_TOKENS // max(1, ids.shape[1])),
        ).sum(-1)[0].detach().float().cpu().numpy()  # fmt: skip
        with torch.no_grad():
            outputs = torch.cat([reward(ids, mask), reward(blank, mask)]).float().cpu().numpy().astype(float)
    finally:
        for parameter, needed in was:
            parameter.requires_grad_(needed)
    stars, nothing = (float(one) for one in model.scales[0].stars(outputs))
    total = outputs[0] - outputs[1]
    slope = (stars - nothing) / total if abs(total) > 1e-9 else model.scales[0].std
    words = _words(text, model, encoded, given * slope)
    return Explained(text, stars, nothing, words, stars - nothing - sum(one for *_, one in words), encoded.left_out)


def _words(text: str, model: RewardModel, encoded: Encoded, given: Floats) -> list[tuple[int, int, float]]:
    """What each word adds: the sum of its tokens'. Words that were left out add nothing."""
    tokens = model.tokenizer(text, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
    offsets, ids = tokens["offset_mapping"], tokens["input_ids"]
    before = _first(encoded.ids, ids)
    head = next((k for k in range(len(ids)) if before + k >= len(encoded.ids) or encoded.ids[before + k] != ids[k]), len(ids))
    if encoded.left_out:
        head = min(head, len(ids) - encoded.left_out)
    kept = [(k, before + k) for k in range(head)] + [
        (k, before + k - encoded.left_out) for k in range(head + encoded.left_out, len(ids))
    ]
    at = {place: offsets[k] for k, place in kept}
    spans = [match.span() for match in _WORD.finditer(text)]
    begins = np.array([begin for begin, _ in spans])
    weights = [0.0] * len(spans)
    for place, (begin, end) in at.items():
        if end > begin and place < len(given):
            weights[max(0, int(np.searchsorted(begins, _inked(text, begin, end), side="right")) - 1)] += float(given[place])
    return [(begin, end, weight) for (begin, end), weight in zip(spans, weights, strict=True)]


def _first(whole: Sequence[int], ids: Sequence[int]) -> int:
    """How many special tokens stand before the text."""
    return next((k for k in range(len(whole)) if ids and whole[k] == ids[0]), 0)


def _inked(text: str, begin: int, end: int) -> int:
    """The first character of a token that is no white space."""
    return next((c for c in range(begin, end) if not text[c].isspace()), begin)


def likeness(model: RewardModel, target: Reading, others: Sequence[Reading]) -> list[float]:
    """Cosine of what the model's readout sees of the target's first span and of the others', the others' mean taken off.

    Raises:
        InvalidInput: its readout is a classifier's, which shows no states.
    """
    if not isinstance(model.network, SpanNetwork):
        raise InvalidInput("This model's readout is a classifier's; it does not say which texts it takes for alike.")
    features: Any = model.features(model.encode([Reading(one.query, one.answer, one.spans[:1]) for one in (target, *others)]))
    states = features - features[1:].mean(0)
    states /= np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-9)
    return [float(one) for one in states[1:] @ states[0]]
