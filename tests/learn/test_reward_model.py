from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.checkpoints.registry import seal
from rlhf_core.ground.errors import CorruptArtifact, ModelUnavailable, NotFound
from rlhf_core.ground.files import building
from rlhf_core.learn.reading import Reading
from rlhf_core.learn.reward_model import RewardModel, pick_device
from rlhf_core.learn.scales import StarScale

CPU = torch.device("cpu")


def model(folder: Path, max_length: int = 64) -> RewardModel:
    return RewardModel.from_base(locate(str(folder)), max_length=max_length, seed=3, device=CPU)


def test_max_length_never_exceeds_the_models_positions(tiny_encoder: Path) -> None:
    assert model(tiny_encoder, max_length=4096).max_length == 128


def test_rewards_do_not_depend_on_batching_or_order(tiny_encoder: Path) -> None:
    one = model(tiny_encoder)
    pairs = [("solar job", "visit " * n) for n in (1, 40, 3, 17, 2, 29)]
    together = one.compute_batch_rewards(pairs)
    alone = [one.compute_batch_rewards([pair])[0] for pair in pairs]
    assert together == pytest.approx(alone, abs=1e-5)
    assert one.compute_batch_rewards(pairs[::-1]) == pytest.approx(together[::-1], abs=1e-5)
    assert one.compute_batch_rewards([]) == []


def test_a_text_that_comes_again_is_read_once(tiny_encoder: Path) -> None:
    one = model(tiny_encoder)
    read: list[int] = []
    one.network.register_forward_pre_hook(lambda _, given: read.append(len(given[0])))
    rewards = one.compute_batch_rewards([("q", "visit"), ("q", "ask " * 9), ("q", "visit"), ("r", "visit"), ("q", "visit")])
    assert sum(read) == 3
    assert rewards[0] == rewards[2] == rewards[4]
    assert len(set(rewards)) == 3


def test_rewards_are_in_stars(tiny_encoder: Path) -> None:
    one = model(tiny_encoder)
    raw = one.compute_batch_rewards([("q", "a")])[0]
    one.scales = [StarScale("", 4.0, 2.0)]
    assert one.compute_batch_rewards([("q", "a")])[0] == pytest.approx(4 + 2 * (raw - 3))


def test_a_new_head_is_seeded(tiny_encoder: Path) -> None:
    assert model(tiny_encoder).compute_batch_rewards([("q", "a")]) == model(tiny_encoder).compute_batch_rewards([("q", "a")])


def test_saved_and_opened_again_it_scores_the_same(tiny_encoder: Path, tmp_path: Path) -> None:
    one = model(tiny_encoder)
    one.scales = [StarScale("", 3.3, 1.2)]
    one.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".txt"}
    again = RewardModel.from_checkpoint(tmp_path, one.scoring, device=CPU)
    pairs = [("solar job", "ask for the training voucher")]
    assert again.compute_batch_rewards(pairs) == pytest.approx(one.compute_batch_rewards(pairs), abs=1e-6)


def test_weights_that_are_no_safetensors(tiny_encoder: Path, tmp_path: Path) -> None:
    one = model(tiny_encoder)
    one.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(CorruptArtifact, match="train again"):
        RewardModel.from_checkpoint(tmp_path, one.scoring, device=CPU)


def test_a_hub_name_that_cannot_be_downloaded_lists_offline_choices() -> None:
    with pytest.raises(ModelUnavailable, match=r"'no-such/model' could not be loaded.*Without a network these work: .*minilm-l6"):
        RewardModel.from_base(locate("no-such/model"), max_length=8, seed=0, device=CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens on a machine without a GPU")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(ModelUnavailable, match="sees no GPU"):
        pick_device("cuda")
    assert pick_device("auto") == CPU


def test_the_scorer_of_a_checkpoint(tiny_encoder: Path, tmp_path: Path) -> None:
    one = model(tiny_encoder)
    one.scales = [StarScale("", 3.5, 2.0)]
    with building(tmp_path) as scratch:
        one.save(scratch)
        made = seal(scratch, tmp_path, kind="reward", run_id="r", snapshot_id="s", parent="tiny", complete=True, config={},
                    metrics={}, scoring=one.scoring, libraries={})  # fmt: skip
    opened = RewardModel.open(made.folder)
    pairs = [("solar job", "visit " * (n % 50)) for n in range(60)]
    assert opened.compute_batch_rewards(iter(pairs)) == pytest.approx(one.compute_batch_rewards(pairs), abs=1e-5)
    assert opened.compute_batch_rewards([]) == []
    told = opened.compute_reward(*pairs[7], include_metadata=True)
    assert told.reward == pytest.approx(opened.compute_reward(*pairs[7])) == pytest.approx(3.5 + 2.0 * told.raw)
    assert (told.model_version, told.cut, told.timestamp[-1]) == (made.id, False, "Z")
    assert opened.compute_reward("q", "word " * 500, include_metadata=True).cut
    steps = ["Call them.", "Ask for a date.", "Go there."]
    given = "1. Call them. 2. Ask for a date. 3. Go there."
    alone = [Reading("q", given[:end], ((begin, end),)) for begin, end in ((3, 13), (17, 32), (36, 45))]
    by_prefixes = opened.score_steps("q", steps, given)
    assert by_prefixes == pytest.approx([opened.score([one])[0] for one in alone], abs=1e-5)
    at_once = opened.score_steps("q", steps, given, how="one_pass")
    assert at_once[2] == pytest.approx(by_prefixes[2], abs=1e-5)  # the same text
    assert abs(at_once[0] - by_prefixes[0]) > 1e-4  # an encoder knows what follows
    assert opened.score_answer_by_steps("q", steps, given, "last") == by_prefixes[2]
    assert opened.score_steps("q", []) == []
    (made.folder / "config.json").write_text("{}")
    with pytest.raises(CorruptArtifact, match="hash differs"):
        RewardModel.open(made.folder)
    with pytest.raises(NotFound):
        RewardModel.open(tmp_path / "reward-nothing")


def test_rewards_flow_through_whatever_their_number(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_core.learn.reward_model.SCORE_AT_ONCE", 5)
    read = 0

    def source() -> Iterator[tuple[str, str]]:
        nonlocal read
        for n in range(12):
            read += 1
            yield "q", "visit " * n

    one = model(tiny_encoder)
    flow = one.iter_rewards(source())
    next(flow)
    assert read == 5
    assert len(list(flow)) == 11


def test_half_precision_ranks_alike(tiny_encoder: Path) -> None:
    one = model(tiny_encoder)
    pairs = [("solar job", "visit " * (n % 30) + "ask for the training voucher " * (n % 7)) for n in range(60)]
    exact = one.compute_batch_rewards(pairs)
    one.precision = "bf16"
    assert one.compute_batch_rewards(pairs) == pytest.approx(exact, abs=0.02)
    assert one.compute_batch_rewards(pairs) != exact
