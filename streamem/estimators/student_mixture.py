"""`StudentTMixture`: a mixture that outliers do not move, with the names of `GaussianMixture`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.estimators.faces.student_mixture import StudentTMixtureFace
from streamem.estimators.mixtures import MixtureEstimator

Array = NDArray[Any]


class StudentTMixture(MixtureEstimator):
    """Mixture of multivariate t distributions fitted by EM, out of core: rows far out count little.

    Parameters
    ----------
    n_components : int, default 1
    covariance_type : {"full", "tied", "diag", "spherical"}, default "full"
        Of the scale matrices; a covariance is `scales_` · ν/(ν − 2) where ν, the degrees of freedom, exceed 2.
    dof : {"estimated", "tied"}, float > 0 or (K,), default "estimated"
        Degrees of freedom: estimated for each component, estimated as one number for all, or fixed. Few make heavy
        tails; infinitely many are a Gaussian. Estimated ones stay within 0.1 and 2²⁰.
    tol : float, default 1e-3
        In nats per row. See `stopping`.
    reg_covar : float, default 1e-6
        Added to the diagonal of every scale matrix, in squared units of the data.
    max_iter : int, default 100
        Most iterations (passes over the data) of one start.
    weights_init (K,), means_init (K, d), scales_init, dofs_init (K,) : given starting values, shaped as the attributes
        Degrees of freedom start at 10 by default.
    stopping : {"change", "aitken"}, default "aitken"
        As in `GaussianMixture`. Degrees of freedom converge slowly, so the gain still to come is predicted by default.
    n_init, init_params, random_state, warm_start, verbose, verbose_interval
    missing, weight_concentration_prior, n_threads, memory_limit, chunk_bytes
        As in `GaussianMixture`.
    noise : bool, default False
        As in `GaussianMixture`: for rows that lie anywhere, where heavy tails are for rows far from their component.

    Attributes
    ----------
    weights_ (K,), means_ (K, d) : in units of the data; float32 if fitted on a float32 array that holds all of them
    scales_ : scale matrices, (K, d, d) full, (d, d) tied, (K, d) diag, (K,) spherical
    dofs_ : (K,) degrees of freedom
    noise_weight_, noise_box_ : as in `GaussianMixture`, with noise
    converged_, n_iter_, lower_bound_, lower_bounds_, report_ : as in `GaussianMixture`
    n_features_in_, feature_names_in_ : as in scikit-learn

    Notes
    -----
    Peel & McLachlan (2000), with the parameter-expanded M-step of Liu, Rubin & Wu (1998): see `StudentT`. Empty and
    collapsed components are treated as those of `GaussianMixture`.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import StudentTMixture
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-4, 1, 500), rng.normal(4, 1, 500), rng.uniform(-20, 20, 50)])[:, None]
    >>> robust = StudentTMixture(n_components=2, random_state=0).fit(X)
    >>> np.sort(robust.means_.round(0).ravel()).tolist()
    [-4.0, 4.0]
    """

    face: ClassVar[StudentTMixtureFace] = StudentTMixtureFace()

    means_: Array
    scales_: Array
    dofs_: Array

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        dof: str | float | ArrayLike = "estimated",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        scales_init: ArrayLike | None = None,
        dofs_init: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        stopping: str = "aitken",
        missing: str = "error",
        noise: bool = False,
        weight_concentration_prior: float | ArrayLike | None = None,
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.dof = dof
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.scales_init = scales_init
        self.dofs_init = dofs_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.stopping = stopping
        self.missing = missing
        self.noise = noise
        self.weight_concentration_prior = weight_concentration_prior
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes
