"""One step of PPO on tiny models: what every part leaves behind, beside slow and independent ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from rlhf_core.ground.errors import RlhfError
from rlhf_core.learn.adapters import merged_weights
from rlhf_core.learn.episodes import tokens_at
from rlhf_core.learn.policy import Batch
from rlhf_core.learn.ppo import Episode, Learner, micro_batches
from rlhf_core.learn.rewards import Answer, Weighed
from tests.learn.policies import MODELS, QUERIES, learner, tiny_gpt2, tiny_llama, tiny_tokenizer, with_adapters


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


def judged(one: Learner, count: int = 6, at_most: int = 20) -> list[Episode]:
    episodes = one.sample(QUERIES[:count], at_most)
    one.judge(episodes)
    one.compare(episodes)
    return episodes


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_nothing_is_clipped_in_the_first_mini_batch(name: str, critic: str, tokenizer: Any) -> None:
    one = learner(MODELS[name](tokenizer), tokenizer, critic, mini_batch_size=6, ppo_epochs=1)
    _, measured = one.step(QUERIES, 20)
    assert measured["first_ratio_off"] < 1e-4
    assert measured["clip_fraction"] == 0
    assert measured["kl"] == pytest.approx(0, abs=1e-3)  # the reference is where the policy began
    assert measured["policy_kl"] == pytest.approx(0, abs=1e-6)
    _, later = one.step(QUERIES, 20)
    assert later["kl_k3"] > 1e-4


def test_the_loss_equals_an_independent_one(tokenizer: Any) -> None:
    """Everything from log-probabilities to the loss in plain loops over single tokens."""
    one = learner(tiny_gpt2(tokenizer), tokenizer, normalise_rewards=False, missing_eos_penalty=0.3, kl_coefficient=0.2,
                  gamma=0.98, lam=0.9, clip=0.1, clip_value=0.05, value_coefficient=0.7)  # fmt: skip
    with torch.no_grad():  # a policy that has left its reference
        for weight in one.policy.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.02)
    episodes = judged(one)
    one.assign(episodes)
    advantages: list[list[float]] = []
    returns: list[list[float]] = []
    for episode in episodes:
        n = len(episode.ids)
        assert episode.ref_logprobs is not None
        assert episode.values is not None
        rewards = [-0.2 * float(episode.logprobs[t] - episode.ref_logprobs[t]) for t in range(n)]
        rewards[-1] += episode.rewards[0] - (0.0 if episode.ended else 0.3)
        values = [*episode.values.tolist(), 0.0]
        mine = [0.0] * (n + 1)
        for t in reversed(range(n)):
            mine[t] = rewards[t] + 0.98 * values[t + 1] - values[t] + 0.98 * 0.9 * mine[t + 1]
        advantages.append(mine[:n])
        returns.append([mine[t] + values[t] for t in range(n)])
    flat = torch.tensor([value for some in advantages for value in some])
    white = ((flat - flat.mean()) / flat.std()).split([len(one.ids) for one in episodes])
    for episode, mine, back in zip(episodes, white, returns, strict=True):
        assert episode.advantages is not None
        assert episode.returns is not None
        torch.testing.assert_close(episode.advantages, mine, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(episode.returns, torch.tensor(back), atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        for weight in one.policy.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)) * 0.02)
    policy_loss, value_loss, clipped, count = 0.0, 0.0, 0, 0
    for episode, mine, back in zip(episodes, white, returns, strict=True):
        batch = Batch.of([episode.prompt], [episode.ids], one.pad_id, one.device)
        with torch.no_grad():
            now = one.policy(batch, 1.0)
        for t in range(len(episode.ids)):
            ratio = math.exp(float(now.logprobs[t]) - float(episode.logprobs[t]))
            a = float(mine[t])
            held = min(max(ratio, 0.9), 1.1)
            policy_loss += max(-a * ratio, -a * held)
            clipped += -a * held > -a * ratio
            assert episode.values is not None
            old, new = float(episode.values[t]), float(now.values[t])
            near = old + min(max(new - old, -0.05), 0.05)
            value_loss += 0.5 * max((new - back[t]) ** 2, (near - back[t]) ** 2)
            count += 1
    found, _ = one._learn_from(episodes, range(6))
    assert found["policy_loss"] == pytest.approx(policy_loss / count, abs=1e-4)
    assert found["value_loss"] == pytest.approx(value_loss / count, rel=1e-3)
    assert found["clip_fraction"] == pytest.approx(clipped / count, abs=1e-6)
    assert 0 < clipped < count


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_parts_of_a_mini_batch_give_the_gradients_of_the_whole(critic: str, tokenizer: Any) -> None:
    found = []
    for tokens in (100_000, 128):
        one = learner(tiny_llama(tokenizer), tokenizer, critic, micro_batch_tokens=tokens, max_gradient=1e9)
        episodes = judged(one)
        for k, episode in enumerate(episodes):  # answers of unlike lengths
            episode.ids = episode.ids[: 3 + 3 * k]
            for name in ("logprobs", "ref_logprobs", "values"):
                setattr(episode, name, getattr(episode, name)[: 3 + 3 * k])
            episode.ends = [len(episode.ids) - 1]
        one.assign(episodes)
        taken: dict[str, torch.Tensor] = {}

        def note(*_: Any, one: Learner = one, taken: dict[str, torch.Tensor] = taken) -> None:
            taken.update({name: p.grad.clone() for name, p in one.policy.named_parameters() if p.grad is not None})

        one.optimiser.register_step_pre_hook(note)
        one._learn_from(episodes, range(6))
        found.append(taken)
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) > 10
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-5, rtol=1e-3)


def test_the_reference_never_moves(tokenizer: Any) -> None:
    one = learner(tiny_llama(tokenizer), tokenizer, ppo_learning_rate=1e-2)
    before = [weight.clone() for weight in one.policy.reference.parameters()]
    own = [weight.clone() for weight in one.policy.model.parameters()]
    for _ in range(3):
        one.step(QUERIES, 20)
    assert all(map(torch.equal, before, one.policy.reference.parameters()))
    assert not any(map(torch.equal, own, one.policy.model.parameters()))
    assert not any(one.requires_grad for one in one.policy.reference.parameters())


def test_adapters_alone_learn_and_merge_into_plain_weights(tokenizer: Any) -> None:
    one = learner(with_adapters(tiny_llama(tokenizer)), tokenizer, ppo_learning_rate=1e-2)
    before = {name: weight.clone() for name, weight in one.policy.model.named_parameters() if not weight.requires_grad}
    one.step(QUERIES, 20)
    _, measured = one.step(QUERIES, 20)
    assert measured["kl_k3"] > 1e-4
    now = dict(one.policy.model.named_parameters())
    assert all(torch.equal(weight, now[name]) for name, weight in before.items())
    plain = tiny_llama(tokenizer)
    plain.load_state_dict(merged_weights(one.policy.model))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, one.policy.model(ids).logits, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain(ids).logits, tiny_llama(tokenizer)(ids).logits, atol=1e-2)


@pytest.mark.parametrize("kind", ["whole", "adapters", "separate"])
def test_going_on_from_a_saved_place_gives_the_same_numbers(kind: str, tokenizer: Any) -> None:
    def fresh() -> Learner:
        model = tiny_llama(tokenizer)
        return learner(with_adapters(model) if kind == "adapters" else model, tokenizer,
                       "separate" if kind == "separate" else "shared", kl_goal=0.5)  # fmt: skip

    one = fresh()
    one.step(QUERIES, 20)
    weights = {name: p.detach().clone() for name, p in one.policy.named_parameters()}
    saved = (weights, one.optimiser.state_dict(), one.schedule.state_dict(), one.taken())
    saved = torch.load(_through_a_file(saved), weights_only=True)
    wanted = [one.step(QUERIES, 20)[1] for _ in range(2)]

    other = fresh()
    torch.manual_seed(999)
    with torch.no_grad():
        for name, p in other.policy.named_parameters():
            p.copy_(saved[0][name])
    other.optimiser.load_state_dict(saved[1])
    other.schedule.load_state_dict(saved[2])
    other.put(saved[3])
    assert [other.step(QUERIES, 20)[1] for _ in range(2)] == wanted
    assert all(map(torch.equal, one.policy.parameters(), other.policy.parameters()))


def _through_a_file(value: Any) -> Any:
    import io

    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return buffer


def numbered(answers: Sequence[Answer]) -> list[list[float]]:
    return [[1.0 + k for k in range(len(one.steps))] or [9.0] for one in answers]


def written(one: Learner, tokenizer: Any, text: str, ended: bool) -> Episode:
    ids = tokenizer(text).input_ids + ([one.eos_id] if ended else [])
    zeros = torch.zeros(len(ids))
    episode = one._episode(0, QUERIES[0], [5, 6], ids, zeros.clone(), zeros.clone())
    episode.ref_logprobs = zeros.clone()
    return episode


@pytest.mark.parametrize("credit", ["mean", "gain"])
def test_rewards_of_steps_stand_on_their_last_tokens_and_sum_to_the_whole(credit: str, tokenizer: Any) -> None:
    one = learner(tiny_llama(tokenizer), tokenizer, source=numbered, reward_on="steps", step_credit=credit,
                  normalise_rewards=False, missing_eos_penalty=0.0, gamma=1.0, lam=1.0, whiten_advantages=False)  # fmt: skip
    text = " 1. Call the center.\n2. Ask, because it pays.\n3. Begin."
    episodes = [written(one, tokenizer, text, True), written(one, tokenizer, " Begin.", False), written(one, tokenizer, "", True)]
    one.judge(episodes)
    one.assign(episodes)
    first = episodes[0]
    assert first.steps == ("Call the center.", "Ask, because it pays.", "Begin.")
    for step, end in zip(first.steps, first.ends, strict=True):
        so_far = tokenizer.decode(first.ids[: end + 1])
        assert so_far.rstrip("\n").endswith(step)
        assert not tokenizer.decode(first.ids[:end]).rstrip("\n").endswith(step)
    assert first.returns is not None
    rewards = first.returns - torch.cat([first.returns[1:], torch.zeros(1)])  # values are 0: what a token brings
    wanted = torch.zeros(len(first.ids))
    wanted[first.ends] = torch.tensor([1 / 3, 2 / 3, 1.0] if credit == "mean" else [1.0, 1.0, 1.0])
    torch.testing.assert_close(rewards, wanted, atol=1e-5, rtol=0)
    assert float(rewards.sum()) == pytest.approx(2.0 if credit == "mean" else 3.0)  # the mean of the steps', or the last
    assert (episodes[1].steps, episodes[1].rewards) == (("Begin.",), [1.0])
    assert (episodes[2].text, episodes[2].steps, episodes[2].rewards, episodes[2].ends) == ("", (), [9.0], [0])


def test_sentences_as_steps(tokenizer: Any) -> None:
    one = learner(tiny_llama(tokenizer), tokenizer, source=numbered, reward_on="steps", step_unit="sentences")
    episode = written(one, tokenizer, " Call the center. Ask first. Begin.", True)
    assert episode.steps == ("Call the center.", "Ask first.", "Begin.")
    for step, end in zip(episode.steps, episode.ends, strict=True):
        assert tokenizer.decode(episode.ids[: end + 1]).endswith(step)


def test_steps_of_the_stream_protocol(tokenizer: Any) -> None:
    one = learner(tiny_llama(tokenizer), tokenizer, source=numbered, reward_on="steps")
    text = '{"type": "step_start"}\nCall.\n{"type": "step_end"}\n{"type": "step_start"}\nAsk.\n{"type": "step_end"}\nBye'
    episode = written(one, tokenizer, text, True)
    assert episode.steps == ("Call.", "Ask.")
    assert "step_start" not in episode.text
    assert tokenizer.decode(episode.ids[: episode.ends[0] + 1]).endswith("Call.")
    assert tokenizer.decode(episode.ids[: episode.ends[1] + 1]).endswith("Ask.")


def test_tokens_at_characters(tokenizer: Any) -> None:
    ids = tokenizer("é 1. Call the center.").input_ids
    for characters in range(1, len("é 1. Call the center.") + 1):
        (at,) = tokens_at(tokenizer, ids, [characters])
        assert len(tokenizer.decode(ids[: at + 1])) >= characters
        assert at == 0 or len(tokenizer.decode(ids[:at])) < characters
    assert tokens_at(tokenizer, ids, [10_000]) == [len(ids) - 1]


def test_penalties_by_hand(tokenizer: Any) -> None:
    one = learner(tiny_llama(tokenizer), tokenizer, source=lambda answers: [[2.0] for _ in answers], normalise_rewards=False,
                  missing_eos_penalty=0.5, length_penalty=10.0, repetition_penalty=3.0, gamma=1.0, lam=1.0,
                  whiten_advantages=False, kl_coefficient=0.0)  # fmt: skip
    episodes = [written(one, tokenizer, "Begin.", True), written(one, tokenizer, "Begin.", False)]
    for episode in episodes:
        episode.ids = [7] * 8
        for name in ("logprobs", "values", "ref_logprobs"):
            setattr(episode, name, torch.zeros(8))
        episode.ends = [7]
    one.judge(episodes)
    one.assign(episodes)
    for episode, missing in zip(episodes, (0.0, 0.5), strict=True):
        assert episode.returns is not None
        assert float(episode.returns[0]) == pytest.approx(2.0 - missing - 10.0 * 0.08 - 3.0 * 0.8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "alike"),
    [({"kl_in": "reward"}, 0.9), ({"kl_in": "loss", "kl_estimator": "k2"}, 0.9), ({"kl_in": "loss", "kl_estimator": "k3"}, 0.5)],
)
def test_the_penalty_pulls_towards_the_reference(options: dict[str, Any], alike: float, tokenizer: Any) -> None:
    """Its gradient over many answers of one token has the direction of the exact KL's, which a sum over all tokens gives. (That
    of k3 is known to be biased.)"""
    one = learner(tiny_llama(tokenizer), tokenizer, source=lambda answers: [[0.0] for _ in answers], kl_coefficient=1.0,
                  missing_eos_penalty=0.0, whiten_advantages=False, normalise_rewards=False, value_coefficient=0.0,
                  micro_batch_tokens=100_000, batch_size=3000, **options)  # fmt: skip
    with torch.no_grad():
        for weight in one.policy.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
        one.policy.value_head.weight.zero_()
    episodes = one.sample(QUERIES[:1] * 3000, 1)
    one.judge(episodes)
    one.compare(episodes)
    one.assign(episodes)
    taken: dict[str, torch.Tensor] = {}
    named = dict(one.policy.model.named_parameters())
    one.optimiser.register_step_pre_hook(lambda *_: taken.update({name: p.grad.clone() for name, p in named.items()}))
    one._learn_from(episodes, range(3000))
    before = learner(tiny_llama(tokenizer), tokenizer).policy.reference
    moved = tiny_llama(tokenizer)
    with torch.no_grad():
        for weight in moved.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    prompt = torch.tensor([episodes[0].prompt])
    logprobs, reference = (torch.log_softmax(model(prompt).logits[0, -1], -1) for model in (moved, before))
    (logprobs.exp() * (logprobs - reference)).sum().backward()
    mine = torch.cat([taken[name].flatten() for name in named])
    exact = torch.cat([dict(moved.named_parameters())[name].grad.flatten() for name in named])
    assert torch.nn.functional.cosine_similarity(mine, exact, dim=0) > alike


@pytest.mark.slow
def test_it_learns(tokenizer: Any) -> None:
    one = learner(tiny_llama(tokenizer), tokenizer, ppo_learning_rate=3e-3, kl_coefficient=0.01, batch_size=12, mini_batch_size=6)
    found = [one.step(QUERIES * 2, 20)[1]["reward"] for _ in range(25)]
    assert sum(found[-5:]) > 1.5 * sum(found[:5])


def test_target_kl_ends_a_steps_learning(tokenizer: Any) -> None:
    one = learner(tiny_llama(tokenizer), tokenizer, ppo_learning_rate=5e-2, ppo_epochs=5, mini_batch_size=6, target_kl=0.01)
    _, measured = one.step(QUERIES, 20)
    assert measured["mini_batches"] == 2


def test_a_reward_that_is_no_number_names_its_source(tokenizer: Any) -> None:
    source = Weighed([("good", 1.0, lambda answers: [[1.0] for _ in answers]), ("bad", 2.0, lambda a: [[math.nan] for _ in a])])
    one = learner(tiny_llama(tokenizer), tokenizer, source=source)
    with pytest.raises(RlhfError, match="bad gave the reward nan to the answer"):
        one.step(QUERIES, 20)


def out_of_memory(times: int) -> Callable[..., Any]:
    left = [times]

    def raise_a_few_times(*_: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")

    return raise_a_few_times


def test_where_memory_runs_out_it_goes_on_in_smaller_parts(tokenizer: Any) -> None:
    wanted = learner(tiny_llama(tokenizer), tokenizer, micro_batch_tokens=512)
    _, plain = wanted.step(QUERIES, 20)
    said: list[str] = []
    one = learner(tiny_llama(tokenizer), tokenizer, micro_batch_tokens=512)
    one._say = said.append
    episodes = judged(one)
    one.policy.register_forward_pre_hook(out_of_memory(2))
    measured = one.assign(episodes) | one.update(episodes)
    assert one.micro_tokens == 128
    assert said == [f"memory ran out; from here on at most {n} tokens are read at once" for n in (256, 128)]
    for name in ("policy_loss", "value_loss", "gradient", "reward"):
        assert measured[name] == pytest.approx(plain[name], rel=1e-3, abs=1e-5)

    one = learner(tiny_llama(tokenizer), tokenizer)
    one._say = said.append
    handle = one.policy.model.register_forward_pre_hook(out_of_memory(1))
    assert len(one.sample(QUERIES, 20)) == 6
    assert (one.rows_at_once, said[-1]) == (3, "memory ran out; from here on 3 answers are sampled at once")
    handle.remove()
    one.policy.model.register_forward_pre_hook(out_of_memory(99))
    with pytest.raises(RlhfError, match="sampling one answer at a time"):
        one.sample(QUERIES, 20)


def test_parts_hold_no_more_than_they_may() -> None:
    lengths = [(5, 20), (30, 2), (6, 19), (200, 5), (4, 4), (5, 5)]
    parts = micro_batches(lengths, [0, 1, 2, 3, 4, 5], 80)
    assert sorted(k for part in parts for k in part) == [0, 1, 2, 3, 4, 5]
    assert parts[0] == [3]  # longer than allowed: alone
    for part in parts[1:]:
        assert len(part) * (max(lengths[k][0] for k in part) + max(lengths[k][1] for k in part)) <= 80
    assert len(parts) < 5
