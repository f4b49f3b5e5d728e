"""Hostile data with missing values, family by family: fits end, what they find is finite, and nothing falls.

A fit whose log-likelihood falls by more than its rounding raises an error itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem import Mixture, StudentTMixture
from streamem.core.ports import FullFamily
from streamem.families import (
    Bernoulli,
    Beta,
    Categorical,
    Exponential,
    FactorGaussian,
    Gamma,
    Gaussian,
    Geometric,
    LogNormal,
    NegativeBinomial,
    Poisson,
    StudentT,
    VonMises,
    Weibull,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

Array = NDArray[Any]
Rng = np.random.Generator
TYPES = ["full", "tied", "diag", "spherical"]


def _real(rng: Rng) -> Array:
    return rng.normal(size=(60, 3)) + 6.0 * (np.arange(60) % 2)[:, None]


FAMILIES: dict[str, tuple[FullFamily, Callable[[Rng], Array]]] = {
    **{f"Gaussian {kind}": (Gaussian(kind, 1e-6), _real) for kind in TYPES},
    **{f"StudentT {kind}": (StudentT(kind, 1e-6), _real) for kind in TYPES},
    "FactorGaussian": (FactorGaussian(1, reg_covar=1e-6), _real),
    "Poisson": (Poisson(), lambda rng: rng.poisson(4.0, (60, 3)).astype(float)),
    "Geometric": (Geometric(), lambda rng: rng.geometric(0.3, (60, 3)).astype(float)),
    "NegativeBinomial": (NegativeBinomial(), lambda rng: rng.negative_binomial(2, 0.3, (60, 3)).astype(float)),
    "Bernoulli": (Bernoulli(), lambda rng: rng.integers(2, size=(60, 3)).astype(float)),
    "Categorical": (Categorical(4), lambda rng: rng.integers(4, size=(60, 3)).astype(float)),
    "Exponential": (Exponential(), lambda rng: rng.exponential(2.0, (60, 3))),
    "Gamma": (Gamma(), lambda rng: rng.gamma(2.0, 2.0, (60, 3))),
    "LogNormal": (LogNormal(), lambda rng: rng.lognormal(size=(60, 3))),
    "Weibull": (Weibull(), lambda rng: rng.weibull(1.5, (60, 3))),
    "Beta": (Beta(), lambda rng: rng.beta(2.0, 3.0, (60, 3))),
    "VonMises": (VonMises(), lambda rng: rng.vonmises(0.0, 2.0, (60, 3))),
}


def require_finite_fit(family: FullFamily, x: Array) -> None:
    model = Mixture(family, 2, missing="integrate", random_state=0, max_iter=15).fit(x)
    for name, leaf in model.params_.flatten().items():
        assert np.isfinite(leaf).all(), name
    assert np.isfinite(model.score_samples(x)).all()
    assert np.isfinite(model.predict_proba(x)).all()
    filled = model.impute(x, n_draws=1)[0]
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])


@pytest.mark.slow
@pytest.mark.variations(1, 3)
@pytest.mark.parametrize("name", FAMILIES)
def test_all_but_one_column_missing(name: str) -> None:
    """Of every row one value is left: no row says anything of how columns go together."""
    family, rows = FAMILIES[name]
    rng = np.random.default_rng(0)
    x, kept = rows(rng), np.full((60, 3), np.nan)
    places = np.arange(60), rng.integers(3, size=60)
    kept[places] = x[places]
    require_finite_fit(family, kept)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_component_that_sees_a_column_only_missing(name: str) -> None:
    """Half of the rows lack the second column, the others the first."""
    family, rows = FAMILIES[name]
    x = rows(np.random.default_rng(1))
    x[::2, 1], x[1::2, 0] = np.nan, np.nan
    require_finite_fit(family, x)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dof", [0.1, 1e8, "estimated"])
def test_the_ends_of_tails_with_gaps(dof: Any, kind: str) -> None:
    """Rows at 1e6 deviations, of any tails."""
    rng = np.random.default_rng(2)
    x = _real(rng)
    x[rng.random(x.shape) < 0.3] = np.nan
    x[3], x[4] = [1e6, np.nan, 0.0], [np.nan, -1e6, np.nan]
    model = StudentTMixture(2, covariance_type=kind, dof=dof, missing="integrate", random_state=0, max_iter=15).fit(x)
    assert np.isfinite(model.means_).all()
    assert np.isfinite(model.scales_).all()
    assert (model.dofs_ > 0).all()
    assert np.isfinite(model.score_samples(x)).all()
    assert np.isfinite(model.impute(x)).all()


def test_counts_of_a_thousand_million_beside_zeros_and_gaps() -> None:
    x = np.array([[0.0, 1e9], [0.0, np.nan], [np.nan, 1e9], [1e9, 0.0], [np.nan, 0.0], [1e9, np.nan]] * 6)
    for family in (Poisson(), NegativeBinomial()):
        require_finite_fit(family, x)


def test_categories_of_probability_zero_and_gaps() -> None:
    """Each component has a category that the other one never has; what is missing is drawn from those it has."""
    x = np.array([[0.0, 0.0], [0.0, np.nan], [np.nan, 0.0], [1.0, 1.0], [1.0, np.nan], [np.nan, 1.0]] * 8)
    require_finite_fit(Categorical(2), x)
