"""Runs that leave a workspace: as a folder to another one, and checkpoints to a hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from rlhf_core.__main__ import main
from rlhf_core.checkpoints.registry import list_checkpoints, open_checkpoint
from rlhf_core.ground.errors import CorruptArtifact, HubUnavailable, InvalidInput, NotFound, RunRefused
from rlhf_core.ground.settings import Workspace
from rlhf_core.services import pushing, run_folders, training
from rlhf_core.services.workbench import Workbench
from tests.services.test_lineage import loop, made, measured

__all__ = ["loop"]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Any:
    """Another workspace."""
    opened = Workbench(Workspace.resolve(tmp_path / "elsewhere"))
    yield opened
    opened.close()


@pytest.fixture
def exported(demo: Workbench, loop: dict[str, Any], tmp_path: Path) -> Path:
    measured(demo, loop["ppo"], 5, 1.0)
    return run_folders.export_run(demo, "ppo-1", tmp_path / "out" / "ppo")


def test_a_run_goes_to_another_workspace_as_it_was(
    demo: Workbench, loop: dict[str, Any], exported: Path, elsewhere: Workbench
) -> None:
    run, names = run_folders.import_run(elsewhere, exported)
    assert run == training.run(elsewhere, "ppo-1") == demo.ledger.get("ppo-1")
    assert set(names) == {loop[name].id for name in ("last", "best", "between")}
    for one in list_checkpoints(elsewhere.workspace.checkpoints):
        one.verify()
    assert training.metrics(elsewhere, "ppo-1") == training.metrics(demo, "ppo-1") != []
    manifest = json.loads((exported / "snapshot.json").read_text())
    assert manifest["id"] == loop["snapshot"]
    assert not list(exported.rglob("*.parquet")), "no rating goes along"
    with pytest.raises(RunRefused, match="in this workspace already"):
        run_folders.import_run(elsewhere, exported)
    with pytest.raises(InvalidInput, match="there already"):
        run_folders.export_run(demo, "ppo-1", exported)
    with pytest.raises(RunRefused, match="is queued"):
        run_folders.export_run(demo, "ppo-2", exported.parent / "other")


def test_what_was_changed_on_the_way_is_refused_whole(
    exported: Path, loop: dict[str, Any], elsewhere: Workbench, tmp_path: Path
) -> None:
    def refused(error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=match):
            run_folders.import_run(elsewhere, exported)
        assert training.runs(elsewhere) == []
        assert list_checkpoints(elsewhere.workspace.checkpoints) == []

    weights = exported / "checkpoints" / loop["best"].id / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(b"z" * len(good))
    refused(CorruptArtifact, "its hash differs")
    weights.write_bytes(good)
    (weights.parent / "code.py").write_text("print(1)")
    refused(CorruptArtifact, "code.py")
    (weights.parent / "code.py").unlink()
    (exported / "log.txt").unlink(missing_ok=True)
    (exported / "log.txt").symlink_to("/etc/hostname")
    refused(CorruptArtifact, "is a link")
    (exported / "log.txt").unlink()
    row = exported / "run.json"
    text = row.read_text()
    for changed, match in (
        (text.replace('"succeeded"', '"running"'), "a running run"),
        (text.replace('"id": "ppo-1"', '"id": "../ppo-1"').replace('"id":"ppo-1"', '"id":"../ppo-1"'), "no exported run|not of"),
        (text.replace('"format": 1', '"format": 9').replace('"format":1', '"format":9'), "format 9"),
        ('{"format": 1}', "no exported run"),
        ("[]", "run"),
    ):
        assert changed != text
        row.write_text(changed)
        refused(CorruptArtifact, match)
    row.unlink()
    refused(Exception, "run.json|row")
    with pytest.raises(NotFound, match="no folder"):
        run_folders.import_run(elsewhere, tmp_path / "nothing")


class Hub:
    """What stands in for the hub's client: notes what is sent, or fails so."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.sent = error, {}  # type: ignore[var-annotated]

    def create_repo(self, repository: str, **options: Any) -> Any:
        if self.error:
            raise self.error
        self.sent |= options
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repository}")

    def upload_folder(self, **options: Any) -> None:
        self.sent |= options


