"""Who may read and write what in a team's store: tried in SQL and through the API, and refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest
from postgrest.exceptions import APIError

from rlhf_core.ground.errors import Conflict, Duplicate, Forbidden, InvalidInput, NotFound
from rlhf_core.ground.records import EVERYTHING, LabelOp, Queue, Session, new_id
from rlhf_core.ground.rollout import assigned, bucket, next_entry, state_of
from rlhf_core.store.supabase import SupabaseStore
from tests.contract.store_contract import NOW, add_chat, step, uid
from tests.supabase.server import HERE, MIGRATIONS, TeamServer

SignIn = Callable[..., tuple[Session, SupabaseStore]]
ROLES = ["annotator", "analyst", "engineer", "admin"]


def client(store: SupabaseStore) -> Any:
    """The raw client of whoever is signed in, past our own code."""
    return store._connection._client


@contextmanager
def acting(team: TeamServer, user_id: str | None, role: str = "authenticated") -> Iterator[psycopg.Connection[Any]]:
    """A database session as the API opens it for a person, rolled back at the end."""
    with psycopg.connect(team.dsn) as connection:
        claims = json.dumps({"sub": user_id, "role": role} if user_id else {"role": role})
        for name, value in (("request.jwt.claims", claims), ("request.jwt.claim.sub", user_id or "")):
            connection.execute("select set_config(%s, %s, true)", (name, value))
        connection.execute(f"set local role {role}")
        yield connection
        connection.rollback()


@pytest.fixture
def world(team: TeamServer, sign_in: SignIn) -> dict[str, Any]:
    """Ana (annotator) and Ben (annotator) have rated chat a; chat b belongs to Zoe, who has no role."""
    a, b = uid("chat", "a"), uid("chat", "b")
    for chat in (a, b):
        team.sql("insert into public.chats (id, query, response, source) values (%s, 'q', 'r', 's')", (chat,))
        team.sql(
            "insert into public.reasoning_steps (id, chat_id, step_content, step_order) "
            "values (%s, %s, 'x', 1), (%s, %s, 'y', 2)",
            (step(chat, 1), chat, step(chat, 2), chat),
        )
    ana, ana_store = sign_in("Ana")
    ben, ben_store = sign_in("Ben")
    zoe, zoe_store = sign_in("Zoe", None)
    team.sql("update public.chats set owner_id = %s where id = %s", (zoe.user_id, b))
    hers = ana_store.for_user(ana).rate(a, step(a, 1), 5, "stars")
    his = ben_store.for_user(ben).rate(a, step(a, 1), 1, "stars")
    return {
        "a": a, "b": b, "ana": ana, "ben": ben, "zoe": zoe, "ana_store": ana_store, "ben_store": ben_store,
        "zoe_store": zoe_store, "hers": hers, "his": his,
    }  # fmt: skip


# the schema ----------------------------------------------------------------------------------------------------------


def test_every_table_has_row_level_security(team: TeamServer) -> None:
    tables = team.sql(
        "select relname, relrowsecurity from pg_class where relkind in ('r', 'p') and relnamespace in ('public'::regnamespace, "
        "'private'::regnamespace)"
    )
    assert len(tables) == 30
    assert [name for name, protected in tables if not protected] == []


TABLE_GRANTS = (
    "select grantee, table_name, privilege_type from information_schema.role_table_grants "
    "where table_schema in ('public', 'private') and grantee in ('anon', 'PUBLIC')"
)
FUNCTION_GRANTS = (
    "select p.proname, has_function_privilege('anon', p.oid, 'execute'), has_function_privilege('authenticated', p.oid, "
    "'execute') from pg_proc p where p.pronamespace = 'public'::regnamespace"
)


def test_nobody_anonymous_holds_anything(team: TeamServer) -> None:
    assert team.sql(TABLE_GRANTS) == []
    functions = team.sql(FUNCTION_GRANTS)
    assert len(functions) > 25
    assert [name for name, anon, _ in functions if anon] == []
    assert [name for name, _, person in functions if not person] == [], "a function without a grant"


def test_a_project_that_grants_everything_by_default(team: TeamServer) -> None:
    """As older hosted projects do; with people in it who signed up before."""
    team.sql("create database hosted")
    try:
        with psycopg.connect(team.dsn, dbname="hosted", autocommit=True) as connection:
            connection.execute((HERE / "hosted.sql").read_text())
            for path in sorted(MIGRATIONS.glob("*.sql")):
                connection.execute(path.read_text())  # type: ignore[arg-type]
            connection.execute((MIGRATIONS / "20261122000400_grants.sql").read_text())  # grants may be said again
            assert connection.execute(TABLE_GRANTS).fetchall() == []
            assert [name for name, anon, _ in connection.execute(FUNCTION_GRANTS).fetchall() if anon] == []
            people = connection.execute("select display_name, origin, role from public.profiles order by 1").fetchall()
            assert people == [("Early Bird", "account", None), ("no-name", "account", None), ("somebody", "account", None)]
            connection.execute("insert into auth.users (email) values ('late@example.com')")
            assert connection.execute("select count(*) from public.profiles").fetchone() == (4,)
    finally:
        team.sql("drop database hosted")


def test_nobody_signed_in_holds_the_staging_tables(team: TeamServer) -> None:
    grants = team.sql(
        "select grantee, table_name from information_schema.role_table_grants where table_schema = 'private' and grantee in "
        "('authenticated', 'service_role')"
    )
    assert grants == []


def test_functions_pin_their_search_path(team: TeamServer) -> None:
    loose = team.sql(
        "select p.proname from pg_proc p where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace) "
        "and not coalesce('search_path=\"\"' = any (p.proconfig), false)"
    )
    assert loose == []


def test_policies_ask_once_a_statement(team: TeamServer) -> None:
    """An auth.uid() or helper that is not wrapped in a select runs once for each row: 39 s instead of 1 over 500k steps."""
    for table, name, using, check in team.sql(
        "select tablename, policyname, coalesce(qual, ''), coalesce(with_check, '') from pg_policies where schemaname = 'public'"
    ):
        for text in (using, check):
            for call in ("auth.uid()", "sees_all_chats()", "sees_all_feedback()", "has_role(", "my_chats()"):
                for piece in text.split(call)[:-1]:
                    assert piece.rstrip().endswith(("SELECT", "SELECT private.")) or "SELECT" in piece[-20:], (table, name, text)


# reading -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (None, {"profiles": 1, "chats": 0, "reasoning_steps": 0, "chat_feedback": 0}),
        ("annotator", {"profiles": 1, "chats": 2, "reasoning_steps": 4, "chat_feedback": 0}),
        ("analyst", {"profiles": 1, "chats": 2, "reasoning_steps": 4, "chat_feedback": 2}),
        ("engineer", {"profiles": 1, "chats": 2, "reasoning_steps": 4, "chat_feedback": 2}),
        ("admin", {"chats": 2, "reasoning_steps": 4, "chat_feedback": 2}),
    ],
)
def test_what_each_role_reads(
    role: Any, expected: dict[str, int], team: TeamServer, world: dict[str, Any], sign_in: SignIn
) -> None:
    cai, store = sign_in("Cai", role)
    with acting(team, cai.user_id) as sql:
        for table, count in expected.items():
            assert sql.execute(f"select count(*) from public.{table}").fetchone() == (count,), table
    for table, count in expected.items():
        assert len(client(store).table(table).select("*").execute().data) == count, table


def test_an_annotator_reads_their_own_ratings_only(world: dict[str, Any]) -> None:
    (row,) = client(world["ben_store"]).table("chat_feedback").select("*").execute().data
    assert row["id"] == world["his"].id
    assert world["ben_store"].mean_scores(world["a"]) == {step(world["a"], 1): (1.0, 1)}
    assert world["ben_store"].counts().ratings == 1


def test_without_a_role_one_reads_and_judges_ones_own_chats_and_writes_nothing_else(world: dict[str, Any]) -> None:
    """Sign-up is open: what a stranger writes must not reach annotators, snapshots or imports. Whose a chat is says whoever holds
    the secret key."""
    zoe, store, b = world["zoe"], world["zoe_store"], world["b"]
    assert [chat.id for chat in store.search_chats()] == [b]
    with pytest.raises(NotFound):
        store.chat(world["a"])
    with pytest.raises(NotFound):
        store.for_user(zoe).rate(world["a"], None, 4, "stars")
    assert store.for_user(zoe).rate(b, step(b, 1), 4, "stars").feedback_score == 4
    raw, mine = client(store), {"id": new_id(), "owner_id": zoe.user_id, "query": "q", "response": "r", "source": "s"}
    for attempt in (
        raw.table("chats").insert(mine),
        raw.table("chats").update({"response": "poison"}).eq("id", b),
        raw.table("chats").delete().eq("id", b),
        raw.table("reasoning_steps").insert({"id": new_id(), "chat_id": b, "step_content": "x", "step_order": 9}),
        raw.table("reasoning_steps").update({"step_content": "x"}).eq("chat_id", b),
        raw.table("reasoning_steps").delete().eq("chat_id", b),
    ):
        with pytest.raises(APIError) as refused:
            attempt.execute()
        assert refused.value.code == "42501"
    assert world["ana_store"].chat(b).steps


def test_an_accounts_name_is_not_for_an_engineer(world: dict[str, Any], sign_in: SignIn) -> None:
    _, store = sign_in("Cai", "engineer")
    assert [one.user_id for one in store.profiles()] == [store.me().user_id]
    with pytest.raises(Duplicate):
        store.add_profile(world["ana"].user_id, "x", "imported")


@pytest.mark.parametrize("name", ["", "x" * 201, "Boss\n\nboss@example.com", "a\x00b", "tab\tbed"])
def test_a_name_is_one_short_line(name: str, world: dict[str, Any], team: TeamServer) -> None:
    with pytest.raises(InvalidInput):
        world["zoe_store"].rename_me(name)
    if "\x00" not in name:
        with pytest.raises(APIError):
            client(world["zoe_store"]).table("profiles").update({"display_name": name}).eq(
                "user_id", world["zoe"].user_id
            ).execute()
    assert team.sql("select display_name from public.profiles where user_id = %s", (world["zoe"].user_id,)) == [("Zoe",)]


# writing -------------------------------------------------------------------------------------------------------------


def forged(world: dict[str, Any], **change: Any) -> dict[str, Any]:
    row = {
        "id": new_id(), "chat_id": world["a"], "step_id": step(world["a"], 2), "user_id": world["ben"].user_id,
        "feedback_type": "positive", "feedback_score": 5, "scale": "stars",
    }  # fmt: skip
    return row | change


TRIED: dict[str, tuple[Callable[[Any, dict[str, Any]], Any], str]] = {
    "feedback as someone else": (
        lambda c, w: c.table("chat_feedback").insert(forged(w, user_id=w["ana"].user_id)), "42501"),
    "someone else's row by its id": (
        lambda c, w: c.table("chat_feedback").upsert(forged(w, id=w["hers"].id)), "42501"),
    "giving one's rating to someone else": (
        lambda c, w: c.table("chat_feedback").update({"user_id": w["ana"].user_id}).eq("id", w["his"].id), "42501"),
    "a step under another chat": (
        lambda c, w: c.table("chat_feedback").insert(forged(w, step_id=step(w["b"], 1))), "23503"),
    "one's own rating moved under another chat": (
        lambda c, w: c.table("chat_feedback").update({"chat_id": w["b"]}).eq("id", w["his"].id), "23503"),
    "a step that is not there": (lambda c, w: c.table("chat_feedback").insert(forged(w, step_id=new_id())), "23503"),
    "a second rating of the same step": (
        lambda c, w: c.table("chat_feedback").insert(forged(w, step_id=step(w["a"], 1))), "23505"),
    "six stars": (lambda c, w: c.table("chat_feedback").insert(forged(w, feedback_score=6)), "23514"),
    "a type that contradicts its score": (
        lambda c, w: c.table("chat_feedback").insert(forged(w, feedback_type="negative")), "23514"),
    "role escalation": (lambda c, w: c.table("profiles").update({"role": "admin"}).eq("user_id", w["ben"].user_id), "42501"),
    "another origin": (lambda c, w: c.table("profiles").update({"origin": "demo"}).eq("user_id", w["ben"].user_id), "42501"),
    "a profile out of nothing": (
        lambda c, w: c.table("profiles").insert({"user_id": new_id(), "display_name": "X", "origin": "demo"}), "42501"),
    "deleting a profile": (lambda c, w: c.table("profiles").delete().eq("user_id", w["ben"].user_id), "42501"),
    "a chat for someone else": (
        lambda c, w: c.table("chats").insert(
            {"id": new_id(), "owner_id": w["ana"].user_id, "query": "q", "response": "r", "source": "s"}), "42501"),
    "a step in a chat that is not one's own": (
        lambda c, w: c.table("reasoning_steps").insert(
            {"id": new_id(), "chat_id": w["a"], "step_content": "x", "step_order": 9}), "42501"),
    "a role by the function": (lambda c, w: c.rpc("set_role", {"p_user_id": w["ben"].user_id, "p_role": "admin"}), "42501"),
    "the team's addresses": (lambda c, w: c.rpc("team"), "42501"),
    "an import": (
        lambda c, w: c.rpc("stage_import", {"p_import": new_id(), "p_part": 0, "p_kind": "chats", "p_rows": "[]"}), "42501"),
    "finishing an import": (lambda c, w: c.rpc("finish_import", {"p_import": new_id(), "p_parts": 0}), "42501"),
    "an export": (lambda c, w: c.rpc("begin_export", {"p_export": new_id()}), "42501"),
    "a page of an export": (
        lambda c, w: c.rpc("export_feedback", {"p_export": new_id(), "p_after": 0, "p_limit": 9}), "42501"),
    "hashes of rows": (lambda c, w: c.rpc("row_hashes", {"p_table": "chat_feedback", "p_ids": "[]"}), "42501"),
    "a queue of one's own": (
        lambda c, w: c.table("queues").insert({"id": new_id(), "name": "x", "item_order": "oldest", "overlap": 1, "lease_s": 9}),
        "42501"),
    "a queue by the function": (
        lambda c, w: c.rpc("save_queue", {"p_queue": json.dumps({"id": new_id(), "name": "x", "guidelines": "", "overlap": 1})}),
        "42501"),
    "a rubric": (lambda c, w: c.rpc("save_rubric", {"p_queue_id": EVERYTHING, "p_aspects": "[]"}), "42501"),
    "a rubric by the table": (
        lambda c, w: c.table("rubrics").insert({"queue_id": EVERYTHING, "version": 9, "aspects": "[]"}), "42501"),
    "a known answer": (
        lambda c, w: c.rpc("save_gold", {"p_id": new_id(), "p_chat_id": w["a"], "p_other_id": None, "p_explanation": "",
                                         "p_answer": '{"scores": {"": 5}}'}), "42501"),
    "a known answer by the table": (
        lambda c, w: c.table("gold").insert({"id": new_id(), "chat_id": w["a"], "answer": "{}"}), "42501"),
    "known answers forgotten": (lambda c, w: c.rpc("remove_gold", {"p_id": new_id()}), "42501"),
    "a result of one's own": (
        lambda c, w: c.table("gold_results").insert({"queue_id": EVERYTHING, "chat_id": w["a"], "user_id": w["ben"].user_id,
                                                     "asked": 1, "matched": 1, "detail": []}), "42501"),
    "grading oneself": (lambda c, w: c.schema("private").rpc("grade", {}), "PGRST106"),
    "everybody's screening": (lambda c, w: c.rpc("screenings", {"p_queue_id": EVERYTHING, "p_screening": 3}), "42501"),
    "a second try at a screening": (
        lambda c, w: c.rpc("forget_screening", {"p_queue_id": EVERYTHING, "p_user_id": w["ben"].user_id}), "42501"),
    "a checkpoint's rewards": (lambda c, w: c.table("hints").select("*"), "42501"),
    "rewards of one's own": (
        lambda c, w: c.rpc("set_hints", {"p_queue_id": EVERYTHING, "p_checkpoint_id": "x", "p_rewards": "{}"}), "42501"),
    "disputes": (lambda c, w: c.rpc("disputes", {"p_limit": 9}), "42501"),
    "everybody's words on a chat": (lambda c, w: c.rpc("judgements", {"p_chat_id": w["a"], "p_other_id": None}), "42501"),
    "a decision": (
        lambda c, w: c.rpc("decide", {"p_id": new_id(), "p_chat_id": w["a"], "p_other_id": None, "p_step_id": None,
                                      "p_kind": "score", "p_value": "5", "p_reason": "mine"}), "42501"),
    "a decision taken back": (
        lambda c, w: c.rpc("undecide", {"p_chat_id": w["a"], "p_other_id": None, "p_step_id": None, "p_kind": "score"}), "42501"),
    "a preference in another's name": (
        lambda c, w: c.table("preferences").insert({
            "id": new_id(), "chat_id": min(w["a"], w["b"]), "other_id": max(w["a"], w["b"]), "user_id": w["ana"].user_id,
            "verdict": "tie"}), "42501"),
    "an aspect in another's name": (
        lambda c, w: c.table("aspect_ratings").insert({"id": new_id(), "chat_id": w["a"], "user_id": w["ana"].user_id, "score": 5,
                                                       "queue_id": EVERYTHING, "rubric_version": 1, "aspect": "x"}), "42501"),
    "a rewrite past the function": (
        lambda c, w: c.table("rewrites").insert(
            {"user_id": w["ben"].user_id, "step_id": w["a"], "rewrite_id": w["a"], "text": "x"}),
        "42501"),
    "lines of an export": (
        lambda c, w: c.rpc("export_lines", {"p_export": new_id(), "p_kind": "preferences", "p_after": 0, "p_limit": 9}), "42501"),
    "closing a queue": (lambda c, w: c.rpc("archive_queue", {"p_id": EVERYTHING, "p_archived": True}), "42501"),
    "another order of a queue": (lambda c, w: c.rpc("set_priorities", {"p_queue_id": EVERYTHING, "p_priorities": "{}"}), "42501"),
    "an assignment for oneself": (
        lambda c, w: c.table("assignments").insert(
            {"queue_id": EVERYTHING, "chat_id": w["a"], "user_id": w["ben"].user_id, "status": "submitted"}), "42501"),
    "marks of someone else": (
        lambda c, w: c.table("chat_marks").insert({"user_id": w["ana"].user_id, "chat_id": w["a"]}), "42501"),
    "an event of someone else": (
        lambda c, w: c.table("label_events").insert(
            {"id": new_id(), "user_id": w["ana"].user_id, "chat_id": w["a"], "kind": "dwell"}), "42501"),
    "history rewritten": (lambda c, w: c.table("feedback_history").delete().eq("user_id", w["ben"].user_id), "42501"),
    "priorities read": (lambda c, w: c.table("queue_priorities").select("*"), "42501"),
    "a rater out of nothing": (
        lambda c, w: c.rpc("add_profile", {"p_user_id": new_id(), "p_name": "X", "p_origin": "demo"}), "42501"),
}  # fmt: skip


@pytest.mark.parametrize("what", TRIED)
def test_an_annotator_is_refused(what: str, team: TeamServer, world: dict[str, Any]) -> None:
    before = (
        team.sql("select user_id, role, origin from public.profiles order by 1"),
        team.sql("select id, user_id, chat_id, step_id, feedback_score from public.chat_feedback order by 1"),
    )
    attempt, code = TRIED[what]
    with pytest.raises(APIError) as refused:
        attempt(client(world["ben_store"]), world).execute()
    assert refused.value.code == code, refused.value.message
    after = (
        team.sql("select user_id, role, origin from public.profiles order by 1"),
        team.sql("select id, user_id, chat_id, step_id, feedback_score from public.chat_feedback order by 1"),
    )
    assert after == before


@pytest.mark.parametrize("role", [*ROLES, None])
def test_rows_of_others_cannot_be_changed_or_deleted_by_any_role(role: Any, world: dict[str, Any], sign_in: SignIn) -> None:
    _, store = sign_in("Cai", role)
    raw = client(store)
    assert raw.table("chat_feedback").update({"comment": "x"}).eq("id", world["hers"].id).execute().data == []
    assert raw.table("chat_feedback").delete().eq("id", world["hers"].id).execute().data == []
    for attempt in (raw.table("chats").update({"query": "x"}), raw.table("chats").delete()):
        with pytest.raises(APIError, match="permission denied"):
            attempt.eq("id", world["b"]).execute()
    assert raw.table("profiles").update({"display_name": "x"}).eq("user_id", world["ana"].user_id).execute().data == []
    assert world["ana_store"].for_user(world["ana"]).ratings(world["a"]) == {step(world["a"], 1): world["hers"]}


def test_nobody_sees_what_somebody_else_has_marked_or_done(world: dict[str, Any], sign_in: SignIn) -> None:
    ana, hers = world["ana"], world["ana_store"].for_user(world["ana"])
    hers.claim(EVERYTHING, 1)
    hers.rate(world["a"], step(world["a"], 1), 2, "stars")
    hers.apply([
        LabelOp(new_id(), "flag", world["a"], None, {"flag": "unsure"}), LabelOp(new_id(), "dwell", world["a"], None, {"ms": 1}),
    ])  # fmt: skip
    tables = ("chat_marks", "label_events", "assignments", "feedback_history", "applied_ops")
    for role, sees in (("annotator", False), (None, False), ("analyst", True)):
        _, store = sign_in("Cai", role)
        for table in tables:
            rows = client(store).table(table).select("*").execute().data
            assert bool(rows) is (sees and table != "applied_ops"), (role, table)
    assert all(client(world["ana_store"]).table(table).select("*").execute().data for table in tables)
    assert {one["user_id"] for one in client(world["ana_store"]).table("assignments").select("*").execute().data} == {ana.user_id}


def test_without_a_role_nothing_is_handed_out_or_stored(world: dict[str, Any]) -> None:
    mine = world["zoe_store"].for_user(world["zoe"])
    with pytest.raises(Forbidden):
        mine.claim(EVERYTHING, 1)
    with pytest.raises(Forbidden):
        mine.apply([LabelOp(new_id(), "flag", world["b"], None, {"flag": "unsure"})])
    assert not any(mine.everything().values())


ACTIONS: dict[str, tuple[Callable[[SupabaseStore], Any], set[str]]] = {
    "import": (lambda s: add_chat(s, "new"), {"engineer", "admin"}),
    "name a rater": (lambda s: s.add_profile(uid("rater"), "Rui", "imported"), {"engineer", "admin"}),
    "export": (lambda s: _export(s), {"analyst", "engineer", "admin"}),
    "list the team": (lambda s: s.team(), {"admin"}),
    "give a role": (lambda s: s.set_role(s.me().user_id, s.me().role), {"admin"}),
    "compare hashes": (lambda s: s.row_hashes("chats", [new_id()]), {"admin"}),
    "rate": (lambda s: s.for_user(s.me()).rate(uid("chat", "a"), None, 3, "stars"), set(ROLES)),
}


def _export(store: SupabaseStore) -> None:
    with store.export() as export:
        assert list(export.rows("chats"))


@pytest.mark.parametrize("what", ACTIONS)
@pytest.mark.parametrize("role", ROLES)
def test_what_each_role_may_do(what: str, role: Any, world: dict[str, Any], sign_in: SignIn) -> None:
    sign_in("Ada", "admin")  # so that nobody is the last administrator
    _, store = sign_in("Cai", role)
    do, allowed = ACTIONS[what]
    if role in allowed:
        do(store)
    else:
        with pytest.raises(Forbidden, match="needs the role"):
            do(store)


def test_a_role_taken_away_counts_at_once(world: dict[str, Any], team: TeamServer, sign_in: SignIn) -> None:
    _, store = sign_in("Cai", "engineer")
    add_chat(store, "mine")
    team.set_role(store.me().user_id, None)
    with pytest.raises(Forbidden):
        add_chat(store, "more")
    assert store.search_chats() == []


def test_the_last_administrator_stays_one(team: TeamServer, sign_in: SignIn) -> None:
    ada, store = sign_in("Ada", "admin")
    with pytest.raises(InvalidInput, match="last administrator"):
        store.set_role(ada.user_id, "annotator")
    ben, _ = sign_in("Ben")
    store.set_role(ben.user_id, "admin")
    store.set_role(ada.user_id, "annotator")
    with pytest.raises(NotFound, match="no account"):
        sign_in("Ben", "admin")[1].set_role(new_id(), "admin")
    with pytest.raises(InvalidInput):
        sign_in("Ben", "admin")[1].set_role(ada.user_id, "king")  # type: ignore[arg-type]


def test_a_file_cannot_rate_in_an_accounts_name(world: dict[str, Any], sign_in: SignIn) -> None:
    _, store = sign_in("Cai", "engineer")
    row = (new_id(), world["a"], None, world["ana"].user_id, "positive", 5, "stars", None, NOW, NOW)
    with pytest.raises(Forbidden, match="in the name of somebody who can sign in"), store.bulk() as (writer, _):
        writer.add_feedback([row])
    rater = uid("Rui")
    with store.bulk() as (writer, counts):
        writer.add_profiles([(rater, "Rui")], "imported")
        writer.add_feedback([(*row[:3], rater, *row[4:])])
    assert counts.ratings == 1


def test_imports_and_exports_belong_to_who_began_them(world: dict[str, Any], sign_in: SignIn) -> None:
    _, mine = sign_in("Cai", "engineer")
    _, other = sign_in("Dee", "engineer")
    with mine.export() as export:
        for call in (
            lambda: other._call("export_feedback", export=export._id, after=0, limit=9),
            lambda: other._call("export_chats", export=export._id, after_created_at=None, after_id=None, limit=9, bytes=9),
            lambda: other._call("begin_export", export=export._id),
        ):
            with pytest.raises(NotFound, match="no export"):
                call()
        other._call("end_export", export=export._id)
        assert sum(map(len, export.rows("chat_feedback"))) == 2
    with mine.bulk() as (writer, _):
        writer.add_chats([(uid("x"), "q", "r", "s", None, None, NOW)])
        with pytest.raises(NotFound, match="no import"):
            other._call("finish_import", **{"import": writer._id, "parts": 1})
        other._call("drop_import", **{"import": writer._id})
    assert mine.chat(uid("x")).query == "q"


def test_an_account_that_is_deleted_takes_its_ratings_along(team: TeamServer, world: dict[str, Any]) -> None:
    user_id, _ = team.add_account("Eve", "annotator")
    team.sql(
        "insert into public.chat_feedback (id, chat_id, user_id, feedback_type, feedback_score, scale) "
        "values (gen_random_uuid(), %s, %s, 'positive', 5, 'stars')", (world["a"], user_id),
    )  # fmt: skip
    team.sql("delete from auth.users where id = %s", (user_id,))
    assert team.sql("select count(*) from public.profiles where user_id = %s", (user_id,)) == [(0,)]
    assert team.sql("select count(*) from public.chat_feedback") == [(2,)]


# without signing in, or with a forged token --------------------------------------------------------------------------


def request(team: TeamServer, path: str, token: str | None, method: str = "GET", **options: Any) -> httpx.Response:
    headers = {"apikey": team.publishable_key} | ({"Authorization": f"Bearer {token}"} if token else {})
    return httpx.request(method, f"{team.url}/rest/v1/{path}", headers=headers, **options)


def test_anonymous_requests_get_nothing(team: TeamServer, world: dict[str, Any]) -> None:
    for table in ("profiles", "chats", "reasoning_steps", "chat_feedback"):
        answer = request(team, f"{table}?select=*", None)
        assert answer.status_code == 401 or answer.json() == [], (table, answer.text)
        row = {"user_id" if table == "profiles" else "id": new_id()}
        assert request(team, table, None, "POST", json=row).status_code in (401, 403)
        assert request(team, f"{table}?created_at=lt.2999-01-01", None, "DELETE").status_code in (401, 403)
    for (name,) in team.sql("select proname from pg_proc where pronamespace = 'public'::regnamespace and pronargs = 0"):
        assert request(team, f"rpc/{name}", None, "POST", json={}).status_code in (401, 403), name
    for (name,) in team.sql("select relname from pg_class where relnamespace = 'private'::regnamespace and relkind = 'r'"):
        assert request(team, name, None).status_code == 404, name


def _token(secret: str, claims: dict[str, Any], algorithm: str = "HS256") -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    body = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}"
    if algorithm == "none":
        return f"{body}."
    signature = hmac.new(secret.encode(), body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.mark.parametrize("algorithm", ["HS256", "none"])
def test_a_forged_token_opens_nothing(algorithm: str, team: TeamServer, world: dict[str, Any], sign_in: SignIn) -> None:
    ada, _ = sign_in("Ada", "admin")
    for role in ("authenticated", "service_role"):
        token = _token("not-the-secret", {"sub": ada.user_id, "role": role, "exp": 4102444800, "aud": "authenticated"}, algorithm)
        answer = request(team, "chat_feedback?select=*", token)
        assert answer.status_code == 401, answer.text
        assert request(team, "rpc/team", token, "POST", json={}).status_code == 401


def test_what_somebody_wrote_anew_is_theirs_and_whom_it_is_handed_to(
    operator: SupabaseStore, sign_in: Any, team: TeamServer
) -> None:
    chat = add_chat(operator, "a")
    (ana, hers), (ben, his), (_, analyst) = sign_in("Ana"), sign_in("Ben"), sign_in("Cai", "analyst")
    hers.for_user(ana).apply([LabelOp(new_id(), "rewrite", chat, step(chat, 1), {"text": "hers"})])
    (made,) = [one for one in operator.search_chats() if one.source == "rewrite"]
    assert hers.chat(made.id).owner_id == ana.user_id
    assert analyst.chat(made.id).response == "hers"
    assert [one.source for one in his.search_chats()] == ["test"]
    rows = client(his).table("reasoning_steps").select("id").eq("chat_id", made.id).execute().data
    assert rows == []
    queue = operator.save_queue(Queue(new_id(), "rewrites", source="rewrite"))
    assert [view.chat.id for view in his.for_user(ben).claim(queue.id, 1)] == [made.id]
    assert his.chat(made.id).response == "hers"


def test_a_direct_preference_between_two_questions_is_refused(operator: SupabaseStore, sign_in: Any) -> None:
    ids = sorted([add_chat(operator, "a"), add_chat(operator, "b")])
    ana, hers = sign_in("Ana")
    row = {"id": new_id(), "chat_id": ids[0], "other_id": ids[1], "user_id": ana.user_id, "verdict": "tie"}
    with pytest.raises(APIError) as caught:
        client(hers).table("preferences").insert(row).execute()
    assert caught.value.code == "42501"


# people of a chat application, who have accounts and no role ----------------------------------------------------------


def test_people_judge_their_own_chats_straight_in_the_tables(team: TeamServer, world: dict[str, Any]) -> None:
    """As docs/collecting.md shows it; see the policies of the migration."""
    hers, other, zoe = client(world["zoe_store"]), world["a"], world["zoe"].user_id
    word = {
        "id": new_id(), "chat_id": world["b"], "step_id": step(world["b"], 1), "user_id": zoe, "feedback_type": "positive",
        "feedback_score": 5, "scale": "thumbs",
    }  # fmt: skip
    one_word = "user_id,chat_id,step_id"
    hers.table("chat_feedback").upsert(word, on_conflict=one_word).execute()
    again = word | {"id": new_id(), "feedback_type": "negative", "feedback_score": 1}
    hers.table("chat_feedback").upsert(again, on_conflict=one_word).execute()
    assert [row["feedback_score"] for row in hers.table("chat_feedback").select("*").execute().data] == [1]
    event = {"id": new_id(), "chat_id": world["b"], "user_id": zoe, "kind": "copy", "value": 12}
    hers.table("label_events").insert(event).execute()
    ana = world["ana"].user_id
    for table, row in (
        ("chat_feedback", word | {"id": new_id(), "chat_id": other, "step_id": step(other, 1)}),
        ("chat_feedback", word | {"id": new_id(), "user_id": ana, "step_id": step(world["b"], 2)}),
        ("label_events", event | {"id": new_id(), "chat_id": other}), ("label_events", event | {"id": new_id(), "user_id": ana}),
    ):  # fmt: skip
        with pytest.raises(APIError, match="row-level security"):
            hers.table(table).insert(row).execute()
    with pytest.raises(APIError, match="label_events_kind_check"):
        hers.table("label_events").insert(event | {"id": new_id(), "kind": "scroll"}).execute()


def test_who_was_not_asked_is_in_no_export(team: TeamServer, world: dict[str, Any], operator: SupabaseStore) -> None:
    def exported() -> set[str]:
        with operator.export() as export:
            return {str(row[0]) for batch in export.rows("chats") for row in batch}

    assert exported() == {world["a"]}
    world["zoe_store"].for_user(world["zoe"]).set_consent("given")
    assert exported() == {world["a"], world["b"]}
    world["zoe_store"].for_user(world["zoe"]).set_consent("withdrawn")
    assert exported() == {world["a"]}


# who did what -----------------------------------------------------------------------------------------------------------


def test_acts_are_noted_by_who_did_them_and_stay(team: TeamServer, sign_in: SignIn, operator: SupabaseStore) -> None:
    _, ana = sign_in("Ana", "engineer")
    _, admin = sign_in("Ada", "admin")
    ana.note_act("snapshot", "of ana 1", {"chats": 3})
    operator.note_act("import", "by the operator.jsonl", {})
    with pytest.raises(Forbidden):
        ana.acts()
    found = admin.acts("of ana 1")
    assert [(one.who, one.act, one.what, one.detail) for one in found] == [("Ana", "snapshot", "of ana 1", {"chats": 3})]
    assert [one.who for one in admin.acts("by the operator.jsonl")] == ["operator"]
    raw = client(ana)
    assert raw.table("audit_log").select("*").execute().data == []
    for attempt in (
        raw.table("audit_log").insert({"who": "Ada", "act": "erase", "what": "x"}),
        raw.table("audit_log").update({"who": "x"}).gt("id", 0), raw.table("audit_log").delete().gt("id", 0),
    ):  # fmt: skip
        with pytest.raises(APIError):
            attempt.execute()
    for statement in ("update public.audit_log set who = 'x'", "delete from public.audit_log", "truncate public.audit_log"):
        with pytest.raises(psycopg.Error, match="only added to"):
            team.sql(statement)
    assert [one.what for one in admin.acts("of ana 1")] == ["of ana 1"]


def test_only_members_write_short_lines_into_the_log(team: TeamServer, sign_in: SignIn) -> None:
    """A stranger who signs up, a member who takes another's name, and one who fills the disk."""
    _, stranger = sign_in("Stranger", None)
    with pytest.raises(Forbidden):
        stranger.note_act("import", "a stranger's line", {})
    bob, member = sign_in("Bob", "annotator")
    with pytest.raises(Forbidden):
        member.note_act("role", "a line on a role", {"role": "admin"})
    with pytest.raises(Exception, match="audit_log_is_short"):
        member.note_act("export", "a long line", {"text": "x" * 20_000})
    team.sql("update public.profiles set display_name = 'Ada' where user_id = %s", (bob.user_id,))
    member.note_act("export", "under another's name", {})
    assert team.sql("select who, user_id::text from public.audit_log where what = 'under another''s name'") == [
        ("Ada", bob.user_id)
    ]
    lines = team.sql("select what from public.audit_log")
    assert not {("a stranger's line",), ("a line on a role",), ("a long line",)} & set(lines)


