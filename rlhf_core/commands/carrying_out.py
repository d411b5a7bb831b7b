"""A run, carried out by this process: what the supervisor and engines start, and what commands do themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from rlhf_core.ground.configs import (
    CONFIGS,
    GenerateConfig,
    PPOConfig,
    RewardConfig,
    RunConfig,
    SFTConfig,
    less_memory,
)
from rlhf_core.ground.errors import InvalidInput, SignInRequired
from rlhf_core.ground.runs import Run, RunKind
from rlhf_core.services.workbench import Workbench

if TYPE_CHECKING:
    from rlhf_core.ground.settings import Workspace
    from rlhf_core.runs.recording import Recorder
    from rlhf_core.store.base import RunRecord


def check(workbench: Workbench, kind: RunKind, snapshot_id: str | None, config: RunConfig) -> int:
    from rlhf_core.services import preflight

    found = preflight.check(workbench, kind, snapshot_id, config)
    for one in found.findings:
        print(f"{one.level:<5} {one.words}")
    print(preflight.time_in_words(found))
    return 2 if found.stops else 0


def carry_out(
    workspace: Workspace, record: RunRecord, run: Run, *, own_log: bool, workbench: Workbench | None = None
) -> int:  # fmt: skip
    """Do a run's work in this process, by the options in its row alone. ``workbench``: where it may write to the store."""
    from rlhf_core.ground.processes import ProcessIdentity

    if own_log and run.status == "running" and workbench is not None:  # it was added for this very process
        me = ProcessIdentity.of_this_run()
        record.set_process(run.id, run.host or "", me.pid, me.create_time)
    config = CONFIGS[run.kind].parse(run.config)
    try:
        work = _body_of(workspace, run, config)
        from rlhf_core.runs.recording import record_run
        from rlhf_core.runs.trackers import open_tracker
    except BaseException as error:
        record.finish(run.id, "failed", f"It could not be started: {error!r}.", None)
        raise

    def body(recorder: Recorder) -> tuple[str, str]:
        tracker = open_tracker(config.report_to, run.id, workspace.run_folder(run.id), run.config)
        if tracker is not None:
            recorder.send_to(tracker[0])
        try:
            done = work(recorder)
        finally:
            if tracker is not None:
                tracker[1]()
        return _stored(workbench, run, done) if run.kind == "generate" else done

    print(f"Run {run.id}{f', snapshot {run.snapshot_id}' if run.snapshot_id else ''}", flush=True)
    return record_run(
        record, run.id, workspace.run_folder(run.id), body, own_log=own_log, remedy=less_memory(run.kind, run.config)
    )  # fmt: skip


def _body_of(workspace: Workspace, run: Run, config: RunConfig) -> Callable[[Recorder], tuple[str, str]]:
    """What carries out a run of this kind; the import of torch and all that learns."""
    if isinstance(config, PPOConfig):
        from rlhf_core.runs.ppo import train_ppo

        return lambda recorder: train_ppo(workspace, run.id, run.snapshot_id, config, recorder)
    if isinstance(config, SFTConfig):
        from rlhf_core.runs.sft import train_sft

        return lambda recorder: train_sft(workspace, run.id, run.snapshot_id, config, recorder)
    if isinstance(config, GenerateConfig):
        from rlhf_core.runs.generate import generate

        return lambda recorder: generate(workspace, run.id, run.snapshot_id, config, recorder)
    assert isinstance(config, RewardConfig)
    from rlhf_core.runs.reward import train_reward

    return lambda recorder: train_reward(workspace, run.id, run.snapshot_id, config, recorder)


def _stored(workbench: Workbench | None, run: Run, done: tuple[str, str]) -> tuple[str, str]:
    """Put what a run wrote into the store, where this process may."""
    from rlhf_core.services import generating

    message, checkpoint_id = done
    try:
        if workbench is None:
            raise SignInRequired("The store is another machine's.")
        counts = generating.store(workbench, run)
    except SignInRequired:
        return f"{message} They wait in its folder: somebody who is signed in puts them into the store, on Train.", checkpoint_id
    known = f", {counts.known_chats} were there already" if counts.known_chats else ""
    return f"{message} {counts.chats} chats were added to the store{known}.", checkpoint_id


def train_along(workspace: Workspace, run_id: str, snapshot_id: str | None, config: RunConfig) -> int:
    """The work of one of several processes that is not the first: it learns its share, and records nothing."""
    from rlhf_core.runs.recording import Cancelled, Silent, end_with_the_others, say_along

    end_with_the_others()
    try:
        if isinstance(config, RewardConfig) and snapshot_id is not None:
            from rlhf_core.runs.reward import train_reward

            train_reward(workspace, run_id, snapshot_id, config, Silent())
        elif isinstance(config, PPOConfig):
            from rlhf_core.runs.ppo import train_ppo

            train_ppo(workspace, run_id, snapshot_id or "", config, Silent())
        else:
            raise InvalidInput("Several processes train reward models and policies by rewards; start other runs in one process.")
    except Cancelled:
        pass  # with the first one, which says so: an error here would end it while it saves
    except BaseException as error:
        say_along(workspace.run_folder(run_id) if run_id else workspace.root, int(os.environ["RANK"]), error)
        raise
    return 0
