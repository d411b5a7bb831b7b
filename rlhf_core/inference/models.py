"""Models that stay in memory between requests, within a budget. Worker side: this imports torch."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.checkpoints.registry import Checkpoint, open_scorer
from rlhf_core.learn.reward_model import RewardModel, pick_device
from rlhf_core.learn.scoring import Ready
from rlhf_core.learn.writing import Writer

MB = 2**20
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model")


@dataclass(slots=True)
class Kept:
    """A model in memory. ``used``: when it was last asked, on the monotonic clock."""

    what: Ready | Writer
    used: float = 0.0

    @property
    def model(self) -> RewardModel | Writer:
        return self.what.model if isinstance(self.what, Ready) else self.what

    @property
    def size_mb(self) -> float:
        """MiB of its weights."""
        return sum(one.numel() * one.element_size() for one in self.model.network.parameters()) / MB


class WarmModels:
    """Models by what they are asked for; those that were not asked for longest go first when there is no room.

    Args:
        checkpoints: The workspace's.
        budget_mb: MiB of weights; one model larger than that is kept alone.
    """

    def __init__(self, checkpoints: Path, budget_mb: float) -> None:
        self._checkpoints, self._budget_mb = checkpoints, budget_mb
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    @property
    def size_mb(self) -> float:
        """MiB of weights in memory."""
        return sum(one.size_mb for one in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def reward_model(self, ref: dict[str, Any], device: str) -> Ready:
        """A reward model on this device (auto, cpu or cuda), loaded if need be. A checkpoint that was removed is not served.

        Raises:
            NotFound, CorruptArtifact, ModelUnavailable: it cannot be loaded.
            InvalidInput: it is a policy.
        """
        checkpoint = open_scorer(self._checkpoints, ref["checkpoint"]) if "checkpoint" in ref else None
        found = self._get(
            ref, device, checkpoint.folder if checkpoint else None,
            lambda: _load_checkpoint(checkpoint) if checkpoint else self._load_base(ref),
        )  # fmt: skip
        assert isinstance(found, Ready)
        return found

    def writer(self, ref: dict[str, Any], device: str) -> Writer:
        """A policy on this device: a checkpoint, or any causal model's name or folder.

        Raises:
            NotFound, CorruptArtifact, ModelUnavailable: it cannot be loaded, or writes no text.
        """
        base = locate(ref["policy"], self._checkpoints, verify=_key(ref) not in self._kept)
        folder = Path(base.load_from) if base.place in ("folder", "checkpoint") else None
        found = self._get(ref, device, folder, lambda: Writer.load(base))
        assert isinstance(found, Writer)
        return found

    def _get(
        self, ref: dict[str, Any], device: str, folder: Path | None, load: Callable[[], Ready | Writer]
    ) -> Ready | Writer:  # fmt: skip
        key = _key(ref)
        kept = self._kept.get(key)
        if kept is None:
            self._make_room(_weights_mb(folder) if folder else 0.0)
            kept = Kept(load())
            self._make_room(kept.size_mb)
            self._kept[key] = kept
        kept.used = time.monotonic()
        self._kept.move_to_end(key)
        model, wanted = kept.model, pick_device(device)
        if model.device != wanted:
            model.network.to(wanted)
            model.device = wanted
        return kept.what

    def let_go(self, idle_s: float) -> int:
        """Drop the models that nobody asked for in so many seconds; how many they were."""
        old = [key for key, one in self._kept.items() if time.monotonic() - one.used >= idle_s]
        for key in old:
            del self._kept[key]
        return len(old)

    def _make_room(self, needed_mb: float) -> None:
        while self._kept and self.size_mb + needed_mb > self._budget_mb:
            self._kept.popitem(last=False)

    def _load_base(self, ref: dict[str, Any]) -> Ready:
        base = locate(ref["base"], self._checkpoints, verify=True)
        model = RewardModel.from_base(base, max_length=ref["max_length"], seed=ref["seed"], device=pick_device("cpu"))
        model.network.eval()
        return Ready(model)


def _key(ref: dict[str, Any]) -> str:
    return json.dumps(ref, sort_keys=True)


def _load_checkpoint(checkpoint: Checkpoint) -> Ready:
    checkpoint.verify()
    model = RewardModel.from_checkpoint(checkpoint.folder, checkpoint.manifest["scoring"], device=pick_device("cpu"))
    model.version = checkpoint.id
    model.network.eval()
    files = checkpoint.manifest["files"]
    return Ready(model, (body_hash(model.network.body), *(files[name]["sha256"] for name in TOKENIZER_FILES if name in files)))


def body_hash(body: Any) -> str:
    """Of all weights that a text's states depend on, and how they are put together. A pooler, which some models bring along
    and nothing here reads, does not count: where a base has none it is drawn anew by each run."""
    found = hashlib.sha256()
    settings = {name: value for name, value in body.config.to_diff_dict().items() if name != "_name_or_path"}
    found.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(body.state_dict().items()):
        if not name.startswith("pooler."):
            found.update(name.encode())
            found.update(tensor.cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _weights_mb(folder: Path) -> float:
    return sum(one.stat().st_size for one in folder.glob("*.safetensors")) / MB
