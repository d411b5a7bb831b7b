"""A reward model over HTTP, for trainers of other makers: ``python -m rlhf_core serve-reward CHECKPOINT``.

``/get_reward`` speaks as OpenRLHF asks a remote reward model; ``/score`` is for everybody else. Texts are kept nowhere.
"""

from __future__ import annotations

import hmac
import re
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from rlhf_core import __version__
from rlhf_core.api.guard import say_problems
from rlhf_core.ground.errors import InvalidInput, RlhfError, SignInRequired
from rlhf_core.inference.client import ModelRef, ScoringClient
from rlhf_core.services.handing_over import Reading, as_read

MOST = 10_000  # answers of one request
SPECIAL = re.compile(r"(?:<\|[^|<>]{1,40}\|>|</s>|<eos>|<pad>|<end_of_turn>|\[EOS\])\Z")  # that some trainers decode along
SPECIAL_MAX_CHARS = 44


def without_special(answer: str) -> str:
    """Without the tokens that a trainer decoded along at its end, and the blanks among them."""
    stripped = answer.rstrip()
    while found := SPECIAL.search(stripped, max(0, len(stripped) - SPECIAL_MAX_CHARS)):
        answer = stripped = stripped[: found.start()].rstrip()
    return answer


Text = Annotated[str, Field(max_length=1_000_000)]


class Asked(BaseModel):
    """OpenRLHF's form. ``query``: each prompt with the answer behind it; ``prompts``: the prompt alone; ``labels``: of each
    the question as people asked it, which the handed-over prompts carry."""

    model_config = ConfigDict(extra="ignore")  # its later versions send more

    query: list[Text] = Field(max_length=MOST)
    prompts: list[Text] = Field(max_length=MOST)
    labels: list[Text | None] | None = Field(None, max_length=MOST)


class Item(BaseModel):
    model_config = ConfigDict(extra="forbid")

    query: Text
    answer: Text


class Items(BaseModel):
    model_config = ConfigDict(extra="forbid")

    items: list[Item] = Field(max_length=MOST)


def create(scoring: ScoringClient, checkpoint_id: str, reading: Reading, *, token: str = "", device: str = "auto") -> FastAPI:
    """
    Args:
        scoring: Its process reads the model.
        checkpoint_id: Of a reward model whose report card was looked at.
        reading: Whether answers are judged whole or by steps.
        token: Asked of everybody, as a bearer's; none: of nobody.
        device: auto, cpu or cuda.
    """
    app = FastAPI(title="A reward model of RLHF Workbench", version=__version__, docs_url=None, redoc_url=None)
    say_problems(app)

    def known(request: Request) -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if token and not hmac.compare_digest(given.encode(), token.encode()):
            raise SignInRequired("The token is missing or wrong. Send it as Authorization: Bearer TOKEN.")

    def rewards_of(pairs: list[tuple[str, str]]) -> tuple[list[float], list[list[float]]]:
        answers = [as_read(query, answer, reading) for query, answer in pairs]
        (found,) = scoring.score([ModelRef(checkpoint_id)], answers, device=device) if answers else ([],)
        if isinstance(found, RlhfError):
            raise found
        steps = [one.steps for one in found]
        return [sum(one.steps) / len(one.steps) if one.steps else one.whole for one in found], steps

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"checkpoint": checkpoint_id, "reward_on": reading.reward_on, "step_unit": reading.step_unit}

    @app.post("/get_reward", dependencies=[Depends(known)])
    def get_reward(asked: Asked) -> dict[str, Any]:
        labels = asked.labels or [None] * len(asked.query)
        if not len(asked.query) == len(asked.prompts) == len(labels):
            raise InvalidInput("query, prompts and labels have to be of one length.")
        pairs = []
        for whole, prompt, label in zip(asked.query, asked.prompts, labels, strict=True):
            if not whole.startswith(prompt):
                raise InvalidInput("A query does not begin with its prompt, so it is unknown what the answer is.")
            pairs.append((label if label else prompt, without_special(whole.removeprefix(prompt))))
        rewards, _ = rewards_of(pairs)
        return {"rewards": rewards, "scores": [(one - 1) / 4 for one in rewards], "extra_logs": {"stars": rewards}}

    @app.post("/score", dependencies=[Depends(known)])
    def score(asked: Items) -> dict[str, Any]:
        rewards, steps = rewards_of([(one.query, one.answer) for one in asked.items])
        return {"checkpoint": checkpoint_id, "rewards": rewards, "steps": steps}

    return app
