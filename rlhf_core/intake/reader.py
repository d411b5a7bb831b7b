"""Bytes of a file become raw records with line numbers, one at a time and flat in memory.

A bad line comes out as a :class:`Problem` in its place; a file that cannot be read at all raises.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, BinaryIO

from rlhf_core.ground.errors import InvalidInput, Problem
from rlhf_core.ground.text import shorten
from rlhf_core.intake.formats import LONG_FIELDS, SUFFIXES

Item = tuple[int, dict[str, Any] | Problem]

MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_JSON_BYTES = 64 * 1024 * 1024  # in Python some twenty times as much
MAX_CHUNK_BYTES = 256 * 1024 * 1024
MOST_COMPRESSED = 1000  # times smaller than its texts: a column of a bomb
_PARQUET_BATCH_ROWS = 500
_JSON_COLUMNS = ("steps", "step_labels", "feedback", "steps_a", "steps_b", "preferences", "votes")
_NUMBER_COLUMNS = ("score", "step_score", "strength")
_MAY_BE_BLANK = ("response_a", "response_b", "chosen", "rejected", "response1", "response2")  # a model that said nothing
_BOM = b"\xef\xbb\xbf"


FOREIGN = {b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture", b"GIF8": "a picture", b"%PDF": "a PDF document",
           b"PAR1": "Parquet (name it .parquet)", b"SQLi": "an SQLite database"}  # by how a file begins  # fmt: skip


def read_records(file: BinaryIO, name: str) -> Iterator[Item]:
    """Read a file by its suffix.

    Args:
        file: Open for reading bytes, at its start, seekable.
        name: The file's name; its suffix says the format.

    Raises:
        InvalidInput: unknown suffix, empty file, UTF-16, broken Parquet, a JSON file too large to hold.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidInput(f"{name}: the suffix {suffix or '(none)'} is not known. Use one of {', '.join(SUFFIXES)}.")
    if not file.seekable():
        raise InvalidInput(f"{name} is a pipe. Save it to a file first.")
    head = file.read(4)
    file.seek(0)
    if not head:
        raise InvalidInput(f"{name} is empty. Export it again, or choose another file.")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InvalidInput(f"{name} is UTF-16 text. Save it as UTF-8 (for example: iconv -f UTF-16 -t UTF-8) and try again.")
    if head[:2] == b"\x1f\x8b" or head == b"PK\x03\x04":
        raise InvalidInput(f"{name} is compressed. Unpack it and import what is inside.")
    if suffix != ".parquet" and (what := next((what for mark, what in FOREIGN.items() if head.startswith(mark)), None)):
        raise InvalidInput(f"{name} holds {what}, whatever its suffix says. Choose the file with the chats.")
    read = {".parquet": _read_parquet, ".csv": _read_csv, ".json": _read_json}.get(suffix, _read_jsonl)
    return _merge_long(read(file, name))


def _raw_lines(file: BinaryIO) -> Iterator[tuple[int, bytes | Problem]]:
    line = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        line += 1
        if len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n"):
            size = len(raw)
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                size += len(rest)
            yield line, Problem(line, f"longer than {MAX_LINE_BYTES >> 20} MiB ({(size + len(rest)) >> 20} MiB)")
        else:
            yield line, raw.removeprefix(_BOM) if line == 1 else raw


def _decode(line: int, raw: bytes) -> str | Problem:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        shown = raw[max(0, error.start - 12) : error.start + 8].decode("latin-1")
        return Problem(
            line,
            f"not UTF-8 at byte {error.start} (near {shown!r}); if it is Windows or Latin-1 text, "
            "save it as UTF-8 (for example: iconv -f WINDOWS-1252 -t UTF-8)",
        )


def _read_jsonl(file: BinaryIO, _name: str) -> Iterator[Item]:
    for line, raw in _raw_lines(file):
        text = raw if isinstance(raw, Problem) else _decode(line, raw)
        if isinstance(text, Problem):
            yield line, text
        elif not text.isspace():
            yield line, _parse_object(line, text)


