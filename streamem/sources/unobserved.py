"""Points without any observation, such as land in a grid of the ocean: rows of NaN alone, which get the weight 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.ports import Source
from streamem.sources.transformed import KnownSource
from streamem.sources.wrapped import WrappedRef


@dataclass(frozen=True, eq=False)
class UnobservedRef(WrappedRef):
    """A chunk whose rows of NaN alone have the weight 0, and hold `filler`, a row that was observed."""

    filler: NDArray[Any]

    @property
    def load_nbytes(self) -> int:
        """The base's peak, a copy of its rows, a mark and a weight each."""
        return self.base.load_nbytes + self.base.nbytes + 17 * self.base.rows

    def load(self) -> Chunk:
        """The base chunk with weights."""
        chunk = self.base.load()
        hidden = without_observation(chunk.x)
        weight = np.ones(chunk.rows) if chunk.weight is None else np.array(chunk.weight)
        if not hidden.any():
            return replace(chunk, weight=weight)
        weight[hidden] = 0.0
        x = np.array(chunk.x)
        x[hidden] = self.filler
        return replace(chunk, x=x, weight=weight)


class UnobservedSource(Source):
    """A source in which rows of NaN alone count for nothing."""

    hides_unobserved = True

    def __init__(self, base: Source, filler: NDArray[Any]) -> None:
        self._base, self._filler = base, filler
        self.schema = replace(base.schema, weighted=True)
        self.n_rows = base.n_rows
        self.row_shape: tuple[int, ...] = tuple(getattr(base, "row_shape", ()))
        self.grid = getattr(base, "grid", None)

    def fingerprint(self) -> str:
        """The base's, marked."""
        return f"{self._base.fingerprint()}-observed"

    def chunks(self) -> Sequence[UnobservedRef]:
        """The plan of the base."""
        return [UnobservedRef(ref, self._filler) for ref in self._base.chunks()]


def is_about_a_grid(x: Any) -> bool:
    """Whether data is xarray's, or rows of such: grids have points at which nothing is ever observed."""
    passed = x.about.data if isinstance(x, KnownSource) else x
    return type(passed).__module__.partition(".")[0] == "xarray"


def is_on_a_grid(source: Source) -> bool:
    """Whether rows are points of stored variables with two named dimensions or more, as those of a map."""
    return source.grid is not None and len(source.grid.dims) > 1


def weighing_observed(source: Source, in_memory: bool) -> Source:
    """The source with rows of NaN alone left out of account; itself if it is known to have no such, or only such.

    Parameters
    ----------
    in_memory : all chunks are looked at; else only those up to the first row with an observation
    """
    filler, found = None, not in_memory
    for ref in source.chunks():
        x = ref.load().x
        hidden = without_observation(x)
        found = found or bool(hidden.any())
        if filler is None and not hidden.all():
            filler = np.array(x[int(np.argmin(hidden))])
        if filler is not None and found:
            return UnobservedSource(source, filler)
    return source


def without_observation(x: NDArray[Any]) -> NDArray[np.bool_]:
    """(n,) which rows are NaN in every column."""
    hidden = np.isnan(x[:, 0])
    if hidden.any():
        hidden[hidden] = np.isnan(x[hidden]).all(axis=1)
    return hidden
