"""`GaussianHMM`: hmmlearn's class, for sequences of any number and length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ModelFileError, ParameterError
from streamem.estimators.hmm_covariances import full_covariances, own_covariances
from streamem.estimators.hmm_drawing import SamplingHMM, in_short
from streamem.estimators.hmm_priors import gaussian_prior
from streamem.families import Gaussian
from streamem.families.gaussian.held import HeldGaussian
from streamem.families.gaussian.prior import GaussianPrior
from streamem.families.gaussian.with_prior import PriorGaussian

Array = NDArray[Any]


class GaussianHMM(SamplingHMM):
    """Hidden Markov model with Gaussian emissions, fitted by EM (Baum & Welch), out of core.

    Names are those of `hmmlearn.hmm.GaussianHMM`; what differs is that it is maximum likelihood unless priors are
    given, and that tolerances are per row. `fit` and all questions also take paths, tables and Dask collections.

    Parameters
    ----------
    n_components : int, default 1
        States K.
    covariance_type : {"diag", "full", "tied", "spherical"}, default "diag"
    reg_covar : float, default 0
        Added to the diagonal of every covariance, in squared units of the data. 0 is maximum likelihood, with a floor
        of 2⁻⁴⁰ of the data's variance under every eigenvalue, so that a state of a single value cannot end the fit.
    startprob_prior, transmat_prior : float, (K,) or (K, K), default 1
        Parameters ≥ 1 of Dirichlet priors; 1 is none. `lower_bound_` does not include them.
    means_prior, means_weight : float or (K, d), default 0; float or (K,), default 0
        Normal prior of the means: as if each state had so many rows more (`means_weight`), at `means_prior`.
    covars_prior, covars_weight : float or the shape of the covariances, default 0; float or (K,), default 0
        Inverse gamma prior of variances (spherical, diag), inverse Wishart prior of matrices (full, tied): as if each
        state had max(covars_weight − 1, 0) rows more, for matrices max(covars_weight − d, 0), and `covars_prior`, in
        squared units of the data, were the sum of their squared deviations. A number fills the whole of a matrix, as
        in hmmlearn; ``c * np.eye(d)`` is one on the diagonal. For tied covariances, `covars_weight` is one number.
    algorithm : {"viterbi", "map"}, default "viterbi"
        What `predict` and `decode` say: the most probable path, or the most probable state of every step by itself.
    random_state : int, RandomState or None
    n_iter : int, default 100
        Most iterations (passes over the data) of one start.
    tol : float, default 1e-4
        In nats per row. See `stopping`.
    verbose : int, default 0
    params, init_params : str, default "stmc"
        Which parts are updated by `fit`, and which are made anew at its start: s startprob, t transmat, m means, c
        covars. What is left out of `init_params` and set as an attribute (`startprob_`, `transmat_`, `means_`,
        `covars_`) is where the fit starts. Probabilities that start at zero stay zero.
    start : {"kmeans", "k-means++", "random", "random_from_data"}, default "kmeans"
        How a uniform sample of the rows is split for the first emissions. States of a left-right chain start with equal
        shares of every sequence instead.
    n_init : int, default 1
        Starts; the one with the highest log-likelihood is kept.
    topology : "ergodic", "left-right" or ("banded", width), default "ergodic"
        Which state may follow which: any; itself or the next one, from state 0 on; those at most `width` away.
    tied_transitions : list of lists of states, or None
        States of a group share one row of transition probabilities.
    stopping : {"aitken", "change"}, default "aitken"
        "aitken" stops when the gain still to come, predicted by Aitken's rule, is below `tol` twice running; "change"
        when the last gain was.
    n_threads, memory_limit, chunk_bytes : as in `GaussianMixture`

    Attributes
    ----------
    startprob_ (K,), transmat_ (K, K), means_ (K, d)
    covars_ : (K, d, d) full matrices whatever the covariance type, as hmmlearn gives them
        May be set in the shape of the covariance type too: (K, d, d) full, (d, d) tied, (K, d) diag, (K,) spherical.
    converged_ : bool
    n_iter_ : int, iterations of the best start
    lower_bound_ : float, exact log-likelihood per row at the returned parameters, in nats
    lower_bounds_ : list, log-likelihood per row after each iteration of the best start
    report_ : FitReport, what every pass took
    n_features_in_, feature_names_in_ : as in scikit-learn
    sequences_by_ : the name that told sequences, such as {"sequence_column": "run"}, by which later data is read

    Notes
    -----
    Priors of the emissions make the M-step that of hmmlearn (Huang, Acero & Hon 2001, §9.6; Gauvain & Lee 1994): means
    (w m₀ + Σ γ x) / (w + Σ γ), covariances (V₀ + w (m − m₀)(m − m₀)ᵀ + Σ γ (x − m)(x − m)ᵀ) / (n₀ + Σ γ). `fit` weighs
    them against the data, in a pass beforehand, so that mini-batches count them in proportion; `partial_fit` needs a
    `fit` before. A state without rows goes where the priors say.

    A row that is NaN in every column is a step at which nothing was observed; one that is NaN in some is an error. A
    state that no row belongs to keeps its emissions, and one that is never left its transitions; `report_.events`
    counts both.

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import GaussianHMM
    >>> X = np.array([[0.1], [-0.2], [0.0], [5.1], [4.9], [5.0], [0.2], [0.1]])
    >>> hmm = GaussianHMM(n_components=2, random_state=0).fit(X, lengths=[6, 2])
    >>> hmm.means_.round(2).ravel().tolist()
    [5.0, 0.04]
    >>> hmm.predict(X, lengths=[6, 2]).tolist()
    [1, 1, 1, 0, 0, 0, 1, 1]
    """

    letters: ClassVar[dict[str, str]] = {"means_": "m", "covars_": "c"}
    priors: ClassVar[tuple[str, ...]] = ("means_prior", "means_weight", "covars_prior", "covars_weight")
    means_: Array

    def __init__(
        self,
        n_components: int = 1,
        covariance_type: str = "diag",
        *,
        reg_covar: float = 0.0,
        startprob_prior: ArrayLike = 1.0,
        transmat_prior: ArrayLike = 1.0,
        means_prior: ArrayLike = 0.0,
        means_weight: ArrayLike = 0.0,
        covars_prior: ArrayLike = 0.0,
        covars_weight: ArrayLike = 0.0,
        algorithm: str = "viterbi",
        random_state: int | np.random.RandomState | None = None,
        n_iter: int = 100,
        tol: float = 1e-4,
        verbose: int = 0,
        params: str = "stmc",
        init_params: str = "stmc",
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
        self.covariance_type = covariance_type
        self.reg_covar = reg_covar
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
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

    @property
    def covars_(self) -> Array:
        """Covariances of all states as full matrices (K, d, d)."""
        if "_covars_" not in self.__dict__:
            raise AttributeError("covars_")
        shape = np.shape(self.means_)
        if len(shape) != 2:
            raise ParameterError(f"means_ has shape {shape}; finite numbers ({self.n_components}, d) are needed")
        return full_covariances(self._covars_, self.covariance_type, *shape)

    @covars_.setter
    def covars_(self, covars: ArrayLike) -> None:
        self._covars_ = own_covariances(covars, self.covariance_type, int(self.n_components))

    # --- what the bases ask ------------------------------------------------------------------------------------------

    def _asked_family(self) -> Gaussian:
        if isinstance(self.reg_covar, bool) or not isinstance(self.reg_covar, int | float | np.number):
            raise ParameterError(f"reg_covar is {self.reg_covar!r}; it must be a number >= 0")
        held = sorted({"means_", "covars_"} - {name for name, letter in self.letters.items() if letter in self.params})
        if len(held) == 2:  # all or nothing is the model's to decide
            return Gaussian(self.covariance_type, float(self.reg_covar))
        part, prior = held[0].rstrip("_") if held else "nothing", self._prior()
        if prior is not None:
            return PriorGaussian(self.covariance_type, float(self.reg_covar), prior, part)
        if held:
            return HeldGaussian(self.covariance_type, float(self.reg_covar), part)
        return Gaussian(self.covariance_type, float(self.reg_covar))

    def _prior(self) -> GaussianPrior | None:
        """None where there is none, and before any data has told the number of features."""
        if not hasattr(self, "n_features_in_"):
            return None
        shape = (self.covariance_type, int(self.n_components), self.n_features_in_)
        prior = gaussian_prior(*shape, self.means_prior, self.means_weight, self.covars_prior, self.covars_weight)
        return None if prior.says_nothing else prior

    def _free_family(self) -> Gaussian:
        return Gaussian(self.covariance_type, float(self.reg_covar))

    def _emissions(self, components: Params) -> dict[str, Array]:
        family = self._asked_family()
        own = np.asarray(family.covariances(components))
        means = np.asarray(family.means(components))
        return {"means_": means, "covars_": full_covariances(own, self.covariance_type, *means.shape)}

    def _emissions_rebuilt(self) -> Params:
        family, means = self._asked_family(), self._checked_means()
        covariances = self._checked_covars(means)
        center = means.mean(axis=0)
        spread = ((means - center) ** 2).mean(axis=0) + np.mean(family.variances(covariances, *means.shape), axis=0)
        components = family.at_anchor(center, family.scale_of(np.sqrt(spread)), len(means))
        return family.with_covariances(family.with_means(components, means), covariances)

    def _emissions_given(self, components: Params, given: Sequence[str]) -> Params:
        family = self._asked_family()
        if "means_" in given:
            components = family.with_means(components, self._checked_means())
        if "covars_" in given:
            components = family.with_covariances(components, self._checked_covars(components.means))
        return components

    def _settled(self, components: Params) -> Params:
        """States whose rows have no spread get the covariance of all rows: no iteration would widen them."""
        family = self._asked_family()
        floored = family.degenerate(components)["floored"]
        if not floored or self.covariance_type == "tied":
            return components
        means, own = np.asarray(family.means(components)), np.array(family.covariances(components))
        wide = np.var(means, axis=0) + family.variances(own, *means.shape).mean(axis=0)
        wide = np.where(wide > 0, wide, 1.0)
        values = {"full": np.diag(wide), "diag": wide, "spherical": wide.mean()}
        own[floored] = values[self.covariance_type]
        return family.with_covariances(components, own)

    def _checked_means(self) -> Array:
        return self._matrix("means_", getattr(self, "n_features_in_", None))

    def _checked_covars(self, means: Array) -> Array:
        own = own_covariances(self._covars_, self.covariance_type, len(means))
        k, d = means.shape
        shape = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[self.covariance_type]
        if own.shape != shape:
            raise ParameterError(f"covars_ has shape {own.shape}; {self.covariance_type} needs {shape}")
        return own

    def _run_key(self) -> dict[str, Any]:
        return {
            **super()._run_key(),
            "covariance_type": self.covariance_type,
            "reg_covar": float(self.reg_covar),
        }

    def _check_loaded(self, params: Params, n_features: int) -> None:
        super()._check_loaded(params, n_features)
        k, d = int(self.n_components), n_features
        if np.shape(params.components.means) != (k, d):  # before anything of that size is made
            raise ModelFileError(f"the file's means do not fit {k} states of {d} features")
        like = self._asked_family().at_anchor(np.zeros(d), np.ones(d), k).flatten()
        found = params.components.flatten()
        wrong = [name for name, value in like.items() if name not in found or found[name].shape != value.shape]
        if wrong:
            raise ModelFileError(f"the file's {', '.join(wrong)} do not fit {k} states of {d} features")

    def _width_of_emissions(self) -> int:
        return self._matrix("means_").shape[1]

    def _emission_lines(self) -> list[str]:
        deviations = np.sqrt(np.diagonal(self.covars_, axis1=1, axis2=2))
        return [f"mean {in_short(m, 6)}; std {in_short(s, 6)}" for m, s in zip(self.means_, deviations, strict=True)]
