"""Every option of a run, once: its name, type, range, unit, default and help serve the form, the command line and the file."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlhf_core.ground.errors import InvalidInput


class RewardConfig(BaseModel):
    """Options of a reward-model run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="bf16 autocast or full fp32; auto takes bf16 on a GPU or a CPU that computes in it"
    )

    @model_validator(mode="after")
    def _some_left_to_train_on(self) -> Self:
        if self.test_fraction + self.validation_fraction >= 0.95:
            raise ValueError("test_fraction and validation_fraction together leave less than 5% to train on")
        if self.readout == "class" and (self.method == "head" or self.step_reading == "one_pass"):
            raise ValueError("readout class can neither be fitted alone (method head) nor read steps in one pass; choose spans")
        if self.folds and self.method != "head":
            raise ValueError("folds needs method head; the other methods would train for hours")
        return self

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
