"""Several models over the same answers: what is shared is read once, and nothing else changes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.ground.answers import Answer
from rlhf_core.learn.reward_model import RewardModel
from rlhf_core.learn.scales import StarScale
from rlhf_core.learn.scoring import Ready, score_together
from tests.learn.policies import tiny_llama, tiny_tokenizer

ANSWERS = [
    Answer("solar job", "Ask for the voucher.\n\nThen enrol.", ("Ask for the voucher.", "Then enrol.")),
    Answer("solar job", "visit", ()),
    Answer("how do i start", "1. visit\n2. ask\nThat is all.", ("visit", "ask")),
    Answer("how do i start", "in short", ("one that is not in it", "another")),
]


def model(folder: Path, seed: int = 3, reading: Any = "prefixes", max_length: int = 64) -> RewardModel:
    found = RewardModel.from_base(locate(str(folder)), max_length=max_length, seed=seed, device=torch.device("cpu"))
    found.step_reading = reading
    found.network.eval()
    return found


def alone(one: RewardModel, answer: Answer) -> list[float]:
    """Each reading by itself: the whole, then step by step."""
    steps = one.score_steps(answer.query, answer.steps, answer.response) if answer.steps else []
    return [one.compute_reward(answer.query, answer.response), *steps]


@pytest.mark.parametrize("reading", ["prefixes", "one_pass"])
def test_each_answer_gets_what_it_would_get_alone(tiny_encoder: Path, reading: str) -> None:
    one = model(tiny_encoder, reading=reading)
    (found,) = score_together([Ready(one)], ANSWERS)
    for answer, score in zip(ANSWERS, found, strict=True):
        assert [score.whole, *score.steps] == pytest.approx(alone(one, answer), abs=1e-5)
        assert score.left_out == 0


def test_models_of_one_body_read_a_text_once(tiny_encoder: Path) -> None:
    models = [model(tiny_encoder, seed) for seed in (1, 2)]
    models[1].scales = [StarScale("", 4.0, 0.5)]
    read: list[int] = []
    for one in models:  # the same weights, loaded twice
        one.network.body.register_forward_pre_hook(
            lambda _, _given, named: read.append(len(named["input_ids"])), with_kwargs=True
        )
    shared = score_together([Ready(models[0], "body"), Ready(models[1], "body")], ANSWERS)
    once = sum(read)
    assert once == 2 + 1 + 3 + 3, read  # the first answer is its own last prefix; the others are not
    read.clear()
    apart = score_together([Ready(models[0]), Ready(models[1])], ANSWERS)
    assert sum(read) == 2 * once
    for mine, theirs in zip(shared, apart, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            assert [one.whole, *one.steps] == pytest.approx([other.whole, *other.steps], abs=1e-5)


def test_models_that_read_otherwise_are_not_taken_together(tiny_encoder: Path) -> None:
    one = Ready(model(tiny_encoder), "body")
    for other in (
        Ready(model(tiny_encoder), "other"), Ready(model(tiny_encoder)), Ready(model(tiny_encoder, reading="one_pass"), "body"),
        Ready(model(tiny_encoder, max_length=32), "body"),
    ):  # fmt: skip
        assert one.group != other.group
    assert one.group == Ready(model(tiny_encoder), "body").group


def test_what_is_too_long_says_how_much_was_left_out(tiny_encoder: Path) -> None:
    one = model(tiny_encoder, max_length=32)
    long = Answer("solar job", "visit " * 100, ())
    short, cut = score_together([Ready(one)], [ANSWERS[1], long])[0]
    assert short.left_out == 0
    whole = len(one.tokenizer(f"User: solar job\n\nAssistant: {long.response}").input_ids)
    assert cut.left_out == whole - 32
    assert score_together([Ready(one)], []) == [[]]
    assert score_together([], ANSWERS) == []


def test_models_of_other_tokenizers_kinds_and_lengths_stand_side_by_side(tiny_encoder: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tiny_llama(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    models = [model(tiny_encoder), model(tmp_path, reading="one_pass", max_length=256), model(tiny_encoder, max_length=16)]
    found = score_together([Ready(one) for one in models], ANSWERS)
    for one, scores in zip(models, found, strict=True):
        for answer, score in zip(ANSWERS, scores, strict=True):
            assert [score.whole, *score.steps] == pytest.approx(alone(one, answer), abs=1e-5)
    assert [any(score.left_out for score in scores) for scores in found] == [False, False, True]
