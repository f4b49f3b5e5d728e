"""What all EM estimators share: running a fit, save, load."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from streamem.algorithms import BatchEM, IncrementalEM, StepwiseEM
from streamem.core.arrays import Params
from streamem.core.errors import ModelFileError, NumericalError, ParameterError, StreamemError
from streamem.core.faults import require_faultless
from streamem.core.ports import Algorithm, Source, Variant, variant_of
from streamem.core.state import State
from streamem.estimators.persistence import (
    Parts,
    load_parts,
    public_faults,
    restore_common,
    save_estimator,
)
from streamem.estimators.settings import STOPPING, EMParts
from streamem.running.starts import Job, Outcome, fit_job

Array = NDArray[Any]
Path = str | os.PathLike[str]


class EMEstimator(EMParts):
    """The scikit-learn face of a model that is fitted by EM; subclasses say which model, and what they publish."""

    converged_: bool
    n_iter_: int

    def _chosen(self, algorithm: Any) -> Variant:
        self._check_hyperparameters()
        stopping = STOPPING[self.stopping](self.tol)
        seed = int(self.random_state) if isinstance(self.random_state, int | np.integer) else 0
        table: dict[str, Callable[[], Variant]] = {
            "batch": lambda: BatchEM(stopping, self._most_iterations()),
            "stepwise": lambda: StepwiseEM(seed=seed, window=self._window()),
            "incremental": lambda: IncrementalEM(stopping=stopping, max_iter=self._most_iterations()),
        }
        if isinstance(algorithm, str) and algorithm in table:
            return table[algorithm]()
        if isinstance(algorithm, type):
            raise ParameterError(
                f"algorithm is the class {algorithm.__name__}; pass an object, {algorithm.__name__}(...)"
            )
        variant = variant_of(algorithm)
        if variant is None:
            raise ParameterError(
                f"algorithm is {algorithm!r}; it must be one of {sorted(table)}, or an object such as "
                "streamem.algorithms.StepwiseEM(passes=2)"
            )
        if not variant.compares_starts and self.n_init > 1:
            raise ParameterError("final_pass=False leaves several starts (n_init) without a log-likelihood to compare")
        return variant.with_stopping(stopping)

    def _window(self) -> int | None:
        """Steps of a sequence that "stepwise" draws together."""
        return None

    @contextmanager
    def _kept_on_failure(self) -> Iterator[None]:
        """What fails leaves the model as it was."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _fit(
        self,
        source: Source,
        dtype: np.dtype[Any],
        checkpoint: Path | None,
        executor: Any,
        algorithm: Variant,
    ) -> None:
        """Fit to an opened source and publish attributes of `dtype`."""
        self._check_given(source.schema.n_features)
        model = self._make_model()
        warm = self._warm_start(source)
        job = Job(
            model=model,
            source=source,
            algorithm=algorithm,
            make_start=lambda sample, rng: self._make_start(model, sample, rng),
            n_components=self.n_components,
            n_init=1 if warm else self.n_init,
            rng=self._generator(),
            engine=self._engine(type(self).__name__, executor),
            least_rows=self._least_rows(source.schema.n_features),
            max_iter=self._most_iterations(),
            warm=warm,
            checkpoint=checkpoint,
            key={**self._run_key(), "algorithm": algorithm.key},
        )
        outcome = fit_job(job)
        for name in ("_pending", "stream_positions_", "_live_lengths"):  # of what was learned before
            self.__dict__.pop(name, None)
        self._publish(outcome, dtype, source.fingerprint())
        if not (self.converged_ or self._most_iterations() == 0 or algorithm.can_end_unconverged):
            self._warn_not_converged()

    def _warn_not_converged(self) -> None:
        warnings.warn(
            "Best performing initialization did not converge. Try different init parameters, or increase "
            f"{self._iterations_name()}, tol, or check for degenerate data.",
            ConvergenceWarning,
            stacklevel=4,
        )

    def _publish(self, outcome: Outcome, dtype: np.dtype[Any], fingerprint: str) -> None:
        self._seen, self.report_ = fingerprint, outcome.report
        self._adopt(outcome.state, dtype)

    def _adopt(self, state: State, dtype: np.dtype[Any]) -> None:
        """Publish a state."""
        published = self._published(state.params, dtype)
        require_finite_attributes(published)
        self._state = state
        for name, value in published.items():
            setattr(self, name, value)
        self.converged_ = state.converged
        self.n_iter_ = state.iteration
        self.lower_bound_ = state.last_known
        own = state.trace[max(0, len(state.trace) - state.iteration) :]
        ends = [] if state.log_likelihood is None else [state.log_likelihood]
        self.lower_bounds_ = [*own[1:], *ends] if state.iteration else []

    def _warm_start(self, source: Source) -> Callable[[Algorithm], State] | None:
        """From the algorithm, the state to go on from; None to start anew."""
        if not self._goes_on():
            return None
        params = self._params()
        state: State | None = getattr(self, "_state", None)
        if state is None or state.params != params or self._seen != source.fingerprint():
            return lambda algorithm: algorithm.start(params)
        return lambda algorithm: algorithm.resume(state)

    # --- save and load -----------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the fitted model to one ``.npz`` file, atomically and without pickle.

        Raises
        ------
        OutputError : the disk is full or the folder is missing; an earlier file is left intact
        """
        check_is_fitted(self)
        if not os.fspath(path).endswith(".npz"):
            raise ParameterError(f"{path}: a model file ends in .npz")
        self._save(path)

    def _save(self, path: Path, keep: int = 0) -> None:
        params = self._params()
        known: State | None = getattr(self, "_state", None)
        if known is not None and known.params == params:
            state = known
        else:
            self._require_savable(params)
            state = State(params, log_likelihood=None)
        dtype = self._published_dtype()
        save_estimator(path, self, state, self._published(params, dtype), dtype, self._not_saved(), keep)

    def _require_savable(self, params: Params) -> None:
        """Refuse attributes that were set by hand and that `load` would refuse."""
        if found := self._faults(params):
            raise ParameterError(
                f"the attributes as they are now contradict themselves: {'; '.join(found)}. Nothing was written; set "
                "them right, or fit anew"
            )

    @classmethod
    def load(cls, path: Path, **objects: Any) -> Self:
        """Read a model that `save` wrote.

        Raises
        ------
        ModelFileError : not such a file, damaged, newer than this library, or not to be trusted
        """
        return cls._checked(path, load_parts(path, cls.__name__), objects)

    @classmethod
    def _load_newest(cls, path: Path, objects: dict[str, Any]) -> Self:
        """The newest generation of a file that can be read."""
        return cls._checked(path, load_parts(path, cls.__name__, newest=True), objects)

    @classmethod
    def _checked(cls, path: Path, parts: Parts, objects: dict[str, Any]) -> Self:
        try:
            estimator = cls._restored(path, parts, objects)
        except StreamemError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError) as error:
            raise ModelFileError(f"{path} cannot be trusted as a {cls.__name__}: {error!r}") from error
        return estimator

    @classmethod
    def _restored(cls, path: Path, parts: Parts, objects: dict[str, Any]) -> Self:
        meta, state = parts.meta, parts.state
        estimator = cls(**parts.parameters, **objects)
        estimator._check_loaded(state.params, int(meta["n_features_in"]))
        estimator.n_features_in_ = int(meta["n_features_in"])
        require_faultless(path, state.faults() + estimator._faults(state.params))
        restore_common(estimator, meta, state)
        estimator._state, estimator._seen = state, str(meta["seen"])
        published = estimator._published(state.params, np.dtype(meta["published_dtype"]))
        require_faultless(path, public_faults(parts.public, published))
        for name, value in published.items():
            setattr(estimator, name, value)
        return estimator

    def _faults(self, params: Params) -> list[str]:
        """What contradicts itself in parameters."""
        model = self._make_model()
        return model.faults(params, int(self.n_components), self._row_width())

    def _not_saved(self) -> set[str]:
        """Hyperparameters that are objects, to be given again to `load`."""
        return set()

    def _check_loaded(self, params: Params, n_features: int) -> None:
        """Refuse parameters whose shapes do not belong together."""


def require_finite_attributes(published: Mapping[str, Array]) -> None:
    """Refuse to publish what float64 does not hold; predictions would still be right.

    Raises
    ------
    NumericalError : an attribute that is not finite
    """
    lost = [name for name, value in published.items() if not np.isfinite(value).all()]
    if lost:
        raise NumericalError(
            f"{', '.join(lost)} cannot be represented in float64: squares of the data, or their inverses, overflow; "
            "rescale the data"
        )
