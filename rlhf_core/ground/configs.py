"""Every option of a run, once: its name, type, range, unit, default and help serve the form, the command line and the file."""

from __future__ import annotations

import math
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.runs import RunKind

MICRO_BATCH_TOKENS = {"reward": {"cpu": 1024, "cuda": 16_384}, "ppo": {"cpu": 512, "cuda": 16_384}}  # where none are given


Tracking = Literal["none", "tensorboard", "trackio", "wandb"]
TRACKING = "also send measures to a tracker: tensorboard writes into the run's folder; trackio and wandb as they are set up here"

TINY = "tiny"  # as a policy to begin with: a new one


class RunConfig(BaseModel):
    """What options of every kind of run have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int
    resume_from: str | None
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16"]
    report_to: Tracking

    @classmethod
    def options(cls) -> dict[str, FieldInfo]:
        """By name: what is particular to this kind first, then what all kinds have."""
        shared = RunConfig.model_fields
        return {name: field for name, field in cls.model_fields.items() if name not in shared} | {
            name: cls.model_fields[name] for name in shared
        }

    @property
    def begins_from(self) -> str:
        """The model that training starts from: a hub name, a folder, a checkpoint, or (sft) tiny."""
        return str(getattr(self, "reward_base_model", None) or getattr(self, "base_model", ""))

    @property
    def goes_on(self) -> bool:
        """Whether such a run saves where it stands, so that it can be paused, and gone on from after it was stopped or killed."""
        return True

    @property
    def takes_processes(self) -> bool:
        """Whether several processes can share such a run."""
        return False

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """
        Raises:
            InvalidInput: names every option that is wrong, its value and its rule.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            reasons = []
            for one in error.errors():
                name = ".".join(map(str, one["loc"])) or "options"
                given = f" (got {one['input']!r})" if one["loc"] else ""
                reasons.append(f"{name}: {one['msg'].removeprefix('Value error, ')}{given}")
            raise InvalidInput(f"The run's options are wrong. {'; '.join(reasons)}.") from error

    def arguments(self) -> list[str]:
        """The command-line form of every option that is not at its default."""
        argv: list[str] = []
        for name, value in self.model_dump(exclude_defaults=True).items():
            argv += [f"--{name.replace('_', '-')}", "none" if value is None else str(value)]
        return argv


