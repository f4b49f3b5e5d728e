"""From the values of a column to their positions in its vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamem.core.errors import DataError, SchemaError
from streamem.sources.plain_arrow import plain


def write_codes(column: Any, values: tuple[Any, ...], out: NDArray[Any], what: str, skips_unseen: bool = False) -> None:
    """Write the position of every value of a column among `values` into out (n,); nulls become NaN.

    Values that are not among them become NaN too if they are to be skipped.

    Raises
    ------
    DataError : a value that is not among them
    SchemaError : the column is of another type than the values
    """
    start = 0
    for piece in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        array = plain(piece)
        out[start : start + len(array)] = _codes(array, values, what, skips_unseen)
        start += len(array)


def _codes(array: pa.Array, values: tuple[Any, ...], what: str, skips_unseen: bool) -> NDArray[Any]:
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan)
    try:
        known = pa.array(values, array.type)
        codes = pc.index_in(array, value_set=known)
    except (pa.ArrowException, TypeError) as error:
        raise SchemaError(f"{what} holds {array.type}, its categories do not: {error}") from error
    if codes.null_count > array.null_count and not skips_unseen:
        unknown = array.filter(pc.and_(codes.is_null(), array.is_valid()))
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise DataError(
            f"{what}: {unknown[0].as_py()!r}{more} is none of its {len(values)} categories "
            f"({listed(values)}); leave such rows out, fit on data that has them, or take them for missing values with "
            "unseen='missing'"
        )
    return np.asarray(codes.to_numpy(zero_copy_only=False))


def listed(values: tuple[Any, ...]) -> str:
    """The first ten categories in words."""
    return ", ".join(repr(value) for value in values[:10]) + (" …" if len(values) > 10 else "")
