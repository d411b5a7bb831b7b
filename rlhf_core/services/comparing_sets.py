"""Checkpoints over a set of answers: gathered from a snapshot or a file, scored, set against each other and against people.

Imported only where a set is compared: its arithmetic brings scipy along.
"""

from __future__ import annotations

import functools
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.checkpoints.registry import Checkpoint, seen_by
from rlhf_core.ground.answers import Answer, AnswerScore
from rlhf_core.ground.cards import Kind
from rlhf_core.ground.errors import InvalidInput, NotFound, disk_errors
from rlhf_core.ground.records import DISLIKED, Queue, new_id
from rlhf_core.ground.text import query_key
from rlhf_core.intake.parsing import parse_file
from rlhf_core.intake.rows import MAX_STEPS
from rlhf_core.intake.splitting import answer_of
from rlhf_core.learn import side_by_side
from rlhf_core.learn.measures import first_below
from rlhf_core.learn.side_by_side import (
    Ahead,
    BestOf,
    By,
    FirstErrors,
    Slice,
    Things,
    ahead,
    correlations,
    disagreement,
    flips,
    measured,
    of_aspect,
    slices,
)
from rlhf_core.services import comparing, importing, labeling, snapshots
from rlhf_core.services.comparing import Candidate
from rlhf_core.services.workbench import Workbench

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "By", "Compared", "Gathered", "Judged", "Kind", "Slice", "Things", "ahead", "aspect_slices", "best_of_n", "compare",
    "correlations", "first_errors", "flips",
    "frame", "lead_in_words", "measured", "of_file", "of_snapshot", "slices", "sources_of", "to_queue",
]  # fmt: skip

