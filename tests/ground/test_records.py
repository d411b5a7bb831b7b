import math
from datetime import UTC, datetime, timedelta, timezone

import pytest

from rlhf_core.ground.errors import InvalidInput
from rlhf_core.ground.records import check_score, content_id, feedback_type_of, format_utc, parse_utc


@pytest.mark.parametrize(("score", "kind"), [(1, "negative"), (2, "negative"), (3, "neutral"), (4, "positive"), (5, "positive")])
def test_type_follows_score(score: int, kind: str) -> None:
    assert feedback_type_of(score) == kind


@pytest.mark.parametrize("score", [0, 6, 3.5, math.nan, "5", True, None])
def test_what_is_no_score_is_refused_with_its_value(score: object) -> None:
    with pytest.raises(InvalidInput, match="whole number from 1 to 5"):
        check_score(score)


def test_times_are_utc_and_sort_as_text() -> None:
    east = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert format_utc(east) == "2025-12-31T23:30:00.000000Z"
    assert parse_utc(format_utc(east)) == east
    assert format_utc(datetime(2026, 1, 1)) == format_utc(datetime(2026, 1, 1, tzinfo=UTC))


def test_content_ids_do_not_run_parts_together() -> None:
    assert content_id("ab", "c") != content_id("a", "bc")
    assert content_id("ab", "c") == content_id("ab", "c")
