"""Rows of polars LazyFrames, which are run by the streaming engine in every pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from streamem.core.errors import MissingDependencyError
from streamem.core.ports import Source
from streamem.sources.formats import flow
from streamem.sources.formats.flow import Flow
from streamem.sources.formats.libraries import faults, library
from streamem.sources.options import ReadOptions

WIDE = ("Int128", "UInt128")
"""Types that Arrow has not; they become float64."""


@dataclass(frozen=True, eq=False)
class LazyRows(Flow):
    """A LazyFrame; what is selected and filtered is pushed down to the files that it scans, by polars.

    Attributes
    ----------
    key : the identity of what it was made of, where that is another object
    """

    frame: Any
    origin: str = "the polars LazyFrame"
    key: int = 0

    @cached_property
    def _plain(self) -> Any:
        polars = library("polars", "polars", "a LazyFrame")
        wide = [name for name, kind in self.frame.collect_schema().items() if str(kind) in WIDE]
        return self.frame.cast(dict.fromkeys(wide, polars.Float64)) if wide else self.frame

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns, as polars gives them to Arrow."""
        polars = library("polars", "polars", "a LazyFrame")
        with faults("find the columns of the polars LazyFrame"):
            return polars.DataFrame(schema=self._plain.collect_schema()).to_arrow().schema

    @property
    def identity(self) -> Any:
        """The object that is queried."""
        return self.key or id(self.frame)

    @property
    def order_remedy(self) -> str:
        """What gives the rows one order."""
        return (
            "pass maintain_order=True to group_by() and unique(), maintain_order='left' to join(), a seed to sample(), "
            "or sort() by a column that no two rows share; sums and means of groups differ in their last digits from "
            "run to run, so sink_parquet() these"
        )

    def batches(self, names: list[str], rows: int) -> Iterator[pa.Table]:
        """Run it in the streaming engine, which holds some batches at a time."""
        chosen = self._plain.select(names)
        if not hasattr(chosen, "collect_batches"):
            raise MissingDependencyError("a LazyFrame needs polars 1.35 or newer: pip install -U polars")
        running = chosen.collect_batches(chunk_size=rows, maintain_order=True, engine="streaming")
        try:
            for frame in running:
                yield frame.to_arrow()
        finally:
            if hasattr(running, "stop"):  # else polars runs the query to its end
                running.stop()


def open(data: Any, options: ReadOptions) -> Source:
    """A LazyFrame: run once while planning and once in every pass, in bounded memory where its steps are streamed.

    Raises
    ------
    SchemaError : columns that are missing or not numeric
    SourceChangedError : rows that come in another order, or with other values, than while planning
    """
    return flow.open_flow(LazyRows(data), options)


def column_pieces(data: Any, name: str, options: ReadOptions) -> Iterable[pa.Array]:
    """The values of any one column, in the order of the rows."""
    return flow.column_of(LazyRows(data), name)
