"""Queries under a name: everybody's to find, their owner's to change."""

from __future__ import annotations

import threading

import pytest

from rlhf_core.ground.errors import CorruptArtifact, Duplicate, Forbidden, InvalidInput, NotFound
from rlhf_core.ground.records import Session
from rlhf_core.services import erasing, saved_queries
from rlhf_core.services.workbench import Workbench

ANA, BEN, ADA = Session("a", "Ana", "analyst"), Session("b", "Ben", "analyst"), Session("c", "Ada", "admin")


def test_everybody_finds_them_and_only_their_owner_changes_them(workbench: Workbench) -> None:
    assert saved_queries.listing(workbench) == []
    saved_queries.save(workbench, ANA, "  Worst  steps ", "SELECT 1 ")
    saved_queries.save(workbench, BEN, "By day", "SELECT 2")
    assert [(one.name, one.sql, one.by) for one in saved_queries.listing(workbench)] == [
        ("By day", "SELECT 2", "Ben"), ("Worst steps", "SELECT 1", "Ana"),
    ]  # fmt: skip
    with pytest.raises(Duplicate, match="Ana saved another one as 'Worst steps'"):
        saved_queries.save(workbench, BEN, "worst STEPS", "SELECT 3")
    saved_queries.save(workbench, ANA, "Worst steps", "SELECT 4")
    assert saved_queries.find(workbench, "Worst steps").sql == "SELECT 4"

    workbench.person = BEN
    kept = saved_queries.find(workbench, "Worst steps")
    assert not saved_queries.removable(workbench, BEN, kept)
    with pytest.raises(Forbidden, match="Ana saved"):
        saved_queries.remove(workbench, BEN, "Worst steps")
    workbench.person = ADA
    saved_queries.remove(workbench, ADA, "Worst steps")
    with pytest.raises(NotFound, match="No query is saved as 'Worst steps'"):
        saved_queries.remove(workbench, ADA, "Worst steps")
    workbench.person = Session("x", "X", "annotator")
    with pytest.raises(Forbidden):
        saved_queries.listing(workbench)


@pytest.mark.parametrize(("name", "sql"), [("", "SELECT 1"), ("n" * 81, "SELECT 1"), ("n", "  "), ("n", "x" * 100_001)])
def test_what_cannot_be_saved(workbench: Workbench, name: str, sql: str) -> None:
    with pytest.raises(InvalidInput):
        saved_queries.save(workbench, ANA, name, sql)
    assert saved_queries.listing(workbench) == []


def test_two_who_save_at_once_lose_nothing(workbench: Workbench) -> None:
    def some(who: Session) -> None:
        for number in range(10):
            saved_queries.save(workbench, who, f"{who.display_name} {number}", "SELECT 1")

    threads = [threading.Thread(target=some, args=(one,)) for one in (ANA, BEN)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(saved_queries.listing(workbench)) == 20


def test_a_damaged_file_is_said_and_not_written_over(workbench: Workbench) -> None:
    saved_queries.save(workbench, ANA, "One", "SELECT 1")
    path = saved_queries.folder(workbench) / "saved.json"
    for damaged in ('{"saved": [{"name": 1}]}', '{"saved": 3}', "half", "[]"):
        path.write_text(damaged)
        with pytest.raises(CorruptArtifact):
            saved_queries.listing(workbench)
        with pytest.raises(CorruptArtifact):
            saved_queries.save(workbench, ANA, "Two", "SELECT 2")
        assert path.read_text() == damaged


def test_who_is_erased_leaves_the_queries_without_their_name(demo: Workbench) -> None:
    who = demo.session(demo.people()[0])
    saved_queries.save(demo, who, "Mine", "SELECT 1")
    saved_queries.save(demo, ANA, "Hers", "SELECT 2")
    erasing.erase(demo, who)
    assert [(one.name, one.by, one.owner == "") for one in saved_queries.listing(demo)] == [
        ("Hers", "Ana", False), ("Mine", "", True),
    ]  # fmt: skip
