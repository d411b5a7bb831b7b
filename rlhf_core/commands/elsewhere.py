"""Other machines: engines, copies, hand-over, a served reward model."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from rlhf_core.commands.shared import Command, open_workbench, options_of
from rlhf_core.ground.configs import (
    PPOConfig,
)
from rlhf_core.ground.errors import InvalidInput, RlhfError
from rlhf_core.ground.runs import LOCAL


def add(command: Command) -> None:
    command("engines", _engines, "where runs may be carried out, and what is free there")
    one = command("depot", _depot, "snapshots and checkpoints in the place elsewhere that keeps them: docs/engines.md")
    one.add_argument("act", nargs="?", default="list", choices=["list", "keep", "fetch", "verify", "drop"])
    one.add_argument("id", nargs="*", metavar="ID", help="of snapshots and checkpoints, or their beginning")
    one.add_argument("--all", action="store_true", help="keep: all that is not there yet; fetch: all that is not here")
    one = command("hand-over", _hand_over, "write what OpenRLHF or verl needs to improve a policy that is too large for here")
    one.add_argument("to", choices=["openrlhf", "verl"])
    one.add_argument("out", type=Path, metavar="FOLDER", help="a new one")
    one.add_argument("--reward", required=True, metavar="CHECKPOINT", help="the reward model, which serve-reward will serve")
    one.add_argument(
        "--policy", required=True, metavar="NAME", help="where it begins: a hub name, a folder there, or a checkpoint"
    )
    one.add_argument("--snapshot", metavar="ID", help="where prompts come from (default: the newest)")
    one.add_argument("--config", type=Path, metavar="FILE", help="options of a ppo run, from a JSON file")
    one.add_argument("--url", default="http://127.0.0.1:5000", help="where the served reward model is reached from there")
    one.add_argument("--gpus", type=int, default=8, help="of each machine there")
    one.add_argument("--accept-ungated-reward", action="store_true", help="although its report card refuses it")
    one = command("take-back", _take_back, "take in the policy that came of what was handed over, with its lineage")
    one.add_argument("handed", type=Path, metavar="FOLDER", help="what hand-over wrote")
    one.add_argument("model", type=Path, metavar="MODEL", help="the policy, a folder as transformers saves one")
    one = command("serve-reward", _serve_reward, "a reward model over HTTP, for trainers of other makers")
    one.add_argument("checkpoint", metavar="ID")
    one.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; then set --token")
    one.add_argument("--port", type=int, default=5000)
    one.add_argument(
        "--token", default=os.environ.get("RLHF_REWARD_TOKEN", ""), help="asked of everybody (default: $RLHF_REWARD_TOKEN)"
    )
    one.add_argument("--reward-on", choices=["answer", "steps"], default="answer")
    one.add_argument("--step-unit", choices=["as_imported", "sentences"], default="as_imported")
    one.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    one.add_argument("--accept-ungated-reward", action="store_true", help="although its report card refuses it")


def _engines(arguments: argparse.Namespace) -> int:
    from rlhf_core.ground.engines import engines
    from rlhf_core.services import training

    workbench, wrong = open_workbench(arguments), 0
    for name in [LOCAL, *(one.name for one in engines())]:
        try:
            found = training.capacity(workbench, name)
        except RlhfError as error:
            print(f"{name}: {error}")
            wrong = 1
        else:
            print(f"{name}: {training.capacity_in_words(found)}")
    return wrong


def _depot(arguments: argparse.Namespace) -> int:
    from rlhf_core.services import keeping

    workbench = open_workbench(arguments)
    here = {one for ids in keeping.here(workbench).values() for one in ids}
    there = {one.id: one for one in keeping.listing(workbench)} if arguments.act == "list" or arguments.all else {}
    if arguments.act == "list":
        for one in there.values():
            where = "here too" if one.id in here else "only there"
            print(f"{one.id}  {one.created_at[:19]}  {one.size_bytes / 2**20:10.1f} MiB  {where}")
        for artifact_id in sorted(here - there.keys()):
            print(f"{artifact_id}  only here")
        return 0
    ids = list(arguments.id)
    if arguments.all and arguments.act in ("keep", "fetch"):
        ids += sorted(here - there.keys() if arguments.act == "keep" else there.keys() - here)
    if not ids:
        print("Nothing to do." if arguments.all else f"Name what to {arguments.act}: an id, or its beginning.")
        return 0 if arguments.all else 2
    for artifact_id in ids:
        if arguments.act == "verify":
            print(f"{keeping.verify(workbench, artifact_id).id}: every file there is what its manifest says")
        elif arguments.act == "drop":
            print(f"{keeping.drop(workbench, artifact_id)}: gone from the depot")
        else:
            name, moved = {"keep": keeping.keep, "fetch": keeping.fetch}[arguments.act](workbench, artifact_id, print)
            print(f"{name}: {moved.sent_bytes / 2**20:.1f} MiB went over, {moved.there_bytes / 2**20:.1f} were there already")
    return 0


def _hand_over(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import handing_over, training

    values: dict[str, Any] = {"base_model": arguments.policy} | (options_of(arguments.config) if arguments.config else {})
    values |= {"reward": arguments.reward, "base_model": arguments.policy}
    if arguments.accept_ungated_reward:
        values["accept_ungated_reward"] = True
    workbench = open_workbench(arguments)
    config = PPOConfig.parse(values)
    snapshot_id = arguments.snapshot or training.newest_snapshot(workbench)
    out = handing_over.hand_over(
        workbench, arguments.to, snapshot_id, config, arguments.out, url=arguments.url, gpus=arguments.gpus
    )  # fmt: skip
    print(f"{out}: its README.md says how to go on.")


def _take_back(arguments: argparse.Namespace) -> None:
    from rlhf_core.services import handing_over

    run, checkpoint = handing_over.take_back(open_workbench(arguments), arguments.handed, arguments.model)
    print(f"{checkpoint.id}: a policy of run {run.id}")


def _serve_reward(arguments: argparse.Namespace) -> int:
    import uvicorn

    from rlhf_core.api import rewards
    from rlhf_core.services.handing_over import Reading
    from rlhf_core.services.modelling import gate, model

    workbench = open_workbench(arguments)
    checkpoint_id = model(workbench, arguments.checkpoint).checkpoint.id
    if not arguments.accept_ungated_reward:
        gate(workbench, checkpoint_id, "steps" if arguments.reward_on == "steps" else "answers", "PPO")
    if arguments.host not in ("127.0.0.1", "localhost", "::1") and not arguments.token:
        raise InvalidInput(f"With --host {arguments.host} everybody on the network could ask. Set --token, or RLHF_REWARD_TOKEN.")
    app = rewards.create(
        workbench.scoring, checkpoint_id, Reading(arguments.reward_on, arguments.step_unit), token=arguments.token,
        device=arguments.device,
    )  # fmt: skip
    print(f"{checkpoint_id} at http://{arguments.host}:{arguments.port}", flush=True)
    uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning")
    workbench.close()
    return 0
