"""How a source is to be read: what every opener takes."""

from __future__ import annotations

from dataclasses import dataclass

from streamem.core.errors import ParameterError

DEFAULT_CHUNK_BYTES = 2 * 2**20


@dataclass(frozen=True)
class ReadOptions:
    """How to read.

    Attributes
    ----------
    columns : names of the feature columns, in the order wanted; None means all
    weight_column : name of the column that holds the sample weights; it is then no feature
    left_out : names of further columns that are no features (what identifies sequences, say)
    feature_axis : which axis (number, or dimension name for xarray) holds the features of an array; None means the
        last axis of a two-dimensional array
    chunk_bytes : target size of a chunk in memory; storage units (Zarr chunks, row groups) are never split to meet it
    missing_chunks : "error" refuses a Zarr store with absent chunks, "fill" reads them as the store's fill value
    """

    columns: tuple[str, ...] | None = None
    weight_column: str | None = None
    feature_axis: int | str | None = None
    chunk_bytes: int = DEFAULT_CHUNK_BYTES
    missing_chunks: str = "error"
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.chunk_bytes < 1:
            raise ParameterError(f"chunk_bytes is {self.chunk_bytes}; it must be at least 1")
        if self.missing_chunks not in ("error", "fill"):
            raise ParameterError(f"missing_chunks is {self.missing_chunks!r}; it must be 'error' or 'fill'")
        if self.columns is not None and len(set(self.columns)) != len(self.columns):
            raise ParameterError(f"columns {list(self.columns)} name a column twice; name each once")
        if self.columns is not None and not self.columns:
            raise ParameterError("columns is empty; name at least one feature column, or pass None for all")