def test_a_checkpoint_goes_to_the_hub(demo: Workbench, loop: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    best = loop["best"]
    assert pushing.push(demo, best.id, "team/policy") == "https://huggingface.co/team/policy"
    assert hub.sent == {
        "private": True, "exist_ok": True, "repo_id": "team/policy", "folder_path": best.folder,
        "commit_message": f"{best.id}, run ppo-1",
    }  # fmt: skip
    (best.folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(CorruptArtifact):
        pushing.push(demo, best.id, "team/policy")


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (LocalTokenNotFoundError("no token"), "hf auth login"),
        (
            HfHubHTTPError("403 Forbidden", response=httpx2.Response(403, request=httpx2.Request("POST", "https://x"))),
            "403.*may write",
        ),
        (HfHubHTTPError("503 Busy", response=httpx2.Response(503, request=httpx2.Request("POST", "https://x"))), "503.*later"),
        (httpx2.ConnectError("no route"), "does not answer"),
    ],
)
def test_a_hub_that_refuses(
    demo: Workbench, loop: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: Exception, match: str
) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: Hub(error))
    with pytest.raises(HubUnavailable, match=match):
        pushing.push(demo, loop["best"].id, "team/policy")


def test_without_a_network_nothing_is_sent(demo: Workbench, loop: dict[str, Any]) -> None:
    """With the real client, which the tests' environment keeps from any hub."""
    with pytest.raises(HubUnavailable, match="HF_HUB_OFFLINE|does not answer|auth login"):
        pushing.push(demo, loop["best"].id, "team/policy")
    with pytest.raises(NotFound):
        pushing.push(demo, "policy-nothing", "team/policy")


def test_many_checkpoints_of_other_runs_stay(demo: Workbench, loop: dict[str, Any], exported: Path, elsewhere: Workbench) -> None:
    mine = elsewhere.ledger.add("mine", "ppo", {}, "", None)
    kept = made(elsewhere, mine, "policy")
    run_folders.import_run(elsewhere, exported)
    assert open_checkpoint(elsewhere.workspace.checkpoints, kept.id, verify=True).id == kept.id


def test_the_commands(
    demo: Workbench, loop: dict[str, Any], tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(*arguments: object, code: int = 0) -> str:
        assert main([*map(str, arguments)]) == code
        said = capsys.readouterr()
        return said.out + said.err

    assert f"{loop['between'].id}  policy        1.0 MiB  serves nothing" in say("clean")
    assert f"{loop['between'].id}  policy        1.0 MiB  removed" in say("clean", "--remove")
    assert loop["between"].id not in say("clean")
    assert "queue Hinted shows its rewards" in say("clean")
    out = tmp_path / "folder"
    assert str(out) in say("export-run", "ppo-1", "--out", out)
    assert f"{loop['best'].id}" in say("import-run", out, "--workspace", tmp_path / "third")
    assert "in this workspace already" in say("import-run", out, code=1)
    assert "paused" in say("pause", "ppo-2")
    assert "queued" in say("resume", "ppo-2")
    assert "no saved state" in say("resume", "ppo-1", code=1)
    snapshot = ["--snapshot", loop["snapshot"], "--reward-base-model", "minilm-l6"]
    said = say("train", "reward", *snapshot, "--check")
    assert "It needs about" in said
    assert "It takes" in said
    assert len(training.runs(demo)) == 4, "a look starts nothing"
    assert say("train", "reward", *snapshot, "--preset", "small-gpu", "--check") != said
    assert "hub" in say("push", loop["best"].id, "team/policy", code=1).casefold()
