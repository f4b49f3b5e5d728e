"""Factor analysis and probabilistic principal components: published numbers, scikit-learn, closed forms, ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.decomposition
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

import streamem
from streamem import (
    HMM,
    PPCA,
    FactorAnalysis,
    FactorGaussian,
    GaussianMixture,
    Mixture,
    MixtureOfFactorAnalyzers,
    select,
)
from streamem.core.errors import DegenerateDataError, ParameterError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

Array = NDArray[Any]
HOLZINGER = np.loadtxt(Path(__file__).parents[1] / "data" / "holzinger.csv", delimiter=",", skiprows=1)
"""Nine tests of mental ability, 301 children: Holzinger & Swineford 1939, x1 to x9 as the R package lavaan has them."""

PUBLISHED = {
    FactorAnalysis: (-3851.224245, -3760.245323, -3706.540533),
    PPCA: (-3933.539895, -3846.641557, -3752.411041),
}
EXACT: dict[str, Any] = {"tol": 1e-12, "max_iter": 3000}


LOADINGS = np.array([[2.0, 1.5, 1.0, 0.5, 0.0, 0.5], [0.0, 0.5, -0.5, 1.0, 1.5, -1.0]])


def two_factors(n: int, rng: np.random.Generator) -> Array:
    """Rows (n, 6) of two factors that are told well, so that EM takes few steps."""
    return rng.normal(size=(n, 2)) @ LOADINGS + rng.normal(size=(n, 6))


def gappy(x: Array, share: float = 0.2, seed: int = 0) -> Array:
    """Rows of which a share of values is missing, one row wholly."""
    out = x.copy()
    out[np.random.default_rng(seed).random(x.shape) < share] = np.nan
    out[5] = np.nan
    return out


def observed_log_likelihood(mean: Array, covariance: Array, x: Array) -> float:
    """By its definition: the marginal of what was observed, row after row."""
    total = 0.0
    for row in x:
        seen = ~np.isnan(row)
        if seen.any():
            total += multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).logpdf(row[seen])
    return float(total)


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [1, 2, 3])
@pytest.mark.parametrize("cls", PUBLISHED)
def test_published_log_likelihoods(cls: Any, q: int) -> None:
    model = cls(q, **EXACT).fit(HOLZINGER)
    assert model.score(HOLZINGER) * 301 == pytest.approx(PUBLISHED[cls][q - 1], abs=6e-7)
    assert model.converged_
    by_default = cls(q).fit(HOLZINGER).score(HOLZINGER) * 301
    assert by_default == pytest.approx(PUBLISHED[cls][q - 1], abs=301 * 1e-6)


def test_factor_analysis_is_scikit_learns() -> None:
    """Log-likelihood, covariance, loadings but for signs, factors and densities."""
    theirs = sklearn.decomposition.FactorAnalysis(2, svd_method="lapack", tol=1e-12, max_iter=20_000).fit(HOLZINGER)
    ours = FactorAnalysis(2, **EXACT).fit(HOLZINGER)
    assert ours.score(HOLZINGER) == pytest.approx(theirs.score(HOLZINGER), abs=1e-10)
    np.testing.assert_allclose(ours.get_covariance(), theirs.get_covariance(), atol=2e-6)
    np.testing.assert_allclose(ours.get_precision(), theirs.get_precision(), atol=2e-5)
    signs = np.sign((ours.components_ * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(ours.components_, theirs.components_ * signs[:, None], atol=1e-5)
    np.testing.assert_allclose(ours.noise_variance_, theirs.noise_variance_, atol=1e-5)
    np.testing.assert_allclose(ours.transform(HOLZINGER), theirs.transform(HOLZINGER) * signs, atol=1e-4)
    np.testing.assert_allclose(ours.score_samples(HOLZINGER), theirs.score_samples(HOLZINGER), atol=1e-4)


def test_ppca_has_a_closed_form() -> None:
    """Tipping & Bishop 1999, eqs. 7 and 8: W = U(Λ − σ²I)^½, σ² the mean of the other eigenvalues."""
    values, vectors = np.linalg.eigh(np.cov(HOLZINGER.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    model = PPCA(3, **EXACT).fit(HOLZINGER)
    assert model.noise_variance_ == pytest.approx(values[3:].mean(), rel=1e-9)
    np.testing.assert_allclose(model.explained_variance_, values[:3], rtol=1e-7)
    directions = model.components_ / np.linalg.norm(model.components_, axis=1)[:, None]
    np.testing.assert_allclose(np.abs(directions), np.abs(vectors[:, :3].T), atol=1e-5)
    np.testing.assert_allclose(model.mean_, HOLZINGER.mean(axis=0), rtol=1e-12)


def test_all_but_one_factor_are_a_full_gaussian() -> None:
    full = GaussianMixture(1, reg_covar=0.0).fit(HOLZINGER)
    model = FactorAnalysis(8, **EXACT).fit(HOLZINGER)
    assert model.score(HOLZINGER) == pytest.approx(full.score(HOLZINGER), abs=1e-9)
    np.testing.assert_allclose(model.get_covariance(), full.covariances_[0], atol=1e-4)
    assert model._n_parameters() == 9 + 45  # no more than a full covariance has


def test_select_counts_what_rotations_leave() -> None:
    """dq − q(q − 1)/2 + d + d, and one number for the noise of PPCA; BIC takes three factors."""
    found = select(FactorAnalysis(), HOLZINGER, n_components=[1, 2, 3])
    assert found.table.column("n_parameters").to_pylist() == [27, 35, 42]
    assert found.best_params_ == {"n_components": 3}
    assert PPCA(2).fit(HOLZINGER)._n_parameters() == 9 * 2 - 1 + 9 + 1


# --- missing values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", PUBLISHED)
def test_the_likelihood_of_what_was_observed_is_maximal(cls: Any) -> None:
    """Scores are marginal densities by definition, and no parameters nearby have a higher sum."""
    x = gappy(HOLZINGER[:60, [0, 1, 3, 4, 5, 6, 7]])
    model = cls(2, missing="integrate", tol=1e-11, max_iter=500).fit(x)
    mean, covariance = model.mean_, model.get_covariance()
    reached = observed_log_likelihood(mean, covariance, x)
    assert model.score_samples(x).sum() == pytest.approx(reached, rel=1e-11)
    rng = np.random.default_rng(1)
    for _ in range(10):
        components = model.components_ + 1e-3 * rng.normal(size=model.components_.shape)
        factor = np.exp(1e-3 * rng.normal(size=np.shape(model.noise_variance_)))
        noise = np.broadcast_to(model.noise_variance_ * factor, 7)
        other = components.T @ components + np.diag(noise)
        assert observed_log_likelihood(mean + 1e-3 * rng.normal(size=7), other, x) < reached + 1e-6
    filled, seen = model.impute(x), ~np.isnan(x)
    row = 0
    lack, has = ~seen[row], seen[row]
    slopes = np.linalg.solve(covariance[np.ix_(has, has)], covariance[np.ix_(has, lack)]).T
    np.testing.assert_allclose(filled[row, lack], mean[lack] + slopes @ (x[row, has] - mean[has]), rtol=1e-9)
    np.testing.assert_allclose(filled[5], mean, rtol=1e-12)


def test_factors_of_what_was_observed() -> None:
    """E[z | x_o] = Λ_oᵀΣ_oo⁻¹(x_o − μ_o)."""
    x = gappy(HOLZINGER)
    model = FactorAnalysis(2, missing="integrate").fit(x)
    found, covariance = model.transform(x), model.get_covariance()
    for row in (0, 5, 17):
        seen = ~np.isnan(x[row])
        own = covariance[np.ix_(seen, seen)]
        expected = model.components_[:, seen] @ np.linalg.solve(own, (x[row] - model.mean_)[seen])
        np.testing.assert_allclose(found[row], expected, atol=1e-10)


# --- a member of the house -------------------------------------------------------------------------------------------


def test_files_copies_and_hands(tmp_path: Path) -> None:
    model = FactorAnalysis(2).fit(HOLZINGER)
    model.save(tmp_path / "m.npz")
    for other in (FactorAnalysis.load(tmp_path / "m.npz"), FactorAnalysis.from_sklearn(model.to_sklearn())):
        np.testing.assert_allclose(other.transform(HOLZINGER), model.transform(HOLZINGER), rtol=1e-9, atol=1e-12)
    by_hand = FactorAnalysis(2)
    by_hand.mean_, by_hand.components_ = model.mean_, model.components_
    by_hand.noise_variance_ = model.noise_variance_
    assert by_hand.score(HOLZINGER) == pytest.approx(model.score(HOLZINGER), rel=1e-12)
    by_hand.noise_variance_ = -model.noise_variance_
    with pytest.raises(ParameterError, match="variances > 0"):
        by_hand.score(HOLZINGER)
    pca = PPCA(2).fit(HOLZINGER)
    theirs = pca.to_sklearn()
    assert theirs.score(HOLZINGER) == pytest.approx(pca.score(HOLZINGER), rel=1e-12)
    assert PPCA.from_sklearn(theirs).score(HOLZINGER) == pytest.approx(pca.score(HOLZINGER), rel=1e-12)
    with pytest.raises(ParameterError, match="leave no noise"):
        PPCA.from_sklearn(sklearn.decomposition.PCA(9).fit(HOLZINGER))


@pytest.mark.parametrize("missing", ["error", pytest.param("integrate", marks=pytest.mark.slow)])
def test_chunks_threads_weights_and_a_pause(tmp_path: Path, missing: str) -> None:
    """A weight of 2 is the row twice; chunks hardly matter, threads not at all, and a fit goes on to equal bits."""
    rng = np.random.default_rng(0)
    x = two_factors(400, rng)
    x = gappy(x) if missing == "integrate" else x
    given: dict[str, Any] = {"missing": missing, "tol": 1e-6, "chunk_bytes": 2_000}
    whole = FactorAnalysis(2, **given).fit(x)
    assert whole.report_.n_chunks > 5
    one = FactorAnalysis(2, **given, n_threads=1).fit(x)
    assert (one.components_ == whole.components_).all()
    FactorAnalysis(2, **given, max_iter=3).fit(x, checkpoint=tmp_path / "c.npz")
    resumed = FactorAnalysis(2, **given).fit(x, checkpoint=tmp_path / "c.npz")
    assert (resumed.components_ == whole.components_).all()
    assert (resumed.noise_variance_ == whole.noise_variance_).all()
    weight = rng.integers(1, 3, size=400).astype(float)
    twice = FactorAnalysis(2, missing=missing).fit(np.repeat(x, weight.astype(int), axis=0))
    weighed = FactorAnalysis(2, missing=missing).fit(x, sample_weight=weight)
    np.testing.assert_allclose(weighed.get_covariance(), twice.get_covariance(), rtol=1e-8)


@pytest.mark.variations(2, 100)
@pytest.mark.parametrize("algorithm", ["squarem", "anderson", "stepwise", "incremental"])
def test_other_algorithms_reach_the_maximum(algorithm: str) -> None:
    x = two_factors(3000, np.random.default_rng(0))
    batch = FactorAnalysis(2).fit(x).score(x)
    other = FactorAnalysis(2).fit(x, algorithm=algorithm).score(x)
    assert other == pytest.approx(batch, abs=2e-3 if algorithm == "stepwise" else 5e-6)


def test_streams_learn_factors() -> None:
    x = two_factors(20_000, np.random.default_rng(0))
    batch, online = FactorAnalysis(2).fit(x), FactorAnalysis(2)
    online.fit_stream(np.array_split(x, 40), batch_rows=500)
    assert online.score(x) == pytest.approx(batch.score(x), abs=5e-3)
    again = FactorAnalysis(2).fit_stream(np.array_split(x, 40), batch_rows=500)
    assert (again.components_ == online.components_).all()


def test_errors_of_means_are_those_of_averages() -> None:
    """√(variance / n), with errors of loadings and noise beside; none is NaN, whatever rotations leave open."""
    x = two_factors(300, np.random.default_rng(0))
    model = FactorAnalysis(2, tol=1e-9).fit(x)
    errors = model.standard_errors(x, method="opg")
    assert all(np.isfinite(errors[name]).all() for name in ("components_", "noise_variance_", "mean_"))
    np.testing.assert_allclose(errors["mean_"], x.std(axis=0) / np.sqrt(300), rtol=0.25)
    assert len(errors.free_parameters) == 6 * 2 - 1 + 6 + 6
    assert any("factors are hidden too" in advice for advice in model.diagnose(x).advice)


@pytest.mark.slow
def test_errors_are_the_spread_of_fits() -> None:
    """Errors of loadings in canonical rotation, of noise and of means, beside fits of thirty samples."""
    rng = np.random.default_rng(0)
    samples = [two_factors(800, rng) for _ in range(30)]
    fits = [FactorAnalysis(2).fit(x) for x in samples]
    errors = fits[0].standard_errors(samples[0])
    assert not errors.problems
    for name in ("components_", "noise_variance_", "mean_"):
        spread = np.std([getattr(fit, name) for fit in fits], axis=0)
        np.testing.assert_allclose(errors[name], spread, rtol=0.6)


def test_chains_and_mixtures_of_factors() -> None:
    rng = np.random.default_rng(0)
    states = np.repeat([0, 1, 0, 1], 100)
    own = rng.normal(size=(2, 1, 5))
    x = np.array([6.0, -6.0])[states, None] + (rng.normal(size=(400, 1, 1)) @ own[states])[:, 0]
    x += 0.5 * rng.normal(size=x.shape)
    hmm = HMM(FactorGaussian(1), 2, random_state=0).fit(x)
    assert (hmm.predict(x) == hmm.predict(x)[0]).mean() == pytest.approx(0.5)
    mix = Mixture(FactorGaussian(1, "isotropic"), 2, random_state=0).fit(x)
    np.testing.assert_allclose(mix.weights_, 0.5, atol=1e-6)


# --- ends ------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(ParameterError, match="10 factors of rows with n_features = 9: at most 9"):
        FactorAnalysis(10).fit(HOLZINGER)
    with pytest.raises(ParameterError, match="at most 8 can be told, since isotropic noise"):
        PPCA(9).fit(HOLZINGER)
    with pytest.raises(ParameterError, match="n_factors"):
        Mixture(FactorGaussian(0), 1)
    with pytest.raises(ParameterError, match="10 factors of rows"):
        Mixture(FactorGaussian(10), 1).fit(HOLZINGER)
    with pytest.raises(ParameterError, match="n_components is 1.5"):
        FactorAnalysis(1.5).fit(HOLZINGER)  # type: ignore[arg-type]
    constant = HOLZINGER.copy()
    constant[:, 3] = 7.0
    with pytest.raises(DegenerateDataError, match=r"columns \[3\] hold one value only"):
        FactorAnalysis(2).fit(constant)
    assert PPCA(2).fit(constant).components_[:, 3] == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ParameterError, match="no noise"):
        FactorAnalysis(2, noise=True)  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="no class to predict"):
        FactorAnalysis(1).fit(HOLZINGER).predict(HOLZINGER)


def test_a_heywood_case_ends_at_the_floor_and_is_told() -> None:
    """Two columns that are equal leave no noise: it ends at 2⁻³⁰ of their scale, and the likelihood never falls."""
    x = np.column_stack([HOLZINGER[:, 0], HOLZINGER[:, 0], HOLZINGER[:, 1:3]])
    model = FactorAnalysis(1, tol=1e-9, max_iter=150).fit(x)
    assert model.report_.events["floored"] > 0
    assert "of columns 0, 1 is at its floor (a Heywood case)" in model.describe()
    assert model.noise_variance_.min() >= 2.0**-34
    assert np.isfinite(model.score(x))


def test_units_and_offsets_do_not_matter() -> None:
    """At 1e6 away from 0, and in other units of each column, loadings are the same numbers in those units."""
    model = FactorAnalysis(2, tol=1e-10).fit(HOLZINGER)
    units = 10.0 ** np.array([-120, -6, -3, 0, 3, 6, 9, 50, 100])
    other = FactorAnalysis(2, tol=1e-10).fit(HOLZINGER * units)
    np.testing.assert_allclose(other.components_, model.components_ * units, rtol=1e-6)
    moved = FactorAnalysis(2, tol=1e-10).fit(HOLZINGER + 1e6)
    np.testing.assert_allclose(moved.get_covariance(), model.get_covariance(), rtol=1e-8)


def test_every_public_name_is_there() -> None:
    assert {"FactorAnalysis", "PPCA", "MixtureOfFactorAnalyzers", "FactorGaussian"} <= set(streamem.__all__)


def test_a_grid_of_components_and_factors() -> None:
    """Two groups of one factor each are found, and counted: K·(d + dq − q(q − 1)/2 + d) + K − 1, or the full one."""
    rng = np.random.default_rng(0)
    own = np.array([[[2.0, 2.0, 0.0, 1.0]], [[0.0, 1.0, -2.0, 2.0]]])
    group = np.repeat([0, 1], 200)
    x = 6.0 * group[:, None] + (rng.normal(size=(400, 1, 1)) @ own[group])[:, 0] + rng.normal(size=(400, 4))
    model = MixtureOfFactorAnalyzers(random_state=0)
    found = select(model, x, n_components=[1, 2], n_factors=[1, 2])
    assert found.best_params_ == {"n_components": 2, "n_factors": 1}
    assert found.table.column("n_parameters").to_pylist() == [12, 14, 25, 29]
    best = found.best_estimator_
    first = int(best.means_[:, 0].argmin())
    np.testing.assert_allclose(np.abs(best.components_[first, 0]), np.abs(own[0, 0]), atol=0.4)
    by_hand = MixtureOfFactorAnalyzers(2, 1)
    for name in ("weights_", "means_", "components_", "noise_variance_"):
        setattr(by_hand, name, getattr(best, name))
    assert by_hand.score(x) == pytest.approx(best.score(x), rel=1e-12)
