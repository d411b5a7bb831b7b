"""What no code of ours may do: read what could run code, write what people wrote into pages as it is, keep secrets."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_core.ground.settings import PROJECT_ROOT

FOLDERS = [PROJECT_ROOT / name for name in ("rlhf_core", "pages", "deploy", "examples")]
CODE = [PROJECT_ROOT / "app.py", *sorted(path for folder in FOLDERS for path in folder.rglob("*.py"))]
RUNS_CODE = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal", "yaml", "jsonpickle"}
ALLOWED = {  # file: why what it imports cannot reach what came from elsewhere
    "rlhf_core/launchers/slurm.py": "submitit's way to hand a job over: written for it, never read by us",
    "rlhf_core/runs/saved_state.py": "the name of the error that torch.load raises with weights_only=True",
}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.slow
def test_nothing_is_unpickled() -> None:
    found = []
    for path in CODE:
        name = str(path.relative_to(PROJECT_ROOT))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if RUNS_CODE & {one.partition(".")[0] for one in names} and name not in ALLOWED:
                found.append(f"{name}:{node.lineno}")
        for call, node in calls(path):
            given = {one.arg: ast.unparse(one.value) for one in node.keywords}
            if call == "torch.load" and given.get("weights_only") != "True":
                found.append(f"{name}:{node.lineno} torch.load")
            if call in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
                found.append(f"{name}:{node.lineno} {call}")
            if call in ("eval", "exec", "compile", "os.system", "os.popen") or given.get("shell") == "True":
                found.append(f"{name}:{node.lineno} {call}")
            if "trust_remote_code" in given and given["trust_remote_code"] != "False":
                found.append(f"{name}:{node.lineno} {call} runs a model's own code")
    assert not found, found
    assert not ALLOWED.keys() - {str(path.relative_to(PROJECT_ROOT)) for path in CODE}


def test_no_page_shows_a_table_or_html_by_itself() -> None:
    """``st.table`` reads Markdown in every cell; ``st.html`` is for what was escaped by the function that it is given."""
    found = []
    for path in CODE:
        name = str(path.relative_to(PROJECT_ROOT))
        for call, node in calls(path):
            if call == "st.table" and name != "rlhf_core/ui/tables.py":
                found.append(f"{name}:{node.lineno} st.table")
            if call.endswith(".replace") and name != "rlhf_core/ui/texts.py" and "'$'" in map(ast.unparse, node.args):
                found.append(f"{name}:{node.lineno} escapes a dollar and nothing else: markdown_of or plain")
            if any(one.arg == "unsafe_allow_html" for one in node.keywords) or call in (
                "components.html",
                "st.components.v1.html",
            ):
                found.append(f"{name}:{node.lineno} {call}")
    assert not found, found


SECRETS = re.compile(
    r"sb_secret_[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9]{32,}"
    r"|-----BEGIN (?:RSA |EC |OPENSSH )?PRIVATE KEY-----|eyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}"
    r"|xox[baprs]-[A-Za-z0-9-]{20,}|AIza[0-9A-Za-z_-]{35}"
)


def tracked() -> list[Path]:
    """What is committed; where that cannot be asked, all that is no tool's or person's own."""
    asked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT_ROOT, capture_output=True, check=False)
    if asked.returncode == 0:
        return [PROJECT_ROOT / one for one in asked.stdout.decode().split("\0") if one]
    own = {".venv", "node_modules", "data", "__pycache__"}
    return [path for path in PROJECT_ROOT.rglob("*") if path.is_file() and not own & set(path.relative_to(PROJECT_ROOT).parts)]


def test_no_secret_is_in_the_tree() -> None:
    found = []
    for path in tracked():
        if path.suffix in (".png", ".zip", ".parquet") or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            found += [f"{path.relative_to(PROJECT_ROOT)}:{number} {one[0][:12]}" for one in SECRETS.finditer(line)]
    assert not found, found


@pytest.mark.parametrize("text", ["sb_secret_" + "a1b2c3d4e5f6g7h8", "hf_" + "a" * 34, "-----BEGIN PRIVATE " + "KEY-----"])
def test_the_search_for_secrets_finds_them(text: str) -> None:
    assert SECRETS.search(f"key = '{text}'")


def test_what_is_installed_is_pinned() -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-offline.txt"):
        for line in (PROJECT_ROOT / name).read_text(encoding="utf-8").splitlines():
            wanted = line.partition("#")[0].strip()
            assert not wanted or wanted.startswith("-r ") or "==" in wanted, f"{name}: {line}"
