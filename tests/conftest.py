"""Shared fixtures: a fresh workspace each, a tiny real encoder made on the spot, small sets of chats."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.ground.judgement import Aspect, Decision, GoldAnswer
from rlhf_core.ground.records import EVERY_PAIR, LabelOp, Queue, Session, new_id
from rlhf_core.ground.settings import PROJECT_ROOT, WORKSPACE_VARIABLE, Workspace
from rlhf_core.services import importing, snapshots
from rlhf_core.services.demo import DEMO_FILE, load_demo
from rlhf_core.services.workbench import Workbench

pytest_plugins = ["tests.supabase.fixtures"]
pytest.register_assert_rewrite(*(f"tests.contract.{part}_contract" for part in ("store", "labelling", "judgement", "rollout")))
os.environ["RLHF_STORE"] = "sqlite"  # whatever this machine's settings say; tests of a team's store say otherwise
for variable in ("RLHF_DEPOT", "RLHF_RAY_ADDRESS", "RLHF_RAY_TOKEN"):
    os.environ.pop(variable, None)
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may depend on a model hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # toy models are quickest on one thread


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for the whole of the quick or the slow tests; single files run in one."""
    whole = config.args == config.getini("testpaths")
    return min(2, os.cpu_count() or 1) if whole and config.option.markexpr in ("slow", "not slow") else 0


@pytest.hookimpl(wrapper=True, tryfirst=True)  # wrappers come before xdist, which reads the groups first of all others
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, object, object]:
    """Browsers one after another in one process, beside training in the other: two of them would slow each other down."""
    for item in items:
        if "e2e" in item.path.parts or "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("browser"))
    return (yield)


def pytest_collection_finish() -> None:
    """What was imported stays: no collection of garbage goes through it again, and with so much there few are needed."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a fresh workspace, which the environment points at."""
    folder = tmp_path / "workspace"
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def workbench(root: Path, request: pytest.FixtureRequest) -> Iterator[Workbench]:
    """A fresh workspace; of tests that ask for ``demo`` or ``judged``, the one that these fill."""
    name = next((one for one in ("judged", "demo") if one in request.fixturenames), "empty")
    shutil.copytree(request.getfixturevalue(f"{name}_root"), root, dirs_exist_ok=True)
    opened = Workbench(Workspace.resolve(root))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def empty_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without a row: copied, it is there sooner than by its migrations."""
    folder = tmp_path_factory.mktemp("empty") / "workspace"
    Workbench(Workspace.resolve(folder)).close()
    return folder


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "workspace"
    filled = Workbench(Workspace.resolve(folder))
    importing.import_file(filled, DEMO_FILE, preset="chats", origin="demo")
    filled.close()
    return folder


@pytest.fixture(scope="session")
def judged_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged") / "workspace"
    filled = Workbench(Workspace.resolve(folder))
    load_demo(filled)
    judge(filled)
    filled.close()
    return folder


@pytest.fixture(scope="session")
def judged_snapshot(judged_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """One of ``judged``, to ask and not to change."""
    folder = tmp_path_factory.mktemp("asked") / "workspace"
    shutil.copytree(judged_root, folder)
    filled = Workbench(Workspace.resolve(folder))
    snapshot, _ = snapshots.take(filled)
    filled.close()
    return snapshot


@pytest.fixture
def demo(workbench: Workbench) -> Workbench:
    """The rated chats of the demonstration set, without its pairs."""
    return workbench


@pytest.fixture
def judged(workbench: Workbench) -> Workbench:
    """The demonstration set with its pairs, and what two people did with gold, hints, aspects, rewrites and disputes."""
    return workbench


def judge(workbench: Workbench) -> None:
    store = workbench.store
    queue = store.save_queue(Queue(new_id(), "Careful", overlap=2, gold_rate=0.2, hint_checkpoint="ck-1"))
    rubric = store.save_rubric(queue.id, [Aspect("factual", "Is it true?", "answer", {1: "made up", 5: "checked"})])
    chats = [store.chat(one.id) for one in store.search_chats(limit=6)]
    pair = next(one for one in chosen_pairs(workbench))
    rewards = {chat.id: {"": 2.5} | {step.id: 2.0 for step in chat.steps} for chat in chats}
    store.set_hints(queue.id, "ck-1", rewards)
    people = [Workbench.session(workbench.add_person(name)) for name in ("Ana", "Ben")]
    keeper = store.for_user(people[0])
    keeper.save_gold(chats[0].id, GoldAnswer({None: 5}, ""), "All of it holds.")
    for k, person in enumerate(people):
        mine = store.for_user(person)
        mine.claim(queue.id, 100)  # known answers are told only to those they were handed to
        ops: list[LabelOp] = []
        for n, chat in enumerate(chats):
            for step in chat.steps:
                score = 5 if k == 0 else 1 + (n + step.step_order) % 5
                ops.append(LabelOp(new_id(), "rate", chat.id, step.id, {"score": score, "scale": "stars"}))
                ms = 900 + 40 * len(step.step_content) + 700 * k
                ops.append(LabelOp(new_id(), "dwell", chat.id, step.id, {"ms": ms}))
            ops.append(LabelOp(new_id(), "rate", chat.id, None, {"score": 4 - k, "scale": "stars"}))
            value = {"queue": queue.id, "version": rubric.version, "aspect": "factual", "score": 1 + (n + k) % 5}
            ops.append(LabelOp(new_id(), "aspect", chat.id, None, value))
            ops.append(LabelOp(new_id(), "submit", chat.id, None, {"queue": queue.id}))
        verdict = {"other": pair[1], "verdict": "chat" if k else "other", "strength": 2, "left": pair[0], "comment": "clearer"}
        ops.append(LabelOp(new_id(), "prefer", pair[0], None, verdict))
        if k == 0:  # one of them is as many as that queue asks for
            ops.append(LabelOp(new_id(), "submit", pair[0], None, {"queue": EVERY_PAIR, "other": pair[1]}))
        assert set(mine.apply(ops).values()) == {""}
        mine.release(queue.id)
        for chat in chats:
            assert mine.after(queue.id, chat.id) is not None
    second = store.for_user(people[1])
    marks = [LabelOp(new_id(), "first_error", chats[1].id, chats[1].steps[1].id)]
    marks.append(LabelOp(new_id(), "rewrite", chats[1].id, chats[1].steps[1].id, {"text": "Ask the career center first."}))
    assert set(second.apply(marks).values()) == {""}
    second.rate(chats[2].id, None, 2, "stars")  # after the hint
    keeper.decide(Decision(new_id(), chats[1].id, None, chats[1].steps[1].id, "score", "2", "It names no source."))


def chosen_pairs(workbench: Workbench) -> list[tuple[str, str]]:
    """The demonstration's pairs, as the store writes them."""
    with workbench.store.export() as export:
        found = {(row[1], row[2]) for batch in export.rows("preferences") for row in batch}
    return sorted(found)


