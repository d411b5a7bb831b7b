"""Which words moved a reward: sums that add up, words that are where they stand, and a model whose reasons are known."""

from pathlib import Path

import pytest
import torch

from rlhf_core.learn.explaining import explain, likeness
from rlhf_core.learn.reading import Reading, up_to_step, whole_answer
from tests.learn.test_scoring import model


def test_words_add_up_to_the_difference(tiny_encoder: Path) -> None:
    one = model(tiny_encoder)
    reading = up_to_step("solar job", "Ask for it.\n\nThen visit the centre.", "Then visit the centre.")
    found = explain(one, reading)
    assert found.text == "User: solar job\n\nAssistant: Ask for it.\n\nThen visit the centre."
    assert found.reward == pytest.approx(one.score([reading])[0], abs=1e-4)
    assert [found.text[begin:end] for begin, end, _ in found.words] == found.text.split()
    assert sum(weight for *_, weight in found.words) + found.rest == pytest.approx(found.reward - found.baseline, abs=1e-5)
    assert abs(found.rest) < 0.05 * sum(abs(weight) for *_, weight in found.words) + 0.02
    assert all(not parameter.requires_grad or parameter.is_leaf for parameter in one.network.parameters())


def test_the_word_that_a_model_goes_by_is_found(tiny_encoder: Path) -> None:
    """A readout along the change that one word makes: nothing else can move the reward as much."""
    one = model(tiny_encoder)
    with_it, without = (
        torch.from_numpy(one.features(one.encode([whole_answer("solar job", text)]))[0])
        for text in ("ask visit ask", "ask ask ask")
    )
    one.network.readout.weight.data[0] = with_it - without
    found = explain(one, whole_answer("solar job", "ask visit ask"))
    weights = {found.text[begin:end]: weight for begin, end, weight in found.words}
    assert max(weights, key=lambda word: weights[word]) == "visit"


def test_long_texts_name_what_was_read(tiny_encoder: Path) -> None:
    found = explain(model(tiny_encoder, max_length=32), whole_answer("solar job", "visit " * 60 + "voucher"))
    assert found.left_out > 20
    read = [found.text[begin:end] for begin, end, weight in found.words if weight]
    assert read[-1] == "voucher"
    assert len(read) < 40


def test_the_same_text_is_most_alike(tiny_encoder: Path) -> None:
    one = model(tiny_encoder)
    others = [whole_answer("solar job", text) for text in ("ask for the voucher", "visit", "lie about it")]
    found = likeness(one, Reading("solar job", "visit", ((0, 5),)), others)
    assert max(range(3), key=found.__getitem__) == 1
    assert found[1] == pytest.approx(1.0, abs=1e-4)
    assert all(-1.001 <= value <= 1.001 for value in found)
