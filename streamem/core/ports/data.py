"""Ports of data: what a chunk's handle, a source, a sink and a stream must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.grid import RowGrid
from streamem.core.message import Message
from streamem.core.redaction import redacted
from streamem.core.sequences import Sequences

Array = NDArray[Any]


class ChunkRef(ABC):
    """A picklable handle on a piece of a source: handles travel, workers load."""

    if TYPE_CHECKING:  # a subclass has fields or properties of these names, and a dataclass takes no default from here

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

    @abstractmethod
    def load(self) -> Chunk:
        """Read the rows. The same bits at every call."""

    @property
    def in_memory(self) -> bool:
        """Whether the rows are in memory as they are wanted: nothing is gained by loading them ahead."""
        return False

    @property
    def innermost(self) -> ChunkRef:
        """The handle below all that was added to it, such as weights."""
        return self

    @property
    def wants_order(self) -> bool:
        """Whether loading decodes the rows before these too, unless they have just been loaded."""
        return False

    def fetched(self) -> ChunkRef:
        """This chunk with its stored bytes in memory; unchanged where bytes cannot be had apart from the rows.

        A thread that waits for a disk does this, a thread that computes makes rows of the bytes, which are in its cache
        then. `load` raises what is wrong with the bytes.
        """
        return self

    def fetches(self) -> tuple[int, int]:
        """How many requests `fetched` makes at once, and the most bytes that it holds then; 0 and 0 on this machine.

        Where requests wait for a network, many chunks are fetched ahead, whatever the number of cores; memory for them
        is projected apart from that for loading.
        """
        return 0, 0

    @property
    def paths(self) -> tuple[str, ...]:
        """Files and folders of this machine that loading reads: a worker elsewhere may not see them."""
        return ()

    @property
    def sequences(self) -> Sequences | None:
        """Which sequences the rows are steps of, as `Chunk.sequences` will say; None where they are rows."""
        return None

    # --- rows that come from other chunks ----------------------------------------------------------------------------

    @property
    def made_of(self) -> tuple[ChunkRef, ...]:
        """The chunks that hold the rows; executors load each of them once for many such handles."""
        return ()

    def drawn(self, load: Callable[[ChunkRef], Chunk]) -> Chunk:
        """The rows, from chunks of `made_of` that `load` gives."""
        return load(self)

    @property
    def selection(self) -> tuple[Any, ...] | None:
        """What `selected` needs to draw the rows from the chunks of `made_of`; None where a handle is no mini-batch.

        It is small, and differs from mini-batch to mini-batch, where the chunks stay the same.
        """
        return None

    # --- results that lie on a cluster already -----------------------------------------------------------------------

    @property
    def on_cluster(self) -> Mapping[Any, Any]:
        """Results, by key, that a persisted collection holds on a cluster and that the chunk rests on."""
        return {}

    def given(self, values: Mapping[Any, Any]) -> ChunkRef:
        """This chunk with values in place of the results in `on_cluster`."""
        return self

    # --- messages ----------------------------------------------------------------------------------------------------

    @property
    def place(self) -> str:
        """How messages name the chunk: its index and its rows, both ends included."""
        return f"chunk {self.index} (rows {self.start}–{self.start + self.rows - 1})"

    def row(self, i: int) -> int:
        """Where row i of the chunk lies within the source."""
        return self.start + i


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


class Source(ABC):
    """Rows that can be read again and again, chunk by chunk. A user's own source need not inherit.

    Laws: `chunks()` is a pure function of the store's metadata and of the byte budget, never of threads or workers; the
    refs cover rows 0 … n_rows in order; loading twice gives the same bits; `fingerprint()` is equal as long as the
    data is, and is cheap enough to be asked before every pass.

    Attributes
    ----------
    schema : what the rows look like
    n_rows : number of rows n
    row_shape : the axes that were flattened to rows; empty where rows have one axis
    grid : the named dimensions of which rows are the points, where there are such; else None
    offsets : (s + 1,) int64 first row of every sequence, and n_rows, where rows are steps of sequences; else None
    patterns_of : how many rows the rows of this source stand for, if these are different rows with weights; else None
    hides_unobserved : whether rows without any value are given weight 0 and other values, and answers must mark them
    """

    schema: Schema
    n_rows: int
    row_shape: tuple[int, ...] = ()
    grid: RowGrid | None = None
    offsets: Array | None = None
    patterns_of: int | None = None
    hides_unobserved: bool = False

    def __repr__(self) -> str:
        """What is there: origin, rows, features, dtype, and whether rows have weights."""
        schema = self.schema
        features = f"{schema.n_features:,} feature{'s' * (schema.n_features != 1)}"
        weights = ", with weights" if schema.weighted else ""
        return f"<{schema.origin}: {self.n_rows:,} rows × {features}, {schema.dtype}{weights}>"

    @abstractmethod
    def fingerprint(self) -> str:
        """A short text that changes when the data does."""

    @abstractmethod
    def chunks(self) -> Sequence[ChunkRef]:
        """The plan."""

    def changes(self) -> str:
        """What of the data is not what it was when it was opened, in words; "" where nobody can tell.

        Asked once a fingerprint has changed. Of a source around others it is what these say.
        """
        held = (each for value in vars(self).values() for each in (value if isinstance(value, tuple) else (value,)))
        return "; ".join(dict.fromkeys(filter(None, (each.changes() for each in held if isinstance(each, Source)))))


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


class Stream(ABC):
    """Records that arrive, message by message. A user's own stream need not inherit.

    Laws: started at positions that messages carried, it delivers what followed them, in the same order as before if all
    of it was there before; it never delivers a message twice; where partitions are read together, their order follows
    from the positions alone as long as none of them runs dry.

    Attributes
    ----------
    name : what identifies it in a checkpoint, machine and process apart ("kafka:telemetry")
    replayable : whether what was delivered can be had again; of a pipe it cannot
    """

    name: str
    replayable: bool

    @abstractmethod
    def messages(self, positions: Mapping[str, Any]) -> Iterator[Message | None]:
        """Messages from the given position of each partition on (of those not named, from the stream's own beginning).

        None says that nothing came for a while, at most about a second; the end of the iterator that nothing more will
        come. Called once, in a thread of its own; closing the iterator frees what it holds.

        Raises
        ------
        StreamError : a broker, socket or file that fails for good, or no longer holds what was asked for
        """

    @abstractmethod
    def commit(self, positions: Mapping[str, Any]) -> None:
        """Tell the broker how far a saved model has come, for displays of lag; may do nothing. Called in any thread."""

    def lag(self, positions: Mapping[str, Any]) -> int | None:
        """How many messages the stream holds beyond the positions; None where nobody knows. Called in any thread."""
        return None

    def on_handover(self, hand_over: Callable[[Sequence[str]], None]) -> None:  # noqa: B027 - the default is to do nothing
        """Have `hand_over` called before partitions go to another reader, with their names, in the thread that reads.

        While it runs, what was learned of them is saved and committed, and what was delivered beyond that is given up.
        By default partitions stay, so nobody is called.
        """
