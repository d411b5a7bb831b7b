"""An embedded workspace goes to a team's store: whole, restartable, verified."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground.errors import InvalidInput, NotFound, StoreUnavailable
from rlhf_core.ground.records import Session
from rlhf_core.ground.settings import PROJECT_ROOT
from rlhf_core.services import migrating, snapshots
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.supabase import SupabaseBulkWriter, SupabaseStore
from tests.conftest import command, learnable_chats
from tests.contract.store_contract import uid
from tests.supabase.server import TeamServer

SignIn = Callable[..., tuple[Session, SupabaseStore]]


@pytest.fixture
def full(demo: Workbench) -> Workbench:
    """The demo set, and ratings by two local people, one of them with the first person's odd id."""
    for person in (demo.people()[0], demo.add_person("Ana")):
        for chat in demo.store.search_chats(limit=3):
            mine = demo.store.for_user(Workbench.session(person))
            mine.rate(chat.id, None, 4, "stars")
            mine.comment(chat.id, None, "dé\u2028 'quoted'")
    return demo


def totals(store: Any) -> tuple[int, int, int]:
    counts = store.counts()
    return counts.chats, counts.steps, counts.ratings


def test_everything_arrives_and_is_the_same(full: Workbench, operator: SupabaseStore) -> None:
    report = migrating.migrate(full, operator)
    assert report.complete
    assert totals(operator) == totals(full.store) == (60, 286, 828)
    assert [(one.rows, one.added, one.same) for one in report.tables.values()] == [
        (60,) * 3, (286,) * 3, (828,) * 3, (0,) * 3, (0,) * 3,
    ]  # fmt: skip
    origins = sorted(one.origin for one in operator.profiles() if one.origin != "account")
    assert origins == sorted(one.origin for one in full.embedded.profiles())
    again = migrating.migrate(full, operator)
    assert again.complete
    assert [one.added for one in again.tables.values()] == [0] * 5
    assert totals(operator) == (60, 286, 828)


def test_the_same_data_gives_the_same_snapshot(demo: Workbench, operator: SupabaseStore, tmp_path: Path) -> None:
    first, _ = snapshots.take(demo)
    migrating.migrate(demo, operator)
    demo._store = operator
    second, new = snapshots.take(demo)
    assert second.manifest["content_sha256"] == first.manifest["content_sha256"]
    assert (second.id, new) == (first.id, False)


def test_local_people_go_on_as_accounts(full: Workbench, operator: SupabaseStore, sign_in: SignIn, accounts: Any) -> None:
    ana, hers = sign_in("Ana")
    email = accounts["Ana"][1]
    chats = full.store.search_chats(limit=3)
    own = hers.for_user(ana)
    with pytest.raises(InvalidInput, match="no 'Anna' among the local people.*Ana"):
        migrating.migrate(full, operator, {"Anna": email})
    with pytest.raises(NotFound, match="Nobody has signed up as x@example.com"):
        migrating.migrate(full, operator, {"Ana": "x@example.com"})
    assert totals(operator) == (0, 0, 0)
    assert migrating.migrate(full, operator, {"Ana": email.upper()}).complete
    assert {chat.id: own.ratings(chat.id)[None].comment for chat in chats} == {chat.id: "dé\u2028 'quoted'" for chat in chats}
    own.rate(chats[0].id, None, 1, "stars")  # a mind changed there stays changed
    report = migrating.migrate(full, operator, {"Ana": email})
    assert report.complete
    assert (report.tables["chat_feedback"].kept, report.tables["chat_feedback"].added) == (1, 0)
    assert own.ratings(chats[0].id)[None].feedback_score == 1


