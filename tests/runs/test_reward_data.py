"""What a run reads from a snapshot, what it refuses to learn from, and what it warns of: before any model is loaded."""

from typing import Any

import pytest

from rlhf_core.ground.configs import RewardConfig
from rlhf_core.ground.errors import NotEnoughData
from rlhf_core.ground.text import query_key
from rlhf_core.learn.examples import Example
from rlhf_core.runs.reward_data import Data, folds_wanted, read_data, warnings_of, weights_of
from rlhf_core.services import snapshots
from rlhf_core.services.workbench import Workbench
from tests.conftest import learnable_chats


def rated(count: int, score: Any, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": f"r{k}",
            "query": f"query {k}",
            "response": f"answer {k}",
            "feedback": [{"score": score(k), "rater": "Rui"} | more],
        }
        for k in range(count)
    ]


def read(workbench: Workbench, **options: Any) -> Data:
    return read_data(snapshots.take(workbench)[0], RewardConfig(**options))


def test_all_alike_have_nothing_to_tell_apart(workbench: Workbench, add_chats: Any) -> None:
    add_chats(*rated(12, lambda _: 4))
    with pytest.raises(NotEnoughData, match=r"same score \(4 stars\), so there is nothing to tell apart"):
        read(workbench)


def test_ratings_of_one_query_cannot_be_split(workbench: Workbench, add_chats: Any) -> None:
    add_chats(
        *({"query": "the only one", "response": f"answer {k}", "feedback": [{"score": 1 + k, "rater": "Rui"}]} for k in range(3))
    )
    with pytest.raises(NotEnoughData, match="at least 2 different queries"):
        read(workbench)


def test_three_ratings_are_learned_with_a_warning(workbench: Workbench, add_chats: Any) -> None:
    add_chats(*rated(3, lambda k: 1 + 2 * k))
    found = warnings_of(read(workbench, validation_fraction=0.0))
    assert any("only 1 judgements are held out" in one for one in found)


def test_one_class_is_said(workbench: Workbench, add_chats: Any) -> None:
    add_chats(*rated(40, lambda k: 4 + k % 2))
    found = warnings_of(read(workbench))
    assert any("no text has 2 stars or fewer" in one for one in found)
    assert not any("4 stars or more" in one for one in found)


def test_nearly_all_alike_and_contradictions_are_said(workbench: Workbench, add_chats: Any) -> None:
    add_chats(*rated(40, lambda k: 1 if k == 0 else 5))
    again = [one | {"id": f"again {one['id']}", "feedback": [{"score": 1, "rater": "Ana"}]} for one in rated(3, lambda _: 5)[1:]]
    add_chats(*again)
    found = warnings_of(read(workbench, test_fraction=0.05, validation_fraction=0.0, leniency=False))
    assert any("of the texts have 5 stars" in one for one in found)
    assert any("were scored more than once, 2 or more stars apart" in one for one in found)


def test_thumbs_alone_can_be_left_out(workbench: Workbench, add_chats: Any) -> None:
    add_chats(*rated(10, lambda k: 1 + k % 5), *(
        {"query": f"other {k}", "steps": ["one", "two"], "step_labels": [1, -1]} for k in range(10)
    ))  # fmt: skip
    both, stars = read(workbench), read(workbench, thumbs_weight=0)
    count = lambda data: sum(len(part) for part in (data.rated.train, data.rated.validation, data.rated.test))  # noqa: E731
    assert (count(both), count(stars)) == (30, 10)
    assert not [one for one in stars.rated.train if one.is_step]


def test_a_query_stands_on_one_side(workbench: Workbench, add_chats: Any) -> None:
    add_chats(*learnable_chats())
    data = read(workbench)
    assert data.queries == 24
    parts = [{query_key(one.query) for one in part} for part in (data.rated.train, data.rated.validation, data.rated.test)]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    assert folds_wanted(data, RewardConfig(method="head")) == 5
    assert folds_wanted(data, RewardConfig(method="head", folds=0)) == folds_wanted(data, RewardConfig()) == 0


def test_weights_by_hand() -> None:
    some = [Example("c", "q", "a", None, score, 1, weight=2.0) for score in (5, 5, 5, 1)]
    steps = [Example("c", "q", "a", 1, 5, 1, aspect="clear")]
    plain = RewardConfig(step_weight=0.5, aspect_weight=3.0)
    assert weights_of([*some, *steps], plain) == [2.0, 2.0, 2.0, 2.0, 1.5]
    # four ratings on two levels: two of each would be even
    assert weights_of(some, RewardConfig(balance=True)) == pytest.approx([2 * 2 / 3] * 3 + [4.0])
