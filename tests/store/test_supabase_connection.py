"""What can go wrong on the way to a team's store, with real servers: the person is told, and no acknowledged rating is lost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from rlhf_core.ground.errors import (
    Duplicate,
    Forbidden,
    InvalidInput,
    NotFound,
    SessionExpired,
    SignInRequired,
    StoreTimeout,
    StoreUnavailable,
)
from rlhf_core.ground.records import Session
from rlhf_core.ground.settings import TeamSettings
from rlhf_core.store import supabase_connection
from rlhf_core.store.supabase import SupabaseStore
from rlhf_core.store.supabase_connection import Connection, Server
from tests.contract.store_contract import add_chat, step, uid
from tests.supabase.server import PASSWORD, TeamServer

SignIn = Callable[..., tuple[Session, SupabaseStore]]


@pytest.fixture
def own_line(team: TeamServer) -> Iterator[Server]:
    """A line that a test may spoil."""
    server = Server(TeamSettings(team.url, team.publishable_key))
    yield server
    server.close()


@pytest.fixture
def cai(team: TeamServer, own_line: Server, operator: SupabaseStore) -> tuple[Session, Connection]:
    """Somebody new, signed in over a line of their own."""
    user_id, email = team.add_account("Cai", "annotator")
    connection = Connection(own_line)
    assert connection.sign_in(email, PASSWORD).user_id == user_id
    return Session(user_id, "Cai", "annotator"), connection


@contextmanager
def restarted(team: TeamServer, *options: str) -> Iterator[None]:
    """The same server with other options for a while."""
    team.stop()
    team.start(*options)
    try:
        yield
    finally:
        team.stop()
        team.start()


def requests_of(server: Server) -> list[str]:
    """The paths asked for from now on."""
    paths: list[str] = []
    server.http.event_hooks["request"].append(lambda request: paths.append(request.url.path))
    return paths


def connect(url: str, key: str = "sb_publishable_x") -> Connection:
    return Connection(Server(TeamSettings(url, key)))


# the server ----------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_server_that_is_down_is_said_at_once() -> None:
    connection = connect(f"http://127.0.0.1:{free_port()}")
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="cannot be reached.*Check the network"):
        connection.sign_in("a@example.com", PASSWORD)
    assert time.monotonic() - begun < 5  # and not after seven seconds of silent retries
    connection.server.close()


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supabase_connection, "ANSWER_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = connect(f"http://127.0.0.1:{silent.getsockname()[1]}")
        connection._refresh_token = "as if signed in"
        with pytest.raises(StoreTimeout, match="may or may not have stored"):
            connection.call("me")
        connection.server.close()


@contextmanager
def web_page(status: int, body: str, kind: str = "text/html") -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("status", [200, 403, 404, 502, 503])
@pytest.mark.parametrize("body", ["<html><body>Please log in to the hotel's network</body></html>", "", "{", "[1, 2]", '"x"'])
def test_something_that_is_not_supabase(status: int, body: str) -> None:
    with web_page(status, body) as url:
        connection = connect(url)
        with pytest.raises(StoreUnavailable, match=f"{url} (answered something|cannot be reached|failed|refused)"):
            connection.sign_in("a@example.com", PASSWORD)
        connection._refresh_token = "as if signed in"
        with pytest.raises(StoreUnavailable, match=f"{url} (answered something|failed)"):
            connection.call("me")
        connection.server.close()


def test_a_web_page_is_not_quoted_at_length() -> None:
    with web_page(502, "<html>" + "x" * 50_000) as url:
        connection = connect(url)
        connection._refresh_token = "as if signed in"
        with pytest.raises(StoreUnavailable) as error:
            connection.call("me")
        assert len(str(error.value)) < 400
        connection.server.close()


def test_a_wrong_key_is_named_and_not_shown(team: TeamServer) -> None:
    for key, name, options in (
        ("sb_publishable_wrong", "SUPABASE_KEY", {}),
        ("sb_secret_wrong", "SUPABASE_SECRET_KEY", {"secret_key": "sb_secret_wrong"}),
    ):
        server = Server(TeamSettings(team.url, "sb_publishable_wrong"))
        connection = Connection(server, **options)  # type: ignore[arg-type]
        with pytest.raises(StoreUnavailable, match=rf"does not accept the key in {name}\.") as error:
            connection.call("store_counts") if options else connection.sign_in("a@example.com", PASSWORD)
        assert key not in f"{error.value!r} {error.value} {server.settings!r} {vars(connection)}"
        server.close()


def test_a_project_without_the_schema_says_what_to_do(team: TeamServer, operator: SupabaseStore) -> None:
    with pytest.raises(StoreUnavailable, match="supabase db push --workdir sql"):
        operator._call("a_function_of_a_later_version")


# signing in ----------------------------------------------------------------------------------------------------------


def test_wrong_passwords_and_addresses(team: TeamServer, own_line: Server) -> None:
    _, email = team.add_account("Dan")
    for bad in ((email, "wrong-horse-9"), ("nobody@example.com", PASSWORD)):
        with pytest.raises(InvalidInput, match="do not belong together"):
            Connection(own_line).sign_in(*bad)
    with pytest.raises(Duplicate, match="Sign in instead"):
        Connection(own_line).sign_up(email, PASSWORD, "Dan")
    with pytest.raises(InvalidInput, match="at least 8"):
        Connection(own_line).sign_up("new@example.com", "short", "New")
    with pytest.raises(InvalidInput):
        Connection(own_line).sign_up("no address", PASSWORD, "New")
    with pytest.raises(InvalidInput, match="needs a name"):
        Connection(own_line).sign_up("new@example.com", PASSWORD, " ")


def test_nobody_is_signed_in_at_first(own_line: Server) -> None:
    with pytest.raises(SignInRequired):
        Connection(own_line).call("me")


def test_a_new_account_has_no_role(team: TeamServer, own_line: Server) -> None:
    connection = Connection(own_line)
    account = connection.sign_up(f"{uid('new', time.time())[:8]}@example.com", PASSWORD, "Newcomer")
    assert account is not None
    me = SupabaseStore(connection).me()
    assert (me.user_id, me.role) == (account.user_id, None)
    SupabaseStore(connection).rename_me("  Neve ")
    assert SupabaseStore(connection).me().display_name == "Neve"
    with pytest.raises(InvalidInput):
        SupabaseStore(connection).rename_me("x" * 201)


def test_where_addresses_are_confirmed_first(team: TeamServer) -> None:
    with restarted(team, "--confirm-email"):
        server = Server(TeamSettings(team.url, team.publishable_key))
        email = f"{uid('confirm', time.time())[:8]}@example.com"
        assert Connection(server).sign_up(email, PASSWORD, "Cora") is None
        with pytest.raises(InvalidInput, match="not confirmed yet"):
            Connection(server).sign_in(email, PASSWORD)
        server.close()


def test_a_forgotten_password(team: TeamServer, own_line: Server) -> None:
    _, email = team.add_account("Fay", "annotator")
    connection = Connection(own_line)
    connection.send_recovery("nobody@example.com")  # says nothing of who has an account
    connection.send_recovery(email)
    mail = next(one for one in httpx.get(f"{team.url}/test/mail").json() if one["to"] == email)
    code = mail["text"].split("code: ")[1][:6]
    with pytest.raises(InvalidInput, match="at least 8"):
        Connection(own_line).recover(email, code, "short")  # and the code is good still
    with pytest.raises(InvalidInput, match="wrong or too old"):
        Connection(own_line).recover(email, "000000" if code != "000000" else "111111", "another-horse-7")
    connection.recover(email, code, "another-horse-7")
    assert SupabaseStore(connection).me().role == "annotator"
    with pytest.raises(InvalidInput):
        Connection(own_line).sign_in(email, PASSWORD)
    assert Connection(own_line).sign_in(email, "another-horse-7").email == email


# sessions ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_expired_token_is_renewed_in_mid_session(team: TeamServer, operator: SupabaseStore) -> None:
    chat = add_chat(operator, "a")
    with restarted(team, "--jwt-expiry", "2"):
        server = Server(TeamSettings(team.url, team.publishable_key))
        user_id, email = team.add_account("Gil", "annotator")
        connection = Connection(server)
        connection.sign_in(email, PASSWORD)
        mine = SupabaseStore(connection).for_user(Session(user_id, "Gil", "annotator"))
        for ahead in (True, False):  # before it ends, by our own count; and after, because the server says so
            if not ahead:
                connection._renew_at = float("inf")
                time.sleep(3.1)
            else:
                time.sleep(1.2)
            paths = requests_of(server)
            mine.rate(chat, step(chat, 1), 4, "stars")
            assert sum(path.endswith("/token") for path in paths) == 1, paths
        assert len(mine.ratings(chat)) == 1
        server.close()


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_an_hour_off_changes_nothing(
    hours: int, team: TeamServer, cai: tuple[Session, Connection], operator: SupabaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat, (session, connection) = add_chat(operator, "a"), cai
    paths = requests_of(connection.server)
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + hours * 3600)
    _, email = team.add_account("Hal", "annotator")
    Connection(connection.server).sign_in(email, PASSWORD)
    saved = SupabaseStore(connection).for_user(session).rate(chat, None, 4, "stars")
    connection.change_password("another-horse-7")
    SupabaseStore(connection).for_user(session).rate(chat, None, 5, "stars")
    assert sum(path.endswith("/rpc/rate") for path in paths) == 2
    (age,) = team.sql("select extract(epoch from now() - %s::timestamptz)::float8", (saved.created_at,))[0]
    assert -5 < age < 30, "the time of a rating is the server's"


def test_a_session_ended_by_the_server(team: TeamServer, cai: tuple[Session, Connection], operator: SupabaseStore) -> None:
    chat, (session, connection) = add_chat(operator, "a"), cai
    mine = SupabaseStore(connection).for_user(session)
    mine.rate(chat, None, 4, "stars")
    team.sql("delete from auth.refresh_tokens where user_id::text = %s", (session.user_id,))
    connection._renew_at = 0.0
    with pytest.raises(SessionExpired, match="what was shown as saved is saved"):
        mine.rate(chat, None, 1, "stars")
    assert connection.account is None
    with pytest.raises(SessionExpired):
        mine.rate(chat, None, 1, "stars")
    assert team.sql("select feedback_score from public.chat_feedback") == [(4,)]


def test_an_account_deleted_in_mid_session(team: TeamServer, cai: tuple[Session, Connection], operator: SupabaseStore) -> None:
    chat, (session, connection) = add_chat(operator, "a"), cai
    mine = SupabaseStore(connection).for_user(session)
    team.sql("delete from auth.users where id = %s", (session.user_id,))
    with pytest.raises(NotFound):  # without a role there is no chat to be seen
        mine.rate(chat, None, 1, "stars")
    with pytest.raises(Forbidden, match="no profile"):
        SupabaseStore(connection).me()
    connection._renew_at = 0.0
    with pytest.raises(SessionExpired):
        SupabaseStore(connection).me()


def test_two_tabs_share_one_session(team: TeamServer, cai: tuple[Session, Connection], operator: SupabaseStore) -> None:
    """A refresh token works once: two tabs that both renew must not sign each other out."""
    chat, (session, connection) = add_chat(operator, "a", steps=40), cai
    failures: list[BaseException] = []

    def tab(first: int) -> None:
        try:
            for k in range(first, 41, 4):
                if k % 8 == first:
                    connection._renew_at = min(connection._renew_at, 0.0)
                SupabaseStore(connection).for_user(session).rate(chat, step(chat, k), 3, "stars")
        except BaseException as error:
            failures.append(error)

    tabs = [threading.Thread(target=tab, args=(k,)) for k in (1, 2, 3, 4)]
    for one in tabs:
        one.start()
    for one in tabs:
        one.join()
    assert failures == []
    assert len(SupabaseStore(connection).for_user(session).ratings(chat)) == 40
    connection.sign_out()
    with pytest.raises(SessionExpired, match="signed out"):
        SupabaseStore(connection).me()


def test_people_on_one_line_stay_themselves(team: TeamServer, own_line: Server, operator: SupabaseStore) -> None:
    """The line's HTTP connections are shared, the sessions on it are not."""
    chat = add_chat(operator, "a")
    people = []
    for name in ("Ida", "Jon", "Kim"):
        user_id, email = team.add_account(name, "annotator")
        connection = Connection(own_line)
        connection.sign_in(email, PASSWORD)
        people.append((user_id, connection))
    for score, (user_id, connection) in enumerate(people, start=1):
        SupabaseStore(connection).for_user(Session(user_id, "")).rate(chat, None, score, "stars")
    for user_id, connection in people:
        assert SupabaseStore(connection).me().user_id == user_id
    assert len(team.sql("select distinct user_id from public.chat_feedback")) == 3
    with pytest.raises(Forbidden, match="nobody else"):
        SupabaseStore(people[0][1]).for_user(Session(people[1][0], ""))


