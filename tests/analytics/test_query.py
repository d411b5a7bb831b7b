from pathlib import Path
from typing import Any

import duckdb
import pytest

from rlhf_core.analytics.query import FOLDER, ask, questions, read_question
from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench
from tests.conftest import command


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.sql")), ids=lambda path: path.stem)
def test_every_question_binds_its_parameters_and_returns_its_columns(path: Path, demo: Workbench) -> None:
    question = read_question(path)
    (statement,) = duckdb.extract_statements(question.sql)
    assert statement.named_parameters == set(question.params)
    answer = ask(snapshots.take(demo)[0], question.name)
    assert list(answer.columns) == list(question.columns)
    assert len(answer) > 0


def test_distribution_against_a_count_by_hand(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"query": "q", "steps": ["a", "b"], "step_labels": [1, -1], "score": 3})
    answer = ask(snapshots.take(workbench)[0], "score_distribution")
    assert answer.to_dict("records") == [
        {"judged": "answer", "score": 3, "ratings": 1},
        {"judged": "step", "score": 1, "ratings": 1},
        {"judged": "step", "score": 5, "ratings": 1},
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


def test_the_command_line_asks_the_newest_snapshot(demo: Workbench, root: Path) -> None:
    assert "no snapshot yet" in command("query", "score_distribution", root=root, check=False).stderr
    snapshots.take(demo)
    done = command("query", "most_problematic_steps", "--param", "most=2", "--csv", root=root)
    assert len(done.stdout.strip().splitlines()) == 3
    assert all(question.name in command("query", root=root).stdout for question in questions())
