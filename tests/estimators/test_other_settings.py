"""A fitted mixture whose hyperparameters were changed says so: answers would be wrong, or worse."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from streamem import GaussianMixture, Mixture, Poisson
from streamem.core.errors import ParameterError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

QUESTIONS = ("predict", "predict_proba", "score_samples", "score", "bic", "expected_statistics")
X = np.random.default_rng(0).poisson(5.0, size=(300, 2)).astype(float)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("k", [-3, 0, 1, 5])
@pytest.mark.parametrize("make", [GaussianMixture, lambda k, **settings: Mixture(Poisson(), k, **settings)])
def test_another_number_of_components(make: Any, k: int, question: str) -> None:
    fitted = make(2, max_iter=1, random_state=0).fit(X)
    expected = getattr(fitted, question)(X)
    with pytest.raises(ParameterError, match=f"n_components(=| is ){k}|do not fit {k} components"):
        getattr(fitted.set_params(n_components=k), question)(X)
    again = getattr(fitted.set_params(n_components=2), question)(X)
    assert np.array_equal(again, expected) if question != "expected_statistics" else again.stats == expected.stats


@pytest.mark.parametrize(("fitted", "now"), list(permutations(["full", "tied", "diag", "spherical"], 2)))
def test_another_kind_of_covariance(fitted: str, now: str) -> None:
    """Of two components and two features, variances look like one matrix."""
    mixture = GaussianMixture(2, covariance_type=fitted, max_iter=1, random_state=0).fit(X)
    for question in QUESTIONS[:5]:
        with pytest.raises(ParameterError, match="set (these|them) back"):
            getattr(mixture.set_params(covariance_type=now), question)(X)


def test_attributes_set_by_hand_may_have_other_shapes_than_those_fitted() -> None:
    mixture = GaussianMixture(3, max_iter=1, random_state=0).fit(X)
    mixture.set_params(n_components=2, covariance_type="diag")
    mixture.weights_, mixture.means_ = np.array([0.5, 0.5]), np.array([[2.0, 2.0], [8.0, 8.0]])
    mixture.precisions_cholesky_ = np.ones((2, 2))
    near = ((X[:, None, :] - mixture.means_) ** 2).sum(axis=2)
    clear = near[:, 0] != near[:, 1]
    assert np.array_equal(mixture.predict(X)[clear], near.argmin(axis=1)[clear])


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("weights_", np.ones(3) / 3), ("means_", np.ones((3, 2))), ("precisions_cholesky_", np.ones((2, 2)))],
)
def test_attributes_set_by_hand_must_fit_the_hyperparameters(name: str, wrong: Any) -> None:
    mixture = GaussianMixture(2)
    right = {
        "weights_": np.ones(2) / 2,
        "means_": np.ones((2, 2)),
        "precisions_cholesky_": np.ones((2, 1, 1)) * np.eye(2),
    }
    for attribute, value in {**right, name: wrong}.items():
        setattr(mixture, attribute, value)
    mixture.n_features_in_ = 2
    for question in QUESTIONS[:5]:
        with pytest.raises(ParameterError, match=f"{name} has shape"):
            getattr(mixture, question)(X)
    setattr(mixture, name, right[name])
    assert np.isfinite(mixture.score(X))
