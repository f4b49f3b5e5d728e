"""The ports: what a family, model, source, sink, executor or algorithm must offer. Nobody needs to inherit.

Letters in shapes: n rows, d features, k components, b rows of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamem.core.arrays import Params
from streamem.core.boundary import Boundary
from streamem.core.chunk import Chunk
from streamem.core.message import Message
from streamem.core.redaction import redacted
from streamem.core.state import State
from streamem.core.stats import Stats

Array = NDArray[Any]
Result_co = TypeVar("Result_co", covariant=True)
Result = TypeVar("Result")


# --- data ------------------------------------------------------------------------------------------------------------


class ChunkRef(Protocol):
    """A picklable handle on a piece of a source: handles travel, workers load."""

    @property
    def index(self) -> int:
        """Position in the plan, from 0."""

    @property
    def start(self) -> int:
        """Index of the first row within the source."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def nbytes(self) -> int:
        """Bytes of the loaded chunk."""

    @property
    def load_nbytes(self) -> int:
        """Peak bytes while loading, the chunk itself included."""

    def load(self) -> Chunk:
        """Read the rows. The same bits at every call."""


@runtime_checkable
class Held(Protocol):
    """A chunk handle that rests on results which lie on a cluster already (a persisted collection)."""

    @property
    def futures(self) -> Mapping[Any, Any]:
        """Those results, by key; empty if there are none."""

    def given(self, values: Mapping[Any, Any]) -> ChunkRef:
        """The same chunk with values in place of its futures."""


@runtime_checkable
class Composed(Protocol):
    """A chunk handle whose rows come from other chunks: executors load each of these once for many such handles."""

    @property
    def bases(self) -> tuple[ChunkRef, ...]:
        """The chunks that hold the rows."""

    def drawn(self, load: Callable[[ChunkRef], Chunk]) -> Chunk:
        """The rows, from chunks that `load` gives."""


@runtime_checkable
class AtHand(Protocol):
    """A chunk handle that may have its rows in memory as they are wanted: nothing is gained by loading them ahead."""

    @property
    def at_hand(self) -> bool:
        """Whether it does."""


@runtime_checkable
class Fetchable(ChunkRef, Protocol):
    """A chunk handle that may take its bytes from where they are stored before it makes rows of them: a thread that
    waits for a disk does the one, a thread that computes the other, with rows that are in its cache then."""

    def fetched(self) -> ChunkRef:
        """The same chunk with its stored bytes in memory; itself where they cannot be had apart from the rows.

        What is wrong with them `load` tells.
        """


@runtime_checkable
class Sequenced(Protocol):
    """A chunk handle whose rows are steps of sequences, as its `Chunk.sequences` will say."""

    @property
    def lengths(self) -> Array:
        """(s,) int64 steps of each sequence, of those that are cut the steps within this chunk."""

    @property
    def opened(self) -> bool:
        """Whether the first sequence began in an earlier chunk."""

    @property
    def continued(self) -> bool:
        """Whether the last sequence goes on in the next chunk."""


