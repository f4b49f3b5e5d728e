"""What the pages of a Parquet file claim to hold, read from their headers before any is decompressed.

Arrow takes as much memory as a page's header says, whatever the footer says of the column. Headers are Thrift structs
in the compact protocol (parquet.thrift, PageHeader: field 2 is the size uncompressed, 3 compressed).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

from streamem.core.errors import SourceError

HEADER_NBYTES = 2**10
MOST_HEADER_NBYTES = 2**24
SLACK_NBYTES = 2**16
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
TIMES = 32
"""That text may be longer than its compressed bytes, where a writer understates it."""
LEVELS_NBYTES = 8
"""Of a value at most: definition and repetition level."""

STOP, TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12


def require_modest_pages(path: str, footer: Any, number: int, names: Collection[str]) -> None:
    """Refuse a row group of a file on this machine with pages that would be larger than their column.

    Parameters
    ----------
    footer : pyarrow.parquet.FileMetaData
    number : of the row group
    names : columns that will be read

    Raises
    ------
    SourceError : a page claims more bytes than the footer gives to the column, and its values can have
    """
    group = footer.row_group(number)
    with open(path, "rb", buffering=0) as file:
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema.partition(".")[0] not in names or column.compression == "UNCOMPRESSED":
                continue
            most = _most(column)
            for at, nbytes in _pages(file, column):
                if nbytes > most:
                    raise SourceError(
                        f"Parquet file {path} is corrupt: a page of column {column.path_in_schema!r} in row group "
                        f"{number}, at byte {at}, claims {nbytes} bytes, decompressed; the column has at most {most}"
                    )


def _most(column: Any) -> int:
    width = WIDTHS.get(column.physical_type)
    values = TIMES * column.total_compressed_size if width is None else width * column.num_values
    return int(max(column.total_uncompressed_size, values + LEVELS_NBYTES * column.num_values)) + SLACK_NBYTES


def _pages(file: BinaryIO, column: Any) -> Iterator[tuple[int, int]]:
    """Where each page of a column begins, and how long it is decompressed; as far as headers can be read."""
    at = column.data_page_offset
    if column.has_dictionary_page and column.dictionary_page_offset:
        at = min(at, column.dictionary_page_offset)
    end = at + column.total_compressed_size
    while at < end:
        header = _header(file, at)
        if header is None:
            return  # Arrow itself says what is wrong
        length, sizes = header
        yield at, sizes.get(2, 0)
        at += length + max(0, sizes.get(3, 0))


def _header(file: BinaryIO, at: int) -> tuple[int, dict[int, int]] | None:
    """Length of a page's header and its sizes."""
    nbytes = HEADER_NBYTES
    while nbytes <= MOST_HEADER_NBYTES:
        file.seek(at)
        data = file.read(nbytes)
        try:
            return _parsed(data)
        except IndexError:  # statistics may be long
            if len(data) < nbytes:
                return None
            nbytes *= 16
        except (ValueError, RecursionError):
            return None
    return None


def _parsed(data: bytes) -> tuple[int, dict[int, int]]:
    sizes: dict[int, int] = {}
    at = number = 0
    while (kind := data[at] & 15) != STOP:
        step, at = data[at] >> 4, at + 1
        if step:
            number += step
        else:
            raw, at = _varint(data, at)
            number = _signed(raw)
        if kind in (4, 5, 6):
            raw, at = _varint(data, at)
            sizes[number] = _signed(raw)
        else:
            at = _skipped(data, at, kind)
    return at + 1, sizes


def _skipped(data: bytes, at: int, kind: int) -> int:
    """Behind a value."""
    if kind in (TRUE, FALSE):
        return at
    if kind in (4, 5, 6):
        return _varint(data, at)[1]
    if kind == BINARY:
        length, at = _varint(data, at)
        if length:
            data[at + length - 1]  # which must be there
        return at + length
    if kind == STRUCT:
        return at + _parsed(data[at:])[0]
    if kind in (BYTE, DOUBLE):
        return at + (1 if kind == BYTE else 8)
    raise ValueError(f"no page header has a value of type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("an integer of more than 64 bits")


def _signed(raw: int) -> int:
    return (raw >> 1) ^ -(raw & 1)
