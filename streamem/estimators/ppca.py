"""`PPCA`: principal components as a density, so that rows may lack values."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamem.estimators.faces.factors import FactorFace
from streamem.estimators.factor_analysis import FactorAnalysis
from streamem.estimators.factor_rows import FACTORS, no_classes
from streamem.estimators.mixtures import MixtureEstimator

Array = NDArray[Any]


class PPCA(MixtureEstimator):
    """Probabilistic principal component analysis by EM, out of core: factor analysis with one noise for all columns.

    Parameters
    ----------
    n_components : int or None, default None
        Directions q, fewer than columns; None takes all but one.
    tol, max_iter, missing, random_state, warm_start, verbose, stopping, n_threads, memory_limit, chunk_bytes
        As in `FactorAnalysis`. With ``missing="integrate"`` rows may hold NaN.
    noise_variance_init : float, optional
        Variance of the noise to start from.

    Attributes
    ----------
    components_ : (q, d) principal directions, each as long as √(its variance − noise_variance_): x = mean_ +
        z·components_ + noise, so that lengths and directions are those of `to_sklearn().components_` once divided
    explained_variance_ : (q,) variance along each direction: that of `sklearn.decomposition.PCA` · (n − 1)/n
    noise_variance_ : float, the mean variance along the other directions
    mean_ : (d,)
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianMixture`

    Notes
    -----
    Of complete rows the maximum is known in closed form (Tipping & Bishop 1999, eqs. 7–8), which EM reaches without a
    covariance of columns by columns.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import PPCA
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(5000, 1)) @ [[3.0, 4.0, 1.0]] + rng.normal(size=(5000, 3))
    >>> X[rng.random(X.shape) < 0.2] = np.nan
    >>> pca = PPCA(1, missing="integrate").fit(X)
    >>> pca.components_.round(0).tolist(), round(pca.noise_variance_, 1)
    ([[3.0, 4.0, 1.0]], 1.0)
    """

    face: ClassVar[FactorFace] = FactorFace("isotropic")
    structure = FACTORS
    instead_of_noise = FactorAnalysis.instead_of_noise

    n_init = FactorAnalysis.n_init
    init_params = FactorAnalysis.init_params
    rotation = None

    components_: Array
    noise_variance_: float
    mean_: Array

    def __init__(
        self,
        n_components: int | None = None,
        *,
        tol: float = 1e-6,
        max_iter: int = 1000,
        noise_variance_init: float | None = None,
        missing: str = "error",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        stopping: str = "aitken",
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.n_components = n_components  # type: ignore[assignment]
        self.tol = tol
        self.max_iter = max_iter
        self.noise_variance_init = noise_variance_init
        self.missing = missing
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.stopping = stopping
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes

    predict = predict_proba = fit_predict = property(no_classes)
    transform = FactorAnalysis.transform
    inverse_transform = FactorAnalysis.inverse_transform
    get_covariance = FactorAnalysis.get_covariance
    get_precision = FactorAnalysis.get_precision
    to_sklearn = FactorAnalysis.to_sklearn
    from_sklearn: Any = classmethod(vars(FactorAnalysis)["from_sklearn"].__func__)
    _n_features_out = FactorAnalysis._n_features_out

    @property
    def explained_variance_(self) -> Array:
        """Variance along each direction (q,), noise included."""
        if "components_" not in self.__dict__:
            raise AttributeError("explained_variance_: call fit, load a model, or set the parameters by hand")
        return np.asarray((np.asarray(self.components_) ** 2).sum(axis=1) + self.noise_variance_)
