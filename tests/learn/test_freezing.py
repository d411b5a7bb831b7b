from pathlib import Path

import pytest
import torch

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.learn import freezing
from rlhf_core.learn.freezing import Frozen
from rlhf_core.learn.networks import layers_of
from rlhf_core.learn.reading import whole_answer
from rlhf_core.learn.reward_model import RewardModel

TEXTS = [whole_answer("solar job", "visit " * n) for n in (3, 1, 12, 7)]


@pytest.fixture
def model(tiny_encoder: Path) -> RewardModel:
    one = RewardModel.from_base(locate(str(tiny_encoder)), max_length=64, seed=3, device=torch.device("cpu"))
    one.network.train()
    return one


def test_frozen_layers_keep_their_weights_and_the_others_learn(model: RewardModel) -> None:
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    frozen = Frozen(model.network.body, 1)
    assert (frozen.count, len(layers_of(model.network))) == (1, 2)
    optimiser = torch.optim.SGD([one for one in model.network.parameters() if one.requires_grad], lr=0.1)
    model.forward(model.encode(TEXTS)).square().sum().backward()
    optimiser.step()
    moved = {name for name, tensor in model.network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not [name for name in moved if "embeddings" in name or "layer.0." in name]
    assert [name for name in moved if "layer.1." in name]
    assert "readout.weight" in moved


def test_what_is_remembered_gives_the_same_outputs_and_gradients(model: RewardModel) -> None:
    model.network.eval()
    frozen = Frozen(model.network.body, 1)
    encoded = model.encode(TEXTS)
    plain = model.forward([encoded[k] for k in (2, 0)])
    plain.sum().backward()
    weight = next(one for name, one in model.network.named_parameters() if "layer.1." in name and name.endswith("weight"))
    assert weight.grad is not None
    gradient = weight.grad.clone()
    assert frozen.remember(encoded, model.forward, model.network.config.hidden_size)
    model.network.zero_grad()
    embedded = 0

    def count(*_: object) -> None:
        nonlocal embedded
        embedded += 1

    layers_of(model.network)[0].attention.register_forward_hook(count)
    with frozen.recalling([2, 0], model.device):
        recalled = model.forward([encoded[k] for k in (2, 0)])
        recalled.sum().backward()
    assert embedded == 0  # the frozen layer did not run
    assert recalled.flatten().tolist() == pytest.approx(plain.flatten().tolist(), abs=5e-3)
    assert weight.grad.flatten().tolist() == pytest.approx(gradient.flatten().tolist(), abs=5e-2)
    assert model.forward([encoded[1]]).tolist()[0] == pytest.approx(model.forward(encoded).tolist()[1], abs=1e-5)
    assert embedded == 2


def test_what_does_not_fit_is_computed_each_time(model: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "STORE_AT_MOST", 100)
    frozen = Frozen(model.network.body, 1)
    encoded = model.encode(TEXTS)
    assert not frozen.remember(encoded, model.forward, model.network.config.hidden_size)
    model.network.eval()
    expected = model.forward(encoded).tolist()
    with frozen.recalling([0, 1, 2, 3], model.device):
        assert model.forward(encoded).tolist() == expected


def test_nothing_frozen_changes_nothing(model: RewardModel) -> None:
    frozen = Frozen(model.network.body, 0)
    assert frozen.count == 0
    assert not frozen.remember(model.encode(TEXTS), model.forward, 8)
    assert all(one.requires_grad for one in model.network.parameters())
    assert Frozen(model.network.body, 99).count == 2


def test_frozen_dropout_is_off(model: RewardModel) -> None:
    frozen = Frozen(model.network.body, 1)
    model.network.train()
    frozen.settle()
    assert [layer.training for layer in layers_of(model.network)] == [False, True]
