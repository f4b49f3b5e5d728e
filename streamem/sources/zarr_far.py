"""Stored chunks of Zarr arrays behind a network: the requests of a chunk are made at once, and apart from decoding."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, ObjectStore, WrapperStore

from streamem.core.errors import SourceError
from streamem.core.object_requests import MOST_REQUESTS, Fetched, Piece, fetch_all, shortened
from streamem.core.retrying import patiently_awaited
from streamem.sources.decompression import require_fitting
from streamem.sources.object_marks import is_far_protocol


def is_far(store: Store) -> bool:
    """Whether a store answers after a while: an object store, or one of fsspec that is not of this machine."""
    if isinstance(store, ObjectStore):
        return type(store.store).__name__ not in ("MemoryStore", "LocalStore")
    return isinstance(store, FsspecStore) and is_far_protocol(store.fs.protocol)


@dataclass(frozen=True, eq=False)
class FarObjects:
    """Stored chunks of an array in a store behind a network.

    Attributes
    ----------
    store : Zarr's
    path : of the array in it
    """

    store: Store
    path: str

    def read(self, key: str, most: int) -> bytes | memoryview:
        """The bytes of an object.

        Raises
        ------
        FileNotFoundError : there is none
        SourceError : it is larger than `most`
        """
        found = self.read_all([key], most)
        if key not in found:
            raise FileNotFoundError(key)
        return found[key]

    def read_all(self, keys: Sequence[str], most: int) -> dict[str, bytes | memoryview]:
        """The bytes of those objects that are there, all asked for at once.

        Raises
        ------
        SourceError : one is larger than `most`
        """
        pieces = self.read_pieces([Piece(key) for key in keys])
        found = {key: each.content for key, each in zip(keys, pieces, strict=True) if each is not None}
        for key, stored in found.items():
            require_fitting(key, len(stored), most)
        return found

    def read_pieces(self, pieces: Sequence[Piece]) -> list[Fetched | None]:
        """Parts of objects, all asked for at once; None of those that are not there.

        Stores of fsspec say nothing of the version or the size of what they give.
        """
        if isinstance(self.store, ObjectStore):
            return fetch_all(
                self.store.store, [replace(piece, key=self._name(piece.key)) for piece in pieces], f"{self.store}/"
            )
        return sync(self._read_pieces(pieces))

    def _name(self, key: str) -> str:
        return f"{self.path}/{key}" if self.path else key

    async def _read_pieces(self, pieces: Sequence[Piece]) -> list[Fetched | None]:
        few, prototype = asyncio.Semaphore(MOST_REQUESTS), default_buffer_prototype()

        async def read(piece: Piece) -> Fetched | None:
            async with few:
                name, part = self._name(piece.key), _request_of(piece)
                found = await patiently_awaited(lambda: self.store.get(name, prototype, part))
                return None if found is None else Fetched(found.to_bytes(), max(0, piece.first or 0), "", 0)

        try:
            return await asyncio.gather(*map(read, pieces))
        except Exception as error:
            raise SourceError(f"cannot read {self.store}/{self.path}: {shortened(error)}") from None


def _request_of(piece: Piece) -> ByteRequest | None:
    if piece.first is None:
        return None
    return SuffixByteRequest(-piece.first) if piece.stop is None else RangeByteRequest(piece.first, piece.stop)


class HeldPart(Protocol):
    """Some of the bytes of an object."""

    def part(self, asked: ByteRequest | None) -> bytes | memoryview | None:
        """The bytes of a range; None where not all of them are here."""


class HeldStore(WrapperStore[Store]):
    """A store of which some objects, or parts of them, are in memory, by key."""

    def __init__(self, store: Store, held: Mapping[str, bytes | memoryview | HeldPart]) -> None:
        super().__init__(store)
        self._held = held

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes under a key, or a part of them."""
        held = self._held.get(key)
        if held is None or isinstance(held, bytes | memoryview):
            found = _part(held, byte_range)
        else:
            found = held.part(byte_range)
        if found is None:
            return await self._store.get(key, prototype, byte_range)
        return prototype.buffer.from_bytes(found)


def _part(stored: bytes | memoryview | None, asked: ByteRequest | None) -> bytes | memoryview | None:
    if stored is None:
        return None
    if isinstance(asked, RangeByteRequest):
        return stored[asked.start : asked.end]
    if isinstance(asked, OffsetByteRequest):
        return stored[asked.offset :]
    if isinstance(asked, SuffixByteRequest):
        return stored[-asked.suffix :]
    return stored
