"""Answers written to a snapshot's queries: in batches, into the store, and on to the same answers after an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground.configs import GenerateConfig
from rlhf_core.ground.errors import EndpointFailed, InvalidInput, NotEnoughData, NotFound
from rlhf_core.ground.runs import ANSWERS_FILE
from rlhf_core.ground.settings import PROJECT_ROOT, WORKSPACE_VARIABLE, EndpointSettings
from rlhf_core.runs import generate as generating_run
from rlhf_core.runs.generate import generate
from rlhf_core.runs.recording import Cancelled, Silent
from rlhf_core.services import erasing, erasing_runs, generating, snapshots, training
from rlhf_core.services.workbench import Workbench
from tests.conftest import command

QUERIES = ["how do I start", "how do I start as a roofer in Ohio", "go?", "what then"]


@pytest.fixture
def snapshot_id(workbench: Workbench, add_chats: Any) -> str:
    add_chats(*({"query": query, "response": f"An answer to {query}."} for query in [*QUERIES, QUERIES[0]]))
    snapshot, _ = snapshots.take(workbench)
    return snapshot.id


def config(folder: Path | str, **more: Any) -> GenerateConfig:
    return GenerateConfig.parse({"base_model": str(folder), "answers": 3, "max_tokens": 12, "batch_size": 4, "seed": 5} | more)


def run(
    workbench: Workbench, run_id: str, snapshot_id: str, options: GenerateConfig, recorder: Any = None
) -> list[dict[str, Any]]:
    workbench.workspace.run_folder(run_id).mkdir(parents=True, exist_ok=True)
    generate(workbench.workspace, run_id, snapshot_id, options, recorder or Silent())
    return generating.written(workbench, run_id)


class StopsAfter(Silent):
    """Asked to stop once so many answers are there."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.seen: list[dict[str, Any]] = []

    def step(self, step: int, **metrics: Any) -> None:
        self.seen.append({"step": step} | metrics)
        if step >= self.count:
            self._stop.set()


def test_every_query_gets_its_answers(workbench: Workbench, snapshot_id: str, tiny_causal: Path) -> None:
    recorder = StopsAfter(1000)
    written = run(workbench, "r", snapshot_id, config(tiny_causal), recorder)
    assert sorted(one["query"] for one in written) == sorted(query for query in QUERIES for _ in range(3))
    assert {one["model"] for one in written} == {str(tiny_causal)}
    assert len({one["response"] for one in written}) > 6
    assert [one["step"] for one in recorder.seen] == [4, 8, 12]
    assert all(0 <= one["ended"] <= 1 and one["answers_per_s"] > 0 for one in recorder.seen)
    greedy = run(workbench, "g", snapshot_id, config(tiny_causal, temperature=0, answers=1))
    alone = run(workbench, "a", snapshot_id, config(tiny_causal, temperature=0, answers=1, batch_size=1))
    assert [(one["query"], one["response"]) for one in greedy] == [(one["query"], one["response"]) for one in alone], "padding"
    assert len(run(workbench, "m", snapshot_id, config(tiny_causal, max_queries=2))) == 6


def test_interrupted_it_goes_on_to_the_same_answers(workbench: Workbench, snapshot_id: str, tiny_causal: Path) -> None:
    whole = run(workbench, "whole", snapshot_id, config(tiny_causal))
    workbench.workspace.run_folder("part").mkdir(parents=True)
    with pytest.raises(Cancelled, match="Stopped after 4 of 12 answers"):
        generate(workbench.workspace, "part", snapshot_id, config(tiny_causal), StopsAfter(4))
    path = workbench.workspace.run_folder("part") / ANSWERS_FILE
    assert len(path.read_text().splitlines()) == 4
    with path.open("a") as file:  # killed in the middle of a batch, and of a line
        file.write(json.dumps({"query": "x", "response": "y", "last": False}) + '\n{"query": "z')
    assert run(workbench, "on", snapshot_id, config(tiny_causal, resume_from="part")) == whole
    assert run(workbench, "part", snapshot_id, config(tiny_causal)) == whole, "paused, it goes on as itself"
    assert run(workbench, "part", snapshot_id, config(tiny_causal)) == whole


