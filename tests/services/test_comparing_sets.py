"""Sets of answers: gathered from snapshots and files, scored once, set side by side, sent to labelling."""

import io
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import roc_auc_score

from rlhf_core.checkpoints.registry import SEEN_FILE, Checkpoint, open_checkpoint
from rlhf_core.ground.answers import Answer, AnswerScore
from rlhf_core.ground.errors import ImportRejected, InvalidInput, NotFound, RlhfError, WorkerFailed
from rlhf_core.ground.files import building, write_json
from rlhf_core.ground.records import Session
from rlhf_core.ground.text import query_key
from rlhf_core.inference.client import AT_ONCE, ModelRef
from rlhf_core.services import comparing, comparing_sets, labeling, scoring, snapshots, storage
from rlhf_core.services.comparing import Candidate
from rlhf_core.services.workbench import Workbench
from tests.checkpoints.test_registry import make, seal
from tests.conftest import command


class Scorer:
    """Stands in for the scoring process: a reward is a length in characters, by each checkpoint in its own unit."""

    def __init__(self, workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[int, int]] = []
        self.devices: set[str] = set()
        self.fail_after = 10**9
        monkeypatch.setattr(workbench.scoring, "score", self.score)

    def score(self, refs: Sequence[ModelRef], answers: Sequence[Answer], *, device: str) -> list[list[AnswerScore] | RlhfError]:
        if len(self.asked) >= self.fail_after:
            raise WorkerFailed("it died twice")
        self.asked.append((len(refs), len(answers)))
        self.devices.add(device)
        return [
            [AnswerScore(len(one.response) / (k + 1), [len(step) / (k + 1) for step in one.steps]) for one in answers]
            for k, _ in enumerate(refs)
        ]


