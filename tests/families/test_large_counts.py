"""Regressions of counts of any size: log-probabilities lose no digits, and fits never seem to fall."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, poisson

from streamem import MixtureOfRegressions
from streamem.algorithms import Aitken
from streamem.families.regression.binomial import BinomialRegression
from streamem.families.regression.generalized import NOTHING_BESIDE, Beside
from streamem.families.regression.poisson import PoissonRegression


@pytest.mark.parametrize("most", [900.0, 1e4])  # both ways of adding it up
def test_log_probabilities_are_scipys(most: float) -> None:
    y = np.array([0.0, 1, 2, 16, 17, 300, most, np.nan])
    eta = np.log([[0.5, 1.3, 200.0]]) * np.ones((8, 1))
    found = PoissonRegression().log_likelihood(eta[:, :, None], y, NOTHING_BESIDE)
    np.testing.assert_allclose(found[:-1], poisson.logpmf(y[:-1, None], np.exp(eta[:-1])), rtol=1e-12)
    trials = np.array([1.0, 1, 5, 16, 40, 1000, most + 3, 7])
    odds = np.array([[-40.0, -3.0, 0.1, 2.0]]) * np.ones((8, 1))
    told = BinomialRegression(trials=-1).log_likelihood(odds[:, :, None], y, Beside(np.zeros(1), trials))
    known = binom.logpmf(y[:-1, None], trials[:-1, None], 1 / (1 + np.exp(-odds[:-1])))
    np.testing.assert_allclose(told[:-1, 1:], known[:, 1:], rtol=1e-11, atol=1e-12)
    assert np.isnan(found[-1]).all()
    assert np.isnan(told[-1]).all()


def test_fits_to_a_billion() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 1))
    counts = rng.poisson(1e9 * np.exp(0.3 * x[:, 0]))
    found = MixtureOfRegressions(1, "poisson").fit(x, counts)
    assert found.converged_
    np.testing.assert_allclose([found.coef_[0, 0], found.intercept_[0]], [0.3, np.log(1e9)], atol=1e-5)
    exact = poisson.logpmf(counts, found.predict_response(x)).mean()  # SciPy's own terms cancel to some 1e-6
    assert found.score(x, counts) == pytest.approx(exact, abs=1e-5)
    hits = rng.binomial(10**9, 1 / (1 + np.exp(-x[:, 0])))
    share = MixtureOfRegressions(1, "binomial", trials=10**9).fit(x, hits)
    np.testing.assert_allclose([share.coef_[0, 0], share.intercept_[0]], [1.0, 0.0], atol=1e-5)


def test_a_trace_that_rounding_moves_to_and_fro_has_converged() -> None:
    flips = [-11.0, -10.0, -10.0 + 1.5e-12, -10.0, -10.0 + 1.5e-12, -10.0]
    assert Aitken(1e-6).met(flips)
    assert not Aitken(1e-10).met(flips)
    assert not Aitken(1e-6).met([-10.0, -10.0 + 1e-7, -10.0, -10.0 + 1e-7])
