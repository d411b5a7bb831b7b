"""The named questions once more, in pandas on the snapshot's own Parquet files: what answers are compared with, in numbers by the
tests and in time by ``benchmarks/explore.py``. Written from each question's header, not from its SQL."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.ground.tables import TableName

Answer = Callable[["Frames"], pd.DataFrame]
NOT_SAID = "(not said)"


class Frames:
    """Columns of a snapshot's tables, read anew each time, or kept (``keep``)."""

    def __init__(self, snapshot: Snapshot, *, keep: bool = False) -> None:
        self._snapshot, self._keep = snapshot, keep
        self._kept: dict[tuple[Any, ...], pd.DataFrame] = {}

    def __call__(self, table: TableName, *columns: str) -> pd.DataFrame:
        if (table, columns) in self._kept:
            return self._kept[table, columns].copy(deep=False)
        files = self._snapshot.files(table)
        frame = (
            pd.concat([pd.read_parquet(path, columns=list(columns)) for path in files], ignore_index=True) if files
            else self._snapshot.table(table).select(list(columns)).to_pandas()
        )  # fmt: skip
        if self._keep:
            self._kept[table, columns] = frame
        return frame.copy(deep=False)


def margin(per: pd.DataFrame, by: Any) -> pd.DataFrame:
    """Mean and 95% interval of groups of chats: columns s (sum of scores) and n (ratings) of each chat."""
    terms = per.assign(ss=per["s"] ** 2, sn=per["s"] * per["n"], nn=per["n"] ** 2, one=1)
    total = terms.groupby(by, dropna=False, observed=True)[["s", "n", "ss", "sn", "nn", "one"]].sum()
    mean = total["s"] / total["n"]
    spread = (total["ss"] - 2 * mean * total["sn"] + mean**2 * total["nn"]).clip(lower=0)
    half = 1.96 * np.sqrt(spread * total["one"] / (total["one"] - 1).replace(0, np.nan)) / total["n"]
    return pd.DataFrame({
        "mean_score": mean, "low": (mean - half).clip(lower=1), "high": (mean + half).clip(upper=5), "half": half,
        "ratings": total["n"].astype(int), "chats": total["one"],
    })  # fmt: skip


def _ratings(frames: Frames, *columns: str) -> pd.DataFrame:
    return frames("chat_feedback", *columns).rename(columns={"feedback_score": "score"})


