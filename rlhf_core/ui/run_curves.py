"""What a run's own numbers look like while it goes: curves, held-out tables, sampled answers."""

from __future__ import annotations

import functools
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from rlhf_core.ground.metrics import METRICS, PPO_METRICS, REWARD_METRICS, Metric
from rlhf_core.ground.runs import RunKind
from rlhf_core.ui import charts
from rlhf_core.ui.texts import markdown_of

Lines = list[dict[str, Any]]
POINTS = 1000  # of a curve
NEWEST_ANSWERS = 20
SMALL = ("kl", "tokens", "entropy", "clip_fraction", "explained_variance", "repetition")
OF_TABLES = ("reward", "judge", "kl", "tokens", "ended", "repetition")


def help_of(metric: Metric) -> str:
    return f"{metric.definition} Unit: {metric.unit}. Healthy: {metric.healthy}."


def thinned(steps: Lines) -> Lines:
    """So many that a chart shows no more of them: evenly, the last one always among them."""
    stride = -(-len(steps) // POINTS)
    return steps[(len(steps) - 1) % stride :: stride] if stride > 1 else steps


def draw(kind: RunKind, lines: Lines, *, unfinished: bool, at_once: bool = False) -> None:
    """The curves of a run of any kind. ``at_once``: it is fitted in one step, so there is no curve."""
    steps = thinned([line for line in lines if line.get("split") == "train"])
    for alarm in (line for line in lines if line.get("split") == "alarm"):
        words = f"**{alarm['name'].capitalize()}**, step {alarm['step']}: {markdown_of(alarm['words'])}."
        st.warning(words, icon=":material/warning:")
    if kind == "ppo":
        _policy(steps, lines, unfinished=unfinished)
        return
    if at_once:
        st.caption(
            "A readout is fitted at once, without a curve: texts are read, it is fitted, and what it came to is measured."
            if unfinished else "The readout was fitted at once, so there is no curve. What it came to:"
        )  # fmt: skip
        _measures(lines)
        return
    meaning = help_of(REWARD_METRICS["loss"]) if kind == "reward" else "Mean negative log-likelihood of answers' tokens. Falls."
    st.markdown("**Loss**", help=meaning)
    if steps:
        unit = REWARD_METRICS["loss"].unit if kind == "reward" else "nats a token"
        st.vega_lite_chart(charts.smoothed(pd.DataFrame(steps)[["step", "epoch", "loss"]], "loss", 20), charts.loss_curve(unit))
    else:
        st.caption("The curve begins with the first training step." if unfinished else "No training step was done.")
    if kind == "reward":
        _measures(lines)


def _measures(lines: Lines) -> None:
    held_out = [
        {"measured on": line["split"] + (f", epoch {line['epoch']}" if "epoch" in line else "")}
        | {
            name: line.get(name)
            for name in ("step_auc", "length_auc", "answer_auc", "accuracy", "rmse", "rmse_of_mean", "spearman", "examples")
        }
        for line in lines
        if line.get("split") in ("validation", "test")
    ]
    if held_out:
        columns = {
            metric.name: st.column_config.NumberColumn(metric.title, format="%.3f", help=help_of(metric))
            for metric in REWARD_METRICS.values()
        }
        st.dataframe(pd.DataFrame(held_out), hide_index=True, column_config=columns)


def _policy(steps: Lines, lines: Lines, *, unfinished: bool) -> None:
    st.markdown("**Reward**", help=help_of(PPO_METRICS["reward"]) + " " + help_of(PPO_METRICS["judge"]))
    tables = [line for line in lines if line.get("split") == "validation"]
    if not steps:
        st.caption("The curves begin with the first step." if unfinished else "No step was done.")
        return
    st.vega_lite_chart(reward_frame(steps, tables), reward_curves())
    measured = [name for name in SMALL if any(line.get(name) is not None for line in steps)]
    for names in filter(None, (measured[:3], measured[3:])):
        for column, name in zip(st.columns(3), names, strict=False):
            with column:
                st.markdown(f"**{PPO_METRICS[name].title}**", help=help_of(PPO_METRICS[name]))
                st.vega_lite_chart(small_frame(steps, name), small_curve(PPO_METRICS[name]))
    if tables:
        st.markdown("**Held-out prompts**")
        frame = pd.DataFrame([{"step": line["step"]} | {name: line.get(name) for name in OF_TABLES} for line in tables])
        columns = {
            name: st.column_config.NumberColumn(PPO_METRICS[name].title, format="%.2f", help=help_of(PPO_METRICS[name]))
            for name in OF_TABLES
        }
        st.dataframe(frame.dropna(axis=1, how="all"), hide_index=True, column_config=columns)


def draw_machine(use: Lines) -> None:
    """What the run's process takes now, in one line."""
    if not use:
        return
    now, peak = use[-1], max(line["memory_mb"] for line in use)
    words = f"{now['memory_mb'] / 1024:.2f} GiB of memory (at most {peak / 1024:.2f}), {now['cpu']:.1f} processors"
    if "gpu_memory_mb" in now:
        share = "" if now.get("gpu") is None else f", busy {now['gpu']:.0%}"
        words += f" · GPU {now['gpu_memory_mb'] / 1024:.1f} of {now['gpu_total_mb'] / 1024:.1f} GiB{share}"
    st.caption(words, help="Of the run's own process, every few seconds; processors in use, 1 is one of them in full.")


def draw_all(steps: Lines, shown: set[str]) -> None:
    """Every other measure of the steps, with its definition."""
    names = [name for name in METRICS if name not in shown and any(line.get(name) is not None for line in steps)]
    for begin in range(0, len(names), 3):
        for column, name in zip(st.columns(3), names[begin : begin + 3], strict=False):
            with column:
                st.markdown(f"**{METRICS[name].title}**", help=help_of(METRICS[name]))
                st.vega_lite_chart(small_frame(steps, name), small_curve(METRICS[name]))


HELD_OUT = {
    "reward": "held-out, by its reward",
    "judge": "held-out, by the judge",
}  # in the order of the alphabet: so are colours


def reward_frame(steps: Lines, tables: Lines) -> pd.DataFrame:
    """Steps with their reward and its running mean; held-out tables as ``held`` and ``who``, all in one frame."""
    frame = pd.DataFrame([{"step": line["step"], "reward": line.get("reward")} for line in steps], dtype=float)
    held = pd.DataFrame(
        [{"step": one["step"], "who": who, "held": one[name]} for one in tables for name, who in HELD_OUT.items()
         if one.get(name) is not None], columns=["step", "who", "held"],
    )  # fmt: skip
    return pd.concat([charts.smoothed(frame, "reward", 10), held.astype({"step": float, "held": float})], ignore_index=True)


@functools.cache
def reward_curves() -> charts.Specification:
    """Reward by step with its running mean; answers to held-out prompts by the reward and by the judge as points on lines."""
    step = alt.X("step:Q", title="step", axis=alt.Axis(tickMinStep=1, format="d"))
    scale = alt.Scale(zero=False)
    title = f"reward ({PPO_METRICS['reward'].unit.partition(',')[0]})"
    trained = alt.Chart().transform_filter("isValid(datum.reward)")
    points = trained.mark_circle(opacity=0.3, size=14).encode(step, alt.Y("reward:Q", title=title, scale=scale))
    line = trained.mark_line(strokeWidth=2.5).encode(step, alt.Y("smooth:Q", title=title, scale=scale))
    others = (
        alt.Chart()
        .transform_filter("isValid(datum.held)")
        .mark_line(point=alt.OverlayMarkDef(size=60), strokeDash=[5, 3])
        .encode(
            step, alt.Y("held:Q", title=title, scale=scale),
            alt.Color("who:N", title=None, legend=alt.Legend(orient="top", labelLimit=300),
                      scale=alt.Scale(range=["#0d9488", "#d97706"])),
            tooltip=["step:Q", "who:N", alt.Tooltip("held:Q", title="reward", format=".3f")],
        )
    )  # fmt: skip
    return charts.specification((points + line + others).properties(height=280))


def small_frame(steps: Lines, name: str) -> pd.DataFrame:
    return pd.DataFrame([{"step": line["step"], "value": line.get(name)} for line in steps])


@functools.cache
def small_curve(metric: Metric) -> charts.Specification:
    """One measure by step. Data: step, value."""
    return charts.specification(
        alt.Chart()
        .mark_line()
        .encode(
            alt.X("step:Q", title=None, axis=alt.Axis(tickCount=4, tickMinStep=1, format="d")),
            alt.Y("value:Q", title=metric.unit, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4, titleFontSize=10)),
            tooltip=["step:Q", alt.Tooltip("value:Q", format=".4g", title=metric.title)],
        )
        .properties(height=130)
    )


