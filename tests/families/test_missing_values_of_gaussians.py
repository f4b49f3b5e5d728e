"""Gaussians on rows that lack values: densities of what was observed, and expected statistics given it."""

from __future__ import annotations

import warnings
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning

from helpers.missing_oracle import exact_second, expected, matrices, random_case, with_holes
from streamem import GaussianMixture
from streamem.conformance import FamilySuite
from streamem.conformance.tolerance import assert_close, tolerance
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.ports import kernel_of
from streamem.core.stats import Stats
from streamem.families import Gaussian
from streamem.families.gaussian import incomplete
from streamem.families.gaussian.arithmetic import origins
from streamem.families.gaussian.conditional import ConditionalKernel
from streamem.families.gaussian.covariance import COVARIANCES
from streamem.families.gaussian.held import HeldGaussian
from streamem.families.gaussian.marginal import marginal
from streamem.families.gaussian.shortfall import expected_log_likelihood
from streamem.models import Mixture

Array = NDArray[Any]
COVARIANCE_TYPES = ["full", "tied", "diag", "spherical"]
TIED = frozenset({"covariances", "precisions_cholesky", "floored"})

CHOLESTEROL = np.array(
    [
        *[[270, 218, 156], [236, 234, np.nan], [210, 214, 242], [142, 116, np.nan], [280, 200, np.nan]],
        *[[272, 276, 256], [160, 146, 142], [220, 182, 216], [226, 238, 248], [242, 288, np.nan]],
        *[[186, 190, 168], [266, 236, 236], [206, 244, np.nan], [318, 258, 200], [294, 240, 264]],
        *[[282, 294, np.nan], [234, 220, 264], [224, 200, np.nan], [276, 220, 188], [282, 186, 182]],
        *[[360, 352, 294], [310, 202, 214], [280, 218, np.nan], [278, 248, 198], [288, 278, np.nan]],
        *[[288, 248, 256], [244, 270, 280], [236, 242, 204]],
    ]
)
"""Serum cholesterol of 28 patients 2, 4 and 14 days after a heart attack (Ryan & Joiner 1994; Schafer 1997, §5.3.6)."""


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("share", [0.2, 0.7])
class TestGaussianOfObservedValues(FamilySuite):
    """Around a mean of (40, …); statistics are expectations at the parameters of the case."""

    @pytest.fixture(autouse=True)
    def _choose(self, covariance_type: str, share: float) -> None:
        self.family, self.share = Gaussian(covariance_type).integrating(), share
        self.shared = frozenset({"center", "scale"}) | (TIED if covariance_type == "tied" else frozenset())

    def make_family(self) -> Gaussian:
        return self.family

    def make_params(self, rng: np.random.Generator) -> Params:
        return random_case(rng, self.family.covariance_type, 3, 4, 50)[1]

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return with_holes(rng, 40.0 + 2.0 * rng.normal(size=(n, 4)), self.share)

    def make_far_row(self, x: Array) -> Array:
        return np.where(np.arange(4) == 1, np.nan, np.nanmean(x, axis=0) + 1e6 * np.nanstd(x, axis=0))[None]

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        means, covariances = self.family.means(params), self.family.covariances(params)
        if self.family.covariance_type in ("full", "tied"):
            a = np.eye(4) + scale * rng.normal(size=covariances.shape)
            covariances = a @ covariances @ np.swapaxes(a, -1, -2)
            covariances = (covariances + np.swapaxes(covariances, -1, -2)) / 2
        else:
            covariances = covariances * np.exp(scale * rng.normal(size=covariances.shape))
        moved = self.family.with_means(params, means + scale * rng.normal(size=means.shape))
        return self.family.with_covariances(moved, covariances)

    def expected_log_likelihood(self, case: Any, params: Params, stats: Stats) -> float:
        """By the statistics, which are expected ones: what the EM algorithm maximizes."""
        structure = self.family._structure
        gained = expected_log_likelihood(structure, params, stats, origins(structure, case.params))
        return float(gained.sum()) - 4 * np.log(2 * np.pi) / 2 * float(stats.weight.sum())

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return expected(self.family, params, x, np.ones((len(x), 3))).log_prob


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])  # the larger case that runs by default is of float64
@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 3), (5, 9), (13, 8)])
def test_statistics_are_those_of_the_textbook(covariance_type: str, dtype: Any, d: int, k: int) -> None:
    rng = np.random.default_rng(d)
    family, params, x = random_case(rng, covariance_type, k, d, 90)
    x[rng.random(x.shape) < np.array([[0.0], [0.1], [0.5], [0.9]])[rng.integers(4, size=90)]] = np.nan
    x, resp = x.astype(dtype), rng.random((90, k))
    kernel, found = kernel_of(family, params, k, dtype), np.empty((k, 90))
    kernel.load(x)
    kernel.log_prob(found)
    kernel.accumulate(np.ascontiguousarray(resp.T))
    oracle, stats = expected(family, params, x.astype(np.float64), resp), kernel.stats()
    rtol = tolerance(dtype, 90, 100.0)
    assert_close(found.T, oracle.log_prob, rtol, "log_prob", np.abs(oracle.log_prob).max() + d)
    for name in ("weight", "first", "second"):
        own = getattr(oracle, name)
        assert_close(stats[name], own, rtol, name, np.abs(own).max() + resp.sum())
    np.testing.assert_allclose(
        family.filled(params, x, resp / resp.sum(axis=1, keepdims=True)),
        np.where(np.isnan(x), np.einsum("nk,nkd->nd", resp / resp.sum(axis=1, keepdims=True), oracle.means), x),
        rtol=rtol,
    )


