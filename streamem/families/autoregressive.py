"""Gaussians whose mean depends on the steps before: vector autoregression, one for every component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import DataError, ParameterError
from streamem.core.faults import flags, missing, shaped
from streamem.core.free_form import FreeForm
from streamem.families.anchor import location_and_spread
from streamem.families.gaussian.faults import anchor_faults, matrix_faults
from streamem.families.residual_gaussian import FULL, ResidualGaussian
from streamem.kernels.tiling import block_rows

Array = NDArray[Any]


class AutoregressiveGaussian(ResidualGaussian):
    """y_t = c_k + Σ_l A_kl y_{t−l} + ε with ε ~ N(0, Σ_k): Markov-switching vector autoregression (Hamilton 1994, §22).

    Parameters
    ----------
    lag : int >= 1
        p, how many earlier steps matter. Rows are [y_t, y_{t−1}, …, y_{t−p}], d·(p + 1) values: open data with this
        lag. The first p steps of a sequence have no row.
    reg_covar : float >= 0
        Added to the diagonal of every Σ_k, in squared units of the data, as `Gaussian` does.

    Notes
    -----
    Parameters, in the frame ỹ = (y − center) / scale: regression (K, d, 1 + d·p) is [c, A_1, …, A_p]; noise and its
    precision factor (K, d, d); center and scale (d,); empty and floored (K,). In units of the data they are
    `intercepts`, `coefficients` and `covariances`, and `with_parameters` sets them.

    Statistics are second moments of [1, row] in that frame, so the M-step is weighted least squares. Directions in
    which the earlier steps do not vary get no coefficient; an eigenvalue of Σ_k below 2⁻⁴⁰ of the data's variance is
    raised to it; a component without rows keeps its parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Mixture
    >>> from streamem.families import AutoregressiveGaussian
    >>> y, rng = np.zeros(2000), np.random.default_rng(0)
    >>> for t in range(1, 2000): y[t] = 1 + 0.5 * y[t - 1] + rng.normal()
    >>> family = AutoregressiveGaussian(lag=1)
    >>> mix = Mixture(family, 1).fit(np.column_stack([y[1:], y[:-1]]))
    >>> family.coefficients(mix.params_).round(1).ravel(), family.intercepts(mix.params_).round(0).ravel()
    (array([0.5]), array([1.]))
    """

    def __init__(self, lag: int = 1, reg_covar: float = 0.0) -> None:
        if isinstance(lag, bool) or not isinstance(lag, int | np.integer) or lag < 1:
            raise ParameterError(f"lag is {lag!r}; it must be an integer >= 1")
        if not reg_covar >= 0:
            raise ParameterError(f"reg_covar is {reg_covar}; it must be a number >= 0")
        self.lag = int(lag)
        self.reg_covar = float(reg_covar)

    # --- capabilities ------------------------------------------------------------------------------------------------

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params:
        """The anchor from a sample of rows, and white noise about it for every component."""
        d = self._dimension(x.shape[1])
        center, deviation = location_and_spread(x[:, :d], weight)
        deviation = np.maximum(deviation, np.sqrt(self.reg_covar))
        deviation[deviation == 0] = 1.0
        return self.at_anchor(center, np.exp2(np.round(np.log2(deviation))), n_components)

    def at_anchor(self, center: Array, scale: Array, n_components: int) -> Params:
        """White noise at a given anchor (d,), (d,); scales are powers of two."""
        d = len(center)
        regression = np.zeros((n_components, d, 1 + d * self.lag))
        noise = np.repeat(np.eye(d)[None], n_components, axis=0)
        empty = np.zeros(n_components, dtype=np.bool_)
        return self._assemble(Params(center=center, scale=scale), regression, noise, empty)

    def block_rows(self, params: Params) -> int:
        """Rows a block."""
        return block_rows(len(params.regression), len(params.center) * (1 + self.lag))

    def faults(self, params: Params, n_components: int, n_features: int) -> list[str]:
        """What contradicts itself."""
        names = ("regression", "noise", "noise_precision_cholesky", "center", "scale", "empty", "floored")
        if found := missing(params, names):
            return found
        k, d = n_components, n_features // (1 + self.lag)
        found = shaped("regression", params.regression, (k, d, 1 + d * self.lag)) + anchor_faults(params, d)
        found += flags("empty", params.empty, (k,)) + flags("floored", params.floored, (k,))
        factors = params.noise_precision_cholesky
        return found or matrix_faults("noise", params.noise, "noise_precision_cholesky", factors, (k, d, d), 0.0)

    def free_form(self, params: Params, n_components: int) -> FreeForm:
        """Intercepts (K, d), coefficients (K, p, d, d) and covariances (K, d, d), in units of the data."""
        values = {
            "intercepts": self.intercepts(params),
            "coefficients": self.coefficients(params),
            "covariances": self.covariances(params),
        }
        return FreeForm(values, symmetric=frozenset({"covariances"}))

    def from_free_form(self, values: Mapping[str, Array], params: Params) -> Params:
        """The components that these numbers tell, about the same anchor."""
        return self.with_parameters(params, values["intercepts"], values["coefficients"], values["covariances"])

    # --- the data's own units ----------------------------------------------------------------------------------------

    def intercepts(self, params: Params) -> Array:
        """c (K, d)."""
        moved = np.einsum("kpij,j->ki", self.coefficients(params), params.center)
        return params.center + params.scale * params.regression[:, :, 0] - moved

    def coefficients(self, params: Params) -> Array:
        """A (K, p, d, d), of which [k, l − 1, i, j] says how y_t[i] depends on y_{t−l}[j]."""
        (k, d, _), ratio = params.regression.shape, params.scale[:, None] / params.scale
        return ratio * params.regression[:, :, 1:].reshape(k, d, self.lag, d).transpose(0, 2, 1, 3)

    def with_parameters(self, params: Params, intercepts: Array, coefficients: Array, covariances: Array) -> Params:
        """The anchor of `params` with other components (K, d), (K, p, d, d), (K, d, d), in units of the data.

        Raises
        ------
        ParameterError : shapes that do not belong together
        """
        c, a, s = (np.asarray(value, dtype=np.float64) for value in (intercepts, coefficients, covariances))
        (k, d), p = c.shape, self.lag
        if len(params.center) != d or a.shape != (k, p, d, d) or s.shape != (k, d, d):
            raise ParameterError(
                f"intercepts {c.shape}, coefficients {a.shape} and covariances {s.shape} do not belong together; for "
                f"{len(params.center)} variables and lag {p} they are (K, d), (K, {p}, d, d) and (K, d, d)"
            )
        first = (c + np.einsum("kpij,j->ki", a, params.center) - params.center) / params.scale
        anchored = (a * (params.scale / params.scale[:, None])).transpose(0, 2, 1, 3).reshape(k, d, p * d)
        regression = np.concatenate([first[:, :, None], anchored], axis=2)
        return self._assemble(params, regression, FULL.scaled(s, 1.0 / params.scale), np.zeros(k, dtype=np.bool_))

    # --- inner -------------------------------------------------------------------------------------------------------

    def _anchor(self, params: Params) -> tuple[Array, Array]:
        """Centers and scales (d·(p + 1),) of a whole row with its lags."""
        return np.tile(params.center, 1 + self.lag), np.tile(params.scale, 1 + self.lag)

    def _dimension(self, n_features: int) -> int:
        """d of rows with so many features."""
        if n_features % (1 + self.lag):
            raise DataError(
                f"rows have {n_features} features; with lag={self.lag} they are [y_t, y_(t-1), …], a multiple of "
                f"{1 + self.lag}: open the data with lag={self.lag}"
            )
        return n_features // (1 + self.lag)
