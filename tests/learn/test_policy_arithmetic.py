"""What PPO computes, against numbers worked out by hand, exact distributions and slow obvious ways."""

import math

import pytest
import torch

from rlhf_core.learn.episodes import Moments, placed, repeated_share, step_ends
from rlhf_core.learn.gae import advantages_and_returns
from rlhf_core.learn.kl import Estimator, KLController, kl_estimate
from rlhf_core.learn.logprobs import selected_logprobs
from rlhf_core.learn.masked import explained_variance, masked_mean, masked_variance, whiten
from rlhf_core.learn.policy_losses import policy_loss, value_loss


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_advantages_of_a_table_worked_out_by_hand() -> None:
    # gamma 0.9, lambda 0.5, rewards 1, 0, 2, values 0.5, 1, 0.5; the fourth token is padding.
    # surprises: 1 + 0.9*1 - 0.5 = 1.4; 0 + 0.9*0.5 - 1 = -0.55; 2 - 0.5 = 1.5
    # advantages: 1.5; -0.55 + 0.45*1.5 = 0.125; 1.4 + 0.45*0.125 = 1.45625
    rewards, values = torch.tensor([[1.0, 0, 2, 50]]), torch.tensor([[0.5, 1, 0.5, 70]])
    mask = torch.tensor([[True, True, True, False]])
    advantages, returns = advantages_and_returns(rewards, values, mask, gamma=0.9, lam=0.5)
    torch.testing.assert_close(advantages, torch.tensor([[1.45625, 0.125, 1.5, 0]]))
    torch.testing.assert_close(returns, torch.tensor([[1.95625, 1.125, 2.0, 0]]))


def test_with_lambda_and_gamma_one_returns_are_what_is_still_to_come() -> None:
    rewards, values = seeded(3, 6), seeded(3, 6, seed=1)
    mask = torch.arange(6) < torch.tensor([[6], [4], [1]])
    _, returns = advantages_and_returns(rewards, values, mask, gamma=1.0, lam=1.0)
    wanted = (rewards * mask).flip(1).cumsum(1).flip(1) * mask
    torch.testing.assert_close(returns, wanted)


def test_with_lambda_zero_advantages_are_surprises() -> None:
    rewards, values = seeded(2, 5), seeded(2, 5, seed=1)
    advantages, _ = advantages_and_returns(rewards, values, torch.ones(2, 5, dtype=torch.bool), gamma=0.7, lam=0.0)
    following = torch.cat([values[:, 1:], torch.zeros(2, 1)], 1)
    torch.testing.assert_close(advantages, rewards + 0.7 * following - values)


def test_padding_changes_nothing() -> None:
    rewards, values = seeded(1, 5), seeded(1, 5, seed=1)
    alone, _ = advantages_and_returns(rewards, values, torch.ones(1, 5, dtype=torch.bool), gamma=1.0, lam=0.95)
    wide = torch.full((1, 3), 99.0)
    mask = torch.tensor([[True] * 5 + [False] * 3])
    padded, _ = advantages_and_returns(torch.cat([rewards, wide], 1), torch.cat([values, wide], 1), mask, gamma=1.0, lam=0.95)
    torch.testing.assert_close(padded[:, :5], alone)
    assert (padded[:, 5:] == 0).all()


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_estimates_of_the_kl_are_unbiased(estimator: Estimator) -> None:
    policy, reference = torch.log_softmax(seeded(50), -1), torch.log_softmax(seeded(50, seed=1) * 0.5, -1)
    exact = float((policy.exp() * (policy - reference)).sum())
    drawn = torch.multinomial(policy.exp(), 400_000, replacement=True, generator=torch.Generator().manual_seed(2))
    found = kl_estimate(policy[drawn], reference[drawn], estimator)
    assert float(found.mean()) == pytest.approx(exact, abs=4 * float(found.std()) / math.sqrt(len(found)))
    assert exact > 0.3


def test_k3_is_never_negative_and_less_noisy_nearby() -> None:
    policy, reference = torch.log_softmax(seeded(50) * 0.1, -1), torch.log_softmax(seeded(50, seed=1) * 0.1, -1)
    k1, k3 = (kl_estimate(policy, reference, name) for name in ("k1", "k3"))
    assert (k3 >= 0).all()
    assert (k1 < 0).any()
    assert k3.std() < k1.std() / 5


def test_as_a_loss_only_k2_has_the_gradient_of_the_kl() -> None:
    weights = seeded(6).double().requires_grad_()
    reference = torch.log_softmax(seeded(6, seed=1).double(), -1)
    logprobs = torch.log_softmax(weights, -1)
    (wanted,) = torch.autograd.grad((logprobs.exp() * (logprobs - reference)).sum(), weights)
    found = {}
    for name in ("k1", "k2", "k3"):
        logprobs = torch.log_softmax(weights, -1)
        expected_loss = (logprobs.exp().detach() * kl_estimate(logprobs, reference, name)).sum()
        (found[name],) = torch.autograd.grad(expected_loss, weights)
    torch.testing.assert_close(found["k2"], wanted)
    torch.testing.assert_close(found["k1"], torch.zeros_like(wanted), atol=1e-12, rtol=0)
    assert not torch.allclose(found["k3"], wanted, rtol=0.05)


def test_the_controller_steers_by_hand_computed_steps() -> None:
    one = KLController(0.1, target=6.0, horizon=10_000)
    one.update(12.0, 256)  # twice the target: the error is clipped to 0.2
    assert one.coefficient == pytest.approx(0.1 * (1 + 0.2 * 256 / 10_000))
    one = KLController(0.1, target=6.0, horizon=10_000)
    one.update(5.4, 100)
    assert one.coefficient == pytest.approx(0.1 * (1 - 0.1 * 100 / 10_000))
    fixed = KLController(0.1)
    fixed.update(99.0, 1000)
    assert fixed.coefficient == 0.1


