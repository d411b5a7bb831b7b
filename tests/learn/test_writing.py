"""A policy that writes answers: what it is given, what comes back, and the same again with the same seed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.ground.errors import InvalidInput, ModelUnavailable
from rlhf_core.learn.writing import Writer, prompt_ids
from tests.learn.policies import tiny_tokenizer


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
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


def streamed(writer: Writer, query: str, **how: Any) -> tuple[list[str], bool]:
    parts, tokens = [], writer.stream(query, **how)
    while True:
        try:
            parts.append(next(tokens))
        except StopIteration as end:
            return parts, end.value


@pytest.mark.parametrize("how", [{"temperature": 0}, {}, {"temperature": 0.7, "top_p": 0.8}, {"begun": "call them and"}])
def test_token_by_token_it_is_the_same_answer(writer: Writer, how: dict[str, Any]) -> None:
    ended = 0
    for seed in range(12):
        (whole,) = writer.write("how do I start", 1, max_tokens=30, seed=seed, **how)
        parts, ended_itself = streamed(writer, "how do I start", max_tokens=30, seed=seed, **how)
        said = "".join(parts)
        assert (said.rstrip() if "begun" in how else said.strip(), ended_itself) == (whole.text, whole.ended)
        assert len(parts) <= 31
        ended += ended_itself
    assert "temperature" in how or ended < 12


def test_what_was_begun_is_gone_on_with(writer: Writer) -> None:
    one, other = (writer.write("q", 1, max_tokens=8, temperature=0, begun=begun) for begun in ("call them", "ask for a date"))
    assert one != other
    assert prompt_ids("q", writer.tokenizer, "call them")[: len(prompt_ids("q", writer.tokenizer))] == prompt_ids(
        "q", writer.tokenizer
    )


class Scripted:
    """Says these tokens."""

    def __init__(self, network: Any, tokens: list[int]) -> None:
        self.config, self.tokens = network.config, iter(tokens)

    def __call__(self, **_: Any) -> Any:
        logits = torch.zeros(1, 1, self.config.vocab_size)
        logits[0, 0, next(self.tokens)] = 1
        return SimpleNamespace(logits=logits, past_key_values=None)


@pytest.mark.parametrize("fast", [True, False])
def test_half_a_character_waits_for_its_other_half(writer: Writer, monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    text = "aé→b"
    ids = writer.tokenizer(text).input_ids
    assert len(ids) == 7
    monkeypatch.setattr(type(writer.tokenizer), "is_fast", fast)
    monkeypatch.setattr(writer, "network", Scripted(writer.network, [*ids, writer.tokenizer.eos_token_id]))
    assert streamed(writer, "q", max_tokens=20, temperature=0) == (["a", "", "é", "", "", "→", "b"], True)
    monkeypatch.setattr(writer, "network", Scripted(writer.network, ids))
    assert streamed(writer, "q", max_tokens=5, temperature=0) == (["a", "", "é", "", "", "\ufffd"], False)


def test_what_does_not_fit_is_said_before_anything_is_read(writer: Writer) -> None:
    with pytest.raises(InvalidInput, match="reads 64 in all"):
        writer.stream("how do I start", max_tokens=60)


def test_one_answer_to_each_of_several(writer: Writer) -> None:
    queries = ["q", "how do I start", "go"]
    together = writer.write_each(queries, max_tokens=12, temperature=0)
    assert together == [writer.write(query, 1, max_tokens=12, temperature=0)[0] for query in queries]
    drawn = writer.write_each(["q"] * 6, max_tokens=12, seed=2)
    assert len(set(drawn)) > 1
    assert writer.write_each(["q"] * 6, max_tokens=12, seed=2) == drawn
    assert writer.fits("q", 20)
    assert not writer.fits("q", 64)


def test_what_no_store_takes_is_left_out(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = writer.tokenizer("a\x00b").input_ids
    assert writer.tokenizer.decode(ids) == "a\x00b"
    monkeypatch.setattr(writer, "network", Scripted(writer.network, [*ids, writer.tokenizer.eos_token_id]))
    assert "".join(streamed(writer, "q", max_tokens=20, temperature=0)[0]) == "ab"
