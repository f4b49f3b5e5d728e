"""`Mixture`: a mixture of any family, the user's own included."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import ModelFileError, ParameterError
from streamem.core.ports import Family, Source, Variant
from streamem.core.state import State
from streamem.estimators.family_facts import free_parameters, settings_of
from streamem.estimators.streaming import StreamingMixture
from streamem.running.answers import survey_source

Array = NDArray[Any]
Path = str | os.PathLike[str]


class Mixture(StreamingMixture):
    """Mixture of any `Family`, fitted by EM, out of core.

    Parameters
    ----------
    family : object with ``log_prob(params, x)``, ``stats(params, x, resp)`` and ``maximize(stats, previous)``
        See `streamem.core.ports.Family`; axis 0 of every parameter is the component.
    n_components : int, default 1
    tol, max_iter, n_init, init_params, random_state, warm_start, verbose, stopping
    n_threads, memory_limit, chunk_bytes
        As in `GaussianMixture`, but `stopping` is "aitken" by default.

    Attributes
    ----------
    weights_ : (K,)
    params_ : Params of the family
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_ : as in `GaussianMixture`

    Examples
    --------
    A distribution of your own in four lines:

    >>> import numpy as np
    >>> from scipy.special import gammaln
    >>> from streamem import Mixture, Params, Stats
    >>> class Poisson:
    ...     def log_prob(self, p, x):
    ...         return x @ np.log(p.rates).T - p.rates.sum(1) - gammaln(x + 1).sum(1, keepdims=True)
    ...     def stats(self, p, x, resp): return Stats(weight=resp.sum(0), x=resp.T @ x)
    ...     def maximize(self, s, previous): return Params(rates=s.x / s.weight[:, None])
    >>> x = np.repeat(np.arange(10.0), [162, 267, 271, 185, 111, 61, 27, 8, 3, 1])[:, None]
    >>> mix = Mixture(Poisson(), 2, tol=1e-12, max_iter=20_000, random_state=0).fit(x)
    >>> sorted(mix.params_.rates.ravel().round(3).tolist())
    [1.256, 2.663]
    """

    params_: Params

    def __init__(
        self,
        family: Family,
        n_components: int = 1,
        *,
        tol: float = 1e-3,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        stopping: str = "aitken",
        n_threads: int | None = None,
        memory_limit: str | int | None = None,
        chunk_bytes: str | int | None = None,
    ) -> None:
        self.family = family
        self.n_components = n_components
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.stopping = stopping
        self.n_threads = n_threads
        self.memory_limit = memory_limit
        self.chunk_bytes = chunk_bytes

    @classmethod
    def load(cls, path: str | os.PathLike[str], **objects: Any) -> Self:
        """Read a model that `save` wrote; ``family=`` has to be given again, since code is not saved.

        Raises
        ------
        ParameterError : no family
        ModelFileError : not such a file, damaged, newer than this library, or not to be trusted
        """
        if "family" not in objects:
            raise ParameterError("a Mixture is loaded with its family: Mixture.load(path, family=...)")
        return super().load(path, **objects)

    def _make_family(self) -> Family:
        asked, known = self.__dict__.get("_known_family", (None, None))
        return known if known is not None and asked is self.family else self.family

    def _fit(
        self,
        source: Source,
        dtype: np.dtype[Any],
        checkpoint: Path | None,
        executor: Any,
        algorithm: Variant,
    ) -> None:
        known = survey_source(self.family, source, self._engine("survey", executor))
        self._known_family = (self.family, known)
        super()._fit(source, dtype, checkpoint, executor, algorithm)

    def _published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Any]:
        return {"weights_": np.array(params.weights)}

    def _adopt(self, state: State, dtype: np.dtype[Any]) -> None:
        super()._adopt(state, dtype)
        self.params_ = self._state.params.components

    def _rebuilt(self) -> Params:
        return Params(weights=np.asarray(self.weights_, dtype=np.float64), components=self.params_)

    def _params(self) -> Params:
        state: State | None = getattr(self, "_state", None)
        rebuilt = self._rebuilt()
        if len(rebuilt.weights) != self.n_components:
            raise ParameterError(
                f"{len(rebuilt.weights)} components were fitted, and n_components is {self.n_components} now: set it "
                "back, or fit anew"
            )
        if state is None:
            return rebuilt
        same = np.array_equal(state.params.weights, rebuilt.weights) and state.params.components == rebuilt.components
        return state.params if same else rebuilt

    def _n_parameters(self) -> int:
        """Those of the family (all its numbers, if it does not tell), and K − 1 weights."""
        return free_parameters(self._make_family(), self.params_) + self.n_components - 1

    def _run_key(self) -> dict[str, Any]:
        return {**super()._run_key(), "family": settings_of(self._make_family())}

    def _not_saved(self) -> set[str]:
        return {"family"}

    def _check_loaded(self, params: Params, n_features: int) -> None:
        if np.shape(params.get("weights", ())) != (self.n_components,) or "components" not in params:
            raise ModelFileError(f"the file's weights do not fit {self.n_components} components")
        self.params_ = params.components
