from pathlib import Path

import pytest

from rlhf_core.checkpoints.base_models import BUNDLED, DEFAULT, locate, offline_choices, offline_names
from rlhf_core.ground.errors import ModelUnavailable
from tests.checkpoints.test_registry import make


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache


def test_the_bundled_encoder_is_found_without_importing_it() -> None:
    found = locate(BUNDLED)
    assert (found.place, found.offline) == ("bundled", True)
    assert (Path(found.load_from) / "model.safetensors").is_file()


def test_folders_checkpoints_cache_and_hub(tmp_path: Path, empty_cache: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    with pytest.raises(ModelUnavailable, match=r"no config\.json"):
        locate(str(model))
    (model / "config.json").write_text("{}")
    assert locate(str(model)).place == "folder"
    made = make(tmp_path / "checkpoints")
    assert locate(made.id, tmp_path / "checkpoints").place == "checkpoint"
    assert locate(DEFAULT).place == "hub"
    cached = empty_cache / "models--distilroberta-base" / "snapshots" / "abc"
    cached.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (cached / name).write_text("")
    assert locate(DEFAULT).place == "cache"
    assert offline_names()[0] == DEFAULT


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "~/nope", "a/b/c", " "])
def test_paths_without_a_model_list_the_offline_choices(name: str) -> None:
    with pytest.raises(ModelUnavailable, match=f"Without a network these work: {BUNDLED}"):
        locate(name)


def test_nothing_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_core.checkpoints.base_models.bundled_folder", lambda: None)
    assert "requirements-offline.txt" in offline_choices()
    with pytest.raises(ModelUnavailable, match="not installed"):
        locate(BUNDLED)
