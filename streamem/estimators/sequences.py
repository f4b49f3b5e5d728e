"""`SequenceEstimator`: what every hidden Markov model does, whatever its emissions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from streamem.algorithms import DriftAlarm, StepSize
from streamem.core.errors import ParameterError
from streamem.core.ports import Variant
from streamem.estimators.asking import Target, identity_options, opened_for, scores_of
from streamem.estimators.attributes import require_fitted
from streamem.estimators.declaring import hyperparameters
from streamem.estimators.decoding import QUESTIONS, best_path, decoder_of, stationary_distribution, sum_of_best
from streamem.estimators.driven_duration_steps import OfSequencesByDurations
from streamem.estimators.driven_steps import with_covariates
from streamem.estimators.estimator import Estimator
from streamem.estimators.exchange.hmmlearn import as_hmmlearn, hyperparameters_of, take_over
from streamem.estimators.faces.emissions import EmissionFace
from streamem.estimators.identity import labelled
from streamem.estimators.imputing import impute
from streamem.estimators.labels import lengths_told
from streamem.estimators.live import OnDrift, OwnDecoder, StreamArguments, Until, learn_stream
from streamem.estimators.making import with_shape
from streamem.estimators.sequence_inputs import driving
from streamem.estimators.steps import SEQUENCES
from streamem.estimators.structure import DataArguments
from streamem.online.continued import continued_step
from streamem.online.learner import step, step_rule
from streamem.running.federated import SharedStats
from streamem.running.fitted import Fitted

Array = NDArray[Any]
Path = str | os.PathLike[str]


@hyperparameters()
class SequenceEstimator(Estimator):
    """A hidden Markov model that is fitted to sequences; subclasses name the face of its emissions.

    Hyperparameters that all hidden Markov models have are declared here.
    """

    startprob_prior: ArrayLike = 1.0
    transmat_prior: ArrayLike = 1.0
    algorithm: str = "viterbi"
    random_state: int | np.random.RandomState | None = None
    n_iter: int = 100
    tol: float = 1e-4
    verbose: int = 0
    params: str = "ste"
    init_params: str = "ste"
    start: str = "kmeans"
    n_init: int = 1
    topology: Any = "ergodic"
    tied_transitions: Sequence[Sequence[int]] | None = None
    transition_covariates: Sequence[str | int] | None = None
    durations: str | None = None
    max_duration: int = 100
    stopping: str = "aitken"
    missing: str = "error"
    n_threads: int | None = None
    memory_limit: str | int | None = None
    chunk_bytes: str | int | None = None

    startprob_: Array = field(init=False)
    transmat_: Array = field(init=False)
    transition_intercept_: Array = field(init=False)
    transition_coef_: Array = field(init=False)
    duration_means_: Array = field(init=False)
    duration_sizes_: Array = field(init=False)

    n_features_in_: int = field(init=False)

    structure = OfSequencesByDurations()
    instead_of_noise = (
        "of a sequence it could be a state of its own or a share of every state's steps, and both are meant. States "
        "of heavy tails, HMM(StudentT()), let single outliers count little; states of two parts each, "
        "HMM(MixtureFamily(Gaussian(), 2)), have one for them"
    )
    face: ClassVar[EmissionFace]

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
        """Fit by EM (Baum & Welch); one pass over the data an iteration where the data are small.

        A sequence that is longer than a chunk costs a second read in each pass; the result is that of the uncut one.

        Parameters
        ----------
        X : array-like (n, d), or a path, table or collection that `streamem.open_sequences` can open
            The rows of all sequences, one after the other; or a list of arrays (n_i, d); or an array of three axes,
            sequences × steps × features, shorter ones ending with NaN. A row of NaN is a step without observation.
        y : ignored, as scikit-learn passes a target; or `lengths`, as hmmlearn takes them behind X
        lengths : (s,) steps of each sequence, or the path of a ``.npy`` file of them
        offsets : (s,) or (s + 1,) where sequences begin instead, or the name of an array beside X in a Zarr group
        sequence_column : column that identifies the sequence of each row instead; it is no feature
            Without any of these, all rows are one sequence. The model remembers the column, or the name of an array
            beside X (`sequences_by_`): later data is read by it, unless something else is said of its sequences, and
            refused if it lacks it. Lengths and offsets that are numbers are those of X alone.
        sample_weight : (s,) weights of sequences, or (n,) equal within each, or the name of a column
        columns, feature_axis, checkpoint, executor : as in `GaussianMixture.fit`
        algorithm : "auto", "batch", "squarem", "anderson", "stepwise", "incremental", or an object, ``IncrementalEM()``
            As in `GaussianMixture.fit`, None too. "stepwise" makes an M-step after each of many mini-batches of whole
            sequences; longer ones are drawn in windows of 1000 steps, which count as sequences of their own.
            "incremental" remembers blocks of sequences.
        halve_after : passes, at least 5, after which the worse half of the starts is given up, again and again
            None runs all of them to their ends. Starts share their reads either way: each chunk is read once for all.

        Returns
        -------
        self

        Warns
        -----
        LocalMaximumWarning, ConvergenceWarning : as in `GaussianMixture.fit`

        Raises
        ------
        DataError : lengths that do not sum to the rows, empty sequences, rows missing in part, too few rows
        SourceError : a store that is damaged or changes meanwhile
        MemoryLimitError : the projection exceeds `memory_limit`
        MonotonicityError : an iteration lowered the log-likelihood

        Examples
        --------
        >>> from streamem import GaussianHMM
        >>> steps = [[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]]
        >>> hmm = GaussianHMM(2, random_state=0).fit(steps, lengths=[4, 4])
        >>> sorted(hmm.means_.ravel().round(1).tolist())
        [0.1, 5.1]
        """
        arguments = DataArguments(
            sample_weight, columns, feature_axis, lengths_told(X, y, lengths), offsets, sequence_column
        )
        self._fit(X, arguments, algorithm, checkpoint, executor, halve_after)
        return self

    def fit_predict(self, X: Any, y: Any = None, *, lengths: Any = None, **options: Any) -> Any:
        """`fit`, then `predict` of the same sequences: (n,) states. Options are those of `fit`.

        Examples
        --------
        >>> from streamem import GaussianHMM
        >>> steps = [[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]]
        >>> states = GaussianHMM(2, random_state=0).fit_predict(steps).tolist()
        >>> states[0] == states[1] != states[2]
        True
        """
        told = lengths_told(X, y, lengths)
        self.fit(X, lengths=told, **options)
        reading = ("offsets", "sequence_column", "columns", "feature_axis", "executor")
        chosen = {name: value for name, value in options.items() if name in reading}
        return self.predict(X, told, **chosen)

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
        """One step of online EM with the sequences of X as mini-batch: its E-step, then an M-step on a moving average.

        Sequences are kept until a start can be made of them, or the first call goes on from `fit` or `load`.
        `lower_bound_` is then the log-likelihood per row of X *before* the step.

        Parameters
        ----------
        X, y, lengths, offsets, sequence_column, sample_weight, columns, feature_axis, executor : as in `fit`
        continued : bool, default False
            Batches of one endless sequence, by Cappé's (2011) recursion: X goes on where that of the call before
            ended. What was learned is kept for every state in which the chain may stand, so that later steps still
            decide what earlier ones were; the transition into X is counted, and no start. X is one sequence, taken
            into memory, and costs an E-step for every state. The first such call begins the sequence, one without
            ends it; of a model without parameters, it counts as a sequence of its own.
        half_life, step, categories : as in `GaussianMixture.partial_fit`

        Returns
        -------
        self

        Examples
        --------
        >>> from streamem import GaussianHMM
        >>> hmm = GaussianHMM(1)
        >>> for batch in ([[0.0], [2.0], [1.0]], [[4.0], [6.0], [5.0]]):
        ...     hmm = hmm.partial_fit(batch)
        >>> hmm.means_.shape
        (1, 1)
        """
        if continued:
            self.structure.refuse(self, "an endless sequence")
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
        advance = continued_step if continued else _step
        self._learn(X, arguments, step_rule(half_life, step), executor, advance)
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

        Files, positions and crashes are as in `GaussianMixture.fit_stream`. A mini-batch is learned as by
        `partial_fit`, with equal bits.

        Parameters
        ----------
        stream : as in `GaussianMixture.fit_stream`
        sequence_column : field that identifies the sequence of each record, by numbers or text; it is no feature
            Consecutive records of a partition with equal values are the steps of one sequence. A sequence ends where
            the value changes, and where the stream ends: it is learned as a whole then. By default that by which the
            model was fitted (`sequences_by_`). A model without one takes every message for a sequence of its own.
        continued : bool, default False
            All records are steps of one endless sequence, each mini-batch going on where the one before ended, as in
            ``partial_fit(continued=True)``; of a stream with one partition.
        most_steps : steps of a sequence that are gathered
            A longer one is learned in pieces of so many steps, which count as sequences of their own.
        batch_rows : steps of a mini-batch: whole sequences until there are at least so many
            With `continued`, exactly so many steps. Only a stream's end makes a smaller mini-batch.
        half_life, step, columns, sample_weight, checkpoint, save_every_s, dead_letter, poison_limit : see there
        dead_letter_limit, history, drift, on_drift, until, categories, decoder : as in `GaussianMixture.fit_stream`
            A record whose features are all missing is a step without observation; one that cannot be used is left out
            of its sequence. Weights are equal within a sequence.

        Returns
        -------
        self

        Raises
        ------
        StreamError : the stream fails for good, or has several partitions, which no endless sequence has
        PoisonError : more unusable records than allowed
        DataError : the stream has ended, or `stop` was called, and there is still no model
        OutputError : a file cannot be written, or dead letters would exceed their limit
        WriterConflictError : another process saves to the same checkpoint
        CheckpointMismatchError : the checkpoint is of a model with other hyperparameters

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import GaussianHMM
        >>> hours = (np.array([[0.0], [0.1], [5.0], [5.1]]) + hour for hour in np.linspace(0, 0.1, 10))
        >>> GaussianHMM(1).fit_stream(hours, batch_rows=8).report_.n_rows
        40
        """
        if continued:
            self.structure.refuse(self, "an endless sequence")
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
        >>> from streamem import GaussianHMM
        >>> steps = [[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]]
        >>> hmm = GaussianHMM(2, random_state=0).fit(steps)
        >>> sums = hmm.expected_statistics(steps[:4]) + hmm.expected_statistics(steps[4:])
        >>> hmm.maximize(sums).means_.shape
        (2, 1)
        """
        arguments = DataArguments(sample_weight, columns, feature_axis, lengths, offsets, sequence_column)
        return self._expected(X, arguments, executor)

    # --- questions ---------------------------------------------------------------------------------------------------

    def decode(
        self,
        X: Any,
        lengths: Any = None,
        algorithm: str | None = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> tuple[float, Any]:
        """States of every step, and how probable they are.

        The data is read once, or where a sequence is longer than a chunk once more for what lies beyond each chunk;
        the answers are those that the uncut sequence would get.

        Parameters
        ----------
        X, lengths, offsets, sequence_column, columns, feature_axis, executor : as in `fit`
        algorithm : "viterbi" (the most probable path), "map" (the most probable state of each step), or None for
            the estimator's
        out : path ending in .zarr, .parquet or .npy
            Written chunk by chunk; it appears when complete.
        overwrite : replace an existing `out`
        id_columns : columns of X that ``out="….parquet"`` holds too, beside the answer, so that it can be joined
            By default the column that identifies sequences, and the index of X: see `GaussianMixture.predict`.

        Returns
        -------
        log_prob : float
            Of the data and the path together, in nats; with "map" the sum of the largest probabilities, as hmmlearn
            has it.
        states : (n,) int64, −1 for padding; `out` if that was given (stored as int32)
            A DataArray for xarray data; see `set_output` for Series with the index of X.

        Examples
        --------
        >>> from streamem import GaussianHMM
        >>> steps = [[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]]
        >>> hmm = GaussianHMM(2, random_state=0).fit(steps)
        >>> log_prob, states = hmm.decode(steps)
        >>> states.shape, log_prob <= hmm.score(steps)
        ((8,), True)
        """
        chosen, now = decoder_of(self, algorithm), self._now()
        arguments = DataArguments(None, columns, feature_axis, lengths, offsets, sequence_column)
        opened, fitted = opened_for(self, now, X, arguments)
        if chosen == "viterbi" and out is None and id_columns is None:
            total, states = best_path(self, fitted, opened.source, executor, keep=True)
            column = SEQUENCES.questions["path"].column(int(self.n_components), states.dtype, False)
            return total, labelled(self, X, identity_options(arguments, fitted), column, states)
        states = self._answer(QUESTIONS[chosen], X, arguments, Target(out, overwrite, executor, id_columns))
        if chosen == "viterbi":
            return best_path(self, fitted, opened.source, executor, keep=False)[0], states
        return sum_of_best(self, fitted, opened.source, executor), states

    def predict(
        self,
        X: Any,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """States of every step, by the estimator's `algorithm`; arguments and result as in `decode`.

        Examples
        --------
        >>> from streamem import GaussianHMM
        >>> steps = [[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]]
        >>> hmm = GaussianHMM(2, random_state=0).fit(steps)
        >>> hmm.predict(steps, lengths=[4, 4]).shape
        (8,)
        """
        arguments = DataArguments(None, columns, feature_axis, lengths, offsets, sequence_column)
        return self._answer(
            QUESTIONS[decoder_of(self, None)], X, arguments, Target(out, overwrite, executor, id_columns)
        )

    def predict_proba(
        self,
        X: Any,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Probability of every state at every step given its whole sequence (n, K), NaN for padding.

        Arguments and result as in `decode`.

        Examples
        --------
        >>> from streamem import GaussianHMM
        >>> steps = [[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]]
        >>> hmm = GaussianHMM(2, random_state=0).fit(steps)
        >>> hmm.predict_proba(steps).sum(axis=1).round(6).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
        """
        arguments = DataArguments(None, columns, feature_axis, lengths, offsets, sequence_column)
        return self._answer("posteriors", X, arguments, Target(out, overwrite, executor, id_columns))

    def impute(
        self,
        X: Any,
        lengths: Any = None,
        *,
        n_draws: int = 0,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        id_columns: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Steps with values in place of those that were not observed; needs ``missing="integrate"``.

        The states of a step are weighed by their probabilities given its whole sequence; draws of different steps are
        made independently of each other. Padding stays NaN.

        Parameters
        ----------
        n_draws : 0 for conditional means, else so many draws by `random_state`, as in `GaussianMixture.impute`
        X, lengths, offsets, sequence_column, out, overwrite, id_columns, columns, feature_axis, executor
            As in `decode`.

        Returns
        -------
        (n, d) array; draws are (n_draws, n, d). `out` if that was given, as in `GaussianMixture.impute`.

        Raises
        ------
        ParameterError : ``missing="error"``, or a family that cannot impute

        Examples
        --------
        >>> from streamem import GaussianHMM
        >>> steps = [[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]]
        >>> hmm = GaussianHMM(2, random_state=0, missing="integrate").fit(steps)
        >>> hmm.impute([[0.0], [float("nan")], [5.0]]).shape
        (3, 1)
        """
        arguments = DataArguments(None, columns, feature_axis, lengths, offsets, sequence_column)
        return impute(self, self._now(), X, arguments, n_draws, Target(out, overwrite, executor, id_columns))

    def score_samples(self, X: Any, lengths: Any = None, **options: Any) -> tuple[float, Any]:
        """(log-likelihood of all sequences in nats, `predict_proba`); options are those of `predict_proba`.

        Examples
        --------
        >>> from streamem import GaussianHMM
        >>> steps = [[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]]
        >>> hmm = GaussianHMM(2, random_state=0).fit(steps)
        >>> log_likelihood, posteriors = hmm.score_samples(steps)
        >>> log_likelihood == hmm.score(steps), posteriors.shape
        (True, (8, 2))
        """
        posteriors = self.predict_proba(X, lengths, **options)
        asked = {name: value for name, value in options.items() if name not in ("out", "overwrite", "id_columns")}
        return self.score(X, lengths=lengths, **asked), posteriors

    def score(
        self,
        X: Any,
        y: Any = None,
        *,
        lengths: Any = None,
        offsets: Any = None,
        sequence_column: str | None = None,
        sample_weight: Any = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> float:
        """Log-likelihood of all sequences together, in nats.

        Examples
        --------
        >>> from streamem import GaussianHMM
        >>> steps = [[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]]
        >>> hmm = GaussianHMM(2, random_state=0).fit(steps)
        >>> hmm.score(steps) > hmm.score([[2.5]] * 8)
        True
        """
        arguments = DataArguments(
            sample_weight, columns, feature_axis, lengths_told(X, y, lengths), offsets, sequence_column
        )
        return scores_of(self, self._now(), X, arguments, executor)["log_likelihood"]

    def get_stationary_distribution(self) -> Array:
        """(K,) shares of time that a chain spends in each state in the long run: π = π·transmat (hmmlearn's name).

        Examples
        --------
        >>> from streamem import GaussianHMM
        >>> steps = [[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]]
        >>> hmm = GaussianHMM(2, random_state=0).fit(steps)
        >>> round(float(hmm.get_stationary_distribution().sum()), 6)
        1.0
        """
        require_fitted(self)
        visits = stationary_distribution(self.transmat_)
        structure: Any = self.structure
        return structure.long_run(self, self._now(), visits) if structure.has_durations else visits

    def bic(self, X: Any, lengths: Any = None, **options: Any) -> float:
        """Bayesian information criterion (Schwarz 1978): −2ℓ + p·log(rows). Options are those of `score`.

        Examples
        --------
        >>> from streamem import GaussianHMM
        >>> steps = [[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]]
        >>> hmm = GaussianHMM(2, random_state=0).fit(steps)
        >>> hmm.bic(steps) < hmm.bic([[2.5]] * 8)
        True
        """
        return self.scores(X, lengths, **options)["bic"]

    def aic(self, X: Any, lengths: Any = None, **options: Any) -> float:
        """Akaike's information criterion (1974): −2ℓ + 2p. Options are those of `score`.

        Examples
        --------
        >>> from streamem import GaussianHMM
        >>> steps = [[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]]
        >>> hmm = GaussianHMM(2, random_state=0).fit(steps)
        >>> hmm.aic(steps) < hmm.aic([[2.5]] * 8)
        True
        """
        return self.scores(X, lengths, **options)["aic"]

    def scores(self, X: Any, lengths: Any = None, *, executor: Any = None, **options: Any) -> dict[str, float]:
        """One pass over X gives the rows' weight, log-likelihood (total, per row), AIC, BIC.

        Options are those of `score`.

        Examples
        --------
        >>> from streamem import GaussianHMM
        >>> steps = [[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]]
        >>> hmm = GaussianHMM(2, random_state=0).fit(steps)
        >>> sorted(hmm.scores(steps))
        ['aic', 'bic', 'log_likelihood', 'log_likelihood_per_row', 'weight']
        """
        return scores_of(self, self._now(), X, DataArguments(lengths=lengths, **options), executor)

    def sample(
        self,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
        currstate: int | None = None,
        transition_covariates: ArrayLike | None = None,
    ) -> tuple[Array, Array]:
        """Draw one sequence of `n_samples` steps.

        Parameters
        ----------
        random_state : None uses that of the estimator
        currstate : the state of the first step; None draws it from startprob
        transition_covariates : (n_samples, p), where the transitions depend on p covariates; row t drives the
            transition from step t to the next one

        Returns
        -------
        X (n_samples, d), states (n_samples,); the covariates stand in X at their places

        Examples
        --------
        >>> from streamem import GaussianHMM
        >>> steps = [[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]]
        >>> hmm = GaussianHMM(2, random_state=0).fit(steps)
        >>> x, states = hmm.sample(3, random_state=0)
        >>> x.shape, states.shape
        ((3, 1), (3,))
        """
        fitted, k = self._now(), int(self.n_components)
        if currstate is not None and not 0 <= currstate < k:
            raise ParameterError(f"currstate is {currstate!r}; it must be a state from 0 to {k - 1}")
        rng = check_random_state(self.random_state if random_state is None else random_state)
        chances = None if currstate is None else np.eye(k)[int(currstate)]
        rows, states = self.structure.drawn(self, fitted, n_samples, rng, chances, transition_covariates)
        return with_covariates(self, fitted, rows, transition_covariates), states

    # --- other libraries ---------------------------------------------------------------------------------------------

    def to_hmmlearn(self) -> Any:
        """A fitted model of hmmlearn's class of this name, that scores and decodes as this one does.

        There are such of `GaussianHMM`, `GMMHMM`, `CategoricalHMM` (of one column) and `PoissonHMM`. The number of
        iterations and the priors go along; tolerances do not, which are in other units there. hmmlearn takes no missing
        steps.

        Raises
        ------
        MissingDependencyError : hmmlearn is not installed (``pip install 'streamem[hmmlearn]'``)
        ParameterError : a class that hmmlearn has not, or several columns of symbols

        Examples
        --------
        >>> import numpy as np
        >>> from streamem import PoissonHMM
        >>> counts = np.array([1, 0, 2, 1, 9, 11, 8, 10, 1, 1, 0])[:, None]
        >>> hmm = PoissonHMM(2, random_state=0).fit(counts)
        >>> theirs = hmm.to_hmmlearn()
        >>> bool(np.isclose(theirs.score(counts), hmm.score(counts))), PoissonHMM.from_hmmlearn(theirs).lambdas_.shape
        (True, (2, 1))
        """
        return as_hmmlearn(self, with_shape(self, self._now()))

    @classmethod
    def from_hmmlearn(cls, model: Any) -> Self:
        """A model with the parameters of a fitted one of hmmlearn, of the class of this name; see `to_hmmlearn`.

        Priors are taken over as they are: hmmlearn's defaults for covariances differ from those here, which are none.

        Raises
        ------
        MissingDependencyError : hmmlearn is not installed
        ParameterError : a model of another class, one that is not fitted, or parameters that contradict each other

        Examples
        --------
        >>> import numpy as np
        >>> from hmmlearn.hmm import GaussianHMM as Theirs
        >>> from streamem import GaussianHMM
        >>> steps = np.array([[0.0], [0.1], [5.0], [5.1], [0.2], [0.1], [5.2], [5.0]])
        >>> theirs = Theirs(2, random_state=0).fit(steps)
        >>> GaussianHMM.from_hmmlearn(theirs).predict(steps).tolist() == theirs.predict(steps).tolist()
        True
        """
        ours = cls(**hyperparameters_of(cls, model))
        ours._show(take_over(ours, model))
        return ours

    def _now(self) -> Fitted:
        """What is fitted; of parameters that were set by hand, the number of features is shown too."""
        fitted = super()._now()
        if (self._fitted is None or self._fitted.shape is None) and fitted.shape is not None:
            self.n_features_in_ = fitted.shape.features + len(driving(self))
        return fitted


_step = step
"""One step of online EM, under a name that no argument of `partial_fit` has."""