@pytest.fixture
def ana(workbench: Workbench) -> Session:
    return Workbench.session(workbench.add_person("Ana"))


def write_lines(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture
def add_chats(workbench: Workbench, tmp_path: Path) -> Any:
    """Import records given as dicts; returns the report."""
    count = 0

    def add(*records: dict[str, Any], **options: Any) -> importing.ImportReport:
        nonlocal count
        count += 1
        return importing.import_file(workbench, write_lines(tmp_path / f"chats{count}.jsonl", [*records]), **options)

    return add


GOOD = ("book a visit at the career center", "ask for the training voucher", "apply for the apprenticeship")
BAD = ("wire the panel live without gloves", "lie about your licence", "pay a stranger in cash")


def learnable_chats(count: int = 24) -> list[dict[str, Any]]:
    """Chats whose good and bad steps differ in their words, so that even a tiny model can learn them."""
    records = []
    for k in range(count):
        steps = [GOOD[k % 3], BAD[k % 3]] if k % 2 else [BAD[(k + 1) % 3], GOOD[(k + 2) % 3]]
        scores = [5 if step in GOOD else 1 for step in steps]
        judged = [{"step": n, "score": score, "rater": "Rui"} for n, score in enumerate(scores, 1)]
        judged.append({"score": 4 if steps[-1] in GOOD else 2, "rater": "Rui"})
        records.append({"id": f"c{k}", "query": f"how do I start in solar job {k}", "steps": steps, "feedback": judged})
    return records


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real BERT of 2 layers x 32 with a WordPiece vocabulary of the words used here. Random weights, seeded."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-encoder")
    words = sorted(
        {word for text in [*GOOD, *BAD, "user : assistant how do i start in solar job"] for word in text.lower().split()}
    )
    pieces = [*"abcdefghijklmnopqrstuvwxyz0123456789", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"), ".", ",", "?"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys([*words, *pieces])]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=128,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real Llama of 2 layers x 32 with a byte-level vocabulary. Random weights, seeded."""
    from tests.learn.policies import save_policy, tiny_llama, tiny_tokenizer

    tokenizer = tiny_tokenizer()
    return save_policy(tmp_path_factory.mktemp("tiny-causal"), tiny_llama(tokenizer), tokenizer)


def command(*arguments: object, root: Path, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the real command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "rlhf_core", *map(str, arguments)],
        cwd=PROJECT_ROOT, env=os.environ | {WORKSPACE_VARIABLE: str(root)}, text=True,
        capture_output=True, timeout=240, **options,
    )  # fmt: skip
    if check and done.returncode != 0:
        raise AssertionError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def need(condition: object, what: str) -> None:
    """Skip a test whose machine lacks something, with the reason; with RLHF_NO_SKIP set (as in CI) that is a failure."""
    if not condition:
        if os.environ.get("RLHF_NO_SKIP"):
            pytest.fail(f"not possible here: {what}")
        pytest.skip(f"not possible here: {what}")
