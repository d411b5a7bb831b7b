"""Feedback of a snapshot in the layouts that other tools read. A record's standard fields hold what the layout can say: what
people think together (the mean, or what was decided). Beside them stands ``workbench``, the whole record as this workbench's own
format, from which an import restores every single judgement; ``plain`` leaves it out.

Sources: TRL dataset formats (preference, unpaired preference, stepwise supervision); PRM800K (arXiv 2305.20050); ProcessBench
(arXiv 2412.06559); Math-Shepherd (arXiv 2312.08935).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_core.analytics.explorer import asking
from rlhf_core.analytics.snapshot import Snapshot
from rlhf_core.ground.errors import InvalidInput, disk_errors
from rlhf_core.ground.files import building, publish
from rlhf_core.ground.records import feedback_type_of
from rlhf_core.ground.tables import EXPORT_FORMATS, Format

if TYPE_CHECKING:
    import duckdb

Layout = Literal["jsonl", "parquet", "datasets"]
GOOD, BAD = 4.0, 2.0  # stars; between them the label of a whole answer is not said
STEP_GOOD = 3.0  # stars from which a step's label is true: a neutral step is no error
MARK = "ки"
BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Exported:
    """``skipped``: how many chats or pairs the layout cannot hold, by reason."""

    path: Path
    records: int
    skipped: dict[str, int]

    def __str__(self) -> str:
        text = f"{self.records:,} records in {self.path}"
        return text + "".join(f"; left out {count:,}: {why}" for why, count in sorted(self.skipped.items()))


@dataclass(frozen=True, slots=True)
class _Chat:
    record: dict[str, Any]  # in the format 'chats'
    whole: float | None  # mean score of the answer, or what was decided
    steps: list[float | None]  # the same of each step
    marks: list[int]  # positions of first errors by rater (steps + 1: none)
    decided_error: int | None


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds") + "Z"


def _judgement(score: int, scale: str, rater: str, comment: str | None, at: datetime, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"type": feedback_type_of(score)} if scale == "thumbs" and score in (1, 3, 5) else {"score": score}
    if scale == "thumbs" and "score" in given:
        given["scale"] = "thumbs"
    said = more | given | {"rater": rater, "created_at": _iso(at)}
    return said | ({"comment": comment} if comment else {})


_CHATS = """
SELECT c.id, c.query, c.response, c.source::VARCHAR, c.model::VARCHAR, c.external_id, c.created_at,
       (SELECT list(s.step_content ORDER BY s.step_order) FROM reasoning_steps AS s WHERE s.chat_no = c.chat_no),
       (SELECT list([r.step_order::VARCHAR, r.score::VARCHAR, r.scale, r.rater::VARCHAR, r.comment, r.created_at::VARCHAR]
                    ORDER BY r.rater, r.step_order NULLS FIRST) FROM ratings AS r WHERE r.chat_no = c.chat_no),
       (SELECT list([s.step_order::VARCHAR, a.score::VARCHAR, a.aspect, a.rater, a.created_at::VARCHAR]
                    ORDER BY a.rater, a.aspect, s.step_order NULLS FIRST)
        FROM aspect_ratings AS a LEFT JOIN reasoning_steps AS s ON s.id = a.step_id WHERE a.chat_id = c.id),
       (SELECT list([d.kind, s.step_order::VARCHAR, d.value, v.step_order::VARCHAR])
        FROM decisions AS d LEFT JOIN reasoning_steps AS s ON s.id = d.step_id LEFT JOIN reasoning_steps AS v ON v.id = d.value
        WHERE d.chat_id = c.id AND d.other_id IS NULL),
       (SELECT list(coalesce(j.first_error, c.steps + 1) ORDER BY j.rater) FROM judged_chats AS j WHERE j.chat_no = c.chat_no)
