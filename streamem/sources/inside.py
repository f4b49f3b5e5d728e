"""Paths that go on within a file: ``x.h5/group/data``, ``x.duckdb/table``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOLDING = (".h5", ".hdf5", ".he5", ".h5ad", ".nc", ".nc4", ".cdf", ".duckdb", ".ddb")
"""Suffixes of files in which a path may go on."""


@dataclass(frozen=True)
class Inside:
    """A file, and what is meant within it ("" if the path ends at the file)."""

    file: str
    name: str


def split_inside(path: Any, suffixes: tuple[str, ...] = HOLDING) -> Inside | None:
    """The file that a path names or goes through, if its name ends with one of the suffixes; else None.

    >>> split_inside("folder/x.h5/group/data"), split_inside("folder/x.csv")
    (Inside(file='folder/x.h5', name='group/data'), None)
    """
    text = os.fspath(path)
    parts = text.split("/")
    for number, part in enumerate(parts, 1):
        if part.lower().endswith(suffixes) and not Path("/".join(parts[:number])).is_dir():
            return Inside("/".join(parts[:number]), "/".join(filter(None, parts[number:])))
    return None


def lies_inside(path: Any) -> bool:
    """Whether a path goes on within a file that is there."""
    found = split_inside(path)
    return found is not None and bool(found.name) and Path(found.file).is_file()
