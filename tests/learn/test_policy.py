"""What is known of a token while it is sampled is what a padded pass over the answer finds, and what the slow way finds."""

from collections import Counter
from typing import Any

import pytest
import torch

from rlhf_core.learn.policy import Batch, Policy, positions_of
from rlhf_core.learn.rollout import Sampled, draw, sample
from tests.learn.policies import MODELS, QUERIES, encode, tiny_gpt2, tiny_llama, tiny_tokenizer, with_adapters

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def prompts(tokenizer: Any) -> list[list[int]]:
    found = [encode(tokenizer, query) for query in [*QUERIES, "hm"]]
    assert len({len(one) for one in found}) > 2
    return found


def drawn(policy: Policy, prompts: list[list[int]], tokenizer: Any, eos_id: int = 1, **more: Any) -> list[Sampled]:
    uniforms = torch.rand(len(prompts), more.pop("at_most", 24), generator=torch.Generator().manual_seed(0))
    options = {"temperature": 1.0, "uniforms": uniforms} | more
    return sample(policy, prompts, eos_id=eos_id, pad_id=tokenizer.pad_token_id, **options)


def an_end_token(policy: Policy, prompts: list[list[int]], tokenizer: Any, **more: Any) -> int:
    """One that these prompts' answers reach early, late and never."""
    found = drawn(policy, prompts, tokenizer, eos_id=-1, **more)
    for token, _ in Counter(token for one in found for token in set(one.ids[2:])).most_common():
        lengths = {len(one.ids) for one in drawn(policy, prompts, tokenizer, eos_id=token, **more)}
        if len(lengths) > 2 and max(lengths) == 24:
            return token
    raise AssertionError("no token ends some answers early")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampling_says_what_a_padded_pass_says(name: str, temperature: float, tokenizer: Any, prompts: list[list[int]]) -> None:
    policy = Policy(MODELS[name](tokenizer))
    torch.nn.init.normal_(policy.value_head.weight)
    end = an_end_token(policy, prompts, tokenizer, temperature=temperature)
    found = drawn(policy, prompts, tokenizer, end, temperature=temperature)
    with torch.no_grad():
        judged = policy(Batch.of(prompts, [one.ids for one in found], tokenizer.pad_token_id, CPU), temperature)
    torch.testing.assert_close(judged.logprobs, torch.cat([one.logprobs for one in found]), atol=2e-5, rtol=1e-4)
    values = torch.cat([one.values for one in found if one.values is not None])
    torch.testing.assert_close(judged.values, values, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_padded_pass_says_what_each_row_alone_says(name: str, tokenizer: Any, prompts: list[list[int]]) -> None:
    policy = Policy(MODELS[name](tokenizer))
    answers = [one.ids[: 1 + k % 5] for k, one in enumerate(drawn(policy, prompts, tokenizer))]  # some of one token
    with torch.no_grad():
        judged = policy(Batch.of(prompts, answers, tokenizer.pad_token_id, CPU), 1.0)
        reference = policy.ref_logprobs(Batch.of(prompts, answers, tokenizer.pad_token_id, CPU), 1.0)
    logprobs, entropy = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        with torch.no_grad():
            table = torch.log_softmax(policy.model(torch.tensor([[*prompt, *answer]])).logits[0].float(), -1)
        table = table[len(prompt) - 1 : -1]
        logprobs += [table[k, token] for k, token in enumerate(answer)]
        entropy += [-(row.exp() * row).sum() for row in table]
    torch.testing.assert_close(judged.logprobs, torch.stack(logprobs), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(judged.entropy, torch.stack(entropy), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(reference, judged.logprobs, atol=1e-5, rtol=1e-5)


def test_a_separate_critic_reads_its_own_states(tokenizer: Any, prompts: list[list[int]]) -> None:
    policy = Policy(tiny_gpt2(tokenizer), "separate")
    torch.nn.init.normal_(policy.value_head.weight)
    found = drawn(policy, prompts, tokenizer)
    assert all(one.values is None for one in found)
    batch = Batch.of(prompts, [one.ids for one in found], tokenizer.pad_token_id, CPU)
    with torch.no_grad():
        values = policy(batch, 1.0).values
        wanted = []
        for prompt, one in zip(prompts, found, strict=True):
            states = policy.model.transformer(torch.tensor([[*prompt, *one.ids]])).last_hidden_state[0]
            wanted.append(policy.value_head(states[len(prompt) - 1 : -1]).squeeze(-1))
    torch.testing.assert_close(values, torch.cat(wanted), atol=2e-5, rtol=1e-4)
    policy(batch, 1.0).values.sum().backward()
    assert all(one.grad is None for one in policy.model.parameters())
    assert policy.critic_body is not None
    assert any(one.grad is not None for one in policy.critic_body.parameters())


def test_the_reference_of_adapters_is_the_model_without_them(tokenizer: Any, prompts: list[list[int]]) -> None:
    plain = tiny_llama(tokenizer)
    policy = Policy(with_adapters(tiny_llama(tokenizer)))
    assert policy.reference is None
    with torch.no_grad():
        for name, one in policy.model.named_parameters():
            if "lora_B" in name:
                one.normal_()
    answers = [one.ids for one in drawn(policy, prompts, tokenizer)]
    batch = Batch.of(prompts, answers, tokenizer.pad_token_id, CPU)
    wanted = Policy(plain)(batch, 1.0).logprobs.detach()
    torch.testing.assert_close(policy.ref_logprobs(batch, 1.0), wanted, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(policy(batch, 1.0).logprobs, wanted, atol=1e-2)


def test_positions_skip_padding() -> None:
    assert positions_of(torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2]]


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2, 0.0])).expand(20_000, 4)
    uniforms = torch.rand(len(logits), generator=torch.Generator().manual_seed(0))
    found = draw(logits, uniforms).bincount(minlength=4) / 20_000
    torch.testing.assert_close(found, torch.tensor([0.5, 0.3, 0.2, 0.0]), atol=0.02, rtol=0)
    banned = draw(logits, uniforms, banned=0).bincount(minlength=4) / 20_000
    torch.testing.assert_close(banned, torch.tensor([0.0, 0.6, 0.4, 0.0]), atol=0.02, rtol=0)