@dataclass(frozen=True)
class Schema:
    """What the rows of a source look like.

    Attributes
    ----------
    n_features : d
    dtype : float32 or float64, of `Chunk.x`
    names : column names, or None where the source has none
    weighted : whether chunks carry sample weights
    origin : the source in words, for messages ("Zarr array profiles.zarr")
    categories : of columns that hold categories, the values in the order of their codes 0, 1, …
    """

    n_features: int
    dtype: np.dtype[Any]
    names: tuple[str, ...] | None
    weighted: bool
    origin: str
    categories: Mapping[str, tuple[Any, ...]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin", redacted(self.origin))


@runtime_checkable
class Source(Protocol):
    """Rows that can be read again and again, chunk by chunk.

    Laws: `chunks()` is a pure function of the store's metadata and of the byte budget, never of threads or workers; the
    refs cover rows 0 … n_rows in order; loading twice gives the same bits; `fingerprint()` is equal as long as the
    data is, and is cheap enough to be asked before every pass.
    """

    @property
    def schema(self) -> Schema:
        """What the rows look like."""

    @property
    def n_rows(self) -> int:
        """Number of rows n."""

    def fingerprint(self) -> str:
        """A short text that changes when the data does."""

    def chunks(self) -> Sequence[ChunkRef]:
        """The plan."""


@runtime_checkable
class Sequential(Protocol):
    """A source whose rows are steps of sequences; its handles are `Sequenced`."""

    offsets: Array
    """(s + 1,) int64 first row of every sequence, and n_rows."""


class Sink(Protocol):
    """Where results are written, row after row; nothing that looks finished exists before `commit`."""

    @property
    def held_nbytes(self) -> int:
        """Peak bytes that it holds: rows that wait for a full block, and what writing one takes."""

    def write(self, values: Array) -> None:
        """Append the next rows."""

    def commit(self) -> None:
        """Make the result visible under its name."""

    def abort(self) -> None:
        """Remove every trace."""


@runtime_checkable
class Stream(Protocol):
    """Records that arrive, message by message.

    Laws: started at positions that messages carried, it delivers what followed them, in the same order as before if all
    of it was there before; it never delivers a message twice; where partitions are read together, their order follows
    from the positions alone as long as none of them runs dry.
    """

    @property
    def name(self) -> str:
        """What identifies it in a checkpoint, machine and process apart ("kafka:telemetry")."""

    @property
    def replayable(self) -> bool:
        """Whether what was delivered can be had again; of a pipe it cannot."""

    def messages(self, positions: Mapping[str, Any]) -> Iterator[Message | None]:
        """Messages from the given position of each partition on (of those not named, from the stream's own beginning).

        None says that nothing came for a while, at most about a second; the end of the iterator that nothing more will
        come. Called once, in a thread of its own; closing the iterator frees what it holds.

        Raises
        ------
        StreamError : a broker, socket or file that fails for good, or no longer holds what was asked for
        """

    def commit(self, positions: Mapping[str, Any]) -> None:
        """Tell the broker how far a saved model has come, for displays of lag; may do nothing. Called in any thread."""


@runtime_checkable
class Shared(Protocol):
    """A stream whose partitions may go to another reader while it runs.

    Before some go, it calls `handover` with their names, in the thread that reads, and waits: meanwhile what was
    learned of them is saved and committed, and what was delivered beyond that is given up.
    """

    handover: Callable[[Sequence[str]], None] | None


# --- what is fitted --------------------------------------------------------------------------------------------------


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
class Occupied(Protocol):
    """A model that can tell how much of the data each component takes."""

    def occupancy(self, params: Any) -> Array:
        """Shares (K,) that sum to 1."""


@runtime_checkable
class Coded(Protocol):
    """A family whose rows may be codes of categories, so that text can be read for it."""

    @property
    def takes_codes(self) -> bool:
        """Whether they are."""


@runtime_checkable
class Prepared(Protocol):
    """A model whose E-steps over many rows take another way than those over few."""

    def prepared(self, params: Params, rows: int) -> Params:
        """The same parameters for E-steps over so many rows in all."""


@runtime_checkable
class Explained(Protocol):
    """A model or family that can say which arithmetic it runs."""

    def arithmetic(self, params: Any, dtype: DTypeLike) -> str:
        """In words, for the report, on rows of `dtype`."""


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


# --- how it is fitted ------------------------------------------------------------------------------------------------


class Task(Protocol[Result_co]):
    """What an executor does with each chunk; picklable."""

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Result_co: ...


@dataclass(frozen=True)
class ChunkDone:
    """What an executor tells after each chunk."""

    rows: int
    nbytes: int
    wait_s: float
    compute_s: float


OnChunk = Callable[[ChunkDone], None]


class Executor(Protocol):
    """Runs a task over chunks.

    Law: results depend on the plan only, never on threads, workers, or the order in which they finish.
    """

    def reduce(self, task: Task[Stats], refs: Sequence[ChunkRef], on_chunk: OnChunk) -> Stats:
        """The sum of the task over the chunks, along the fixed tree of `core.reduction`."""

    def map(self, task: Task[Result], refs: Sequence[ChunkRef], on_chunk: OnChunk) -> Iterator[Result]:
        """Results in plan order, with a bounded number in flight."""


class Job(Protocol[Result_co]):
    """A picklable piece of work: a task applied to some chunks, and what is done with the results where they are."""

    @property
    def refs(self) -> Sequence[ChunkRef]:
        """The chunks that it needs."""

    def with_refs(self, refs: Sequence[ChunkRef]) -> Job[Result_co]:
        """The same work with other handles on the same chunks."""

    def __call__(self, task: Task[Any], load: Callable[[ChunkRef], Chunk]) -> Result_co: ...


@runtime_checkable
class Remote(Protocol):
    """An executor whose workers may do more with a result than send it here."""

    def work(
        self, task: Task[Any], jobs: Sequence[Job[Result]], on_chunk: OnChunk
    ) -> Iterator[tuple[Job[Result], Result]]:
        """Run the jobs in any order; each, and what it returned, as they finish. A job may run twice."""


class Algorithm(Protocol):
    """An EM variant: a window rule and an update rule over statistics. It knows no model."""

    def start(self, params: Params) -> State:
        """The state before the first window."""

    def resume(self, state: State) -> State:
        """The state from which an ended run goes on, its memory kept."""

    def reopen(self, state: State) -> State:
        """An ended run that would not have ended yet under the present settings, opened again; else unchanged."""

    def window(self, state: State, refs: Sequence[ChunkRef]) -> Sequence[ChunkRef]:
        """The chunks to visit next; empty when the run is over."""

    def update(self, model: Model, state: State, stats: Stats) -> State:
        """The state after the window's statistics."""


@dataclass(frozen=True)
class Limits:
    """What a call allows an algorithm.

    Attributes
    ----------
    open_bytes : of chunks that may be open at once, and of statistics that may be remembered
    least_rows : that tell enough of every component to estimate it
    statistics_bytes : of the statistics of one window
    max_iter : most passes, where the algorithm does not say itself
    """

    open_bytes: int
    least_rows: int
    statistics_bytes: int
    max_iter: int


@runtime_checkable
class Plannable(Protocol):
    """An algorithm that becomes one with a plan: it counts rows or chunks."""

    def planned(self, refs: Sequence[ChunkRef], limits: Limits) -> Algorithm:
        """For these chunks; a pure function of their sizes."""
