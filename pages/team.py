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


WITH_ARTICLE = {"annotator": "an annotator", "analyst": "an analyst", "engineer": "an engineer", "admin": "an administrator"}
names: dict[str, str] = st.session_state.setdefault(keys.TEAM_NAMES, {})


def change(user_id: str, key: str) -> None:
    chosen = st.session_state[key]
    try:
        accounts.set_role(workbench, user_id, None if chosen == NONE else chosen)
        st.session_state.pop(keys.TEAM_PROBLEM, None)
        who = plain(names.get(user_id, ""))
        st.toast(f"{who} has no role any more." if chosen == NONE else f"{who} is {WITH_ARTICLE[chosen]} now.")
    except RlhfError as error:
        st.session_state[keys.TEAM_PROBLEM] = str(error)


st.title("Team")
st.markdown(
    "Whoever opens the address below and creates an account waits here for a role.\n\n"
    + "\n".join(f"- **{role}** {what}" for role, what in ROLES.items())
)
if address := str(st.context.url or "").partition("/team")[0]:
    st.code(address, language=None, width="content")
if problem := st.session_state.get(keys.TEAM_PROBLEM):
    st.error(markdown_of(problem), icon=":material/error:")
members = accounts.members(workbench)
names.update({one.user_id: one.display_name for one in members})
order: list[str] = st.session_state.setdefault(keys.TEAM_ORDER, [])  # as they stood when the page was opened: nobody jumps
order[:0] = [one.user_id for one in members if one.user_id not in order]
members.sort(key=lambda one: order.index(one.user_id))
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
    st.info("You are alone so far. Send your team the address above; whoever creates an account appears here.")
