"""`GMMHMM`: states that emit mixtures of Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ModelFileError, ParameterError
from streamem.core.validation import numbers
from streamem.estimators.hmm_covariances import own_covariances
from streamem.estimators.hmm_drawing import SamplingHMM, in_short
from streamem.families import Gaussian, MixtureFamily

Array = NDArray[Any]


PARTS = ("diag", "full", "spherical")


class GMMHMM(SamplingHMM):
    """Hidden Markov model whose states emit mixtures of Gaussians, fitted by EM, out of core.

    Parameters
    ----------
    n_components : int, default 1
        States K.
    n_mix : int, default 1
        Gaussians M of each state.
    covariance_type : {"diag", "full", "spherical"}, default "diag"
    reg_covar : float, default 0
        Added to the diagonal of every covariance, in squared units of the data; 0 is maximum likelihood with a floor.
    params, init_params : str, default "stmcw"
        Which parts are updated, and which are made anew by `fit`: s startprob, t transmat, m means, c covars,
        w weights; the last three together only.
    start, startprob_prior, transmat_prior, algorithm, random_state, n_iter, tol, n_init, topology, tied_transitions
    verbose, stopping, n_threads, memory_limit, chunk_bytes
        As in `GaussianHMM`.

    Attributes
    ----------
    startprob_ (K,), transmat_ (K, K), weights_ (K, M), means_ (K, M, d)
    covars_ : (K, M, d, d) full, (K, M, d) diag, (K, M) spherical
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianHMM`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GMMHMM
    >>> rng = np.random.default_rng(0)
    >>> low, high = rng.choice([0.0, 2.0], 200), rng.choice([20.0, 24.0], 200)
    >>> X = (np.concatenate([low, high]) + 0.1 * rng.normal(size=400))[:, None]
    >>> hmm = GMMHMM(2, n_mix=2, random_state=0).fit(X)
    >>> sorted(hmm.means_.ravel().round().astype(int).tolist())
    [0, 2, 20, 24]
    """

    letters: ClassVar[dict[str, str]] = {"weights_": "w", "means_": "m", "covars_": "c"}
    weights_: Array
    means_: Array
    covars_: Array

    def __init__(
        self,
        n_components: int = 1,
        n_mix: int = 1,
        covariance_type: str = "diag",
        *,
        reg_covar: float = 0.0,
        startprob_prior: ArrayLike = 1.0,
        transmat_prior: ArrayLike = 1.0,
        algorithm: str = "viterbi",
        random_state: int | np.random.RandomState | None = None,
        n_iter: int = 100,
        tol: float = 1e-4,
        verbose: int = 0,
        params: str = "stmcw",
        init_params: str = "stmcw",
        start: str = "kmeans",
        n_init: int = 1,
        topology: Any = "ergodic",
        tied_transitions: Sequence[Sequence[int]] | None = None,
        stopping: str = "aitken",
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_mix = n_mix
        self.covariance_type = covariance_type
        self.reg_covar = reg_covar
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.algorithm = algorithm
        self.random_state = random_state
        self.n_iter = n_iter
        self.tol = tol
        self.verbose = verbose
        self.params = params
        self.init_params = init_params
        self.start = start
        self.n_init = n_init
        self.topology = topology
        self.tied_transitions = tied_transitions
        self.stopping = stopping
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes

    # --- what the bases ask ------------------------------------------------------------------------------------------

    def _asked_family(self) -> MixtureFamily:
        return MixtureFamily(self._gaussian(), self.n_mix)

    def _gaussian(self) -> Gaussian:
        if self.covariance_type not in PARTS:
            raise ParameterError(f"covariance_type is {self.covariance_type!r}; it must be one of {list(PARTS)}")
        if isinstance(self.reg_covar, bool) or not isinstance(self.reg_covar, int | float | np.number):
            raise ParameterError(f"reg_covar is {self.reg_covar!r}; it must be a number >= 0")
        return Gaussian(self.covariance_type, float(self.reg_covar))

    def _check_hyperparameters(self) -> None:
        super()._check_hyperparameters()
        for name in ("params", "init_params"):
            named = set("mcw") & set(getattr(self, name))
            if named and named != set("mcw"):
                raise ParameterError(f"{name} is {getattr(self, name)!r}; m, c and w go together: name all or none")

    def _emissions(self, components: Params) -> dict[str, Array]:
        gaussian, (k, m) = self._gaussian(), np.shape(components.weights)
        means, covariances = gaussian.means(components.parts), np.asarray(gaussian.covariances(components.parts))
        return {
            "weights_": np.array(components.weights),
            "means_": means.reshape(k, m, -1),
            "covars_": covariances.reshape(k, m, *covariances.shape[1:]),
        }

    def _emissions_rebuilt(self) -> Params:
        _, means, covars = self._checked_parts()
        gaussian, (k, m, d) = self._gaussian(), means.shape
        flat, own = means.reshape(k * m, d), covars.reshape(k * m, *covars.shape[2:])
        center = flat.mean(axis=0)
        spread = ((flat - center) ** 2).mean(axis=0) + np.mean(gaussian.variances(own, k * m, d), axis=0)
        return self._about(gaussian.at_anchor(center, gaussian.scale_of(np.sqrt(spread)), k * m))

    def _emissions_given(self, components: Params, given: Sequence[str]) -> Params:
        return self._about(components.parts) if given else components

    def _about(self, parts: Params) -> Params:
        """The attributes as emissions, about the anchor of given parts."""
        weights, means, covars = self._checked_parts()
        gaussian, (k, m, d) = self._gaussian(), means.shape
        parts = gaussian.with_means(parts, means.reshape(k * m, d))
        return Params(weights=weights, parts=gaussian.with_covariances(parts, covars.reshape(k * m, *covars.shape[2:])))

    def _checked_parts(self) -> tuple[Array, Array, Array]:
        weights, means, covars = (numbers(getattr(self, name), name) for name in ("weights_", "means_", "covars_"))
        k, m = int(self.n_components), int(self.n_mix)
        d = means.shape[-1] if means.ndim == 3 else int(getattr(self, "n_features_in_", 1))
        covars_shape = {"full": (k, m, d, d), "diag": (k, m, d), "spherical": (k, m)}[self.covariance_type]
        for name, value, shape in (
            ("weights_", weights, (k, m)),
            ("means_", means, (k, m, d)),
            ("covars_", covars, covars_shape),
        ):
            if value.shape != shape or not np.isfinite(value).all():
                raise ParameterError(f"{name} has shape {value.shape}; finite numbers {shape} are needed")
        if (weights < 0).any() or (np.abs(weights.sum(axis=1) - 1) > 1e-6).any():
            raise ParameterError(f"weights_ must be >= 0 and sum to 1 in every row; they sum to {weights.sum(axis=1)}")
        own_covariances(covars.reshape(k * m, *covars.shape[2:]), self.covariance_type, k * m)  # which checks them
        return weights, means, covars

    def _width_of_emissions(self) -> int:
        return self._checked_parts()[1].shape[-1]

    def _run_key(self) -> dict[str, Any]:
        settings = {"n_mix": int(self.n_mix), "covariance_type": self.covariance_type}
        return {**super()._run_key(), **settings, "reg_covar": float(self.reg_covar)}

    def _check_loaded(self, params: Params, n_features: int) -> None:
        super()._check_loaded(params, n_features)
        k, m = int(self.n_components), int(self.n_mix)
        components = params.components
        if np.shape(components.get("weights", ())) != (k, m) or "parts" not in components:
            raise ModelFileError(f"the file's weights do not fit {k} states of {m} Gaussians")
        if np.shape(components.parts.means) != (k * m, n_features):
            raise ModelFileError(f"the file's means do not fit {k} states of {m} Gaussians in {n_features} features")

    def _emission_lines(self) -> list[str]:
        return [
            "; ".join(f"{w:.3f} at {in_short(m, 3)}" for w, m in zip(weights, means, strict=True))
            for weights, means in zip(self.weights_, self.means_, strict=True)
        ]