class RewardConfig(RunConfig):
    """Options of a reward-model run."""

    reward_base_model: str = Field(
        "distilroberta-base",
        description="pretrained encoder to start from: a hub name, a folder, a checkpoint, or minilm-l6 (bundled)",
    )
    method: Literal["finetune", "lora", "head"] = Field(
        "finetune",
        description="what learns: the whole model, low-rank adapters of it, or the readout alone (about a minute on a CPU; "
        "the best for the first hundred ratings)",
    )
    readout: Literal["spans", "class"] = Field(
        "spans", description="our own readout (steps in one pass, aspects), or a classifier's as transformers has it"
    )
    see_length: bool = Field(
        False,
        description="the readout also sees how long a step is and where it stands: finds first errors a little better, and gives "
        "length a reward that a policy can exploit",
    )
    learn_from: Literal["both", "answers", "steps"] = Field(
        "both", description="whole answers, step prefixes (the answer up to and including the rated step), or both"
    )
    step_reading: Literal["prefixes", "one_pass"] = Field(
        "prefixes",
        description="read each step with what stands before it, or an answer once for all of its steps (quicker; of a model "
        "that reads both ways, a step then knows what comes after it)",
    )
    objective: Literal["regression", "ordinal"] = Field(
        "regression", description="predict mean scores, or the chances of 1 to 5 stars (rewards then stay within 1-5)"
    )
    aspect_weight: float = Field(
        1.0, ge=0, le=100, description="how much a rating of one aspect counts; each aspect has its own output. 0 leaves them out"
    )
    thumbs_weight: float = Field(
        1.0, ge=0, le=100, description="how much a thumb counts against a star rating; 0 leaves them out"
    )
    step_weight: float = Field(1.0, ge=0, le=100, description="how much a rated step counts against a rated answer")
    preference_weight: float = Field(
        1.0, ge=0, le=100, description="how much a preferred pair counts against a rated answer; 0 leaves pairs out"
    )
    pairs_of_ratings: bool = Field(False, description="also learn from pairs of answers to one query that were rated differently")
    guard_weight: float = Field(
        0.3,
        ge=0,
        le=100,
        description="how much a made-up pair counts: a liked answer against an empty, senseless or flattering one, three each "
        "query, so that a policy cannot live on such; 0 makes none up",
    )
    leniency: bool = Field(True, description="take off how mildly or harshly a rater rates, against others on the same things")
    balance: bool = Field(False, description="let low and high scores count alike, however many there are of each")
    freeze_layers: int = Field(
        0, ge=0, le=1000, description="lowest layers of the base that do not learn: quicker, and less to remember by heart"
    )
    lora_rank: int = Field(8, ge=1, le=1024, description="rank of the adapters, with method lora")
    lora_alpha: int = Field(16, ge=1, le=4096, description="their scale is lora_alpha / lora_rank")
    readout_first: bool = Field(
        True, description="fit the new readout to the untouched model before the rest learns, so that it starts from sense"
    )
    gradient_checkpointing: bool = Field(False, description="compute layers twice and keep less: for large models on a small GPU")
    micro_batch_tokens: int | None = Field(
        None, ge=64, le=2**20, description="padded tokens read at once in training; none: 1,024 on a CPU, 16,384 on a GPU"
    )
    batch_size: int = Field(8, ge=1, le=1024, description="examples in one optimiser step")
    epochs: int = Field(3, ge=1, le=100, description="passes over the training examples")
    learning_rate: float = Field(2e-5, gt=0, le=1, description="peak learning rate of AdamW")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's weight decay, not on biases and norms")
    warmup_fraction: float = Field(0.1, ge=0, le=1, description="share of steps in which the rate rises from 0 to its peak")
    select_by: Literal["rmse", "spearman", "accuracy", "last"] = Field(
        "rmse",
        description="keep the weights of the epoch best in this on validation: error in stars, rank correlation, share of pairs "
        "ranked right; last keeps the last epoch's",
    )
    patience: int | None = Field(None, ge=1, le=100, description="stop after so many epochs without a better one")
    pause_on_alarm: bool = Field(
        False, description="pause the run where its loss diverges: look at it, then let it go on or cancel it"
    )
    max_length: int = Field(512, ge=16, le=8192, description="longest input in tokens; the middle of longer ones is cut out")
    test_fraction: float = Field(0.2, gt=0, lt=0.9, description="share of queries kept for the final test")
    validation_fraction: float = Field(0.1, ge=0, lt=0.9, description="share of queries watched after each epoch")
    max_examples: int | None = Field(None, ge=2, description="train on at most so many examples (whole queries, seeded)")
    max_eval_examples: int | None = Field(
        2000, ge=2, description="measure on at most so many examples of each split (whole queries, seeded)"
    )
    folds: int | None = Field(
        None, ge=0, le=20,
        description="measure on every query, by so many fits that have not seen it (method head). none: 5 where fewer than "
        "200 queries were judged; 0: never",
    )  # fmt: skip
    learning_curve: bool = Field(True, description="say what more ratings would bring, from readouts fitted on parts of the data")
    resume_from: str | None = Field(
        None, description="a stopped or killed run to go on from, to the numbers that it would have come to; same options"
    )
    max_steps: int | None = Field(None, ge=1, description="stop after so many optimiser steps")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of the split, the order and the new head")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train; auto takes a GPU if there is one")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="bf16 autocast or full fp32; auto takes bf16 on a GPU")
    report_to: Tracking = Field("none", description=TRACKING)

    @property
    def goes_on(self) -> bool:
        return self.method != "head"

    @property
    def takes_processes(self) -> bool:
        return self.method != "head"

    @model_validator(mode="after")
    def _some_left_to_train_on(self) -> Self:
        if self.test_fraction + self.validation_fraction >= 0.95:
            raise ValueError("test_fraction and validation_fraction together leave less than 5% to train on")
        if self.readout == "class" and (self.method == "head" or self.step_reading == "one_pass"):
            raise ValueError("readout class can neither be fitted alone (method head) nor read steps in one pass; choose spans")
        if self.readout == "class" and self.see_length:
            raise ValueError("readout class is a classifier's and sees no length; choose spans")
        if self.folds and self.method != "head":
            raise ValueError("folds needs method head; the other methods would train for hours")
        return self


