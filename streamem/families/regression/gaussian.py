"""Linear regression with normal errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.faults import flags, missing, powers_of_two, shaped
from streamem.core.free_form import FreeForm
from streamem.core.ports import Kernel, PlainKernel
from streamem.core.slopes import Slopes
from streamem.core.stats import Stats
from streamem.families.anchor import location_and_spread
from streamem.families.gaussian.faults import matrix_faults
from streamem.families.regression.response import ResponseColumn, require_response, whole_rows
from streamem.families.residual_gaussian import ResidualGaussian
from streamem.kernels.tiling import block_rows

Array = NDArray[Any]

FRAME = ("center", "scale", "covariate_center", "covariate_scale")


class GaussianRegression(ResidualGaussian, ResponseColumn):
    """y = intercept_k + x·coef_k + ε with ε ~ N(0, scale_k²): linear regressions (Quandt 1972; DeSarbo & Cron 1988).

    Parameters
    ----------
    response : index or name of the column y, by default the last; all others are covariates x (p,)
    reg_covar : float >= 0
        Added to every variance scale_k², in squared units of the response.

    Notes
    -----
    Parameters, in the frame of which center (1,), scale (1,), covariate_center and covariate_scale (p,) tell the origin
    and the unit: regression (K, 1, 1 + p); noise, the variance, and its precision factor (K, 1, 1); empty and floored
    (K,). In units of the data they are `coef`, `intercept` and `scale`, and `with_parameters` sets them.

    Statistics are second moments of [1, row] in that frame, so the M-step is weighted least squares. Directions in
    which the rows of a component do not vary get no coefficient; a variance below 2⁻⁴⁰ of that of the response is
    raised to it ("floored"); a component without rows keeps its parameters. Covariates that are collinear in all rows
    are refused.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Mixture
    >>> from streamem.families import GaussianRegression
    >>> x = np.arange(10.0)
    >>> family = GaussianRegression()
    >>> fit = Mixture(family, 1).fit(np.column_stack([x, 3 * x + np.where(x % 2, 1.0, 2.0)]))
    >>> family.coef(fit.params_).round(2).tolist(), family.intercept(fit.params_).round(2).tolist()
    ([[2.97]], [1.64])
    """

    needed = "the response of a Gaussian regression is a finite number"

    def __init__(self, response: int | str = -1, reg_covar: float = 0.0) -> None:
        if not reg_covar >= 0:
            raise ParameterError(f"reg_covar is {reg_covar}; it must be a number >= 0")
        self.response = require_response(response)
        self.reg_covar = float(reg_covar)

    def can_be(self, response: Array) -> Array:
        """All numbers."""
        return np.ones(len(response), dtype=np.bool_)

    def expected(self, params: Params, x: Array) -> Array:
        """intercept_k + x·coef_k (n, K), whatever rows (n, p + 1) hold in place of the response."""
        frame = (self.covariates(x) - params.covariate_center) / params.covariate_scale
        own = params.regression[:, 0]
        return np.asarray(params.center[0] + params.scale[0] * (own[:, 0] + frame @ own[:, 1:].T))

    def drawn(self, params: Params, x: Array, component: Array, rng: np.random.RandomState) -> Array:
        """Normal responses (n,) about intercept_k + x·coef_k."""
        mean = np.take_along_axis(self.expected(params, x), component[:, None], axis=1)[:, 0]
        return np.asarray(mean + self.scale(params)[component] * rng.standard_normal(len(x)))

    # --- the Family port ---------------------------------------------------------------------------------------------

    def log_prob(self, params: Params, x: Array) -> Array:
        """Log-densities (n, K) of responses given covariates, for rows x (n, p + 1), in nats.

        They are 0 of rows that say nothing.
        """
        if not self.integrates:
            return super().log_prob(params, x)
        whole, out = whole_rows(*self.parts(x)), np.zeros((len(x), len(params.noise)))
        out[whole] = self.complete().log_prob(params, x[whole])
        return out

    def stats(self, params: Params, x: Array, resp: Array) -> Stats:
        """Second moments of [1, row] about the anchor of `params`, weighted by resp (n, K)."""
        if not self.integrates:
            return super().stats(params, x, resp)
        whole = whole_rows(*self.parts(x))
        return self.complete().stats(params, x[whole], resp[whole])

    def kernel(self, params: Params, dtype: DTypeLike = np.float64) -> Kernel:
        """Whitened residuals, in float64 whatever the rows; of rows that may lack values, in NumPy."""
        return PlainKernel(self, params) if self.integrates else super().kernel(params, dtype)

    # --- capabilities ------------------------------------------------------------------------------------------------

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params:
        """The frame from a sample of rows (n, p + 1), and for every component a constant response of some spread."""
        covariates, response = self.parts(x)
        self.reach(covariates)
        center, deviation = location_and_spread(np.column_stack([response, covariates]), weight)
        deviation[0] = max(deviation[0], np.sqrt(self.reg_covar))
        deviation[deviation == 0] = 1.0
        scale = np.exp2(np.round(np.log2(deviation)))
        return self.in_frame(center, scale, n_components)

    def in_frame(self, center: Array, scale: Array, n_components: int) -> Params:
        """Constants of variance 1 in a frame (1 + p,), (1 + p,) of response and covariates; scales are powers of 2."""
        frame = Params(center=center[:1], scale=scale[:1], covariate_center=center[1:], covariate_scale=scale[1:])
        nothing = np.zeros(n_components, dtype=np.bool_)
        return self._assemble(frame, np.zeros((n_components, 1, len(center))), np.ones((n_components, 1, 1)), nothing)

    def block_rows(self, params: Params) -> int:
        """Rows a block."""
        return block_rows(len(params.regression), 1 + len(params.covariate_center))

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """What contradicts itself."""
        if found := missing(params, ("regression", "noise", "noise_precision_cholesky", *FRAME, "empty", "floored")):
            return found
        k, p = n_components, n_features - 1
        found = shaped("regression", params.regression, (k, 1, 1 + p))
        for name, size in zip(FRAME, (1, 1, p, p), strict=True):
            found += (powers_of_two if name.endswith("scale") else shaped)(name, params[name], (size,))
        found += flags("empty", params.empty, (k,)) + flags("floored", params.floored, (k,))
        factors = params.noise_precision_cholesky
        return found or matrix_faults("noise", params.noise, "noise_precision_cholesky", factors, (k, 1, 1), 0.0)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Coefficients, intercepts and standard deviations."""
        return ("coef", "intercept", "scale")

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """coef (K, p), intercept (K,) and scale (K,), in units of the data."""
        return FreeForm({"coef": self.coef(params), "intercept": self.intercept(params), "scale": self.scale(params)})

    def from_free_form(self, values: Mapping[str, Array], params: Params) -> Params:
        """The components that these numbers tell, in the same frame."""
        return self.with_parameters(params, values["coef"], values["intercept"], values["scale"])

    def slopes(self, params: Params) -> Slopes | None:
        """Derivatives in closed form; of rows that may lack values, differences."""
        return None if self.integrates else GaussianSlopes(self, params)

    # --- the data's own units ----------------------------------------------------------------------------------------

    def coef(self, params: Params) -> Array:
        """(K, p) by how much the response changes with each covariate."""
        return np.asarray(params.regression[:, 0, 1:] * (params.scale[0] / params.covariate_scale))

    def intercept(self, params: Params) -> Array:
        """(K,) responses where all covariates are 0."""
        moved = self.coef(params) @ params.covariate_center
        return np.asarray(params.center[0] + params.scale[0] * params.regression[:, 0, 0] - moved)

    def scale(self, params: Params) -> Array:
        """(K,) standard deviations of the errors."""
        return np.asarray(params.scale[0] * np.sqrt(params.noise[:, 0, 0]))

    def with_parameters(self, params: Params, coef: Array, intercept: Array, scale: Array) -> Params:
        """The frame of `params` with other components: (K, p), (K,), (K,) in units of the data.

        Raises
        ------
        ParameterError : shapes that do not belong together, or standard deviations that are not > 0
        """
        a, c, s = (np.asarray(value, dtype=np.float64) for value in (coef, intercept, scale))
        k, p = len(c), len(params.covariate_center)
        if a.shape != (k, p) or s.shape != (k,) or not (s > 0).all():
            raise ParameterError(
                f"coef {a.shape}, intercept {c.shape} and scale {s.shape} do not belong together; (K, {p}), (K,) and "
                "(K,) are needed, with standard deviations > 0"
            )
        first = (c + a @ params.covariate_center - params.center[0]) / params.scale[0]
        own = np.column_stack([first, a * (params.covariate_scale / params.scale[0])])
        noise = ((s / params.scale[0]) ** 2)[:, None, None]
        return self._assemble(params, own[:, None], noise, np.zeros(k, dtype=np.bool_))

    # --- inner -------------------------------------------------------------------------------------------------------

    def _dimension(self, n_features: int) -> int:
        """One response; refuses rows without covariates."""
        self.column(n_features)
        return 1

    def _anchor(self, params: Params) -> tuple[Array, Array]:
        at = self.column(1 + len(params.covariate_center))
        center = np.insert(params.covariate_center, at, params.center[0])
        return center, np.insert(params.covariate_scale, at, params.scale[0])

    def _anchor_of(self, params: Params) -> dict[str, Array]:
        return {name: params[name] for name in FRAME}

    def _in_columns(self, whitened: Array) -> Array:
        return whitened[:, :, self._order(whitened.shape[2])]

    def _moments(self, stats: Stats) -> Array:
        back = np.argsort(self._order(stats.moments.shape[1]))
        return np.asarray(stats.moments[:, back[:, None], back])

    def _order(self, width: int) -> Array:
        """Where each column of [1, row] is in [1, y, x]."""
        at = self.column(width - 1)
        covariates = np.arange(2, width)
        return np.concatenate([[0], np.insert(covariates, at, 1)])


