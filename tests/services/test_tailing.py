from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlhf_core.services import tailing
from rlhf_core.services.tailing import json_lines


def numbers(path: Path) -> list[int]:
    return [line["n"] for line in json_lines(path)]


def append(path: Path, *values: int) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps({"n": value, "words": "x" * 30}) + "\n" for value in values)


def test_what_is_new_is_added_and_half_a_line_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.jsonl"
    assert numbers(path) == []
    append(path, 1, 2)
    assert numbers(path) == [1, 2]
    parsed = []
    real = json.loads
    monkeypatch.setattr(tailing.json, "loads", lambda text: (parsed.append(text), real(text))[1])
    append(path, 3)
    with path.open("a") as file:
        file.write('{"n": 4')
    assert numbers(path) == [1, 2, 3]
    assert len(parsed) == 1, "only the new line was read"
    with path.open("a") as file:
        file.write("}\n")
    assert numbers(path) == [1, 2, 3, 4]


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    append(path, *range(10))
    assert numbers(path) == list(range(10))
    path.write_text("")
    append(path, 0, 1, 2)
    assert numbers(path) == [0, 1, 2]
    path.write_text("")
    append(path, *range(20, 40))  # longer than before
    assert numbers(path) == list(range(20, 40))
    path.unlink()
    assert numbers(path) == []


def test_what_a_caller_does_to_its_list_is_its_own_affair(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    append(path, 1)
    json_lines(path).clear()
    assert numbers(path) == [1]


def test_only_a_few_files_are_remembered(tmp_path: Path) -> None:
    for k in range(3 * tailing.KEPT):
        append(tmp_path / f"{k}.jsonl", k)
        assert numbers(tmp_path / f"{k}.jsonl") == [k]
    assert len(tailing._read) == tailing.KEPT
    assert numbers(tmp_path / "0.jsonl") == [0]
