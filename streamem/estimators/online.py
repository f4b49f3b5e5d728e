"""Online EM: one mini-batch after the other, and the model is fitted after each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.algorithms import HalfLife, PowerLaw, StepSize, StepwiseEM
from streamem.core.blas import one_blas_thread
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, DegenerateDataError, ParameterError
from streamem.core.ports import Source
from streamem.core.sequences import Sequences
from streamem.core.state import State
from streamem.core.stats import Stats
from streamem.estimators.callbacks import WatchedEstimator
from streamem.running.answers import reduce_source, take_sample
from streamem.running.engines import Engine
from streamem.running.fit import EStep
from streamem.running.report import TOMBSTONES, FitReport
from streamem.sources import open_source

Array = NDArray[Any]
PATIENCE = 10
"""How many times the least number of rows may be kept while no start can be made of them."""


class OnlineEstimator(WatchedEstimator):
    """A model that learns from mini-batches."""

    _pending: Chunk | None

    def _learn_and_tell(self, learn: Callable[[], None]) -> None:
        """Take a step, and tell those who follow; a batch that fails leaves the model as it was."""
        known: State | None = getattr(self, "_state", None)
        with self._kept_on_failure():
            learn()
        state: State | None = getattr(self, "_state", None)
        # A batch whose weights are all 0 teaches nothing.
        if state is not None and state.memory is not None and (known is None or state.memory is not known.memory):
            self._tell(self._note(known, state))

    def _step(self, source: Source, rule: StepSize, dtype: np.dtype[Any], executor: Any) -> None:
        # The start too: pools of OpenMP threads hang in a forked child, and k-means would sum in their order.
        with one_blas_thread():
            self._step_alone(source, rule, dtype, executor)

    def _step_alone(self, source: Source, rule: StepSize, dtype: np.dtype[Any], executor: Any) -> None:
        self._check_hyperparameters()
        self._check_given(source.schema.n_features)
        if source.n_rows == 0:
            raise DataError(f"{source.schema.origin} has 0 sample(s) (rows) while a minimum of 1 is required")
        engine = self._engine("partial fit", executor)
        least = self._least_rows(source.schema.n_features)
        if not self._is_fitted():
            self._start_online(source, StepwiseEM(rule, least=least), least, dtype, engine)
            return
        self._require_fitting_shapes()
        known: State | None = getattr(self, "_state", None)
        params = self._params()
        state = known if known is not None and known.params == params else State(params)
        stats = self._e_step(state, source, engine)
        if state.memory is None and source.n_rows < least and float(stats.weight) > 0:
            raise ParameterError(
                f"this model holds no statistics to go on from (its attributes were set by hand), so the first batch "
                f"needs at least {least} rows, 2·K·(d + 1); it has {source.n_rows}"
            )
        self._learn(StepwiseEM(rule, least=least).update(self._make_model(), state, stats), self._published_dtype())

    def _start_online(
        self, source: Source, algorithm: StepwiseEM, least: int, dtype: np.dtype[Any], engine: Engine
    ) -> None:
        """Keep rows until a start can be made; then take the first step with all of them."""
        pending: Chunk | None = getattr(self, "_pending", None)
        have = 0 if pending is None else pending.rows
        rng = self._generator()
        room = max(least, engine.budget.sample_bytes // (8 * source.schema.n_features))
        taken = self._taken(source, min(source.n_rows, room), rng, engine)
        if taken.weight is not None and not taken.weight.any():
            return
        drawn = _joined(pending, taken)
        if have + source.n_rows < least:
            self._pending = drawn
            return
        model = self._make_model()
        try:
            state = State(self._make_start(model, drawn, rng))
        except DegenerateDataError:
            if have + source.n_rows >= PATIENCE * least:
                raise
            self._pending = drawn
            return
        stats = self._e_step(state, source, engine)
        if pending is not None:
            stats = self._e_step(state, self._reopened(pending), engine) + stats
        self._pending = None
        self._learn(algorithm.begin(model, state, stats), dtype)

    def _taken(self, source: Source, size: int, rng: np.random.RandomState, engine: Engine) -> Chunk:
        """So many rows of a source, all of them in order if that is their number."""
        return take_sample(source, size, rng, engine)

    def _reopened(self, kept: Chunk) -> Source:
        """Rows that were kept, as a source."""
        return open_source(kept.x, weight=kept.weight)

    def _learn(self, state: State, dtype: np.dtype[Any]) -> None:
        self._seen = ""  # no data set is that of the trace any more
        events = getattr(self, "report_", FitReport()).events
        kept = {name: events[name] for name in (TOMBSTONES,) if name in events}
        self.report_ = FitReport("learned online", state.rows, self.n_features_in_, 1, events=kept)
        self._adopt(state, dtype)

    def _e_step(self, state: State, source: Source, engine: Engine) -> Stats:
        model = self._make_model()
        task = EStep(model, state.params, source.schema.names)
        return reduce_source(source, task, engine, model.statistics_bytes(source.schema.n_features))

    @property
    def effective_sample_size_(self) -> float:
        """How many rows, weighed alike, would tell as much as the statistics hold: (Σ shares²)⁻¹ (Kish 1965)."""
        state: State | None = getattr(self, "_state", None)
        if state is None or state.memory is None:
            raise AttributeError("effective_sample_size_: the model holds no statistics yet; fit it first")
        return 1.0 / float(state.memory.crowding)


def step_rule(half_life: float | None, step: StepSize | None) -> StepSize:
    """The step size of a call.

    Raises
    ------
    ParameterError : two of them
    """
    if half_life is not None and step is not None:
        raise ParameterError("half_life and step both say how large a step is; pass one of them")
    if half_life is not None:
        return HalfLife(half_life)
    return PowerLaw() if step is None else step


def _joined(earlier: Chunk | None, later: Chunk) -> Chunk:
    """Rows of both; a missing weight is 1."""
    if earlier is None:
        return Chunk(np.array(later.x), None if later.weight is None else np.array(later.weight), later.sequences)
    weights = [np.ones(part.rows) if part.weight is None else part.weight for part in (earlier, later)]
    weight = None if earlier.weight is None and later.weight is None else np.concatenate(weights)
    sequences = None
    if earlier.sequences is not None and later.sequences is not None:
        offsets = np.concatenate([earlier.sequences.offsets, earlier.rows + later.sequences.offsets[1:]])
        sequences = Sequences(offsets, padded=earlier.sequences.padded or later.sequences.padded)
    return Chunk(np.concatenate([earlier.x, later.x]), weight, sequences)
