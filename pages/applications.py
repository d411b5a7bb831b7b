"""Chat applications that send feedback: which, by which words people are asked, what was taken out of texts, who was erased."""

import pandas as pd
import streamlit as st

from rlhf_core.ground.applications import CONSENT_WORDS, PER_MINUTE, Application
from rlhf_core.ground.errors import RlhfError
from rlhf_core.services import collecting
from rlhf_core.ui import keys, resources
from rlhf_core.ui.texts import ago, markdown_of, show_error

workbench = resources.workbench()
HERE = workbench.team is None  # whether they send feedback here, or write to a team's tables


def add(name: str, per_minute: int, keep_days: int | None, words: str) -> None:
    _, token = collecting.add_application(workbench, name, per_minute=per_minute, keep_days=keep_days, consent_words=words)
    st.session_state[keys.NEW_APPLICATION] = (name.strip(), token)


def renew(one: Application) -> None:
    _, token = collecting.change_application(workbench, one.id, new_token=True)
    st.session_state[keys.NEW_APPLICATION] = (one.name, token)


def revoke(one: Application) -> None:
    collecting.revoke_application(workbench, one.id)


def show_token() -> None:
    """Once: it is kept nowhere."""
    name, token = st.session_state[keys.NEW_APPLICATION]
    with st.container(border=True):
        st.markdown(f"The token of **{markdown_of(name)}**. It is shown this once and kept nowhere; no browser may hold it.")
        st.code(token, language=None)
        st.button("I have kept it", on_click=lambda: st.session_state.pop(keys.NEW_APPLICATION, None), type="primary")


def ask_for_words(one: Application) -> None:
    with st.expander(f"Consent, version {one.consent_version}"), st.form(f"applications:words:{one.id}", border=False):
        words = st.text_area("Words by which its people are asked", one.consent_words, key=f"applications:text:{one.id}")
        version = st.text_input("Version of the words", one.consent_version, key=f"applications:version:{one.id}")
        st.caption("Other words need another version; everybody is asked anew then.")
        if st.form_submit_button("Save"):
            try:
                collecting.change_application(workbench, one.id, consent_version=version, consent_words=words)
            except RlhfError as error:
                show_error(error)
            else:
                st.rerun()


def draw(one: Application) -> None:
    with st.container(border=True):
        state = f"revoked {ago(one.revoked_at)}" if one.revoked_at else f"{one.per_minute:,} requests a minute"
        state += f" · chats go after {one.keep_days} days" if one.keep_days else ""
        st.markdown(f"**{markdown_of(one.name)}** · {state} · since {one.created_at[:10]}")
        if HERE:
            ask_for_words(one)
        with st.container(horizontal=True):
            st.button("New token", key=f"applications:renew:{one.id}", icon=":material/key:", on_click=renew, args=(one,),
                      help="The old one opens nothing any more")  # fmt: skip
            if not one.revoked_at:
                st.button("Revoke", key=f"applications:revoke:{one.id}", icon=":material/block:", type="tertiary",
                          on_click=revoke, args=(one,),
                          help="It may send no more; what it sent stays")  # fmt: skip


st.title("Applications")
if HERE:
    st.caption("Chat applications whose people rate answers on their own page: docs/collecting.md, and examples/chat.")
else:
    st.caption(
        "Feedback of applications goes straight to the team's tables, under row level security: docs/collecting.md. Here they "
        "may ask for scores, with a token."
    )
if keys.NEW_APPLICATION in st.session_state:
    show_token()
known = collecting.applications(workbench)
if not known:
    st.info(
        f"No application {'sends feedback' if HERE else 'asks for scores'} yet. Let one in below: its token goes to its server."
    )
for one in known:
    draw(one)
with st.expander("Let an application in", icon=":material/add:", expanded=not known), st.form("applications:add", border=False):
    name = st.text_input("Name", help="The source of its chats")
    per_minute = st.number_input("Requests a minute", 1, 10_000_000, PER_MINUTE)
    keep_days = st.number_input("Keep chats for days", 1, 36_500, None, placeholder="for ever") if HERE else None
    words = st.text_area("Words by which its people are asked for their consent", CONSENT_WORDS) if HERE else CONSENT_WORDS
    if st.form_submit_button("Let it in", type="primary"):
        try:
            add(name, int(per_minute), None if keep_days is None else int(keep_days), words)
        except RlhfError as error:
            show_error(error)
        else:
            st.rerun()
if taken := collecting.removed(workbench):
    st.subheader("Taken out of texts")
    st.dataframe(pd.DataFrame(taken, columns=["application", "month", "what"]), hide_index=True)
if erased := collecting.erasures(workbench):
    st.subheader("Erased")
    st.caption("People who were erased, by the names that snapshots had for them. What models have learnt stays in them.")
    rows = [
        {"when": pd.Timestamp(one["at"]), "pseudonym": one["pseudonym"], "finished": one["finished"],
         "what": ", ".join(f"{count:,} {table}" for table, count in one["rows"].items()) or "nothing was there",
         "snapshots rewritten": len(one.get("snapshots", ())), "runs": ", ".join(one.get("runs", ())),
         "checkpoints": ", ".join(one.get("checkpoints", ()))} for one in reversed(erased)
    ]  # fmt: skip
    st.dataframe(pd.DataFrame(rows), hide_index=True)
