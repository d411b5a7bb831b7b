"""Files of two answers to one question, and of aspects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground.errors import ImportRejected
from rlhf_core.services import importing
from rlhf_core.services.workbench import Workbench
from tests.conftest import chosen_pairs


def preferences(workbench: Workbench) -> list[tuple[Any, ...]]:
    """(the better answer's text or the verdict, strength, comment) of each."""
    with workbench.store.export() as export:
        rows = [row for batch in export.rows("preferences") for row in batch]
    found = []
    for _, chat, other, _, _, _, verdict, strength, _, comment, *_ in rows:
        better = {"chat": chat, "other": other}.get(verdict)
        found.append((workbench.store.chat(better).response if better else verdict, strength, comment))
    return sorted(found, key=str)


def test_chosen_and_rejected(workbench: Workbench, add_chats: Any) -> None:
    report = add_chats({"id": 7, "prompt": "q", "chosen": "good", "rejected": "bad", "source": "hh"})
    assert (report.preset, report.added.chats, report.added.ratings) == ("pairs", 2, 1)
    assert preferences(workbench) == [("good", None, None)]
    (pair,) = chosen_pairs(workbench)
    assert {workbench.store.chat(one).external_id for one in pair} == {"7:a", "7:b"}
    assert workbench.store.profiles("imported")[0].display_name == "labels of hh"
    assert add_chats({"id": 7, "prompt": "q", "chosen": "good", "rejected": "bad", "source": "hh"}).added.known_ratings == 1


def test_several_raters_with_strength_and_words(workbench: Workbench, add_chats: Any) -> None:
    add_chats({
        "query": "q", "response_a": "1. x\n2. y", "steps_b": ["z"], "model_a": "m1",
        "preferences": [
            {"rater": "A", "choice": "a", "strength": 3, "comment": "longer"}, {"rater": "B", "choice": "b"},
            {"rater": "C", "choice": "tie"}, {"rater": "D", "choice": "both_bad"},
        ],
    })  # fmt: skip
    assert preferences(workbench) == [
        ("1. x\n2. y", 3, "longer"),
        ("both_bad", None, None),
        ("tie", None, None),
        ("z", None, None),
    ]
    assert sorted(len(workbench.store.chat(one.id).steps) for one in workbench.store.search_chats()) == [1, 2]


def test_votes(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"id": "p", "prompt": "q", "response1": "x", "response2": "y", "votes": [1, 2, 0, None]})
    assert preferences(workbench) == [("tie", None, None), ("x", None, None), ("y", None, None)]


def test_a_blank_answer_is_an_answer_of_a_pair(workbench: Workbench, add_chats: Any) -> None:
    add_chats({"prompt": "q", "response1": " ", "response2": "y", "votes": [2]})
    assert preferences(workbench) == [("y", None, None)]
    assert sorted((one.response, len(workbench.store.chat(one.id).steps)) for one in workbench.store.search_chats()) == [
        ("", 0), ("y", 1),
    ]  # fmt: skip


def test_the_same_answer_twice_needs_an_id(workbench: Workbench, add_chats: Any) -> None:
    same = {"prompt": "q", "response1": "y", "response2": "y", "votes": [0]}
    with pytest.raises(ImportRejected, match="both answers are the same"):
        add_chats(same)
    add_chats(same | {"id": "x"})
    assert preferences(workbench) == [("tie", None, None)]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"preferences": [{"choice": "c"}]}, "choice is 'c'"),
        ({"preferences": [{"choice": "tie", "strength": 2}]}, "strength is 2"),
        ({"preferences": [{"choice": "a", "strength": 4}]}, "strength is 4"),
        ({"preferences": [{"choice": "a", "rater": "A"}, {"choice": "b", "rater": "A"}]}, "chooses twice"),
        ({"preferences": "a"}, "expected a list"),
        ({"choice": 1}, "choice is 1"),
        ({"votes": [3]}, "votes is"),
        ({"votes": "1"}, "votes is"),
        ({"response_b": None}, "has no response_b"),
        ({"query": ""}, "query is blank"),
    ],
)
def test_bad_pairs_are_named(workbench: Workbench, add_chats: Any, wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ImportRejected, match=why):
        add_chats({"query": "q", "response_a": "x", "response_b": "y"} | wrong)
    assert workbench.counts().chats == 0


def test_the_same_pair_twice_in_a_file(workbench: Workbench, add_chats: Any) -> None:
    one = {"query": "q", "response_a": "x", "response_b": "y", "choice": "a"}
    with pytest.raises(ImportRejected, match="the same person judges the same thing as in line 1"):
        add_chats(one, one | {"choice": "b"})


def test_aspects(workbench: Workbench, add_chats: Any) -> None:
    given = [{"aspect": name, "score": k, "rater": "A"} for k, name in enumerate(("Fluency", "coherence"), 2)]
    add_chats(
        {
            "query": "q",
            "steps": ["a"],
            "feedback": [*given, {"score": 5, "rater": "A"}, {"aspect": "safe", "step": 1, "score": 1}],
        }
    )
    with workbench.store.export() as export:
        rows = [row for batch in export.rows("aspect_ratings") for row in batch]
    assert sorted((row[6], row[7], row[2] is None) for row in rows) == [
        ("coherence", 3, True),
        ("fluency", 2, True),
        ("safe", 1, False),
    ]
    assert workbench.counts().ratings == 1
    with pytest.raises(ImportRejected, match="judges the whole answer twice"):
        add_chats({"query": "r", "steps": ["a"], "feedback": [given[0], given[0] | {"score": 1}]})


def test_a_table_of_pairs(workbench: Workbench, tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(
        "query,response_a,response_b,choice,strength,rater\nq1,x,,a,3,A\nq2,y,z,tie,,A\n"
    )  # fmt: skip
    assert importing.import_file(workbench, file).preset == "pairs"
    assert preferences(workbench) == [("tie", None, None), ("x", 3, None)]
    voted = tmp_path / "votes.csv"
    voted.write_text('prompt,steps_a,response2,votes\nq3,"[""one"", ""two""]",w,"[1, 2]"\n'.replace("response2", "response_b"))
    importing.import_file(workbench, voted)
    assert len(preferences(workbench)) == 4
