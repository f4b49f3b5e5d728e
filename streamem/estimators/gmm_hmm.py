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
from streamem.estimators.hmm_priors import mixture_prior, prior_values
from streamem.families import Gaussian, MixtureFamily
from streamem.families.gaussian.held import HeldGaussian
from streamem.families.gaussian.prior import GaussianPrior
from streamem.families.gaussian.with_prior import PriorGaussian
from streamem.families.prior_mixture import PriorMixture

Array = NDArray[Any]


PARTS = ("diag", "full", "spherical", "tied")
ATTRIBUTES = ("weights_", "means_", "covars_")


class GMMHMM(SamplingHMM):
    """Hidden Markov model whose states emit mixtures of Gaussians, fitted by EM, out of core.

    Parameters
    ----------
    n_components : int, default 1
        States K.
    n_mix : int, default 1
        Gaussians M of each state.
    covariance_type : {"diag", "full", "spherical", "tied"}, default "diag"
        "tied" is one matrix for the Gaussians of each state.
    reg_covar : float, default 0
        Added to the diagonal of every covariance, in squared units of the data; 0 is maximum likelihood with a floor.
    params, init_params : str, default "stmcw"
        Which parts are updated, and which are made anew by `fit`: s startprob, t transmat, m means, c covars,
        w weights.
    weights_prior : float or (K, M), default 1
        Parameters α ≥ 1 of Dirichlet priors of the weights; 1 is none.
    means_prior, means_weight : float or (K, M, d), default 0; float or (K, M), default 0
        As if each Gaussian had so many rows more (`means_weight`), at `means_prior`.
    covars_prior, covars_weight : float, an array, or None, which is no prior
        As hmmlearn has them: α and β of inverse gamma priors of variances, (K, M, d) for diag and (K, M) for spherical
        ones, α at least −3/2 or −(d + 2)/2, which count no rows, and β in squared units of the data; Ψ and ν of inverse
        Wishart priors of matrices, (K, M, d, d) and (K, M) for full, ν at least −(d + 2), (K, d, d) and (K,) for tied
        ones, ν at least −(M + d + 1). A number fills the whole of a matrix.
    start, startprob_prior, transmat_prior, algorithm, random_state, n_iter, tol, n_init, topology, tied_transitions
    verbose, stopping, n_threads, memory_limit, chunk_bytes
        As in `GaussianHMM`.

    Attributes
    ----------
    startprob_ (K,), transmat_ (K, K), weights_ (K, M), means_ (K, M, d)
    covars_ : (K, M, d, d) full, (K, M, d) diag, (K, M) spherical, (K, d, d) tied
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianHMM`

    Notes
    -----
    Priors are those of Gauvain & Lee (1994), and weighed against the data as in `GaussianHMM`. Covariances are taken
    about the new means, hmmlearn's about those of the iteration before: there EM is not monotone. With means or
    covariances held by `params`, results are hmmlearn's.

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
    priors: ClassVar[tuple[str, ...]] = (
        "weights_prior",
        "means_prior",
        "means_weight",
        "covars_prior",
        "covars_weight",
    )
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
        weights_prior: ArrayLike = 1.0,
        means_prior: ArrayLike = 0.0,
        means_weight: ArrayLike = 0.0,
        covars_prior: ArrayLike | None = None,
        covars_weight: ArrayLike | None = None,
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
        self.weights_prior = weights_prior
        self.means_prior = means_prior
        self.means_weight = means_weight
        self.covars_prior = covars_prior
        self.covars_weight = covars_weight
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
        updated = set("mcw") & set(self.params)
        prior, alpha = self._gaussian_prior(), self._weights_prior()
        if not updated or (prior is None and alpha is None and updated == set("mcw")):
            return self._free_family()
        held = {(True, True): "nothing", (False, True): "means", (True, False): "covars", (False, False): "both"}
        parts = self._gaussian(held["m" in updated, "c" in updated], prior)
        return PriorMixture(parts, self.n_mix, alpha, holds_weights="w" not in updated)

    def _free_family(self) -> MixtureFamily:
        return MixtureFamily(self._gaussian(), self.n_mix)

    def _gaussian(self, held: str = "nothing", prior: GaussianPrior | None = None) -> Gaussian:
        if self.covariance_type not in PARTS:
            raise ParameterError(f"covariance_type is {self.covariance_type!r}; it must be one of {list(PARTS)}")
        if isinstance(self.reg_covar, bool) or not isinstance(self.reg_covar, int | float | np.number):
            raise ParameterError(f"reg_covar is {self.reg_covar!r}; it must be a number >= 0")
        kind, together = (self.covariance_type, 1) if self.covariance_type != "tied" else ("full", self._n_parts)
        if prior is not None:
            return PriorGaussian(kind, float(self.reg_covar), prior, held, together)
        if held != "nothing" or together > 1:
            return HeldGaussian(kind, float(self.reg_covar), held, together)
        return Gaussian(kind, float(self.reg_covar))

    @property
    def _n_parts(self) -> int:
        """M, checked."""
        return MixtureFamily(Gaussian(), self.n_mix).n_mix

    def _gaussian_prior(self) -> GaussianPrior | None:
        """None where there is none, and before any data has told the number of features."""
        if not hasattr(self, "n_features_in_") or self.covariance_type not in PARTS:
            return None
        prior = mixture_prior(
            self.covariance_type,
            (int(self.n_components), self._n_parts, self.n_features_in_),
            self.means_prior,
            self.means_weight,
            self.covars_prior,
            self.covars_weight,
        )
        return None if prior.says_nothing else prior

    def _weights_prior(self) -> Array | None:
        if not hasattr(self, "n_features_in_"):
            return None
        alpha = prior_values(self.weights_prior, "weights_prior", (int(self.n_components), self._n_parts), least=1.0)
        return alpha if (alpha > 1).any() else None

    def _emissions(self, components: Params) -> dict[str, Array]:
        gaussian, (k, m) = self._gaussian(), np.shape(components.weights)
        means, covariances = gaussian.means(components.parts), np.asarray(gaussian.covariances(components.parts))
        covars = covariances.reshape(k, m, *covariances.shape[1:])
        return {
            "weights_": np.array(components.weights),
            "means_": means.reshape(k, m, -1),
            "covars_": np.array(covars[:, 0]) if self.covariance_type == "tied" else covars,
        }

    def _emissions_rebuilt(self) -> Params:
        known = self._checked_parts(ATTRIBUTES)
        gaussian, (k, m, d) = self._gaussian(), known["means_"].shape
        flat, own = known["means_"].reshape(k * m, d), self._of_parts(known["covars_"])
        center = flat.mean(axis=0)
        spread = ((flat - center) ** 2).mean(axis=0) + np.mean(gaussian.variances(own, k * m, d), axis=0)
        anchored = gaussian.at_anchor(center, gaussian.scale_of(np.sqrt(spread)), k * m)
        return self._emissions_given(Params(weights=known["weights_"], parts=anchored), ATTRIBUTES)

    def _emissions_given(self, components: Params, given: Sequence[str]) -> Params:
        known, parts, gaussian = self._checked_parts(given), components.parts, self._gaussian()
        if "means_" in known:
            parts = gaussian.with_means(parts, known["means_"].reshape(-1, known["means_"].shape[-1]))
        if "covars_" in known:
            parts = gaussian.with_covariances(parts, self._of_parts(known["covars_"]))
        return Params(weights=known.get("weights_", components.weights), parts=parts)

    def _of_parts(self, covars: Array) -> Array:
        """Covariances of all Gaussians, one after the other."""
        if self.covariance_type == "tied":
            return np.repeat(covars, int(self.n_mix), axis=0)
        return covars.reshape(-1, *covars.shape[2:])

    def _checked_parts(self, names: Sequence[str]) -> dict[str, Array]:
        """The attributes of these names, in the shapes of the hyperparameters."""
        known = {name: numbers(getattr(self, name), name) for name in names}
        k, m = int(self.n_components), int(self.n_mix)
        means = known.get("means_")
        d = means.shape[-1] if means is not None and means.ndim == 3 else int(getattr(self, "n_features_in_", 1))
        covars = {"full": (k, m, d, d), "diag": (k, m, d), "spherical": (k, m), "tied": (k, d, d)}
        shapes = {"weights_": (k, m), "means_": (k, m, d), "covars_": covars[self.covariance_type]}
        for name, value in known.items():
            if value.shape != shapes[name] or not np.isfinite(value).all():
                raise ParameterError(f"{name} has shape {value.shape}; finite numbers {shapes[name]} are needed")
        sums = known["weights_"].sum(axis=1) if "weights_" in known else np.ones(k)
        if (np.abs(sums - 1) > 1e-6).any() or ("weights_" in known and (known["weights_"] < 0).any()):
            raise ParameterError(f"weights_ must be >= 0 and sum to 1 in every row; they sum to {sums}")
        if "covars_" in known:
            own_covariances(self._of_parts(known["covars_"]), self._gaussian().covariance_type, k * m)  # which checks
        return known

    def _width_of_emissions(self) -> int:
        return int(self._checked_parts(ATTRIBUTES)["means_"].shape[-1])

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
