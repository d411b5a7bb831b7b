"""The pages that ask a snapshot: explore, SQL, audit."""

from __future__ import annotations

import time
from typing import Any

import pytest

from rlhf_core.services import auditing, querying, saved_queries, snapshots
from rlhf_core.services.workbench import Workbench
from tests.pages.test_pages import check, no_worker, open_page, texts

__all__ = ["no_worker"]


@pytest.mark.slow
@pytest.mark.parametrize("topic", ["Scores", "Steps", "Raters", "Coverage", "Quality"])
def test_every_topic_has_a_sentence_for_each_chart(topic: str, judged: Workbench) -> None:
    snapshots.take(judged)
    app = check(open_page("explore.py", topic=topic))
    titles = [one.title for one in snapshots.questions() if one.topic == topic]
    assert set(titles) <= {one.value for one in app.subheader}
    assert "The chats behind it" in texts(app)


def test_a_filter_stands_in_the_address_and_can_be_taken_away(judged: Workbench) -> None:
    snapshots.take(judged)
    app = check(open_page("explore.py", source="demo", score="1", step="2", words="solar", since="2020-01-01", until="x"))
    buttons = {button.label for button in app.button}
    assert {"source demo", "stars 1", "step 2", "question has solar", "from 2020-01-01"} <= buttons
    before = texts(app)
    next(button for button in app.button if button.label == "stars 1").click().run()
    assert "score" not in app.query_params
    assert texts(check(app)) != before
    nothing = check(open_page("explore.py", source="nowhere"))
    assert texts(nothing).count("Nothing to say yet") >= 5
    assert "No rated chat fits the filter" in texts(nothing)


def test_a_chat_behind_a_mark_is_read_on_the_page(judged: Workbench) -> None:
    snapshots.take(judged)
    app = check(open_page("explore.py", topic="Steps", step="2"))
    row = next(button for button in app.button if str(button.key).startswith("behind:row:"))
    row.click().run()
    assert "Step 2 · " in texts(check(app))
    assert "Whole answer · " in texts(app)


@pytest.mark.slow
def test_a_snapshot_without_ratings_opens_every_panel(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"query": "q", "response": "r"})
    snapshots.take(workbench)
    for topic in ("Scores", "Steps", "Raters", "Coverage", "Quality"):
        assert "no ratings" in texts(check(open_page("explore.py", topic=topic)))
    assert "Nobody has rated any" in texts(check(open_page("audit.py")))


@pytest.mark.slow
def test_sql_from_the_page(demo: Workbench) -> None:
    snapshots.take(demo)
    app = check(open_page("ask.py"))
    app.text_area(key="sql:text").set_value("SELECT id AS chat_id, query FROM chats ORDER BY id LIMIT 3").run()
    next(button for button in app.button if button.label == "Run").click().run()
    for _ in range(50):
        if app.dataframe:
            break
        time.sleep(0.2)
        app.run()
    assert len(check(app).dataframe[0].value) == 3
    view = next(one for one in app.segmented_control if "To labelling" in one.options)
    view.set_value("To labelling").run()
    next(one for one in app.text_input if one.label == "Name of the queue").set_value("Three")
    next(button for button in app.button if button.label == "Make the queue").click().run()
    assert "Three: 3 chats to label" in texts(check(app))
    (queue,) = [one for one in demo.store.queues() if one.name == "Three"]
    assert queue.listed
    app.text_area(key="sql:text").set_value("DROP TABLE chats").run()
    next(button for button in app.button if button.label == "Run").click().run()
    for _ in range(50):
        if "was not answered" in texts(app):
            break
        time.sleep(0.2)
        app.run()
    assert "is not allowed here" in texts(check(app))
    assert [one.outcome[:6] for one in querying.history(demo, demo.people()[0].user_id)] == ["DROP i", "3 rows"]
    assert check(open_page("ask.py")).text_area(key="sql:text").value == "DROP TABLE chats"  # opened anew: what was asked last


@pytest.mark.slow
def test_a_query_is_saved_sent_and_removed(demo: Workbench) -> None:
    snapshots.take(demo)
    app = check(open_page("ask.py"))
    app.text_area(key="sql:text").set_value("SELECT 42 AS answer").run()
    app.text_input(key="sql:name").set_value(" ")
    save = next(button for button in app.button if button.label == "Save the query")
    save.click().run()
    assert "was not saved" in texts(check(app))
    app.text_input(key="sql:name").set_value("The *answer*")
    next(button for button in app.button if button.label == "Save the query").click().run()
    assert [one.name for one in saved_queries.listing(demo)] == ["The *answer*"]
    assert "was not saved" not in texts(check(app))
    assert app.query_params["query"] == "The *answer*"
    other = check(open_page("ask.py", query="The *answer*"))
    assert other.text_area(key="sql:text").value == "SELECT 42 AS answer"
    other.text_area(key="sql:text").set_value("SELECT 1").run()
    next(button for button in other.button if "answer" in button.label).click().run()
    assert other.text_area(key="sql:text").value == "SELECT 42 AS answer"
    next(button for button in other.button if "remove" in (button.key or "")).click().run()
    assert "Nobody has saved a query yet" in texts(check(other))
    assert "No query is saved as" in texts(check(open_page("ask.py", query="The *answer*")))


def test_the_audit_finds_what_is_wrong(workbench: Workbench, add_chats: Any) -> None:
    lines = [
        {"query": f"q{k}", "response": "word " * (3 + 40 * (k % 2)), "source": "a" if k % 10 else "b",
         "feedback": [{"score": 5 if k % 2 else 1, "rater": "A"}] if k % 10 else []} for k in range(300)
    ]  # fmt: skip
    add_chats(*lines, {"query": "q1", "response": "word " * 43 + " "})
    snapshot, _ = snapshots.take(workbench)
    found = {one.topic: one for one in auditing.audit(workbench, snapshot.id).findings}
    assert found["Bias by length"].severity == "act"
    assert found["Representativeness"].severity == "act"
    assert "source b" in found["Representativeness"].found
    assert found["Concentration"].severity == "act"
    assert found["Agreement against chance"].severity == "unknown"
    assert found["Duplicates"].severity == "look"
    assert found["Consent"].severity == "look"
    assert found["Fictional ratings"].severity == "fine"
    report = auditing.audit(workbench, snapshot.id).markdown()
    assert report.count("| act before training on it |") >= 3
    page = check(open_page("audit.py"))
    assert "Bias by length" in texts(page)


def test_the_demo_is_called_what_it_is(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    (found,) = [one for one in auditing.audit(demo, snapshot.id).findings if one.topic == "Fictional ratings"]
    assert found.severity == "act"
