"""A reward model: reads ``User: {query}\\n\\nAssistant: {answer}``, says a reward in stars for the answer or for its steps.

Owns loading, scoring and saving. Outputs are standardised by the training set, so rewards of all checkpoints are on people's
1-5 scale (:mod:`rlhf_core.learn.scales`).
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import safetensors
import torch
import transformers
from torch import Tensor
from transformers import set_seed

from rlhf_core.checkpoints.base_models import BaseModel
from rlhf_core.checkpoints.registry import open_checkpoint
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, ModelUnavailable
from rlhf_core.ground.records import utc_now
from rlhf_core.learn.aggregates import Aggregate, How, aggregate_rewards
from rlhf_core.learn.batching import batched, by_tokens, padded
from rlhf_core.learn.measures import Floats, first_below
from rlhf_core.learn.networks import (
    Network,
    Readout,
    SpanNetwork,
    check_saved,
    load_network,
    load_tokenizer,
    new_scales,
    padding_of,
)
from rlhf_core.learn.reading import Encoded, Encoder, Reading, all_steps, fewest_texts, step_readings, whole_answer
from rlhf_core.learn.scales import StarScale

SCORE_BATCH_TOKENS = {"cpu": 1024, "cuda": 32_768}  # padded; more at once falls out of a CPU's caches
SCORE_AT_ONCE = 4096  # texts encoded and sorted by length together; memory is that of so many, however many there are
StepReading = Literal["prefixes", "one_pass"]
Precision = Literal["auto", "fp32", "bf16"]


def pick_device(wanted: str) -> torch.device:
    """
    Raises:
        ModelUnavailable: a GPU was asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelUnavailable("device is cuda, but PyTorch sees no GPU here. Choose cpu or auto.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """bf16 autocast where asked for, or where ``auto`` meets a GPU."""
    if in_bf16(device, precision):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def in_bf16(device: torch.device, precision: str) -> bool:
    """What a precision means on a device. ``auto`` stays in fp32 on every CPU, so that they all give the same rewards. Measured:
    bf16 makes a CPU with such instructions 1.4 times as fast and its rewards coarser, and one without several times slower."""
    return precision == "bf16" or (precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported())


def library_versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "safetensors": safetensors.__version__,
    }


@dataclass(frozen=True, slots=True)
class Scored:
    """A reward and where it comes from. ``reward``: stars. ``raw``: the model's own output, standardised by its training set.
    ``cut``: whether the text was too long and its middle left out. ``timestamp``: UTC. ``model_version``: the checkpoint's id.
    ``aspects``: rewards in stars of each aspect that the model learned."""

    reward: float
    raw: float
    cut: bool
    timestamp: str
    model_version: str
    aspects: dict[str, float] = field(default_factory=dict)


class RewardModel:
    """Tokenizer, network, and the scale of its rewards.

    ::

        model = RewardModel.open("checkpoints/reward-0123456789ab")
        model.compute_reward("How do I start?", "Call the career center.")
    """

    version = "untrained"

    def __init__(
        self, network: Network, tokenizer: Any, *, max_length: int, device: torch.device, scales: Sequence[StarScale] = (),
    ) -> None:  # fmt: skip
        self.network = network.to(device)
        self.tokenizer, self.device = tokenizer, device
        self.scales = list(scales) or new_scales(())
        self.step_reading: StepReading = "prefixes"
        self.precision: Precision = "auto"
        self.error_threshold: float | None = None  # stars; a step below it is taken for an error
        self.learned: Aggregate | None = None  # how an answer's reward follows from those of its steps
        self._padding = padding_of(network.config, tokenizer.pad_token_id)
        positions = getattr(network.config, "max_position_embeddings", None) or max_length
        if network.config.model_type in ("roberta", "xlm-roberta", "camembert"):
            positions -= self._padding + 1  # their positions begin behind the padding id
        self.max_length = min(max_length, positions)
        self._encoder = Encoder(tokenizer, self.max_length)

    @classmethod
    def from_base(
        cls, base: BaseModel, *, max_length: int, seed: int, device: torch.device, readout: Readout = "spans",
        aspects: Sequence[str] = (), frozen: int = 0, lengths: bool = False,
    ) -> RewardModel:  # fmt: skip
        """A pretrained model with a new, seeded readout. Rewards of it mean nothing yet.

        Args:
            base: Where it is.
            max_length: Longest input in tokens; less where the model has fewer positions.
            seed: Of the new readout.
            device: Where to put it.
            readout: ``spans``: our own, for steps in one pass and for aspects; ``class``: a classifier of ``transformers``.
            aspects: One more output for each.
            frozen: Lowest layers that will not learn.
            lengths: The new readout also sees how long a span is and where it stands.

        Raises:
            ModelUnavailable: neither found nor downloadable, or not a model that reads text.
        """
        set_seed(seed)
        tokenizer = load_tokenizer(base.load_from, base.name)
        network = load_network(
            base.load_from, base.name, readout, 1 + len(aspects), tokenizer.pad_token_id, frozen, lengths=lengths
        )  # fmt: skip
        return cls(network, tokenizer, max_length=max_length, device=device, scales=new_scales(aspects))

    @classmethod
    def from_checkpoint(cls, folder: Path, scoring: dict[str, Any], *, device: torch.device) -> RewardModel:
        """A trained model. The caller has verified the folder's hashes.

        Raises:
            CorruptArtifact: the files cannot be read as a model, or are of another version of this workbench.
        """
        try:
            scales = [StarScale.from_json(one) for one in scoring["scales"]]
            tokenizer = load_tokenizer(str(folder), folder.name)
            network = load_network(str(folder), folder.name, scoring["readout"], len(scales), tokenizer.pad_token_id)
            model = cls(network, tokenizer, max_length=int(scoring["max_length"]), device=device, scales=scales)
            model.step_reading = scoring["step_reading"]
            model.error_threshold = scoring["error_threshold"]
            model.learned = None if scoring["learned"] is None else Aggregate(**scoring["learned"])
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptArtifact(
                f"Checkpoint {folder.name} says how it scores in a way that this version does not read ({error}); it was made "
                "by another one. Train again, or use the version that made it."
            ) from error
        except ModelUnavailable as error:
            raise CorruptArtifact(f"Checkpoint {folder.name} cannot be read: {error}. Delete it and train again.") from error
        return model

    @classmethod
    def open(cls, path: str | Path, *, device: str = "auto", precision: Precision = "auto") -> RewardModel:
        """A checkpoint's model, its files checked against their hashes.

        Args:
            path: The checkpoint's folder.
            device: auto, cpu or cuda.
            precision: fp32, bf16, or auto: bf16 on a GPU.

        Raises:
            NotFound: there is no checkpoint.
            CorruptArtifact: it is damaged, or of another version of this workbench.
            ModelUnavailable: a GPU was asked for and there is none.
        """
        folder = Path(path).expanduser().resolve()
        checkpoint = open_checkpoint(folder.parent, folder.name, verify=True)
        model = cls.from_checkpoint(checkpoint.folder, checkpoint.manifest["scoring"], device=pick_device(device))
        model.version, model.precision = checkpoint.id, precision
        model.network.eval()
        return model

    @property
    def aspects(self) -> list[str]:
        """Aspects that it gives rewards of, beside the whole judgement."""
        return [one.aspect for one in self.scales[1:]]

    @overload
    def compute_reward(self, query: str, response: str, include_metadata: Literal[False] = False) -> float: ...
    @overload
    def compute_reward(self, query: str, response: str, include_metadata: Literal[True]) -> Scored: ...
    def compute_reward(self, query: str, response: str, include_metadata: bool = False) -> float | Scored:
        """The reward of one answer in stars; with metadata, a :class:`Scored`."""
        (encoded,) = self.encode([whole_answer(query, response)])
        outputs = self.outputs([encoded])[0]
        rewards = [float(scale.stars(outputs[k])) for k, scale in enumerate(self.scales)]
        if not include_metadata:
            return rewards[0]
        aspects = dict(zip(self.aspects, rewards[1:], strict=True))
        return Scored(rewards[0], float(outputs[0]), encoded.cut, utc_now(), self.version, aspects)

    def compute_batch_rewards(self, pairs: Iterable[tuple[str, str]]) -> list[float]:
        """Rewards in stars of any number of ``(query, answer)`` pairs, in the order given."""
        return list(self.iter_rewards(pairs))

    def iter_rewards(self, pairs: Iterable[tuple[str, str]]) -> Iterator[float]:
        """The same one after another, from any source of pairs; memory stays that of a few thousand."""
        for part in batched(pairs, SCORE_AT_ONCE):
            yield from self.score([whole_answer(query, answer) for query, answer in part])

    def score_steps(
        self, query: str, steps: Sequence[str], response: str | None = None, how: StepReading | None = None
    ) -> list[float]:
        """Rewards in stars of each step of an answer.

        Args:
            query: The question.
            steps: The reasoning steps in order.
            response: The whole answer that holds them, for what stands between them; without it, steps are joined by blank lines.
            how: ``prefixes`` reads, for each step, the answer up to and including it; ``one_pass`` reads the answer once, and a
                step of an encoder then knows what comes after it. Default: the way it was trained.

        Raises:
            InvalidInput: one pass with a classifier's own readout, which has one output for each text.
        """
        return self.score_steps_of([(query, steps, response)], how)[0]

    def score_steps_of(
        self, answers: Sequence[tuple[str, Sequence[str], str | None]], how: StepReading | None = None
    ) -> list[list[float]]:
        """The same of many answers, ``(query, steps, response)`` each, read together."""
        encoded = self.encode_steps(answers, how)
        outputs = self.outputs([part for some in encoded for part in some])
        rewards = iter(self.scales[0].stars(outputs[:, 0].astype(float)).tolist())
        return [[next(rewards) for part in some for _ in part.spans] for some in encoded]

    def encode_steps(
        self, answers: Sequence[tuple[str, Sequence[str], str | None]], how: StepReading | None = None
    ) -> list[list[Encoded]]:
        """What is read for the steps of each answer: all of them in one text, or a text each with what stands before it, where
        that was asked for or an answer is too long to read at once. The spans are the steps, in order."""
        how = how or self.step_reading
        if how == "one_pass" and not isinstance(self.network, SpanNetwork):
            raise InvalidInput("This model's readout is a classifier's, one reward for each text. Score its steps by prefixes.")
        found: list[list[Encoded]] = [[] for _ in answers]
        alone = [k for k in range(len(answers)) if answers[k][1]]
        if how == "one_pass":
            together = dict(zip(alone, self.encode([all_steps(*answers[k]) for k in alone]), strict=True))
            alone = [k for k, one in together.items() if one.lost]
            for k, one in together.items():
                if not one.lost:
                    found[k] = [one]
        readings = {k: step_readings(*answers[k]) for k in alone}
        encoded = iter(self.encode([one for some in readings.values() for one in some]))
        for k, some in readings.items():
            found[k] = [next(encoded) for _ in some]
        return found

    def score_answer_by_steps(self, query: str, steps: Sequence[str], response: str | None = None, how: How = "min") -> float:
        """One reward in stars of an answer from those of its steps, at least one.

        Args:
            query, steps, response: As of :meth:`score_steps`.
            how: ``min``, ``last``, ``mean``, ``product`` (of rewards as shares of 5 stars), or ``learned`` (as answers' ratings
                follow from their steps' in the validation data).

        Raises:
            InvalidInput: no steps, or it never learned how.
        """
        return aggregate_rewards(np.array(self.score_steps(query, steps, response)), how, self.learned)

    def first_error(self, query: str, steps: Sequence[str], response: str | None = None) -> int | None:
        """Index of the first step taken for an error, None where there is none.

        Raises:
            InvalidInput: its training data had no steps to fit the threshold on.
        """
        if self.error_threshold is None:
            raise InvalidInput("This model has no threshold for errors: its validation data had no chats with and without one.")
        found = first_below([np.array(self.score_steps(query, steps, response))], self.error_threshold)[0] if steps else -1
        return None if found < 0 else found

    @property
    def scoring(self) -> dict[str, Any]:
        """What a checkpoint's manifest keeps for :meth:`from_checkpoint`."""
        return {
            "max_length": self.max_length, "readout": self.network.readout_kind, "step_reading": self.step_reading,
            "scales": [one.to_json() for one in self.scales], "error_threshold": self.error_threshold,
            "learned": None if self.learned is None else self.learned.to_json(),
        }  # fmt: skip

    def encode(self, readings: Sequence[Reading]) -> list[Encoded]:
        """Token ids and spans: see :class:`rlhf_core.learn.reading.Encoder`."""
        return self._encoder.encode(readings)

    def forward(self, encoded: Sequence[Encoded]) -> Tensor:
        """Standardised outputs ``(N, heads)`` float32 of all spans, text after text."""
        return self.network(*self.inputs(encoded))

    def inputs(self, encoded: Sequence[Encoded]) -> tuple[Tensor, Tensor, Tensor]:
        """ids and mask ``(B, T)``, padded on the right, and spans ``(N, 3)``: row, first token, last token + 1."""
        ids, mask = padded([one.ids for one in encoded], self._padding)
        spans = torch.tensor([(row, *span) for row, one in enumerate(encoded) for span in one.spans])
        return ids.to(self.device), mask.to(self.device), spans.to(self.device)

    def outputs(self, encoded: Sequence[Encoded], precision: str | None = None) -> Floats:
        """``(N, heads)`` outputs of all spans, text after text in the order given; batches are made of like lengths."""
        return self._by_length(encoded, self.forward, precision, len(self.scales))

    def features(
        self, encoded: Sequence[Encoded], precision: str | None = None, on_read: Callable[[int, int], None] | None = None
    ) -> Floats:  # fmt: skip
        """``(N, F)``: what the readout sees of all spans. ``on_read`` is told how many of how many texts are read."""
        network = self.network
        assert isinstance(network, SpanNetwork)
        return self._by_length(
            encoded, lambda some: network.features(*self.inputs(some)), precision, network.readout.in_features, on_read
        )  # fmt: skip

    @torch.inference_mode()
    def _by_length(
        self, encoded: Sequence[Encoded], work: Any, precision: str | None, width: int,
        on_read: Callable[[int, int], None] | None = None,
    ) -> Floats:  # fmt: skip
        was_training = self.network.training
        self.network.eval()
        causal = isinstance(self.network, SpanNetwork) and self.network.causal
        texts, asked = fewest_texts(encoded, beginnings=causal)
        begins = np.cumsum([0, *(len(one.spans) for one in texts)])
        found = np.empty((begins[-1], width), np.float32)
        order, read = sorted(range(len(texts)), key=lambda k: len(texts[k].ids)), 0
        for batch in by_tokens(order, [len(one.ids) for one in texts], SCORE_BATCH_TOKENS[self.device.type]):
            with autocast(self.device, precision or self.precision):
                given = work([texts[k] for k in batch]).float().cpu().numpy()
            found[np.concatenate([np.arange(begins[k], begins[k + 1]) for k in batch])] = given
            read += len(batch)
            if on_read is not None:
                on_read(read, len(texts))
        self.network.train(was_training)
        return found[[begins[number] + place for number, place in asked]]

    def score(self, readings: Sequence[Reading]) -> list[float]:
        """Rewards in stars of all spans, reading after reading."""
        return self.scales[0].stars(self.outputs(self.encode(readings))[:, 0].astype(float)).tolist()

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), config and tokenizer."""
        check_saved(folder, self.network.save)
        self.tokenizer.save_pretrained(folder)
