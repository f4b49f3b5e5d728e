"""`PoissonHMM`: hidden Markov models of counts."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

from numpy.typing import ArrayLike, NDArray

from streamem.estimators.declaring import hyperparameters
from streamem.estimators.faces.poisson_hmm import PoissonHMMFace
from streamem.estimators.sequences import SequenceEstimator

Array = NDArray[Any]


@hyperparameters(priors=PoissonHMMFace.priors, behind="transmat_prior")
class PoissonHMM(SequenceEstimator):
    """Hidden Markov model whose states emit independent Poisson counts, fitted by EM, out of core.

    Parameters
    ----------
    n_components : int, default 1
        States K.
    lambdas_prior, lambdas_weight : float or (K, d), default 0
        α and β of gamma priors of the rates, as hmmlearn applies them: λ = (α + n x̄) / (β + n), with x̄ the mean of a
        state and n the rows of *all* states; so each state gets its share of α and β only. Mini-batches and
        `partial_fit` as for the priors of `GaussianHMM`.
    params, init_params : str, default "stl"
        Which parts are updated, and which are made anew by `fit`: s startprob, t transmat, l lambdas.
    start, startprob_prior, transmat_prior, algorithm, random_state, n_iter, tol, n_init, topology, tied_transitions
    durations, max_duration, verbose, stopping, missing, n_threads, memory_limit, chunk_bytes
        As in `GaussianHMM`.

    Attributes
    ----------
    startprob_ (K,), transmat_ (K, K)
    lambdas_ : (K, d) rates
    duration_means_, duration_sizes_, converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_
        As in `GaussianHMM`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import PoissonHMM
    >>> counts = np.array([1, 0, 2, 1, 9, 11, 8, 10, 1, 1, 0])[:, None]
    >>> hmm = PoissonHMM(2, random_state=0).fit(counts)
    >>> hmm.lambdas_.ravel().round(2).tolist()
    [9.49, 0.86]
    """

    n_components: int = field(default=1, kw_only=False)
    lambdas_prior: ArrayLike = 0.0
    lambdas_weight: ArrayLike = 0.0
    params: str = "stl"
    init_params: str = "stl"

    lambdas_: Array = field(init=False)

    face: ClassVar[PoissonHMMFace] = PoissonHMMFace()
