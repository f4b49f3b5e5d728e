"""Ports of what a component emits: a family, and a family at fixed parameters that runs over blocks of rows.

Letters in shapes: n rows, d features, k components, b rows of a block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.stats import Stats

Array = NDArray[Any]


class Family(Protocol):
    """What one component emits, for k components at once.

    Laws: `stats` is linear in `resp`; `maximize` maximizes the expected log-likelihood of such statistics;
    ``maximize(c * s) == maximize(s)``.
    """

    def log_prob(self, params: Any, x: Array) -> Array:
        """Log-density of every row under every component, (n, k), in nats."""

    def stats(self, params: Any, x: Array, resp: Array) -> Stats:
        """Sufficient statistics of x (n, d) weighted by resp (n, k); may read params."""

    def maximize(self, stats: Stats, previous: Any) -> Params:
        """Parameters of largest expected log-likelihood; `previous` fills what is empty or held fixed."""


@runtime_checkable
class Startable(Protocol):
    """A family whose first statistics need parameters (an anchor, a scale): it makes them from a sample."""

    def start(self, x: Array, weight: Array | None, n_components: int) -> Params:
        """Crude parameters, equal for every component."""


@runtime_checkable
class Surveying(Protocol):
    """A family that must see all data once before its first parameters: categories are counted, never guessed."""

    @property
    def is_surveyed(self) -> bool:
        """Whether nothing is left to learn from a survey."""

    def survey(self, x: Array, weight: Array | None) -> Array:
        """What rows x (n, d) of weight (n,) tell; rows of all NaN tell nothing.

        Raises
        ------
        ImpossibleValueError : values that the family cannot emit
        """

    def surveyed(self, found: Sequence[Array]) -> Family:
        """The family that knows what all chunks told."""


@runtime_checkable
class Counted(Protocol):
    """A family that can tell how many of its parameters are free: probabilities sum to 1, an anchor is none."""

    def free_parameters(self, params: Any) -> int:
        """Numbers that an M-step may choose."""


@runtime_checkable
class Drawing(Protocol):
    """A family from which rows can be drawn."""

    def draw(self, params: Any, component: int, count: int, rng: np.random.RandomState) -> Array:
        """Rows (count, d) that a component emits."""


@runtime_checkable
class Farsighted(Protocol):
    """A family that can judge rows whose squared distances overflow; NaN says that it cannot after all."""

    def far_log_prob(self, params: Any, x: Array) -> Array:
        """Log-densities (n, k) of rows x (n, d) in nats, −∞ where they are below what float64 holds."""

    def far_order(self, params: Any, x: Array) -> Array:
        """Numbers (n, k) that order the components of a row as their log-densities do, where all of these are −∞."""


@runtime_checkable
class Checkable(Protocol):
    """A family or model that can tell parameters that contradict themselves, as a file may hold them."""

    def faults(self, params: Any, n_components: int, n_features: int) -> list[str]:
        """One sentence for each array that cannot be, naming it; none of parameters that this library made.

        Costs no more than an M-step.
        """


class Kernel(Protocol):
    """A family at fixed parameters, run over blocks of rows without allocation, laid out with rows last.

    Call `load`, then `log_prob`, `accumulate` or both for the rows that were loaded.
    """

    rounding: float
    """Bound on the rounding error of one log-density, in nats."""

    path: str
    """Which arithmetic runs, in words, for the report."""

    dtype: np.dtype[Any]
    """In which log-densities and responsibilities are held fastest; others are converted."""

    def load(self, x: Array) -> None:
        """Take the next block (b, d)."""

    def log_prob(self, out: Array) -> None:
        """Write the log-densities of the loaded rows into out (k, b)."""

    def accumulate(self, resp: Array) -> None:
        """Add the statistics of the loaded rows weighted by resp (k, b)."""

    def stats(self) -> Stats:
        """Everything accumulated so far."""


@runtime_checkable
class Restartable(Protocol):
    """A `Kernel` or `Mixing` that can be used for one chunk after another: what it worked out at first is kept."""

    def restart(self) -> None:
        """Forget what was accumulated; statistics that were handed out stay as they are."""


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


@runtime_checkable
class Mixing(Protocol):
    """A family at fixed parameters that runs the E-step of a mixture over many rows by itself; a `Kernel` may do so."""

    rounding: float
    """Bound on the rounding error of one log-density, in nats."""

    path: str
    """Which arithmetic runs, in words, for the report."""

    def mix(self, x: Array, weight: Array | None, log_weights: Array) -> MixtureSums:
        """Accumulate the statistics of all rows x (n, d), weighted by weight (n,) and their responsibilities.

        Where a row has no finite density under any component, the log-likelihood is not finite.
        """

    def stats(self) -> Stats:
        """Everything accumulated so far."""


@runtime_checkable
class RowMajor(Protocol):
    """A `Kernel` that gives densities and takes weights row after row, for many blocks of rows in one call."""

    def densities(self, x: Array, b: Array, peaks: Array) -> None:
        """Of rows x (n, d): peaks (n,), the largest log-density of each, in nats, and b (n, width) = exp(· − largest).

        Columns beyond the components become 0. Log-densities that are not finite do as in ``exp``.
        """

    def accumulate_rows(self, x: Array, weights: Array, again: bool) -> None:
        """Add the statistics of rows x (n, d) with weights (n, width); `again` says that x is that of `densities`."""


@runtime_checkable
class Blockwise(Protocol):
    """A family that offers a `Kernel`: the fast path."""

    def block_rows(self, params: Any) -> int:
        """Rows a block, a pure function of the shape of the parameters."""

    def kernel(self, params: Any, dtype: DTypeLike = np.float64) -> Kernel:
        """The family at these parameters, for rows of `dtype`; on float32 rows it may round more."""

    def workspace_bytes(self, n_components: int, n_features: int) -> int:
        """Bytes that a kernel holds."""

    def statistics_bytes(self, n_components: int, n_features: int) -> int:
        """Bytes of its statistics."""


@runtime_checkable
class Screenable(Protocol):
    """A family that has a cheaper E-step where most responsibilities are nil."""

    def screen(self, params: Any, dtype: DTypeLike, pairs_per_row: float, rows: float = 0.0) -> Mixing | None:
        """Such an E-step for rows of `dtype`, or None where the kernel would be faster, or it would be inaccurate.

        A pure function of its arguments; `pairs_per_row` is what an earlier pass counted, `rows` how many there are in
        this one. What it leaves out changes a log-density by less than its `rounding`.
        """


@runtime_checkable
class Penalized(Protocol):
    """A family or model whose M-step maximizes the expected log-likelihood *minus* a penalty (a prior, `reg_covar`)."""

    def penalty(self, params: Any, stats: Stats) -> float:
        """The penalty at `params` for these statistics, in nats."""


@runtime_checkable
class Bounded(Protocol):
    """A family or model that knows by how much its M-step may miss the maximum: it rounds, and has limits of its own.

    Laws: never below 0; where the M-step is exact but for rounding, as on ordinary data, a rounding error and no more,
    so that an M-step which does not maximize is noticed.
    """

    def shortfall(self, old: Any, new: Any, stats: Stats) -> float:
        """By how much `new`, of these statistics taken at `old`, may be below what `old` achieves, in nats."""


@runtime_checkable
class Diagnosed(Protocol):
    """A family or model that can tell which components were kept from degenerating."""

    def degenerate(self, params: Any) -> Mapping[str, list[int]]:
        """Component indices by kind of intervention ("empty", "floored")."""


@runtime_checkable
class Rebasable(Protocol):
    """A family or model whose statistics refer to the parameters at which they were taken (moments about means)."""

    def rebase(self, stats: Stats, old: Any, new: Any) -> Stats:
        """Statistics taken at `old` as if they had been taken at `new`, the responsibilities unchanged."""


@runtime_checkable
class Anchored(Protocol):
    """A family or model that measures from a reference point, from which data may drift away; it is `Rebasable` too."""

    def reanchored(self, params: Any) -> Any:
        """The same distribution about a better reference; `params` itself as long as that one will do."""


@runtime_checkable
class Coded(Protocol):
    """A family whose rows may be codes of categories, so that text can be read for it."""

    @property
    def takes_codes(self) -> bool:
        """Whether they are."""


@runtime_checkable
class Explained(Protocol):
    """A model or family that can say which arithmetic it runs."""

    def arithmetic(self, params: Any, dtype: DTypeLike) -> str:
        """In words, for the report, on rows of `dtype`."""
