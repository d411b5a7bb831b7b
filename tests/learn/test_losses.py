import math

import pytest
import torch

from rlhf_core.learn.losses import preference_loss, rating_loss


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


def test_nothing_to_learn_from_costs_nothing() -> None:
    nothing = torch.empty(0)
    assert rating_loss(nothing, nothing, nothing).item() == preference_loss(nothing, nothing, nothing).item() == 0.0
