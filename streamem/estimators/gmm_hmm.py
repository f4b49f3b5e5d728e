"""`GMMHMM`: states that emit mixtures of Gaussians."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

from numpy.typing import ArrayLike, NDArray

from streamem.estimators.declaring import hyperparameters
from streamem.estimators.faces.gmm_hmm import GMMHMMFace
from streamem.estimators.sequences import SequenceEstimator

Array = NDArray[Any]


@hyperparameters(priors=GMMHMMFace.priors, behind="transmat_prior")
class GMMHMM(SequenceEstimator):
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
    durations, max_duration, verbose, stopping, missing, n_threads, memory_limit, chunk_bytes
        As in `GaussianHMM`.

    Attributes
    ----------
    startprob_ (K,), transmat_ (K, K), weights_ (K, M), means_ (K, M, d)
    covars_ : (K, M, d, d) full, (K, M, d) diag, (K, M) spherical, (K, d, d) tied
    duration_means_, duration_sizes_, converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_
        As in `GaussianHMM`

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

    n_components: int = field(default=1, kw_only=False)
    n_mix: int = field(default=1, kw_only=False)
    covariance_type: str = field(default="diag", kw_only=False)
    reg_covar: float = 0.0
    weights_prior: ArrayLike = 1.0
    means_prior: ArrayLike = 0.0
    means_weight: ArrayLike = 0.0
    covars_prior: ArrayLike | None = None
    covars_weight: ArrayLike | None = None
    params: str = "stmcw"
    init_params: str = "stmcw"

    weights_: Array = field(init=False)
    means_: Array = field(init=False)
    covars_: Array = field(init=False)

    face: ClassVar[GMMHMMFace] = GMMHMMFace()