AT_MOST = 1000  # answers, unless more are asked for
PREFERENCE = ("chat_id", "other_id", "step_order", "aspect", "verdict")
VERDICT = {"chat": 1.0, "other": -1.0, "tie": 0.0}
Mean = tuple[float, int]  # of scores in stars, and how many


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer and what people gave it. ``people``: by step order, 0 for the whole answer. ``aspects``: order, aspect, mean."""

    chat_id: str
    answer: Answer
    source: str = ""
    people: dict[int, Mean] = field(default_factory=dict)
    aspects: tuple[tuple[int, str, float], ...] = ()

    @property
    def first_bad(self) -> int | None:
        """Index of the first step that people call bad, -1 where there is none; None unless every step was rated."""
        if not self.answer.steps or any(k not in self.people for k in range(1, len(self.answer.steps) + 1)):
            return None
        return next((k for k in range(len(self.answer.steps)) if self.people[k + 1][0] <= DISLIKED), -1)


Preferences = dict[tuple[str, str], float]  # of two chats: above 0 where people prefer the first, below where the second


@dataclass(frozen=True, slots=True)
class Gathered:
    """Answers to compare over, and what people preferred among them."""

    answers: list[Judged]
    preferences: Preferences = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compared:
    """``scores[label]``: of each answer; ``errors``: why a checkpoint could not score; ``thresholds``: stars below which a
    checkpoint takes a step for an error, None where it has none; ``seen[label]``: how many of the answers are to queries that it
    learned from, None where that is not known."""

    answers: list[Judged]
    scores: dict[str, list[AnswerScore]]
    errors: dict[str, str]
    thresholds: dict[str, float | None]
    seen: dict[str, int | None]
    preferences: Preferences = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        return [*self.scores]

    def things(self) -> Things:
        """Every whole answer, then its steps; rewards in the order of :attr:`labels`."""
        rows = [(k, order) for k, one in enumerate(self.answers) for order in range(len(one.answer.steps) + 1)]
        keys = [query_key(one.answer.query) for one in self.answers]

        return Things(
            answer=np.array([k for k, _ in rows], np.int64), order=np.array([order for _, order in rows], np.int64),
            query=np.array([keys[k] for k, _ in rows]), source=np.array([self.answers[k].source for k, _ in rows]),
            chars=np.array([len(self.answers[k].answer.part(order)) for k, order in rows], float),
            people=np.array([self.answers[k].people.get(order, (float("nan"), 0))[0] for k, order in rows], float),
            rewards=np.array(
                [[scores[k].of(order) for k, order in rows] for scores in self.scores.values()], float
            ).reshape(len(self.scores), len(rows)),
        )  # fmt: skip


def of_snapshot(
    workbench: Workbench, snapshot_id: str, *, sources: Sequence[str] = (), words: str = "", rated_only: bool = True,
    unseen_by: Sequence[Checkpoint] = (), at_most: int | None = AT_MOST,
) -> Gathered:  # fmt: skip
    """Answers of a snapshot, drawn by their ids where there are too many, whole queries together.

    Args:
        workbench: Where it is.
        snapshot_id: Which one.
        sources: Of these alone; none named: all.
        words: That the query holds.
        rated_only: Leave out answers of which people rated nothing.
        unseen_by: Leave out answers to queries that one of these learned from.
        at_most: So many; None: all.

    Raises:
        NotFound, CorruptArtifact: the snapshot.
        InvalidInput: nothing is left, or it is not known what a checkpoint learned from.
    """
    workbench.require("compare")
    snapshot = snapshots.find(workbench, snapshot_id)
    people, aspects = _people(snapshot)
    preferences = _preferences(
        zip(*(snapshot.table("preferences")[name].to_pylist() for name in PREFERENCE), strict=True)
    )  # fmt: skip
    judged = people.keys() | {chat_id for pair in preferences for chat_id in pair}
    hidden: set[str] = set()
    for checkpoint in unseen_by:
        keys = seen_by(checkpoint)
        if keys is None:
            raise InvalidInput(
                f"{checkpoint.id} does not say which queries it learned from (an earlier version made it). Choose all answers, "
                "or train it again."
            )
        hidden |= keys
    chats = snapshot.table("chats")
    rows = [
        row for row in zip(*(chats[name].to_pylist() for name in ("id", "query", "response", "source")), strict=True)
        if (not sources or row[3] in sources) and words.casefold() in row[1].casefold()
        and (not rated_only or row[0] in judged) and query_key(row[1]) not in hidden
    ]  # fmt: skip
    if not rows:
        raise InvalidInput(
            f"Snapshot {snapshot.id} has no answer like that" + (" that no chosen checkpoint learned from" if unseen_by else "")
            + ". Choose fewer rules, or another snapshot."
        )  # fmt: skip
    rows = _whole_queries(rows, at_most)
    wanted = {row[0] for row in rows}
    steps: dict[str, list[tuple[int, str]]] = defaultdict(list)
    table = snapshot.table("reasoning_steps")
    columns = [table[name].to_pylist() for name in ("chat_id", "step_order", "step_content")]
    for chat_id, order, content in zip(*columns, strict=True):
        if chat_id in wanted:
            steps[chat_id].append((order, content))
    answers = [
        Judged(chat_id, Answer(query, response, tuple(text for _, text in sorted(steps[chat_id]))), source,
               people.get(chat_id, {}), tuple(aspects.get(chat_id, ())))
        for chat_id, query, response, source in rows
    ]  # fmt: skip
    return Gathered(answers, {pair: lead for pair, lead in preferences.items() if wanted.issuperset(pair)})


def _whole_queries(rows: list[tuple[Any, ...]], at_most: int | None) -> list[tuple[Any, ...]]:
    """So many rows, of queries drawn by chance but always the same ones."""
    if at_most is None or len(rows) <= at_most:
        return rows
    groups: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for row in rows:
        groups[query_key(row[1])].append(row)
    names = sorted(groups)
    random.Random(0).shuffle(names)
    found: list[tuple[Any, ...]] = []
    for name in names:
        if len(found) + len(groups[name]) <= at_most or not found:
            found += groups[name]
    return found[:at_most]


def _preferences(rows: Iterable[tuple[Any, ...]]) -> Preferences:
    """Of rows as :data:`PREFERENCE` names them: those of whole answers, all in all."""
    found: Preferences = defaultdict(float)
    for chat_id, other_id, order, aspect, verdict in rows:
        if order is None and not aspect and verdict in VERDICT:
            found[chat_id, other_id] += VERDICT[verdict]
    return dict(found)


def _people(snapshot: Snapshot) -> tuple[dict[str, dict[int, Mean]], dict[str, list[tuple[int, str, float]]]]:
    """By chat: mean scores by step order (0: the whole answer), and those of aspects."""
    steps = snapshot.table("reasoning_steps")
    order_of: dict[str | None, int] = dict(zip(steps["id"].to_pylist(), steps["step_order"].to_pylist(), strict=True))
    order_of[None] = 0

    def means(table: str, name: str, *also: str) -> dict[tuple[Any, ...], list[float]]:
        given: dict[tuple[Any, ...], list[float]] = defaultdict(list)
        rows = snapshot.table(table)  # type: ignore[arg-type]
        columns = [rows[one].to_pylist() for one in ("chat_id", "step_id", name, *also)]
        for chat_id, step_id, score, *more in zip(*columns, strict=True):
            given[chat_id, order_of.get(step_id, 0), *more].append(float(score))
        return given

    people: dict[str, dict[int, Mean]] = defaultdict(dict)
    for (chat_id, order), scores in means("chat_feedback", "feedback_score").items():
        people[chat_id][order] = (sum(scores) / len(scores), len(scores))
    aspects: dict[str, list[tuple[int, str, float]]] = defaultdict(list)
    for (chat_id, order, aspect), scores in means("aspect_ratings", "score", "aspect").items():
        aspects[chat_id].append((order, aspect, sum(scores) / len(scores)))
    return people, aspects


def of_file(workbench: Workbench, file: BinaryIO, name: str, at_most: int | None = AT_MOST) -> Gathered:
    """Answers of a file in any format that imports read; nothing is stored.

    Raises:
        ImportRejected: lists every bad line.
        InvalidInput: it cannot be read as a whole.
    """
    workbench.require("compare")
    root = workbench.workspace.root
    found: list[Judged] = []
    preferences: list[tuple[Any, ...]] = []
    known: set[str] = set()
    with disk_errors("reading the file", root), parse_file(file, name, scratch=root) as parsed:
        for batch in parsed.batches():
            steps: dict[str, list[tuple[int, str]]] = defaultdict(list)
            order_of: dict[str | None, int] = {None: 0}
            for step_id, chat_id, content, order, _ in batch.steps:
                steps[chat_id].append((order, content))
                order_of[step_id] = order
            people: dict[tuple[str, int], list[float]] = defaultdict(list)
            for _, chat_id, step_id, _, _, score, *_ in batch.feedback:
                people[chat_id, order_of[step_id]].append(float(score))
            preferences += [(*row[1:5], row[6]) for row in batch.preferences]
            for chat_id, query, response, source, *_ in batch.chats:
                if chat_id in known or (at_most is not None and len(found) >= at_most):
                    continue  # an answer of several pairs comes several times
                known.add(chat_id)
                given = {k: (sum(one) / len(one), len(one)) for (chat, k), one in people.items() if chat == chat_id}
                answer = Answer(query, response, tuple(text for _, text in sorted(steps[chat_id])))
                found.append(Judged(chat_id, answer, source, given))
    return Gathered(found, {pair: lead for pair, lead in _preferences(preferences).items() if known.issuperset(pair)})


def of_path(workbench: Workbench, path: Path, at_most: int | None = AT_MOST) -> Gathered:
    """The same of a file on this machine.

    Raises:
        NotFound: there is none. ImportRejected, InvalidInput: as of :func:`of_file`.
    """
    with importing.file_errors(path), path.open("rb") as file:
        return of_file(workbench, file, path.name, at_most)


def of_text(query: str, response: str) -> Gathered:
    """One answer as it was typed, its steps split from it.

    Raises:
        InvalidInput: there is no question, or no answer.
    """
    if not query.strip() or not response.strip():
        raise InvalidInput("Type a question and its answer.")
    return Gathered([Judged("", answer_of(query, response), "typed")])


def as_lines(compared: Compared) -> Iterator[dict[str, Any]]:
    """An object for each answer: what it is, what people gave it, and every checkpoint's rewards in stars."""
    for k, one in enumerate(compared.answers):
        means = [one.people[order][0] if order in one.people else None for order in range(len(one.answer.steps) + 1)]
        yield {
            "id": one.chat_id or None, "source": one.source, "query": one.answer.query, "response": one.answer.response,
            "steps": list(one.answer.steps),
            "people": {"whole": means[0], "steps": means[1:]},
            "rewards": {label: scores[k].to_json() for label, scores in compared.scores.items()},
        }  # fmt: skip


