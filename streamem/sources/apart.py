"""Rows of a source of which some columns are set apart: `Chunk.covariates`, on which the weights of rows depend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.ports import Source
from streamem.sources.driving import CONCOMITANTS, driving_columns, require_covariates, without_columns
from streamem.sources.wrapped import WrappedRef

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ApartRef(WrappedRef):
    """A chunk of the base, with columns `covariates` apart; `dropped` of them, of `itemsize` bytes, are no features."""

    covariates: tuple[int, ...]
    dropped: tuple[int, ...]
    names: tuple[str, ...] | None
    itemsize: int
    integrates: bool

    @property
    def nbytes(self) -> int:
        """The rows of the base without what is dropped, and 8 bytes for each value that is set apart."""
        row = 8 * len(self.covariates) - self.itemsize * len(self.dropped)
        return self.base.nbytes + self.base.rows * row

    @property
    def load_nbytes(self) -> int:
        """The chunk of the base, and what is made of it."""
        return self.base.load_nbytes + self.nbytes

    def load(self) -> Chunk:
        """The rows; one that lacks a value that is set apart lacks all, where it may.

        Raises
        ------
        DataError : values that are not finite, but for NaN where they may be missing
        """
        chunk = self.base.load()
        beside = chunk.x[:, list(self.covariates)].astype(np.float64)
        absent = np.asarray(np.isnan(beside).any(axis=1)) if self.integrates else None
        require_covariates(beside, absent, self.covariates, self.names, self.place, self.row, CONCOMITANTS)
        x = np.ascontiguousarray(np.delete(chunk.x, list(self.dropped), axis=1))
        if absent is not None and absent.any():
            x[absent], beside[absent] = np.nan, np.nan
        return replace(chunk, x=x, covariates=beside)


class Apart(Source):
    """The rows of a source with columns set apart.

    Parameters
    ----------
    base : rows of which one column behind the features, the response, is never set apart
    covariates : columns to be set apart, by position
    kept : those of them that are features too
    integrates : whether NaN may stand in them

    Raises
    ------
    SchemaError : covariates that are no columns, or all of them
    """

    def __init__(
        self, base: Source, covariates: Sequence[int], kept: Sequence[int] = (), integrates: bool = False
    ) -> None:
        self.covariates = driving_columns(covariates, base.schema, CONCOMITANTS)
        self._dropped = tuple(column for column in self.covariates if column not in set(kept))
        self._base, self._integrates, self.n_rows = base, integrates, base.n_rows
        self.schema = without_columns(base.schema, self._dropped)

    def fingerprint(self) -> str:
        """The fingerprint of the base, and which columns are apart."""
        return f"{self._base.fingerprint()}|apart {list(self.covariates)} {list(self._dropped)}"

    def chunks(self) -> Sequence[ApartRef]:
        """The plan of the base."""
        schema = self._base.schema
        own = (self.covariates, self._dropped, schema.names, schema.dtype.itemsize, self._integrates)
        return [ApartRef(ref, *own) for ref in self._base.chunks()]
