"""What Zarr would not notice: chunks that are absent, cut short, or too large."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, LocalStore, ObjectStore, StorePath, WrapperStore, ZipStore

from streamem.core.addresses import Address, address_of, is_address
from streamem.core.errors import SourceError
from streamem.sources.decompression import require_fitting
from streamem.sources.options import ReadOptions
from streamem.sources.zarr_bounded import bounded_metadata, most_stored
from streamem.sources.zarr_far import HeldPart, HeldStore
from streamem.sources.zarr_grid import absent_chunks, grid_of
from streamem.sources.zarr_stamp import Survey

BLOSC_CODECS = ("Blosc", "BloscCodec")

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
        asked = byte_range
        if byte_range is None and isinstance(self._store, LocalStore):
            require_fitting(key, _file_nbytes(self._store.root / key), self._most)
        elif byte_range is None and isinstance(self._store, ZipStore):  # whose members may be compressed themselves
            byte_range = RangeByteRequest(0, self._most + 1)
        found = await self._store.get(key, prototype, byte_range)
        if found is None and self._refuse_absent:
            raise SourceError(f"stored chunk {key!r} is missing")
        if found is not None:
            self._require_whole(key, found)
            self._require_all_of(key, found, asked)
        return found

    def _require_all_of(self, key: str, found: Buffer, asked: ByteRequest | None) -> None:
        if isinstance(asked, RangeByteRequest) and len(found) < (needed := asked.end - asked.start):
            raise SourceError(
                f"stored chunk {key!r} is truncated: {len(found)} of {needed} bytes from {asked.start} on"
            )

    def _require_whole(self, key: str, found: Buffer) -> None:
        require_fitting(key, len(found), self._most)
        if len(found) == 0:
            raise SourceError(f"stored chunk {key!r} is empty: 0 bytes")
        # A Blosc frame says its own length in bytes 12–15 (c-blosc, README_CHUNK_FORMAT).
        if self._blosc and len(found) >= 16:
            needed = int.from_bytes(found[12:16].to_bytes(), "little")
            if len(found) < needed:
                raise SourceError(f"stored chunk {key!r} is truncated: {len(found)} of {needed} bytes")


def guarded(
    array: zarr.Array[Any], refuse_absent: bool, held: Mapping[str, bytes | memoryview | HeldPart] | None = None
) -> zarr.Array[Any]:
    """An array, read through a `GuardedStore`; what is `held` in memory already is not read again."""
    under = _anywhere(array.store) if held is None else HeldStore(array.store, held)
    store = GuardedStore(under, refuse_absent, _ends_in_blosc(array), most_stored(array))
    return zarr.Array(zarr.AsyncArray(metadata=bounded_metadata(array), store_path=StorePath(store, array.path)))


def _anywhere(store: Store) -> Store:
    """A store on disk by an absolute path: processes that run in other folders find it too."""
    return LocalStore(store.root.absolute(), read_only=store.read_only) if isinstance(store, LocalStore) else store


def _ends_in_blosc(array: zarr.Array[Any]) -> bool:
    last = array.compressors[-1:]
    return array.shards is None and any(type(codec).__name__ in BLOSC_CODECS for codec in last)


def store_at(path: str | os.PathLike[str]) -> Any:
    """What Zarr opens: the path itself, the store of a ``.zip`` file, or that of an address.

    Raises
    ------
    SourceError : a store that cannot be reached
    """
    if is_address(path):
        return _store_of(address_of(path))
    path = os.fspath(path)
    return ZipStore(path, mode="r") if path.endswith(".zip") and Path(path).is_file() else path


class UnlistedStore(ObjectStore[Any]):
    """A web server, which answers for names and lists none: a chunk that is absent is noticed at its read."""

    @property
    def supports_listing(self) -> bool:
        """False."""
        return False


def _store_of(address: Address) -> Any:
    if address.is_known_to_obstore:
        kind = UnlistedStore if address.scheme in ("http", "https") else ObjectStore
        return kind(address.object_store(whole=True), read_only=True)
    if not address.options:
        return address.text
    return address.reached(lambda: FsspecStore.from_url(address.text, storage_options=address.options, read_only=True))


def path_of(store: Store) -> str:
    """Where a store lies on this machine; "" if elsewhere."""
    if isinstance(store, LocalStore):
        return str(store.root.absolute())
    return str(Path(store.path).absolute()) if isinstance(store, ZipStore) else ""


def locate(node: ZarrNode) -> str:
    """Where an array or group lies, for messages."""
    if isinstance(node.store, LocalStore):
        return str(node.store.root / node.path)
    return f"{node.store}/{node.path}"


def require_all_chunks(
    array: zarr.Array[Any], options: ReadOptions | None = None, survey: Survey | None = None
) -> None:
    """Raise `SourceError` unless every shard or chunk of the grid is stored; stores that cannot list pass.

    Inner chunks absent within a shard are not noticed here: only the shard's own index knows them. `options` are those
    with which the array is opened, so that the error can say how to open it all the same; `survey` a listing that was
    made already.
    """
    if not isinstance(array.store, LocalStore) and not array.store.supports_listing:
        return
    missing = absent_chunks(array) if survey is None else survey.absent
    if missing is not None:
        raise SourceError(
            f"Zarr array {locate(array)}: {missing.number} of {grid_of(array).size} stored chunks are missing "
            f"(the first: {missing.first!r}) and would read as the fill value {array.fill_value}. Restore them, or, if "
            "they really hold nothing else (by default Zarr does not write chunks of only fill values), open the data "
            f"with open_source(path, options={_filling(options)}) and pass that"
        )


def _filling(options: ReadOptions | None) -> str:
    """The options that read absent chunks, as a user writes them: an open source takes no other arguments."""
    asked = ReadOptions() if options is None else options
    columns = None if asked.columns is None else tuple(asked.columns)
    given = {"missing_chunks": "fill", "feature_axis": asked.feature_axis, "columns": columns}
    told = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
    return f"ReadOptions({told})".replace("'", '"')


def _file_nbytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # the store itself says what is wrong
        return 0