class SFTConfig(RunConfig):
    """Options of a run that teaches a policy well-rated answers (supervised fine-tuning)."""

    base_model: str = Field(
        description="policy to start from: a causal model by hub name, folder or checkpoint; tiny: a new one of half a million "
        "weights with a vocabulary of the snapshot's own texts, which any machine trains in a minute"
    )
    min_score: float = Field(
        4.0, ge=1, le=5, description="learn answers that people gave so many stars on average; 1 learns all that were rated"
    )
    unrated: bool = Field(False, description="learn answers that nobody rated too")
    method: Literal["full", "lora"] = Field("full", description="what learns: the whole policy, or low-rank adapters of it")
    lora_rank: int = Field(16, ge=1, le=1024, description="rank of the adapters, with method lora")
    lora_alpha: int = Field(32, ge=1, le=4096, description="their scale is lora_alpha / lora_rank")
    batch_size: int = Field(8, ge=1, le=1024, description="answers in one optimiser step")
    epochs: float | None = Field(None, gt=0, le=1000, description="passes over the answers; none: 3, and 25 of tiny")
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="peak learning rate of AdamW; falls to 0; none: 2e-5, and 3e-3 of tiny, which knows nothing yet",
    )
    max_length: int = Field(1024, ge=16, le=32_768, description="longest prompt and answer in tokens; longer ones are left out")
    gradient_checkpointing: bool = Field(False, description="compute layers twice and keep less: for large models on a small GPU")
    resume_from: None = Field(None, description="these runs are short and do not go on from another")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of the order and of new weights")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train; auto takes a GPU if there is one")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="bf16 autocast or full fp32; auto takes bf16 on a GPU")
    report_to: Tracking = Field("none", description=TRACKING)

    @property
    def passes(self) -> float:
        """Over the answers."""
        return self.epochs or (25.0 if self.base_model == TINY else 3.0)

    @property
    def rate(self) -> float:
        """The learning rate at its peak."""
        return self.learning_rate or (3e-3 if self.base_model == TINY else 2e-5)

    @property
    def goes_on(self) -> bool:
        return False