def _parse_object(line: int, text: str) -> dict[str, Any] | Problem:
    try:
        value = json.loads(text)
    except RecursionError:
        return Problem(line, "JSON nested too deeply")
    except json.JSONDecodeError as error:
        return Problem(line, f"not JSON: {error.msg} at character {error.colno}, in {shorten(text, 60)!r}")
    except ValueError as error:  # a number of thousands of digits
        return Problem(line, f"not JSON: {error} in {shorten(text, 60)!r}")
    return value if isinstance(value, dict) else Problem(line, f"expected a JSON object, got {shorten(text, 60)!r}")


def _read_json(file: BinaryIO, name: str) -> Iterator[Item]:
    """A list of records, ``{"chats": [...]}``, one record, or JSON Lines under the wrong suffix."""
    data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise InvalidInput(
            f"{name} is larger than {MAX_JSON_BYTES >> 20} MiB; a JSON list is read whole. Make it JSON Lines "
            "(jq -c '.[]' in.json > out.jsonl), which is read line by line."
        )
    try:
        value = json.loads(data.removeprefix(_BOM))
    except RecursionError as error:
        raise InvalidInput(f"{name} is nested too deeply to be a list of chats.") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not UTF-8 at byte {error.start}. Save it as UTF-8 and try again.") from error
    except json.JSONDecodeError as error:
        if "Extra data" in error.msg:
            file.seek(0)
            yield from _read_jsonl(file, name)
            return
        raise InvalidInput(f"{name} is not JSON: {error}. Mend it and try again.") from error
    except ValueError as error:  # a number of thousands of digits
        raise InvalidInput(f"{name} is not JSON that can be read: {error}.") from error
    if isinstance(value, dict):
        value = value["chats"] if isinstance(value.get("chats"), list) else [value]
    if not isinstance(value, list):
        raise InvalidInput(f"{name} holds {type(value).__name__}, not a list of records.")
    for number, record in enumerate(value, start=1):
        yield number, record if isinstance(record, dict) else Problem(number, "expected a JSON object")


def _read_csv(file: BinaryIO, name: str) -> Iterator[Item]:
    problems: list[Problem] = []

    def lines() -> Iterator[str]:
        for line, raw in _raw_lines(file):
            text = raw if isinstance(raw, Problem) else _decode(line, raw)
            if isinstance(text, Problem):
                problems.append(text)
                text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else "\n"
            yield text

    csv.field_size_limit(MAX_LINE_BYTES)
    rows = csv.reader(lines(), strict=True)
    try:
        header = [column.strip() for column in next(rows)]
        if len(set(header)) != len(header):
            raise InvalidInput(f"{name}: a column stands twice in the header {header}. Rename one.")
        other = next((mark for mark in (";", "\t", "|") if len(header) == 1 and header[0].count(mark) > 0), None)
        if other is not None:
            between = "tabs" if other == "\t" else repr(other)
            raise InvalidInput(f"{name}: its values stand between {between}. Save it with commas between them.")
        begin = rows.line_num + 1
        for row in rows:
            line, begin = begin, rows.line_num + 1
            if problems:
                yield from ((problem.line, problem) for problem in problems)
                problems.clear()
            elif not row:
                continue
            elif len(row) != len(header):
                yield line, Problem(line, f"{len(row)} values for {len(header)} columns")
            else:
                yield line, _csv_record(line, dict(zip(header, row, strict=True)))
        yield from ((problem.line, problem) for problem in problems)
    except csv.Error as error:
        yield rows.line_num, Problem(rows.line_num, f"not CSV: {error}; what follows could not be checked")


def _csv_record(line: int, row: dict[str, str]) -> dict[str, Any] | Problem:
    record: dict[str, Any] = {}
    for column, text in row.items():
        if not text.strip():
            if column in _MAY_BE_BLANK:
                record[column] = ""
            continue
        if column in _JSON_COLUMNS:
            try:
                record[column] = json.loads(text)
            except (ValueError, RecursionError) as error:
                return Problem(line, f"{column} is not JSON: {error}")
        elif column in _NUMBER_COLUMNS:
            try:
                record[column] = float(text)
            except ValueError:
                return Problem(line, f"{column} is {text!r}, not a number")
        else:
            record[column] = text
    return record


