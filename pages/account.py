"""Who works at this browser: on a team's store the account, on the embedded one a person to pick or add."""

import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.roles import ROLES
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import identity, keys, resources
from rlhf_core.ui.texts import markdown_of, plain, show_error

workbench, session = resources.workbench(), resources.session()


def choose() -> None:
    identity.become(st.session_state[keys.RATER_CHOICE])


def add(shared: Workbench) -> None:
    try:
        identity.become(shared.add_person(st.session_state[keys.RATER_NEW]).user_id)
        st.session_state[keys.RATER_NEW] = ""
        st.session_state.pop(keys.RATER_PROBLEM, None)
    except RlhfError as error:
        st.session_state[keys.RATER_PROBLEM] = str(error)


def local() -> None:
    st.title("Who is working?")
    st.text("Ratings are stored in this person's name. The browser remembers the choice.")
    people = {person.user_id: person.display_name for person in workbench.people()}
    st.session_state[keys.RATER_CHOICE] = session.user_id
    st.radio("Working as", people, format_func=lambda one: plain(people[one]), key=keys.RATER_CHOICE, on_change=choose)
    st.text_input("Somebody new", key=keys.RATER_NEW, on_change=add, args=(workbench,), placeholder="Type a name, then Enter")
    if problem := st.session_state.get(keys.RATER_PROBLEM):
        st.error(markdown_of(problem), icon=":material/error:")
    st.caption(
        "There are no passwords on the embedded store: the server listens on this machine only, and whoever can open this page "
        "may do everything. Teams use Supabase."
    )


def account() -> None:
    from rlhf_core.services import accounts

    signed_in = identity.signed_in()
    assert signed_in is not None
    st.title(plain(session.display_name))
    st.text(f"{signed_in.email} · {session.role or 'no role yet'}{f': {ROLES[session.role]}' if session.role else ''}")
    st.button("Sign out", icon=":material/logout:", on_click=identity.leave)
    with st.container(width=520):
        with st.form("account:name"):
            name = st.text_input("Name", value=session.display_name, max_chars=200, autocomplete="name")
            if st.form_submit_button("Change the name"):
                try:
                    accounts.rename(signed_in, name)
                except RlhfError as error:
                    show_error(error)
                else:
                    st.rerun()
        with st.form("account:password", clear_on_submit=True):
            password = st.text_input(
                "New password", type="password", autocomplete="new-password", help="Eight characters or more"
            )
            if st.form_submit_button("Change the password"):
                try:
                    accounts.change_password(signed_in, password)
                except RlhfError as error:
                    show_error(error)
                else:
                    st.success("The password is changed.", icon=":material/check_circle:")


if workbench.team is None:
    local()
else:
    account()