def test_a_ratio_of_one_gives_the_plain_policy_gradient() -> None:
    logprobs, advantages = seeded(10).requires_grad_(), seeded(10, seed=1)
    loss, ratio, clipped = policy_loss(logprobs, logprobs.detach(), advantages, 0.2)
    assert (ratio == 1).all()
    assert not clipped.any()
    loss.sum().backward()
    torch.testing.assert_close(logprobs.grad, -advantages)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "learns"),
    [(1.5, 1.0, -1.2, False), (1.5, -1.0, 1.5, True), (0.5, -1.0, 0.8, False), (0.5, 1.0, -0.5, True), (1.1, 1.0, -1.1, True)],
)
def test_clipping_by_hand(ratio: float, advantage: float, loss: float, learns: bool) -> None:
    logprobs = torch.tensor([math.log(ratio)], requires_grad=True)
    found, _, clipped = policy_loss(logprobs, torch.zeros(1), torch.tensor([advantage]), 0.2)
    assert found.item() == pytest.approx(loss)
    found.sum().backward()
    assert logprobs.grad is not None
    assert bool(logprobs.grad.abs() > 0) is learns
    assert bool(clipped) is not learns


def test_the_value_loss_takes_the_worse_of_two_by_hand() -> None:
    loss, held = value_loss(torch.tensor([1.0, 0.1]), torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0]), 0.2)
    torch.testing.assert_close(loss, torch.tensor([0.5 * 0.8**2, 0.5 * 0.9**2]))
    assert held.tolist() == [True, False]
    plain, held = value_loss(torch.tensor([1.5]), torch.tensor([0.0]), torch.tensor([1.0]), None)
    assert (plain.item(), bool(held)) == (0.125, False)


def test_means_and_whitening_see_the_mask_alone() -> None:
    values = torch.tensor([[1.0, 2, 900], [6, -900, 900]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_mean(values, mask).item() == 3.0
    assert masked_variance(values, mask).item() == pytest.approx(7.0)  # (4 + 1 + 9) / 2
    white = whiten(values, mask, keep_mean=False)
    torch.testing.assert_close(white, torch.tensor([[-2.0, -1, 0], [3, 0, 0]]) / math.sqrt(7))
    kept = whiten(values, mask, keep_mean=True)
    assert masked_mean(kept, mask).item() == pytest.approx(3.0)
    assert masked_variance(kept, mask).item() == pytest.approx(1.0)


def test_explained_variance_by_hand() -> None:
    returns, mask = torch.tensor([[1.0, 3.0, 77]]), torch.tensor([[True, True, False]])
    assert explained_variance(torch.tensor([[1.0, 3.0, 0]]), returns, mask).item() == 1.0
    assert explained_variance(torch.tensor([[2.0, 2.0, 0]]), returns, mask).item() == 0.0
    assert explained_variance(torch.tensor([[1.0, 2.0, 0]]), returns, mask).item() == pytest.approx(0.75)  # 1 - 0.5 / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_and_gradients_equal_log_softmax(dtype: torch.dtype, temperature: float) -> None:
    logits = (seeded(150, 301) * 3).to(dtype).requires_grad_()
    ids = torch.randint(0, 301, (150,), generator=torch.Generator().manual_seed(1))
    weights = seeded(150, seed=2)
    logprobs, entropy = selected_logprobs(logits, ids, temperature)
    (mine,) = torch.autograd.grad((logprobs * weights).sum(), logits)
    plain = torch.log_softmax(logits.float() / temperature, -1)
    torch.testing.assert_close(logprobs, plain.gather(1, ids[:, None]).squeeze(1), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(entropy, -(plain.exp() * plain).sum(-1), atol=2e-4, rtol=1e-4)
    (wanted,) = torch.autograd.grad((plain.gather(1, ids[:, None]).squeeze(1) * weights).sum(), logits)
    torch.testing.assert_close(mine, wanted, atol=1e-6 if dtype == torch.float32 else 2e-2, rtol=1e-4)


def test_rewards_stand_on_the_tokens_they_are_given_for() -> None:
    found = placed([[1.0, 2.0, 0.5], [4.0]], [[1, 3, 3], [0]], 5)
    assert found.tolist() == [[0, 1, 0, 2.5, 0], [4, 0, 0, 0, 0]]
    assert found.sum(1).tolist() == [3.5, 4.0]


def test_where_steps_end() -> None:
    text = "  1. Call.\n2. Call.\nBye"
    assert step_ends(text, ["1. Call.", "Call.", "Bye"]) == [10, 19, 23]


def test_the_share_of_what_is_said_again() -> None:
    assert repeated_share([1, 2, 3, 4, 5, 6]) == 0.0
    assert repeated_share([7] * 8) == 0.8  # five runs of four, all alike
    assert repeated_share([1, 2]) == 0.0


def test_running_moments_are_those_of_all() -> None:
    values = (seeded(1000) * 3 + 2).tolist()
    one = Moments()
    for begin in range(0, 1000, 37):
        one.update(values[begin : begin + 37])
    assert one.mean == pytest.approx(sum(values) / 1000)
    assert one.deviation == pytest.approx(float(torch.tensor(values).double().std()))
    again = Moments()
    again.put(one.taken())
    again.update([1.0, 5.0])
    one.update([1.0, 5.0])
    assert again.taken() == one.taken()
    same = Moments()
    same.update([4.0, 4.0])
    assert same.standardised(5.0) == 1.0  # no deviation yet: the unit stays