def test_whoever_is_erased_meanwhile_is_answered_no_more(workbench: Workbench, snapshot_id: str, tiny_causal: Path) -> None:
    """What was answered stays, but for theirs; what is missing of the others is written."""
    workbench.workspace.run_folder("part").mkdir(parents=True)
    with pytest.raises(Cancelled):
        generate(workbench.workspace, "part", snapshot_id, config(tiny_causal), StopsAfter(8))
    run_row = workbench.ledger.add("part", "generate", {}, snapshot_id, None)
    before = generating.written(workbench, "part")
    gone = before[0]["query"]
    erasing_runs.forget(workbench, [gone])
    assert generating.written(workbench, "part") == before, "it may write on"
    chat_ids = [(chat.id, chat.query) for chat in workbench.store.search_chats() if chat.query == gone]
    erasing.delete_chats(workbench, chat_ids, "a test")
    (left,) = snapshots.listing(workbench)
    assert workbench.ledger.get(run_row.id).snapshot_id == left.id, "it waits, so it learns from what there is"
    workbench.ledger.request_cancel("part")
    assert erasing_runs.settle(workbench) == ["part"]
    kept = [one for one in before if one["query"] != gone]
    assert generating.written(workbench, "part") == kept
    written = run(workbench, "part", left.id, config(tiny_causal))
    assert written[: len(kept)] == kept
    assert sorted(one["query"] for one in written) == sorted(query for query in QUERIES if query != gone for _ in range(3))
    assert erasing_runs.settle(workbench) == []


