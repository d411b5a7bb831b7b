"""Addresses that somebody kept, sent or mistyped: what they name and is not here is said, and nothing else shown in its place."""

from __future__ import annotations

import pytest

from rlhf_core.ground.records import EVERYTHING, Queue, new_id
from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench
from tests.pages.test_pages import check, no_worker, open_page, pad, press, texts

__all__ = ["no_worker"]


@pytest.mark.parametrize("page", ["ask.py", "audit.py", "drift.py", "explore.py"])
def test_a_snapshot_that_is_not_here(page: str, judged: Workbench) -> None:
    snapshot, _ = snapshots.take(judged)
    app = check(open_page(page, snapshot="20200101-000000-000000"))
    assert "No snapshot begins with '20200101-000000-000000'" in texts(app)
    assert len(texts(app).splitlines()) == 2  # the title and that: of another one nothing is shown
    assert len(texts(press(app, "Go to the newest snapshot")).splitlines()) > 2
    assert len(texts(check(open_page(page, snapshot=snapshot.id))).splitlines()) > 2


def test_a_snapshot_that_was_removed_says_so(judged: Workbench) -> None:
    old, _ = snapshots.take(judged)
    new, _ = snapshots.take(judged, days=1)
    assert new.id != old.id
    snapshots.remove(judged, old.id)
    for page in ("snapshots.py", "explore.py"):
        assert f"{old.id} is gone" in texts(check(open_page(page, snapshot=old.id)))
    assert f"Facts of {new.id}" not in texts(check(open_page("snapshots.py", snapshot=old.id)))


def test_a_form_does_not_take_another_snapshot_without_a_word(judged: Workbench) -> None:
    snapshots.take(judged)
    assert "Snapshot 20200101 of the address is not here" in texts(check(open_page("train.py", snapshot="20200101")))


def test_a_queue_that_was_closed_meanwhile(judged: Workbench) -> None:
    solar = judged.store.save_queue(Queue(new_id(), "Solar", words="solar"))
    assert pad(check(open_page("label.py", queue=solar.id)))["queue"] == "Solar"
    judged.store.archive_queue(solar.id)
    app = check(open_page("label.py", queue=solar.id))
    assert "That queue is closed" in texts(app)
    assert not app.get("bidi_component")
    app = press(app, "Go to an open queue")
    assert pad(app)["queue"] == "Everything"
    judged.store.archive_queue(solar.id, archived=False)
    assert pad(check(open_page("label.py", queue=solar.id)))["queue"] == "Solar"


def test_a_queue_where_only_one_is_open(demo: Workbench) -> None:
    assert pad(check(open_page("label.py", queue=EVERYTHING)))["queue"] == "Everything"
    assert "That queue is closed" in texts(check(open_page("label.py", queue="nowhere")))


def test_a_chat_that_is_not_here(judged: Workbench) -> None:
    app = check(open_page("compare.py", chat="nowhere"))
    assert "There is no chat 'nowhere'" in texts(app)
    assert "There is no chat 'nowhere'" in texts(check(open_page("label.py", chat="nowhere")))


def test_a_run_and_a_model_that_are_not_here(judged: Workbench) -> None:
    snapshots.take(judged)
    assert "nowhere" in texts(check(open_page("train.py", run="nowhere")))


def test_a_filter_that_cannot_be(judged: Workbench) -> None:
    snapshots.take(judged)
    app = check(open_page("explore.py", score="many", since="yesterday", source="demo"))
    assert "The address asks for score many, since yesterday, which cannot be" in texts(app)
    assert "source demo" in {button.label for button in app.button}
