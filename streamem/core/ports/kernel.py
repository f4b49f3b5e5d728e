"""A family at fixed parameters that runs over blocks of rows, without allocation where it can.

Letters in shapes: n rows, d features, k components, b rows of a block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamem.core import loops
from streamem.core.completing import as_written, has_own
from streamem.core.errors import ParameterError
from streamem.core.numerics import EPS, normalize_log_rows
from streamem.core.stats import Stats
from streamem.machine.lanes import fill_in_lanes, in_lanes
from streamem.machine.thread_buffer import thread_buffer

if TYPE_CHECKING:
    from streamem.core.ports.family import Family

Array = NDArray[Any]

PLAIN_BLOCK_ROWS = 4096


class MixtureSums(NamedTuple):
    """What the E-step of a mixture learns of rows besides the statistics of its family.

    Attributes
    ----------
    log_likelihood : weighted sum of log-densities, in nats
    pairs : weighted number of pairs of row and component that matter; see `numerics.negligible`
    responsibilities : (k,) weighted sums
    """

    log_likelihood: float
    pairs: float
    responsibilities: Array


class Mixing(ABC):
    """A family at fixed parameters that runs the E-step of a mixture over many rows by itself."""

    rounding: float
    """Bound on the rounding error of one log-density, in nats."""

    path: str
    """Which arithmetic runs, in words, for the report."""

    float32_products: bool = False
    """Whether log-densities are products in float32, whose terms round by as much as they are large."""

    @property
    def reusable(self) -> bool:
        """Whether the kernel serves one chunk after another: whether it has a `restart` of its own."""
        return has_own(self, Mixing, "restart")

    def restart(self) -> None:
        """Forget what was accumulated; statistics that were handed out stay as they are."""
        raise NotImplementedError(f"{type(self).__name__} serves one chunk only")

    @abstractmethod
    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Accumulate the statistics of all rows x (n, d), weighted by weight (n,) and their responsibilities.

        Where a row has no finite density under any component, the log-likelihood is not finite.
        """

    @abstractmethod
    def stats(self) -> Stats:
        """All statistics accumulated so far."""