def test_what_somebody_has_rated_there_already_is_theirs(
    full: Workbench, operator: SupabaseStore, sign_in: SignIn, accounts: Any
) -> None:
    ana, hers = sign_in("Ana")
    migrating.migrate(full, operator)  # without saying who Ana is: her ratings belong to somebody who cannot sign in
    chats = full.store.search_chats(limit=3)
    hers.for_user(ana).rate(chats[0].id, None, 2, "stars")
    report = migrating.migrate(full, operator, {"Ana": accounts["Ana"][1]})  # and now they become hers
    assert report.complete
    assert report.tables["chat_feedback"].kept == 1
    assert [hers.for_user(ana).ratings(chat.id)[None].feedback_score for chat in chats] == [2, 4, 4]
    assert migrating.migrate(full, operator, {"Ana": accounts["Ana"][1]}).complete
    assert operator.adopt_ratings(uid("gone"), ana.user_id) == 0  # asked again after a lost answer


def test_a_mind_changed_here_after_the_first_time_is_brought_up_to_date(full: Workbench, operator: SupabaseStore) -> None:
    migrating.migrate(full, operator)
    ana = Workbench.session(next(one for one in full.people() if one.display_name == "Ana"))
    chat = full.store.search_chats(limit=1)[0].id
    full.store.for_user(ana).rate(chat, None, 1, "stars")
    full.store.for_user(ana).comment(chat, None, "on second thoughts")
    report = migrating.migrate(full, operator)
    assert (report.complete, report.renewed, report.tables["chat_feedback"].kept) == (True, 1, 0)
    assert operator.row_hashes("chat_feedback", [full.store.for_user(ana).ratings(chat)[None].id])
    assert migrating.migrate(full, operator).renewed == 0


def test_both_stores_may_have_imported_the_same_file(
    workbench: Workbench, add_chats: Any, operator: SupabaseStore, tmp_path: Path
) -> None:
    add_chats(*learnable_chats(3))
    embedded, workbench._store = workbench._store, operator
    report = add_chats(*learnable_chats(3))  # a moment later: every time in it is another
    assert report.added.chats == 3
    workbench._store = embedded
    found = migrating.migrate(workbench, operator)
    assert found.complete
    assert [one.added for one in found.tables.values()] == [0] * 5


def test_odd_names_stop_nothing(full: Workbench, operator: SupabaseStore) -> None:
    with full.store.bulk() as (writer, _):
        writer.add_profiles([("r1", "x" * 300), ("r2", "two\nlines")], "imported")
    assert migrating.migrate(full, operator).complete
    assert {"x" * 200, "two lines"} <= {one.display_name for one in operator.profiles("imported")}


