"""Tiny causal models with their tokenizers, made on the spot, and a learner over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlhf_core.checkpoints.registry import Checkpoint, seal
from rlhf_core.ground.configs import PPOConfig
from rlhf_core.ground.files import building
from rlhf_core.ground.text import before_answer
from rlhf_core.learn.adapters import adapted
from rlhf_core.learn.policy import Policy
from rlhf_core.learn.ppo import Learner
from rlhf_core.learn.rewards import Answer

QUERIES = [
    f"how do I start as a {role} in {place}" for role in ("roofer", "solar installer") for place in ("Ohio", "Lynn", "Boston")
]
TEXTS = [
    "1. Call the career center.\n2. Ask for the voucher because it pays.\n3. Begin.", "1. Take a course.\n2. Join a union.",
    *QUERIES,
]  # fmt: skip


def tiny_tokenizer() -> Any:
    """Byte-level BPE: any text can be written with it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<pad>", "<end>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([before_answer(text) + text for text in TEXTS] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")


def save_policy(folder: Path, model: Any, tokenizer: Any) -> Path:
    """As a folder that any tool opens."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def policy_checkpoint(checkpoints: Path, model: Any = None, tokenizer: Any = None, run_id: str = "run-p") -> Checkpoint:
    """Of this model, or of a tiny one."""
    tokenizer = tokenizer or tiny_tokenizer()
    model = model or tiny_llama(tokenizer)
    with building(checkpoints) as scratch:
        save_policy(scratch, model, tokenizer)
        return seal(
            scratch, checkpoints, kind="policy", run_id=run_id, snapshot_id="", parent="tiny", complete=True, config={},
            metrics={}, scoring={}, libraries={},
        )  # fmt: skip


def tiny_llama(tokenizer: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=256, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, initializer_range=0.2,
    )).eval()  # fmt: skip


def tiny_gpt2(tokenizer: Any, seed: int = 0) -> Any:
    """Learned positions: a row padded on the left is read wrongly where position ids are forgotten."""
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=256, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.eos_token_id, initializer_range=0.2,
    )).eval()  # fmt: skip


MODELS: dict[str, Callable[..., Any]] = {"llama": tiny_llama, "gpt2": tiny_gpt2}


def with_adapters(model: Any) -> Any:
    torch.manual_seed(1)
    return adapted(model, rank=4, alpha=8, task="CAUSAL_LM")


def counts_e(answers: Sequence[Answer]) -> list[list[float]]:
    """A reward that any model can raise."""
    return [[step.count("e") / 4 for step in one.steps] or [one.text.count("e") / 4] for one in answers]


def learner(model: Any, tokenizer: Any, critic: Any = "shared", source: Any = counts_e, **options: Any) -> Learner:
    """On the CPU, with values that are not all zero."""
    values = {
        "base_model": "tiny", "batch_size": 6, "mini_batch_size": 3, "max_response_tokens": 20, "min_response_tokens": 20,
        "ppo_learning_rate": 1e-3, "seed": 3, "target_kl": None,
    }  # fmt: skip
    policy = Policy(model, critic)
    torch.manual_seed(5)
    torch.nn.init.normal_(policy.value_head.weight, std=0.1)
    return Learner(policy, tokenizer, source, PPOConfig.parse(values | options), lambda query: encode(tokenizer, query))


def encode(tokenizer: Any, query: str) -> list[int]:
    return list(tokenizer(before_answer(query).rstrip()).input_ids)
