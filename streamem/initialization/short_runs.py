"""The best of several short runs of EM on a sample, as a start (em-EM; Biernacki, Celeux & Govaert 2003)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamem.core.arrays import Params
from streamem.core.chunk import Chunk
from streamem.core.errors import DegenerateDataError, NumericalError
from streamem.core.ports import Model
from streamem.core.sequences import Sequences

RUNS, ITERATIONS = 32, 10
"""Of the first round; each further round goes on with a quarter of the runs for three times as long."""
ROUNDS = 3
FEWEST_ROWS, MOST_ROWS = 2**12, 2**15
"""Of the sample that the runs see."""

Begin = Callable[[Chunk, np.random.RandomState], Params]


@dataclass
class _Run:
    params: Params
    log_likelihood: float = -np.inf
    is_thin: bool = False

    @property
    def rank(self) -> tuple[bool, float]:
        """The order of runs, the best first."""
        return self.is_thin, -self.log_likelihood


@dataclass(frozen=True)
class Best:
    """The best of short runs.

    Attributes
    ----------
    params : where it has come to
    ends : log-likelihoods of the runs that were compared last but one, itself among them, in nats per unit of weight
    """

    params: Params
    ends: tuple[float, ...]


def best_of_short_runs(model: Model, sample: Chunk, rng: np.random.RandomState, begin: Begin, rows: int) -> Best:
    """The run whose log-likelihood on the sample is the highest after all rounds, of those without thin components.

    Parameters
    ----------
    begin : the first parameters of a run
    rows : of the sample that are enough; between `FEWEST_ROWS` and `MOST_ROWS` are drawn

    Raises
    ------
    DegenerateDataError, NumericalError : that of the last run, if all of them fail
    """
    part = part_of(sample, rows, rng)
    weight = part.rows if part.weight is None else float(part.weight.sum())
    runs: list[_Run] = []
    ends: tuple[float, ...] = ()
    failed: Exception | None = None
    for _ in range(RUNS):
        try:
            runs.append(_Run(begin(part, rng)))
        except (DegenerateDataError, NumericalError) as error:
            failed = error
    for i in range(ROUNDS):
        runs, failed = _advanced(model, part, runs, ITERATIONS * 3**i, failed)
        ranked = sorted(runs, key=lambda run: run.rank)
        ends = tuple(run.log_likelihood / weight for run in ranked) if i < ROUNDS - 1 else ends
        runs = ranked[: max(1, len(ranked) // 4)]
    if not runs:
        assert failed is not None
        raise failed
    return Best(runs[0].params, ends)


def _advanced(
    model: Model, part: Chunk, runs: list[_Run], iterations: int, failed: Exception | None
) -> tuple[list[_Run], Exception | None]:
    """The runs after so many more iterations, and the error of the last that failed."""
    kept = []
    for run in runs:
        try:
            kept.append(_iterated(model, part, run.params, iterations))
        except (DegenerateDataError, NumericalError) as error:
            failed = error
    return kept, failed


def _iterated(model: Model, part: Chunk, params: Params, iterations: int) -> _Run:
    for _ in range(iterations):
        stats = model.e_step(params, part)
        params = model.m_step(stats, params)
    return _Run(params, float(model.e_step(params, part).log_likelihood), _is_thin(model, params, part))


def _is_thin(model: Model, params: Params, part: Chunk) -> bool:
    """Whether some component holds fewer than d + 2 rows, or was kept from degenerating (rows that agree in a column):
    the likelihood of its covariance has no bound.

    Such a run is ranked behind all others, whatever its likelihood.
    """
    if any(model.degenerate(params).values()):
        return True
    shares = model.shares(params)
    weight = part.rows if part.weight is None else float(part.weight.sum())
    return shares is not None and bool((np.asarray(shares) * weight < part.x.shape[1] + 2).any())


def part_of(sample: Chunk, rows: int, rng: np.random.RandomState) -> Chunk:
    """A part of a sample: so many rows, but at least `FEWEST_ROWS` and at most `MOST_ROWS`, where it has them."""
    return drawn(sample, min(max(rows, FEWEST_ROWS), MOST_ROWS), rng)


def drawn(sample: Chunk, rows: int, rng: np.random.RandomState) -> Chunk:
    """A part of a sample, its rows in their order; all of them where it has no more."""
    if sample.rows <= rows:
        return sample
    picks = np.sort(rng.choice(sample.rows, size=rows, replace=False))
    sequences = None
    if sample.sequences is not None:
        sequences = Sequences(np.searchsorted(picks, sample.sequences.offsets).astype(np.int64))
    weight = None if sample.weight is None else sample.weight[picks]
    return Chunk(sample.x[picks], weight, sequences, sample.beside(picks))
