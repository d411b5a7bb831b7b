import pytest

from rlhf_core.ground.answers import AnswerScore
from rlhf_core.ground.errors import Forbidden, InvalidInput, NotFound
from rlhf_core.ground.records import EVERYTHING, LabelOp, Queue, Session, new_id
from rlhf_core.services import erasing, labeling, scoring
from rlhf_core.services.workbench import Workbench


def label(workbench: Workbench, session: Session, chat_id: str, queue_id: str = EVERYTHING) -> dict[str, str]:
    """Rate a whole chat and submit it, as the pad does."""
    view = labeling.open_item(workbench, session, chat_id)
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
    assert len(labeling.history(demo, ana)) == 50
    assert erasing.erase(demo, ana).judgements == 60 + 286


def test_the_queue_that_is_asked_for(demo: Workbench, ana: Session) -> None:
    assert labeling.queue(labeling.queues(demo), None).id == EVERYTHING
    solar = demo.store.save_queue(Queue(new_id(), "Solar", words="solar"))
    assert labeling.queue(labeling.queues(demo), solar.id) == solar
    assert 0 < labeling.queue_progress(demo, ana, solar.id).items < 60
    demo.store.archive_queue(solar.id)
    with pytest.raises(NotFound, match="That queue is closed"):  # and not, without a word, another one
        labeling.queue(labeling.queues(demo), solar.id)
    demo.store.archive_queue(EVERYTHING)
    assert [one.task for one in labeling.queues(demo)] == ["choose"]
    with pytest.raises(NotFound, match="Every queue is closed"):
        labeling.queue(labeling.queues(demo, "rate"), None)


def test_labelling_needs_a_role(demo: Workbench) -> None:
    demo.person = Session("x", "X", None)
    for call in (lambda: labeling.claim(demo, demo.person, EVERYTHING, 1), lambda: labeling.apply(demo, demo.person, [])):
        with pytest.raises(Forbidden, match="no role yet"):
            call()


def test_a_chat_that_is_gone(demo: Workbench, ana: Session) -> None:
    with pytest.raises(NotFound):
        labeling.open_item(demo, ana, "nowhere")


def test_a_checkpoint_decides_the_order(demo: Workbench, ana: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewards are given here; that a real checkpoint scores is tested with the scoring process."""
    chats = demo.store.search_chats(limit=100)
    rewards = {chat.response: 1 + 4 * k / 59 for k, chat in enumerate(chats)}
    monkeypatch.setattr(
        scoring, "score_answers", lambda _workbench, _refs, answers: [[AnswerScore(rewards[one.response], []) for one in answers]]
    )
    uncertain = labeling.save_queue(demo, Queue(new_id(), "Uncertain", item_order="uncertain", checkpoint_id="ck"))
    assert labeling.claim(demo, ana, uncertain.id, 1) == []
    seen: list[int] = []
    assert labeling.prioritise(demo, uncertain, on_progress=lambda done, _: seen.append(done)) == 60
    assert seen == [16, 32, 48, 60]
    first = labeling.claim(demo, ana, uncertain.id, 2)
    assert {view.chat.id for view in first} == {chats[29].id, chats[30].id}

    convincing = labeling.save_queue(demo, Queue(new_id(), "Convincing", item_order="convincing", checkpoint_id="ck"))
    placed = labeling.prioritise(demo, convincing)
    assert 0 < placed < 60
    (view,) = labeling.claim(demo, ana, convincing.id, 1)
    given = demo.store.mean_scores(view.chat.id)
    assert sum(mean * n for mean, n in given.values()) / sum(n for _, n in given.values()) < 3
    with pytest.raises(InvalidInput, match="not ordered by a checkpoint"):
        labeling.prioritise(demo, labeling.queue(labeling.queues(demo), EVERYTHING))
