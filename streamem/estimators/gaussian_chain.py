"""`LinearGaussianChain`: Kalman's filter and smoother inside EM, for sequences of any number and length."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.algorithms import DriftAlarm, StepSize
from streamem.core.ports import Variant
from streamem.estimators.chain_questions import ChainQuestions
from streamem.estimators.chain_steps import CHAIN_STEPS
from streamem.estimators.declaring import hyperparameters
from streamem.estimators.faces.gaussian_chain import GaussianChainFace
from streamem.estimators.labels import lengths_told
from streamem.estimators.live import OnDrift, OwnDecoder, StreamArguments, Until, learn_stream
from streamem.estimators.structure import DataArguments
from streamem.online.continued import continued_step
from streamem.online.learner import step as one_step
from streamem.online.learner import step_rule
from streamem.running.federated import SharedStats

Array = NDArray[Any]
Path = str | os.PathLike[str]


@hyperparameters()
class LinearGaussianChain(ChainQuestions):
    """Linear Gaussian state space model, fitted by EM: x_t = A x_{t−1} + w, y_t = C x_t + d + v.

    w ~ N(0, Q), v ~ N(0, R), x_1 ~ N(μ, V) or unknown. Data may have many sequences, missing steps and values (NaN),
    and sequences longer than memory: chunks exchange messages, and the result is that of the uncut sequence.

    Parameters
    ----------
    n_latent : int, default 1
        Latent dimensions k.
    transition_matrix (k, k), transition_covariance (k, k) : A and Q, or None
    observation_matrix (d, k), observation_covariance (d, d) or (d,), observation_offset (d,) : C, R and d, or None
    initial_mean (k,), initial_covariance (k, k) : μ and V, or None
        What is given stays as it is, and the rest is estimated, unless `params` says otherwise.
    params : str, list of str or None, default None
        What the M-step updates, by names or letters: a transition_matrix, q transition_covariance, c
        observation_matrix, r observation_covariance, d observation_offset, m initial_mean, v initial_covariance. What
        is given and named here is where the fit starts. None is all that is not given.
    diffuse : bool, default False
        Nothing is known of the first state of a sequence: its density is 1 everywhere, exactly (no large variance).
    transition_noise, observation_noise : "full" or "diag", default "full" and "diag"
        Form of Q and R; a diagonal R is shown as (d,) variances.
    missing : {"integrate", "error"}, default "integrate"
        Whether single values of a step may be missing; a step that is NaN in every column always may.
    random_state : int, RandomState or None
        The first observation matrix, where none is given: principal directions of a sample, turned at random.
    tol, n_iter, n_init, stopping, verbose, n_threads, memory_limit, chunk_bytes : as in `GaussianHMM`

    Attributes
    ----------
    transition_matrix_, transition_covariance_, observation_matrix_, observation_covariance_, observation_offset_
    initial_mean_, initial_covariance_ : the matrices; the initial ones mean nothing with ``diffuse=True``
    converged_, n_iter_, lower_bound_, lower_bounds_, report_, n_features_in_, sequences_by_ : as in `GaussianHMM`

    Notes
    -----
    E-step by information backward and states forward, M-step by regressions (Shumway & Stoffer 1982; Ghahramani &
    Hinton 1996). With all matrices free, the latent space can be turned and stretched without any effect on the data:
    the fit is one of many alike. Observation noise is kept above 2⁻⁴⁰ of the variance of the data; V of a single
    sequence goes to 0, which is its maximum.

    Examples
    --------
    The level of the Nile (Durbin & Koopman 2012), from the first ten years:

    >>> from streamem import LinearGaussianChain
    >>> flow = [[1120.0], [1160.0], [963.0], [1210.0], [1160.0], [1160.0], [813.0], [1230.0], [1370.0], [1140.0]]
    >>> level = LinearGaussianChain.local_level(observation_covariance=[15099.0], transition_covariance=[[1469.0]])
    >>> level = level.fit(flow)
    >>> level.smooth(flow).shape, level.forecast(flow, 2).means.round().ravel().tolist()
    ((10, 1), [1163.0, 1163.0])
    """

    n_latent: int = field(default=1, kw_only=False)
    transition_matrix: ArrayLike | None = None
    transition_covariance: ArrayLike | None = None
    observation_matrix: ArrayLike | None = None
    observation_covariance: ArrayLike | None = None
    observation_offset: ArrayLike | None = None
    initial_mean: ArrayLike | None = None
    initial_covariance: ArrayLike | None = None
    params: str | Sequence[str] | None = None
    diffuse: bool = False
    transition_noise: str = "full"
    observation_noise: str = "diag"
    random_state: int | np.random.RandomState | None = None
    n_iter: int = 100
    tol: float = 1e-4
    n_init: int = 1
    stopping: str = "aitken"
    missing: str = "integrate"
    verbose: int = 0
    n_threads: int | None = None
    memory_limit: str | int | None = None
    chunk_bytes: str | int | None = None

    transition_matrix_: Array = field(init=False)
    transition_covariance_: Array = field(init=False)
    observation_matrix_: Array = field(init=False)
    observation_covariance_: Array = field(init=False)
    observation_offset_: Array = field(init=False)
    initial_mean_: Array = field(init=False)
    initial_covariance_: Array = field(init=False)
    n_features_in_: int = field(init=False)

    structure = CHAIN_STEPS
    face: ClassVar[GaussianChainFace] = GaussianChainFace()
    n_components: ClassVar[int] = 1
    init_params: ClassVar[str] = "moments"
    instead_of_noise = "every step has Gaussian noise; mark outliers as missing (NaN), by score_samples for example"

    # --- well-known chains -------------------------------------------------------------------------------------------

    @classmethod
    def local_level(cls, **settings: Any) -> Self:
        """A level that moves at random, seen with noise: y = level + v, level' = level + w, with a diffuse start.

        One column. `settings` are other hyperparameters.

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> LinearGaussianChain.local_level().transition_matrix
        [[1.0]]
        """
        given = {
            "transition_matrix": [[1.0]],
            "observation_matrix": [[1.0]],
            "observation_offset": [0.0],
            "diffuse": True,
        }
        return cls(1, **{**given, **settings})

    @classmethod
    def local_trend(cls, **settings: Any) -> Self:
        """A level with a slope, both of which move at random, seen with noise; diffuse start. One column.

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> LinearGaussianChain.local_trend().transition_matrix
        [[1.0, 1.0], [0.0, 1.0]]
        """
        given = {
            "transition_matrix": [[1.0, 1.0], [0.0, 1.0]],
            "observation_matrix": [[1.0, 0.0]],
            "observation_offset": [0.0],
            "transition_noise": "diag",
            "diffuse": True,
        }
        return cls(2, **{**given, **settings})

    # --- learning ----------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        lengths: Any = None,
        offsets: Any = None,
        sequence_column: str | None = None,
        sample_weight: ArrayLike | str | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        checkpoint: Path | None = None,
        executor: Any = None,
        algorithm: str | Variant | None = None,
        halve_after: int | None = None,
    ) -> Self:
        """Fit by EM; one pass over the data an iteration where the data are small.

        A sequence that is longer than a chunk costs a second read in each pass; the result is that of the uncut one.

        Parameters
        ----------
        X, y, lengths, offsets, sequence_column, sample_weight, columns, feature_axis : as in `GaussianHMM.fit`
        checkpoint, executor, algorithm, halve_after : as in `GaussianHMM.fit`
            EM is slow where noise is small beside what it drives; ``algorithm="squarem"`` takes far fewer passes.

        Returns
        -------
        self

        Raises
        ------
        ParameterError : matrices that do not fit each other or the data, or that are no covariances
        NumericalError : a sequence too short to tell a diffuse start
        DataError, SourceError, MemoryLimitError, MonotonicityError : as in `GaussianHMM.fit`

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import LinearGaussianChain
        >>> walk = np.cumsum(np.random.default_rng(0).normal(size=(200, 1)), axis=0)
        >>> chain = LinearGaussianChain.local_level(tol=1e-3).fit(walk, algorithm="squarem")
        >>> chain.transition_covariance_.shape
        (1, 1)
        """
        arguments = DataArguments(
            sample_weight, columns, feature_axis, lengths_told(X, y, lengths), offsets, sequence_column
        )
        self._fit(X, arguments, algorithm, checkpoint, executor, halve_after)
        return self

    def fit_predict(self, X: Any, y: Any = None, *, lengths: Any = None, **options: Any) -> Any:
        """`fit`, then `predict` of the same sequences. Options are those of `fit`.

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> LinearGaussianChain.local_level(n_iter=5, tol=0.1).fit_predict([[0.0], [1.0], [2.0], [4.0]]).shape
        (4, 1)
        """
        known = lengths_told(X, y, lengths)
        self.fit(X, lengths=known, **options)
        reading = ("offsets", "sequence_column", "columns", "feature_axis", "executor")
        return self.predict(X, known, **{name: value for name, value in options.items() if name in reading})

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        *,
        lengths: Any = None,
        offsets: Any = None,
        sequence_column: str | None = None,
        sample_weight: ArrayLike | str | None = None,
        continued: bool = False,
        half_life: float | None = None,
        step: StepSize | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
        categories: Mapping[str, Sequence[Any]] | None = None,
    ) -> Self:
        """One step of online EM with the sequences of X as mini-batch; see `GaussianHMM.partial_fit`.

        Parameters
        ----------
        X, y, lengths, offsets, sequence_column, sample_weight, columns, feature_axis, executor : as in `fit`
        continued : bool, default False
            X is the next steps of one endless sequence, as in `GaussianHMM.partial_fit`: the filtered state goes on,
            and what earlier steps taught is kept as a quadratic form of it, so that later steps still decide what
            earlier ones were. Costs (k + 1)·(k + 2)/2 + 1 E-steps of X. ``forecast(None, steps)`` tells what follows.
        half_life, step, categories : as in `GaussianMixture.partial_fit`

        Returns
        -------
        self

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> chain = LinearGaussianChain.local_level()
        >>> chain.partial_fit([[0.0], [1.0], [2.0], [1.5], [2.5], [2.0]]).report_.n_rows
        6
        """
        arguments = DataArguments(
            sample_weight,
            columns,
            feature_axis,
            lengths_told(X, y, lengths),
            offsets,
            sequence_column,
            continued=continued,
            categories=categories,
        )
        self._learn(X, arguments, step_rule(half_life, step), executor, continued_step if continued else one_step)
        return self

    def fit_stream(
        self,
        stream: Any,
        *,
        sequence_column: str | None = None,
        continued: bool = False,
        most_steps: int = 100_000,
        half_life: float | None = None,
        step: StepSize | None = None,
        batch_rows: int = 1000,
        columns: Sequence[str] | None = None,
        sample_weight: str | None = None,
        checkpoint: Path | None = None,
        save_every_s: float = 10.0,
        dead_letter: Path | None = None,
        poison_limit: float = 0.01,
        dead_letter_limit: int | str | None = "1GiB",
        history: Path | None = None,
        drift: DriftAlarm | None = None,
        on_drift: OnDrift = "log",
        until: Until | None = None,
        categories: Mapping[str, Sequence[Any]] | None = None,
        decoder: OwnDecoder | None = None,
    ) -> Self:
        """Learn from a stream of sequences, mini-batch by mini-batch, until it ends or `stop` is called.

        Parameters
        ----------
        stream, sequence_column, continued, most_steps, half_life : as in `GaussianHMM.fit_stream`
        step, batch_rows, columns : see there
        sample_weight, checkpoint, save_every_s, dead_letter, poison_limit, dead_letter_limit, history : see there
        drift, on_drift, until, categories, decoder : see there

        Returns
        -------
        self

        Raises
        ------
        StreamError, PoisonError, DataError, OutputError, WriterConflictError, CheckpointMismatchError : see there

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import LinearGaussianChain
        >>> days = (np.random.default_rng(day).normal(size=(24, 1)) for day in range(10))
        >>> LinearGaussianChain.local_level().fit_stream(days, batch_rows=48).report_.n_rows
        240
        """
        arguments = StreamArguments(
            half_life,
            step,
            batch_rows,
            columns,
            sample_weight,
            checkpoint,
            save_every_s,
            dead_letter,
            poison_limit,
            dead_letter_limit,
            history,
            drift,
            on_drift,
            until,
            sequence_column,
            continued,
            most_steps,
            categories,
            decoder,
        )
        learn_stream(self, stream, arguments)
        return self

    def expected_statistics(
        self,
        X: Any,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        sample_weight: ArrayLike | str | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> SharedStats:
        """E-step: expected sufficient statistics of the sequences of X under the present parameters.

        Those of several sites, each of which holds whole sequences, are added, and `maximize` makes the M-step.

        Parameters
        ----------
        X, lengths, offsets, sequence_column, sample_weight, columns, feature_axis, executor : as in `fit`

        Examples
        --------
        >>> from streamem import LinearGaussianChain
        >>> chain = LinearGaussianChain.local_level(n_iter=5, tol=0.1).fit([[0.0], [1.0], [2.0], [4.0]])
        >>> sums = chain.expected_statistics([[0.0], [1.0]]) + chain.expected_statistics([[2.0], [4.0]])
        >>> chain.maximize(sums).transition_covariance_.shape
        (1, 1)
        """
        arguments = DataArguments(sample_weight, columns, feature_axis, lengths, offsets, sequence_column)
        return self._expected(X, arguments, executor)
