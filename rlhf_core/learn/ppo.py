"""Proximal policy optimisation of a causal model by rewards on text: the parts of one step, without files or ledgers.

:mod:`rlhf_core.runs.ppo` calls them in order. Sources: Schulman et al. 2017 (arXiv 1707.06347), Ziegler et al. 2019 (1909.08593),
Huang et al. 2024, "The N+ implementation details of RLHF with PPO" (2403.17031).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rlhf_core.ground.configs import MICRO_BATCH_TOKENS, PPOConfig
from rlhf_core.ground.errors import OutOfMemory, RlhfError
from rlhf_core.learn.crew import Crew, clip_gradients
from rlhf_core.learn.episodes import Moments, placed, repeated_share, step_ends, tokens_at
from rlhf_core.learn.gae import advantages_and_returns
from rlhf_core.learn.kl import KLController, kl_estimate
from rlhf_core.learn.masked import explained_variance, masked_mean, masked_variance, whiten
from rlhf_core.learn.policy import Batch, Policy
from rlhf_core.learn.policy_losses import policy_loss, value_loss
from rlhf_core.learn.rewards import Answer, Source, steps_of
from rlhf_core.learn.rollout import sample

T = TypeVar("T")
FEWEST_TOKENS = 64
Measured = dict[str, float]


@dataclass(slots=True)
class Episode:
    """One prompt and the answer to it. Of its n tokens: ``logprobs`` and ``values`` as sampled, ``ref_logprobs``, ``advantages``
    and ``returns``, ``(n,)`` float32. ``rewards``: as judged, of each step or of the whole; ``ends``: the token of each.
    ``place``: of its query in the batch."""

    place: int
    query: str
    prompt: list[int]
    ids: list[int]
    ended: bool
    text: str
    steps: tuple[str, ...]
    ends: list[int]
    logprobs: Tensor
    values: Tensor | None
    ref_logprobs: Tensor | None = None
    advantages: Tensor | None = None
    returns: Tensor | None = None
    rewards: list[float] = field(default_factory=list)

    @property
    def reward(self) -> float:
        """Of the whole answer: its own, or the mean of its steps'."""
        return sum(self.rewards) / len(self.rewards)

    @property
    def kl(self) -> float:
        """k1 of the whole answer, in nats."""
        assert self.ref_logprobs is not None
        return float((self.logprobs - self.ref_logprobs).sum())


