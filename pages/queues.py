"""What is to be labelled, in which order, by how many people. For engineers and administrators."""

from dataclasses import replace

import pandas as pd
import streamlit as st

from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.judgement import Aspect
from rlhf_core.ground.records import Asks, ItemOrder, Queue, Task, new_id
from rlhf_core.ground.text import shorten
from rlhf_core.services import comparing, judging, labeling
from rlhf_core.ui import keys, resources, rows
from rlhf_core.ui.texts import markdown_of, plain, plural, show_error

ORDERS: dict[ItemOrder, str] = {
    "oldest": "oldest first", "random": "random", "fewest": "fewest raters first", "disagreement": "most disagreement first",
    "uncertain": "where a checkpoint is least certain", "convincing": "bad answers that a checkpoint likes",
}  # fmt: skip
TASKS: dict[Task, str] = {"rate": "rate single answers", "choose": "choose between two answers"}
ASKS: dict[Asks, str] = {
    "everything": "the score, and what the rubric asks",
    "aspects": "only the rubric, one question at a time",
}
ABOUT_GOLD = (
    "Items whose answer is known, slipped in unseen. What is known is told after submitting; agreement with it is measured."
)
ABOUT_SCREENING = "Whoever begins in this queue gets so many of them first, and goes on only if enough are right."
ABOUT_HINTS = (
    "Told only after submitting; how often it changes minds is measured under Agreement. Chats are scored when you save."
)
ABOUT_RUBRIC = "Questions beside the score, answered with 1 to 5. What a score means stands beside it while one rates."
SCORES = (1, 2, 3, 4, 5)
GOLD_SHOWN = 30
NEW = "new"
workbench, session = resources.workbench(), resources.session()
found = {one.id: one for one in labeling.all_queues(workbench)}


def choose(queue_id: str) -> None:
    st.session_state[keys.QUEUE] = queue_id


def describe(queue: Queue) -> str:
    progress = labeling.queue_progress(workbench, session, queue.id)
    more = [
        f"source {queue.source}" if queue.source else "", f"questions with {queue.words!r}" if queue.words else "",
        f"{queue.gold_rate:.0%} known answers" if queue.gold_rate else "",
        f"screening of {queue.screening}" if queue.screening else "",
        "hints" if queue.hint_checkpoint else "", "closed" if queue.archived else "",
    ]  # fmt: skip
    noun = "pair" if queue.task == "choose" else "chat"
    return markdown_of(
        f"{ORDERS[queue.item_order]} · {plural(queue.overlap, 'rater')} each · {progress.finished:,} of "
        f"{plural(progress.items, noun)} finished" + "".join(f" · {one}" for one in more if one)
    )  # fmt: skip


def form(old: Queue | None) -> None:
    start = old or Queue(new_id(), "")
    checkpoints = comparing.trained(workbench)
    with st.form(f"queues:form:{old.id if old else NEW}"):
        left, right = st.columns(2)
        name = left.text_input("Name", start.name, max_chars=200)
        order = right.selectbox("Order", ORDERS, index=[*ORDERS].index(start.item_order), format_func=ORDERS.__getitem__)
        overlap = left.number_input("Raters for each chat", 1, 1000, start.overlap)
        minutes = right.number_input("Minutes that a person keeps a chat", 1, 10_080, max(1, start.lease_s // 60))
        task = left.selectbox("What people do", TASKS, index=[*TASKS].index(start.task), format_func=TASKS.__getitem__)
        asks = right.selectbox("What they are asked", ASKS, index=[*ASKS].index(start.asks), format_func=ASKS.__getitem__)
        words = left.text_input("Only questions with these words", start.words or "")
        source = right.text_input("Only chats from this source", start.source or "")
        gold_rate = left.slider("Known answers among the items, %", 0, 50, round(100 * start.gold_rate), help=ABOUT_GOLD)
        screening = right.number_input("Known answers before first work", 0, 100, start.screening, help=ABOUT_SCREENING)
        passing = right.slider("Of those, at least so many right, %", 0, 100, round(100 * start.screening_pass))
        checkpoint, hinted = None, None
        if checkpoints:
            index = checkpoints.index(start.checkpoint_id) if start.checkpoint_id in checkpoints else None
            checkpoint = left.selectbox(
                "Checkpoint that orders (for the last two orders)", checkpoints, index=index, placeholder="None"
            )
            index = checkpoints.index(start.hint_checkpoint) if start.hint_checkpoint in checkpoints else None
            hinted = left.selectbox(
                "After submitting, show what this checkpoint thinks",
                checkpoints,
                index=index,
                placeholder="None",
                help=ABOUT_HINTS,
            )
        guidelines = st.text_area("Guidelines", start.guidelines, height=160, help="Markdown, shown above each chat")
        if not st.form_submit_button("Save", type="primary"):
            return
        changed = replace(
            start, name=name, item_order=order, overlap=int(overlap), lease_s=int(minutes) * 60, words=words or None,
            source=source or None, checkpoint_id=checkpoint, guidelines=guidelines, task=task, asks=asks,
            gold_rate=gold_rate / 100, screening=int(screening), screening_pass=passing / 100, hint_checkpoint=hinted,
        )  # fmt: skip
        try:
            saved = labeling.save_queue(workbench, changed)
            ordered, hints = saved.item_order in ("uncertain", "convincing"), saved.hint_checkpoint is not None
            if ordered or hints:
                bar = st.progress(0.0, "Scoring the queue's chats …")

                def show(done: int, total: int) -> None:
                    bar.progress(done / max(1, total))

                if ordered:
                    st.toast(f"{plural(labeling.prioritise(workbench, saved, on_progress=show), 'chat')} placed.")
                if hints:
                    st.toast(f"Hints on {plural(labeling.prepare_hints(workbench, saved, on_progress=show), 'chat')} are ready.")
        except RlhfError as error:
            show_error(error)
            return
    choose(saved.id)
    st.toast(f"{plain(saved.name)} is saved.")
    st.rerun()


def rubric_of(queue: Queue) -> None:
    """The rubric as a table: one question a row, and what each score means."""
    rubric = labeling.rubric(workbench, queue.id)
    version = f"version {rubric.version}" if rubric else "none yet"
    st.subheader("Rubric", help=ABOUT_RUBRIC)
    st.caption(f"{version}. A change makes a new version; ratings keep the name of the version that their person saw.")
    old = [
        {"aspect": one.key, "question": one.question, "asked of": one.of} | {str(k): one.anchors.get(k, "") for k in SCORES}
        for one in (rubric.aspects if rubric else ())
    ]
    frame = pd.DataFrame(old, columns=["aspect", "question", "asked of", *map(str, SCORES)])
    columns = {
        "aspect": st.column_config.TextColumn(width="small", help="A short name; overall: anchors for the score itself"),
        "question": st.column_config.TextColumn(width="large"),
        "asked of": st.column_config.SelectboxColumn(options=["answer", "step"], width="small"),
        **{str(k): st.column_config.TextColumn(f"{k} means", width="small") for k in SCORES},
    }
    table = st.data_editor(
        frame, num_rows="dynamic", hide_index=True, column_config=columns, width="stretch",
        key=f"queues:rubric:{queue.id}:{version}",
    )  # fmt: skip
    if st.button("Save the rubric"):
        filled = table.fillna("").to_dict("records")
        aspects = [
            Aspect(
                str(one["aspect"]), str(one["question"]), "step" if one["asked of"] == "step" else "answer",
                {k: str(one[str(k)]) for k in SCORES},
            )
            for one in filled if any(str(value).strip() for value in one.values())
        ]  # fmt: skip
        try:
            saved = labeling.save_rubric(workbench, queue.id, aspects)
            st.toast(f"Version {saved.version} is asked from now on.")
            st.rerun()
        except RlhfError as error:
            show_error(error)


def screening_of(queue: Queue) -> None:
    results = judging.screenings(workbench, queue)
    if not queue.screening or not results:
        return
    st.subheader("Screening")
    for one in results:
        through = one.answered >= queue.screening and one.share >= queue.screening_pass
        state = "through" if through else "not through" if one.answered >= queue.screening else "not finished"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(
                f"{one.display_name}: right on {one.share:.0%} of {plural(one.answered, 'known answer')}, {state}",
                width="content",
            )
            if st.button("Let them try again", key=f"queues:again:{queue.id}:{one.user_id}", type="tertiary"):
                judging.forget_screening(workbench, queue.id, one.user_id)
                st.rerun()


def known_answers() -> None:
    """Everything that can be slipped into queues."""
    gold = judging.gold(workbench)
    st.subheader("Known answers", help=ABOUT_GOLD)
    if not gold:
        st.caption("None yet. Rate a chat and make your words its known answer under My work, or settle one under Disputes.")
    for one in gold[:GOLD_SHOWN]:
        with st.container(horizontal=True, vertical_alignment="center"):
            given = f"asked {plural(one.given, 'time')}, {one.share:.0%} right" if one.share is not None else "not asked yet"
            what = "pair" if one.other_id else "chat"
            st.markdown(f"{markdown_of(shorten(one.query, 90))} · {what} · {given}", width="content")
            if st.button("Remove", key=f"queues:gold:{one.id}", type="tertiary", help="What people answered stays"):
                judging.remove_gold(workbench, one.id)
                st.rerun()
    if len(gold) > GOLD_SHOWN:
        st.caption(f"{len(gold) - GOLD_SHOWN} more")


st.title("Queues")
st.markdown(
    "A queue hands each chat, or pair of answers, to as many people as it says, and to nobody twice. What somebody rated in "
    "another queue comes with the stars that they gave it."
)


def show(queue_id: str) -> None:
    """The chosen one: the way to it, and all that can be changed."""
    queue = found[queue_id]
    if not queue.archived:
        st.page_link(
            "prefer.py" if queue.task == "choose" else "label.py", label="Label in this queue", icon=":material/thumbs_up_down:",
            query_params={keys.URL_QUEUE: queue.id}, help="The address of the page that opens can be sent to others.",
        )  # fmt: skip
    form(queue)
    label = "Open it again" if queue.archived else "Close it"
    if st.button(label, icon=":material/inventory_2:", help="Nothing is deleted; a closed queue hands nothing out"):
        labeling.archive_queue(workbench, queue.id, archived=not queue.archived)
        st.rerun()
    rubric_of(queue)
    screening_of(queue)
    if queue.gold_rate or queue.screening:
        known_answers()


chosen = st.session_state.get(keys.QUEUE)
rows.pick(
    "queues", [rows.Row(one.id, describe(one), f"**{markdown_of(one.name)}**") for one in found.values()], chosen, choose, show
)  # fmt: skip
if chosen == NEW:
    st.subheader("New queue")
    form(None)
else:
    st.button("New queue", icon=":material/add:", on_click=choose, args=(NEW,))
