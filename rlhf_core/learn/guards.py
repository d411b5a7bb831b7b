"""Pairs that are made up: an answer that people liked against one that deserves nothing. Without them a model trained on a few
hundred ratings has never seen an empty or senseless text, and rewards it like any other; a policy finds that within minutes.

They are worded unlike the report card's probes, which stay a test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from rlhf_core.learn.examples import Example
from rlhf_core.learn.pairs import Pair
from rlhf_core.learn.probes import liked_texts

MADE_UP = "made up"  # where such a pair comes from
EACH = 3  # of a query
CHANCE = 0.95
SHORT = ("Good luck!", "Okay.", "I hope this helps.", "Yes.", "It depends.", "Please let me know if you need anything else.")
PRAISE = (
    "That is such a thoughtful thing to ask, and it shows how far you have come.",
    "You are doing great, and everybody around you can see it.",
    "What a brilliant idea! Nobody could have put it better than you did.",
)


def guard_pairs(train: Sequence[Example], pairs: Sequence[Pair], *, weight: float, seed: int) -> list[Pair]:
    """Three for each query that has a liked text.

    Args:
        train: Rated texts of the training side.
        pairs: Preferred pairs of it.
        weight: Of each.
        seed: Of which are made.
    """
    rng = random.Random(seed)
    makers: list[Callable[[str, str], str]] = [
        lambda _, __: "",
        lambda _, __: rng.choice(SHORT),
        lambda _, __: " ".join(rng.sample(PRAISE, rng.randint(1, len(PRAISE)))),
        lambda query, _: f"You ask: {query}",
        lambda _, text: " ".join(text.split()[: rng.randint(1, 5)]),
        lambda _, text: " ".join([_first_sentence(text)] * rng.randint(3, 6)),
        lambda _, text: " ".join(rng.sample(text.split(), len(text.split()))),
        lambda _, text: f"{text}\n\n{' '.join(rng.sample(text.split(), len(text.split())))}",
    ]
    found = []
    for query, text in liked_texts([one for one in train if not one.aspect], [one for one in pairs if not one.aspect]):
        for make in rng.sample(makers, EACH):
            worse = make(query, text)
            if worse != text:
                found.append(Pair(query, text, worse, CHANCE, weight, 0, ("", ""), MADE_UP))
    return found


def _first_sentence(text: str) -> str:
    end = next((k for k, one in enumerate(text) if one in ".!?\n" and k > 10), len(text) - 1)
    return text[: end + 1].strip()
