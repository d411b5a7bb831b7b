from typing import Any

from rlhf_core.ground.records import Session
from rlhf_core.services import labeling
from rlhf_core.services.workbench import Workbench


def rate_all(workbench: Workbench, session: Session, chat_id: str) -> None:
    view = labeling.open_chat(workbench, session, chat_id)
    for place in [*(step.id for step in view.chat.steps), None]:
        labeling.rate(workbench, session, chat_id, place, 4, "stars")


def test_every_chat_comes_once_and_skipped_ones_come_again(demo: Workbench, ana: Session) -> None:
    first = labeling.next_chat(demo, ana)
    assert first
    seen, chat_id = [], labeling.next_chat(demo, ana, demo.store.chat(first))  # the first is skipped
    while chat_id is not None and chat_id != first:
        seen.append(chat_id)
        rate_all(demo, ana, chat_id)
        chat_id = labeling.next_chat(demo, ana, demo.store.chat(chat_id))
    assert chat_id == first
    assert len(set(seen)) == len(seen) == 59
    rate_all(demo, ana, first)
    assert labeling.next_chat(demo, ana, demo.store.chat(first)) is None
    assert labeling.progress(demo, ana).chats_done == 60


def test_a_view_shows_only_ones_own_ratings(demo: Workbench, ana: Session) -> None:
    chat_id = labeling.next_chat(demo, ana)
    assert chat_id
    view = labeling.open_chat(demo, ana, chat_id)
    assert view.ratings == {}
    assert view.places == len(view.chat.steps) + 1


def test_people_of_this_machine(workbench: Workbench, add_chats: Any) -> None:
    (me,) = workbench.people()
    assert me.display_name
    workbench.add_person("Ben")
    assert {person.display_name for person in workbench.people()} == {me.display_name, "Ben"}
    add_chats({"query": "q", "response": "r", "score": 3, "rater": "imported rater"})
    assert len(workbench.people()) == 2