# in mid-write --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_server_that_dies_in_mid_write_and_comes_back(
    team: TeamServer, cai: tuple[Session, Connection], operator: SupabaseStore
) -> None:
    chat, (session, connection) = add_chat(operator, "a", steps=400), cai
    mine = SupabaseStore(connection).for_user(session)
    acknowledged: dict[str, int] = {}
    told: list[str] = []
    halfway = threading.Event()

    def label() -> None:
        for k in range(1, 401):
            for _ in range(200):
                try:
                    acknowledged[step(chat, k)] = mine.rate(chat, step(chat, k), 1 + k % 5, "stars").feedback_score
                    break
                except StoreUnavailable as error:
                    told.append(str(error))
                    time.sleep(0.05)
            if k == 60:
                halfway.set()

    person = threading.Thread(target=label)
    person.start()
    assert halfway.wait(60)
    team.stop(kill=True)
    time.sleep(0.5)
    team.start()
    person.join(120)
    assert told
    assert all("cannot be reached" in one or "did not answer" in one or "failed" in one for one in told), set(told)
    assert len(acknowledged) == 400
    stored = {step_id: one.feedback_score for step_id, one in mine.ratings(chat).items()}
    assert stored == acknowledged


class LosesAnswers(httpx.BaseTransport):
    """Brings each request to the server and loses the first answer of each kind."""

    def __init__(self, real: httpx.BaseTransport, only: str) -> None:
        self.real, self.only, self.lost = real, only, 0

    def close(self) -> None:
        self.real.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self.real.handle_request(request)
        if request.url.path.endswith(self.only) and not self.lost:
            answer.read()
            answer.close()
            self.lost += 1
            raise httpx.ReadError("connection reset by peer", request=request)
        return answer