class Kernel(Mixing):
    """A family at fixed parameters, run over blocks of rows laid out with rows last.

    Call `load`, then `log_prob`, `accumulate` or both for the rows that were loaded. What runs over many rows in one
    call (`mix`, `densities`, `accumulate_rows`) goes block by block unless a subclass knows better.
    """

    dtype: np.dtype[Any]
    """In which log-densities and responsibilities are held fastest; others are converted."""

    block_rows: int = PLAIN_BLOCK_ROWS
    """Most rows of a block; `kernel_of` sets what the family says."""

    n_components: int = 0
    """k; `kernel_of` sets it."""

    @property
    def takes_many_rows(self) -> bool:
        """Whether many rows in one call are faster than block by block: whether a subclass has its own functions."""
        own = all(has_own(self, Kernel, name) for name in ("mix", "densities", "accumulate_rows"))
        return own and self.reusable

    @abstractmethod
    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""

    @abstractmethod
    def log_prob(self, out: Array) -> None:
        """Write the log-densities of the loaded rows into out (k, b)."""

    @abstractmethod
    def accumulate(self, resp: Array) -> None:
        """Add the statistics of the loaded rows weighted by resp (k, b)."""

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """The E-step of a mixture, block by block; it ends at a block in which a row has no finite density."""
        k, buffer = len(log_weights), self._block_buffer(len(log_weights), len(x))
        log_likelihood, pairs, responsibilities = 0.0, 0.0, np.zeros(k)
        for block in self.blocks(len(x)):
            resp = _part_of(buffer, k, block)
            self.load(x[block])
            self.log_prob(resp)
            known = normalize_log_rows(resp, log_weights)
            if not np.isfinite(known.log_density).all():
                return MixtureSums(np.nan, pairs, responsibilities)
            if weight is not None:
                for values in (resp, *known):
                    values *= weight[block]
            self.accumulate(resp)
            log_likelihood += float(known.log_density.sum())
            pairs += float(known.active.sum(dtype=np.float64))
            responsibilities += resp.sum(axis=1, dtype=np.float64)
        return MixtureSums(log_likelihood, pairs, responsibilities)

    @property
    def takes_groups(self) -> bool:
        """Whether a subclass makes the E-step of a mixture of groups, and adds their statistics, by itself."""
        return all(has_own(self, Kernel, name) for name in ("mix_groups", "accumulate_groups"))

    def mix_groups(self, x: Array, spans: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """The E-step of a mixture of groups, all rows of one by the same component, where a kernel has such.

        Parameters
        ----------
        x : (n, d) rows, of which none is missing
        spans : (g, 2) int64, first row of each group and the one after its last; they follow each other without gaps
        weight : (g,) of groups, or None for ones
        log_weights : (K,) of the components

        Returns
        -------
        Sums over groups, once the statistics of all rows are added, weighted by the posterior of their group. Where a
        group has no finite density under any component, the log-likelihood is not finite.
        """
        raise NotImplementedError(f"{type(self).__name__} knows rows, no groups of them")

    def accumulate_groups(self, x: Array, spans: Array, weights: Array) -> None:
        """Add the statistics of rows x (n, d) of groups with spans (g, 2) as above and weights (g, K), where a kernel
        `takes_groups`."""
        raise NotImplementedError(f"{type(self).__name__} knows rows, no groups of them")

    def rows_log_prob(self, x: Array) -> Array | None:
        """Log-densities (n, K) of all rows x (n, d), where one look is cheaper than blocks; by default None."""
        return None

    def densities(self, x: Array, b: Array, peaks: Array) -> None:
        """Fill, for rows x (n, d), peaks (n,), the largest log-density in nats, and b (n, width) = exp(· − largest).

        Columns beyond the components become 0. Log-densities that are not finite do as in ``exp``.
        """
        buffer = self._block_buffer(self.n_components, len(x))

        def fill(b: Array) -> None:
            for block in self.blocks(len(x)) if len(x) else ():
                log_prob = _part_of(buffer, self.n_components, block)
                self.load(x[block])
                self.log_prob(log_prob)
                loops.scaled(log_prob, b[block], peaks[block])

        fill_in_lanes(b, fill)

    def accumulate_rows(self, x: Array, weights: Array, again: bool) -> None:
        """Add the statistics of rows x (n, d) with weights (n, width).

        `again` says that x is that of `densities`, and that nothing was loaded since.
        """
        buffer, weights = self._block_buffer(self.n_components, len(x)), in_lanes(weights)
        for block in self.blocks(len(x)) if len(x) else ():
            resp = _part_of(buffer, self.n_components, block)
            loops.columns(weights[block], resp)
            if not (again and len(x) <= self.block_rows):
                self.load(x[block])
            self.accumulate(resp)

    def blocks(self, rows: int) -> Iterator[slice]:
        """Blocks of so many rows; of none one that is empty, so that there are statistics even then."""
        for first in range(0, max(rows, 1), self.block_rows):
            yield slice(first, min(first + self.block_rows, rows))

    def _block_buffer(self, k: int, rows: int) -> Array:
        """For the log-densities or weights of k components in a block."""
        return thread_buffer("kernel block", (k * min(self.block_rows, max(rows, 1)),), self.dtype)


def _part_of(buffer: Array, k: int, block: slice) -> Array:
    """(k, rows of the block) in a buffer."""
    rows = block.stop - block.start
    return buffer[: k * rows].reshape(k, rows)


class PlainKernel(Kernel):
    """Runs the three functions of a `Family` block by block."""

    path, dtype = "the family's own functions", np.dtype(np.float64)

    def __init__(self, family: Family, params: Any) -> None:
        self._family, self._params = family, params
        self._x: Array = np.empty((0, 0))
        self._stats: Stats | None = None
        self.rounding = 64 * EPS

    def load(self, x: Array) -> None:
        """Keep the block."""
        self._x = x

    def log_prob(self, out: Array) -> None:
        """The family's log-densities, transposed.

        Raises
        ------
        ParameterError : they have another shape, which may not be broadcast: all components would be alike
        """
        found = np.asarray(self._family.log_prob(self._params, self._x))
        if found.shape != out.shape[::-1]:
            own, (k, n) = type(as_written(self._family)).__name__, out.shape
            raise ParameterError(
                f"{own}.log_prob returned an array of shape {found.shape} for {n} rows and {k} components; it must be "
                f"({n}, {k}): a log-density of every row under every component"
            )
        out[...] = found.T

    def accumulate(self, resp: Array) -> None:
        """Add the family's statistics."""
        stats = self._family.stats(self._params, self._x, resp.T)
        self._stats = stats if self._stats is None else self._stats + stats

    def stats(self) -> Stats:
        """All statistics accumulated so far."""
        if self._stats is None:
            raise ValueError("no rows were accumulated")
        return self._stats
