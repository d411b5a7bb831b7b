"""Improve a policy by its rewards: ``python -m rlhf_core train ppo --base-model NAME``.

A step draws prompts, samples an answer to each, has them judged, asks the reference, works out what each token was worth, and
learns from it in mini-batches. Now and then answers to held-out prompts are judged too, by a second judge where there is one; the
policy that did best there is kept beside the last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from rlhf_core.analytics.prompts import read_prompts
from rlhf_core.analytics.snapshot import open_snapshot
from rlhf_core.checkpoints.base_models import locate
from rlhf_core.ground.configs import PPOConfig
from rlhf_core.ground.errors import RlhfError, disk_errors
from rlhf_core.ground.runs import SAMPLES_FILE
from rlhf_core.ground.settings import Workspace
from rlhf_core.learn.adapters import adapted, merged_weights
from rlhf_core.learn.alarms import alarms
from rlhf_core.learn.crew import Crew
from rlhf_core.learn.episodes import repeated_share
from rlhf_core.learn.policy import Policy
from rlhf_core.learn.policy_card import policy_card
from rlhf_core.learn.ppo import Episode, Learner, Measured, answers_of
from rlhf_core.learn.reward_model import in_bf16, pick_device
from rlhf_core.learn.writing import load_policy
from rlhf_core.runs.others import optimise
from rlhf_core.runs.ppo_data import Judges, PromptOrder, load_judges, prompt_encoder
from rlhf_core.runs.recording import Cancelled, Recorder, log
from rlhf_core.runs.saved_state import EVERY_S, SavedState, forget, learning, put_back, stands_in
from rlhf_core.runs.saving import new_checkpoint

SAME_REWARD_AFTER = 3  # steps, and at least so many answers, that all got the same reward: nothing can be learned
SAME_REWARD_ANSWERS = 12
KEPT_SAMPLES = 8  # answers of a table


@dataclass(slots=True)
class Place:
    """Where a run stands, beside the learner and the order of prompts: what was measured, and the best policy so far."""

    step: int = 0
    seconds: float = 0.0
    steps: list[Measured] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)
    alarmed: list[str] = field(default_factory=list)
    answers: int = 0
    lowest: float = float("inf")
    highest: float = float("-inf")
    best: dict[str, Any] | None = None  # its table
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)


def train_ppo(
    workspace: Workspace, run_id: str, snapshot_id: str, config: PPOConfig, recorder: Recorder
) -> tuple[str, str]:  # fmt: skip
    """Run the whole of it. Returns (what came of it in words, id of the best checkpoint).

    Raises:
        ModelUnavailable, ModelRefused, InvalidInput, CorruptArtifact, StorageFull: said in the ledger as they are.
        Cancelled: a checkpoint was saved if a step had been done.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    set_seed(config.seed)
    folder = workspace.run_folder(run_id)

    # The prompts, from an immutable snapshot.
    recorder.phase("reading prompts")
    snapshot = open_snapshot(workspace.snapshots, snapshot_id, verify=True) if snapshot_id else None
    prompts = read_prompts(snapshot, config)
    if prompts.examples:
        log.warning("mind: there are no recent chats; the policy learns on %d example questions", len(prompts.train))
    log.info("%d prompts to learn on, %d to look at", len(prompts.train), len(prompts.held_out))

    # What judges, the policy, its reference and its value head.
    recorder.phase("loading the reward models")
    device = pick_device(config.device)
    crew = Crew(device.type)
    device = crew.device(device)
    judges = load_judges(workspace.checkpoints, config, config.device)
    for why in judges.ungated:
        log.warning("mind: accepted all the same: %s", why)
    recorder.phase("loading the policy")
    base = locate(config.base_model, workspace.checkpoints, verify=True)
    model, tokenizer = load_policy(base)
    encode, cut = prompt_encoder(model, tokenizer, config)
    if config.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    if config.method == "lora":
        model = adapted(model, rank=config.lora_rank, alpha=config.lora_alpha, task="CAUSAL_LM")
    policy = Policy(model, config.critic).to(device)
    crew.alike(policy.parameters())
    for part in (policy.model, policy.reference, policy.critic_body, policy.value_head):
        if part is not None:
            crew.shard(part)
    bf16 = in_bf16(device, config.precision)
    learner = Learner(
        policy, tokenizer, judges.source, config, encode, bf16=bf16, say=lambda text: log.warning("mind: %s", text),
        crew=crew,
    )  # fmt: skip
    learns = sum(one.numel() for one in policy.parameters() if one.requires_grad)
    log.info("%s (%s) on %s in %s; %.1f million weights learn", base.name, base.place, device, "bf16" if bf16 else "fp32",
             learns / 1e6)  # fmt: skip
    order = PromptOrder(prompts.train, learner.generator)
    if crew.size > 1:
        log.info("%d processes share each batch%s", crew.size, ", and the weights" if crew.sharded else "")
    state = SavedState(folder, [policy], learner.optimiser, learner.schedule, crew)
    place = Place()
    stood = stands_in(workspace, run_id, config.resume_from)
    if stood is not None:
        place = _load(state, stood, learner, order)
        recorder.go_on_from(stood, place.step)
        if crew.first:
            _go_on_with_samples(stood, folder, place.step)
        log.info("going on from step %d of run %s", place.step, stood.name)
    save = _Saving(workspace, run_id, snapshot_id, config, policy, tokenizer, judges, place, crew)

    def look(step: int) -> None:
        """Judge answers to held-out prompts, and keep the policy if it never did better."""
        recorder.phase("looking at held-out prompts", step=step)
        table, episodes = evaluate(learner, prompts.held_out, judges, step, config)
        place.tables.append(table)
        recorder.metrics(split="validation", step=step, **{name: value for name, value in table.items() if name != "step"})
        if crew.first:
            _write_samples(folder, step, "held out", episodes)
        by = "judge" if judges.judge is not None else "reward"
        if place.best is None or table[by] > place.best[by]:
            place.best, place.best_weights = table, learning(policy)

    recorder.phase("learning", step=place.step, total=config.ppo_steps)
    if not place.tables:
        look(0)
    ended_early = ""
    recorder.phase("learning", step=place.step)
    if config.optimiser != "ppo":
        place.step = optimise(
            policy, tokenizer, prompts.train, judges.source, snapshot, config, encode, recorder, folder, bf16=bf16,
            device=device.type, look=look,
        )  # fmt: skip
        if recorder.should_stop and place.step < config.ppo_steps:  # these run in one process
            raise Cancelled.after(place.step, config.ppo_steps, save(complete=False) if place.step else None)
        look(place.step)
    while place.step < config.ppo_steps and not ended_early:
        if crew.any(recorder.should_stop, device):
            if place.step:
                state.save(_standing(learner, order, place))
            raise Cancelled.after(place.step, config.ppo_steps, save(complete=False) if place.step else None, run_id=run_id)
        learner.seconds.clear()

        # 1. Rollout: an answer to each of the next prompts, of a length drawn for this step.
        queries = order.next(config.batch_size)
        at_most = int(
            torch.randint(config.min_response_tokens, config.max_response_tokens + 1, (1,), generator=learner.generator)
        )
        episodes = learner.sample(queries, at_most)
        # 2. Score: of the whole answer, or of each step.
        learner.judge(episodes)
        # 3. KL: what the reference would have said.
        learner.compare(episodes)
        episodes = learner.together(episodes)
        _check_rewards(place, episodes)
        # 4. Advantage: what each token was worth.
        measured = learner.assign(episodes)
        # 5. Update: in mini-batches, some times over.
        measured |= learner.update(episodes)
        learner.finish_step(measured["kl"], len(episodes))

        place.step += 1
        seconds = sum(learner.seconds.values())
        place.seconds += seconds
        place.steps.append(measured)
        recorder.step(
            place.step, at_most=at_most, tokens_per_s=round(measured["tokens"] * len(episodes) / seconds, 2), **measured,
            **{f"{name}_s": round(value, 4) for name, value in learner.seconds.items()},
        )  # fmt: skip
        if place.step % config.sample_every == 0 and crew.first:
            _write_samples(folder, place.step, "learned from", episodes)
        if place.step % config.evaluate_every == 0 or place.step == config.ppo_steps:
            look(place.step)
            recorder.phase("learning", step=place.step)
        ended_early = _watch(place, measured, recorder, config)
        if config.save_every and place.step % config.save_every == 0 and place.step < config.ppo_steps:
            log.info("saved as %s", save(complete=False))
        if not ended_early:  # after the last step at once: what fails from here on costs no training
            often = EVERY_S if place.step < config.ppo_steps else 0.0
            state.save(_standing(learner, order, place), at_most_every_s=often)
    if ended_early:
        log.warning("ended early: %s", ended_early)
        if place.tables[-1]["step"] != place.step:
            look(place.step)

    # The last policy, and the best one where that is another.
    recorder.phase("saving", step=place.step)
    last = save(complete=True)
    best = last
    assert place.best is not None
    if place.best["step"] != place.step:
        put_back(policy, place.best_weights)
        best = save(complete=True, of_step=place.best["step"])
    if not crew.first:
        return "", ""  # the first process writes
    forget(workspace, run_id, config.resume_from)
    if cut:
        log.warning("mind: %d prompts were too long; their beginning was cut off", len(set(cut)))
    return _in_words(place, judges, best, last, ended_early), best


