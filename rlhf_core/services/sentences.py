"""What an answer shows, and how sure it is, in one plain sentence a question."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


def _between(row: Any) -> str:
    if row["low"] != row["low"]:  # one chat only: nothing is known of how others would differ
        return f"{row['mean_score']:.2f} stars"
    return f"{row['mean_score']:.2f} stars (95% interval {row['low']:.2f} to {row['high']:.2f})"


def _apart(one: Any, other: Any) -> str:
    """Whether two means are surely apart."""
    if one["low"] != one["low"] or other["low"] != other["low"]:
        return "there is too little to say whether that is chance"
    return (
        "their intervals do not overlap"
        if one["low"] > other["high"] or other["low"] > one["high"]
        else "their intervals overlap, so it may be chance"
    )


ENOUGH_CHATS = 10  # of which a sign is compared with others
ENOUGH = 30  # ratings from which a group is spoken of, if any group has as many: of a few the interval itself is unsure


def _known(frame: Any) -> Any:
    """The groups that one can speak of."""
    known = frame[frame["low"].notna()] if frame["low"].notna().any() else frame
    return known[known["ratings"] >= ENOUGH] if (known["ratings"] >= ENOUGH).any() else known


def _scores_over_time(frame: Any) -> str:
    first, last = frame.iloc[0], frame.iloc[-1]
    if len(frame) == 1:
        return f"All ratings are of one period: {_between(first)}."
    return f"From {_between(first)} at first to {_between(last)} at last: {_apart(first, last)}."


def _score_distribution(frame: Any) -> str:
    total = frame["ratings"].sum()
    bad, good = (frame.loc[some, "ratings"].sum() / total for some in (frame["score"] <= 2, frame["score"] >= 4))
    return f"{good:.0%} of {total:,} judgements are good (4 or 5 stars), {bad:.0%} bad (1 or 2)."


def _scores_by_step_position(frame: Any) -> str:
    known = _known(frame)
    low, high = known.loc[known["mean_score"].idxmin()], known.loc[known["mean_score"].idxmax()]
    if len(frame) == 1:
        return f"Only step {int(low['step_order'])} is rated: {_between(low)}."
    of = f"Of steps with {ENOUGH} ratings or more, step" if len(known) < len(frame) else "Step"
    return f"{of} {int(low['step_order'])} scores lowest, {_between(low)}; step {int(high['step_order'])} highest, {_between(high)}: {_apart(high, low)}."


def _scores_by_step_spread(frame: Any) -> str:
    ratings = frame.groupby("step_order")["ratings"].sum()
    steps = ratings.index[ratings >= min(ENOUGH, ratings.max())]
    bad = frame[(frame["score"] <= 2) & frame["step_order"].isin(steps)].groupby("step_order")["share"].sum()
    if bad.empty:
        return "No step was given a bad score."
    few = f" of those with {min(ENOUGH, ratings.max())} ratings or more" if len(steps) < len(ratings) else ""
    return f"Step {int(bad.idxmax())} is found bad most often{few}: {bad.max():.0%} of its scores are 1 or 2 stars."


def _most_problematic_steps(frame: Any) -> str:
    first = frame.iloc[0]
    return f"The lowest scored step has a shrunken mean of {first['shrunken_score']:.2f} stars from {int(first['ratings'])} ratings; a few ratings alone do not lead this list."


def _problem_themes(frame: Any) -> str:
    frame.iloc[0]
    clear = frame[frame["z"] > 3]
    if clear.empty:
        return "No word stands in bad steps so much more often than in good ones that it could not be chance."
    return f"{len(clear)} words stand in bad steps more often than chance would have it, first of all: {', '.join(clear['word'].head(5))}."


def _first_error_position(frame: Any) -> str:
    frame.iloc[0]
    at = frame.loc[frame["first_errors"].idxmax()]
    clean = 1 - frame["share"].sum()
    reached = frame[frame["reached"] >= min(ENOUGH, frame["reached"].max())]
    worst = reached.loc[reached["hazard"].idxmax()]
    few = f" of those that {ENOUGH} judgements or more reach" if len(reached) < len(frame) else ""
    return f"Most first errors, {int(at['first_errors']):,}, stand at step {int(at['step_order'])}, which most answers reach; of answers right until then step {int(worst['step_order'])} goes wrong most often{few}, {worst['hazard']:.0%}. In {clean:.0%} people found none."


def _scores_by_what(frame: Any, what: str) -> str:
    ranked = _known(frame).sort_values("mean_score")
    low, high = ranked.iloc[0], ranked.iloc[-1]
    if len(ranked) == 1:
        return f"Everything rated is of one {what}, {low[what]}, or nearly so: {_between(low)}."
    return f"{high[what]} scores highest, {_between(high)}, {low[what]} lowest, {_between(low)}: {_apart(high, low)}."


def _scores_by_aspect(frame: Any) -> str:
    low = frame.loc[frame["mean_score"].idxmin()]
    return f"The weakest aspect is {low['aspect']}, {_between(low)}."


def _rater_workload(frame: Any) -> str:
    most = frame["share"].max()
    return f"{len(frame)} raters; the busiest gave {most:.0%} of all ratings" + (
        ", so the data speak mostly with one voice." if most > 0.5 else "."
    )


def _rater_leniency(frame: Any) -> str:
    known = frame[frame["leniency"].notna()]
    if known.empty:
        return "No two raters judged the same thing, so nobody can be called mild or harsh."
    far = known.loc[known["leniency"].abs().idxmax()]
    sure = "surely" if abs(far["leniency"]) > far["margin"] else "perhaps by chance"
    return f"The rater furthest from the others scores {far['leniency']:+.2f} stars, {sure}."


def _rater_agreement(frame: Any) -> str:
    last = frame.iloc[-1]
    return f"On average raters are {(frame['distance'] * frame['things_in_common']).sum() / frame['things_in_common'].sum():.2f} stars from the others' mean; the furthest is {last['distance']:.2f} away."


def _coverage(frame: Any) -> str:
    rated = frame[frame["kind"] == "source"]
    share = rated["rated"].sum() / rated["chats"].sum()
    big = frame[(frame["chats_share"] >= 0.05) & frame["represented"].notna()]
    text = f"{share:.0%} of all chats have a rating."
    if len(big):
        least = big.loc[big["represented"].idxmin()]
        if least["represented"] < 0.8:
            text += f" Least represented: {least['kind']} {least['value']}, with {least['represented']:.1f} times its share of the chats."
    return text


def _missing_ratings(frame: Any) -> str:
    nothing = frame.loc[frame["state"] == "nothing", "share"].sum()
    return f"Nobody has rated {nothing:.0%} of the chats; {frame.loc[frame['state'] == 'everything', 'share'].sum():.0%} are rated wholly by somebody."


def _staleness(frame: Any) -> str:
    return f"{frame.loc[frame['age_months'] < 3, 'ratings_share'].sum():.0%} of the ratings are of the newest 90 days."


def _score_drift(frame: Any) -> str:
    _first, last = frame.iloc[0], frame.iloc[-1]
    if len(frame) == 1:
        return "All ratings are of one period, so there is no drift to see."
    far = frame.loc[frame["psi"].idxmax()]
    return f"Against the first period the spread of scores is now {last['verdict']} (index {last['psi']:.2f}, mean {last['change']:+.2f} stars); at most it was {far['psi']:.2f}."


def _duplicate_answers(frame: Any) -> str:
    return f"{len(frame)} answers occur more than once; count their ratings once, or remove the copies."


def _contradictory_ratings(frame: Any) -> str:
    return f"{len(frame)} times somebody gave very different scores to the same words."


def _disputed_steps(frame: Any) -> str:
    open_ones = int(frame["decided"].isna().sum())
    return f"On {len(frame)} steps raters differ by 2 stars or more; {open_ones} of them are not decided."


def _length_against_score(frame: Any) -> str:
    kinds = frame.drop_duplicates("judged").set_index("judged")["correlation"].dropna()
    words = {
        kind: "longer ones score higher" if r > 0.1 else "longer ones score lower" if r < -0.1 else "length hardly matters"
        for kind, r in kinds.items()
    }
    return (
        " ".join(f"For {kind}s {words[kind]} (correlation {r:+.2f})." for kind, r in kinds.items())
        or "All are of one length or one score."
    )


def _model_generations(frame: Any) -> str:
    first, last = frame.iloc[0], frame.iloc[-1]
    if len(frame) == 1:
        return f"There is one model, {first['model']}: {_between(first)}."
    sure = "surely better" if last["gain_low"] > 0 else "surely worse" if last["gain_high"] < 0 else "not surely different"
    return f"The newest model, {last['model']}, scores {last['gain']:+.2f} stars against the one before ({last['gain_low']:+.2f} to {last['gain_high']:+.2f}): {sure}."


def _straight_lining(frame: Any) -> str:
    first = frame.iloc[0]
    return f"The rater who varies least gave one score to every step in {first['share']:.0%} of {int(first['chats'])} chats."


def _rater_pace(frame: Any) -> str:
    first, last = frame.iloc[0], frame.iloc[-1]
    return (
        f"The quickest rater looks {first['median_s']:.1f} s at a step, the slowest {last['median_s']:.1f} s (medians)."
        if len(frame) > 1
        else f"One rater's time is known: {first['median_s']:.1f} s a step (median)."
    )


def _position_bias(frame: Any) -> str:
    known = frame[frame["left_share"].notna()]
    return (
        f"The left answer won {int((known['left_share'] * known['preferred']).sum().round()):,} of {int(known['preferred'].sum()):,} decided pairs, too few to tell."
        if len(known) and known["preferred"].sum() < ENOUGH
        else f"The left answer won {(known['left_share'] * known['preferred']).sum() / known['preferred'].sum():.0%} of {int(known['preferred'].sum())} decided pairs; 50% is even."
        if len(known)
        else ""
    )


def _gold_over_time(frame: Any) -> str:
    return f"{(frame['right'] * frame['asked']).sum() / frame['asked'].sum():.0%} of what is known was answered right."


def _implicit_signals(frame: Any) -> str:
    first = frame.iloc[0]
    common = f"commonest sign is {first['signal']}, {int(first['times']):,} times."
    known = frame[frame["chats"] >= ENOUGH_CHATS]
    gaps = (known["mean_score"] - known["other_mean"]).set_axis(known["signal"]).dropna()
    if gaps.empty:
        return f"The {common} {ENOUGH_CHATS} chats with a sign are the least to compare their stars with others'."
    apart = gaps.abs().idxmax()
    return f"Answers with {apart} are rated {gaps[apart]:+.2f} stars against others; the {common}"


def _consent_coverage(frame: Any) -> str:
    given = frame.loc[frame["consent"] == "given", "people"].sum() / frame["people"].sum()
    return f"{given:.0%} of the people in it have said yes."


SAYS: dict[str, Callable[[Any], str]] = {
    "scores_over_time": _scores_over_time,
    "score_distribution": _score_distribution,
    "scores_by_step_position": _scores_by_step_position,
    "scores_by_step_spread": _scores_by_step_spread,
    "most_problematic_steps": _most_problematic_steps,
    "problem_themes": _problem_themes,
    "first_error_position": _first_error_position,
    "scores_by_source": partial(_scores_by_what, what="source"),
    "scores_by_model": partial(_scores_by_what, what="model"),
    "scores_by_aspect": _scores_by_aspect,
    "rater_workload": _rater_workload,
    "rater_leniency": _rater_leniency,
    "rater_agreement": _rater_agreement,
    "coverage": _coverage,
    "missing_ratings": _missing_ratings,
    "staleness": _staleness,
    "score_drift": _score_drift,
    "duplicate_answers": _duplicate_answers,
    "contradictory_ratings": _contradictory_ratings,
    "disputed_steps": _disputed_steps,
    "length_against_score": _length_against_score,
    "model_generations": _model_generations,
    "straight_lining": _straight_lining,
    "rater_pace": _rater_pace,
    "position_bias": _position_bias,
    "gold_over_time": _gold_over_time,
    "implicit_signals": _implicit_signals,
    "consent_coverage": _consent_coverage,
}  # by the name of the question


def sentence(name: str, frame: Any) -> str:
    """What an answer (a data frame) shows, and how sure it is, in plain words; empty for questions that have none."""
    if frame.empty:
        return "Nothing to say yet: there are no such ratings here."
    return SAYS[name](frame) if name in SAYS else ""
