"""What is said before a run is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf_core.ground import machine
from rlhf_core.ground.configs import CONFIGS, RewardConfig
from rlhf_core.ground.footprint import Size
from rlhf_core.ground.runs import RunKind
from rlhf_core.services import preflight, snapshots, training
from rlhf_core.services.workbench import Workbench
from tests.conftest import learnable_chats
from tests.learn.policies import tiny_llama, tiny_tokenizer

MINILM = {"reward_base_model": "minilm-l6"}


def look(workbench: Workbench, kind: RunKind = "reward", **options: Any) -> preflight.Preflight:
    snapshot, _ = snapshots.take(workbench)
    return preflight.check(workbench, kind, snapshot.id, CONFIGS[kind].parse(options))


def minded(found: preflight.Preflight) -> str:
    return " ".join(one.words for one in found.findings if one.level == "mind")


def rated(*scores: int, queries: int = 30, raters: int = 2) -> list[dict[str, Any]]:
    """Chats with these scores in turn, by raters in turn."""
    return [
        {"id": f"c{k}", "query": f"q {k % queries}", "response": f"answer {k}", "feedback": [
            {"score": scores[k % len(scores)], "rater": f"R{k % raters}"}]}
        for k in range(120)
    ]  # fmt: skip


def test_weights_are_counted_in_the_models_files(workbench: Workbench, tmp_path: Path) -> None:
    policy = tiny_llama(tiny_tokenizer())
    policy.save_pretrained(tmp_path / "policy")
    size = preflight._size(workbench, str(tmp_path / "policy"))
    config = policy.config
    assert size == Size(
        sum(one.numel() for one in policy.parameters()), config.num_hidden_layers, config.hidden_size,
        config.num_attention_heads, config.vocab_size,
    )  # fmt: skip
    minilm = preflight._size(workbench, "minilm-l6")
    assert minilm is not None
    assert (minilm.layers, minilm.hidden) == (6, 384)
    assert 22e6 < minilm.parameters < 23e6
    assert preflight._size(workbench, "nobody/has-this") is None
    (tmp_path / "policy" / "model.safetensors").write_bytes(b"\xff" * 20)
    assert preflight._size(workbench, str(tmp_path / "policy")) is None


def test_what_learns_and_how_decides_the_memory(demo: Workbench) -> None:
    def need(**options: Any) -> int:
        found = look(demo, **MINILM, **options)
        assert found.memory_mb is not None
        return found.memory_mb

    assert need(method="head") < need(method="lora") < need()
    assert need(gradient_checkpointing=True) < need()
    assert need(micro_batch_tokens=4096) > need(micro_batch_tokens=1024) == need()
    # 22.7 million weights with gradients, moments and the best ones so far: 20 bytes each
    parts = {part.what: part.mb for part in look(demo, **MINILM).parts}
    assert sum(mb for what, mb in parts.items() if "minilm" in what) == pytest.approx(22.7e6 * 20 / 2**20, rel=0.01)


def test_what_does_not_fit_stops_and_what_must_wait_is_said(demo: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    def on(total: int, free: int) -> preflight.Preflight:
        monkeypatch.setattr(machine, "cpu", lambda: machine.Device("cpu", "2 processors", total, free))
        return look(demo, **MINILM)

    (stop,) = on(500, 400).stops
    assert "There are 500 MiB in all" in stop
    assert "gradient_checkpointing true" in stop
    found = on(60_000, 300)
    assert found.stops == []
    assert "Only 300 MiB are free now" in minded(found)
    assert "free now" not in minded(on(60_000, 50_000))
    monkeypatch.setattr(machine, "disk_free_mb", lambda _: 30)
    assert any("30 MiB are free there" in words for words in on(60_000, 50_000).stops)


@pytest.mark.parametrize(
    ("chats", "said"),
    [
        (rated(4), "Every rating is 4"),
        (rated(4, 5), "Nothing was rated below 3"),
        (rated(1, 5, raters=1), "All ratings are one person's"),
        (rated(1, 5), "2 of 2 raters gave everything the same score"),
        (rated(1, 3, 5, queries=4), "Only 4 different queries"),
        (rated(1, 3, 5)[:12], "Only 12 ratings and 0 pairs: enough to see that it runs"),
        (rated(1, 3, 5)[:60], "method head learns most from so few"),
        ([one | {"response": "the same"} for one in rated(1, 3, 5)], "answers stand under several queries word for word"),
    ],
)
def test_what_is_odd_about_the_data(add_chats: Any, workbench: Workbench, chats: list[dict[str, Any]], said: str) -> None:
    add_chats(*chats)
    found = look(workbench, **MINILM)
    assert said in minded(found) + " ".join(found.stops)


def test_good_data_is_said_to_be_good(add_chats: Any, workbench: Workbench) -> None:
    add_chats(*rated(1, 3, 5))
    words = {one.words for one in look(workbench, **MINILM).findings}
    assert not any("rated below" in one or "gave everything" in one or "queries word for word" in one for one in words)


def test_models_that_have_to_be_fetched_and_judges_that_see_nothing(demo: Workbench, tmp_path: Path) -> None:
    assert "will be downloaded from the model hub first. minilm-l6 works" in minded(look(demo))
    tokenizer = tiny_tokenizer()
    tiny_llama(tokenizer).save_pretrained(tmp_path / "policy")
    found = look(demo, "ppo", base_model=str(tmp_path / "policy"), reward="tests.runs.rewards:count_e")
    assert "a fixed coefficient does not bound" in minded(found)
    assert found.memory_mb is not None
    assert "a fixed coefficient" not in minded(
        look(demo, "ppo", base_model=str(tmp_path / "policy"), reward="tests.runs.rewards:count_e", kl_goal=3)
    )


def test_time_by_a_run_like_it(demo: Workbench) -> None:
    first = look(demo, **MINILM, method="head")
    assert first.seconds is not None
    assert first.from_run is None
    assert "very roughly" in preflight.time_in_words(first)
    snapshot, _ = snapshots.take(demo)
    run = training.add_run(demo, "reward", snapshot.id, RewardConfig.parse(MINILM | {"method": "head"}))
    demo.ledger.claim(run.id, "h", "cpu")
    demo.ledger.finish(run.id, "succeeded", "done", None)
    took = 40.0
    with demo.ledger._database.transaction() as connection:  # type: ignore[attr-defined]  # nobody waits for it
        connection.execute(
            "UPDATE runs SET started_at = '2026-01-01T00:00:00.000000Z', finished_at = '2026-01-01T00:00:40.000000Z'"
        )
    found = look(demo, **MINILM, method="head")
    assert found.from_run == run.id
    assert found.seconds == pytest.approx((0.7 * took, 1.5 * took))
    half = look(demo, **MINILM, method="head", max_length=16)  # fewer tokens, less work
    assert half.seconds is not None
    assert half.seconds[1] < found.seconds[1] / 2
    assert look(demo, **MINILM).from_run is None, "another method is another pace"


def test_the_row_remembers_what_it_will_need(add_chats: Any, workbench: Workbench) -> None:
    add_chats(*learnable_chats())
    snapshot, _ = snapshots.take(workbench)
    config = RewardConfig.parse(MINILM)
    run = training.add_run(workbench, "reward", snapshot.id, config)
    assert run.memory_mb == preflight.check(workbench, "reward", snapshot.id, config).memory_mb
