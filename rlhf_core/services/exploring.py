"""What the explore page shows: answers for a filter, a sentence on each, and the chats behind a mark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rlhf_core.analytics.explorer import Filter, asking, prepare
from rlhf_core.analytics.query import Question, ask, questions
from rlhf_core.services import snapshots
from rlhf_core.services.sentences import sentence
from rlhf_core.services.workbench import Workbench

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Behind",
    "Filter",
    "Parts",
    "Question",
    "StepShown",
    "answer",
    "behind",
    "make_ready",
    "parts",
    "questions",
    "sentence",
    "shown",
]

CHOICES_AT_MOST = 200


@dataclass(frozen=True, slots=True)
class Parts:
    """What a filter can choose from. ``longest``: the most steps of an answer."""

    sources: list[str]
    models: list[str]
    raters: list[str]
    longest: int
    ratings: int
    chats: int


@dataclass(frozen=True, slots=True)
class Behind:
    """A chat behind a mark: what of it the filter chose."""

    chat_id: str
    query: str
    source: str
    model: str | None
    ratings: int
    mean_score: float


@dataclass(frozen=True, slots=True)
class StepShown:
    """A step, or (position 0) the whole answer, and all its scores in the snapshot."""

    step_order: int
    text: str
    mean_score: float | None
    ratings: int


def make_ready(workbench: Workbench, snapshot_id: str) -> None:
    """Prepare a snapshot for questions; quick where it was done before."""
    prepare(snapshots.find(workbench, snapshot_id))


def answer(workbench: Workbench, snapshot_id: str, question: str, only: Filter | None = None, **params: Any) -> pd.DataFrame:
    """A named question's answer."""
    return ask(snapshots.find(workbench, snapshot_id), question, only, **params)


def parts(workbench: Workbench, snapshot_id: str) -> Parts:
    """What can be chosen from in a snapshot; of each kind at most :data:`CHOICES_AT_MOST`, the commonest first.

    Raises:
        Forbidden: the role. NotFound, CorruptArtifact: the snapshot.
    """
    with asking(snapshots.find(workbench, snapshot_id)) as connection:

        def column(sql: str) -> list[str]:
            return [row[0] for row in connection.execute(sql).fetchall()]

        sources = column("SELECT source::VARCHAR FROM chats GROUP BY source ORDER BY count(*) DESC, 1")
        models = column("SELECT coalesce(model::VARCHAR, '') FROM chats GROUP BY model ORDER BY count(*) DESC, 1")
        raters = column("SELECT rater::VARCHAR FROM ratings GROUP BY rater ORDER BY count(*) DESC, 1")
        longest, ratings = connection.execute("SELECT coalesce(max(step_order), 0), count(*) FROM ratings").fetchall()[0]
        (chats,) = connection.execute("SELECT count(*) FROM chats").fetchall()[0]
    return Parts(sources[:CHOICES_AT_MOST], models[:CHOICES_AT_MOST], raters[:CHOICES_AT_MOST], longest, ratings, chats)


def behind(workbench: Workbench, snapshot_id: str, only: Filter, *, begin: int = 0, count: int = 20) -> tuple[list[Behind], int]:
    """Chats with ratings that the filter chose, the lowest scored first, and how many there are."""
    with asking(snapshots.find(workbench, snapshot_id), only) as connection:
        rows = connection.execute(
            """WITH per AS (SELECT chat_no, count(*) AS n, avg(score) AS mean_score, count(*) OVER () AS chats
                            FROM ratings GROUP BY chat_no ORDER BY mean_score, n DESC, chat_no LIMIT $count OFFSET $begin)
               SELECT c.id, c.query, c.source::VARCHAR, c.model::VARCHAR, p.n, p.mean_score, p.chats
               FROM per AS p JOIN chats AS c ON c.chat_no = p.chat_no ORDER BY p.mean_score, p.n DESC, p.chat_no""",
            {"count": count, "begin": begin},
        ).fetchall()
    return [Behind(*row[:-1]) for row in rows], rows[0][-1] if rows else 0


def shown(workbench: Workbench, snapshot_id: str, chat_id: str) -> tuple[str, list[StepShown]]:
    """A chat of the snapshot: its question; its steps and its answer, with everybody's mean scores."""
    with asking(snapshots.find(workbench, snapshot_id)) as connection:
        found = connection.execute("SELECT chat_no, query, response FROM chats WHERE id = $id", {"id": chat_id}).fetchall()
        if not found:
            return "", []
        chat_no, query, response = found[0]
        scores = {
            order: (mean, n)
            for order, mean, n in connection.execute(
                "SELECT coalesce(step_order, 0), avg(score), count(*) FROM ratings WHERE chat_no = $chat GROUP BY 1",
                {"chat": chat_no},
            ).fetchall()
        }
        steps = connection.execute(
            "SELECT step_order, step_content FROM reasoning_steps WHERE chat_no = $chat ORDER BY step_order", {"chat": chat_no}
        ).fetchall()
    return query, [StepShown(order, text, *scores.get(order, (None, 0))) for order, text in [*steps, (0, response)]]


def without(only: Filter, field: str) -> Filter:
    """The filter without one of its rules."""
    return replace(only, since=None, until=None) if field == "since" else replace(only, **{field: ()})  # type: ignore[arg-type]