FROM chats AS c
ORDER BY c.chat_no
"""


def _chats(connection: duckdb.DuckDBPyConnection) -> Iterator[_Chat]:
    rows = connection.execute(_CHATS)
    while batch := rows.fetchmany(BATCH):
        for chat_id, query, response, source, model, external_id, created_at, steps, ratings, aspects, decisions, errors in batch:
            feedback = [
                _judgement(
                    int(score), scale, rater, comment, datetime.fromisoformat(at), **({"step": int(order)} if order else {})
                )
                for order, score, scale, rater, comment, at in ratings or []
            ]
            feedback += [
                _judgement(
                    int(score),
                    "stars",
                    rater,
                    None,
                    datetime.fromisoformat(at),
                    aspect=aspect,
                    **({"step": int(order)} if order else {}),
                )
                for order, score, aspect, rater, at in aspects or []
            ]
            record = {
                "chat_id": chat_id,
                "id": external_id,
                "query": query,
                "response": response,
                "steps": steps or [],
                "source": source,
                "model": model,
                "created_at": _iso(created_at),
                "feedback": feedback,
            }
            scores: dict[int, list[int]] = {}
            for order, score, *_ in ratings or []:
                scores.setdefault(int(order or 0), []).append(int(score))
            means: dict[int, float] = {order: sum(some) / len(some) for order, some in scores.items()}
            decided_error: int | None = None
            for kind, order, value, error_order in decisions or []:
                if kind == "score":
                    means[int(order or 0)] = float(value)
                elif kind == "first_error":
                    decided_error = int(error_order) if value and error_order else len(steps or []) + 1
            places = range(1, len(steps or []) + 1)
            yield _Chat(record, means.get(0), [means.get(place) for place in places], errors or [], decided_error)


def _own(record: dict[str, Any]) -> dict[str, Any]:
    """The record as a file of this workbench has it."""
    return {name: value for name, value in record.items() if name != "chat_id" and value not in (None, [])} | {
        "response": record["response"]
    }


def _chats_rows(connection: duckdb.DuckDBPyConnection, _: Counter[str]) -> Iterator[dict[str, Any]]:
    for chat in _chats(connection):
        yield _own(chat.record)


def _unpaired(connection: duckdb.DuckDBPyConnection, skipped: Counter[str]) -> Iterator[dict[str, Any]]:
    for chat in _chats(connection):
        if chat.whole is None:
            skipped["the whole answer is not rated"] += 1
        elif BAD < chat.whole < GOOD:
            skipped["between good and bad"] += 1
        else:
            yield {
                "prompt": chat.record["query"],
                "completion": chat.record["response"],
                "label": chat.whole >= GOOD,
                "workbench": _own(chat.record),
            }


def _labelled(chat: _Chat) -> list[bool]:
    """Labels of the steps up to the first that nobody judged; all steps before a first error are right."""
    labels = []
    for score in chat.steps:
        if score is None:
            break
        labels.append(score >= STEP_GOOD)
    return labels


def _stepwise(connection: duckdb.DuckDBPyConnection, skipped: Counter[str]) -> Iterator[dict[str, Any]]:
    for chat in _chats(connection):
        labels = _labelled(chat)
        if not labels:
            skipped["the first step is not rated"] += 1
            continue
        yield {
            "prompt": chat.record["query"],
            "completions": chat.record["steps"][: len(labels)],
            "labels": labels,
            "workbench": _own(chat.record),
        }


def _shepherd(connection: duckdb.DuckDBPyConnection, skipped: Counter[str]) -> Iterator[dict[str, Any]]:
    for chat in _chats(connection):
        labels = _labelled(chat)
        steps = chat.record["steps"][: len(labels)]
        if not labels:
            skipped["the first step is not rated"] += 1
        elif any(MARK in text for text in (chat.record["query"], *steps)):
            skipped[f"a text holds the mark {MARK}"] += 1
        else:
            marked = [f"Step {k}: {text}" for k, text in enumerate(steps, 1)]
            yield {
                "input": f"{chat.record['query']} " + "\n".join(f"{text} {MARK}" for text in marked),
                "label": f"{chat.record['query']} "
                + "\n".join(f"{text} {'+' if good else '-'}" for text, good in zip(marked, labels, strict=True)),
                "task": chat.record["source"],
                "workbench": _own(chat.record),
            }


def _processbench(connection: duckdb.DuckDBPyConnection, skipped: Counter[str]) -> Iterator[dict[str, Any]]:
    for chat in _chats(connection):
        none = len(chat.record["steps"]) + 1
        if not chat.marks and chat.decided_error is None:
            skipped["no step is judged"] += 1
            continue
        votes = Counter(chat.marks)
        most = max(votes.values()) if votes else 0
        error = chat.decided_error if chat.decided_error is not None else min(place for place, n in votes.items() if n == most)
        yield {
            "id": chat.record["id"] or chat.record["chat_id"],
            "generator": chat.record["model"] or "",
            "problem": chat.record["query"],
            "steps": chat.record["steps"],
            "final_answer_correct": None if chat.whole is None else chat.whole >= GOOD,
            "label": -1 if error >= none else error - 1,
            "workbench": _own(chat.record),
        }


def _prm800k(connection: duckdb.DuckDBPyConnection, skipped: Counter[str]) -> Iterator[dict[str, Any]]:
    for chat in _chats(connection):
        own = _own(chat.record)
        by_rater: dict[str, dict[int, int]] = {}
        for said in chat.record["feedback"]:
            if "step" in said and "aspect" not in said:
                score = said.get("score", {"positive": 5, "neutral": 3, "negative": 1}[said.get("type", "neutral")])
                by_rater.setdefault(said["rater"], {})[said["step"]] = score
        if not by_rater:
            skipped["no step is rated"] += 1
        for n, (rater, scores) in enumerate(by_rater.items()):
            steps = []
            for k, text in enumerate(chat.record["steps"], 1):
                rating = None if k not in scores else 1 if scores[k] >= GOOD else -1 if scores[k] <= BAD else 0
                completion = {"text": text, "rating": rating, "flagged": False}
                steps.append({"completions": [completion], "human_completion": None, "chosen_completion": 0})
            yield {
                "labeler": rater,
                "timestamp": chat.record["created_at"],
                "generation": None,
                "is_quality_control_question": False,
                "is_initial_screening_question": False,
                "question": {"problem": chat.record["query"], "ground_truth_answer": None},
                "label": {
                    "steps": steps,
                    "total_time": None,
                    "finish_reason": "found_error" if min(scores.values()) <= BAD else "solution",
                },
                "workbench": own if n == 0 else {},  # one line restores the chat; the others add nothing
            }


_PAIRS = """
WITH said AS (
    SELECT chat_id, other_id,
           list([rater, verdict, strength::VARCHAR, comment, created_at::VARCHAR] ORDER BY rater) AS votes,
           count(*) FILTER (WHERE verdict = 'chat') AS for_chat, count(*) FILTER (WHERE verdict = 'other') AS for_other
    FROM preferences WHERE step_order IS NULL AND aspect = '' GROUP BY chat_id, other_id
)
SELECT a.id, a.query, a.response, a.source::VARCHAR, a.model::VARCHAR, a.external_id, a.created_at,
       (SELECT list(s.step_content ORDER BY s.step_order) FROM reasoning_steps AS s WHERE s.chat_no = a.chat_no),
       b.id, b.response, b.model::VARCHAR, b.external_id,
       (SELECT list(s.step_content ORDER BY s.step_order) FROM reasoning_steps AS s WHERE s.chat_no = b.chat_no),
       p.votes, p.for_chat, p.for_other,
       (SELECT any_value(d.value) FROM decisions AS d
        WHERE d.kind = 'preference' AND d.chat_id = p.chat_id AND d.other_id = p.other_id),
       b.source::VARCHAR, b.created_at