def compare(
    workbench: Workbench, chosen: Sequence[Candidate], gathered: Gathered,
    on_progress: Callable[[int, int], None] | None = None,
) -> Compared:  # fmt: skip
    """Score every answer and every step with each candidate. One that cannot be loaded gets an error instead.

    Raises:
        InvalidInput: nothing to score, or nothing to score it with.
        WorkerFailed: the scoring process died twice; what it had worked out until then is kept for the next try.
    """
    workbench.require("compare")
    if not chosen:
        raise InvalidInput("Choose at least one checkpoint.")
    answers = gathered.answers
    if not answers:
        raise InvalidInput("There is no answer to score.")
    scores, errors = comparing.scores_of(workbench, chosen, [one.answer for one in answers], on_progress)
    keys = [query_key(one.answer.query) for one in answers]
    thresholds: dict[str, float | None] = {}
    seen: dict[str, int | None] = {}
    for candidate in chosen:
        if candidate.label not in scores:
            continue
        thresholds[candidate.label] = candidate.error_threshold
        learned_from = seen_by(candidate.checkpoint) if candidate.checkpoint else set()
        seen[candidate.label] = None if learned_from is None else sum(key in learned_from for key in keys)
    return Compared(answers, scores, errors, thresholds, seen, gathered.preferences)


