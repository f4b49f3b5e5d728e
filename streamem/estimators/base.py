"""What all mixture estimators share: fit, predict, score, save."""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from streamem.algorithms import Aitken, BatchEM, Change, StoppingRule
from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import ParameterError
from streamem.core.ports import Family, Source
from streamem.core.state import State
from streamem.estimators.applying import (
    Column,
    Engine,
    apply_lazily,
    apply_to_array,
    apply_to_store,
    is_dask,
    score_source,
)
from streamem.estimators.fitting import Job, Outcome, fit_job
from streamem.estimators.inputs import Reading, as_source
from streamem.estimators.persistence import load_parts, restore_common, save_estimator
from streamem.initialization import STARTS
from streamem.memory import Budget
from streamem.models import Mixture
from streamem.tasks import Apply, Describe, Score

Array = NDArray[Any]
Path = str | os.PathLike[str]
STOPPING: dict[str, Callable[[float], StoppingRule]] = {"aitken": Aitken, "change": Change}


class BaseMixture(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    """The scikit-learn face of a mixture; subclasses say which family, and what they publish."""

    n_components: int
    tol: float
    max_iter: int
    n_init: int
    init_params: str
    random_state: Any
    warm_start: bool
    verbose: int
    stopping: str
    n_threads: int | None
    memory_limit: str | int | None
    chunk_bytes: str | int | None

    weights_: Array
    n_features_in_: int
    lower_bound_: float
    lower_bounds_: list[float]

    # --- what subclasses say -----------------------------------------------------------------------------------------

    @abstractmethod
    def _make_family(self) -> Family:
        """The family at the present hyperparameters."""

    @abstractmethod
    def _published(self, params: Params, dtype: np.dtype[Any]) -> dict[str, Array]:
        """Fitted attributes, under their public names, of exact parameters."""

    @abstractmethod
    def _rebuilt(self) -> Params:
        """Parameters from the fitted attributes, where a user changed or set them."""

    @abstractmethod
    def _n_parameters(self) -> int:
        """Free parameters of the model."""

    def _make_start(self, model: Mixture, sample: Chunk, rng: np.random.RandomState) -> Params:
        return model.init(sample, rng)

    def _check_given(self, n_features: int) -> None:
        """Refuse hyperparameters that do not fit the data."""

    def _run_key(self) -> dict[str, Any]:
        """What identifies a run besides its data."""
        return {
            "class": type(self).__name__,
            "n_components": self.n_components,
            "init_params": self.init_params,
            "random_state": self.random_state if isinstance(self.random_state, int) else None,
        }

    # --- fit ---------------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | str | None = None,
        *,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        checkpoint: Path | None = None,
    ) -> Self:
        """Fit by EM, one pass over the data an iteration.

        Parameters
        ----------
        X : array-like (n, d), or a path, table or collection that `streamem.open_source` can open
        y : ignored
        sample_weight : (n,) array, column name, or path of a one-dimensional Zarr array or ``.npy`` file
            Non-negative; a weight of 2 counts a row twice. None weighs all rows 1.
        columns : feature columns of a source that has names
        feature_axis : which axis of an array holds the features; needed for more than two dimensions
        checkpoint : path of an ``.npz`` file
            Saved after every iteration. If it exists, the fit goes on from there and ends with the same bits as one
            that was never interrupted.

        Returns
        -------
        self

        Raises
        ------
        DataError : NaN or infinity, too few rows, weights that are negative or all zero
        SourceError : a store that is damaged or changes meanwhile
        MemoryLimitError : the projection exceeds `memory_limit`
        MonotonicityError : an iteration lowered the log-likelihood
        """
        reading = self._reading(sample_weight, columns, feature_axis)
        self._fit(X, as_source(self, X, reading, reset=True), checkpoint)
        return self

    def fit_predict(self, X: Any, y: Any = None, **options: Any) -> Array:
        """`fit`, then `predict` of the same data: (n,) labels. Options are those of `fit`."""
        self.fit(X, y, **options)
        chosen = {name: value for name, value in options.items() if name in ("columns", "feature_axis")}
        return np.asarray(self.predict(X, **chosen))

    def _fit(self, x: Any, source: Source, checkpoint: Path | None) -> None:
        self._check_hyperparameters()
        self._check_given(source.schema.n_features)
        algorithm = BatchEM(STOPPING[self.stopping](self.tol), self.max_iter)
        model = self._make_model()
        warm = self._warm_state(source, algorithm)
        job = Job(
            model=model,
            source=source,
            algorithm=algorithm,
            make_start=lambda sample, rng: self._make_start(model, sample, rng),
            n_components=self.n_components,
            n_init=1 if warm else self.n_init,
            rng=check_random_state(self.random_state),
            budget=self._budget(),
            n_threads=self._threads(),
            warm=warm,
            checkpoint=checkpoint,
            key=self._run_key(),
            verbose=int(self.verbose),
            what=type(self).__name__,
        )
        outcome = fit_job(job)
        self._publish(outcome, _published_dtype(x), source.fingerprint())

    def _publish(self, outcome: Outcome, dtype: np.dtype[Any], fingerprint: str) -> None:
        state = outcome.state
        self._state, self._seen = state, fingerprint
        self.report_ = outcome.report
        for name, value in self._published(state.params, dtype).items():
            setattr(self, name, value)
        self.converged_ = state.converged
        self.n_iter_ = state.iteration
        self.lower_bound_ = float(state.log_likelihood) if state.log_likelihood is not None else float("nan")
        own = state.trace[len(state.trace) - state.iteration :]
        self.lower_bounds_ = [*own[1:], self.lower_bound_] if state.iteration else []
        if not self.converged_ and self.max_iter > 0:
            warnings.warn(
                "Best performing initialization did not converge. Try different init parameters, or increase max_iter, "
                "tol, or check for degenerate data.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _warm_state(self, source: Source, algorithm: BatchEM) -> State | None:
        if not (self.warm_start and hasattr(self, "converged_")):
            return None
        params = self._params()
        state: State | None = getattr(self, "_state", None)
        if state is None or state.params != params or self._seen != source.fingerprint():
            return algorithm.start(params)
        return algorithm.resume(state)

    # --- what it says of rows ----------------------------------------------------------------------------------------

    def predict(
        self,
        X: Any,
        *,
        out: Path | None = None,
        overwrite: bool = False,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
    ) -> Any:
        """Most probable component of every row.

        Parameters
        ----------
        X : anything that `fit` takes
        out : path ending in .zarr, .parquet or .npy
            Written chunk by chunk; it appears when complete.
        overwrite : replace an existing `out`
        columns, feature_axis : as in `fit`; by default the columns that were fitted

        Returns
        -------
        (n,) int64 array; a lazy Dask array for a Dask collection; `out` if that was given (stored as int32).
        """
        return self._describe(X, "labels", None, np.dtype(np.int64), ("label",), out, overwrite, columns, feature_axis)

    def predict_proba(
        self,
        X: Any,
        *,
        out: Path | None = None,
        overwrite: bool = False,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
    ) -> Any:
        """Posterior probability of every component (n, K); arguments and result as in `predict`."""
        names = tuple(f"probability_{k}" for k in range(self.n_components))
        dtype = _published_dtype(X)
        return self._describe(
            X, "responsibilities", self.n_components, dtype, names, out, overwrite, columns, feature_axis
        )

    def score_samples(
        self,
        X: Any,
        *,
        out: Path | None = None,
        overwrite: bool = False,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
    ) -> Any:
        """Log-density of every row (n,), in nats; arguments and result as in `predict`."""
        dtype = _published_dtype(X)
        return self._describe(X, "log_density", None, dtype, ("log_density",), out, overwrite, columns, feature_axis)

    def transform(self, X: Any) -> Any:
        """Posterior probabilities as features for a next step (n, K): `predict_proba`."""
        return self.predict_proba(X)

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | str | None = None,
        *,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
    ) -> float:
        """Mean log-density per unit of weight, in nats."""
        total, weight = self._total(X, self._reading(sample_weight, columns, feature_axis))
        return total / weight

    def bic(self, X: Any, **options: Any) -> float:
        """Bayesian information criterion (Schwarz 1978): −2ℓ + p·log(Σ weights). Options are those of `score`."""
        return self.scores(X, **options)["bic"]

    def aic(self, X: Any, **options: Any) -> float:
        """Akaike's information criterion (1974): −2ℓ + 2p. Options are those of `score`."""
        return self.scores(X, **options)["aic"]

    def scores(self, X: Any, **options: Any) -> dict[str, float]:
        """Everything that one pass tells of X: rows' weight, log-likelihood (total, per row), AIC, BIC.

        Options are those of `score`.
        """
        total, weight = self._total(X, self._reading(**options))
        p = self._n_parameters()
        return {
            "weight": weight,
            "log_likelihood": total,
            "log_likelihood_per_row": total / weight,
            "aic": -2 * total + 2 * p,
            "bic": -2 * total + p * float(np.log(weight)),
        }

    def _total(self, x: Any, reading: Reading) -> tuple[float, float]:
        check_is_fitted(self)
        source = as_source(self, x, reading, reset=False)
        if source.n_rows == 0:
            raise ParameterError(f"{source.schema.origin} has no rows to score")
        task = Score(self._make_model(), self._params(), source.schema.names)
        total, weight = score_source(source, task, self._engine("score"))
        if not weight > 0:
            raise ParameterError(f"the sample weights sum to {weight}; at least one must be > 0")
        return total, weight

    def _describe(
        self,
        x: Any,
        question: str,
        width: int | None,
        dtype: np.dtype[Any],
        names: tuple[str, ...],
        out: Path | None,
        overwrite: bool,
        columns: Sequence[str] | None,
        feature_axis: int | str | None,
    ) -> Any:
        check_is_fitted(self)
        model, params = self._make_model(), self._params()
        describe: Describe = getattr(model, question)
        column = Column(width, dtype, names)
        if out is not None and dtype.kind == "i":
            column = Column(width, np.dtype(np.int32), names)
        if is_dask(x) and out is None and feature_axis is None:
            feature_names = columns if columns is not None else getattr(self, "feature_names_in_", None)
            return apply_lazily(x, feature_names, Apply(describe, params, None, column.dtype), column)
        source = as_source(self, x, self._reading(None, columns, feature_axis), reset=False)
        task = Apply(describe, params, source.schema.names, column.dtype)
        engine = self._engine(question.replace("_", " "))
        if out is None:
            return apply_to_array(source, task, column, engine)
        return apply_to_store(source, task, column, engine, out, overwrite)

    # --- save and load -----------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the fitted model to one ``.npz`` file, atomically and without pickle.

        Raises
        ------
        OutputError : the disk is full or the folder is missing; an earlier file is left intact
        """
        check_is_fitted(self)
        params = self._params()
        known: State | None = getattr(self, "_state", None)
        state = known if known is not None and known.params == params else State(params, log_likelihood=None)
        public = self._published(params, self.weights_.dtype)
        save_estimator(path, self, state, public, self._not_saved())

    @classmethod
    def load(cls, path: Path, **objects: Any) -> Self:
        """Read a model that `save` wrote.

        Raises
        ------
        ModelFileError : not such a file, damaged, newer than this library, or not to be trusted
        """
        parameters, (meta, state) = load_parts(path, cls.__name__)
        estimator = cls(**parameters, **objects)
        estimator._check_loaded(state.params, int(meta["n_features_in"]))
        restore_common(estimator, meta, state)
        estimator._state, estimator._seen = state, ""
        for name, value in estimator._published(state.params, np.dtype(meta["published_dtype"])).items():
            setattr(estimator, name, value)
        return estimator

    def _not_saved(self) -> set[str]:
        """Hyperparameters that are objects, to be given again to `load`."""
        return set()

    def _check_loaded(self, params: Params, n_features: int) -> None:
        """Refuse parameters whose shapes do not belong together."""

    # --- inner -------------------------------------------------------------------------------------------------------

    def _make_model(self) -> Mixture:
        return Mixture(self._make_family(), self.n_components, STARTS[self.init_params])

    def _params(self) -> Params:
        """Exact parameters: those of the last fit, unless the user has changed the attributes since."""
        state: State | None = getattr(self, "_state", None)
        if state is not None:
            derived = self._published(state.params, self.weights_.dtype)
            if all(_same(getattr(self, name, None), value) for name, value in derived.items()):
                return state.params
        return self._rebuilt()

    def _reading(
        self,
        sample_weight: Any = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
    ) -> Reading:
        return Reading(columns, feature_axis, sample_weight, self._budget().chunk_bytes)

    def _budget(self) -> Budget:
        return Budget.of(self.memory_limit, self.chunk_bytes)

    def _threads(self) -> int:
        if self.n_threads is not None:
            if isinstance(self.n_threads, bool) or int(self.n_threads) < 1:
                raise ParameterError(
                    f"n_threads is {self.n_threads}; it must be an integer >= 1, or None for all cores"
                )
            return int(self.n_threads)
        from joblib import cpu_count

        return int(cpu_count())

    def _engine(self, what: str) -> Engine:
        workspace = self._make_model().workspace_bytes(self.n_features_in_)
        return Engine(self._threads(), self._budget(), workspace, what, int(self.verbose))

    def _check_hyperparameters(self) -> None:
        for name, low in (("n_components", 1), ("n_init", 1), ("max_iter", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
                raise ParameterError(f"{name} is {value!r}; it must be an integer >= {low}")
        if isinstance(self.tol, bool) or not isinstance(self.tol, int | float | np.number) or not self.tol >= 0:
            raise ParameterError(f"tol is {self.tol!r}; it must be a number >= 0, in nats per row")
        for name, table in (("init_params", STARTS), ("stopping", STOPPING)):
            if getattr(self, name) not in table:
                raise ParameterError(f"{name} is {getattr(self, name)!r}; it must be one of {sorted(table)}")

    @property
    def _n_features_out(self) -> int:
        """For `get_feature_names_out`: one feature a component."""
        return self.n_components

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "weights_")

    def __getstate__(self) -> Mapping[str, Any]:
        state: Mapping[str, Any] = super().__getstate__()
        return state


def _published_dtype(x: Any) -> np.dtype[Any]:
    """float32 for a float32 array, as scikit-learn does; float64 for everything else."""
    is_float32 = isinstance(x, np.ndarray) and x.dtype == np.float32
    return np.dtype(np.float32 if is_float32 else np.float64)


def _same(one: Any, other: Array) -> bool:
    return isinstance(one, np.ndarray) and one.shape == other.shape and one.tobytes() == other.tobytes()
