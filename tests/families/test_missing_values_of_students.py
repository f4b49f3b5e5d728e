"""Student-t components on rows that lack values, against EM written down row by row, and against Gaussians."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats
from scipy.special import digamma, gammaln

from helpers.missing_oracle import with_holes
from streamem import StudentTMixture
from streamem.conformance.tolerance import assert_close, tolerance
from streamem.core.arrays import Params
from streamem.core.ports import kernel_of
from streamem.core.stats import Stats
from streamem.families import Gaussian, StudentT
from streamem.families.gaussian import incomplete
from streamem.families.gaussian.covariance_matrix import pack

Array = NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
TYPES = ["full", "tied", "diag", "spherical"]


def case(covariance_type: str, n: int = 60, k: int = 2, d: int = 4, seed: int = 0) -> tuple[StudentT, Params, Array]:
    """Components far from the origin with different tails, and rows of which some are far out."""
    rng = np.random.default_rng(seed)
    family, roots = StudentT(covariance_type).integrating(), rng.normal(size=(k, d, d))
    scales = roots @ np.swapaxes(roots, 1, 2) / d + 0.2 * np.eye(d)
    means = 40.0 + 2.0 * rng.normal(size=(k, d))
    own = {"full": scales, "tied": scales[0], "diag": np.einsum("kii->ki", scales)}
    x = means[rng.integers(k, size=n)] + rng.standard_t(2.0, size=(n, d))
    params = family.start(x, None, k)
    params = family.with_covariances(family.with_means(params, means), own.get(covariance_type, scales[:, 0, 0]))
    return family, family.with_dofs(params, np.geomspace(1.5, 30.0, k)), with_holes(rng, x, 0.35)


def matrices(family: StudentT, params: Params) -> Array:
    """Scale matrices (K, d, d) in units of the data."""
    (k, d), scales = params.means.shape, family.scales(params)
    if family.covariance_type in ("full", "tied"):
        return np.broadcast_to(scales, (k, d, d))
    return np.reshape(scales, (k, -1))[:, :, None] * np.eye(d)


class Expected(NamedTuple):
    """Log-densities (n, K), mean precisions (n, K), conditional means (n, K, d), and statistics about the anchor."""

    log_prob: Array
    precisions: Array
    means: Array
    stats: Stats


def expected(family: StudentT, params: Params, x: Array, resp: Array) -> Expected:
    """Liu 1996, §2: one system of equations a row and component."""
    (k, d), means, scales = params.means.shape, family.means(params), matrices(family, params)
    log_prob, u, filled = np.zeros((len(x), k)), np.zeros((len(x), k)), np.zeros((len(x), k, d))
    weight, logs, scaled = np.zeros((3, k))
    first, second, units = np.zeros((k, d)), np.zeros((k, d, d)), np.outer(params.scale, params.scale)
    for n, row in enumerate(x):
        o, m = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
        for c, (mean, scale, nu) in enumerate(zip(means, scales, params.dofs, strict=True)):
            filled[n, c] = np.where(np.isnan(row), mean, row)
            if not len(o):
                continue
            own, across = scale[np.ix_(o, o)], scale[np.ix_(m, o)]
            away = row[o] - mean[o]
            delta = away @ np.linalg.solve(own, away)
            sizes = gammaln((nu + len(o)) / 2) - gammaln(nu / 2) - 0.5 * np.linalg.slogdet(np.pi * nu * own)[1]
            log_prob[n, c] = sizes - 0.5 * (nu + len(o)) * np.log1p(delta / nu)
            u[n, c] = (nu + len(o)) / (nu + delta)
            filled[n, c, m] += across @ np.linalg.solve(own, away)
            left = np.zeros((d, d))
            left[np.ix_(m, m)] = scale[np.ix_(m, m)] - across @ np.linalg.solve(own, across.T)
            z, r = (filled[n, c] - params.center) / params.scale, resp[n, c]
            weight[c] += r
            logs[c] += r * (digamma((nu + len(o)) / 2) - np.log((nu + delta) / 2))
            scaled[c] += r * u[n, c]
            first[c] += r * u[n, c] * z
            second[c] += r * (u[n, c] * np.outer(z, z) + left / units)
    diagonal = np.einsum("kii->ki", second)
    kept = {"full": pack(second), "tied": pack(second.sum(axis=0)), "diag": diagonal}
    own_second = kept.get(family.covariance_type, diagonal.sum(axis=1, keepdims=True))
    moments = Stats(weight=scaled, first=first, second=own_second)
    return Expected(log_prob, u, filled, Stats(weight=weight, log_precision=logs, scaled=moments))


def assert_same(found: Stats, oracle: Stats, rtol: float) -> None:
    for name, leaf in oracle.flatten().items():
        own = found.flatten()[name]
        assert_close(own, leaf, rtol, name, np.abs(leaf).max() + float(oracle.weight.sum()))


@pytest.mark.parametrize("covariance_type", TYPES)
def test_statistics_are_those_of_the_textbook(covariance_type: str) -> None:
    """Block by block, all of it by conditioning one row after the other; some rows have no value at all."""
    family, params, x = case(covariance_type)
    x[3] = np.nan
    resp = np.random.default_rng(1).random((60, 2))
    oracle = expected(family, params, x, resp)
    np.testing.assert_allclose(family.log_prob(params, x), oracle.log_prob, rtol=1e-10)
    seen, scale, nu = np.flatnonzero(~np.isnan(x[0])), matrices(family, params)[1], params.dofs[1]
    scipys = scipy_stats.multivariate_t(family.means(params)[1][seen], scale[np.ix_(seen, seen)], df=nu)
    assert oracle.log_prob[0, 1] == pytest.approx(scipys.logpdf(x[0][seen]), rel=1e-10)
    assert_same(family.stats(params, x, resp), oracle.stats, 1e-10)
    shares = resp / resp.sum(axis=1, keepdims=True)
    mixed = np.einsum("nk,nkd->nd", shares, oracle.means)
    np.testing.assert_allclose(family.filled(params, x, shares), np.where(np.isnan(x), mixed, x), rtol=1e-10)
    near = family.far_log_prob(params, x)
    np.testing.assert_allclose(near, oracle.log_prob, rtol=1e-10)


@pytest.mark.variations(1, 2)
@pytest.mark.parametrize("covariance_type", TYPES)
def test_rows_that_lack_the_same_go_together(covariance_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rows in one call: common patterns by the kernel of their features, rare ones, and complete rows."""
    monkeypatch.setattr(incomplete, "LEAST_ROWS", 8)
    monkeypatch.setattr(incomplete, "PORTION_ROWS", 60)
    family, params, x = case(covariance_type, 120)
    x[:48] = np.where(np.isin(np.arange(4), [1, 2]), np.nan, np.nan_to_num(x[:48], nan=41.0))
    x[60:90] = np.nan_to_num(x[60:90], nan=39.0)
    log_weights, kernel = np.log([0.4, 0.6]), kernel_of(family, params, 2)
    joint = family.log_prob(params, x) + log_weights
    known = np.logaddexp.reduce(joint, axis=1)
    resp = np.exp(joint - known[:, None])
    oracle = expected(family, params, x, resp).stats
    found = kernel.mix(x, None, log_weights)
    assert isinstance(kernel, incomplete.IncompleteKernel)
    assert kernel._patterns
    assert found.log_likelihood == pytest.approx(known.sum(), rel=1e-11)
    assert_same(kernel.stats(), oracle, 1e-10)
    kernel.restart()
    kernel.accumulate_rows(x, resp, False)
    assert_same(kernel.stats(), oracle, 1e-10)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_infinitely_many_degrees_of_freedom_are_a_gaussian(covariance_type: str) -> None:
    family, params, x = case(covariance_type)
    gaussian, resp = Gaussian(covariance_type).integrating(), np.random.default_rng(2).random((60, 2))
    for dof in (1e12, np.inf):
        params = family.with_dofs(params, np.full(2, dof))
        np.testing.assert_allclose(family.log_prob(params, x), gaussian.log_prob(params, x), rtol=1e-9)
        found, known = family.stats(params, x, resp), gaussian.stats(params, x, resp)
        assert_same(found.scaled, known, 1e-9)
        np.testing.assert_allclose(found.scaled.weight, found.weight, rtol=1e-9)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("dof", ["estimated", "tied", 3.0])
