"""What a fitted mixture says of rows: labels, probabilities, densities, scores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from streamem.core.errors import DataError
from streamem.estimators.inputs import Reading, as_source, categories_for, check_lazy
from streamem.estimators.mixture_parts import MixtureParts
from streamem.running.answers import (
    Column,
    apply_lazily,
    apply_to_array,
    apply_to_store,
    is_dask,
    require_apart,
    score_source,
)
from streamem.running.row_tasks import Apply, Describe, Score

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class _Call:
    """Where to read, run and write: the arguments that every question shares."""

    out: Path | None
    overwrite: bool
    columns: Sequence[str] | None
    feature_axis: int | str | None
    executor: Any


class DescribingMixture(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, MixtureParts):
    """Questions to a fitted mixture; every one is one pass over the data."""

    def predict(
        self,
        X: Any,
        *,
        out: Path | None = None,
        overwrite: bool = False,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Most probable component of every row.

        Parameters
        ----------
        X : anything that `fit` takes
        out : path ending in .zarr, .parquet or .npy
            Written chunk by chunk; it appears when complete.
        overwrite : replace an existing `out`
        columns, feature_axis, executor : as in `fit`; by default the columns that were fitted

        Returns
        -------
        (n,) int64 array; a lazy Dask array for a Dask collection; `out` if that was given (stored as int32).
        """
        column = Column(None, np.dtype(np.int64 if out is None else np.int32), ("label",))
        return self._describe(X, "labels", column, _Call(out, overwrite, columns, feature_axis, executor))

    def predict_proba(
        self,
        X: Any,
        *,
        out: Path | None = None,
        overwrite: bool = False,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Posterior probability of every component (n, K); arguments and result as in `predict`."""
        names = tuple(f"probability_{k}" for k in range(self.n_components))
        column = Column(self.n_components, published_dtype(X), names)
        return self._describe(X, "responsibilities", column, _Call(out, overwrite, columns, feature_axis, executor))

    def score_samples(
        self,
        X: Any,
        *,
        out: Path | None = None,
        overwrite: bool = False,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Log-density of every row (n,), in nats; arguments and result as in `predict`."""
        column = Column(None, published_dtype(X), ("log_density",))
        return self._describe(X, "log_density", column, _Call(out, overwrite, columns, feature_axis, executor))

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
        executor: Any = None,
    ) -> float:
        """Mean log-density per unit of weight, in nats."""
        total, weight = self._total(X, self._reading(sample_weight, columns, feature_axis), executor)
        return total / weight

    def bic(self, X: Any, **options: Any) -> float:
        """Bayesian information criterion (Schwarz 1978): −2ℓ + p·log(Σ weights). Options are those of `score`."""
        return self.scores(X, **options)["bic"]

    def aic(self, X: Any, **options: Any) -> float:
        """Akaike's information criterion (1974): −2ℓ + 2p. Options are those of `score`."""
        return self.scores(X, **options)["aic"]

    def scores(self, X: Any, *, executor: Any = None, **options: Any) -> dict[str, float]:
        """Everything that one pass tells of X: rows' weight, log-likelihood (total, per row), AIC, BIC.

        Options are those of `score`.
        """
        total, weight = self._total(X, self._reading(**options), executor)
        p = self._n_parameters()
        return {
            "weight": weight,
            "log_likelihood": total,
            "log_likelihood_per_row": total / weight,
            "aic": -2 * total + 2 * p,
            "bic": -2 * total + p * float(np.log(weight)),
        }

    def _total(self, x: Any, reading: Reading, executor: Any) -> tuple[float, float]:
        check_is_fitted(self)
        source = as_source(self, x, reading, reset=False)
        if source.n_rows == 0:
            raise DataError(f"{source.schema.origin} has no rows to score")
        task = Score(self._make_model(), self._params(), source.schema.names)
        total, weight = score_source(source, task, self._engine("score", executor))
        if not weight > 0:
            raise DataError(f"the sample weights sum to {weight}; at least one must be > 0")
        return total, weight

    def _narrowed(self, column: Column, call: _Call) -> Reading:
        """Chunks of fewer rows where an answer is wider than its row."""
        reading = self._reading(None, call.columns, call.feature_axis)
        d, width = self.n_features_in_, column.width or 1
        if width <= d:
            return reading
        chunk_bytes = max(1, reading.chunk_bytes * d // width)
        return replace(reading, chunk_bytes=chunk_bytes, most_chunk_bytes=chunk_bytes)

    def _describe(self, x: Any, question: str, column: Column, call: _Call) -> Any:
        check_is_fitted(self)
        model, params = self._make_model(), self._params()
        describe: Describe = getattr(model, question)
        if is_dask(x) and call.out is None and call.feature_axis is None:
            names = call.columns if call.columns is not None else getattr(self, "feature_names_in_", None)
            check_lazy(self, x, names)
            options = replace(self._reading(None, names), categories=categories_for(self, reset=False)).options()
            return apply_lazily(x, options, Apply(describe, params, None, column.dtype, column.row_nbytes), column)
        source = as_source(self, x, self._narrowed(column, call), reset=False)
        task = Apply(describe, params, source.schema.names, column.dtype, column.row_nbytes)
        engine = self._engine(question.replace("_", " "), call.executor)
        if call.out is None:
            return apply_to_array(source, task, column, engine)
        require_apart(x, call.out)
        return apply_to_store(source, task, column, engine, call.out, call.overwrite)


def published_dtype(x: Any) -> np.dtype[Any]:
    """float32 for a float32 array, as scikit-learn does; float64 for everything else."""
    is_float32 = isinstance(x, np.ndarray) and x.dtype == np.float32
    return np.dtype(np.float32 if is_float32 else np.float64)
