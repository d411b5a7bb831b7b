"""A policy small enough for any machine: half a million weights and a vocabulary of the texts at hand. It knows nothing yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

WORDS = 2000
CONTEXT = 512
WIDTH = 128


def tiny_policy(texts: Iterable[str], seed: int) -> tuple[Any, Any]:
    """A new model and its tokenizer, byte-level BPE, so that any text can be written.

    Args:
        texts: What it will read and write; pieces of words that are frequent there become tokens.
        seed: Of the weights.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS, min_frequency=2, special_tokens=["<pad>", "<end>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=CONTEXT, padding_side="left")
    fast.add_special_tokens({"pad_token": "<pad>", "eos_token": "<end>"})
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=WIDTH, intermediate_size=3 * WIDTH, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=CONTEXT, pad_token_id=fast.pad_token_id, eos_token_id=fast.eos_token_id,
        bos_token_id=None, tie_word_embeddings=True,
        initializer_range=WIDTH**-0.5,  # with the usual 0.02 so narrow a model learns several times slower
    )  # fmt: skip
    return LlamaForCausalLM(config), fast
