"""How a source is to be read: what every opener takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamem.core.errors import ParameterError

DEFAULT_CHUNK_BYTES = 2 * 2**20
MOST_CHUNK_BYTES = 4 * DEFAULT_CHUNK_BYTES
FEWEST_CHUNKS = 64
"""That larger chunks must leave: threads that end a pass with unequal work wait for each other."""
LEAST_PRODUCTS = 2**24
"""Of a chunk smaller than `chunk_bytes`: some 5 ms of a thread, beside which what every chunk costs is little."""
LEAST_ROWS = 2048


@dataclass(frozen=True)
class ReadOptions:
    """How to read.

    Attributes
    ----------
    columns : names of the feature columns, in the order wanted; None means all but the stored index of a DataFrame
    weight_column : name of the column that holds the sample weights; it is then no feature
    left_out : names of further columns that are no features (what identifies sequences, say)
    feature_axis : which axis (number, or dimension name for xarray) holds the features of an array; None means the
        last axis of a two-dimensional array
    chunk_bytes : target size of a chunk in memory
        Storage units are not split to meet it, except row groups of Parquet files and shards of Zarr arrays of more
        than twice that.
    most_chunk_bytes : what chunks of an array, in memory or in a ``.npy`` file, may grow to where 64 of them remain
        A chunk costs as much time as 100 kB of rows of a light model. None is `chunk_bytes`, or 8 MiB where that has
        its default.
    row_products : what a row of so many features costs, in products (the number of the model's statistics)
        Chunks of arrays and tables in memory, and of ``.npy`` files, are then smaller than `chunk_bytes` where 64 of
        them would not be had and each costs millions of products all the same: an array of 1 MB keeps many threads
        busy. None leaves them at `chunk_bytes`.
    categories : how columns of text become features, of tables
        None refuses them. "text" reads every one of them once, sorts its different values, and encodes them as 0, 1, ….
        A mapping gives the values of columns in the order of their codes (`Schema.categories` of the data that was
        fitted). Nulls are NaN.
    unseen : what a value is that is none of its column's categories: "error", or "missing", NaN
    missing_chunks : "error" refuses a Zarr store with absent chunks, "fill" reads them as the store's fill value
    in_order : whether chunks will be read about in their order
        A row group is decoded from its beginning on, so that parts of it in any other order cost much more. If not,
        each row group is a chunk, and chunks in memory are no smaller than `chunk_bytes`.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from streamem import open_source
    >>> table = pa.table({"a": [1.0, 2.0], "colour": ["red", "blue"]})
    >>> open_source(table, options=ReadOptions(categories="text")).schema.categories
    {'colour': ('blue', 'red')}
    """

    columns: tuple[str, ...] | None = None
    weight_column: str | None = None
    feature_axis: int | str | None = None
    chunk_bytes: int = DEFAULT_CHUNK_BYTES
    most_chunk_bytes: int | None = None
    missing_chunks: str = "error"
    left_out: tuple[str, ...] = ()
    categories: Mapping[str, Sequence[Any]] | str | None = None
    unseen: str = "error"
    in_order: bool = True
    row_products: Callable[[int], int] | None = None

    def __post_init__(self) -> None:
        if self.chunk_bytes < 1:
            raise ParameterError(f"chunk_bytes is {self.chunk_bytes}; it must be at least 1")
        if self.most_chunk_bytes is not None and self.most_chunk_bytes < self.chunk_bytes:
            raise ParameterError(
                f"most_chunk_bytes is {self.most_chunk_bytes}, less than chunk_bytes, {self.chunk_bytes}; give as much"
            )
        if self.row_products is not None and not callable(self.row_products):
            raise ParameterError(
                f"row_products is {self.row_products!r}; it must be a function of the number of features, or None"
            )
        if self.missing_chunks not in ("error", "fill"):
            raise ParameterError(f"missing_chunks is {self.missing_chunks!r}; it must be 'error' or 'fill'")
        if isinstance(self.categories, str) and self.categories != "text":
            raise ParameterError(f"categories is {self.categories!r}; it must be 'text', a mapping, or None")
        if self.unseen not in ("error", "missing"):
            raise ParameterError(f"unseen is {self.unseen!r}; it must be 'error' or 'missing'")
        for name, values in self.vocabularies.items():
            if len(set(values)) != len(values) or None in values:
                raise ParameterError(f"the categories of {name!r} hold a value twice, or None; each needs one code")
        if self.columns is not None and len(set(self.columns)) != len(self.columns):
            raise ParameterError(f"columns {list(self.columns)} name a column twice; name each once")
        if self.columns is not None and not self.columns:
            raise ParameterError("columns is empty; name at least one feature column, or pass None for all")

    def array_chunk_bytes(self, n_rows: int, n_features: int, row_nbytes: int) -> int:
        """Target size of a chunk of an array: of the data and the settings alone, not of the machine."""
        most = self.most_chunk_bytes
        if most is None:
            most = MOST_CHUNK_BYTES if self.chunk_bytes == DEFAULT_CHUNK_BYTES else self.chunk_bytes
        large = min(most, n_rows * row_nbytes // FEWEST_CHUNKS)
        if large >= self.chunk_bytes or self.row_products is None or not self.in_order:
            return max(large, self.chunk_bytes)
        products = max(1, int(self.row_products(n_features)))
        # Where few components matter a row costs less than it seems, but adding up the statistics does not.
        least = max(LEAST_ROWS, LEAST_PRODUCTS // products, products // max(1, n_features))
        # A power of two alike: all threads end together.
        parts = 1 << (min(n_rows // least, FEWEST_CHUNKS) | 1).bit_length() - 1
        return max(1, min(self.chunk_bytes, -(-n_rows // parts) * row_nbytes))

    def table_chunk_bytes(self, n_rows: int, n_features: int, row_nbytes: int) -> int:
        """Target size of a chunk of a table: chunks of tables are copies, so they do not grow."""
        return min(self.chunk_bytes, self.array_chunk_bytes(n_rows, n_features, row_nbytes))

    @property
    def vocabularies(self) -> dict[str, tuple[Any, ...]]:
        """Categories by column, where the user or a fitted model names them."""
        known = self.categories if isinstance(self.categories, Mapping) else {}
        return {name: tuple(values) for name, values in known.items()}