def _per(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return frame.groupby(keys, dropna=False, observed=True)["score"].agg(s="sum", n="count").astype(float).reset_index()


def _steps_rated(frames: Frames, *columns: str) -> pd.DataFrame:
    ratings = _ratings(frames, "step_id", "feedback_score", *columns)
    steps = frames("reasoning_steps", "id", "step_order").rename(columns={"id": "step_id"})
    return ratings[ratings["step_id"].notna()].merge(steps, on="step_id")


def _day(times: pd.Series) -> pd.Series:
    return times.dt.tz_convert(None).dt.floor("D") if times.dt.tz is not None else times.dt.floor("D")


def _period(times: pd.Series, days: int) -> pd.Series:
    day = _day(times)
    return day - pd.to_timedelta((day - pd.Timestamp("2000-01-03")).dt.days % days, unit="D")


def scores_over_time(frames: Frames) -> pd.DataFrame:
    ratings = _ratings(frames, "chat_id", "feedback_score", "created_at")
    ratings["period"] = _period(ratings["created_at"], 7)
    return margin(_per(ratings, ["period", "chat_id"]), "period").sort_index().reset_index().drop(columns="half")


def score_distribution(frames: Frames) -> pd.DataFrame:
    ratings = _ratings(frames, "step_id", "feedback_score")
    judged = np.where(ratings["step_id"].isna(), "answer", "step")
    counted = ratings.groupby([judged, "score"]).size().rename("ratings").reset_index().rename(columns={"level_0": "judged"})
    return counted.assign(share=counted["ratings"] / counted.groupby("judged")["ratings"].transform("sum"))


def scores_by_step_position(frames: Frames) -> pd.DataFrame:
    rated = _steps_rated(frames)
    found = margin(_per(rated, ["step_order", "step_id"]), "step_order")
    found["bad"] = (rated["score"] <= 2).groupby(rated["step_order"]).mean()
    return found.reset_index()[["step_order", "mean_score", "low", "high", "bad", "ratings"]]


def scores_by_step_spread(frames: Frames) -> pd.DataFrame:
    counted = _steps_rated(frames).groupby(["step_order", "score"]).size().rename("ratings").reset_index()
    return counted.assign(share=counted["ratings"] / counted.groupby("step_order")["ratings"].transform("sum"))


def _shrunken(frames: Frames) -> pd.DataFrame:
    ratings = _ratings(frames, "step_id", "feedback_score")
    ratings = ratings[ratings["step_id"].notna()]
    per = ratings.groupby("step_id")["score"].agg(mean_score="mean", ratings="count")
    decisions = frames("decisions", "step_id", "kind", "value")
    decided = decisions[(decisions["kind"] == "score") & decisions["step_id"].notna()].set_index("step_id")["value"].astype(float)
    per["mean_score"] = decided.reindex(per.index).fillna(per["mean_score"])
    per["shrunken_score"] = (per["mean_score"] * per["ratings"] + 3 * ratings["score"].mean()) / (per["ratings"] + 3)
    return per.reset_index()


def most_problematic_steps(frames: Frames) -> pd.DataFrame:
    per = _shrunken(frames)
    steps = frames("reasoning_steps", "id", "chat_id", "step_order", "step_content").rename(columns={"id": "step_id"})
    steps["place"] = range(len(steps))
    least = per.nsmallest(20, "shrunken_score", keep="all").merge(steps, on="step_id")
    least = least.sort_values(["shrunken_score", "ratings", "place"], ascending=[True, False, True]).head(20)
    chats = frames("chats", "id", "query").rename(columns={"id": "chat_id"})
    found = least.merge(chats, on="chat_id")
    return found[["query", "step_order", "step_content", "shrunken_score", "mean_score", "ratings", "chat_id"]]


def problem_themes(frames: Frames, steps_each: int = 2000, fewest: int = 5, common: float = 0.1, most: int = 25) -> pd.DataFrame:
    ratings = _ratings(frames, "step_id", "feedback_score")
    ratings = ratings[ratings["step_id"].notna()]
    per = ratings.groupby("step_id")["score"].agg(mean="mean", n="count").reset_index()
    steps = frames("reasoning_steps", "id", "step_content").rename(columns={"id": "step_id"})
    steps["place"] = range(len(steps))
    per = per.merge(steps, on="step_id")
    middle = ratings["score"].mean()
    worst = per[per["mean"] < middle].sort_values(["mean", "n", "place"], ascending=[True, False, True]).head(steps_each)
    best = per[per["mean"] >= middle].sort_values(["mean", "n", "place"], ascending=[False, False, True]).head(steps_each)

    def words(some: pd.DataFrame) -> pd.Series:
        split = some["step_content"].map(lambda text: sorted(set(re.findall(r"[^\W\d_](?:[^\W\d_]|['-]){2,}", text.lower()))))
        return split.explode().dropna().value_counts()

    bad, other = words(worst), words(best)
    found = pd.DataFrame({"bad_steps": bad, "other_steps": other}).fillna(0).astype(int)
    found = found[(found.sum(axis=1) >= fewest) & (found.sum(axis=1) <= common * (len(worst) + len(best)))]
    b, o, nb, no = found["bad_steps"] + 0.5, found["other_steps"] + 0.5, len(worst), len(best)
    found["times"] = (b / (nb + 1)) / (o / (no + 1))
    left_b, left_o = nb - found["bad_steps"] + 0.5, no - found["other_steps"] + 0.5
    found["z"] = (np.log(b / left_b) - np.log(o / left_o)) / np.sqrt(1 / b + 1 / left_b + 1 / o + 1 / left_o)
    found = found.rename_axis("word").reset_index().sort_values(["z", "word"], ascending=[False, True])
    return found.head(most)


def _judged_chats(frames: Frames) -> pd.DataFrame:
    """Each rater of a chat's steps: first error (position), judged_to."""
    rated = _steps_rated(frames, "chat_id", "rater")
    keys = ["chat_id", "rater"]
    to = rated.groupby(keys)["step_order"].max().rename("last")
    bad = rated[rated["score"] <= 2].groupby(keys)["step_order"].min().rename("bad")
    marks = frames("chat_marks", "chat_id", "rater", "first_error")
    steps = frames("reasoning_steps", "id", "step_order").rename(columns={"id": "first_error", "step_order": "mark"})
    mark = marks[marks["first_error"].notna()].merge(steps, on="first_error").set_index(keys)["mark"]
    found = pd.concat([to, bad, mark], axis=1)
    found["first_error"] = found["mark"].fillna(found["bad"])
    found["judged_to"] = found["mark"].fillna(found["last"])
    return found


def first_error_position(frames: Frames) -> pd.DataFrame:
    judged = _judged_chats(frames)
    end = judged["first_error"].fillna(judged["judged_to"]).astype(int)
    places = range(1, int(end.max()) + 1) if len(end) else range(0)
    errors = judged["first_error"].value_counts().reindex(places, fill_value=0)
    reached = pd.Series([int((end >= place).sum()) for place in places], index=places, dtype=int)
    return pd.DataFrame({
        "step_order": list(places), "first_errors": errors.to_numpy(), "reached": reached.to_numpy(),
        "hazard": (errors / reached).to_numpy(), "share": (errors / len(end)).to_numpy(),
    })  # fmt: skip


def _scores_by(frames: Frames, name: str) -> pd.DataFrame:
    ratings = _ratings(frames, "chat_id", "feedback_score")
    ratings = ratings.merge(frames("chats", "id", name).rename(columns={"id": "chat_id"}), on="chat_id")
    ratings[name] = ratings[name].fillna(NOT_SAID)
    found = margin(_per(ratings, [name, "chat_id"]), name)
    found["bad"] = (ratings["score"] <= 2).groupby(ratings[name]).mean()
    found = found.reset_index().sort_values(["ratings", name], ascending=[False, True])
    return found[[name, "mean_score", "low", "high", "bad", "ratings", "chats"]]


def scores_by_source(frames: Frames) -> pd.DataFrame:
    return _scores_by(frames, "source")


def scores_by_model(frames: Frames) -> pd.DataFrame:
    return _scores_by(frames, "model")


def scores_by_aspect(frames: Frames) -> pd.DataFrame:
    ratings = frames("aspect_ratings", "aspect", "chat_id", "rater", "score")
    found = margin(_per(ratings, ["aspect", "chat_id"]), "aspect")
    found["raters"] = ratings.groupby("aspect")["rater"].nunique()
    return found.reset_index()[["aspect", "mean_score", "low", "high", "ratings", "raters"]]


def rater_workload(frames: Frames) -> pd.DataFrame:
    ratings = _ratings(frames, "chat_id", "rater", "created_at", "is_demo", "feedback_score")
    ratings["day"] = _day(ratings["created_at"])
    per = ratings.groupby("rater").agg(
        ratings=("score", "count"), chats=("chat_id", "nunique"), days=("day", "nunique"), first_day=("day", "min"),
        last_day=("day", "max"), demo=("is_demo", "mean"),
    )  # fmt: skip
    per["share"], per["a_day"] = per["ratings"] / len(ratings), per["ratings"] / per["days"]
    per = per.reset_index().sort_values(["ratings", "rater"], ascending=[False, True])
    return per[["rater", "ratings", "share", "chats", "days", "a_day", "first_day", "last_day", "demo"]]


def _with_others(frames: Frames) -> pd.DataFrame:
    ratings = _ratings(frames, "chat_id", "step_id", "rater", "feedback_score")
    thing = ratings["step_id"].fillna(ratings["chat_id"])
    per = ratings.groupby(thing)["score"]
    total, n = per.transform("sum"), per.transform("count")
    ratings["others_mean"] = (total - ratings["score"]) / (n - 1).replace(0, np.nan)
    return ratings[["rater", "score", "others_mean"]]


def rater_leniency(frames: Frames) -> pd.DataFrame:
    ratings = _with_others(frames)
    ratings["above"] = ratings["score"] - ratings["others_mean"]
    ratings["is_low"], ratings["is_high"] = ratings["score"] <= 2, ratings["score"] >= 4
    per = ratings.groupby("rater").agg(
        ratings=("score", "count"), mean_score=("score", "mean"), things_in_common=("above", "count"), leniency=("above", "mean"),
        sd=("above", "std"), low=("is_low", "mean"), high=("is_high", "mean"),
    )  # fmt: skip
    per["margin"] = 1.96 * per["sd"] / np.sqrt(per["things_in_common"])
    per = per.reset_index().sort_values(["leniency", "rater"], ascending=[False, True])
    return per[["rater", "ratings", "mean_score", "things_in_common", "leniency", "margin", "low", "high"]]


def rater_agreement(frames: Frames) -> pd.DataFrame:
    ratings = _with_others(frames).dropna()
    ratings["distance"] = (ratings["score"] - ratings["others_mean"]).abs()
    ratings["near"] = ratings["distance"] <= 1
    groups = ratings.groupby("rater")
    per = groups.agg(things_in_common=("score", "count"), distance=("distance", "mean"), within_one=("near", "mean"))
    with np.errstate(invalid="ignore", divide="ignore"):
        per["correlation"] = pd.Series({
            rater: some["score"].astype(float).corr(some["others_mean"]) if some["others_mean"].std(ddof=0) > 0 else np.nan
            for rater, some in groups
        }, dtype=float)  # fmt: skip
    return per[per["things_in_common"] >= 5].reset_index().sort_values(["distance", "rater"])


def coverage(frames: Frames) -> pd.DataFrame:
    chats = frames("chats", "id", "source", "model", "created_at", "response")
    counted = _ratings(frames, "chat_id", "feedback_score")["chat_id"].value_counts()
    steps = frames("reasoning_steps", "chat_id")["chat_id"].value_counts()
    chats["ratings"] = chats["id"].map(counted).fillna(0).astype(int)
    number = chats["id"].map(steps).fillna(0).astype(int)
    chars = chats["response"].str.len()
    size = np.floor(np.log2(chars.clip(lower=1))).astype(int)
    kinds = {
        "source": chats["source"],
        "model": chats["model"].fillna(NOT_SAID),
        "month": chats["created_at"].dt.strftime("%Y-%m"),
        "steps": number.astype(str).where(number < 10, "10 or more"),
        "length": pd.Series(np.where(size == 0, "0-1", (2**size).astype(str) + "-" + (2 ** (size + 1) - 1).astype(str))),
    }
    parts = []
    for kind, value in kinds.items():
        per = chats.assign(value=value, has=chats["ratings"] > 0).groupby("value").agg(
            chats=("id", "count"), rated=("has", "sum"), ratings=("ratings", "sum")
        )  # fmt: skip
        per["chats_share"], per["rated_share"] = per["chats"] / per["chats"].sum(), per["rated"] / per["chats"]
        per["ratings_share"] = per["ratings"] / (per["ratings"].sum() or np.nan)
        per["represented"] = per["ratings_share"] / per["chats_share"]
        parts.append(per.reset_index().assign(kind=kind).sort_values(["chats", "value"], ascending=[False, True]))
    found = pd.concat(parts).sort_values("kind", kind="stable")
    return found[["kind", "value", "chats", "chats_share", "rated", "rated_share", "ratings", "ratings_share", "represented"]]


def missing_ratings(frames: Frames) -> pd.DataFrame:
    ratings = _ratings(frames, "chat_id", "step_id")
    chats = frames("chats", "id")["id"]
    steps = chats.map(frames("reasoning_steps", "chat_id")["chat_id"].value_counts()).fillna(0)
    whole = chats.isin(ratings.loc[ratings["step_id"].isna(), "chat_id"])
    on_steps = ratings[ratings["step_id"].notna()]
    rated = chats.map(on_steps.groupby("chat_id")["step_id"].nunique()).fillna(0)
    state = np.select(
        [(rated == 0) & ~whole, rated == 0, rated < steps, ~whole],
        ["nothing", "the answer, no step", "some steps", "every step, not the answer"], "everything",
    )  # fmt: skip
    counted = pd.Series(state).value_counts().rename_axis("state").rename("chats").reset_index()
    return counted.assign(share=counted["chats"] / len(chats)).sort_values(["chats", "state"], ascending=[False, True])


def staleness(frames: Frames) -> pd.DataFrame:
    rated, arrived = (_day(frames(table, "created_at")["created_at"]) for table in ("chat_feedback", "chats"))
    newest = max(days.max() for days in (rated, arrived) if len(days))
    ages = [((newest - days).dt.days // 30).value_counts() for days in (rated, arrived)]
    found = (
        pd.concat(ages, axis=1, keys=["ratings", "chats"])
        .fillna(0)
        .astype(int)
        .sort_index()
        .rename_axis("age_months")
        .reset_index()
    )
    for name in ("ratings", "chats"):
        found[f"{name}_share"] = found[name] / (found[name].sum() or np.nan)
    return found[["age_months", "ratings", "ratings_share", "chats", "chats_share"]]


def score_drift(frames: Frames) -> pd.DataFrame:
    ratings = _ratings(frames, "feedback_score", "created_at")
    ratings["period"] = _period(ratings["created_at"], 30)
    counts = pd.crosstab(ratings["period"], ratings["score"]).reindex(columns=range(1, 6), fill_value=0).sort_index()
    p = (counts + 0.5).div((counts + 0.5).sum(axis=1), axis=0)
    psi = ((p - p.iloc[0]) * np.log(p / p.iloc[0])).sum(axis=1)
    mean = (counts * counts.columns).sum(axis=1) / counts.sum(axis=1)
    return pd.DataFrame({
        "period": counts.index, "ratings": counts.sum(axis=1).to_numpy(), "mean_score": mean.to_numpy(),
        "change": (mean - mean.iloc[0]).to_numpy(), "psi": psi.to_numpy(),
        "verdict": np.select([psi < 0.1, psi <= 0.25], ["steady", "moving"], "moved"),
    })  # fmt: skip


def duplicate_answers(frames: Frames) -> pd.DataFrame:
    chats = frames("chats", "id", "query", "response", "source", "model")
    chats["place"] = range(len(chats))
    key = [chats["query"].str.strip(" ").str.lower(), chats["response"].str.strip(" ").str.lower()]
    double = chats[chats.groupby(key)["id"].transform("count") > 1]
    rows = [
        {"query": some["query"].iloc[0], "copies": len(some), "sources": ", ".join(sorted(set(some["source"]))),
         "models": ", ".join(sorted(set(some["model"].dropna()))), "first_id": some["id"].iloc[0], "last_id": some["id"].iloc[-1],
         "place": some["place"].iloc[0]}
        for _, some in double.groupby([one[double.index] for one in key])
    ]  # fmt: skip
    columns = ["query", "copies", "sources", "models", "first_id", "last_id", "place"]
    found = pd.DataFrame(rows, columns=columns).sort_values(["copies", "place"], ascending=[False, True])
    return found.drop(columns="place").head(50)


def contradictory_ratings(frames: Frames) -> pd.DataFrame:
    steps = frames("reasoning_steps", "id", "chat_id", "step_content").rename(columns={"id": "step_id"})
    steps["place"] = range(len(steps))
    steps = steps[steps.duplicated("step_content", keep=False)]
    ratings = _ratings(frames, "step_id", "rater", "feedback_score").merge(steps, on="step_id")
    per = ratings.groupby(["rater", "step_content"])
    found = per.agg(
        ratings=("score", "count"), lowest=("score", "min"), highest=("score", "max"), place=("place", "min")
    ).reset_index()
    found = found.merge(steps[["place", "chat_id"]], on="place")
    found["spread"] = found["highest"] - found["lowest"]
    found = found[found["spread"] >= 3].sort_values(["spread", "ratings", "rater", "place"], ascending=[False, False, True, True])
    return found[["rater", "step_content", "ratings", "lowest", "highest", "chat_id"]].head(50)


def length_against_score(frames: Frames) -> pd.DataFrame:
    ratings = _ratings(frames, "chat_id", "step_id", "feedback_score")
    steps, chats = frames("reasoning_steps", "id", "step_content"), frames("chats", "id", "response")
    of_steps = ratings["step_id"].map(steps.set_index("id")["step_content"].str.len())
    of_chats = ratings["chat_id"].map(chats.set_index("id")["response"].str.len())
    chars = of_steps.fillna(of_chats).astype(float).clip(lower=1)
    ratings["judged"] = np.where(ratings["step_id"].isna(), "answer", "step")
    ratings["size"], ratings["x"] = np.floor(np.log2(chars)), np.log(chars)
    found = (
        ratings.groupby(["judged", "size"])["score"]
        .agg(mean_score="mean", sd=lambda one: one.std(ddof=0), ratings="count")
        .reset_index()
    )
    half = 1.96 * found["sd"] / np.sqrt(found["ratings"])
    found["low"], found["high"] = (found["mean_score"] - half).clip(lower=1), (found["mean_score"] + half).clip(upper=5)
    found["chars"] = (2 ** found["size"]).astype(int)
    with np.errstate(invalid="ignore", divide="ignore"):
        related = {kind: some["x"].corr(some["score"].astype(float)) for kind, some in ratings.groupby("judged")}
    found["correlation"] = found["judged"].map(related)
    return found[["judged", "chars", "mean_score", "low", "high", "ratings", "correlation"]]


def model_generations(frames: Frames) -> pd.DataFrame:
    chats = frames("chats", "id", "model", "created_at").rename(columns={"id": "chat_id"})
    chats = chats[chats["model"].notna()]
    ratings = _ratings(frames, "chat_id", "feedback_score").merge(chats[["chat_id", "model"]], on="chat_id")
    found = margin(_per(ratings, ["model", "chat_id"]), "model").reset_index()
    found["since"] = found["model"].map(_day(chats["created_at"]).groupby(chats["model"]).min())
    found = found.sort_values(["since", "model"]).reset_index(drop=True)
    found["generation"], found["gain"] = found.index + 1, found["mean_score"].diff()
    half = np.sqrt(found["half"] ** 2 + found["half"].shift() ** 2)
    found["gain_low"], found["gain_high"] = found["gain"] - half, found["gain"] + half
    return found[
        ["generation", "model", "since", "mean_score", "low", "high", "gain", "gain_low", "gain_high", "ratings", "chats"]
    ]


def consent_coverage(frames: Frames) -> pd.DataFrame:
    people = frames("people", "rater", "consent")
    said = frames("chat_feedback", "rater")["rater"].value_counts()
    own = frames("chats", "owner")["owner"].value_counts()
    rows = people["rater"].map(said).fillna(people["rater"].map(own)).fillna(0)
    is_owner = people["rater"].isin(own.index) & ~people["rater"].isin(said.index)
    frame = pd.DataFrame(
        {"role": np.where(is_owner, "owner", "rater"), "consent": people["consent"].fillna("not asked"), "rows": rows}
    )
    return frame.groupby(["role", "consent"])["rows"].agg(people="count", rows="sum").astype(int).reset_index()


def disputed_steps(frames: Frames) -> pd.DataFrame:
    ratings = _ratings(frames, "step_id", "feedback_score")
    per = (
        ratings[ratings["step_id"].notna()]
        .groupby("step_id")["score"]
        .agg(ratings="count", lowest="min", highest="max")
        .reset_index()
    )
    per["spread"] = per["highest"] - per["lowest"]
    per = per[per["spread"] >= 2]
    steps = frames("reasoning_steps", "id", "chat_id", "step_order", "step_content").rename(columns={"id": "step_id"})
    steps["place"] = range(len(steps))
    per = per.merge(steps, on="step_id").sort_values(["spread", "ratings", "place"], ascending=[False, False, True]).head(20)
    per = per.merge(frames("chats", "id", "query").rename(columns={"id": "chat_id"}), on="chat_id")
    decisions = frames("decisions", "step_id", "kind", "value")
    decided = decisions[(decisions["kind"] == "score") & decisions["step_id"].notna()].set_index("step_id")["value"].astype(int)
    per["decided"] = per["step_id"].map(decided)
    return per[["query", "step_order", "step_content", "ratings", "lowest", "highest", "decided", "chat_id"]]


def straight_lining(frames: Frames) -> pd.DataFrame:
    rated = _steps_rated(frames, "chat_id", "rater", "created_at")
    chats = frames("chats", "id").reset_index().rename(columns={"id": "chat_id", "index": "chat_no"})
    rated = rated.merge(chats, on="chat_id")
    per = rated.groupby(["rater", "chat_id"])["score"].agg(n="count", low="min", high="max").reset_index()
    per = per[per["n"] >= 3].assign(one=lambda frame: frame["low"] == frame["high"])
    found = per.groupby("rater")["one"].agg(chats="count", one_score="sum", share="mean")
    rated = rated.sort_values(["rater", "created_at", "chat_no", "step_order"])
    begins = (rated["score"] != rated["score"].shift()) | (rated["rater"] != rated["rater"].shift())
    found["longest_run"] = begins.cumsum().groupby(rated["rater"]).agg(lambda run: run.value_counts().max()).reindex(found.index)
    counts = (
        rated.groupby(["rater", "score"]).size().rename("n").reset_index().sort_values(["n", "score"], ascending=[False, True])
    )
    found["commonest_score"] = counts.drop_duplicates("rater").set_index("rater")["score"].reindex(found.index)
    return found.reset_index().sort_values(["share", "longest_run", "rater"], ascending=[False, False, True])


def rater_pace(frames: Frames) -> pd.DataFrame:
    looks = frames("label_events", "step_id", "rater", "kind", "value")
    people = frames("people", "rater", "origin")
    visitors = people.loc[people["origin"] == "application", "rater"]
    looks = looks[(looks["kind"] == "dwell") & looks["value"].between(1, 300_000) & ~looks["rater"].isin(visitors)]
    steps = frames("reasoning_steps", "id", "step_content").rename(columns={"id": "step_id"})
    looks = looks.merge(steps.assign(chars=steps["step_content"].str.len())[["step_id", "chars"]], on="step_id")
    looks["seconds"] = looks["value"] / 1000
    looks["slowness"], looks["quick"] = 100 * looks["seconds"] / looks["chars"], looks["chars"] / looks["seconds"] > 60
    groups = looks.groupby("rater")
    found = groups.agg(
        looks=("seconds", "count"),
        median_s=("seconds", "median"),
        s_per_100_chars=("slowness", "median"),
        quick=("quick", "mean"),
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        found["length_correlation"] = pd.Series({
            rater: some["seconds"].rank().corr(some["chars"].rank()) if len(some) > 2 else np.nan for rater, some in groups
        }, dtype=float)  # fmt: skip
    found = found.reset_index().sort_values(["median_s", "rater"])
    return found[["rater", "looks", "median_s", "s_per_100_chars", "length_correlation", "quick"]]


def implicit_signals(frames: Frames) -> pd.DataFrame:
    events = frames("label_events", "chat_id", "rater", "kind", "value").merge(frames("people", "rater", "origin"), on="rater")
    events = events[events["origin"] == "application"]
    ratings = frames("chat_feedback", "chat_id", "feedback_score")
    rows = []
    for kind, some in events.groupby("kind"):
        with_it = ratings["chat_id"].isin(some["chat_id"])
        rows.append((
            kind, len(some), some["chat_id"].nunique(), some["rater"].nunique(), some["value"].median(),
            ratings.loc[with_it, "feedback_score"].mean(), ratings.loc[~with_it, "feedback_score"].mean(),
        ))  # fmt: skip
    names = ["signal", "times", "chats", "people", "median_value", "mean_score", "other_mean"]
    return pd.DataFrame(rows, columns=names).sort_values(["times", "signal"], ascending=[False, True])


def position_bias(frames: Frames) -> pd.DataFrame:
    preferences = frames("preferences", "chat_id", "other_id", "step_order", "aspect", "rater", "verdict", "shown_left")
    whole = preferences[preferences["step_order"].isna() & (preferences["aspect"] == "")].copy()
    whole["preferred"] = whole["verdict"].isin(["chat", "other"])
    winner = whole["chat_id"].where(whole["verdict"] == "chat", whole["other_id"])
    whole["left"] = (winner == whole["shown_left"]).astype(float).where(whole["preferred"] & whole["shown_left"].notna())
    found = whole.groupby("rater").agg(pairs=("verdict", "count"), preferred=("preferred", "sum"), left_share=("left", "mean"))
    found["undecided"] = 1 - found["preferred"] / found["pairs"]
    return found.reset_index().sort_values(["pairs", "rater"], ascending=[False, True])


def gold_over_time(frames: Frames) -> pd.DataFrame:
    results = frames("gold_results", "rater", "asked", "matched", "at")
    results["day"] = _day(results["at"])
    found = (
        results.groupby(["day", "rater"])
        .agg(items=("asked", "count"), asked=("asked", "sum"), right=("matched", "sum"))
        .reset_index()
    )
    found["right"] = found["right"] / found["asked"]
    return found[["rater", "day", "items", "asked", "right"]]


def hint_flips(frames: Frames) -> pd.DataFrame:
    hints = frames("hints_shown", "checkpoint_id", "chat_id", "other_id", "step_id", "rater", "reward", "said")
    ratings = _ratings(frames, "chat_id", "step_id", "rater", "feedback_score")
    scores = {
        (chat, None if pd.isna(step) else step, rater): score for chat, step, rater, score in ratings.itertuples(index=False)
    }
    preferences = frames("preferences", "chat_id", "other_id", "step_order", "aspect", "rater", "verdict")
    whole = preferences[preferences["step_order"].isna() & (preferences["aspect"] == "")]
    verdicts = {(one.chat_id, one.other_id, one.rater): one.verdict for one in whole.itertuples()}
    worth = {"chat": 1, "other": -1, "tie": 0, "both_bad": 0}
    rows = []
    for one in hints.itertuples():
        if pd.isna(one.other_id):
            now: Any = scores.get((one.chat_id, None if pd.isna(one.step_id) else one.step_id, one.rater))
            flipped, move, pull = str(now) != one.said, (now or np.nan) - int(one.said), np.sign(one.reward - int(one.said))
        else:
            now = verdicts.get((one.chat_id, one.other_id, one.rater))
            flipped, move, pull = now != one.said, worth.get(now, np.nan) - worth.get(one.said, 0), np.sign(one.reward)
        kind = "score" if pd.isna(one.other_id) else "preference"
        rows.append((one.checkpoint_id, kind, flipped, float(np.nan_to_num(np.sign(move)) == pull) if flipped else np.nan))
    frame = pd.DataFrame(rows, columns=["checkpoint_id", "kind", "flipped", "toward"])
    found = frame.groupby(["checkpoint_id", "kind"]).agg(
        shown=("flipped", "count"), changed=("flipped", "sum"), flip_rate=("flipped", "mean"), toward=("toward", "mean")
    )  # fmt: skip
    return found.reset_index()


ANSWERS: dict[str, Answer] = {
    answer.__name__: answer
    for answer in (
        scores_over_time, score_distribution, scores_by_step_position, scores_by_step_spread, most_problematic_steps,
        problem_themes, first_error_position, scores_by_source, scores_by_model, scores_by_aspect, rater_workload, rater_leniency,
        rater_agreement, coverage, missing_ratings, staleness, score_drift, duplicate_answers, contradictory_ratings,
        length_against_score, model_generations, consent_coverage, disputed_steps, straight_lining, rater_pace, position_bias,
        gold_over_time, hint_flips, implicit_signals,
    )
}  # fmt: skip


def same(answer: pd.DataFrame, expected: pd.DataFrame) -> str:
    """What differs, or nothing."""
    if list(answer.columns) != list(expected.columns):
        return f"columns {list(answer.columns)} and {list(expected.columns)}"
    if len(answer) != len(expected):
        return f"{len(answer)} rows and {len(expected)}"
    for name in answer.columns:
        one, other = answer[name].reset_index(drop=True), expected[name].reset_index(drop=True)
        if pd.api.types.is_numeric_dtype(other) and not pd.api.types.is_bool_dtype(other):
            close = np.isclose(one.astype(float), other.astype(float), rtol=1e-6, atol=1e-9, equal_nan=True)
        elif pd.api.types.is_datetime64_any_dtype(other):
            close = pd.to_datetime(one).to_numpy("datetime64[D]") == other.to_numpy("datetime64[D]")
        else:
            close = one.astype(str).to_numpy() == other.astype(str).to_numpy()
        if not close.all():
            at = int(np.argmin(close))
            return f"{name}, row {at}: {one[at]!r} and {other[at]!r}"
    return ""
