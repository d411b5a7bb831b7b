"""The documentation is true: the tutorial's commands run as they stand there, what is generated is current, links lead somewhere,
commands and options that pages name exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_core.analytics.query import questions_in_markdown, read_question
from rlhf_core.ground.configs import options_in_markdown
from rlhf_core.ground.metrics import metrics_in_markdown
from rlhf_core.ground.settings import PROJECT_ROOT, WORKSPACE_VARIABLE

DOCS = [PROJECT_ROOT / "README.md", PROJECT_ROOT / "CONTRIBUTING.md", *sorted((PROJECT_ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```sh(?: \(exits with (\d)\))?\n(.*?)^```", re.DOTALL | re.MULTILINE)
TUTORIAL = PROJECT_ROOT / "docs" / "tutorial.md"


@pytest.mark.slow
def test_the_tutorial_runs_as_it_is_written(root: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        WORKSPACE_VARIABLE: str(root), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT_ROOT), "OMP_NUM_THREADS": "2",
    }  # fmt: skip
    blocks = BLOCK.findall(TUTORIAL.read_text(encoding="utf-8"))
    assert len(blocks) == 8
    expected = 0
    for code, block in blocks:
        script = block.replace("/tmp/tour-backup", str(tmp_path / "backup"))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script] if not code else ["bash", "-u", "-c", script],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == int(code or 0), f"{block}\n{said}"
        for words in re.findall(r"^# → (.*)$", block, re.MULTILINE):
            expected += 1
            assert words in said, f"{block}\n{said}"
    assert expected >= 12
    assert (tmp_path / "steps.jsonl").stat().st_size > 1000
    assert (tmp_path / "backup" / "backup.json").is_file()


@pytest.mark.parametrize(
    ("name", "made"), [("options", options_in_markdown), ("metrics", metrics_in_markdown), ("questions", questions_in_markdown)]
)
def test_what_is_generated_is_current(name: str, made: object) -> None:
    assert callable(made)
    written = (PROJECT_ROOT / "docs" / f"{name}.md").read_text("utf-8")
    assert written == made(), f"write it anew: python -m rlhf_core reference {name} > docs/{name}.md"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target
    for target in re.findall(r"`((?:rlhf_core|pages|sql|tests|benchmarks|deploy|docs|examples)/[\w./-]+)`", text):
        assert "NAME" in target or (PROJECT_ROOT / target).exists(), target


def test_every_page_of_the_documentation_can_be_reached() -> None:
    linked = set()
    for path in DOCS:
        linked |= set(re.findall(r"\]\((?:docs/)?([\w-]+\.md)\)", path.read_text(encoding="utf-8")))
    assert {path.name for path in (PROJECT_ROOT / "docs").glob("*.md")} <= linked


def test_commands_that_pages_name_exist() -> None:
    from rlhf_core.__main__ import _parser

    known = set(_parser()[0]._subparsers._group_actions[0].choices)  # type: ignore[union-attr, arg-type]
    found = 0
    for path in DOCS:
        for line in path.read_text(encoding="utf-8").splitlines():
            for words in re.findall(r"python -m rlhf_core ((?:--workspace \S+ )?[a-z][\w-]*)", line):
                found += 1
                assert words.rpartition(" ")[2] in known, f"{path.name}: {line}"
    assert found > 50


def test_the_example_of_a_question_is_one(tmp_path: Path) -> None:
    text = (PROJECT_ROOT / "docs" / "exploring.md").read_text("utf-8")
    path = tmp_path / "my_question.sql"
    path.write_text(re.findall(r"```sql\n(-- title.*?)```", text, re.DOTALL)[0])
    assert read_question(path).params == {"fewest": 5}
