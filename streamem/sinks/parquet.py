"""Results as a Parquet file, one column for each name."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from streamem.sinks.layout import ResultLayout

_GROUP_ROWS = 2**20
# Measured (VmHWM beyond the start, groups of 1, 8, 32 MiB): one column 8, 17, 77; 16 columns 7, 25, 85; 64 columns
# 20, 24, 89 MiB. With a dictionary, floats took 70 MiB at any group size.
_ENCODER_NBYTES = 5 * 2**20
_COLUMN_NBYTES = 2**18


class ResultColumns:
    """The columns of a result in Arrow: numbers, and the values that codes stand for."""

    def __init__(self, layout: ResultLayout) -> None:
        self._is_table, number = layout.width is not None, pa.from_numpy_dtype(layout.dtype)
        given = layout.categories or (None,) * len(layout.names)
        self._values = [None if own is None else pa.array(own) for own in given]
        kinds = [number if own is None else own.type for own in self._values]
        self.fields = list(zip(layout.names, kinds, strict=True))
        self.of_values = [name for name, own in zip(layout.names, self._values, strict=True) if own is not None]

    def arrays(self, values: NDArray[Any]) -> list[Any]:
        """Arrow arrays of a block of rows."""
        columns = values.T if self._is_table else [values]
        return [
            pa.array(column, from_pandas=False) if own is None else own.take(pa.array(column.astype(np.int64)))
            for column, own in zip(columns, self._values, strict=True)
        ]


class ParquetWriter:
    """Writes row groups of a million rows or a block, whichever is less; NaN stays NaN, nothing is null."""

    def __init__(self, path: Path, layout: ResultLayout) -> None:
        self.block_rows = _block_rows(layout)
        self._columns = ResultColumns(layout)
        self._schema = pa.schema(self._columns.fields)
        with ExitStack() as opening:
            file = opening.enter_context(pa.OSFile(str(path), "wb"))
            few_values: bool | list[str] = layout.dtype.kind != "f" or self._columns.of_values
            writer = pq.ParquetWriter(file, self._schema, write_page_checksum=True, use_dictionary=few_values)
            self._writer = opening.enter_context(writer)
            self._open = opening.pop_all()

    def append(self, values: NDArray[Any]) -> None:
        """Write the next row group."""
        table = pa.Table.from_arrays(self._columns.arrays(values), schema=self._schema)
        self._writer.write_table(table, row_group_size=self.block_rows)

    def close(self) -> None:
        """Write the footer and close the file."""
        self._open.close()


class PartWriter(ParquetWriter):
    """A file of its own that gets its name once all its rows are there: two processes may write it at once."""

    def __init__(self, path: Path, layout: ResultLayout, rows: int) -> None:
        self._path, self._missing = path, rows
        self._partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        super().__init__(self._partial, layout)

    def append(self, values: NDArray[Any]) -> None:
        """Write the next row group."""
        super().append(values)
        self._missing -= len(values)

    def close(self) -> None:
        """Write the footer; give the file its name, or remove it if rows are missing."""
        super().close()
        if self._missing:
            self._partial.unlink(missing_ok=True)
        elif self._partial.exists():
            os.replace(self._partial, self._path)


def open(path: Path, layout: ResultLayout) -> ParquetWriter:
    """Start a file for `layout`."""
    return ParquetWriter(path, layout)


def create(path: Path, layout: ResultLayout) -> None:
    """Make the folder for a result in parts."""
    path.mkdir()


def open_part(path: Path, layout: ResultLayout, number: int, first: int, rows: int) -> PartWriter:
    """The file of a part; by their names, parts follow each other in the order of their rows."""
    return PartWriter(path / f"part-{number:05d}.parquet", layout, rows)


def held_nbytes(layout: ResultLayout) -> int:
    """Peak bytes: the block, its columns, and Arrow's encoder."""
    block = _block_rows(layout) * layout.row_nbytes
    return 3 * block + _ENCODER_NBYTES + _COLUMN_NBYTES * len(layout.names)


def _block_rows(layout: ResultLayout) -> int:
    return max(1, min(_GROUP_ROWS, layout.block_bytes // layout.row_nbytes))


def granule(layout: ResultLayout) -> int:
    """Parts may begin anywhere."""
    return 1
