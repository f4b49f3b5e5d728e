"""Numbers that are printed in the literature and must come out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import gammaln

import streamem
from bench import traps_data
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.stats import Stats
from streamem.initialization import STARTS
from streamem.models import Mixture

Array = NDArray[Any]

DEATHS = np.arange(10.0)[:, None]
DAYS = np.array([162.0, 267, 271, 185, 111, 61, 27, 8, 3, 1])
"""Deaths a day of women over 80 in The Times, 1910–1912 (Hasselblad 1969, J. Am. Stat. Assoc. 64, table 1)."""

PROPORTION, RATES, NEGATIVE_LOG_LIKELIHOOD = 0.3598854, (1.2560951, 2.6634044), 1989.945859883


class Poisson:
    """Counts, in four lines."""

    def log_prob(self, p: Params, x: Array) -> Array:
        """Log-probability."""
        return x @ np.log(p.rates).T - p.rates.sum(1) - gammaln(x + 1).sum(1, keepdims=True)

    def stats(self, p: Params, x: Array, resp: Array) -> Stats:
        """Sums."""
        return Stats(weight=resp.sum(0), x=resp.T @ x)

    def maximize(self, s: Stats, previous: Params) -> Params:
        """Means."""
        return Params(rates=s.x / s.weight[:, None])


@dataclass(frozen=True)
class Step:
    """One iteration of plain EM: (π, λ₁, λ₂) after it, and −ℓ before it."""

    theta: Array
    negative_log_likelihood: float


def theta_of(params: Params) -> Array:
    return np.array([params.weights[0], *params.components.rates.ravel()])


def iterate(pi: float, rates: tuple[float, float]) -> Iterator[Step]:
    """Plain EM on the table."""
    model, chunk = Mixture(Poisson(), 2, STARTS["random"]), Chunk(DEATHS, DAYS)
    params = Params(weights=np.array([pi, 1 - pi]), components=Params(rates=np.array(rates)[:, None]))
    while True:
        stats = model.e_step(params, chunk)
        params = model.m_step(stats, params)
        yield Step(theta_of(params), -float(stats.log_likelihood))


def test_plain_em_on_the_times() -> None:
    """A step below 1e-7 first at iteration 2113, still 1e-5 from the maximum; the maximum to the digits printed."""
    before, small, at_small = np.array([0.5, 1.0, 3.0]), 0, np.empty(3)
    for iteration, step in enumerate(iterate(0.5, (1.0, 3.0)), start=1):
        length = float(np.linalg.norm(step.theta - before))
        if not small and length < 1e-7:
            small, at_small = iteration, step.theta
        if length < 1e-12 or iteration == 10_000:
            break
        before = step.theta
    assert small == 2113
    assert 1e-5 < float(np.linalg.norm(at_small - step.theta)) < 1e-4
    assert step.theta[0] == pytest.approx(PROPORTION, abs=6e-8)
    assert step.theta[1:] == pytest.approx(RATES, abs=6e-8)
    assert step.negative_log_likelihood == pytest.approx(NEGATIVE_LOG_LIKELIHOOD, abs=6e-10)


def test_the_estimator_keeps_the_promise_of_its_tolerance() -> None:
    """From its own start, on weights instead of 1,096 rows: within `tol` nats a row of the maximum."""
    tol = 1e-9
    mixture = streamem.Mixture(Poisson(), 2, tol=tol, max_iter=20_000, random_state=0)
    mixture.fit(DEATHS, sample_weight=DAYS)
    assert mixture.converged_
    gap = -mixture.lower_bound_ * DAYS.sum() - NEGATIVE_LOG_LIKELIHOOD
    assert -6e-10 < gap < 2 * tol * DAYS.sum()
    # Near the maximum the log-likelihood is flat: nine digits of it are three of the parameters.
    order = np.argsort(mixture.params_.rates.ravel())
    assert mixture.weights_[order[0]] == pytest.approx(PROPORTION, abs=1e-3)
    assert mixture.params_.rates.ravel()[order] == pytest.approx(RATES, abs=1e-3)


def test_weights_and_repeated_rows_are_the_same_data() -> None:
    """The table, and the 1,096 days one by one."""
    days = np.repeat(DEATHS, DAYS.astype(int), axis=0)
    assert len(days) == 1096
    model = Mixture(Poisson(), 2, STARTS["random"])
    params = Params(weights=np.array([0.5, 0.5]), components=Params(rates=np.array([[1.0], [3.0]])))
    table, rows = model.e_step(params, Chunk(DEATHS, DAYS)), model.e_step(params, Chunk(days))
    eps = np.finfo(float).eps
    assert float(table.log_likelihood) == pytest.approx(float(rows.log_likelihood), rel=1096 * eps)
    assert theta_of(model.m_step(table, params)) == pytest.approx(theta_of(model.m_step(rows, params)), rel=1096 * eps)


def test_a_single_poisson_fits_the_mean() -> None:
    """K = 1 needs one step; −ℓ of the mean count, by the textbook formula."""
    model = Mixture(Poisson(), 1, STARTS["random"])
    chunk = Chunk(DEATHS, DAYS)
    params = Params(weights=np.ones(1), components=Params(rates=np.ones((1, 1))))
    params = model.m_step(model.e_step(params, chunk), params)
    mean = float(DAYS @ DEATHS[:, 0] / DAYS.sum())
    assert float(params.components.rates[0, 0]) == pytest.approx(mean, rel=20 * np.finfo(float).eps)
    expected = DAYS @ (DEATHS[:, 0] * np.log(mean) - mean - gammaln(DEATHS[:, 0] + 1))
    assert float(model.e_step(params, chunk).log_likelihood) == pytest.approx(expected, rel=1e-14)


PUBLISHED = {
    "Old Faithful, full, K=2": (traps_data.faithful(), "full", 2, -1130.26396),
    "Old Faithful, tied, K=3": (traps_data.faithful(), "tied", 3, -1126.31593),
    "iris, full, K=2": (traps_data.iris(), "full", 2, -214.35470),
    "iris, tied, K=3": (traps_data.iris(), "tied", 3, -256.35404),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_public_tables_have_their_maxima(name: str) -> None:
    """To the digits of an independent EM, without regularization."""
    x, kind, k, published = PUBLISHED[name]
    settings: dict[str, Any] = {"reg_covar": 0.0, "tol": 1e-12, "stopping": "aitken", "max_iter": 3000}
    mixture = streamem.GaussianMixture(k, covariance_type=kind, random_state=0, **settings)
    assert mixture.fit(x).score(x) * len(x) == pytest.approx(published, abs=1e-5)


def test_waiting_times_of_old_faithful() -> None:
    """Two normals of equal deviation: what mixtools prints (Benaglia et al. 2009, J. Stat. Softw. 32(6))."""
    waiting = traps_data.faithful()[:, 1:]
    mixture = streamem.GaussianMixture(2, covariance_type="tied", reg_covar=0.0, tol=1e-12, max_iter=3000).fit(waiting)
    order = np.argsort(mixture.means_[:, 0])
    assert mixture.score(waiting) * 272 == pytest.approx(-1034.00176, abs=1e-5)
    assert mixture.weights_[order[0]] == pytest.approx(0.36085, abs=5e-6)
    assert mixture.means_[order, 0] == pytest.approx([54.61364, 80.09031], abs=2e-5)
    assert np.sqrt(mixture.covariances_) == pytest.approx(np.array([[5.869089]]), abs=5e-6)
