"""Models whose attributes a user has set are made of them once, and again whenever one has changed."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from streamem import GaussianMixture, LatentClass
from streamem.core.errors import ParameterError
from streamem.estimators import by_hand

X = np.array([[0.0, 0.5], [3.0, 2.5], [1.0, -0.5], [2.5, 3.5]])


def by_attributes(**settings: Any) -> GaussianMixture:
    """Two Gaussians."""
    model = GaussianMixture(2, covariance_type="diag", **settings)
    model.weights_, model.means_ = np.array([0.5, 0.5]), np.array([[0.0, 0.0], [3.0, 3.0]])
    model.covariances_ = np.ones((2, 2))
    return model


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every model that is made of attributes."""
    found: list[Any] = []
    make = by_hand.set_by_hand
    monkeypatch.setattr(by_hand, "set_by_hand", lambda *told: found.append(told) or make(*told))
    return found


def test_questions_share_one_model(made: list[Any]) -> None:
    model = by_attributes()
    answers = [model.predict_proba(X) for _ in range(3)]
    model.score(X)
    assert len(made) == 1
    np.testing.assert_array_equal(answers[0], answers[2])


@pytest.mark.parametrize("change", ["in place", "assigned", "list"])
def test_a_change_is_noticed(change: str, made: list[Any]) -> None:
    model = by_attributes()
    before = model.score_samples(X)
    if change == "in place":
        model.means_[1] = 4.0
    elif change == "assigned":
        model.means_ = np.array([[0.0, 0.0], [4.0, 4.0]])
    else:
        model.means_ = [[0.0, 0.0], [3.0, 3.0]]
        model.score_samples(X)
        model.means_[1][0] = model.means_[1][1] = 4.0
    assert not np.array_equal(model.score_samples(X), before)
    assert len(made) >= 2


def test_what_does_not_fit_any_more_is_refused() -> None:
    model = by_attributes()
    model.score_samples(X)
    with pytest.raises(ParameterError, match="box"):
        model.set_params(noise=True).score_samples(X)
    model.set_params(noise=False)
    del model.means_
    with pytest.raises(NotFittedError):
        model.score_samples(X)


def test_an_attribute_of_a_fitted_model(made: list[Any]) -> None:
    x = np.array([[0.0, 0.0], [1.0, 1.0]] * 20)
    model = LatentClass(1).fit(x)
    fitted = model.score_samples(x)
    own = model.probabilities_
    model.probabilities_ = np.array([[0.9, 0.1, 0.9, 0.1]])
    changed = [model.score_samples(x) for _ in range(2)]
    assert len(made) == 1
    np.testing.assert_allclose(changed[1][:2], [2 * np.log(0.9), 2 * np.log(0.1)])
    model.probabilities_ = own
    np.testing.assert_array_equal(model.score_samples(x), fitted)


def test_copies_make_their_own() -> None:
    model = by_attributes()
    model.predict(X)
    again = pickle.loads(pickle.dumps(model))
    assert "_by_hand" not in vars(again)
    again.means_[0] = 10.0
    assert not np.array_equal(again.score_samples(X), model.score_samples(X))
    assert not hasattr(clone(model), "means_")
