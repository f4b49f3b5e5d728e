"""Results written in parts by many processes at once: complete under their name, or absent."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from streamem.core.errors import OutputError, StreamemError
from streamem.machine.importing import import_whole
from streamem.sinks.layout import Blocks, Format, ResultLayout
from streamem.sinks.staging import Staging


@dataclass(frozen=True)
class ResultPart:
    """A run of rows of a result: picklable, written by one process. Writing it again changes nothing.

    Attributes
    ----------
    format : name of the module that knows the format
    path, target : where it grows, and the name it will have
    number : position among the parts
    first, rows : its run of rows
    """

    format: str
    path: Path
    target: Path
    layout: ResultLayout
    number: int
    first: int
    rows: int

    def write(self, pieces: Iterable[NDArray[Any]]) -> int:
        """Write the rows, which come in pieces; how many there were.

        Raises
        ------
        OutputError : the disk is full, or this process does not see the folder that the result grows in
        """
        module = cast(Format, import_whole(self.format))
        try:
            writer = module.open_part(self.path, self.layout, self.number, self.first, self.rows)
            written = 0
            try:
                blocks = Blocks(writer, self.layout, self.rows)
                for values in pieces:
                    blocks.add(self.layout.conform(values, self.target))
                    written += len(values)
                blocks.flush()
            except BaseException:
                with suppress(Exception):
                    writer.close()
                raise
            writer.close()
        except StreamemError:
            raise  # of the rows, not of their writing
        except FileNotFoundError as error:
            raise OutputError(
                f"cannot write {self.target}: a worker does not see {error.filename or self.path}; write to storage "
                "that all workers share with this process, or pass executor='threads'"
            ) from error
        except OSError as error:
            raise OutputError(f"cannot write {self.target}: {error}") from error
        return written


def part_bounds(rows: int, granule: int, wanted_rows: int, starts: Sequence[int]) -> list[int]:
    """Where parts of about `wanted_rows` rows begin and the last one ends: at multiples of a granule above 1, else at
    some of `starts`."""
    bounds = [0]
    while bounds[-1] < rows:
        goal = bounds[-1] + wanted_rows
        if granule > 1:
            bound = -(-goal // granule) * granule
        else:
            later = bisect_right(starts, max(goal - 1, bounds[-1]))
            bound = starts[later] if later < len(starts) else rows
        bounds.append(min(bound, rows))
    return bounds


class PartedSink:
    """A result in parts. Nothing that looks finished exists before `commit`."""

    def __init__(self, target: Path, layout: ResultLayout, format: str, overwrite: bool) -> None:
        self._staging, self.layout, self._format = Staging(target.absolute(), overwrite), layout, format
        self._module = cast(Format, import_whole(format))
        self._written: dict[int, int] = {}
        try:
            with self._staging.reporting():
                self._module.create(self._staging.path, layout)
                self._staging.begun()
        except BaseException:
            self.abort()
            raise

    @property
    def held_nbytes(self) -> int:
        """Peak bytes that writing a part takes."""
        return self._module.held_nbytes(self.layout)

    def parts(self, wanted_rows: int, starts: Sequence[int]) -> list[ResultPart]:
        """Parts of about `wanted_rows` rows, beginning at some of `starts` (ascending) where the format permits."""
        layout = self.layout.without_coordinates()
        bounds = part_bounds(layout.rows, self._module.granule(layout), wanted_rows, starts)
        return [
            ResultPart(self._format, self._staging.path, self._staging.target, layout, number, first, stop - first)
            for number, (first, stop) in enumerate(pairwise(bounds))
        ]

    def done(self, first: int, rows: int) -> None:
        """Note that the part which begins at row `first` is there."""
        self._written[first] = rows

    def commit(self) -> None:
        """Sync everything and make it visible under its name.

        Raises
        ------
        OutputError : rows are missing, the disk is full, or the target appeared meanwhile; call `abort` then
        """
        self._staging.require_open()
        self._staging.require_all(sum(self._written.values()), self.layout.rows)
        with self._staging.reporting():
            self._staging.install()

    def abort(self) -> None:
        """Remove every trace; nothing happens after a commit."""
        self._staging.remove()
