"""`CategoricalHMM`: hidden Markov models of symbols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ModelFileError, ParameterError
from streamem.core.validation import numbers
from streamem.estimators.hmm_drawing import SamplingHMM, in_short
from streamem.families import Categorical
from streamem.initialization import DISCRETE_STARTS, Start

Array = NDArray[Any]


class CategoricalHMM(SamplingHMM):
    """Hidden Markov model whose states emit symbols, fitted by EM, out of core.

    Parameters
    ----------
    n_components : int, default 1
        States K.
    n_categories : int, one int a column, or None
        Codes are 0 … V − 1. None lets the data tell, which takes a pass beforehand.
    emissionprob_prior : float >= 1, default 1
        Parameter of a symmetric Dirichlet prior on the symbols of every state and column; 1 is none.
    params, init_params : str, default "ste"
        Which parts are updated, and which are made anew by `fit`: s startprob, t transmat, e emissionprob.
    start : str, default "random"
        "random" deals the symbols to the states at random; others as in `GaussianHMM`.
    startprob_prior, transmat_prior, algorithm, random_state, n_iter, tol, n_init, topology, tied_transitions
    verbose, stopping, n_threads, memory_limit, chunk_bytes
        As in `GaussianHMM`.

    Attributes
    ----------
    startprob_ (K,), transmat_ (K, K)
    emissionprob_ : (K, V) probabilities of the symbols; for several columns a list of one such array each
    n_categories_ : (d,) V of every column
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianHMM`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import CategoricalHMM
    >>> symbols = np.array([0, 1, 0, 1, 1, 2, 3, 3, 2, 3, 2, 0, 0, 1])[:, None]
    >>> hmm = CategoricalHMM(2, random_state=0).fit(symbols)
    >>> hmm.emissionprob_.shape, hmm.predict(symbols)[[0, 5]].tolist() in ([0, 1], [1, 0])
    ((2, 4), True)
    """

    letters: ClassVar[dict[str, str]] = {"emissionprob_": "e"}
    probabilities_: Array
    n_categories_: Array

    def __init__(
        self,
        n_components: int = 1,
        *,
        n_categories: int | Sequence[int] | None = None,
        emissionprob_prior: float = 1.0,
        startprob_prior: ArrayLike = 1.0,
        transmat_prior: ArrayLike = 1.0,
        algorithm: str = "viterbi",
        random_state: int | np.random.RandomState | None = None,
        n_iter: int = 100,
        tol: float = 1e-4,
        verbose: int = 0,
        params: str = "ste",
        init_params: str = "ste",
        start: str = "random",
        n_init: int = 1,
        topology: Any = "ergodic",
        tied_transitions: Sequence[Sequence[int]] | None = None,
        stopping: str = "aitken",
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_categories = n_categories
        self.emissionprob_prior = emissionprob_prior
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

    @property
    def emissionprob_(self) -> Any:
        """(K, V) probabilities of the symbols of one column, or a list of such arrays."""
        if "probabilities_" not in self.__dict__:
            raise AttributeError("emissionprob_")
        columns = np.split(self.probabilities_, np.cumsum(self.n_categories_)[:-1], axis=1)
        return columns[0] if len(columns) == 1 else columns

    @emissionprob_.setter
    def emissionprob_(self, emissionprob: Any) -> None:
        listed = isinstance(emissionprob, list | tuple) and len(emissionprob) > 0
        single = not listed or isinstance(emissionprob[0], str) or np.ndim(emissionprob[0]) < 2
        columns = [numbers(column, "emissionprob_") for column in ([emissionprob] if single else emissionprob)]
        for column in columns:
            self._require_distributions(column)
        self.probabilities_ = np.concatenate(columns, axis=1)
        self.n_categories_ = np.array([column.shape[1] for column in columns], dtype=np.int64)

    def _require_distributions(self, column: Array) -> None:
        k = int(self.n_components)
        if column.ndim != 2 or len(column) != k or not column.shape[1]:
            raise ParameterError(
                f"emissionprob_ has shape {column.shape}; ({k}, V) is needed, or a list of such arrays"
            )
        sums = column.sum(axis=1)
        if not ((column >= 0).all() and (np.abs(sums - 1) < 1e-6).all()):
            raise ParameterError(
                f"emissionprob_ must hold probabilities >= 0 that sum to 1 in every row; the smallest is "
                f"{column.min()}, and rows sum to {sums}"
            )

    # --- what the bases ask ------------------------------------------------------------------------------------------

    def _asked_family(self) -> Categorical:
        return Categorical(self.n_categories, self.emissionprob_prior)

    def _starts(self) -> dict[str, Start]:
        return DISCRETE_STARTS

    def _emissions(self, components: Params) -> dict[str, Array]:
        sizes = np.diff(np.asarray(components.starts)).astype(np.int64)
        return {"probabilities_": np.array(components.probabilities), "n_categories_": sizes}

    def _emissions_rebuilt(self) -> Params:
        k, d = int(self.n_components), getattr(self, "n_features_in_", None)
        values = np.asarray(self.probabilities_, dtype=np.float64)
        if len(values) != k or d not in (None, len(self.n_categories_)):
            raise ParameterError(
                f"emissionprob_ has {len(values)} states and {len(self.n_categories_)} columns; {k} and {d} are needed"
            )
        starts = np.concatenate([[0], np.cumsum(self.n_categories_)]).astype(np.int64)
        return Params(probabilities=values, starts=starts, empty=np.zeros(k, dtype=np.bool_))

    def _width_of_emissions(self) -> int:
        return len(self.n_categories_)

    def _given_attributes(self) -> list[str]:
        return ["probabilities_" if name == "emissionprob_" else name for name in super()._given_attributes()]

    def _run_key(self) -> dict[str, Any]:
        sizes = None if self.n_categories is None else np.asarray(self.n_categories).tolist()
        return {**super()._run_key(), "n_categories": repr(sizes), "prior": float(self.emissionprob_prior)}

    def _check_loaded(self, params: Params, n_features: int) -> None:
        super()._check_loaded(params, n_features)
        k, components = int(self.n_components), params.components
        starts = np.asarray(components.get("starts", ()))
        fits = starts.shape == (n_features + 1,) and np.shape(components.probabilities) == (k, int(starts[-1]))
        if not fits or (np.diff(starts) < 1).any():
            raise ModelFileError(f"the file's probabilities do not fit {k} states of {n_features} columns")

    def _emission_lines(self) -> list[str]:
        return [f"probabilities {in_short(values)}" for values in self.probabilities_]
