"""What a filter leaves is what a set of only those chats and ratings would hold."""

from typing import Any

import pandas as pd
import pytest

from rlhf_core.analytics.explorer import Filter
from rlhf_core.analytics.query import ask
from rlhf_core.analytics.snapshot import Snapshot, schema_of
from rlhf_core.ground.tables import TableName
from tests.analytics.reference import ANSWERS, Frames, same

ASKED = (
    "scores_by_source",
    "score_distribution",
    "scores_by_aspect",
    "position_bias",
    "rater_workload",
    "scores_by_step_position",
)


class Cut(Frames):
    """Tables with only the rows that ``keep`` says."""

    def __init__(self, snapshot: Snapshot, keep: dict[str, Any]) -> None:
        super().__init__(snapshot)
        self._keep = keep

    def __call__(self, table: TableName, *columns: str) -> pd.DataFrame:
        rule = self._keep.get(table)
        if rule is None:
            return super().__call__(table, *columns)
        whole = super().__call__(table, *schema_of(table).names)
        return whole[rule(whole)][list(columns)].reset_index(drop=True)


@pytest.mark.parametrize("name", ASKED)
def test_by_rater(name: str, judged_snapshot: Snapshot) -> None:
    someone = ask(judged_snapshot, "rater_workload")["rater"][0]
    judges = Frames(judged_snapshot)("aspect_ratings", "rater")["rater"].unique()
    for rater in {someone, *judges}:
        of_them = {table: lambda frame, rater=rater: frame["rater"] == rater
                   for table in ("chat_feedback", "preferences", "aspect_ratings")}  # fmt: skip
        assert same(ask(judged_snapshot, name, Filter(raters=(rater,))), ANSWERS[name](Cut(judged_snapshot, of_them))) == ""


@pytest.mark.parametrize("name", ["scores_by_source", "score_distribution", "scores_by_step_position", "rater_workload"])
def test_by_score_and_position(name: str, judged_snapshot: Snapshot) -> None:
    kept = {"chat_feedback": lambda frame: frame["feedback_score"].isin([1, 2]) & frame["step_id"].notna()}
    positions = tuple(range(1, 30))
    found = ask(judged_snapshot, name, Filter(scores=(1, 2), steps=positions))
    assert same(found, ANSWERS[name](Cut(judged_snapshot, kept))) == ""
