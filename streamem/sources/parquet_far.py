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
from streamem.sources.columns import TableLayout
from streamem.sources.held_file import Parts, PartsFile
from streamem.sources.object_marks import side_by_side
from streamem.sources.parquet_files import FOOTERS, RowGroup, faults, fsspec_of, leaves_of

GAP_NBYTES = 2**16
"""Between columns that one request reads: a request costs as much time as megabytes."""
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
    footers = dict(zip(files, side_by_side(partial(_footer, filesystem), list(files)), strict=True))
    spans = {path: _spans(footers[path], path, own, layout) for path, own in files.items()}
    asked = [(path, first, stop) for path, own in spans.items() for first, stop in own]
    inner = fsspec_of(filesystem)
    with faults(groups[0].path):
        found = iter(inner.cat_ranges(*map(list, zip(*asked, strict=True)), on_error="raise"))
    return {
        path: Held(footers[path], Parts(tuple(a for a, _ in own), tuple(bytes(next(found)) for _ in own)))
        for path, own in spans.items()
    }


def _footer(filesystem: pafs.FileSystem, path: str) -> Any:
    with faults(path):
        return FOOTERS.of(filesystem, path)


def _spans(footer: Any, path: str, groups: Sequence[RowGroup], layout: TableLayout) -> list[tuple[int, int]]:
    """Where the columns of row groups lie in a file, neighbours joined."""
    if groups[-1].number >= footer.num_row_groups:
        raise SourceChangedError(
            f"Parquet file {path} has fewer row groups than it had; it was rewritten: open it again"
        )
    found, past = [], min(PAST_NBYTES, int(footer.serialized_size))  # which follows the last column
    for group in groups:
        described = footer.row_group(group.number)
        for leaf in leaves_of(footer.schema, group.stored_layout(layout)):
            column = described.column(leaf)
            first = column.data_page_offset
            if column.has_dictionary_page and column.dictionary_page_offset is not None:
                first = min(first, column.dictionary_page_offset)
            found.append((first, first + column.total_compressed_size + past))
    return _joined(sorted(found))


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    joined = [spans[0]]
    for first, stop in spans[1:]:
        if first <= joined[-1][1] + GAP_NBYTES:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((first, stop))
    return joined
