"""What a fitted hidden Markov model says of sequences: states, probabilities, log-likelihoods."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from streamem.core.arrays import Params
from streamem.core.boundary import PATH, POSTERIOR
from streamem.core.errors import DataError, ParameterError
from streamem.core.ports import Source
from streamem.estimators.hmm_parts import DECODERS, HMMParts
from streamem.estimators.sequence_inputs import SequenceReading, as_sequences
from streamem.running.answers import (
    Column,
    apply_to_array,
    apply_to_store,
    map_source,
    reduce_source,
    require_apart,
)
from streamem.running.sequence_tasks import ApplyAlong, PathPart, PathSum, ScoreAlong, ScorePath

Array = NDArray[Any]
Path = str | os.PathLike[str]
FLOAT = np.dtype(np.float64)


class _Out(NamedTuple):
    """Where answers go."""

    path: Path | None
    overwrite: bool
    executor: Any


class DescribingHMM(HMMParts):
    """Questions to a fitted hidden Markov model.

    They read the data once, or where a sequence is longer than a chunk once more for what lies beyond each chunk; the
    answers are those that the uncut sequence would get.
    """

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
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> tuple[float, Any]:
        """States of every step, and how probable they are.

        Parameters
        ----------
        X, lengths, offsets, sequence_column, columns, feature_axis, executor : as in `fit`
        algorithm : "viterbi" (the most probable path), "map" (the most probable state of each step), or None for
            the estimator's
        out : path ending in .zarr, .parquet or .npy
            Written chunk by chunk; it appears when complete.
        overwrite : replace an existing `out`

        Returns
        -------
        log_prob : float
            Of the data and the path together, in nats; with "map" the sum of the largest probabilities, as hmmlearn
            has it.
        states : (n,) int64, −1 for padding; `out` if that was given (stored as int32)
        """
        chosen = self._decoder(algorithm)
        reading = self._reading(lengths, offsets, sequence_column, None, columns, feature_axis)
        source = self._opened(X, reading)
        if chosen == "viterbi" and out is None:
            return self._path(source, executor, keep=True)
        states = self._states(X, chosen, reading, _Out(out, overwrite, executor))
        return self._path(source, executor, keep=False)[0] if chosen == "viterbi" else self._sure(
            source, executor
        ), states

    def predict(
        self,
        X: Any,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """States of every step, by the estimator's `algorithm`; arguments and result as in `decode`."""
        reading = self._reading(lengths, offsets, sequence_column, None, columns, feature_axis)
        return self._states(X, self._decoder(None), reading, _Out(out, overwrite, executor))

    def predict_proba(
        self,
        X: Any,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        out: Path | None = None,
        overwrite: bool = False,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> Any:
        """Probability of every state at every step given its whole sequence (n, K), NaN for padding.

        Arguments and result as in `decode`.
        """
        reading = self._reading(lengths, offsets, sequence_column, None, columns, feature_axis)
        column = Column(int(self.n_components), FLOAT, tuple(f"probability_{k}" for k in range(self.n_components)))
        return self._describe(X, "posteriors", column, reading, _Out(out, overwrite, executor))

    def score_samples(self, X: Any, lengths: Any = None, **options: Any) -> tuple[float, Any]:
        """(log-likelihood of all sequences in nats, `predict_proba`); options are those of `predict_proba`."""
        posteriors = self.predict_proba(X, lengths, **options)
        asked = {name: value for name, value in options.items() if name not in ("out", "overwrite")}
        return self.score(X, lengths, **asked), posteriors

    def score(
        self,
        X: Any,
        lengths: Any = None,
        *,
        offsets: Any = None,
        sequence_column: str | None = None,
        sample_weight: Any = None,
        columns: Sequence[str] | None = None,
        feature_axis: int | str | None = None,
        executor: Any = None,
    ) -> float:
        """Log-likelihood of all sequences together, in nats."""
        reading = self._reading(lengths, offsets, sequence_column, sample_weight, columns, feature_axis)
        return self._total(self._opened(X, reading), executor)[0]

    def get_stationary_distribution(self) -> Array:
        """(K,) shares of time that a chain spends in each state in the long run: π = π·transmat (hmmlearn's name)."""
        check_is_fitted(self)
        values, vectors = np.linalg.eig(np.asarray(self.transmat_).T)
        vector = np.abs(np.real(vectors[:, np.argmin(np.abs(values - 1))]))
        return np.asarray(vector / vector.sum())

    def bic(self, X: Any, lengths: Any = None, **options: Any) -> float:
        """Bayesian information criterion (Schwarz 1978): −2ℓ + p·log(rows). Options are those of `score`."""
        return self.scores(X, lengths, **options)["bic"]

    def aic(self, X: Any, lengths: Any = None, **options: Any) -> float:
        """Akaike's information criterion (1974): −2ℓ + 2p. Options are those of `score`."""
        return self.scores(X, lengths, **options)["aic"]

    def scores(self, X: Any, lengths: Any = None, *, executor: Any = None, **options: Any) -> dict[str, float]:
        """Everything that one pass tells of X: rows' weight, log-likelihood (total, per row), AIC, BIC.

        Options are those of `score`.
        """
        total, weight = self._total(self._opened(X, self._reading(lengths, **options)), executor)
        p = self._n_parameters()
        return {
            "weight": weight,
            "log_likelihood": total,
            "log_likelihood_per_row": total / weight,
            "aic": -2 * total + 2 * p,
            "bic": -2 * total + p * float(np.log(weight)),
        }

    # --- inner -------------------------------------------------------------------------------------------------------

    def _decoder(self, algorithm: str | None) -> str:
        chosen = self.algorithm if algorithm is None else algorithm
        if chosen not in DECODERS:
            raise ParameterError(f"algorithm is {chosen!r}; it must be one of {sorted(DECODERS)}")
        return chosen

    def _states(self, x: Any, chosen: str, reading: SequenceReading, out: _Out) -> Any:
        column = Column(None, np.dtype(np.int64 if out.path is None else np.int32), ("state",))
        return self._describe(x, "path" if chosen == "viterbi" else "labels", column, reading, out)

    def _opened(self, x: Any, reading: SequenceReading) -> Source:
        check_is_fitted(self)
        by_hand = not hasattr(self, "_state")
        width = self.face.width(self, self._emission_attributes()) if by_hand else None
        if width is not None:
            self.n_features_in_ = width
        return as_sequences(self, x, reading, reset=by_hand and width is None)

    def _describe(self, x: Any, question: str, column: Column, reading: SequenceReading, out: _Out) -> Any:
        source = self._opened(x, self._narrowed(column, reading))
        model, params = self._make_model(), self._params()
        task = ApplyAlong(
            getattr(model, question),
            params,
            source.schema.names,
            column.dtype,
            column.row_nbytes,
            missing_steps=True,
            model=model,
            kind=PATH if question == "path" else POSTERIOR,
        )
        engine = self._engine(question, out.executor)
        if out.path is None:
            return apply_to_array(source, task, column, engine)
        require_apart(x, out.path)
        return apply_to_store(source, task, column, engine, out.path, out.overwrite)

    def _narrowed(self, column: Column, reading: SequenceReading) -> SequenceReading:
        """Chunks of fewer rows where an answer is wider than its row."""
        d, width = getattr(self, "n_features_in_", column.width or 1), column.width or 1
        return replace(reading, chunk_bytes=max(1, reading.chunk_bytes * d // max(d, width)))

    def _total(self, source: Source, executor: Any) -> tuple[float, float]:
        if source.n_rows == 0:
            raise DataError(f"{source.schema.origin} has no rows to score")
        task = ScoreAlong(self._make_model(), self._params(), source.schema.names)
        stats = reduce_source(source, task, self._engine("score", executor), held=64)
        if not float(stats.weight) > 0:
            raise DataError(f"the sample weights sum to {stats.weight}; at least one must be > 0")
        return float(stats.log_likelihood), float(stats.weight)

    def _path(self, source: Source, executor: Any, keep: bool) -> tuple[float, Array]:
        """log p(x, z) of the most probable path z, and z (n,) if it is kept."""
        params: Params = self._params()
        task = ScorePath(self._make_model(), params, source.schema.names)
        total, row = PathSum(np.asarray(params.transmat)), 0
        states = np.empty(source.n_rows if keep else 0, dtype=np.int64)

        def take(part: PathPart) -> None:
            nonlocal row
            total.add(part)
            if keep:
                states[row : row + len(part.states)] = part.states
                row += len(part.states)

        held = 8 * max((ref.rows for ref in source.chunks()), default=0)
        map_source(source, task, self._engine("path", executor), held, take, result=states.nbytes)
        return total.log_prob, states

    def _sure(self, source: Source, executor: Any) -> float:
        """Σ over steps of the probability of the most probable state, which hmmlearn gives for "map"."""
        model, params = self._make_model(), self._params()
        row, names = 8 * int(self.n_components), source.schema.names
        describe: Any = model.posteriors
        task = ApplyAlong(describe, params, names, FLOAT, row, missing_steps=True, model=model, kind=POSTERIOR)
        sums: list[float] = []
        held = row * max((ref.rows for ref in source.chunks()), default=0)
        engine = self._engine("score of the states", executor)
        map_source(source, task, engine, held, lambda values: sums.append(float(np.nansum(values.max(axis=1)))))
        return float(np.sum(sums))
