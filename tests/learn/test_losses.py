import math

import pytest
import torch

from rlhf_core.learn.losses import ordinal_loss, preference_loss, rating_loss


def test_rating_loss_by_hand() -> None:
    outputs = torch.tensor([1.0, -1.0], requires_grad=True)
    loss = rating_loss(outputs, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.5]))
    assert loss.item() == pytest.approx(1 + 0.5 * 4)
    loss.backward()
    assert outputs.grad is not None
    assert outputs.grad.tolist() == pytest.approx([2.0, -2.0])


def test_preference_loss_by_hand() -> None:
    sure = preference_loss(torch.tensor([math.log(3)]), torch.tensor([1.0]), torch.tensor([2.0]))
    assert sure.item() == pytest.approx(-2 * math.log(0.75))
    soft = preference_loss(torch.tensor([math.log(3)]), torch.tensor([0.75]), torch.tensor([1.0]))
    assert soft.item() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_a_tie_pulls_two_together() -> None:
    leads = torch.tensor([1.0], requires_grad=True)
    preference_loss(leads, torch.tensor([0.5]), torch.tensor([1.0])).backward()
    assert leads.grad is not None
    assert leads.grad.item() == pytest.approx(1 / (1 + math.exp(-1)) - 0.5)


def test_ordinal_loss_by_hand() -> None:
    # chances of more than 1, 2, 3, 4 stars: 3/4, 1/2, 1/4, 1/10, so of 1 to 5 stars: .25, .25, .25, .15, .1
    thresholds = -torch.tensor([[math.log(3), 0.0, -math.log(3), -math.log(9)]])
    output = torch.zeros(1, requires_grad=True)
    whole = ordinal_loss(output, torch.tensor([[0, 0, 0, 1.0, 0]]), thresholds, torch.tensor([2.0]))
    assert whole.item() == pytest.approx(-2 * math.log(0.15), rel=1e-5)
    parted = ordinal_loss(output, torch.tensor([[0.5, 0, 0, 0, 0.5]]), thresholds, torch.tensor([1.0]))
    assert parted.item() == pytest.approx(-0.5 * math.log(0.25) - 0.5 * math.log(0.1), rel=1e-5)
    whole.backward()
    assert output.grad is not None
    # d/dx log(s(x - t3) - s(x - t4)) at .25 and .1: (.25 * .75 - .1 * .9) / .15
    assert output.grad.item() == pytest.approx(-2 * (0.1875 - 0.09) / 0.15, rel=1e-4)


def test_nothing_to_learn_from_costs_nothing() -> None:
    nothing = torch.empty(0)
    assert ordinal_loss(nothing, torch.empty(0, 5), torch.empty(0, 4), nothing).item() == 0.0
    assert rating_loss(nothing, nothing, nothing).item() == preference_loss(nothing, nothing, nothing).item() == 0.0
