"""The Drift page on data that shifted in each of the three ways: the right part says so, and no other."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from rlhf_core.services import drifting, serving, snapshots
from rlhf_core.services.workbench import Workbench
from tests.analytics.test_drift import made
from tests.pages.test_pages import open_page

TITLES = {"inputs": "Questions", "raters": "Raters", "model": "Reward model"}


@pytest.mark.slow
@pytest.mark.parametrize("shift", [*TITLES])
def test_the_page_tells_the_three_apart(
    shift: str, workbench: Workbench, add_chats: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions, ratings = made(shift, a_week=40)
    rewards, records = {}, []
    for (at, query), (_, mine) in zip(questions.itertuples(index=False), ratings.groupby("thing", sort=False), strict=True):
        said = [{"rater": one.rater, "score": int(one.score), "created_at": one.at.isoformat()} for one in mine.itertuples()]
        records.append({"query": query, "response": "An answer.", "feedback": said, "created_at": at.isoformat()})
        rewards[query] = float(mine["reward"].iloc[0])
    add_chats(*records)
    snapshots.take(workbench)
    ids = {chat.id: chat.query for chat in workbench.store.search_chats(limit=1000)}
    monkeypatch.setattr(serving, "reward_model", lambda _: "reward-1")
    monkeypatch.setattr(drifting, "_rewards", lambda *_: {(one, 0): rewards[query] for one, query in ids.items()})
    page = open_page("drift.py")
    assert not page.exception
    page.toggle[0].set_value(True).run()
    assert not page.exception
    said = {title: next(one.value for one in page.markdown if one.value.startswith(f"**{title}**")) for title in TITLES.values()}
    assert {title for title, words in said.items() if "warning" in words} == {TITLES[shift]}
    assert all("no drift" in words for title, words in said.items() if title != TITLES[shift])
    assert pd.notna(questions["at"]).all()
