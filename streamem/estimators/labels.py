"""What stands behind X in a call: hmmlearn's lengths, or scikit-learn's y, which nothing needs."""

from __future__ import annotations

import os
import warnings
from numbers import Real
from typing import Any

import numpy as np


def lengths_told(x: Any, y: Any, lengths: Any) -> Any:
    """The lengths that a call tells by their name, or else behind X; None where nothing is told."""
    return _lengths_in(x, y) if lengths is None else lengths


def _lengths_in(x: Any, second: Any) -> Any:
    """The lengths in what was passed behind X; None where it can only be scikit-learn's y.

    Lengths of sequences sum to the rows. So as many numbers as rows are lengths only if every one of them is 1;
    otherwise each belongs to a row, as a target does, and mixtures of rows ignore targets too.

    Warns
    -----
    UserWarning : a y of whole numbers of at least 1, which somebody may have meant as lengths
    """
    rows = _rows(x)
    if second is None or isinstance(second, str | os.PathLike) or rows is None or rows < 2:
        return second
    values = np.asarray(second)
    if values.shape not in ((rows,), (rows, 1)) or not _may_be_classes(values):
        return second
    whole = values.dtype.kind in "iu"
    if whole and (values == 1).all():
        return second
    if whole and values.min() >= 1:
        warnings.warn(
            f"the argument behind X holds {rows} numbers for {rows} rows; lengths of so many sequences would all be 1, "
            "so these are taken for a target y, as scikit-learn passes it, and ignored",
            UserWarning,
            stacklevel=4,
        )
    return None


def _may_be_classes(values: Any) -> bool:
    """Whether all are numbers, or names: text that is a number was read as lengths, dates are neither."""
    if values.dtype.kind not in "OUS":
        return values.dtype.kind in "iufb"
    ones = values.ravel().tolist()
    texts = [one for one in ones if isinstance(one, str | bytes)]
    return all(isinstance(one, str | bytes | Real) for one in ones) and not any(map(_is_number, texts))


def _is_number(text: str | bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _rows(x: Any) -> int | None:
    """Rows of data in memory of at most two axes, or None."""
    if isinstance(x, list | tuple):
        return len(x) if x and np.ndim(x[0]) < 2 and not isinstance(x[0], str | os.PathLike) else None
    shape = getattr(x, "shape", None)
    if shape is None and hasattr(x, "__array__") and not hasattr(x, "data_vars"):  # an xarray.Dataset is no array
        shape = np.shape(np.asarray(x))
    return shape[0] if shape is not None and 1 <= len(shape) <= 2 and isinstance(shape[0], int) else None
