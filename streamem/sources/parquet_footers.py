"""Parquet files, opened: their footers parsed once, their pages looked at, and whatever is wrong named."""

from __future__ import annotations

import contextlib
import posixpath
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from streamem.core.addresses import store_behind
from streamem.core.errors import SchemaError, SourceChangedError, SourceError
from streamem.core.object_requests import Fetched, Piece, fetch_all
from streamem.core.parquet_pages import require_modest_pages
from streamem.sources.held_file import Parts, PartsFile
from streamem.sources.object_marks import is_far_protocol, mark_of, renew_listings

FOOTERS_AT_ONCE = 32
TAIL_NBYTES, MAGIC_NBYTES = 2**16, 12
"""Of a file that are read for its footer; and at its ends around everything else."""

KEPT_FOOTERS = 8
KEPT_FOOTER_NBYTES = 2**20
"""As they are stored, of small footers: each is three requests of a store."""
KEPT_PAGES = 2**16


def fsspec_of(filesystem: pafs.FileSystem) -> Any:
    """The fsspec file system below one of Arrow's, or None."""
    handler = getattr(filesystem, "handler", None)
    return handler.fs if isinstance(handler, pafs.FSSpecHandler) else None


def renew(filesystem: pafs.FileSystem, paths: Sequence[str]) -> None:
    """Forget earlier listings of an fsspec file system and footers of its files (listings may hold sizes only)."""
    if (inner := fsspec_of(filesystem)) is not None:
        renew_listings(inner, {posixpath.dirname(path) for path in paths})
        FOOTERS.forget(paths)


def is_far(filesystem: pafs.FileSystem) -> bool:
    """Whether files of a file system come through a network, and can be asked for side by side."""
    inner = fsspec_of(filesystem)
    return inner is not None and is_far_protocol(inner.protocol)


@contextlib.contextmanager
def open_file(filesystem: pafs.FileSystem, path: str, buffer_nbytes: int = 0) -> Iterator[pq.ParquetFile]:
    """A Parquet file; whatever goes wrong with it becomes a `SourceError` that names it.

    With `buffer_nbytes` the columns of a row group are read so many bytes at a time, not each as a whole.
    """
    with faults(path):
        file = pq.ParquetFile(
            path,
            filesystem=filesystem,
            metadata=FOOTERS.of(filesystem, path),
            page_checksum_verification=True,
            buffer_size=buffer_nbytes,
            pre_buffer=buffer_nbytes == 0,
        )
        with file:
            yield file


def identity_of(filesystem: pafs.FileSystem, path: str) -> tuple[Any, ...]:
    """A text that changes when a file is rewritten: size and modification time, or a mark of its fsspec file system."""
    return _state_of(filesystem, path)[0]


def _state_of(filesystem: pafs.FileSystem, path: str) -> tuple[tuple[Any, ...], int]:
    """The identity of a file, and its size."""
    if (inner := fsspec_of(filesystem)) is not None:
        with faults(path):
            info = inner.info(path)
        size = int(info.get("size") or 0)
        return (id(inner), path, mark_of(info) or size), size
    found = filesystem.get_file_info(path)
    return (filesystem.type_name, path, found.size or 0, found.mtime_ns or 0), int(found.size or 0)


def store_of(filesystem: pafs.FileSystem, path: str) -> tuple[Any, str] | None:
    """obstore's store that holds a file, and its key there; None where another client reads it."""
    inner = fsspec_of(filesystem)
    return None if inner is None else store_behind(inner, path)


def fetch_parts(store: Any, key: str, spans: Sequence[tuple[int, int | None]], etag: str, path: str) -> list[Fetched]:
    """Parts of a file, all asked for at once.

    Raises
    ------
    SourceChangedError : it was rewritten or truncated since its ETag was told, or is gone
    SourceError : the store refuses
    """
    found = fetch_all(store, [Piece(key, first, stop, etag) for first, stop in spans], path.removesuffix(key))
    if any(each is None for each in found):
        raise SourceChangedError(f"Parquet file {path} is gone; it was there when the data was opened")
    return [each for each in found if each is not None]


