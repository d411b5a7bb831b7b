"""Altair charts. Every axis names its unit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import pandas as pd

from rlhf_core.ground.cards import Curve, Floor, ReliabilityBin, Value
from rlhf_core.services import agreement
from rlhf_core.services.agreement import Row
from rlhf_core.services.comparing import Comparison

if TYPE_CHECKING:
    from rlhf_core.learn.measures import Bin
    from rlhf_core.services.comparing_sets import Things

PEOPLE = "people's mean"


Specification = dict[str, Any]


def specification(chart: alt.Chart | alt.LayerChart) -> Specification:
    """Of a chart without data, every encoding with its type. Drawn by ``st.vega_lite_chart(data, specification)`` each second or
    so while a run goes, it stays the same, and neither server nor browser need build it anew."""
    return {name: value for name, value in chart.to_dict().items() if name not in ("$schema", "config")}


@functools.cache
def loss_curve(unit: str) -> Specification:
    """Training loss by step, with its running mean. Data: step, epoch, loss, smooth."""
    step = alt.X("step:Q", title="optimiser step", axis=alt.Axis(tickMinStep=1, format="d"))
    title = f"loss ({unit})"
    points = alt.Chart().mark_circle(opacity=0.3, size=14).encode(
        step, alt.Y("loss:Q", title=title), tooltip=["step:Q", "epoch:Q", alt.Tooltip("loss:Q", format=".4f")]
    )  # fmt: skip
    line = alt.Chart().mark_line(strokeWidth=2.5).encode(step, alt.Y("smooth:Q", title=title))
    return specification((points + line).properties(height=280))


def smoothed(frame: pd.DataFrame, name: str, part: int) -> pd.DataFrame:
    """The frame with a running mean of a column, over about one ``part`` of its rows, as ``smooth``."""
    return frame.assign(smooth=frame[name].ewm(span=max(5, len(frame) // part)).mean())


def by_option(points: Sequence[tuple[str, Any, float]], option: str, measure: str) -> alt.Chart:
    """What runs came to by the value of one option: a point each; numbers on an axis, by powers of ten where they span some."""
    values = [value for _, value, _ in points]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    few = numbers and len(set(values)) <= 8  # one mark of the axis for each
    log = numbers and min(values) > 0 and max(values) / min(values) >= 20
    frame = pd.DataFrame(
        [(run, value if numbers else str(value), found) for run, value, found in points], columns=["run", "value", "found"]
    )  # fmt: skip
    x = alt.X("value:O" if few else "value:Q" if numbers else "value:N", title=option)
    if few:
        x = x.axis(labelAngle=0)
    elif numbers:
        x = x.scale(alt.Scale(type="log" if log else "linear", zero=False, padding=12))
    return (
        alt.Chart(frame)
        .mark_circle(size=90, opacity=0.75)
        .encode(
            x, alt.Y("found:Q", title=f"{measure}, validation", scale=alt.Scale(zero=False, padding=8)),
            tooltip=["run:N", alt.Tooltip("value", title=option), alt.Tooltip("found:Q", title=measure, format=".4f")],
        )
        .properties(height=260)
    )  # fmt: skip


def overlaid(points: Sequence[tuple[str, str, int, float]], unit: str) -> alt.Chart:
    """One measure of several runs by step; dashed where it was measured on held-out data."""
    frame = pd.DataFrame(points, columns=["run", "measured on", "step", "value"])
    return (
        alt.Chart(frame)
        .mark_line(interpolate="monotone")
        .encode(
            alt.X("step:Q", title="step", axis=alt.Axis(tickMinStep=1, format="d")),
            alt.Y("value:Q", title=unit, scale=alt.Scale(zero=False)),
            alt.Color("run:N", title=None, legend=alt.Legend(orient="top", labelLimit=260, columns=3)),
            alt.StrokeDash("measured on:N", title=None, scale=alt.Scale(domain=["train", "validation"], range=[[1, 0], [5, 3]]),
                           legend=alt.Legend(orient="top")),
            tooltip=["run", "measured on", "step", alt.Tooltip("value", format=".4g")],
        )
        .properties(height=300)
    )  # fmt: skip


def agreement_by(rows: Sequence[Row], name: Callable[[str], str], by: str) -> alt.LayerChart:
    """Alpha of each part with its 95% interval; lines where figures begin to be usable."""
    frame = pd.DataFrame([
        {by: name(row.group), "alpha": row.alpha.value, "low": row.alpha.low, "high": row.alpha.high,
         "judgements": row.alpha.ratings, "things": row.alpha.units}
        for row in rows if row.alpha.value is not None
    ])  # fmt: skip
    order = [name(row.group) for row in rows]
    place = alt.Y(f"{by}:N", sort=order, title=None, axis=alt.Axis(labelLimit=320))
    scale = alt.Scale(domain=[min(0.0, float(frame["low"].min())), 1.0])
    hover = [by, *(alt.Tooltip(one, format=".3f") for one in ("alpha", "low", "high")), "judgements", "things"]
    points = alt.Chart(frame).mark_point(filled=True, size=90, opacity=1).encode(
        alt.X("alpha:Q", title=f"Krippendorff's alpha ({rows[0].level})", scale=scale), place, tooltip=hover
    )  # fmt: skip
    bars = alt.Chart(frame).mark_rule(strokeWidth=2, color="#14b8a6").encode(
        alt.X("low:Q", scale=scale), alt.X2("high:Q"), place, tooltip=hover
    )  # fmt: skip
    lines = alt.Chart(pd.DataFrame({"x": [agreement.TENTATIVE, agreement.RELIABLE]}))
    usual = lines.mark_rule(strokeDash=[4, 4], color="#888888").encode(alt.X("x:Q", scale=scale))
    return (usual + bars + points).properties(height=80 + 34 * len(frame))


def gold_over_time(frame: pd.DataFrame) -> alt.Chart:
    return (
        alt.Chart(frame)
        .mark_line(point=alt.OverlayMarkDef(size=60))
        .encode(
            alt.X("day:T", title="day (UTC)"),
            alt.Y("right:Q", title="share of known answers right", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
            alt.Color("rater:N", legend=alt.Legend(orient="top")),
            tooltip=["rater", "day:T", "items", alt.Tooltip("right", format=".0%")],
        )
        .properties(height=260)
    )


def colour_of_stars(value: object) -> str:
    """CSS for a cell of a table: from red (1 star) over nothing (3) to green (5)."""
    if not isinstance(value, int | float) or value != value:
        return ""
    strength = min(1.0, abs(value - 3) / 2) * 0.45
    return f"background-color: rgba({'13, 148, 136' if value > 3 else '220, 68, 55'}, {strength:.2f})"


def rewards_by_place(comparison: Comparison) -> alt.LayerChart:
    """One line for each checkpoint across an answer's steps, people's mean beside them. A triangle marks the step at which a
    reward falls most; a dashed line people's first bad step."""
    rows = [
        {"place": place.label, "scorer": label, "reward": rewards[position], "fall": position == comparison.drop(label)}
        for label, rewards in comparison.rewards.items()
        for position, place in enumerate(comparison.places)
    ]
    rows += [
        {"place": place.label, "scorer": PEOPLE, "reward": place.people[0], "fall": False}
        for place in comparison.places
        if place.people is not None
    ]
    frame = pd.DataFrame(rows)
    place = alt.X("place:N", title=None, sort=[one.label for one in comparison.places], axis=alt.Axis(labelAngle=0))
    reward = alt.Y("reward:Q", title="reward (stars)", scale=alt.Scale(zero=False, padding=12))
    colour = alt.Color("scorer:N", title=None, legend=alt.Legend(orient="top", columns=1, labelLimit=600))
    hover = ["scorer:N", "place:N", alt.Tooltip("reward:Q", format=".3f")]
    lines = alt.Chart(frame).mark_line(point=alt.OverlayMarkDef(size=70), strokeWidth=2.5).encode(
        place, reward, colour, tooltip=hover
    )  # fmt: skip
    falls = alt.Chart(frame[frame["fall"]]).mark_point(shape="triangle-down", size=260, filled=True, yOffset=-14).encode(
        place, reward, colour, tooltip=hover
    )  # fmt: skip
    layers = [lines, falls]
    bad = comparison.first_bad
    if bad is not None:
        mark = pd.DataFrame([{"place": comparison.places[bad].label, "what": "people: first bad step"}])
        layers.append(alt.Chart(mark).mark_rule(strokeDash=[5, 4], color="#888888").encode(place))
        layers.append(alt.Chart(mark).mark_text(align="left", dx=6, color="#888888").encode(place, y=alt.value(8), text="what:N"))
    return alt.LayerChart(layer=layers, height=400)


