"""What a sweep varies, what its runs are, and what they came to."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground.engines import Resources
from rlhf_core.ground.errors import InvalidInput, NotFound
from rlhf_core.ground.runs import METRICS_FILE, RunKind
from rlhf_core.services import snapshots, sweeping, training
from rlhf_core.services.sweeping import Range, parse_space, points
from rlhf_core.services.workbench import Workbench
from tests.conftest import learnable_chats


def test_lines_of_a_sweep() -> None:
    text = "learning-rate = 1e-5, 3e-5\n\nepochs = 1 .. 5; weight_decay = 1e-4 .. 1e-1 log\npatience = none, 2"
    assert parse_space("reward", text) == {
        "learning_rate": ["1e-5", "3e-5"], "epochs": Range(1, 5, False, True), "weight_decay": Range(1e-4, 0.1, True, False),
        "patience": [None, "2"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Say what is varied"),
        ("learning_rate", "no line of a sweep"),
        ("learning_rate =", "no line of a sweep"),
        ("speed = 1, 2", "'speed' cannot be varied: a run of reward has"),
        ("device = cpu, cuda", "cannot be varied"),
        ("epochs = 1, 2\nepochs = 3", "stands there twice"),
        ("epochs = 1, 1", "names a value twice"),
        ("epochs = 5 .. 1", "the first number has to be the smaller one"),
        ("epochs = 1.5 .. 3", "takes whole numbers"),
        ("weight_decay = 0 .. 1 log", "above 0 with log"),
        ("weight_decay = a .. b", "from one number to another"),
    ],
)
def test_lines_that_are_none(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse_space("reward", text)


def test_a_grid_is_every_combination_once() -> None:
    found = points(parse_space("reward", "learning_rate = 1e-5, 3e-5\nepochs = 1, 2, 3"), "grid")
    assert len(found) == len({json.dumps(one) for one in found}) == 6
    with pytest.raises(InvalidInput, match="a range is for a random search"):
        points(parse_space("reward", "epochs = 1 .. 3"), "grid")
    with pytest.raises(InvalidInput, match="400 runs, and 200 are the most"):
        points({"a": [*map(str, range(20))], "b": [*map(str, range(20))]}, "grid")


def test_a_random_search_is_what_its_seed_says() -> None:
    space = parse_space("reward", "weight_decay = 1e-4 .. 1e-1 log\nepochs = 1 .. 3\nmethod = lora, finetune")
    found = points(space, "random", 40, seed=1)
    assert found == points(space, "random", 40, seed=1) != points(space, "random", 40, seed=2)
    assert {one["epochs"] for one in found} == {1, 2, 3}
    decays = [math.log10(one["weight_decay"]) for one in found]
    assert min(decays) >= -4
    assert max(decays) <= -1
    assert 8 < sum(value < -2.5 for value in decays) < 32  # as many of small powers as of large ones
    assert len(points(parse_space("reward", "epochs = 1, 2"), "random", 10)) == 2  # there are no more
    for count in (None, 0, 201):
        with pytest.raises(InvalidInput, match="how many runs"):
            points(space, "random", count)


@pytest.fixture
def base(workbench: Workbench, add_chats: Any, tiny_encoder: Path) -> dict[str, Any]:
    add_chats(*learnable_chats())
    snapshots.take(workbench)
    return {"reward_base_model": str(tiny_encoder), "method": "finetune"}


def begun(workbench: Workbench, base: dict[str, Any], text: str, kind: RunKind = "reward") -> str:
    return sweeping.begin(workbench, kind, training.newest_snapshot(workbench), base, points(parse_space(kind, text), "grid"))[0]


def write(workbench: Workbench, run_id: str, *lines: dict[str, Any]) -> None:
    path = workbench.workspace.run_folder(run_id) / METRICS_FILE
    path.write_text("".join(json.dumps({"time": 1.0, "step": k} | line) + "\n" for k, line in enumerate(lines)))


def test_runs_of_a_sweep_are_compared_by_validation_data(workbench: Workbench, base: dict[str, Any]) -> None:
    name = begun(workbench, base, "epochs = 1, 2, 3")
    assert [(one.name, one.runs, one.unfinished, one.kind) for one in sweeping.sweeps(workbench)] == [(name, 3, 3, "reward")]
    runs = [row.run for row in sweeping.results(workbench, name).rows]
    assert [run.config["epochs"] for run in runs] == [1, 2, 3]
    assert all(run.sweep == name for run in runs)
    training.add_run(workbench, "reward", training.newest_snapshot(workbench), training.CONFIGS["reward"].parse(base))
    # The second is best in its second epoch, whose weights it keeps; the third would win by the test.
    write(workbench, runs[0].id, {"split": "validation", "epoch": 1, "rmse": 1.0, "spearman": 0.1})
    write(
        workbench, runs[1].id, {"split": "validation", "epoch": 1, "rmse": 0.9, "spearman": 0.9},
        {"split": "validation", "epoch": 2, "rmse": 0.5, "spearman": 0.3}, {"split": "validation", "epoch": 3, "rmse": 0.8},
        {"split": "test", "rmse": 0.7},
    )  # fmt: skip
    write(
        workbench, runs[2].id, {"split": "validation", "epoch": 1, "rmse": 0.6, "spearman": 0.2}, {"split": "test", "rmse": 0.1}
    )
    found = sweeping.results(workbench, name)
    assert found.varied == ["epochs"]
    assert found.measures == ["rmse", "spearman"]
    assert [row.run.id for row in found.ranked("rmse")] == [runs[1].id, runs[2].id, runs[0].id]
    assert [row.run.id for row in found.ranked("spearman")] == [runs[1].id, runs[2].id, runs[0].id]
    assert found.rows[1].validation == {"rmse": 0.5, "spearman": 0.3}  # of one and the same epoch
    assert found.rows[1].test == {"rmse": 0.7}
    assert found.rows[2].options == {"epochs": 3}


def test_wrong_options_of_one_queue_none(workbench: Workbench, base: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"With learning_rate 7: .*No run was queued"):
        begun(workbench, base, "learning_rate = 1e-5, 7")
    assert training.runs(workbench) == []
    assert sweeping.sweeps(workbench) == []


def test_a_sweep_is_cancelled_whole(workbench: Workbench, base: dict[str, Any]) -> None:
    name = begun(workbench, base, "epochs = 1, 2")
    assert sweeping.cancel(workbench, name) == 2
    assert sweeping.cancel(workbench, name) == 0
    assert {row.run.status for row in sweeping.results(workbench, name).rows} == {"cancelled"}
    with pytest.raises(NotFound, match="no sweep 'nothing'"):
        sweeping.results(workbench, "nothing")


def test_of_a_sweep_all_are_begun_or_none(workbench: Workbench, base: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="takes one process"):
        sweeping.begin(
            workbench, "reward", training.newest_snapshot(workbench), base, [{"method": "finetune"}, {"method": "head"}],
            where=training.Where(resources=Resources.parse({"processes": 2})),
        )  # fmt: skip
    assert training.runs(workbench) == []
    true, calls = training.add_run, []

    def third_time(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise NotFound("gone")
        return true(*arguments, **named)

    monkeypatch.setattr(training, "add_run", third_time)
    with pytest.raises(NotFound):
        begun(workbench, base, "epochs = 1, 2, 3")
    assert [run.status for run in training.runs(workbench)] == ["cancelled"] * 2


def test_a_sweep_is_cancelled_whatever_ends_meanwhile(
    workbench: Workbench, base: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = begun(workbench, base, "epochs = 1, 2, 3")
    true = training.cancel

    def ends_first(workbench: Workbench, run_id: str) -> Any:
        if run_id == training.runs(workbench)[-1].id:
            workbench.ledger.fail_queued(run_id, "ended")
        return true(workbench, run_id)

    monkeypatch.setattr(training, "cancel", ends_first)
    assert sweeping.cancel(workbench, name) == 2
    assert sorted(row.run.status for row in sweeping.results(workbench, name).rows) == ["cancelled", "cancelled", "failed"]
    again = training.again(workbench, training.runs(workbench)[0].id)
    assert again.sweep == name
