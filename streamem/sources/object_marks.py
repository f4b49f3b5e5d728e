"""Marks by which a rewritten object of a store is noticed: asked of the store itself, never of a kept listing."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

SIDE_BY_SIDE = 32

VERSIONS = (
    *("ETag", "etag", "e_tag", "VersionId", "version_id", "versionId", "version", "generation", "blob_id"),
    *("md5Hash", "md5", "content_md5", "Content-MD5", "crc32c", "Digest"),
    *("LastModified", "last_modified", "Last-Modified", "lastModified", "updated", "mtime", "modified", "created"),
)
"""Under which names stores tell the version, checksum or time of an object: file systems of fsspec (S3, Google, Azure,
Hugging Face, HTTP, local, memory), and obstore. None of them changes when an object is only read."""


NEAR = frozenset({"file", "local", "memory"})
"""Protocols of fsspec whose files are at hand: threads that read them work, instead of waiting."""


def is_far_protocol(told: str | Sequence[str]) -> bool:
    """Whether files of a file system of fsspec, by its protocols, come through a network."""
    return NEAR.isdisjoint([told] if isinstance(told, str) else told)


def mark_of(info: Mapping[str, Any]) -> str | None:
    """What a store says of an object, as a text that changes when the object does; None if that is its size alone."""
    told = [f"{name}={value}" for name in _versions_among(tuple(info)) if (value := info[name]) is not None]
    return ";".join([f"size={info.get('size')}", *told]) if told else None


@lru_cache(64)
def _versions_among(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in VERSIONS if name in names)


def fresh_infos(filesystem: Any, paths: Sequence[str]) -> list[dict[str, Any]]:
    """What an fsspec file system says of objects now; one request each, several at a time.

    Raises
    ------
    FileNotFoundError : one is gone
    """
    if "refresh" in inspect.signature(getattr(filesystem, "_info", filesystem.info)).parameters:
        return list(side_by_side(lambda path: filesystem.info(path, refresh=True), paths))
    for path in paths:
        forget(filesystem, path)
    return list(side_by_side(filesystem.info, paths))


def forget(filesystem: Any, path: str) -> None:
    """Let an fsspec file system, and the one that it wraps, forget what it listed around a path."""
    inner = getattr(filesystem, "sync_fs", filesystem)
    for name in {path, inner._parent(path)}:
        inner.invalidate_cache(name)


def renew_listings(filesystem: Any, folders: Iterable[str]) -> None:
    """List the folders again that an fsspec file system has in its cache."""
    for folder in folders:
        if folder in getattr(filesystem, "dircache", ()):
            filesystem.invalidate_cache(folder)
            filesystem.ls(folder, detail=True)


def side_by_side(ask: Any, paths: Sequence[str]) -> Iterable[Any]:
    """What a function answers for each path, several at a time."""
    if len(paths) == 1:
        return [ask(paths[0])]
    with ThreadPoolExecutor(min(SIDE_BY_SIDE, max(1, len(paths)))) as pool:
        return list(pool.map(ask, paths))