class PPOConfig(RunConfig):
    """Options of a run that improves a policy by its rewards."""

    base_model: str = Field(description="policy to start from: a causal model by hub name, folder or checkpoint")
    reward: str | None = Field(
        None,
        description="what judges answers: reward checkpoints or package.module:function, NAME or NAME=WEIGHT, separated by "
        "commas; none: the reward checkpoint that serves, or the newest",
    )
    judge: str | None = Field(
        None,
        description="a second reward checkpoint that the policy does not learn from; where it falls while rewards rise, the "
        "policy exploits its reward model. The best checkpoint is the best in its eyes",
    )
    optimiser: Literal["ppo", "rloo", "grpo", "dpo"] = Field(
        "ppo",
        description="ppo: our own, rewards of steps where they are due, a value head; rloo, grpo: TRL's, several answers to each "
        "prompt instead of a value head; dpo: TRL's, from the snapshot's preferred pairs, without sampling",
    )
    generations: int = Field(4, ge=2, le=64, description="answers to each prompt, with optimiser rloo and grpo")
    dpo_beta: float = Field(0.1, gt=0, le=100, description="how near the reference dpo stays; more is nearer")
    reward_on: Literal["answer", "steps"] = Field(
        "answer", description="one reward for the whole answer on its last token, or one for each step on the step's last token"
    )
    step_unit: Literal["as_imported", "sentences"] = Field(
        "as_imported",
        description="what a step of an answer is: as an import would split it (headings, lists, paragraphs), or each sentence, "
        "where people rated sentences",
    )
    step_credit: Literal["mean", "gain"] = Field(
        "mean",
        description="with reward_on steps: a step's reward shared by their number (they sum to the mean), or how far it is above "
        "that of the step before it (they sum to the last)",
    )
    accept_ungated_reward: bool = Field(
        False, description="learn from a reward model that its report card refuses; the run and its checkpoints say so for ever"
    )
    method: Literal["full", "lora"] = Field("full", description="what learns: the whole policy, or low-rank adapters of it")
    lora_rank: int = Field(16, ge=1, le=1024, description="rank of the adapters, with method lora")
    lora_alpha: int = Field(32, ge=1, le=4096, description="their scale is lora_alpha / lora_rank")
    critic: Literal["shared", "separate"] = Field(
        "shared", description="the value head reads the policy's own states, or those of a copy (twice the memory and time)"
    )
    batch_size: int = Field(4, ge=1, le=4096, description="prompts of one step, one answer each")
    mini_batch_size: int = Field(2, ge=1, le=4096, description="answers of one optimiser step")
    ppo_epochs: int = Field(2, ge=1, le=20, description="passes over each step's answers")
    ppo_steps: int = Field(100, ge=1, le=1_000_000, description="how often answers are sampled and learned from")
    ppo_learning_rate: float = Field(1e-5, gt=0, le=1, description="AdamW's learning rate of the policy; falls to 0")
    value_learning_rate: float | None = Field(
        None, gt=0, le=1, description="that of the value head (and a separate critic); none: three times ppo_learning_rate"
    )
    warmup_steps: int = Field(0, ge=0, description="steps in which the learning rates rise")
    min_response_tokens: int = Field(128, ge=1, le=32_768, description="each step's answers may have so many tokens at least")
    max_response_tokens: int = Field(384, ge=1, le=32_768, description="and at most; the limit is drawn anew for each step")
    max_prompt_tokens: int = Field(512, ge=8, le=32_768, description="longer prompts lose their beginning")
    temperature: float = Field(1.0, gt=0, le=10, description="of sampling; log-probabilities are taken at it too")
    prompt_days: int = Field(90, ge=1, le=36_500, description="prompts are queries of chats of so many days before the snapshot")
    normalise_rewards: bool = Field(True, description="take the running mean off rewards and divide by their running deviation")
    clip_rewards: float | None = Field(None, gt=0, description="normalised rewards count at most so much either way")
    missing_eos_penalty: float = Field(
        1.0, ge=0, le=100, description="taken off an answer that did not end by itself, in deviations of the reward"
    )
    length_penalty: float = Field(0.0, ge=-100, le=100, description="taken off for each 100 tokens of an answer")
    repetition_penalty: float = Field(
        0.0, ge=0, le=100, description="taken off an answer times the share of its runs of four tokens that it had before"
    )
    kl_coefficient: float = Field(0.2, ge=0, le=100, description="how much a nat away from the reference costs")
    kl_in: Literal["reward", "loss"] = Field("reward", description="the penalty stands in the rewards of tokens, or in the loss")
    kl_estimator: Literal["k1", "k2", "k3"] = Field(
        "k1", description="k1 or k3 in rewards; k2 (its gradient is the KL's) or k3 in the loss"
    )
    kl_goal: float | None = Field(
        None,
        gt=0,
        description="nats of an answer to steer the coefficient towards; none: the coefficient is fixed and bounds nothing",
    )
    kl_horizon: int = Field(200, ge=1, description="answers over which the coefficient follows")
    target_kl: float | None = Field(
        0.1,
        gt=0,
        description="stop learning from a step's answers once the policy moved so many nats a token from their sampling",
    )
    stop_kl: float | None = Field(None, gt=0, description="end the run once answers are so many nats from the reference")
    stop_on_alarm: bool = Field(
        False, description="end the run, saved, when KL, length, repetition, entropy or the judge give an alarm"
    )
    pause_on_alarm: bool = Field(
        False, description="pause the run at such an alarm: look at it, then let it go on or cancel it; each alarm pauses once"
    )
    gamma: float = Field(1.0, gt=0, le=1, description="discount of each token")
    lam: float = Field(0.95, ge=0, le=1, description="of generalised advantage estimation: 0 trusts values, 1 rewards")
    clip: float = Field(0.2, gt=0, le=10, description="how far from 1 a token's ratio of probabilities may count")
    clip_value: float | None = Field(0.2, gt=0, description="how far a value may count to move in a step")
    value_coefficient: float = Field(1.0, ge=0, le=100, description="how much the value loss counts")
    whiten_rewards: bool = Field(False, description="scale tokens' rewards to variance 1 in each step")
    whiten_advantages: bool = Field(True, description="scale advantages to mean 0 and variance 1 in each step")
    weight_decay: float = Field(0.0, ge=0, le=1, description="AdamW's weight decay")
    max_gradient: float = Field(1.0, gt=0, description="gradients are scaled to at most this norm")
    micro_batch_tokens: int | None = Field(
        None, ge=64, le=2**22, description="padded tokens read at once; none: 512 on a CPU, which pads little, 16,384 on a GPU"
    )
    gradient_checkpointing: bool = Field(False, description="compute layers twice and keep less: for large models on a small GPU")
    evaluate_every: int = Field(10, ge=1, description="steps between answers to held-out prompts, scored by reward and judge")
    evaluate_prompts: int = Field(16, ge=1, le=10_000, description="how many held-out prompts")
    save_every: int | None = Field(
        None, ge=1, description="steps between checkpoints beside the best and the last; none: no others"
    )
    sample_every: int = Field(5, ge=1, description="steps between tables of sampled answers")
    resume_from: str | None = Field(
        None, description="a stopped or killed run to go on from, to the numbers that it would have come to; same options"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of sampling, the order of prompts and new weights")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train; auto takes a GPU if there is one")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="bf16 autocast or full fp32; auto takes bf16 on a GPU")
    report_to: Tracking = Field("none", description=TRACKING)

    @property
    def goes_on(self) -> bool:
        return self.optimiser == "ppo"

    @property
    def takes_processes(self) -> bool:
        return self.optimiser == "ppo"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.min_response_tokens > self.max_response_tokens:
            raise ValueError("min_response_tokens is above max_response_tokens")
        if self.mini_batch_size > self.batch_size:
            raise ValueError("mini_batch_size is above batch_size")
        if self.critic == "separate" and self.method == "lora":
            raise ValueError("a separate critic would be a whole copy beside the adapters; with method lora choose critic shared")
        if self.stop_on_alarm and self.pause_on_alarm:
            raise ValueError("stop_on_alarm and pause_on_alarm cannot both be true")
        if not self.goes_on and self.resume_from is not None:
            raise ValueError(f"a run of {self.optimiser} does not go on from another; start it anew")
        if (self.kl_in, self.kl_estimator) in (("reward", "k2"), ("loss", "k1")):
            raise ValueError("kl_estimator k2 is a loss and k1 a reward: k1 has no gradient in the loss; choose k1 or k3 in the "
                             "reward, k2 or k3 in the loss")  # fmt: skip
        return self


