"""Which checkpoint serves whom: decided by people with reasons, watched by what people say, taken back by itself."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rlhf_core.analytics import rails
from rlhf_core.analytics.sequential import crossed, differences, naive_crossed, signs, wealth
from rlhf_core.checkpoints.registry import Checkpoint, seal
from rlhf_core.ground.applications import Caller
from rlhf_core.ground.errors import Conflict, CorruptArtifact, InvalidInput, NotFound, RunRefused, StoreUnavailable, Unproven
from rlhf_core.ground.files import building
from rlhf_core.ground.rollout import Served, State, assigned, bucket
from rlhf_core.services import activity, collecting, erasing, rolling_out, serving, storage
from rlhf_core.services.collecting import Place
from rlhf_core.services.workbench import Workbench
from rlhf_core.store.sqlite_rollout import SqliteRollout
from tests.conftest import command

Make = Callable[..., Checkpoint]


@pytest.fixture
def make(workbench: Workbench) -> Make:
    """A checkpoint of a few bytes."""

    def one(name: str, kind: str = "policy", *, complete: bool = True) -> Checkpoint:
        with building(workbench.workspace.checkpoints) as scratch:
            (scratch / "model.safetensors").write_bytes(name.encode() * 100)
            return seal(
                scratch, workbench.workspace.checkpoints, kind=kind, run_id=name, snapshot_id="s", parent="base",
                complete=complete,
                config={}, metrics={"trained_steps": 1}, scoring={}, libraries={},
            )  # fmt: skip

    return one


@pytest.fixture
def two(workbench: Workbench, make: Make) -> tuple[str, str]:
    """A policy that serves, and one at 5%."""
    old, new = make("old").id, make("new").id
    rolling_out.serve(workbench, "policy", "the first", old)
    rolling_out.canary(workbench, "policy", "better in tests", checkpoint_id=new)
    return old, new


@pytest.fixture
def caller(workbench: Workbench) -> Caller:
    return collecting.caller_of(workbench, collecting.add_application(workbench, "Assistant", per_minute=10**6)[1])


def answer(workbench: Workbench, caller: Caller, person: str, number: int, score: int | None, **served: Any) -> str:
    """As an application does it: asks who answers, sends the chat, sends what the person says. Returns the arm."""
    given = collecting.assignment(workbench, caller, "policy", person)
    record = {"query": f"{person} asks {number}", "response": served.pop("response", "An answer.")}
    told = {"checkpoint": given.checkpoint, "refused": None, "latency_ms": None} | served
    kept = collecting.add_chat(workbench, caller, f"{person}-{number}", record, person, told)
    if score is not None:
        collecting.rate(workbench, caller, f"w-{person}-{number}", Place(kept["id"]), score, thumbs=False, external_id=person)
    return given.arm


def test_one_decision_after_another(workbench: Workbench, make: Make) -> None:
    a, b, c = (make(name).id for name in "abc")
    assert serving.assignment(workbench, "policy", "ana") == serving.Assignment(None, "control", None)
    with pytest.raises(InvalidInput, match="Nothing serves yet"):
        rolling_out.canary(workbench, "policy", "r", checkpoint_id=a)
    rolling_out.serve(workbench, "policy", "the first", a)
    with pytest.raises(InvalidInput, match="Say why"):
        rolling_out.candidate(workbench, "policy", b, "  ")
    rolling_out.candidate(workbench, "policy", b, "better on held-out ratings", detail={"gain": 0.1})
    rolling_out.canary(workbench, "policy", "let us see")
    with pytest.raises(InvalidInput, match="being rolled out already"):
        rolling_out.canary(workbench, "policy", "r", checkpoint_id=c)
    with pytest.raises(InvalidInput, match="Let it serve, or take it back, first"):
        rolling_out.serve(workbench, "policy", "r", c)
    with pytest.raises(InvalidInput, match="more than 0 and less than 1"):
        rolling_out.share_of_people(workbench, "policy", 1.0, "r")
    rolling_out.share_of_people(workbench, "policy", 0.25, "no complaints")
    with pytest.raises(Unproven, match="Nobody has rated an answer of the canary yet.*--unproven"):
        rolling_out.serve(workbench, "policy", "good")
    rolling_out.serve(workbench, "policy", "good", unproven=True)
    assert rolling_out.state(workbench, "policy").aliases() == {"serving": b, "previous": a}
    rolling_out.back(workbench, "policy", "not so good after all")
    assert rolling_out.state(workbench, "policy").aliases() == {"serving": a}
    with pytest.raises(Unproven, match=f"No share of people has had it first. Nothing shows yet that {c}"):
        rolling_out.serve(workbench, "policy", "good", c)
    with pytest.raises(InvalidInput, match="Nothing can be taken back"):
        rolling_out.back(workbench, "policy", "r")
    log = rolling_out.history(workbench, "policy")
    assert [one.act for one in log] == ["serve", "candidate", "canary", "share", "serve", "back"]
    assert (log[1].detail, log[3].reason) == ({"gain": 0.1}, "no complaints")
    assert [rolling_out.done(one) for one in log][3:5] == ["changed its share", "lets it serve everybody, unproven"]
    assert "unproven" not in log[0].detail  # nothing served before
    assert [one.act for one in activity.log(workbench, "model ")][:2] == ["model back", "model serve"]
    with pytest.raises(InvalidInput, match=r"was taken back on .*not so good after all.*--again"):
        rolling_out.canary(workbench, "policy", "r", checkpoint_id=b)
    rolling_out.canary(workbench, "policy", "with another prompt", checkpoint_id=b, again=True)


def test_a_checkpoint_has_to_be_there_as_it_was_and_of_the_kind(workbench: Workbench, make: Make) -> None:
    policy, reward = make("p"), make("r", "reward")
    with pytest.raises(InvalidInput, match="not a policy one"):
        rolling_out.serve(workbench, "policy", "r", reward.id)
    with pytest.raises(NotFound, match="no checkpoint 'x'"):
        rolling_out.candidate(workbench, "policy", "x", "r")
    (policy.folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(CorruptArtifact):
        rolling_out.serve(workbench, "policy", "r", policy.id)
    assert rolling_out.history(workbench, "policy") == []


def test_what_is_no_act_decides_nothing(workbench: Workbench, two: tuple[str, str]) -> None:
    before = rolling_out.history(workbench, "policy")
    with pytest.raises(InvalidInput, match="status is nothing that can be decided"):
        rolling_out.decide(workbench, "policy", "status", "why", share=0.5)  # type: ignore[arg-type]
    command("rollout", "status", "--kind", "policy", "--reason", "only looking", root=workbench.workspace.root)
    assert rolling_out.history(workbench, "policy") == before


def test_what_serves_is_not_removed(workbench: Workbench, two: tuple[str, str], make: Make) -> None:
    for one, role in zip(two, ("serving", "canary"), strict=True):
        with pytest.raises(RunRefused, match=f"it is {role} of the policy checkpoints"):
            storage.remove(workbench, [one])
    storage.remove(workbench, [make("nobody's").id])


def test_of_two_who_promote_at_once_one_is_told(
    workbench: Workbench, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = SqliteRollout.add

    def late(store: SqliteRollout, event: Any) -> None:
        monkeypatch.setattr(SqliteRollout, "add", kept)
        rolling_out.share_of_people(workbench, "policy", 0.25, "mine first")
        kept(store, event)

    monkeypatch.setattr(SqliteRollout, "add", late)
    with pytest.raises(Conflict, match="Somebody else decided something meanwhile"):
        rolling_out.serve(workbench, "policy", "yours", unproven=True)
    assert rolling_out.state(workbench, "policy").share == 0.25


def test_whoever_has_the_canary_keeps_it_as_its_share_grows(workbench: Workbench, two: tuple[str, str]) -> None:
    _, new = two
    people = [f"person {k}" for k in range(4000)]
    before: set[str] = set()
    for share in (0.05, 0.25, 0.5):
        if share > 0.05:
            rolling_out.share_of_people(workbench, "policy", share, "fine")
        state = rolling_out.state(workbench, "policy")
        have = {one for one in people if assigned(state, one) == (new, "canary")}
        assert abs(len(have) / len(people) - share) < 0.03
        assert before <= have
        before = have
    rolling_out.back(workbench, "policy", "enough")
    rolling_out.canary(workbench, "policy", "another try", checkpoint_id=new, share=0.5, again=True)
    again = {one for one in people if assigned(rolling_out.state(workbench, "policy"), one)[1] == "canary"}
    assert 0.3 < len(again & before) / len(before) < 0.7, "another draw"
    assert bucket("s", "ana") == bucket("s", "ana") != bucket("t", "ana")


def test_while_the_store_is_away_people_keep_the_control(
    workbench: Workbench, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    old, _ = two
    state = rolling_out.state(workbench, "policy")
    lucky = next(one for one in map(str, range(1000)) if assigned(state, one)[1] == "canary")
    assert serving.assignment(workbench, "policy", lucky).arm == "canary"
    monkeypatch.setattr(serving, "KEEPS_S", -1.0)
    monkeypatch.setattr(SqliteRollout, "last", lambda *_: (_ for _ in ()).throw(StoreUnavailable("It is away.")))
    given = serving.assignment(workbench, "policy", lucky)
    assert (given.checkpoint, given.arm) == (old, "control")


def test_bad_ratings_take_it_back_by_themselves(workbench: Workbench, two: tuple[str, str], caller: Caller) -> None:
    old, new = two
    assert rolling_out.look(workbench, "policy").says.startswith("Nobody has rated an answer of the canary")
    rolling_out.share_of_people(workbench, "policy", 0.5, "quicker for a test")
    decided, number = [], 0
    while not decided:
        number += 1
        assert number < 200
        person = f"person {number}"
        arm = collecting.assignment(workbench, caller, "policy", person).arm
        answer(workbench, caller, person, 1, 1 + number % 3 if arm == "canary" else 3 + number % 3)
        decided = rolling_out.watch(workbench)
    (event,) = decided
    assert (event.act, event.checkpoint_id, event.who) == ("back", new, "the workbench")
    assert event.reason.startswith("People rate its answers lower:")
    assert event.detail["rails"]["rating"]["evidence"] >= 50
    assert rolling_out.state(workbench, "policy").aliases() == {"serving": old}
    assert rolling_out.watch(workbench) == [], "it stays back, whatever comes in later"
    for later in range(number, number + 30):
        answer(workbench, caller, f"person {later}", 2, 5)
    assert rolling_out.watch(workbench) == []
    with pytest.raises(InvalidInput, match="was taken back"):
        rolling_out.canary(workbench, "policy", "again", checkpoint_id=new)


def test_a_good_one_may_grow_and_serve(workbench: Workbench, two: tuple[str, str], caller: Caller) -> None:
    rolling_out.share_of_people(workbench, "policy", 0.5, "quicker for a test")
    for number in range(240):
        person = f"person {number}"
        arm = collecting.assignment(workbench, caller, "policy", person).arm
        answer(workbench, caller, person, 1, 4 + number % 2 if arm == "canary" else 3 + number % 3)
    seen = rolling_out.look(workbench, "policy")
    assert (seen.fault, seen.says) == (None, "It is not worse by more than 0.25 stars, so its share may grow.")
    assert seen.difference is not None
    assert seen.difference.low < seen.difference.mean < seen.difference.high
    assert seen.answers["canary"] + seen.answers["control"] == 240
    rolling_out.serve(workbench, "policy", seen.says)
    log = rolling_out.history(workbench, "policy")
    assert log[-1].detail["rated"] == seen.rated
    assert "unproven" not in log[-1].detail
    assert rolling_out.state(workbench, "policy").serving == two[1]


NOW = State("old", canary="new", share=0.5, salt="s", begun=2)


def served(rng: np.random.Generator, count: int, **canary: Any) -> list[Served]:
    """Alike in both arms but for what is said of the canary: ``refused`` (a share), ``longer``, ``slower`` (factors)."""
    found = []
    for k in range(count):
        new = bool(rng.random() < 0.5)
        own = canary if new else {}
        found.append(
            Served("new" if new else "old", f"p{k}", float(rng.integers(1, 6)), int(rng.lognormal(6, 0.5) * own.get("longer", 1)),
                   bool(rng.random() < own.get("refused", 0.05)), float(rng.lognormal(6, 0.5) * own.get("slower", 1)))
        )  # fmt: skip
    return found


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"refused": 0.4}, "It refuses more often"),
        ({"longer": 4}, "Its answers are longer"),
        ({"slower": 4}, "It takes longer to answer"),
    ],
)
def test_each_rail_finds_its_fault(fault: dict[str, Any], said: str) -> None:
    seen = rails.judge(NOW, served(np.random.default_rng(0), 400, **fault))
    assert seen.fault is not None
    assert seen.fault.startswith(said)
    assert sum(rail.after is not None for rail in seen.rails) == 1
    assert rails.judge(NOW, served(np.random.default_rng(1), 400)).fault is None


def test_without_data_nothing_is_decided() -> None:
    rng = np.random.default_rng(0)
    assert rails.judge(NOW, []).fault is None
    one_arm = [one for one in served(rng, 500) if one.checkpoint_id == "new"]
    seen = rails.judge(NOW, one_arm)
    assert (seen.fault, seen.says) == (None, "Nobody has rated an answer of the control yet, so there is nothing to compare.")
    untold = [Served("new" if k % 2 else "old", f"p{k}", None, 10, None, None) for k in range(500)]
    assert rails.judge(NOW, untold).fault is None


def test_nobody_decides_alone() -> None:
    angry = [Served("new", "angry", 1.0, 10, None, None), Served("old", "x", 4.0, 10, None, None)] * 200
    assert len([one for one in rails.counted(angry) if one.user_id == "angry"]) == rails.COUNTS_AT_MOST
    assert rails.judge(NOW, rails.counted(angry)).fault is None


def test_peeking_after_every_rating_breaks_a_z_test_and_not_this_one() -> None:
    rng = np.random.default_rng(3)
    ours = naive = 0
    for _ in range(200):
        apart = differences(zip((rng.random(1200) < 0.5).tolist(), rng.integers(1, 6, 1200).astype(float).tolist(), strict=True))
        ours += crossed(wealth(apart, worst=4.0), 0.05) is not None
        naive += naive_crossed(apart, 0.05) is not None
    assert ours <= 10 + 6
    assert naive > 50


def test_wealth_is_a_fair_game_where_nothing_is_wrong() -> None:
    """Over all ways in which twelve fair comparisons can come out its mean is 1: each stake depends on what was seen before."""
    ends = [wealth(np.array(one), worst=1.0)[-1] for one in itertools.product((-1.0, 1.0), repeat=12)]
    assert np.mean(ends) == pytest.approx(1.0, rel=1e-12)
    rng = np.random.default_rng(5)
    grown = wealth(np.full(60, -0.5), worst=1.0)
    assert np.all(np.diff(grown[1:]) > 0)
    assert np.all(wealth(np.array([-0.4] * 50), worst=1.0, tolerated=0.5) <= 1.0)
    prefix = rng.normal(0, 0.3, 50).clip(-1, 1)
    assert wealth(prefix, worst=1.0)[:20] == pytest.approx(wealth(prefix[:20], worst=1.0)), "later values change no earlier one"


def test_each_value_counts_once() -> None:
    assert differences([(False, 4.0), (False, 2.0), (True, 1.0), (True, 5.0), (False, 3.0)]).tolist() == [-2.0, 2.0]
    assert differences([(True, 1.0), (True, 3.0), (False, 4.0)]).tolist() == [-2.0]
    assert signs([(True, 1.0), (False, 2.0), (True, 3.0), (True, 9.0), (False, 3.0), (True, 3.2)]).tolist() == [0.5, -0.5]


def test_what_one_decided_on_is_what_is_decided(workbench: Workbench, two: tuple[str, str], make: Make) -> None:
    """Of two who take the canary back at once, the second does not take back what serves."""
    old, new = two
    seen = rolling_out.look(workbench, "policy").number
    rolling_out.back(workbench, "policy", "mine", seen=seen)
    for late in (
        lambda: rolling_out.back(workbench, "policy", "yours", seen=seen),
        lambda: rolling_out.serve(workbench, "policy", "yours", seen=seen),
        lambda: rolling_out.share_of_people(workbench, "policy", 0.5, "yours", seen=seen),
        lambda: rolling_out.candidate(workbench, "policy", new, "yours", seen=seen),
    ):
        with pytest.raises(Conflict, match="Somebody else decided something meanwhile"):
            late()
    assert rolling_out.state(workbench, "policy").aliases() == {"serving": old}
    with pytest.raises(InvalidInput, match="was taken back"):
        rolling_out.serve(workbench, "policy", "all of it", new)
    with pytest.raises(InvalidInput, match="stopped before its end"):
        rolling_out.candidate(workbench, "policy", make("half", complete=False).id, "r")


def test_figures_of_answers_that_were_kept_for_their_time_stay(
    workbench: Workbench, two: tuple[str, str], caller: Caller
) -> None:  # fmt: skip
    """So that the evidence is not begun anew each day; nothing says whose they were."""
    rolling_out.share_of_people(workbench, "policy", 0.5, "quicker for a test")
    for number in range(60):
        person = f"person {number}"
        arm = collecting.assignment(workbench, caller, "policy", person).arm
        answer(workbench, caller, person, 1, 2 if arm == "canary" else 3 + number % 3)
    before = rolling_out.look(workbench, "policy")
    gone = [(chat.id, chat.query) for chat in workbench.store.search_chats()][:40]
    erasing.delete_chats(workbench, gone, "a test")
    after = rolling_out.look(workbench, "policy")
    assert after.answers == before.answers
    assert [rail.wealth.tolist() for rail in after.rails] == [rail.wealth.tolist() for rail in before.rails]
    collecting.erase_named(workbench, "Assistant", "person 59")
    assert sum(rolling_out.look(workbench, "policy").answers.values()) == 59


def test_a_long_list_of_checkpoints_keeps_nothing_from_going_back(workbench: Workbench, two: tuple[str, str], make: Make) -> None:
    for number in range(120):
        make(f"other {number}")
    shutil.rmtree(workbench.workspace.checkpoints / two[1])
    (event,) = rolling_out.watch(workbench)
    assert event.reason == "Its files are gone from this machine."


def test_a_canary_whose_files_are_gone_goes_back(workbench: Workbench, two: tuple[str, str]) -> None:
    _, new = two
    (workbench.workspace.checkpoints / new / "model.safetensors").write_bytes(b"cut")
    seen = rolling_out.look(workbench, "policy")
    assert seen.fault is not None
    assert "files are not what they were" in seen.fault
    with pytest.raises(InvalidInput, match="It has to go back"):
        rolling_out.serve(workbench, "policy", "r")
    assert [one.act for one in rolling_out.watch(workbench)] == ["back"]


@pytest.mark.slow
def test_the_command(workbench: Workbench, make: Make, root: Any) -> None:
    a, b = make("a").id, make("b").id
    command("rollout", "serve", a, "--reason", "the first", root=root)
    assert "Say why" in command("rollout", "candidate", b, root=root, check=False).stderr
    command("rollout", "candidate", b, "--reason", "better", root=root)
    said = command("rollout", "canary", "--reason", "try", root=root).stdout
    assert f"canary    {b}  5% of people" in said
    command("rollout", "share", "--share", "0.25", "--reason", "fine", root=root)
    assert command("rollout", "watch", root=root).stdout == ""
    command("rollout", "back", "--reason", "enough", root=root)
    history = command("rollout", "history", root=root).stdout.splitlines()
    assert len(history) == 5
    assert history[-1].endswith(f"{b} took it back. enough")


def test_a_clock_that_is_moved_changes_no_decision(
    workbench: Workbench, two: tuple[str, str], caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Decisions stand in the order of their numbers, assignments do not look at the clock, ratings count whatever their time."""
    rolling_out.share_of_people(workbench, "policy", 0.5, "quicker for a test")
    people = [f"person {number}" for number in range(60)]
    given = {one: collecting.assignment(workbench, caller, "policy", one) for one in people}
    for number, one in enumerate(people):
        if number == 30:
            for module in ("rlhf_core.ground.rollout", "rlhf_core.store.sqlite_collecting"):
                monkeypatch.setattr(f"{module}.utc_now", lambda: "2001-01-01T00:00:00.000000Z")
        answer(workbench, caller, one, 1, 3 + number % 3)
    with workbench._database.transaction() as connection:
        connection.execute("UPDATE chat_feedback SET created_at = '2001-01-01T00:00:00.000000Z' WHERE rowid % 2")
    rolling_out.share_of_people(workbench, "policy", 0.75, "the clock is wrong")
    log = rolling_out.history(workbench, "policy")
    assert [one.number for one in log] == [1, 2, 3, 4]
    assert (log[-1].at[:4], rolling_out.state(workbench, "policy").share) == ("2001", 0.75)
    seen = rolling_out.look(workbench, "policy")
    assert (sum(seen.rated.values()), seen.fault) == (60, None)
    for one in people:
        if given[one].arm == "canary":
            assert collecting.assignment(workbench, caller, "policy", one) == given[one]
