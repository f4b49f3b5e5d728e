"""What `diagnose` says: the rate of convergence of the iterates, twins, and components of hardly any rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from streamem import GaussianHMM, GaussianMixture, Mixture


def test_the_rate_is_that_of_the_iterates() -> None:
    """Near the maximum the gap of the log-likelihood shrinks by the square of the rate in each pass."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, 200), rng.normal(3, 1, 200)])[:, None]
    model = GaussianMixture(2, reg_covar=0, tol=1e-11, max_iter=3000, random_state=0).fit(x)
    found = model.diagnose(x)
    gains = np.diff(model.lower_bounds_)
    clean = gains[(gains > 1e-9) & (gains < 1e-6)]
    assert found.rate == pytest.approx(float(np.sqrt(np.median(clean[1:] / clean[:-1]))), abs=0.01)
    assert found.passes_per_digit == pytest.approx(-np.log(10) / np.log(found.rate))
    assert found.slowest
    assert set(found.slowest) <= set(model.standard_errors(x).free_parameters)
    np.testing.assert_allclose(np.diagonal(found.similarity), 1.0)


def test_what_stands_out_is_named_with_what_to_do() -> None:
    x = np.random.default_rng(0).normal(size=(200, 1))
    model = GaussianMixture(2, reg_covar=0, random_state=0).fit(x)
    model.weights_, model.means_ = np.array([0.5, 0.5]), np.array([[0.0], [0.01]])
    model.precisions_cholesky_ = np.full((2, 1, 1), 1.0)
    told = str(model.diagnose(x))
    assert "components 0 and 1 are twins" in told
    assert "one component less" in told
    apart = Mixture("poisson", 2, tol=1e-9, max_iter=500, random_state=0).fit([[0.0]] * 50 + [[40.0], [41.0]])
    assert "twins" not in str(apart.diagnose([[0.0]] * 50 + [[40.0], [41.0]]))
    lonely = GaussianMixture(2, reg_covar=1e-3, random_state=0).fit([*x, [50.0]])
    assert "explains 1 rows, for 2 parameters" in str(lonely.diagnose([*x, [50.0]]))


def test_of_sequences() -> None:
    """States that hardly differ are hard to tell apart; the weights of sequences count."""
    rng = np.random.default_rng(1)
    states = np.repeat(rng.integers(0, 2, 60), 5)
    x = rng.normal(1.2 * states)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GaussianHMM(2, tol=1e-9, n_iter=1000, random_state=0).fit(x, [60] * 5)
    found = model.diagnose(x, [60] * 5)
    assert 0 < found.rate < 1
    assert 0.1 < found.similarity[0, 1] < 1
