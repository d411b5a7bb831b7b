"""Runs compared, traced back to ratings, and cleaned up after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.checkpoints.registry import REMOVED, Checkpoint, list_checkpoints, seal
from rlhf_core.ground.configs import PPOConfig, RewardConfig
from rlhf_core.ground.errors import NotFound, RunRefused
from rlhf_core.ground.files import building
from rlhf_core.ground.records import Queue, new_id
from rlhf_core.ground.runs import STATE_FILE, Run
from rlhf_core.services import lineage, run_compare, snapshots, storage, training
from rlhf_core.services.workbench import Workbench
from tests.conftest import write_lines


def made(workbench: Workbench, run: Run, kind: str = "reward", step: int = 1, parent: str = "base") -> Checkpoint:
    """A checkpoint of this run, of a few bytes."""
    with building(workbench.workspace.checkpoints) as scratch:
        (scratch / "model.safetensors").write_bytes(b"x" * 2**20)
        return seal(
            scratch, workbench.workspace.checkpoints, kind=kind, run_id=run.id, snapshot_id=run.snapshot_id, parent=parent,
            complete=True, config=run.config, metrics={"trained_steps": step}, scoring={}, libraries={},
        )  # fmt: skip


def ended(workbench: Workbench, run: Run, checkpoint: Checkpoint | None, status: Any = "succeeded") -> Run:
    if run.status == "queued":
        workbench.ledger.claim(run.id, "h")
    workbench.ledger.finish(run.id, status, "done", checkpoint.id if checkpoint else None)
    return workbench.ledger.get(run.id)


@pytest.fixture
def loop(demo: Workbench) -> dict[str, Any]:
    """Ratings, two reward models, a policy from them, another from that, and a queue that shows rewards."""
    snapshot, _ = snapshots.take(demo)
    found: dict[str, Any] = {"snapshot": snapshot.id}
    for name in ("reward", "judge"):
        run = training.add_run(
            demo, "reward", snapshot.id, RewardConfig.parse({"reward_base_model": "minilm-l6", "method": "head"})
        )
        found[name] = made(demo, run)
        found[f"{name} run"] = ended(demo, run, found[name])
    config = PPOConfig.parse({"base_model": "some/policy", "reward": f"{found['reward'].id}=0.5", "judge": found["judge"].id})
    run = demo.ledger.add("ppo-1", "ppo", config.model_dump(), snapshot.id, None)
    found["last"], found["best"] = made(demo, run, "policy", 9), made(demo, run, "policy", 5)
    found["between"] = made(demo, run, "policy", 3)
    found["ppo"] = ended(demo, run, found["best"])
    second = config.model_copy(update={"base_model": found["best"].id, "reward": "package.rewards:function"})
    found["second"] = demo.ledger.add("ppo-2", "ppo", second.model_dump(), "", None)
    queue = Queue(new_id(), "Hinted", hint_checkpoint=found["reward"].id)
    demo.store.save_queue(queue)
    return found


def test_from_ratings_to_where_it_serves_and_back(demo: Workbench, loop: dict[str, Any]) -> None:
    whole = lineage.lineage(demo)
    edges = {(edge.source, edge.target): edge.what for edge in whole.edges}
    reward, judge, best = (loop[name].id for name in ("reward", "judge", "best"))
    assert edges[loop["snapshot"], loop["reward run"].id] == "ratings"
    assert edges["minilm-l6", loop["reward run"].id] == "begins from"
    assert edges[loop["reward run"].id, reward] == "made"
    assert edges[reward, "ppo-1"] == "reward x 0.5"
    assert edges[judge, "ppo-1"] == "judge"
    assert edges["ppo-1", best] == "made"
    assert edges[best, "ppo-2"] == "begins from"
    assert edges["package.rewards:function", "ppo-2"] == "reward"
    assert edges[reward, "queue Hinted"] == "hints"
    assert "822 ratings, 4 raters" in whole.nodes[loop["snapshot"]].words

    # backwards from a checkpoint to ratings, forwards from ratings to all that learned from them
    assert whole.into(best, "snapshot") == [loop["snapshot"]]
    assert set(whole.out_of(loop["snapshot"], "checkpoint")) == {
        loop[name].id for name in ("reward", "judge", "last", "best", "between")
    }
    part = whole.of(judge)
    assert "queue Hinted" not in part.nodes  # the other reward model's
    assert {"minilm-l6", "ppo-1", "ppo-2", best} <= part.nodes.keys()
    with pytest.raises(NotFound, match="nothing-1"):
        whole.of("nothing-1")

    dot = lineage.as_dot(part, judge)
    assert f'"{judge}" -> "ppo-1" [label="judge"];' in dot
    assert dot.count(" [label=") == len(part.nodes) + len(part.edges)
    odd = lineage.Lineage({'a "b"': lineage.Node('a "b"', "base")}, [])
    assert '"a \\"b\\"" [label="a \\"b\\""' in lineage.as_dot(odd)


def test_what_is_kept_and_why(demo: Workbench, loop: dict[str, Any]) -> None:
    by_id = {one.id: one for one in storage.stored(demo)}
    assert by_id[loop["reward"].id].serves == ["queue Hinted shows its rewards"]
    assert by_id[loop["best"].id].serves == ["run ppo-2 is queued (begins from)"]
    assert by_id[loop["last"].id].kept_for == ["the last of its run"]
    assert "a run began from it or was judged by it" in by_id[loop["judge"].id].kept_for
    assert by_id[loop["between"].id].kept_for == []
    assert by_id[loop["between"].id].size_mb == pytest.approx(1.0)


def test_removing_leaves_a_note_and_never_what_serves(demo: Workbench, loop: dict[str, Any]) -> None:
    for name, why in (("reward", "queue Hinted"), ("best", "run ppo-2 is queued"), ("judge", "ppo-2 is queued [(]judge")):
        with pytest.raises(RunRefused, match=why):
            storage.remove(demo, [loop[name].id])
    gone = loop["between"]
    storage.remove(demo, [gone.id])
    assert gone.id not in {one.id for one in list_checkpoints(demo.workspace.checkpoints)}
    assert not gone.folder.exists()
    assert (demo.workspace.checkpoints / REMOVED / f"{gone.id}.json").is_file()
    with pytest.raises(NotFound):
        storage.remove(demo, [gone.id])
    demo.ledger.request_cancel("ppo-2")
    storage.remove(demo, [loop["best"].id])
    node = lineage.lineage(demo).nodes[loop["best"].id]
    assert node.gone, "its run and what began from it still name it"
    assert "removed" in lineage.as_dot(lineage.lineage(demo).of(loop["best"].id))


def test_where_a_run_stood_can_be_forgotten_but_not_that_of_a_paused_one(demo: Workbench, loop: dict[str, Any]) -> None:
    for name in ("one", "two"):
        demo.ledger.add(name, "reward", {}, loop["snapshot"], None)
        folder = demo.workspace.run_folder(name)
        folder.mkdir()
        (folder / STATE_FILE).write_bytes(b"y" * 2**19)
        demo.ledger.claim(name, "h")
        if name == "two":
            demo.ledger.request_pause(name)
        ended(demo, demo.ledger.get(name), None, "cancelled")
    kept = {one.id: one for one in storage.stored(demo) if one.kind == "state"}
    assert (kept["one"].serves, kept["one"].kept_for, kept["one"].size_mb) == ([], ["it can go on from here"], 0.5)
    assert kept["two"].serves == ["run two is paused"]
    assert training.can_resume(demo, demo.ledger.get("one"))
    storage.remove(demo, ["one"])
    assert not training.can_resume(demo, demo.ledger.get("one"))
    with pytest.raises(RunRefused, match="paused"):
        storage.remove(demo, ["two"])


def measured(workbench: Workbench, run: Run, steps: int, rise: float) -> None:
    folder = workbench.workspace.run_folder(run.id)
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = [
        {"time": k, "split": "train", "step": k, "reward": k * rise, "of_its_own": 1.0} for k in range(1, steps + 1)
    ]
    lines += [{"time": 0, "split": "validation", "step": at, "reward": rise * at, "judge": None} for at in (0, steps)]
    lines.append({"time": 0, "split": "alarm", "step": 3, "name": "kl", "words": "far"})
    write_lines(folder / "metrics.jsonl", lines)


def test_runs_side_by_side(demo: Workbench, loop: dict[str, Any]) -> None:
    first, second = loop["ppo"], demo.ledger.get("ppo-2")
    measured(demo, first, 1000, 0.5)
    measured(demo, second, 4, 2.0)
    both = run_compare.compare_runs(demo, [first.id, second.id])
    assert list(both.curves) == ["reward", "of_its_own"]  # known measures first
    points = both.curves["reward"]
    assert len([one for one in points if one[:2] == (first.id, "train")]) <= run_compare.POINTS
    assert (second.id, "train", 3, 6.0) in points
    assert (second.id, "validation", 4, 8.0) in points
    assert both.results == {"reward, validation": {first.id: 500.0, second.id: 8.0}}
    assert both.options == {
        "snapshot": {first.id: loop["snapshot"], second.id: None},
        "base_model": {first.id: "some/policy", second.id: loop["best"].id},
        "reward": {first.id: f"{loop['reward'].id}=0.5", second.id: "package.rewards:function"},
    }
    same = replace(first, id="again")
    assert run_compare.differing([first, same]) == {}
    assert run_compare.differing([first, replace(same, config={})])["base_model"] == {first.id: "some/policy"}
    with pytest.raises(NotFound):
        run_compare.compare_runs(demo, ["nothing"])


def test_a_broken_removal_is_swept(demo: Workbench, loop: dict[str, Any], tmp_path: Path) -> None:
    """Whoever is killed between the renaming and the deletion leaves a folder that no list shows."""
    from rlhf_core.ground import files

    left = demo.workspace.checkpoints / f"{files._BUILDING}999999_1.0_abc"
    left.mkdir()
    loop["between"].folder.rename(left / loop["between"].id)
    assert loop["between"].id not in {one.id for one in list_checkpoints(demo.workspace.checkpoints)}
    assert files.sweep_leftovers(demo.workspace.checkpoints) == [left]
