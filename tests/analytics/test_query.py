from pathlib import Path
from typing import Any

import duckdb
import pytest

from rlhf_core.analytics.query import FOLDER, ask, questions, read_question
from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.records import LabelOp, Queue, new_id
from rlhf_core.services import collecting, snapshots
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.sqlite_collecting import Place
from tests.conftest import command


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.sql")), ids=lambda path: path.stem)
def test_every_question_binds_its_parameters_and_returns_its_columns(path: Path, judged_snapshot: Snapshot) -> None:
    question = read_question(path)
    (statement,) = duckdb.extract_statements(question.sql)
    assert statement.named_parameters == set(question.params)
    answer = ask(judged_snapshot, question.name)
    assert list(answer.columns) == list(question.columns)
    if question.name not in ("duplicate_answers", "contradictory_ratings", "implicit_signals"):  # the demo has none
        assert len(answer) > 0


def test_signs_are_visitors_and_not_raters(demo: Workbench) -> None:
    caller = collecting.caller_of(demo, collecting.add_application(demo, "Assistant", per_minute=10**6)[1])
    for number in range(3):
        record = {"query": f"visitor asks {number}", "response": "An answer."}
        collecting.set_consent(demo, caller, caller.application.consent_version, "given", f"person {number}")
        kept = collecting.add_chat(demo, caller, f"c{number}", record, f"person {number}")
        collecting.signal(demo, caller, Place(kept["id"]), "copy", 40.0 + number, external_id=f"person {number}")
        collecting.rate(demo, caller, f"r{number}", Place(kept["id"]), 5, thumbs=False, external_id=f"person {number}")
    rater, chat = demo.session(demo.people()[0]), demo.store.search_chats(limit=1)[0]
    looked = [LabelOp(new_id(), kind, chat.id, None, {"ms": 900} if kind == "dwell" else {}) for kind in ("dwell", "edit")]
    assert set(demo.store.for_user(rater).apply(looked).values()) == {""}
    answer = ask(snapshots.take(demo)[0], "implicit_signals")
    (copied,) = answer.to_dict("records")
    assert (copied["signal"], copied["times"], copied["chats"], copied["people"]) == ("copy", 3, 3, 3)
    assert (copied["median_value"], copied["mean_score"]) == (41.0, 5.0)


def test_distribution_against_a_count_by_hand(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"query": "q", "steps": ["a", "b"], "step_labels": [1, -1], "score": 3})
    answer = ask(snapshots.take(workbench)[0], "score_distribution")
    assert answer.to_dict("records") == [
        {"judged": "answer", "score": 3, "ratings": 1, "share": 1.0},
        {"judged": "step", "score": 1, "ratings": 1, "share": 0.5},
        {"judged": "step", "score": 5, "ratings": 1, "share": 0.5},
    ]


def test_one_harsh_vote_does_not_lead_the_problem_list(workbench: Workbench, add_chats: Any) -> None:
    agreed = [{"step": 1, "score": score, "rater": f"r{score}{k}"} for k, score in enumerate([1, 2, 1, 2, 1, 2])]
    add_chats(
        {"query": "agreed", "steps": ["bad for six"], "feedback": agreed},
        {"query": "harsh", "steps": ["bad for one"], "step_labels": [-1]},
        {"query": "fine", "steps": ["x", "y"], "step_labels": [1, 1]},
    )
    answer = ask(snapshots.take(workbench)[0], "most_problematic_steps")
    assert list(answer["query"])[:2] == ["agreed", "harsh"]
    mean = (9 + 1 + 10) / 9
    assert answer["shrunken_score"][0] == pytest.approx((9 + 3 * mean) / 9)


def test_unknown_names_and_parameters(demo: Workbench) -> None:
    snapshot, _ = snapshots.take(demo)
    with pytest.raises(NotFound, match="score_distribution"):
        ask(snapshot, "nonsense")
    with pytest.raises(InvalidInput, match="no parameter colour"):
        ask(snapshot, "score_distribution", colour=1)
    assert len(ask(snapshot, "most_problematic_steps", most=3)) == 3
    for wrong in ("x", None, True):
        with pytest.raises(InvalidInput, match="should be a number"):
            ask(snapshot, "most_problematic_steps", most=wrong)
    with pytest.raises(InvalidInput, match="could not be answered"):
        ask(snapshot, "most_problematic_steps", most=-1)


