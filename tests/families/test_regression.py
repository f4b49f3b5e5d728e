"""Regressions as families: their laws, an M-step that never lowers the likelihood, and data that cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats
from scipy.special import softmax

from streamem import Mixture
from streamem.conformance import FamilySuite, ModelSuite
from streamem.conformance.families import _Case
from streamem.conformance.tolerance import require
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, DegenerateDataError, ImpossibleValueError, ParameterError, SchemaError
from streamem.families import (
    BinomialRegression,
    GaussianRegression,
    MultinomialRegression,
    PoissonRegression,
    Regression,
)
from streamem.initialization import STARTS
from streamem.models.regression_mixture import RegressionMixture

Array = NDArray[Any]
P = 3
CENTER = np.array([10.5, 2.0, -3.0])
SCALE = np.array([1.0, 2.0, 0.5])


def covariates_of(rng: np.random.Generator, n: int) -> Array:
    return np.array([10.0, 2.1, -3.1]) + rng.normal(size=(n, P)) * SCALE


def with_response(covariates: Array, response: Array, at: int) -> Array:
    return np.insert(covariates, at, response, axis=1)


@pytest.mark.parametrize("at", [0, P])
@pytest.mark.parametrize("reg_covar", [0.0, 0.05])
class TestGaussianRegression(FamilySuite):
    shared = frozenset({"center", "scale", "covariate_center", "covariate_scale"})

    @pytest.fixture(autouse=True)
    def _choose(self, at: int, reg_covar: float) -> None:
        self.at, self.family = at, GaussianRegression(at, reg_covar)

    def make_family(self) -> GaussianRegression:
        return self.family

    def make_params(self, rng: np.random.Generator) -> Params:
        frame = self.family.in_frame(np.array([50.0, *CENTER]), np.array([2.0, *SCALE]), 3)
        coef = rng.normal(size=(3, P))
        intercept = 50.0 - coef @ CENTER + rng.normal(size=3)
        return self.family.with_parameters(frame, coef, intercept, rng.uniform(0.5, 2.0, 3))

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        x = covariates_of(rng, n)
        return with_response(x, 50.0 + 0.5 * (x[:, 0] - 10.0) + rng.normal(size=n), self.at)

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        family = self.family
        change = scale * rng.normal(size=(3, P))
        coef = family.coef(params) + change
        intercept = family.intercept(params) - change @ CENTER + scale * rng.normal(size=3)
        return family.with_parameters(
            params, coef, intercept, family.scale(params) * np.exp(scale * rng.normal(size=3))
        )

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        family, response, covariates = self.family, x[:, self.at], np.delete(x, self.at, axis=1)
        mean = covariates @ family.coef(params).T + family.intercept(params)
        return scipy_stats.norm.logpdf(response[:, None], mean, family.scale(params))


class OneStep(FamilySuite):
    """Laws of regressions whose M-step is one Newton step."""

    shared = frozenset({"covariate_center", "covariate_scale", "reach"})
    single: Any

    def make_params(self, rng: np.random.Generator) -> Params:
        family: Any = self.make_family()
        reach = np.array([10.0, 2.1, -3.1]) + np.outer([-5.0, 5.0], SCALE)
        frame = family.in_frame(CENTER, SCALE, reach, 2)
        shape = np.shape(family.intercept(frame))
        coef = 0.4 * rng.normal(size=(*shape, P)) / SCALE
        return family.with_parameters(frame, coef, 0.3 * rng.normal(size=shape) - coef @ CENTER)

    def perturbed(self, params: Params, rng: np.random.Generator, scale: float) -> Params:
        change = scale * rng.normal(size=params.regression.shape)
        return params.replace(regression=params.regression + change)

    def test_the_maximum_beats_perturbations(self) -> None:
        """Steps on statistics taken anew never lower Σ r·log p, and end where nothing near or far is higher."""
        case = _Case(self)
        params, reached = case.params, -np.inf
        size = float(np.abs(case.resp * case.family.log_prob(params, case.x)).sum())
        for _ in range(60):
            stats = case.family.stats(params, case.x, case.resp)
            found = case.expected_log_likelihood(params, stats)
            require(found >= reached - case.rtol * size, f"a step lowers {reached} to {found}")
            params, reached = case.family.maximize(stats, params), found
        stats = case.family.stats(params, case.x, case.resp)
        for trial in range(60):
            other = self.perturbed(params, case.rng, 10.0 ** -(trial % 6))
            require(
                case.expected_log_likelihood(other, stats) <= reached + case.rtol * size,
                "parameters elsewhere are more likely than those where steps end",
            )

    @pytest.mark.parametrize("far", [0.0, 3.0, 30.0])
    def test_no_step_lowers_the_likelihood(self, far: float) -> None:
        """From wherever it begins: full Newton steps overshoot where responses are counts, and diverge where bits."""
        case = _Case(self)
        start = case.params.replace(regression=far * case.rng.normal(size=case.params.regression.shape))
        covariates, _ = case.family.parts(case.x)  # type: ignore[attr-defined]
        frame = (covariates - CENTER) / SCALE
        params = start.replace(reach=np.stack([frame.min(axis=0), frame.max(axis=0)]))
        reached = -np.inf
        for _ in range(100):
            stats = case.family.stats(params, case.x, case.resp)
            found = case.expected_log_likelihood(params, stats)
            require(found >= reached - 1e-9 * abs(reached), f"a step lowers {reached} to {found}")
            params, reached = case.family.maximize(stats, params), found


@pytest.mark.parametrize("exposed", [False, True])
class TestPoissonRegression(OneStep):
    """Also with columns of exposure and offset behind the response."""

    @pytest.fixture(autouse=True)
    def _choose(self, exposed: bool) -> None:
        self.exposed = exposed

    def make_family(self) -> PoissonRegression:
        return PoissonRegression(P, offset=-1, exposure=-2) if self.exposed else PoissonRegression()

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        x = covariates_of(rng, n)
        beside = np.column_stack([rng.uniform(0.5, 3.0, n), 0.3 * rng.normal(size=n)])
        more = self.known(np.column_stack([x, x[:, 0], beside])) if self.exposed else 1.0
        rows = with_response(x, rng.poisson(more * np.exp(0.5 * (x[:, 0] - 10.0))).astype(float), P)
        return np.column_stack([rows, beside]) if self.exposed else rows

    def known(self, x: Array) -> Array:
        return x[:, P + 1] * np.exp(x[:, P + 2])

    def make_far_row(self, x: Array) -> Array:
        return np.array([[*x[0, :P], 1e6, *x[0, P + 1 :]]])

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        family = self.make_family()
        rate = np.exp(x[:, :P] @ family.coef(params).T + family.intercept(params))
        rate = rate * self.known(x)[:, None] if self.exposed else rate
        return scipy_stats.poisson.logpmf(x[:, P, None], rate)


@pytest.mark.parametrize("trials", [1, 7, -1])
class TestBinomialRegression(OneStep):
    """Also with a last column of trials."""

    @pytest.fixture(autouse=True)
    def _choose(self, trials: int) -> None:
        self.trials = trials

    def make_family(self) -> BinomialRegression:
        return BinomialRegression(1, self.trials)

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        x = covariates_of(rng, n)
        chance = 1.0 / (1.0 + np.exp(-0.5 * (x[:, 0] - 10.0)))
        m = rng.integers(1, 9, n) if self.trials < 0 else np.full(n, self.trials)
        rows = with_response(x, rng.binomial(m, chance).astype(float), 1)
        return np.column_stack([rows, m]) if self.trials < 0 else rows

    def test_a_far_row_has_finite_log_prob(self) -> None:
        """There is no response a million spreads away."""

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        family = self.make_family()
        m = x[:, -1:] if self.trials < 0 else self.trials
        eta = np.delete(x, 1, axis=1)[:, :P] @ family.coef(params).T + family.intercept(params)
        return scipy_stats.binom.logpmf(x[:, 1, None], m, 1.0 / (1.0 + np.exp(-eta)))


class TestMultinomialRegression(OneStep):
    def make_family(self) -> MultinomialRegression:
        return MultinomialRegression(n_classes=4)

    def make_rows(self, rng: np.random.Generator, n: int) -> Array:
        x = covariates_of(rng, n)
        return with_response(x, np.clip(np.round(1.5 + x[:, 0] - 10.0 + 0.5 * rng.normal(size=n)), 0, 3), P)

    def test_a_far_row_has_finite_log_prob(self) -> None:
        """There is no response a million spreads away."""

    def reference_log_prob(self, params: Params, x: Array) -> Array:
        family = self.make_family()
        eta = np.einsum("np,kcp->nkc", x[:, :P], family.coef(params)) + family.intercept(params)
        every = np.concatenate([np.zeros((*eta.shape[:2], 1)), eta], axis=2)
        chances = softmax(every, axis=2)
        return np.log(chances[np.arange(len(x)), :, x[:, P].astype(int)])


FAMILIES: dict[str, Any] = {
    "gaussian": GaussianRegression(),
    "poisson": PoissonRegression(),
    "binomial": BinomialRegression(),
    "multinomial": MultinomialRegression(n_classes=3),
}


def rows_of(name: str, rng: np.random.Generator, n: int) -> Array:
    """Two regressions of opposite slope."""
    x = rng.normal(size=(n, 2))
    eta = np.where(rng.random(n) < 0.4, 1.5, -1.0) * x[:, 0] + 0.3
    if name == "gaussian":
        y = eta + 0.3 * rng.normal(size=n)
    elif name == "poisson":
        y = rng.poisson(np.exp(eta)).astype(float)
    elif name == "binomial":
        y = (rng.random(n) < 1.0 / (1.0 + np.exp(-eta))).astype(float)
    else:
        y = np.clip(np.round(1.0 + eta + 0.3 * rng.normal(size=n)), 0.0, 2.0)
    return np.column_stack([x, y])


@pytest.mark.parametrize("name", FAMILIES)
class TestMixtureOfRegressions(ModelSuite):
    shared = frozenset(
        f"components.{own}" for own in ("center", "scale", "covariate_center", "covariate_scale", "reach")
    )

    @pytest.fixture(autouse=True)
    def _choose(self, name: str) -> None:
        self.name = name

    def make_model(self) -> RegressionMixture:
        return RegressionMixture(FAMILIES[self.name], 2, STARTS["random"])

    def make_chunk(self, rng: np.random.Generator, n: int) -> Chunk:
        return Chunk(rows_of(self.name, rng, n))


def collinear(rng: np.random.Generator) -> Array:
    x = rng.normal(size=(50, 2))
    return np.column_stack([x, x[:, 0] - 2.0 * x[:, 1], x[:, 0]])


BAD: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "collinear": ("gaussian", collinear, DegenerateDataError, "covariate 2 is a linear combination of 0, 1 and the in"),
    "constant": (
        "poisson",
        lambda rng: np.column_stack([rng.normal(size=50), np.full(50, 3.0), np.ones(50)]),
        DegenerateDataError,
        "covariate 1 is 3 in all rows",
    ),
    "fewer rows than coefficients": (
        "gaussian",
        lambda rng: rng.normal(size=(3, 5)),
        DegenerateDataError,
        "3 rows with all values were found for 5 coefficients",
    ),
    "negative counts": (
        "poisson",
        lambda rng: np.column_stack([rng.normal(size=9), np.arange(9) - 1.0]),
        ImpossibleValueError,
        "column 1 of row 0 holds -1; the response of a Poisson regression is a count",
    ),
    "more successes than trials": (
        "binomial",
        lambda rng: np.column_stack([rng.normal(size=9), np.arange(9.0)]),
        ImpossibleValueError,
        "holds 2; the response of a binomial regression with trials=1 is a whole number from 0 to 1",
    ),
    "more successes than the trials of their row": (
        ("binomial", {"response": 1, "trials": -1}),
        lambda rng: np.column_stack(
            [rng.normal(size=9), np.arange(9.0), np.maximum(1.0, np.minimum(np.arange(9.0), 6))]
        ),
        ImpossibleValueError,
        "column 1 of row 7 holds 7; .* from 0 to the trials of its row",
    ),
    "no trials": (
        ("binomial", {"response": 1, "trials": -1}),
        lambda rng: np.column_stack([rng.normal(size=9), np.zeros(9), np.arange(9.0)]),
        ImpossibleValueError,
        "column 2 of row 0 holds 0; trials of a row are a whole number >= 1",
    ),
    "no exposure": (
        ("poisson", {"response": 1, "exposure": 2}),
        lambda rng: np.column_stack([rng.normal(size=9), np.zeros(9), 3.0 - np.arange(9.0)]),
        ImpossibleValueError,
        "column 2 of row 3 holds 0; an exposure of counts is a number > 0",
    ),
    "one column for two": (
        ("poisson", {"offset": -1}),
        lambda rng: rng.normal(size=(9, 3)),
        SchemaError,
        r"response and offset are columns \[2, 2\]; each needs one of its own",
    ),
    "half a category": (
        "multinomial",
        lambda rng: np.column_stack([rng.normal(size=9), np.arange(9.0) / 2.0]),
        ImpossibleValueError,
        "holds 0.5; the response of a multinomial regression is the code of a category",
    ),
    "no covariates": ("gaussian", lambda rng: rng.normal(size=(9, 1)), SchemaError, "at least one covariate"),
    "a gap": (
        "gaussian",
        lambda rng: np.where(np.arange(27).reshape(9, 3) == 5, np.nan, rng.normal(size=(9, 3))),
        DataError,
        'pass missing="integrate"',
    ),
}


@pytest.mark.variations(20, 20)
@pytest.mark.parametrize("name", BAD)
def test_data_that_cannot_be(name: str) -> None:
    told, make, error, words = BAD[name]
    distribution, settings = (told, {}) if isinstance(told, str) else told
    with pytest.raises(error, match=words):
        Mixture(Regression(distribution, **settings), 1).fit(make(np.random.default_rng(0)))


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ParameterError, match="distribution is 'gamma'; it must be one of"):
        Regression("gamma")
    with pytest.raises(ParameterError, match="unexpected keyword argument 'trials'"):
        Regression("poisson", trials=3)
    with pytest.raises(ParameterError, match="trials is 0"):
        Regression("binomial", trials=0)
    with pytest.raises(ParameterError, match="n_classes is 1"):
        Regression("multinomial", n_classes=1)
    with pytest.raises(SchemaError, match="response is 'y', and the columns have no names"):
        Mixture(Regression(response="y"), 1).fit(np.eye(3))


def test_covariates_far_from_zero_and_nearly_collinear_ones_are_no_singular_design() -> None:
    """Chunks are joined about their means: raw moments would keep no digit of 1e8 ± 1."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 1))
    near = np.column_stack([1e8 + x, x + 1e-4 * rng.normal(size=(400, 1))])
    data = np.column_stack([near, 2.0 * x + 0.1 * rng.normal(size=(400, 1))])
    fit = Mixture(GaussianRegression(), 1, chunk_bytes=3_000).fit(data)
    assert fit.report_.n_chunks > 3
    design = np.column_stack([np.ones(400), near - near.mean(axis=0)])
    expected = np.linalg.lstsq(design, data[:, 2], rcond=None)[0]
    assert GaussianRegression().coef(fit.params_)[0] == pytest.approx(expected[1:], rel=1e-6)
