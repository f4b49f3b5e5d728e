"""A Zarr array at an address of a store, whose chunks many processes write at once: complete, or absent.

``zarr.json``, without which there is no array, is written last, by who opened it, and only if there is none.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from streamem.core.addresses import Address
from streamem.core.errors import OutputError, StreamemError
from streamem.core.object_claims import ObjectClaim
from streamem.core.stored_objects import PART_NBYTES, PARTS_AT_ONCE, put, require_writable
from streamem.machine.importing import import_whole
from streamem.sinks.layout import Blocks, ResultLayout
from streamem.sinks.parts import part_bounds
from streamem.sinks.uploading import MARKER, UPLOADS, clear, require_free_address

FORMAT = "streamem.sinks.zarr"


@dataclass(frozen=True)
class UploadedPart:
    """A run of rows of a result: picklable, written by one process. Writing it again changes nothing.

    Attributes
    ----------
    target : address of the array
    number : position among the parts
    first, rows : its run of rows
    """

    target: Address
    layout: ResultLayout
    number: int
    first: int
    rows: int

    def write(self, pieces: Iterable[NDArray[Any]]) -> int:
        """Write the rows, which come in pieces, on this machine, and upload their chunks; how many rows there were.

        Raises
        ------
        OutputError : the store refuses, or this machine has no room for the part
        """
        folder = Path(tempfile.mkdtemp(prefix="streamem-"))
        try:
            written = self._write_here(folder / "part.zarr", pieces)
            self._upload(folder / "part.zarr")
        except StreamemError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write {self.target}: {error}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return written

    def _write_here(self, path: Path, pieces: Iterable[NDArray[Any]]) -> int:
        module, written = import_whole(FORMAT), 0
        module.create(path, with_bare_group(self.layout))
        blocks = Blocks(module.open_part(path, self.layout, self.number, self.first, self.rows), self.layout, self.rows)
        for values in pieces:
            blocks.add(self.layout.conform(values, self.target))
            written += len(values)
        blocks.flush()
        return written

    def _upload(self, path: Path) -> None:
        chunks = path / "c" if self.layout.grid is None else path / self.layout.grid.name / "c"
        files = [each for each in (chunks, *chunks.rglob("*")) if each.is_file()]
        with ThreadPoolExecutor(UPLOADS, "streamem-upload") as pool:
            list(pool.map(lambda file: put(self.target.below(file.relative_to(path).as_posix()), file), files))


def with_bare_group(layout: ResultLayout) -> ResultLayout:
    """The layout for one who writes some chunks on this machine: beside them lie no coordinates."""
    if layout.grid is None:
        return layout
    return replace(layout, grid=replace(layout.grid, rows=replace(layout.grid.rows, write=_write_group)))


def _write_group(path: str) -> None:
    import_whole("zarr").create_group(path, zarr_format=3)


class PartedUpload:
    """A result in parts at an address. Nothing that looks finished exists before `commit`.

    Parameters
    ----------
    target : address of the array, where nothing may lie
    layout : of the whole

    Raises
    ------
    OutputError : something is there, somebody else writes there, or the store lets nothing be written
    """

    def __init__(self, target: Address, layout: ResultLayout) -> None:
        self._target, self.layout, self._module = target, layout, import_whole(FORMAT)
        self._written: dict[int, int] = {}
        require_free_address(target)
        require_writable(target)
        self._claim: ObjectClaim | None = ObjectClaim(target)
        self._committed = False
        try:
            clear(target)  # of what a killed process left
        except BaseException:
            self.abort()
            raise

    @property
    def held_nbytes(self) -> int:
        """Peak bytes that writing a part takes."""
        return int(self._module.held_nbytes(self.layout)) + PART_NBYTES * PARTS_AT_ONCE

    def parts(self, wanted_rows: int, starts: Sequence[int]) -> list[UploadedPart]:
        """Parts of about `wanted_rows` rows, which begin where chunks do."""
        bounds = part_bounds(self.layout.rows, self._module.granule(self.layout), wanted_rows, starts)
        return [
            UploadedPart(self._target, self.layout.without_coordinates(), number, first, stop - first)
            for number, (first, stop) in enumerate(pairwise(bounds))
        ]

    def done(self, first: int, rows: int) -> None:
        """Note that the part which begins at row `first` is there."""
        self._written[first] = rows
        if self._claim is not None:
            self._claim.renew()

    def commit(self) -> None:
        """Make the array visible.

        Raises
        ------
        OutputError : rows are missing, or the store refuses; call `abort` then
        """
        if (written := sum(self._written.values())) != self.layout.rows:
            raise OutputError(f"{self._target}: {written} of {self.layout.rows} rows were written")
        folder = Path(tempfile.mkdtemp(prefix="streamem-"))
        try:
            self._module.create(place := folder / "part.zarr", self.layout)
            files = [each for each in place.rglob("*") if each.is_file() and each != place / MARKER]
            with ThreadPoolExecutor(UPLOADS, "streamem-upload") as pool:
                list(pool.map(lambda file: put(self._target.below(file.relative_to(place).as_posix()), file), files))
            put(self._target.below(MARKER), (place / MARKER).read_bytes(), create=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._committed = True
        self._release()

    def abort(self) -> None:
        """Remove every trace; nothing happens after a commit."""
        if self._committed or self._claim is None:
            return
        with suppress(OutputError):
            clear(self._target)
        self._release()

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()
            self._claim = None