class GaussianSlopes(Slopes):
    """Derivatives of log-densities by coef, intercept and scale."""

    def __init__(self, family: GaussianRegression, params: Params) -> None:
        self._family, self._scale = family, family.scale(params)
        self._coef, self._intercept = family.coef(params), family.intercept(params)

    def first(self, component: int, x: Array) -> Mapping[str, Array]:
        """(n, p), (n, 1) and (n, 1)."""
        covariates, residual, s = self._residual(component, x)
        by_mean = (residual / s)[:, None]
        return {"coef": by_mean * covariates, "intercept": by_mean, "scale": ((residual**2 - 1.0) / s)[:, None]}

    def second(self, component: int, x: Array, weight: Array) -> Mapping[tuple[str, str], Array]:
        """Sums over rows, by each pair of names."""
        covariates, residual, s = self._residual(component, x)
        one = np.column_stack([covariates, np.ones(len(x))])
        means = -(one * weight[:, None]).T @ one / s**2
        mixed = -2.0 * one.T @ (weight * residual) / s**2
        spread = float(weight @ (1.0 - 3.0 * residual**2)) / s**2
        return {
            ("coef", "coef"): means[:-1, :-1],
            ("coef", "intercept"): means[:-1, -1:],
            ("intercept", "intercept"): means[-1:, -1:],
            ("coef", "scale"): mixed[:-1, None],
            ("intercept", "scale"): mixed[-1:, None],
            ("scale", "scale"): np.array([[spread]]),
        }

    def _residual(self, component: int, x: Array) -> tuple[Array, Array, float]:
        """Covariates (n, p), residuals (n,) in standard deviations, and that of the component."""
        covariates, response = self._family.parts(x)
        s = float(self._scale[component])
        mean = covariates @ self._coef[component] + self._intercept[component]
        return covariates, (response - mean) / s, s
