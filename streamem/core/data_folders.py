"""What a folder of data files is: which names count, and when a folder is more than its files."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

DELTA, ICEBERG, HUDI = "Delta Lake", "Apache Iceberg", "Apache Hudi"
MARKERS = {"_delta_log": DELTA, ".hoodie": HUDI}
ICEBERG_NAMES = (".metadata.json", ".metadata.json.gz", "version-hint.text")

READERS = {
    DELTA: "the table itself, {root!r}, or deltalake.DeltaTable({root!r}, version=…)",
    ICEBERG: "the table itself, {root!r}, or "
    "pyiceberg.table.StaticTable.from_metadata({metadata!r}).scan(row_filter=…)",
    HUDI: "pyarrow.Table.from_batches(hudi.HudiTableBuilder.from_base_uri({root!r}).build().read()), or on the command "
    "line a Parquet file of these rows",
}
"""What `open_source`, and so every ``fit`` and ``predict``, takes instead."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder is no data, by its name: ``.crc``, ``_temporary``; not a partition ``_key=1``."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


@dataclass(frozen=True)
class LakeTable:
    """A table of files whose metadata say which of the files, and which of their rows, belong to it.

    Attributes
    ----------
    format : Delta Lake, Apache Iceberg or Apache Hudi
    root : the folder of the table
    """

    format: str
    root: str

    def refusal(self, path: str) -> str:
        """Why the files at a path are not read as they lie, and how to read the table."""
        line = READERS[self.format].format(root=self.root, metadata=f"{self.root}/metadata/….metadata.json")
        where = "is" if path == self.root else f"belongs to {self.root},"
        return (
            f"{path} {where} a table of {self.format}: rows that were deleted or replaced are still in its Parquet "
            f"files, and only its metadata tell which. Pass {line}"
        )


def table_around(
    path: str, is_folder: Callable[[str], bool], names_in: Callable[[str], Iterable[str]], seen: set[str] | None = None
) -> LakeTable | None:
    """The table that a file or folder is, or lies in; None if it is none.

    Parameters
    ----------
    path : with slashes
    is_folder, names_in : ask the file system of the path
    seen : folders that were asked before, and are not asked again
    """
    seen = set() if seen is None else seen
    while path and path not in seen:
        seen.add(path)
        for marker, kind in MARKERS.items():
            if is_folder(posixpath.join(path, marker)):
                return LakeTable(kind, path)
        metadata = posixpath.join(path, "metadata")
        if is_folder(metadata) and any(name.endswith(ICEBERG_NAMES) for name in names_in(metadata)):
            return LakeTable(ICEBERG, path)
        path = posixpath.dirname(path)
    return None


def table_around_local(path: str) -> LakeTable | None:
    """The table that a path on this machine, or the target of a link, is or lies in; None if it is none."""
    seen: set[str] = set()
    for each in (os.path.abspath(path), os.path.realpath(path)):
        if found := table_around(each, os.path.isdir, _local_names, seen):
            return found
    return None


def table_at(folder: str, folders: Collection[str], names: Collection[str]) -> LakeTable | None:
    """The table that a folder is, or is the metadata of, by what it holds."""
    for marker, kind in MARKERS.items():
        if marker in folders:
            return LakeTable(kind, folder)
    parent, own = posixpath.split(folder)
    if own == "metadata" and any(name.endswith(ICEBERG_NAMES) for name in names):
        return LakeTable(ICEBERG, parent)
    return None


def table_among(paths: Iterable[str]) -> LakeTable | None:
    """The first table below a folder, of which all files and folders are listed."""
    for path in paths:
        folder, name = posixpath.split(path)
        parts = folder.split("/")
        for marker, kind in MARKERS.items():
            if marker in parts:
                return LakeTable(kind, "/".join(parts[: parts.index(marker)]))
        if found := table_at(folder, [name], [name]):
            return found
    return None


def _local_names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
