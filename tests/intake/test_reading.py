"""What files look like when they are right, and what is said when they are not."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlhf_core.ground.errors import ImportRejected, InvalidInput
from rlhf_core.intake import reader
from rlhf_core.intake.parsing import Batch, Glimpse, glimpse, parse_file

GOOD = {"id": "a", "query": "q", "steps": ["one", "two"], "step_labels": [1, -1]}


def parse(data: bytes, name: str = "chats.jsonl", **options: Any) -> Batch:
    merged = Batch()
    with parse_file(io.BytesIO(data), name, **options) as parsed:
        for batch in parsed.batches():
            merged.chats += batch.chats
            merged.steps += batch.steps
            merged.feedback += batch.feedback
            merged.raters |= batch.raters
    return merged


def jsonl(*records: Any) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def problems(data: bytes, name: str = "chats.jsonl", **options: Any) -> list[str]:
    with pytest.raises(ImportRejected) as caught:
        parse(data, name, **options)
    return [str(problem) for problem in caught.value.problems]


def test_jsonl_with_bom_blank_lines_and_windows_ends() -> None:
    data = b"\xef\xbb\xbf" + jsonl(GOOD).replace(b"\n", b"\r\n") + b"\r\n"
    rows = parse(data)
    assert [row[1] for row in rows.chats] == ["q"]
    assert [row[2:4] for row in rows.steps] == [("one", 1), ("two", 2)]
    assert [row[4:7] for row in rows.feedback] == [("positive", 5, "thumbs"), ("negative", 1, "thumbs")]


@pytest.mark.parametrize("wrap", [lambda r: [r], lambda r: {"chats": [r]}, lambda r: r])
def test_json_as_list_object_or_single(wrap: Any) -> None:
    assert len(parse(json.dumps(wrap(GOOD)).encode(), "chats.json").chats) == 1


def test_json_lines_under_a_json_suffix() -> None:
    assert len(parse(jsonl(GOOD, GOOD | {"id": "b"}), "chats.json").chats) == 2


def test_csv_with_json_columns() -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["prompt", "response", "steps", "score", "rater"])
    writer.writerow(["q, with comma", "line one\n\nline two", "", "4", "Ana"])
    writer.writerow(["q2", "", json.dumps(["x", "y"]), "", ""])
    rows = parse(out.getvalue().encode(), "chats.csv")
    assert [row[2] for row in rows.steps] == ["line one", "line two", "x", "y"]
    assert [(row[2], row[5]) for row in rows.feedback] == [(None, 4)]
    assert list(rows.raters.values()) == ["Ana"]


def test_csv_with_one_row_for_each_step() -> None:
    text = "id,query,step_content,step_score,rater\n1,q,one,5,Ana\n1,q,two,2,Ana\n2,q2,three,,Ana\n"
    rows = parse(text.encode(), "long.csv")
    assert [(row[2], row[3]) for row in rows.steps] == [("one", 1), ("two", 2), ("three", 1)]
    assert [row[5] for row in rows.feedback] == [5, 2]


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({"query": ["q", "q2"], "steps": [["a", "b"], ["c"]], "step_labels": [[1, None], [-1]], "score": [None, 2]})
    pq.write_table(table, tmp_path / "c.parquet")
    rows = parse((tmp_path / "c.parquet").read_bytes(), "c.parquet")
    assert [row[5] for row in rows.feedback] == [5, 1, 2]


def test_every_bad_line_is_reported_with_its_number_and_reason() -> None:
    lines = [
        json.dumps(GOOD),
        "{broken",
        json.dumps({"query": "", "response": "r"}),
        json.dumps({"response": "r"}),
        json.dumps({"query": "q"}),
        json.dumps({"query": "q", "response": "r", "score": 6}),
        json.dumps({"query": "q", "response": "r", "score": float("nan")}),
        json.dumps({"query": "q", "response": "r", "score": 3.5}),
        json.dumps({"query": "q", "response": "r", "score": 5, "feedback_type": "negative"}),
        json.dumps({"query": "q", "steps": ["a"], "step_labels": [1, 1]}),
        json.dumps({"query": "q", "steps": ["a"], "feedback": [{"step": 2, "score": 4}]}),
        json.dumps({"query": "q", "steps": ["a", " "]}),
        json.dumps(GOOD),
        "[1, 2]",
        json.dumps({"query": 7, "response": "r"}),
        json.dumps({"query": "q", "response": "r", "created_at": "yesterday"}),
        json.dumps({"query": "q", "steps": ["a"], "feedback": [{"step": 1, "score": 4}, {"step": 1, "score": 5}]}),
        '{"query": "half \\ud800", "response": "r"}',
        json.dumps({"query": "nul \x00", "response": "r"}),
        json.dumps({"query": "q", "steps": ["a"], "feedback": [{"step": 1}]}),
    ]
    found = problems("\n".join(lines).encode())
    expected = [
        (2, "not JSON"), (3, "query is blank"), (4, "no query"), (5, "neither response nor steps"),
        (6, "score is 6; expected 1 to 5"), (7, "score is nan"), (8, "score is 3.5"), (9, "contradicts score 5"),
        (10, "expected a list of 1"), (11, "for step 2; this chat has steps 1 to 1"), (12, "step 2"),
        (13, "its id stands already in line 1"), (14, "expected a JSON object"), (15, "query is 7"), (16, "ISO-8601"),
        (17, "judges step 1 twice"), (18, "half a character"), (19, "NUL"), (20, "neither score nor type"),
    ]  # fmt: skip
    assert len(found) == len(expected)
    for line, (number, reason) in zip(found, expected, strict=True):
        assert line.startswith(f"line {number}: ")
        assert reason in line


def test_wrong_encodings_say_what_to_do() -> None:
    latin = jsonl(GOOD) + '{"query": "caf\xe9", "response": "r"}\n'.encode("latin-1")
    (problem,) = problems(latin)
    assert problem.startswith("line 2: not UTF-8 at byte 14")
    assert "iconv" in problem
    with pytest.raises(InvalidInput, match="UTF-16"):
        parse(json.dumps(GOOD).encode("utf-16"))
    (problem,) = problems(b"query,response\ncaf\xe9,r\n", "c.csv")
    assert "line 2: not UTF-8" in problem


def test_a_huge_line_is_passed_over_without_being_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_LINE_BYTES", 1024)
    found = problems(jsonl(GOOD) + b'{"query": "' + b"x" * 5000 + b'"}\n' + b"{bad\n")
    assert [one.split(":")[0] for one in found] == ["line 2", "line 3"]
    assert "longer than" in found[0]


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (b"", "a.jsonl", "empty"),
        (b"\n\n", "a.jsonl", "no records"),
        (b"[]", "a.json", "no records"),
        (b"{}", "a.txt", r"suffix \.txt"),
        (b"PK\x03\x04....", "a.csv", "compressed"),
        (b"PAR1 broken", "a.parquet", "cannot be read as Parquet"),
        (b"{broken", "a.json", "not JSON"),
        (b"7", "a.json", "holds int"),
        (b"a,a\n1,2\n", "a.csv", "stands twice"),
    ],
)
def test_files_that_cannot_be_read_at_all(data: bytes, name: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse(data, name)


def test_csv_rows_of_the_wrong_width_are_named_by_line() -> None:
    assert problems(b'query,response\n"q\n1",r\nonly\nq,r,x\n', "c.csv") == [
        "line 4: 1 values for 2 columns",
        "line 5: 3 values for 2 columns",
    ]


def test_deeply_nested_json_is_a_bad_line() -> None:
    (problem,) = problems(b"[" * 100_000 + b"]" * 100_000)
    assert "nested too deeply" in problem


def test_the_same_content_has_the_same_id_under_any_file_name() -> None:
    first, second = parse(jsonl(GOOD), "a.jsonl"), parse(jsonl(GOOD), "b.jsonl")
    assert first.chats[0][0] == second.chats[0][0]
    assert parse(jsonl(GOOD | {"query": "other"})).chats[0][0] != first.chats[0][0]


def test_processbench_as_published() -> None:
    record = {"id": "x", "generator": "m", "problem": "p", "steps": ["a", "b", "c"], "final_answer_correct": False, "label": 1}
    rows = parse(jsonl(record))
    assert [(row[2] and rows.steps.index(next(s for s in rows.steps if s[0] == row[2])), row[5]) for row in rows.feedback] == [
        (0, 5), (1, 1), (None, 1),
    ]  # fmt: skip
    assert rows.chats[0][3:5] == ("processbench", "m")
    assert [row[5] for row in parse(jsonl(record | {"label": -1})).feedback] == [5, 5, 5, 5]
    (problem,) = problems(jsonl(record | {"label": 3}))
    assert "0 to 2, or -1" in problem


def test_prm800k_takes_the_chosen_completions() -> None:
    def step(chosen: int | None, *ratings: int | None, human: str | None = None) -> dict[str, Any]:
        completions = [{"text": f"t{n}", "rating": rating, "flagged": False} for n, rating in enumerate(ratings)]
        return {
            "completions": completions or None, "chosen_completion": chosen,
            "human_completion": human and {"text": human, "rating": None},
        }  # fmt: skip

    record = {
        "labeler": "lab-1", "timestamp": "2022-07-30T23:23:32.118856", "question": {"problem": "p"},
        "label": {"steps": [step(1, -1, 1), step(None, -1, human="by hand"), step(None, 0, -1), step(None)]},
    }  # fmt: skip
    rows = parse(jsonl(record))
    assert [row[2] for row in rows.steps] == ["t1", "by hand", "t0"]
    assert [row[5] for row in rows.feedback] == [5, 3]
    assert list(rows.raters.values()) == ["lab-1"]
    assert rows.chats[0][6] == "2022-07-30T23:23:32.118856Z"


def test_plain_prompt_and_response() -> None:
    rows = parse(jsonl({"prompt": "q", "completion": "1. a\n2. b", "is_correct": False}), preset="prompt-response")
    assert [row[2] for row in rows.steps] == ["a", "b"]
    assert [row[5] for row in rows.feedback] == [1]


def test_fields_that_are_not_read_are_named() -> None:
    with parse_file(io.BytesIO(jsonl(GOOD | {"stpes": []})), "a.jsonl") as parsed:
        assert parsed.ignored_fields == ("stpes",)


def test_rows_of_one_chat_add_up_and_may_not_contradict() -> None:
    text = "id,query,step_content,step_score,rater,score\n1,q,one,5,Ana,\n1,,one,2,Ben,\n1,q,two,4,Ana,3\n1,other,three,4,Ana,\n"
    assert problems(text.encode(), "long.csv") == ["line 5: query is not the same as in line 2, though the id is"]
    rows = parse(text.rsplit("1,other", 1)[0].encode(), "long.csv")
    assert [row[2] for row in rows.steps] == ["one", "two"]
    assert [row[5] for row in rows.feedback] == [5, 2, 4, 3]


def test_is_correct_as_csv_text() -> None:
    rows = parse(b"query,response,is_correct\nq1,r1,true\nq2,r2,FALSE\n", "c.csv")
    assert [row[5] for row in rows.feedback] == [5, 1]
    (problem,) = problems(b"query,response,is_correct\nq1,r1,perhaps\n", "c.csv")
    assert "expected true or false" in problem


def test_contradicting_judgements_without_ids_are_named() -> None:
    record = {"query": "q", "response": "r"}
    assert problems(jsonl(record | {"score": 5}, record | {"score": 1})) == [
        "line 2: the same person judges the same thing as in line 1"
    ]
    assert len(parse(jsonl(record | {"score": 5, "rater": "a"}, record | {"score": 1, "rater": "b"})).feedback) == 2


def test_odd_values_are_bad_lines_not_crashes() -> None:
    record = {"query": "q", "response": "r"}
    found = problems(jsonl(
        record | {"score": 10**400}, record | {"comment": "no score"}, record | {"created_at": "0001-01-01T00:00:00+14:00"},
        {"query": "q", "response": '{"type": "step_start"}\n{"type": "step_end"}'},
    ))  # fmt: skip
    for line, reason in zip(found, ("expected 1 to 5", "without a score", "ISO-8601", "marks of a stream"), strict=True):
        assert reason in line
    assert parse(jsonl(record | {"created_at": "0001-01-01T00:00:00"})).chats[0][6] == "0001-01-01T00:00:00.000000Z"


def test_a_very_long_answer_keeps_all_its_text() -> None:
    response = "\n\n".join(f"Paragraph {k}." for k in range(900))
    rows = parse(jsonl({"query": "q", "response": response}))
    assert len(rows.steps) == 500
    assert rows.steps[-1][2].startswith("Paragraph 499.")
    assert rows.steps[-1][2].endswith("Paragraph 899.")


def test_a_broken_cell_in_parquet_is_named_by_its_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query": ["q", "q2"], "steps": ['["a"]', "[" * 100_000]}), tmp_path / "c.parquet")
    (problem,) = problems((tmp_path / "c.parquet").read_bytes(), "c.parquet")
    assert problem.startswith("line 2: steps is not JSON")


@pytest.mark.parametrize(("data", "name", "said"), [
    (b"\x89PNG\r\n\x1a\n....", "a.jsonl", "holds a picture, whatever its suffix says"),
    (b"%PDF-1.7\n", "a.csv", "holds a PDF document"),
    (b"query;response;score\nq;r;5\n", "a.csv", "values stand between ';'"),
    (b"query\tresponse\nq\tr\n", "a.csv", "values stand between tabs"),
])  # fmt: skip
def test_another_kind_of_file_is_called_so(data: bytes, name: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse(data, name)


def test_what_a_file_begins_with() -> None:
    data = io.BytesIO(jsonl(GOOD | {"rating": 5}, {"query": "q2", "steps": ["x"]}, {"steps": ["no question"]}, *[GOOD] * 9))
    seen = glimpse(data, "a.jsonl")
    assert seen.chats[:2] == [("q", 2, 2), ("q2", 1, 0)]
    assert (seen.chats[2].line, "has no query" in seen.chats[2].reason) == (3, True)
    assert (len(seen.chats), seen.preset, seen.ignored_fields) == (5, "chats", ("rating",))
    assert data.tell() == 0
    assert glimpse(io.BytesIO(b""" {"query": "q", "response": "r"}"""), "a.jsonl") == Glimpse("chats", [("q", 1, 0)], ())
    with pytest.raises(InvalidInput, match="is empty"):
        glimpse(io.BytesIO(b""), "a.jsonl")
