"""Reward scores of several checkpoints side by side, step by step."""

import pandas as pd
import streamlit as st

from rlhf_core.ground.text import shorten
from rlhf_core.services import comparing
from rlhf_core.ui import charts, keys, resources
from rlhf_core.ui.texts import markdown_of

MENU = 200  # chats in the menu; more are found by their words
workbench = resources.workbench()
st.title("Compare")
choices = {one.label: one for one in comparing.candidates(workbench)}
if not choices:
    st.info("There is no model on this machine yet. Train one first.")
    st.page_link("train.py", label="Train", icon=":material/model_training:")
    st.stop()
workbench.scoring.warm()
trained = [label for label, one in choices.items() if one.checkpoint]
untrained = [label for label, one in choices.items() if not one.checkpoint]
if not trained:
    st.info("No checkpoint has been trained yet; an untrained model's rewards mean nothing, but show what training changes.")
labels = st.multiselect("Checkpoints", choices, default=[*trained[:2], *untrained[:1]], placeholder="Choose two or more")


def keep_in_url() -> None:
    one = st.session_state[keys.COMPARE_CHAT]
    st.query_params.from_dict({keys.URL_CHAT: one.id} if one else {})


query = ""
places: list[comparing.Place] = []
text = ""
if workbench.counts().chats > MENU:
    text = st.text_input("Find", placeholder="Words in the question", icon=":material/search:")
found = workbench.store.search_chats(text, limit=MENU)
if not found:
    st.info("No chat's question contains these words." if text else "No chats yet: import some, load the demo set, or type one.")
wanted = next((k for k, one in enumerate(found, start=1) if one.id == st.query_params.get(keys.URL_CHAT)), min(1, len(found)))
chosen = st.selectbox(
    "Answer",
    [None, *found],
    index=wanted,
    format_func=lambda one: shorten(one.query, 120) if one else "Type an answer …",
    key=keys.COMPARE_CHAT,
    on_change=keep_in_url,
)
if chosen is None:
    query = st.text_area("Question", height=80, placeholder="What training do I need for solar installation?")
    response = st.text_area("Its answer", height=220, placeholder="1. First step …\n2. Second step …")
    if response.strip():
        response, places = comparing.places_of_text(response)
else:
    chat = workbench.store.chat(chosen.id)
    query, places = chat.query, comparing.places_of_chat(workbench, chat)

ready = bool(labels and query.strip() and places)
if st.button("Compare", type="primary", disabled=not ready, icon=":material/compare_arrows:"):
    with st.spinner("Scoring. The first time, models are loaded in a process of their own …"):
        st.session_state[keys.COMPARE_RESULT] = comparing.compare(workbench, [choices[label] for label in labels], query, places)

result: comparing.Comparison | None = st.session_state.get(keys.COMPARE_RESULT)
if result is None:
    st.text("At which step do checkpoints part? A reward is a predicted mean score in stars.")
    st.stop()
for label, message in result.errors.items():
    st.error(f"{label}: {message}", icon=":material/error:")
if result.rewards:
    st.subheader(shorten(result.query, 140))
    st.altair_chart(charts.rewards_by_place(result))
    frame = pd.DataFrame({"place": [place.label for place in result.places]} | result.rewards)
    frame["people"] = [place.people[0] if place.people else None for place in result.places]
    frame["ratings"] = [place.people[1] if place.people else 0 for place in result.places]
    frame["text"] = [shorten(place.text, 400) for place in result.places]
    numbers = {label: st.column_config.NumberColumn(format="%.2f") for label in [*result.rewards, "people"]}
    st.dataframe(frame, hide_index=True, column_config=numbers | {"text": st.column_config.TextColumn(width="large")})
    with st.expander("The answer in full"):
        st.markdown(markdown_of(result.places[-1].text))
