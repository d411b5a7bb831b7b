"""The scoring process as pages use it: warm, restarted when it dies, honest about errors."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rlhf_core.ground.errors import ModelUnavailable, NotFound, WorkerFailed
from rlhf_core.inference.client import ModelRef, ScoringClient

pytestmark = pytest.mark.slow
PAIRS = [("solar job", "ask for the training voucher"), ("solar job", "lie about your licence")]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScoringClient]:
    folder = tmp_path_factory.mktemp("scoring")
    (folder / "checkpoints").mkdir()
    one = ScoringClient(folder / "checkpoints", folder / "log.txt")
    yield one
    one.close()


def test_it_scores_in_a_process_of_its_own(client: ScoringClient, tiny_encoder: Path) -> None:
    ref = ModelRef(base=str(tiny_encoder), max_length=64)
    rewards = client.score(ref, PAIRS)
    assert len(rewards) == 2
    assert client.pid not in (None, os.getpid())
    assert client.score(ref, PAIRS[:1]) == pytest.approx(rewards[:1], abs=1e-5)
    assert client.score(ref, []) == []


def test_errors_come_back_as_what_they_are(client: ScoringClient, tiny_encoder: Path) -> None:
    with pytest.raises(NotFound, match="no checkpoint 'reward-x'"):
        client.score(ModelRef(checkpoint="reward-x"), PAIRS)
    with pytest.raises(ModelUnavailable, match="no folder"):
        client.score(ModelRef(base="./nowhere"), PAIRS)
    assert client.score(ModelRef(base=str(tiny_encoder)), PAIRS[:1])  # and it lives on


def test_killed_it_is_started_again(client: ScoringClient, tiny_encoder: Path) -> None:
    ref = ModelRef(base=str(tiny_encoder))
    before = client.score(ref, PAIRS)
    pid = client.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert client.score(ref, PAIRS) == pytest.approx(before)
    assert client.pid != pid


def test_many_threads_get_their_own_answers(client: ScoringClient, tiny_encoder: Path) -> None:
    ref = ModelRef(base=str(tiny_encoder))
    alone = [client.score(ref, [pair])[0] for pair in PAIRS]
    got: dict[int, float] = {}

    def ask(k: int) -> None:
        got[k] = client.score(ref, [PAIRS[k % 2]])[0]

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[k] for k in range(8)] == pytest.approx([alone[k % 2] for k in range(8)])


def test_a_worker_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_core.inference.client.sys.executable", "/bin/false")
    one = ScoringClient(tmp_path, tmp_path / "log.txt")
    with pytest.raises(WorkerFailed, match="died twice"):
        one.score(ModelRef(base="x"), PAIRS)


def test_the_worker_ends_with_its_parent(tmp_path: Path) -> None:
    one = ScoringClient(tmp_path, tmp_path / "log.txt")
    one.warm()
    for _ in range(100):
        if one.pid:
            break
        time.sleep(0.1)
    process = psutil.Process(one.pid)
    assert one._process is not None
    assert one._process.stdin is not None
    one._process.stdin.close()  # what the system does when the parent is gone
    assert process.wait(timeout=60) == 0
    one._process.wait()
    time.sleep(0.1)
    one.close()
