"""Ports of how hidden variables tie components together."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.stats import Stats

Array = NDArray[Any]


@runtime_checkable
class Occupied(Protocol):
    """A model that can tell how much of the data each component takes."""

    def occupancy(self, params: Any) -> Array:
        """Shares (K,) that sum to 1."""


@runtime_checkable
class Prepared(Protocol):
    """A model whose E-steps over many rows take another way than those over few."""

    def prepared(self, params: Params, rows: int) -> Params:
        """The same parameters for E-steps over so many rows in all."""


@runtime_checkable
class Forgiving(Protocol):
    """A model that takes rows without any value (all NaN) for steps at which nothing was observed."""

    missing_steps: bool
    """Whether it does; a row with some values must still have all of them."""


@runtime_checkable
class Chained(Protocol):
    """A model of sequences, of which one may be cut over many chunks.

    Its `e_step` and what it says of rows take a `Boundary` as third argument. The functions below describe a chunk that
    is one sequence, or a piece of one; results are logarithms up to a constant. Laws: ``operator_of`` combined with a
    state before is ``forward_of`` from it, combined with what follows ``backward_of`` (combined by
    ``core.boundary.SUMS[question]``).
    """

    def scans(self, params: Params, question: str) -> bool:
        """Whether pieces should tell of themselves in any order (`operator_of`), or one be asked after another."""

    def forward_of(self, params: Params, chunk: Chunk, question: str, boundary: Boundary) -> Array:
        """(K,) of the state at the last step, from `boundary.before`, or from the model's own start."""

    def backward_of(self, params: Params, chunk: Chunk, question: str, boundary: Boundary) -> Array:
        """(K,) of the chunk and what follows (`boundary.after`, or nothing), given the state before its first step."""

    def operator_of(self, params: Params, chunk: Chunk, question: str, affordable: bool = False) -> Array | None:
        """(K, K) of the state at the last step (columns) given the state before the first step (rows).

        If it is to be affordable, None where it would cost much more than `forward_of`.
        """

    def e_step(self, params: Params, chunk: Chunk, message: Boundary | None) -> Stats:
        """Expected sufficient statistics, given what lies beyond the chunk."""


class Model(Protocol):
    """How hidden variables tie components together.

    `e_step` always carries ``rows``, ``weight``, ``log_likelihood`` (of the parameters that entered, in nats) and
    ``rounding`` (a bound on its error, in nats).
    """

    def init(self, sample: Chunk, rng: np.random.RandomState) -> Params:
        """Parameters to start from, estimated on a sample."""

    def e_step(self, params: Params, chunk: Chunk) -> Stats:
        """Expected sufficient statistics of a chunk under `params`."""

    def m_step(self, stats: Stats, previous: Params) -> Params:
        """The next parameters."""

    def workspace_bytes(self, n_features: int) -> int:
        """Bytes that one running `e_step` needs besides its chunk."""

    def statistics_bytes(self, n_features: int) -> int:
        """Bytes of the statistics that it returns."""
