"""Which fields a file may have, and how known data sets map onto them. This module is the single list: help texts print it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

Preset = Literal["auto", "chats", "pairs", "prompt-response", "processbench", "prm800k", "trl", "math-shepherd"]
Record = Mapping[str, Any]

FIELDS: dict[str, str] = {
    "query": "what the person asked (required; also: prompt, question, instruction, problem)",
    "response": "the answer (required unless steps are given; also: answer, completion, output)",
    "steps": "list of reasoning steps, each a text or an object {content, feedback}; split from the response if absent",
    "id": "your own identifier; may stand only once in a file",
    "source": "where the chat comes from (default: the name of the format)",
    "model": "what wrote the answer (also: generator)",
    "created_at": "ISO-8601 time, UTC where no zone is given (default: now)",
    "feedback": "list of {step, score, type, rater, comment, created_at, aspect}; step counts from 1, absent = whole answer",
    "step_labels": "thumbs for the steps in order: 1 up, -1 down, 0 neutral, null unrated",
    "score": "1-5 for the whole answer",
    "feedback_type": "positive, negative or neutral for the whole answer; must agree with score",
    "is_correct": "true or false: a thumb for the whole answer",
    "rater": "who judged, for score, feedback_type and step_labels (default: 'labels of SOURCE')",
    "comment": "the rater's words on the whole answer",
}
LONG_FIELDS: dict[str, str] = {
    "step_content": "files with one row for each step, or each judgement of it: its text (rows of one chat adjacent, same id)",
    "step_score": "1-5 for that step",
    "step_comment": "the rater's words on that step",
}
PAIR_FIELDS: dict[str, str] = {
    "response_a": "files of two answers to one question: the first (also: chosen, response1); or steps_a",
    "response_b": "the second (also: rejected, response2); steps_b",
    "model_a": "what wrote them; model_b",
    "preferences": "list of {choice, strength, rater, comment, created_at}; choice: a, b, tie or both_bad; strength: 1 to 3",
    "choice": "one choice (default for chosen and rejected: a), with rater and strength beside it",
    "votes": "a choice for each of several raters in order: 1 the first answer, 2 the second, 0 a tie",
}
PRESETS: dict[str, str] = {
    "auto": "look at the first record",
    "chats": "the fields above",
    "pairs": "two answers to one question, and which people prefer",
    "prompt-response": "plain prompt and response, steps split from the response",
    "processbench": "problem, steps, label = index of the first wrong step (-1 none); thumbs for steps and answer",
    "trl": "TRL's unpaired preference (prompt, completion, label) and stepwise supervision (prompt, completions, labels)",
    "math-shepherd": "input with a mark after each step, label with + or - in its place",
    "prm800k": "one labelled solution a line; the chosen completions become the steps, ratings -1, 0, 1 thumbs",
}
PAIR_ALIASES = {"chosen": ("chosen", "rejected"), "numbered": ("response1", "response2")}
SHEPHERD_MARK = "ки"
_VOTES = {0: "tie", 1: "a", 2: "b"}
ALIASES: dict[str, tuple[str, ...]] = {
    "query": ("prompt", "question", "instruction", "problem"),
    "response": ("answer", "completion", "output"),
    "model": ("generator",),
}
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")


def describe() -> str:
    """The format's documentation, for ``import --help`` and the page."""
    lines = ["fields of a record:"]
    lines += [f"  {name:<14} {text}" for name, text in (FIELDS | LONG_FIELDS | PAIR_FIELDS).items()]
    lines += ["", "formats (--format):"]
    lines += [f"  {name:<16} {text}" for name, text in PRESETS.items()]
    lines += ["", "In CSV, steps, step_labels and feedback hold JSON. Other fields are ignored, and named in the report."]
    return "\n".join(lines)


def fields_table() -> str:
    """The fields as a Markdown table."""
    rows = [f"| `{name}` | {text} |" for name, text in (FIELDS | LONG_FIELDS | PAIR_FIELDS).items()]
    return "\n".join(["| field | meaning |", "| --- | --- |", *rows])