def test_a_role_is_noted_whoever_gives_it(team: TeamServer, sign_in: SignIn) -> None:
    cai, _ = sign_in("Cai", "annotator")
    _, admin = sign_in("Ada", "admin")
    admin.set_role(cai.user_id, "analyst")
    team.sql("update public.profiles set role = 'engineer' where user_id = %s", (cai.user_id,))
    told = [(one.who, one.what, one.detail) for one in admin.acts("Cai")]
    assert told[1] == ("Ada", "Cai", {"role": "analyst", "before": "annotator"})
    assert told[0][1:] == ("Cai", {"role": "engineer", "before": "analyst"})
    assert told[0][0] not in ("Ada", "Cai")


def test_the_database_gives_everybody_the_same_checkpoint_as_python(
    team: TeamServer, sign_in: SignIn, operator: SupabaseStore
) -> None:  # fmt: skip
    def say(act: Any, **more: Any) -> None:
        last = operator.rollout.last("policy")
        operator.rollout.add(next_entry("policy", last, act, who="Kim", reason="a test", **more))

    visitor, store = sign_in("Vic", None)
    assert client(store).rpc("assignment", {}).execute().data == {"checkpoint": None, "arm": "control", "begun": None}
    say("serve", checkpoint_id="p1")
    say("canary", checkpoint_id="p2", share=0.5)
    state = state_of(operator.rollout.last("policy"))
    people = [new_id() for _ in range(300)]
    for share in (0.5, 0.75):
        if share > state.share:
            say("share", share=share)
            state = state_of(operator.rollout.last("policy"))
        given = client(operator).rpc
        found = [given("assignment", {"p_user_id": one}).execute().data for one in people[: 300 if share == 0.5 else 40]]
        for one, data in zip(people, found, strict=False):
            assert (data["checkpoint"], data["arm"]) == assigned(state, one), one
            assert data["begun"] == state.begun
    mine = client(store).rpc("assignment", {"p_user_id": people[0]}).execute().data
    assert (mine["checkpoint"], mine["arm"]) == assigned(state, visitor.user_id), "whomever one names, one learns of oneself"
    ((bucketed,),) = team.sql("select private.rollout_bucket('salt', 'Zoë ☀')")
    assert bucketed == bucket("salt", "Zoë ☀")


def test_who_decides_which_checkpoint_serves(team: TeamServer, sign_in: SignIn, operator: SupabaseStore) -> None:
    for role in ("annotator", "analyst", None):
        _, store = sign_in(f"Not{role}", role)
        event = next_entry("policy", operator.rollout.last("policy"), "serve", who="me", reason="mine", checkpoint_id="p1")
        with pytest.raises(Forbidden, match="engineer"):
            store.rollout.add(event)
        if role != "analyst":
            with pytest.raises(Forbidden):
                store.rollout.events("policy")
        for table in ("model_log", "served_chats"):
            with pytest.raises(APIError):
                client(store).table(table).insert({}).execute()
        assert client(store).table("model_log").select("*").execute().data == []
    session, store = sign_in("Eve", "engineer")
    store.rollout.add(event)
    (kept,) = store.rollout.events("policy")
    assert (kept.who, kept.reason) == (session.display_name, "mine"), "as who is signed in, whatever name was sent"
    for statement in ("update public.model_log set who = 'x'", "delete from public.model_log", "truncate public.model_log"):
        with pytest.raises(psycopg.Error, match="only added to"):
            team.sql(statement)
    with pytest.raises(Conflict):
        store.rollout.add(event)
