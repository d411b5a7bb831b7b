import numpy as np
import pytest

from rlhf_core.learn.scales import StarScale, star_shares


def test_stars_of_regression_and_of_chances() -> None:
    assert StarScale("", 3.5, 2.0).stars(np.array([-1.0, 0.0, 0.5])).tolist() == [1.5, 3.5, 4.5]
    ordinal = StarScale("", thresholds=(-np.log(3), 0.0, np.log(3), np.log(9)))
    # chances of more than 1, 2, 3, 4 stars: 3/4, 1/2, 1/4, 1/10
    assert ordinal.stars(np.array([0.0])).tolist() == pytest.approx([1 + 0.75 + 0.5 + 0.25 + 0.1])
    assert ordinal.stars(np.array([-1e9, 1e9])).tolist() == pytest.approx([1.0, 5.0])
    assert StarScale.from_json(ordinal.to_json()) == ordinal


def test_scores_shared_out_among_stars() -> None:
    assert star_shares(np.array([3.4])).tolist() == pytest.approx([0, 0, 0.6, 0.4, 0])
    assert star_shares(np.array([1.0, 5.0]), np.array([3.0, 1.0])).tolist() == pytest.approx([0.75, 0, 0, 0, 0.25])
    assert star_shares(np.array([0.2, 6.0])).tolist() == [0.5, 0, 0, 0, 0.5]
