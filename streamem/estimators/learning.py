"""What fits a mixture: rows at rest, rows that arrive, statistics of rows elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from streamem.algorithms import StepSize
from streamem.core.ports import Variant
from streamem.estimators.federated import SharedStats
from streamem.estimators.inputs import as_source
from streamem.estimators.online import OnlineEstimator, step_rule
from streamem.estimators.predicting import DescribingMixture, published_dtype

Array = NDArray[Any]
Path = str | os.PathLike[str]


class LearningMixture(DescribingMixture, OnlineEstimator):
    """A mixture that is fitted to rows; subclasses say which family, and what they publish."""

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | str | None = None,
        *,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        checkpoint: Path | None = None,
        executor: Any = None,
        algorithm: str | Variant = "batch",
    ) -> Self:
        """Fit by EM; by default one pass over the data an iteration.

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
        executor : None, "threads" or distributed.Client
            Where to run; None is the active Dask client if there is one, else threads of this process. The result's
            bits are the same.
        algorithm : "batch", "stepwise", "incremental", or an object, like ``StepwiseEM(passes=2)``
            "stepwise" makes an M-step after each of at least 200 shuffled mini-batches a pass: from a poor start five
            of its passes get as far as tens of "batch". It ends after its passes, not by `tol`, so
            `converged_` is False; `n_iter_` counts M-steps. "incremental" remembers the statistics of 32 blocks of
            rows and makes an M-step after each block; `tol` and `max_iter` count passes.

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
        with self._kept_on_failure():
            chosen = self._chosen(algorithm)
            source = as_source(self, X, replace(reading, in_order=chosen.reads_in_order), reset=True)
            self._fit(source, published_dtype(X), checkpoint, executor, chosen)
        return self

    def fit_predict(self, X: Any, y: Any = None, **options: Any) -> Array:
        """`fit`, then `predict` of the same data: (n,) labels. Options are those of `fit`."""
        self.fit(X, y, **options)
        chosen = {name: value for name, value in options.items() if name in ("columns", "feature_axis", "executor")}
        return np.asarray(self.predict(X, **chosen))

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | str | None = None,
        *,
        half_life: float | None = None,
        step: StepSize | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Self:
        """One step of online EM with X as mini-batch: its E-step, then an M-step on a moving average of statistics.

        Starts from nothing: rows are kept until there are 2·K·(d + 1) and a start can be made of them. Or goes on from
        `fit`, whose last statistics count with the weight of their rows, from `load`, or from earlier calls.
        `lower_bound_` is then the log-likelihood per row of X *before* the step: how well the model predicted it. Set
        `random_state` for a repeatable start. `fit` starts anew.

        Parameters
        ----------
        X, sample_weight, columns, feature_axis, executor : as in `fit`; the whole of X is one mini-batch
            Weights are frequencies, 2 is the row twice, also for `half_life`. Sorted data makes a poor model: shuffle.
        y : ignored
        half_life : rows after which what was known before counts half, for data that drifts
            None lets all rows count in the end: see `step`.
        step : StepSize, by default ``PowerLaw(0.7)``
            γ as a function of the weight of X and of that seen before (`streamem.algorithms`).

        Returns
        -------
        self
        """
        rule = step_rule(half_life, step)
        self._learn_and_tell(lambda: self._learn_batch(X, sample_weight, rule, columns, feature_axis, executor))
        return self

    def _learn_batch(
        self,
        x: Any,
        sample_weight: Any,
        rule: StepSize,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = "threads",
    ) -> None:
        reading = self._reading(sample_weight, columns, feature_axis)
        source = as_source(self, x, reading, reset=not hasattr(self, "n_features_in_"))
        self._step(source, rule, published_dtype(x), executor)

    def expected_statistics(
        self,
        X: Any,
        sample_weight: ArrayLike | str | None = None,
        *,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> SharedStats:
        """E-step: expected sufficient statistics of X under the present parameters; one pass over the data.

        A start that all sites share comes from ``fit(sample)`` with ``max_iter=0``.

        Parameters
        ----------
        X, sample_weight, columns, feature_axis, executor : as in `fit`

        Raises
        ------
        DataError : no rows, or NaN or infinity among them
        """
        check_is_fitted(self)
        self._require_fitting_shapes()
        source = as_source(self, X, self._reading(sample_weight, columns, feature_axis), reset=False)
        return self._expected(source, executor)