def frame(compared: Compared, things: Things) -> pd.DataFrame:
    """A row for each thing, those first on which the checkpoints lie furthest apart; of one checkpoint, furthest from people."""
    import pandas as pd

    several = len(compared.scores) > 1
    apart = disagreement(things.rewards) if several else np.abs(things.rewards[0] - things.people)
    answers = compared.answers
    found = pd.DataFrame({
        "apart": apart,
        "step": [int(order) or None for order in things.order],
        **dict(zip(compared.labels, things.rewards, strict=True)),
        "people": things.people,
        "ratings": [answers[k].people.get(int(order), (0.0, 0))[1] for k, order in zip(things.answer, things.order, strict=True)],
        "query": [answers[k].answer.query for k in things.answer],
        "text": [answers[k].answer.part(order) for k, order in zip(things.answer, things.order, strict=True)],
        "source": things.source,
        "chat_id": [answers[k].chat_id for k in things.answer],
    })  # fmt: skip
    found["step"] = found["step"].astype("Int64")
    return found.sort_values("apart", ascending=False, na_position="last", kind="stable")


def first_errors(compared: Compared) -> dict[str, FirstErrors]:
    """Of the answers whose every step was rated, for checkpoints that have a threshold."""
    known = [(k, bad) for k, one in enumerate(compared.answers) if (bad := one.first_bad) is not None]
    found = {}
    for label, scores in compared.scores.items():
        threshold = compared.thresholds[label]
        if threshold is not None and known:
            said = first_below([np.array(scores[k].steps) for k, _ in known], threshold)
            found[label] = side_by_side.first_errors([bad for _, bad in known], said)
    return found


def aspect_slices(compared: Compared) -> list[Slice]:
    """Rewards against people's scores of each aspect, where at least ten things have one."""
    by_aspect: dict[str, list[tuple[int, int, float]]] = defaultdict(list)
    for k, one in enumerate(compared.answers):
        for order, aspect, mean in one.aspects:
            by_aspect[aspect].append((k, order, mean))
    found = []
    for aspect, things in sorted(by_aspect.items()):
        rewards = np.array([[scores[k].of(order) for k, order, _ in things] for scores in compared.scores.values()])
        part = of_aspect(aspect, np.array([mean for _, _, mean in things]), rewards)
        if part is not None:
            found.append(part)
    return found


