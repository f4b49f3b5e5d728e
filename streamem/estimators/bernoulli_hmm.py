"""`BernoulliHMM`: hidden Markov models of yes-no answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ModelFileError, ParameterError
from streamem.estimators.hmm_drawing import SamplingHMM, in_short
from streamem.families import Bernoulli
from streamem.initialization import DISCRETE_STARTS, Start

Array = NDArray[Any]


class BernoulliHMM(SamplingHMM):
    """Hidden Markov model whose states emit independent values of 0 or 1, fitted by EM, out of core.

    Parameters
    ----------
    n_components : int, default 1
        States K.
    params, init_params : str, default "ste"
        Which parts are updated, and which are made anew by `fit`: s startprob, t transmat, e emissionprob.
    start, startprob_prior, transmat_prior, algorithm, random_state, n_iter, tol, n_init, topology, tied_transitions
    verbose, stopping, n_threads, memory_limit, chunk_bytes
        As in `GaussianHMM`.

    Attributes
    ----------
    startprob_ (K,), transmat_ (K, K)
    emissionprob_ : (K, d) probabilities of 1
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianHMM`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import BernoulliHMM
    >>> answers = np.array([[1, 1], [1, 1], [1, 1], [0, 0], [0, 0], [0, 0], [1, 1]])
    >>> hmm = BernoulliHMM(2, random_state=0).fit(answers)
    >>> sorted(hmm.emissionprob_.round(2).ravel().tolist())
    [0.0, 0.0, 1.0, 1.0]
    """

    letters: ClassVar[dict[str, str]] = {"emissionprob_": "e"}
    emissionprob_: Array

    def __init__(
        self,
        n_components: int = 1,
        *,
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

    def _asked_family(self) -> Bernoulli:
        return Bernoulli()

    def _starts(self) -> dict[str, Start]:
        return DISCRETE_STARTS

    def _emissions(self, components: Params) -> dict[str, Array]:
        return {"emissionprob_": np.array(components.probabilities)}

    def _emissions_rebuilt(self) -> Params:
        values = self._matrix("emissionprob_", getattr(self, "n_features_in_", None))
        if not ((values >= 0).all() and (values <= 1).all()):
            raise ParameterError(
                f"emissionprob_ holds values from {values.min()} to {values.max()}; chances lie within [0, 1]"
            )
        return Params(probabilities=values, empty=np.zeros(len(values), dtype=np.bool_))

    def _width_of_emissions(self) -> int:
        return self._matrix("emissionprob_").shape[1]

    def _check_loaded(self, params: Params, n_features: int) -> None:
        super()._check_loaded(params, n_features)
        shape = (int(self.n_components), n_features)
        if np.shape(params.components.get("probabilities", ())) != shape:
            raise ModelFileError(f"the file's probabilities do not fit {shape[0]} states of {n_features} features")

    def _emission_lines(self) -> list[str]:
        return [f"probabilities {in_short(values)}" for values in self.emissionprob_]