@pytest.mark.parametrize("function", ["rate", "stage_import", "finish_import", "begin_export", "export_feedback"])
def test_a_lost_answer_counts_nothing_twice(function: str, team: TeamServer, own_line: Server) -> None:
    transport = LosesAnswers(own_line.http._transport, f"/rpc/{function}")
    own_line.http._transport = transport
    user_id, email = team.add_account("Lea", "admin")
    connection = Connection(own_line)
    connection.sign_in(email, PASSWORD)
    store = SupabaseStore(connection)
    with store.bulk() as (writer, counts):
        writer.add_chats([(uid("c"), "q", "r", "s", None, None, "2026-01-01T00:00:00.000000Z")])
    assert (counts.chats, counts.known_chats) == (1, 0)
    store.for_user(Session(user_id, "Lea")).rate(uid("c"), None, 4, "stars")
    with store.export() as export:
        assert [len(batch) for batch in export.rows("chat_feedback")] == [1]
        assert [len(batch) for batch in export.rows("chats")] == [1]
    assert transport.lost == 1
    assert team.sql("select count(*) from public.chat_feedback") == [(1,)]
    assert team.sql("select count(*) from private.export_feedback") == [(0,)]


def test_an_import_that_dies_leaves_nothing(team: TeamServer, cai: tuple[Session, Connection], operator: SupabaseStore) -> None:
    with pytest.raises(StoreUnavailable), operator.bulk() as (writer, _):
        writer.add_chats([(uid("c", k), "q", "r", "s", None, None, "2026-01-01T00:00:00.000000Z") for k in range(3000)])
        team.stop(kill=True)
    team.start()
    assert operator.counts().chats == 0


def test_chats_deleted_under_an_export_are_noticed(team: TeamServer, operator: SupabaseStore) -> None:
    for name in ("a", "b"):
        add_chat(operator, name)
    with operator.export() as export:
        team.sql("delete from public.chats where id = %s", (uid("chat", "b"),))
        with pytest.raises(StoreUnavailable, match="had 2 rows when the export began and 1 when it was read"):
            list(export.rows("chats"))


def test_long_texts_come_in_small_pages(team: TeamServer, operator: SupabaseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_core.store.supabase.PAGE_BYTES", 1000)
    with operator.bulk() as (writer, _):
        writer.add_chats([(uid("c", k), "q", "r" * 700, "s", None, None, "2026-01-01T00:00:00.000000Z") for k in range(7)])
        writer.add_steps([(uid("s", k), uid("c", 0), "x" * 400, k, "2026-01-01T00:00:00.000000Z") for k in range(1, 8)])
    with operator.export() as export:
        assert [len(batch) for batch in export.rows("chats")] == [2, 2, 2, 1]
        assert [len(batch) for batch in export.rows("reasoning_steps")] == [7]  # a chat's steps stay together