def rewards_against(things: Things, one: int, other: int, title: str, above: str) -> alt.LayerChart:
    """Rewards of two checkpoints, a point a thing, coloured by people's mean where they rated it. At most 2,000 are drawn."""
    some = things.only(np.linspace(0, len(things.order) - 1, min(2000, len(things.order))).astype(int))
    frame = pd.DataFrame({
        "x": some.rewards[one], "y": some.rewards[other], "people": some.people,
        "what": np.where(some.order > 0, "step", "whole answer"),
    })  # fmt: skip
    low, high = float(frame[["x", "y"]].min().min()), float(frame[["x", "y"]].max().max())
    scale = alt.Scale(domain=[low, high], nice=True, zero=False)
    points = alt.Chart(frame).mark_point(filled=True, size=36, opacity=0.7).encode(
        alt.X("x:Q", title=f"{title} (stars)", scale=scale), alt.Y("y:Q", title=f"{above} (stars)", scale=scale),
        alt.Color("people:Q", title="people (stars)", scale=alt.Scale(scheme="redyellowgreen", domain=[1, 5])),
        alt.Shape("what:N", title=None, scale=alt.Scale(domain=["step", "whole answer"], range=["circle", "square"]),
                  legend=alt.Legend(symbolFillColor="#888888", symbolStrokeColor="#888888")),
        tooltip=["what:N", *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("x", "y", "people"))],
    )  # fmt: skip
    line = alt.Chart(pd.DataFrame({"x": [low, high], "y": [low, high]})).mark_line(strokeDash=[4, 4], color="#888888")
    return (line.encode(alt.X("x:Q", scale=scale), alt.Y("y:Q", scale=scale)) + points).properties(height=380)


