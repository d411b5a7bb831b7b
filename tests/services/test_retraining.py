"""Trained anew: what makes a candidate and what does not; and one whole story with real processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
from starlette.testclient import TestClient

from rlhf_core.analytics.drift import Finding
from rlhf_core.checkpoints.registry import seal
from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.errors import InvalidInput, ModelUnavailable, NotEnoughData, RunRefused
from rlhf_core.ground.files import building
from rlhf_core.ground.runs import Run
from rlhf_core.services import collecting, drifting, retraining, rolling_out
from rlhf_core.services.retraining import Gain, retrain
from rlhf_core.services.workbench import Workbench
from tests.api.conftest import calls
from tests.conftest import BAD, GOOD, command, learnable_chats, write_lines

Carry = Callable[[Run], int]
GAIN = Gain(0.5, 0.7, 0.001, 40, 90, "")
WHY = "a test"


@pytest.fixture
def rated(workbench: Workbench, add_chats: Any) -> None:
    add_chats(*learnable_chats(40))


@pytest.fixture
def carried() -> list[str]:
    """Ids of runs that were carried out."""
    return []


@pytest.fixture
def carry(workbench: Workbench, carried: list[str]) -> Carry:
    """As if it trained: a checkpoint of a few bytes."""

    def do(run: Run) -> int:
        carried.append(run.id)
        with building(workbench.workspace.checkpoints) as scratch:
            (scratch / "model.safetensors").write_bytes(run.id.encode())
            made = seal(
                scratch, workbench.workspace.checkpoints, kind="reward", run_id=run.id, snapshot_id=run.snapshot_id,
                parent="base", complete=True, config=run.config, metrics={"trained_steps": 1}, scoring={}, libraries={},
            )  # fmt: skip
        workbench.ledger.finish(run.id, "succeeded", "done", made.id)
        return 0

    return do


@pytest.fixture
def serving(workbench: Workbench, carry: Carry, rated: None, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(drifting, "_rewards", lambda *_: {})  # its checkpoints are of a few bytes
    done = retrain(workbench, carry, despite_audit=WHY)
    assert done.checkpoint_id is not None
    rolling_out.serve(workbench, "reward", "the first")
    return done.checkpoint_id


def found(monkeypatch: pytest.MonkeyPatch, gain: Gain | Exception) -> None:
    def give(*_: Any) -> Gain:
        if isinstance(gain, Exception):
            raise gain
        return gain

    monkeypatch.setattr(retraining, "gain_between", give)


def test_the_first_one_is_a_candidate_because_nothing_serves(workbench: Workbench, carry: Carry, rated: None) -> None:
    done = retrain(workbench, carry, despite_audit=WHY)
    assert (done.outcome, done.gain) == ("candidate", None)
    assert rolling_out.state(workbench, "reward").candidate == done.checkpoint_id
    assert rolling_out.history(workbench, "reward")[-1].reason == done.why
    report = workbench.workspace.root / "retraining" / done.id / "report.md"
    assert report.read_text() == done.markdown()
    assert f"`{done.checkpoint_id}`" in done.markdown()


def test_the_audit_stands_in_front(workbench: Workbench, carry: Carry, carried: list[str], rated: None) -> None:
    done = retrain(workbench, carry)
    assert done.outcome == "refused"
    assert any("Amount" in one or "rating" in one.lower() for one in done.findings)
    assert carried == []
    assert "says to act first on" in done.markdown()
    done = retrain(workbench, carry, despite_audit="we know them")
    assert (done.outcome, len(carried)) == ("candidate", 1), "what was refused once is not refused for ever"
    assert "Done all the same: we know them" in done.markdown()
    assert rolling_out.history(workbench, "reward")[-1].detail == {"despite_audit": "we know them"}


def test_only_a_gain_beyond_chance_makes_a_candidate(
    workbench: Workbench, carry: Carry, serving: str, add_chats: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    add_chats({"query": "new", "response": "a", "score": 5, "rater": "Rui"})
    found(monkeypatch, replace(GAIN, p=0.2))
    done = retrain(workbench, carry, despite_audit=WHY)
    assert (done.outcome, done.serving) == ("no gain", serving)
    assert "0.200 stars closer to people's held-out ratings" in done.why
    assert "may be chance (p = 0.200" in done.why
    assert rolling_out.state(workbench, "reward").candidate is None
    found(monkeypatch, replace(GAIN, new=0.9, p=0.99))
    assert "further from" in retrain(workbench, carry, despite_audit=WHY, again=True).why
    found(monkeypatch, NotEnoughData("Too few questions."))
    uncompared = retrain(workbench, carry, despite_audit=WHY, again=True)
    assert (uncompared.outcome, uncompared.why) == ("failed", f"It could not be compared with {serving}: Too few questions.")
    found(monkeypatch, GAIN)
    done = retrain(workbench, carry, despite_audit=WHY, again=True)
    assert (done.outcome, rolling_out.state(workbench, "reward").candidate) == ("candidate", done.checkpoint_id)
    assert rolling_out.history(workbench, "reward")[-1].detail["gain"]["p"] == 0.001


def test_done_again_it_does_nothing_anew(workbench: Workbench, carry: Carry, carried: list[str], serving: str) -> None:
    before = retraining.past(workbench)
    again = retrain(workbench, carry, despite_audit=WHY)
    assert len(carried) == 1, "what serves is of these ratings and options already"
    assert again.outcome == "no gain"
    assert retrain(workbench, carry, despite_audit=WHY) == again
    assert [one.id for one in retraining.past(workbench)] == [again.id, before[0].id]


def test_killed_it_is_taken_up_where_it_stood(
    workbench: Workbench, carry: Carry, carried: list[str], serving: str, add_chats: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    add_chats({"query": "new", "response": "a", "score": 5, "rater": "Rui"})
    found(monkeypatch, KeyboardInterrupt())  # type: ignore[arg-type]
    monkeypatch.setattr(retraining, "gain_between", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        retrain(workbench, carry, despite_audit=WHY)
    found(monkeypatch, GAIN)
    assert retrain(workbench, carry, despite_audit=WHY).outcome == "candidate"
    assert len(carried) == 2, "the run that was done is not done again"


def test_not_due_without_enough_new_ratings(
    workbench: Workbench, carry: Carry, carried: list[str], serving: str, add_chats: Any
) -> None:
    add_chats({"query": "new", "response": "a", "score": 5, "rater": "Rui"})
    done = retrain(workbench, carry, despite_audit=WHY, min_new=50)
    assert done.outcome == "not due"
    assert done.why.startswith("1 ratings came in since")
    assert len(carried) == 1
    assert done.id not in {one.id for one in retraining.past(workbench)}


def test_a_serving_model_that_cannot_score_is_told(
    workbench: Workbench, carry: Carry, serving: str, add_chats: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def refuse(*_: Any) -> Any:
        raise ModelUnavailable("It is of another version.")

    add_chats({"query": "new", "response": "a", "score": 5, "rater": "Rui"})
    monkeypatch.setattr(drifting, "_rewards", refuse)
    found(monkeypatch, GAIN)
    done = retrain(workbench, carry, despite_audit=WHY)
    assert done.outcome == "candidate"
    assert done.drift[0] == f"How far {serving} agrees with people could not be looked at: It is of another version."
    calm = retrain(workbench, carry, despite_audit=WHY, min_new=50, on_drift=True, again=True)
    assert calm.outcome == "not due", "what could not be looked at is no drift"
    assert done.drift[0] in done.markdown()


def test_drift_is_a_reason_too(
    workbench: Workbench, carry: Carry, serving: str, add_chats: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    add_chats({"query": "new", "response": "a", "score": 5, "rater": "Rui"})
    found(monkeypatch, GAIN)
    calm = retrain(workbench, carry, despite_audit=WHY, min_new=50, on_drift=True)
    assert (calm.outcome, calm.why.endswith("Nothing new has drifted either.")) == ("not due", True)
    moved = Finding(date(2026, 2, 9), "raters", "rater", "Dov", 0.0, 1.5, 1.5, 30, 1e-6, 1e-5, alarm=True)
    monkeypatch.setattr(drifting, "drift", lambda *_, **__: [moved])
    done = retrain(workbench, carry, despite_audit=WHY, min_new=50, on_drift=True)
    assert (done.outcome, done.drift[0]) == ("candidate", moved.told)
    assert "A rater rates +1.50 stars from the others" in done.markdown()
    add_chats({"query": "newer", "response": "a", "score": 5, "rater": "Rui"})
    assert retrain(workbench, carry, despite_audit=WHY, min_new=50, on_drift=True).outcome == "not due", "once for each alarm"


def test_a_run_that_fails_is_told(workbench: Workbench, carry: Carry, rated: None) -> None:
    def fail(run: Run) -> int:
        workbench.ledger.finish(run.id, "failed", "No memory.", None)
        return 1

    done = retrain(workbench, fail, despite_audit=WHY)
    assert (done.outcome, "ended failed: No memory." in done.why) == ("failed", True)
    assert rolling_out.state(workbench, "reward").candidate is None
    assert retrain(workbench, carry, despite_audit=WHY).outcome == "candidate", "it is tried again"


def test_two_at_once_are_refused(workbench: Workbench, carry: Carry, rated: None) -> None:
    folder = workbench.workspace.root / "retraining"
    folder.mkdir()
    with filelock.FileLock(folder / "lock"), pytest.raises(RunRefused, match="Another retraining is at work"):
        retrain(workbench, carry)
    with pytest.raises(InvalidInput, match="alpha is 1"):
        retrain(workbench, carry, alpha=1.0)


@pytest.mark.slow
def test_the_test_tells_a_gain_from_chance() -> None:
    rng = np.random.default_rng(0)
    chance = [retraining._sign_flips(rng.normal(0, 1, 30)) for _ in range(60)]
    assert 0 < sum(p < 0.05 for p in chance) < 10
    assert retraining._sign_flips(rng.normal(-0.8, 1, 60)) < 0.001
    assert retraining._sign_flips(rng.normal(0.8, 1, 60)) > 0.99
    assert retraining._sign_flips(np.zeros(30)) == 1.0


@pytest.mark.slow
def test_one_story_from_ratings_to_everybody(workbench: Workbench, site: TestClient, root: Path, tiny_encoder: Path) -> None:
    """Feedback arrives, retraining finds a candidate, it goes to a share of people, bad ratings take it back; a good one
    reaches everybody."""
    config = write_config(root, tiny_encoder, epochs=1)
    command("import", write_lines(root / "first.jsonl", learnable_chats(30)), root=root)
    snapshot = command("snapshot", root=root).stdout.strip()
    command("train", "reward", "--snapshot", snapshot, "--config", config, root=root)
    (serving,) = rolling_out.able(workbench, "reward")
    command("rollout", "serve", serving, "--kind", "reward", "--reason", "the first", root=root)

    more = [one | {"id": f"m{k}", "query": f"what about solar {k}"} for k, one in enumerate(learnable_chats(240))]
    command("import", write_lines(root / "more.jsonl", more), root=root)
    said = command(
        "retrain", "--config", write_config(root, tiny_encoder, epochs=6), "--despite-audit", WHY, "--min-new", 100, root=root
    )
    assert "**Candidate.** It is" in said.stdout, said.stdout
    candidate = rolling_out.state(workbench, "reward").candidate
    assert candidate not in (None, serving)

    # an application whose people get answers ranked by the one or the other
    call = calls(site, collecting.add_application(workbench, "Assistant", per_minute=10**6)[1])

    def people(first: int, count: int, canary: Callable[[int], int]) -> None:
        for k in range(first, first + count):
            given = call("GET", "/assignment", 200, kind="reward", userId=f"p{k}")
            text = (GOOD if k % 3 else BAD)[0]
            chat = call("POST", "/chats", 201, id=f"c{k}", query=f"person {k} asks", response=text, userId=f"p{k}",
                        served={"checkpoint": given["checkpoint"], "latencyMs": 200 + k % 50})  # fmt: skip
            score = canary(k) if given["arm"] == "canary" else 3 + k % 3
            call("POST", "/assistant/feedback", 201, id=f"f{k}", userId=f"p{k}", chatId=chat["id"], feedbackScore=score)

    command("rollout", "canary", "--kind", "reward", "--reason", "weekly", "--share", 0.25, root=root)
    people(0, 300, lambda k: 1 + k % 2)
    assert "took it back: People rate its answers lower" in command("rollout", "watch", root=root).stdout
    state = rolling_out.state(workbench, "reward")
    assert (state.serving, state.canary) == (serving, None)
    refused = command("rollout", "canary", candidate, "--kind", "reward", "--reason", "again", root=root, check=False)
    assert "was taken back" in refused.stderr

    command("rollout", "canary", candidate, "--kind", "reward", "--reason", "mended", "--again", "--share", 0.05, root=root)
    command("rollout", "share", "--kind", "reward", "--share", 0.5, "--reason", "quiet", root=root)
    people(1000, 200, lambda k: 4 + k % 2)
    assert command("rollout", "watch", root=root).stdout == ""
    status = command("rollout", "status", "--kind", "reward", root=root).stdout
    assert "not worse by more than 0.25 stars" in status
    command("rollout", "serve", "--kind", "reward", "--reason", "people like it", root=root)
    assert rolling_out.state(workbench, "reward").aliases() == {"serving": candidate, "previous": serving}
    acts = [one.act for one in rolling_out.history(workbench, "reward")]
    assert acts == ["serve", "candidate", "canary", "back", "canary", "share", "serve"]


def write_config(root: Path, encoder: Path, epochs: int) -> Path:
    path = root / f"config-{epochs}.json"
    path.write_text(json.dumps(RewardConfig(
        reward_base_model=str(encoder), learning_rate=1e-3, max_length=64, epochs=epochs,
    ).model_dump()))  # fmt: skip
    return path


@pytest.fixture
def site(workbench: Workbench) -> Any:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from rlhf_core.api.routes import create

    with TestClient(Starlette(routes=[Mount("/api", app=create(lambda: workbench))]), base_url="http://test") as client:
        yield client
