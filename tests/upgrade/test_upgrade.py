"""A workspace that an earlier version left opens, keeps every row, and goes on: see ``leave.py``."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from rlhf_core.ground.errors import StoreUnavailable
from rlhf_core.ground.records import EVERYTHING, LabelOp, new_id
from rlhf_core.ground.settings import SQL_ROOT, Workspace
from rlhf_core.services import backing_up, doctor, erasing, snapshots, training
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.sql import migrations
from tests.pages.test_pages import check, open_page

HERE = Path(__file__).parent
VERSIONS = sorted(int(path.stem[-4:]) for path in HERE.glob("schema_*.zip"))
NEWEST = len(migrations(SQL_ROOT / "sqlite"))


def unpack(version: int, root: Path) -> dict[str, Any]:
    """Make the workspace as that version left it; what it said of itself."""
    with ZipFile(HERE / f"schema_{version:04}.zip") as file:
        file.extractall(root)
    with closing(sqlite3.connect(root / "workbench.sqlite3")) as store:
        store.executescript((root / "store.sql").read_text())
    facts: dict[str, Any] = json.loads((root / "facts.json").read_text())
    for name in ("facts.json", "store.sql"):
        (root / name).unlink()
    return facts


def test_every_schema_is_here() -> None:
    """One and two came in one version. A new migration takes a workspace of the version before it: run ``leave.py``."""
    assert list(range(2, NEWEST + 1)) == VERSIONS


ALL = [pytest.param(one, marks=[] if one in (VERSIONS[0], NEWEST) else pytest.mark.slow) for one in VERSIONS]


@pytest.mark.parametrize("version", ALL)
def test_it_opens_and_goes_on(version: int, root: Path) -> None:
    facts = unpack(version, root)
    assert facts["schema"] == version
    workbench = Workbench(Workspace.resolve(root))
    with closing(sqlite3.connect(root / "workbench.sqlite3")) as store:
        assert store.execute("PRAGMA user_version").fetchone()[0] == NEWEST
        for table, rows in facts["rows"].items():
            assert store.execute(f"SELECT count(*) FROM {table}").fetchone()[0] >= rows, table
    checkup = doctor.examine(workbench.workspace)
    wrong = [one for one in checkup.findings if one.severity == "wrong" and "policy-000000000000" not in one.about]
    assert not wrong, wrong  # a roll-out of a checkpoint that was never there is what leave.py wrote

    # what was said then is there, and more can be said
    kim = next(one for one in workbench.people() if one.display_name == "Kim")
    mine = workbench.store.for_user(workbench.session(kim))
    rated = [one for chat in workbench.store.search_chats(limit=20) for one in mine.ratings(chat.id).items()]
    assert {score.feedback_score for _, score in rated} >= {2, 4}
    assert "Kim says" in {score.comment for _, score in rated}
    ids = [view.chat.id for view in mine.claim(EVERYTHING, 10)]
    ids = [one for one in ids if workbench.store.chat(one).steps[0].id not in mine.ratings(one)]
    step = workbench.store.chat(ids[0]).steps[0]
    ops = [
        LabelOp(new_id(), "rate", ids[0], step.id, {"score": 4, "scale": "stars"}),
        LabelOp(new_id(), "flag", ids[0], None, {"flag": "unsure"}),
    ]
    assert set(mine.apply(ops).values()) == {""}

    # its run, its snapshot, and a new one
    if "run" in facts["did"]:
        (run,) = training.runs(workbench)
        assert (run.status, run.message, run.engine) == ("failed", "as an example", "local")
    (old,) = snapshots.listing(workbench)
    old.verify()
    assert old.rows["chats"] >= 5
    assert len(snapshots.answer(workbench, old.id, "most_problematic_steps")) > 0
    new, is_new = snapshots.take(workbench)
    assert is_new
    assert new.rows["chat_feedback"] == facts["rows"]["chat_feedback"] + 1
    assert snapshots.answer(workbench, new.id, "most_problematic_steps").shape[1] > 1

    # a backup, and erasing, reach it
    gone = erasing.erase(workbench, workbench.session(kim))
    assert gone.judgements >= 3
    assert {before for before, _ in gone.snapshots} == {old.id, new.id}
    backing_up.back_up(workbench, root.parent / "backup")
    workbench.close()
    checkup = doctor.examine(Workspace(root))
    assert not [one for one in checkup.findings if one.severity == "wrong" and "policy-000000000000" not in one.about]


@pytest.mark.parametrize("version", [VERSIONS[0], 8])
def test_pages_over_an_old_workspace(version: int, root: Path) -> None:
    unpack(version, root)
    for name in ("home", "label", "work", "explore", "snapshots", "train", "runs", "rollout"):
        check(open_page(f"{name}.py"))


def test_a_newer_one_is_left_alone(root: Path) -> None:
    unpack(VERSIONS[-1], root)
    with closing(sqlite3.connect(root / "workbench.sqlite3")) as store:
        store.execute(f"PRAGMA user_version = {NEWEST + 1}")
        store.commit()
        before = list(store.iterdump())
    with pytest.raises(StoreUnavailable, match=f"has schema {NEWEST + 1}; this version of the workbench knows {NEWEST}"):
        Workbench(Workspace.resolve(root))
    with closing(sqlite3.connect(root / "workbench.sqlite3")) as store:
        assert list(store.iterdump()) == before


def test_a_full_disk_in_the_midst_leaves_it_as_it_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration is one transaction: what stops it leaves the old schema, and the next try does the whole."""
    unpack(VERSIONS[0], root)
    copied = root.parent / "copy"
    shutil.copytree(root, copied)
    from rlhf_core.store import sqlite_database

    steps = migrations(SQL_ROOT / "sqlite")
    broken = [*steps[:-1], (NEWEST, "broken", [*steps[-1][2][:1], "INSERT INTO nowhere VALUES (1);"])]
    monkeypatch.setattr(sqlite_database, "migrations", lambda _: broken)
    with pytest.raises(Exception, match="nowhere"):
        Workbench(Workspace.resolve(root))
    with closing(sqlite3.connect(root / "workbench.sqlite3")) as store:
        assert store.execute("PRAGMA user_version").fetchone()[0] == VERSIONS[0]
        assert store.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    monkeypatch.undo()
    monkeypatch.setenv("RLHF_WORKSPACE", str(root))
    Workbench(Workspace.resolve(root)).close()
    Workbench(Workspace.resolve(copied)).close()