def test_answers_do_not_depend_on_what_is_sampled_beside_them(tokenizer: Any, prompts: list[list[int]]) -> None:
    policy = Policy(tiny_gpt2(tokenizer))
    uniforms = torch.rand(len(prompts), 24, generator=torch.Generator().manual_seed(3))
    together = drawn(policy, prompts, tokenizer, uniforms=uniforms)
    alone = [drawn(policy, [one], tokenizer, uniforms=uniforms[k : k + 1])[0] for k, one in enumerate(prompts)]
    assert [one.ids for one in alone] == [one.ids for one in together]


def test_no_token_of_the_tail_is_left_out(tokenizer: Any, prompts: list[list[int]]) -> None:
    """``generate`` would keep the fifty likeliest alone."""
    policy = Policy(tiny_llama(tokenizer))
    firsts = {one.ids[0] for one in drawn(policy, prompts[:1] * 600, tokenizer, at_most=1)}
    with torch.no_grad():
        likeliest = set(policy.model(torch.tensor(prompts[:1])).logits[0, -1].topk(50).indices.tolist())
    assert firsts - likeliest


def test_a_banned_end_does_not_bend_log_probabilities(tokenizer: Any, prompts: list[list[int]]) -> None:
    policy = Policy(tiny_llama(tokenizer))
    end = an_end_token(policy, prompts, tokenizer)
    found = drawn(policy, prompts, tokenizer, end, at_least=10)
    assert min(len(one.ids) for one in found) >= 10
    judged = policy(Batch.of(prompts, [one.ids for one in found], tokenizer.pad_token_id, CPU), 1.0)
    torch.testing.assert_close(judged.logprobs.detach(), torch.cat([one.logprobs for one in found]), atol=2e-5, rtol=1e-4)


def test_the_same_seed_draws_the_same_and_rows_do_not_mind_their_neighbours(tokenizer: Any, prompts: list[list[int]]) -> None:
    policy = Policy(tiny_llama(tokenizer))
    assert [one.ids for one in drawn(policy, prompts, tokenizer)] == [one.ids for one in drawn(policy, prompts, tokenizer)]
    likeliest = [one.ids for one in drawn(policy, prompts, tokenizer, temperature=1e-4)]
    alone = [drawn(policy, [prompt], tokenizer, temperature=1e-4)[0].ids for prompt in prompts]
    assert likeliest == alone
