"""The kernel of categorical data: look-ups in a table of log-probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.cached_by_identity import cached_by_identity
from streamem.core.errors import ImpossibleValueError
from streamem.core.numerics import EPS, negligible
from streamem.core.ports import Kernel, MixtureSums
from streamem.core.stats import Stats
from streamem.kernels.features.exponential import NO_WEIGHTS
from streamem.kernels.features.features import as_rows
from streamem.kernels.tables.codes import Codes, GroupCodes
from streamem.kernels.tiling import block_rows
from streamem.machine.lanes import fill_in_lanes, in_lanes, lanes_for
from streamem.machine.thread_buffer import thread_buffer

Array = NDArray[Any]

TILE = 64
"""Rows whose sums are kept with the component last, before they are laid out with rows last."""


def table_of(params: Params) -> Array:
    """log p (V, K), −∞ for what is impossible."""
    return cached_by_identity(params.probabilities, params.starts, "log table", lambda: _table(params.probabilities))


def _table(probabilities: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.ascontiguousarray(np.log(probabilities).T)


def places_in(starts: Array, x: Array, out: Array, absent: int = -1) -> Array:
    """Rows of the table (b, d) that codes x (b, d) stand for; NaN for row `absent`, if there is one.

    Raises
    ------
    ImpossibleValueError : a negative or fractional value, or a code beyond those known
    """
    bad = kernels.places_of(as_rows(x), starts, absent, out)
    if bad >= 0:
        raise unknown_code(x, bad, starts)
    return out[: len(x)]


def unknown_code(x: Array, position: int, starts: Array) -> ImpossibleValueError:
    """The error for x.flat[position]."""
    value, column = float(x.flat[position]), position % x.shape[1]
    known = int(starts[column + 1] - starts[column])
    if value < 0 or value != np.floor(value):
        needed = f"codes of categories are integers 0 … {known - 1} here: number the categories from 0"
    else:
        needed = (
            f"codes 0 … {known - 1} are known here: pass n_categories={int(value) + 1} (or a number for every column; "
            "n_levels of levels of agreement) to allow for more, or fit to data that shows every category"
        )
    return ImpossibleValueError(value, column, needed)


class CategoricalKernel(Kernel):
    """Sums of log-probabilities by look-up, statistics by addition in place; runs mixtures by itself.

    With `missing`, NaN is a code of its own behind all others: of probability 1, and left out of the statistics.
    """

    path, dtype = "float64 look-ups", np.dtype(np.float64)

    def __init__(self, params: Params, missing: bool = False) -> None:
        self._starts, self._table = params.starts.copy(), table_of(params)
        self._absent = len(self._table) if missing else -1
        if missing:
            self._table = np.vstack([self._table, np.zeros((1, self._table.shape[1]))])
        (v, k), d = self._table.shape, len(params.starts) - 1
        self._k, self._d, self._rows, self._width = k, d, block_rows(k, d), lanes_for(k)
        finite = np.where(np.isfinite(self._table), np.abs(self._table), 0.0)
        self.rounding = EPS * (d + 1) * (1.0 + float(finite.max(initial=0.0)))
        self._table = in_lanes(self._table)
        self._sums, self._weight = np.zeros((v, self._width)), np.zeros(self._width)
        self._buffer: Array | None = None
        self._places: Array = np.empty((0, d), dtype=np.int32)

    def load(self, x: Array) -> None:
        """Take the next block of codes (b, d)."""
        if self._buffer is None:
            self._buffer = np.empty((self._rows, self._d), dtype=np.int32)
        self._places = self._placed(x, self._buffer)

    def log_prob(self, out: Array) -> None:
        """out (K, b) = Σ_j log p_j."""
        kernels.look_up(self._places, self._table, thread_buffer("near", (TILE, self._width)), out)

    def accumulate(self, resp: Array) -> None:
        """Responsibilities (K, b) to the codes of the rows."""
        transposed = in_lanes(np.ascontiguousarray(resp.T, dtype=np.float64))
        kernels.add_at(self._places, transposed, self._sums, self._weight)

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Responsibilities of all rows x (n, d), block by block, and their statistics."""
        occupied = np.zeros(self._width)
        bad, log_likelihood, pairs = kernels.mixture_pass(
            as_rows(x),
            NO_WEIGHTS if weight is None else as_rows(weight),
            log_weights,
            self._codes(occupied),
            thread_buffer("joint", (self._k * self._rows,)),
            thread_buffer("row sums", (3, self._rows)),
            negligible(self._k),
        )
        if bad >= 0:
            raise unknown_code(x, bad, self._starts)
        self._weight += occupied
        return MixtureSums(log_likelihood, pairs, occupied[: self._k])

    def mix_groups(self, x: Array, spans: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Responsibilities of all groups of rows x (n, d), block by block, and the statistics of their rows."""
        occupied = np.zeros(self._width)
        _, log_likelihood, pairs = kernels.mixture_pass(
            spans,
            NO_WEIGHTS if weight is None else as_rows(weight),
            log_weights,
            self._group_codes(x, occupied),
            thread_buffer("joint", (self._k * self._rows,)),
            thread_buffer("row sums", (3, self._rows)),
            negligible(self._k),
        )
        return MixtureSums(log_likelihood, pairs, occupied[: self._k])

    def accumulate_groups(self, x: Array, spans: Array, weights: Array) -> None:
        """Add the statistics of rows x (n, d) of groups with weights (g, K)."""
        own = self._group_codes(x, np.zeros(self._width))
        kernels.statistics_pass(spans, in_lanes(weights), own, self._rows, False)

    def _group_codes(self, x: Array, occupied: Array) -> GroupCodes:
        """Codes of all rows of groups, and buffers of this thread; weights of groups are added to `occupied`."""
        resp = thread_buffer("resp", (self._rows, self._width))
        resp[:, self._k :] = 0.0
        return GroupCodes(
            self._placed(x, thread_buffer("places", (len(x), self._d), np.int32)),
            thread_buffer("spans", (self._rows, 2), np.int64),
            self._table,
            thread_buffer("near", (TILE, self._width)),
            resp,
            self._sums,
            self._weight,
            occupied,
        )

    def _placed(self, x: Array, out: Array) -> Array:
        """Places (b, d) in the table of rows x, written into `out`."""
        return places_in(self._starts, x, out, self._absent)

    def densities(self, x: Array, b: Array, peaks: Array) -> None:
        """Densities of all rows x (n, d), row after row."""
        own, joint = self._codes(self._weight), thread_buffer("joint", (self._k * self._rows,))

        def fill(b: Array) -> None:
            bad = kernels.densities_pass(as_rows(x), self._k, own, joint, b, peaks)
            if bad >= 0:
                raise unknown_code(x, bad, self._starts)

        fill_in_lanes(b, fill)

    def accumulate_rows(self, x: Array, weights: Array, again: bool) -> None:
        """Add the statistics of all rows x (n, d) with weights (n, at least K)."""
        own = self._codes(self._weight)
        bad = kernels.statistics_pass(as_rows(x), in_lanes(weights), own, self._rows, False)
        if bad >= 0:
            raise unknown_code(x, bad, self._starts)

    def _codes(self, occupied: Array) -> Codes:
        """Codes and buffers of this thread; weights of components are added to `occupied`."""
        resp = thread_buffer("resp", (self._rows, self._width))
        resp[:, self._k :] = 0.0
        return Codes(
            self._starts,
            self._absent,
            self._table,
            thread_buffer("places", (self._rows, self._d), np.int32),
            thread_buffer("near", (TILE, self._width)),
            resp,
            self._sums,
            occupied,
        )

    def restart(self) -> None:
        """Begin anew."""
        self._sums, self._weight = np.zeros_like(self._sums), np.zeros_like(self._weight)

    def stats(self) -> Stats:
        """weight (K,) and counts (K, V)."""
        counts = self._sums[: self._starts[-1], : self._k]
        return Stats(weight=self._weight[: self._k].copy(), counts=counts.T.copy())
