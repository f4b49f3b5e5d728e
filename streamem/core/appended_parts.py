"""Arrow streams in a store, as parts beside each other: objects below one address, each an Arrow stream of its own.

A part is named by the number of bytes of record batches in the parts before it. So a list of names tells in which order
they are read, and what a part holds tells whether the next one is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa

from streamem.core.addresses import Address
from streamem.core.errors import SourceError
from streamem.core.stored_objects import get, names_below

NAME = re.compile(r"part-(\d{20})\.arrows")


def part_of(address: Address, start: int) -> Address:
    """The part that begins behind so many bytes of record batches."""
    return address.below(f"part-{start:020d}.arrows")


def starts_of(address: Address) -> list[int]:
    """Behind how many bytes each part begins, in order.

    Raises
    ------
    SourceError : the store refuses
    """
    return sorted(int(found[1]) for name in names_below(address) if (found := NAME.fullmatch(name)))


def batches_of(content: bytes, name: Address) -> tuple[pa.Schema, Iterator[tuple[pa.RecordBatch, int]]]:
    """The columns of a part, and its record batches, each with the bytes of record batches up to its end.

    Raises
    ------
    SourceError : it is no Arrow stream, or damaged
    """
    buffer = pa.BufferReader(content)
    try:
        reader = pa.ipc.open_stream(buffer)
    except pa.ArrowException as error:
        raise SourceError(f"{name} is no Arrow stream: {error}") from error
    header = buffer.tell()

    def batches() -> Iterator[tuple[pa.RecordBatch, int]]:
        while True:
            try:
                batch = reader.read_next_batch()
                batch.validate(full=True)
            except StopIteration:
                return
            except (pa.ArrowException, OSError) as error:
                raise SourceError(f"{name} is damaged: {error}") from error
            yield batch, buffer.tell() - header

    return reader.schema, batches()


def read_parts(address: Address) -> pa.Table:
    """All rows of all parts.

    Raises
    ------
    FileNotFoundError : there is no part
    SourceError : a part is missing, damaged or of other columns, or the store refuses
    """
    end, schema, found = 0, None, []
    for start in starts_of(address):
        name = part_of(address, start)
        content = get(name)
        if start != end or content is None:
            missing = name if content is None else part_of(address, end)
            raise SourceError(
                f"{missing} is missing: the parts that are there do not follow each other; restore it, or read them "
                "one by one (pyarrow.ipc.open_stream)"
            )
        columns, batches = batches_of(content, name)
        if schema is not None and columns != schema:
            raise SourceError(f"{name} has the columns {columns.names}, the parts before it {schema.names}")
        schema = columns
        for batch, nbytes in batches:
            found.append(batch)
            end = start + nbytes
    if schema is None:
        raise FileNotFoundError(f"{address}: there are no parts of an Arrow stream")
    return pa.Table.from_batches(found, schema)
