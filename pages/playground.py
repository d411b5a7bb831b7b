"""Talk to two policies or endpoints side by side, steps and rewards as they arrive; fix answers; attack checkpoints."""

import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.services import comparing, playing
from rlhf_core.services.playing import Exchange, Sampling, Voice
from rlhf_core.ui import attacks, branches, exchanges, keys, resources
from rlhf_core.ui.texts import show_error

VIEWS = {"talk": "Talk", "attack": "Attack"}
workbench = resources.workbench()


def talk(voices: list[Voice]) -> None:
    history: list[Exchange] = st.session_state.setdefault(keys.PLAY_HISTORY, [])
    left, right, judges = st.columns([1, 1, 2], vertical_alignment="bottom")
    first: Voice = left.selectbox("One", voices, format_func=lambda one: one.label, key="playground:first")
    second: Voice | None = right.selectbox(
        "The other", [*voices, None], index=min(1, len(voices)), format_func=lambda one: one.label if one else "nobody",
        key="playground:second",
    )  # fmt: skip
    choices = {one.label: one for one in comparing.candidates(workbench)}
    trained = [label for label, one in choices.items() if one.checkpoint]
    labels = judges.multiselect(
        "Rewards by", choices, default=trained[:1], placeholder="Choose reward checkpoints", key="playground:judges"
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        how = sampling()
        blind = st.toggle(
            "Blind", key="playground:blind", disabled=second is None,
            help="Sides are shuffled, and who wrote which is said when you have chosen",
        )  # fmt: skip
    scorers = [choices[label] for label in labels]
    if any(one.tiny for one in (first, second) if one is not None):
        st.caption("A tiny policy strings together words of the few texts it learned: it shows how the loop works, no more.")
    branches.begin_from_url(workbench)
    query = st.chat_input("Ask something", key="playground:query")
    if query:
        asked = [first] if second is None else [first, second]
        for one in history:
            one.stop()  # what was asked before is not looked at any more, and would slow the new answers down
        try:
            exchange = Exchange(workbench, query, asked, how, scorers, blind=blind and len(asked) == 2)
        except RlhfError as error:
            show_error(error)
        else:
            history.append(exchange)
            st.session_state[keys.PLAY_AT] = len(history) - 1
    if history:
        exchanges.draw(workbench, history)
    branches.draw(workbench, scorers, how)
    if not history and keys.PLAY_FIX not in st.session_state:
        st.text("Ask something below. Steps appear as they are written, each with its rewards (predicted stars).")


def sampling() -> Sampling:
    with st.popover("Sampling", icon=":material/tune:"):
        max_tokens = st.number_input("Tokens at most", 1, playing.MOST_TOKENS, 256, key="playground:tokens")
        temperature = st.slider(
            "Temperature", 0.0, 2.0, 1.0, 0.05, help="0: the likeliest token each time", key="playground:temperature"
        )
        top_p = st.slider(
            "Top-p", 0.05, 1.0, 1.0, 0.05, key="playground:top_p",
            help="Tokens are drawn from the likeliest ones that have this probability together",
        )  # fmt: skip
        seed = st.number_input("Seed", 0, 2**31 - 1, None, help="Empty: another one each time", key="playground:seed")
    return Sampling(int(max_tokens), float(temperature), float(top_p), None if seed is None else int(seed))


st.title("Playground")
workbench.scoring.warm()
view = st.segmented_control(
    "View", VIEWS, format_func=VIEWS.__getitem__, default=None if keys.PLAY_VIEW in st.session_state else "talk",
    key=keys.PLAY_VIEW, label_visibility="collapsed", required=True,
)  # fmt: skip
if view == "attack":
    attacks.draw(workbench)
elif found := playing.voices(workbench):
    talk(found)
else:
    st.info(
        "There is nobody to talk to yet: no policy on this machine, and no endpoint in the settings. Teach a policy, or let "
        "`python -m rlhf_core demo` load the demo set and teach a tiny one."
    )
    if workbench.may("train"):
        st.page_link("train.py", label="Train", icon=":material/model_training:")
    else:
        st.caption("Engineers and administrators teach policies: ask one of them.")
