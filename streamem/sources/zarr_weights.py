"""Sample weights in a one-dimensional Zarr array, with the same guards as the rows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from streamem.core.errors import SourceError
from streamem.sources.options import ReadOptions
from streamem.sources.zarr_integrity import store_at
from streamem.sources.zarr_layout import read_column
from streamem.sources.zarr_stamp import stamp
from streamem.sources.zarr_variable import Variable, open_variable


@dataclass(frozen=True, eq=False)
class ZarrWeights:
    """Weights read slice by slice."""

    variable: Variable

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.variable.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.variable.dtype

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Weights start … stop − 1, unpacked."""
        out = np.empty(stop - start)
        read_column(self.variable, slice(start, stop), range(start, stop), out)
        return out

    def part(self, start: int, stop: int) -> ZarrWeights:
        """These weights as a whole: a path is little to send."""
        return self

    def fingerprint(self) -> str:
        """Metadata, sizes and modification times."""
        return stamp(self.variable.origin)


def open(weight: Any) -> ZarrWeights:
    """Open a path or a zarr.Array.

    Raises
    ------
    SourceError : it cannot be opened, or chunks are missing
    """
    if isinstance(weight, str | os.PathLike):
        try:
            weight = zarr.open_array(store_at(weight), mode="r")
        except Exception as error:
            raise SourceError(
                f"sample weights: {weight} cannot be opened as a Zarr array: {type(error).__name__}: {error}"
            ) from error
    return ZarrWeights(open_variable(weight, ReadOptions()))
