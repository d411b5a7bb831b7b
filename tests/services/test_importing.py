import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground.errors import ImportRejected, InvalidInput, NotFound
from rlhf_core.ground.records import Session
from rlhf_core.ground.settings import PROJECT_ROOT, WORKSPACE_VARIABLE
from rlhf_core.services import importing
from rlhf_core.services.demo import DEMO_FILE, load_demo
from rlhf_core.services.workbench import Workbench
from tests.conftest import command, learnable_chats, write_lines

FIXTURE = Path(__file__).parent / "processbench_sample.jsonl"


def test_importing_twice_adds_nothing(workbench: Workbench, add_chats: Any) -> None:
    first = add_chats(*learnable_chats(4))
    assert (first.added.chats, first.added.steps, first.added.ratings) == (4, 8, 12)
    again = add_chats(*learnable_chats(4))
    assert (again.added.chats, again.added.steps, again.added.ratings) == (0, 0, 0)
    assert (again.added.known_chats, again.added.known_ratings) == (4, 12)
    assert "nothing new" in str(again)
    assert workbench.counts().chats == 4


def test_a_bad_line_keeps_the_whole_file_out(workbench: Workbench, add_chats: Any) -> None:
    with pytest.raises(ImportRejected, match=r"nothing was imported.*\n  line 3: .*score is 9"):
        add_chats(*learnable_chats(2), {"query": "q", "response": "r", "score": 9})
    assert workbench.counts().chats == 0
    assert [path.name for path in workbench.workspace.root.iterdir() if path.name.startswith("tmp")] == []


def test_further_raters_add_their_ratings_to_known_chats(workbench: Workbench, add_chats: Any) -> None:
    chat = {"query": "q", "steps": ["a"], "step_labels": [1]}
    add_chats(chat | {"rater": "Ana"})
    report = add_chats(chat | {"rater": "Ben", "step_labels": [-1]})
    assert (report.added.chats, report.added.ratings) == (0, 1)
    (stored,) = workbench.store.search_chats()
    assert list(workbench.store.mean_scores(stored.id).values()) == [(3.0, 2)]


def test_real_records_of_processbench(workbench: Workbench) -> None:
    report = importing.import_file(workbench, FIXTURE)
    assert report.preset == "processbench"
    assert report.added.chats == 8


def test_addresses_are_taken_out_where_that_is_asked_for(workbench: Workbench, tmp_path: Path) -> None:
    record = {"query": "Who is a@b.org?", "response": "Call 617-555-0123.", "comment": "I am c@d.org", "score": 4}
    file = write_lines(tmp_path / "a.jsonl", [record])
    report = importing.import_file(workbench, file, remove_personal=True)
    assert "Taken out of texts: 2 e-mail, 1 phone." in str(report)
    (chat,) = workbench.store.search_chats()
    assert (chat.query, chat.response) == ("Who is [e-mail]?", "Call [phone].")
    assert importing.import_file(workbench, file, remove_personal=True).added.chats == 0
    assert "Taken out" not in str(importing.import_file(workbench, file))
    assert {one.query for one in workbench.store.search_chats()} == {"Who is [e-mail]?", "Who is a@b.org?"}


def test_files_that_are_not_there(workbench: Workbench, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no file .*x\.jsonl"):
        importing.import_file(workbench, tmp_path / "x.jsonl")
    with pytest.raises(InvalidInput, match="is a folder"):
        importing.import_file(workbench, tmp_path)


def test_killed_in_the_middle_nothing_is_there(workbench: Workbench, root: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "c.jsonl", learnable_chats(2000))
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from rlhf_core.services import importing; from rlhf_core.services.workbench import Workbench\n"
        "import rlhf_core.store.sqlite as s; real = s.SqliteBulkWriter.add_feedback; calls = []\n"
        "def add(self, rows):\n    real(self, rows); calls.append(1)\n"
        "    if len(calls) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "s.SqliteBulkWriter.add_feedback = add\nimporting.import_file(Workbench.open(), Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], cwd=PROJECT_ROOT, env=os.environ | {WORKSPACE_VARIABLE: str(root)}, check=False
    )
    assert done.returncode == -9
    assert workbench.counts().chats == 0
    assert importing.import_file(workbench, path).added.chats == 2000


def test_the_command_prints_every_problem(root: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "c.jsonl", [{"query": "q"}] * 30)
    done = command("import", path, root=root, check=False)
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if line.startswith("line ")]) == 30
    path = write_lines(tmp_path / "d.jsonl", learnable_chats(2))
    assert "added 2 chats" in command("import", path, root=root).stdout


def test_help_documents_the_fields(root: Path) -> None:
    text = command("import", "--help", root=root).stdout
    for word in (*importing.PRESETS, "step_labels", "created_at", "step_content"):
        assert word in text


def test_the_demo_set(demo: Workbench, ana: Session) -> None:
    counts = demo.counts()
    assert (counts.chats, counts.raters) == (60, 4)
    for chat in demo.store.search_chats(limit=100):
        assert 3 <= len(demo.store.chat(chat.id).steps) <= 6
    assert {profile.origin for profile in demo.store.profiles()} == {"demo", "local"}
    assert all("(demo)" in profile.display_name for profile in demo.store.profiles("demo"))
    chats, pairs = load_demo(demo)
    assert (chats.added.chats, pairs.added.chats, pairs.added.ratings) == (0, 16, 32)
    assert [one.added.chats for one in load_demo(demo)] == [0, 0]
    assert demo.store.for_user(ana).history() == []
    assert DEMO_FILE.stat().st_size < 500_000


def test_demo_command(root: Path) -> None:
    assert "added 60 chats" in command("demo", "--no-policy", root=root).stdout


def test_what_was_not_read_is_said_with_the_name_that_would_be(workbench: Workbench, tmp_path: Path) -> None:
    report = importing.import_file(workbench, write_lines(tmp_path / "a.jsonl", [{"query": "q", "response": "r", "Rating": 5}]))
    assert report.passed_over == "Not read: Rating (score is the name that is read)."
    assert (
        importing.passed_over(("score", "rating", "Rater"), "pairs")
        == "Not read: score, rating, Rater (rater is the name that is read)."
    )
    assert str(report) == f"a.jsonl: read 1 record as chats; added 1 chat, 1 step, 0 ratings. {report.passed_over}"
