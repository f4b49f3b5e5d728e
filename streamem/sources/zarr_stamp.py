"""Whether a Zarr array is still what it was: a short text, made anew at every pass."""

from __future__ import annotations

import hashlib
import os
import zlib
from array import array as packed
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, LoggingStore, MemoryStore, ObjectStore, ZipStore

from streamem.core.object_requests import listed
from streamem.sources.object_marks import forget, mark_of
from streamem.sources.store_marks import Marks, differences
from streamem.sources.zarr_grid import Absent, absent_among, grid_of, stored_keys

STAMPED_FILES = 20_000
SAMPLED_OBJECTS = 16
SAMPLED_IN_MEMORY = 64
EDGE_NBYTES = 2**15
METADATA_KEYS = ("zarr.json", ".zarray", ".zattrs")
KEYS_OF_FORMAT = {2: (".zarray", ".zattrs"), 3: ("zarr.json",)}


def stamp(array: zarr.Array[Any]) -> str:
    """A short text that changes when the metadata of an array or, as far as is cheap to see, its chunks do.

    Files are recognized by size and modification time (beyond 20 000 an evenly spaced subset), objects of fsspec's and
    obstore's stores all by what a new listing says of them (ETag, version, generation, time). Chunks in memory, and of
    stores that say no more than a size, are recognized by the size and both ends of a few.
    """
    digest = hashlib.blake2b(repr(array.metadata.to_dict()).encode(), digest_size=12)
    for part in _marks(array, _innermost(array.store)):
        digest.update(part.encode())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Survey:
    """What one listing of an array far away said, without a request for any single object.

    Attributes
    ----------
    stamp : as `stamp` says it
    absent : places of the grid that are empty; None if there are none
    known : hashes of the objects and their marks
    """

    stamp: str
    absent: Absent | None
    known: np.ndarray[Any, Any]


def surveyed(array: zarr.Array[Any]) -> Survey | None:
    """The survey of an array in a store of obstore's, of which the objects come one by one; None of others.

    A store of 10⁵ objects is listed in a hundred requests: each listing counts, so the first one serves for everything.
    """
    grid, store = grid_of(array), array.store
    if not isinstance(store, ObjectStore) or not store.supports_listing or not grid.is_legible:
        return None
    digest = hashlib.blake2b(repr(array.metadata.to_dict()).encode(), digest_size=12)
    marks, places, last = Marks(), packed("q"), ""
    prefix = f"{array.path}/" if array.path else ""
    try:
        for info in _obstore_listing(store, array.path):
            key, mark = info["path"], mark_of(info)
            if mark is None or key <= last:  # stores list in order, nearly all
                return None
            told = f"{key} {mark};"
            digest.update(told.encode())
            marks.add(told)
            last = key
            if (place := grid.position(key.removeprefix(prefix))) is not None:
                places.append(place)
    except (NotImplementedError, FileNotFoundError):
        return None
    known = marks.known()
    return Survey(digest.hexdigest(), absent_among(places, grid), known) if len(known) else None


def what_changed(array: zarr.Array[Any], survey: Survey) -> str:
    """Which objects of an array are not what they were when it was surveyed, in words; "" if all are."""
    listing = _obstore_listing(array.store, array.path)
    return differences(survey.known, ((info["path"], f"{info['path']} {mark_of(info)};") for info in listing))


def _innermost(store: Store) -> Store:
    while isinstance(store, LoggingStore):
        store = store._store
    return store


def _marks(array: zarr.Array[Any], store: Store) -> Iterator[str]:
    if isinstance(store, ZipStore):
        yield _file_mark(Path(store.path))
    elif isinstance(store, LocalStore):
        yield from _file_marks(array, store.root / array.path)
    elif (
        isinstance(store, FsspecStore | ObjectStore)
        and store.supports_listing
        and (told := _listed_marks(store, array.path))
    ):
        yield from told
    elif type(store).__module__.startswith("icechunk."):  # a snapshot never changes
        session: Any = store.session  # type: ignore[attr-defined]
        yield f"{session.snapshot_id} {session.has_uncommitted_changes} {array.path};"
    else:
        most = SAMPLED_IN_MEMORY if isinstance(store, MemoryStore) else SAMPLED_OBJECTS
        keys = (*KEYS_OF_FORMAT[array.metadata.zarr_format], *grid_of(array).spread(most))
        yield from (_content_mark(store, f"{array.path}/{key}" if array.path else key) for key in keys)


def _file_marks(array: zarr.Array[Any], folder: Path) -> list[str]:
    grid = grid_of(array)
    marks = [_file_mark(folder / key) for key in (*METADATA_KEYS, *grid.spread(STAMPED_FILES))]
    absent = sum(mark.endswith("absent;") for mark in marks)
    if 2 * absent < len(marks) or grid.size <= STAMPED_FILES:
        return marks
    stored = sorted(stored_keys(array))  # most places of a large grid are empty: what is there says more
    step = max(1, -(-len(stored) // STAMPED_FILES))
    return [f"{len(stored)} stored;", *(_file_mark(folder / key) for key in stored[::step])]


def _file_mark(path: Path) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return f"{path.name} absent;"
    return f"{path.name} {found.st_size} {found.st_mtime_ns};"


def _listed_marks(store: Any, path: str) -> list[str] | None:
    """Marks of every object below an array; None where the store lists nothing, or sizes only."""
    try:
        infos = _obstore_infos(store, path) if isinstance(store, ObjectStore) else _fsspec_infos(store, path)
    except (NotImplementedError, FileNotFoundError):
        return None
    marks = [(key, mark_of(info)) for key, info in sorted(infos.items())]
    return [f"{key} {mark};" for key, mark in marks] if marks and all(mark for _, mark in marks) else None


def _obstore_infos(store: Any, path: str) -> dict[str, Any]:
    return {info["path"]: info for info in _obstore_listing(store, path)}


def _obstore_listing(store: Any, path: str) -> Iterator[Any]:
    return listed(store.store, path)


def _fsspec_infos(store: Any, path: str) -> dict[str, Any]:
    root = f"{store.path}/{path}".rstrip("/")
    forget(store.fs, root)
    found: dict[str, Any] = sync(store.fs._find(root, detail=True))
    return found


def _content_mark(store: Store, key: str) -> str:
    """Size and both ends: a store that says nothing of its objects has to show some of them."""
    prototype = default_buffer_prototype()
    first = sync(store.get(key, prototype, RangeByteRequest(0, EDGE_NBYTES)))
    if first is None:
        return f"{key} absent;"
    last = sync(store.get(key, prototype, SuffixByteRequest(EDGE_NBYTES)))
    ends = zlib.crc32(b"" if last is None else last.to_bytes(), zlib.crc32(first.to_bytes()))
    return f"{key} {sync(store.getsize(key))} {ends};"
