"""What chat applications send, in the embedded store: each request once, each person's own, all of it erasable.

Applications are kept here on a team's machine too, for what they may ask of it; what people say goes to the team's store then.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlhf_core.ground.applications import Application, Consented, Signal
from rlhf_core.ground.errors import Conflict, Duplicate, InvalidInput, NotFound
from rlhf_core.ground.records import Consent, Scale, content_id, utc_now
from rlhf_core.ground.settings import SQL_ROOT
from rlhf_core.store.sql import named_statements
from rlhf_core.store.sqlite_database import Database
from rlhf_core.store.sqlite_labelling import Labelling
from rlhf_core.store.sqlite_together import Together

_SQL = named_statements(SQL_ROOT / "sqlite" / "queries" / "collecting.sql")
_SERVED = named_statements(SQL_ROOT / "sqlite" / "queries" / "rollout.sql")
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One that is carried out once. ``id``: the sender's; ``fingerprint``: of what was sent; ``user_id``: who says it, "" for the
    application itself; ``said_at``: when, by the sender's clock (UTC text). ``removed``: what was taken out of its
    texts, by kind."""

    application: Application
    id: str
    fingerprint: str
    user_id: str = ""
    said_at: str | None = None
    removed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """What is judged: a step by its id or by its order (from 1), or the whole answer."""

    chat_id: str
    step_id: str | None = None
    step_order: int | None = None


