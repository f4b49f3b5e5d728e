"""Rows of a lazy Dask DataFrame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from streamem.core.chunk import Chunk
from streamem.core.errors import SchemaError, SourceError
from streamem.sources.categories import with_vocabularies
from streamem.sources.column_values import gather
from streamem.sources.columns import TableLayout, plan_columns, require_column
from streamem.sources.dask_blocks import Block, BlockSource, blocks_of, require_few_blocks
from streamem.sources.frames import frame_column, frame_schema, frame_table, index_names, is_named
from streamem.sources.options import ReadOptions


@dataclass(frozen=True)
class DecodeFrame:
    """Checks that a partition is what the DataFrame promised, and makes it a chunk."""

    layout: TableLayout

    def __call__(self, value: Any, block: Block) -> Chunk:
        what = f"Dask block {block.number}"
        if len(value) != block.rows:
            raise SourceError(
                f"{what} computed to {len(value)} rows where it had {block.rows} when they were counted; its tasks "
                "must give the same rows at every call (a random step needs a seed)"
            )
        options = ReadOptions(
            columns=tuple(column.name for column in self.layout.columns),
            weight_column=None if self.layout.weight is None else self.layout.weight.name,
            categories={c.name: c.values for c in self.layout.columns if c.values is not None},
        )
        try:
            own = plan_columns(frame_schema(value, options, what), options, what)
        except SchemaError as error:
            raise SourceError(f"{what} is not what its DataFrame declares (meta=): {error}") from error
        if own.promoted(self.layout).dtype != self.layout.dtype:
            raise SourceError(f"{what} holds {own.dtype}, its DataFrame declares {self.layout.dtype}; correct meta=")
        return gather(self.layout, block.rows, [frame_table(value, self.layout.names)], what)


def open_frame(data: Any, options: ReadOptions) -> BlockSource:
    """A Dask DataFrame. One pass, with Dask's configured scheduler, finds the length of each partition."""
    origin = "the Dask DataFrame"
    require_few_blocks(data.npartitions, origin, "its repartition()")
    meta = data._meta
    schema = frame_schema(meta, options, origin)
    options = with_vocabularies(options, schema, lambda name: frame_values(data, name), origin)
    layout = plan_columns(schema, options, origin)
    label = {str(name): name for name in meta.columns}
    chosen = data[[label[name] for name in layout.names]]
    blocks = blocks_of(chosen.optimize(), chosen, None)
    shape = layout.schema(origin, is_named(meta))
    return BlockSource(blocks, DecodeFrame(layout), shape, options.chunk_bytes, chosen._name)


def frame_of_floats(data: Any, options: ReadOptions) -> Any:
    """A lazy Dask DataFrame of the features alone, nulls as NaN, text as its codes; nothing is computed.

    Raises
    ------
    SchemaError : columns that are missing, or no numbers
    """
    origin = "the Dask DataFrame"
    layout = plan_columns(frame_schema(data._meta, options, origin), options, origin)
    label = {str(name): name for name in data._meta.columns}
    chosen = data[[label[name] for name in layout.names]]
    decode = _Decoded(DecodeFrame(layout))
    return chosen.map_partitions(decode, meta=decode(chosen._meta))


@dataclass(frozen=True)
class _Decoded:
    """A partition as floats."""

    decode: DecodeFrame

    def __call__(self, partition: Any, partition_info: Any = None) -> Any:
        block = Block((partition_info or {}).get("number", 0), None, {}, len(partition))
        return type(partition)(self.decode(partition, block).x, index=partition.index)


def frame_values(data: Any, name: str) -> Iterator[pa.Array]:
    """The values of any one column, or of the index, partition by partition, with Dask's configured scheduler."""
    label = {str(known): known for known in data._meta.columns}
    require_column(name, [*label, *index_names(data._meta.index)], "the Dask DataFrame")
    chosen = data[[label[name]] if name in label else []]
    for number in range(data.npartitions):
        yield frame_column(chosen.partitions[number].compute(), name, f"Dask block {number}")
