"""The floor plan where import-linter cannot see: doors, and what a process that serves pages has in memory."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_core.ground.settings import PROJECT_ROOT

DOORS = [PROJECT_ROOT / "app.py", *sorted((PROJECT_ROOT / "pages").glob("*.py"))]
ALLOWED = {"ui", "services", "ground"}


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("rlhf_core.")}
    return rooms


@pytest.mark.parametrize("path", DOORS, ids=lambda path: path.name)
def test_pages_use_ui_services_and_ground_only(path: Path) -> None:
    extra = {"supervisor", "api"} if path.name == "app.py" else set()  # it starts the one's thread and mounts the other
    assert imported_rooms(path) <= ALLOWED | extra


PAINTERS = [*DOORS[1:], *sorted((PROJECT_ROOT / "rlhf_core" / "ui").rglob("*.py"))]


@pytest.mark.parametrize("path", PAINTERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_pages_do_not_reach_through_to_the_store(path: Path) -> None:
    found = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)]
    parts = {"store", "ledger", "audit"}
    assert [ast.unparse(node) for node in found if node.attr in parts and ast.unparse(node.value) == "workbench"] == []


def test_page_files_share_no_librarys_name() -> None:
    for path in DOORS[1:]:
        assert path.stem not in sys.stdlib_module_names
        assert path.stem not in {"datasets", "streamlit", "torch", "evaluate", "tokenizers"}


OPEN_ALL = """
import sys
sys.path.insert(0, "tests")
from pathlib import Path
import app  # the server's own module, lifespan and supervisor included
from rlhf_core.services import collecting, demo, snapshots
from rlhf_core.services.workbench import Workbench
workbench = Workbench.open()
demo.load_demo(workbench)
snapshots.take(workbench)
workbench.scoring.warm = lambda: None
collecting.add_application(workbench, "Assistant")
collecting.warm(workbench)
from tests.pages.test_pages import PAGES, open_page
for page in PAGES:
    assert not open_page(page).exception, page
found = sorted({name.split(".")[0] for name in sys.modules} & {"torch", "transformers", "trl", "sklearn"})
print("imported:", found)
"""


@pytest.mark.slow
def test_no_process_that_serves_pages_imports_torch(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPEN_ALL], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "imported: []"


def test_the_readme_has_a_line_for_every_folder() -> None:
    readme = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
    rooms = [path.name for path in (PROJECT_ROOT / "rlhf_core").iterdir() if path.is_dir() and path.name != "__pycache__"]
    for name in [*rooms, "pages", "sql", "tests", "benchmarks", ".streamlit"]:
        assert f"`{name}/`" in readme or f"/{name}/`" in readme, name
    for command in ("make run", "make test"):
        assert command in readme


def test_requirements_are_pinned_exactly() -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-offline.txt"):
        for line in (PROJECT_ROOT / name).read_text().splitlines():
            if line and not line.startswith(("#", "-r")):
                assert "==" in line, line
