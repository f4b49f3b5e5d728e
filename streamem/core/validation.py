"""The checks at the boundary: every value that enters an E-step is finite, every weight non-negative.

NaN is a value that was not observed, for models that allow for such: in rows as a whole, or anywhere. What users set
by hand are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamem.core import loops
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, DegenerateDataError, ImpossibleValueError, NonFiniteError, ParameterError
from streamem.core.missing import Missing
from streamem.core.ports import ChunkRef

MANY = 2**16
"""Values for whose sake compiled code is worth its loading."""


def require_finite(
    chunk: Chunk, ref: ChunkRef, names: Sequence[str] | None, missing: Missing = Missing.NOTHING
) -> None:
    """Raise `NonFiniteError`, naming chunk, rows, column and count, unless every value is finite.

    `missing` says where NaN may stand. The weights are checked too: `DataError` if one is negative or not
    finite.
    """
    if _suspicious(chunk.x) and not (finite := usable(chunk.x, missing)).all():
        raise NonFiniteError(_describe_non_finite(chunk, finite, ref, names, missing))
    weight = chunk.weight
    if weight is not None and not (valid := np.isfinite(weight) & (weight >= 0)).all():
        row = int(np.argmin(valid))
        raise DataError(
            f"{where(ref)}: {int((~valid).sum())} sample weights are negative or not finite "
            f"(the first is {weight[row]} in row {ref.row(row)}); weights must be finite and >= 0"
        )


class Checked:
    """The chunks of a run that lie in memory and were found to be finite: passes to come read them once, not twice.

    Light models wait for memory: an iteration of four diagonal components took 1.4 times as long with the check.
    What lies in files, memory-mapped ones too, is looked at in every pass: others may write there.
    """

    def __init__(self) -> None:
        self._positions: set[int] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return Checked, ()  # another process looks for itself

    def require_finite(
        self, chunk: Chunk, ref: ChunkRef, names: Sequence[str] | None, missing: Missing = Missing.NOTHING
    ) -> None:
        """Check a chunk as `require_finite` does, unless this has been done in an earlier pass."""
        in_memory = ref.in_memory and not _mapped(chunk.x)
        if in_memory and ref.index in self._positions:
            return
        require_finite(chunk, ref, names, missing)
        if in_memory:
            self._positions.add(ref.index)


def _mapped(x: Any) -> bool:
    """Whether an array looks into a memory-mapped file."""
    while isinstance(x, np.ndarray):
        x = x.base
    return isinstance(x, mmap)


def locating(chunk: Chunk, ref: ChunkRef, names: Sequence[str] | None) -> _Locating:
    """``with locating(…):`` tells the row and the column's name of an `ImpossibleValueError` that is raised inside."""
    return _Locating(chunk, ref, names)


class _Locating:
    """What `locating` gives: not a generator, which takes four times as long to enter and leave."""

    def __init__(self, chunk: Chunk, ref: ChunkRef, names: Sequence[str] | None) -> None:
        self._told = chunk, ref, names

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ImpossibleValueError):
            chunk, ref, names = self._told
            row = int(np.argmax(chunk.x[:, error.column] == error.value))
            place = place_of(ref, row, error.column, names)
            raise ImpossibleValueError(error.value, error.column, error.needed, place) from error


def place_of(ref: ChunkRef, row: int, column: int, names: Sequence[str] | None) -> str:
    """How messages name a value of a chunk: the chunk, the column and the row in the source."""
    name = f" {names[column]!r}" if names is not None else ""
    return f"{where(ref)}: column {column}{name} of row {ref.row(row)}"


def _suspicious(x: NDArray[Any]) -> bool:
    """Whether some value may not be finite."""
    if x.size >= MANY and x.flags.c_contiguous and x.dtype in (np.float64, np.float32):
        return not loops.all_finite(x)
    with np.errstate(over="ignore", invalid="ignore"):  # large finite values may overflow
        return not np.isfinite(np.sum(x, dtype=np.float64))


def usable(x: NDArray[Any], missing: Missing) -> NDArray[np.bool_]:
    """(n, d) which values are finite, or missing where they may be."""
    finite = np.isfinite(x)
    if not missing.allows_nothing:
        absent = np.isnan(x)
        finite |= absent if missing is Missing.VALUES else absent.all(axis=1, keepdims=True)
    return finite


def require_seen(sample: Chunk, names: Sequence[str] | None) -> None:
    """Refuse rows that show nothing of a column, of which nothing can be estimated.

    Raises
    ------
    DegenerateDataError : naming the columns
    """
    x = sample.x if sample.weight is None else sample.x[sample.weight > 0]
    unseen = np.flatnonzero(np.isnan(x).all(axis=0) & (len(x) > 0))
    if len(unseen):
        known = names if names is not None and len(names) == sample.x.shape[1] else None
        told = ", ".join(f"{column}{'' if known is None else f' {known[column]!r}'}" for column in unseen[:5])
        raise DegenerateDataError(
            f"column {told}{' …' if len(unseen) > 5 else ''}: missing in all {len(x)} rows of weight that a start is "
            "made of, so nothing can be estimated; leave the column out, or pass more rows"
        )


def where(ref: ChunkRef) -> str:
    """How messages name a chunk: its index and its rows, both ends included."""
    return ref.place


_WHOLE = "A row may be missing as a whole (NaN in every column: a step at which nothing was observed), but not in part"

NEEDED = {
    Missing.NEVER: "Every value must be finite, as the model knows no missing ones; drop or impute these rows first",
    Missing.UNDECLARED: "Every value must be finite; drop or impute these rows first, or, where e_step of the model "
    'takes NaN for a value that was not observed, let the model say so: missing = "values"',
    Missing.NOTHING: "Every value must be finite; drop or impute these rows first, or, where NaN is a value that was "
    'not observed, pass missing="integrate"',
    Missing.STEPS_ALONE: f"{_WHOLE}; impute these values, or make the whole row NaN",
    Missing.STEPS: f'{_WHOLE}; impute these values, make the whole row NaN, or pass missing="integrate"',
    Missing.VALUES: "A value may be missing (NaN), but not infinite; drop these rows, or make the values NaN",
}
"""What a boundary asks for, by what may be missing, and what to do."""


def _describe_non_finite(
    chunk: Chunk, finite: NDArray[np.bool_], ref: ChunkRef, names: Sequence[str] | None, missing: Missing
) -> str:
    columns = np.flatnonzero(~finite.all(axis=0))
    parts = []
    for column in columns[:3]:
        bad = np.flatnonzero(~finite[:, column])
        kind = "NaN" if np.isnan(chunk.x[bad[0], column]) else "infinity"
        name = f" {names[column]!r}" if names is not None else ""
        parts.append(f"{len(bad)} in column {column}{name} (the first, {kind}, in row {ref.row(int(bad[0]))})")
    more = f" and {len(columns) - 3} more columns" if len(columns) > 3 else ""
    found = f"{int((~finite).sum())} non-finite values (NaN or infinity): {'; '.join(parts)}{more}"
    return f"{where(ref)}: {found}. {NEEDED[missing]}"


def numbers(values: ArrayLike, name: str) -> NDArray[Any]:
    """Values as float64.

    Raises
    ------
    ParameterError : text, dates, objects, rows of different lengths, or masked values
    """
    try:
        array = np.asanyarray(values)
        if array.dtype.kind not in "biufO":
            raise TypeError(f"it holds {array.dtype}")
        if np.ma.is_masked(array):
            raise TypeError(f"{int(np.ma.getmaskarray(array).sum())} of them are masked")
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} must hold an array of numbers; it does not ({error})") from None
