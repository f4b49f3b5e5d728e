"""Ports of data: what a chunk's handle, a source, a sink and a stream must offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.message import Message
from streamem.core.redaction import redacted

Array = NDArray[Any]


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
