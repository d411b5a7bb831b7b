"""A team's project that has stood since an earlier version takes the migrations since then, keeps what it holds, and goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from rlhf_core.ground.records import EVERYTHING, new_id
from tests.supabase.server import HERE, MIGRATIONS, TeamServer

FILES = sorted(MIGRATIONS.glob("*.sql"))
STAGES = [k + 1 for k, path in enumerate(FILES) if "grants" in path.name or path == FILES[-2]]  # what a version came with


@pytest.fixture
def project(team: TeamServer) -> Iterator[psycopg.Connection[Any]]:
    team.sql("create database older")
    try:
        with psycopg.connect(team.dsn, dbname="older", autocommit=True) as connection:
            connection.execute((HERE / "hosted.sql").read_bytes())
            yield connection
    finally:
        team.sql("drop database older with (force)")


class Project:
    """A database, and one engineer in it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.me = ""

    def move(self, begin: int, end: int) -> None:
        for path in FILES[begin:end]:
            self.connection.execute(path.read_bytes())

    def has(self, function: str) -> bool:
        found = self.connection.execute("select 1 from pg_proc where proname = %s", (function,)).fetchone()
        return found is not None

    def call(self, function: str, *values: Any, operator: bool = False) -> Any:
        """As who is signed in, or with the secret key."""
        claims = {"role": "service_role"} if operator else {"sub": self.me, "role": "authenticated"}
        places = ", ".join("%s" for _ in values)
        with self.connection.transaction():
            self.connection.execute(f"set local role {claims['role']}")  # type: ignore[arg-type]
            self.connection.execute("select set_config('request.jwt.claims', %s, true)", (json.dumps(claims),))
            given = [None if one is None else str(one) for one in values]  # of whatever type the function takes
            row = self.connection.execute(f"select public.{function}({places})", given).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return row[0]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: FILES[stage - 1].stem)
def test_a_project_that_stood_before(project: psycopg.Connection[Any], stage: int) -> None:
    one = Project(project)
    one.move(0, stage)
    one.me = str(project.execute("insert into auth.users (email) values ('kim@example.com') returning id").fetchone()[0])  # type: ignore[index]
    project.execute("update public.profiles set role = 'engineer', display_name = 'Kim' where user_id = %s", (one.me,))
    chat, step, other = new_id(), new_id(), new_id()
    for made in (chat, other):
        project.execute(
            "insert into public.chats (id, query, response, source) values (%s, 'How?', %s, 'file')", (made, f"So {made}.")
        )
    project.execute(
        "insert into public.reasoning_steps (id, chat_id, step_content, step_order) values (%s, %s, 'So.', 1)", (step, chat)
    )
    assert one.call("rate", new_id(), chat, step, 2, "stars")
    if one.has("apply_ops"):
        ops = [[new_id(), "first_error", chat, step, {}], [new_id(), "submit", chat, None, {"queue": EVERYTHING}]]
        assert set(dict(one.call("apply_ops", json.dumps(ops))).values()) == {""}
    if one.has("decide"):
        assert one.call("decide", new_id(), chat, None, step, "score", "1", "It is wrong.")
        assert len(one.call("decisions_of", chat, None)) == 1
    before = one.call("store_counts", operator=True)

    one.move(stage, len(FILES))
    assert one.call("store_counts", operator=True) == before
    view = one.call("label_view", chat)
    assert [step in json.dumps(line) for line in view["ratings"]] == [True]
    assert (view["marks"][0] == step) == (stage > STAGES[0])
    ops = [
        [new_id(), "rate", chat, None, {"score": 4, "scale": "stars"}],
        [new_id(), "prefer", *sorted((chat, other))[:1], None, {"other": max(chat, other), "verdict": "tie", "strength": None,
                                                              "left": chat, "comment": ""}],
        [new_id(), "submit", other, None, {"queue": EVERYTHING}],
    ]  # fmt: skip
    assert set(dict(one.call("apply_ops", json.dumps(ops))).values()) == {""}
    assert one.call("store_counts", operator=True)[2] == before[2] + 1
    assert [row[0] for row in one.call("my_history", None, 10)] == [chat]
    assert one.call("disputes", 10) == []
    assert one.call("last_model_event", "policy") is None
    assert one.call("queue_progress", EVERYTHING)[0] == 1 + (stage > STAGES[0])
