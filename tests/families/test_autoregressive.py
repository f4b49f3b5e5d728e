"""Autoregressive Gaussians: the laws, least squares, switching regimes, and numerics far from the origin."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

import streamem
from streamem.conformance import FamilySuite, ModelSuite
from streamem.conformance.tolerance import tolerance
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, ParameterError
from streamem.families import AutoregressiveGaussian, Gaussian, MixtureFamily
from streamem.initialization import STARTS
from streamem.models import Mixture

Array = NDArray[Any]
D, LAG = 2, 2


def lagged(y: Array, lag: int) -> Array:
    """Rows [y_t, y_{t−1}, …] of y (T, d)."""
    return np.hstack([y[lag - step : len(y) - step] for step in range(lag + 1)])


def simulate(rng: np.random.Generator, n: int, intercept: Array, matrices: Array, spread: float = 1.0) -> Array:
    """y (n, d) of one regime."""
    p, d = matrices.shape[0], len(intercept)
    y = np.zeros((n + p, d))
    for t in range(p, n + p):
        y[t] = intercept + sum(matrices[i] @ y[t - 1 - i] for i in range(p)) + spread * rng.normal(size=d)
    return y[p:]


def draw(family: AutoregressiveGaussian, rng: np.random.Generator, k: int, anchor: Params) -> Params:
    """Random components about 1000."""
    a = 0.3 * rng.normal(size=(k, LAG, D, D))
    mean = 1000.0 + rng.normal(size=(k, D))
    root = np.eye(D) + 0.3 * rng.normal(size=(k, D, D))
    c = mean - np.einsum("kpij,kj->ki", a, mean)
    return family.with_parameters(anchor, c, a, root @ np.swapaxes(root, 1, 2))


@pytest.mark.parametrize("reg_covar", [0.0, 0.05])
class TestAutoregressive(FamilySuite):
    shared = frozenset({"center", "scale"})

    @pytest.fixture(autouse=True)
    def _choose(self, reg_covar: float) -> None:
        self.family = AutoregressiveGaussian(LAG, reg_covar)

    def make_family(self) -> AutoregressiveGaussian:
        return self.family

    def make_params(self, rng: np.random.Generator) -> Params:
        return draw(self.family, rng, 3, self.family.at_anchor(np.full(D, 1000.5), np.array([1.0, 2.0]), 3))

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return lagged(1000.0 + rng.normal(size=(n + LAG, D)), LAG)

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        family = self.family
        c, a, s = family.intercepts(params), family.coefficients(params), family.covariances(params)
        root = np.eye(D) + scale * rng.normal(size=s.shape)
        s = root @ s @ np.swapaxes(root, 1, 2)
        # An intercept that keeps the mean where it was, but for a little.
        changed = a + scale * rng.normal(size=a.shape)
        c = c - np.einsum("kpij->ki", changed - a) * 1000.0 + scale * rng.normal(size=c.shape)
        return family.with_parameters(params, c, changed, (s + np.swapaxes(s, 1, 2)) / 2)

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        family, columns = self.family, []
        parts = zip(family.intercepts(params), family.coefficients(params), family.covariances(params), strict=True)
        for c, a, s in parts:
            mean = c + sum(x[:, D * (1 + i) : D * (2 + i)] @ a[i].T for i in range(LAG))
            columns.append(multivariate_normal(np.zeros(D), s).logpdf(x[:, :D] - mean))
        return np.column_stack(columns)


class TestMixtureOfRegressions(ModelSuite):
    shared = frozenset({"components.center", "components.scale"})

    def make_model(self) -> Mixture:
        return Mixture(AutoregressiveGaussian(1, 1e-3), 2, STARTS["kmeans"])

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        earlier = rng.normal(size=n)
        slope = np.where(rng.random(n) < 0.4, 0.9, -0.5)
        return Chunk(50.0 + np.column_stack([slope * earlier + 0.3 * rng.normal(size=n), earlier]))


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("weighted", [True, False])
def test_one_component_is_least_squares(offset: float, weighted: bool) -> None:
    """numpy.linalg.lstsq on the centred data, from a fit out of core."""
    rng = np.random.default_rng(0)
    y = simulate(rng, 3000, np.array([1.0, -1.0]), np.array([[[0.5, 0.2], [0.0, 0.3]], [[0.1, 0.0], [-0.2, 0.2]]]))
    weight = rng.uniform(0.1, 2, 3000 - LAG) if weighted else np.ones(3000 - LAG)
    plain = lagged(y, LAG)
    root = np.sqrt(weight)[:, None]
    regressors = np.column_stack([np.ones(len(plain)), plain[:, D:]])
    solution = np.linalg.lstsq(root * regressors, root * plain[:, :D], rcond=None)[0].T
    residual = plain[:, :D] - regressors @ solution.T
    family = AutoregressiveGaussian(LAG)
    fit = streamem.Mixture(family, 1, chunk_bytes=30_000)
    fit.fit(lagged(y + offset, LAG), sample_weight=weight if weighted else None)
    matrices = np.stack([solution[:, 1:3], solution[:, 3:5]])
    rtol = 1e-9 if offset else 1e-11  # y + 1e6 is rounded to 1e-10 of its spread
    assert family.coefficients(fit.params_)[0] == pytest.approx(matrices, rel=1e-3 * rtol + rtol, abs=rtol)
    expected = (residual * weight[:, None]).T @ residual / weight.sum()
    assert family.covariances(fit.params_)[0] == pytest.approx(expected, rel=rtol, abs=rtol)
    intercept = solution[:, 0] + offset - offset * matrices.sum(axis=(0, 2))
    assert family.intercepts(fit.params_)[0] == pytest.approx(intercept, rel=1e-8)
    scores = fit.scores(lagged(y + offset, LAG))
    assert scores["aic"] + 2 * scores["log_likelihood"] == pytest.approx(2 * (2 * 5 + 3), rel=1e-6)


def test_switching_regimes_are_found() -> None:
    """Two regimes that differ in dynamics only; the start knows them roughly, as a user would."""
    rng = np.random.default_rng(1)
    n, y, regimes = 6000, np.zeros(6001), np.repeat(np.arange(60) % 2, 100)
    slopes, intercepts, spreads = np.array([0.9, -0.6]), np.array([0.0, 0.5]), np.array([0.5, 1.0])
    for t in range(n):
        r = regimes[t]
        y[t + 1] = intercepts[r] + slopes[r] * y[t] + spreads[r] * rng.normal()
    family, x = AutoregressiveGaussian(1), lagged(y[:, None], 1)
    model = Mixture(family, 2, STARTS["random"])
    anchor = family.start(x, None, 2)
    guess = family.with_parameters(
        anchor, np.zeros((2, 1)), np.array([0.5, -0.5]).reshape(2, 1, 1, 1), np.ones((2, 1, 1))
    )
    params = Params(weights=np.array([0.5, 0.5]), components=guess)
    before = -np.inf
    for _ in range(200):
        stats = model.e_step(params, Chunk(x))
        assert stats.log_likelihood >= before - 1e-10 * abs(before)
        before, params = float(stats.log_likelihood), model.m_step(stats, params)
    found = params.components
    assert np.abs(family.coefficients(found).ravel() - slopes).max() < 0.05
    assert np.abs(family.intercepts(found).ravel() - intercepts).max() < 0.12
    assert np.abs(np.sqrt(family.covariances(found).ravel()) - spreads).max() < 0.05
    assert np.abs(params.weights - 0.5).max() < 0.04


def test_little_noise_beside_a_large_signal() -> None:
    """Residuals of 1e-5 of the signal: log-densities to the bound that the kernel declares; the noise is found."""
    rng = np.random.default_rng(2)
    earlier = 1e3 * rng.normal(size=20_000)
    x = np.column_stack([2.0 + 0.7 * earlier + 1e-2 * rng.normal(size=20_000), earlier])
    family = AutoregressiveGaussian(1)
    mix = streamem.Mixture(family, 1).fit(x)
    assert family.covariances(mix.params_).ravel() == pytest.approx(1e-4, rel=5 / np.sqrt(10_000))
    c, a, s = (
        np.longdouble(v.ravel()[0])
        for v in (family.intercepts(mix.params_), family.coefficients(mix.params_), family.covariances(mix.params_))
    )
    wide = x.astype(np.longdouble)
    expected = -((wide[:, 0] - c - a * wide[:, 1]) ** 2) / s / 2 - np.log(2 * np.longdouble(np.pi) * s) / 2
    error = np.abs(family.log_prob(mix.params_, x)[:, 0] - expected.astype(np.float64)).max()
    assert error < 1e-8
    assert 0 < family.kernel(mix.params_).rounding < 1e-8


def test_directions_that_do_not_vary_get_no_coefficient() -> None:
    """A constant column, and a column twice: least squares of the rest."""
    rng = np.random.default_rng(3)
    earlier = rng.normal(size=500)
    y = 1.0 + 0.5 * earlier + rng.normal(size=500)
    family = AutoregressiveGaussian(1)
    x = np.column_stack([y, np.full(500, 7.0), earlier, np.full(500, 7.0)])
    stats = family.stats(start := family.start(x, None, 1), x, np.ones((500, 1)))
    found = family.maximize(stats, start)
    slope, _ = np.polyfit(earlier, y, 1)
    assert family.coefficients(found)[0, 0, 0, 0] == pytest.approx(slope, rel=1e-9)
    assert family.degenerate(found) == {"empty": [], "floored": [0]}
    assert np.isfinite(family.log_prob(found, x)).all()


def test_an_empty_component_keeps_its_parameters() -> None:
    rng = np.random.default_rng(4)
    family, x = AutoregressiveGaussian(1), rng.normal(size=(100, 2))
    start = family.start(x, None, 2)
    previous = family.with_parameters(start, np.ones((2, 1)), np.full((2, 1, 1, 1), 0.3), np.full((2, 1, 1), 2.5))
    resp = np.column_stack([np.ones(100), np.zeros(100)])
    found = family.maximize(family.stats(previous, x, resp), previous)
    assert (found.regression[1] == previous.regression[1]).all()
    assert (found.noise[1] == previous.noise[1]).all()
    assert family.degenerate(found)["empty"] == [1]


def test_no_dependence_is_a_gaussian() -> None:
    """With coefficients of zero, the log-density of y_t is that of a Gaussian."""
    rng = np.random.default_rng(5)
    family, x = AutoregressiveGaussian(1), rng.normal(size=(200, 4))
    start, covariance = family.start(x, None, 1), np.diag([4.0, 1.0])[None]
    params = family.with_parameters(start, np.array([[1.0, 2.0]]), np.zeros((1, 1, 2, 2)), covariance)
    gaussian = Gaussian("full")
    own = gaussian.at_anchor(np.zeros(2), np.ones(2), 1)
    own = gaussian.with_covariances(gaussian.with_means(own, np.array([[1.0, 2.0]])), covariance)
    found = family.log_prob(params, x)
    assert found == pytest.approx(gaussian.log_prob(own, x[:, :2]), rel=tolerance(np.float64, 64))


def test_parts_of_regressions() -> None:
    """An autoregressive mixture in every component; zeros, as models of sequences hand over, are finite."""
    rng = np.random.default_rng(6)
    x = lagged(simulate(rng, 1000, np.array([1.0]), np.array([[[0.5]]])), 1)
    mix = streamem.Mixture(MixtureFamily(AutoregressiveGaussian(1, 1e-6), 2), 2, random_state=0).fit(x)
    assert mix.params_.parts.regression.shape == (4, 1, 2)
    assert np.isfinite(mix.family.log_prob(mix.params_, np.zeros((3, 2)))).all()


def test_mistakes_and_travel() -> None:
    for lag in (0, 1.5, True):
        with pytest.raises(ParameterError, match="lag is"):
            AutoregressiveGaussian(lag)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="reg_covar is -1"):
        AutoregressiveGaussian(1, -1)
    with pytest.raises(DataError, match="rows have 5 features; with lag=1 .* open the data with lag=1"):
        streamem.Mixture(AutoregressiveGaussian(1), 1).fit(np.random.default_rng(0).normal(size=(50, 5)))
    family = AutoregressiveGaussian(1)
    with pytest.raises(ParameterError, match="do not belong together"):
        family.with_parameters(family.at_anchor(np.zeros(2), np.ones(2), 1), np.zeros((1, 2)), np.eye(2), np.eye(2))
    assert vars(pickle.loads(pickle.dumps(family))) == vars(family)
