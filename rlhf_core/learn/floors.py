"""What models that cannot read reach: the floors a reward model must be above. Fitted on the same examples. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import csr_matrix, hstack, vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rlhf_core.learn.examples import Example
from rlhf_core.learn.measures import Floats
from rlhf_core.learn.pairs import Pair

Predict = Callable[[Sequence[Example]], Floats]
PredictPairs = Callable[[Sequence[Pair]], Floats]


def _shape(examples: Sequence[Example]) -> Floats:
    """(N, 6): log characters of the step's or answer's own words, of the text so far, the position (0: answer); squares."""
    plain = np.array([[np.log1p(len(one.own)), np.log1p(len(one.text)), one.step_order or 0] for one in examples], float)
    return np.hstack([plain, plain**2])


def _learned(examples: Sequence[Example]) -> tuple[Floats, Floats]:
    return np.array([one.target for one in examples]), np.array([one.weight for one in examples])


def length_floor(train: Sequence[Example]) -> Predict:
    """Ridge regression of targets on length and position alone. Predicts stars (N,)."""
    targets, weights = _learned(train)
    model = make_pipeline(StandardScaler(), Ridge(1.0))
    model.fit(_shape(train), targets, ridge__sample_weight=weights)
    return lambda examples: np.asarray(model.predict(_shape(examples)), float)


def words_floor(train: Sequence[Example]) -> Predict:
    """Ridge regression on TF-IDF of words and word pairs, with length and position beside them. Predicts stars (N,)."""
    targets, weights = _learned(train)
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2 if len(train) > 50 else 1, max_features=50_000, sublinear_tf=True,
                            token_pattern=r"(?u)\b\w+\b|\S")  # noqa: S106  # fmt: skip
    scaler = StandardScaler().fit(_shape(train))

    def features(examples: Sequence[Example]) -> csr_matrix:
        return csr_matrix(hstack([words.transform([one.own for one in examples]), 0.3 * scaler.transform(_shape(examples))]))

    words.fit([one.own for one in train])
    model = Ridge(1.0).fit(features(train), targets, sample_weight=weights)
    return lambda examples: np.asarray(model.predict(features(examples)), float)


def _longer(pairs: Sequence[Pair]) -> Floats:
    """(N, 1): log characters of the first less those of the second."""
    return np.array([[np.log1p(len(one.first)) - np.log1p(len(one.second))] for one in pairs], float)


def _won(pairs: Sequence[Pair]) -> tuple[Floats, Floats]:
    """Which text won, and weights. Every pair stands there both ways round, so that no model can learn the sides."""
    wins = np.array([one.chance > 0.5 for one in pairs], bool)
    weights = np.array([one.weight * abs(2 * one.chance - 1) for one in pairs])
    return np.concatenate([wins, ~wins]), np.concatenate([weights, weights])


def pair_length_floor(train: Sequence[Pair]) -> PredictPairs:
    """Logistic regression on the difference of lengths: which of the two wins if one counts characters. Predicts leads (N,)."""
    wins, weights = _won(train)
    longer = _longer(train)
    model = LogisticRegression(fit_intercept=False).fit(np.concatenate([longer, -longer]), wins, weights)
    return lambda pairs: np.asarray(model.decision_function(_longer(pairs)), float)


def pair_words_floor(train: Sequence[Pair]) -> PredictPairs:
    """Logistic regression on the difference of TF-IDF of words and word pairs, and of lengths. Predicts leads (N,)."""
    wins, weights = _won(train)
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2 if len(train) > 50 else 1, max_features=50_000, sublinear_tf=True)
    words.fit([text for one in train for text in (one.first, one.second)])

    def features(pairs: Sequence[Pair]) -> csr_matrix:
        apart = words.transform([one.first for one in pairs]) - words.transform([one.second for one in pairs])
        return csr_matrix(hstack([apart, _longer(pairs)]))

    both = features(train)
    model = LogisticRegression(fit_intercept=False, max_iter=1000)
    model.fit(csr_matrix(vstack([both, -both])), wins, weights)
    return lambda pairs: np.asarray(model.decision_function(features(pairs)), float)