def test_a_question_cannot_reach_outside_the_snapshot(demo: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    header = "-- title: t\n-- question: q\n-- params: none\n-- columns: a x\n"
    (tmp_path / "spy.sql").write_text(f"{header}SELECT * FROM read_csv('{secret}')")
    monkeypatch.setattr("rlhf_core.analytics.query.FOLDER", tmp_path)
    with pytest.raises(duckdb.PermissionException):
        ask(snapshots.take(demo)[0], "spy")


def test_a_file_without_its_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.sql").write_text("-- title: t\nSELECT 1")
    with pytest.raises(InvalidInput, match="question, params"):
        read_question(tmp_path / "x.sql")


@pytest.mark.slow
def test_the_command_line_asks_the_newest_snapshot(demo: Workbench, root: Path) -> None:
    assert "no snapshot yet" in command("query", "score_distribution", root=root, check=False).stderr
    snapshots.take(demo)
    done = command("query", "most_problematic_steps", "--param", "most=2", "--csv", root=root)
    assert len(done.stdout.strip().splitlines()) == 3
    listed = command("query", root=root).stdout
    assert all(question.name in listed for question in questions())


def person(workbench: Workbench, name: str) -> Any:
    return workbench.store.for_user(Workbench.session(workbench.add_person(name)))


def test_leniency_against_sums_by_hand(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"query": "q", "steps": ["a", "b"], "feedback": [
        {"step": 1, "score": 5, "rater": "A"}, {"step": 1, "score": 3, "rater": "B"}, {"step": 1, "score": 1, "rater": "C"},
        {"step": 2, "score": 4, "rater": "A"},
    ]})  # fmt: skip
    answer = ask(snapshots.take(workbench)[0], "rater_leniency").to_dict("records")
    assert [(one["ratings"], one["things_in_common"], one["leniency"]) for one in answer] == [
        (2, 1, 3.0),
        (1, 1, 0.0),
        (1, 1, -3.0),
    ]
    assert [(one["low"], one["high"]) for one in answer] == [(0.0, 1.0), (0.0, 0.0), (1.0, 0.0)]


def test_pace_and_length(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"query": "q", "steps": ["x" * 100, "x" * 200, "x" * 300, "x" * 50]})
    chat = workbench.store.chat(workbench.store.search_chats()[0].id)
    looks = (1000, 4000, 6000, 400_000)  # the last one went for coffee
    ops = [
        LabelOp(new_id(), "dwell", chat.id, step.id, {"ms": ms}) for step, ms in zip(chat.steps, looks, strict=True)
    ]  # fmt: skip
    person(workbench, "Ana").apply(ops)
    (row,) = ask(snapshots.take(workbench)[0], "rater_pace").to_dict("records")
    assert (row["looks"], row["median_s"], row["s_per_100_chars"]) == (3, 4.0, 2.0)
    assert row["length_correlation"] == pytest.approx(1)
    assert row["quick"] == pytest.approx(1 / 3), "100 characters in a second is faster than reading"


def test_straight_lines(workbench: Workbench, add_chats: Any) -> None:
    def all_the_same(k: int, scores: list[int], rater: str) -> dict[str, Any]:
        at = f"2026-01-0{k}T00:00:00Z"
        given = [{"step": n, "score": one, "rater": rater, "created_at": at} for n, one in enumerate(scores, 1)]
        return {"id": f"{rater}{k}", "query": "q", "steps": ["a", "b", "c"], "feedback": given}

    add_chats(*[all_the_same(k, scores, rater) for rater, rows in {
        "bored": [[4, 4, 4], [4, 4, 4], [4, 5, 4]], "awake": [[1, 2, 3], [5, 5, 5]],
    }.items() for k, scores in enumerate(rows, 1)])  # fmt: skip
    answer = ask(snapshots.take(workbench)[0], "straight_lining").to_dict("records")
    assert [(one["chats"], one["one_score"], one["longest_run"], one["commonest_score"]) for one in answer] == [
        (3, 2, 7, 4), (2, 1, 3, 5),
    ]  # fmt: skip


def test_flips_after_a_hint(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"query": "q", "steps": ["a", "b", "c"]})
    store = workbench.store
    chat = store.chat(store.search_chats()[0].id)
    queue = store.save_queue(Queue(new_id(), "hinted", hint_checkpoint="ck"))
    store.set_hints(queue.id, "ck", {chat.id: {step.id: 1.2 for step in chat.steps}})
    mine = person(workbench, "Ana")
    for step, score in zip(chat.steps, (5, 4, 2), strict=True):
        mine.rate(chat.id, step.id, score, "stars")
    mine.apply([LabelOp(new_id(), "submit", chat.id, None, {"queue": queue.id})])
    assert mine.after(queue.id, chat.id) is not None
    mine.rate(chat.id, chat.steps[0].id, 2, "stars")  # toward it
    mine.rate(chat.id, chat.steps[2].id, 3, "stars")  # away from it
    (row,) = ask(snapshots.take(workbench)[0], "hint_flips").to_dict("records")
    assert (row["kind"], row["shown"], row["changed"]) == ("score", 3, 2)
    assert (row["flip_rate"], row["toward"]) == (pytest.approx(2 / 3), 0.5)


def test_the_left_answer(judged: Workbench) -> None:
    answer = ask(snapshots.take(judged)[0], "position_bias").set_index("rater")
    assert sorted(answer["left_share"].dropna()) == [0.0, 1.0], "Ben chose what stood on the left, Ana what did not"
    assert answer["pairs"].sum() == 34


def test_known_answers_day_by_day(judged: Workbench) -> None:
    answer = ask(snapshots.take(judged)[0], "gold_over_time").to_dict("records")
    assert sorted((one["items"], one["asked"], one["right"]) for one in answer) == [(1, 2, 0.0), (1, 2, 1.0)]


def test_a_decision_stands_for_the_mean(judged: Workbench) -> None:
    snapshot = snapshots.take(judged)[0]
    disputed = ask(snapshot, "disputed_steps", most=200)
    assert disputed["decided"].dropna().tolist() == [2]
    problems = ask(snapshot, "most_problematic_steps", most=500)
    step = judged.store.chat(judged.store.search_chats(limit=6)[1].id).steps[1]
    assert problems[problems["step_content"] == step.step_content]["mean_score"].tolist() == [2.0]
