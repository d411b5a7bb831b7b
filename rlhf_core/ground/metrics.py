"""Every metric once: its name in files, its title on charts, unit, definition, and what is healthy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    title: str
    unit: str
    definition: str
    healthy: str


REWARD_METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("loss", "Training loss", "squared standard deviations",
               "Weighted mean over one batch: squared error against scores standardised by the training set's mean and "
               "deviation, and for preferred pairs the Bradley-Terry loss in nats.",
               "starts near 1 (guessing the mean), falls; noisy from batch to batch"),
        Metric("rmse", "Error", "stars",
               "Root mean squared error of the reward against people's mean score, on held-out queries.",
               "below rmse_of_mean"),
        Metric("rmse_of_mean", "Error of guessing", "stars",
               "The same error when every reward is the training set's mean score.", "the line to beat"),
        Metric("step_auc", "Step AUC", "0.5 = chance, 1 = perfect",
               "Chance that a liked step (mean score 4 or more) gets a higher reward than a disliked one (2 or less).",
               "above 0.5 and above length_auc"),
        Metric("answer_auc", "Answer AUC", "0.5 = chance, 1 = perfect", "The same over whole answers.", "above 0.5"),
        Metric("length_auc", "AUC of length", "0.5 = chance, 1 = perfect",
               "Step AUC reached by the number of characters alone, in whichever direction is better.",
               "if step_auc is no better, the model may only count words"),
        Metric("spearman", "Rank correlation", "-1 to 1", "Spearman correlation of reward and mean score over all examples.",
               "above 0"),
        Metric("accuracy", "Pairs ranked right", "share",
               "Share of preferred pairs whose better text gets a higher reward.", "above 0.5"),
        Metric("examples_per_s", "Speed", "examples per second", "Training examples per second since the epoch began.",
               "steady"),
        Metric("learning_rate", "Learning rate", "per step", "AdamW's rate at this step.", "rises, then falls to 0"),
    )
}  # fmt: skip
