"""What a model's files say about its size, without opening it with torch."""

from __future__ import annotations

import json
import math
from pathlib import Path

from rlhf_core.checkpoints.base_models import BaseModel, cached_folder
from rlhf_core.ground.errors import CorruptArtifact, RlhfError
from rlhf_core.ground.footprint import Size

_NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "dim", "d_model"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "vocabulary": ("vocab_size",),
}


def shape_of(base: BaseModel) -> Size | None:
    """None for a hub name that is not on this machine, and where the files say too little."""
    folder = Path(base.load_from) if base.place in ("folder", "bundled", "checkpoint") else cached_folder(base.name)
    if folder is None:
        return None
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = config.get("text_config") or config
        found = {name: next(int(config[one]) for one in known if one in config) for name, known in _NAMES.items()}
        parameters = sum(map(_parameters_in, sorted(folder.glob("*.safetensors"))))
    except (OSError, ValueError, TypeError, StopIteration, RlhfError):
        return None
    return Size(parameters, **found) if parameters else None


def _parameters_in(path: Path) -> int:
    """Numbers in a safetensors file, by its header.

    Raises:
        CorruptArtifact: it has none.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length < 2**27:
            raise CorruptArtifact(f"{path} is no safetensors file.")
        header = json.loads(file.read(length))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
