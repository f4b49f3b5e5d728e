"""`MixtureEstimator`: what every mixture of independent rows does, whatever its family."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import check_random_state

from streamem.algorithms import StepSize
from streamem.core.errors import ParameterError
from streamem.core.ports import Variant
from streamem.estimators.asking import Target, scores_of
from streamem.estimators.declaring import hyperparameters
from streamem.estimators.estimator import Estimator
from streamem.estimators.imputing import impute
from streamem.estimators.making import n_parameters
from streamem.estimators.rows import ROWS
from streamem.estimators.structure import DataArguments
from streamem.online.learner import step_rule
from streamem.running.answers import is_dask
from streamem.running.federated import SharedStats

Array = NDArray[Any]
Path = str | os.PathLike[str]


@hyperparameters()
class MixtureEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, Estimator):
    """A mixture that is fitted to rows; subclasses name the face of its family.

    Hyperparameters that all mixtures have are declared here.
    """

    structure = ROWS

    n_components: int = field(default=1, kw_only=False)
    tol: float = 1e-3
    max_iter: int = 100
    n_init: int = 1
    init_params: str = "kmeans"
    random_state: int | np.random.RandomState | None = None
    warm_start: bool = False
    verbose: int = 0
    stopping: str = "aitken"
    missing: str = "error"
    noise: bool = False
    weight_concentration_prior: float | ArrayLike | None = None
    n_threads: int | None = None
    memory_limit: str | int | None = None
    chunk_bytes: str | int | None = None

    weights_: Array = field(init=False)
    stream_positions_: dict[str, dict[str, Any]] = field(init=False)

    # --- learning ----------------------------------------------------------------------------------------------------

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
        algorithm: str | Variant | None = None,
        halve_after: int | None = None,
    ) -> Self:
        """Fit by EM; one pass over the data an iteration where the data are small.

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
        algorithm : "auto", "batch", "squarem", "anderson", "stepwise", "incremental", or an object, ``IncrementalEM()``
            None is "batch", with scikit-learn's numbers, where the rows are an array in memory or a fit keeps them
            decoded from pass to pass (96 MiB, or half of `memory_limit`), and "auto" where each pass must read more.
            It is "anderson" instead of "auto" where mini-batches cannot be (a start that is given, row groups of
            Parquet that are decoded in parts) and "batch" where `memory_limit` has no room for either. A fit that goes
            on from a checkpoint goes on with its algorithm. `report_` says which it was, and why.
            "auto" takes one start by "kmeans" on as ``init_params="split_merge"`` does, on the sample, makes a pass of
            "batch" and two of "stepwise" where there are rows enough, then "anderson". This and
            "squarem" try steps beyond those of EM, keep one only if it raises the log-likelihood, and end with plain
            steps, which alone are judged by `tol`; `report_` tells kinds of passes, and `n_iter_` counts M-steps over
            all rows that were kept. "stepwise" makes an M-step after each of at least 200 shuffled mini-batches a pass:
            from a poor start five of its passes get as far as tens of "batch". It ends after its passes, not by `tol`,
            so `converged_` is False; `n_iter_` counts M-steps. "incremental" remembers the statistics of 32 blocks of
            rows and makes an M-step after each block; `tol` and `max_iter` count passes.
        halve_after : passes, at least 5, after which the worse half of the starts is given up, again and again
            None runs all of them to their ends. Starts share their reads either way: each chunk is read once for all.

        Returns
        -------
        self

        Warns
        -----
        LocalMaximumWarning : only one of several starts, or of the short runs of EM before one, reached the best value
            (`streamem.running.reached`); `report_.starts` and `report_.short_runs` count them
        ConvergenceWarning : `max_iter` was reached before `tol`

        Raises
        ------
        DataError : NaN or infinity, too few rows, weights that are negative or all zero
        SourceError : a store that is damaged or changes meanwhile
        MemoryLimitError : the projection exceeds `memory_limit`
        MonotonicityError : an iteration lowered the log-likelihood

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(2, random_state=0).fit([[0.0], [1.0], [9.0], [10.0]])
        >>> sorted(gm.means_.ravel().round(1).tolist())
        [0.5, 9.5]
        """
        arguments = DataArguments(sample_weight, columns, feature_axis)
        self._fit(X, arguments, algorithm, checkpoint, executor, halve_after)
        return self

    def fit_predict(self, X: Any, y: Any = None, **options: Any) -> Any:
        """`fit`, then `predict` of the same data: (n,) labels. Options are those of `fit`.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> labels = GaussianMixture(2, random_state=0).fit_predict([[0.0], [1.0], [9.0], [10.0]])
        >>> sorted([len(set(labels[:2].tolist())), len(set(labels.tolist()))])
        [1, 2]
        """
        self.fit(X, y, **options)
        chosen = {
            name: value for name, value in options.items() if name in ("columns", "feature_axis", "executor", "noise")
        }
        found = self.predict(X, **chosen)
        return np.asarray(found) if is_dask(found) else found

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
        categories: Mapping[str, Sequence[Any]] | None = None,
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
        half_life : rows after which earlier rows count half, for data that drifts
            None lets all rows count in the end: see `step`.
        step : StepSize, by default ``PowerLaw(0.7)``
            γ as a function of the weight of X and of that seen before (`streamem.algorithms`).
        categories : the values of columns of text, such as ``{"region": ["north", "south"]}``, in the order of codes
            For the first batch, whose own values they are otherwise; later ones are encoded by `categories_`.

        Returns
        -------
        self

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> gm = GaussianMixture(1)
        >>> for batch in ([[0.0], [2.0]], [[4.0], [6.0]]):
        ...     gm = gm.partial_fit(batch)
        >>> gm.report_.n_rows
        4
        """
        arguments = DataArguments(sample_weight, columns, feature_axis, categories=categories)
        self._learn(X, arguments, step_rule(half_life, step), executor)
        return self

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

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> sums = gm.expected_statistics(rows[:2]) + gm.expected_statistics(rows[2:])
        >>> gm.maximize(sums).means_.shape
        (2, 1)
        """
        return self._expected(X, DataArguments(sample_weight, columns, feature_axis), executor)

    # --- questions ---------------------------------------------------------------------------------------------------

    set_output = Estimator.set_output

    def predict(
        self,
        X: Any,
        *,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Most probable component of every row.

        Parameters
        ----------
        X : anything that `fit` takes
        out : path ending in .zarr, .parquet or .npy
            Written chunk by chunk; it appears when complete. For xarray data, and Zarr groups whose dimensions have
            names, a ``.zarr`` is a group with the variable ``label`` (``probability``, ``log_density``) in the chunks
            of the data, their coordinates and attributes: ``xarray.open_zarr`` opens it. Else it is one array.
        overwrite : replace an existing `out`
        id_columns : columns of X that ``out="….parquet"`` holds too, beside the answer, so that it can be joined
            By default the index of a DataFrame, also of one that was written to Parquet, unless it only counts rows,
            and the row coordinates of xarray data; ``[]`` for none.
        columns, feature_axis, executor : as in `fit`; by default the columns that were fitted

        Returns
        -------
        (n,) int64 array; see `set_output` for Series with the index of X.
            A DataArray with the dimensions and coordinates of xarray data. Where nothing was observed (land), of these
            and of Zarr groups with two named dimensions of rows or more, it is −1; a lazy
            Dask array, or Series with known divisions, for a Dask collection; `out` if that was given (as int32).

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> near, far = gm.predict([[0.2], [9.9]]).tolist()
        >>> near != far
        True
        """
        target = Target(out, overwrite, executor, id_columns)
        return self._answer("labels", X, DataArguments(None, columns, feature_axis), target)

    def predict_proba(
        self,
        X: Any,
        *,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Posterior probability of every component (n, K); arguments and result as in `predict`.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> gm.predict_proba([[0.2], [9.9]]).sum(axis=1).round(6).tolist()
        [1.0, 1.0]
        """
        target = Target(out, overwrite, executor, id_columns)
        return self._answer("responsibilities", X, DataArguments(None, columns, feature_axis), target)

    def score_samples(
        self,
        X: Any,
        *,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Log-density of every row (n,), in nats; arguments and result as in `predict`.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> near, between = gm.score_samples([[0.5], [5.0]]).tolist()
        >>> near > between
        True
        """
        target = Target(out, overwrite, executor, id_columns)
        return self._answer("log_density", X, DataArguments(None, columns, feature_axis), target)

    def impute(
        self,
        X: Any,
        *,
        n_draws: int = 0,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """X with values in place of those that were not observed; needs ``missing="integrate"``.

        Parameters
        ----------
        X : anything that `fit` takes; NaN, null or masked is what was not observed
        n_draws : 0 for conditional means given what was observed of the row, Σ_k r_k E_k[x | observed]
            Else so many draws from the conditional distribution, of a component and then of its values, by
            `random_state`: multiple imputation (Rubin 1987) at the fitted parameters. Equal chunks get equal draws,
            whatever the number of threads.
        out, overwrite, id_columns, columns, feature_axis, executor : as in `predict`
            Columns are named as those of the data. A ``.parquet`` and frames (`set_output`) hold columns of text as
            text, arrays the codes of `categories_`.

        Returns
        -------
        (n, d) array of X, float32 for a float32 array, in which observed values are what they were; draws are
        (n_draws, n, d). A lazy Dask array for a Dask collection. `out` if that was given, in which draws are columns
        beside each other, ``income_0``, ``visits_0``, ``income_1``, …

        Raises
        ------
        ParameterError : ``missing="error"``, or a family that cannot impute

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import GaussianMixture
        >>> X = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0], [4.0, np.nan]])
        >>> gm = GaussianMixture(missing="integrate", reg_covar=1e-9, tol=1e-9).fit(X)
        >>> gm.impute(X)[3].round(3).tolist()
        [4.0, 8.0]
        """
        target = Target(out, overwrite, executor, id_columns)
        return impute(self, self._now(), X, DataArguments(None, columns, feature_axis), n_draws, target)

    def transform(self, X: Any) -> Any:
        """Posterior probabilities as features for a next step (n, K): `predict_proba`.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> gm.transform([[0.2], [9.9]]).shape
        (2, 2)
        """
        return self._answer("responsibilities", X, DataArguments(), Target(plain=True))

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
        """Mean log-density per unit of weight, in nats.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> gm.score([[0.5]]) > gm.score([[5.0]])
        True
        """
        arguments = DataArguments(sample_weight, columns, feature_axis)
        return scores_of(self, self._now(), X, arguments, executor)["log_likelihood_per_row"]

    def bic(self, X: Any, **options: Any) -> float:
        """Bayesian information criterion (Schwarz 1978): −2ℓ + p·log(Σ weights). Options are those of `score`.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> gm.bic(rows) < gm.bic([[4.0], [5.0], [5.5], [6.0]])
        True
        """
        return self.scores(X, **options)["bic"]

    def aic(self, X: Any, **options: Any) -> float:
        """Akaike's information criterion (1974): −2ℓ + 2p. Options are those of `score`.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> gm.aic(rows) < gm.aic([[4.0], [5.0], [5.5], [6.0]])
        True
        """
        return self.scores(X, **options)["aic"]

    def scores(self, X: Any, *, executor: Any = None, **options: Any) -> dict[str, float]:
        """Scores of X from one pass: rows, weight, log-likelihood (total, per row), AIC, BIC.

        Options are those of `score`.

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> sorted(gm.scores(rows))
        ['aic', 'bic', 'log_likelihood', 'log_likelihood_per_row', 'weight']
        """
        return scores_of(self, self._now(), X, DataArguments(**options), executor)

    def sample(self, n_samples: int = 1) -> tuple[Array, Array]:
        """Draw rows from the fitted mixture, component after component.

        Returns
        -------
        X (n_samples, d), labels (n_samples,)

        Raises
        ------
        ParameterError : the family cannot draw

        Examples
        --------
        >>> from streamem import GaussianMixture
        >>> rows = [[0.0], [1.0], [9.0], [10.0]]
        >>> gm = GaussianMixture(2, random_state=0).fit(rows)
        >>> x, labels = gm.sample(3)
        >>> x.shape, labels.shape
        ((3, 1), (3,))
        """
        fitted = self._now()
        if isinstance(n_samples, bool) or not n_samples >= 1:
            raise ParameterError(
                f"Invalid value for 'n_samples': {n_samples}. The sampling requires at least one sample."
            )
        structure: Any = self.structure
        drawn: tuple[Array, Array] = structure.drawn(self, fitted, n_samples, check_random_state(self.random_state))
        return drawn

    def _n_parameters(self) -> int:
        """The number of free parameters, under scikit-learn's name."""
        return n_parameters(self, self._now())

    @property
    def _n_features_out(self) -> int:
        """For `get_feature_names_out`: one feature a component."""
        return self.n_components
