"""Decoded chunks that a process keeps: the latest, or the first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef


class ChunkCache:
    """Decoded chunks of this process, least recently used first out, bounded in bytes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks: OrderedDict[tuple[str, int], tuple[Chunk, int]] = OrderedDict()
        self._coming: dict[tuple[str, int], Future[Chunk]] = {}
        self.nbytes = 0

    def load(
        self, token: str, ref: ChunkRef, limit_bytes: int, read: Callable[[ChunkRef], Chunk] = lambda ref: ref.load()
    ) -> Chunk:
        """The chunk, from the cache or by `read`; `token` names the data, its state, and the plan.

        What several threads want at once is read by the first of them.
        """
        if ref.made_of:
            return ref.drawn(lambda base: self.load(token, base, limit_bytes, read))
        key = (token, ref.index)
        with self._lock:
            if key in self._chunks:
                self._chunks.move_to_end(key)
                return self._chunks[key][0]
            coming = self._coming.get(key)
            if coming is None:
                mine = self._coming[key] = Future()
        if coming is None:
            return self._read(key, ref, limit_bytes, read, mine)
        return coming.result() if coming.exception() is None else read(ref)

    def has(self, token: str, ref: ChunkRef) -> bool:
        """Whether the chunk of a handle is kept."""
        return (token, ref.index) in self._chunks

    def _read(
        self,
        key: tuple[str, int],
        ref: ChunkRef,
        limit_bytes: int,
        read: Callable[[ChunkRef], Chunk],
        coming: Future[Chunk],
    ) -> Chunk:
        try:
            chunk = read(ref)
        except BaseException as error:
            with self._lock:
                del self._coming[key]
            coming.set_exception(error)
            raise
        with self._lock:
            del self._coming[key]
            if key not in self._chunks and ref.nbytes <= limit_bytes:
                self._chunks[key] = (chunk, ref.nbytes)
                self.nbytes += ref.nbytes
            while self.nbytes > limit_bytes:
                _, (_, freed) = self._chunks.popitem(last=False)
                self.nbytes -= freed
        coming.set_result(chunk)
        return chunk

    def forget(self, token: str) -> None:
        """Let go of all chunks under a token."""
        with self._lock:
            for key in [key for key in self._chunks if key[0] == token]:
                _, freed = self._chunks.pop(key)
                self.nbytes -= freed


class KeptChunks:
    """The first decoded chunks of a plan, up to a number of bytes, for the passes to come.

    They stay to the end: passes go round and round, where the least recently used chunk is always the next one wanted.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._lock = threading.Lock()
        self._chunks: dict[int, tuple[ChunkRef, Chunk]] = {}
        self._limit_bytes = limit_bytes
        self.nbytes = 0

    def has(self, ref: ChunkRef) -> bool:
        """Whether the chunk of a handle is kept."""
        return id(ref) in self._chunks

    def load(self, ref: ChunkRef, fetched: ChunkRef | None = None) -> Chunk:
        """The chunk, kept or read; read from its `fetched` bytes if these are given."""
        kept = self._chunks.get(id(ref))  # which lives as long as the entry does
        return (fetched or ref).load() if kept is None else kept[1]

    def keep(self, ref: ChunkRef, fetched: ChunkRef | None = None) -> Chunk:
        """Keep a chunk if there is room and if loading it again would be work; return it."""
        chunk = self.load(ref, fetched)
        if is_decoded(ref):
            with self._lock:
                if id(ref) not in self._chunks and self.nbytes + ref.nbytes <= self._limit_bytes:
                    self._chunks[id(ref)] = (ref, chunk)
                    self.nbytes += ref.nbytes
        return chunk


def is_at_hand(ref: ChunkRef) -> bool:
    """Whether loading is a look at rows in memory, or at several that only have to be joined."""
    return all(map(is_at_hand, ref.made_of)) if ref.made_of else ref.in_memory


def is_decoded(ref: ChunkRef) -> bool:
    """Whether loading makes new rows out of others, instead of looking at rows in memory."""
    return ref.load_nbytes > ref.nbytes
