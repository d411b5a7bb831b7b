"""Which tokens a judged span covers, and what is kept of a text that is too long."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, BertTokenizerFast

from rlhf_core.learn.reading import Encoded, Encoder, Reading, all_steps, fewest_texts, step_readings, up_to_step, whole_answer


@pytest.fixture
def tokenizer(tiny_encoder: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_encoder)


def words(tokenizer: BertTokenizerFast, one: Encoded, span: int = 0) -> str:
    begin, end = one.spans[span]
    return tokenizer.decode(one.ids[begin:end])


def test_short_texts_read_exactly_as_the_tokenizer_reads_them(tokenizer: Any) -> None:
    (one,) = Encoder(tokenizer, 64).encode([whole_answer("how do i start", "ask for the training voucher")])
    assert one.ids == tokenizer("User: how do i start\n\nAssistant: ask for the training voucher").input_ids
    assert (words(tokenizer, one), one.cut, one.lost) == ("ask for the training voucher", False, ())


def test_spans_are_the_steps_own_words(tokenizer: Any) -> None:
    answer = "1. ask for the training voucher\n2. lie about your licence"
    steps = ["ask for the training voucher", "lie about your licence"]
    reading = all_steps("how do i start", steps, answer)
    (one,) = Encoder(tokenizer, 64).encode([reading])
    assert reading.answer == answer
    assert [words(tokenizer, one, k) for k in range(2)] == steps
    first, second = step_readings("how do i start", steps, answer)
    assert (first.answer, second.answer) == ("1. ask for the training voucher", answer)
    assert [words(tokenizer, one) for one in Encoder(tokenizer, 64).encode([first, second])] == steps


def test_steps_that_the_answer_does_not_hold_are_joined() -> None:
    reading = all_steps("q", ["one", "two"], "something else")
    assert (reading.answer, reading.spans) == ("one\n\ntwo", ((0, 3), (5, 8)))
    assert all_steps("q", ["one", "two"]) == reading
    assert up_to_step("q", "something", "else").spans == ((0, 9),)


def test_long_texts_lose_their_middle_and_keep_query_and_last_step(tokenizer: Any) -> None:
    text = "visit " * 40 + "lie about your licence"
    (one,) = Encoder(tokenizer, 24).encode([up_to_step("how do i start", text, "lie about your licence")])
    read = tokenizer.decode(one.ids)
    assert (len(one.ids), one.cut, one.lost) == (24, True, ())
    assert read.startswith("[CLS] user : how do")
    assert read.endswith("lie about your licence [SEP]")
    assert words(tokenizer, one) == "lie about your licence"


def test_a_very_long_query_leaves_room_for_the_answer(tokenizer: Any) -> None:
    (one,) = Encoder(tokenizer, 30).encode([whole_answer("start " * 200, "lie about your licence")])
    assert len(one.ids) == 30
    assert words(tokenizer, one) == "lie about your licence"


def test_a_step_that_the_cut_left_out_is_said(tokenizer: Any) -> None:
    steps = ["ask for the training voucher", "visit " * 40, "lie about your licence"]
    (one,) = Encoder(tokenizer, 28).encode([all_steps("how do i start", steps)])
    # a third of 26 tokens is the query's: all of its 5 with "user :" and "assistant :", the rest are the last ones
    assert one.lost == (0,)
    assert words(tokenizer, one, 2) == "lie about your licence"
    assert set(words(tokenizer, one, 1).split()) == {"visit"}
    assert all(0 < begin < end <= 27 for begin, end in one.spans)


@pytest.mark.parametrize("answer", ["", "   ", "\n"])
def test_an_empty_answer_still_has_a_token(tokenizer: Any, answer: str) -> None:
    (one,) = Encoder(tokenizer, 24).encode([whole_answer("how do i start", answer)])
    assert words(tokenizer, one) == ":"
    (other,) = Encoder(tokenizer, 24).encode([Reading("q", f"one{answer}", ((0, 3), (3, 3 + len(answer))))])
    assert all(begin < end for begin, end in other.spans)


def test_nothing_to_read() -> None:
    assert Encoder.__new__(Encoder).encode([]) == []


def test_the_fewest_texts_that_hold_all_spans() -> None:
    given = [
        Encoded([1, 2], [(0, 2)]), Encoded([1, 2, 3, 4], [(2, 4)]), Encoded([1, 2], [(0, 1), (0, 2)]),
        Encoded([1, 2, 3], [(1, 3)]), Encoded([1, 2, 5], [(0, 3)]), Encoded([2], [(0, 1)]),
    ]  # fmt: skip
    texts, asked = fewest_texts(given, beginnings=False)
    assert [one.ids for one in texts] == [[1, 2], [1, 2, 3, 4], [1, 2, 3], [1, 2, 5], [2]]
    assert texts[0].spans == [(0, 2), (0, 1)]
    assert asked == [(0, 0), (1, 0), (0, 1), (0, 0), (2, 0), (3, 0), (4, 0)]
    texts, asked = fewest_texts(given, beginnings=True)
    assert [one.ids for one in texts] == [[1, 2, 3, 4], [1, 2, 5], [2]]
    assert [texts[number].spans[place] for number, place in asked] == [span for one in given for span in one.spans]
    assert [texts[number].ids[:2] for number, _ in asked[:-1]] == [[1, 2]] * 6
    assert fewest_texts([], beginnings=True) == ([], [])
