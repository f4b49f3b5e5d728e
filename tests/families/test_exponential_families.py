"""Families that share the kernel of transformed columns: the laws, and SciPy's densities."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from streamem.conformance import FamilySuite, Quadrature
from streamem.conformance.tolerance import tolerance
from streamem.core.arrays import Params
from streamem.core.ports import Family
from streamem.families import (
    Beta,
    Exponential,
    ExponentialFamily,
    Gamma,
    Geometric,
    LogNormal,
    Multinomial,
    NegativeBinomial,
    VonMises,
    VonMisesFisher,
    Weibull,
)
from streamem.families.support import POSITIVE

Array = NDArray[Any]


class PositiveSuite(FamilySuite):
    """Families of two numbers > 0 for each component and column, moved by factors."""

    names: ClassVar[tuple[str, ...]]

    def make_params(self, rng: np.random.Generator) -> Params:
        return Params(**{name: rng.uniform(1.0, 5.0, (3, 2)) for name in self.names})

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return rng.gamma([2.0, 6.0], [2.0, 0.5], (n, 2))

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        return Params(**{name: params[name] * np.exp(scale * rng.normal(size=(3, 2))) for name in self.names})


class TestExponential(PositiveSuite):
    names = ("scales",)

    def make_family(self) -> Exponential:
        return Exponential()

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return scipy_stats.expon.logpdf(x[:, None, :], scale=params.scales).sum(axis=2)


class TestGamma(PositiveSuite):
    names = ("shapes", "scales")

    def make_family(self) -> Gamma:
        return Gamma()

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return scipy_stats.gamma.logpdf(x[:, None, :], params.shapes, scale=params.scales).sum(axis=2)


class TestLogNormal(PositiveSuite):
    names = ("shapes", "scales")

    def make_family(self) -> LogNormal:
        return LogNormal()

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return scipy_stats.lognorm.logpdf(x[:, None, :], params.shapes, scale=params.scales).sum(axis=2)

    def make_far_row(self, x: Array) -> Array:
        return np.exp(super().make_far_row(np.log(x) / 1e4))


class TestWeibull(PositiveSuite):
    names = ("shapes", "scales")

    def make_family(self) -> Weibull:
        return Weibull()

    def make_params(self, rng: np.random.Generator) -> Params:
        shapes, scales = rng.uniform(0.7, 3.0, (2, 3, 2))
        return Params(shapes=shapes, scales=scales, trials=1.1 * shapes)

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return scipy_stats.weibull_min.logpdf(x[:, None, :], params.shapes, scale=params.scales).sum(axis=2)

    def test_the_maximum_beats_perturbations(self) -> None:
        """An M-step is one Newton step; with fixed responsibilities none lowers the likelihood, and the top is met."""
        rng = np.random.default_rng(self.seed)
        family, params, x = self.make_family(), self.make_params(rng), self.make_rows(rng, self.n_rows)
        resp = rng.dirichlet(np.ones(3), size=len(x))

        def value(params: Params) -> float:
            return float((resp * family.log_prob(params, x)).sum())

        values = [value(params)]
        for _ in range(12):
            params = family.maximize(family.stats(params, x, resp), params)
            values.append(value(params))
        assert (np.diff(values) >= -1e-12 * np.abs(values[-1])).all()
        for trial in range(60):
            other = value(self.perturbed(params, rng, 10.0 ** -(trial % 6)))
            assert other <= values[-1] * (1 - 1e-13 * np.sign(values[-1]))


class TestBeta(PositiveSuite):
    names = ("alphas", "betas")

    def make_family(self) -> Beta:
        return Beta()

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return rng.beta([2.0, 0.7], [3.0, 4.0], (n, 2))

    def make_far_row(self, x: Array) -> Array:
        return np.array([[1e-300, 1.0 - 2.0**-53]])

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return scipy_stats.beta.logpdf(x[:, None, :], params.alphas, params.betas).sum(axis=2)


class TestNegativeBinomial(PositiveSuite):
    names = ("sizes", "means")

    def make_family(self) -> NegativeBinomial:
        return NegativeBinomial()

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return rng.negative_binomial([2.0, 6.0], [0.3, 0.01], (n, 2)).astype(np.float64)

    def make_far_row(self, x: Array) -> Array:
        return np.round(super().make_far_row(x))

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        p = params.sizes / (params.sizes + params.means)
        return scipy_stats.nbinom.logpmf(x[:, None, :], params.sizes, p).sum(axis=2)

    def test_the_maximum_beats_perturbations(self) -> None:
        """Of the expectation over hidden numbers L: never a loss, and in the end the maximum of the likelihood."""
        rng = np.random.default_rng(self.seed)
        family, params, x = self.make_family(), self.make_params(rng), self.make_rows(rng, self.n_rows)
        resp = rng.dirichlet(np.ones(3), size=len(x))

        def value(params: Params) -> float:
            return float((resp * family.log_prob(params, x)).sum())

        values = [value(params)]
        for _ in range(700):
            params = family.maximize(family.stats(params, x, resp), params)
            values.append(value(params))
        assert (np.diff(values) >= -1e-12 * np.abs(values[-1])).all()
        for trial in range(60):
            other = value(self.perturbed(params, rng, 10.0 ** -(trial % 6)))
            assert other <= values[-1] * (1 - 1e-12 * np.sign(values[-1]))


class TestGeometric(FamilySuite):
    def make_family(self) -> Geometric:
        return Geometric()

    def make_params(self, rng: np.random.Generator) -> Params:
        return Params(probabilities=rng.uniform(0.1, 0.6, (3, 2)))

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return rng.geometric([0.2, 0.5], (n, 2)).astype(np.float64)

    def make_far_row(self, x: Array) -> Array:
        return np.round(super().make_far_row(x))

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        odds = np.log(params.probabilities) - np.log1p(-params.probabilities)
        return Params(probabilities=1 / (1 + np.exp(-odds - scale * rng.normal(size=odds.shape))))

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return scipy_stats.geom.logpmf(x[:, None, :], params.probabilities).sum(axis=2)


class TestVonMises(FamilySuite):
    def make_family(self) -> VonMises:
        return VonMises()

    def make_params(self, rng: np.random.Generator) -> Params:
        return Params(locations=rng.uniform(-3.0, 3.0, (3, 2)), kappas=rng.uniform(0.5, 9.0, (3, 2)))

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return rng.vonmises([1.0, -2.5], [2.0, 9.0], (n, 2))

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        turned = params.locations + scale * rng.normal(size=(3, 2))
        return Params(locations=turned, kappas=params.kappas * np.exp(scale * rng.normal(size=(3, 2))))

    def test_a_far_row_has_finite_log_prob(self) -> None:
        """No angle is far; a million turns away is where it was."""
        params, x = Params(locations=[[1.0]], kappas=[[5.0]]), np.array([[0.25]])
        found = VonMises().log_prob(params, x + 2 * np.pi * 1e6)
        assert found == pytest.approx(VonMises().log_prob(params, x), abs=1e-8)

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        return scipy_stats.vonmises.logpdf(x[:, None, :], params.kappas, loc=params.locations).sum(axis=2)


class TestVonMisesFisher(FamilySuite):
    def make_family(self) -> VonMisesFisher:
        return VonMisesFisher()

    def make_params(self, rng: np.random.Generator) -> Params:
        return Params(directions=units(rng.normal(size=(3, 4))), kappas=rng.uniform(0.5, 9.0, 3))

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return units(rng.normal([1.0, 0.0, -0.5, 0.0], 1.0, (n, 4)))

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        turned = units(params.directions + scale * rng.normal(size=(3, 4)))
        return Params(directions=turned, kappas=params.kappas * np.exp(scale * rng.normal(size=3)))

    def test_a_far_row_has_finite_log_prob(self) -> None:
        """The opposite direction is the farthest."""
        params = Params(directions=[[0.0, 0.0, 1.0]], kappas=[1e6])
        assert VonMisesFisher().log_prob(params, np.array([[0.0, 0.0, -1.0]]))[0, 0] == pytest.approx(-2e6, rel=1e-4)

    def test_scaled_statistics_have_the_same_maximum(self) -> None:
        """And empty components are judged alike."""
        super().test_scaled_statistics_have_the_same_maximum()

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        laws = zip(params.directions, params.kappas, strict=True)
        return np.column_stack([scipy_stats.vonmises_fisher(mu, kappa).logpdf(x) for mu, kappa in laws])


class TestMultinomial(FamilySuite):
    def make_family(self) -> Multinomial:
        return Multinomial(trials=9)

    def make_params(self, rng: np.random.Generator) -> Params:
        return Params(probabilities=rng.dirichlet(np.full(4, 3.0), 3))

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        return np.array([rng.multinomial(trials, [0.1, 0.2, 0.3, 0.4]) for trials in rng.integers(0, 30, n)], float)

    def make_far_row(self, x: Array) -> Array:
        return np.array([[1e6, 0.0, 0.0, 0.0]])

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        moved = params.probabilities * np.exp(scale * rng.normal(size=(3, 4)))
        return Params(probabilities=moved / moved.sum(axis=1, keepdims=True))

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        trials = x.sum(axis=1)
        return np.column_stack([scipy_stats.multinomial.logpmf(x, trials, p) for p in params.probabilities])

    def quadrature(self, params: Params) -> Quadrature:
        x = np.array([row for row in itertools.product(range(8), repeat=4) if sum(row) == 7], dtype=np.float64)
        return Quadrature(x, np.ones(len(x)))


class InverseGaussian(ExponentialFamily):
    """A user's own: log p(x) = ½ log(λ/(2π x³)) − λ (x − μ)²/(2 μ² x)."""

    features = ("x", "1/x", "log x")
    bounds: ClassVar[Any] = {"means": (0.0, np.inf), "shapes": (0.0, np.inf)}
    support = POSITIVE
    needed = "waiting times are numbers > 0"

    def natural(self, params: Params) -> Array:
        shapes, means = params.shapes, params.means
        return np.stack([-0.5 * shapes / means**2, -0.5 * shapes, np.full_like(shapes, -1.5)], axis=-1)

    def log_partition(self, params: Params) -> Array:
        return -params.shapes / params.means - 0.5 * np.log(params.shapes / (2 * np.pi))

    def from_means(self, means: Array, overall: Array, previous: Params | None) -> Params:
        return Params(means=means[..., 0], shapes=1.0 / (means[..., 1] - 1.0 / means[..., 0]))

    def mean(self, params: Params) -> Array:
        return np.asarray(params.means)

    def draw(self, params: Params, component: int, count: int, rng: np.random.RandomState) -> Array:
        means, shapes = (np.asarray(params[name][component]) for name in ("means", "shapes"))
        return np.asarray(rng.wald(means, shapes, size=(count, len(means))))


class TestInverseGaussian(PositiveSuite):
    names = ("means", "shapes")

    def make_family(self) -> Family:
        return InverseGaussian()

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        m, s = params.means, params.shapes
        return scipy_stats.invgauss.logpdf(x[:, None, :], m / s, scale=s).sum(axis=2)


def units(x: Array) -> Array:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def test_the_logarithm_is_that_of_c() -> None:
    """To a unit in the last place, over the range of float64."""
    from streamem.machine.compiled import compiled
    from streamem.machine.logarithm import log_positive

    @compiled
    def logarithms(x: Array, out: Array) -> None:
        for i in range(x.size):
            out[i] = log_positive(x[i])

    x = np.exp(np.random.default_rng(0).uniform(-740.0, 709.0, 20_000))
    x = np.append(x, [5e-324, 2.0**-1022, 1.0, 1.0 + 2.0**-52, 1.0 - 2.0**-53, np.finfo(np.float64).max, np.nan])
    out = np.empty_like(x)
    logarithms(x, out)
    assert np.allclose(out, np.log(x), rtol=tolerance(np.float64, 0) / 8, atol=1e-300, equal_nan=True)
