"""Agreement among the raters of a snapshot: what is compared, which ratings count, and by what they are grouped.

What counts where: a rater who marked a first error judged no further, so what they rated after their own mark is left out ("steps
before the stop"; the marked step itself is in). A rater's first error is their mark; without one, the first step that they
rated 1 or 2; without that, none. Those who judged no step of a chat say nothing of its first error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from rlhf_core.analytics.reliability import ROUNDS, Estimate, Table, alpha, kappa, ratio_of_sums
from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.judgement import By, Level, What

if TYPE_CHECKING:
    import pandas as pd

LEVELS: dict[What, Level] = {  # what fits; stars are ranks, a place in an answer is a number of steps
    "steps": "ordinal", "answers": "ordinal", "aspects": "ordinal", "preferences": "nominal", "first errors": "interval",
}  # fmt: skip
EVERYBODY = "everything"
_VERDICTS = {"chat": 0.0, "other": 1.0, "tie": 2.0, "both_bad": 3.0}
_BAD = 2


@dataclass(frozen=True, slots=True)
class Row:
    """Agreement on one part of the ratings. ``group`` names the part; ``level`` how values differ."""

    what: What
    group: str
    level: Level
    alpha: Estimate


@dataclass(frozen=True, slots=True)
class PairRow:
    """Two raters over what both judged. ``same``: share of it that they judged alike."""

    first: str
    second: str
    same: float
    kappa: Estimate


@dataclass(frozen=True, slots=True)
class FirstErrors:
    """How far two raters' first errors lie apart, over all pairs of raters of a chat; each with its interval.

    ``exact``, ``within_one``: shares. ``distance``: steps; "none" counts as the place after the last step.
    """

    pairs: int
    chats: int
    exact: tuple[float | None, float | None, float | None]
    within_one: tuple[float | None, float | None, float | None]
    distance: tuple[float | None, float | None, float | None]


def judgements(snapshot: Snapshot, what: What) -> pd.DataFrame:
    """One row for each judgement that counts: unit, chat, other chat of a pair (or ""), what is drawn in a bootstrap round (the
    chat; of pairs the question, for several pairs share an answer), rater, value, source, aspect. Raters are pseudonyms.
    """

    if what not in get_args(What):
        raise InvalidInput(f"Agreement on {what!r} is not measured; choose one of {', '.join(get_args(What))}.")
    chats = snapshot.table("chats").select(["id", "source", "query"]).to_pandas().rename(columns={"id": "chat_id"})
    if what == "first errors":
        frame = first_errors(snapshot)
        frame = frame.assign(unit=frame["chat_id"], value=frame["place"].astype(float), aspect="")
    elif what == "preferences":
        frame = snapshot.table("preferences").to_pandas()
        frame = frame[frame["step_order"].isna()]
        frame = frame.assign(
            unit=frame["chat_id"] + "+" + frame["other_id"] + "|" + frame["aspect"], value=frame["verdict"].map(_VERDICTS)
        )
    elif what == "aspects":
        frame = snapshot.table("aspect_ratings").to_pandas()
        place = frame["step_id"].fillna(frame["chat_id"])
        frame = frame.assign(unit=place + "|" + frame["aspect"], value=frame["score"].astype(float))
    else:
        frame = snapshot.table("chat_feedback").select(["chat_id", "step_id", "rater", "feedback_score"]).to_pandas()
        if what == "steps":
            frame = _before_the_stop(snapshot, frame[frame["step_id"].notna()])
        else:
            frame = frame[frame["step_id"].isna()]
        unit = frame["step_id"] if what == "steps" else frame["chat_id"]
        frame = frame.assign(unit=unit, value=frame["feedback_score"].astype(float), aspect="")
    if "other_id" not in frame:
        frame = frame.assign(other_id="")
    found = frame[["unit", "chat_id", "other_id", "rater", "value", "aspect"]].merge(chats, on="chat_id", how="left")
    return found.assign(cluster=found["query"] if what == "preferences" else found["chat_id"]).drop(columns="query")


def _placed(ratings: pd.DataFrame, orders: pd.DataFrame) -> pd.DataFrame:
    """Ratings of steps with the steps' order."""
    return ratings.merge(orders[["id", "step_order"]].rename(columns={"id": "step_id"}), on="step_id")


def _orders(snapshot: Snapshot) -> pd.DataFrame:
    return snapshot.table("reasoning_steps").select(["id", "chat_id", "step_order"]).to_pandas()


def _stops(snapshot: Snapshot, orders: pd.DataFrame) -> pd.DataFrame:
    """Each rater's mark: chat_id, rater, stop (step order)."""
    marks = snapshot.table("chat_marks").select(["chat_id", "rater", "first_error"]).to_pandas()
    marks = marks[marks["first_error"].notna()]
    steps = orders[["id", "step_order"]].rename(columns={"id": "first_error", "step_order": "stop"})
    return marks.merge(steps, on="first_error")[["chat_id", "rater", "stop"]]


def _before_the_stop(snapshot: Snapshot, ratings: pd.DataFrame) -> pd.DataFrame:
    orders = _orders(snapshot)
    stops = _stops(snapshot, orders)
    if stops.empty:
        return ratings
    placed = _placed(ratings, orders).merge(stops, on=["chat_id", "rater"], how="left")
    kept: pd.DataFrame = placed[placed["stop"].isna() | (placed["step_order"] <= placed["stop"])]
    return kept


