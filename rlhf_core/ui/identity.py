"""Who sits at this browser: signed in to a team, or a person of the embedded store. Kept over a refresh by a cookie."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import streamlit as st

from rlhf_core.ground.errors import RlhfError, SignInRequired
from rlhf_core.ground.records import Session
from rlhf_core.services.browsers import Browsers
from rlhf_core.services.workbench import Workbench
from rlhf_core.ui import keys

if TYPE_CHECKING:
    from rlhf_core.services.accounts import SignedIn

ENDED = "Your session has ended. Sign in to go on; what was shown as saved is saved."
COOKIE_ROUTE = "browser"
COOKIE_HEADER = "X-Workbench"  # a page of another site cannot send it, so it cannot sign anybody in as somebody else
BROWSERS: Browsers[SignedIn] = Browsers()
_KEEP_COOKIE = """
export default function ({ data }) {
  if (!data || window.__rlhfTicket === data) return;
  window.__rlhfTicket = data;
  fetch(new URL("./browser", document.baseURI), {
    method: "POST", headers: { "X-Workbench": "1" }, body: data, credentials: "same-origin",
  });
}
"""


def cookie_name() -> str:
    """Cookies know no ports, and two workbenches may run on one machine."""
    return f"rlhf_workbench_{st.get_option('server.port')}"


def redeem(ticket: str) -> str | None:
    """What the cookie is to hold; None takes it away.

    Raises:
        NotFound: no such ticket.
    """
    return BROWSERS.redeem(ticket)


def signed_in() -> SignedIn | None:
    """Who signed in from this browser, in whichever tab."""
    here: SignedIn | None = st.session_state.get(keys.SIGNED_IN)
    if here is None and keys.SIGNED_OUT not in st.session_state and (token := st.context.cookies.get(cookie_name())):
        here = BROWSERS.whose(token)
        if here is None and not token.startswith("local."):
            st.session_state.setdefault(keys.SIGN_IN_PROBLEM, ENDED)  # the server was begun anew, or the session is too old
    if here is not None and not here.alive:
        here = None
        st.session_state.setdefault(keys.SIGN_IN_PROBLEM, ENDED)
    st.session_state[keys.SIGNED_IN] = here
    return here


def is_signed_in() -> bool:
    return st.session_state.get(keys.SIGNED_IN) is not None


def welcome(one: SignedIn) -> None:
    """Keep who signed in, for this tab and, by a cookie, for the browser."""
    person = one.workbench().person
    user_id = person.user_id if person else None
    if st.session_state.get(keys.LAST_PERSON) not in (None, user_id):
        _clear()  # somebody else sat here: nothing of what they did is shown on
    st.session_state[keys.LAST_PERSON] = user_id
    st.session_state[keys.SIGNED_IN] = one
    st.session_state.pop(keys.SIGN_IN_PROBLEM, None)
    st.session_state.pop(keys.SIGNED_OUT, None)
    st.session_state[keys.TICKET] = BROWSERS.remember(one)


def ask_again() -> None:
    """Ask the server anew what this person may do. Whatever is wrong with that is met on the way to the page."""
    if (one := signed_in()) is not None:
        with contextlib.suppress(RlhfError):
            one.refresh()


def leave() -> None:
    """Sign out."""
    from rlhf_core.services import accounts

    one = signed_in()
    if one is not None:
        accounts.sign_out(one)
        st.session_state[keys.TICKET] = BROWSERS.forget(one)
    _clear()
    st.session_state[keys.SIGNED_OUT] = True  # the cookie of this connection is the old one until the page is loaded anew
    st.query_params.clear()
    if st.user.get("is_logged_in"):
        st.logout()  # or the provider's word would sign them in again


def _clear() -> None:
    for key in list(st.session_state):
        if key != keys.TICKET:
            del st.session_state[key]


def ended(error: SignInRequired) -> None:
    """The session is over: say so on the sign-in page and go on from there, on the same page."""
    st.session_state.setdefault(keys.SIGN_IN_PROBLEM, str(error))
    st.session_state.pop(keys.SIGNED_IN, None)
    st.rerun()


def local_person(workbench: Workbench) -> Session:
    """Who works on the embedded store: chosen in this tab, or the last time in this browser, or the first there is."""
    people = workbench.people()
    chosen = st.session_state.get(keys.RATER) or st.context.cookies.get(cookie_name(), "").removeprefix("local.")
    person = next((one for one in people if one.user_id == chosen), people[0])
    return Workbench.session(person)


def become(user_id: str) -> None:
    st.session_state[keys.RATER] = user_id
    st.session_state[keys.TICKET] = BROWSERS.ticket(f"local.{user_id}")


def keep_cookie() -> None:
    """Let the browser fetch its cookie. Draws nothing that can be seen, and nothing at all most of the time."""
    ticket = st.session_state.get(keys.TICKET)
    if ticket is None:
        return
    if BROWSERS.pending(ticket):
        _cookie_component()(data=ticket, key="frame:cookie", height=1)
    else:
        del st.session_state[keys.TICKET]


@st.cache_resource(show_spinner=False)
def _cookie_component():  # type: ignore[no-untyped-def]  # Streamlit gives its type no public name
    return st.components.v2.component("rlhf_workbench_cookie", js=_KEEP_COOKIE)
