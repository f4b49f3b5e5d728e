"""`MixtureOfFactorAnalyzers`: groups of rows, each of which a few factors explain."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.estimators.faces.factor_mixture import FactorMixtureFace
from streamem.estimators.factor_rows import FACTOR_MIXTURE
from streamem.estimators.mixtures import MixtureEstimator

Array = NDArray[Any]


class MixtureOfFactorAnalyzers(MixtureEstimator):
    """Mixture of Gaussians whose covariances are a few factors and noise, fitted by EM, out of core.

    Between the "diag" and the "full" covariance of `GaussianMixture`: d·q numbers a component instead of d²/2, and as
    many operations a row (Ghahramani & Hinton 1996; McLachlan & Peel 2000, ch. 8).

    Parameters
    ----------
    n_components : int, default 1
        Components K.
    n_factors : int, default 1
        Factors q of each component, at most the number of columns.
    factor_noise : {"diagonal", "isotropic"}, default "diagonal"
        A noise variance for each column, or one for all of them (mixtures of probabilistic principal components;
        Tipping & Bishop 1999).
    tol : float, default 1e-3
        In nats per row. See `stopping`.
    reg_covar : float, default 1e-6
        Added to every variance of the noise, in squared units of the data.
    max_iter : int, default 200
    missing : {"error", "integrate"}, default "error"
        As in `FactorAnalysis`.
    n_init, init_params, random_state, warm_start, verbose, stopping, noise, weight_concentration_prior
    n_threads, memory_limit, chunk_bytes
        As in `GaussianMixture`, but `stopping` is "aitken".

    Attributes
    ----------
    weights_ : (K,)
    means_ : (K, d)
    components_ : (K, q, d) loadings of each component, in the rotation of `FactorAnalysis`
    noise_variance_ : (K, d), or (K,) of isotropic noise
    noise_weight_, noise_box_ : as in `GaussianMixture`, with ``noise=True``
    converged_, n_iter_, lower_bound_, lower_bounds_, objective_, report_, n_features_in_ : as in `GaussianMixture`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import MixtureOfFactorAnalyzers
    >>> rng = np.random.default_rng(0)
    >>> one = rng.normal(size=(500, 1)) @ [[2.0, 2.0, 0.0]]
    >>> other = rng.normal(size=(500, 1)) @ [[0.0, 2.0, -2.0]] + 9.0
    >>> X = np.concatenate([one, other]) + 0.5 * rng.normal(size=(1000, 3))
    >>> model = MixtureOfFactorAnalyzers(2, n_factors=1, random_state=0).fit(X)
    >>> model.weights_.round(2).tolist(), model.components_.shape
    ([0.5, 0.5], (2, 1, 3))
    """

    face: ClassVar[FactorMixtureFace] = FactorMixtureFace()
    structure = FACTOR_MIXTURE

    means_: Array
    components_: Array
    noise_variance_: Array

    def __init__(
        self,
        n_components: int = 1,
        n_factors: int = 1,
        *,
        factor_noise: str = "diagonal",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 200,
        n_init: int = 1,
        init_params: str = "kmeans",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        stopping: str = "aitken",
        missing: str = "error",
        noise: bool = False,
        weight_concentration_prior: float | ArrayLike | None = None,
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_factors = n_factors
        self.factor_noise = factor_noise
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.stopping = stopping
        self.missing = missing
        self.noise = noise
        self.weight_concentration_prior = weight_concentration_prior
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes
