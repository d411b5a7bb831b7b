import pytest

from rlhf_core.ground.errors import Forbidden, NotFound
from rlhf_core.ground.records import EVERYTHING, LabelOp, Queue, Session, new_id
from rlhf_core.services import labeling
from rlhf_core.services.workbench import Workbench


def label(workbench: Workbench, session: Session, chat_id: str, queue_id: str = EVERYTHING) -> dict[str, str]:
    """Rate a whole chat and submit it, as the pad does."""
    view = labeling.open_chat(workbench, session, chat_id)
    places = [*(step.id for step in view.chat.steps), None]
    ops = [LabelOp(new_id(), "rate", chat_id, place, {"score": 4, "scale": "stars"}) for place in places]
    return labeling.apply(workbench, session, [*ops, LabelOp(new_id(), "submit", chat_id, None, {"queue": queue_id})])


def test_from_the_first_chat_to_the_last(demo: Workbench, ana: Session) -> None:
    seen = []
    while views := labeling.claim(demo, ana, EVERYTHING, 7):
        for view in views:
            assert set(label(demo, ana, view.chat.id).values()) == {""}
            seen.append(view.chat.id)
    assert len(seen) == len(set(seen)) == 60
    assert labeling.queue_progress(demo, ana, EVERYTHING).finished == 60
    assert demo.store.for_user(ana).progress().chats_done == 60
    assert len(labeling.history(demo, ana)) == 50
    assert labeling.erase(demo, ana) == 60 + 286


def test_the_queue_that_is_asked_for(demo: Workbench, ana: Session) -> None:
    assert labeling.queue(demo, None).id == EVERYTHING
    solar = demo.store.save_queue(Queue(new_id(), "Solar", words="solar"))
    assert labeling.queue(demo, solar.id) == solar
    assert 0 < labeling.queue_progress(demo, ana, solar.id).items < 60
    demo.store.archive_queue(solar.id)
    assert labeling.queue(demo, solar.id).id == EVERYTHING
    demo.store.archive_queue(EVERYTHING)
    with pytest.raises(NotFound, match="Every queue is closed"):
        labeling.queue(demo, None)


def test_labelling_needs_a_role(demo: Workbench) -> None:
    demo.person = Session("x", "X", None)
    for call in (lambda: labeling.claim(demo, demo.person, EVERYTHING, 1), lambda: labeling.apply(demo, demo.person, [])):
        with pytest.raises(Forbidden, match="no role yet"):
            call()


def test_a_chat_that_is_gone(demo: Workbench, ana: Session) -> None:
    with pytest.raises(NotFound):
        labeling.open_chat(demo, ana, "nowhere")
