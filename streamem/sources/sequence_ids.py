"""Where a column changes: the rows at which sequences begin."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamem.core.errors import DataError, SchemaError, SourceChangedError
from streamem.sources.plain_arrow import plain

Pieces = Callable[[], Iterable[Any]]
"""Starts reading a column from its beginning: Arrow or NumPy arrays that follow each other."""

LOOKED_AT = 2**16
"""Values looked at together."""


@dataclass(frozen=True)
class Run:
    """Neighbouring rows of one identifier."""

    value: Any
    start: int


def starts_of_ids(read: Pieces, n_rows: int, what: str) -> NDArray[np.int64]:
    """(s,) first row of every run of equal identifiers.

    Takes 8 bytes a sequence while identifiers increase from one sequence to the next, and a set of all of them where
    they do not.

    Parameters
    ----------
    read : starts reading the column, whose values are numbers, text, dates or bytes
    n_rows : how many it must have
    what : the column in words, for messages

    Raises
    ------
    DataError : an identifier that is null, or occurs again after another one
    SchemaError : values that cannot be compared
    SourceChangedError : more or fewer rows
    """
    starts = array("q")
    seen: set[Any] | None = None
    last: Any = None
    for run in _runs(read(), n_rows, what):
        if starts and run.value == last:
            continue
        if seen is None and starts and not run.value > last:
            seen = {earlier.value for earlier in _before(run.start, read, n_rows, what)}
        if seen is not None:
            if run.value in seen:
                raise _interrupted(run, read, n_rows, what)
            seen.add(run.value)
        starts.append(run.start)
        last = run.value
    return np.array(starts, dtype=np.int64)


def _runs(pieces: Iterable[Any], n_rows: int, what: str) -> Iterator[Run]:
    """Runs of equal values; one that goes on in the next piece comes again from there."""
    row = 0
    for piece in (whole[a : a + LOOKED_AT] for whole in pieces for a in range(0, len(whole), LOOKED_AT)):
        values, starts = _encoded(piece, what)
        for value, start in zip(values, starts, strict=True):
            if value is None or value != value:
                raise DataError(
                    f"{what} is null in row {row + start}; every row must belong to a sequence: fill in the "
                    "identifier, or drop these rows"
                )
            yield Run(value, row + start)
        row += len(piece)
    if row != n_rows:
        raise SourceChangedError(f"{what} has {row} rows where the data has {n_rows}; open the data again")


def _encoded(piece: Any, what: str) -> tuple[list[Any], list[int]]:
    """Values of runs, and where they start."""
    try:
        encoded = pc.run_end_encode(_comparable(piece), run_end_type=pa.int64())
    except (pa.ArrowException, TypeError, ValueError) as error:
        kind = getattr(piece, "type", getattr(piece, "dtype", type(piece).__name__))
        raise SchemaError(
            f"{what} holds {kind}, which cannot identify sequences; integers or text are needed ({error})"
        ) from error
    return encoded.values.to_pylist(), [0, *encoded.run_ends.to_pylist()[:-1]] if len(piece) else []


def _comparable(piece: Any) -> pa.Array:
    if isinstance(piece, np.ndarray):
        texts = piece.dtype.kind in "TU"
        return pa.array(piece.astype(object) if texts else piece, from_pandas=True)
    array = plain(piece)
    if pa.types.is_nested(array.type):
        raise TypeError("several values a row")
    return array


def _before(row: int, read: Pieces, n_rows: int, what: str) -> Iterator[Run]:
    for run in _runs(read(), n_rows, what):
        if run.start >= row:
            return
        yield run


def _interrupted(again: Run, read: Pieces, n_rows: int, what: str) -> DataError:
    first = next(run for run in _runs(read(), n_rows, what) if run.value == again.value)
    return DataError(
        f"{what}: {again.value!r} begins in row {first.start}, is followed by others, and comes again in row "
        f"{again.start}; the rows of a sequence must follow each other: sort or group the data by this column first "
        "(keep the order of steps)"
    )
