"""What Zarr would not notice: chunks that are absent, cut short, or rewritten."""

from __future__ import annotations

import hashlib
import math
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.sync import collect_aiterator, sync
from zarr.storage import LocalStore, MemoryStore, StorePath, WrapperStore, ZipStore

from streamem.core.errors import SourceError
from streamem.sources.decompression import require_fitting
from streamem.sources.zarr_bounded import bounded_metadata, most_stored

STAMPED_FILES = 20_000
SAMPLED_OBJECTS = 16
BLOSC_CODECS = ("Blosc", "BloscCodec")
METADATA_KEYS = ("zarr.json", ".zarray", ".zattrs")

ZarrNode = zarr.Array[Any] | zarr.Group


class GuardedStore(WrapperStore[Store]):
    """A store that never answers with a chunk that cannot be whole, nor with more bytes than one can have.

    Zarr reads an absent chunk, and a shard of no bytes, as fill values, and Blosc decodes a truncated chunk
    from whatever memory follows it. Here each is a `SourceError`, at the very read, without another request.
    """

    def __init__(self, store: Store, refuse_absent: bool, blosc: bool, most: int) -> None:
        super().__init__(store)
        self._refuse_absent = refuse_absent
        self._blosc = blosc
        self._most = most

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes under a key."""
        if byte_range is None and isinstance(self._store, LocalStore):
            require_fitting(key, _file_nbytes(self._store.root / key), self._most)
        elif byte_range is None and isinstance(self._store, ZipStore):  # whose members may be compressed themselves
            byte_range = RangeByteRequest(0, self._most + 1)
        found = await self._store.get(key, prototype, byte_range)
        if found is None and self._refuse_absent:
            raise SourceError(f"stored chunk {key!r} is missing")
        if found is not None:
            self._require_whole(key, found)
        return found

    def _require_whole(self, key: str, found: Buffer) -> None:
        require_fitting(key, len(found), self._most)
        if len(found) == 0:
            raise SourceError(f"stored chunk {key!r} is empty: 0 bytes")
        # A Blosc frame says its own length in bytes 12–15 (c-blosc, README_CHUNK_FORMAT).
        if self._blosc and len(found) >= 16:
            needed = int.from_bytes(found[12:16].to_bytes(), "little")
            if len(found) < needed:
                raise SourceError(f"stored chunk {key!r} is truncated: {len(found)} of {needed} bytes")


def guarded(array: zarr.Array[Any], refuse_absent: bool) -> zarr.Array[Any]:
    """The same array, read through a `GuardedStore`."""
    store = GuardedStore(_anywhere(array.store), refuse_absent, _ends_in_blosc(array), most_stored(array))
    return zarr.Array(zarr.AsyncArray(metadata=bounded_metadata(array), store_path=StorePath(store, array.path)))


def _anywhere(store: Store) -> Store:
    """A store on disk as processes that run in other folders find it."""
    return LocalStore(store.root.absolute(), read_only=store.read_only) if isinstance(store, LocalStore) else store


def _ends_in_blosc(array: zarr.Array[Any]) -> bool:
    last = array.compressors[-1:]
    return array.shards is None and any(type(codec).__name__ in BLOSC_CODECS for codec in last)


def storage_unit(array: zarr.Array[Any]) -> tuple[int, ...]:
    """The shape of what one key of the store holds: a shard, or else a chunk."""
    return tuple(max(1, size) for size in array.shards or array.chunks)


def locate(node: ZarrNode) -> str:
    """Where an array or group lies, for messages."""
    if isinstance(node.store, LocalStore):
        return str(node.store.root / node.path)
    return f"{node.store}/{node.path}"


def require_all_chunks(array: zarr.Array[Any]) -> None:
    """Raise `SourceError` unless every shard or chunk of the grid is stored; stores that cannot list pass.

    Inner chunks absent within a shard are not noticed here: only the shard's own index knows them.
    """
    if not isinstance(array.store, LocalStore) and not array.store.supports_listing:
        return
    stored = _lookup(array)
    missing = [key for key in _chunk_keys(array, step=1) if not stored(key)]
    if missing:
        raise SourceError(
            f"Zarr array {locate(array)}: {len(missing)} of {_grid_size(array)} stored chunks are missing (the "
            f"first: {missing[0]!r}) and would read as the fill value {array.fill_value}. Restore them, or, if "
            "they really hold nothing else (by default Zarr does not write chunks of only fill values), open the data "
            'with open_source(path, options=ReadOptions(missing_chunks="fill")) and pass that'
        )


def _lookup(array: zarr.Array[Any]) -> Callable[[str], bool]:
    if isinstance(array.store, LocalStore):
        folder = _folder(array, array.store)
        return lambda key: os.path.exists(folder / key)
    prefix = f"{array.path}/" if array.path else ""
    listed = set(collect_aiterator(array.store.list_prefix(prefix)))
    return lambda key: f"{prefix}{key}" in listed


def stamp(array: zarr.Array[Any]) -> str:
    """A short text that changes when the metadata of an array or, as far as is cheap to see, its chunks do.

    Files are known by size and modification time (beyond 20 000 an evenly spaced subset), arrays in memory by
    a checksum of a few stored chunks, remote ones by the sizes of a few.
    """
    digest = hashlib.blake2b(repr(array.metadata.to_dict()).encode(), digest_size=12)
    for part in _storage_marks(array):
        digest.update(part.encode())
    return digest.hexdigest()


def _storage_marks(array: zarr.Array[Any]) -> Iterator[str]:
    store = array.store
    if isinstance(store, ZipStore):
        yield _file_mark(Path(store.path))
        return
    local = isinstance(store, LocalStore)
    keys = [*METADATA_KEYS, *_chunk_keys(array, _step(array, STAMPED_FILES if local else SAMPLED_OBJECTS))]
    if isinstance(store, LocalStore):
        folder = _folder(array, store)
        yield from (_file_mark(folder / key) for key in keys)
    else:
        mark = _content_mark if isinstance(store, MemoryStore) else _size_mark
        yield from (mark(store, f"{array.path}/{key}" if array.path else key) for key in keys)


def _file_nbytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # the store itself says what is wrong
        return 0


def _file_mark(path: Path) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return f"{path.name} absent;"
    return f"{path.name} {found.st_size} {found.st_mtime_ns};"


def _content_mark(store: Store, key: str) -> str:
    found = sync(store.get(key, default_buffer_prototype()))
    return f"{key} {'absent' if found is None else zlib.crc32(found.to_bytes())};"


def _size_mark(store: Store, key: str) -> str:
    return f"{key} {sync(store.getsize(key)) if sync(store.exists(key)) else 'absent'};"


def _folder(array: zarr.Array[Any], store: LocalStore) -> Path:
    return store.root / array.path


def _grid(array: zarr.Array[Any]) -> tuple[int, ...]:
    return tuple(-(-size // unit) for size, unit in zip(array.shape, storage_unit(array), strict=True))


def _grid_size(array: zarr.Array[Any]) -> int:
    return math.prod(_grid(array))


def _step(array: zarr.Array[Any], most: int) -> int:
    return max(1, -(-_grid_size(array) // most))


def _chunk_keys(array: zarr.Array[Any], step: int) -> Iterator[str]:
    grid = _grid(array)
    for position in range(0, math.prod(grid), step):
        yield array.metadata.encode_chunk_key(tuple(int(i) for i in np.unravel_index(position, grid)))