FROM said AS p JOIN chats AS a ON a.id = p.chat_id JOIN chats AS b ON b.id = p.other_id
ORDER BY a.chat_no, b.chat_no
"""


def _preference(connection: duckdb.DuckDBPyConnection, skipped: Counter[str]) -> Iterator[dict[str, Any]]:
    (more,) = connection.execute("SELECT count(*) FROM preferences WHERE step_order IS NOT NULL OR aspect <> ''").fetchall()[0]
    if more:
        skipped["preferences of a step or in one aspect"] += more
    rows = connection.execute(_PAIRS)
    while batch := rows.fetchmany(BATCH):
        for pair, votes, for_a, for_b, decided in ((row[:13] + row[17:], *row[13:17]) for row in batch):
            (
                _,
                query,
                a_text,
                source,
                a_model,
                a_id,
                created_at,
                a_steps,
                _,
                b_text,
                b_model,
                b_id,
                b_steps,
                b_source,
                b_created_at,
            ) = pair
            better = decided or ("chat" if for_a > for_b else "other" if for_b > for_a else "tie")
            if better not in ("chat", "other"):
                skipped["no answer is better"] += 1
                continue
            sides = {"chat": "a", "other": "b"}
            said = [
                {"choice": sides.get(verdict, verdict), "rater": rater, "created_at": _iso(datetime.fromisoformat(at))}
                | ({"strength": int(strength)} if strength else {})
                | ({"comment": comment} if comment else {})
                for rater, verdict, strength, comment, at in votes
            ]
            own = {
                "query": query,
                "response_a": a_text,
                "response_b": b_text,
                "steps_a": a_steps or None,
                "steps_b": b_steps or None,
                "model_a": a_model,
                "model_b": b_model,
                "id_a": a_id,
                "id_b": b_id,
                "source_a": source,
                "source_b": b_source,
                "created_at_a": _iso(created_at),
                "created_at_b": _iso(b_created_at),
                "preferences": said,
            }
            chosen, rejected = (a_text, b_text) if better == "chat" else (b_text, a_text)
            yield {
                "prompt": query,
                "chosen": chosen,
                "rejected": rejected,
                "workbench": {name: value for name, value in own.items() if value is not None},
            }


_ROWS: dict[Format, Callable[[duckdb.DuckDBPyConnection, Counter[str]], Iterator[dict[str, Any]]]] = {
    "chats": _chats_rows,
    "trl-preference": _preference,
    "trl-unpaired": _unpaired,
    "trl-stepwise": _stepwise,
    "prm800k": _prm800k,
    "processbench": _processbench,
    "math-shepherd": _shepherd,
}


def export(snapshot: Snapshot, what: Format, out: Path, *, layout: Layout = "jsonl", plain: bool = False) -> Exported:
    """Write a snapshot's feedback.

    Args:
        snapshot: Whose feedback.
        what: The layout of a record.
        out: A file (``jsonl``, ``parquet``), or a new folder (``datasets``: what ``datasets.load_dataset`` opens).
        layout: How records are written.
        plain: Only the standard fields.

    Raises:
        InvalidInput: no such format, ``out`` is there already, or nothing in the snapshot fits.
        CorruptArtifact: the snapshot is damaged.
        StorageFull: no room; nothing is left behind.
    """
    if what not in EXPORT_FORMATS or layout not in get_args(Layout):
        raise InvalidInput(f"There is no export {what!r} as {layout!r}. Formats: {', '.join(EXPORT_FORMATS)}.")
    if out.exists():
        raise InvalidInput(f"{out} is there already. Choose another name, or delete it first.")
    skipped: Counter[str] = Counter()
    with asking(snapshot) as connection, disk_errors("exporting", out.parent), building(out.parent) as scratch:
        rows = _ROWS[what](connection, skipped)
        records = (_plain(row) if plain else _text_of(row) for row in rows)
        made = scratch / ("data" if layout == "datasets" else "file")
        if layout == "jsonl":
            count = _write_jsonl(made, records)
        elif layout == "parquet":
            count = _write_parquet(made, records)
        else:
            made.mkdir()
            count = _write_parquet(made / "train-00000-of-00001.parquet", records)
            (scratch / "README.md").write_text(_card(snapshot, what, count, skipped), encoding="utf-8")
        if count == 0:
            why = "; ".join(f"{reason} ({n:,})" for reason, n in sorted(skipped.items())) or "there is no chat"
            raise InvalidInput(f"Nothing of snapshot {snapshot.id} fits the format {what}: {why}.")
        if layout == "datasets":
            publish(scratch, out)
        else:
            made.replace(out)
    return Exported(out, count, dict(skipped))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "workbench"}


def _text_of(row: dict[str, Any]) -> dict[str, Any]:
    """The own record as text, so that every record has the same fields."""
    return row | {"workbench": json.dumps(row["workbench"], ensure_ascii=False)} if "workbench" in row else row


def _write_jsonl(path: Path, records: Iterator[dict[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_parquet(path: Path, records: Iterator[dict[str, Any]]) -> int:
    count = 0
    writer: pq.ParquetWriter | None = None
    batch: list[dict[str, Any]] = []

    def write(some: list[dict[str, Any]]) -> None:
        nonlocal writer
        if writer is None:
            table = pa.Table.from_pylist(some)
            writer = pq.ParquetWriter(path, _sure(table.schema), compression="zstd")
        writer.write_table(pa.Table.from_pylist(some, schema=writer.schema))

    for record in records:
        batch.append(_as_columns(record))
        count += 1
        if len(batch) >= BATCH:
            write(batch)
            batch = []
    if batch:
        write(batch)
    if writer is not None:
        writer.close()
    return count


def _as_columns(record: dict[str, Any]) -> dict[str, Any]:
    """Fields whose shape differs between records become JSON text."""
    if "feedback" in record or "query" in record:  # the own format
        whole = dict.fromkeys(("id", "query", "response", "steps", "source", "model", "created_at", "feedback")) | record
        return whole | {name: json.dumps(whole[name] or [], ensure_ascii=False) for name in ("steps", "feedback")}
    return record


def _sure(schema: pa.Schema) -> pa.Schema:
    """Columns that held nothing but nulls at first are text (or, of a list, texts)."""
    fields = []
    for field in schema:
        kind = field.type
        if pa.types.is_null(kind):
            kind = pa.bool_() if field.name == "final_answer_correct" else pa.string()
        fields.append(pa.field(field.name, kind))
    return pa.schema(fields)


def _card(snapshot: Snapshot, what: Format, count: int, skipped: Counter[str]) -> str:
    lines = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: data/train-*.parquet",
        "---",
        "",
        f"# Feedback as {what}",
        "",
        EXPORT_FORMATS[what].capitalize() + ".",
        "",
        f"- {count:,} records from snapshot `{snapshot.id}` ({snapshot.created_at[:19]}Z) of RLHF Workbench.",
        "- People appear under pseudonyms; who withdrew their consent does not appear.",
        "- `workbench`, where it is there, holds every single judgement as JSON: `python -m rlhf_core import` restores them.",
        *(f"- Left out {n:,}: {why}." for why, n in sorted(skipped.items())),
    ]
    return "\n".join(lines) + "\n"
