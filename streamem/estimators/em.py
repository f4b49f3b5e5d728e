"""`EM`: any latent-variable model that a user writes as three NumPy functions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.algorithms import StepSize
from streamem.core.arrays import Params
from streamem.core.ports import Variant
from streamem.estimators.declaring import hyperparameters
from streamem.estimators.making import n_parameters
from streamem.estimators.own_answers import if_able
from streamem.estimators.own_model import OwnModel
from streamem.estimators.structure import DataArguments
from streamem.online.learner import step_rule
from streamem.running.federated import SharedStats

Array = NDArray[Any]
Path = str | os.PathLike[str]


@hyperparameters()
class EM(OwnModel, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """EM for a latent-variable model of your own: three NumPy functions, fitted out of core, on a cluster and online.

    Parameters
    ----------
    model : object with three functions; it inherits from nothing, and a dict in is a dict out
        ``init(sample, rng)`` → parameters to start from. `rng` is a NumPy Generator.
        ``e_step(params, chunk)`` → sums over the rows of the chunk: expected sufficient statistics, and
        ``log_likelihood``, Σ weight · log p(row) at `params`, in nats.
        ``m_step(stats, previous)`` → the next parameters, from the sums over all rows: those of `e_step`, and ``rows``,
        ``weight`` (Σ of weights) and ``log_likelihood``, where it gives no others under these names.
        Parameters and statistics are dicts of numbers and arrays, whose shapes stay. A chunk has ``x`` (n, d) float64,
        ``weight`` (n,) by which every row's part of a sum is multiplied, ones where the data has none, and ``names``,
        of the columns, or None. Functions are called by several threads, with some thousand rows at a time, and must
        not change what they are given.
    tol, max_iter, n_init, random_state, warm_start, verbose, stopping, n_threads, memory_limit, chunk_bytes
        As in `GaussianMixture`; `random_state` None draws as 0 does.

    Attributes
    ----------
    params_ : Params, a read-only mapping of the names of `m_step` to arrays
    converged_, n_iter_, lower_bound_, lower_bounds_, objective_, report_, n_features_in_ : as in `GaussianMixture`

    Notes
    -----
    What else a model may have, and what for:

    - ``missing = "values"``: rows may hold NaN, a value that was not observed; without it they are refused.
    - ``penalty(params, stats)``: what `m_step` subtracts from the expected log-likelihood, such as minus a log-prior,
      in nats; ``shortfall(old, new, stats)``: by how much an inexact `m_step` may miss, in nats. EM watches that the
      log-likelihood falls by no more than these and rounding explain.
    - ``predict``, ``predict_proba``, ``transform``, ``score_samples`` of (params, chunk), an answer for each row, and
      ``sample(params, n, rng)`` → (n, d) rows: what the methods of these names ask.
    - ``q(params, stats)``: the expected log-likelihood of what is hidden and seen, in nats, up to a constant: what
      `m_step` maximizes. `streamem.conformance.check_model` then tells mistakes of `m_step` from those of `e_step`.
    - ``scores(params, chunk)``: the slopes of log p(row) by each parameter, (n, *shape) under its name, for standard
      errors, which are differences otherwise. Of numbers that are tied, those of the tie are enough.
    - ``n_parameters(params)``: free parameters, for AIC and BIC; by default all numbers of the parameters.
    - ``least_rows``: rows from which an online fit can start, by default 2·(d + 1).
    - ``row_bytes``: memory that `e_step` takes for a row, by default 16 copies of it.

    NumPy rounds: of a column that lies at 1e6 ± 1, a variance by ``xx / n - mean**2`` has lost its digits, and EM
    notices that the log-likelihood falls. Subtract such offsets, or sum squares of differences from one of your own.

    `streamem.conformance.check_model` finds mistakes. Models are code, which no file holds: `load` wants them again.

    Examples
    --------
    Waiting times, of which those above 5 are known only to be longer (Exponential, censored):

    >>> import numpy as np
    >>> from streamem import EM
    >>> class Waiting:
    ...     def init(self, sample, rng):
    ...         return {"mean": sample.x.mean()}
    ...     def e_step(self, params, chunk):
    ...         x, mean, w = chunk.x[:, 0], params["mean"], chunk.weight
    ...         longer = x >= 5
    ...         ll = -x / mean - np.where(longer, 0.0, np.log(mean))
    ...         return {"total": w @ np.where(longer, 5 + mean, x), "log_likelihood": w @ ll}
    ...     def m_step(self, stats, previous):
    ...         return {"mean": stats["total"] / stats["weight"]}
    >>> waits = np.minimum(np.random.default_rng(0).exponential(4.0, size=(5000, 1)), 5.0)
    >>> em = EM(Waiting(), tol=1e-10, max_iter=1000).fit(waits)
    >>> bool(abs(em.params_["mean"] - waits.sum() / (waits < 5).sum()) < 1e-3)
    True
    """

    model: Any = field(kw_only=False)
    tol: float = 1e-3
    max_iter: int = 100
    n_init: int = 1
    random_state: int | np.random.RandomState | None = None
    warm_start: bool = False
    verbose: int = 0
    stopping: str = "aitken"
    n_threads: int | None = None
    memory_limit: str | int | None = None
    chunk_bytes: str | int | None = None

    params_: Params = field(init=False)
    n_features_in_: int = field(init=False)

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
            A response is one of the columns.
        y : ignored
        sample_weight, columns, feature_axis, checkpoint, executor, algorithm, halve_after : as in `GaussianMixture.fit`
            Weights need an `e_step` that multiplies by ``chunk.weight``; one that does not is found out and refused.
            "squarem", "anderson" and "auto" extrapolate statistics, and keep what raises the log-likelihood; None is
            "auto" where each pass must read more than a fit keeps.

        Returns
        -------
        self

        Raises
        ------
        ParameterError : a function of the model that lacks, or returned what it must not: the message names it
        NumericalError : a function of the model returned numbers that are not finite
        MonotonicityError : an iteration lowered the log-likelihood: see `streamem.conformance.check_model`
        DataError, SourceError, MemoryLimitError : as in `GaussianMixture.fit`

        Examples
        --------
        >>> import numpy as np
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> def e_step(params, chunk):
        ...     counts = chunk.weight @ chunk.x
        ...     return {"n": counts, "log_likelihood": float(counts @ np.log(params["p"]))}
        >>> shares = SimpleNamespace(
        ...     init=lambda sample, rng: {"p": np.full(sample.x.shape[1], 1 / sample.x.shape[1])},
        ...     e_step=e_step,
        ...     m_step=lambda stats, previous: {"p": stats["n"] / stats["n"].sum()},
        ... )
        >>> EM(shares).fit(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])).params_["p"].tolist()
        [0.75, 0.25]
        """
        arguments = DataArguments(sample_weight, columns, feature_axis)
        self._fit(X, arguments, algorithm, checkpoint, executor, halve_after)
        return self

    @if_able("predict")
    def fit_predict(self, X: Any, y: Any = None, **options: Any) -> Any:
        """`fit`, then `predict` of the same data. Options are those of `fit`.

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> normal = SimpleNamespace(
        ...     init=lambda sample, rng: {"m": 0.0},
        ...     e_step=lambda p, c: {
        ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
        ...     },
        ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
        ...     predict=lambda p, c: c.x[:, 0] > p["m"],
        ... )
        >>> EM(normal).fit_predict([[0.0], [1.0], [5.0]]).tolist()
        [0, 0, 1]
        """
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
        categories: Mapping[str, Sequence[Any]] | None = None,
    ) -> Self:
        """One step of online EM with X as mini-batch; see `GaussianMixture.partial_fit`.

        Rows are kept until there are ``least_rows`` of the model, by default 2·(d + 1), and `init` is asked.

        Parameters
        ----------
        X, y, sample_weight, columns, feature_axis, executor : as in `fit`
        half_life, step : as in `GaussianMixture.partial_fit`
        categories : refused, since a model of one's own takes numbers

        Returns
        -------
        self

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> normal = SimpleNamespace(
        ...     init=lambda sample, rng: {"m": 0.0},
        ...     e_step=lambda p, c: {
        ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
        ...     },
        ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
        ... )
        >>> em = EM(normal).partial_fit([[0.0], [1.0], [2.0], [3.0]]).partial_fit([[4.0]])
        >>> em.report_.n_rows
        5
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
        """E-step of the model: statistics of X under the present parameters, which sites share instead of rows.

        Parameters
        ----------
        X, sample_weight, columns, feature_axis, executor : as in `fit`

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> normal = SimpleNamespace(
        ...     init=lambda sample, rng: {"m": 0.0},
        ...     e_step=lambda p, c: {
        ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
        ...     },
        ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
        ... )
        >>> em = EM(normal).fit([[0.0], [1.0]])
        >>> float(em.maximize(em.expected_statistics([[2.0]]) + em.expected_statistics([[4.0], [6.0]])).params_["m"])
        4.0
        """
        return self._expected(X, DataArguments(sample_weight, columns, feature_axis), executor)

    # --- files -------------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: Path, **objects: Any) -> Self:
        """Read what `save` wrote; the model is code, which no file holds, and has to be given again: ``model=``.

        Raises
        ------
        ParameterError : without ``model=``
        ModelFileError : not such a file, damaged, newer than this library, or not to be trusted

        Examples
        --------
        >>> import os, tempfile
        >>> from types import SimpleNamespace
        >>> from streamem import EM
        >>> normal = SimpleNamespace(
        ...     init=lambda sample, rng: {"m": 0.0},
        ...     e_step=lambda p, c: {
        ...         "x": c.weight @ c.x[:, 0], "log_likelihood": -c.weight @ (c.x[:, 0] - p["m"]) ** 2 / 2
        ...     },
        ...     m_step=lambda s, previous: {"m": s["x"] / s["weight"]},
        ... )
        >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
        >>> EM(normal).fit([[0.0], [1.0], [5.0]]).save(path)
        >>> float(EM.load(path, model=normal).params_["m"])
        2.0
        """
        return super().load(path, **objects)

    def _n_parameters(self) -> int:
        """The number of free parameters, under scikit-learn's name."""
        return n_parameters(self, self._now())
