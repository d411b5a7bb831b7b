"""Pages on a team's store: signing in, what each role may open, and what goes wrong in mid-session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from rlhf_core.ground.errors import Forbidden
from rlhf_core.ground.records import Session
from rlhf_core.services import comparing, demo, snapshots, training
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.supabase import SupabaseStore
from rlhf_core.ui import resources
from tests.pages.opening import frame
from tests.pages.test_pages import check, pad, texts
from tests.supabase.server import PASSWORD, TeamServer

SignIn = Callable[..., tuple[Session, SupabaseStore]]
EXPLORING = {"Snapshots", "Explore", "SQL", "Audit", "Agreement", "Disputes", "Compare", "Models"}
ALL = {"Home", "Import", "Label", "My work", "Queues", "Train", "Team"} | EXPLORING


@pytest.fixture(autouse=True)
def team_settings(team: TeamServer, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in team.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("rlhf_core.inference.client.ScoringClient.warm", lambda _: None)
    yield
    resources.shared().close()
    resources._workbench_at.clear()


@pytest.fixture
def chats(operator: SupabaseStore, root: Path) -> Workbench:
    workbench = Workbench.open(root)
    workbench._store = operator
    demo.load_demo(workbench)
    yield workbench
    workbench.close()


def visit(page: str = "", **query: str) -> AppTest:
    app = frame()
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    if page:
        app.switch_page(page).run()
    return app


def box(app: AppTest, label: str) -> Any:
    return next(one for one in app.text_input if one.label == label)


def press(app: AppTest, label: str) -> AppTest:
    next(one for one in app.button if one.label == label).click()
    return check(app.run())


def sign_in_at(app: AppTest, email: str, password: str = PASSWORD) -> AppTest:
    box(app, "E-mail").set_value(email)
    box(app, "Password").set_value(password)
    return press(app, "Sign in")


@pytest.fixture
def signed_in(sign_in: SignIn, accounts: Any) -> Callable[..., AppTest]:
    def do(role: Any, page: str = "", name: str = "Cai") -> AppTest:
        sign_in(name, role)
        app = sign_in_at(visit(), accounts[name][1])
        return check(app.switch_page(page).run()) if page else app

    return do


@pytest.mark.parametrize(
    "page", ["home.py", "upload.py", "label.py", "snapshots.py", "train.py", "compare.py", "team.py", "account.py"]
)
def test_no_page_is_reached_past_the_sign_in(page: str, chats: Workbench) -> None:
    app = check(visit(page))
    assert {one.label for one in app.text_input} == {"E-mail", "Password"}
    assert "MassHire" not in texts(app)
    assert [one.value for one in app.title] == ["RLHF Workbench"]


def test_signing_in_and_out(chats: Workbench, sign_in: SignIn, accounts: Any) -> None:
    sign_in("Cai", "annotator")
    email = accounts["Cai"][1]
    app = visit("label.py")
    assert "do not belong together" in texts(sign_in_at(app, email, "wrong-horse-9"))
    assert "Type your e-mail address" in texts(sign_in_at(app, email, ""))
    assert "Label" in [one.value for one in sign_in_at(app, email).title]
    assert pad(app)["user"] == accounts["Cai"][0]
    app.switch_page("account.py").run()
    assert email in "".join(one.value for one in app.text)
    press(app, "Sign out")
    assert box(app, "Password")
    assert "label:" not in str(app.session_state), "the next person sees nothing of what this one did"


@pytest.mark.slow
def test_creating_an_account_and_waiting_for_a_role(team: TeamServer, sign_in: SignIn, accounts: Any) -> None:
    app = visit("label.py")
    app.segmented_control[0].set_value("Create an account").run() if hasattr(app, "segmented_control") else app.button_group[
        0
    ].set_value(["Create an account"]).run()
    for label, value in (("Your name", "Nora"), ("E-mail", "nora@example.com"), ("Password", "short")):
        box(app, label).set_value(value)
    assert "at least 8" in texts(press(app, "Create the account"))
    for label, value in (("Your name", "Nora"), ("E-mail", "nora@example.com"), ("Password", PASSWORD)):
        box(app, label).set_value(value)
    assert "Welcome, Nora" in texts(press(app, "Create the account"))
    assert "gives you a role next" in texts(app)
    ((user_id,),) = team.sql("select id from auth.users where email = 'nora@example.com'")
    try:
        team.set_role(user_id, "annotator")
        assert "Label" in [one.value for one in press(app, "Look again").title]
    finally:
        team.sql("delete from auth.users where id = %s", (user_id,))


@pytest.mark.parametrize(
    ("role", "open_to_them"),
    [
        ("annotator", {"Home", "Label", "My work"}),
        ("analyst", {"Home", "Label", "My work"} | EXPLORING),
        ("engineer", ALL - {"Team"}),
        ("admin", ALL),
    ],
)
def test_each_role_opens_its_pages_and_no_other(
    role: Any, open_to_them: set[str], chats: Workbench, signed_in: Callable[..., AppTest]
) -> None:
    app = signed_in(role)
    pages = {"Home": "home.py", "Import": "upload.py", "Label": "label.py", "Snapshots": "snapshots.py", "Train": "train.py",
             "Compare": "compare.py", "Team": "team.py", "My work": "work.py", "Queues": "queues.py",
             "Explore": "explore.py", "SQL": "ask.py", "Audit": "audit.py", "Agreement": "agreement.py",
             "Disputes": "disputes.py", "Models": "models.py"}  # fmt: skip
    for title, page in pages.items():
        check(app.switch_page(page).run())
        refused = f"Your role is {role}" in texts(app)
        assert refused is (title not in open_to_them), title


def test_an_annotator_sees_nothing_of_the_others(
    chats: Workbench, signed_in: Callable[..., AppTest], sign_in: SignIn, operator: SupabaseStore
) -> None:
    ben, his = sign_in("Ben")
    (chat,) = his.search_chats(limit=1)
    his.for_user(ben).rate(chat.id, None, 1, "stars")
    app = signed_in("annotator")
    assert "ratings of yours" in texts(app)
    assert "822" not in texts(app)
    app.switch_page("label.py").run()
    assert all(item["ratings"] == {} for item in pad(app)["items"])


def test_an_administrator_gives_roles(team: TeamServer, signed_in: Callable[..., AppTest], sign_in: SignIn) -> None:
    ben, _ = sign_in("Ben", None)
    app = signed_in("admin", "team.py")
    menu = next(one for one in app.selectbox if one.label == "Role of Ben")
    assert menu.value == "no role"
    menu.set_value("annotator").run()
    check(app)
    assert team.sql("select role from public.profiles where user_id = %s", (ben.user_id,)) == [("annotator",)]
    mine = next(one for one in app.selectbox if one.label == "Role of Cai")
    mine.set_value("no role").run()
    assert "last administrator" in texts(check(app))
    assert next(one for one in app.selectbox if one.label == "Role of Cai").value == "admin"


def test_changing_ones_name_and_password(team: TeamServer, signed_in: Callable[..., AppTest], accounts: Any) -> None:
    app = signed_in("annotator", "account.py")
    box(app, "Name").set_value("Caio")
    assert "Caio" in [one.value for one in press(app, "Change the name").title]
    box(app, "New password").set_value("short")
    assert "at least 8" in texts(press(app, "Change the password"))
    box(app, "New password").set_value("another-horse-7")
    assert "The password is changed" in texts(press(app, "Change the password"))
    box(app, "New password").set_value(PASSWORD)
    press(app, "Change the password")


def test_a_session_that_ends(team: TeamServer, chats: Workbench, signed_in: Callable[..., AppTest], accounts: Any) -> None:
    app = signed_in("annotator", "label.py")
    items = pad(app)["items"]
    here = app.session_state["session:signed_in"]
    team.sql("delete from auth.refresh_tokens where user_id::text = %s", (accounts["Cai"][0],))
    here.connection._renew_at = 0.0
    check(app.run())
    assert "Your session has ended" in texts(app)
    assert box(app, "Password")
    sign_in_at(app, accounts["Cai"][1])
    assert pad(app)["items"] == items
    accounts.pop("Cai")[2].sign_out()


def test_the_next_person_in_a_tab_sees_nothing_of_the_last(
    chats: Workbench, signed_in: Callable[..., AppTest], sign_in: SignIn, accounts: Any
) -> None:
    app = signed_in("engineer", "label.py")
    app.session_state["compare:result"] = None
    app.session_state["import:result"] = "what Cai imported"
    sign_in("Ben", "engineer")
    app.session_state["session:signed_in"].connection.sign_out()  # in another tab
    accounts.pop("Cai")
    app.run()
    assert "Your session has ended" in texts(app)
    sign_in_at(app, accounts["Ben"][1])
    assert "what Cai imported" not in str(app.session_state)


def test_idle_for_half_a_day(chats: Workbench, signed_in: Callable[..., AppTest], accounts: Any) -> None:
    app = signed_in("annotator", "label.py")
    here = app.session_state["session:signed_in"]
    here._used_at -= 11 * 3600
    check(app.run())
    assert pad(app)
    here._used_at -= 13 * 3600
    check(app.run())
    assert box(app, "Password")


def test_an_account_whose_profile_is_gone_can_still_leave(
    team: TeamServer, chats: Workbench, signed_in: Callable[..., AppTest], accounts: Any
) -> None:
    app = signed_in("annotator", "label.py")
    user_id, _, connection = accounts.pop("Cai")
    team.sql("delete from auth.users where id = %s", (user_id,))
    app.session_state["session:signed_in"]._ask_at -= 3600
    assert "no profile" in texts(check(app.run()))
    press(app, "Sign out")
    assert box(app, "Password")
    connection.sign_out()


def test_services_ask_for_the_role_too(chats: Workbench, sign_in: SignIn) -> None:
    ben, his = sign_in("Ben", "annotator")
    own = chats.for_person(his._connection, ben)
    for call in (
        lambda: training.runs(own), lambda: training.run(own, "x"), lambda: training.cancel(own, "x"),
        lambda: training.log_tail(own, "x"), lambda: training.metrics(own, "x"), lambda: snapshots.listing(own),
        lambda: snapshots.take(own), lambda: snapshots.find(own, "x"), lambda: comparing.candidates(own),
        lambda: comparing.trained_count(own), lambda: comparing.compare(own, [], "q", []), lambda: demo.load_demo(own),
    ):  # fmt: skip
        with pytest.raises(Forbidden, match="Your role is annotator"):
            call()


def test_a_role_taken_away(team: TeamServer, chats: Workbench, signed_in: Callable[..., AppTest], sign_in: SignIn) -> None:
    app = signed_in("annotator", "label.py")
    sign_in("Cai", None)
    app.session_state["session:signed_in"]._ask_at -= 31
    assert "Your role was taken away" in texts(check(app.run()))
    assert [one.label for one in app.button if one.label == "Look again"]


def test_while_the_server_is_away_pages_of_this_machine_go_on(
    team: TeamServer, chats: Workbench, signed_in: Callable[..., AppTest]
) -> None:
    app = signed_in("analyst", "snapshots.py")
    person = app.session_state["session:signed_in"]
    team.stop()
    try:
        person._ask_at -= 31
        assert "Your role is" not in texts(app.run())
        assert app.title[0].value == "Snapshots"
        person._ask_at -= 31
        person._known_at -= 16 * 60  # too long ago
        assert "Snapshots" not in [one.value for one in app.run().title]
        assert [one.label for one in app.button] == ["Try again", "Sign out"]
    finally:
        team.start()
    assert check(app.run()).title[0].value == "Snapshots"


@pytest.mark.slow
def test_a_server_that_goes_down_and_comes_back(team: TeamServer, chats: Workbench, signed_in: Callable[..., AppTest]) -> None:
    app = signed_in("annotator", "label.py")
    items = pad(app)["items"]
    team.stop(kill=True)
    try:
        check(app.switch_page("home.py").run())
        assert "cannot be reached" in texts(app)
    finally:
        team.start()
    app.switch_page("label.py").run()
    assert pad(check(app))["items"] == items


def test_a_server_that_is_down_at_first(team: TeamServer) -> None:
    app = visit()
    team.stop()
    try:
        assert "cannot be reached" in texts(sign_in_at(app, "a@example.com"))
    finally:
        team.start()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SUPABASE_KEY", "", "SUPABASE_KEY is missing"),
        ("SUPABASE_URL", "nowhere", "SUPABASE_URL is 'nowhere'"),
        ("SUPABASE_KEY", "sb_secret_hush", "SUPABASE_KEY holds the secret key"),
    ],
)
def test_a_wrong_setting_is_named_on_the_page(name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(name, value)
        shown = texts(check(visit()))
    assert message in shown
    assert "hush" not in shown
