"""Score, information matrix and outer products of scores of a data set, from one pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.errors import MemoryLimitError
from streamem.core.ports import FullFamily, Source
from streamem.core.stats import Stats
from streamem.models.boundaries import chains_of
from streamem.running.answers import map_source, take_sample
from streamem.running.engines import Engine
from streamem.running.memory import format_bytes
from streamem.running.uncertainty.pilot import ROWS, Prepared, chosen, drawn, prepared
from streamem.running.uncertainty.rows import BLOCK_BYTES, RowTask, block_rows
from streamem.running.uncertainty.sequences import SequencePart, SequenceTask
from streamem.running.uncertainty.ties import Ties, ties_of

Array = NDArray[Any]

MOST_PARAMETERS = 4096
"""Free numbers beyond which the decomposition of their information takes minutes."""
MATRICES = 8
"""Square matrices of all free numbers that are held at once."""


@dataclass(frozen=True)
class Asked:
    """What is wanted.

    Attributes
    ----------
    curvature : the observed information
    products : the outer products of scores
    """

    curvature: bool
    products: bool


@dataclass(frozen=True, eq=False)
class Information:
    """What a data set tells of p free numbers about fitted parameters.

    Attributes
    ----------
    prepared, ties : the free numbers of the family, and those that tie components together
    params : the fitted parameters
    names : (p,) of the free numbers
    score : (p,) slope of the log-likelihood
    complete : (p, p) information that rows would hold if components were known, or None
    observed : (p, p) minus the second derivative of the log-likelihood, or None
    products : (p, p) Σ w s sᵀ over rows (or sequences, groups), or None
    overlap : (K, K) Σ w γ_k γ_l of responsibilities of rows
    weight, log_likelihood : of the data, in nats
    units : rows, or sequences, that were scored
    reads : how often the data was read
    """

    prepared: Prepared
    ties: Ties
    params: Params
    names: list[str]
    score: Array
    complete: Array | None
    observed: Array | None
    products: Array | None
    overlap: Array
    weight: float
    log_likelihood: float
    units: int
    reads: int


def information_of(model: Any, params: Params, source: Source, engine: Engine, asked: Asked) -> Information:
    """One pass over the data; where the family cannot draw rows, a sample before it.

    Sequences that are cut by chunks cost another read, and two for each free number of the observed information.

    Raises
    ------
    MemoryLimitError : too many free numbers for the memory limit, or for their information to be worked out
    """
    family: FullFamily = model.family
    k, sampled = len(np.asarray(model.shares(params))), not family.can_draw
    if sampled:
        sample = take_sample(source, ROWS * k * 8, np.random.RandomState(0), engine, model.missing)
        x = np.asarray(sample.x, dtype=np.float64)
        pilot = chosen(family, params.components, k, x[~np.isnan(x).all(axis=1)])
    else:
        pilot = drawn(family, params.components, k)
    units = float(getattr(source, "n_sequences", source.n_rows))
    ties = ties_of(model, params, float(source.n_rows), units)
    _require_few(family.free_form(params.components, k), ties, engine)
    found = prepared(model, params, pilot, float(source.n_rows))
    independent = not model.joins_pieces  # of sequences and groups, rows of one may lie in several chunks
    run = _of_rows if independent else _of_sequences
    information = run(model, params, source, engine, asked, found, ties)
    return replace(information, reads=information.reads + sampled)


def _require_few(form: Any, ties: Ties, engine: Engine) -> None:
    """Refuse what would not fit before anything of that size is made."""
    size = (
        sum(int(value.size) for value in form.values.values())
        + len(ties.values)
        + len(ties.free_names)
        - len(ties.moves)
    )
    mirrored = sum(int(form.values[name].size) * (1 - 1 / form.values[name].shape[-1]) / 2 for name in form.symmetric)
    p, limit = size - round(mirrored), engine.budget.limit_bytes
    needed = MATRICES * 8 * p * p
    if p <= MOST_PARAMETERS and needed <= limit:
        return
    raise MemoryLimitError(
        f"the model has up to {p} free parameters: {MATRICES} matrices of {p} × {p} numbers take "
        f"{format_bytes(needed)}, and {format_bytes(limit)} are allowed ({engine.budget.limit_of}), for at most "
        f"{MOST_PARAMETERS} parameters; use fewer components or a simpler covariance type, or bootstrap what you need"
    )


def _size(found: Prepared, ties: Ties) -> int:
    return int(found.coordinates.index().max(initial=-1)) + 1 + len(ties.free_names)


def _names(found: Prepared, ties: Ties) -> list[str]:
    return [*found.coordinates.names(), *ties.free_names]


# --- rows ------------------------------------------------------------------------------------------------------------


def _of_rows(
    model: Any, params: Params, source: Source, engine: Engine, asked: Asked, found: Prepared, ties: Ties
) -> Information:
    task = RowTask(model, params, source.schema.names, found, ties)
    p, (k, width) = _size(found, ties), found.coordinates.active.shape
    rows = block_rows(found)
    block = max(BLOCK_BYTES, 8 * rows * k * (width + 4)) * 3 + 8 * rows * (2 * p + source.schema.n_features)
    block += 8 * (4 * rows * width + 5 * width * width)  # derivatives of one component in closed form
    held = 8 * (p * p + 2 * k * width * width)
    total = _Total()
    map_source(source, task, _wider(engine, block + held), held, total.add, MATRICES * 8 * p * p)
    sums = total.sums
    complete, observed = _complete(found, ties, sums), None
    observed = complete - _expected_squares(found, ties, sums) + sums.products
    return Information(
        found,
        ties.known(sums),
        params,
        _names(found, ties),
        np.asarray(sums.score),
        complete,
        observed,
        np.asarray(sums.products),
        np.asarray(sums.overlap),
        float(sums.weight),
        float(sums.log_likelihood),
        source.n_rows,
        1,
    )


class _Total:
    """A sum of statistics in the order of the plan."""

    sums: Stats

    def __init__(self) -> None:
        self._empty = True

    def add(self, more: Stats) -> None:
        """Add the next chunk's."""
        self.sums, self._empty = (more if self._empty else self.sums + more), False


