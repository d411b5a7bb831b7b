"""A policy that writes answers: what it is given, what comes back, and the same again with the same seed."""

from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.ground.errors import InvalidInput, ModelUnavailable
from rlhf_core.learn.writing import Writer, prompt_ids
from tests.learn.policies import tiny_tokenizer


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    import torch

    folder = tmp_path_factory.mktemp("writer")
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Writer.load(locate(str(folder)))


def test_answers_are_seeded_and_differ(writer: Writer) -> None:
    first = writer.write("how do I start", 6, max_tokens=12, seed=1)
    assert len(first) == 6
    assert len({one.text for one in first}) > 1
    assert writer.write("how do I start", 6, max_tokens=12, seed=1) == first
    assert writer.write("how do I start", 6, max_tokens=12, seed=2) != first
    for one in first:
        assert "how do I start" not in one.text


def test_without_temperature_there_is_one_answer(writer: Writer) -> None:
    first, second = (writer.write("how do I start", 4, max_tokens=5, temperature=0, seed=seed) for seed in (1, 2))
    assert first == second
    assert len(first) == 1


def test_whether_it_ended_is_said(writer: Writer) -> None:
    found = writer.write("q", 64, max_tokens=40, seed=3)  # random weights: one token of 364 is the end
    ended = [one for one in found if one.ended]
    assert 0 < len(ended) < 32
    assert all("<end>" not in one.text and "<pad>" not in one.text for one in found)


def test_what_does_not_fit_is_said(writer: Writer) -> None:
    assert len(prompt_ids("how do I start", writer.tokenizer)) < 40
    with pytest.raises(InvalidInput, match="reads 64 in all"):
        writer.write("how do I start", 1, max_tokens=60)


def test_an_encoder_writes_nothing(tiny_encoder: Path) -> None:
    with pytest.raises(ModelUnavailable, match="writes no text from left to right"):
        Writer.load(locate(str(tiny_encoder)))