def detect(record: Record) -> Preset:
    """The preset that a file's first record looks like."""
    if {"prompt", "label", "completion"} <= set(record) or {"prompt", "completions", "labels"} <= set(record):
        return "trl"
    if {"input", "label"} <= set(record) and SHEPHERD_MARK in str(record["input"]):
        return "math-shepherd"
    if isinstance(record.get("label"), Mapping) and "steps" in record["label"]:
        return "prm800k"
    if "steps" in record and ("first_error" in record or _is_index(record.get("label"))):
        return "processbench"
    sides = [{f"response_{side}", f"steps_{side}"} & set(record) for side in "ab"]
    if all(sides) or any({a, b} <= set(record) for a, b in PAIR_ALIASES.values()):
        return "pairs"
    return "chats"


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def from_chats(record: Record) -> Record:
    """Known fields under their own names; a canonical name wins over its aliases."""
    renamed = dict(record)
    correct = renamed.get("is_correct")
    if correct is not None and renamed.get("feedback_type") is None:
        correct = {"true": True, "false": False}.get(correct.strip().lower()) if isinstance(correct, str) else correct
        if not isinstance(correct, bool):
            raise ValueError(f"is_correct is {renamed['is_correct']!r}; expected true or false")
        renamed["feedback_type"] = "positive" if correct else "negative"
    for name, aliases in ALIASES.items():
        for alias in aliases:
            if alias in renamed:
                value = renamed.pop(alias)
                if renamed.get(name) is None:
                    renamed[name] = value
    return renamed


def from_pairs(record: Record) -> Record:
    """The two answers under their own names; ``chosen`` and ``rejected`` are a choice themselves."""
    renamed = dict(from_chats({name: value for name, value in record.items() if name not in ("response", "answer")}))
    for a, b in PAIR_ALIASES.values():
        if a in renamed and b in renamed:
            renamed["response_a"], renamed["response_b"] = renamed.pop(a), renamed.pop(b)
            if a == "chosen" and not {"choice", "preferences", "votes"} & set(renamed):
                renamed["choice"] = "a"
    votes = renamed.pop("votes", None)
    if votes is not None:
        if not isinstance(votes, list) or any(vote not in _VOTES or isinstance(vote, bool) for vote in votes if vote is not None):
            raise ValueError(f"votes is {votes!r}; expected a list of 0, 1, 2 or null, one for each rater")
        given = [{"choice": _VOTES[vote], "rater": f"rater {k}"} for k, vote in enumerate(votes, 1) if vote is not None]
        renamed["preferences"] = [*(renamed.get("preferences") or []), *given]
    return renamed


def from_prompt_response(record: Record) -> Record:
    return {key: value for key, value in from_chats(record).items() if key not in ("steps", "step_labels", "feedback")}


def from_processbench(record: Record) -> Record:
    """ProcessBench (arXiv 2412.06559): steps before the first error are right, that one is wrong, later ones unlabelled."""
    steps = record.get("steps")
    first_error = record.get("first_error", record.get("label"))
    if not _is_index(first_error) or not isinstance(steps, list) or not -1 <= first_error < len(steps):
        count = len(steps) if isinstance(steps, list) else 0
        raise ValueError(f"label is {first_error!r}; expected the index of a wrong step, 0 to {count - 1}, or -1 for none")
    labels = [1 if first_error < 0 or k < first_error else -1 if k == first_error else None for k in range(len(steps))]
    return {
        "id": record.get("id"),
        "query": record.get("query", record.get("problem")),
        "response": record.get("response"),
        "steps": steps,
        "step_labels": labels,
        "feedback_type": "positive" if first_error < 0 else "negative",
        "model": record.get("model", record.get("generator")),
        "source": record.get("source") or "processbench",
    }


def from_prm800k(record: Record) -> Record:
    """PRM800K (arXiv 2305.20050). Alternatives that the labeller did not choose are left out.

    Where none was chosen (the solution ends there), the first completion stands for the step.
    """
    question, label = record.get("question"), record.get("label")
    if not isinstance(question, Mapping) or not isinstance(label, Mapping) or not isinstance(label.get("steps"), list):
        raise ValueError("not a PRM800K line: expected question.problem and label.steps")
    steps, labels = [], []
    for k, step in enumerate(label["steps"], start=1):
        completions = step.get("completions") or [] if isinstance(step, Mapping) else []
        chosen = step.get("chosen_completion") if isinstance(step, Mapping) else None
        if chosen is not None:
            if not _is_index(chosen) or not 0 <= chosen < len(completions):
                raise ValueError(f"label.steps[{k}].chosen_completion is {chosen!r} of {len(completions)} completions")
            taken = completions[chosen]
        elif isinstance(step, Mapping) and step.get("human_completion"):
            taken = step["human_completion"]
        elif completions:
            taken = completions[0]
        else:
            break  # the labeller gave up here
        steps.append(taken.get("text"))
        labels.append(taken.get("rating"))
    return {
        "query": question.get("problem"),
        "steps": steps,
        "step_labels": labels,
        "rater": record.get("labeler"),
        "created_at": record.get("timestamp"),
        "source": "prm800k",
    }


