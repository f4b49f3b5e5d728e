"""Regressions without a statistic of fixed size: what they share is one Newton step a pass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.extrapolation import MOST_FALL, shrunk
from streamem.core.faults import flags, missing, powers_of_two, shaped
from streamem.core.free_form import FreeForm
from streamem.core.numerics import EPS
from streamem.core.slopes import Slopes
from streamem.core.stats import Stats
from streamem.families.anchor import location_and_spread
from streamem.families.empty_components import empty_components, told_empty
from streamem.families.regression.newton import damped_step
from streamem.families.regression.response import ResponseColumn, whole_rows

Array = NDArray[Any]

LEAST_CURVATURE = 2.0**-40
"""Added to what a row bends its log-likelihood: steps stay finite where rows are certain, and are shorter at most."""

CERTAIN, CERTAIN_A_ROW = 0.5, 2e-6
"""Nats that all rows, and each, may miss of a likelihood of 1: less than a single surprise, or what `tol` leaves."""

FRAME = ("covariate_center", "covariate_scale")


class Beside(NamedTuple):
    """What rows tell beside response and covariates.

    Attributes
    ----------
    offset : (n,), or (1,) of all rows, added to linear predictors
    trials : (n,), or (1,) of all rows, of which a binomial response counts successes
    """

    offset: Array
    trials: Array


NOTHING_BESIDE = Beside(np.zeros(1), np.ones(1))


class GeneralizedRegression(ResponseColumn):
    """A response whose distribution depends on C linear predictors η = intercept + x·coef, by its canonical link.

    Parameters, in a frame with covariate_center and covariate_scale (p,): regression (K, C, 1 + p); reach (2, p), the
    smallest and largest covariates in that frame; empty (K,). Statistics are the expected information and the
    right-hand side of iteratively reweighted least squares, at the parameters of the pass.
    """

    estimates = "coefficients"

    @abstractmethod
    def predictors(self) -> int:
        """C."""

    def assumed_predictors(self) -> int:
        """C, or what is projected for a survey that will find it."""
        return self.predictors()

    def predictors_in(self, params: Params) -> int:
        """C of parameters."""
        return self.predictors()

    @abstractmethod
    def log_likelihood(self, eta: Array, response: Array, beside: Beside) -> Array:
        """(n, K) of responses (n,) at linear predictors (n, K, C), in nats."""

    @abstractmethod
    def residual(self, eta: Array, response: Array, beside: Beside) -> Array:
        """(n, C) derivatives of the log-likelihood by the predictors (n, C)."""

    @abstractmethod
    def curvature(self, eta: Array, beside: Beside) -> Array:
        """(n, C, C) minus its second derivatives."""

    @abstractmethod
    def mean(self, eta: Array, beside: Beside) -> Array:
        """Expected response (n, K), at linear predictors (n, K, C)."""

    @abstractmethod
    def first_predictors(self, response: Array, weight: Array, beside: Beside) -> Array:
        """(C,) predictors without covariates that explain responses (n,)."""

    @abstractmethod
    def draws(self, mean: Array, beside: Beside, rng: np.random.RandomState) -> Array:
        """Responses (n,) of expected ones, as `mean` tells them of one component."""

    def drawn(self, params: Params, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """Responses (n,) drawn given covariates of rows (n, d), each from its component (n,)."""
        beside, out = self.beside_of(x), np.full(len(x), np.nan)
        mean = self.expected(params, x)[np.arange(len(x)), component]
        known = np.isfinite(mean.reshape(len(x), -1)).all(axis=1)
        own = Beside(*(values if len(values) == 1 else values[known] for values in beside))
        out[known] = self.draws(mean[known], own, rng)
        return out

    def beside_of(self, x: Array) -> Beside:
        """What rows (n, d) tell beside response and covariates."""
        return NOTHING_BESIDE

    # --- the Family port ---------------------------------------------------------------------------------------------

    def expected(self, params: Params, x: Array) -> Array:
        """Expected response (n, K) under every component, whatever rows (n, d) hold in its place."""
        beside = self.beside_of(x)
        return self.mean(_predicted(params, self._design_of(params, self.covariates(x)), beside), beside)

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-probabilities (n, K) of responses given covariates, for rows x (n, p + 1), in nats.

        They are 0 of rows that say nothing.
        """
        covariates, response = self.parts(x)
        if not self.integrates:
            return self._log_prob(params, covariates, response, self.beside_of(x))
        whole, out = whole_rows(covariates, response), np.zeros((len(x), len(params.regression)))
        out[whole] = self._log_prob(params, covariates[whole], response[whole], self.beside_of(x[whole]))
        return out

    def _log_prob(self, params: Params, covariates: Array, response: Array, beside: Beside) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):  # −∞ and NaN are judged by models
            eta = _predicted(params, self._design_of(params, covariates), beside)
            return self.log_likelihood(eta, response, beside)

    def stats(self, params: Params, x: Array, resp: Array) -> Stats:
        """weight (K,), information (K, q, q) and working (K, q), q = C·(1 + p), weighted by resp (n, K)."""
        covariates, response = self.parts(x)
        if self.integrates:
            whole = whole_rows(covariates, response)
            covariates, response, resp, x = covariates[whole], response[whole], resp[whole], x[whole]
        design, beside = self._design_of(params, covariates), self.beside_of(x)
        with np.errstate(over="ignore", invalid="ignore"):
            found = [self._sums(own, design, response, resp[:, k], beside) for k, own in enumerate(params.regression)]
        information, working = (np.stack(parts) for parts in zip(*found, strict=True))
        return Stats(weight=resp.sum(axis=0), information=information, working=working)

    def _sums(
        self, coefficients: Array, design: Array, response: Array, weight: Array, beside: Beside
    ) -> tuple[Array, Array]:
        """Information (q, q) and right-hand side (q,) of one component with coefficients (C, 1 + p)."""
        own, (c, width) = design @ coefficients.T, coefficients.shape
        eta = own + beside.offset[:, None]
        bend = self.curvature(eta, beside) + LEAST_CURVATURE * np.eye(c)
        bend[weight == 0] = 0.0  # what overflows in a row that does not count
        residual = np.where(weight[:, None] == 0, 0.0, self.residual(eta, response, beside))
        bend *= weight[:, None, None]
        information = np.empty((c, width, c, width))
        for i in range(c):
            for j in range(i + 1):
                block = (design * bend[:, i, j, None]).T @ design
                information[i, :, j], information[j, :, i] = block, block.T
        working = np.einsum("nij,nj->ni", bend, own) + weight[:, None] * residual
        q = c * width
        return information.reshape(q, q), (working.T @ design).reshape(q)

    def maximize(self, stats: Stats, previous: Params) -> Params:
        """One Newton step from the parameters of the statistics, as long as it is sure to raise the likelihood."""
        empty = empty_components(stats.weight)
        weight = np.where(empty, 1.0, stats.weight)
        information = np.where(empty[:, None, None], 0.0, stats.information / weight[:, None, None])
        working = np.where(empty[:, None], 0.0, stats.working / weight[:, None])
        found = damped_step(information, working, np.asarray(previous.regression), np.asarray(previous.reach))
        return previous.replace(regression=np.where(empty[:, None, None], previous.regression, found), empty=empty)

    # --- capabilities ------------------------------------------------------------------------------------------------

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params:
        """The frame from a sample of rows (n, p + 1), and for every component what explains them without covariates."""
        covariates, response = self.parts(x)
        reach = self.reach(covariates)
        center, deviation = location_and_spread(covariates, weight)
        deviation[deviation == 0] = 1.0
        whole = whole_rows(covariates, response)
        counted = np.ones(len(x)) if weight is None else np.asarray(weight, dtype=np.float64)
        first = self.first_predictors(response[whole], counted[whole], self.beside_of(x[whole]))
        frame = self.in_frame(center, np.exp2(np.round(np.log2(deviation))), reach, n_components)
        regression = np.zeros((n_components, len(first), 1 + len(center)))
        regression[:, :, 0] = first
        return frame.replace(regression=regression)

    def in_frame(self, center: Array, scale: Array, reach: Array, n_components: int) -> Params:
        """Predictors of 0 in a frame (p,), (p,), of covariates that reach from and to (2, p)."""
        return Params(
            regression=np.zeros((n_components, self.predictors(), 1 + len(center))),
            covariate_center=center,
            covariate_scale=scale,
            reach=(reach - center) / scale,
            empty=np.zeros(n_components, dtype=np.bool_),
        )

    def project(self, stats: Stats, valid: Stats, previous: Any) -> Stats:
        """Information that is positive definite where that of rows is."""
        least = np.asarray(valid.information) / MOST_FALL
        size = np.einsum("kii->k", np.abs(np.asarray(valid.information)))

        def possible(found: Stats) -> NDArray[np.bool_]:
            lowest = np.linalg.eigvalsh(np.asarray(found.information) - least)[:, 0]
            return np.asarray(lowest >= -16 * EPS * size)

        return shrunk(stats, valid, (np.asarray(stats.weight), np.asarray(valid.weight)), possible)

    def degenerate(self, params: Params) -> Mapping[str, list[int]]:
        """Components without rows, which kept their parameters."""
        return told_empty(params)

    def no_maximum(self, params: Params, log_likelihood: float, weight: float) -> str:
        """Covariates that tell all responses without error: complete separation (Albert & Anderson 1984)."""
        if log_likelihood < -max(CERTAIN, CERTAIN_A_ROW * weight):
            return ""
        return (
            f"the covariates tell all responses without error (log-likelihood {log_likelihood:.3g} of {weight:g} "
            "rows), so it has no maximum, and coefficients have grown as long as the fit went on. Their signs say "
            "something, their sizes do not: leave covariates out that separate the responses, or look whether they "
            "hold these"
        )

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """What contradicts itself."""
        if found := missing(params, ("regression", *FRAME, "reach", "empty")):
            return found
        k, p = n_components, n_features - 1 - len(self.beside())
        found = shaped("regression", params.regression, (k, self.predictors_in(params), 1 + p))
        found += shaped("covariate_center", params.covariate_center, (p,)) + shaped("reach", params.reach, (2, p))
        found += powers_of_two("covariate_scale", params.covariate_scale, (p,))
        if not found and (params.reach[0] > params.reach[1]).any():
            found.append("reach holds a smallest value above the largest")
        return found + flags("empty", params.empty, (k,))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Coefficients and intercepts."""
        return ("coef", "intercept")

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """coef and intercept, in units of the data."""
        return FreeForm({"coef": self.coef(params), "intercept": self.intercept(params)})

    def from_free_form(self, values: Mapping[str, Array], params: Params) -> Params:
        """The components that these numbers tell, in the same frame."""
        return self.with_parameters(params, values["coef"], values["intercept"])

    def slopes(self, params: Params) -> Slopes | None:
        """Derivatives in closed form; of rows that may lack values, differences."""
        return None if self.integrates else GeneralizedSlopes(self, params)

    def free_parameters(self, params: Params) -> int:
        """An intercept and p coefficients, for each predictor of each component."""
        return int(np.size(params.regression))

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """What statistics of a block of rows take in NumPy."""
        c = self.assumed_predictors()
        return super().workspace_bytes(n_components * c, 2 * n_features + 2 * c * c)

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """Information and right-hand sides in float64."""
        q = self.assumed_predictors() * n_features
        return 8 * n_components * (1 + q + q * q)

    # --- the data's own units ----------------------------------------------------------------------------------------

    def coef(self, params: Params) -> Array:
        """(K, p) by how much the predictor changes with each covariate; (K, C, p) of several predictors."""
        found = np.asarray(params.regression[:, :, 1:] / params.covariate_scale)
        return self._shown(found)

    def intercept(self, params: Params) -> Array:
        """(K,) predictors where all covariates are 0; (K, C) of several."""
        moved = (params.regression[:, :, 1:] / params.covariate_scale) @ params.covariate_center
        return self._shown(np.asarray(params.regression[:, :, 0] - moved))

    def with_parameters(self, params: Params, coef: Array, intercept: Array) -> Params:
        """The frame of `params` with other components: shaped as `coef` and `intercept`, in units of the data.

        Raises
        ------
        ParameterError : shapes that do not belong together
        """
        c, p = self.predictors_in(params), len(params.covariate_center)
        shape = () if self.single else (c,)
        a, b = (np.asarray(value, dtype=np.float64) for value in (coef, intercept))
        k = len(b)
        if a.shape != (k, *shape, p) or b.shape != (k, *shape):
            raise ParameterError(
                f"coef {a.shape} and intercept {b.shape} do not belong together; {('K', *shape, p)} and "
                f"{('K', *shape)} are needed"
            )
        a, b = a.reshape(k, c, p), b.reshape(k, c)
        first = b + a @ params.covariate_center
        regression = np.concatenate([first[:, :, None], a * params.covariate_scale], axis=2)
        return params.replace(regression=regression, empty=np.zeros(k, dtype=np.bool_))

    single = True
    """Whether there is one predictor, which then has no axis."""

    # --- inner -------------------------------------------------------------------------------------------------------

    def _shown(self, values: Array) -> Array:
        return np.asarray(values[:, 0]) if self.single else values

    def _design_of(self, params: Params, covariates: Array) -> Array:
        """[1, anchored covariates] (n, 1 + p)."""
        out = np.empty((len(covariates), 1 + len(params.covariate_center)))
        out[:, 0] = 1.0
        np.subtract(covariates, params.covariate_center, out=out[:, 1:])
        out[:, 1:] /= params.covariate_scale
        return out


def _predicted(params: Params, design: Array, beside: Beside) -> Array:
    """Linear predictors (n, K, C)."""
    k, c, width = params.regression.shape
    found = np.asarray(design @ params.regression.reshape(k * c, width).T).reshape(len(design), k, c)
    return found + beside.offset[:, None, None]


class GeneralizedSlopes(Slopes):
    """Derivatives of log-probabilities by coef and intercept."""

    def __init__(self, family: GeneralizedRegression, params: Params) -> None:
        k, c, width = params.regression.shape
        self._family = family
        self._coef = family.coef(params).reshape(k, c, width - 1)
        self._intercept = family.intercept(params).reshape(k, c)

    def first(self, component: int, x: Array) -> Mapping[str, Array]:
        """(n, C·p) and (n, C)."""
        covariates, response = self._family.parts(x)
        beside = self._family.beside_of(x)
        residual = self._family.residual(self._eta(component, covariates, beside), response, beside)
        by_coef = residual[:, :, None] * covariates[:, None, :]
        return {"coef": by_coef.reshape(len(x), -1), "intercept": residual}

    def second(self, component: int, x: Array, weight: Array) -> Mapping[tuple[str, str], Array]:
        """Sums over rows, by each pair of names."""
        covariates, beside = self._family.covariates(x), self._family.beside_of(x)
        bend = -weight[:, None, None] * self._family.curvature(self._eta(component, covariates, beside), beside)
        (_, p), c = covariates.shape, bend.shape[1]
        both = np.einsum("nij,np,nq->ipjq", bend, covariates, covariates, optimize=True)
        mixed = np.einsum("nij,np->ipj", bend, covariates)
        return {
            ("coef", "coef"): both.reshape(c * p, c * p),
            ("coef", "intercept"): mixed.reshape(c * p, c),
            ("intercept", "intercept"): bend.sum(axis=0),
        }

    def _eta(self, component: int, covariates: Array, beside: Beside) -> Array:
        own = covariates @ self._coef[component].T + self._intercept[component]
        return np.asarray(own + beside.offset[:, None])
