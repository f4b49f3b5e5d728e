"""Where a file of a format lies: on this machine, or at an address of a store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs

from streamem.core.addresses import address_of, is_address
from streamem.sources.file_stamp import stamp
from streamem.sources.parquet_file_sets import place_of


@dataclass(frozen=True)
class Place:
    """A file that any thread or worker can open.

    Attributes
    ----------
    filesystem, path : where it lies
    shown : path or address, for messages
    """

    filesystem: pafs.FileSystem
    path: str
    shown: str

    def open(self) -> Any:
        """The file, for reading anywhere in it."""
        return self.filesystem.open_input_file(self.path)

    def unpacked(self) -> Any:
        """The file from its beginning on, unpacked if its name says that it is compressed."""
        return self.filesystem.open_input_stream(self.path, compression="detect")

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return int(self.filesystem.get_file_info(self.path).size or 0)

    @property
    def paths(self) -> tuple[str, ...]:
        """The file, if it lies on this machine."""
        return (self.path,) if self.filesystem.type_name == "local" else ()

    def stamp(self, what: str) -> str:
        """A short text that changes when the file does; `what` it is, in words."""
        return stamp(self.filesystem, [self.path], what)


def place_at(data: Any) -> Place:
    """The place that a path or an address names."""
    if is_address(data):
        address = address_of(data)
        return Place(*place_of(address), str(address))
    return Place(pafs.LocalFileSystem(), os.fspath(data), os.fspath(data))
