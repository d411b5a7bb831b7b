"""Carry an embedded workspace's chats, ratings, preferences and aspects over to a team's store: restartable, verified by row.

A chat travels with its steps and ratings in one transaction, so a kill leaves whole chats only; what is there already is
not sent again. Every row is then compared by hash. Of two words of one person on one thing, the later stays. Snapshots, runs and
checkpoints stay in the workspace, which the team's server goes on using.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rlhf_core.analytics.pseudonyms import pseudonym_key
from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.records import Profile, content_id, is_uuid
from rlhf_core.ground.tables import CARRIED, EXPORT_COLUMNS, TableName
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.sqlite_export import SqliteExport
from rlhf_core.store.supabase import SupabaseStore

CHATS_AT_ONCE = 500
_IDS = {"id", "chat_id", "step_id", "user_id", "owner_id", "other_id", "shown_left"}
_SENT: dict[TableName, tuple[str, ...]] = {
    "chats": ("id", "query", "response", "source", "model", "external_id", "created_at", "owner_id"),
    "reasoning_steps": EXPORT_COLUMNS["reasoning_steps"],
    "chat_feedback": EXPORT_COLUMNS["chat_feedback"],
}


@dataclass(slots=True)
class Carried:
    """Rows of one table: ``rows`` there are, of which so many were ``added`` now; ``same`` on both sides by hash after it.

    ``kept``: judgements where the team's store has that person's own of that thing, or a later one; it stays.
    ``wrong``: not there, or not the same.
    """

    rows: int = 0
    added: int = 0
    same: int = 0
    kept: int = 0
    wrong: int = 0


@dataclass(slots=True)
class MigrationReport:
    """``renewed``: judgements carried over before whose person changed their mind here since."""

    people: int = 0
    renewed: int = 0
    tables: dict[TableName, Carried] = field(default_factory=lambda: {table: Carried() for table in CARRIED})

    @property
    def complete(self) -> bool:
        """Every row is there; where it is not the same, because a person's own word there stays."""
        return all(one.rows == one.same + one.kept for one in self.tables.values())

    def __str__(self) -> str:
        lines = [f"people           {self.people:>9,}"]
        for table, one in self.tables.items():
            lines.append(
                f"{table:<16} {one.rows:>9,} rows: {one.added:,} added now, {one.same:,} the same by hash"
                + (f", {one.kept:,} where the team's store keeps its own" if one.kept else "")
                + (f", {one.wrong:,} MISSING OR DIFFERENT" if one.wrong else "")
            )
        if self.renewed:
            lines.append(
                f"{self.renewed:,} ratings that were carried over before have changed here since; they were brought up to date"
            )
        return "\n".join(lines)


