"""Rotations of factor analysis: scikit-learn's loadings, criteria at their maximum, equal densities, files, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.decomposition
from click.testing import CliRunner
from numpy.typing import NDArray
from scipy.linalg import expm

from streamem import PPCA, FactorAnalysis
from streamem.cli.main import main
from streamem.core.errors import ParameterError

Array = NDArray[Any]
HOLZINGER = np.loadtxt(Path(__file__).parents[1] / "data" / "holzinger.csv", delimiter=",", skiprows=1)
SIMPLE = np.array([[2.0, 1.5, 1.0, 0.0, 0.0, 0.3], [0.0, 0.3, 0.0, 1.0, 1.5, -1.0]])
CRITERIA = ["varimax", "quartimax"]


def two_factors(n: int, rng: np.random.Generator) -> Array:
    """Rows (n, 6) of two factors with simple loadings."""
    return rng.normal(size=(n, 2)) @ SIMPLE + rng.normal(size=(n, 6))


def matched(ours: Array, theirs: Array) -> Array:
    """Rows of `theirs` in the order and with the signs of `ours`."""
    likeness = ours @ theirs.T / np.linalg.norm(ours, axis=1)[:, None] / np.linalg.norm(theirs, axis=1)
    order = np.abs(likeness).argmax(axis=1)
    assert sorted(order) == list(range(len(ours)))
    return np.asarray(theirs[order] * np.sign(likeness[np.arange(len(ours)), order])[:, None])


def criterion(components: Array, rotation: str) -> float:
    """By its definition: variances of squared loadings of each factor, or fourth powers."""
    return float((components**2).var(axis=1).sum() if rotation == "varimax" else (components**4).sum())


@pytest.mark.parametrize("rotation", CRITERIA)
@pytest.mark.parametrize("q", [2, 3])
def test_loadings_are_scikit_learns_and_densities_stay(rotation: str, q: int) -> None:
    own = FactorAnalysis(q, rotation=rotation, tol=1e-12, max_iter=3000).fit(HOLZINGER)
    plain = FactorAnalysis(q, tol=1e-12, max_iter=3000).fit(HOLZINGER)
    theirs = sklearn.decomposition.FactorAnalysis(q, rotation=rotation, tol=1e-8, max_iter=5000, svd_method="lapack")
    theirs.fit(HOLZINGER)
    np.testing.assert_allclose(own.components_, matched(own.components_, theirs.components_), atol=3e-4)
    assert own.lower_bound_ == plain.lower_bound_
    np.testing.assert_allclose(own.get_covariance(), plain.get_covariance(), rtol=1e-12)
    np.testing.assert_allclose(own.components_.T @ own.components_, plain.components_.T @ plain.components_, atol=1e-12)
    there = own.inverse_transform(own.transform(HOLZINGER))
    np.testing.assert_allclose(there, plain.inverse_transform(plain.transform(HOLZINGER)), rtol=1e-10)
    assert np.abs(own.components_ - plain.components_).max() > 0.05
    assert (np.diff((own.components_**2).sum(axis=1)) < 0).all()
    explained = own.describe().split("share of the variance")[1].splitlines()[1]
    assert f"{own.components_[0, 0]:.4f}"[:5] in explained


@pytest.mark.parametrize("rotation", CRITERIA)
def test_the_criterion_is_highest(rotation: str) -> None:
    """In units of the data, of which two differ by a thousand, no small turn of three factors raises it."""
    rng = np.random.default_rng(0)
    x = HOLZINGER * np.where(np.arange(9) < 2, 1000.0, 1.0)
    own = FactorAnalysis(3, rotation=rotation, tol=1e-10, max_iter=3000).fit(x).components_
    best = criterion(own, rotation)
    for _ in range(20):
        skew = np.triu(1e-3 * rng.normal(size=(3, 3)), 1)
        assert criterion(expm(skew - skew.T) @ own, rotation) < best


def test_files_copies_and_gaps(tmp_path: Path) -> None:
    x = HOLZINGER.copy()
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    model = FactorAnalysis(3, rotation="varimax", missing="integrate").fit(x)
    model.save(tmp_path / "m.npz")
    loaded = FactorAnalysis.load(tmp_path / "m.npz")
    assert loaded.rotation == "varimax"
    assert (loaded.components_ == model.components_).all()
    assert (loaded.transform(x) == model.transform(x)).all()
    there = FactorAnalysis(3, rotation="quartimax").fit(HOLZINGER)
    again = FactorAnalysis.from_sklearn(there.to_sklearn())
    assert again.rotation == there.to_sklearn().rotation == "quartimax"
    np.testing.assert_allclose(again.transform(HOLZINGER), there.transform(HOLZINGER), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(there.to_sklearn().transform(HOLZINGER), there.transform(HOLZINGER), atol=1e-9)
    one = FactorAnalysis(1, rotation="varimax").fit(HOLZINGER)
    np.testing.assert_allclose(one.components_, FactorAnalysis(1).fit(HOLZINGER).components_, rtol=1e-14)


def test_errors_of_rotated_loadings_are_finite_and_others_stay() -> None:
    x = two_factors(400, np.random.default_rng(0))
    turned, plain = (FactorAnalysis(2, rotation=rotation, tol=1e-9).fit(x) for rotation in ("varimax", None))
    own, others = turned.standard_errors(x, method="opg"), plain.standard_errors(x, method="opg")
    assert (own["components_"] > 0).all()
    assert np.isfinite(own["components_"]).all()
    for name in ("mean_", "noise_variance_"):
        np.testing.assert_allclose(own[name], others[name], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rotation", CRITERIA)
def test_errors_are_the_spread_of_rotated_fits(rotation: str) -> None:
    rng = np.random.default_rng(0)
    samples = [two_factors(800, rng) for _ in range(60)]
    fits = [FactorAnalysis(2, rotation=rotation).fit(x) for x in samples]
    errors = fits[0].standard_errors(samples[0])["components_"]
    spread = np.std([matched(fits[0].components_, fit.components_) for fit in fits], axis=0)
    np.testing.assert_allclose(errors, spread, rtol=0.35)


def test_wrong_rotations_are_named(tmp_path: Path) -> None:
    for wrong in ("promax", True, 1):
        with pytest.raises(ParameterError, match=r"rotation is .*; it must be 'varimax', 'quartimax', or None"):
            FactorAnalysis(2, rotation=wrong).fit(HOLZINGER)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="rotation"):
        PPCA(2, rotation="varimax")  # type: ignore[call-arg]


def test_rotations_at_the_terminal(tmp_path: Path) -> None:
    data, output = str(tmp_path / "x.npy"), str(tmp_path / "m.npz")
    np.save(data, HOLZINGER)
    asked = ["fit", "factor", data, "-q", "3", "-o", output, "--rotation", "varimax"]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    whole = FactorAnalysis(3, rotation="varimax").fit(HOLZINGER)
    np.testing.assert_allclose(FactorAnalysis.load(output).components_, whole.components_, rtol=1e-6)
    assert "varimax" in CliRunner().invoke(main, ["fit", "factor", "--help"]).output
    for more in (["-k", "2"], ["--noise", "isotropic"]):
        refused = CliRunner().invoke(main, [*asked, *more])
        assert refused.exit_code == 2
        assert "--rotation turns the loadings of one factor analysis" in refused.output
