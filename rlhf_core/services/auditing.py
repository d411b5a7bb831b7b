"""How far the feedback of a snapshot can be trusted: findings, each with a figure, a severity and what to do, to be handed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rlhf_core.analytics.agreement import measure
from rlhf_core.ground.records import utc_now
from rlhf_core.services import exploring, snapshots
from rlhf_core.services.workbench import Workbench

Severity = Literal["act", "look", "fine", "unknown"]
ORDER: tuple[Severity, ...] = ("act", "look", "unknown", "fine")
MEANING: dict[Severity, str] = {
    "act": "act before training on it", "look": "worth a look", "unknown": "cannot be said yet", "fine": "fine",
}  # fmt: skip


Place = Literal["queues", "disputes", "models"]  # pages


@dataclass(frozen=True, slots=True)
class Finding:
    """``question``: the named question with the numbers behind it, if one has them; ``follow``: where what to do is done, if
    anything is."""

    topic: str
    severity: Severity
    found: str
    todo: str
    question: str | None = None
    follow: Place | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    snapshot_id: str
    taken_at: str
    ratings: int
    raters: int
    chats: int
    findings: list[Finding]

    def markdown(self) -> str:
        """The report as a document."""
        lines = [
            "# Data quality report", "",
            f"Snapshot `{self.snapshot_id}`, taken {self.taken_at[:19]}Z: {self.ratings:,} ratings by {self.raters:,} raters, "
            f"{self.chats:,} chats. Made {utc_now()[:19]}Z by RLHF Workbench.", "",
            "| | topic | found | what to do |", "| --- | --- | --- | --- |",
        ]  # fmt: skip
        for one in self.findings:
            cells = (MEANING[one.severity], one.topic, one.found, one.todo)
            lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
        lines += ["", "Numbers behind each finding:", ""]
        names = list(dict.fromkeys(one.question for one in self.findings if one.question))
        lines += [f"- `python -m rlhf_core query {name} --snapshot {self.snapshot_id}`" for name in names]
        return "\n".join(lines) + "\n"


def audit(workbench: Workbench, snapshot_id: str) -> Audit:
    """Look at one snapshot."""
    snapshot = snapshots.find(workbench, snapshot_id)

    def ask(name: str) -> Any:
        return exploring.answer(workbench, snapshot.id, name)

    findings = [
        _amount(snapshot.ratings, snapshot.rows["chats"], ask("missing_ratings")),
        _represented(ask("coverage")),
        _agreement(workbench, snapshot_id),
        *_raters(ask("rater_workload"), ask("rater_leniency"), ask("straight_lining")),
        _length(ask("length_against_score")),
        _contradictions(ask("contradictory_ratings"), ask("disputed_steps")),
        _duplicates(ask("duplicate_answers"), snapshot.rows["chats"]),
        _stale(ask("staleness")),
        _drift(ask("score_drift")),
        _consent(ask("consent_coverage")),
        _demo(snapshot.facts, snapshot.ratings),
    ]
    if not ask("position_bias").empty:
        findings.append(_position(ask("position_bias")))
    if not ask("gold_over_time").empty:
        findings.append(_gold(ask("gold_over_time")))
    findings.sort(key=lambda one: ORDER.index(one.severity))
    facts = snapshot.facts
    return Audit(snapshot.id, snapshot.created_at, snapshot.ratings, facts["raters"], snapshot.rows["chats"], findings)


def _amount(ratings: int, chats: int, missing: Any) -> Finding:
    topic, question = "Missing ratings", "missing_ratings"
    if ratings == 0:
        return Finding(topic, "act", f"Nobody has rated any of the {chats:,} chats.", "Label some chats first.", question)
    share = float(missing.loc[missing["state"] == "nothing", "share"].sum())
    found = f"{share:.0%} of the {chats:,} chats have no rating; there are {ratings:,} ratings."
    if ratings < 200:
        return Finding(
            topic, "act", found, "Below about 200 ratings a reward model learns next to nothing: label more.", question
        )
    severity: Severity = "look" if share > 0.5 else "fine"
    return Finding(
        topic, severity, found, "Put the unrated chats into a queue." if share > 0.5 else "Nothing.", question, "queues"
    )


def _represented(coverage: Any) -> Finding:
    topic = "Representativeness"
    known = coverage[coverage["represented"].notna() & (coverage["chats_share"] >= 0.05)]
    if known.empty:
        return Finding(topic, "unknown", "Nothing is rated.", "Label some chats first.", "coverage")
    least = known.loc[known["represented"].idxmin()]
    most = known.loc[known["represented"].idxmax()]
    found = (
        f"Least represented: {least['kind']} {least['value']} ({least['represented']:.2f} times its share of the chats); most: "
        f"{most['kind']} {most['value']} ({most['represented']:.2f} times)."
    )
    severity: Severity = "act" if least["represented"] < 0.33 else "look" if least["represented"] < 0.67 else "fine"
    todo = "Nothing." if severity == "fine" else f"Make a queue of chats with {least['kind']} {least['value']}."
    return Finding(topic, severity, found, todo, "coverage", "queues")


def _agreement(workbench: Workbench, snapshot_id: str) -> Finding:
    topic = "Agreement against chance"
    alpha = measure(snapshots.find(workbench, snapshot_id), "steps")[0].alpha
    if alpha.value is None or alpha.low is None or alpha.high is None:
        return Finding(
            topic, "unknown", f"It cannot be measured: {alpha.why}.", "Let two people rate the same chats (overlap 2)."
        )
    found = f"Krippendorff's alpha of steps is {alpha.value:.2f} (95% interval {alpha.low:.2f} to {alpha.high:.2f}); 0 is chance, 1 full."
    severity: Severity = "fine" if alpha.low >= 0.667 else "look" if alpha.high >= 0.4 else "act"
    todo = "Nothing." if severity == "fine" else "Write down what each score means (a rubric with anchors), and settle disputes."
    return Finding(topic, severity, found, todo)


def _raters(work: Any, leniency: Any, lines: Any) -> list[Finding]:
    if work.empty:
        return [Finding("Bias by rater", "unknown", "There are no raters yet.", "Label some chats first.", "rater_leniency")]
    share = float(work["share"].max())
    severity: Severity = "act" if len(work) == 1 else "look" if share > 0.5 else "fine"
    found = [
        Finding(
            "Concentration", severity, f"{len(work)} raters; the busiest gave {share:.0%} of the ratings.",
            "Nothing." if severity == "fine" else "Ask more people: a model of one person's taste is not a model of people's.",
            "rater_workload",
        )
    ]  # fmt: skip
    known = leniency[leniency["leniency"].notna() & leniency["margin"].notna() & (leniency["things_in_common"] >= 10)]
    if known.empty:
        found.append(
            Finding(
                "Bias by rater", "unknown", "No two raters judged ten things in common.", "Give queues an overlap of 2 or more.",
                "rater_leniency", "queues",
            )
        )  # fmt: skip
    else:
        sure = known[known["leniency"].abs() > known["margin"]]
        far = float(sure["leniency"].abs().max()) if len(sure) else 0.0
        severity = "act" if far >= 1 else "look" if far >= 0.4 else "fine"
        found.append(
            Finding(
                "Bias by rater", severity,
                f"{len(sure)} of {len(known)} raters surely score apart from the others, by up to {far:.2f} stars{', which is little' if severity == 'fine' and len(sure) else ''}.",
                "Nothing." if severity == "fine" else "Show them the anchors; learn with the rater's leniency taken off.",
                "rater_leniency",
            )
        )  # fmt: skip
    careless = lines[(lines["chats"] >= 10) & (lines["share"] > 0.9)]
    if len(careless):
        found.append(
            Finding(
                "Straight-lining", "look", f"{len(careless)} raters gave one score to every step in over 90% of their chats.",
                "Slip known answers into their queue, and compare.", "straight_lining", "queues",
            )
        )  # fmt: skip
    return found


def _length(lengths: Any) -> Finding:
    topic = "Bias by length"
    known = lengths[lengths["correlation"].notna()].drop_duplicates("judged")
    if known.empty:
        return Finding(
            topic, "unknown", "All texts are of one length, or all scores are the same.", "Nothing.", "length_against_score"
        )
    far = known.loc[known["correlation"].abs().idxmax()]
    r = float(far["correlation"])
    severity: Severity = "act" if abs(r) >= 0.4 else "look" if abs(r) >= 0.2 else "fine"
    todo = (
        "Nothing." if severity == "fine" else "Compare the trained model's accuracy with that of length alone before trusting it."
    )
    return Finding(
        topic, severity, f"Score and length of {far['judged']}s correlate at {r:+.2f}.", todo, "length_against_score", "models"
    )


def _contradictions(contradictory: Any, disputed: Any) -> Finding:
    open_ones = int(disputed["decided"].isna().sum()) if len(disputed) else 0
    severity: Severity = "look" if len(contradictory) or open_ones else "fine"
    times = f"{len(contradictory)} times somebody" if len(contradictory) else "Nobody"
    some = f"at least {open_ones} steps are disputed and not decided" if open_ones else "no dispute is open"
    found = f"{times} gave the same words scores 3 or more stars apart; {some}."
    return Finding(
        "Contradictions",
        severity,
        found,
        "Settle them on the page Disputes." if severity == "look" else "Nothing.",
        "contradictory_ratings",
        "disputes",
    )


def _duplicates(duplicates: Any, chats: int) -> Finding:
    copies = int(duplicates["copies"].sum() - len(duplicates)) if len(duplicates) else 0
    severity: Severity = "act" if copies > 0.05 * chats else "look" if copies else "fine"
    todo = (
        "Nothing."
        if not copies
        else "Splits are by question, so they do not leak; remove copies so that they do not count double."
    )
    return Finding("Duplicates", severity, f"{copies} answers are copies of another one.", todo, "duplicate_answers")


def _stale(ages: Any) -> Finding:
    topic = "Staleness"
    if ages.empty or not ages["ratings"].sum():
        return Finding(topic, "unknown", "There are no ratings.", "Label some chats first.", "staleness")
    fresh = float(ages.loc[ages["age_months"] < 6, "ratings_share"].sum())
    severity: Severity = "look" if fresh < 0.25 else "fine"
    todo = "Nothing." if severity == "fine" else "Label chats of the newest months: people ask other things than they did."
    return Finding(topic, severity, f"{fresh:.0%} of the ratings are of the newest 180 days.", todo, "staleness")


FEWEST_OF_A_PERIOD = 100  # ratings of one person on a few chats move any index


def _drift(drift: Any) -> Finding:
    topic = "Drift"
    if len(drift) < 2:
        return Finding(topic, "unknown", "All ratings are of one period.", "Nothing.", "score_drift")
    last = drift.iloc[-1]
    if last["ratings"] < FEWEST_OF_A_PERIOD:
        words = (
            f"The newest period has {last['ratings']:,} ratings; {FEWEST_OF_A_PERIOD} are the least to tell whether scores moved."
        )
        return Finding(topic, "unknown", words, "Nothing.", "score_drift")
    severity: Severity = {"steady": "fine", "moving": "look", "moved": "look"}[last["verdict"]]  # type: ignore[assignment]
    todo = (
        "Nothing." if severity == "fine" else "See whether chats, raters or the model changed: scores by source, rater and model."
    )
    return Finding(
        topic,
        severity,
        f"Against the first period scores have {last['verdict']} (index {last['psi']:.2f}).".replace(
            "have steady", "stayed steady"
        ).replace("have moving", "begun to move"),
        todo,
        "score_drift",
    )


def _consent(consent: Any) -> Finding:
    people = int(consent["people"].sum()) if len(consent) else 0
    if not people:
        return Finding("Consent", "unknown", "Nobody is in it.", "Nothing.", "consent_coverage")
    given = int(consent.loc[consent["consent"] == "given", "people"].sum())
    unasked = int(consent.loc[consent["consent"] == "not asked", "people"].sum())
    severity: Severity = "look" if unasked else "fine"
    todo = "Ask them: each person says so on My work." if unasked else "Nothing."
    return Finding(
        "Consent", severity, f"{given} of {people} people have agreed, {unasked} were never asked.", todo, "consent_coverage"
    )


def _demo(facts: dict[str, Any], ratings: int) -> Finding:
    demo = int(facts["demo_ratings"])
    severity: Severity = "act" if demo and demo >= 0.05 * ratings else "look" if demo else "fine"
    todo = "Do not train a model for people on it: those raters are invented." if demo else "Nothing."
    return Finding(
        "Fictional ratings",
        severity,
        f"{demo:,} of {ratings:,} ratings are by the demo set's fictional raters.",
        todo,
        "rater_workload",
    )


def _position(bias: Any) -> Finding:
    known = bias[bias["left_share"].notna()]
    n = int(known["preferred"].sum())
    if not n:
        return Finding("Bias by side", "unknown", "No pair was decided with its sides known.", "Nothing.", "position_bias")
    share = float((known["left_share"] * known["preferred"]).sum() / n)
    margin = 1.96 * (0.25 / n) ** 0.5
    severity: Severity = "look" if abs(share - 0.5) > margin else "fine"
    todo = "Nothing." if severity == "fine" else "Sides are drawn by lot, so it evens out; tell raters to read both."
    return Finding(
        "Bias by side",
        severity,
        f"The left answer won {share:.0%} of {n} decided pairs (50% is even, give or take {margin:.0%}).",
        todo,
        "position_bias",
    )


def _gold(gold: Any) -> Finding:
    right = float((gold["right"] * gold["asked"]).sum() / gold["asked"].sum())
    severity: Severity = "act" if right < 0.6 else "look" if right < 0.8 else "fine"
    todo = "Nothing." if severity == "fine" else "See who, and whether the known answers themselves hold."
    return Finding("Known answers", severity, f"{right:.0%} of what is known was answered right.", todo, "gold_over_time")


__all__ = ["MEANING", "Audit", "Finding", "Severity", "audit"]