def test_a_line_separator_in_an_answer_ends_no_line(
    workbench: Workbench, snapshot_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Models write them, and JSON leaves them as they are."""

    def stream(*_: Any, **__: Any) -> Generator[str, None, bool]:
        yield "Call\u2028them.\x85Go."
        return True

    monkeypatch.setenv("RLHF_ENDPOINT_URL", "http://localhost:1/v1")
    monkeypatch.setenv("RLHF_ENDPOINT_MODEL", "big")
    monkeypatch.setattr(generating_run.endpoint, "stream", stream)
    whole = run(workbench, "r", snapshot_id, config("endpoint:big"))
    assert {one["response"] for one in whole} == {"Call\u2028them.\x85Go."}
    assert run(workbench, "on", snapshot_id, config("endpoint:big", resume_from="r")) == whole


def test_queries_that_do_not_fit_are_left_out(workbench: Workbench, add_chats: Any, tiny_causal: Path) -> None:
    add_chats({"query": "how do I start", "response": "a"}, {"query": "why " * 300, "response": "b"})
    snapshot, _ = snapshots.take(workbench)
    written = run(workbench, "r", snapshot.id, config(tiny_causal))
    assert {one["query"] for one in written} == {"how do I start"}
    with pytest.raises(NotEnoughData, match="no query that fits"):
        run(workbench, "none", snapshot.id, config(tiny_causal, max_tokens=256))


def test_an_endpoint_is_asked_several_things_at_once(
    workbench: Workbench, snapshot_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    together = threading.Barrier(4, timeout=20)
    seeds: list[int] = []

    def stream(found: EndpointSettings, query: str, *, seed: int, **_: Any) -> Generator[str, None, bool]:
        together.wait()
        seeds.append(seed)
        yield f"{found.model}: "
        yield query
        return False

    monkeypatch.setenv("RLHF_ENDPOINT_URL", "http://localhost:1/v1")
    monkeypatch.setenv("RLHF_ENDPOINT_MODEL", "big")
    monkeypatch.setattr(generating_run.endpoint, "stream", stream)
    written = run(workbench, "r", snapshot_id, config("endpoint:big"))
    assert sorted(one["response"] for one in written) == sorted(f"big: {query}" for query in QUERIES for _ in range(3))
    assert all(one["response"] == f"big: {one['query']}" for one in written)
    assert {(one["model"], one["ended"]) for one in written} == {("big", False)}
    assert len(set(seeds)) == 12
    with pytest.raises(NotFound, match="no endpoint 'small'"):
        run(workbench, "s", snapshot_id, config("endpoint:small"))

    def broken(*_: Any, **__: Any) -> Generator[str, None, bool]:
        raise EndpointFailed("It is gone.")
        yield ""

    monkeypatch.setattr(generating_run.endpoint, "stream", broken)
    with pytest.raises(EndpointFailed, match="It is gone"):
        run(workbench, "b", snapshot_id, config("endpoint:big"))


def test_what_was_written_is_put_into_the_store_once(workbench: Workbench, snapshot_id: str) -> None:
    folder = workbench.workspace.run_folder("r")
    folder.mkdir()
    row = workbench.ledger.add("r", "generate", config("p").model_dump(), snapshot_id, None, None)
    with pytest.raises(InvalidInput, match="no answer yet"):
        generating.store(workbench, row)
    answers = [("how do I start", "1. Call.\n2. Go."), ("how do I start", "1. Call.\n2. Go."), ("go?", " "), ("go?", "Yes.")]
    lines = [{"query": query, "response": text, "model": "p", "ended": True, "last": False} for query, text in answers]
    (folder / ANSWERS_FILE).write_text("".join(json.dumps(one) + "\n" for one in lines) + '{"query": "half')
    before = workbench.counts().chats
    counts = generating.store(workbench, row)
    assert (counts.chats, counts.known_chats) == (2, 1)
    assert generating.store(workbench, row).chats == 0
    assert workbench.counts().chats == before + 2
    kept = [workbench.store.chat(one.id) for one in workbench.store.search_chats(limit=100) if one.source == generating.SOURCE]
    assert {(one.query, len(one.steps), one.model) for one in kept} == {("how do I start", 2, "p"), ("go?", 1, "p")}


@pytest.mark.parametrize(
    ("more", "words"),
    [({"temperature": 0}, "would be the same"), ({"answers": 0}, "answers"), ({"base_model": None}, "base_model")],
)
def test_options_that_make_no_sense(more: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        config("p", **more)


@pytest.mark.slow
def test_by_the_command_into_the_store(workbench: Workbench, root: Path, snapshot_id: str, tiny_causal: Path) -> None:
    before = workbench.counts().chats
    done = command("generate", *config(tiny_causal).arguments(), root=root)
    assert "chats were added to the store" in done.stdout
    (one,) = training.runs(workbench)
    assert (one.kind, one.status, one.step, one.total_steps, one.checkpoint_id or None) == ("generate", "succeeded", 12, 12, None)
    assert workbench.counts().chats > before
    assert not training.can_resume(workbench, one)
    refused = command("generate", "--base-model", "endpoint:none", root=root, check=False)
    assert "There is no endpoint 'none'" in refused.stderr
    check = command("generate", *config(tiny_causal).arguments(), "--check", root=root)
    assert "4 of 4 different queries, 12 answers" in check.stdout


@pytest.mark.slow
def test_the_killed_command_goes_on_to_the_same_answers(
    workbench: Workbench, root: Path, snapshot_id: str, tiny_causal: Path
) -> None:  # fmt: skip
    options = config(tiny_causal, max_tokens=100, batch_size=1).arguments()
    command("generate", *options, root=root)
    (whole,) = training.runs(workbench)
    killed = subprocess.Popen(
        [sys.executable, "-m", "rlhf_core", "generate", *options], cwd=PROJECT_ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {WORKSPACE_VARIABLE: str(root)},
    )  # fmt: skip
    while killed.poll() is None and not (
        (run := training.runs(workbench)[0]).id != whole.id and generating.written(workbench, run.id)
    ):
        time.sleep(0.02)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    part = generating.written(workbench, run.id)
    assert 0 < len(part) < 12
    command("generate", "--resume-from", run.id, root=root)
    resumed = training.runs(workbench)[0]
    assert (resumed.status, resumed.step) == ("succeeded", 12)
    assert generating.written(workbench, resumed.id) == generating.written(workbench, whole.id)
    assert training.run(workbench, run.id).status == "lost"