@pytest.fixture
def scorer(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    return Scorer(workbench, monkeypatch)


def checkpoint(workbench: Workbench, run_id: str, seen: Sequence[str] | None = None) -> Checkpoint:
    folder = workbench.workspace.checkpoints
    if seen is None:
        return make(folder, run_id)
    with building(folder) as scratch:
        (scratch / "model.safetensors").write_bytes(b"weights")
        write_json(scratch / SEEN_FILE, {"queries": [query_key(one) for one in seen]})
        return seal(
            scratch, folder, kind="reward", run_id=run_id, snapshot_id="s", parent="base", complete=True, config={}, metrics={},
            scoring={"error_threshold": 20.0}, libraries={},
        )  # fmt: skip


def two(workbench: Workbench) -> list[Candidate]:
    return [comparing.candidate(workbench, checkpoint(workbench, run).id) for run in ("one", "two")]


def test_a_snapshot_is_gathered_with_what_people_gave(demo: Workbench) -> None:
    taken, _ = snapshots.take(demo)
    gathered = comparing_sets.of_snapshot(demo, taken.id[:8])
    assert len(gathered.answers) == 60
    for one in gathered.answers[:10]:
        chat = demo.store.chat(one.chat_id)
        assert one.answer == Answer(chat.query, chat.response, tuple(step.step_content for step in chat.steps))
        given = demo.store.mean_scores(chat.id)
        assert one.people.get(0) == given.get(None)
        assert all(one.people.get(step.step_order) == given.get(step.id) for step in chat.steps)
    (source,) = comparing_sets.sources_of(demo, taken.id)
    assert {one.source for one in gathered.answers} == {source}
    solar = comparing_sets.of_snapshot(demo, taken.id, words="SOLAR").answers
    assert 0 < len(solar) < 60
    assert all("solar" in one.answer.query.lower() for one in solar)
    few = comparing_sets.of_snapshot(demo, taken.id, at_most=7).answers
    assert [one.chat_id for one in comparing_sets.of_snapshot(demo, taken.id, at_most=7).answers] == [one.chat_id for one in few]
    assert 0 < len(few) <= 7
    with pytest.raises(InvalidInput, match="has no answer like that"):
        comparing_sets.of_snapshot(demo, taken.id, words="nobody asks this")


def test_held_out_leaves_out_what_a_checkpoint_learned_from(demo: Workbench, scorer: Scorer) -> None:
    taken, _ = snapshots.take(demo)
    every = comparing_sets.of_snapshot(demo, taken.id).answers
    first, second = every[0].answer.query, every[1].answer.query
    one, other = checkpoint(demo, "one", [first]), checkpoint(demo, "two", [second.upper()])
    left = comparing_sets.of_snapshot(demo, taken.id, unseen_by=[one, other]).answers
    assert {item.answer.query for item in every} - {item.answer.query for item in left} == {first, second}
    silent = make(demo.workspace.checkpoints)
    with pytest.raises(InvalidInput, match="does not say which queries it learned from"):
        comparing_sets.of_snapshot(demo, taken.id, unseen_by=[silent])
    chosen = [comparing.candidate(demo, made.id) for made in (one, silent)]
    compared = comparing_sets.compare(demo, chosen, comparing_sets.Gathered(every))
    assert compared.seen == {one.id: sum(item.answer.query == first for item in every), silent.id: None}


def test_a_file_is_read_and_nothing_is_stored(workbench: Workbench) -> None:
    lines = [
        {"query": "q1", "response": "1. a\n2. b", "step_labels": [1, -1]},
        {"query": "q2", "steps": ["c", "d"], "score": 5, "rater": "ana"},
    ]
    data = "".join(json.dumps(one) + "\n" for one in lines).encode()
    gathered = comparing_sets.of_file(workbench, io.BytesIO(data), "some.jsonl")
    first, second = gathered.answers
    assert first.answer.steps == ("a", "b")
    assert (first.people, first.first_bad) == ({1: (5.0, 1), 2: (1.0, 1)}, 1)
    assert (second.people, second.first_bad) == ({0: (5.0, 1)}, None)
    assert workbench.counts().chats == 0
    assert len(comparing_sets.of_file(workbench, io.BytesIO(data), "some.jsonl", at_most=1).answers) == 1
    with pytest.raises(ImportRejected, match="line 1"):
        comparing_sets.of_file(workbench, io.BytesIO(b'{"query": ""}\n'), "some.jsonl")
    with pytest.raises(NotFound, match="no file"):
        comparing_sets.of_path(workbench, Path("/nowhere.jsonl"))
    with pytest.raises(InvalidInput, match="Type a question"):
        comparing_sets.of_text("q", " ")


def test_nothing_is_scored_twice(workbench: Workbench, scorer: Scorer) -> None:
    refs = [one.ref for one in two(workbench)]
    answers = [Answer("q", "x" * k, ("y" * k,)) for k in range(1, 101)]
    seen: list[tuple[int, int]] = []
    found = scoring.score_answers(workbench, refs, answers, lambda done, of: seen.append((done, of)))
    assert [one.whole for one in found[1]] == [k / 2 for k in range(1, 101)]  # type: ignore[union-attr]
    assert scorer.asked == [(2, AT_ONCE), (2, AT_ONCE), (2, AT_ONCE), (2, 100 - 3 * AT_ONCE)]
    assert seen[-1] == (100, 100)
    scorer.asked.clear()
    more = [*answers[::-1], Answer("q", "new"), Answer("q", "new")]
    again = scoring.score_answers(workbench, refs, more)
    assert again[0][:100] == found[0][::-1]  # type: ignore[index]
    assert scorer.asked == [(2, 1)], "only the new one, once"
    scorer.asked.clear()
    scoring.score_answers(workbench, [refs[0], ModelRef(base="b")], answers[:3])
    assert scorer.asked == [(1, 3)], "an untrained base is not kept, and the checkpoint need not be asked"


def test_what_was_worked_out_before_the_process_died_is_kept(workbench: Workbench, scorer: Scorer) -> None:
    refs = [one.ref for one in two(workbench)]
    answers = [Answer("q", "x" * k) for k in range(1, 101)]
    scorer.fail_after = 2
    with pytest.raises(WorkerFailed):
        scoring.score_answers(workbench, refs, answers)
    scorer.fail_after = 10**9
    scorer.asked.clear()
    scoring.score_answers(workbench, refs, answers)
    assert sum(count for _, count in scorer.asked) == 100 - 2 * AT_ONCE


def test_a_checkpoint_that_was_removed_says_nothing_from_memory(workbench: Workbench, scorer: Scorer) -> None:
    kept, going = two(workbench)
    answers = [Answer("q", "a")]
    assert all(isinstance(one, list) for one in scoring.score_answers(workbench, [kept.ref, going.ref], answers))
    storage.remove(workbench, [going.label])
    found = scoring.score_answers(workbench, [kept.ref, going.ref], answers)
    assert isinstance(found[0], list)
    assert isinstance(found[1], NotFound)
    assert workbench.score_cache.read(going.label, [answers[0].key]) == {}


def test_a_policy_scores_nothing(workbench: Workbench, scorer: Scorer) -> None:
    with building(workbench.workspace.checkpoints) as scratch:
        (scratch / "model.safetensors").write_bytes(b"weights")
        policy = seal(
            scratch, workbench.workspace.checkpoints, kind="policy", run_id="r", snapshot_id="", parent="p", complete=True,
            config={}, metrics={}, scoring={}, libraries={},
        )  # fmt: skip
    (found,) = scoring.score_answers(workbench, [ModelRef(checkpoint=policy.id)], [Answer("q", "a")])
    assert isinstance(found, InvalidInput)
    assert "only a reward model scores" in str(found)
    with pytest.raises(InvalidInput, match="which writes answers"):
        comparing.candidate(workbench, policy.id)


def test_a_gpu_that_a_run_holds_is_left_alone(workbench: Workbench, scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = [one.ref for one in two(workbench)]
    scoring.score_answers(workbench, refs, [Answer("q", "a")])
    run = workbench.ledger.add("r", "ppo", {}, "", None)
    workbench.ledger.claim(run.id, scoring.this_host(), "cuda:0")
    scoring.score_answers(workbench, refs, [Answer("q", "b")])
    workbench.ledger.finish(run.id, "succeeded", None, None)
    assert scorer.devices == {"auto", "cpu"}
    assert scoring.scoring_device(workbench) == "auto"


def test_the_table_holds_what_was_scored_and_the_furthest_apart_first(demo: Workbench, scorer: Scorer) -> None:
    taken, _ = snapshots.take(demo)
    chosen = two(demo)
    compared = comparing_sets.compare(demo, chosen, comparing_sets.of_snapshot(demo, taken.id))
    things = compared.things()
    table = comparing_sets.frame(compared, things)
    assert len(table) == sum(1 + len(one.answer.steps) for one in compared.answers)
    assert (table[chosen[0].label] == table["text"].str.len()).all()
    assert table["apart"].is_monotonic_decreasing
    middle = table[chosen[0].label] - table[chosen[1].label]
    assert table["apart"].to_list() == pytest.approx((middle - middle.mean()).abs().to_list())
    rated = table[table["people"].notna() & table["step"].notna()]
    assert len(rated) == (things.of_kind("steps") & things.rated).sum()
    single = comparing_sets.compare(demo, chosen[:1], comparing_sets.of_snapshot(demo, taken.id))
    alone = comparing_sets.frame(single, single.things())
    assert alone["apart"].iloc[0] == pytest.approx(abs(alone[chosen[0].label].iloc[0] - alone["people"].iloc[0]))
    lines = list(comparing_sets.as_lines(compared))
    assert len(lines) == 60
    assert lines[0]["rewards"][chosen[1].label]["whole"] == len(lines[0]["response"]) / 2
    assert len(lines[0]["people"]["steps"]) == len(lines[0]["steps"])


def test_disagreements_become_a_queue_of_those_steps(demo: Workbench, scorer: Scorer, ana: Session) -> None:
    taken, _ = snapshots.take(demo)
    compared = comparing_sets.compare(demo, two(demo), comparing_sets.of_snapshot(demo, taken.id))
    table = comparing_sets.frame(compared, compared.things())
    steps = table[table["step"].notna()]
    queue, chats = comparing_sets.to_queue(demo, compared, steps, "Apart", count=12)
    wanted: dict[str, set[int]] = {}
    for chat_id, step in zip(steps["chat_id"].head(12), steps["step"].head(12), strict=True):
        wanted.setdefault(chat_id, set()).add(int(step))
    assert chats == len(wanted)
    claimed = labeling.claim(demo, ana, queue.id, 20)
    asked = labeling.steps_asked(demo, queue, [view.chat.id for view in claimed])
    assert {chat_id: set(orders) for chat_id, orders in asked.items()} == wanted
    whole, _ = comparing_sets.to_queue(demo, compared, table[table["step"].isna()], "Whole", count=2)
    assert len(labeling.claim(demo, ana, whole.id, 20)) == 2
    foreign = comparing_sets.compare(demo, two(demo)[:1], comparing_sets.of_text("q", "1. a\n2. b"))
    with pytest.raises(InvalidInput, match="Import the file first"):
        comparing_sets.to_queue(demo, foreign, comparing_sets.frame(foreign, foreign.things()), "None", count=5)


def pair(query: str, first: str, second: str, choice: str) -> dict[str, Any]:
    return {"query": query, "response_a": first, "response_b": second, "choice": choice}


def test_best_of_several_by_pairs_and_by_scores(workbench: Workbench, scorer: Scorer) -> None:
    """Rewards are lengths here, so the longest answer is picked."""
    lines = [
        pair("q1", "long one here", "short", "a"), pair("q1", "long one here", "middling", "a"),
        pair("q1", "short", "middling", "b"),
        pair("q2", "long one here", "short", "b"), pair("q3", "long one here", "short", "tie"),
    ]  # fmt: skip
    data = "".join(json.dumps(one) + "\n" for one in lines).encode()
    gathered = comparing_sets.of_file(workbench, io.BytesIO(data), "pairs.jsonl")
    assert len(gathered.answers) == 7
    chosen = two(workbench)
    found = comparing_sets.best_of_n(comparing_sets.compare(workbench, chosen, gathered))[chosen[0].label]
    assert (found.queries, found.right.value) == (2, 0.5)  # the tie tells nothing apart
    assert found.chance == pytest.approx((1 / 3 + 1 / 2) / 2)
    rated = [{"query": "q4", "response": "longest", "score": 1}, {"query": "q4", "response": "short", "score": 5}]
    gathered = comparing_sets.of_file(workbench, io.BytesIO("".join(json.dumps(one) + "\n" for one in rated).encode()), "r.jsonl")
    found = comparing_sets.best_of_n(comparing_sets.compare(workbench, chosen, gathered))[chosen[0].label]
    assert (found.queries, found.right.value) == (1, 0.0)
    nothing = comparing_sets.of_text("q", "a")
    assert comparing_sets.best_of_n(comparing_sets.compare(workbench, chosen, nothing)) == {}
    with pytest.raises(InvalidInput, match="at least one checkpoint"):
        comparing_sets.compare(workbench, [], nothing)


@pytest.mark.slow
def test_real_checkpoints_and_an_independent_computation(demo: Workbench, root: Path) -> None:
    """Trained, compared, and every number worked out again by other means; then the same by the command line."""
    taken, _ = snapshots.take(demo)
    options = ["--reward-base-model", "minilm-l6", "--method", "head", "--learning-curve", "False", "--max-examples", "60",
               "--max-eval-examples", "20", "--folds", "0"]  # fmt: skip
    for seed in (1, 2):
        command("train", "reward", "--snapshot", taken.id, *options, "--seed", str(seed), root=root)
    chosen = [one for one in comparing.candidates(demo) if one.checkpoint]
    gathered = comparing_sets.of_snapshot(demo, taken.id, at_most=8)
    compared = comparing_sets.compare(demo, chosen, gathered)
    assert compared.errors == {}
    things = compared.things()

    from rlhf_core.learn.reward_model import RewardModel

    for row, one in enumerate(chosen):
        assert one.checkpoint
        model = RewardModel.open(one.checkpoint.folder, device="cpu")
        mine = []
        for item in gathered.answers:
            query, response, steps = item.answer
            mine += [model.compute_reward(query, response), *model.score_steps(query, steps, response)]
        assert things.rewards[row].tolist() == pytest.approx(mine, abs=2e-5)
        people = things.people
        steps_rated = (things.order > 0) & ((people >= 4) | (people <= 2))
        figure = comparing_sets.measured(things, row, "steps").auc.value
        assert figure == pytest.approx(roc_auc_score(people[steps_rated] >= 4, things.rewards[row][steps_rated]))

    unseen_by = [one.checkpoint for one in chosen if one.checkpoint]
    assert 0 < len(comparing_sets.of_snapshot(demo, taken.id, unseen_by=unseen_by).answers) < 60
    held_out = comparing_sets.of_snapshot(demo, taken.id, unseen_by=unseen_by, at_most=3)
    assert set(comparing_sets.compare(demo, chosen, held_out).seen.values()) == {0}

    ids = [one.checkpoint.id for one in chosen if one.checkpoint]
    done = command("score", "--checkpoint", *ids, "--snapshot", taken.id, "--at-most", "8", root=root)
    lines = {line["id"]: line for line in map(json.loads, done.stdout.splitlines())}
    for k, item in enumerate(gathered.answers):
        for label, name in zip(compared.labels, ids, strict=True):
            assert lines[item.chat_id]["rewards"][name]["whole"] == pytest.approx(compared.scores[label][k].whole, abs=2e-5)
    typed = command("score", "--checkpoint", ids[0], "--query", "solar job", "--response", "1. Call.\n2. Enrol.", root=root)
    assert len(json.loads(typed.stdout)["rewards"][ids[0]]["steps"]) == 2
    (open_checkpoint(demo.workspace.checkpoints, ids[1]).folder / "model.safetensors").write_bytes(b"broken")
    assert demo.scoring.pid
    os.kill(demo.scoring.pid, signal.SIGKILL)  # it has the model in memory still
    broken = command("score", "--checkpoint", *ids, "--query", "new", "--response", "1. Call.\n2. Enrol.", root=root, check=False)
    assert broken.returncode == 1
    assert "is not the file that training wrote" in broken.stderr
    assert ids[0] in json.loads(broken.stdout)["rewards"]
    missing = command("score", "--checkpoint", "reward-none", "--query", "q", "--response", "a", root=root, check=False)
    assert missing.returncode != 0
    assert "There is no checkpoint 'reward-none'" in missing.stderr
