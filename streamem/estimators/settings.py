"""What every EM estimator holds: settings, and the parameters of its last fit."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from streamem.algorithms import Aitken, Change, StoppingRule
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError
from streamem.core.ports import Model
from streamem.core.state import State
from streamem.machine.importing import uninterrupted
from streamem.running.engines import Engine
from streamem.running.memory import Budget

Array = NDArray[Any]
STOPPING: dict[str, Callable[[float], StoppingRule]] = {"aitken": Aitken, "change": Change}


class EMParts(BaseEstimator):
    """Hyperparameters of any EM estimator, what subclasses say of their model, and what follows from both."""

    n_components: int
    tol: float
    n_init: int
    init_params: str
    random_state: Any
    verbose: int
    stopping: str
    n_threads: int | None
    memory_limit: str | int | None
    chunk_bytes: str | int | None

    n_features_in_: int
    lower_bound_: float
    lower_bounds_: list[float]

    # --- what subclasses say -----------------------------------------------------------------------------------------

    @abstractmethod
    def _make_model(self) -> Model:
        """The model at the present hyperparameters."""

    @abstractmethod
    def _published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        """Fitted attributes, under their public names, of exact parameters."""

    @abstractmethod
    def _rebuilt(self) -> Params:
        """Parameters from the fitted attributes, where a user changed or set them."""

    @abstractmethod
    def _n_parameters(self) -> int:
        """Free parameters of the model."""

    @abstractmethod
    def _is_fitted(self) -> bool:
        """Whether there are parameters, fitted or set by hand."""

    @abstractmethod
    def _most_iterations(self) -> int:
        """Iterations of one start, at most."""

    def _iterations_name(self) -> str:
        """Of the hyperparameter that says so."""
        return "max_iter"

    @abstractmethod
    def _make_start(self, model: Any, sample: Chunk, rng: np.random.RandomState) -> Params:
        """Parameters to start from."""

    def _counts_categories(self) -> bool:
        """Whether columns of text can be read, as codes."""
        return False

    def _row_width(self) -> int:
        """Values of a row as the model sees it."""
        return self.n_features_in_

    def _published_dtype(self) -> np.dtype[Any]:
        """In which the attributes were published."""
        return np.dtype(np.float64)

    def _goes_on(self) -> bool:
        """Whether `fit` goes on from the fit before."""
        return False

    def _check_given(self, n_features: int) -> None:
        """Refuse hyperparameters that do not fit the data."""

    def _given_wholly(self) -> bool:
        """Whether every starting value is given."""
        return False

    def _is_chance_free(self) -> bool:
        """Whether no starting value is drawn: all are given, or there is nothing to choose from."""
        return self.n_components == 1 or self._given_wholly()

    def _generator(self) -> np.random.RandomState:
        """What starts draw from.

        Where no starting value is drawn but the rows of an anchor are, equal input gives equal bits without a seed.
        """
        if self.random_state is None and self._is_chance_free():
            return np.random.RandomState(0)
        return check_random_state(self.random_state)

    def _run_key(self) -> dict[str, Any]:
        """What identifies a run besides its data."""
        return {
            "class": type(self).__name__,
            "n_components": int(self.n_components),
            "init_params": self.init_params,
            "random_state": self._seed_key(),
            # Earlier starts of several have ended for good; a single one can go on under another rule.
            "n_init": 1 if self.n_init == 1 else f"{self.n_init} starts of {self._ending()}",
        }

    def _seed_key(self) -> Any:
        """The seed, a checksum of a generator's state, or None."""
        if isinstance(self.random_state, np.random.RandomState):
            state = self.random_state.get_state(legacy=False)["state"]
            return f"generator {zlib.crc32(state['key'].tobytes()):08x}-{state['pos']}"
        return None if self.random_state is None else int(self.random_state)

    def _ending(self) -> str:
        return f"at most {self._most_iterations()} iterations, tol {self.tol}, stopping {self.stopping}"

    def _least_rows(self, n_features: int) -> int:
        """Rows that tell enough of every component to estimate it."""
        return 2 * int(self.n_components) * (n_features + 1)

    # --- inner -------------------------------------------------------------------------------------------------------

    def _params(self) -> Params:
        """Exact parameters: those of the last fit, unless the user has changed the attributes since."""
        state: State | None = getattr(self, "_state", None)
        if state is not None:
            derived = self._published(state.params, self._published_dtype())
            if all(_same(getattr(self, name, None), value) for name, value in derived.items()):
                return state.params
        return self._rebuilt()

    def _budget(self) -> Budget:
        return Budget.of(self.memory_limit, self.chunk_bytes)

    def _threads(self) -> int:
        if self.n_threads is not None:
            if isinstance(self.n_threads, bool) or int(self.n_threads) < 1:
                raise ParameterError(
                    f"n_threads is {self.n_threads}; it must be an integer >= 1, or None for all cores"
                )
            return int(self.n_threads)
        with uninterrupted("joblib"):
            from joblib import cpu_count

        return int(cpu_count())

    def _engine(self, what: str, executor: Any = None) -> Engine:
        workspace = self._make_model().workspace_bytes(self._row_width())
        return Engine(executor, self._threads(), self._budget(), workspace, what, int(self.verbose))

    def _check_hyperparameters(self) -> None:
        for name, low in self._counts().items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
                raise ParameterError(f"{name} is {value!r}; it must be an integer >= {low}")
        if isinstance(self.tol, bool) or not isinstance(self.tol, int | float | np.number) or not self.tol >= 0:
            raise ParameterError(f"tol is {self.tol!r}; it must be a number >= 0, in nats per row")
        for name, choices in self._choices().items():
            if getattr(self, name) not in choices:
                raise ParameterError(f"{name} is {getattr(self, name)!r}; it must be one of {sorted(choices)}")

    def _counts(self) -> dict[str, int]:
        """Hyperparameters that are whole numbers, and the least value of each."""
        return {"n_components": 1, "n_init": 1}

    def _choices(self) -> dict[str, Any]:
        """Hyperparameters that are one of several words."""
        return {"stopping": STOPPING}

    def __sklearn_is_fitted__(self) -> bool:
        return self._is_fitted()


def _same(one: Any, other: Array) -> bool:
    return isinstance(one, np.ndarray) and one.shape == other.shape and one.tobytes() == other.tobytes()
