"""What fits a hidden Markov model: sequences at rest, sequences that arrive, statistics of sequences elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from streamem.algorithms import StepSize, StepwiseEM
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, ParameterError
from streamem.core.ports import Family, Source, Variant
from streamem.core.sequences import Sequences
from streamem.core.validation import forgives, require_finite
from streamem.estimators.family_facts import settings_of
from streamem.estimators.hmm_describing import FLOAT, DescribingHMM
from streamem.estimators.online import OnlineEstimator, step_rule
from streamem.estimators.sequence_inputs import SequenceReading, as_sequences, remember_sequences, told_by
from streamem.online.endless_sequence import go_on
from streamem.running.answers import map_source, survey_source, take_sample
from streamem.running.engines import Engine
from streamem.running.federated import SharedStats
from streamem.running.sequence_tasks import WeighAlong
from streamem.sources import Known, open_sequences, open_source

Array = NDArray[Any]
Path = str | os.PathLike[str]


class LearningHMM(DescribingHMM, OnlineEstimator):
    """A hidden Markov model that is fitted to sequences; subclasses say which family, and what they publish."""

    _known_family: tuple[str, Family | None]
    _data_weight: float | None
    _steps_weight: float | None
    """Of all steps of the last fit: against it priors of transitions are weighed in steps with a part of the data."""

    def fit(
        self,
        X: Any,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        sample_weight: ArrayLike | str | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        checkpoint: Path | None = None,
        executor: Any = None,
        algorithm: str | Variant = "batch",
    ) -> Self:
        """Fit by EM (Baum & Welch); by default one pass over the data an iteration.

        A sequence that is longer than a chunk costs a second read in each pass; the result is that of the uncut one.

        Parameters
        ----------
        X : array-like (n, d), or a path, table or collection that `streamem.open_sequences` can open
            The rows of all sequences, one after the other; or a list of arrays (n_i, d); or an array of three axes,
            sequences × steps × features, shorter ones ending with NaN. A row of NaN is a step without observation.
        lengths : (s,) steps of each sequence, or the path of a ``.npy`` file of them
        offsets : (s,) or (s + 1,) where sequences begin instead, or the name of an array beside X in a Zarr group
        sequence_column : column that identifies the sequence of each row instead; it is no feature
            Without any of these, all rows are one sequence. The model remembers the column, or the name of an array
            beside X (`sequences_by_`): later data is read by it, unless something else is said of its sequences, and
            refused if it lacks it. Lengths and offsets that are numbers are those of X alone.
        sample_weight : (s,) weights of sequences, or (n,) equal within each, or the name of a column
        columns, feature_axis, checkpoint, executor : as in `GaussianMixture.fit`
        algorithm : "batch", "stepwise", "incremental", or an object, like ``StepwiseEM(passes=2)``
            "stepwise" makes an M-step after each of many mini-batches of whole sequences; longer ones are drawn in
            windows of 1000 steps, which count as sequences of their own. "incremental" remembers blocks of sequences.

        Returns
        -------
        self

        Raises
        ------
        DataError : lengths that do not sum to the rows, empty sequences, rows missing in part, too few rows
        SourceError : a store that is damaged or changes meanwhile
        MemoryLimitError : the projection exceeds `memory_limit`
        MonotonicityError : an iteration lowered the log-likelihood
        """
        with self._kept_on_failure():
            reading = self._reading(lengths, offsets, sequence_column, sample_weight, columns, feature_axis)
            chosen = self._chosen(algorithm)
            if not chosen.reads_in_order:
                reading = replace(reading, in_order=False)
            source = as_sequences(self, X, reading, reset=True)
            remember_sequences(self, source)
            self._fit(source, FLOAT, checkpoint, executor, chosen)
        return self

    def partial_fit(
        self,
        X: Any,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        sample_weight: ArrayLike | str | None = None,
        continued: bool = False,
        half_life: float | None = None,
        step: StepSize | None = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Self:
        """One step of online EM with the sequences of X as mini-batch: its E-step, then an M-step on a moving average.

        Sequences are kept until a start can be made of them, or the first call goes on from `fit` or `load`.
        `lower_bound_` is then the log-likelihood per row of X *before* the step.

        Parameters
        ----------
        X, lengths, offsets, sequence_column, sample_weight, columns, feature_axis, executor : as in `fit`
        continued : bool, default False
            Batches of one endless sequence, by Cappé's (2011) recursion: X goes on where that of the call before
            ended. What was learned is kept for every state in which the chain may stand, so that later steps still
            decide what earlier ones were; the transition into X is counted, and no start. X is one sequence, taken
            into memory, and costs an E-step for every state. The first such call begins the sequence, one without
            ends it; of a model without parameters, it counts as a sequence of its own.
        half_life, step : as in `GaussianMixture.partial_fit`

        Returns
        -------
        self
        """
        rule = step_rule(half_life, step)
        reading = self._reading(lengths, offsets, sequence_column, sample_weight, columns, feature_axis)
        self._learn_and_tell(lambda: self._learn_sequences(X, reading, rule, continued, executor))
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
        """
        check_is_fitted(self)
        self._require_fitting_shapes()
        reading = self._reading(lengths, offsets, sequence_column, sample_weight, columns, feature_axis)
        return self._expected(self._opened(X, reading), executor)

    def _fit(
        self,
        source: Source,
        dtype: np.dtype[Any],
        checkpoint: Path | None,
        executor: Any,
        algorithm: Variant,
    ) -> None:
        asked = self._asked_family()
        known = survey_source(asked, source, self._engine("survey", executor))
        self._known_family = (settings_of(asked), None if known is asked else known)
        self._data_weight = getattr(known, "total_weight", None)
        whole = algorithm.sees_all_rows
        self._steps_weight = None if whole else self._weighed_steps(source, executor)
        super()._fit(source, dtype, checkpoint, executor, algorithm)
        if whole:
            self._steps_weight = self._exact_state().weight

    def _weighed_steps(self, source: Source, executor: Any) -> float | None:
        """The weight of all steps, found in a pass of its own, if any prior asks for it."""
        model = self._make_model()
        if not model.transitions.has_prior:
            return None
        weights: list[float] = []
        map_source(source, WeighAlong(model), self._engine("survey", executor), 0, weights.append)
        return sum(weights) or None

    # --- online ------------------------------------------------------------------------------------------------------

    def _learn_sequences(
        self, x: Any, reading: SequenceReading, rule: StepSize, continued: bool, executor: Any
    ) -> None:
        first = not hasattr(self, "n_features_in_")
        if continued and not first:
            reading = replace(reading, known=Known(told_by(self), needed=False))
        source = as_sequences(self, x, reading, reset=first)
        if first:
            remember_sequences(self, source)
        if self.__dict__.get("_steps_weight") is None and self._make_model().transitions.has_prior:
            raise ParameterError(
                "startprob_prior and transmat_prior are weighed against the data, of which nobody has told how much "
                "there is: fit first, or leave them at 1"
            )
        if continued and getattr(source, "n_sequences", 1) != 1:
            raise ParameterError("continued=True takes one sequence that goes on; X holds several")
        if continued and self._is_fitted():
            self._go_on(source, rule)
        else:
            self._step(source, rule, FLOAT, executor)

    def _go_on(self, source: Source, rule: StepSize) -> None:
        """A step with the next steps of an endless sequence, or its first ones."""
        self._check_hyperparameters()
        self._check_given(source.schema.n_features)
        self._require_fitting_shapes()
        model, state, chunk = self._make_model(), self._exact_state(), self._whole(source)
        require_finite(chunk, open_source(chunk.x).chunks()[0], source.schema.names, forgives(model))
        stepwise = StepwiseEM(rule, least=self._least_rows(source.schema.n_features))
        self._learn(go_on(stepwise, model, state, chunk), FLOAT)

    def _whole(self, source: Source) -> Chunk:
        chunks = [ref.load() for ref in source.chunks()]
        if not chunks:
            raise DataError(f"{source.schema.origin} has no rows")
        x = np.concatenate([chunk.x for chunk in chunks])
        weights = [chunk.weight for chunk in chunks if chunk.weight is not None]
        offsets = np.array([0, len(x)], dtype=np.int64)
        return Chunk(x, np.concatenate(weights) if weights else None, Sequences(offsets))

    def _taken(self, source: Source, size: int, rng: np.random.RandomState, engine: Engine) -> Chunk:
        return take_sample(source, size, rng, engine, missing_steps=True)

    def _reopened(self, kept: Chunk) -> Source:
        assert kept.sequences is not None
        return open_sequences(kept.x, offsets=kept.sequences.offsets, weight=kept.weight)
