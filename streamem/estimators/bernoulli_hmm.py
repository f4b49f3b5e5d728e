"""`BernoulliHMM`: hidden Markov models of yes-no answers."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

from numpy.typing import NDArray

from streamem.estimators.declaring import hyperparameters
from streamem.estimators.faces.bernoulli_hmm import BernoulliHMMFace
from streamem.estimators.sequences import SequenceEstimator

Array = NDArray[Any]


@hyperparameters()
class BernoulliHMM(SequenceEstimator):
    """Hidden Markov model whose states emit independent values of 0 or 1, fitted by EM, out of core.

    Parameters
    ----------
    n_components : int, default 1
        States K.
    params, init_params : str, default "ste"
        Which parts are updated, and which are made anew by `fit`: s startprob, t transmat, e emissionprob.
    start, startprob_prior, transmat_prior, algorithm, random_state, n_iter, tol, n_init, topology, tied_transitions
    durations, max_duration, verbose, stopping, missing, n_threads, memory_limit, chunk_bytes
        As in `GaussianHMM`.

    Attributes
    ----------
    startprob_ (K,), transmat_ (K, K)
    emissionprob_ : (K, d) probabilities of 1
    duration_means_, duration_sizes_, converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_
        As in `GaussianHMM`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import BernoulliHMM
    >>> answers = np.array([[1, 1], [1, 1], [1, 1], [0, 0], [0, 0], [0, 0], [1, 1]])
    >>> hmm = BernoulliHMM(2, random_state=0).fit(answers)
    >>> sorted(hmm.emissionprob_.round(2).ravel().tolist())
    [0.0, 0.0, 1.0, 1.0]
    """

    n_components: int = field(default=1, kw_only=False)
    start: str = "random"

    emissionprob_: Array = field(init=False)

    face: ClassVar[BernoulliHMMFace] = BernoulliHMMFace()
