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


PPO_METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("reward", "Reward", "stars, or the function's own",
               "Mean over a step's answers of the judged reward: of the whole, or the mean of the steps'.",
               "rises, then levels off"),
        Metric("reward_std", "Spread of rewards", "as the reward", "Standard deviation over a step's answers.",
               "above 0; at 0 there is nothing to learn"),
        Metric("step_reward", "Reward of a step", "as the reward", "Mean over all reasoning steps of the step's answers.",
               "rises"),
        Metric("steps_per_answer", "Steps in an answer", "reasoning steps", "Mean number of reasoning steps found in an answer.",
               "steady; a drift means that their number is exploited"),
        Metric("judge", "Judge's reward", "stars", "Mean reward of the held-out judge for answers to held-out prompts.",
               "rises with the reward; falling while the reward rises is over-optimisation"),
        Metric("kl", "KL to the reference", "nats an answer",
               "Sum over an answer's tokens of log pi - log reference (k1), mean over answers.", "near its goal; few nats"),
        Metric("kl_k3", "KL to the reference (k3)", "nats an answer",
               "Sum over an answer's tokens of exp(-d) - 1 + d with d = log pi - log reference, mean over answers.",
               "like kl, and never negative"),
        Metric("kl_coefficient", "KL coefficient", "reward for a nat", "What a nat costs now.",
               "moves slowly where kl_goal is set"),
        Metric("objective", "Objective", "deviations of the reward",
               "Mean over answers of normalised reward, less penalties and the KL's cost.", "rises"),
        Metric("entropy", "Entropy", "nats a token", "Mean entropy of the distribution that each token was drawn from.",
               "falls slowly; a collapse means that one answer is all that is left"),
        Metric("policy_loss", "Policy loss", "advantages", "Mean over tokens of the clipped surrogate.", "noisy around 0"),
        Metric("value_loss", "Value loss", "squared normalised rewards", "Half the mean squared error of values against returns.",
               "falls"),
        Metric("explained_variance", "Explained variance", "share, at most 1",
               "1 - variance of (return - value) / variance of returns.", "above 0 and noisy; no cause for alarm by itself"),
        Metric("clip_fraction", "Clip fraction", "share of tokens",
               "Tokens whose ratio was outside the clip range and counted no "
               "further, mean over mini-batches.", "0.01 to 0.3"),
        Metric("ratio", "Ratio", "1 = as sampled", "Mean ratio of probabilities, new over sampling policy.", "within 0.05 of 1"),
        Metric("policy_kl", "Move in a step", "nats a token", "k3 of the sampling policy from the one it became, mean over "
               "mini-batches.", "below target_kl"),
        Metric("first_ratio_off", "First ratio off", "0 = exact",
               "Largest distance from 1 of a ratio in the first mini-batch, where sampling and learning should agree.",
               "below 0.001; more means that two passes over the same answer differ"),
        Metric("tokens", "Length", "tokens an answer", "Mean tokens of an answer, its end included.",
               "steady; most gains of badly kept runs are length"),
        Metric("ended", "Ended by itself", "share of answers", "Answers that reached their end token before the limit.",
               "not falling"),
        Metric("repetition", "Repetition", "share of an answer", "Runs of four tokens that stood in the same answer before.",
               "not rising"),
        Metric("gradient", "Gradient", "norm", "Norm of the gradient before it is scaled down, mean over mini-batches.",
               "no spikes"),
        Metric("learning_rate", "Learning rate", "per step", "AdamW's rate of the policy.", "falls to 0"),
        Metric("tokens_per_s", "Speed", "tokens per second", "Answers' tokens of a step by the seconds of all of it.", "steady"),
    )
}  # fmt: skip


METRICS: dict[str, Metric] = PPO_METRICS | REWARD_METRICS


def metrics_in_markdown() -> str:
    """Every measure of a run, as the documentation has it."""
    lines = [
        "# Measures of runs", "",
        "What curves, tables and `metrics.jsonl` of a run show. The arithmetic: [maths.md](maths.md). Written by",
        "`python -m rlhf_core reference metrics`.",
    ]  # fmt: skip
    for title, metrics in (("Reward models", REWARD_METRICS), ("Policies", PPO_METRICS)):
        lines += ["", f"## {title}", "", "| name | title | unit | definition | healthy |", "| --- | --- | --- | --- | --- |"]
        lines += [f"| `{one.name}` | {one.title} | {one.unit} | {one.definition} | {one.healthy} |" for one in metrics.values()]
    return "\n".join(lines) + "\n"
