"""The frame around every page: who is there, the pages they may open, errors shown for people. Runs on every rerun, deep links
included, so no page is reached past the sign-in.

Kept lean on purpose: each kind of widget in the frame adds 50 to 130 ms to the opening of every page.
"""

import streamlit as st

from rlhf_core.ground.errors import RlhfError, SignInRequired
from rlhf_core.ground.records import Session
from rlhf_core.ground.roles import Action, may, refusal
from rlhf_core.ui import identity, keys, resources, sign_in
from rlhf_core.ui.shell import ICON
from rlhf_core.ui.texts import markdown_of, plain, show_error

PAGES: list[tuple[str, str, str, str | None, Action | None, str]] = [  # file, title, icon, address, what it takes, section
    ("home.py", "Home", ":material/home:", None, None, ""),
    ("label.py", "Label", ":material/thumbs_up_down:", None, "label", "Judge"),
    ("prefer.py", "Prefer", ":material/balance:", None, "label", "Judge"),
    ("work.py", "My work", ":material/history:", "work", "label", "Judge"),
    ("upload.py", "Import", ":material/upload_file:", "import", "import", "Data"),
    ("queues.py", "Queues", ":material/low_priority:", "queues", "queues", "Data"),
    ("applications.py", "Applications", ":material/hub:", None, "manage", "Data"),
    ("activity.py", "Activity", ":material/list_alt:", None, "manage", "Data"),
    ("team.py", "Team", ":material/group:", None, "manage", "Data"),
    ("explore.py", "Explore", ":material/insights:", None, "explore", "Analyse"),
    ("ask.py", "SQL", ":material/database_search:", "sql", "explore", "Analyse"),
    ("audit.py", "Audit", ":material/fact_check:", None, "explore", "Analyse"),
    ("snapshots.py", "Snapshots", ":material/photo_camera:", None, "explore", "Analyse"),
    ("agreement.py", "Agreement", ":material/handshake:", None, "explore", "Analyse"),
    ("disputes.py", "Disputes", ":material/gavel:", None, "adjudicate", "Analyse"),
    ("train.py", "Train", ":material/model_training:", None, "train", "Improve"),
    ("runs.py", "Runs", ":material/monitoring:", None, "train", "Improve"),
    ("models.py", "Models", ":material/verified:", None, "compare", "Improve"),
    ("compare.py", "Compare", ":material/compare_arrows:", None, "compare", "Improve"),
    ("rollout.py", "Roll-out", ":material/rocket_launch:", None, "compare", "Improve"),
    ("drift.py", "Drift", ":material/trending_down:", None, "explore", "Improve"),
    ("playground.py", "Playground", ":material/forum:", None, "compare", "Improve"),
]


def pages_for(person: Session | None, *, team: bool) -> tuple[st.Page, Action | None]:
    """The page that the address names, and what it takes to open it. Pages that a person may not open are not in the menu."""
    needs: dict[str, Action | None] = {}
    pages: dict[str, list[st.Page]] = {}
    for file, title, icon, address, action, section in PAGES:
        open_to_them = person is not None and (action is None or may(person.role, action)) and (team or file != "team.py")
        page = st.Page(
            file, title=title, icon=icon, url_path=address, default=file == "home.py",
            visibility="visible" if open_to_them else "hidden",
        )  # fmt: skip
        needs[page.url_path] = action
        pages.setdefault(section, []).append(page)
    name = person.display_name if person else "Account"
    pages["You"] = [st.Page("account.py", title=plain(name), icon=":material/person:", url_path="account")]
    chosen = st.navigation(pages, position="sidebar" if person else "hidden", expanded=True)
    return chosen, needs.get(chosen.url_path)


def waiting(person: Session) -> None:
    st.title(f"Welcome, {plain(person.display_name)}")
    if problem := st.session_state.get(keys.LABEL_PROBLEM):
        st.error(markdown_of(problem), icon=":material/error:")
    if keys.PAD_AT in st.session_state:
        st.info("Your role was taken away. What you rated and is not saved yet stays in this browser until you have one again.")
    else:
        st.info("You are signed in. An administrator of your team gives you a role next; then come back here.")
        st.caption("Nobody is an administrator yet? Whoever set this up makes one: `python -m rlhf_core team E-MAIL admin`.")
    st.button("Look again", icon=":material/refresh:", on_click=identity.ask_again)


st.set_page_config(page_title="RLHF Workbench", page_icon=str(ICON), layout="wide")
try:
    workbench = resources.shared()
    person = None
    problem: RlhfError | None = None
    try:
        person = resources.session()
    except SignInRequired:
        pass
    except RlhfError as error:
        problem = error  # a team's server that does not answer
    page, action = pages_for(person, team=workbench.team is not None)
    if problem is not None:
        raise problem
    if person is None:
        sign_in.draw(workbench)
    elif person.role is None and page.url_path != "account":
        waiting(person)
    elif page.url_path == "team" and workbench.team is None:
        st.title(page.title)
        st.info("The embedded store has no team: whoever can open this page may do everything. Teams use Supabase.")
    elif action is not None and not may(person.role, action):
        st.title(page.title)
        st.warning(refusal(person.role, action), icon=":material/lock:")
        st.page_link("home.py", label="Home", icon=":material/home:")
    else:
        if keys.PAD_ITEMS in st.session_state and page.url_path not in ("label", "prefer"):
            from rlhf_core.ui import pad

            pad.give_back()
        page.run()
    identity.keep_cookie()
except SignInRequired as error:
    identity.ended(error)
except RlhfError as error:
    show_error(error)
    st.button("Try again", icon=":material/refresh:")
    if identity.is_signed_in():
        st.button("Sign out", icon=":material/logout:", on_click=identity.leave)