def _complete(found: Prepared, ties: Ties, sums: Stats) -> Array:
    """(p, p) minus the expected second derivative of the complete-data log-likelihood."""
    index = found.coordinates.index()
    out = np.zeros((_size(found, ties),) * 2)
    _scatter(out, index, -np.asarray(sums.second))
    first = len(out) - len(ties.free_names)
    out[first:, first:] = ties.complete(sums)
    return out


def _expected_squares(found: Prepared, ties: Ties, sums: Stats) -> Array:
    """(p, p) Σ w γ_k u_k u_kᵀ of complete-data slopes u."""
    index = found.coordinates.index()
    out = np.zeros((_size(found, ties),) * 2)
    _scatter(out, index, np.asarray(sums.squares))
    first = len(out) - len(ties.moves)
    out[first:, first:] = ties.squares(sums)
    for k, places in enumerate(index):
        known = np.flatnonzero(places >= 0)
        mixed = ties.mixed(sums, k)[known]
        out[places[known], first:] += mixed
        out[first:, places[known]] += mixed.T
    return out


def _scatter(out: Array, index: Array, blocks: Array) -> None:
    """Add (K, Q, Q) blocks to the rows and columns of their free numbers."""
    for places, block in zip(index, blocks, strict=True):
        known = np.flatnonzero(places >= 0)
        out[np.ix_(places[known], places[known])] += block[np.ix_(known, known)]


# --- sequences and groups --------------------------------------------------------------------------------------------


def _of_sequences(
    model: Any, params: Params, source: Source, engine: Engine, asked: Asked, found: Prepared, ties: Ties
) -> Information:
    refs = source.chunks()
    task = SequenceTask(model, params, source.schema.names, found, ties, asked.curvature, asked.products)
    p, (k, width) = _size(found, ties), found.coordinates.active.shape
    rows = max((ref.rows for ref in refs), default=0)
    chunk = 8 * (rows * k * (2 * width + 12) + 4 * rows * width + 5 * width * width)
    held = 8 * (2 * p * p + k * width * width + 4 * p)
    added = Pieces(p)
    map_source(source, task, _wider(engine, chunk + held), held, added.add, MATRICES * 8 * p * p)
    sums = added.total.sums
    complete = observed = None
    if asked.curvature:
        complete = _complete(found, ties, sums)
        observed = complete - (sums.crossed + sums.crossed.T) / 2.0
    cut = 1 + 2 * p * asked.curvature if chains_of(refs) else 0
    return Information(
        found,
        ties.known(sums),
        params,
        _names(found, ties),
        np.asarray(sums.score),
        complete,
        observed,
        sums.products + added.finished() if asked.products else None,
        np.asarray(sums.overlap),
        float(sums.weight),
        float(sums.log_likelihood),
        int(getattr(source, "n_sequences", 0)),
        1 + cut,
    )


class Pieces:
    """Sums of chunks in the order of the plan, and the scores of sequences that chunks cut."""

    def __init__(self, size: int) -> None:
        self.total, self.joined = _Total(), np.zeros((size, size))
        self._open: tuple[Array, float] | None = None

    def add(self, part: SequencePart) -> None:
        """Add the next chunk's."""
        self.total.add(part.sums)
        if part.first is not None:
            known = part.first[0] if self._open is None else self._open[0] + part.first[0]
            self._open = (known, part.first[1])
        if not part.passes:
            self._close()
        if part.last is not None:
            self._open = part.last

    def _close(self) -> None:
        if self._open is not None:
            score, weight = self._open
            self.joined += weight * np.outer(score, score)
        self._open = None

    def finished(self) -> Array:
        """(p, p) of the sequences that were cut."""
        self._close()
        return self.joined


def _wider(engine: Engine, more: int) -> Engine:
    return replace(engine, workspace=engine.workspace + more)
