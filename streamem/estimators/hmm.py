"""`HMM`: a hidden Markov model with emissions of any family, the user's own included."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ParameterError
from streamem.core.ports import Family
from streamem.core.state import State
from streamem.estimators.family_facts import settings_of
from streamem.estimators.hmm_drawing import SamplingHMM, in_short

Array = NDArray[Any]
Path = str | os.PathLike[str]


class HMM(SamplingHMM):
    """Hidden Markov model with emissions of any `Family`, fitted by EM (Baum & Welch), out of core.

    Parameters
    ----------
    family : object with ``log_prob(params, x)``, ``stats(params, x, resp)`` and ``maximize(stats, previous)``
        See `streamem.core.ports.Family`. Those of `streamem.families` and your own; what works in `Mixture` works here.
        One with a `lag`, such as `AutoregressiveGaussian`, sees each step together with those before it.
    n_components : int, default 1
        States K.
    params, init_params : str, default "ste"
        Which parts are updated, and which are made anew by `fit`: s startprob, t transmat, e emissions (`params_`).
    start, startprob_prior, transmat_prior, algorithm, random_state, n_iter, tol, n_init, topology, tied_transitions
    verbose, stopping, n_threads, memory_limit, chunk_bytes
        As in `GaussianHMM`.

    Attributes
    ----------
    startprob_ (K,), transmat_ (K, K)
    params_ : Params of the family
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianHMM`

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import HMM
    >>> from streamem.families import Poisson
    >>> rng = np.random.default_rng(0)
    >>> calm_then_busy = rng.poisson(np.repeat([1.0, 9.0, 1.0], 50))[:, None]
    >>> hmm = HMM(Poisson(), 2, random_state=0).fit(calm_then_busy)
    >>> sorted(hmm.params_.rates.ravel().round().tolist())
    [1.0, 10.0]
    """

    letters: ClassVar[dict[str, str]] = {"params_": "e"}
    params_: Params

    def __init__(
        self,
        family: Family,
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
        start: str = "kmeans",
        n_init: int = 1,
        topology: Any = "ergodic",
        tied_transitions: Sequence[Sequence[int]] | None = None,
        stopping: str = "aitken",
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.family = family
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

    @classmethod
    def load(cls, path: Path, **objects: Any) -> Self:
        """Read a model that `save` wrote; ``family=`` has to be given again, since code is not saved.

        Raises
        ------
        ParameterError : no family
        ModelFileError : not such a file, damaged, newer than this library, or not to be trusted
        """
        if "family" not in objects:
            raise ParameterError("an HMM is loaded with its family: HMM.load(path, family=...)")
        return super().load(path, **objects)

    def _asked_family(self) -> Family:
        return self.family

    def _emissions(self, components: Params) -> dict[str, Array]:
        return {}

    def _emissions_rebuilt(self) -> Params:
        return self.params_

    def _emissions_given_wholly(self, model: Any, sample: Any) -> Params:
        return self.params_

    def _adopt(self, state: State, dtype: np.dtype[Any]) -> None:
        super()._adopt(state, dtype)
        self.params_ = self._state.params.components

    def _params(self) -> Params:
        state: State | None = getattr(self, "_state", None)
        if state is not None and self.params_ != state.params.components:
            return self._rebuilt()
        return super()._params()

    def _run_key(self) -> dict[str, Any]:
        return {**super()._run_key(), "family": settings_of(self.family)}

    def _given_attributes(self) -> list[str]:
        return [name for name in super()._given_attributes() if name != "params_"]

    def _not_saved(self) -> set[str]:
        return {"family"}

    def _check_loaded(self, params: Params, n_features: int) -> None:
        super()._check_loaded(params, n_features)
        self.params_ = params.components

    def _emission_lines(self) -> list[str]:
        k = int(self.n_components)
        leaves = {name: leaf for name, leaf in self.params_.flatten().items() if np.shape(leaf)[:1] == (k,)}
        return ["; ".join(f"{name} {in_short(leaf[i], 4)}" for name, leaf in leaves.items()) for i in range(k)]