def best_of_n(compared: Compared) -> dict[str, BestOf]:
    """How often each checkpoint, picking its answer of the highest reward to every question that has several, picks one that
    people prefer: by the pairs that they compared, or where there are none by their scores of whole answers."""
    groups: dict[str, list[int]] = defaultdict(list)
    for k, one in enumerate(compared.answers):
        groups[query_key(one.answer.query)].append(k)
    wins: dict[str, float] = defaultdict(float)
    for (chat_id, other_id), lead in compared.preferences.items():
        sign = (lead > 0) - (lead < 0)
        wins[chat_id] += sign
        wins[other_id] -= sign
    queries, members, preferred = [], [], []
    for query, group in groups.items():
        if len(group) < 2:
            continue
        ids = [compared.answers[k].chat_id for k in group]
        if all(one in wins for one in ids):
            value = [wins[one] for one in ids]
        elif all(0 in compared.answers[k].people for k in group):
            value = [compared.answers[k].people[0][0] for k in group]
        else:
            continue
        liked = frozenset(k for k, one in enumerate(value) if one == max(value))
        if len(liked) < len(group):  # people told them apart
            queries.append(query)
            members.append(group)
            preferred.append(liked)
    return {
        label: side_by_side.best_of_n(queries, [np.array([scores[k].whole for k in group]) for group in members], preferred)
        for label, scores in compared.scores.items()
    } if queries else {}  # fmt: skip


def lead_in_words(one: str, other: str, lead: Ahead) -> str:
    """Whether one checkpoint's AUC is above another's."""
    by = lead.by
    if by.value is None:
        return f"{one} and {other} cannot be told apart: people liked, or disliked, none of these."
    where = "ahead of" if by.value > 0 else "behind"
    words = f"{one} is {where} {other} by {abs(by.value):.3f} of AUC"
    if by.low is None or by.high is None or lead.p is None:
        return f"{words}; these are too few questions to tell whether by chance."
    sure = "it may be chance" if by.low <= 0 <= by.high else "more than chance"
    return f"{words} ({by.low:+.3f} to {by.high:+.3f}, p = {lead.p:.3f}): {sure}."


@functools.lru_cache(maxsize=8)
def _sources(folder: str) -> tuple[str, ...]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    column = pc.value_counts(pq.read_table(folder, columns=["source"])["source"]).to_pylist()
    return tuple(str(one["values"]) for one in sorted(column, key=lambda one: -one["counts"]))


def sources_of(workbench: Workbench, snapshot_id: str) -> list[str]:
    """Where a snapshot's chats come from, the most frequent first."""
    files = snapshots.find(workbench, snapshot_id).files("chats")
    return list(dict.fromkeys(source for file in files for source in _sources(str(file))))


def to_queue(
    workbench: Workbench, compared: Compared, table: pd.DataFrame, name: str, *, count: int, overlap: int = 1
) -> tuple[Queue, int]:  # fmt: skip
    """A queue of the first ``count`` rows of :func:`frame` that are steps or answers of the store: those steps are asked for.

    Returns:
        The queue, and how many chats it has.

    Raises:
        Forbidden: the role.
        InvalidInput: none of them is in the store; files have to be imported first.
        Duplicate: a queue of that name.
    """
    workbench.require("queues")
    chats: dict[str, list[int]] = {}
    for chat_id, step in zip(table["chat_id"].head(count), table["step"].head(count).fillna(0), strict=True):
        steps = chats.setdefault(chat_id, [])
        if step in range(1, MAX_STEPS + 1):
            steps.append(int(step))
    if not any(_is_there(workbench, chat_id) for chat_id in chats):
        raise InvalidInput("These answers are not in the store, so nobody can label them there. Import the file first.")
    guidelines = f"Checkpoints disagree on these: {', '.join(compared.labels)}."
    queue = Queue(new_id(), name, guidelines, overlap=overlap)
    return labeling.queue_of_chats(workbench, queue, {one: sorted(steps) for one, steps in chats.items()})


def _is_there(workbench: Workbench, chat_id: str) -> bool:
    try:
        workbench.store.chat(chat_id)
    except NotFound:
        return False
    return True