def _read_footer(filesystem: pafs.FileSystem, path: str, size: int) -> pq.FileMetaData:
    """The footer of a file; of one behind a network by a single request, unless it is large."""
    if size > MAGIC_NBYTES and is_far(filesystem):
        inner = fsspec_of(filesystem)
        first = max(0, size - TAIL_NBYTES)
        tail = Parts((first,), (bytes(inner.cat_file(path, start=first, end=size)),))
        if int.from_bytes(tail.contents[0][-8:-4], "little") + MAGIC_NBYTES <= len(tail.contents[0]):
            return pq.read_metadata(pa.PythonFile(PartsFile(tail), mode="r"))
    return pq.read_metadata(path, filesystem=filesystem)


class Footers:
    """The latest parsed footers of this process: one may be as costly as the row group that is read by it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], pq.FileMetaData] = OrderedDict()

    def of(self, filesystem: pafs.FileSystem, path: str) -> pq.FileMetaData:
        """The footer of a file, parsed again once the file has changed."""
        key, size = _state_of(filesystem, path)
        known = self._known(key)
        return self._keep(filesystem, key, _read_footer(filesystem, path, size)) if known is None else known

    def seen(self, filesystem: pafs.FileSystem, path: str, etag: str) -> pq.FileMetaData:
        """The footer of a file as it was when its ETag was told: without a question whether it is still the same.

        Raises
        ------
        SourceChangedError : it is another by now, and its footer is not here any more
        """
        key = (id(fsspec_of(filesystem)), path, etag)
        known = self._known(key)
        return self.newest(filesystem, path, etag)[0] if known is None else known

    def newest(self, filesystem: pafs.FileSystem, path: str, etag: str = "") -> tuple[pq.FileMetaData, str]:
        """The footer of a file in a store of obstore's, which takes one request unless it is large, and its ETag.

        Raises
        ------
        SourceChangedError : the file has another ETag than the one given
        """
        store, key = store_of(filesystem, path) or (None, path)
        tail = fetch_parts(store, key, [(-TAIL_NBYTES, None)], etag, path)[0]
        etag = tail.etag if tail.etag.startswith('"') else ""  # a weak one says nothing about bytes
        length = int.from_bytes(tail.content[-8:-4], "little") + MAGIC_NBYTES
        if len(tail.content) < length <= tail.size:
            tail = fetch_parts(store, key, [(tail.size - length, tail.size)], etag, path)[0]
        held = Parts((tail.first,), (tail.content,))
        footer = pq.read_metadata(pa.PythonFile(PartsFile(held), mode="r"))
        return self._keep(filesystem, (id(fsspec_of(filesystem)), path, etag), footer) if etag else footer, etag

    def _known(self, key: tuple[Any, ...]) -> pq.FileMetaData | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, filesystem: pafs.FileSystem, key: tuple[Any, ...], footer: pq.FileMetaData) -> pq.FileMetaData:
        with self._lock:
            self._kept[key] = footer
            held = sum(each.serialized_size for each in self._kept.values())
            most = KEPT_FOOTER_NBYTES if is_far(filesystem) else 0
            while len(self._kept) > KEPT_FOOTERS and held > most:
                held -= self._kept.popitem(last=False)[1].serialized_size
        return footer

    def forget(self, paths: Collection[str]) -> None:
        """Parse the footers of these files again."""
        with self._lock:
            for key in [key for key in self._kept if key[1] in paths]:
                del self._kept[key]


FOOTERS = Footers()


class SoundPages:
    """Row groups whose pages were looked at: once for each state of a file, and on this machine only."""

    def __init__(self) -> None:
        self._known: set[tuple[Any, ...]] = set()

    def require(self, filesystem: pafs.FileSystem, path: str, file: pq.ParquetFile, number: int, names: Any) -> None:
        """Raise `SourceError` if a page of the named columns claims more than its column has (`parquet_pages`)."""
        if filesystem.type_name != "local":
            return  # each header would be a request
        key = (identity_of(filesystem, path), number, frozenset(names))
        if key in self._known:
            return
        with faults(path):
            require_modest_pages(path, file.metadata, number, key[2])
        if len(self._known) >= KEPT_PAGES:
            self._known.clear()
        self._known.add(key)


SOUND_PAGES = SoundPages()


@contextlib.contextmanager
def faults(what: str) -> Iterator[None]:
    """Whatever goes wrong with a Parquet file as an error that names it."""
    try:
        yield
    except (SourceError, SchemaError):
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"cannot read Parquet file {what}: {error}") from error