def evaluate(
    learner: Learner, queries: Sequence[str], judges: Judges, step: int, config: PPOConfig
) -> tuple[dict[str, Any], list[Episode]]:
    """Answers to held-out prompts, drawn alike whenever it is asked, and what they measure."""
    generator = torch.Generator().manual_seed(config.seed)
    episodes = learner.sample(queries, config.max_response_tokens, generator, "looking")
    learner.judge(episodes)
    learner.compare(episodes)
    given = [] if judges.judge is None else [sum(some) / len(some) for some in judges.judge(answers_of(episodes))]
    places = [one.place for one in episodes]
    of_place = dict(zip(learner.crew.gather(places), learner.crew.gather(given), strict=False))
    episodes = learner.together(episodes)
    count = len(episodes)
    rewards = torch.tensor([one.reward for one in episodes])
    table: dict[str, Any] = {
        "step": step, "reward": float(rewards.mean()), "reward_std": float(rewards.std()) if count > 1 else 0.0,
        "kl": sum(one.kl for one in episodes) / count, "tokens": sum(len(one.ids) for one in episodes) / count,
        "ended": sum(one.ended for one in episodes) / count,
        "repetition": sum(repeated_share(one.ids) for one in episodes) / count, "judge": None, "judge_std": None,
        "prompts": count,
    }  # fmt: skip
    if judges.judge is not None:
        judged = torch.tensor([of_place[one.place] for one in episodes])
        table |= {"judge": float(judged.mean()), "judge_std": float(judged.std()) if count > 1 else 0.0}
    return table, episodes


