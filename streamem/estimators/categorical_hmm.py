"""`CategoricalHMM`: hidden Markov models of symbols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar

from numpy.typing import NDArray

from streamem.estimators.declaring import hyperparameters
from streamem.estimators.faces.categorical_hmm import CategoricalHMMFace, columns_of, side_by_side
from streamem.estimators.sequences import SequenceEstimator

Array = NDArray[Any]


@hyperparameters(priors=("unseen",), behind="missing")
class CategoricalHMM(SequenceEstimator):
    """Hidden Markov model whose states emit symbols, fitted by EM, out of core.

    Parameters
    ----------
    n_components : int, default 1
        States K.
    n_categories : int, one int a column, or None
        Codes are 0 … V − 1. None lets the data tell, which takes a pass beforehand.
    emissionprob_prior : float >= 1, default 1
        Parameter of a symmetric Dirichlet prior on the symbols of every state and column; 1 is none.
    unseen : {"error", "missing"}, default "error"
        What a symbol is that the sequences of the fit did not hold: an error, or a missing value (with
        ``missing="integrate"``): its column drops out of the row.
    params, init_params : str, default "ste"
        Which parts are updated, and which are made anew by `fit`: s startprob, t transmat, e emissionprob.
    start : str, default "random"
        "random" deals the symbols to the states at random; others as in `GaussianHMM`.
    startprob_prior, transmat_prior, algorithm, random_state, n_iter, tol, n_init, topology, tied_transitions
    durations, max_duration, verbose, stopping, missing, n_threads, memory_limit, chunk_bytes
        As in `GaussianHMM`.

    Attributes
    ----------
    startprob_ (K,), transmat_ (K, K)
    emissionprob_ : (K, V) probabilities of the symbols; for several columns a list of one such array each
    n_categories_ : (d,) V of every column
    duration_means_, duration_sizes_, converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_
        As in `GaussianHMM`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import CategoricalHMM
    >>> symbols = np.array([0, 1, 0, 1, 1, 2, 3, 3, 2, 3, 2, 0, 0, 1])[:, None]
    >>> hmm = CategoricalHMM(2, random_state=0).fit(symbols)
    >>> hmm.emissionprob_.shape, hmm.predict(symbols)[[0, 5]].tolist() in ([0, 1], [1, 0])
    ((2, 4), True)
    """

    n_components: int = field(default=1, kw_only=False)
    n_categories: int | Sequence[int] | None = None
    emissionprob_prior: float = 1.0
    unseen: str = "error"
    start: str = "random"

    probabilities_: Array = field(init=False)
    n_categories_: Array = field(init=False)

    face: ClassVar[CategoricalHMMFace] = CategoricalHMMFace()

    @property
    def emissionprob_(self) -> Any:
        """(K, V) probabilities of the symbols of one column, or a list of such arrays."""
        if "probabilities_" not in self.__dict__:
            raise AttributeError("emissionprob_")
        return columns_of(self.probabilities_, self.n_categories_)

    @emissionprob_.setter
    def emissionprob_(self, emissionprob: Any) -> None:
        for name, value in side_by_side(emissionprob, int(self.n_components)).items():
            setattr(self, name, value)
