"""The team's store: a Supabase project, spoken to through its functions (sql/supabase), under row level security.

One round trip for each call. Long answers come in pages by key; imports are staged in parts and become rows in one
transaction; an export marks what there is in one statement and pages through that, so both stores keep the same promises.
What it leaves out: the line itself, signing in, errors (``supabase_connection``) and runs, which stay on the machine.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from rlhf_core.ground.errors import (
    Duplicate,
    Forbidden,
    InvalidInput,
    NotFound,
    RlhfError,
    ScreeningFailed,
    SessionExpired,
    StoreUnavailable,
)
from rlhf_core.ground.judgement import (
    After,
    Aspect,
    Decision,
    Dispute,
    Gold,
    GoldAnswer,
    GoldPlace,
    Judgement,
    Rubric,
    Screening,
    aspects_from_json,
    aspects_to_json,
    check_aspects,
    check_decision,
    check_gold,
)
from rlhf_core.ground.records import (
    MINE,
    Change,
    Chat,
    Chosen,
    Consent,
    Feedback,
    LabelOp,
    LabelView,
    LogEntry,
    Marks,
    Origin,
    Preference,
    Profile,
    Queue,
    QueueProgress,
    Scale,
    Session,
    Step,
    StoreCounts,
    Worked,
    check_comment,
    check_name,
    check_op,
    check_queue,
    check_score,
    is_uuid,
    new_id,
    plain_name,
)
from rlhf_core.ground.roles import Role
from rlhf_core.ground.tables import Part, TableName, parts_of
from rlhf_core.store.base import BulkCounts
from rlhf_core.store.supabase_connection import SESSION_ENDED, Connection
from rlhf_core.store.supabase_rollout import SupabaseRollout

STAGE_ROWS = 2_000
STAGE_BYTES = 1_000_000
PAGE_ROWS = 5_000
PAGE_CHATS = 1_000
PAGE_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody with an account in the team's project."""

    user_id: str
    display_name: str
    email: str
    role: Role | None
    created_at: str
    ratings: int


