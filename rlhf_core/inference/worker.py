"""The scoring process: ``python -m rlhf_core.inference.worker``. One JSON request a line on stdin, one reply a line on stdout.

Keeps the last few models in memory. Ends when stdin closes (the app has gone) or nobody asks for a while.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

MODELS_KEPT = 4
IDLE_EXIT_S = 900.0


class Scorer:
    """Loads reward models on demand and scores with them."""

    def __init__(self, checkpoints: Path) -> None:
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self._checkpoints = checkpoints
        self._models: OrderedDict[str, Any] = OrderedDict()

    def score(self, model: dict[str, Any], pairs: list[list[str]], steps: list[str]) -> dict[str, Any]:
        """Rewards of each pair; before them those of ``steps``, which are the first pair's."""
        reward_model = self._model(model)
        of_steps = reward_model.score_steps(pairs[0][0], steps, pairs[0][1]) if steps else []
        return {"rewards": of_steps + reward_model.compute_batch_rewards((query, answer) for query, answer in pairs)}

    def _model(self, model: dict[str, Any]) -> Any:
        from rlhf_core.checkpoints.base_models import locate
        from rlhf_core.checkpoints.registry import open_checkpoint
        from rlhf_core.learn.reward_model import RewardModel, pick_device

        key = json.dumps(model, sort_keys=True)
        if key in self._models:
            self._models.move_to_end(key)
            return self._models[key]
        device = pick_device("auto")
        if "checkpoint" in model:
            checkpoint = open_checkpoint(self._checkpoints, model["checkpoint"], verify=True)
            loaded = RewardModel.from_checkpoint(checkpoint.folder, checkpoint.manifest["scoring"], device=device)
        else:
            base = locate(model["base"], self._checkpoints, verify=True)
            loaded = RewardModel.from_base(base, max_length=model["max_length"], seed=model["seed"], device=device)
        loaded.network.eval()
        self._models[key] = loaded
        while len(self._models) > MODELS_KEPT:
            self._models.popitem(last=False)
        return loaded


def answer(scorer: Scorer, request: dict[str, Any]) -> dict[str, Any]:
    """A reply: ``{"rewards": [...]}`` or ``{"error": message, "kind": exception name, "expected": whether it is the user's}``."""
    from rlhf_core.ground.errors import RlhfError

    try:
        return scorer.score(request["model"], request["pairs"], request["steps"])
    except RlhfError as error:
        return {"error": str(error), "kind": type(error).__name__, "expected": True}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "kind": type(error).__name__, "expected": False}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=Path, required=True)
    checkpoints = parser.parse_args().checkpoints
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not land among the replies
    scorer = Scorer(checkpoints)
    import rlhf_core.learn.reward_model  # noqa: F401  # the slow imports, before the first request

    _send(replies, {"ready": True})
    requests = sys.stdin.buffer
    while select.select([requests], [], [], IDLE_EXIT_S)[0]:
        line = requests.readline()
        if not line:
            break
        request = json.loads(line)
        _send(replies, answer(scorer, request) | {"id": request["id"]})
    return 0


def _send(replies: BinaryIO, value: dict[str, Any]) -> None:
    replies.write(json.dumps(value).encode() + b"\n")
    replies.flush()


if __name__ == "__main__":
    sys.exit(main())