def first_errors(snapshot: Snapshot) -> pd.DataFrame:
    """Each rater's first error: chat_id, rater, place (step order; one more than the last for none), steps."""
    import pandas as pd

    orders = _orders(snapshot)
    ratings = snapshot.table("chat_feedback").select(["chat_id", "step_id", "rater", "feedback_score"]).to_pandas()
    ratings = _placed(ratings[ratings["step_id"].notna()], orders)
    judged = ratings[["chat_id", "rater"]].drop_duplicates()
    bad = ratings[ratings["feedback_score"] <= _BAD].groupby(["chat_id", "rater"], as_index=False)["step_order"].min()
    stops = _stops(snapshot, orders)
    raters = pd.concat([judged, stops[["chat_id", "rater"]]]).drop_duplicates()
    count = orders.groupby("chat_id", as_index=False).size().rename(columns={"size": "steps"})
    found = raters.merge(stops, on=["chat_id", "rater"], how="left").merge(bad, on=["chat_id", "rater"], how="left")
    found = found.merge(count, on="chat_id")
    found["place"] = found["stop"].fillna(found["step_order"]).fillna(found["steps"] + 1).astype(int)
    return found[["chat_id", "rater", "place", "steps"]]


def first_error_distances(snapshot: Snapshot, *, rounds: int = ROUNDS) -> FirstErrors:
    """How far raters' first errors lie apart."""
    found = first_errors(snapshot)
    pairs = found.merge(found, on="chat_id", suffixes=("", "_other"))
    pairs = pairs[pairs["rater"] < pairs["rater_other"]]
    distance = (pairs["place"] - pairs["place_other"]).abs().to_numpy(float)
    chats = pairs["chat_id"].to_numpy()
    ones = np.ones(len(distance))

    def mean(of: Any) -> tuple[float | None, float | None, float | None]:
        return ratio_of_sums(np.asarray(of, dtype=float), ones, chats, rounds=rounds)

    return FirstErrors(len(pairs), len(set(chats)), mean(distance == 0), mean(distance <= 1), mean(distance))


def table_of(frame: pd.DataFrame) -> Table:
    """Columns as codes."""
    import pandas as pd

    codes = [pd.factorize(frame[name])[0].astype(np.int64) for name in ("unit", "rater", "cluster")]
    return Table(codes[0], codes[1], frame["value"].to_numpy(float), codes[2])


def measure(
    snapshot: Snapshot, what: What, by: By | None = None, *, level: Level | None = None, rounds: int = ROUNDS, at_most: int = 50
) -> list[Row]:
    """Krippendorff's alpha of everything, and of each part.

    Args:
        snapshot: Whose ratings.
        what: Steps (before the stop), whole answers, aspects, preferences (verdicts), or the places of first errors.
        by: Parts: the chats' source, the queue that the work was done for, the aspect, or each rater with those who judged the
            same things.
        level: How values differ (default: :data:`LEVELS`).
        rounds: Bootstrap rounds.
        at_most: Parts; those with the most judgements.

    Raises:
        InvalidInput: unknown ``what``.
    """
    frame = judgements(snapshot, what)
    level = level or LEVELS[what]
    rows = [Row(what, EVERYBODY, level, alpha(table_of(frame), level, rounds=rounds))]
    if by is None:
        return rows
    for name, part in _parts(snapshot, frame, by, at_most):
        rows.append(Row(what, name, level, alpha(table_of(part), level, rounds=rounds)))
    return rows


def _parts(snapshot: Snapshot, frame: pd.DataFrame, by: By, at_most: int) -> list[tuple[str, pd.DataFrame]]:
    if by == "rater":
        most = frame["rater"].value_counts().index[:at_most]
        return [(str(rater), frame[frame["unit"].isin(frame.loc[frame["rater"] == rater, "unit"])]) for rater in most]
    if by == "queue":
        work = snapshot.table("assignments").select(["queue_id", "chat_id", "other_id", "rater", "status"]).to_pandas()
        work = work[work["status"] == "submitted"].assign(other_id=work["other_id"].fillna(""))
        work = work[["queue_id", "chat_id", "other_id", "rater"]].drop_duplicates()
        names = snapshot.table("queues").select(["id", "name"]).to_pandas().rename(columns={"id": "queue_id", "name": "part"})
        frame = frame.merge(work.merge(names, on="queue_id"), on=["chat_id", "other_id", "rater"])
    else:
        frame = frame.assign(part=frame[by])
    frame = frame[frame["part"] != ""]
    return [(str(name), frame[frame["part"] == name]) for name in frame["part"].value_counts().index[:at_most]]


def rater_pairs(snapshot: Snapshot, what: What, *, rounds: int = ROUNDS, at_most: int = 12) -> list[PairRow]:
    """Cohen's kappa (unweighted) of each two of the raters with the most judgements, over what both judged."""
    frame = judgements(snapshot, what)
    most = list(frame["rater"].value_counts().index[:at_most])
    rows = []
    columns = {rater: frame[frame["rater"] == rater].set_index("unit") for rater in most}
    for k, first in enumerate(sorted(most)):
        for second in sorted(most)[k + 1 :]:
            both = columns[first][["value", "cluster"]].join(columns[second][["value"]], suffixes=("", "_other"), how="inner")
            one, other = both["value"].to_numpy(float), both["value_other"].to_numpy(float)
            same = float((one == other).mean()) if len(both) else float("nan")
            rows.append(PairRow(first, second, same, kappa(one, other, both["cluster"].to_numpy(), rounds=rounds)))
    return [row for row in rows if row.kappa.units]
