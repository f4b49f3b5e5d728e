"""Gaussian components with a normal–inverse-Wishart prior, under scikit-learn's names."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.stats import Stats
from streamem.core.validation import numbers
from streamem.families.gaussian.prior import GaussianPrior
from streamem.families.gaussian.with_prior import PriorGaussian

Array = NDArray[Any]


class NormalWishart(PriorGaussian):
    """Gaussian components with a normal–inverse-Wishart prior of their means and covariances.

    The prior has the density |Σ|^(−ν/2) exp(−½ tr Ψ Σ⁻¹ − ½ β (m − μ)ᵀ Σ⁻¹ (m − μ)), up to a constant: it counts as
    much as β rows at the mean μ, and ν rows of covariance Ψ/ν.

    Parameters
    ----------
    covariance_type, reg_covar : as in `Gaussian`
    mean_prior : μ, (d,) or (K, d), or a number
    mean_precision_prior : β >= 0, a number or (K,), in rows; None is 0, no prior of the means
    covariance_prior : Ψ, in the shape of one covariance: (d, d), (d,) or (); or of all
        Symmetric, positive semidefinite, in squared units of the data times rows; None is 0.
    degrees_of_freedom_prior : ν >= 0, in rows; None is 0
    total_weight : float or None
        Σ weights of the rows that the prior is weighed against; a fit finds it in one pass beforehand.

    Notes
    -----
    Names and M-step are those of scikit-learn's `BayesianGaussianMixture`: for given responsibilities means and
    covariances are m = (β μ + n x̄)/(β + n) and Σ = (Ψ + n S + n β/(n + β) (x̄ − μ)(x̄ − μ)ᵀ)/(ν + n) (Bishop 2006, eqs.
    10.60–10.63; there of a "full" covariance), the mode of the posterior with degrees of freedom counted so. A
    component without rows gets what the prior says.

    Raises
    ------
    ParameterError : a precision without a mean, degrees of freedom without a covariance, other shapes or signs

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import Mixture
    >>> from streamem.families import Gaussian, NormalWishart
    >>> x = np.array([[1.0], [2.0], [3.0]])
    >>> fit = Mixture(NormalWishart("diag", mean_prior=0.0, mean_precision_prior=1.0)).fit(x)
    >>> Gaussian("diag").means(fit.params_).tolist()  # 6 / (3 + 1)
    [[1.5]]
    """

    def __init__(
        self,
        covariance_type: str = "full",
        reg_covar: float = 0.0,
        *,
        mean_prior: ArrayLike | None = None,
        mean_precision_prior: ArrayLike | None = None,
        covariance_prior: ArrayLike | None = None,
        degrees_of_freedom_prior: float | None = None,
        total_weight: float | None = None,
    ) -> None:
        if mean_precision_prior is not None and mean_prior is None:
            raise ParameterError("mean_precision_prior needs mean_prior, the mean that it draws components to")
        if degrees_of_freedom_prior is not None and covariance_prior is None:
            raise ParameterError("degrees_of_freedom_prior needs covariance_prior, the covariance that it stands for")
        mean = _numbers(0.0 if mean_prior is None else mean_prior, "mean_prior")
        pull = _counts(mean_precision_prior, "mean_precision_prior")
        scatter = _numbers(0.0 if covariance_prior is None else covariance_prior, "covariance_prior")
        count = _counts(degrees_of_freedom_prior, "degrees_of_freedom_prior")
        if covariance_type in ("full", "tied") and scatter.ndim == 0 and scatter != 0:
            raise ParameterError(f"covariance_prior is a number; a matrix (d, d) is needed for {covariance_type!r}")
        if covariance_type in ("full", "tied") and scatter.ndim >= 2:
            _require_matrices(scatter)
        elif (scatter < 0).any():
            raise ParameterError(f"covariance_prior has values down to {scatter.min()}; variances are >= 0")
        super().__init__(
            covariance_type, reg_covar, GaussianPrior(mean, pull, scatter, count), "nothing", 1, total_weight
        )
        self._sized = (0, 0)

    @property
    def takes_row_noise(self) -> bool:
        """True: the M-step is of values, however rows show them."""
        return True

    def maximize(self, stats: Stats, previous: Params) -> Params:
        """Means and covariances of rows and prior together."""
        return super(NormalWishart, self._for(previous)).maximize(stats, previous)

    def _penalties(self, params: Params, weight: Array) -> Array:
        return super(NormalWishart, self._for(params))._penalties(params, weight)

    def _prior_terms(self, params: Params, weight: Array) -> float:
        return super(NormalWishart, self._for(params))._prior_terms(params, weight)

    def _for(self, params: Params) -> Self:
        """This with its prior in the shapes of K components in d features.

        Raises
        ------
        ParameterError : a prior of other shapes
        """
        k, d = params.means.shape
        if self._sized == (k, d):
            return self
        matrix = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[self.covariance_type]
        counted = {"full": (k, 1, 1), "tied": (), "diag": (k, d), "spherical": (k,)}[self.covariance_type]
        if self.prior.count.ndim:
            raise ParameterError("degrees_of_freedom_prior is an array; one number is needed")
        other = copy.copy(self)
        other.prior = GaussianPrior(
            _broadcast(self.prior.means, "mean_prior", (k, d)),
            _broadcast(self.prior.means_weight, "mean_precision_prior", (k,)),
            _broadcast(self.prior.scatter, "covariance_prior", matrix),
            _broadcast(self.prior.count, "degrees_of_freedom_prior", counted),
        )
        other._sized = (k, d)
        return other


def _numbers(value: ArrayLike, name: str) -> Array:
    values = numbers(value, name)
    if not np.isfinite(values).all():
        raise ParameterError(f"{name} holds values that are not finite")
    return values


def _counts(value: ArrayLike | None, name: str) -> Array:
    values = _numbers(0.0 if value is None else value, name)
    if (values < 0).any():
        raise ParameterError(f"{name} has values down to {values.min()}; they must be >= 0, in rows (0 is no prior)")
    return values


def _require_matrices(matrices: Array) -> None:
    if matrices.shape[-1] != matrices.shape[-2] or not np.array_equal(matrices, np.swapaxes(matrices, -1, -2)):
        raise ParameterError(f"covariance_prior {matrices.shape} must hold symmetric matrices (d, d)")
    lowest, size = float(np.linalg.eigvalsh(matrices).min()), float(np.abs(matrices).max())
    if lowest < -1e-12 * size:
        raise ParameterError(f"covariance_prior must be positive semidefinite; its smallest eigenvalue is {lowest:.6g}")


def _broadcast(values: Array, name: str, shape: tuple[int, ...]) -> Array:
    try:
        return np.array(np.broadcast_to(values, shape))
    except ValueError:
        raise ParameterError(f"{name} has shape {values.shape}; what broadcasts to {shape} is needed") from None
