"""A policy that writes answers: loading one, its prompt, and several answers to a query at once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers.decoders import DecodeStream
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.generation.logits_process import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from rlhf_core.checkpoints.base_models import BaseModel, offline_choices
from rlhf_core.ground.errors import InvalidInput, ModelUnavailable
from rlhf_core.ground.text import before_answer, storable
from rlhf_core.learn.batching import padded
from rlhf_core.learn.reward_model import autocast


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


def prompt_ids(query: str, tokenizer: Any, begun: str = "") -> list[int]:
    """Its token ids, and those of what the answer begins with, without an end token behind them."""
    templated = bool(tokenizer.chat_template)  # which writes special tokens itself
    text = prompt_of(query, tokenizer) + (reply_of(begun, tokenizer) if begun else "")
    ids = list(tokenizer(text, add_special_tokens=not templated, verbose=False).input_ids)
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
        self.precision = "fp32"

    @classmethod
    def load(cls, base: BaseModel) -> Writer:
        """
        Raises:
            ModelUnavailable: as of :func:`load_policy`.
        """
        return cls(*load_policy(base))

    def write(
        self, query: str, count: int, *, max_tokens: int, temperature: float = 1.0, top_p: float = 1.0, seed: int = 0,
        begun: str = "",
    ) -> list[Written]:  # fmt: skip
        """So many answers to one query, sampled together.

        Args:
            query: The question.
            count: Answers; one where ``temperature`` is 0, because they would all be the same.
            max_tokens: Of an answer.
            temperature: 0 takes the likeliest token each time.
            top_p: Tokens are drawn from the likeliest ones that have this probability together.
            seed: Of what is drawn.
            begun: What each answer begins with; written is what follows it, with the white space between the two.

        Raises:
            InvalidInput: prompt and answer are longer than the policy's context.
        """
        ids = torch.tensor([self._prompt(query, begun, max_tokens)])
        return self._generate(ids, torch.ones_like(ids), max_tokens, temperature, top_p, seed, count, begun=bool(begun))

    def _generate(
        self, ids: torch.Tensor, mask: torch.Tensor, max_tokens: int, temperature: float, top_p: float, seed: int, count: int, *,
        begun: bool,
    ) -> list[Written]:  # fmt: skip
        """``count`` answers to each prompt, a row each of ``ids`` and ``mask`` ``(B, T)``, padded on the left."""
        drawing: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            drawing = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0, "num_return_sequences": count}
        with (
            torch.inference_mode(), torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []),
            autocast(self.device, self.precision),
        ):  # fmt: skip
            torch.manual_seed(seed)
            out = self.network.generate(
                input_ids=ids.to(self.device), attention_mask=mask.to(self.device), max_new_tokens=max_tokens,
                eos_token_id=self._end, pad_token_id=self._pad, **drawing,
            )  # fmt: skip
        found = []
        for row in out[:, ids.shape[1] :].tolist():
            ended = self._end in row
            text = self.tokenizer.decode(row[: row.index(self._end)] if ended else row, skip_special_tokens=True)
            text = storable(text)
            found.append(Written(text.rstrip() if begun else text.strip(), ended))
        return found

    def fits(self, query: str, max_tokens: int) -> bool:
        """Whether prompt and answer are no longer than the policy's context."""
        return len(prompt_ids(query, self.tokenizer)) + max_tokens <= self._context

    def write_each(
        self, queries: Sequence[str], *, max_tokens: int, temperature: float = 1.0, top_p: float = 1.0, seed: int = 0
    ) -> list[Written]:
        """One answer to each query, all sampled together. Arguments and errors as of :meth:`write`."""
        ids, mask = padded([self._prompt(query, "", max_tokens) for query in queries], self._pad, left=True)
        return self._generate(ids, mask, max_tokens, temperature, top_p, seed, 1, begun=False)

    def stream(
        self, query: str, *, max_tokens: int, temperature: float = 1.0, top_p: float = 1.0, seed: int = 0, begun: str = ""
    ) -> Generator[str, None, bool]:
        """The one answer that :meth:`write` gives for the same arguments, token by token as it is drawn.

        Yields:
            What a token adds, which may be nothing: half a character waits for its other half.

        Returns:
            Whether the policy ended it itself.

        Raises:
            InvalidInput: as of :meth:`write`, before anything is read.
        """
        ids = self._prompt(query, begun, max_tokens)
        return self._stream(ids, max_tokens, temperature, top_p, seed)

    def _stream(
        self, ids: list[int], max_tokens: int, temperature: float, top_p: float, seed: int
    ) -> Generator[str, None, bool]:  # fmt: skip
        drawn = torch.Generator(self.device).manual_seed(seed)
        shape = LogitsProcessorList()
        if temperature > 0 and temperature != 1:
            shape.append(TemperatureLogitsWarper(temperature))
        if temperature > 0 and top_p < 1:
            shape.append(TopPLogitsWarper(top_p))
        given, cache, shown = torch.tensor([ids], device=self.device), None, 0
        tokens: list[int] = []
        text_of, ended = self._decoder(), False
        while len(tokens) < max_tokens:
            with torch.inference_mode():
                out = self.network(input_ids=given, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache, scores = out.past_key_values, shape(given, out.logits[:, -1].float())  # type: ignore[arg-type]
                given = (
                    torch.multinomial(scores.softmax(-1), 1, generator=drawn) if temperature > 0 else scores.argmax(-1)[:, None]
                )
            token = int(given)
            if ended := token == self._end:
                break
            tokens.append(token)
            piece = text_of(token)
            shown += len(piece)
            yield storable(piece)
        rest = self.tokenizer.decode(tokens, skip_special_tokens=True)[shown:]
        if rest:  # half a character
            yield storable(rest)
        return ended

    def _decoder(self) -> Callable[[int], str]:
        """What each token adds to the text, one after another."""
        if self.tokenizer.is_fast:
            decoder, tokenizer = DecodeStream(skip_special_tokens=True), self.tokenizer.backend_tokenizer
            return lambda token: decoder.step(tokenizer, token) or ""
        tokens: list[int] = []
        shown = ""

        def text_of(token: int) -> str:
            nonlocal shown
            tokens.append(token)
            before, text = shown, self.tokenizer.decode(tokens, skip_special_tokens=True)
            if not text.endswith("\ufffd"):
                shown = text
            return shown[len(before) :]

        return text_of

    @property
    def _end(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def _pad(self) -> int:
        return self._end if self.tokenizer.pad_token_id is None else int(self.tokenizer.pad_token_id)

    @property
    def _context(self) -> int:
        return getattr(self.network.config.get_text_config(), "max_position_embeddings", None) or 2**30

    def _prompt(self, query: str, begun: str, max_tokens: int) -> list[int]:
        ids = prompt_ids(query, self.tokenizer, begun)
        if len(ids) + max_tokens > self._context:
            raise InvalidInput(
                f"The question has {len(ids)} tokens and the answer may have {max_tokens}; this policy reads {self._context} in "
                "all. Ask for a shorter answer, or shorten the question."
            )
        return ids
