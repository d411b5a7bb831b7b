"""Exports hold what their layout can say, and come back through import without loss."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from rlhf_core.analytics.exports import Layout, export
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput
from rlhf_core.ground.judgement import Aspect
from rlhf_core.ground.records import LabelOp, Queue, new_id
from rlhf_core.ground.settings import Workspace
from rlhf_core.ground.tables import Format
from rlhf_core.services import erasing, importing, snapshots
from rlhf_core.services.demo import load_demo
from rlhf_core.services.workbench import Workbench

MakeBench = Callable[[str], Workbench]


@pytest.fixture
def another(tmp_path: Path) -> Any:
    made: list[Workbench] = []

    def make(name: str) -> Workbench:
        made.append(Workbench(Workspace.resolve(tmp_path / name)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def faceless(value: Any) -> Any:
    """Without pseudonyms, which are others in another workspace, and in an order that does not depend on them."""
    if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
        value = json.loads(value)
    if isinstance(value, dict):
        return {name: faceless(one) for name, one in value.items() if name not in ("rater", "labeler", "chat_id")}
    if isinstance(value, list):
        plain = [faceless(one) for one in value]
        return sorted(plain, key=lambda one: json.dumps(one, sort_keys=True)) if value and isinstance(value[0], dict) else plain
    return value


def lines(path: Path) -> list[str]:
    return sorted(json.dumps(faceless(record), sort_keys=True) for record in records(path))


@pytest.mark.parametrize(
    ("layout", "what"),
    [pytest.param(layout, what, marks=() if layout == "jsonl" or what == "chats" else pytest.mark.slow)
     for layout in get_args(Layout) for what in get_args(Format)],
)  # fmt: skip
def test_what_goes_out_comes_back(what: Format, layout: Layout, workbench: Workbench, another: MakeBench, tmp_path: Path) -> None:
    load_demo(workbench)
    person = Workbench.session(workbench.people()[0])
    chat = workbench.store.chat(workbench.store.search_chats(limit=1)[0].id)
    mine = workbench.store.for_user(person)
    queue = workbench.store.save_queue(Queue(new_id(), "Careful"))
    workbench.store.save_rubric(queue.id, [Aspect("factual", "Is it true?")])
    mine.rate(chat.id, chat.steps[0].id, 2, "stars")
    mine.apply([LabelOp(new_id(), "aspect", chat.id, None, {"aspect": "factual", "score": 4, "queue": queue.id, "version": 1})])
    snapshot, _ = snapshots.take(workbench)
    suffix = {"jsonl": ".jsonl", "parquet": ".parquet", "datasets": ""}[layout]
    out = tmp_path / f"out{suffix}"
    done = export(snapshot, what, out, layout=layout)
    assert done.records > 0
    there = another("there")
    importing.import_file(there, out)
    again, _ = snapshots.take(there)
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    export(snapshot, what, first)
    export(again, what, second)
    if what == "prm800k":  # its lines are one for each rater, and their order is that of pseudonyms: the record may stand in any
        assert [one for one in lines(first) if '"workbench": {}' not in one] != []
        for path in (first, second):
            rows = [{name: one for name, one in row.items() if name != "workbench"} for row in records(path)]
            path.write_text("\n".join(json.dumps(row) for row in rows))
    assert lines(first) == lines(second)
    if what == "chats":
        assert snapshot.rows["aspect_ratings"] == 1
        assert again.rows["chat_feedback"] == snapshot.rows["chat_feedback"]
        assert again.rows["aspect_ratings"] == snapshot.rows["aspect_ratings"]
        assert again.facts["scores"] == snapshot.facts["scores"]


@pytest.mark.parametrize(("what", "sees"), [("chats", True), ("trl-preference", True), ("prm800k", True), ("chats", False)])
def test_what_comes_back_to_where_it_was_is_not_counted_twice(
    what: Format, sees: bool, judged: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exports name people by pseudonyms; they would become other people, who agree with those that are here. An engineer of a
    team does not see the others."""
    done = export(snapshots.take(judged)[0], what, tmp_path / "out.jsonl")
    before, people = judged.counts().ratings, judged.store.profiles()
    with monkeypatch.context() as patched:
        if not sees:
            patched.setattr(type(judged.store), "profiles", lambda *_: [])
        report = importing.import_file(judged, done.path)
    assert report.added.ratings == 0
    assert report.added.chats <= 1  # what somebody wrote better is an answer without an id in files
    assert report.own > 0
    assert f"{report.own} judgements were given in this workspace" in str(report)
    assert (judged.counts().ratings, judged.store.profiles()) == (before, people)


