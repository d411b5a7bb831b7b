"""A report card as the Markdown that model hubs show (README.md beside the weights)."""

from __future__ import annotations

from collections.abc import Iterator

from rlhf_core.ground.cards import ReportCard, lines_of, lines_of_aggregates, lines_of_aspects
from rlhf_core.ground.configs import RewardConfig


def model_card(card: ReportCard, config: RewardConfig, snapshot_id: str) -> str:
    """The whole of it.

    Args:
        card: What was measured.
        config: How it was trained.
        snapshot_id: On what.
    """
    return "\n".join(_lines(card, config, snapshot_id)) + "\n"


def _lines(card: ReportCard, config: RewardConfig, snapshot_id: str) -> Iterator[str]:
    yield from ("---", "library_name: transformers", "tags: [reward-model, rlhf]")
    yield from (f"base_model: {config.reward_base_model}", "---", "", "# Reward model", "")
    yield f"**{card.state.capitalize()}.** {card.verdict}"
    yield from ("", *(f"- {todo}" for todo in card.todo))
    yield from ("", "Rewards are predicted mean scores in stars, 1 to 5, not clipped. Intervals are 95%, over held-out queries.")
    yield from (
        "",
        f"Learned from {card.train_examples:,} rated texts and {card.train_pairs:,} pairs of snapshot `{snapshot_id}`.",
    )
    if card.folds:
        yield f"Measured on every query by {card.folds} readouts that had not seen it; the one that is kept has seen them all."
    if card.cut:
        yield f"{card.cut:,} texts were longer than {config.max_length} tokens; their middle was cut out."
    for name, part in (("Steps", card.steps), ("Whole answers", card.answers), ("Preferred pairs", card.pairs)):
        if part is not None:
            yield from ("", f"## {name}", "", f"{part.state.capitalize()}. {' '.join(part.reasons)}".strip(), "")
            yield from _table(lines_of(part))
    for name, said, lines in (
        ("Aspects", "AUC of each; each has an output of its own.", lines_of_aspects(card.aspects)),
        ("How steps are read", "", lines_of(card.step_readings) if card.step_readings else []),
        ("From steps to answers", "AUC of answers by a reward made of their steps'.", lines_of_aggregates(card.aggregates)),
    ):
        if lines:
            yield from ("", f"## {name}", "", *([said, ""] if said else []), *_table(lines))
    if card.curve is not None:
        yield from ("", "## What more would bring", "", *(f"- {line}" for line in card.curve.in_words()))
    if card.first_error is not None:
        yield from ("", "## First error", "", *_table(lines_of(card.first_error)))
    if card.probes:
        yield from ("", "## Probes", "", "Texts that deserve no reward, put to real queries.", "")
        outcome = {True: "passed", False: "FAILED"}
        yield from _table([
            (one.name, f"{one.reward:.2f}", f"beats the liked answer in {one.beats:.0%}: {outcome[one.passed]}")
            for one in card.probes
        ])  # fmt: skip


def _table(lines: list[tuple[str, str, str]]) -> Iterator[str]:
    yield from ("| measure | value | beside it |", "| --- | --- | --- |")
    yield from (f"| {' | '.join(line)} |" for line in lines)
