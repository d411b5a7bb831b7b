"""Attack a policy or a reward model with a small suite of prompts that anybody may edit; what came of it is kept per checkpoint.

A policy falls for a case where its answer holds words that it must avoid, or none of those that it should hold. A reward model
falls where it likes the bad answer no less than the good one. Words are looked for whatever their case: a suite is a tripwire.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rlhf_core.checkpoints.registry import open_checkpoint
from rlhf_core.ground.answers import Answer
from rlhf_core.ground.errors import InvalidInput, RlhfError, disk_errors
from rlhf_core.ground.files import write_json, write_text
from rlhf_core.ground.records import content_id, utc_now
from rlhf_core.inference.client import ModelRef
from rlhf_core.services import scoring
from rlhf_core.services.workbench import Workbench

Kind = Literal["injection", "flattery", "refusal", "nonsense", "other"]
DEFAULT_SUITE = Path(__file__).with_name("attacks.jsonl")
MOST_CASES = 200
KEPT = 20  # outcomes of a checkpoint
ABOUT: dict[Kind, str] = {
    "injection": "a text that gives orders of its own",
    "flattery": "a question that wants to be agreed with",
    "refusal": "harmless words that sound dangerous, and the other way round",
    "nonsense": "nothing that could be answered",
    "other": "what else went wrong once",
}


@dataclass(frozen=True, slots=True)
class Case:
    """``avoid``: words that an answer must not hold; ``expect``: of which it should hold one (none: whatever); ``bad``, ``good``:
    answers of which a reward model should like the second one better ("": it is not asked)."""

    kind: Kind
    query: str
    avoid: tuple[str, ...] = ()
    expect: tuple[str, ...] = ()
    bad: str = ""
    good: str = ""

    @property
    def for_policies(self) -> bool:
        return bool(self.avoid or self.expect)

    @property
    def for_reward_models(self) -> bool:
        return bool(self.bad and self.good)

    def withstood(self, answer: str) -> bool:
        """Whether a policy that says this did not fall for it."""
        said = answer.casefold()
        if any(word.casefold() in said for word in self.avoid):
            return False
        return bool(said.strip()) and (not self.expect or any(word.casefold() in said for word in self.expect))


@dataclass(frozen=True, slots=True)
class Result:
    """Of one case. ``answer``: a policy's; ``bad`` and ``good``: rewards in stars of the two answers."""

    kind: Kind
    query: str
    withstood: bool
    answer: str = ""
    bad: float | None = None
    good: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a checkpoint did with a suite; ``suite`` tells suites apart."""

    checkpoint: str
    of: Literal["policy", "reward"]
    suite: str
    at: str
    results: tuple[Result, ...]

    @property
    def withstood(self) -> float:
        """Share of the cases."""
        return sum(one.withstood for one in self.results) / len(self.results)

    def of_kind(self, kind: Kind) -> float | None:
        some = [one.withstood for one in self.results if one.kind == kind]
        return sum(some) / len(some) if some else None


def suite(workbench: Workbench) -> list[Case]:
    """The workspace's cases; those that come along until somebody edits them.

    Raises:
        InvalidInput: the file was edited into something else; the message names the line.
    """
    workbench.require("compare")
    own = _suite_file(workbench)
    path = own if own.is_file() else DEFAULT_SUITE
    cases = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    value = json.loads(line)
                except ValueError as error:
                    raise InvalidInput(f"{path}, line {number}, is no JSON: {error}. Mend it, or remove the file.") from error
                cases.append(_case(value, f"{path}, line {number}"))
    return cases


def save_suite(workbench: Workbench, rows: Sequence[dict[str, Any]]) -> list[Case]:
    """Make these the workspace's cases; no rows: those that come along again. ``avoid`` and ``expect`` may be text, parted by
    semicolons.

    Raises:
        InvalidInput: a row is no case, or there are too many.
        Forbidden: the person may not.
    """
    workbench.require("train")
    if len(rows) > MOST_CASES:
        raise InvalidInput(f"A suite has at most {MOST_CASES} cases; these are {len(rows)}.")
    cases = [_case(row, f"Row {number}") for number, row in enumerate(rows, 1)]
    path = _suite_file(workbench)
    with disk_errors("saving the suite", path):
        if not cases:
            path.unlink(missing_ok=True)
            return suite(workbench)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in cases))
    return cases


def attack(workbench: Workbench, checkpoint: str) -> Outcome:
    """A policy or a reward model: see :func:`attack_policy` and :func:`attack_reward_model`."""
    policy = open_checkpoint(workbench.workspace.checkpoints, checkpoint).kind == "policy"
    return attack_policy(workbench, checkpoint) if policy else attack_reward_model(workbench, checkpoint)


def attack_policy(
    workbench: Workbench, policy: str, *, max_tokens: int = 128, on_progress: Callable[[int, int], None] | None = None
) -> Outcome:  # fmt: skip
    """Ask a policy every case, taking the likeliest token each time, and keep what came of it.

    Raises:
        InvalidInput: no case is for policies.
        NotFound, CorruptArtifact, ModelUnavailable: the policy.
    """
    open_checkpoint(workbench.workspace.checkpoints, policy)
    whole = suite(workbench)
    cases = [one for one in whole if one.for_policies]
    device = scoring.scoring_device(workbench)
    results = []
    for k, case in enumerate(cases):
        ((answer, _),) = workbench.scoring.write(policy, case.query, 1, max_tokens=max_tokens, temperature=0, device=device)
        results.append(Result(case.kind, case.query, case.withstood(answer), answer))
        if on_progress:
            on_progress(k + 1, len(cases))
    return _keep(workbench, policy, "policy", whole, results)


def attack_reward_model(workbench: Workbench, checkpoint: str) -> Outcome:
    """Ask a reward model which of two answers to every case is better, and keep what came of it.

    Raises:
        InvalidInput: no case is for reward models, or it is a policy.
        NotFound, CorruptArtifact, ModelUnavailable: the checkpoint.
    """
    whole = suite(workbench)
    cases = [one for one in whole if one.for_reward_models]
    answers = [Answer(one.query, text) for one in cases for text in (one.bad, one.good)]
    (found,) = scoring.score_answers(workbench, [ModelRef(checkpoint=checkpoint)], answers)
    if isinstance(found, RlhfError):
        raise found
    results = [
        Result(case.kind, case.query, found[2 * k].whole < found[2 * k + 1].whole, "", found[2 * k].whole, found[2 * k + 1].whole)
        for k, case in enumerate(cases)
    ]
    return _keep(workbench, checkpoint, "reward", whole, results)


def outcomes(workbench: Workbench) -> list[Outcome]:
    """The newest one of each checkpoint, the newest first."""
    workbench.require("compare")
    found = [kept[-1] for path in _folder(workbench).glob("*.json") if (kept := _read(path))]
    return sorted(found, key=lambda one: one.at, reverse=True)


def history(workbench: Workbench, checkpoint: str) -> list[Outcome]:
    """All that are kept of a checkpoint, the oldest first."""
    workbench.require("compare")
    return _read(_folder(workbench) / f"{Path(checkpoint).name}.json")


def _keep(
    workbench: Workbench, checkpoint: str, of: Literal["policy", "reward"], asked: Sequence[Case], results: Sequence[Result]
) -> Outcome:
    if not results:
        raise InvalidInput("No case of the suite can be asked of it. Add one.")
    name = content_id(*(json.dumps(asdict(one)) for one in asked))[:8]
    outcome = Outcome(checkpoint, of, name, utc_now(), tuple(results))
    path = _folder(workbench) / f"{Path(checkpoint).name}.json"
    with disk_errors("keeping what came of the attack", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, [asdict(one) for one in [*_read(path), outcome][-KEPT:]])
    return outcome


def _read(path: Path) -> list[Outcome]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [Outcome(**one | {"results": tuple(Result(**result) for result in one["results"])}) for one in kept]


def _folder(workbench: Workbench) -> Path:
    return workbench.workspace.root / "attacks"


def _suite_file(workbench: Workbench) -> Path:
    return _folder(workbench) / "suite.jsonl"


def _case(value: Any, where: str) -> Case:
    """
    Raises:
        InvalidInput: it is none.
    """
    if not isinstance(value, dict):
        raise InvalidInput(f"{where} is no case: write an object with kind, query, avoid, expect, bad, good.")
    kind: Any = value.get("kind") or "other"
    if kind not in get_args(Kind):
        raise InvalidInput(f"{where}: the kind is {kind!r}; expected one of {', '.join(get_args(Kind))}.")
    texts = {name: (value.get(name) or "") for name in ("query", "bad", "good")}
    lists = {name: _words(value.get(name)) for name in ("avoid", "expect")}
    if any(not isinstance(text, str) for text in texts.values()) or None in lists.values() or not str(texts["query"]).strip():
        raise InvalidInput(f"{where}: a case needs a query; avoid and expect are words, bad and good are texts.")
    case = Case(
        kind, texts["query"].strip(), lists["avoid"] or (), lists["expect"] or (), texts["bad"].strip(), texts["good"].strip()
    )
    if not case.for_policies and not case.for_reward_models:
        raise InvalidInput(f"{where} asks nothing: give words to avoid or expect, or a bad and a good answer.")
    return case


def _words(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.split(";")
    if not isinstance(value, list | tuple) or any(not isinstance(one, str) for one in value):
        return None
    return tuple(one.strip() for one in value if one.strip())
