"""Text with separated columns in blocks that end with a record: header, separator, and the types of columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv as pa_csv

from streamem.core.errors import SourceError

LEAST_NBYTES, BLOCK_NBYTES, MANY = 2**14, 2**20, 2**10
"""Bytes of a block: a file is cut into about so many, but blocks are no smaller and no larger than these."""
MOST_NBYTES = 2**26
"""Of a record: one that is longer is a quotation mark that was never closed, or no text with columns."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class CsvHead:
    """What the first line says.

    Attributes
    ----------
    names : of the columns
    separator : between them
    nbytes : length of the line, and of what stands before it
    """

    names: tuple[str, ...]
    separator: str
    nbytes: int


class Block(NamedTuple):
    """Whole records of a text: where they begin, and their bytes."""

    start: int
    text: bytes


def read_head(stream: Any, path: str) -> CsvHead:
    """The names of the columns, from the first line of a text that begins where the stream stands.

    Raises
    ------
    SourceError : there is none, or it holds numbers alone, so that it may be the first row
    """
    found = next(_blocks(stream, 0, path), Block(0, b""))
    mark = len(BYTE_ORDER_MARK) if found.text.startswith(BYTE_ORDER_MARK) else 0
    end = _record_end(found.text, mark)
    try:
        line = found.text[mark:end].decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"the first line of {path} is no UTF-8 ({error}): write the file in UTF-8") from error
    separator = "\t" if path.split(".csv")[0].endswith((".tsv", ".tab")) else _likely_separator(line)
    names = next(csv.reader(io.StringIO(line), delimiter=separator), [])
    if not names:
        raise SourceError(f"{path} is empty; a first line with the names of the columns is needed")
    if all(_is_number(name) for name in names):
        raise SourceError(
            f"the first line of {path} holds only numbers ({line.strip()[:60]!r}), so it may be a row: write a line "
            "with the names of the columns before it, or pass pyarrow.dataset.dataset(path, format=pyarrow.dataset."
            "CsvFileFormat(read_options=pyarrow.csv.ReadOptions(autogenerate_column_names=True)))"
        )
    return CsvHead(tuple(name.strip() for name in names), separator, end)


def block_nbytes(size: int) -> int:
    """Bytes of a block of a file of this size.

    >>> block_nbytes(10), block_nbytes(2**25), block_nbytes(2**40)
    (16384, 32768, 1048576)
    """
    return max(LEAST_NBYTES, min(size // MANY, BLOCK_NBYTES))


def blocks_after(head: CsvHead, stream: Any, path: str, nbytes: int = BLOCK_NBYTES) -> Iterator[Block]:
    """The records of a text that begins where the stream stands, in blocks of about so many bytes.

    Raises
    ------
    SourceError : a record has no end
    """
    passed = 0
    while passed < head.nbytes and (skipped := stream.read(head.nbytes - passed)):
        passed += len(skipped)
    return _blocks(stream, head.nbytes, path, nbytes)


def _blocks(stream: Any, start: int, path: str, nbytes: int = LEAST_NBYTES) -> Iterator[Block]:
    rest = b""
    while more := stream.read(nbytes):
        text = rest + more
        end = _last_end(text)
        if end:
            yield Block(start, text[:end])
            start += end
        rest = text[end:]
        if len(rest) > MOST_NBYTES:
            raise SourceError(
                f"{path}: the record that begins at byte {start} has no end within {MOST_NBYTES} bytes: a quotation "
                "mark that is never closed, or no text with columns"
            )
    if rest.count(b'"') % 2:
        raise SourceError(
            f"{path}: in the record that begins at byte {start} a quotation mark is never closed, so that the rest "
            "would be one value; write quotation marks within a value twice, and the value within quotation marks"
        )
    if rest:
        yield Block(start, rest)


def _last_end(text: bytes) -> int:
    """Where the last whole record of a text that begins with one ends: after a line's end outside of quotes."""
    end = text.rfind(b"\n") + 1
    while end and text.count(b'"', 0, end) % 2:
        end = text.rfind(b"\n", 0, end - 1) + 1
    return end


def _record_end(text: bytes, start: int) -> int:
    """Where the first record ends."""
    end = text.find(b"\n", start) + 1
    while end and text.count(b'"', start, end) % 2:
        end = text.find(b"\n", end) + 1
    return end or len(text)


def _likely_separator(line: str) -> str:
    bare = "".join(line.split('"')[::2])
    return max(SEPARATORS, key=lambda sign: (bare.count(sign), -SEPARATORS.index(sign)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def parsed(text: bytes, head: CsvHead, names: list[str] | None, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The records of a block.

    Parameters
    ----------
    names : columns that are wanted; None for all
    types : of columns where they are known; of others they are found from the values
    """
    if not text.strip():
        return pa.table({name: pa.array([], types.get(name, pa.null())) for name in names or head.names})
    return pa_csv.read_csv(
        pa.BufferReader(text),
        read_options=pa_csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=list(head.names)),
        parse_options=pa_csv.ParseOptions(delimiter=head.separator, newlines_in_values=b'"' in text),
        convert_options=pa_csv.ConvertOptions(include_columns=names, column_types=types),
    )


def wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type that holds the values of two blocks of a column: numbers, or else text."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    numbers = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (one, other))
    return pa.float64() if numbers else pa.string()
