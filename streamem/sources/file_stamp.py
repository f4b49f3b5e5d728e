"""Whether files, on this machine or elsewhere, are still what they were: a short text, made anew at every pass."""

from __future__ import annotations

import hashlib
import posixpath
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from streamem.core.addresses import store_behind
from streamem.core.errors import SourceChangedError, SourceError
from streamem.core.object_requests import LISTED_AT_ONCE, listed
from streamem.sources.object_marks import SIDE_BY_SIDE, fresh_infos, mark_of
from streamem.sources.parquet_footers import fsspec_of

EDGE_NBYTES = 2**16
MOST_OTHERS = 20
"""Objects of a folder for each that is wanted: beyond, asking for each one takes less than a listing."""


def stamp(filesystem: pafs.FileSystem, paths: Sequence[str], what: str = "Parquet file") -> str:
    """A hash over the names of files and their present marks, which change when a file is rewritten.

    That is size, modification time and the last 64 KiB (a Parquet file's footer), with the ETag where Arrow's own file
    system knows one. Of an fsspec file system it is what this says of the file when it is asked anew (ETag, version,
    generation, time), and where it tells the size only, the first and the last 64 KiB.

    Raises
    ------
    SourceChangedError : a file is gone
    """
    return digest_of(paths, marks_now(filesystem, paths, what))


def marks_now(filesystem: pafs.FileSystem, paths: Sequence[str], what: str = "Parquet file") -> Iterator[str]:
    """What is said of each file now.

    Raises
    ------
    SourceChangedError : a file is gone
    """
    inner = fsspec_of(filesystem)
    return _own_marks(filesystem, paths, what) if inner is None else _fsspec_marks(inner, filesystem, paths, what)


def digest_of(paths: Sequence[str], marks: Iterable[str]) -> str:
    """A hash over the names of files, relative to the folder around all of them, and their marks."""
    root = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    digest = hashlib.sha256()
    for path, mark in zip(paths, marks, strict=True):
        digest.update(f"{posixpath.relpath(path, root or '.')}:{mark};".encode())
    return digest.hexdigest()[:16]


def _own_marks(filesystem: pafs.FileSystem, paths: Sequence[str], what: str) -> Iterator[str]:
    for info in filesystem.get_file_info(list(paths)):
        if not info.is_file:
            raise SourceChangedError(f"{what} {info.path} is gone; it was there when the data was opened")
        near = getattr(filesystem, "base_fs", filesystem).type_name == "local"
        yield f"{info.size}:{info.mtime_ns}:{_edges(filesystem, info.path, info.size, what, first=False, tag=not near)}"


def _fsspec_marks(inner: Any, filesystem: pafs.FileSystem, paths: Sequence[str], what: str) -> Iterator[str]:
    try:
        infos = _listed_infos(inner, paths) or fresh_infos(inner, paths)
    except FileNotFoundError as error:
        raise SourceChangedError(f"{what} {error} is gone; it was there when the data was opened") from error
    except OSError as error:
        raise SourceError(f"cannot ask for {what} {paths[0]}: {error}") from error
    for path, info in zip(paths, infos, strict=True):
        size = int(info.get("size") or 0)
        yield mark_of(info) or f"{size}:{_edges(filesystem, path, size, what, first=True, tag=False)}"


def _listed_infos(inner: Any, paths: Sequence[str]) -> list[Any] | None:
    """What one listing of obstore's says of many files; None where asking for each takes less."""
    place = store_behind(inner, posixpath.commonpath([posixpath.dirname(path) for path in paths]) or "/")
    if len(paths) <= SIDE_BY_SIDE or place is None:
        return None
    store, folder = place
    bucket = paths[0].partition("/")[0]
    wanted, found = {path.removeprefix(f"{bucket}/") for path in paths}, dict[str, Any]()
    for seen, info in enumerate(listed(store, folder)):
        if info["path"] in wanted:
            found[info["path"]] = info
        if seen > LISTED_AT_ONCE + MOST_OTHERS * len(paths):
            return None
    if gone := sorted(wanted - found.keys()):
        raise FileNotFoundError(gone[0])
    return [found[path.removeprefix(f"{bucket}/")] for path in paths]


def _edges(filesystem: pafs.FileSystem, path: str, size: int, what: str, first: bool, tag: bool) -> str:
    """A checksum of the last bytes, and of the first, and with `tag` the ETag."""
    nbytes = min(size, EDGE_NBYTES)
    try:
        with filesystem.open_input_file(path) as file:
            crc = zlib.crc32(file.read_at(nbytes, size - nbytes))
            crc = zlib.crc32(file.read_at(nbytes, 0), crc) if first else crc
            told = file.metadata() or {} if tag else {}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"cannot read {what} {path}: {error}") from error
    etag = told.get("ETag")
    return str(crc) if etag is None else f"{crc}:{etag!r}"
