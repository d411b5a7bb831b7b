"""The scoring process as pages and commands use it: warm, shared, restarted when it dies, honest about errors."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlhf_core.ground.answers import Answer, AnswerScore
from rlhf_core.ground.errors import InvalidInput, ModelUnavailable, NotFound, RlhfError, WorkerFailed
from rlhf_core.ground.settings import PROJECT_ROOT
from rlhf_core.inference.client import BUDGET_VARIABLE, ModelRef, ScoringClient, budget_mb, parts_of, socket_path, tokens_of

pytestmark = pytest.mark.slow
GOOD = Answer("solar job", "Ask for the training voucher.\n\nThen enrol.", ("Ask for the training voucher.", "Then enrol."))
BAD = Answer("solar job", "lie about your licence")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScoringClient]:
    folder = tmp_path_factory.mktemp("scoring")
    (folder / "checkpoints").mkdir()
    one = ScoringClient(folder / "checkpoints", folder / "log.txt")
    yield one
    one.close()


def scores(client: ScoringClient, ref: ModelRef, *answers: Answer) -> list[AnswerScore]:
    (found,) = client.score([ref], answers)
    if isinstance(found, RlhfError):
        raise found
    return found


def test_it_scores_in_a_process_of_its_own(client: ScoringClient, tiny_encoder: Path) -> None:
    ref = ModelRef(base=str(tiny_encoder), max_length=64)
    good, bad = scores(client, ref, GOOD, BAD)
    assert len(good.steps) == 2
    assert bad.steps == []
    assert client.pid not in (None, os.getpid())
    (again,) = scores(client, ref, GOOD)
    assert [again.whole, *again.steps] == pytest.approx([good.whole, *good.steps], abs=1e-5)
    assert client.score([ref], []) == [[]]
    done: list[int] = []
    many = client.score([ref], [BAD] * 70, on_progress=done.append)
    assert done == [32, 64, 70]
    assert isinstance(many[0], list)
    assert [one.whole for one in many[0]] == pytest.approx([bad.whole] * 70, abs=1e-5)


def test_who_talks_nonsense_is_hung_up_on(client: ScoringClient, tiny_encoder: Path) -> None:
    ref = ModelRef(base=str(tiny_encoder))
    scores(client, ref, BAD)
    pid = client.pid
    for nonsense in (b"GET / HTTP/1.1\n", b"[]\n", b'{"op": "score"}\n'):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(30)
            stranger.connect(str(socket_path(client._checkpoints)))
            assert b"pid" in stranger.recv(1000)
            stranger.sendall(nonsense)
            assert stranger.recv(1000) == b""
    assert scores(client, ref, BAD)
    assert client.pid == pid


def test_long_answers_go_alone() -> None:
    long = Answer("q", "word " * 5000, ("word",) * 400)
    assert [len(part) for part in parts_of([BAD] * 40 + [long, long, BAD])] == [32, 8, 1, 1, 1]
    assert list(parts_of([])) == []
    assert tokens_of(long) == 401 * 512


def test_what_is_too_long_is_said(client: ScoringClient, tiny_encoder: Path) -> None:
    (one,) = scores(client, ModelRef(base=str(tiny_encoder), max_length=32), Answer("q", "word " * 10_000))
    assert one.left_out > 9_000


def test_one_that_fails_does_not_take_the_others_down(client: ScoringClient, tiny_encoder: Path) -> None:
    refs = [ModelRef(checkpoint="reward-x"), ModelRef(base=str(tiny_encoder)), ModelRef(base="./nowhere")]
    gone, found, nowhere = client.score(refs, [GOOD] * 40)
    assert isinstance(gone, NotFound)
    assert "no checkpoint 'reward-x'" in str(gone)
    assert isinstance(nowhere, ModelUnavailable)
    assert isinstance(found, list)
    assert len(found) == 40


def test_killed_it_is_started_again(client: ScoringClient, tiny_encoder: Path) -> None:
    ref = ModelRef(base=str(tiny_encoder))
    before = scores(client, ref, BAD)[0].whole
    pid = client.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert scores(client, ref, BAD)[0].whole == pytest.approx(before)
    assert client.pid != pid


def test_connections_to_one_that_is_gone_are_not_tried_one_by_one(tmp_path: Path, tiny_encoder: Path) -> None:
    one = ScoringClient(tmp_path, tmp_path / "log.txt")
    with one._line(), one._line(), one._line():
        pass
    assert len(one._free) == 3
    assert one.pid
    os.kill(one.pid, signal.SIGKILL)
    assert scores(one, ModelRef(base=str(tiny_encoder)), BAD)
    assert len(one._free) == 1
    one.close()


def test_many_threads_get_their_own_answers_while_a_long_list_is_scored(client: ScoringClient, tiny_encoder: Path) -> None:
    ref = ModelRef(base=str(tiny_encoder))
    alone = [scores(client, ref, one)[0].whole for one in (GOOD, BAD)]
    got: dict[int, float] = {}
    parts: list[int] = []
    at: list[int] = []

    def ask(k: int) -> None:
        got[k] = scores(client, ref, (GOOD, BAD)[k % 2])[0].whole
        at.append(len(parts))

    long = threading.Thread(target=lambda: client.score([ref], [GOOD] * 1600, on_progress=parts.append))
    long.start()
    while not parts:
        time.sleep(0.01)
    threads = [threading.Thread(target=ask, args=(k,)) for k in range(8)]
    for thread in [*threads, long]:
        thread.start() if thread is not long else None
    for thread in [*threads, long]:
        thread.join()
    assert [got[k] for k in range(8)] == pytest.approx([alone[k % 2] for k in range(8)])
    assert max(at) < len(parts) == 50, "they waited for the whole list"


def test_two_programs_share_one_process(client: ScoringClient, tiny_encoder: Path, tmp_path: Path) -> None:
    ref = ModelRef(base=str(tiny_encoder))
    scores(client, ref, BAD)
    other = ScoringClient(client._checkpoints, tmp_path / "log.txt")
    scores(other, ref, BAD)
    assert other.pid == client.pid
    other.close()
    assert scores(client, ref, BAD)


def test_a_worker_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_core.inference.client.sys.executable", "/bin/false")
    with pytest.raises(WorkerFailed, match="cannot be started"):
        ScoringClient(tmp_path, tmp_path / "log.txt").score([ModelRef(base="x")], [BAD])


def test_one_that_hangs_is_ended_and_said(tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = ScoringClient(tmp_path, tmp_path / "log.txt")
    scores(one, ModelRef(base=str(tiny_encoder)), BAD)
    pid = one.pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr("rlhf_core.inference.client.REQUEST_TIMEOUT_S", 1.0)
    with pytest.raises(WorkerFailed, match=r"did not answer within \d+ s and was ended"):
        scores(one, ModelRef(base=str(tiny_encoder)), BAD)
    gone(pid)


def test_it_ends_when_who_asked_is_killed(tmp_path: Path) -> None:
    """Nobody says goodbye: the system hangs up."""
    code = (
        "import sys, time; from pathlib import Path; from rlhf_core.inference.client import ScoringClient\n"
        f"one = ScoringClient(Path({str(tmp_path)!r}), Path({str(tmp_path / 'log.txt')!r})); one._warm_now()\n"
        "print(one.pid, flush=True); time.sleep(600)"
    )
    asking = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None
    pid = int(asking.stdout.readline())
    asking.kill()
    asking.wait()
    asking.stdout.close()
    gone(pid)
    assert not socket_path(tmp_path).exists()


def gone(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for _ in range(300):
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return
            time.sleep(0.1)
        raise AssertionError(f"{pid} is still there")


def test_nobody_else_can_listen_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setattr("rlhf_core.inference.client.tempfile.gettempdir", lambda: short)
        path = socket_path(tmp_path / "checkpoints")
        assert path.is_relative_to(short)
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert socket_path(tmp_path / "checkpoints") == path != socket_path(tmp_path / "others")
        path.parent.chmod(0o755)
        with pytest.raises(WorkerFailed, match="not a folder of this account alone"):
            socket_path(tmp_path / "checkpoints")


def test_a_long_path_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_core.inference.client.tempfile.gettempdir", lambda: str(tmp_path / ("x" * 120)))
    assert len(str(socket_path(tmp_path))) < 100


def test_what_a_killed_one_left_behind_is_no_obstacle(tmp_path: Path, tiny_encoder: Path) -> None:
    path = socket_path(tmp_path)
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    one = ScoringClient(tmp_path, tmp_path / "log.txt")
    assert scores(one, ModelRef(base=str(tiny_encoder)), BAD)
    one.close()


def test_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    assert budget_mb() > 100
    monkeypatch.setenv(BUDGET_VARIABLE, "250")
    assert budget_mb() == 250
    for wrong in ("much", "-1", "nan"):
        monkeypatch.setenv(BUDGET_VARIABLE, wrong)
        with pytest.raises(InvalidInput, match="expected MiB"):
            budget_mb()


@pytest.fixture
def policy(tiny_causal: Path) -> str:
    return str(tiny_causal)


def test_answers_are_streamed_side_by_side_and_scored_between(client: ScoringClient, policy: str, tiny_encoder: Path) -> None:
    how: dict[str, Any] = {"max_tokens": 60, "seed": 4, "device": "cpu"}
    ((whole, _),) = client.write(policy, "how do I start", 1, **how)
    one, other = client.stream(policy, "how do I start", **how), client.stream(policy, "how do I start", **how)
    said = ["", ""]
    for k in range(40):
        said[0] += next(one)
        said[1] += next(other)
        if k == 20:
            assert scores(client, ModelRef(base=str(tiny_encoder)), GOOD)
    assert said[0] == said[1]
    assert whole.startswith(said[0].strip())
    assert whole == (said[0] + "".join(one)).strip()
    other.close()
    assert scores(client, ModelRef(base=str(tiny_encoder)), GOOD)


def test_a_stream_that_nobody_reads_ends_with_its_connection(client: ScoringClient, policy: str) -> None:
    endless = client.stream(policy, "how do I start", max_tokens=200, temperature=5.0, seed=1)
    next(endless)
    pid = client.pid
    assert pid
    worker = psutil.Process(pid)
    endless.close()
    assert client.write(policy, "how do I start", 1, max_tokens=1)
    before = sum(worker.cpu_times()[:2])
    time.sleep(1)
    assert sum(worker.cpu_times()[:2]) - before < 0.5


def test_what_cannot_be_streamed_is_said(client: ScoringClient, policy: str, tiny_encoder: Path) -> None:
    with pytest.raises(ModelUnavailable, match="writes no text"):
        next(client.stream(str(tiny_encoder), "how do I start", max_tokens=5))
    with pytest.raises(InvalidInput, match="reads 256 in all"):
        next(client.stream(policy, "how do I start", max_tokens=255))
    with pytest.raises(ModelUnavailable, match="There is no checkpoint policy-000000000000 here"):
        next(client.stream("policy-000000000000", "how do I start", max_tokens=5))


def test_killed_in_mid_sentence(client: ScoringClient, policy: str) -> None:
    tokens = client.stream(policy, "how do I start", max_tokens=200, temperature=5.0, seed=1)
    next(tokens)
    assert client.write(policy, "how do I start", 1, max_tokens=1)
    pid = client.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerFailed, match=r"died while it wrote.*SIGKILL"):
        list(tokens)
    assert client.write(policy, "how do I start", 1, max_tokens=1)


def test_a_stream_goes_on_while_a_long_list_is_scored(client: ScoringClient, policy: str, tiny_encoder: Path) -> None:
    tokens = client.stream(policy, "how do I start", max_tokens=100, temperature=5.0, seed=1)
    next(tokens)
    done: list[int] = []
    many = [Answer(f"question {k}", "Ask for the voucher. " * 20) for k in range(320)]
    bulk = threading.Thread(target=lambda: client.score([ModelRef(base=str(tiny_encoder))], many, on_progress=done.append))
    bulk.start()
    for _ in range(5):
        next(tokens)
    assert not done or done[-1] < 320
    bulk.join()
    tokens.close()
