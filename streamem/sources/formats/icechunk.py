"""Rows of Icechunk repositories: the arrays of one snapshot, read as Zarr."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import zarr
from numpy.typing import NDArray

from streamem.core.errors import ParameterError
from streamem.core.ports import Source
from streamem.sources import zarr as zarr_source
from streamem.sources.formats.libraries import faults, library
from streamem.sources.formats.versioned import VersionedSource
from streamem.sources.options import ReadOptions


@dataclass(frozen=True)
class Snapshot:
    """The root of a snapshot as a Zarr node, and the snapshot in words."""

    node: Any
    version: str


def open(data: Any, options: ReadOptions) -> Source:
    """A Repository (the tip of its branch "main"), a read-only Session of any branch, tag or snapshot, the store of
    one, or the path of a repository on this machine.

    Commits that come later change nothing. An array of a group is ``zarr.open_group(session.store)["name"]``, or
    chosen with ``columns``.

    Raises
    ------
    ParameterError : a session with changes that are not committed, which no snapshot names
    SourceError : no repository
    """
    found = snapshot_of(data)
    return VersionedSource(zarr_source.open(found.node, options), found.version)


def shape_of(data: Any, options: ReadOptions) -> tuple[int, ...] | None:
    """The axes of the only array."""
    return zarr_source.shape_of(snapshot_of(data).node, options)


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterator[NDArray[Any]]:
    """The values of any one-dimensional array of the root, in order."""
    return zarr_source.column_pieces(snapshot_of(data).node, name, options)


def snapshot_of(data: Any) -> Snapshot:
    """The snapshot that a path or an object means."""
    what = (
        f"Icechunk repository {os.fspath(data)}" if isinstance(data, str | os.PathLike) else "the Icechunk repository"
    )
    icechunk = library("icechunk", "icechunk", what)
    with faults(f"read {what}"):
        if isinstance(data, str | os.PathLike):
            data = icechunk.Repository.open(icechunk.local_filesystem_storage(os.fspath(data)))
        if hasattr(data, "readonly_session"):
            data = data.readonly_session("main")
        session = getattr(data, "session", data)
        if session.has_uncommitted_changes:
            raise ParameterError("the Icechunk session has changes that are not committed: session.commit(…) first")
        return Snapshot(zarr.open(session.store, mode="r"), f"Icechunk snapshot {session.snapshot_id}")