def migrate(
    workbench: Workbench,
    target: SupabaseStore,
    people: Mapping[str, str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> MigrationReport:
    """Carry everything over.

    Args:
        workbench: Its embedded store is the source, whatever store it is set to use.
        target: The team's store as its operator.
        people: E-mail address of the account that goes on as a local person, by that person's name. Others are carried over
            as people who cannot sign in.
        on_progress: Called with (chats done, chats in all).

    Raises:
        InvalidInput, NotFound: somebody in ``people`` is not known here or there.
        StoreUnavailable: the server went away; run it again and it goes on.
    """
    report = MigrationReport()
    with workbench.embedded.export() as export:
        profiles = workbench.embedded.profiles()
        rename = _Renaming(
            pseudonym_key(workbench.workspace.keys).hex(), _accounts(profiles, target, people or {})
        )  # fmt: skip
        _adopt(target, rename)
        report.people = _carry_people(profiles, target, rename)
        total = workbench.embedded.counts().chats
        done = 0
        for batch in export.rows("chats"):
            for begin in range(0, len(batch), CHATS_AT_ONCE):
                chats = batch[begin : begin + CHATS_AT_ONCE]
                _carry_chats(export, chats, target, rename, report)
                done += len(chats)
                if on_progress:
                    on_progress(done, total)
        for batch in export.rows("preferences"):
            _carry_judgements("preferences", batch, target, rename, report)
        for batch in export.rows("aspect_ratings"):
            _carry_judgements("aspect_ratings", batch, target, rename, report)
    return report


class _Renaming:
    """Identifiers for a store that knows UUIDs only. The same each time, and of this workspace alone."""

    def __init__(self, salt: str, accounts: Mapping[str, str]) -> None:
        self._salt, self.accounts = salt, accounts

    def __call__(self, old: str) -> str:
        return self.accounts.get(old) or self.without_account(old)

    def without_account(self, old: str) -> str:
        return old if is_uuid(old) else content_id("carried over", self._salt, old)

    def row(self, table: TableName, row: Sequence[Any]) -> dict[str, Any]:
        named = dict(zip(EXPORT_COLUMNS[table], row, strict=True))
        return {name: self(value) if name in _IDS and value is not None else value for name, value in named.items()}


def _accounts(profiles: list[Profile], target: SupabaseStore, people: Mapping[str, str]) -> dict[str, str]:
    """Account by local user id, for those who have one."""
    if not people:
        return {}
    local = {one.display_name.casefold(): one.user_id for one in profiles if one.origin == "local"}
    members = {one.email.casefold(): one.user_id for one in target.team()}
    found = {}
    for name, email in people.items():
        if name.casefold() not in local:
            names = ", ".join(one.display_name for one in profiles if one.origin == "local")
            raise InvalidInput(f"There is no {name!r} among the local people. They are: {names or 'nobody'}.")
        if email.casefold() not in members:
            raise NotFound(f"Nobody has signed up as {email}. Have them create an account first, or leave {name} out.")
        found[local[name.casefold()]] = members[email.casefold()]
    return found


def _adopt(target: SupabaseStore, rename: _Renaming) -> None:
    """Whoever was carried over without an account before, and has one now."""
    there = {one.user_id for one in target.profiles("local")} if rename.accounts else set()
    for old, account in rename.accounts.items():
        if rename.without_account(old) in there:
            target.adopt_ratings(rename.without_account(old), account)


def _carry_people(profiles: list[Profile], target: SupabaseStore, rename: _Renaming) -> int:
    known = {one.user_id for one in target.profiles()}
    with target.bulk() as (writer, _):
        for origin in dict.fromkeys(one.origin for one in profiles):  # one request for many people, not one for each
            new = [(rename(one.user_id), one.display_name) for one in profiles if one.origin == origin]
            writer.add_profiles([row for row in new if row[0] not in known], origin)
    known = {one.user_id for one in target.profiles()}
    absent = [one.display_name for one in profiles if rename(one.user_id) not in known]
    if absent:
        raise NotFound(f"These people did not arrive: {', '.join(absent)}. Run the migration again.")
    return len(profiles)


def _carry_chats(
    export: SqliteExport, chats: list[tuple[Any, ...]], target: SupabaseStore, rename: _Renaming, report: MigrationReport
) -> None:
    ids = [row[0] for row in chats]
    found: dict[TableName, list[tuple[Any, ...]]] = {
        "chats": chats,
        "reasoning_steps": export.rows_of("reasoning_steps", ids),
        "chat_feedback": export.rows_of("chat_feedback", ids),
    }
    rows = {table: [rename.row(table, row) for row in some] for table, some in found.items()}
    before = {table: target.row_hashes(table, [row["id"] for row in some]) for table, some in rows.items()}
    new = {
        table: [tuple(row[name] for name in _SENT[table]) for row in some if row["id"] not in before[table]]
        for table, some in rows.items()
    }
    older = [
        tuple(row.values()) for row in rows["chat_feedback"]
        if before["chat_feedback"].get(row["id"], "") not in ("", _hash("chat_feedback", row))
    ]  # fmt: skip
    renewed = target.renew_feedback(older)
    report.renewed += renewed
    after = before
    if any(new.values()) or renewed:
        with target.bulk() as (writer, _):
            writer.add_chats(new["chats"])
            writer.add_steps(new["reasoning_steps"])
            writer.add_feedback(new["chat_feedback"])
        after = {table: target.row_hashes(table, [row["id"] for row in some]) for table, some in rows.items()}
    for table, some in rows.items():
        counts = report.tables[table]
        theirs = _judged(target, some, after[table]) if table == "chat_feedback" else set()
        for row in some:
            there = after[table].get(row["id"])
            counts.rows += 1
            counts.added += there is not None and row["id"] not in before[table]
            if there == _hash(table, row):
                counts.same += 1
            elif table == "chat_feedback" and (there is not None or row["id"] in theirs):
                counts.kept += 1
            else:
                counts.wrong += 1


def _carry_judgements(
    table: Literal["preferences", "aspect_ratings"], batch: list[tuple[Any, ...]], target: SupabaseStore, rename: _Renaming,
    report: MigrationReport,
) -> None:  # fmt: skip
    """Preferences or aspects. What a person has said there already, or changed since, stays."""
    rows = [_settled(table, rename.row(table, row)) for row in batch]
    counts = report.tables[table]
    before = target.row_hashes(table, [row["id"] for row in rows])
    new = [tuple(row.values()) for row in rows if row["id"] not in before]
    after, known = before, 0
    if new:
        with target.bulk() as (writer, bulk):
            (writer.add_preferences if table == "preferences" else writer.add_aspect_ratings)(new)
        known = bulk.known_ratings
        after = target.row_hashes(table, [row["id"] for row in rows])
    absent = sum(row["id"] not in after for row in rows)
    same = sum(after.get(row["id"]) == row_hash(row.values()) for row in rows)
    counts.rows += len(rows)
    counts.added += len(new) - absent
    counts.same += same
    counts.kept += len(rows) - absent - same + min(absent, known)
    counts.wrong += max(0, absent - known)


def _settled(table: TableName, row: dict[str, Any]) -> dict[str, Any]:
    """Queues stay where they are, and with them rubrics; a pair is written one way only, whatever its chats are called now."""
    if table == "aspect_ratings":
        return row | {"queue_id": None, "rubric_version": None}
    if row["chat_id"] > row["other_id"]:
        flipped = {"chat": "other", "other": "chat"}.get(row["verdict"], row["verdict"])
        return row | {"chat_id": row["other_id"], "other_id": row["chat_id"], "verdict": flipped}
    return row


def _judged(target: SupabaseStore, rows: list[dict[str, Any]], there: Mapping[str, str]) -> set[str]:
    """Of judgements that are not there: those whose person has judged the same thing there under another id."""
    absent = [row for row in rows if row["id"] not in there]
    return target.judged_otherwise([(row["id"], row["user_id"], row["chat_id"], row["step_id"]) for row in absent])


def _hash(table: TableName, row: Mapping[str, Any]) -> str:
    """When a chat or step came into a store is left out: the same file may have been imported into both."""
    return row_hash(value for name, value in row.items() if name != "created_at" or table == "chat_feedback")


def row_hash(values: Iterable[Any]) -> str:
    """SHA-256 of a row's fields as the database makes it: joined by U+001F, a null as U+2400."""
    text = "\x1f".join("\u2400" if value is None else str(value) for value in values)
    return hashlib.sha256(text.encode()).hexdigest()
