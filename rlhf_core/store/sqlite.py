"""The embedded store over one SQLite file (:mod:`~rlhf_core.store.sqlite_database`). What it leaves out: runs
(``sqlite_runs``) and anything a page decides."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rlhf_core.ground.errors import Duplicate, NotFound
from rlhf_core.ground.judgement import After, Aspect, Decision, Dispute, Gold, GoldAnswer, Judgement, Rubric, Screening
from rlhf_core.ground.records import (
    Change,
    Chat,
    Chosen,
    Consent,
    Feedback,
    LabelOp,
    LabelView,
    Origin,
    Profile,
    Queue,
    QueueProgress,
    Scale,
    Session,
    Step,
    StoreCounts,
    Worked,
    check_name,
    utc_now,
)
from rlhf_core.ground.settings import SQL_ROOT
from rlhf_core.store.base import BulkCounts
from rlhf_core.store.sql import named_statements
from rlhf_core.store.sqlite_database import Database
from rlhf_core.store.sqlite_export import READERS, SqliteExport
from rlhf_core.store.sqlite_judgement import Keeping
from rlhf_core.store.sqlite_labelling import Labelling, queue_of, queue_values
from rlhf_core.store.sqlite_rollout import SqliteRollout

_STATEMENTS = SQL_ROOT / "sqlite" / "queries" / "feedback.sql"
_JUDGEMENT = SQL_ROOT / "sqlite" / "queries" / "judgement.sql"
_LABELLING = SQL_ROOT / "sqlite" / "queries" / "labelling.sql"


class SqliteStore:
    """:class:`~rlhf_core.store.base.Store` over one SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = named_statements(_STATEMENTS)
        self._labelling = named_statements(_LABELLING)

    @property
    def rollout(self) -> SqliteRollout:
        return SqliteRollout(self._database)

    def forget_deleted(self) -> None:
        """See :meth:`Database.forget_deleted`."""
        self._database.forget_deleted()

    def for_user(self, session: Session) -> SqliteUserStore:
        return SqliteUserStore(self._database, session)

    def _rows(self, name: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        with self._database.connection() as connection:
            return connection.execute(self._sql[name], values or {}).fetchall()

    def add_profile(self, user_id: str, display_name: str, origin: Origin) -> Profile:
        values = {"user_id": user_id, "display_name": check_name(display_name), "origin": origin, "now": utc_now()}
        with self._database.transaction() as connection:
            connection.execute(self._sql["add_profile"], values)
            return Profile(*connection.execute(self._sql["profile"], {"user_id": user_id}).fetchone())

    def profiles(self, origin: Origin | None = None) -> list[Profile]:
        return [Profile(*row) for row in self._rows("profiles", {"origin": origin})]

    def counts(self) -> StoreCounts:
        return StoreCounts(*self._rows("counts")[0])

    def chat(self, chat_id: str) -> Chat:
        with self._database.connection() as connection:
            row = connection.execute(self._sql["chat"], {"chat_id": chat_id}).fetchone()
            if row is None:
                raise NotFound(f"There is no chat {chat_id!r} in this workspace. It may have been deleted.")
            steps = connection.execute(self._sql["steps_of_chat"], {"chat_id": chat_id}).fetchall()
        return replace(Chat(*row), steps=tuple(Step(*step) for step in steps))

    def search_chats(self, text: str = "", limit: int = 50) -> list[Chat]:
        return [Chat(*row) for row in self._rows("search_chats", {"text": text.strip(), "limit": limit})]

    def chats_of_queue(self, queue_id: str, limit: int) -> list[Chat]:
        with self._database.connection() as connection:
            values = {"queue_id": queue_id, "limit": limit}
            return [Chat(*row) for row in connection.execute(self._labelling["chats_of_queue"], values).fetchall()]

    def queues(self) -> list[Queue]:
        with self._database.connection() as connection:
            return [queue_of(row) for row in connection.execute(self._labelling["queues"]).fetchall()]

    def save_queue(self, queue: Queue) -> Queue:
        values = queue_values(queue)
        try:
            with self._database.transaction() as connection:
                connection.execute(self._labelling["save_queue"], values | {"now": utc_now()})
                return queue_of(connection.execute(self._labelling["queue"], {"queue_id": queue.id}).fetchone())
        except sqlite3.IntegrityError as error:  # the rest of the rules were asked before
            raise Duplicate(f"There is a queue named {queue.name.strip()!r} already. Choose another name.") from error

    def archive_queue(self, queue_id: str, *, archived: bool = True) -> None:
        with self._database.transaction() as connection:
            if not connection.execute(self._labelling["archive_queue"], {"id": queue_id, "archived": archived}).fetchall():
                raise NotFound(f"There is no queue {queue_id!r}. It may have been deleted.")

    def set_priorities(self, queue_id: str, priorities: Mapping[str, float]) -> None:
        with self._database.transaction() as connection:
            connection.execute(self._labelling["drop_priorities"], {"queue_id": queue_id})
            connection.executemany(
                "INSERT INTO queue_priorities (queue_id, chat_id, priority) VALUES (?, ?, ?)",
                [(queue_id, chat_id, priority) for chat_id, priority in priorities.items()],
            )

    def set_queue_chats(self, queue_id: str, chats: Mapping[str, Sequence[int]]) -> int:
        given = json.dumps({chat_id: list(steps) for chat_id, steps in chats.items()})
        with self._database.transaction() as connection:
            if not connection.execute(self._labelling["list_queue"], {"queue_id": queue_id}).fetchall():
                raise NotFound(f"There is no queue {queue_id!r}. It may have been deleted.")
            connection.execute(self._labelling["drop_queue_chats"], {"queue_id": queue_id})
            return connection.execute(self._labelling["add_queue_chats"], {"queue_id": queue_id, "chats": given}).rowcount

    def steps_asked(self, queue_id: str, chat_ids: Sequence[str]) -> dict[str, list[int]]:
        values = {"queue_id": queue_id, "chat_ids": json.dumps(list(chat_ids))}
        with self._database.connection() as connection:
            rows = connection.execute(self._labelling["steps_asked"], values).fetchall()
        return {chat_id: json.loads(steps) for chat_id, steps in rows}

    @contextmanager
    def _keeping(self, *, write: bool = False) -> Iterator[Keeping]:
        with self._database.transaction() if write else self._database.connection() as connection:
            yield Keeping(connection)

    def rubric(self, queue_id: str) -> Rubric | None:
        with self._keeping() as kept:
            return kept.rubric(queue_id)

    def save_rubric(self, queue_id: str, aspects: Sequence[Aspect]) -> Rubric:
        with self._keeping(write=True) as kept:
            return kept.save_rubric(queue_id, aspects)

    def gold(self) -> list[Gold]:
        with self._keeping() as kept:
            return kept.gold()

    def remove_gold(self, gold_id: str) -> bool:
        with self._keeping(write=True) as kept:
            return kept.remove_gold(gold_id)

    def screenings(self, queue: Queue) -> list[Screening]:
        with self._keeping() as kept:
            return kept.screenings(queue)

    def forget_screening(self, queue_id: str, user_id: str) -> None:
        with self._keeping(write=True) as kept:
            kept.forget_screening(queue_id, user_id)

    def set_hints(self, queue_id: str, checkpoint_id: str, rewards: Mapping[str, Mapping[str, float]]) -> None:
        with self._keeping(write=True) as kept:
            kept.set_hints(queue_id, checkpoint_id, rewards)

    def disputes(self, limit: int = 200) -> list[Dispute]:
        with self._keeping() as kept:
            return kept.disputes(limit)

    def judgements(self, chat_id: str, other_id: str | None = None) -> list[Judgement]:
        with self._keeping() as kept:
            return kept.judgements(chat_id, other_id)

    def decisions(self, chat_id: str, other_id: str | None = None) -> list[Decision]:
        with self._keeping() as kept:
            return kept.decisions(chat_id, other_id)

    def mean_scores(self, chat_id: str) -> dict[str | None, tuple[float, int]]:
        rows = self._rows("mean_scores_of_chat", {"chat_id": chat_id})
        return {step_id: (mean, count) for step_id, mean, count in rows}

    @contextmanager
    def bulk(self) -> Iterator[tuple[SqliteBulkWriter, BulkCounts]]:
        counts = BulkCounts()
        with self._database.transaction() as connection:
            yield SqliteBulkWriter(connection, counts), counts

    @contextmanager
    def export(self) -> Iterator[SqliteExport]:
        with self._database.same_moment(1 + READERS) as (first, *readers):
            yield SqliteExport(first, readers or [first], self._sql | named_statements(_JUDGEMENT))


class SqliteBulkWriter:
    """:class:`~rlhf_core.store.base.BulkWriter`. Positional ``?``: a tuple binds twice as fast as a mapping."""

    def __init__(self, connection: sqlite3.Connection, counts: BulkCounts) -> None:
        self._connection = connection
        self._counts = counts

    def _insert(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
        return self._connection.executemany(sql, rows).rowcount

    def add_profiles(self, rows: Sequence[tuple[str, str]], origin: Origin) -> None:
        now = utc_now()
        self._insert(
            "INSERT INTO profiles (user_id, display_name, origin, created_at) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (user_id) DO NOTHING",
            [(user_id, name, origin, now) for user_id, name in rows],
        )

    def add_chats(self, rows: Sequence[tuple[Any, ...]]) -> None:
        added = self._insert(
            "INSERT INTO chats (id, query, response, source, model, external_id, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            rows,
        )
        self._counts.chats += added
        self._counts.known_chats += len(rows) - added

    def add_steps(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._counts.steps += self._insert(
            "INSERT INTO reasoning_steps (id, chat_id, step_content, step_order, created_at) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO NOTHING",
            rows,
        )

    def _judgements(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        added = self._insert(sql, rows)
        self._counts.ratings += added
        self._counts.known_ratings += len(rows) - added

    def add_feedback(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._judgements(
            "INSERT INTO chat_feedback (id, chat_id, step_id, user_id, feedback_type, feedback_score, scale, comment, "
            "created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (user_id, chat_id, ifnull(step_id, '')) DO NOTHING ON CONFLICT (id) DO NOTHING",
            rows,
        )

    def add_preferences(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._judgements(
            "INSERT INTO preferences (id, chat_id, other_id, step_order, aspect, user_id, verdict, strength, shown_left, "
            "comment, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (user_id, chat_id, other_id, ifnull(step_order, 0), aspect) DO NOTHING ON CONFLICT (id) DO NOTHING",
            rows,
        )

    def add_aspect_ratings(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._judgements(
            "INSERT INTO aspect_ratings (id, chat_id, step_id, user_id, queue_id, rubric_version, aspect, score, created_at, "
            "updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (user_id, chat_id, ifnull(step_id, ''), aspect) DO NOTHING ON CONFLICT (id) DO NOTHING",
            rows,
        )


class SqliteUserStore:
    """:class:`~rlhf_core.store.base.UserStore` for one session."""

    def __init__(self, database: Database, session: Session) -> None:
        self._database = database
        self._user_id = session.user_id
        self._sql = named_statements(_STATEMENTS)

    @contextmanager
    def _writing(self) -> Iterator[Labelling]:
        with self._database.transaction() as connection:
            yield Labelling(connection, self._user_id)

    @contextmanager
    def _reading(self) -> Iterator[Labelling]:
        with self._database.connection() as connection:
            yield Labelling(connection, self._user_id)

    def rate(self, chat_id: str, step_id: str | None, score: int, scale: Scale) -> Feedback:
        with self._writing() as mine:
            return mine.rate(chat_id, step_id, score, scale)

    def comment(self, chat_id: str, step_id: str | None, text: str) -> Feedback:
        with self._writing() as mine:
            return mine.comment(chat_id, step_id, text)

    def withdraw(self, chat_id: str, step_id: str | None) -> bool:
        with self._writing() as mine:
            return mine.withdraw(chat_id, step_id)

    def view(self, chat_id: str, other_id: str | None = None) -> LabelView:
        view = self._view(chat_id, other_id)
        if view.other is not None and (view.other.query != view.chat.query or view.other.id <= view.chat.id):
            raise NotFound("These two chats are no pair: they answer different questions.")
        return view

    def chosen(self, limit: int = 50) -> list[Chosen]:
        with self._reading() as mine:
            return mine.chosen(limit)

    def _view(self, chat_id: str, other_id: str | None) -> LabelView:
        store = SqliteStore(self._database)
        chat, other = store.chat(chat_id), store.chat(other_id) if other_id else None
        with self._reading() as mine:
            return LabelView(
                chat, self.ratings(chat_id), mine.marks(chat_id), mine.aspects(chat_id), mine.rewrites(chat_id), other,
                mine.preferences(chat_id, other_id) if other_id else {},
            )  # fmt: skip

    def after(self, queue_id: str, chat_id: str, other_id: str | None = None) -> After | None:
        with self._writing() as mine:
            return mine.after(queue_id, chat_id, other_id)

    def decide(self, decision: Decision) -> Decision:
        with self._writing() as mine:
            return mine.decide(decision)

    def undecide(self, decision: Decision) -> bool:
        with self._writing() as mine:
            return mine.undecide(decision)

    def save_gold(
        self, chat_id: str, answer: GoldAnswer, explanation: str = "", other_id: str | None = None, gold_id: str | None = None
    ) -> str:
        with self._writing() as mine:
            return mine.save_gold(chat_id, answer, explanation, other_id, gold_id)

    def ratings(self, chat_id: str) -> dict[str | None, Feedback]:
        values = {"user_id": self._user_id, "chat_id": chat_id}
        with self._database.connection() as connection:
            rows = connection.execute(self._sql["my_ratings_of_chat"], values).fetchall()
        mine = [Feedback(*row) for row in rows]
        return {feedback.step_id: feedback for feedback in mine}

    def consent(self) -> tuple[Consent | None, str | None]:
        with self._database.connection() as connection:
            found = connection.execute(self._sql["my_consent"], {"user_id": self._user_id}).fetchone()
        return (found[0], found[1]) if found else (None, None)

    def set_consent(self, consent: Consent) -> None:
        with self._database.transaction() as connection:
            connection.execute(self._sql["set_consent"], {"user_id": self._user_id, "consent": consent, "now": utc_now()})

    def apply(self, ops: Sequence[LabelOp]) -> dict[str, str]:
        with self._writing() as mine:
            return mine.apply(ops)

    def claim(self, queue_id: str, count: int) -> list[LabelView]:
        with self._writing() as mine:
            items = mine.claim(queue_id, count)
        return [self._view(chat_id, other_id) for chat_id, other_id in items]

    def release(self, queue_id: str, chat_id: str | None = None) -> None:
        with self._writing() as mine:
            mine.release(queue_id, chat_id)

    def queue_progress(self, queue_id: str) -> QueueProgress:
        with self._reading() as mine:
            return mine.progress(queue_id)

    def history(self, before: str | None = None, limit: int = 50) -> list[Worked]:
        with self._reading() as mine:
            return mine.history(before, limit)

    def changes(self, chat_id: str) -> list[Change]:
        with self._reading() as mine:
            return mine.changes(chat_id)

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        with self._reading() as mine:
            return mine.everything()

    def erase(self) -> int:
        with self._writing() as mine:
            return mine.erase()