class GenerateConfig(RunConfig):
    """Options of a run that writes answers to a snapshot's queries, to be labelled and compared."""

    base_model: str = Field(
        description="who writes: a policy by checkpoint, hub name or folder, or endpoint:NAME for an endpoint of the settings"
    )
    answers: int = Field(4, ge=1, le=64, description="answers to each query")
    max_queries: int | None = Field(None, ge=1, description="so many queries, the first of the snapshot; none: all")
    max_tokens: int = Field(256, ge=1, le=4096, description="longest answer in tokens")
    temperature: float = Field(1.0, ge=0, le=5, description="0 takes the likeliest token each time, for one answer to a query")
    top_p: float = Field(
        1.0, gt=0, le=1, description="tokens are drawn from the likeliest ones that have this probability together"
    )
    batch_size: int = Field(
        32, ge=1, le=1024, description="answers written at once; of an endpoint: requests at once, at most 16"
    )
    resume_from: str | None = Field(None, description="go on from this run: its id")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of what is drawn")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to write; auto takes a GPU if there is one")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="bf16 autocast or full fp32; auto takes bf16 on a GPU")
    report_to: Literal["none"] = Field("none", description="these runs have no measures to send")

    @property
    def endpoint(self) -> str | None:
        """The endpoint's name, where one writes."""
        kind, _, name = self.base_model.partition(":")
        return name if kind == "endpoint" and name else None

    @model_validator(mode="after")
    def _several_need_chance(self) -> Self:
        if self.temperature == 0 and self.answers > 1:
            raise ValueError(f"with temperature 0 all {self.answers} answers to a query would be the same; ask for one")
        return self


CONFIGS: dict[RunKind, type[RunConfig]] = {
    "reward": RewardConfig, "sft": SFTConfig, "ppo": PPOConfig, "generate": GenerateConfig
}  # fmt: skip


