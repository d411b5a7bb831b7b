"""Reward scores of several checkpoints side by side: over one answer's steps, over a set, and in choosing the best of several."""

import pandas as pd
import streamlit as st

from rlhf_core.ground.errors import NotFound, RlhfError
from rlhf_core.ground.text import shorten
from rlhf_core.services import comparing
from rlhf_core.services.comparing import Candidate
from rlhf_core.ui import charts, compare_best, explanations, keys, resources
from rlhf_core.ui.texts import markdown_of, plural, show_error

MENU = 200  # chats in the menu; more are found by their words
VIEWS = {"one": "One answer", "set": "A set of answers", "best": "Best of several"}
workbench = resources.workbench()


def keep_in_url() -> None:
    one = st.session_state[keys.COMPARE_CHAT]
    if one:
        st.query_params[keys.URL_CHAT] = one.id
    else:
        st.query_params.pop(keys.URL_CHAT, None)


def one_answer(chosen: list[Candidate]) -> None:
    query = ""
    places: list[comparing.Place] = []
    text = ""
    found, more = comparing.find_chats(workbench, limit=MENU)
    if more:
        text = st.text_input("Find", placeholder="Words in the question", icon=":material/search:")
        if text:
            found, _ = comparing.find_chats(workbench, text, limit=MENU)
    wanted = st.query_params.get(keys.URL_CHAT)
    if wanted and all(one.id != wanted for one in found):  # from a link, a queue or the table of a set
        try:
            found = [comparing.chat(workbench, wanted), *found]
        except NotFound as error:
            show_error(error)
    if not found:
        st.info(
            "No chat's question contains these words." if text else "No chats yet: import some, load the demo set, or type one."
        )
    place = next((k for k, one in enumerate(found, start=1) if one.id == wanted), min(1, len(found)))
    answer = st.selectbox(
        "Answer",
        [None, *found],
        index=place,
        format_func=lambda one: shorten(one.query, 120) if one else "Type an answer …",
        key=keys.COMPARE_CHAT,
        on_change=keep_in_url,
    )
    if answer is None:
        query = st.text_area("Question", height=80, placeholder="What training do I need for solar installation?")
        response = st.text_area("Its answer", height=220, placeholder="1. First step …\n2. Second step …")
        if response.strip():
            response, places = comparing.places_of_text(response)
    else:
        chat = comparing.chat(workbench, answer.id)
        query, places = chat.query, comparing.places_of_chat(workbench, chat)

    ready = bool(chosen and query.strip() and places)
    if st.button("Compare", type="primary", disabled=not ready, icon=":material/compare_arrows:"):
        with st.spinner("Scoring. The first time, models are loaded in a process of their own …"):
            st.session_state[keys.COMPARE_RESULT] = comparing.compare(workbench, chosen, query, places)

    result: comparing.Comparison | None = st.session_state.get(keys.COMPARE_RESULT)
    if result is None:
        st.text("At which step do checkpoints part? A reward is a predicted mean score in stars.")
        return
    for label, message in result.errors.items():
        st.error(markdown_of(f"{label}: {message}"), icon=":material/error:")
    if result.rewards:
        show(result, chosen)


def show(result: comparing.Comparison, chosen: list[Candidate]) -> None:
    st.subheader(markdown_of(shorten(result.query, 140)))
    st.altair_chart(charts.rewards_by_place(result))
    st.caption(markdown_of("  \n".join(comparing.in_words(result))))
    for label, left_out in result.left_out.items():
        if left_out:
            st.warning(
                f"This is too long for {label}: {plural(left_out, 'token')} in the middle were left out. It read the beginning "
                "of the question and the end of the answer.", icon=":material/content_cut:",
            )  # fmt: skip
    frame = pd.DataFrame({"place": [place.label for place in result.places]} | result.rewards)
    frame["people"] = [place.people[0] if place.people else None for place in result.places]
    frame["ratings"] = [place.people[1] if place.people else 0 for place in result.places]
    frame["text"] = [shorten(place.text, 400) for place in result.places]
    numbers = {label: st.column_config.NumberColumn(format="%.2f") for label in [*result.rewards, "people"]}
    coloured = frame.style.map(charts.colour_of_stars, subset=[*result.rewards, "people"])
    st.dataframe(coloured, hide_index=True, column_config=numbers | {"text": st.column_config.TextColumn(width="large")})
    explanations.draw(workbench, result, {one.label: one for one in chosen})
    with st.expander("The answer in full"):
        st.markdown(markdown_of(result.places[-1].text))


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
view = st.segmented_control(
    "View", VIEWS, format_func=VIEWS.__getitem__, default=None if keys.COMPARE_VIEW in st.session_state else "one",
    key=keys.COMPARE_VIEW, label_visibility="collapsed",
)  # fmt: skip
labels = st.multiselect(
    "Checkpoints", choices, default=[*trained[:2], *untrained[: 2 - len(trained[:2])]], placeholder="Choose two or more"
)
for label in st.session_state.get(keys.COMPARE_CHOSEN, []):
    if label not in choices:
        st.warning(f"{label} is not on this machine any more: somebody removed it.", icon=":material/delete:")
st.session_state[keys.COMPARE_CHOSEN] = labels
picked = [choices[label] for label in labels]
try:
    if view == "set":
        from rlhf_core.ui import compare_set  # brings scipy along, which the other views can do without

        compare_set.draw(workbench, picked)
    elif view == "best":
        compare_best.draw(workbench, picked)
    else:
        one_answer(picked)
except RlhfError as error:
    show_error(error)
