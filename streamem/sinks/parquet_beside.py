"""Results as a Parquet file in which columns of the data stand beside them: identifiers, say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from streamem.core.errors import ParameterError, SourceChangedError
from streamem.sinks import parquet
from streamem.sinks.layout import ResultLayout

BLOCK_ROWS = 2**17
VALUE_NBYTES = 64
"""What a value of a column beside is taken to need; nobody knows how long texts are."""


class ParquetBeside:
    """A format of results (`sinks.layout.Format` in one piece): columns of the data, then those of the result.

    Parameters
    ----------
    columns : by name, the values of a column in the order of the rows: Arrow or NumPy arrays that follow each other
        They are read in step with what is written, so that only a block of them is held.
    """

    def __init__(self, columns: Mapping[str, Iterable[Any]]) -> None:
        self._columns = columns

    def open(self, path: Path, layout: ResultLayout) -> BesideWriter:
        """Start a file for `layout`.

        Raises
        ------
        ParameterError : a column of the data has the name of one of the result
        """
        if twice := [name for name in self._columns if name in layout.names]:
            raise ParameterError(
                f"columns {twice} of the data cannot stand beside the result, which has columns of these names: rename "
                "them"
            )
        return BesideWriter(path, layout, {name: _Following(name, pieces) for name, pieces in self._columns.items()})

    def held_nbytes(self, layout: ResultLayout) -> int:
        """Peak bytes: those of a result alone, and a block of the columns beside, twice."""
        return parquet.held_nbytes(layout) + 2 * VALUE_NBYTES * BLOCK_ROWS * len(self._columns)


class BesideWriter:
    """Writes row groups of at most `BLOCK_ROWS` rows."""

    def __init__(self, path: Path, layout: ResultLayout, columns: Mapping[str, _Following]) -> None:
        self.block_rows = max(1, min(BLOCK_ROWS, layout.block_bytes // layout.row_nbytes))
        self._beside, self._own = columns, parquet.ResultColumns(layout)
        self._schema = pa.schema([*((name, column.kind) for name, column in columns.items()), *self._own.fields])
        with ExitStack() as opening:
            file = opening.enter_context(pa.OSFile(str(path), "wb"))
            few_values = [*columns, *self._own.of_values]
            writer = pq.ParquetWriter(file, self._schema, write_page_checksum=True, use_dictionary=few_values)
            self._writer = opening.enter_context(writer)
            self._open = opening.pop_all()

    def append(self, values: NDArray[Any]) -> None:
        """Write the next row group."""
        beside = [column.take(len(values)) for column in self._beside.values()]
        table = pa.Table.from_arrays([*beside, *self._own.arrays(values)], schema=self._schema)
        self._writer.write_table(table, row_group_size=self.block_rows)

    def close(self) -> None:
        """Write the footer and close the file."""
        self._open.close()


class _Following:
    """A column of the data, of which the next rows are taken again and again."""

    def __init__(self, name: str, pieces: Iterable[Any]) -> None:
        self._name, self._rest = name, (_plain(piece) for piece in pieces)
        self._held = next(self._rest, pa.nulls(0))
        self.kind = self._held.type

    def take(self, rows: int) -> Any:
        """The next rows, as one Arrow array.

        Raises
        ------
        SourceChangedError : the data has fewer rows than it had
        """
        return pa.concat_arrays([*self._taken(rows), pa.nulls(0, self.kind)])

    def _taken(self, rows: int) -> Iterator[Any]:
        while rows:
            if not len(self._held):
                piece = next(self._rest, None)
                if piece is None:
                    raise SourceChangedError(f"column {self._name!r} ends {rows} rows early: the data has changed")
                self._held = piece.cast(self.kind)
            yield self._held[:rows]
            rows, self._held = rows - len(self._held[:rows]), self._held[rows:]


def _plain(piece: Any) -> Any:
    """An Arrow array without a dictionary."""
    array = piece if isinstance(piece, pa.Array) else pa.array(piece)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
