"""The report card on made-up models: one that reads, one that counts characters, one that guesses, and too little data."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from rlhf_core.ground.cards import CARD_FILE, ReportCard, lines_of, read_card, require_trust
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.errors import CorruptArtifact, ModelRefused
from rlhf_core.ground.files import write_json
from rlhf_core.learn.card import Held, HeldPairs, write_card
from rlhf_core.learn.examples import Example
from rlhf_core.learn.model_card import model_card
from rlhf_core.learn.pairs import Pair

Reward = Callable[[str], float]
PLACES = ("Boston", "Lynn", "Salem", "Quincy", "Lowell", "Brockton", "Holyoke", "Chelsea")


def some(begin: int, queries: int, *, steps: bool = False) -> list[Example]:
    """Good texts name the number of their question, bad ones another; they are alike in words, and longer ones are liked more
    often, as people do."""
    found = []
    for k in range(begin, begin + queries):
        rng = random.Random(k)
        for n in range(1, 4):
            good = rng.random() < 0.5
            longer = rng.random() < (0.7 if good else 0.3)
            text = f"Office {k if good else k + 1 + rng.randrange(50)} in {rng.choice(PLACES)} " + "helps you there " * (
                9 if longer else 5
            )
            score = 5.0 if good else 1.0
            given = (("ana", score), ("ben", score if rng.random() < 0.9 else 6 - score))
            mean = sum(one for _, one in given) / 2
            found.append(Example(
                f"c{k}-{0 if steps else n}", f"question {k}", text, n if steps else None, mean, 2, mean, 1.0, given,
                "web" if k % 2 else "phone", "m1", text,
            ))  # fmt: skip
    return found


def reads(query: str, text: str) -> float:
    number = query.split()[-1]
    if number not in text.split()[:2]:
        return 1.5 + 0.001 * len(text)
    return (4.5 if text.startswith("Office") else 1.0) - 2.0 * ("nine" in text or "table" in text or text.count("Office") > 1)


def card_of(reward: Callable[[str, str], float], *, queries: int = 60, steps: bool = False) -> ReportCard:
    def held(examples: Sequence[Example]) -> Held:
        return Held(examples, np.array([reward(one.query, one.text) for one in examples]))

    return write_card(some(0, 80, steps=steps), held(some(100, 30, steps=steps)), held(some(200, queries, steps=steps)),
                      lambda pairs: [reward(query, text) for query, text in pairs])  # fmt: skip


def test_a_model_that_reads_is_trusted() -> None:
    card = card_of(reads)
    assert card.state == "trusted", (card.verdict, card.todo)
    assert card.answers is not None
    assert card.answers.auc.value == 1.0
    assert card.answers.floors[0].figure.value == pytest.approx(0.7, abs=0.12)
    assert all(floor.ahead.low is not None and floor.ahead.low > 0 for floor in card.answers.floors)
    assert card.answers.ceiling is not None
    assert card.answers.ceiling.things == 180
    assert {group.by for group in card.answers.groups} == {"source", "model", "rater"}
    assert all(probe.passed for probe in card.probes)
    require_trust("reward-1", card, "answers", "PPO")


def test_a_model_that_counts_characters_is_refused() -> None:
    card = card_of(lambda _, text: 1 + len(text) / 50)
    assert card.answers is not None
    assert card.answers.auc.low is not None
    assert card.answers.auc.low > 0.5  # better than chance, because people like longer answers
    assert card.state == card.answers.state == "refused"
    assert any("how long they are" in reason or "one length" in reason for reason in card.answers.reasons)
    assert "padded" in {probe.name for probe in card.probes if not probe.passed}
    with pytest.raises(ModelRefused, match="PPO refuses reward-1: .* length"):
        require_trust("reward-1", card, "answers", "PPO")


@pytest.mark.slow
def test_a_model_that_guesses_is_refused() -> None:
    card = card_of(lambda query, text: random.Random(query + text).uniform(1, 5))
    assert card.answers is not None
    assert card.answers.state == "refused"
    assert "may be guessing" in card.answers.reasons[0]


def test_one_reward_for_everything() -> None:
    card = card_of(lambda _, __: 3.0)
    assert card.answers is not None
    assert (card.answers.auc.value, card.answers.spearman.value, card.answers.state) == (0.5, None, "refused")


def test_too_little_is_said_to_be_too_little() -> None:
    card = card_of(reads, queries=3)
    assert card.answers is not None
    assert card.state == "refused"
    assert "too few to tell" in card.verdict
    assert card.todo[0].startswith("Rate more answers")


def test_steps_and_the_first_error() -> None:
    card = card_of(reads, steps=True)
    assert card.steps is not None
    assert card.first_error is not None
    assert card.first_error.f1.value is not None
    assert card.first_error.f1.value > 0.8 > (card.first_error.length or 0)
    assert card.answers is None
    assert {group.by for group in card.steps.groups} == {"source", "model", "step", "rater"}
    with pytest.raises(ModelRefused, match="not measured on answers"):
        require_trust("reward-1", card, "answers", "PPO")


def test_pairs_alone() -> None:
    def pairs(begin: int, count: int) -> list[Pair]:
        found = []
        for k in range(begin, begin + count):
            rng = random.Random(k)
            good, bad = f"Office {k} helps", f"Office {k + 1 + rng.randrange(9)} helps you there"
            first = rng.random() < 0.5
            found.append(
                Pair(f"question {k}", good if first else bad, bad if first else good, 0.85 if first else 0.15, 1.0, 1, ("a", "b"))
            )
        return found

    def held(some: list[Pair], reward: Reward) -> HeldPairs:
        return HeldPairs(some, np.array([reward(one.first) for one in some]), np.array([reward(one.second) for one in some]))

    nothing = Held([], np.array([]))

    def rewards(some: Sequence[tuple[str, str]]) -> list[float]:
        return [-len(text) for _, text in some]

    shorter = write_card([], nothing, nothing, rewards, train_pairs=pairs(0, 80),
                         test_pairs=held(pairs(100, 60), lambda text: -len(text)))  # fmt: skip
    assert shorter.pairs is not None
    assert shorter.pairs.accuracy.value == 1.0  # and so is length alone: all good ones are shorter
    assert "no better than looking at which is longer" in " ".join(shorter.pairs.reasons)
    assert shorter.state == "refused"
    assert {probe.name for probe in shorter.probes if not probe.passed} >= {"empty"}  # the winners are what is liked
    few = write_card([], nothing, nothing, rewards, train_pairs=pairs(0, 80), test_pairs=held(pairs(100, 5), len))
    assert few.pairs is not None
    assert not few.pairs.enough


def test_it_is_read_back_and_shown(tmp_path: Path) -> None:
    card = card_of(reads)
    assert read_card(tmp_path) is None
    write_json(tmp_path / CARD_FILE, card.model_dump())
    assert read_card(tmp_path) == card
    text = model_card(card, RewardConfig(), "abc")
    assert "**Trusted.**" in text
    assert card.answers is not None
    for name, _, _ in lines_of(card.answers):
        assert name in text
    (tmp_path / CARD_FILE).write_text('{"format": 9}')
    with pytest.raises(CorruptArtifact, match="Train again"):
        read_card(tmp_path)


def test_no_card_no_trust() -> None:
    with pytest.raises(ModelRefused, match="has no report card"):
        require_trust("reward-1", None, "answers", "PPO")
