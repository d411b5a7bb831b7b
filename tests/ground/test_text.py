from rlhf_core.ground.text import query_key, shorten, step_prefixes


def test_prefixes_are_the_response_cut_after_each_step_with_its_separators() -> None:
    response = "Intro.\n1. First thing\n2. Second thing\n\nSo: done."
    assert step_prefixes(response, ["First thing", "Second thing"]) == [
        "Intro.\n1. First thing",
        "Intro.\n1. First thing\n2. Second thing",
    ]


def test_prefixes_of_equal_steps_advance() -> None:
    assert step_prefixes("again\nagain", ["again", "again"]) == ["again", "again\nagain"]


def test_prefixes_fall_back_to_joined_steps_when_the_response_only_sums_up() -> None:
    assert step_prefixes("The answer is 4.", ["2 + 2", "= 4"]) == ["2 + 2", "2 + 2\n\n= 4"]


def test_steps_out_of_order_fall_back_too() -> None:
    assert step_prefixes("b then a", ["a", "b"]) == ["a", "a\n\nb"]


def test_query_key_ignores_case_and_spacing_only() -> None:
    assert query_key("How do  I start?\n") == query_key("how do i START?")
    assert query_key("How do I start?") != query_key("How do I start")


def test_shorten_gives_one_line() -> None:
    assert shorten("a\n b", 80) == "a b"
    assert shorten("abcdef", 4) == "abc…"