class SupabaseStore:
    """:class:`~rlhf_core.store.base.Store` as one person, or the operator, sees it."""

    def __init__(self, connection: Connection) -> None:
        self._call = connection.call
        self._connection = connection

    @property
    def rollout(self) -> SupabaseRollout:
        return SupabaseRollout(self._call)

    def for_user(self, session: Session) -> SupabaseUserStore:
        """
        Raises:
            Forbidden: the session is not the one that this store was opened with.
            SessionExpired: it has ended, here or in another tab.
        """
        account = self._connection.account
        if account is None and not self._connection.operator:
            raise SessionExpired(SESSION_ENDED)
        if account is None or account.user_id != session.user_id:
            raise Forbidden("Ratings are written by the person who is signed in, and by nobody else.")
        return SupabaseUserStore(self._connection)

    # people ---------------------------------------------------------------------------------------------------------

    def me(self) -> Session:
        """Who is signed in, with the role that they have now."""
        found = self._call("me")
        if found is None:
            raise Forbidden("This account has no profile in the workbench. Ask an administrator of your team.")
        return Session(found["user_id"], found["display_name"], found["role"])

    def rename_me(self, display_name: str) -> None:
        """
        Raises:
            InvalidInput: the name is empty, longer than 200 characters, or not one line.
        """
        self._call("rename_me", name=check_name(display_name))

    def team(self) -> list[Member]:
        """Everybody with an account, those without a role first. Administrators only."""
        return [Member(**one) for one in self._call("team")]

    def set_role(self, user_id: str, role: Role | None) -> None:
        """
        Raises:
            Forbidden: for administrators only.
            InvalidInput: it would leave the team without an administrator.
            NotFound: no such account.
        """
        self._call("set_role", user_id=user_id, role=role)

    def note_act(self, act: str, what: str, detail: Mapping[str, Any]) -> None:
        """Write into the team's log of who did what, as who is signed in."""
        self._call("note_act", act=act, what=what, detail=json.dumps(dict(detail)))

    def acts(self, words: str = "", limit: int = 500) -> list[LogEntry]:
        """That log, the newest first; those that hold the words. Administrators only."""
        return [LogEntry(*row) for row in self._call("list_acts", words=words, limit=limit)]

    def add_profile(self, user_id: str, display_name: str, origin: Origin) -> Profile:
        return Profile(*self._call("add_profile", user_id=user_id, name=check_name(display_name), origin=origin))

    def profiles(self, origin: Origin | None = None) -> list[Profile]:
        return [Profile(*row) for row in self._call("list_profiles", origin=origin)]

    # chats ----------------------------------------------------------------------------------------------------------

    def counts(self) -> StoreCounts:
        return StoreCounts(*self._call("store_counts"))

    def chat(self, chat_id: str) -> Chat:
        return _chat(chat_id, self._call("get_chat", chat_id=chat_id) if is_uuid(chat_id) else None)

    def search_chats(self, text: str = "", limit: int = 50) -> list[Chat]:
        return [Chat(*row) for row in self._call("search_chats", text=text.strip(), limit=limit)]

    def chats_of_queue(self, queue_id: str, limit: int) -> list[Chat]:
        return [Chat(*row) for row in self._call("chats_of_queue", queue_id=queue_id, limit=limit)]

    def queues(self) -> list[Queue]:
        return [Queue(*row) for row in self._call("list_queues")]

    def save_queue(self, queue: Queue) -> Queue:
        check_queue(queue)
        values = asdict(queue) | {
            "name": queue.name.strip(), "source": queue.source or None, "words": (queue.words or "").strip() or None,
        }  # fmt: skip
        try:
            return Queue(*self._call("save_queue", queue=json.dumps(values)))
        except Duplicate:
            raise Duplicate(f"There is a queue named {queue.name.strip()!r} already. Choose another name.") from None

    def archive_queue(self, queue_id: str, *, archived: bool = True) -> None:
        if not is_uuid(queue_id) or not self._call("archive_queue", id=queue_id, archived=archived):
            raise NotFound(f"There is no queue {queue_id!r}. It may have been deleted.")

    def set_priorities(self, queue_id: str, priorities: Mapping[str, float]) -> None:
        self._call("set_priorities", queue_id=queue_id, priorities=json.dumps(dict(priorities)))

    def set_queue_chats(self, queue_id: str, chats: Mapping[str, Sequence[int]]) -> int:
        if not is_uuid(queue_id):
            raise NotFound(f"There is no queue {queue_id!r}. It may have been deleted.")
        given = {chat_id: list(steps) for chat_id, steps in chats.items() if is_uuid(chat_id)}
        return int(self._call("set_queue_chats", queue_id=queue_id, chats=json.dumps(given)))

    def steps_asked(self, queue_id: str, chat_ids: Sequence[str]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = self._call("steps_asked", queue_id=queue_id, chats=json.dumps(list(chat_ids)))
        return found

    # what is known, asked and disputed --------------------------------------------------------------------------------

    def rubric(self, queue_id: str) -> Rubric | None:
        found = self._call("get_rubric", queue_id=queue_id) if is_uuid(queue_id) else None
        return Rubric(found[0], found[1], aspects_from_json(found[2]), found[3]) if found else None

    def save_rubric(self, queue_id: str, aspects: Sequence[Aspect]) -> Rubric:
        checked = check_aspects(aspects)
        found = self._call("save_rubric", queue_id=queue_id, aspects=aspects_to_json(checked)) if is_uuid(queue_id) else None
        if found is None:
            raise NotFound(f"There is no queue {queue_id!r}. It may have been deleted.")
        return Rubric(found[0], found[1], checked, found[3])

    def gold(self) -> list[Gold]:
        return [Gold.of(row) for row in self._call("all_gold")]

    def remove_gold(self, gold_id: str) -> bool:
        return is_uuid(gold_id) and bool(self._call("remove_gold", id=gold_id))

    def screenings(self, queue: Queue) -> list[Screening]:
        return [Screening(*row) for row in self._call("screenings", queue_id=queue.id, screening=queue.screening)]

    def forget_screening(self, queue_id: str, user_id: str) -> None:
        self._call("forget_screening", queue_id=queue_id, user_id=user_id)

    def set_hints(self, queue_id: str, checkpoint_id: str, rewards: Mapping[str, Mapping[str, float]]) -> None:
        given = {chat_id: dict(one) for chat_id, one in rewards.items()}
        self._call("set_hints", queue_id=queue_id, checkpoint_id=checkpoint_id, rewards=json.dumps(given))

    def disputes(self, limit: int = 200) -> list[Dispute]:
        return [Dispute(*row) for row in self._call("disputes", limit=limit)]

    def judgements(self, chat_id: str, other_id: str | None = None) -> list[Judgement]:
        if not _can_be_here(chat_id, other_id):
            return []
        return [Judgement(*row) for row in self._call("judgements", chat_id=chat_id, other_id=other_id)]

    def decisions(self, chat_id: str, other_id: str | None = None) -> list[Decision]:
        if not _can_be_here(chat_id, other_id):
            return []
        return [Decision(*row) for row in self._call("decisions_of", chat_id=chat_id, other_id=other_id)]

    def mean_scores(self, chat_id: str) -> dict[str | None, tuple[float, int]]:
        if not is_uuid(chat_id):
            return {}
        return {step_id: (float(mean), count) for step_id, mean, count in self._call("mean_scores", chat_id=chat_id)}

    @contextmanager
    def bulk(self) -> Iterator[tuple[SupabaseBulkWriter, BulkCounts]]:
        counts = BulkCounts()
        writer = SupabaseBulkWriter(self._connection)
        try:
            yield writer, counts
            writer.finish(counts)
        except BaseException:
            writer.drop()
            raise

    @contextmanager
    def export(self) -> Iterator[SupabaseExport]:
        export = SupabaseExport(self._connection)
        try:
            yield export
        finally:
            export.end()

    def row_hashes(self, table: TableName, ids: Sequence[str]) -> dict[str, str]:
        """SHA-256 of each of these rows that is here, by id, as ``services.migrating.row_hash`` makes it. Administrators only."""
        found: dict[str, str] = self._call("row_hashes", table=table, ids=json.dumps(list(ids)))
        return found

    def adopt_ratings(self, from_id: str, to_id: str) -> int:
        """Make the ratings of somebody who was carried over without an account those of an account; returns how many moved.

        Raises:
            NotFound: there is no such person, or no such account.
        """
        return int(self._call("adopt_ratings", **{"from": from_id, "to": to_id}))

    def renew_feedback(self, rows: Sequence[Sequence[Any]]) -> int:
        """Bring judgements up to date that were changed elsewhere later than here; returns how many were."""
        return int(self._call("renew_feedback", rows=json.dumps(rows))) if rows else 0

    def judged_otherwise(self, judgements: Sequence[tuple[str, str, str, str | None]]) -> set[str]:
        """Of these (id, user_id, chat_id, step_id), the ids whose person has judged that thing here under another id."""
        return set(self._call("judged_otherwise", judgements=json.dumps(judgements))) if judgements else set()


class SupabaseUserStore:
    """:class:`~rlhf_core.store.base.UserStore` of the person who is signed in. The server says who that is, and what time."""

    def __init__(self, connection: Connection) -> None:
        self._call = connection.call

    def rate(self, chat_id: str, step_id: str | None, score: int, scale: Scale) -> Feedback:
        check_score(score)
        row = None
        if _can_be_here(chat_id, step_id):
            row = self._call("rate", id=new_id(), chat_id=chat_id, step_id=step_id, score=score, scale=scale)
        if row is None:
            what = f"Chat {chat_id!r} does not exist" if step_id is None else f"Chat {chat_id!r} has no step {step_id!r}"
            if is_uuid(chat_id) and step_id is not None and self._call("get_chat", chat_id=chat_id) is None:
                what = f"Chat {chat_id!r} does not exist"
            raise NotFound(f"{what}. Reload the page to see the chat as it is now.")
        return Feedback(*row)

    def comment(self, chat_id: str, step_id: str | None, text: str) -> Feedback:
        text = check_comment(text)
        row = None
        if _can_be_here(chat_id, step_id):
            row = self._call("comment_on", chat_id=chat_id, step_id=step_id, comment=text or None)
        if row is None:
            raise NotFound("There is no rating to comment on yet. Rate first, then comment.")
        return Feedback(*row)

    def withdraw(self, chat_id: str, step_id: str | None) -> bool:
        return _can_be_here(chat_id, step_id) and bool(self._call("withdraw", chat_id=chat_id, step_id=step_id))

    def view(self, chat_id: str, other_id: str | None = None) -> LabelView:
        found = None
        if _can_be_here(chat_id, other_id):
            pair = {} if other_id is None else {"other_id": other_id}
            found = self._call("pair_view" if pair else "label_view", chat_id=chat_id, **pair)
        if found is None and other_id is not None:
            raise NotFound("These two chats are no pair: they answer different questions, or one of them is gone.")
        chat = _chat(chat_id, found)
        assert found is not None
        return _view(chat, found)

    def apply(self, ops: Sequence[LabelOp]) -> dict[str, str]:
        outcomes: dict[str, str] = {}
        sendable = []
        for op in ops:
            wrong = _wrong_with(op)
            if wrong:
                outcomes[op.id] = wrong
            else:
                sendable.append([op.id, op.kind, op.chat_id, op.step_id, dict(op.value)])
        if sendable:
            outcomes |= dict(self._call("apply_ops", ops=json.dumps(sendable)))
        return {op.id: outcomes[op.id] for op in ops}

    def claim(self, queue_id: str, count: int) -> list[LabelView]:
        if not is_uuid(queue_id):
            raise NotFound(f"There is no queue {queue_id!r}. It may have been deleted.")
        found = self._call("claim", queue_id=queue_id, count=count)
        if "failed" in found:
            raise ScreeningFailed(*found["failed"])
        return [_view(_chat("", one), one) for one in found["views"]]

    def after(self, queue_id: str, chat_id: str, other_id: str | None = None) -> After | None:
        if not _can_be_here(queue_id, chat_id, other_id):
            return None
        found = self._call("after_item", queue_id=queue_id, chat_id=chat_id, other_id=other_id)
        if found is None:
            return None
        places = tuple(GoldPlace(*one) for one in found.get("places", []))
        return After(places, found.get("explanation", ""), found.get("checkpoint"), found.get("rewards", {}))

    def chosen(self, limit: int = 50) -> list[Chosen]:
        return [Chosen(*row) for row in self._call("my_chosen", limit=limit)]

    def decide(self, decision: Decision) -> Decision:
        check_decision(decision)
        values = {name: getattr(decision, name) for name in ("id", "chat_id", "other_id", "step_id", "kind", "value")}
        named = [decision.value] if decision.kind == "first_error" and decision.value else []
        found = None
        if _can_be_here(decision.chat_id, decision.other_id, decision.step_id, *named):
            found = self._call("decide", **values, reason=decision.reason.strip())
        if found is None:
            raise NotFound("This chat, pair or step is no longer there. Reload the page.")
        return Decision(*found)

    def undecide(self, decision: Decision) -> bool:
        values = {name: getattr(decision, name) for name in ("chat_id", "other_id", "step_id", "kind")}
        return bool(self._call("undecide", **values))

    def save_gold(
        self, chat_id: str, answer: GoldAnswer, explanation: str = "", other_id: str | None = None, gold_id: str | None = None
    ) -> str:
        check_gold(answer, other_id)
        found: str | None = None
        if _can_be_here(chat_id, other_id, gold_id, *answer.scores, answer.first_error or None):
            found = self._call(
                "save_gold", id=gold_id or new_id(), chat_id=chat_id, other_id=other_id, answer=answer.to_json(),
                explanation=explanation.strip(),
            )  # fmt: skip
        if found is None:
            raise NotFound("There is no such chat or pair, or a step that is named is not one of its steps.")
        return found

    def release(self, queue_id: str, chat_id: str | None = None) -> None:
        self._call("release", queue_id=queue_id, chat_id=chat_id)

    def queue_progress(self, queue_id: str) -> QueueProgress:
        found = self._call("queue_progress", queue_id=queue_id) if is_uuid(queue_id) else None
        return QueueProgress(*found) if found else QueueProgress(0, 0, 0, 0)

    def history(self, before: str | None = None, limit: int = 50) -> list[Worked]:
        return [Worked(*row) for row in self._call("my_history", before=before, limit=limit)]

    def changes(self, chat_id: str) -> list[Change]:
        return [Change(*row) for row in self._call("my_changes", chat_id=chat_id)] if is_uuid(chat_id) else []

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        found = self._call("my_everything")
        return {table: [dict(zip(names, row, strict=True)) for row in found[table]] for table, names in MINE.items()}

    def consent(self) -> tuple[Consent | None, str | None]:
        given, at = self._call("my_consent") or (False, None)
        return (None if at is None else "given" if given else "withdrawn"), at

    def set_consent(self, consent: Consent) -> None:
        self._call("set_consent", consent=consent == "given")

    def erase(self) -> int:
        return int(self._call("erase_mine"))

    def ratings(self, chat_id: str) -> dict[str | None, Feedback]:
        return _by_step(self._call("my_ratings", chat_id=chat_id)) if is_uuid(chat_id) else {}


def _can_be_here(*ids: str | None) -> bool:
    """The database knows UUIDs only, and refuses to look for anything else; None stands for the whole answer."""
    return all(one is None or is_uuid(str(one)) for one in ids)


def _chat(chat_id: str, found: dict[str, Any] | None) -> Chat:
    if found is None:
        raise NotFound(f"There is no chat {chat_id!r} in this store. It may have been deleted.")
    return replace(Chat(*found["chat"]), steps=tuple(Step(*step) for step in found["steps"]))


def _view(chat: Chat, found: dict[str, Any]) -> LabelView:
    other = found.get("other")
    return LabelView(
        chat, _by_step(found["ratings"]), _marks(found["marks"]),
        {(step, aspect): score for step, aspect, score in found["aspects"]}, found["rewrites"],
        _chat("", other) if other else None,
        {(step, aspect): Preference(*rest) for step, aspect, *rest in found.get("preferences", [])},
    )  # fmt: skip


def _marks(found: list[Any]) -> Marks:
    return Marks(found[0], tuple(found[1]))


def _wrong_with(op: LabelOp) -> str:
    """Why an operation cannot be sent; empty where it can."""
    try:
        if not _can_be_here(op.chat_id, op.step_id, op.value.get("queue"), op.value.get("other")):
            return f"Chat {op.chat_id!r}, or this step of it, is no longer there. Reload the page."
        check_op(op)
    except InvalidInput as error:
        return str(error)
    return ""


def _by_step(rows: list[list[Any]]) -> dict[str | None, Feedback]:
    mine = [Feedback(*row) for row in rows]
    return {feedback.step_id: feedback for feedback in mine}


class SupabaseBulkWriter:
    """:class:`~rlhf_core.store.base.BulkWriter`: rows travel in parts of about a megabyte, and become rows together."""

    def __init__(self, connection: Connection) -> None:
        self._call = connection.call
        self._id = new_id()
        self._parts = 0

    def _stage(self, kind: str, rows: Sequence[Sequence[Any]]) -> None:
        part: list[str] = []
        size = 0
        for row in rows:
            text = json.dumps(row, ensure_ascii=False)
            if part and (size + len(text) > STAGE_BYTES or len(part) == STAGE_ROWS):
                self._send(kind, part)
                part, size = [], 0
            part.append(text)
            size += len(text)
        if part:
            self._send(kind, part)

    def _send(self, kind: str, part: list[str]) -> None:
        self._call("stage_import", **{"import": self._id, "part": self._parts, "kind": kind, "rows": f"[{','.join(part)}]"})
        self._parts += 1

    def add_profiles(self, rows: Sequence[tuple[str, str]], origin: Origin) -> None:
        self._stage("profiles", [(user_id, plain_name(name), origin) for user_id, name in rows])

    def add_chats(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._stage("chats", rows)

    def add_steps(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._stage("reasoning_steps", rows)

    def add_feedback(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._stage("chat_feedback", rows)

    def add_preferences(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._stage("preferences", rows)

    def add_aspect_ratings(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._stage("aspect_ratings", rows)

    def finish(self, counts: BulkCounts) -> None:
        if self._parts == 0:
            return
        added = self._call("finish_import", **{"import": self._id, "parts": self._parts})
        for name, value in added.items():
            setattr(counts, name, value)

    def drop(self) -> None:
        if self._parts:
            # otherwise it is swept a day later; the error that brought us here is the one to tell
            with contextlib.suppress(RlhfError):
                self._call("drop_import", **{"import": self._id})


class SupabaseExport:
    """:class:`~rlhf_core.ground.tables.Export`: what there was when it began, in pages.

    Chats that are deleted while it runs are missed from the pages; that is noticed by their number, and said.
    """

    def __init__(self, connection: Connection) -> None:
        self._call = connection.call
        self._id = new_id()
        self._begun: dict[str, Any] = self._call("begin_export", export=self._id)

    def end(self) -> None:
        with contextlib.suppress(RlhfError):  # otherwise a later export sweeps what this one marked
            self._call("end_export", export=self._id)

    def rows(self, table: TableName, *, since: str | None = None) -> Iterator[list[tuple[Any, ...]]]:
        own = {"chats": self._chats, "reasoning_steps": self._steps, "chat_feedback": self._feedback}
        seen = 0
        for page, count in own[table](since) if table in own else self._lines(table):
            seen += count
            if page:
                yield [tuple(row) for row in page]
        if seen != self._begun.get(table, 0):
            raise StoreUnavailable(
                f"{table} had {self._begun.get(table, 0):,} rows when the export began and {seen:,} when it was read: somebody "
                "deleted or added chats meanwhile. Try again."
            )

    def _chats(self, _since: str | None) -> Iterator[tuple[list[list[Any]], int]]:
        at: tuple[str | None, str | None] = (None, None)
        while page := self._call(
            "export_chats", export=self._id, after_created_at=at[0], after_id=at[1], limit=PAGE_ROWS, bytes=PAGE_BYTES
        ):
            at = (page[-1][7], page[-1][0])
            yield page, len(page)

    def _steps(self, _since: str | None) -> Iterator[tuple[list[list[Any]], int]]:
        at: tuple[str | None, str | None] = (None, None)
        while True:
            page = self._call(
                "export_steps_by_chat",
                export=self._id,
                after_created_at=at[0],
                after_id=at[1],
                chats=PAGE_CHATS,
                bytes=PAGE_BYTES,
            )
            if page["last"] is None:
                return
            at = (page["last"][0], page["last"][1])
            yield page["rows"], len(page["rows"])

    def _feedback(self, since: str | None) -> Iterator[tuple[list[list[Any]], int]]:
        last = 0
        while True:
            page = self._call("export_feedback", export=self._id, after=last, limit=PAGE_ROWS, since=since)
            if page["last"] is None:
                return
            count, last = page["last"] - last, page["last"]
            yield page["rows"], count

    def _lines(self, table: TableName) -> Iterator[tuple[list[list[Any]], int]]:
        last = 0
        while page := self._call("export_lines", export=self._id, kind=table, after=last, limit=PAGE_ROWS):
            last += len(page)
            yield page, len(page)

    def parts(self, table: TableName, *, since: str | None = None) -> Iterator[Part]:
        return parts_of(table, self.rows(table, since=since))

    def demo_raters(self) -> frozenset[str]:
        return frozenset(self._begun["demo_raters"])