def test_a_fit_ends_where_em_row_by_row_stays(covariance_type: str, dof: Any) -> None:
    """A step of ECM from the textbook, whose steps are others, moves what was fitted by nothing."""
    rng = np.random.default_rng(4)
    x = with_holes(rng, 5.0 + rng.standard_t(3.0, size=(80, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]]), 0.3)
    model = StudentTMixture(1, covariance_type=covariance_type, dof=dof, missing="integrate", reg_covar=0.0)
    model.set_params(tol=1e-13, max_iter=1500, stopping="change").fit(x)
    family = StudentT(covariance_type).integrating()
    params = family.start(x, None, 1)
    params = family.with_covariances(family.with_means(params, model.means_), model.scales_)
    params = family.with_dofs(params, model.dofs_)
    found = expected(family, params, x, np.ones((80, 1)))
    weight, scaled = float(found.stats.weight[0]), found.stats.scaled
    assert model.lower_bound_ == pytest.approx(found.log_prob.mean(), rel=1e-12)
    if isinstance(dof, str):
        target = float(scaled.weight[0] - found.stats.log_precision[0]) / weight - 1.0
        np.testing.assert_allclose(model.dofs_, family_dof(target), rtol=1e-4)
    center = scaled.first[0] / scaled.weight[0]
    np.testing.assert_allclose(model.means_[0], params.center + params.scale * center, rtol=1e-6)
    second = np.ravel(scaled.second)
    across = np.outer(center, center)
    shift = {"diag": np.diag(across), "spherical": np.trace(across)}.get(covariance_type, pack(across))
    share = 2.0 if covariance_type == "spherical" else 1.0
    own = np.ravel(params.covariances)
    packed = own[[0, 1, 3]] if covariance_type in ("full", "tied") else own
    np.testing.assert_allclose((second - scaled.weight[0] * shift) / weight / share, packed, atol=1e-5)


