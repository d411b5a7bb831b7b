import random

import pytest
import torch

from rlhf_core.learn.batching import length_grouped, padded
from rlhf_core.learn.examples import Example
from rlhf_core.learn.measures import liked_auc, measure


def test_auc_by_hand() -> None:
    # liked rewards 3, 1; disliked 2, 1: pairs 3>2, 3>1, 1<2, 1=1 -> (1 + 1 + 0 + 0.5) / 4
    assert liked_auc([5, 4, 2, 1, 3], [3, 1, 2, 1, 99]) == 0.625


def test_auc_needs_both_kinds() -> None:
    assert liked_auc([5, 4, 3], [1, 2, 3]) is None
    assert liked_auc([], []) is None


def example(step: int | None, score: float, chars: int) -> Example:
    return Example("c", "q", "x" * chars, step, score, 1)


def test_measures_by_hand() -> None:
    examples = [example(1, 5.0, 10), example(2, 1.0, 20), example(None, 4.0, 5), example(None, 2.0, 5)]
    measured = measure(examples, [4.0, 2.0, 2.0, 4.0], guess=3.0)
    assert measured["rmse"] == pytest.approx(((1 + 1 + 4 + 4) / 4) ** 0.5)
    assert measured["rmse_of_mean"] == pytest.approx(((4 + 4 + 1 + 1) / 4) ** 0.5)
    assert (measured["step_auc"], measured["answer_auc"]) == (1.0, 0.0)
    assert measured["length_auc"] == 1.0  # shorter is better here, and either direction counts
    assert (measured["examples"], measured["steps"], measured["answers"]) == (4, 2, 2)


def test_a_model_that_says_the_same_of_all_has_no_rank_correlation() -> None:
    assert measure([example(1, 5.0, 1), example(2, 1.0, 1)], [3.0, 3.0], guess=3.0)["spearman"] is None


def test_batches_cover_everything_once_are_seeded_and_alike_in_length() -> None:
    source = random.Random(0)
    lengths = [source.randint(5, 200) for _ in range(203)]
    batches = length_grouped(lengths, 8, random.Random(1))
    assert sorted(index for batch in batches for index in batch) == list(range(203))
    assert batches == length_grouped(lengths, 8, random.Random(1))
    assert batches != length_grouped(lengths, 8, random.Random(2))

    def padding(some: list[list[int]]) -> int:
        return sum(max(lengths[i] for i in batch) * len(batch) - sum(lengths[i] for i in batch) for batch in some)

    plain = [list(range(203))[k : k + 8] for k in range(0, 203, 8)]
    assert padding(batches) < padding(plain) / 2


def test_padding_is_on_the_right_and_masked() -> None:
    ids, mask = padded([[7, 8, 9], [5]], pad_id=0)
    assert torch.equal(ids, torch.tensor([[7, 8, 9], [5, 0, 0]]))
    assert torch.equal(mask, torch.tensor([[1, 1, 1], [1, 0, 0]]))
