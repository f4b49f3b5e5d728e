"""A piece of the data in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import DataError
from streamem.core.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows in memory.

    Attributes
    ----------
    x : (n, d) float32 or float64, C order
        NaN means missing.
    weight : (n,) float64 or None
        Non-negative; None means 1 for every row.
    sequences : Sequences or None
        Which rows are steps of one sequence, for models of sequences; None means independent rows.
    covariates : (n, p) float64 or None
        What drives the transitions from each step to the next one, or the weights of a row or group, for models that
        have such; no part of what is emitted. NaN in padding only, and in rows that lack all values.
    """

    x: NDArray[Any]
    weight: NDArray[np.float64] | None = None
    sequences: Sequences | None = None
    covariates: NDArray[np.float64] | None = None

    @property
    def rows(self) -> int:
        """Number of rows n."""
        return int(self.x.shape[0])

    def beside(self, rows: Any) -> NDArray[np.float64] | None:
        """The covariates of some rows, by indices, a mask or a slice; None where there are none."""
        return None if self.covariates is None else self.covariates[rows]


def covariates_of(parts: Iterable[Chunk]) -> NDArray[np.float64] | None:
    """The covariates of chunks one after the other; None where they have none."""
    known = [part.covariates for part in parts if part.covariates is not None]
    return np.concatenate(known) if known else None


LARGEST_EXACT = 2**53


def as_floats(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in C order as floats of the given type; a view where they already are. Masked ones are NaN.

    Raises
    ------
    DataError : 64-bit integers beyond 2⁵³, which no float64 holds
    """
    if isinstance(values, np.ma.MaskedArray):
        return _unmasked(values, dtype)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and values.size:
        low, high = int(values.min()), int(values.max())
        if max(-low, high) > LARGEST_EXACT:
            raise DataError(
                f"{values.dtype} values from {low} to {high} lose digits as float64, which is exact up to 2**53; "
                "subtract an offset first"
            )
    return np.ascontiguousarray(values, dtype=dtype)


def _unmasked(values: np.ma.MaskedArray[Any, Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    hidden = np.ma.getmaskarray(values)
    shown: NDArray[Any] = np.where(hidden, np.zeros((), values.dtype), values.data)  # what is hidden may be anything
    floats = as_floats(shown, dtype)
    floats[hidden] = np.nan
    return floats


def without_idle_mask(values: Any) -> Any:
    """An array without its mask where that hides nothing; everything else as it is."""
    idle = isinstance(values, np.ma.MaskedArray) and not np.ma.is_masked(values)
    return np.ma.getdata(values) if idle else values


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The float dtype that values of `dtype` are computed in: the narrowest of float32 and float64 that is exact.

    float16, bool and integers of up to 16 bits fit float32; everything else becomes float64.
    """
    if dtype.kind not in "biuf":
        raise TypeError(dtype)
    exact_in_float32 = dtype.itemsize <= 4 if dtype.kind == "f" else dtype.itemsize <= 2
    return np.dtype(np.float32 if exact_in_float32 else np.float64)
