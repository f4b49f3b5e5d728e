"""Stored chunks of Zarr arrays behind a network: the requests of a chunk are made at once, and apart from decoding."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, ObjectStore, WrapperStore

from streamem.core.errors import SourceError
from streamem.core.object_requests import MOST_REQUESTS, Piece, fetch_all, shortened
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

    def read(self, key: str, most: int) -> bytes:
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

    def read_all(self, keys: Sequence[str], most: int) -> dict[str, bytes]:
        """The bytes of those objects that are there, all asked for at once.

        Raises
        ------
        SourceError : one is larger than `most`
        """
        if isinstance(self.store, ObjectStore):
            asked = fetch_all(self.store.store, [Piece(self._name(key)) for key in keys], f"{self.store}/")
            found = {key: each.content for key, each in zip(keys, asked, strict=True) if each is not None}
        else:
            found = sync(self._read_all(keys))
        for key, stored in found.items():
            require_fitting(key, len(stored), most)
        return found

    def _name(self, key: str) -> str:
        return f"{self.path}/{key}" if self.path else key

    async def _read_all(self, keys: Sequence[str]) -> dict[str, bytes]:
        few, prototype = asyncio.Semaphore(MOST_REQUESTS), default_buffer_prototype()

        async def read(key: str) -> bytes | None:
            async with few:
                found = await patiently_awaited(lambda: self.store.get(self._name(key), prototype))
                return None if found is None else found.to_bytes()

        try:
            found = await asyncio.gather(*map(read, keys))
        except Exception as error:
            raise SourceError(f"cannot read {self.store}/{self.path}: {shortened(error)}") from None
        return {key: stored for key, stored in zip(keys, found, strict=True) if stored is not None}


class HeldStore(WrapperStore[Store]):
    """A store of which some objects are in memory, by key."""

    def __init__(self, store: Store, held: Mapping[str, bytes]) -> None:
        super().__init__(store)
        self._held = held

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes under a key, or a part of them."""
        if key not in self._held:
            return await self._store.get(key, prototype, byte_range)
        return prototype.buffer.from_bytes(_part(self._held[key], byte_range))


def _part(stored: bytes, asked: ByteRequest | None) -> bytes:
    if isinstance(asked, RangeByteRequest):
        return stored[asked.start : asked.end]
    if isinstance(asked, OffsetByteRequest):
        return stored[asked.offset :]
    if isinstance(asked, SuffixByteRequest):
        return stored[-asked.suffix :]
    return stored