class SqliteCollecting:
    """Thread-safe. Writes return once they are durable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._together = Together(database)

    # applications ---------------------------------------------------------------------------------------------------

    def applications(self) -> list[Application]:
        return [Application(*row) for row in self._read("applications")]

    def application(self, application_id: str) -> Application | None:
        rows = self._read("application", id=application_id)
        return Application(*rows[0]) if rows else None

    def application_of(self, token_sha256: str) -> Application | None:
        """Whose token this is; None where nobody's, or where it was revoked."""
        rows = self._read("application_of_token", token_sha256=token_sha256)
        return Application(*rows[0]) if rows else None

    def add_application(self, one: Application, token_sha256: str) -> None:
        """
        Raises:
            Duplicate: another one has this name.
        """
        values = {
            "id": one.id, "name": one.name, "token_sha256": token_sha256, "per_minute": one.per_minute,
            "consent_version": one.consent_version, "consent_words": one.consent_words, "keep_days": one.keep_days,
            "now": one.created_at,
        }  # fmt: skip
        try:
            self._together.write(lambda connection: connection.execute(_SQL["add_application"], values))
        except sqlite3.IntegrityError as error:
            raise Duplicate(f"There is an application named {one.name!r} already. Choose another name.") from error

    def change_application(self, one: Application, token_sha256: str | None = None) -> None:
        """
        Raises:
            NotFound: there is none of this id.
        """
        values = {
            "id": one.id, "token_sha256": token_sha256, "per_minute": one.per_minute, "consent_version": one.consent_version,
            "consent_words": one.consent_words, "keep_days": one.keep_days, "revoked_at": one.revoked_at,
        }  # fmt: skip
        if not self._together.write(lambda connection: connection.execute(_SQL["change_application"], values).fetchall()):
            raise NotFound(f"There is no application {one.id!r}.")

    # what is sent ---------------------------------------------------------------------------------------------------

    def add_chat(
        self, request: Request, chat: Mapping[str, Any], steps: Sequence[str], served: Mapping[str, Any] | None = None
    ) -> Answer:  # fmt: skip
        """
        Args:
            request: Whose; the chat is its user's where there is one.
            chat: query, response, source, model, created_at.
            steps: In order.
            served: checkpoint_id, begun, refused, latency_ms: which checkpoint answered; None: it is not known.

        Returns:
            ``id`` of the chat, ``steps``: id, order and text of each, and ``removed``.

        Raises:
            Conflict: something else was sent under this id before.
        """
        chat_id = content_id("sent chat", request.application.id, request.user_id, request.id)

        def work(connection: sqlite3.Connection) -> Answer:
            connection.execute(_SQL["add_chat"], dict(chat) | {
                "id": chat_id, "owner_id": request.user_id or None, "external_id": request.id,
                "application_id": request.application.id,
            })  # fmt: skip
            for order, text in enumerate(steps, 1):
                step_id = content_id("sent step", chat_id, str(order))
                self._rows(
                    connection, "add_step", id=step_id, chat_id=chat_id, content=text, order=order, now=chat["created_at"]
                )  # fmt: skip
            if served is not None:
                connection.execute(_SERVED["note_served"], {"chat_id": chat_id, "now": utc_now()} | dict(served))
            return {"id": chat_id, "removed": dict(request.removed)}  # no texts: they stand in one place

        answer = self._once(request, work, lambda answer: str(answer["id"]))
        kept = self._read("steps_of", chat_id=answer["id"])
        return answer | {"steps": [{"id": one, "order": order, "text": text} for one, order, text in kept]}

    def rate(self, request: Request, place: Place, score: int, scale: Scale, comment: str | None) -> Answer:
        """
        Returns:
            ``chatId``, ``stepId``, ``score`` as it stands now, and ``kept``: whether it is what was sent; False where this person
            had said something newer by then.

        Raises:
            NotFound: no such chat of this person or of nobody, or no such step of it.
            Conflict: something else was sent under this id before.
        """

        def work(connection: sqlite3.Connection) -> Answer:
            step_id = self._step(connection, request, place)
            mine = Labelling(connection, request.user_id)
            about = _thing(place.chat_id, step_id)
            newer = request.said_at is not None and self._rows(
                connection, "newer_word", user_id=request.user_id, about=about, said_at=request.said_at
            )
            score_now: int | None
            if not newer:
                kept = mine.rate(place.chat_id, step_id, score, scale)
                if comment is not None:
                    kept = mine.comment(place.chat_id, step_id, comment)
                score_now = kept.feedback_score
            else:
                score_now = self._score(connection, request.user_id, place.chat_id, step_id)
            return {"chatId": place.chat_id, "stepId": step_id, "score": score_now, "kept": not newer}

        return self._once(request, work, lambda answer: _thing(answer["chatId"], answer["stepId"]))

    def note(self, request: Request, place: Place, signal: Signal, value: float | None) -> Answer:
        """Keep an implicit signal, once. Raises as :meth:`rate`."""

        def work(connection: sqlite3.Connection) -> Answer:
            step_id = self._step(connection, request, place)
            event_id = content_id("sent event", request.application.id, request.user_id, request.id)
            self._rows(
                connection, "add_event", id=event_id, user_id=request.user_id, chat_id=place.chat_id, step_id=step_id,
                kind=signal, value=value, at=request.said_at or utc_now(),
            )  # fmt: skip
            return {"id": event_id}

        return self._once(request, work)

    def _once(
        self,
        request: Request,
        work: Callable[[sqlite3.Connection], Answer],
        about: Callable[[Answer], str | None] = lambda _: None,
    ) -> Answer:
        """``about``: the chat that an answer is about, or the thing in it that was judged."""
        key = {"application_id": request.application.id, "user_id": request.user_id, "id": request.id}

        def once(connection: sqlite3.Connection) -> Answer:
            known = self._rows(connection, "answered", **key)
            if known:
                if known[0][0] != request.fingerprint:
                    raise Conflict(
                        f"Something else was sent with the id {request.id!r} before. Give each thing an id of its own."
                    )
                return dict(json.loads(known[0][1]))
            spent = content_id("spent", *key.values())
            if self._rows(connection, "is_spent", id=spent):
                raise Conflict(
                    f"What was sent with the id {request.id!r} was erased or had been kept for its time, and stays away."
                )
            now = utc_now()
            if request.user_id:
                self._meet(connection, request.application, request.user_id, now)
            answer = work(connection)
            for kind, count in request.removed.items():
                self._rows(connection, "note_removed", application_id=request.application.id, now=now, kind=kind, count=count)
            self._rows(
                connection, "note_received", **key, fingerprint=request.fingerprint, about=about(answer),
                said_at=request.said_at, answer=json.dumps(answer), now=now,
            )  # fmt: skip
            return answer

        return self._together.write(once)

    def _meet(self, connection: sqlite3.Connection, application: Application, user_id: str, now: str) -> None:
        """A person of an application, perhaps for the first time."""
        self._rows(connection, "add_visitor_profile", user_id=user_id, name=f"visitor {user_id[:8]}", now=now)
        self._rows(connection, "add_visitor", user_id=user_id, application_id=application.id)

    def _step(self, connection: sqlite3.Connection, request: Request, place: Place) -> str | None:
        mine = {"chat_id": place.chat_id, "application_id": request.application.id, "user_id": request.user_id}
        if not self._rows(connection, "rated_chat", **mine):
            raise NotFound(
                f"There is no chat {place.chat_id!r} that this person may judge. Send the chat first, or check its id."
            )
        if place.step_id is None and place.step_order is None:
            return None
        found = self._rows(
            connection, "step_of", chat_id=place.chat_id, step_id=place.step_id or "", step_order=place.step_order or 0
        )
        if len(found) != 1:
            raise NotFound(f"Chat {place.chat_id!r} has no step {place.step_id or place.step_order!r}.")
        return str(found[0][0])

    @staticmethod
    def _score(connection: sqlite3.Connection, user_id: str, chat_id: str, step_id: str | None) -> int | None:
        row = connection.execute(
            "SELECT feedback_score FROM chat_feedback WHERE user_id = ? AND chat_id = ? AND step_id IS ?",
            (user_id, chat_id, step_id),
        ).fetchone()
        return row[0] if row else None

    # what people may ask of it --------------------------------------------------------------------------------------

    def consent(self, application: Application, user_id: str) -> Consented:
        rows = self._read("last_consent", user_id=user_id)
        if not rows:
            return Consented(None, None, None, asks=True)
        version, consent, at = rows[0]
        return Consented(consent, version, at, asks=version != application.consent_version)

    def set_consent(self, application: Application, user_id: str, version: str, consent: Consent) -> Consented:
        """
        Raises:
            InvalidInput: the words have another version now.
        """
        if version != application.consent_version:
            raise InvalidInput(
                f"People are asked by version {application.consent_version!r} of the words now, not {version!r}. Show them those."
            )
        now = utc_now()

        def work(connection: sqlite3.Connection) -> None:
            self._meet(connection, application, user_id, now)
            self._rows(connection, "add_consent", user_id=user_id, version=version, consent=consent, now=now)
            connection.execute(
                "UPDATE profiles SET consent = ?, consent_at = ? WHERE user_id = ? AND origin = 'application'",
                (consent, now, user_id),
            )

        self._together.write(work)
        return self.consent(application, user_id)

    def mine(self, user_id: str) -> dict[str, list[dict[str, Any]]]:
        """All that is kept of a person, by table: what they wrote, said, did and agreed to."""
        with self._database.connection() as connection:
            connection.execute("BEGIN")
            try:
                chats = self._named(connection, "my_chats", user_id)
                steps = self._named(connection, "my_steps", user_id)
                found = {"chats": chats, "steps": steps, "consents": self._named(connection, "my_consents", user_id)}
                found["served"] = self._named(connection, "my_served", user_id)
                found["changes"] = self._named(connection, "my_changes_of_mind", user_id)
                found["requests"] = self._named(connection, "my_received", user_id)
                found |= Labelling(connection, user_id).everything()
            finally:
                connection.execute("COMMIT")
        return found

    def to_erase(self, user_id: str) -> list[tuple[str, str]]:
        """Chats that go with a person, and their questions: their own, and what was made of them here."""
        return [(chat_id, query) for chat_id, query in self._read("chats_to_erase", user_id=user_id)]

    def erase(self, user_id: str, pseudonym: str, erasure_id: str, questions: Sequence[str] = ()) -> dict[str, Any]:
        """Delete all that is kept of a person, with the chats of :meth:`to_erase`, and log it as not finished. ``questions``:
        hashes of theirs, to be logged.

        Returns:
            ``rows``: how many, by table; again: none. ``chats``: ids of those that went, also in erasures of theirs that were
            interrupted.
        """

        def work(connection: sqlite3.Connection) -> dict[str, Any]:
            everything = Labelling(connection, user_id).everything()
            counts = {table: len(rows) for table, rows in everything.items() if rows}
            Labelling(connection, user_id).erase()
            ids = [row[0] for row in self._rows(connection, "chats_to_erase", user_id=user_id)]
            if ids:
                connection.execute(_SQL["erase_chats"], {"chat_ids": json.dumps(ids)})
                counts["chats"] = len(ids)
            mine = self._rows(connection, "my_requests", user_id=user_id)
            self._spend(connection, [(application_id, user_id, request_id) for application_id, request_id in mine])
            self._rows(connection, "erase_received", user_id=user_id)
            self._rows(connection, "erase_profile", user_id=user_id)
            before = [json.loads(what) for (what,) in self._rows(connection, "unfinished_erasures", pseudonym=pseudonym)]
            gone = {
                "rows": counts,
                "chats": [*ids, *(one for what in before for one in what.get("chats", ()))],
                "questions": list(questions),
                "finished": False,
            }
            self._rows(connection, "note_erasure", id=erasure_id, pseudonym=pseudonym, what=json.dumps(gone), now=utc_now())
            return gone

        gone = self._together.write(work)
        self._database.forget_deleted()
        return gone

    def expired(self, application: Application, before: str) -> list[tuple[str, str]]:
        """Its chats from before a time (UTC text), and what was made of them here: ids and questions."""
        return [(one, query) for one, query in self._read("expired", application_id=application.id, before=before)]

    def delete_chats(self, chat_ids: Sequence[str]) -> None:
        """Delete chats, and all that was said of them. What brought them here brings them back no more."""
        values = {"chat_ids": json.dumps(list(chat_ids))}

        def work(connection: sqlite3.Connection) -> None:
            self._spend(connection, self._rows(connection, "requests_about", **values))
            connection.execute(_SERVED["keep_figures"], values)
            self._rows(connection, "drop_requests_about", **values)
            connection.execute(_SQL["erase_chats"], values)

        self._together.write(work)
        self._database.forget_deleted()

    def _spend(self, connection: sqlite3.Connection, requests: Sequence[tuple[Any, ...]]) -> None:
        for application_id, user_id, request_id in requests:
            self._rows(connection, "spend", id=content_id("spent", application_id, user_id, request_id))

    def knows(self, user_id: str, pseudonym: str) -> bool:
        """Whether anything of a person may be here still: they sent something, or an erasure of theirs was interrupted."""
        return bool(self._read("is_known", user_id=user_id) or self._read("unfinished_erasures", pseudonym=pseudonym))

    def token_of(self, application_id: str) -> str:
        """The hash of its token; "" where there is no such application."""
        rows = self._read("token_of", id=application_id)
        return str(rows[0][0]) if rows else ""

    def finish_erasures(self, pseudonym: str, erasure_id: str, what: Mapping[str, Any]) -> None:
        """Log that an erasure is finished, and those before it that had been interrupted."""

        def work(connection: sqlite3.Connection) -> None:
            self._rows(connection, "note_erasure", id=erasure_id, pseudonym=pseudonym, what=json.dumps(what), now=utc_now())
            self._rows(connection, "finish_erasures", pseudonym=pseudonym)

        self._together.write(work)

    def erasures(self, pseudonym: str | None = None) -> list[dict[str, Any]]:
        """Who was erased, when, and what went, oldest first."""
        return [
            {"id": one, "pseudonym": name, "at": at} | json.loads(what)
            for one, name, at, what in self._read("erasures", pseudonym=pseudonym)
        ]

    def places_of(self, user_id: str) -> dict[str, int]:
        """In how many rows of which tables a person's id stands, whatever the column: nothing, once they are erased."""
        found = {}
        with self._database.connection() as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            for table in tables:
                columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")') if row[2].upper() == "TEXT"]
                if columns:
                    where = " OR ".join(f'"{one}" = ?' for one in columns)
                    query = f'SELECT count(*) FROM "{table}" WHERE {where}'  # noqa: S608  # the schema's own names
                    if count := connection.execute(query, [user_id] * len(columns)).fetchone()[0]:
                        found[table] = count
        return found

    def removed(self) -> list[tuple[str, str, str, int]]:
        """What was taken out of texts: (application's name, month, kind, how many)."""
        return [(name, month, kind, count) for name, month, kind, count in self._read("removed")]

    def ready(self) -> None:
        """Ask the store something.

        Raises:
            StoreUnavailable: it does not answer.
        """
        self._read("applications")

    @staticmethod
    def _rows(connection: sqlite3.Connection, name: str, /, **values: Any) -> list[tuple[Any, ...]]:
        return connection.execute(_SQL[name], values).fetchall()

    def _read(self, name: str, /, **values: Any) -> list[tuple[Any, ...]]:
        with self._database.connection() as connection:
            return self._rows(connection, name, **values)

    @staticmethod
    def _named(connection: sqlite3.Connection, name: str, user_id: str) -> list[dict[str, Any]]:
        cursor = connection.execute(_SQL[name], {"user_id": user_id})
        return [dict(zip([column[0] for column in cursor.description], row, strict=True)) for row in cursor.fetchall()]


def _thing(chat_id: str, step_id: str | None) -> str:
    """What was judged, as the column ``received.about`` has it: it begins with the chat's id."""
    return f"{chat_id} {step_id or ''}"
