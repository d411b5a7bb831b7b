"""Rewards of answers and of their steps, for pages, queues and commands: what is known already is not worked out again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlhf_core.checkpoints.registry import open_scorer
from rlhf_core.ground.answers import Answer, AnswerScore
from rlhf_core.ground.errors import RlhfError
from rlhf_core.ground.processes import this_host
from rlhf_core.inference.client import ModelRef, parts_of
from rlhf_core.services.workbench import Workbench

Scores = list[AnswerScore] | RlhfError


def score_answers(
    workbench: Workbench, models: Sequence[ModelRef], answers: Sequence[Answer],
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Scores]:  # fmt: skip
    """What each model says of each answer, in order; for a model that cannot score, why.

    Args:
        workbench: Whose checkpoints.
        models: Those that share a body read a text once.
        answers: Any number.
        on_progress: Called with how many answers that were not known are done, and of how many.

    Raises:
        WorkerFailed: the scoring process died twice. What it had worked out until then is kept.
    """
    keys = [one.key for one in answers]
    known: list[dict[str, AnswerScore]] = []
    wrong: dict[int, RlhfError] = {}
    for k, model in enumerate(models):
        known.append({})
        if model.checkpoint is not None:
            try:
                open_scorer(workbench.workspace.checkpoints, model.checkpoint)
            except RlhfError as error:
                wrong[k] = error
                continue
            known[k] = workbench.score_cache.read(model.checkpoint, keys)
    lacking = {
        key: one for key, one in zip(keys, answers, strict=True)
        if any(key not in known[k] for k in range(len(models)) if k not in wrong)
    }  # fmt: skip
    todo = sorted(lacking, key=lambda key: -len(lacking[key].response))  # of like length together; the longest first
    device = scoring_device(workbench) if todo else "auto"
    done = 0
    for part in parts_of([lacking[key] for key in todo]):
        some = todo[done : done + len(part)]
        able = [k for k in range(len(models)) if k not in wrong and any(key not in known[k] for key in some)]
        given = workbench.scoring.score([models[k] for k in able], part, device=device)
        for k, scores in zip(able, given, strict=True):
            if isinstance(scores, RlhfError):
                wrong[k] = scores
                continue
            fresh = dict(zip(some, scores, strict=True))
            known[k] |= fresh
            if (checkpoint := models[k].checkpoint) is not None:
                workbench.score_cache.write(checkpoint, fresh)
        done += len(part)
        if on_progress:
            on_progress(done, len(todo))
    return [wrong[k] if k in wrong else [known[k][key] for key in keys] for k in range(len(models))]


def scoring_device(workbench: Workbench) -> str:
    """Where to score: not on a GPU while a run holds one."""
    held = [one for one in workbench.ledger.unfinished() if one.status == "running" and one.host == this_host()]
    return "cpu" if any((one.device or "cpu") != "cpu" for one in held) else "auto"
