"""Which values are numbers, and which only look like some: text, dates, times, objects, what a mask hides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import LARGEST_EXACT, compute_dtype
from streamem.core.errors import DataError, NotNumericError, SchemaError

NO_NUMBERS = (str, bytes, np.datetime64, np.timedelta64, complex)
"""Objects that Python or NumPy would turn into a float, and that are none."""

REMEDIES = {
    "U": "Text is never read as numbers: convert it, for example with astype(float), or put it into a column of a "
    "table, which is a feature as categories (ReadOptions(categories='text'))",
    "M": "Dates and times have no zero and no unit: subtract one and divide by a unit, as in "
    "(x - x[0]) / np.timedelta64(1, 's')",
    "m": "Time spans have no unit of their own: divide by one, as in x / np.timedelta64(1, 's')",
    "c": "Complex data not supported: pass real and imaginary parts as two features",
    "V": "Pass fields as columns: numpy.lib.recfunctions.structured_to_unstructured(x), or pandas.DataFrame(x)",
}
REMEDIES.update(S=REMEDIES["U"], T=REMEDIES["U"])


def numeric_dtype(dtype: np.dtype[Any], what: str) -> np.dtype[Any]:
    """The dtype to compute in, or `SchemaError` when the values are no numbers."""
    try:
        return compute_dtype(dtype)
    except TypeError:
        remedy = REMEDIES.get(dtype.kind, "Convert them, for example with astype(float)")
        raise SchemaError(
            f"{what} holds {dtype}, which is not numeric; bool, integers and floats can be used. {remedy}"
        ) from None


def as_array(values: Any) -> NDArray[Any]:
    """An array-like in memory as NumPy array; the mask stays, also of Dask arrays and of arrays in a list."""
    if type(values).__module__.partition(".")[0] == "dask":
        values = values.compute()
    if isinstance(values, list | tuple) and any(isinstance(item, np.ma.MaskedArray) for item in values):
        masked: NDArray[Any] = np.ma.array(values)
        return masked
    return np.asanyarray(values)


def numbers_in(values: NDArray[Any], what: str) -> NDArray[Any]:
    """An array of numbers as it is; Python objects that are real numbers as float64, None and pandas.NA as NaN.

    Raises
    ------
    SchemaError : text, dates, times, complex numbers, structures; `NotNumericError` for other objects
    """
    if values.dtype.kind == "O":
        shown = np.array(np.ma.getdata(values))
        shown[np.ma.getmaskarray(values)] = None
        flat = shown.ravel()
        return np.fromiter((_number(item, what) for item in flat), np.float64, len(flat)).reshape(values.shape)
    numeric_dtype(values.dtype, what)
    return values


def refuse_masked(values: Any, what: str, remedy: str) -> None:
    """Raise `DataError`, counting what is masked, where nothing can be missing."""
    if np.ma.is_masked(values):
        hidden = np.ma.getmaskarray(values)
        first = np.argwhere(hidden)[0].tolist()
        place = first[0] if len(first) == 1 else first
        raise DataError(f"{what} has {int(hidden.sum())} masked values, the first at {place}; {remedy}")


def _number(item: Any, what: str) -> float:
    if item is None or type(item).__name__ == "NAType":
        return np.nan
    if isinstance(item, NO_NUMBERS):
        kind = np.asarray(item).dtype
        raise SchemaError(f"{what} holds {item!r:.100}, which is not numeric. {REMEDIES[kind.kind]}")
    try:
        number = float(item)
    except (TypeError, ValueError, OverflowError) as error:
        raise NotNumericError(f"{what} holds {item!r:.100}, which is no number: {error}") from error
    if isinstance(item, int) and abs(item) > LARGEST_EXACT:
        raise DataError(f"{what} holds {item}, which loses digits as float64, exact up to 2**53; subtract an offset")
    return number
