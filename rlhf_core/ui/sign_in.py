"""The sign-in page: shown in place of any page until somebody is signed in, so the address they came for is kept."""

from __future__ import annotations

from urllib.parse import urlsplit

import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import identity, keys
from rlhf_core.ui.texts import plain, show_error

SIGN_IN, SIGN_UP, FORGOT = "Sign in", "Create an account", "Forgot the password"


def draw(workbench: Workbench) -> None:
    assert workbench.team is not None
    _, middle, _ = st.columns([1, 2, 1])
    with middle:
        st.title("RLHF Workbench")
        if problem := st.session_state.get(keys.SIGN_IN_PROBLEM):
            st.warning(problem, icon=":material/lock_clock:")
        if notice := st.session_state.get(keys.SIGN_IN_NOTICE):
            st.success(notice, icon=":material/mail:")
        what = st.segmented_control(
            "What", [SIGN_IN, SIGN_UP, FORGOT], default=SIGN_IN, key=keys.SIGN_IN_CHOICE, label_visibility="collapsed",
            on_change=lambda: st.session_state.pop(keys.SIGN_IN_NOTICE, None),
        )  # fmt: skip
        {SIGN_UP: _sign_up, FORGOT: _forgot}.get(what or SIGN_IN, _sign_in)(workbench)
        if workbench.team.oidc_provider:
            _oidc(workbench, workbench.team.oidc_provider)
        st.caption(f"The team's store: {plain(urlsplit(workbench.team.url).netloc)}")


def _sign_in(workbench: Workbench) -> None:
    with st.form("sign_in:form"):
        email = st.text_input("E-mail", autocomplete="email")
        password = st.text_input("Password", type="password", autocomplete="current-password")
        if st.form_submit_button("Sign in", type="primary", width="stretch"):
            from rlhf_core.services import accounts

            if not email.strip() or not password:
                st.error("Type your e-mail address and your password.", icon=":material/error:")
                return
            try:
                identity.welcome(accounts.sign_in(workbench, email, password))
            except RlhfError as error:
                show_error(error)
                return
            _done()


def _sign_up(workbench: Workbench) -> None:
    with st.form("sign_up:form"):
        name = st.text_input("Your name", autocomplete="name", help="As your team knows you")
        email = st.text_input("E-mail", autocomplete="email")
        password = st.text_input("Password", type="password", autocomplete="new-password", help="Eight characters or more")
        if st.form_submit_button("Create the account", type="primary", width="stretch"):
            from rlhf_core.services import accounts

            try:
                signed_in = accounts.sign_up(workbench, email, password, name)
            except RlhfError as error:
                show_error(error)
                return
            if signed_in is not None:
                identity.welcome(signed_in)
                _done()
            st.session_state[keys.SIGN_IN_NOTICE] = f"Open the link in the mail to {email.strip()}, then sign in."
            st.rerun()
    st.caption("An administrator of your team gives you a role afterwards.")


def _forgot(workbench: Workbench) -> None:
    from rlhf_core.services import accounts

    with st.form("forgot:form"):
        email = st.text_input("E-mail", autocomplete="email", key=keys.FORGOT_EMAIL)
        if st.form_submit_button("Send me a code", width="stretch"):
            if not email.strip():
                st.error("Type your e-mail address.", icon=":material/error:")
                return
            try:
                accounts.send_recovery(workbench, email)
            except RlhfError as error:
                show_error(error)
                return
            st.success(f"If {email.strip()} has an account, a mail with a code is on its way.", icon=":material/mail:")
    with st.form("recover:form"):
        code = st.text_input("Code from the mail", autocomplete="one-time-code")
        password = st.text_input("New password", type="password", autocomplete="new-password", help="Eight characters or more")
        if st.form_submit_button("Set it and sign in", type="primary", width="stretch"):
            try:
                identity.welcome(accounts.recover(workbench, st.session_state[keys.FORGOT_EMAIL], code, password))
            except RlhfError as error:
                show_error(error)
                return
            _done()


def _oidc(workbench: Workbench, provider: str) -> None:
    """Sign in with the provider set under [auth] in secrets.toml; its ID token is exchanged for a session of the project."""
    from rlhf_core.services import accounts

    if st.user.get("is_logged_in") and keys.SIGNED_OUT not in st.session_state:
        token = getattr(st.user, "tokens", {}).get("id")
        try:
            if not token:
                show_error(RlhfError('The provider gave no ID token. Add expose_tokens = ["id"] under [auth] in secrets.toml.'))
                return
            identity.welcome(accounts.sign_in_with_id_token(workbench, provider, token))
        except RlhfError as error:
            show_error(error)
            st.button("Choose another account", on_click=st.logout)
            return
        _done()
    st.button(f"Sign in with {provider.title()}", on_click=st.login, width="stretch", icon=":material/passkey:")


def _done() -> None:
    for key in (keys.SIGN_IN_NOTICE, keys.SIGN_IN_PROBLEM):
        st.session_state.pop(key, None)
    st.rerun()
