"""Write answers to a snapshot's queries: ``python -m rlhf_core generate --base-model NAME``.

A policy of this machine writes in batches, an endpoint answers several requests at once. Each batch is drawn by a seed of its
own, so that a run goes on after any interruption to the answers that it would have come to.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from transformers.utils import logging as transformers_logging

from rlhf_core.analytics.snapshot import open_snapshot
from rlhf_core.checkpoints.base_models import locate
from rlhf_core.ground.configs import GenerateConfig
from rlhf_core.ground.errors import NotEnoughData, disk_errors
from rlhf_core.ground.files import write_text
from rlhf_core.ground.runs import ANSWERS_FILE
from rlhf_core.ground.settings import EndpointSettings, Workspace, endpoint_named
from rlhf_core.inference import endpoint
from rlhf_core.learn.reward_model import pick_device
from rlhf_core.learn.writing import Writer, Written
from rlhf_core.runs.recording import Cancelled, Recorder, log

AT_ONCE_ENDPOINT = 16  # requests
Write = Callable[[Sequence[str], int], list[Written]]  # of queries and a seed


def generate(
    workspace: Workspace, run_id: str, snapshot_id: str, config: GenerateConfig, recorder: Recorder
) -> tuple[str, str]:  # fmt: skip
    """Run the whole of it. Returns (what came of it in words, "": there is no checkpoint). Answers are in the run's folder.

    Raises:
        NotEnoughData: the snapshot has no query, or none that fits the policy.
        NotFound: the endpoint is not in the settings.
        ModelUnavailable, CorruptArtifact, EndpointFailed, StorageFull: said in the ledger as they are.
        Cancelled: what was written is kept.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()

    # 1. The queries.
    recorder.phase("reading the snapshot")
    snapshot = open_snapshot(workspace.snapshots, snapshot_id, verify=True)
    queries = [one for one in dict.fromkeys(snapshot.table("chats")["query"].to_pylist()) if (one or "").strip()]
    queries = queries[: config.max_queries]

    # 2. Who writes.
    recorder.phase("loading the policy" if config.endpoint is None else "asking the endpoint")
    write, fitting, at_once = _endpoint(config, queries) if config.endpoint else _policy(workspace, config, queries)
    if len(fitting) < len(queries):
        log.warning("mind: %d of %d queries are too long for it and are left out", len(queries) - len(fitting), len(queries))
    if not fitting:
        raise NotEnoughData(
            f"Snapshot {snapshot.id} has no query that fits. Lower max_tokens, or take a policy that reads more."
            if queries else f"Snapshot {snapshot.id} has no queries. Import chats and take a new one."
        )  # fmt: skip
    asked = [query for query in fitting for _ in range(config.answers)]

    # 3. The writing.
    answers = Answers(workspace, run_id, config)
    batches, done = _plan(asked, answers.taken_over(), at_once)
    recorder.phase("writing", step=done * at_once, total=len(asked))
    began = time.monotonic()
    for k in range(done, len(batches)):
        if recorder.should_stop:
            raise Cancelled(f"Stopped after {k * at_once} of {len(asked)} answers; they are kept, and the run can go on.")
        written = write(batches[k], config.seed + k)
        answers.add(batches[k], written)
        count = min(len(asked), (k + 1) * at_once)
        recorder.step(
            count, ended=sum(one.ended for one in written) / len(written),
            characters=sum(len(one.text) for one in written) / len(written),
            answers_per_s=(count - done * at_once) / (time.monotonic() - began),
        )  # fmt: skip
    recorder.phase("putting answers into the store", step=len(asked))
    return f"{len(asked)} answers to {len(fitting)} queries by {config.base_model}.", ""


def _plan(asked: Sequence[str], answered: Sequence[str], at_once: int) -> tuple[list[list[str]], int]:
    """Batches of queries, and how many of them are answered already. A run whose snapshot has lost chats since it began, because
    somebody was erased, answers those that are left."""
    batches = [list(asked[k : k + at_once]) for k in range(0, len(asked), at_once)]
    done = -(-len(answered) // at_once)
    if list(answered) == [query for batch in batches[:done] for query in batch]:
        return batches, done
    left, missing = Counter(answered), []
    for query in asked:
        if left[query]:
            left[query] -= 1
        else:
            missing.append(query)
    old = [list(answered[k : k + at_once]) for k in range(0, len(answered), at_once)]
    return old + [missing[k : k + at_once] for k in range(0, len(missing), at_once)], len(old)


def _policy(workspace: Workspace, config: GenerateConfig, queries: Sequence[str]) -> tuple[Write, list[str], int]:
    """How it writes, the queries that fit, in an order in which those of like length stand together, and how many at once."""
    writer = Writer.load(locate(config.base_model, workspace.checkpoints, verify=True))
    writer.device = pick_device(config.device)
    writer.network.to(writer.device)
    writer.precision = config.precision
    fitting = [one for one in queries if writer.fits(one, config.max_tokens)]
    fitting.sort(key=len)

    def write(some: Sequence[str], seed: int) -> list[Written]:
        return writer.write_each(
            some, max_tokens=config.max_tokens, temperature=config.temperature, top_p=config.top_p, seed=seed
        )

    return write, fitting, config.batch_size


def _endpoint(config: GenerateConfig, queries: Sequence[str]) -> tuple[Write, list[str], int]:
    found = endpoint_named(config.endpoint or "")
    at_once = min(config.batch_size, AT_ONCE_ENDPOINT)
    pool = ThreadPoolExecutor(at_once)

    def write(some: Sequence[str], seed: int) -> list[Written]:
        return list(pool.map(lambda one: _asked(found, one[1], config, seed * at_once + one[0]), enumerate(some)))

    return write, [*queries], at_once


def _asked(found: EndpointSettings, query: str, config: GenerateConfig, seed: int) -> Written:
    parts: list[str] = []
    tokens = endpoint.stream(
        found, query, max_tokens=config.max_tokens, temperature=config.temperature, top_p=config.top_p, seed=seed % 2**31
    )
    while True:
        try:
            parts.append(next(tokens))
        except StopIteration as end:
            return Written("".join(parts).strip(), end.value)


class Answers:
    """The file of answers: batch after batch, each on the disk before the next one begins."""

    def __init__(self, workspace: Workspace, run_id: str, config: GenerateConfig) -> None:
        self._path = workspace.run_folder(run_id) / ANSWERS_FILE
        self._model = config.base_model if config.endpoint is None else config.endpoint
        self._from = None if config.resume_from is None else workspace.run_folder(config.resume_from) / ANSWERS_FILE

    def taken_over(self) -> list[str]:
        """The queries of whole batches that are there: this run's, which was paused or killed, or those of the run that it goes
        on from."""
        source = self._path if self._path.exists() or self._from is None else self._from
        lines: list[str] = []
        if source.exists():
            with source.open(encoding="utf-8") as file:
                lines = list(file)
        whole = [k for k, line in enumerate(lines, 1) if line.endswith("\n") and json.loads(line).get("last")]
        kept = lines[: whole[-1]] if whole else []
        with disk_errors("writing answers", self._path):
            write_text(self._path, "".join(kept))
        return [json.loads(line)["query"] for line in kept]

    def add(self, queries: Sequence[str], written: Sequence[Written]) -> None:
        lines: list[dict[str, object]] = [
            {"query": query, "response": one.text, "model": self._model, "ended": one.ended, "last": False}
            for query, one in zip(queries, written, strict=True)
        ]
        lines[-1]["last"] = True
        with disk_errors("writing answers", self._path), self._path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
