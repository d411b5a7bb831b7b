import pytest

from rlhf_core.ground.text import step_prefixes
from rlhf_core.intake.splitting import split_answer, split_sentences


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("1. Call MassHire.\n2. Take the course.", ["Call MassHire.", "Take the course."]),
        ("1) One\n2) Two\n3) Three", ["One", "Two", "Three"]),
        ("**1. One**\n**2. Two**", ["One**", "Two**"]),
        ("Step 1: Add.\nthen more\nStep 2: Subtract.", ["Add.\nthen more", "Subtract."]),
        ("## Step 1: Add\ntext\n\n## Step 2: Divide\ntext", ["Add\ntext", "Divide\ntext"]),
        ("**Step 1:** Add\n**Step 2:** Divide", ["Add", "Divide"]),
        ("- a\n- b", ["a", "b"]),
        ("• a\n• b\n• c", ["a", "b", "c"]),
        ("First paragraph.\n\nSecond\nparagraph.", ["First paragraph.", "Second\nparagraph."]),
        ("Just one.", ["Just one."]),
        ("Here is how:\n1. One\n2. Two", ["Here is how:\n1. One", "Two"]),
        ("Think first.\n\n1. One\n2. Two\n\nSo it is two.", ["Think first.", "One", "Two", "So it is two."]),
        ("1. One\n\n   more of one\n\n2. Two", ["One\n\n   more of one", "Two"]),
        ("In 1990. It was so.\n\nThen 3. came", ["In 1990. It was so.", "Then 3. came"]),
        ("", []),
    ],
)
def test_steps(text: str, steps: list[str]) -> None:
    assert split_answer(text).steps == steps


def test_code_is_never_cut() -> None:
    text = "Run this:\n\n```\n1. not a step\n\n2. nor this\n```\n\nThen rest."
    assert split_answer(text).steps == ["Run this:", "```\n1. not a step\n\n2. nor this\n```", "Then rest."]


def test_a_list_that_does_not_count_up_is_no_list() -> None:
    assert len(split_answer("3. c\n7. d").steps) == 1


def test_the_streamed_protocol() -> None:
    text = (
        'Hello.\n{"type": "step_start", "id": 1}\nLook up grants.\n{"type": "step_end", "id": 1}\n'
        '{"type": "step_start"}\nCompare\nthem.\n{"type": "step_end"}\nBye {"type": "x"}\n'
    )
    response, steps = split_answer(text)
    assert steps == ["Look up grants.", "Compare\nthem."]
    assert response == 'Hello.\nLook up grants.\nCompare\nthem.\nBye {"type": "x"}'


def test_a_streamed_step_that_is_never_closed_ends_at_the_next_or_at_the_end() -> None:
    assert split_answer('{"type":"step_start"}\na\n{"type":"step_start"}\nb').steps == ["a", "b"]


@pytest.mark.parametrize("text", ["1. a\n2. b", "x\n\ny", "Intro:\n- a\n- b\n\nEnd.", "Step 1: a\nStep 2: b"])
def test_steps_are_verbatim_so_prefixes_cut_the_answer(text: str) -> None:
    response, steps = split_answer(text)
    assert all(response.startswith(prefix) for prefix in step_prefixes(response, steps))


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("It is new. It was built in 2018! Was it? Yes", ["It is new.", "It was built in 2018!", "Was it?", "Yes"]),
        ("Dr. A. B. Lee of the U.S. Army met Mr. Day. So?", ["Dr. A. B. Lee of the U.S. Army met Mr. Day.", "So?"]),
        ('He said "no." Then he left. (So did I.) 19 stayed.', ['He said "no."', "Then he left.", "(So did I.)", "19 stayed."]),
        ("It costs 3.5 million, e.g. for St. Louis vs. Boston.", ["It costs 3.5 million, e.g. for St. Louis vs. Boston."]),
        ("One.\n\nTwo.\nthree", ["One.", "Two.\nthree"]),
        ("", []),
    ],
)  # fmt: skip
def test_sentences(text: str, steps: list[str]) -> None:
    assert split_sentences(text).steps == steps
    assert all(text.startswith(prefix) for prefix in step_prefixes(text, steps))