def family_dof(target: float) -> Array:
    """ν with log ½ν − ψ(½ν) = target, by bisection in its logarithm."""
    low, high = np.log(0.1), np.log(2.0**20)
    for _ in range(100):
        middle = 0.5 * (low + high)
        a = 0.5 * np.exp(middle)
        low, high = (middle, high) if np.log(a) - digamma(a) > target else (low, middle)
    return np.array([np.exp(low)])


def test_draws_have_the_conditional_distribution() -> None:
    """A t of ν + d_o degrees of freedom whose scale grows with the distance of what was observed."""
    family, params, _ = case("full", d=3)
    row, count = np.array([np.nan, 47.0, np.nan]), 20_000
    rng = np.random.RandomState(0)
    drawn = family.drawn_for_missing(params, np.repeat(row[None], count, axis=0), np.zeros(count, dtype=int), rng)
    scale, mean, nu = matrices(family, params)[0], family.means(params)[0], params.dofs[0]
    away = row[1] - mean[1]
    center = mean[0] + scale[0, 1] / scale[1, 1] * away
    spread = scale[0, 0] - scale[0, 1] ** 2 / scale[1, 1]
    wide = np.sqrt(spread * (nu + away**2 / scale[1, 1]) / (nu + 1.0))
    assert (drawn[:, 1] == 47.0).all()
    assert scipy_stats.kstest((drawn[:, 0] - center) / wide, scipy_stats.t(nu + 1.0).cdf).pvalue > 1e-3
    light = family.with_dofs(params, np.full(2, np.inf))
    again = family.drawn_for_missing(light, np.repeat(row[None], count, axis=0), np.zeros(count, dtype=int), rng)
    assert scipy_stats.kstest((again[:, 0] - center) / np.sqrt(spread), scipy_stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize("covariance_type", TYPES)
def test_outliers_with_gaps_are_fitted_and_imputed(covariance_type: str) -> None:
    """Rows at 1e6 deviations, a row of one value and one of none: means stay, holes are filled, files remember it."""
    rng = np.random.default_rng(3)
    x = with_holes(rng, rng.normal(size=(400, 3)) + 8.0 * (np.arange(400) % 2)[:, None], 0.25)
    x[:6, 1], x[7], x[8] = 1e6, np.nan, [np.nan, np.nan, 0.5]
    model = StudentTMixture(2, covariance_type=covariance_type, missing="integrate", reg_covar=1e-6)
    model.set_params(max_iter=60, tol=1e-4, means_init=[[0.0] * 3, [8.0] * 3]).fit(x)
    np.testing.assert_allclose(np.sort(model.means_[:, 0]), [0.0, 8.0], atol=0.6)
    filled = model.impute(x)
    assert np.isfinite(filled).all()
    present = ~np.isnan(x)
    np.testing.assert_array_equal(filled[present], x[present])
    assert model.score_samples(x)[7] == 0.0


@pytest.mark.long
@pytest.mark.slow
def test_rows_of_float32_go_with_those_of_float64() -> None:
    family, params, x = case("full", 200, k=3)
    narrow = kernel_of(family, params, 3, np.float32)
    wide = kernel_of(family, params, 3)
    values = narrow.mix(x.astype(np.float32), None, np.zeros(3)), wide.mix(x, None, np.zeros(3))
    assert values[0].log_likelihood == pytest.approx(values[1].log_likelihood, rel=1e-5)
    assert_same(narrow.stats(), wide.stats(), tolerance(np.float32, 200, 1e3))
