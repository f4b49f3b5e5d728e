"""`PoissonHMM`: hidden Markov models of counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ModelFileError, ParameterError
from streamem.estimators.hmm_drawing import SamplingHMM, in_short
from streamem.estimators.hmm_priors import prior_values
from streamem.families import Poisson
from streamem.families.prior_poisson import PriorPoisson

Array = NDArray[Any]


class PoissonHMM(SamplingHMM):
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
    verbose, stopping, n_threads, memory_limit, chunk_bytes
        As in `GaussianHMM`.

    Attributes
    ----------
    startprob_ (K,), transmat_ (K, K)
    lambdas_ : (K, d) rates
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianHMM`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import PoissonHMM
    >>> counts = np.array([1, 0, 2, 1, 9, 11, 8, 10, 1, 1, 0])[:, None]
    >>> hmm = PoissonHMM(2, random_state=0).fit(counts)
    >>> hmm.lambdas_.ravel().round(2).tolist()
    [9.49, 0.86]
    """

    letters: ClassVar[dict[str, str]] = {"lambdas_": "l"}
    priors: ClassVar[tuple[str, ...]] = ("lambdas_prior", "lambdas_weight")
    lambdas_: Array

    def __init__(
        self,
        n_components: int = 1,
        *,
        startprob_prior: ArrayLike = 1.0,
        transmat_prior: ArrayLike = 1.0,
        lambdas_prior: ArrayLike = 0.0,
        lambdas_weight: ArrayLike = 0.0,
        algorithm: str = "viterbi",
        random_state: int | np.random.RandomState | None = None,
        n_iter: int = 100,
        tol: float = 1e-4,
        verbose: int = 0,
        params: str = "stl",
        init_params: str = "stl",
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
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.lambdas_prior = lambdas_prior
        self.lambdas_weight = lambdas_weight
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

    def _asked_family(self) -> Poisson:
        if not hasattr(self, "n_features_in_"):  # before any data there is nothing for a prior to weigh against
            return Poisson()
        shape = (int(self.n_components), self.n_features_in_)
        alpha, beta = (prior_values(getattr(self, name), name, shape, least=0.0) for name in self.priors)
        return PriorPoisson(alpha, beta) if alpha.any() or beta.any() else Poisson()

    def _free_family(self) -> Poisson:
        return Poisson()

    def _emissions(self, components: Params) -> dict[str, Array]:
        return {"lambdas_": np.array(components.rates)}

    def _emissions_rebuilt(self) -> Params:
        values = self._matrix("lambdas_", getattr(self, "n_features_in_", None))
        if not (values >= 0).all():
            raise ParameterError(
                f"lambdas_ holds values from {values.min()} to {values.max()}; rates are finite numbers >= 0"
            )
        return Params(rates=values, empty=np.zeros(len(values), dtype=np.bool_))

    def _width_of_emissions(self) -> int:
        return self._matrix("lambdas_").shape[1]

    def _check_loaded(self, params: Params, n_features: int) -> None:
        super()._check_loaded(params, n_features)
        shape = (int(self.n_components), n_features)
        if np.shape(params.components.get("rates", ())) != shape:
            raise ModelFileError(f"the file's rates do not fit {shape[0]} states of {n_features} features")

    def _emission_lines(self) -> list[str]:
        return [f"rates {in_short(values)}" for values in self.lambdas_]