def reliabilities(bins: Mapping[str, Sequence[Bin]]) -> alt.LayerChart:
    """People's mean score against the mean reward of things of like reward, a line a checkpoint; on the dashed line rewards are
    right."""
    frame = pd.DataFrame([
        {"checkpoint": label, "reward": one.reward, "score": one.score, "count": one.count}
        for label, some in bins.items() for one in some
    ])  # fmt: skip
    colour = alt.Color("checkpoint:N", title=None, legend=alt.Legend(orient="top", columns=1, labelLimit=500))
    return _reliability(frame, color=colour).properties(height=240)


def against_floors(auc: Value, floors: Sequence[Floor]) -> alt.LayerChart:
    """AUC of a reward model beside what models that cannot read reach, with intervals; chance as a line."""
    frame = pd.DataFrame(
        [{"what": "the model"} | auc.model_dump()] + [{"what": f"{one.name} alone"} | one.figure.model_dump() for one in floors]
    )
    order = list(frame["what"])
    place = alt.Y("what:N", title=None, sort=order, axis=alt.Axis(labelLimit=200, labelOverlap=False))
    scale = alt.Scale(domain=[0, 1])
    colour = alt.condition("datum.what == 'the model'", alt.value("#0d9488"), alt.value("#85948f"))
    base = alt.Chart(frame.dropna(subset=["value"]))
    bars = base.mark_rule(strokeWidth=2).encode(
        place, alt.X("low:Q", scale=scale, title="AUC (0.5 is chance)"), alt.X2("high:Q"), color=colour
    )
    points = base.mark_point(filled=True, size=110, opacity=1).encode(
        place, alt.X("value:Q", scale=scale, title="AUC (0.5 is chance)"), color=colour,
        tooltip=["what", *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high"))],
    )  # fmt: skip
    chance = alt.Chart(pd.DataFrame({"x": [0.5]})).mark_rule(strokeDash=[4, 4], color="#888888").encode(alt.X("x:Q"))
    return (chance + bars + points).properties(height=60 + 36 * len(frame))


def learning_curve(curve: Curve) -> alt.LayerChart:
    """What readouts reach by how much they have learned from, with intervals."""
    frame = pd.DataFrame([{"judgements": one.judgements} | one.figure.model_dump() for one in curve.points])
    title = "pairs ranked right" if curve.of == "pairs" else f"AUC of {curve.of}"
    base = alt.Chart(frame.dropna(subset=["value"]))
    place = alt.X("judgements:Q", title="judgements learned from", scale=alt.Scale(zero=False))
    scale = alt.Scale(zero=False)
    band = base.mark_area(opacity=0.2, color="#0d9488").encode(place, alt.Y("low:Q", title=title, scale=scale), alt.Y2("high:Q"))
    line = base.mark_line(point=True, color="#0d9488").encode(
        place, alt.Y("value:Q", title=title, scale=scale),
        tooltip=["judgements", *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high"))],
    )  # fmt: skip
    return (band + line).properties(height=200)


def reliability(bins: Sequence[ReliabilityBin]) -> alt.LayerChart:
    """The same of one checkpoint."""
    return _reliability(pd.DataFrame([one.model_dump() for one in bins])).properties(height=200)


def _reliability(frame: pd.DataFrame, **encodings: Any) -> alt.LayerChart:
    """Of columns reward, score and count; ``encodings``: of the points too."""
    low, high = float(min(frame["reward"].min(), 1)), float(max(frame["reward"].max(), 5))
    scale = alt.Scale(domain=[low, high])
    line = alt.Chart(pd.DataFrame({"x": [low, high], "y": [low, high]})).mark_line(strokeDash=[4, 4], color="#888888")
    hover = [alt.Tooltip("reward:Q", format=".2f"), alt.Tooltip("score:Q", format=".2f"), "count:Q"]
    points = alt.Chart(frame).mark_line(point=True).encode(
        alt.X("reward:Q", title="reward (stars)", scale=scale), alt.Y("score:Q", title="people (stars)", scale=scale),
        tooltip=[*(["checkpoint:N"] if "checkpoint" in frame else []), *hover], **encodings,
    )  # fmt: skip
    return line.encode(alt.X("x:Q"), alt.Y("y:Q")) + points
