"""Charts of named questions. A mark that is clicked says what it stands for: see ``PICKS``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import altair as alt
import pandas as pd

PICK = "pick"
PICKS: dict[str, tuple[str, str]] = {  # by question: the column of a mark, and the filter that it sets
    "score_distribution": ("score", "scores"),
    "scores_by_step_position": ("step_order", "steps"),
    "scores_by_step_spread": ("step_order", "steps"),
    "first_error_position": ("step_order", "steps"),
    "scores_by_source": ("source", "sources"),
    "scores_by_model": ("model", "models"),
    "model_generations": ("model", "models"),
    "scores_over_time": ("period", "since"),
    "rater_workload": ("rater", "raters"),
    "rater_leniency": ("rater", "raters"),
    "rater_agreement": ("rater", "raters"),
}
_FAINT = 0.25
INTERVAL = "#85948f"  # seen on light and on dark


def _opacity(frame: pd.DataFrame) -> Any:
    return alt.condition("datum.chosen", alt.value(1.0), alt.value(_FAINT)) if "chosen" in frame else alt.value(1.0)


def _means(frame: pd.DataFrame, place: alt.X | alt.Y, *, upright: bool, height: int = 250) -> alt.LayerChart:
    """Means with their intervals."""
    value = (alt.Y if upright else alt.X)("mean_score:Q", title="mean score (stars)", scale=alt.Scale(zero=False, nice=True))
    low = (alt.Y if upright else alt.X)("low:Q", title="mean score (stars)")
    high = (alt.Y2 if upright else alt.X2)("high:Q")
    tips = [
        alt.Tooltip(name, format=".2f") if name in ("mean_score", "low", "high", "gain", "bad") else name
        for name in frame
        if name != "chosen"
    ]
    base = alt.Chart(frame)
    bars = base.mark_rule(strokeWidth=2, color=INTERVAL).encode(place, low, high, opacity=_opacity(frame), tooltip=tips)
    points = base.mark_point(filled=True, size=90).encode(place, value, opacity=_opacity(frame), tooltip=tips)
    return (bars + points).properties(height=height)


def _time(frame: pd.DataFrame) -> alt.LayerChart:
    place = alt.X("period:T", title="week (UTC)", axis=alt.Axis(format="%b %-d", labelOverlap=True, tickCount=8))
    line = alt.Chart(frame).mark_line(opacity=0.5).encode(place, alt.Y("mean_score:Q"))
    return (line + _means(frame, place, upright=True)).properties(height=250)


def _spread(frame: pd.DataFrame) -> alt.Chart:
    return alt.Chart(frame).mark_bar().encode(
        alt.X("score:O", title="score (stars)", axis=alt.Axis(labelAngle=0)), alt.XOffset("judged:N"),
        alt.Y("share:Q", title="share", axis=alt.Axis(format="%")),
        alt.Color("judged:N", title=None, legend=alt.Legend(orient="top")),
        opacity=_opacity(frame), tooltip=["judged", "score", "ratings", alt.Tooltip("share", format=".1%")],
    ).properties(height=250)  # fmt: skip


def _positions(frame: pd.DataFrame) -> alt.LayerChart:
    return _means(frame, alt.X("step_order:O", title="step", axis=alt.Axis(labelAngle=0)), upright=True)


def _at_steps(frame: pd.DataFrame) -> alt.Chart:
    return alt.Chart(frame).mark_bar().encode(
        alt.X("step_order:O", title="step", axis=alt.Axis(labelAngle=0)),
        alt.Y("share:Q", title="share of its ratings", axis=alt.Axis(format="%"), stack="normalize"),
        alt.Color("score:O", title="stars", scale=alt.Scale(scheme="redyellowgreen", domain=[1, 2, 3, 4, 5])),
        alt.Order("score:O"),
        opacity=_opacity(frame), tooltip=["step_order", "score", "ratings", alt.Tooltip("share", format=".1%")],
    ).properties(height=250)  # fmt: skip


def _errors(frame: pd.DataFrame) -> alt.Chart:
    return alt.Chart(frame).mark_bar().encode(
        alt.X("step_order:O", title="step", axis=alt.Axis(labelAngle=0)),
        alt.Y("hazard:Q", title="share that goes wrong there", axis=alt.Axis(format="%")), opacity=_opacity(frame),
        tooltip=["step_order", "first_errors", "reached", *(alt.Tooltip(name, format=".1%") for name in ("hazard", "share"))],
    ).properties(height=250)  # fmt: skip


def _named(column: str) -> Callable[[pd.DataFrame], alt.LayerChart]:
    def draw(frame: pd.DataFrame) -> alt.LayerChart:
        top = frame.head(25)
        place = alt.Y(f"{column}:N", title=None, sort=list(top[column]), axis=alt.Axis(labelLimit=220, labelOverlap=False))
        return _means(top, place, upright=False, height=60 + 24 * len(top))

    return draw


def _bars(column: str, value: str, title: str, form: str, *, most: int = 25) -> Callable[[pd.DataFrame], alt.Chart]:
    def draw(frame: pd.DataFrame) -> alt.Chart:
        top = frame[frame[value].notna()].head(most)
        return alt.Chart(top).mark_bar().encode(
            alt.X(f"{value}:Q", title=title, axis=alt.Axis(format=form)),
            alt.Y(f"{column}:N", title=None, sort=list(top[column]), axis=alt.Axis(labelLimit=220, labelOverlap=False)),
            opacity=_opacity(top), tooltip=[name for name in top if name != "chosen"],
        ).properties(height=60 + 22 * len(top))  # fmt: skip

    return draw


def _coverage(frame: pd.DataFrame) -> alt.FacetChart | alt.LayerChart:
    top = frame[frame["represented"].notna()].copy()
    top["what"] = top["kind"] + ": " + top["value"]
    top = top.sort_values(["kind", "chats"], ascending=[True, False]).groupby("kind").head(8)
    points = alt.Chart(top).mark_bar().encode(
        alt.X("represented:Q", title="share of the ratings for each share of the chats (1 is even)"),
        alt.Y("what:N", title=None, sort=list(top["what"]), axis=alt.Axis(labelLimit=240, labelOverlap=False)),
        alt.Color("kind:N", legend=None),
        tooltip=["kind", "value", "chats", "rated", "ratings", alt.Tooltip("represented", format=".2f")],
    )  # fmt: skip
    even = alt.Chart(pd.DataFrame({"x": [1.0]})).mark_rule(strokeDash=[4, 4], color="#888888").encode(alt.X("x:Q"))
    return (points + even).properties(height=60 + 20 * len(top))


def _drift(frame: pd.DataFrame) -> alt.LayerChart:
    line = alt.Chart(frame).mark_line(point=True).encode(
        alt.X("period:T", title="30 days from (UTC)"), alt.Y("psi:Q", title="stability index"),
        tooltip=["period:T", "ratings", alt.Tooltip("psi", format=".3f"), alt.Tooltip("change", format="+.2f"), "verdict"],
    )  # fmt: skip
    usual = alt.Chart(pd.DataFrame({"y": [0.1, 0.25]})).mark_rule(strokeDash=[4, 4], color="#888888").encode(alt.Y("y:Q"))
    return (line + usual).properties(height=250)


def _lengths(frame: pd.DataFrame) -> alt.LayerChart:
    place = alt.X("chars:Q", title="characters, from", scale=alt.Scale(type="log", base=2))
    value = alt.Y("mean_score:Q", title="mean score (stars)", scale=alt.Scale(zero=False))
    colour = alt.Color("judged:N", title=None, legend=alt.Legend(orient="top"))
    tips = ["judged", "chars", alt.Tooltip("mean_score", format=".2f"), "ratings"]
    line = alt.Chart(frame).mark_line(point=True).encode(place, value, colour, tooltip=tips)
    bars = alt.Chart(frame).mark_rule(strokeWidth=2).encode(place, alt.Y("low:Q"), alt.Y2("high:Q"), colour)
    return (line + bars).properties(height=250)


def _ages(frame: pd.DataFrame) -> alt.Chart:
    long = frame.melt("age_months", ["ratings_share", "chats_share"], "of", "share")
    long["of"] = long["of"].map({"ratings_share": "ratings", "chats_share": "chats"})
    return alt.Chart(long).mark_bar().encode(
        alt.X("age_months:O", title="age (times 30 days)", axis=alt.Axis(labelAngle=0)), alt.XOffset("of:N"),
        alt.Y("share:Q", axis=alt.Axis(format="%")), alt.Color("of:N", title=None, legend=alt.Legend(orient="top")),
        tooltip=["of", "age_months", alt.Tooltip("share", format=".1%")],
    ).properties(height=250)  # fmt: skip


DRAW: dict[str, Callable[[pd.DataFrame], Any]] = {
    "scores_over_time": _time,
    "score_distribution": _spread,
    "scores_by_step_position": _positions,
    "scores_by_step_spread": _at_steps,
    "first_error_position": _errors,
    "scores_by_source": _named("source"),
    "scores_by_model": _named("model"),
    "scores_by_aspect": _named("aspect"),
    "model_generations": _named("model"),
    "rater_workload": _bars("rater", "share", "share of all ratings", "%"),
    "rater_leniency": _bars("rater", "leniency", "stars above the others", "+.1f"),
    "rater_agreement": _bars("rater", "distance", "stars from the others' mean", ".1f"),
    "straight_lining": _bars("rater", "share", "chats with one score for every step", "%"),
    "problem_themes": _bars("word", "times", "times likelier in a bad step", ".1f"),
    "coverage": _coverage,
    "missing_ratings": _bars("state", "share", "share of chats", "%"),
    "staleness": _ages,
    "score_drift": _drift,
    "length_against_score": _lengths,
}


def day_of(value: Any) -> date:
    """The day that a mark on a time axis says: milliseconds or text."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value / 1000, UTC).date()
    return date.fromisoformat(str(value)[:10])


def chart(name: str, frame: pd.DataFrame, chosen: tuple[Any, ...]) -> Any:
    """The question's chart, or None where it has none. ``chosen``: values of its marks that are picked already."""
    if name not in DRAW or frame.empty:
        return None
    if name in PICKS:
        column, _ = PICKS[name]
        if chosen:
            frame = frame.assign(chosen=frame[column].map(lambda value: str(value)[:10] in {str(one)[:10] for one in chosen}))
        return DRAW[name](frame).add_params(alt.selection_point(name=PICK, fields=[column]))
    return DRAW[name](frame)
