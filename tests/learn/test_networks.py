"""Bases of other families, with what each does differently: padding tokens, positions, sides, layers, heads."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    T5Config,
    ViTConfig,
)

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, ModelUnavailable
from rlhf_core.learn.adapters import add_adapters, merge_adapters
from rlhf_core.learn.freezing import Frozen
from rlhf_core.learn.networks import SpanNetwork, layers_of, span_lengths, span_means
from rlhf_core.learn.reading import step_readings, whole_answer
from rlhf_core.learn.reward_model import RewardModel
from rlhf_core.learn.scales import StarScale

CPU = torch.device("cpu")
WORDS = ["[PAD]", "[UNK]", "<s>", "</s>", "User", ":", "Assistant", "go", "to", "the", "career", "center", "and", "ask", "for",
         "a", "voucher", "visit", "start"]  # fmt: skip
SIZES = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: BertConfig(**SIZES, max_position_embeddings=48),
    "roberta": lambda: RobertaConfig(**SIZES, max_position_embeddings=48, pad_token_id=0),
    "gpt2": lambda: GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=3, n_head=2, n_positions=48),
    "llama": lambda: LlamaConfig(**SIZES, num_key_value_heads=1, max_position_embeddings=48),
}
READINGS = [
    whole_answer("start", "go to the career center and ask"),
    whole_answer("start", "visit"),
    whole_answer("go", "ask for a voucher"),
]


@pytest.fixture
def base(tmp_path: Path) -> Callable[..., Path]:
    def make(kind: str, *, padding: bool = True) -> Path:
        folder = tmp_path / kind
        bare = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="[UNK]"))
        bare.pre_tokenizer = pre_tokenizers.Whitespace()
        tokens = {"unk_token": "[UNK]", "eos_token": "</s>"} | ({"pad_token": "[PAD]"} if padding else {})
        PreTrainedTokenizerFast(tokenizer_object=bare, padding_side="left", **tokens).save_pretrained(folder)
        torch.manual_seed(0)
        AutoModel.from_config(CONFIGS[kind]()).save_pretrained(folder)
        return folder

    return make


def model(folder: Path, **options: Any) -> RewardModel:
    return RewardModel.from_base(locate(str(folder)), **{"max_length": 64, "seed": 3, "device": CPU} | options)


def test_span_means_by_hand() -> None:
    states = torch.tensor([[[1.0], [2.0], [6.0], [99.0]], [[4.0], [8.0], [0.0], [0.0]]])
    spans = torch.tensor([[0, 1, 3], [1, 0, 2], [0, 0, 1]])
    assert span_means(states, spans).tolist() == [[3.0, 4.0], [6.0, 6.0], [1.0, 1.0]]


def test_span_lengths_by_hand() -> None:
    (found,) = span_lengths(torch.tensor([[0, 3, 5]])).tolist()
    logs = [math.log(2), math.log(5), math.log(4)]
    assert found == pytest.approx([*logs, *(one**2 for one in logs)])


def test_a_readout_that_sees_lengths_is_kept_as_one(base: Callable[..., Path], tmp_path: Path) -> None:
    one = model(base("bert"), lengths=True)
    with torch.no_grad():
        one.network.readout.weight.zero_()
        one.network.readout.weight[0, -6] = 1.0  # the logarithm of a span's tokens
    rewards = one.outputs(one.encode(READINGS))[:, 0]
    assert rewards[0] > rewards[2] > rewards[1]
    one.save(tmp_path / "saved")
    again = RewardModel.from_checkpoint(tmp_path / "saved", one.scoring, device=CPU)
    assert again.outputs(again.encode(READINGS))[:, 0] == pytest.approx(rewards)
    assert not model(base("bert")).network.lengths


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_family_reads_saves_and_opens(base: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    one = model(base(kind, padding=kind != "gpt2"), aspects=["clear"])
    assert one.max_length == (47 if kind == "roberta" else 48)  # RoBERTa's positions begin behind its padding token
    together = one.outputs(one.encode(READINGS))
    assert together.shape == (3, 2)
    for k, reading in enumerate(READINGS):  # padding changes nothing
        assert together[k] == pytest.approx(one.outputs(one.encode([reading]))[0], abs=1e-5)
    long = one.compute_reward("start", "visit " * 400, include_metadata=True)
    assert (long.cut, list(long.aspects)) == (True, ["clear"])
    one.scales = [StarScale("", 3.3, 1.2), StarScale("clear", thresholds=(-1.0, 0.0, 1.0, 2.0))]
    (tmp_path / "saved").mkdir()
    one.save(tmp_path / "saved")
    again = RewardModel.from_checkpoint(tmp_path / "saved", one.scoring, device=CPU)
    assert again.outputs(again.encode(READINGS)) == pytest.approx(together, abs=1e-6)
    assert (again.aspects, again.scales) == (["clear"], one.scales)
    assert len(layers_of(one.network)) == 3


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_what_follows_a_step_is_hidden_from_a_causal_model(base: Callable[..., Path], kind: str) -> None:
    one, steps = model(base(kind)), ["go to the career center", "ask for a voucher", "visit"]
    assert one.score_steps("start", steps, how="one_pass") == pytest.approx(one.score_steps("start", steps), abs=1e-5)


@pytest.mark.parametrize("kind", CONFIGS)
def test_beginnings_are_read_with_what_they_begin_by_a_causal_model_alone(base: Callable[..., Path], kind: str) -> None:
    one, steps = model(base(kind)), ["go to the career center", "ask for a voucher", "visit", "and ask"]
    causal = kind in ("gpt2", "llama")
    assert one.network.causal == causal
    alone = [one.score([reading])[0] for reading in step_readings("start", steps)]
    read: list[int] = []
    one.network.register_forward_pre_hook(lambda _, given: read.append(len(given[0])))
    assert one.score_steps("start", steps, how="prefixes") == pytest.approx(alone, abs=1e-5)
    assert sum(read) == (1 if causal else 4)
    again = RewardModel.from_base(locate(str(base(kind))), max_length=64, seed=3, device=CPU, readout="class")
    assert len(set(again.score_steps("start", steps))) == 4


def test_a_step_that_was_cut_from_one_pass_is_read_on_its_own(base: Callable[..., Path]) -> None:
    one, steps = model(base("gpt2")), ["go to the career center", "visit " * 60, "ask for a voucher"]
    rewards = one.score_steps("start", steps, how="one_pass")
    assert rewards == pytest.approx(one.score_steps("start", steps, how="prefixes"), abs=1e-5)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_readout_of_transformers(base: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    one = model(base(kind, padding=False), readout="class")
    together = one.outputs(one.encode(READINGS))
    for k, reading in enumerate(READINGS):
        assert together[k] == pytest.approx(one.outputs(one.encode([reading]))[0], abs=1e-5)
    with pytest.raises(InvalidInput, match="by prefixes"):
        one.score_steps("start", ["go", "ask"], how="one_pass")
    (tmp_path / "saved").mkdir()
    one.save(tmp_path / "saved")
    again = RewardModel.from_checkpoint(tmp_path / "saved", one.scoring, device=CPU)
    assert again.outputs(again.encode(READINGS)) == pytest.approx(together, abs=1e-6)
    assert AutoConfig.from_pretrained(tmp_path / "saved").num_labels == 1


def train_a_little(one: RewardModel, steps: int = 3) -> list[str]:
    """Names of the parameters that moved."""
    before = {name: some.clone() for name, some in one.network.named_parameters()}
    optimiser = torch.optim.SGD([some for some in one.network.parameters() if some.requires_grad], lr=0.01)
    one.network.train()
    for _ in range(steps):
        one.forward(one.encode(READINGS)).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    one.network.eval()
    return [name for name, some in one.network.named_parameters() if not torch.equal(some, before[name])]


@pytest.mark.parametrize("kind", CONFIGS)
def test_adapters_learn_alone_and_are_merged(base: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    one = model(base(kind))
    adapted = add_adapters(one.network, rank=2, alpha=4)
    moved = train_a_little(one)
    assert moved
    assert all("lora" in name or name.startswith("readout") for name in moved)
    outputs = one.outputs(one.encode(READINGS))
    merge_adapters(one.network, adapted)
    assert not [name for name, _ in one.network.named_parameters() if "lora" in name]
    (tmp_path / "saved").mkdir()
    one.save(tmp_path / "saved")
    again = RewardModel.from_checkpoint(tmp_path / "saved", one.scoring, device=CPU)
    assert again.outputs(again.encode(READINGS)) == pytest.approx(outputs, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", CONFIGS)
def test_checkpointed_gradients_are_the_same(base: Callable[..., Path], kind: str) -> None:
    folder = base(kind)
    found = []
    for checkpointed in (False, True):
        one = model(folder)
        if checkpointed:
            one.network.body.activation_checkpointing_enable({"use_reentrant": False})
        one.network.train()
        for module in one.network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        one.forward(one.encode(READINGS)).square().sum().backward()
        found.append({name: some.grad.clone() for name, some in one.network.named_parameters() if some.grad is not None})
    plain, saving = found
    assert plain.keys() == saving.keys()
    assert all(torch.allclose(plain[name], saving[name], atol=1e-5) for name in plain)


@pytest.mark.parametrize("kind", CONFIGS)
def test_frozen_layers_of_every_family(base: Callable[..., Path], kind: str) -> None:
    one = model(base(kind), frozen=2)
    frozen = Frozen(one.network.body, 2)
    one.network.eval()
    encoded = one.encode(READINGS)
    plain = one.forward([encoded[k] for k in (2, 0)])
    assert isinstance(one.network, SpanNetwork)
    assert frozen.remember(encoded, one.forward, one.network.config.hidden_size)
    with frozen.recalling([2, 0], CPU):
        assert torch.allclose(one.forward([encoded[k] for k in (2, 0)]), plain, atol=5e-3)
    moved = train_a_little(one)
    first = [
        name for name in moved if any(part in name for part in ("layer.0.", "layer.1.", "layers.0.", "h.0.", "h.1.", "embed"))
    ]
    assert moved
    assert not first


def test_bases_that_read_no_text(base: Callable[..., Path], tmp_path: Path) -> None:
    folder = base("bert")
    for name, config, words in (
        ("t5", T5Config(vocab_size=20, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2), "an encoder and a decoder"),
        ("vit", ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32),
         "does not read text"),
    ):  # fmt: skip
        other = tmp_path / name
        other.mkdir()
        for file in folder.glob("*token*"):
            (other / file.name).write_bytes(file.read_bytes())
        AutoModel.from_config(config).save_pretrained(other)
        with pytest.raises(ModelUnavailable, match=words):
            model(other)


def test_a_tokenizer_with_nothing_to_pad_with(base: Callable[..., Path]) -> None:
    folder = base("bert")
    bare = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}))
    PreTrainedTokenizerFast(tokenizer_object=bare).save_pretrained(folder)
    with pytest.raises(ModelUnavailable, match="no padding, end or unknown token"):
        model(folder)


def test_a_checkpoint_of_another_version(base: Callable[..., Path], tmp_path: Path) -> None:
    one = model(base("bert"))
    (tmp_path / "saved").mkdir()
    one.save(tmp_path / "saved")
    with pytest.raises(CorruptArtifact, match=r"another one\. Train again"):
        RewardModel.from_checkpoint(tmp_path / "saved", {"mean": 3.0, "std": 1.0, "max_length": 64}, device=CPU)
