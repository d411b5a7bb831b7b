"""A policy that writes answers: loading one, its prompt, and several answers to a query at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rlhf_core.checkpoints.base_models import BaseModel, offline_choices
from rlhf_core.ground.errors import InvalidInput, ModelUnavailable
from rlhf_core.ground.text import before_answer


def load_policy(base: BaseModel) -> tuple[Any, Any]:
    """A causal model in float32 and its tokenizer.

    Raises:
        ModelUnavailable: it cannot be loaded, writes no text, or has no end token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.load_from)
        kind = AutoConfig.from_pretrained(base.load_from)
        if (
            kind.is_encoder_decoder
            or type(kind) not in AutoModelForCausalLM._model_mapping
            or kind.model_type in ("bert", "roberta")
        ):
            raise ModelUnavailable(
                f"{base.name!r} is a {kind.model_type} model, which writes no text from left to right. Choose a causal model; "
                "`python -m rlhf_core demo` makes a tiny one."
            )
        model = AutoModelForCausalLM.from_pretrained(base.load_from, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelUnavailable(
            f"The policy {base.name!r} could not be loaded: {line} If it is a hub name, the hub does not answer or does not know "
            f"it. {offline_choices()}"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelUnavailable(
            f"The tokenizer of {base.name!r} has no end token, so its answers would never end; use another one."
        )
    return model, tokenizer


def prompt_of(query: str, tokenizer: Any) -> str:
    """What a policy is given: by the tokenizer's chat template where it has one, otherwise ``User: ... Assistant:`` as reward
    models read it."""
    if not tokenizer.chat_template:
        return before_answer(query).rstrip()
    message = [{"role": "user", "content": query}]
    return str(tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False))


def reply_of(answer: str, tokenizer: Any) -> str:
    """What follows it, without an end token."""
    return answer if tokenizer.chat_template else f" {answer}"


def prompt_ids(query: str, tokenizer: Any) -> list[int]:
    """Its token ids, without an end token behind them."""
    templated = bool(tokenizer.chat_template)  # which writes special tokens itself
    ids = list(tokenizer(prompt_of(query, tokenizer), add_special_tokens=not templated, verbose=False).input_ids)
    while not templated and len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
        ids = ids[:-1]
    return ids


@dataclass(frozen=True, slots=True)
class Written:
    """An answer. ``ended``: the policy ended it itself; False where it had no tokens left."""

    text: str
    ended: bool


class Writer:
    """A policy in memory.

    Args:
        model: A causal model of ``transformers``.
        tokenizer: Its own, with an end token.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.network, self.tokenizer = model.eval(), tokenizer
        self.device = torch.device("cpu")

    @classmethod
    def load(cls, base: BaseModel) -> Writer:
        """
        Raises:
            ModelUnavailable: as of :func:`load_policy`.
        """
        return cls(*load_policy(base))

    @torch.inference_mode()
    def write(
        self, query: str, count: int, *, max_tokens: int, temperature: float = 1.0, top_p: float = 1.0, seed: int = 0
    ) -> list[Written]:
        """So many answers to one query, sampled together.

        Args:
            query: The question.
            count: Answers; one where ``temperature`` is 0, because they would all be the same.
            max_tokens: Of an answer.
            temperature: 0 takes the likeliest token each time.
            top_p: Tokens are drawn from the likeliest ones that have this probability together.
            seed: Of what is drawn.

        Raises:
            InvalidInput: prompt and answer are longer than the policy's context.
        """
        ids = prompt_ids(query, self.tokenizer)
        context = getattr(self.network.config.get_text_config(), "max_position_embeddings", None) or 2**30
        if len(ids) + max_tokens > context:
            raise InvalidInput(
                f"The question has {len(ids)} tokens and the answer may have {max_tokens}; this policy reads {context} in all. "
                "Ask for a shorter answer, or shorten the question."
            )
        given = torch.tensor([ids], device=self.device)
        end = self.tokenizer.eos_token_id
        drawing: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            drawing = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0, "num_return_sequences": count}
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            out = self.network.generate(
                input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=max_tokens, eos_token_id=end,
                pad_token_id=self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else end, **drawing,
            )  # fmt: skip
        found = []
        for row in out[:, len(ids) :].tolist():
            ended = end in row
            text = self.tokenizer.decode(row[: row.index(end)] if ended else row, skip_special_tokens=True)
            found.append(Written(text.strip(), ended))
        return found