class Learner:
    """A policy that learns from rewards, with all that has to be kept to go on where it stood.

    Args:
        policy: On its device.
        tokenizer: Its own, with an end token.
        source: Judges answers.
        config: Options.
        encode: Makes the prompt's token ids of a query.
        say: Told of what a person should know, as of memory that ran out.
        crew: The processes that learn together. Each samples and judges its share of the prompts; :meth:`together` brings the
            episodes together, and from then on all have the same.
    """

    def __init__(
        self, policy: Policy, tokenizer: Any, source: Source, config: PPOConfig, encode: Callable[[str], list[int]], *,
        bf16: bool = False, say: Callable[[str], None] = lambda _: None, crew: Crew | None = None,
    ) -> None:  # fmt: skip
        self.crew = crew or Crew(policy.value_head.weight.device.type)
        self.policy, self.tokenizer, self.source, self.config = policy, tokenizer, source, config
        self._encode, self._say, self._bf16 = encode, say, bf16
        self.device = policy.value_head.weight.device
        self.eos_id: int = tokenizer.eos_token_id
        self.pad_id: int = self.eos_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.generator = torch.Generator().manual_seed(config.seed)
        self.controller = KLController(config.kl_coefficient, config.kl_goal, config.kl_horizon)
        self.moments = Moments()
        self.micro_tokens = config.micro_batch_tokens or MICRO_BATCH_TOKENS["ppo"][self.device.type]
        self.rows_at_once = config.batch_size
        self.seconds: dict[str, float] = {}
        critic = [*policy.value_head.parameters(), *(policy.critic_body.parameters() if policy.critic_body is not None else ())]
        body = [one for one in policy.model.parameters() if one.requires_grad]
        rate = config.ppo_learning_rate
        self.optimiser = torch.optim.AdamW(
            [{"params": body, "lr": rate}, {"params": critic, "lr": config.value_learning_rate or 3 * rate}],
            lr=rate, eps=1e-5, weight_decay=config.weight_decay, fused=True,
        )  # fmt: skip
        rises, total = config.warmup_steps, config.ppo_steps
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: min(1.0, (step + 1) / (rises + 1)) * max(0.0, 1 - step / total)
        )
        policy.eval()  # no dropout: the policy that is judged is the one that sampled

    # 1. Answers.
    def sample(
        self, queries: Sequence[str], at_most: int, generator: torch.Generator | None = None, name: str = "sampling"
    ) -> list[Episode]:
        """An answer to each query (to this process's share of them), of at most so many tokens; drawn by ``generator``, or by the
        learner's own."""
        prompts = [self._encode(query) for query in queries]
        uniforms = torch.rand(len(queries), at_most, generator=generator or self.generator)
        order = self.crew.share(sorted(range(len(queries)), key=lambda k: len(prompts[k])))
        found: dict[int, Episode] = {}
        with self.clock(name), self.crew.gathered(self.policy.model, self.policy.value_head):
            at = 0
            while at < len(order):
                some = order[at : at + self.rows_at_once]
                try:
                    with self.autocast():
                        answers = sample(
                            self.policy, [prompts[k] for k in some], eos_id=self.eos_id, pad_id=self.pad_id,
                            temperature=self.config.temperature, uniforms=uniforms[some],
                        )  # fmt: skip
                except torch.OutOfMemoryError as error:
                    self._fewer_rows(error)
                    continue
                for k, one in zip(some, answers, strict=True):
                    found[k] = self._episode(k, queries[k], prompts[k], one.ids, one.logprobs, one.values)
                at += len(some)
        return [found[k] for k in sorted(found)]

    def together(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Everybody's, in the order of their queries. Each was judged and compared by whoever sampled it."""
        self.micro_tokens = min(self.crew.gather([self.micro_tokens]))  # parts have to be the same ones everywhere
        return sorted(self.crew.gather(episodes), key=lambda one: one.place)

    def _episode(
        self, place: int, query: str, prompt: list[int], ids: list[int], logprobs: Tensor, values: Tensor | None
    ) -> Episode:
        ended = ids[-1] == self.eos_id
        written = ids[:-1] if ended else ids
        raw = self.tokenizer.decode(written, skip_special_tokens=True)
        text, ends = raw.strip(), [len(ids) - 1]
        steps: list[str] = []
        if self.config.reward_on == "steps" and text:
            text, steps = steps_of(text, self.config.step_unit)
            ends = tokens_at(self.tokenizer, written, step_ends(raw, steps))
        values = None if values is None else values.cpu()
        return Episode(place, query, prompt, ids, ended, text, tuple(steps), ends, logprobs.cpu(), values)

    # 2. What they are worth.
    def judge(self, episodes: Sequence[Episode]) -> None:
        """Fills in their rewards."""
        with self.clock("rewards"):
            if not episodes:  # fewer prompts than processes
                return
            for one, rewards in zip(episodes, self.source(answers_of(episodes)), strict=True):
                one.rewards = rewards

    # 3. What the reference thinks of them, and the policy and critic where sampling did not say.
    @torch.no_grad()
    def compare(self, episodes: Sequence[Episode]) -> None:
        """Fills in log-probabilities of the reference. In bf16 those of the policy are computed anew: while sampling they differ
        by a few hundredths, and the first ratio has to be 1."""

        def read(parts: list[list[int]]) -> None:
            for part in parts:
                some = [episodes[k] for k in part]
                batch = self._batch(some)
                found: dict[str, Tensor] = {}
                with self.autocast():
                    found["ref_logprobs"] = self.policy.ref_logprobs(batch, self.config.temperature)
                    if self._bf16:
                        judged = self.policy(batch, self.config.temperature)
                        found |= {"logprobs": judged.logprobs, "values": judged.values}
                    elif some[0].values is None:
                        found["values"] = self.policy.values(batch)
                for name, of_all in found.items():
                    for one, mine in zip(some, of_all.cpu().split([len(one.ids) for one in some]), strict=True):
                        setattr(one, name, mine)

        policy = self.policy
        needed = [
            policy.reference or policy.model,
            policy.critic_body,
            policy.value_head,
            *([policy.model] if self._bf16 else []),
        ]
        with self.clock("reference"), self.crew.gathered(*needed):
            self._in_parts(episodes, range(len(episodes)), read)

    # 4. Rewards of tokens, and from them what each token was worth.
    def assign(self, episodes: Sequence[Episode]) -> Measured:
        """Fills in advantages and returns; says what the answers were like."""
        config = self.config
        mask = pad_sequence([torch.ones(len(one.ids), dtype=torch.bool) for one in episodes], batch_first=True)
        tokens = mask.shape[1]
        logprobs, ref_logprobs, values = (
            pad_sequence([getattr(one, name) for one in episodes], batch_first=True)
            for name in ("logprobs", "ref_logprobs", "values")
        )
        if config.normalise_rewards:
            self.moments.update([one.reward for one in episodes])
        shaped = [self._shaped(one) for one in episodes]
        penalties = torch.tensor([self._penalty(one) for one in episodes])
        rewards = placed(shaped, [one.ends for one in episodes], tokens)
        rewards[torch.arange(len(episodes)), mask.sum(1) - 1] -= penalties
        k1 = kl_estimate(logprobs, ref_logprobs, "k1") * mask
        if config.kl_in == "reward":
            rewards = rewards - self.controller.coefficient * kl_estimate(logprobs, ref_logprobs, config.kl_estimator) * mask
        if config.whiten_rewards:
            rewards = whiten(rewards, mask, keep_mean=True)
        advantages, returns = advantages_and_returns(rewards, values, mask, gamma=config.gamma, lam=config.lam)
        spread = masked_variance(advantages, mask).sqrt()
        if config.whiten_advantages:
            advantages = whiten(advantages, mask, keep_mean=False)
        for row, one in enumerate(episodes):
            one.advantages, one.returns = advantages[row, : len(one.ids)], returns[row, : len(one.ids)]
        judged = torch.tensor([one.reward for one in episodes])
        count = len(episodes)
        k3 = kl_estimate(logprobs, ref_logprobs, "k3") * mask
        steps = [reward for one in episodes if one.steps for reward in one.rewards]
        return {
            "reward": float(judged.mean()), "reward_std": float(judged.std()) if count > 1 else 0.0,
            "step_reward": sum(steps) / len(steps) if steps else float(judged.mean()),
            "steps_per_answer": sum(len(one.steps) for one in episodes) / count,
            "kl": float(k1.sum()) / count, "kl_k3": float(k3.sum()) / count, "kl_coefficient": self.controller.coefficient,
            "objective": (sum(map(sum, shaped)) - float(penalties.sum()) - self.controller.coefficient * float(k1.sum())) / count,
            "tokens": float(mask.sum()) / count, "ended": sum(one.ended for one in episodes) / count,
            "repetition": sum(repeated_share(one.ids) for one in episodes) / count,
            "value": float(masked_mean(values, mask)), "return": float(masked_mean(returns, mask)),
            "explained_variance": float(explained_variance(values, returns, mask)), "advantage_std": float(spread),
        }  # fmt: skip

    def _shaped(self, one: Episode) -> list[float]:
        """What is put on its tokens for its rewards; they sum to the standardised reward of the whole."""
        config = self.config
        rewards = [self.moments.standardised(reward) for reward in one.rewards] if config.normalise_rewards else one.rewards
        if config.clip_rewards is not None:
            rewards = [max(-config.clip_rewards, min(config.clip_rewards, reward)) for reward in rewards]
        if config.step_credit == "gain":
            return [reward - before for before, reward in zip([0.0, *rewards], rewards, strict=False)]
        return [reward / len(rewards) for reward in rewards]

    def _penalty(self, one: Episode) -> float:
        config = self.config
        return (
            config.missing_eos_penalty * (not one.ended)
            + config.length_penalty * len(one.ids) / 100
            + config.repetition_penalty * repeated_share(one.ids)
        )

    # 5. Learning.
    def update(self, episodes: Sequence[Episode]) -> Measured:
        """Some passes over the episodes in mini-batches; stops early at ``target_kl``. Says how that went."""
        config = self.config
        sums: dict[str, list[float]] = {}
        first_ratio = 0.0
        stopped = False
        with self.clock("learning"):
            for epoch in range(config.ppo_epochs):
                order = torch.randperm(len(episodes), generator=self.generator).tolist()
                for begin in range(0, len(order), config.mini_batch_size):
                    found, ratio = self._learn_from(episodes, order[begin : begin + config.mini_batch_size])
                    first_ratio = first_ratio if sums else ratio
                    for name, value in found.items():
                        if name != "entropy" or epoch == 0:
                            sums.setdefault(name, []).append(value)
                    if config.target_kl is not None and found["policy_kl"] > config.target_kl:
                        stopped = True
                        break
                if stopped:
                    break
        measured = {name: sum(values) / len(values) for name, values in sums.items()}
        return measured | {
            "first_ratio_off": first_ratio, "mini_batches": float(len(sums["policy_loss"])),
            "learning_rate": float(self.schedule.get_last_lr()[0]),
        }  # fmt: skip

    def _learn_from(self, episodes: Sequence[Episode], order: Sequence[int]) -> tuple[Measured, float]:
        """One optimiser step from the mean over these episodes' tokens, read in parts. Returns that mini-batch's measures, and
        how far its ratios are from 1 at most."""
        config = self.config
        total = sum(len(episodes[k].ids) for k in order)
        names = ("policy_loss", "value_loss", "clip_fraction", "value_clip_fraction", "ratio", "policy_kl", "entropy")

        def learn(parts: list[list[int]]) -> tuple[Tensor, float]:
            self.optimiser.zero_grad(set_to_none=True)
            sums, furthest = torch.zeros(len(names)), 0.0
            for part, counts in self.crew.even_share(parts):
                some = [episodes[k] for k in part]
                old, advantages, returns, old_values, ref = (
                    torch.cat([getattr(one, name) for one in some]).to(self.device)
                    for name in ("logprobs", "advantages", "returns", "values", "ref_logprobs")
                )
                with self.autocast():
                    now = self.policy(self._batch(some), config.temperature)
                surrogate, ratio, clipped = policy_loss(now.logprobs, old, advantages, config.clip)
                of_values, values_clipped = value_loss(now.values, old_values, returns, config.clip_value)
                loss = surrogate.sum() + config.value_coefficient * of_values.sum()
                if config.kl_in == "loss":
                    loss = loss + self.controller.coefficient * kl_estimate(now.logprobs, ref, config.kl_estimator).sum()
                loss = loss / total
                if not torch.isfinite(loss):
                    raise RlhfError(
                        f"The loss became {loss.item()}. Lower ppo_learning_rate (now {config.ppo_learning_rate:g}), or set "
                        "precision to fp32."
                    )
                (loss if counts else loss * 0).backward()
                if not counts:
                    continue
                with torch.no_grad():
                    moved = kl_estimate(old, now.logprobs, "k3")  # of the sampling policy from the one it became
                    parts_of = (surrogate, of_values, clipped, values_clipped, ratio, moved, now.entropy)
                    sums += torch.stack([one.sum().float() for one in parts_of]).cpu()
                    furthest = max(furthest, float((ratio - 1).abs().max()))
            return sums, furthest

        sums, furthest = self._in_parts(episodes, order, learn, all_learn=True)
        learns = [one for group in self.optimiser.param_groups for one in group["params"]]
        self.crew.sum_gradients(learns)
        if self.crew.size > 1:
            sums = self.crew.sum_all(sums.to(self.device)).cpu()
            furthest = max(self.crew.gather([furthest]))
        norm = clip_gradients(learns, config.max_gradient)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return dict(zip(names, (sums / total).tolist(), strict=True)) | {"gradient": norm}, furthest

    # 6. The step's end.
    def finish_step(self, kl: float, episodes: int) -> None:
        """Steer the penalty and lower the rates."""
        self.controller.update(kl, episodes)
        self.schedule.step()

    def step(self, queries: Sequence[str], at_most: int) -> tuple[list[Episode], Measured]:
        """All of it: what :mod:`rlhf_core.runs.ppo` does one by one."""
        episodes = self.sample(queries, at_most)
        self.judge(episodes)
        self.compare(episodes)
        episodes = self.together(episodes)
        measured = self.assign(episodes)
        measured |= self.update(episodes)
        self.finish_step(measured["kl"], len(episodes))
        return episodes, measured

    def taken(self) -> dict[str, Any]:
        """What weights, optimiser and schedule do not hold, for :meth:`put`."""
        return {
            "generator": self.generator.get_state(), "coefficient": self.controller.coefficient, "moments": self.moments.taken(),
            "micro_tokens": self.micro_tokens, "rows_at_once": self.rows_at_once,
        }  # fmt: skip

    def put(self, taken: dict[str, Any]) -> None:
        """Go on from there."""
        self.generator.set_state(taken["generator"])
        self.controller.coefficient = taken["coefficient"]
        self.moments.put(taken["moments"])
        self.micro_tokens, self.rows_at_once = taken["micro_tokens"], taken["rows_at_once"]

    def autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16)

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Adds to the seconds spent on something."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

    def _batch(self, some: Sequence[Episode]) -> Batch:
        return Batch.of([one.prompt for one in some], [one.ids for one in some], self.pad_id, self.device)

    def _in_parts(
        self, episodes: Sequence[Episode], order: Sequence[int], work: Callable[[list[list[int]]], T], *, all_learn: bool = False
    ) -> T:
        """Do the work in parts that fit; where memory runs out, all of it again in parts of half the size: not where others
        learn along (``all_learn``), who would wait for ever."""
        while True:
            lengths = [(len(one.prompt), len(one.ids)) for one in episodes]
            at_once = self.micro_tokens
            if all_learn:
                widest = max(lengths[k][0] for k in order) + max(lengths[k][1] for k in order)
                at_once = self.crew.at_once(at_once, widest * len(order))
            parts = micro_batches(lengths, order, at_once)
            try:
                return work(parts)
            except torch.OutOfMemoryError as error:
                if all_learn and self.crew.size > 1:
                    raise OutOfMemory(
                        f"Memory ran out while {self.crew.size} processes learned with {self.micro_tokens} tokens at once. Lower "
                        "micro_batch_tokens, or set gradient_checkpointing to true."
                    ) from error
                if self.micro_tokens <= FEWEST_TOKENS or all(len(part) == 1 for part in parts):
                    raise OutOfMemory(
                        "Memory ran out with one answer at a time. Lower max_response_tokens or max_prompt_tokens, set method to "
                        "lora or gradient_checkpointing to true, or take a smaller policy."
                    ) from error
                self.micro_tokens = max(FEWEST_TOKENS, self.micro_tokens // 2)
                self.optimiser.zero_grad(set_to_none=True)
                self._say(f"memory ran out; from here on at most {self.micro_tokens} tokens are read at once")
                _let_go()

    def _fewer_rows(self, error: BaseException) -> None:
        if self.rows_at_once == 1:
            raise OutOfMemory(
                "Memory ran out while sampling one answer at a time. Lower max_response_tokens, or take a smaller policy."
            ) from error
        self.rows_at_once = -(-self.rows_at_once // 2)
        self._say(f"memory ran out; from here on {self.rows_at_once} answers are sampled at once")
        _let_go()


def answers_of(episodes: Sequence[Episode]) -> list[Answer]:
    """What a reward source reads of them."""
    return [Answer(one.query, one.text, one.steps) for one in episodes]


def micro_batches(lengths: Sequence[tuple[int, int]], order: Sequence[int], at_most: int) -> list[list[int]]:
    """Episodes of like length together, padded to at most so many tokens (a longer one stands alone).

    Args:
        lengths: Tokens of each prompt and answer.
        order: Which of them; each once.
        at_most: Padded tokens.
    """
    found: list[list[int]] = []
    prompt = answer = 0
    for k in sorted(order, key=lambda k: (-sum(lengths[k]), k)):
        wider = max(prompt, lengths[k][0]), max(answer, lengths[k][1])
        if found and (len(found[-1]) + 1) * sum(wider) <= at_most:
            found[-1].append(k)
            prompt, answer = wider
        else:
            found.append([k])
            prompt, answer = lengths[k]
    return found


def _let_go() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
