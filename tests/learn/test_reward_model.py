from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.checkpoints.registry import seal
from rlhf_core.ground.errors import CorruptArtifact, ModelUnavailable, NotFound
from rlhf_core.ground.files import building
from rlhf_core.learn.reward_model import RewardModel, pick_device

CPU = torch.device("cpu")


def model(folder: Path, max_length: int = 64) -> RewardModel:
    return RewardModel.from_base(locate(str(folder)), max_length=max_length, seed=3, device=CPU)


def test_short_inputs_read_exactly_as_the_tokenizer_reads_them(tiny_encoder: Path) -> None:
    one = model(tiny_encoder)
    text = "User: how do i start\n\nAssistant: ask for the training voucher"
    assert one.encode([("how do i start", "ask for the training voucher")]) == [one.tokenizer(text).input_ids]


def test_long_inputs_lose_their_middle_and_keep_query_and_last_step(tiny_encoder: Path) -> None:
    one = model(tiny_encoder, max_length=24)
    (ids,) = one.encode([("how do i start", "visit " * 40 + "lie about your licence")])
    text = one.tokenizer.decode(ids)
    assert len(ids) == 24
    assert text.startswith("[CLS] user : how do")
    assert text.endswith("lie about your licence [SEP]")


def test_a_very_long_query_leaves_room_for_the_answer(tiny_encoder: Path) -> None:
    one = model(tiny_encoder, max_length=30)
    (ids,) = one.encode([("start " * 200, "lie about your licence")])
    assert len(ids) == 30
    assert "lie about your licence" in one.tokenizer.decode(ids)


def test_max_length_never_exceeds_the_models_positions(tiny_encoder: Path) -> None:
    assert model(tiny_encoder, max_length=4096).max_length == 128


def test_rewards_do_not_depend_on_batching_or_order(tiny_encoder: Path) -> None:
    one = model(tiny_encoder)
    pairs = [("solar job", "visit " * n) for n in (1, 40, 3, 17, 2, 29)]
    together = one.score(pairs)
    alone = [one.score([pair])[0] for pair in pairs]
    assert together == pytest.approx(alone, abs=1e-5)
    assert one.score(pairs[::-1]) == pytest.approx(together[::-1], abs=1e-5)
    assert one.score([]) == []


def test_rewards_are_in_stars(tiny_encoder: Path) -> None:
    one = model(tiny_encoder)
    raw = one.score([("q", "a")])[0]
    one.mean, one.std = 4.0, 2.0
    assert one.score([("q", "a")])[0] == pytest.approx(4 + 2 * (raw - 3))


def test_a_new_head_is_seeded(tiny_encoder: Path) -> None:
    assert model(tiny_encoder).score([("q", "a")]) == model(tiny_encoder).score([("q", "a")])


def test_saved_and_opened_again_it_scores_the_same(tiny_encoder: Path, tmp_path: Path) -> None:
    one = model(tiny_encoder)
    one.mean, one.std = 3.3, 1.2
    one.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".txt"}
    again = RewardModel.from_checkpoint(tmp_path, one.scoring, device=CPU)
    pairs = [("solar job", "ask for the training voucher")]
    assert again.score(pairs) == pytest.approx(one.score(pairs), abs=1e-6)


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
    one.mean, one.std = 3.5, 2.0
    with building(tmp_path) as scratch:
        one.save(scratch)
        made = seal(scratch, tmp_path, kind="reward", run_id="r", snapshot_id="s", parent="tiny", complete=True, config={},
                    metrics={}, scoring=one.scoring, libraries={})  # fmt: skip
    opened = RewardModel.open(made.folder)
    pairs = [("solar job", "visit " * (n % 50)) for n in range(60)]
    assert opened.compute_batch_rewards(iter(pairs)) == pytest.approx(one.score(pairs), abs=1e-5)
    assert opened.compute_batch_rewards([]) == []
    told = opened.compute_reward(*pairs[7], include_metadata=True)
    assert told.reward == pytest.approx(opened.compute_reward(*pairs[7])) == pytest.approx(3.5 + 2.0 * told.raw)
    assert (told.model_version, told.cut, told.timestamp[-1]) == (made.id, False, "Z")
    assert opened.compute_reward("q", "word " * 500, include_metadata=True).cut
    steps = ["Call them.", "Ask for a date.", "Go there."]
    prefixes = ["Call them.", "Call them.\n\nAsk for a date.", "Call them.\n\nAsk for a date.\n\nGo there."]
    assert opened.score_steps("q", steps) == pytest.approx([opened.compute_reward("q", prefix) for prefix in prefixes], abs=1e-5)
    numbered = "1. Call them. 2. Ask for a date. 3. Go there."
    assert opened.score_steps("q", steps, numbered)[2] == pytest.approx(opened.compute_reward("q", numbered), abs=1e-5)
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