def _read_parquet(file: BinaryIO, name: str) -> Iterator[Item]:
    """Texts come as dictionaries, so that one that stands in every row is held once, however few bytes of the file say it; rows
    that are large together are made one by one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.ParquetFile(file).schema
        texts = [one.path for one in map(schema.column, range(len(schema))) if one.physical_type == "BYTE_ARRAY"]
        file.seek(0)
        parquet = pq.ParquetFile(file, read_dictionary=texts)
        for group in range(parquet.metadata.num_row_groups):
            for column in map(parquet.metadata.row_group(group).column, range(len(schema))):
                small, large = column.total_compressed_size, column.total_uncompressed_size
                if large > MAX_CHUNK_BYTES and large > MOST_COMPRESSED * small:
                    raise InvalidInput(
                        f"{name}: {column.path_in_schema} holds {large >> 20} MiB in {small >> 10} KiB, which no feedback does."
                    )
        number = 0
        for batch in parquet.iter_batches(_PARQUET_BATCH_ROWS):
            heavy = sum(map(_text_bytes, batch.columns)) > MAX_LINE_BYTES
            for row in (batch.slice(k, 1) for k in range(batch.num_rows)) if heavy else [batch]:
                if heavy and (size := sum(map(_text_bytes, row.columns))) > MAX_LINE_BYTES:
                    number += 1
                    yield number, Problem(number, f"longer than {MAX_LINE_BYTES >> 20} MiB ({size >> 20} MiB)")
                    continue
                for record in row.to_pylist():
                    number += 1
                    yield number, _parquet_record(number, record)
    except (pa.ArrowException, OSError, ValueError, RuntimeError, MemoryError) as error:
        raise InvalidInput(f"{name} cannot be read as Parquet: {shorten(str(error), 200)}") from error


def _text_bytes(array: Any) -> int:
    """Bytes of all texts of a column, as they would be one by one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        lengths = pc.cast(pc.binary_length(array.dictionary), pa.int64())
        return pc.sum(lengths.take(array.indices)).as_py() or 0
    if pa.types.is_struct(array.type):
        return sum(map(_text_bytes, array.flatten()))
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return _text_bytes(array.flatten())
    return array.nbytes


def _parquet_record(number: int, record: dict[str, Any]) -> dict[str, Any] | Problem:
    for column in _JSON_COLUMNS:
        if isinstance(record.get(column), str):
            try:
                record[column] = json.loads(record[column])
            except (ValueError, RecursionError) as error:
                return Problem(number, f"{column} is not JSON: {error}")
    return {column: value for column, value in record.items() if value is not None}


def _merge_long(items: Iterator[Item]) -> Iterator[Item]:
    """Rows of one step each become one record for each chat: adjacent rows with the same id.

    A row that repeats the step before it adds another judgement of it. Chat fields may be left blank after the first row,
    but may not contradict it.
    """
    chat: dict[str, Any] | None = None
    first_line = 0
    for line, record in items:
        if isinstance(record, Problem) or "step_content" not in record:
            if chat is not None:
                yield first_line, chat
                chat = None
            yield line, record
            continue
        rest = {key: value for key, value in record.items() if key not in LONG_FIELDS and key != "rater"}
        if "id" not in rest:
            yield line, Problem(line, "a row with step_content needs an id, which says the chat it belongs to")
            continue
        if chat is None or chat["id"] != rest["id"]:
            if chat is not None:
                yield first_line, chat
            chat, first_line = rest | {"steps": []}, line
        elif contradicted := next((key for key, value in rest.items() if chat.setdefault(key, value) != value), None):
            yield line, Problem(line, f"{contradicted} is not the same as in line {first_line}, though the id is")
            continue
        steps = chat["steps"]
        if not steps or steps[-1]["content"] != record["step_content"]:
            steps.append({"content": record["step_content"], "feedback": []})
        names = {"step_score": "score", "step_comment": "comment", "rater": "rater"}
        judgement = {name: record[column] for column, name in names.items() if record.get(column) is not None}
        if "score" in judgement or "comment" in judgement:
            steps[-1]["feedback"].append(judgement)
    if chat is not None:
        yield first_line, chat
