"""How judgements are laid out as texts, spans and targets, with the loss of a whole batch by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from rlhf_core.learn.examples import Example
from rlhf_core.learn.lessons import Rows, Targets, Thresholds, lay_out, rows_of, total_loss, weight_in
from rlhf_core.learn.pairs import Pair
from rlhf_core.learn.reading import Encoded, Reading
from rlhf_core.learn.scales import StarScale

CPU = torch.device("cpu")
STEPS = [
    Example("c", "q", "one", 1, 4.0, 1, 4.0, own="one", whole="one two"),
    Example("c", "q", "one two", 2, 2.0, 1, 2.0, own="two", whole="one two"),
    Example("c", "q", "one two", 2, 5.0, 1, 5.0, own="two", whole="one two", aspect="clear"),
    Example("c", "q", "one two", None, 3.0, 1, 3.0, own="one two", whole="one two"),
]
PAIR = Pair("q", "better", "worse", 0.75, 2.0, 1, ("a", "b"), aspect="clear")


def encode(readings: Sequence[Reading]) -> list[Encoded]:
    """A token is a character; a reading with an x in it is too long for its first span."""
    return [
        Encoded(list(map(ord, one.answer)), list(one.spans), "x" in one.answer, (0,) if "x" in one.answer else ())
        for one in readings
    ]


def test_each_step_is_read_with_what_stands_before_it() -> None:
    lessons = lay_out(STEPS, [PAIR], encode, one_pass=False)
    assert [len(one.ids) for one in lessons.encoded] == [3, 7, 7, 6, 5]
    assert [one.spans for one in lessons.encoded] == [[(0, 3)], [(4, 7)], [(0, 7)], [(0, 6)], [(0, 5)]]
    assert [unit.rated for unit in lessons.units] == [((0, 0, 0),), ((0, 0, 1), (0, 0, 2)), ((0, 0, 3),), ()]
    assert (lessons.lengths, lessons.tokens(3), lessons.cut) == ([3, 7, 7, 6], 12, 0)
    texts, rows = rows_of(lessons, [3, 1])
    assert texts == [3, 4, 1]
    assert (rows.rated, rows.pairs) == ([(2, 1), (2, 2)], [(0, 1, 0)])


def test_one_pass_reads_an_answer_once() -> None:
    lessons = lay_out(STEPS, [PAIR], encode, one_pass=True)
    assert [one.spans for one in lessons.encoded] == [[(0, 3), (0, 7), (4, 7)], [(0, 6)], [(0, 5)]]
    assert lessons.units[0].rated == ((0, 0, 0), (0, 2, 1), (0, 2, 2), (0, 1, 3))
    texts, rows = rows_of(lessons, [1, 0])
    assert texts == [1, 2, 0]
    assert rows.rated == [(2, 0), (4, 1), (4, 2), (3, 3)]


def test_a_step_that_a_cut_leaves_out_is_read_on_its_own() -> None:
    long = [replace(one, whole="one two x") for one in STEPS[:2]]
    lessons = lay_out(long, [], encode, one_pass=True)
    assert [unit.rated for unit in lessons.units] == [((0, 1, 1),), ((0, 0, 0),)]
    assert [len(one.ids) for one in lessons.encoded] == [9, 3]
    assert lessons.cut == 1


def targets(examples: list[Example], pairs: list[Pair]) -> Targets:
    lessons = lay_out(examples, pairs, encode, one_pass=False)
    scales = [StarScale("", 3.0, 2.0), StarScale("clear", 4.0, 0.5)]
    return Targets.of(lessons, scales, [1.0, 0.5, 2.0, 1.0], [2.0] * len(pairs), CPU)


def test_the_loss_of_everything_by_hand() -> None:
    mine = targets(STEPS, [PAIR])
    assert mine.values.tolist() == [0.5, -0.5, 2.0, 0.0]
    assert mine.heads.tolist() == [0, 0, 1, 0]
    outputs = torch.tensor([[0.0, 9.0], [1.0, 1.0], [9.0, 3.0], [9.0, 2.0]])
    rows = Rows([(0, 0), (1, 1), (1, 2)], [(2, 3, 0)])
    # 1 * .5^2 + .5 * 1.5^2 + 2 * 1^2, and twice the cross-entropy of .75 at a lead of 1
    pairs = -2 * (0.75 * math.log(1 / (1 + math.exp(-1))) + 0.25 * math.log(1 / (1 + math.e)))
    assert total_loss(outputs, rows.placed(CPU), mine, None).item() == pytest.approx(0.25 + 1.125 + 2 + pairs, rel=1e-6)
    assert weight_in(rows, mine) == 1.0 + 0.5 + 2.0 + 2.0
    thresholds = torch.tensor([[-math.log(3), 0.0, math.log(3), math.log(9)]] * 2)
    loss = total_loss(torch.zeros(1, 2), Rows([(0, 0)], []).placed(CPU), mine, thresholds)
    assert loss.item() == pytest.approx(-math.log(0.25 - 0.1), rel=1e-5)  # four stars: more than 3, not more than 4


def test_what_is_not_rated_in_an_aspect_moves_nothing_of_it() -> None:
    outputs = torch.zeros(2, 2, requires_grad=True)
    total_loss(outputs, Rows([(0, 0), (1, 2)], []).placed(CPU), targets(STEPS, []), None).backward()
    assert outputs.grad is not None
    assert (outputs.grad != 0).tolist() == [[True, False], [False, True]]


def test_thresholds_rise_whatever_is_learned() -> None:
    start = torch.tensor([[-2.0, -1.0, 0.5, 3.0]])
    thresholds = Thresholds(1, start)
    assert thresholds().tolist()[0] == pytest.approx(start.tolist()[0], abs=1e-5)
    with torch.no_grad():
        thresholds.gaps -= 50
    assert (thresholds().diff() >= 0).all()
    assert Thresholds(3)().shape == (3, 4)
