"""What the training command refuses before it starts, at once and without a run to clean up."""

from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.runs import STATE_FILE
from rlhf_core.services import snapshots, training
from rlhf_core.services.workbench import Workbench
from tests.conftest import command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--snapshot", "zzz"], "No snapshot begins with 'zzz'"),
        (["--snapshot", "SNAP"], "has no ratings"),
        (["--snapshot", "SNAP", "--epochs", "0"], "epochs: Input should be greater than or equal to 1 (got '0')"),
        (["--snapshot", "SNAP", "--config", "/no/such.json"], "There is no file /no/such.json"),
    ],
)
def test_clear_errors(arguments: list[str], said: str, workbench: Workbench, add_chats: Any, root: Path) -> None:
    add_chats({"query": "q", "response": "r"})
    snapshot, _ = snapshots.take(workbench)
    arguments = [snapshot.id if one == "SNAP" else one for one in arguments]
    done = command("train", "reward", *arguments, root=root, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert training.runs(workbench) == []


def test_a_base_model_path_without_a_model(demo: Workbench, root: Path) -> None:
    snapshot, _ = snapshots.take(demo)
    done = command("train", "reward", "--snapshot", snapshot.id, "--reward-base-model", "./nowhere", root=root, check=False)
    assert "There is no folder ./nowhere. Without a network these work: minilm-l6" in done.stderr


def test_going_on_means_the_snapshot_that_the_run_had(demo: Workbench, root: Path) -> None:
    """Whatever was taken since, and whatever else is named."""
    old, _ = snapshots.take(demo)
    run = training.add_run(demo, "reward", old.id, RewardConfig.parse({"reward_base_model": "minilm-l6"}))
    demo.ledger.claim(run.id, "h")
    demo.ledger.finish(run.id, "cancelled", "Stopped.", None)
    (demo.workspace.run_folder(run.id) / STATE_FILE).write_bytes(b"where it stood")
    demo.store.for_user(Workbench.session(demo.people()[0])).rate(demo.store.search_chats(limit=1)[0].id, None, 5, "stars")
    assert snapshots.take(demo)[0].id != old.id
    done = command("train", "reward", "--resume-from", run.id, "--epochs", "9", root=root, check=False)
    said = done.stderr.strip().splitlines()[-1]
    assert f"can only go on as it began, on snapshot {old.id}; " in said
    assert "epochs" in said
    assert "this is another snapshot" not in said
    other = command(
        "train",
        "reward",
        "--resume-from",
        run.id,
        "--reward-base-model",
        "minilm-l6",
        "--snapshot",
        "zzz",
        root=root,
        check=False,
    )
    assert "this is another snapshot" in other.stderr
