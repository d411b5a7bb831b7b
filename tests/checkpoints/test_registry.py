from pathlib import Path
from typing import Literal

import pytest

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.checkpoints.registry import Checkpoint, list_checkpoints, open_checkpoint, seal
from rlhf_core.ground.errors import CorruptArtifact, NotFound
from rlhf_core.ground.files import building


def make(folder: Path, run_id: str = "r", kind: Literal["reward", "policy"] = "reward") -> Checkpoint:
    with building(folder) as scratch:
        (scratch / "model.safetensors").write_bytes(b"weights")
        (scratch / "config.json").write_text("{}")
        return seal(
            scratch, folder, kind=kind, run_id=run_id, snapshot_id="s", parent="base", complete=True, config={"epochs": 1},
            metrics={"test": {"step_auc": 0.7}}, scoring={"max_length": 8, "reward_mean": 3.0, "reward_std": 1.0}, libraries={},
        )  # fmt: skip


def test_a_checkpoint_names_its_run_config_snapshot_and_parent(tmp_path: Path) -> None:
    made = make(tmp_path)
    opened = open_checkpoint(tmp_path, made.id, verify=True)
    assert (opened.run_id, opened.snapshot_id, opened.parent) == ("r", "s", "base")
    assert opened.manifest["config"] == {"epochs": 1}
    assert set(opened.manifest["files"]) == {"model.safetensors", "config.json"}
    assert list_checkpoints(tmp_path) == [opened]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_changed_or_missing_file_is_found_out(tmp_path: Path, name: str) -> None:
    made = make(tmp_path)
    data = (made.folder / name).read_bytes()
    (made.folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptArtifact, match="hash differs"):
        open_checkpoint(tmp_path, made.id, verify=True)
    (made.folder / name).unlink()
    with pytest.raises(CorruptArtifact, match=f"lacks {name}"):
        open_checkpoint(tmp_path, made.id, verify=True)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "extra.pkl", "modeling.py"])
def test_files_that_could_run_code_are_refused(tmp_path: Path, name: str) -> None:
    made = make(tmp_path)
    (made.folder / name).write_bytes(b"")
    with pytest.raises(CorruptArtifact, match="only safetensors"):
        open_checkpoint(tmp_path, made.id, verify=True)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1, "files": [], "scoring": {}}', '{"format": 9}'])
def test_broken_manifests(tmp_path: Path, text: str) -> None:
    made = make(tmp_path)
    (made.folder / "manifest.json").write_text(text)
    with pytest.raises(CorruptArtifact):
        open_checkpoint(tmp_path, made.id)
    assert list_checkpoints(tmp_path) == []


@pytest.mark.parametrize("name", ["nope", "", "../x", "."])
def test_unknown_ids_list_what_is_there(tmp_path: Path, name: str) -> None:
    made = make(tmp_path)
    with pytest.raises(NotFound, match=made.id):
        open_checkpoint(tmp_path, name)


def test_a_changed_manifest_is_found_out(tmp_path: Path) -> None:
    made = make(tmp_path)
    path = made.folder / "manifest.json"
    path.write_text(path.read_text().replace('"reward_mean": 3.0', '"reward_mean": 99.0'))
    with pytest.raises(CorruptArtifact, match="manifest of checkpoint .* was changed"):
        open_checkpoint(tmp_path, made.id, verify=True)


def test_a_damaged_checkpoint_is_no_base_for_a_run(tmp_path: Path) -> None:
    made = make(tmp_path)
    (made.folder / "model.safetensors").write_bytes(b"weirdos")
    with pytest.raises(CorruptArtifact, match="hash differs"):
        locate(made.id, tmp_path, verify=True)
