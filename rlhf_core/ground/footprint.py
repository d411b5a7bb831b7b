"""What a run will need of a machine, from the shapes of its models: an estimate that says which of its parts is the largest.

Bytes of one weight: 4 in float32; learning takes 4 more for its gradient and 8 for AdamW's two moments, and 4 for the copy of the
best ones so far. Activations kept for learning: about 34 bytes a token, layer and unit of width in 16 bits and twice that in 32
(Korthikanti et al. 2022, arXiv 2205.05198, section 4), and the attention's scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MB = 2**20
WEIGHT, LEARNING, BEST = 4, 12, 4  # bytes of one
OVERHEAD_MB = {"cpu": 450, "gpu": 900}  # Python with torch and its libraries; a CUDA context with its workspaces
RECOMPUTED = 0.15  # of activations, with gradient checkpointing
READING = 0.1  # of activations, where nothing is learned from them


@dataclass(frozen=True, slots=True)
class Size:
    """Of a transformer: weights in all, layers, width, attention heads, and tokens of its vocabulary."""

    parameters: int
    layers: int
    hidden: int
    heads: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Part:
    """MiB that one thing takes, in words."""

    what: str
    mb: float


def weights(size: Size, *, learns: bool, what: str, lora_rank: int | None = None) -> list[Part]:
    """Of one model in float32; of ``lora_rank`` only adapters of its four attention matrices and its feed-forward ones learn."""
    found = [Part(f"weights of {what}", size.parameters * WEIGHT / MB)]
    if learns:
        learning = size.parameters if lora_rank is None else size.layers * 16 * size.hidden * lora_rank
        found.append(Part(f"gradients and moments of {what}", learning * (LEARNING + BEST) / MB))
    return found


def activations(size: Size, tokens: int, length: int, *, learns: bool, bf16: bool, checkpointing: bool = False) -> float:
    """MiB for ``tokens`` padded tokens in rows of at most ``length``, read at once."""
    wide = 34 if bf16 else 68
    scores = (2 if bf16 else 4) * 2 * size.heads * length
    share = (RECOMPUTED if checkpointing else 1.0) if learns else READING
    return size.layers * tokens * (wide * size.hidden + scores) * share / MB


def logits(size: Size, tokens: int, *, copies: int = 3) -> float:
    """MiB of scores for the whole vocabulary, in float32: they, their softmax and their gradient."""
    return tokens * size.vocabulary * 4 * copies / MB


def cache(size: Size, rows: int, length: int) -> float:
    """MiB of keys and values while answers are sampled, in float32."""
    return 2 * size.layers * rows * length * size.hidden * 4 / MB


def total(parts: list[Part], device: str) -> int:
    """MiB in all, with what every process needs."""
    return math.ceil(sum(part.mb for part in parts) + OVERHEAD_MB["cpu" if device == "cpu" else "gpu"])