@pytest.mark.variations(1, 2)  # float32 rows have compiled passes of their own
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_that_lack_the_same_go_together(covariance_type: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rows in one call: common patterns, rare ones and complete rows, against the textbook."""
    monkeypatch.setattr(incomplete, "LEAST_ROWS", 8)
    monkeypatch.setattr(incomplete, "PORTION_ROWS", 200)
    rng, k, d = np.random.default_rng(7), 3, 5
    family, params, x = random_case(rng, covariance_type, k, d, 300)
    lacking = rng.random((8, d)) < 0.4
    lacking[0], lacking[1] = False, True
    x[lacking[rng.integers(8, size=300)]] = np.nan
    x[:40][rng.random((40, d)) < 0.2] = np.nan
    x = x.astype(dtype)
    kernel, log_weights, rtol = kernel_of(family, params, k, dtype), np.log([0.2, 0.3, 0.5]), tolerance(dtype, 300, 1e3)
    found = kernel.mix(x, None, log_weights)
    assert isinstance(kernel, incomplete.IncompleteKernel)
    assert 3 <= len(kernel._patterns) <= 8
    joint = expected(family, params, x.astype(np.float64), np.ones((300, k))).log_prob + log_weights
    known = np.logaddexp.reduce(joint, axis=1)
    oracle = expected(family, params, x.astype(np.float64), np.exp(joint - known[:, None]))
    assert_close(np.float64(found.log_likelihood), known.sum(), rtol, "log-likelihood", np.abs(known).sum())
    assert_close(found.responsibilities, oracle.weight, rtol, "responsibilities", np.float64(300))
    for stats in (kernel.stats(), _of_known_weights(kernel, x, np.exp(joint - known[:, None]))):
        for name in ("weight", "first", "second"):
            own = getattr(oracle, name)
            assert_close(stats[name], own, rtol, name, np.abs(own).max() + 300.0)
    densities, peaks = np.empty((300, k)), np.empty(300)
    kernel.densities(x, densities, peaks)
    assert_close(np.log(densities) + peaks[:, None], oracle.log_prob, rtol, "densities", np.abs(oracle.log_prob).max())


def _of_known_weights(kernel: Any, x: Array, resp: Array) -> Stats:
    kernel.restart()
    kernel.accumulate_rows(x, resp, False)
    found: Stats = kernel.stats()
    return found


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_nearly_collinear_columns_keep_their_digits(covariance_type: str) -> None:
    """Where products cancel: log-densities are those of the marginal, by the ordinary kernel of the features."""
    rng = np.random.default_rng(0)
    family, params, x = random_case(rng, covariance_type, 2, 4, 60)
    x[:, 3] = x[:, 0] + x[:, 1] - 40.0 + 1e-5 * rng.normal(size=60)
    shear = np.eye(4)
    shear[3] = [1.0, 1.0, 0.0, 1e-5]
    covariances = shear @ family.covariances(params) @ shear.T
    means = family.means(params)
    means[:, 3] = means[:, 0] + means[:, 1] - 40.0
    params = family.with_covariances(family.with_means(params, means), covariances)
    assert not incomplete.by_products(family._structure, params)
    for lacking in ([0], [2, 3], [0, 3], [1, 2, 3]):
        observed = np.setdiff1d(np.arange(4), lacking)
        rows = np.where(np.isin(np.arange(4), lacking), np.nan, x)
        own = Gaussian(covariance_type).log_prob(marginal(family._structure, params, observed), x[:, observed])
        rounding = kernel_of(family, params, 2).rounding
        np.testing.assert_allclose(family.log_prob(params, rows), own, rtol=1e-9, atol=2 * rounding)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("seed", range(4))
def test_hostile_rows_are_fitted_without_a_fall(seed: int, covariance_type: str) -> None:
    """Collinear columns, repeated rows, outliers, rows of one value, a column that a cluster never shows."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 4)) + 6.0 * (np.arange(60) % 2)[:, None]
    x[:, 3] = x[:, 0] - x[:, 1]
    x[10:20], x[5, 0] = x[10], 1e6
    x[rng.random(x.shape) < 0.15] = np.nan
    x[::2, 2] = np.nan
    x[7] = [np.nan, 1.0, np.nan, np.nan]
    model = GaussianMixture(
        2, covariance_type=covariance_type, reg_covar=0.0 if seed % 2 else 1e-6, missing="integrate", random_state=seed
    )
    model.set_params(max_iter=60, tol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x)
    assert np.isfinite(model.means_).all()
    assert np.isfinite(model.covariances_).all()
    assert np.isfinite(model.score_samples(x)).all()


@pytest.mark.parametrize("d", [2, 3])
def test_densities_are_integrals_over_what_is_missing(d: int) -> None:
    """By the trapezoidal rule, which is exact to rounding for densities that vanish at both ends."""
    family, params, x = random_case(np.random.default_rng(3), "full", 2, d, 6)
    for lacking in ([0], [d - 1], [0, 1] if d == 3 else [1]):
        row = np.where(np.isin(np.arange(d), lacking), np.nan, x[0])
        axes = [np.linspace(15.0, 65.0, 501)] * len(lacking)
        points = np.repeat(row[None], 501 ** len(lacking), axis=0)
        points[:, lacking] = np.array(list(product(*axes)))
        own = zip(family.means(params), matrices(family, params), strict=True)
        densities = np.column_stack([multivariate_normal(mean, c).pdf(points) for mean, c in own])
        mass = densities.sum(axis=0) * 0.1 ** len(lacking)
        np.testing.assert_allclose(np.exp(family.log_prob(params, row[None]))[0], mass, rtol=1e-9)
        means = np.einsum("pk,pd->kd", densities, points) * 0.1 ** len(lacking) / mass[:, None]
        for k in range(2):
            np.testing.assert_allclose(family.filled(params, row[None], np.eye(2)[[k]])[0], means[k], rtol=1e-9)


def maximum(x: Array, covariance_type: str = "full", steps: int = 400) -> tuple[Gaussian, Params, float]:
    """One Gaussian of rows x, by so many steps; the log-likelihood never falls."""
    family = Gaussian(covariance_type).integrating()
    model = Mixture(family, 1, lambda x, weight, k, rng: np.ones((len(x), 1)))
    params, last = model.init(Chunk(x), np.random.RandomState(0)), -np.inf
    for _ in range(steps):
        stats = model.e_step(params, Chunk(x))
        assert float(stats.log_likelihood) >= last - float(stats.rounding)
        last, params = float(stats.log_likelihood), model.m_step(stats, params)
    return family, params.components, last


def test_the_cholesterol_data_give_the_published_estimates() -> None:
    family, params, log_likelihood = maximum(CHOLESTEROL)
    np.testing.assert_allclose(family.means(params)[0], [253.9286, 230.6429, 222.2371], atol=5e-5)
    rows, columns = np.triu_indices(3)
    published = [2194.9949, 1454.6173, 835.3973, 2127.158, 1515.458, 1952.218]
    np.testing.assert_allclose(family.covariances(params)[0][rows, columns], published, rtol=1e-5)
    np.testing.assert_allclose(log_likelihood, -376.915465, atol=5e-7)


def test_monotone_patterns_have_a_closed_form() -> None:
    """Anderson 1957: the marginal of what all rows have, and regressions of the rest on it."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3)) + [3.0, -5.0, 100.0]
    x[120:, 2], x[160:, 1] = np.nan, np.nan
    family, params, _ = maximum(x, steps=600)
    mean, covariance = np.array([x[:, 0].mean()]), np.array([[x[:, 0].var()]])
    for j in (1, 2):
        known = x[~np.isnan(x[:, j])]
        design = np.column_stack([np.ones(len(known)), known[:, :j]])
        slopes = np.linalg.lstsq(design, known[:, j], rcond=None)[0]
        noise = np.mean((known[:, j] - design @ slopes) ** 2)
        across = covariance @ slopes[1:]
        mean = np.append(mean, slopes[0] + slopes[1:] @ mean)
        covariance = np.block([[covariance, across[:, None]], [across, noise + slopes[1:] @ across]])
    np.testing.assert_allclose(family.means(params)[0], mean, rtol=1e-7)
    np.testing.assert_allclose(family.covariances(params)[0], covariance, rtol=1e-6)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_the_gradient_vanishes_at_the_maximum(covariance_type: str) -> None:
    """Of the log-density of what was observed, by differences along random directions in units of the covariance.

    In these units its third derivative is at most 6n·|direction|³, so central differences err by n·h²·|direction|³ (in
    other units by more, the smaller the least eigenvalue), and round by eps·ℓ/h. 400 steps end where nothing moves.
    """
    rng = np.random.default_rng(8)
    x = with_holes(rng, rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3)), 0.25)
    family, params, log_likelihood = maximum(x, covariance_type)
    means, covariances, h = family.means(params), family.covariances(params), 1e-5
    roots, matrix = np.linalg.cholesky(matrices(family, params)[0]), covariance_type in ("full", "tied")
    for _ in range(6):
        along, turn = rng.normal(size=means.shape), rng.normal(size=covariances.shape)
        turn = turn + np.swapaxes(turn, -1, -2) if matrix else turn
        across = roots @ turn @ roots.T if matrix else turn * covariances
        sides = [
            family.with_covariances(
                family.with_means(params, means + step * along @ roots.T), covariances + step * across
            )
            for step in (h, -h)
        ]
        high, low = (float(family.log_prob(side, x).sum()) for side in sides)
        size = np.linalg.norm(along) + np.sqrt(3) * np.linalg.norm(turn)
        rounding = 8 * np.finfo(float).eps * abs(log_likelihood) / h
        assert abs(high - low) / (2 * h) < len(x) * h**2 * size**3 + rounding


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_row_without_any_value_changes_nothing(covariance_type: str) -> None:
    rng = np.random.default_rng(2)
    family, params, x = random_case(rng, covariance_type, 2, 3, 50)
    x = with_holes(rng, x, 0.3)
    with_empty = np.vstack([x[:20], np.full((3, 3), np.nan), x[20:]])
    found = []
    for rows in (x, with_empty):
        kernel = kernel_of(family, params, 2)
        found.append((kernel.mix(rows, None, np.log([0.3, 0.7])), kernel.stats()))
    (without, stats), (with_them, same) = found
    np.testing.assert_allclose(without.log_likelihood, with_them.log_likelihood, rtol=1e-13)
    np.testing.assert_allclose(without.responsibilities, with_them.responsibilities, rtol=1e-12)
    assert_close(same, stats, 1e-12, "statistics")
    assert not family.log_prob(params, np.full((1, 3), np.nan)).any()


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_draws_have_the_conditional_distribution(covariance_type: str) -> None:
    family, params, x = random_case(np.random.default_rng(4), covariance_type, 2, 3, 1)
    row, rng = np.where(np.arange(3) == 1, x[0], np.nan), np.random.RandomState(0)
    count = 20_000
    drawn = family.drawn_for_missing(params, np.repeat(row[None], count, axis=0), np.ones(count, dtype=int), rng)
    covariance, lacking = matrices(family, params)[1], [0, 2]
    mean = family.filled(params, row[None], np.array([[0.0, 1.0]]))[0]
    left = (
        covariance[np.ix_(lacking, lacking)]
        - np.outer(covariance[lacking, 1], covariance[1, lacking]) / (covariance[1, 1])
    )
    np.testing.assert_array_equal(drawn[:, 1], row[1])
    errors = np.sqrt(np.diag(left) / count)
    assert (np.abs(drawn[:, lacking].mean(axis=0) - mean[lacking]) < 5 * errors).all()
    allowed = 5 * np.sqrt(2 / count) * np.sqrt(np.outer(np.diag(left), np.diag(left)))
    assert (np.abs(np.cov(drawn[:, lacking].T, bias=True) - left) < allowed).all()


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_far_rows_are_judged_by_what_was_observed(covariance_type: str) -> None:
    family, params, x = random_case(np.random.default_rng(6), covariance_type, 3, 4, 30)
    x = with_holes(np.random.default_rng(1), x, 0.4)
    near = family.far_log_prob(params, x)
    np.testing.assert_allclose(near, family.log_prob(params, x), rtol=1e-11)
    far = np.array([[1e170, np.nan, 40.0, np.nan], [np.nan, np.nan, np.nan, -1e200]])
    order = family.far_order(params, far)
    assert np.isfinite(order).all()
    observed = [[0, 2], [3]]
    for row, own, found in zip(far, observed, order, strict=True):
        direction = np.where(np.abs(row[own]) > 1e100, np.sign(row[own]), 0.0)
        squares = [direction @ np.linalg.solve(c[np.ix_(own, own)], direction) for c in matrices(family, params)]
        if covariance_type != "tied":
            assert found.argmax() == np.argmin(squares)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_components_kept_fixed_and_anchors_take_missing_values(covariance_type: str) -> None:
    """The flag goes with every kind of Gaussian, and an anchor comes from what was observed."""
    family = HeldGaussian(covariance_type, 0.0, "means").integrating()
    assert isinstance(family, HeldGaussian)
    assert family.allows_missing
    assert not HeldGaussian(covariance_type, 0.0, "means").allows_missing
    x = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    start = family.start(x, None, 2)
    assert start.center.tolist() == [2.0, 0.0]
    assert np.isfinite(family.maximize(family.stats(start, x, np.ones((4, 2))), start).covariances).all()


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_rows_conditioned_by_differences_have_the_statistics_of_the_textbook(covariance_type: str) -> None:
    """The path of components that are tight or far away, asked by itself: others take products where these serve."""
    rng = np.random.default_rng(0)
    for k, d in ((2, 3), (9, 5)):
        family, params, x = random_case(rng, covariance_type, k, d, 40)
        x, resp = with_holes(rng, x, 0.3), rng.random((40, k))
        kernel = ConditionalKernel(COVARIANCES[covariance_type], params)
        kernel.load(x)
        kernel.accumulate(np.ascontiguousarray(resp.T))
        found, right = kernel.stats(), expected(family, params, x, resp)
        for name in ("weight", "first", "second"):
            np.testing.assert_allclose(found[name], getattr(right, name), rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("seen", [1, 2, 3])
def test_moments_of_collapsed_components_keep_the_digits_of_their_covariance(seen: int) -> None:
    """Beside an eigenvalue at the floor, errors count by the precision: those of eps·√condition would be all of it."""
    rng = np.random.default_rng(seen)
    x = rng.normal(size=(400, 4))
    x[:, 3] = x[:, 0] - x[:, 1] + 0.5 * x[:, 2]
    family = Gaussian("full").integrating()
    start = family.start(x, None, 1)
    params = family.maximize(family.stats(start, x, np.ones((400, 1))), start)
    assert params.floored.all()
    factor, scale = params.precisions_cholesky[0], params.scale
    for row in x[:20]:
        row[rng.permutation(4)[seen:]] = np.nan
        row[:] = params.center + np.round((row - params.center) / scale * 2**20) / 2**20 * scale  # subtracts exactly
        kernel = ConditionalKernel(COVARIANCES["full"], params)
        kernel.load(row[None])
        kernel.accumulate(np.ones((1, 1)))
        found = kernel.stats().second[0][np.array([[0, 1, 2, 3], [1, 4, 5, 6], [2, 5, 7, 8], [3, 6, 8, 9]])]
        exact = exact_second(params, row)
        errors = [[float(Fraction(found[i, j]) - exact[i][j]) for j in range(4)] for i in range(4)]
        assert np.abs(factor.T @ errors @ factor).max() < 0.01
