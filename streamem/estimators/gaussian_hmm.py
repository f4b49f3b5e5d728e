"""`GaussianHMM`: hmmlearn's class, for sequences of any number and length."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.errors import ParameterError
from streamem.estimators.declaring import hyperparameters
from streamem.estimators.faces.covariances import full_covariances, own_covariances
from streamem.estimators.faces.gaussian_hmm import GaussianHMMFace
from streamem.estimators.sequences import SequenceEstimator

Array = NDArray[Any]


@hyperparameters(priors=GaussianHMMFace.priors, behind="transmat_prior")
class GaussianHMM(SequenceEstimator):
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
    start : {"kmeans", "k-means++", "random", "random_from_data", "k-means||", "short_em", "merged_em", "split_merge"}
        How a uniform sample of the rows is split for the first emissions, by default "kmeans"; see `init_params` of
        `GaussianMixture` ("merged_em" and "split_merge" take steps for independent rows). States of a left-right
        chain start with equal shares of every sequence instead.
    n_init : int, default 1
        Starts; the one with the highest log-likelihood is kept.
    topology : "ergodic", "left-right" or ("banded", width), default "ergodic"
        Which state may follow which: any; itself or the next one, from state 0 on; those at most `width` away.
    tied_transitions : list of lists of states, or None
        States of a group share one row of transition probabilities.
    transition_covariates : list of columns that drive the transitions, or None
        See `HMM`.
    durations : {"poisson", "negative-binomial"} or None, default None
        How long states last: None is a Markov chain, in which they last geometrically. Otherwise the model is hidden
        semi-Markov: the duration of a state, less 1, is Poisson or negative binomial, and `transmat_` tells which other
        state follows; its diagonal is 0 (1 where the topology allows no other state). See Notes.
    max_duration : int, default 100
        With `durations`, the age D up to which a state's own probabilities to be left are kept; a state that is older
        keeps that of age D. States times `max_duration` may be at most 2,000: so many numbers a step takes.
    stopping : {"aitken", "change"}, default "aitken"
        "aitken" stops when the gain still to come, predicted by Aitken's rule, is below `tol` twice running; "change"
        when the last gain was.
    missing : {"error", "integrate"}, default "error"
        As in `GaussianMixture`: whether single values of a step may be missing. A step of which nothing was observed,
        NaN in every column, is one in either case.
    n_threads, memory_limit, chunk_bytes : as in `GaussianMixture`

    Attributes
    ----------
    startprob_ (K,), transmat_ (K, K), means_ (K, d)
    duration_means_ : (K,) mean durations in steps, with `durations`
    duration_sizes_ : (K,) sizes r of "negative-binomial": the variance is m + m²/r with m = duration_means_ − 1
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

    With `durations`, a state of age a is left with the probability P(duration = a) / P(duration ≥ a), for a ≥ D that
    of D: beyond D the tail is geometric (Langrock & Zucchini 2011), so no duration is impossible, and size 1 is a
    Markov chain for any D. The first state of a sequence begins with it; the duration of the last one is censored by
    the end, exactly (Guédon 2003). "t" in `params` and `init_params` names transitions and durations;
    `duration_means_` and `duration_sizes_` that are set are where a fit without "t" in `init_params` starts. The M-step
    of durations is Newton's, from expected numbers of states that were left, or not, at each age; means are kept above
    1 + 1e-8, sizes within 1e-3 and 1e6 (a Poisson's). ``continued=True`` and
    `to_hmmlearn` refuse durations. With `transition_covariates` these decide which other state follows, by their values
    at the last step of the one that is left.

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

    n_components: int = field(default=1, kw_only=False)
    covariance_type: str = field(default="diag", kw_only=False)
    reg_covar: float = 0.0
    means_prior: ArrayLike = 0.0
    means_weight: ArrayLike = 0.0
    covars_prior: ArrayLike = 0.0
    covars_weight: ArrayLike = 0.0
    params: str = "stmc"
    init_params: str = "stmc"

    means_: Array = field(init=False)

    face: ClassVar[GaussianHMMFace] = GaussianHMMFace()

    @property
    def covars_(self) -> Array:
        """Covariances of all states as full matrices (K, d, d)."""
        if "covars_" not in self.__dict__:
            raise AttributeError("covars_")
        own = self.__dict__["covars_"]
        if own.ndim == 3:
            return own
        shape = np.shape(self.means_)
        if len(shape) != 2:
            raise ParameterError(f"means_ has shape {shape}; finite numbers ({self.n_components}, d) are needed")
        return full_covariances(own, self.covariance_type, *shape)

    @covars_.setter
    def covars_(self, covars: ArrayLike) -> None:
        own = own_covariances(covars, self.covariance_type, int(self.n_components))
        given = np.array(covars, dtype=np.float64)
        self.__dict__["covars_"] = given if given.ndim == 3 else own
