"""Row groups of Parquet files behind a network: their columns are asked for at once, and apart from decoding."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from streamem.core.errors import SourceChangedError
from streamem.core.retrying import patiently
from streamem.sources.columns import TableLayout
from streamem.sources.far_stream import AheadFile
from streamem.sources.held_file import Parts, PartsFile
from streamem.sources.object_marks import side_by_side
from streamem.sources.parquet_catalogue import RowGroup, leaves_of
from streamem.sources.parquet_footers import FOOTERS, faults, fetch_parts, fsspec_of, store_of
from streamem.sources.ranges import in_requests, joined

STREAM_NBYTES = 2**17
"""Of a column that a decoder takes at a time out of what was read ahead."""
PAST_NBYTES = 128
"""That readers may ask for beyond a column chunk, whose length old writers stated too short (PARQUET-816: 100)."""


@dataclass(frozen=True, eq=False)
class Held:
    """Parts of a file in memory.

    Attributes
    ----------
    footer : of the file
    parts : of its columns
    """

    footer: Any
    parts: Parts

    @contextlib.contextmanager
    def opened(self) -> Iterator[pq.ParquetFile]:
        """The file, of which only what is held can be read."""
        source = pa.PythonFile(PartsFile(self.parts), mode="r")
        with pq.ParquetFile(source, metadata=self.footer, page_checksum_verification=True, pre_buffer=False) as file:
            yield file


def fetch(filesystem: pafs.FileSystem, groups: Sequence[RowGroup], layout: TableLayout) -> dict[str, Held]:
    """The stored bytes of row groups, of the columns that are read, by file: the states of files are asked for at once,
    and then all columns.

    Raises
    ------
    SourceChangedError : a file was rewritten with fewer row groups
    SourceError : it cannot be read
    """
    files = {path: list(own) for path, own in groupby(groups, key=lambda group: group.path)}
    found = side_by_side(partial(_fetch_one, filesystem, files, layout), list(files))
    return dict(zip(files, found, strict=True))


def _fetch_one(filesystem: pafs.FileSystem, files: dict[str, list[RowGroup]], layout: TableLayout, path: str) -> Held:
    """The parts of one file: those of the version that was seen, where its store can be asked for that."""
    groups = files[path]
    etag, place = groups[0].etag, store_of(filesystem, path)
    with faults(path):
        footer = FOOTERS.seen(filesystem, path, etag) if etag and place else FOOTERS.of(filesystem, path)
        spans = _spans(footer, path, groups, layout)
        if place is not None:
            store, key = place
            asked: Sequence[tuple[int, int | None]] = in_requests(spans)
            contents = [each.content for each in fetch_parts(store, key, asked, etag, path)]
            starts = tuple(first for first, _ in asked)
            return Held(footer, Parts(starts, tuple(contents)))
        inner = fsspec_of(filesystem)
        firsts, stops = map(list, zip(*spans, strict=True))
        contents = patiently(lambda: inner.cat_ranges([path] * len(spans), firsts, stops, on_error="raise"))
    return Held(footer, Parts(tuple(firsts), tuple(map(bytes, contents))))


def _spans(footer: Any, path: str, groups: Sequence[RowGroup], layout: TableLayout) -> list[tuple[int, int]]:
    """Where the columns of row groups lie in a file, neighbours joined."""
    if groups[-1].number >= footer.num_row_groups:
        raise SourceChangedError(
            f"Parquet file {path} has fewer row groups than it had; it was rewritten: open it again"
        )
    return joined(sorted(_column_spans(footer, groups, layout)))


def _column_spans(footer: Any, groups: Sequence[RowGroup], layout: TableLayout) -> list[tuple[int, int]]:
    found, past = [], min(PAST_NBYTES, int(footer.serialized_size))  # which follows the last column
    for group in groups:
        described = footer.row_group(group.number)
        for leaf in leaves_of(footer.schema, group.stored_layout(layout)):
            column = described.column(leaf)
            first = column.data_page_offset
            if column.has_dictionary_page and column.dictionary_page_offset is not None:
                first = min(first, column.dictionary_page_offset)
            found.append((first, first + column.total_compressed_size + past))
    return found


def is_asked_by_version(filesystem: pafs.FileSystem, group: RowGroup) -> bool:
    """Whether each request of a file says which version it wants: then nobody has to ask whether it is the same."""
    return bool(group.etag) and store_of(filesystem, group.path) is not None


@contextlib.contextmanager
def opened_ahead(filesystem: pafs.FileSystem, group: RowGroup, layout: TableLayout) -> Iterator[pq.ParquetFile]:
    """The file of a large row group, of which the columns are read ahead, block by block.

    Raises
    ------
    SourceError : the store refuses, or the file is another by now
    """
    place = store_of(filesystem, group.path)
    assert place is not None
    with faults(group.path):
        footer = FOOTERS.seen(filesystem, group.path, group.etag)
        ordered = sorted(_column_spans(footer, [group], layout))
        ends = [first for first, _ in ordered[1:]] + [ordered[-1][1]]
        spans = [(first, min(stop, end)) for (first, stop), end in zip(ordered, ends, strict=True)]
        store, key = place
        with contextlib.closing(AheadFile(store, key, group.etag, group.path.removesuffix(key), spans)) as ahead:
            source = pa.PythonFile(ahead, mode="r")
            with pq.ParquetFile(
                source, metadata=footer, page_checksum_verification=True, buffer_size=STREAM_NBYTES, pre_buffer=False
            ) as file:
                yield file