def _check_rewards(place: Place, episodes: Sequence[Episode]) -> None:
    rewards = [reward for one in episodes for reward in one.rewards]
    place.answers += len(episodes)
    place.lowest, place.highest = min(place.lowest, *rewards, float("inf")), max(place.highest, *rewards, float("-inf"))
    if place.step + 1 >= SAME_REWARD_AFTER and place.answers >= SAME_REWARD_ANSWERS and place.lowest == place.highest:
        raise RlhfError(
            f"All {place.answers} answers so far got the same reward ({place.lowest:g}), so there is nothing to learn. Use a "
            "reward model that tells answers apart: its report card (page Models) says whether it does."
        )


def _watch(place: Place, measured: Measured, recorder: Recorder, config: PPOConfig) -> str:
    """Say new alarms. Returns why the run should end, or nothing."""
    found = alarms(place.steps, place.tables, kl_goal=config.kl_goal)
    for name, words in found.items():
        if name not in place.alarmed:
            place.alarmed.append(name)
            log.warning("ALARM: %s", words)
            recorder.metrics(split="alarm", step=place.step, name=name, words=words)
            if config.pause_on_alarm:
                recorder.ask_to_pause(words)
    if config.stop_kl is not None and measured["kl"] > config.stop_kl:
        return f"answers are {measured['kl']:.1f} nats from the reference, above stop_kl ({config.stop_kl:g})"
    return "; ".join(found.values()) if config.stop_on_alarm else ""


def _standing(learner: Learner, order: PromptOrder, place: Place) -> dict[str, Any]:
    names = ("step", "seconds", "steps", "tables", "alarmed", "answers", "lowest", "highest", "best", "best_weights")
    return {"learner": learner.taken(), "order": order.taken(), "place": {name: getattr(place, name) for name in names}}


def _load(state: SavedState, folder: Path, learner: Learner, order: PromptOrder) -> Place:
    stood = state.load(folder)
    learner.put(stood["learner"])
    order.put(stood["order"])
    return Place(**stood["place"])