def draw_samples(samples: Lines) -> None:
    """Answers to one held-out prompt, first and last, with the rewards of their steps, and the newest answers of all."""
    held = [one for one in samples if one["of"] == "held out"]
    if not held:
        return
    first, last = min(one["step"] for one in held), max(one["step"] for one in held)
    queries = list(dict.fromkeys(one["query"] for one in held if one["step"] == last))
    st.markdown(
        "**Before and after**", help="Answers to held-out prompts: of the policy that it began from, and of the newest one."
    )
    query = st.selectbox("Prompt", queries, key="train:sample_query")
    for column, step in zip(st.columns(2), (first, last), strict=True):
        one = next((one for one in held if one["step"] == step and one["query"] == query), None)
        if one is None:
            continue
        with column.container(border=True):
            st.caption(
                f"step {step} · reward {one['reward']:.2f} · {one['tokens']} tokens · {one['kl']:.1f} nats from the reference"
            )
            if len(one["steps"]) == len(one["rewards"]) and one["steps"]:
                for text, reward in zip(one["steps"], one["rewards"], strict=True):
                    st.text(f"{reward:.2f}  {text}")
            else:
                st.text(one["answer"] or "(an empty answer)")


def draw_answers(lines: Lines, answers: Lines) -> None:
    """How fast answers are written, and the newest of them."""
    steps = [line for line in lines if line.get("split") == "train"]
    if not steps:
        st.caption("Nothing is written yet.")
        return
    columns = st.columns(3)
    columns[0].metric("Answers a second", f"{steps[-1]['answers_per_s']:.2f}")
    columns[1].metric("Characters an answer", f"{sum(line['characters'] for line in steps) / len(steps):.0f}")
    columns[2].metric(
        "Ended by themselves", f"{sum(line['ended'] for line in steps) / len(steps):.0%}", help="The others had no tokens left."
    )
    newest = [{"query": one["query"], "answer": one["response"] or "(nothing)"} for one in answers[: -NEWEST_ANSWERS - 1 : -1]]
    st.dataframe(newest, hide_index=True, column_config={"answer": st.column_config.TextColumn(width="large")})