Preset = Literal["cpu", "small-gpu", "full"]
PRESET_TITLES: dict[Preset, str] = {"cpu": "Quick look on a CPU", "small-gpu": "Small GPU", "full": "Full"}
PRESETS: dict[RunKind, dict[Preset, dict[str, Any]]] = {
    "reward": {
        "cpu": {"method": "head"},
        "small-gpu": {"method": "lora", "gradient_checkpointing": True, "micro_batch_tokens": 4096, "learning_rate": 2e-4},
        "full": {"epochs": 5, "patience": 2},
    },
    "sft": {
        "cpu": {"max_length": 512},
        "small-gpu": {"method": "lora", "gradient_checkpointing": True, "batch_size": 4, "learning_rate": 2e-4},
        "full": {"batch_size": 16},
    },
    "ppo": {
        "cpu": {
            "ppo_steps": 20, "batch_size": 8, "mini_batch_size": 4, "min_response_tokens": 48, "max_response_tokens": 96,
            "evaluate_every": 5, "evaluate_prompts": 8, "kl_goal": 6.0,
        },
        "small-gpu": {
            "method": "lora", "gradient_checkpointing": True, "batch_size": 16, "mini_batch_size": 4, "micro_batch_tokens": 4096,
            "ppo_learning_rate": 1e-4, "kl_goal": 6.0,
        },
        "full": {"batch_size": 64, "mini_batch_size": 16, "ppo_steps": 500, "evaluate_prompts": 64, "kl_goal": 8.0},
    },
    "generate": {
        "cpu": {"answers": 2, "max_queries": 20, "max_tokens": 128, "batch_size": 8},
        "small-gpu": {"batch_size": 16},
        "full": {"answers": 8, "max_tokens": 1024, "batch_size": 128},
    },
}  # fmt: skip


def less_memory(kind: RunKind, config: dict[str, Any]) -> dict[str, Any] | None:
    """Options that let a run of this config do with less memory and learn the same, or (sft) nearly; None where nothing is left
    to lower."""
    options = CONFIGS[kind].model_fields
    now = {name: field.default for name, field in options.items()} | config
    if "micro_batch_tokens" in options:
        at_once = now["micro_batch_tokens"] or MICRO_BATCH_TOKENS[kind]["cpu"]
        fewer = {"micro_batch_tokens": max(64, at_once // 4)}
    else:
        fewer = {"batch_size": max(1, now["batch_size"] // 2)}
    lower = {name: value for name, value in fewer.items() if value != now[name]}
    if now.get("gradient_checkpointing") is False:
        lower["gradient_checkpointing"] = True
    return lower or None


def options_in_markdown() -> str:
    """Every option of every kind of run, as the documentation has it."""
    lines = [
        "# Options of runs", "",
        "Each is a flag (`--batch-size 16`), a line of a JSON file (`--config`), and a field of the page **Train**. Written by",
        "`python -m rlhf_core reference options`.",
    ]  # fmt: skip
    for kind, config in CONFIGS.items():
        lines += ["", f"## {kind}", "", (config.__doc__ or "").strip(), "", "| option | type | default | what it is |",
                  "| --- | --- | --- | --- |"]  # fmt: skip
        for name, field in config.options().items():
            default = "required" if field.is_required() else "none" if field.default is None else str(field.default)
            lines.append(f"| {name} | {_type_of(field)} | {default} | {field.description} |")
        lines += ["", "Presets:", ""]
        for preset, values in PRESETS[kind].items():
            lines.append(f"- `{preset}`: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    return "\n".join(lines) + "\n"


def _type_of(field: FieldInfo) -> str:
    """In words: choices, or a number with its range."""
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not type(None)]
    choices = [kind for kind in kinds if isinstance(kind, str)]
    if choices:
        return ", ".join(choices)
    name = {int: "whole number", float: "number", bool: "true, false", str: "text"}.get(kinds[0], "none") if kinds else "none"
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    rules = [f"{word} {getattr(rule, sign):,}" for rule in field.metadata for sign, word in signs.items() if hasattr(rule, sign)]
    return " ".join([name, ", ".join(rules)]).strip()


def parse_sources(text: str) -> list[tuple[str, float]]:
    """Names and weights out of ``NAME[=WEIGHT],NAME[=WEIGHT]``; weights are 1 where none is given.

    Raises:
        InvalidInput: no name, or a weight that is no number other than 0.
    """
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, weight = part.partition("=")
        try:
            value = float(weight) if equals else 1.0
        except ValueError:
            value = math.nan
        if not name.strip() or not math.isfinite(value) or value == 0:
            raise InvalidInput(f"{part!r} is no reward with a weight. Give NAME or NAME=WEIGHT, as in reward-0123456789ab=0.7.")
        found.append((name.strip(), value))
    if not found:
        raise InvalidInput("Name what judges the answers: a reward checkpoint, or package.module:function.")
    return found
