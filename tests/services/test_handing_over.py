"""What other makers' trainers get, tried as they would use it, and what came of it taken back."""

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from rlhf_core.analytics.prompts import read_prompts
from rlhf_core.checkpoints.registry import list_checkpoints
from rlhf_core.ground.configs import PPOConfig
from rlhf_core.ground.errors import CorruptArtifact, InvalidInput, ModelRefused, NotFound, RunRefused
from rlhf_core.ground.settings import PROJECT_ROOT, Workspace
from rlhf_core.inference.client import ModelRef
from rlhf_core.services import handing_over, importing, lineage, snapshots, training
from rlhf_core.services.handing_over import Reading, Trainer, as_read, hand_over, take_back
from rlhf_core.services.workbench import Workbench
from tests.conftest import command, learnable_chats, write_lines

pytestmark = pytest.mark.slow
TOKEN = "a-secret"


@pytest.fixture(scope="module")
def trained_root(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """A workspace with a reward model."""
    folder = tmp_path_factory.mktemp("trained")
    workbench = Workbench(Workspace.resolve(folder / "workspace"))
    importing.import_file(workbench, write_lines(folder / "chats.jsonl", learnable_chats(60)))
    snapshot, _ = snapshots.take(workbench)
    workbench.close()
    command("train", "reward", "--snapshot", snapshot.id, "--reward-base-model", tiny_encoder, "--method", "head",
            "--max-length", 64, root=folder / "workspace")  # fmt: skip
    return folder / "workspace"


@pytest.fixture
def workbench(trained_root: Path, root: Path) -> Iterator[Workbench]:
    shutil.copytree(trained_root, root)
    opened = Workbench(Workspace.resolve(root))
    yield opened
    opened.close()


@pytest.fixture
def reward(workbench: Workbench) -> str:
    return list_checkpoints(workbench.workspace.checkpoints, "reward")[0].id


def options(reward: str, **more: Any) -> PPOConfig:
    return PPOConfig.parse({"base_model": "org/large", "reward": reward, "accept_ungated_reward": True} | more)


@pytest.fixture
def served(workbench: Workbench, root: Path, reward: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "rlhf_core", "--workspace", str(root), "serve-reward", reward, "--port", str(port),
         "--token", TOKEN, "--reward-on", "steps", "--device", "cpu", "--accept-ungated-reward"],
        cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 60
    while True:
        try:
            assert httpx.get(f"{url}/health", timeout=5).json()["checkpoint"] == reward
            break
        except httpx.HTTPError:
            assert time.monotonic() < end
            time.sleep(0.2)
    yield url
    process.terminate()
    process.wait(20)


def loaded(path: Path, url: str, monkeypatch: pytest.MonkeyPatch, token: str = TOKEN) -> ModuleType:
    """As trainers load it: a file by its path."""
    monkeypatch.setenv("RLHF_REWARD_URL", url)
    monkeypatch.setenv("RLHF_REWARD_TOKEN", token)
    spec = importlib.util.spec_from_file_location("reward_func", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_trainers_get_the_rewards_that_our_own_would(
    workbench: Workbench, reward: str, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = options(reward, reward_on="steps")
    one = hand_over(workbench, "openrlhf", training.newest_snapshot(workbench), config, tmp_path / "o", url=served)
    other = hand_over(workbench, "verl", training.newest_snapshot(workbench), config, tmp_path / "v", url=served)
    query = "how do I start in solar job 3"
    answers = ["1. ask for the training voucher\n2. lie about your licence", "Book a visit.", "", "  asdf "]
    asked = [as_read(query, answer, Reading("steps")) for answer in answers]
    (found,) = workbench.scoring.score([ModelRef(reward)], asked, device="cpu")
    assert isinstance(found, list)
    expected = [sum(each.steps) / len(each.steps) if each.steps else each.whole for each in found]
    assert len(found[0].steps) == 2

    module = loaded(one / "reward.py", served, monkeypatch)
    prompt = "<|user|>how do I ...<|assistant|>"
    ends = ["<|im_end|>", "</s>\n", "", "<|im_end|>\n<|endoftext|>"]  # as they are decoded along
    texts = [prompt + answer + end for answer, end in zip(answers, ends, strict=True)]
    given = module.reward_func(texts, [prompt] * 4, [query] * 4, metas=None)
    assert given["rewards"].tolist() == pytest.approx(expected, abs=1e-4)
    assert given["extra_logs"]["stars"].shape == given["scores"].shape == (4,)

    module = loaded(other / "reward.py", served, monkeypatch)
    rows = pq.read_table(other / "train.parquet").to_pylist()
    row = next(each for each in rows if each["prompt"][0]["content"] == each["extra_info"]["query"])
    scores = [module.compute_score(row["data_source"], answer, "", {"query": query}) for answer in answers]
    assert scores == pytest.approx(expected, abs=1e-4)

    wrong = loaded(other / "reward.py", served, monkeypatch, "wrong")
    with pytest.raises(RuntimeError, match="token is missing or wrong"):
        wrong.compute_score("x", "y", "")
    for body, said in (
        ({"query": ["a"], "prompts": [], "labels": None}, "of one length"),
        ({"query": ["a b"], "prompts": ["b"], "labels": None}, "does not begin with its prompt"),
        ({"items": 1}, "valid list"),
    ):
        answer = httpx.post(f"{served}/{'get_reward' if 'query' in body else 'score'}", json=body,
                            headers={"Authorization": f"Bearer {TOKEN}"})  # fmt: skip
        assert answer.status_code in (400, 422)
        assert said in answer.text


@pytest.mark.parametrize("to", ["openrlhf", "verl"])
def test_what_is_handed_over(workbench: Workbench, reward: str, tmp_path: Path, to: Trainer) -> None:
    config = options(reward, ppo_learning_rate=3e-7, kl_coefficient=0.07, max_response_tokens=512, batch_size=64)
    out = hand_over(
        workbench, to, training.newest_snapshot(workbench), config, tmp_path / "out", url="http://rewards:7000", gpus=4
    )
    snapshot = snapshots.listing(workbench)[0]
    prompts = read_prompts(snapshot, config)
    if to == "openrlhf":
        lines = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
        assert [line["label"] for line in lines] == prompts.train
        assert lines[0]["input"] == [{"role": "user", "content": prompts.train[0]}]
        held = [json.loads(line)["label"] for line in (out / "validation.jsonl").read_text().splitlines()]
    else:
        table = pq.read_table(out / "train.parquet")
        assert table.column_names == ["data_source", "prompt", "ability", "reward_model", "extra_info"]
        assert [row["extra_info"]["query"] for row in table.to_pylist()] == prompts.train
        held = [row["extra_info"]["query"] for row in pq.read_table(out / "validation.parquet").to_pylist()]
    assert held == prompts.held_out
    assert not set(held) & set(prompts.train)
    script = (out / "train.sh").read_text()
    longest = "1024" if to == "openrlhf" else "512"  # with the prompt, or the answer alone
    for part in ("3e-07", "0.07", longest, "64", "org/large", "http://rewards:7000", "per_node"):
        assert part in script, part
    assert subprocess.run(["bash", "-n", str(out / "train.sh")], check=False).returncode == 0
    made = json.loads((out / "handed-over.json").read_text())
    assert (made["reward"], made["snapshot_id"], made["to"]) == (reward, snapshot.id, to)
    assert f"serve-reward {reward} --port 7000" in (out / "README.md").read_text()


def test_what_is_not_handed_over(workbench: Workbench, reward: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for config, out, url, said in (
        (options(reward), "there", "http://x", "is there already"),
        (options(reward), "new", "rewards:5000", "is no web address"),
        (options(f"{reward},other"), "new", "http://x", "name the one reward checkpoint"),
        (options("tests.runs.rewards:count_e"), "new", "http://x", "name the one reward checkpoint"),
    ):
        with pytest.raises(InvalidInput, match=said):
            hand_over(workbench, "verl", None, config, tmp_path / out, url=url)
    with pytest.raises(NotFound):
        hand_over(workbench, "verl", None, options("reward-000000000000"), tmp_path / "new")
    with pytest.raises(ModelRefused):
        hand_over(workbench, "verl", None, options(reward, accept_ungated_reward=False, reward_on="answer"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_came_of_it_is_taken_back_with_its_lineage(
    workbench: Workbench, reward: str, tmp_path: Path, tiny_causal: Path
) -> None:
    snapshot_id = training.newest_snapshot(workbench)
    out = hand_over(workbench, "verl", snapshot_id, options(reward), tmp_path / "out")
    for spoil, error, said in (
        (lambda folder: (folder / "config.json").unlink(), NotFound, "no config.json"),
        (lambda folder: (folder / "modeling.py").write_text("x"), CorruptArtifact, "holds modeling.py"),
        (lambda folder: [path.unlink() for path in folder.glob("*.safetensors")], NotFound, "no weights as safetensors"),
    ):
        broken = shutil.copytree(tiny_causal, tmp_path / "broken")
        spoil(broken)
        with pytest.raises(error, match=said):
            take_back(workbench, out, broken)
        shutil.rmtree(broken)
    run, checkpoint = take_back(workbench, out, tiny_causal)
    checkpoint.verify()
    assert (run.status, run.engine, run.checkpoint_id, run.snapshot_id) == ("succeeded", "verl", checkpoint.id, snapshot_id)
    assert checkpoint.id in {one.id for one in training.policies(workbench)}
    found = lineage.lineage(workbench)
    assert found.into(checkpoint.id, "snapshot") == [snapshot_id]
    assert reward in {edge.source for edge in found.edges if edge.target == run.id}
    with pytest.raises(RunRefused, match="taken back before"):
        take_back(workbench, out, tiny_causal)
    (out / handing_over.HANDED).write_text("{}")
    with pytest.raises(CorruptArtifact, match="not handed over by this workbench"):
        take_back(workbench, out, tiny_causal)


def test_by_the_commands(workbench: Workbench, root: Path, reward: str, tmp_path: Path, tiny_causal: Path) -> None:
    out = tmp_path / "out"
    done = command(
        "hand-over", "openrlhf", out, "--reward", reward, "--policy", "org/large", "--accept-ungated-reward", root=root
    )
    assert "README.md says how to go on" in done.stdout
    assert "policy-" in command("take-back", out, tiny_causal, root=root).stdout
    refused = command("serve-reward", reward, "--host", "0.0.0.0", "--accept-ungated-reward", root=root, check=False)
    assert "everybody on the network could ask" in refused.stderr
