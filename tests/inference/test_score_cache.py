"""What was worked out before is found again, by what it was worked out of, and a broken cache breaks nothing."""

import logging
from pathlib import Path

import pytest

from rlhf_core.ground.answers import Answer, AnswerScore
from rlhf_core.inference.score_cache import ScoreCache

ONE, OTHER = Answer("q", "a", ("s",)), Answer("q", "a")
SCORE = AnswerScore(3.25, [1.5, 4.0], 7)


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path / "cache" / "scores.sqlite3")
    assert cache.read("reward-1", [ONE.key]) == {}
    cache.write("reward-1", {ONE.key: SCORE})
    assert ScoreCache(tmp_path / "cache" / "scores.sqlite3").read("reward-1", [ONE.key, OTHER.key]) == {ONE.key: SCORE}
    assert cache.read("reward-2", [ONE.key]) == {}
    cache.write("reward-2", {ONE.key: SCORE})
    cache.forget("reward-1")
    assert cache.read("reward-1", [ONE.key]) == {}
    assert cache.read("reward-2", [ONE.key]) == {ONE.key: SCORE}


def test_keys_tell_all_that_is_read_apart() -> None:
    answers = [ONE, OTHER, Answer("q ", "a"), Answer("q", "a", ("s", "")), Answer("qa", ""), Answer("q", "a\ud800")]
    assert len({one.key for one in answers}) == len(answers)
    assert Answer("q", "a", ("s",)).key == ONE.key


def test_a_damaged_one_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "scores.sqlite3"
    path.write_bytes(b"garbage" * 1000)
    cache = ScoreCache(path)
    with caplog.at_level(logging.WARNING):
        assert cache.read("reward-1", [ONE.key]) == {}
    assert "of no use just now" in caplog.text
    cache.write("reward-1", {ONE.key: SCORE})
    assert cache.read("reward-1", [ONE.key]) == {ONE.key: SCORE}


def test_one_that_cannot_be_written_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    ScoreCache(tmp_path / "cache" / "scores.sqlite3").write("reward-1", {ONE.key: SCORE})
    assert "of no use just now" in caplog.text


def test_one_that_has_grown_too_large_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ScoreCache(tmp_path / "scores.sqlite3")
    cache.write("reward-1", {ONE.key: SCORE})
    monkeypatch.setattr("rlhf_core.inference.score_cache.LARGEST_MB", 0)
    assert cache.read("reward-1", [ONE.key]) == {}
