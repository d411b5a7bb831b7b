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
    learn_from: Literal["both", "answers", "steps"] = Field(
        "both", description="whole answers, step prefixes (the answer up to and including the rated step), or both"
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
    max_steps: int | None = Field(None, ge=1, description="stop after so many optimiser steps")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of the split, the order and the new head")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train; auto takes a GPU if there is one")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="bf16 autocast or full fp32; auto takes bf16 on a GPU that has it"
    )

    @model_validator(mode="after")
    def _some_left_to_train_on(self) -> Self:
        if self.test_fraction + self.validation_fraction >= 0.95:
            raise ValueError("test_fraction and validation_fraction together leave less than 5% to train on")
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
