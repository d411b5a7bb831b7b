"""A scalar head on a pretrained encoder: reads ``User: {query}\\n\\nAssistant: {answer}``, says a reward in stars.

Owns loading, encoding, scoring and saving. The model's output is standardised; ``reward = mean + std * output`` with the
training set's mean and deviation, so rewards of all checkpoints are on people's 1-5 scale (not clipped to it).
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import safetensors
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

from rlhf_core.checkpoints.base_models import BaseModel, offline_choices
from rlhf_core.checkpoints.registry import open_checkpoint
from rlhf_core.ground.errors import CorruptArtifact, ModelUnavailable
from rlhf_core.ground.records import utc_now
from rlhf_core.ground.text import step_prefixes
from rlhf_core.learn.batching import batched, padded

SCORE_BATCH_TOKENS = 2048
SCORE_AT_ONCE = 4096  # texts encoded and sorted by length together; memory is that of so many, however many there are
UNTRAINED_MEAN, UNTRAINED_STD = 3.0, 1.0


def pick_device(wanted: str) -> torch.device:
    """
    Raises:
        ModelUnavailable: a GPU was asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelUnavailable("device is cuda, but PyTorch sees no GPU here. Choose cpu or auto.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """bf16 autocast where asked for, or where ``auto`` meets a GPU that has it. Measured: on a CPU without bf16
    instructions autocast makes training several times slower, so ``auto`` never takes it there."""
    auto = precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    if precision == "bf16" or auto:
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def library_versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "safetensors": safetensors.__version__,
    }


@dataclass(frozen=True, slots=True)
class Scored:
    """A reward and where it comes from. ``reward``: stars. ``raw``: the model's own output, 0 the mean of what it was trained on
    and 1 its standard deviation. ``cut``: whether the text was too long and its middle left out. ``timestamp``: UTC.
    ``model_version``: the checkpoint's id."""

    reward: float
    raw: float
    cut: bool
    timestamp: str
    model_version: str


class RewardModel:
    """Tokenizer, encoder with a scalar head, and the scale of its rewards.

    ::

        model = RewardModel.open("checkpoints/reward-0123456789ab")
        model.compute_reward("How do I start?", "Call the career center.")
    """

    version = "untrained"

    def __init__(self, model: Any, tokenizer: Any, *, max_length: int, mean: float, std: float, device: torch.device) -> None:
        self.model = model.to(device)
        self.tokenizer = tokenizer
        self.mean, self.std, self.device = mean, std, device
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
        positions = getattr(model.config, "max_position_embeddings", None) or max_length
        if model.config.model_type in ("roberta", "xlm-roberta", "camembert"):
            positions -= tokenizer.pad_token_id + 1  # their positions begin behind the padding id
        self.max_length = min(max_length, positions)
        self._before, self._after = _special_tokens(tokenizer)

    @classmethod
    def from_base(cls, base: BaseModel, *, max_length: int, seed: int, device: torch.device) -> RewardModel:
        """A pretrained encoder with a new, seeded head. Rewards of it mean nothing yet.

        Raises:
            ModelUnavailable: neither found nor downloadable, or not an encoder that can carry a head.
        """
        set_seed(seed)
        model, tokenizer = _load(base.load_from, base.name)
        return cls(model, tokenizer, max_length=max_length, mean=UNTRAINED_MEAN, std=UNTRAINED_STD, device=device)

    @classmethod
    def from_checkpoint(cls, folder: Path, scoring: dict[str, Any], *, device: torch.device) -> RewardModel:
        """A trained model. The caller has verified the folder's hashes.

        Raises:
            CorruptArtifact: the files cannot be read as a model.
        """
        try:
            model, tokenizer = _load(str(folder), folder.name)
            return cls(
                model, tokenizer, max_length=int(scoring["max_length"]), mean=float(scoring["reward_mean"]),
                std=float(scoring["reward_std"]), device=device,
            )  # fmt: skip
        except (ModelUnavailable, KeyError) as error:
            raise CorruptArtifact(f"Checkpoint {folder.name} cannot be read: {error}. Delete it and train again.") from error

    @classmethod
    def open(cls, path: str | Path, *, device: str = "auto") -> RewardModel:
        """A checkpoint's model, its files checked against their hashes.

        Args:
            path: The checkpoint's folder.
            device: auto, cpu or cuda.

        Raises:
            NotFound: there is no checkpoint.
            CorruptArtifact: it is damaged, or of another version of this workbench.
            ModelUnavailable: a GPU was asked for and there is none.
        """
        folder = Path(path).expanduser().resolve()
        checkpoint = open_checkpoint(folder.parent, folder.name, verify=True)
        model = cls.from_checkpoint(checkpoint.folder, checkpoint.manifest["scoring"], device=pick_device(device))
        model.version = checkpoint.id
        model.model.eval()
        return model

    @overload
    def compute_reward(self, query: str, response: str, include_metadata: Literal[False] = False) -> float: ...
    @overload
    def compute_reward(self, query: str, response: str, include_metadata: Literal[True]) -> Scored: ...
    def compute_reward(self, query: str, response: str, include_metadata: bool = False) -> float | Scored:
        """The reward of one answer in stars; with metadata, a :class:`Scored`."""
        encoded, cut = self.encode_counting([(query, response)])
        (reward,) = self.score_encoded(encoded)
        if not include_metadata:
            return reward
        raw = (reward - self.mean) / self.std
        return Scored(reward, raw, cut > 0, utc_now(), self.version)

    def compute_batch_rewards(self, pairs: Iterable[tuple[str, str]]) -> list[float]:
        """Rewards in stars of any number of ``(query, answer)`` pairs, in the order given."""
        return list(self.iter_rewards(pairs))

    def iter_rewards(self, pairs: Iterable[tuple[str, str]]) -> Iterator[float]:
        """The same one after another, from any source of pairs; memory stays that of a few thousand."""
        for part in batched(pairs, SCORE_AT_ONCE):
            yield from self.score_encoded(self.encode(part))

    def score_steps(self, query: str, steps: Sequence[str], response: str | None = None) -> list[float]:
        """Rewards in stars of the answer up to and including each step.

        Args:
            query: The question.
            steps: The reasoning steps in order.
            response: The whole answer that holds them, for what stands between them; without it, steps are joined by blank lines.
        """
        prefixes = step_prefixes(response if response is not None else "\n\n".join(steps), steps)
        return self.score([(query, prefix) for prefix in prefixes])

    @property
    def scoring(self) -> dict[str, Any]:
        """What a checkpoint's manifest keeps for :meth:`from_checkpoint`."""
        return {"max_length": self.max_length, "reward_mean": self.mean, "reward_std": self.std}

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
        """Token ids of ``(query, answer)`` pairs: see :meth:`encode_counting`."""
        return self.encode_counting(pairs)[0]

    def encode_counting(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[list[int]], int]:
        """Token ids of ``(query, answer)`` pairs, special tokens included, at most ``max_length`` each; and how many were cut.

        From an input that is too long the middle is cut out: up to a third is kept of its beginning (the query), the rest of
        its end, because a prefix is judged by its last step.
        """
        texts = [f"User: {query}\n\nAssistant: {answer}" for query, answer in pairs]
        room = self.max_length - len(self._before) - len(self._after)
        encoded, cut = [], 0
        tokens = self.tokenizer(texts, add_special_tokens=False, verbose=False).input_ids
        for (query, _), ids in zip(pairs, tokens, strict=True):
            if len(ids) > room:
                question = f"User: {query}"
                head = min(len(self.tokenizer(question, add_special_tokens=False, verbose=False).input_ids) + 3, room // 3)
                ids = ids[:head] + ids[len(ids) - (room - head) :]
                cut += 1
            encoded.append([*self._before, *ids, *self._after])
        return encoded, cut

    def forward(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Standardised outputs ``(B,)`` float32 of encoded sequences."""
        ids, mask = padded(sequences, self.tokenizer.pad_token_id)
        logits = self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device)).logits
        return logits.squeeze(-1).float()

    @torch.inference_mode()
    def score_encoded(self, sequences: Sequence[Sequence[int]], precision: str = "auto") -> list[float]:
        """Rewards in stars, in the order given; batches are made of like lengths."""
        was_training = self.model.training
        self.model.eval()
        rewards = [0.0] * len(sequences)
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end - start + 1) * len(sequences[order[end]]) <= SCORE_BATCH_TOKENS:
                end += 1
            batch = order[start:end]
            with autocast(self.device, precision):
                outputs = self.forward([sequences[i] for i in batch])
            for i, output in zip(batch, outputs.tolist(), strict=True):
                rewards[i] = self.mean + self.std * output
            start = end
        self.model.train(was_training)
        return rewards

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Rewards in stars of ``(query, answer)`` pairs."""
        return self.compute_batch_rewards(pairs)

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), config and tokenizer."""
        try:
            self.model.save_pretrained(folder)
        except safetensors.SafetensorError as error:
            if f"os error {errno.ENOSPC}" in str(error):  # its own error type hides a full disk
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        self.tokenizer.save_pretrained(folder)


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids that the tokenizer puts before and after a single text."""
    bare = tokenizer("a", add_special_tokens=False).input_ids
    full = tokenizer("a").input_ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start], full[start + len(bare) :]
    raise ModelUnavailable(f"The tokenizer {tokenizer.name_or_path} changes text when it adds special tokens; use another base.")


def _load(place: str, name: str) -> tuple[Any, Any]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
        model = AutoModelForSequenceClassification.from_pretrained(place, num_labels=1, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, safetensors.SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelUnavailable(
            f"The model {name!r} could not be loaded: {reason} If it is a hub name, the hub does not answer or does not "
            f"know it. {offline_choices()}"
        ) from error
    return model, tokenizer
