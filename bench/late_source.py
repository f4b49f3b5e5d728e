"""A kind of data that waits before each chunk, as a disk of spinning plates or an object store does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streamem import open_source
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef, Source
from streamem.sources import ReadOptions, SourceKind


@dataclass(frozen=True)
class Late:
    """A path whose chunks come so many seconds late."""

    path: str
    seconds: float


@dataclass(frozen=True)
class LateRef(ChunkRef):
    """A chunk that waits; nothing of it can be kept or had ahead without that."""

    ref: ChunkRef
    seconds: float

    @property
    def index(self) -> int:
        """What the chunk says."""
        return self.ref.index

    @property
    def start(self) -> int:
        """What the chunk says."""
        return self.ref.start

    @property
    def rows(self) -> int:
        """What the chunk says."""
        return self.ref.rows

    @property
    def nbytes(self) -> int:
        """What the chunk says."""
        return self.ref.nbytes

    @property
    def load_nbytes(self) -> int:
        """What the chunk says."""
        return self.ref.load_nbytes

    def load(self) -> Chunk:
        """Wait, then read."""
        time.sleep(self.seconds)
        return self.ref.load()


class LateSource(Source):
    """Rows of another source, late."""

    def __init__(self, late: Late, options: ReadOptions) -> None:
        self._source, self._seconds = open_source(late.path, options=options), late.seconds
        self.schema, self.n_rows = self._source.schema, self._source.n_rows

    def fingerprint(self) -> str:
        """What the other source says."""
        return self._source.fingerprint()

    def chunks(self) -> Sequence[ChunkRef]:
        """The other source's plan, late."""
        return [LateRef(ref, self._seconds) for ref in self._source.chunks()]


class LateKind(SourceKind):
    """Data that are `Late`."""

    name = "path that is late"

    def recognises(self, data: Any) -> bool:
        """Whether it is."""
        return isinstance(data, Late)

    def open(self, data: Any, options: ReadOptions) -> Source:
        """The source."""
        return LateSource(data, options)