def from_trl(record: Record) -> Record:
    """Unpaired preference: a thumb for the answer. Stepwise supervision: a thumb for each step."""
    if "completions" in record:
        completions, labels = record.get("completions"), record.get("labels")
        if not isinstance(labels, list) or not isinstance(completions, list) or len(labels) != len(completions):
            raise ValueError("completions and labels should be lists of one length")
        return {"query": record.get("prompt"), "steps": completions, "step_labels": labels, "source": "trl"}
    label = record.get("label")
    if not isinstance(label, bool):
        raise ValueError(f"label is {label!r}; expected true or false")
    kind = "positive" if label else "negative"
    return {"query": record.get("prompt"), "response": record.get("completion"), "feedback_type": kind, "source": "trl"}


def from_math_shepherd(record: Record) -> Record:
    """Math-Shepherd (arXiv 2312.08935): the question, then ``Step k: ...`` each with a mark after it."""
    text, label = record.get("input"), record.get("label")
    if not isinstance(text, str) or not isinstance(label, str) or SHEPHERD_MARK not in text:
        raise ValueError(f"not a Math-Shepherd record: expected input with {SHEPHERD_MARK} after each step, and label")
    pieces = text.split(SHEPHERD_MARK)[:-1]
    query, found, first = pieces[0].partition("Step 1:")
    if not found:
        raise ValueError("input has no 'Step 1:'")
    steps, labels, at = [], [], 0
    for k, piece in enumerate(pieces):
        at += len(piece)
        sign = label[at : at + 1]
        if sign not in ("+", "-"):
            raise ValueError(f"label has {sign!r} after step {k + 1}; expected + or -")
        at += 1
        body = first if k == 0 else piece.strip().removeprefix(f"Step {k + 1}:")
        steps.append(body.strip())
        labels.append(1 if sign == "+" else -1)
    return {"query": query.strip(), "steps": steps, "step_labels": labels, "source": record.get("task") or "math-shepherd"}


def own_record(record: Record) -> Record | None:
    """What an export of ours put beside a layout's own fields: the whole record, or nothing in a line that adds nothing."""
    text = record.get("workbench")
    if not isinstance(text, str):
        return None
    own = json.loads(text)
    if not isinstance(own, Mapping):
        raise TypeError("workbench holds no object")
    return own


CONVERTERS: dict[str, Callable[[Record], Record]] = {
    "chats": from_chats,
    "pairs": from_pairs,
    "prompt-response": from_prompt_response,
    "processbench": from_processbench,
    "prm800k": from_prm800k,
    "trl": from_trl,
    "math-shepherd": from_math_shepherd,
}
READ_BY_PRESET: dict[str, frozenset[str]] = {
    "chats": frozenset(FIELDS) | {alias for aliases in ALIASES.values() for alias in aliases} | frozenset(LONG_FIELDS),
    "processbench": frozenset(
        ("id", "query", "problem", "response", "steps", "label", "first_error", "model", "generator", "source")
    ),
    "prm800k": frozenset(("question", "label", "labeler", "timestamp")),
    "trl": frozenset(("prompt", "completion", "label", "completions", "labels")),
    "math-shepherd": frozenset(("input", "label", "task")),
}
READ_BY_PRESET["pairs"] = (
    frozenset(PAIR_FIELDS)
    | {"query", "id", "source", "created_at", "rater", "strength", "comment", "steps_a", "steps_b", "model_b"}
    | {one for pair in PAIR_ALIASES.values() for one in pair} | set(ALIASES["query"])
)  # fmt: skip
READ_BY_PRESET["prompt-response"] = READ_BY_PRESET["chats"] - {"steps", "step_labels", "feedback"}
