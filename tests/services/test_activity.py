"""Who did what is written down by the services themselves, and stays."""

from __future__ import annotations

import getpass
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.errors import Forbidden
from rlhf_core.ground.records import LogEntry, Queue, Session, new_id
from rlhf_core.ground.settings import TeamSettings
from rlhf_core.services import activity, collecting, erasing, labeling, snapshots, training
from rlhf_core.services.backing_up import back_up
from rlhf_core.services.workbench import Workbench


def test_what_is_done_is_written_down(workbench: Workbench, add_chats: Any, ana: Session, tmp_path: Path) -> None:
    add_chats({"query": "q", "steps": ["a"], "feedback": [{"step": 1, "score": 4, "rater": "Rui"}]})
    snapshot, _ = snapshots.take(workbench)
    snapshots.take(workbench)  # the same: nothing was taken
    snapshots.export_to(workbench, snapshot.id, "chats", tmp_path / "out.jsonl")
    config = RewardConfig.parse({"reward_base_model": "minilm-l6"})
    run = training.add_run(workbench, "reward", snapshot.id, config)
    training.cancel(workbench, run.id)
    queue = labeling.save_queue(workbench, Queue(new_id(), "Careful"))
    collecting.add_application(workbench, "Assistant")
    erasing.erase(workbench, ana)
    back_up(workbench, tmp_path / "backup")
    snapshots.remove(workbench, snapshot.id, even_if_used=True)
    found = activity.log(workbench)
    assert [(one.act, one.what) for one in reversed(found)][:7] == [
        ("import", "chats1.jsonl"), ("snapshot", snapshot.id), ("export", snapshot.id), ("train", run.id), ("cancel", run.id),
        ("queue", queue.id), ("application", "Assistant"),
    ]  # fmt: skip
    assert [one.act for one in found[:3]] == ["remove snapshot", "back up", "erase"]
    assert {one.act for one in found} <= activity.ACTS.keys()
    assert {one.who for one in found} == {getpass.getuser(), "themselves"}
    assert [one.act for one in activity.log(workbench, "ASSISTANT")] == ["application"]
    assert len(activity.log(workbench, limit=2)) == 2


def test_nothing_is_changed_or_taken_away(workbench: Workbench) -> None:
    workbench.note("snapshot", "s")
    with sqlite3.connect(workbench.workspace.database) as connection:
        for statement in ("UPDATE audit_log SET who = 'x'", "DELETE FROM audit_log"):
            with pytest.raises(sqlite3.IntegrityError, match="only added to"):
                connection.execute(statement)
    connection.close()


def test_for_administrators_only(workbench: Workbench) -> None:
    workbench.person = Session("u", "Eve", "engineer")
    workbench.note("snapshot", "s")
    with pytest.raises(Forbidden):
        activity.log(workbench)
    workbench.person = Session("u", "Eve", "admin")
    assert [one.who for one in activity.log(workbench)] == ["Eve"]


def test_a_teams_log_is_one_for_all_machines(workbench: Workbench, sign_in: Any) -> None:
    ana, store = sign_in("Ana", "engineer")
    own = workbench.for_person(store._connection, ana)
    own.team = TeamSettings("https://example.supabase.co", "key")
    own.note("snapshot", "s9", chats=1)
    ada, store = sign_in("Ada", "admin")
    hers = workbench.for_person(store._connection, ada)
    hers.team = own.team
    assert [(one.who, one.what, one.detail) for one in activity.log(hers, "s9")] == [("Ana", "s9", {"chats": 1})]
    assert [(one.who, one.what) for one in workbench.audit.entries("s9")] == [("Ana", "s9")], "this machine's own has it too"


@pytest.mark.parametrize(("act", "detail", "did", "more"), [
    ("role", {"role": None, "before": "annotator"}, "took a role away", "annotator → no role"),
    ("role", {"role": "analyst", "before": None}, "gave a role", "no role → analyst"),
    ("queue", {"archived": True}, "closed a queue", "archived"),
    ("application", {"revoked": True}, "shut an application out", "revoked"),
    ("import", {"chats": 2, "ratings": 0, "removed": False}, "imported chats", "chats 2"),
])  # fmt: skip
def test_deeds_in_words(act: str, detail: dict[str, Any], did: str, more: str) -> None:
    entry = LogEntry("2026-01-01T00:00:00Z", "Ada", act, "what", detail)
    assert (activity.deed(entry), activity.particulars(entry)) == (did, more)