def test_killed_in_the_middle_it_goes_on(full: Workbench, operator: SupabaseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "CHATS_AT_ONCE", 7)
    real, calls = SupabaseBulkWriter.finish, 0

    def dies(self: SupabaseBulkWriter, counts: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise StoreUnavailable("the network went away")
        real(self, counts)

    monkeypatch.setattr(SupabaseBulkWriter, "finish", dies)
    with pytest.raises(StoreUnavailable):
        migrating.migrate(full, operator)
    chats, steps, _ = totals(operator)
    assert 0 < chats < 60
    whole = {chat.id: len(full.store.chat(chat.id).steps) for chat in full.store.search_chats(limit=100)}
    there = operator.search_chats(limit=100)
    assert steps == sum(whole[chat.id] for chat in there), "a chat comes with its steps or not at all"
    report = migrating.migrate(full, operator)
    assert report.complete
    assert report.tables["chats"].added == 60 - chats
    assert totals(operator) == (60, 286, 828)


def test_a_row_that_differs_is_found(full: Workbench, operator: SupabaseStore, team: TeamServer) -> None:
    migrating.migrate(full, operator)
    team.sql("update public.chats set response = response || '.' where id = (select min(id::text)::uuid from public.chats)")
    report = migrating.migrate(full, operator)
    assert not report.complete
    assert report.tables["chats"].wrong == 1
    assert "1 MISSING OR DIFFERENT" in str(report)


@pytest.mark.slow
def test_the_command(full: Workbench, team: TeamServer, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = command("migrate", "--to", "supabase", root=root, check=False)
    assert (refused.returncode, "no team's store to migrate to" in refused.stderr) == (1, True)
    for name, value in team.environment.items():
        monkeypatch.setenv(name, value)
    refused = command("migrate", "--to", "supabase", root=root, check=False)
    assert "set SUPABASE_SECRET_KEY in the environment" in refused.stderr
    monkeypatch.setenv("SUPABASE_SECRET_KEY", team.secret_key)
    wrong = command("migrate", "--to", "supabase", root=root.parent / "typo", check=False)
    assert (wrong.returncode, "There is no workspace in" in wrong.stderr, (root.parent / "typo").exists()) == (1, True, False)
    done = command("migrate", "--to", "supabase", root=root)
    assert re.search(r"chat_feedback +828 rows: 828 added now, 828 the same by hash", done.stdout)
    assert "Verified: every row is there." in done.stdout
    assert "828 ratings" in command("snapshot", root=root).stderr
    assert team.secret_key not in done.stdout + done.stderr


@pytest.mark.slow
def test_the_team_command(team: TeamServer, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (team.environment | {"SUPABASE_SECRET_KEY": team.secret_key}).items():
        monkeypatch.setenv(name, value)
    _, email = team.add_account("Una")
    assert "has the role admin now" in command("team", email.upper(), "admin", root=root).stdout
    assert re.search(rf"^admin +0 ratings +{email} +Una$", command("team", root=root).stdout, re.MULTILINE)
    assert "last administrator" in command("team", email, "none", root=root, check=False).stderr
    assert "Nobody has signed up as x@example.com" in command("team", "x@example.com", "admin", root=root, check=False).stderr


@pytest.mark.slow
def test_a_killed_command_goes_on(full: Workbench, team: TeamServer, operator: SupabaseStore, root: Path) -> None:
    with sqlite3.connect(full.workspace.database) as connection:  # enough of it to be killed in
        connection.execute(
            "WITH RECURSIVE n (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < 4000) INSERT INTO chats "
            "(id, owner_id, query, response, source, model, external_id, created_at) "
            "SELECT printf('00000000-0000-0000-0000-%012d', k), NULL, 'q' || k, 'r', 's', NULL, NULL, "
            "'2020-01-01T00:00:00.000000Z' FROM n"
        )
    connection.close()

    process = subprocess.Popen(
        [sys.executable, "-m", "rlhf_core", "migrate", "--to", "supabase", "--workspace", str(root)], cwd=PROJECT_ROOT, text=True,
        env=os.environ | team.environment | {"SUPABASE_SECRET_KEY": team.secret_key}, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stderr is not None
    process.stderr.readline()
    process.kill()
    process.wait()
    process.stderr.close()
    before = operator.counts().chats
    assert 0 < before < 4060
    report = migrating.migrate(full, operator)
    assert report.complete
    assert operator.counts().chats == 4060
    assert report.tables["chats"].added <= 4060 - before


def test_preferences_and_aspects_go_along(judged: Workbench, operator: SupabaseStore, sign_in: SignIn, accounts: Any) -> None:
    report = migrating.migrate(judged, operator)
    assert report.complete
    for table in ("preferences", "aspect_ratings"):
        one = report.tables[table]  # type: ignore[index]
        assert one.rows == one.added == one.same == judged_rows(judged, table)
    assert all(one.added == 0 for one in migrating.migrate(judged, operator).tables.values())

    # a local person's become their account's, also when they were carried over before
    ana, hers = sign_in("Ana")
    email = accounts["Ana"][1]
    assert migrating.migrate(judged, operator, {"Ana": email}).complete
    mine = hers.for_user(ana).everything()
    person = next(Workbench.session(one) for one in judged.people() if one.display_name == "Ana")
    local = judged.store.for_user(person).everything()
    assert sorted(one["id"] for one in mine["preferences"]) == sorted(one["id"] for one in local["preferences"])
    assert sorted(one["id"] for one in mine["aspect_ratings"]) == sorted(one["id"] for one in local["aspect_ratings"])


def judged_rows(workbench: Workbench, table: Any) -> int:
    with workbench.embedded.export() as export:
        return sum(len(batch) for batch in export.rows(table))