def test_whoever_is_erased_does_not_come_back_with_an_export(demo: Workbench, tmp_path: Path) -> None:
    who = demo.session(demo.people()[0])
    chat = demo.store.search_chats(limit=1)[0]
    demo.store.for_user(who).rate(chat.id, None, 2, "stars")
    done = export(snapshots.take(demo)[0], "chats", tmp_path / "out.jsonl")
    erasing.erase(demo, who)
    before = demo.counts()
    importing.import_file(demo, done.path)
    assert demo.counts() == before
    (demo.workspace.root / erasing.ERASED_FILE).write_text('{"pseudonym": "half')
    with pytest.raises(CorruptArtifact, match="says who was erased"):
        importing.import_file(demo, done.path)


def test_by_hand(workbench: Workbench, add_chats: Any, tmp_path: Path) -> None:
    add_chats(
        {"query": "2+2?", "steps": ["Add.", "It is 5."], "model": "m", "feedback": [
            {"step": 1, "score": 4, "rater": "A"}, {"step": 2, "score": 1, "rater": "A"}, {"step": 2, "score": 2, "rater": "B"},
            {"score": 1, "rater": "A"}, {"score": 3, "rater": "B"},
        ]},
        {"query": "so-so", "response": "Perhaps.", "feedback": [{"score": 3, "rater": "A"}]},
    )  # fmt: skip
    snapshot, _ = snapshots.take(workbench)
    got = {}
    for what in ("trl-unpaired", "trl-stepwise", "prm800k", "processbench", "math-shepherd"):
        done = export(snapshot, what, tmp_path / what, plain=True)  # type: ignore[arg-type]
        got[what] = records(done.path)
        assert done.records == len(got[what])
    assert got["trl-unpaired"] == [{"prompt": "2+2?", "completion": "Add.\n\nIt is 5.", "label": False}]
    assert got["trl-stepwise"] == [{"prompt": "2+2?", "completions": ["Add.", "It is 5."], "labels": [True, False]}]
    assert got["math-shepherd"] == [
        {
            "input": "2+2? Step 1: Add. ки\nStep 2: It is 5. ки",
            "label": "2+2? Step 1: Add. +\nStep 2: It is 5. -",
            "task": "chats",
        }
    ]
    (bench,) = got["processbench"]
    assert (bench["label"], bench["generator"], bench["final_answer_correct"]) == (1, "m", False)
    assert [[step["completions"][0]["rating"] for step in one["label"]["steps"]] for one in got["prm800k"]] in (
        [[1, -1], [None, -1]], [[None, -1], [1, -1]],
    )  # fmt: skip


@pytest.mark.parametrize("what", ["trl-unpaired", "trl-stepwise", "prm800k", "processbench", "math-shepherd", "trl-preference"])
def test_plain_records_are_read_too(what: Any, judged: Workbench, another: MakeBench, tmp_path: Path) -> None:
    """As other tools write them."""
    snapshot, _ = snapshots.take(judged)
    done = export(snapshot, what, tmp_path / "plain.jsonl", plain=True)
    there = another("there")
    report = importing.import_file(there, done.path)
    assert report.records == done.records
    again = export(snapshots.take(there)[0], what, tmp_path / "again.jsonl", plain=True)
    assert again.records > 0
    if what in ("trl-unpaired", "trl-stepwise"):
        assert lines(done.path) == lines(again.path)


def test_the_datasets_library_opens_the_folder(judged: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    snapshot, _ = snapshots.take(judged)
    done = export(snapshot, "trl-stepwise", tmp_path / "set", layout="datasets", plain=True)
    opened = datasets.load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(opened) == done.records
    assert set(opened.column_names) == {"prompt", "completions", "labels"}
    assert opened[0]["labels"]
    assert all(isinstance(label, bool) for label in opened[0]["labels"])
    assert snapshot.id in (tmp_path / "set" / "README.md").read_text()


def test_what_cannot_be_is_said(demo: Workbench, tmp_path: Path) -> None:
    snapshot, _ = snapshots.take(demo)
    there = tmp_path / "there.jsonl"
    there.write_text("mine")
    with pytest.raises(InvalidInput, match="is there already"):
        export(snapshot, "chats", there)
    with pytest.raises(InvalidInput, match="Nothing of snapshot .* fits the format trl-preference: there is no chat"):
        export(snapshot, "trl-preference", tmp_path / "p")
    with pytest.raises(InvalidInput, match="no export 'csv'"):
        export(snapshot, "csv", tmp_path / "c")  # type: ignore[arg-type]
    assert there.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "workspace") == ["there.jsonl"]
