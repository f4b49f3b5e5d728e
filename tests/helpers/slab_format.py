"""A format of somebody else: a line of JSON with names of columns, then rows of float64. Only the kind inherits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamem.core.chunk import Chunk
from streamem.core.errors import SchemaError
from streamem.core.ports import Schema
from streamem.sources import ReadOptions, SourceKind

Array = np.ndarray[Any, Any]


def write_slab(path: Path, **columns: Array) -> str:
    """Write columns of equal length; the path as text."""
    values = np.column_stack([np.asarray(column, dtype=np.float64) for column in columns.values()])
    path.write_bytes(json.dumps(list(columns)).encode() + b"\n" + values.tobytes())
    return str(path)


def read_names(path: str) -> tuple[list[str], int]:
    """Names of the columns, and where the rows begin."""
    with open(path, "rb") as file:
        return json.loads(file.readline()), file.tell()


def read_rows(path: str, first: int, rows: int) -> Array:
    """Rows of all columns."""
    names, offset = read_names(path)
    count = rows * len(names)
    return np.fromfile(path, count=count, offset=offset + 8 * first * len(names)).reshape(-1, len(names))


@dataclass(frozen=True)
class SlabRef:
    """Rows of a file."""

    path: str
    chosen: tuple[int, ...]
    weight: int | None
    index: int
    start: int
    rows: int

    @property
    def nbytes(self) -> int:
        return 8 * self.rows * (len(self.chosen) + (self.weight is not None))

    @property
    def load_nbytes(self) -> int:
        return 3 * self.nbytes

    def load(self) -> Chunk:
        values = read_rows(self.path, self.start, self.rows)
        weight = None if self.weight is None else np.ascontiguousarray(values[:, self.weight])
        return Chunk(np.ascontiguousarray(values[:, list(self.chosen)]), weight)


class SlabSource:
    """Rows of a file."""

    def __init__(self, path: str, options: ReadOptions) -> None:
        names, offset = read_names(path)
        left_out = {*options.left_out, options.weight_column}
        wanted = options.columns or [name for name in names if name not in left_out]
        if missing := {*wanted, *({options.weight_column} - {None})} - set(names):
            raise SchemaError(f"{path} has no columns {sorted(missing)}")
        self._path, self._chosen = path, tuple(names.index(name) for name in wanted)
        self._weight = None if options.weight_column is None else names.index(options.weight_column)
        self.n_rows = (os.path.getsize(path) - offset) // (8 * len(names))
        weighted = options.weight_column is not None
        self._step = max(1, options.chunk_bytes // (8 * (len(wanted) + weighted)))
        self.schema = Schema(len(wanted), np.dtype(np.float64), tuple(wanted), weighted, f"slab {path}")

    def fingerprint(self) -> str:
        return str(os.stat(self._path).st_mtime_ns)

    def chunks(self) -> list[SlabRef]:
        return [
            SlabRef(self._path, self._chosen, self._weight, i, start, min(self._step, self.n_rows - start))
            for i, start in enumerate(range(0, self.n_rows, self._step))
        ]


class SlabKind(SourceKind):
    """Files that end in .slab."""

    name = "slab"

    def recognises(self, data: Any) -> bool:
        return isinstance(data, str | os.PathLike) and str(data).endswith(".slab")

    def open(self, data: Any, options: ReadOptions) -> Any:
        return SlabSource(str(data), options)

    def column_reader(self, data: Any, name: str, options: ReadOptions) -> Callable[[], Iterable[Any]]:
        names, _ = read_names(str(data))
        return lambda: [read_rows(str(data), 0, 10**6)[:, names.index(name)]]
