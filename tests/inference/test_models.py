"""Models in memory: within a budget, the oldest first to go, each where it was asked for."""

import time
from pathlib import Path

import pytest
import torch

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.checkpoints.registry import seal
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, ModelUnavailable, NotFound
from rlhf_core.ground.files import building
from rlhf_core.inference.models import WarmModels, body_hash
from rlhf_core.learn.reward_model import RewardModel
from rlhf_core.services.workbench import Workbench
from tests.e2e.test_compare import reward_checkpoint
from tests.learn.policies import policy_checkpoint


def refs(workbench: Workbench, tiny_encoder: Path, count: int) -> list[dict[str, str]]:
    return [{"checkpoint": reward_checkpoint(workbench, tiny_encoder, seed).id} for seed in range(count)]


def test_the_oldest_goes_when_there_is_no_room(workbench: Workbench, tiny_encoder: Path) -> None:
    one, other, third = refs(workbench, tiny_encoder, 3)
    folder = workbench.workspace.checkpoints
    size = WarmModels(folder, 1e6)
    size.reward_model(one, "cpu")
    models = WarmModels(folder, 2.5 * size.size_mb)
    first = models.reward_model(one, "cpu")
    second = models.reward_model(other, "cpu")
    assert models.reward_model(one, "auto") is first
    models.reward_model(third, "cpu")
    assert len(models) == 2
    assert models.size_mb <= 2.5 * size.size_mb
    assert models.reward_model(one, "cpu") is first, "it was asked for after the second"
    assert models.reward_model(other, "cpu") is not second
    tiny = WarmModels(folder, 0.001)
    tiny.reward_model(one, "cpu")
    tiny.reward_model(other, "cpu")
    assert len(tiny) == 1, "one that is too large is kept alone"


def test_what_nobody_asks_for_is_let_go(workbench: Workbench, tiny_encoder: Path) -> None:
    one, other = refs(workbench, tiny_encoder, 2)
    models = WarmModels(workbench.workspace.checkpoints, 1e6)
    models.reward_model(one, "cpu")
    time.sleep(0.2)
    models.reward_model(other, "cpu")
    assert models.let_go(0.15) == 1
    assert models.let_go(60) == 0
    assert len(models) == 1


def test_one_body_is_known_by_its_weights(workbench: Workbench, tiny_encoder: Path) -> None:
    models = WarmModels(workbench.workspace.checkpoints, 1e6)
    one, other = (models.reward_model(ref, "cpu") for ref in refs(workbench, tiny_encoder, 2))
    assert one.body is not None
    assert one.group == other.group, "only a pooler that nothing reads, and the readout, were drawn anew"
    assert one.model.version != other.model.version
    learned = RewardModel.from_checkpoint(
        workbench.workspace.checkpoints / one.model.version, one.model.scoring, device=one.model.device
    )
    learned.network.body.embeddings.word_embeddings.weight.data[5] += 0.01
    with building(workbench.workspace.checkpoints) as scratch:
        learned.save(scratch)
        moved = seal(
            scratch, workbench.workspace.checkpoints, kind="reward", run_id="moved", snapshot_id="", parent="", complete=True,
            config={}, metrics={}, scoring=learned.scoring, libraries={},
        )  # fmt: skip
    assert models.reward_model({"checkpoint": moved.id}, "cpu").group != one.group


def test_what_cannot_be_served_is_said(workbench: Workbench, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    models = WarmModels(workbench.workspace.checkpoints, 1e6)
    policy = policy_checkpoint(workbench.workspace.checkpoints)
    with pytest.raises(InvalidInput, match="only a reward model scores"):
        models.reward_model({"checkpoint": policy.id}, "cpu")
    (ref,) = refs(workbench, tiny_encoder, 1)
    assert models.writer({"policy": policy.id}, "cpu").write("q", 1, max_tokens=2)
    with pytest.raises(ModelUnavailable, match="writes no text"):
        models.writer({"policy": str(tiny_encoder)}, "cpu")
    with pytest.raises(ModelUnavailable, match="no GPU"):
        models.reward_model(ref, "cuda")
    folder = workbench.workspace.checkpoints / ref["checkpoint"]
    (folder / "config.json").write_text("{}")
    fresh = WarmModels(workbench.workspace.checkpoints, 1e6)
    with pytest.raises(CorruptArtifact, match="hash differs"):
        fresh.reward_model(ref, "cpu")
    with pytest.raises(NotFound):
        fresh.reward_model({"checkpoint": "reward-x"}, "cpu")


def test_bodies_with_single_numbers_among_their_weights_are_told_apart(tiny_encoder: Path) -> None:
    bodies = [RewardModel.from_base(locate(str(tiny_encoder)), max_length=64, seed=0, device=torch.device("cpu")).network.body
              for _ in range(2)]  # fmt: skip
    for body in bodies:
        body.register_buffer("temperature", torch.tensor(1.0))
    assert body_hash(bodies[0]) == body_hash(bodies[1])
    bodies[1].temperature.fill_(2.0)
    assert body_hash(bodies[0]) != body_hash(bodies[1])
