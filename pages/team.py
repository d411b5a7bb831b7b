"""Who is in the team and what they may do. For administrators."""

import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.roles import ROLES
from rlhf_core.services import accounts
from rlhf_core.ui import keys, resources
from rlhf_core.ui.texts import ago, markdown_of, plain, plural

SHOWN = 50
NONE = "no role"
workbench, session = resources.workbench(), resources.session()


def change(user_id: str, key: str) -> None:
    chosen = st.session_state[key]
    try:
        accounts.set_role(workbench, user_id, None if chosen == NONE else chosen)
        st.session_state.pop(keys.TEAM_PROBLEM, None)
    except RlhfError as error:
        st.session_state[keys.TEAM_PROBLEM] = str(error)


st.title("Team")
st.markdown(
    "Whoever creates an account waits here for a role.\n\n" + "\n".join(f"- **{role}** {what}" for role, what in ROLES.items())
)
if problem := st.session_state.get(keys.TEAM_PROBLEM):
    st.error(markdown_of(problem), icon=":material/error:")
members = accounts.members(workbench)
if len(members) > SHOWN:
    text = st.text_input("Find", placeholder="Name or e-mail", icon=":material/search:").casefold()
    members = [one for one in members if text in f"{one.display_name} {one.email}".casefold()]
for one in members[:SHOWN]:
    key = keys.role(one.user_id)
    st.session_state[key] = one.role or NONE
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", border=True):
        you = " · you" if one.user_id == session.user_id else ""
        st.text(  # and no Markdown: a name is whatever somebody chose to type
            f"{one.display_name}{you}\n{one.email} · {plural(one.ratings, 'rating')} · joined {ago(one.created_at)}",
            width="content",
        )
        st.selectbox(
            f"Role of {plain(one.display_name)}", [NONE, *ROLES], key=key, on_change=change, args=(one.user_id, key), width=180,
            label_visibility="collapsed",
        )  # fmt: skip
if len(members) > SHOWN:
    st.caption(f"{len(members) - SHOWN} more: find them by name.")
elif len(members) == 1:
    st.info("You are alone so far. Give your team this page's address; whoever creates an account appears here.")