class _Saving:
    """Writes the policy as a plain folder of ``transformers``, with its card and manifest: the first process does, and all have
    to ask. Returns the checkpoint's id."""

    def __init__(
        self, workspace: Workspace, run_id: str, snapshot_id: str, config: PPOConfig, policy: Policy, tokenizer: Any,
        judges: Judges, place: Place, crew: Crew,
    ) -> None:  # fmt: skip
        self._crew = crew
        self._workspace, self._run_id, self._snapshot_id, self._config = workspace, run_id, snapshot_id, config
        self._policy, self._tokenizer, self._judges, self._place = policy, tokenizer, judges, place

    def _weights(self) -> dict[str, Any] | None:
        """All of them in one place; None where they are there already."""
        policy, crew = self._policy, self._crew
        plain = crew.whole_weights(policy.plain) if crew.sharded else None
        if not policy.adapted:
            return plain
        with crew.gathered(policy.model):
            return merged_weights(policy.model, plain)

    def __call__(self, *, complete: bool, of_step: int | None = None) -> str:
        weights = self._weights()
        if not self._crew.first:
            return ""
        place, config = self._place, self._config
        step = place.step if of_step is None else of_step
        table = next((one for one in reversed(place.tables) if one["step"] == step), None)
        metrics = {
            "trained_steps": step, "held_out": table, "before": place.tables[0] if place.tables else None,
            "seconds": round(place.seconds, 1), "alarms": list(place.alarmed), "reward_checkpoints": self._judges.checkpoints,
            "ungated_reward": self._judges.ungated,
        }  # fmt: skip
        with new_checkpoint(
            self._workspace, "policy", self._run_id, self._snapshot_id, config, complete=complete, metrics=metrics
        ) as making:
            self._policy.plain.save_pretrained(making.folder, **({} if weights is None else {"state_dict": weights}))
            self._tokenizer.save_pretrained(making.folder)
            (making.folder / "README.md").write_text(policy_card(config, self._snapshot_id, metrics), encoding="utf-8")
        return making.checkpoint.id


def _write_samples(folder: Path, step: int, of: str, episodes: Sequence[Episode]) -> None:
    """Append some answers with the rewards of their steps."""
    with disk_errors("writing samples", folder), (folder / SAMPLES_FILE).open("a", encoding="utf-8") as file:
        for one in list(episodes)[:KEPT_SAMPLES]:
            line = {
                "step": step, "of": of, "query": one.query, "answer": one.text, "steps": list(one.steps),
                "rewards": one.rewards, "reward": one.reward, "kl": round(one.kl, 4), "tokens": len(one.ids), "ended": one.ended,
            }  # fmt: skip
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _go_on_with_samples(old: Path, folder: Path, step: int) -> None:
    try:
        lines = (old / SAMPLES_FILE).read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return
    with disk_errors("writing samples", folder):
        (folder / SAMPLES_FILE).write_text(
            "".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step), encoding="utf-8"
        )


def _least_sure(first: dict[str, Any], best: dict[str, Any], name: str) -> float | None:
    """The gain that two standard errors of the difference make, in stars; None where the gain is more. The better of many looks
    is luckier than that, so it is the least that one has to ask for."""
    count = min(first["prompts"], best["prompts"])
    least = 2 * math.sqrt((first[f"{name}_std"] ** 2 + best[f"{name}_std"] ** 2) / count)
    return least if best[name] - first[name] < least else None


def _in_words(place: Place, judges: Judges, best: str, last: str, ended_early: str) -> str:
    assert place.best is not None
    first, name = place.tables[0], "judge" if judges.judge is not None else "reward"
    if place.best["step"] == 0:
        words = (
            f"{best}: no later policy did better on held-out prompts in {name} ({first[name]:.2f}) than the one it began from."
        )
    else:
        words = f"{best}: on held-out prompts the reward went from {first['reward']:.2f} to {place.best['reward']:.2f}"
        if judges.judge is not None:
            words += f" and the judge's from {first['judge']:.2f} to {place.best['judge']:.2f}"
        words += f", {place.best['kl']:.1f} nats from the reference, at step {place.best['step']} (the best in {name})."
        if (least := _least_sure(first, place.best, name)) is not None:
            words += (
                f" That may be chance: on {place.best['prompts']} prompts a gain of less than {least:.2f} cannot be told from it."
            )
    if last != best:
        words += f" The last policy is {last}."
    if ended_early:
        words += f" Ended early: {ended_early}."
    if place.alarmed:
        words += f" Alarms: {', '.join(place.alarmed)}."
    if judges.ungated:
        words += " Its reward model was refused by its report card and used all the same."
    return words
