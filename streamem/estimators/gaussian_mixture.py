"""`GaussianMixture`: scikit-learn's class, for data of any size."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import DegenerateDataError, ModelFileError, ParameterError
from streamem.core.state import State
from streamem.estimators.given_starts import check_means, check_precisions, check_weights, precisions_to_covariances
from streamem.estimators.sampling import SamplingMixture
from streamem.families import Gaussian
from streamem.models import Mixture

Array = NDArray[Any]


class GaussianMixture(SamplingMixture):
    """Gaussian mixture fitted by EM, out of core.

    Parameters, attributes and methods are those of `sklearn.mixture.GaussianMixture`; `fit`, `predict`,
    `predict_proba`, `score_samples`, `score`, `bic` and `aic` also take paths, tables and Dask collections.

    Parameters
    ----------
    n_components : int, default 1
    covariance_type : {"full", "tied", "diag", "spherical"}, default "full"
    tol : float, default 1e-3
        In nats per row. See `stopping`.
    reg_covar : float, default 1e-6
        Added to the diagonal of every covariance, in squared units of the data.
    max_iter : int, default 100
        Most iterations (passes over the data) of one start.
    n_init : int, default 1
        Starts; the one with the highest log-likelihood is kept.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default "kmeans"
        How a uniform sample of the rows is split for the start. The sample is all rows if they fit the budget.
    weights_init (K,), means_init (K, d), precisions_init : given starting values, shaped as the attributes
    random_state : int, RandomState or None
    warm_start : bool, default False
        Go on from the last fit; the stopping rule remembers it if the data is the same.
    verbose : int, default 0
        0 shows passes that take long, 1 and more shows every pass.
    verbose_interval : int, default 10
        Accepted for compatibility; progress is shown by time.
    stopping : {"change", "aitken"}, default "change"
        "change" stops when the last gain was below `tol`: scikit-learn's rule, so that the same start and tolerance
        give its number of iterations and its numbers. "aitken" stops when the gain still to come, predicted by Aitken's
        rule, is below `tol` twice running: a slowly converging run is not taken for a converged one.
    n_threads : int or None
        None uses all cores that this process may use. The result does not depend on it.
    memory_limit : str, int or None
        What a call may take on top of what the process holds: "1GiB" or bytes. None is half of what is free. Up to half
        of what a fit does not need of it keeps decoded chunks for the next pass; None keeps at most 96 MiB of them.
    chunk_bytes : str, int or None
        Target size of a chunk in memory; None is 2 MiB, or 1/64 of an explicit memory limit. Arrays, in memory or
        ``.npy``, of more than 64 chunks then have chunks of up to 8 MiB, the same limit allowing.

    Attributes
    ----------
    weights_ (K,), means_ (K, d) : in units of the data; float32 if fitted on a float32 array
        All attributes are float64 where float32 does not hold some of them: squares of 1e20 or 1e-30.
    covariances_, precisions_, precisions_cholesky_ : (K, d, d) full, (d, d) tied, (K, d) diag, (K,) spherical
    converged_ : bool
    n_iter_ : int, iterations of the best start
    lower_bound_ : float, exact log-likelihood per row at the returned parameters, in nats
    lower_bounds_ : list, log-likelihood per row after each iteration of the best start
    report_ : FitReport, what every pass took
    n_features_in_, feature_names_in_ : as in scikit-learn

    Notes
    -----
    An *empty* component (less than 1e-12 of all weight) keeps its mean and covariance; a *collapsed* one has its
    covariance raised to a floor of 2⁻⁴⁰ of the data's variance. Both are counted in `report_.events`. A start that has
    collapsed already, with ``reg_covar=0``, is an error.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianMixture
    >>> X = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 0.0], [10.0, 2.0], [10.0, 4.0], [10.0, 0.0]])
    >>> gm = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> gm.means_.round(6).tolist()
    [[10.0, 2.0], [1.0, 2.0]]
    >>> gm.predict([[0.0, 0.0], [12.0, 3.0]]).tolist()
    [1, 0]
    """

    precisions_: Array
    precisions_cholesky_: Array

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        stopping: str = "change",
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.stopping = stopping
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes

    # --- what the bases ask ------------------------------------------------------------------------------------------

    def _make_family(self) -> Gaussian:
        if isinstance(self.reg_covar, bool) or not isinstance(self.reg_covar, int | float | np.number):
            raise ParameterError(f"reg_covar is {self.reg_covar!r}; it must be a number >= 0")
        return Gaussian(self.covariance_type, float(self.reg_covar))

    def _row_products(self, n_features: int) -> int:
        """A product for each number of the statistics."""
        self._check_hyperparameters()
        return self._make_family().statistics_bytes(int(self.n_components), n_features) // 8

    def _published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        family, components = self._make_family(), params.components
        exact = {
            "weights_": np.array(params.weights),
            "means_": family.means(components),
            "covariances_": family.covariances(components),
            "precisions_": family.precisions(components),
            "precisions_cholesky_": family.precisions_cholesky(components),
        }
        held = dtype if self._holds(dtype, exact) else np.dtype(np.float64)
        return {name: np.asarray(value).astype(held) for name, value in exact.items()}

    def _holds(self, dtype: np.dtype[Any], exact: Mapping[str, Array]) -> bool:
        """Whether attributes stay finite and positive in `dtype`: squares of data that float32 holds may not."""
        family, shape, limits = self._make_family(), exact["means_"].shape, np.finfo(dtype)
        if dtype == np.float64 or not np.abs(exact["means_"]).max() <= limits.max:
            return bool(dtype == np.float64)
        squares = [family.variances(exact[name], *shape) for name in ("covariances_", "precisions_")]
        factors = family.variances(exact["precisions_cholesky_"], *shape)
        return all(limits.tiny <= values.min() and values.max() <= limits.max for values in (*squares, factors))

    def _params(self) -> Params:
        """As everywhere, once the attributes fit the hyperparameters."""
        self._require_shapes()
        return super()._params()

    def _require_shapes(self) -> None:
        k, d = self.n_components, np.shape(self.means_)[-1] if np.ndim(self.means_) else 0
        kinds = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}
        factor = kinds[self._make_family().covariance_type]
        for name, needed in (("weights_", (k,)), ("means_", (k, d)), ("precisions_cholesky_", factor)):
            found = np.shape(np.asarray(getattr(self, name, 0.0)))
            if found != needed:
                raise ParameterError(
                    f"{name} has shape {found}, and n_components={k}, covariance_type={self.covariance_type!r} need "
                    f"{needed}: set these back to what was fitted, or fit anew"
                )
        state: State | None = getattr(self, "_state", None)
        if state is not None and state.params.components.means.shape == (k, d):
            self._require_fitting_shapes()  # of as many components as features, "diag" looks like "tied"

    def _rebuilt(self) -> Params:
        """From weights_, means_ and precisions_cholesky_ alone, as scikit-learn predicts."""
        family = self._make_family()
        weights, means = (np.asarray(a, dtype=np.float64) for a in (self.weights_, self.means_))
        factor = np.asarray(self.precisions_cholesky_, dtype=np.float64)
        precisions = factor @ np.swapaxes(factor, -1, -2) if self.covariance_type in ("full", "tied") else factor**2
        covariances = precisions_to_covariances(self.covariance_type, precisions)
        center = weights @ means
        spread = weights @ (means - center) ** 2 + np.mean(family.variances(covariances, *means.shape), axis=0)
        components = family.at_anchor(center, family.scale_of(np.sqrt(spread)), len(means))
        components = family.with_covariances(family.with_means(components, means), covariances)
        return Params(weights=weights, components=components)

    def _n_parameters(self) -> int:
        k, d = self.means_.shape
        return self._make_family().n_parameters(k, d) + k - 1

    def _check_given(self, n_features: int) -> None:
        check_weights(self.weights_init, self.n_components)
        check_means(self.means_init, self.n_components, n_features)
        check_precisions(self.precisions_init, self.covariance_type, self.n_components, n_features)

    def _given_wholly(self) -> bool:
        return all(value is not None for value in self._given())

    def _make_start(self, model: Mixture, sample: Chunk, rng: np.random.RandomState) -> Params:
        crude = model.crude(sample) if self._given_wholly() else None
        params = crude if crude is not None else model.init(sample, rng)
        if crude is None:
            self._require_regular(params)
        family, components = self._make_family(), params.components
        if self.means_init is not None:
            components = family.with_means(components, np.asarray(self.means_init, dtype=np.float64))
        if self.precisions_init is not None:
            precisions = np.asarray(self.precisions_init, dtype=np.float64)
            covariances = precisions_to_covariances(self.covariance_type, precisions)
            components = family.with_covariances(components, covariances)
        weights = params.weights if self.weights_init is None else np.asarray(self.weights_init, dtype=np.float64)
        return Params(weights=weights, components=components)

    def _require_regular(self, params: Params) -> None:
        floored = self._make_family().degenerate(params.components)["floored"]
        if self.reg_covar == 0 and self.precisions_init is None and floored:
            raise DegenerateDataError(
                "Fitting the mixture model failed because some components have ill-defined empirical covariance (for "
                "instance caused by singleton or collapsed samples). Try to decrease the number of components, "
                f"increase reg_covar, or scale the input data. Components without spread at the start: {floored}; "
                "look for constant or duplicated columns"
            )

    def _run_key(self) -> dict[str, Any]:
        given = [np.asarray(v, dtype=np.float64).tobytes() if v is not None else b"" for v in self._given()]
        return {
            **super()._run_key(),
            "covariance_type": self.covariance_type,
            "reg_covar": float(self.reg_covar),
            "given start": f"{zlib.crc32(b'|'.join(given)):08x}",
        }

    def _given(self) -> tuple[ArrayLike | None, ...]:
        return self.weights_init, self.means_init, self.precisions_init

    def _check_loaded(self, params: Params, n_features: int) -> None:
        k, d = self.n_components, n_features
        if np.shape(params.components.means) != (k, d):  # before anything of that size is made
            raise ModelFileError(f"the file's means do not fit {k} components of {d} features")
        like = Params(
            weights=np.empty(k),
            components=self._make_family().at_anchor(np.zeros(d), np.ones(d), k),
        ).flatten()
        found = params.flatten()
        wrong = [name for name, value in like.items() if name not in found or found[name].shape != value.shape]
        wrong += [name for name in ("active",) if name in found and found[name].shape != ()]
        if wrong:
            raise ModelFileError(f"the file's {', '.join(wrong)} do not fit {k} components of {d} features")
