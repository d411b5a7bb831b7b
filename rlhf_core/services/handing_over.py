"""PPO of models that are too large for one machine, by those who do just that: everything that OpenRLHF or verl needs to begin
from this workspace, and what they made taken back in with its lineage.

Interfaces: OpenRLHF's ``reward_func(queries, prompts, labels)`` and ``--reward.remote_url`` (its examples/python/reward_func.py
and examples/scripts/train_ppo_with_reward_fn.sh), verl's ``compute_score(data_source, solution_str, ground_truth, extra_info)``
and its Parquet columns (its docs/preparation).
"""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_core import __version__
from rlhf_core.analytics.prompts import read_prompts
from rlhf_core.analytics.snapshot import open_snapshot
from rlhf_core.checkpoints.registry import UNSAFE_SUFFIXES, Checkpoint, open_checkpoint, seal
from rlhf_core.ground.answers import Answer
from rlhf_core.ground.cards import Kind
from rlhf_core.ground.configs import PPOConfig
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, NotFound, RunRefused, disk_errors
from rlhf_core.ground.files import building, publish, read_json, sha256_of, write_json
from rlhf_core.ground.records import new_id, utc_now
from rlhf_core.ground.runs import Run
from rlhf_core.ground.settings import PROJECT_ROOT
from rlhf_core.intake.splitting import split_answer, split_sentences
from rlhf_core.services.modelling import gate
from rlhf_core.services.workbench import Workbench

Trainer = Literal["openrlhf", "verl"]
FORMAT = 1
HANDED = "handed-over.json"
URL = "http://127.0.0.1:5000"
TAKEN_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja", ".md")


@dataclass(frozen=True, slots=True)
class Reading:
    """Whether an answer is judged whole or by the mean of its steps, and what a step is: as of :class:`PPOConfig`."""

    reward_on: Literal["answer", "steps"] = "answer"
    step_unit: Literal["as_imported", "sentences"] = "as_imported"


def as_read(query: str, answer: str, reading: Reading) -> Answer:
    """What the reward model reads of it: as our own PPO has it judged."""
    text = answer.strip()
    if reading.reward_on == "answer" or not text:
        return Answer(query, text)
    split = split_sentences(text) if reading.step_unit == "sentences" else split_answer(text)
    return Answer(query, split.response, tuple(split.steps))


def hand_over(
    workbench: Workbench, to: Trainer, snapshot_id: str | None, config: PPOConfig, out: Path, *, url: str = URL, gpus: int = 8
) -> Path:  # fmt: skip
    """Write a new folder: prompts to learn on and to look at, a reward function that asks the served reward model, the command
    with these options, and what all of it was made from.

    Args:
        workbench: Whose.
        to: Which trainer.
        snapshot_id: Where prompts come from; None: five example questions.
        config: ``base_model``, one reward checkpoint, lengths, rates, batch sizes, KL.
        out: The folder.
        url: Where ``serve-reward`` will be reached from there.
        gpus: Of each machine there.

    Raises:
        InvalidInput: the folder is there, the address is none, or rewards are not those of one checkpoint.
        NotFound, CorruptArtifact, ModelRefused: the snapshot, or the reward model.
    """
    workbench.require("train")
    if out.exists():
        raise InvalidInput(f"{out} is there already. Name a new folder.")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidInput(f"{url!r} is no web address; expected http://HOST:PORT.")
    reward = config.reward or ""
    if not reward or set(reward) & set(",=:"):
        raise InvalidInput(f"reward is {reward or 'none'!r}; name the one reward checkpoint that will be served.")
    kind: Kind = "steps" if config.reward_on == "steps" else "answers"
    checkpoint = open_checkpoint(workbench.workspace.checkpoints, reward)
    if not config.accept_ungated_reward:
        gate(workbench, reward, kind, "PPO")
    base = _base(workbench, config.base_model)
    snapshot = open_snapshot(workbench.workspace.snapshots, snapshot_id) if snapshot_id else None
    prompts = read_prompts(snapshot, config)
    with disk_errors("handing over", out.parent), building(out.parent) as scratch:
        for name, queries in (("train", prompts.train), ("validation", prompts.held_out)):
            _write_prompts(scratch, name, queries, to)
        shutil.copyfile(PROJECT_ROOT / "deploy" / "handover" / "reward.py", scratch / "reward.py")

        (scratch / "train.sh").write_text(_command(to, base, config, len(prompts.train), url, gpus), encoding="utf-8")
        (scratch / "train.sh").chmod(0o755)
        (scratch / "README.md").write_text(_readme(to, reward, config, url), encoding="utf-8")
        made: dict[str, Any] = {
            "format": FORMAT, "workbench": __version__, "at": utc_now(), "to": to, "id": new_id()[:12],
            "snapshot_id": snapshot.id if snapshot else "", "reward": reward, "reward_run": checkpoint.run_id,
            "base_model": config.base_model, "config": config.model_dump(), "prompts": len(prompts.train),
            "files": {path.name: sha256_of(path) for path in sorted(scratch.iterdir())},
        }  # fmt: skip
        write_json(scratch / HANDED, made)
        publish(scratch, out)
    workbench.note("hand over", made["id"], to=to, reward=reward, snapshot=made["snapshot_id"])
    return out


def take_back(workbench: Workbench, handed: Path, model: Path) -> tuple[Run, Checkpoint]:
    """Take in the policy that came of it, a folder as ``transformers`` saves one, as a checkpoint with its lineage.

    Raises:
        NotFound: a folder is not there.
        CorruptArtifact: it is no such folder, or holds files that could run code.
        RunRefused: this one was taken back before.
    """
    workbench.require("train")
    made = read_json(handed / HANDED, f"The handed-over folder {handed}")
    try:
        if made["format"] != FORMAT:
            raise CorruptArtifact(f"{handed} was handed over in format {made['format']!r}; this workbench reads {FORMAT}.")
        run_id, config = f"handed-{made['id']}", PPOConfig.parse(made["config"])
        snapshot_id, to = str(made["snapshot_id"]), str(made["to"])
    except (KeyError, TypeError, InvalidInput) as error:
        raise CorruptArtifact(f"{handed} was not handed over by this workbench: {error}") from error
    if to not in get_args(Trainer) or not str(made["id"]).replace("-", "").isalnum():
        raise CorruptArtifact(f"{handed} was not handed over by this workbench.")
    if any(one.id == run_id for one in workbench.ledger.recent(None)):
        raise RunRefused(f"What came of {handed} was taken back before, as run {run_id}.")
    if not (model / "config.json").is_file():
        raise NotFound(
            f"{model} holds no model: there is no config.json in it. Name the folder that the trainer saved for transformers."
        )
    unsafe = [path for path in model.rglob("*") if path.suffix in UNSAFE_SUFFIXES or path.is_symlink()]
    if unsafe:
        raise CorruptArtifact(
            f"{model} holds {unsafe[0].name}; only safetensors are taken in. Save it as safetensors, without code."
        )
    if not any(model.glob("*.safetensors")):
        raise NotFound(f"{model} has no weights as safetensors.")
    home = workbench.workspace.checkpoints
    with disk_errors("taking the policy in", home), building(home) as scratch:
        for path in sorted(model.iterdir()):
            if path.is_file() and path.suffix in TAKEN_SUFFIXES:
                shutil.copyfile(path, scratch / path.name)
        checkpoint = seal(
            scratch, home, kind="policy", run_id=run_id, snapshot_id=snapshot_id, parent=config.base_model, complete=True,
            config=config.model_dump(), metrics={"reward_checkpoints": [config.reward], "trained_by": to}, scoring={},
            libraries={},
        )  # fmt: skip
    now = utc_now()
    run = Run(
        id=run_id, kind="ppo", status="succeeded", config=config.model_dump(), snapshot_id=snapshot_id, requested_by=None,
        created_at=str(made["at"]), started_at=str(made["at"]), finished_at=now, heartbeat_at=now, host=None, pid=None,
        pid_create_time=None, phase=None, step=0, total_steps=None, cancel_requested=None,
        message=f"{checkpoint.id}: trained by {to} from what was handed over, taken back {datetime.now(UTC):%Y-%m-%d}.",
        checkpoint_id=checkpoint.id, priority=0, pausing=False, memory_mb=None, device=None, remedy=None, engine=to,
    )  # fmt: skip
    workbench.ledger.restore(run)
    workbench.note("take back", run.id, checkpoint=checkpoint.id)
    return workbench.ledger.get(run_id), checkpoint


def _base(workbench: Workbench, name: str) -> str:
    """A checkpoint's folder, or the name as it is."""
    try:
        return str(open_checkpoint(workbench.workspace.checkpoints, name).folder)
    except (NotFound, CorruptArtifact):
        return name


def _write_prompts(folder: Path, name: str, queries: list[str], to: Trainer) -> None:
    chats = [[{"role": "user", "content": query}] for query in queries]
    if to == "openrlhf":
        lines = [
            json.dumps({"input": chat, "label": query}, ensure_ascii=False) for chat, query in zip(chats, queries, strict=True)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    table = pa.table({
        "data_source": ["rlhf-workbench"] * len(queries), "prompt": chats, "ability": ["chat"] * len(queries),
        "reward_model": [{"style": "rule", "ground_truth": ""} for _ in queries],
        "extra_info": [{"index": k, "split": name, "query": query} for k, query in enumerate(queries)],
    })  # fmt: skip
    pq.write_table(table, folder / f"{name}.parquet")


def _command(to: Trainer, base: str, config: PPOConfig, prompts: int, url: str, gpus: int) -> str:
    values: dict[str, Any] = {
        "gpus": gpus, "base": shlex.quote(base), "url": shlex.quote(url),
        "samples": max(prompts, config.batch_size * config.ppo_steps),
        "batch": config.batch_size, "mini": config.mini_batch_size, "epochs": config.ppo_epochs, "steps": config.ppo_steps,
        "rate": config.ppo_learning_rate, "critic_rate": config.value_learning_rate or 3 * config.ppo_learning_rate,
        "kl": config.kl_coefficient, "clip": config.clip, "gamma": config.gamma, "lam": config.lam, "seed": config.seed,
        "prompt_tokens": config.max_prompt_tokens, "answer_tokens": config.max_response_tokens, "save": config.evaluate_every,
        "temperature": config.temperature, "all_tokens": config.max_prompt_tokens + config.max_response_tokens,
    }  # fmt: skip
    return (OPENRLHF if to == "openrlhf" else VERL).format(**values)


HEAD = """#!/usr/bin/env bash
# Written by RLHF Workbench from a run's options. Batch sizes are those of a small run: raise them to what your GPUs hold.
set -euo pipefail
cd "$(dirname "$0")"
reward_url={url} # where `python -m rlhf_core serve-reward` is reached from here
export RLHF_REWARD_URL="${{RLHF_REWARD_URL:-$reward_url}}"
# export RLHF_REWARD_TOKEN=...                        # where it asks for one
"""
OPENRLHF = (
    HEAD
    + """
python3 -m openrlhf.cli.train_ppo_ray \\
  --ref.num_nodes 1 --ref.num_gpus_per_node {gpus} \\
  --critic.num_nodes 1 --critic.num_gpus_per_node {gpus} \\
  --actor.num_nodes 1 --actor.num_gpus_per_node {gpus} \\
  --vllm.num_engines {gpus} --vllm.tensor_parallel_size 1 \\
  --train.colocate_actor_ref \\
  --actor.model_name_or_path {base} \\
  --reward.remote_url "$PWD/reward.py" \\
  --ckpt.output_dir "$PWD/policy" \\
  --data.prompt_dataset "$PWD/train.jsonl" --data.input_key input --data.label_key label --data.apply_chat_template \\
  --data.max_samples {samples} --data.max_len {all_tokens} \\
  --rollout.batch_size {batch} --train.batch_size {mini} --train.max_epochs {epochs} \\
  --actor.adam.lr {rate:g} --critic.adam.lr {critic_rate:g} \\
  --algo.kl.init_coef {kl:g} \\
  --reward.normalize_enable \\
  --actor.gradient_checkpointing_enable "$@"
"""
)
VERL = (
    HEAD
    + """
python3 -m verl.trainer.main_ppo \\
  algorithm.adv_estimator=gae algorithm.gamma={gamma:g} algorithm.lam={lam:g} \\
  algorithm.use_kl_in_reward=True algorithm.kl_ctrl.kl_coef={kl:g} \\
  data.train_files="$PWD/train.parquet" data.val_files="$PWD/validation.parquet" data.prompt_key=prompt \\
  data.train_batch_size={batch} data.max_prompt_length={prompt_tokens} data.max_response_length={answer_tokens} \\
  actor_rollout_ref.model.path={base} \\
  actor_rollout_ref.actor.optim.lr={rate:g} actor_rollout_ref.actor.ppo_mini_batch_size={mini} \\
  actor_rollout_ref.actor.ppo_epochs={epochs} actor_rollout_ref.actor.clip_ratio={clip:g} \\
  actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1 \\
  actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=1 \\
  actor_rollout_ref.rollout.name=vllm actor_rollout_ref.rollout.temperature={temperature:g} \\
  actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=1 \\
  critic.model.path={base} critic.optim.lr={critic_rate:g} critic.ppo_micro_batch_size_per_gpu=1 \\
  reward.custom_reward_function.path="$PWD/reward.py" reward.custom_reward_function.name=compute_score \\
  trainer.n_gpus_per_node={gpus} trainer.nnodes=1 trainer.total_training_steps={steps} trainer.save_freq={save} \\
  trainer.default_local_dir="$PWD/policy" trainer.logger='["console"]' "$@"
# Before verl moved them, the two of reward.custom_reward_function were called custom_reward_function.path and .name.
"""
)


def _readme(to: Trainer, reward: str, config: PPOConfig, url: str) -> str:
    prompts = "train.jsonl" if to == "openrlhf" else "train.parquet"
    port = urlsplit(url).port or 5000
    flags = "" if config.reward_on == "answer" else f" --reward-on steps --step-unit {config.step_unit}"
    return f"""# Handed over to {to}

1. Serve the reward model, where this workspace is: `python -m rlhf_core serve-reward {reward} --port {port}{flags}`
   (where others reach it, set RLHF_REWARD_TOKEN to a secret before that, and here too).
2. Try it from here: `python reward.py`. It asks for the rewards of two answers and prints them.
3. `./train.sh`, with whatever else {to} takes behind it.
4. Take what came of it back, with its lineage: `python -m rlhf_core take-back THIS_FOLDER FOLDER_OF_THE_POLICY`
   (a folder as transformers saves one, with safetensors).

`{prompts}` holds the questions that our own PPO would learn on, `validation` those that it would look at; nobody's name is in
them. `{HANDED}` says which snapshot, reward model and options they are of. The command's flags are those of {to}'s
own examples as of 2026; its documentation has the last word.
"""
