"""Results appear under their name complete, or not at all: written aside, synced, renamed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from streamem.core.archive import sync_folder
from streamem.core.errors import OutputError
from streamem.core.leftovers import Claim, partial_folder, replaced
from streamem.sinks.layout import Blocks, Format, ResultLayout, Writer

PART_NAME = re.compile(r"part-\d{5,}\.parquet")
TORN = re.compile(r"\.part-\d{5,}\.parquet\.[0-9a-f]{8}|.+\.[0-9a-f]{32}\.partial")
"""What a worker that was killed leaves within a result: half of a Parquet file, or of a Zarr chunk."""


class Staging:
    """The hidden place beside `target` where a result grows, and the end of it: installed, or removed."""

    def __init__(self, target: Path, overwrite: bool) -> None:
        self.target, self._overwrite = target, overwrite
        self.path = partial_folder(target)
        self._state = "open"
        self._claim: Claim | None = None

    def begun(self) -> None:
        """Claim the place, which is there now: nobody takes it for one that a killed process has left."""
        self._claim = Claim(self.path)

    def install(self) -> None:
        """Sync everything and make it visible under its name."""
        _remove_torn(self.path)
        _sync(self.path)
        require_free(self.target, self._overwrite)
        _install(self.path, self.target)
        self._state = "committed"
        self._release()

    def remove(self) -> None:
        """Remove every trace; nothing happens after `install`."""
        if self._state != "committed":
            self._state = "aborted"
            self._release()
            _remove(self.path)

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()

    def require_open(self) -> None:
        """Raise `OutputError` after the end, or after a failure."""
        if self._state != "open":
            raise OutputError(f"{self.target}: this sink has {self._state}; open another one")

    def require_all(self, written: int, announced: int) -> None:
        """Raise `OutputError` if rows are missing."""
        if written != announced:
            raise OutputError(
                f"{self.target}: {written} of {announced} rows were written; "
                "nothing is made visible before all are there"
            )

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """A context in which failures end the sink; those of the disk become an `OutputError` that names the target."""
        try:
            yield
        except BaseException as error:
            self._state = "failed"
            if isinstance(error, OSError) and not isinstance(error, OutputError):
                raise OutputError(
                    f"cannot write {self.target}: {error}; nothing incomplete is left under this name"
                ) from error
            raise


class StagedSink:
    """A `Sink` over any `Writer`: cuts rows into blocks, writes them aside, renames on commit.

    The content does not depend on how the rows were cut into calls of `write`. Memory: one block.
    """

    def __init__(self, target: Path, layout: ResultLayout, format: Format, overwrite: bool) -> None:
        self._staging, self._layout = Staging(target, overwrite), layout
        self._written, self._held_nbytes = 0, format.held_nbytes(layout)
        self._writer: Writer | None = None
        try:
            with self._staging.reporting():
                self._writer = format.open(self._staging.path, layout)
                self._staging.begun()
                self._blocks = Blocks(self._writer, layout, layout.rows)
        except BaseException:
            self.abort()
            raise

    @property
    def held_nbytes(self) -> int:
        """Peak bytes: the block that is being filled, and what writing a block takes."""
        return self._held_nbytes

    def write(self, values: NDArray[Any]) -> None:
        """Append the next rows, (b,) or (b, width).

        Raises
        ------
        ParameterError : another shape, or a dtype that does not cast to that of the sink
        OutputError : more rows than announced, a full disk, or a sink that has failed or ended
        """
        self._staging.require_open()
        target = self._staging.target
        values = self._layout.conform(values, target)
        if self._written + len(values) > self._layout.rows:
            raise OutputError(
                f"{target}: {self._written + len(values)} rows were written, but {self._layout.rows} were announced"
            )
        with self._staging.reporting():
            self._blocks.add(values)
        self._written += len(values)

    def commit(self) -> None:
        """Sync everything and make it visible under its name.

        Raises
        ------
        OutputError : rows are missing, the disk is full, or the target appeared meanwhile; call `abort` then
        """
        self._staging.require_open()
        self._staging.require_all(self._written, self._layout.rows)
        with self._staging.reporting():
            self._blocks.flush()
            if self._writer is not None:
                self._writer.close()
            self._staging.install()

    def abort(self) -> None:
        """Remove every trace; nothing happens after a commit."""
        if self._writer is not None:
            with suppress(Exception):  # a full disk also fails to close
                self._writer.close()
        self._staging.remove()


def require_free(target: Path, overwrite: bool) -> None:
    """Refuse an existing target; with `overwrite`, only one that is no result of this kind.

    Raises
    ------
    OutputError : something is there
    """
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise OutputError(f"{target} exists already; choose another name, or pass overwrite=True")
    if target.is_symlink():
        return  # the link is replaced, not what it points to
    if target.is_dir() and not _is_result(target):
        raise OutputError(
            f"{target} is a folder but no Zarr store, so no result may replace it; choose another name, or remove it"
        )


def _is_result(folder: Path) -> bool:
    """Whether a folder is a Zarr store, or the Parquet files of a result written in parts and nothing else."""
    if any((folder / marker).exists() for marker in ("zarr.json", ".zarray", ".zgroup")):
        return True
    names = [child.name for child in folder.iterdir()]
    return bool(names) and all(PART_NAME.fullmatch(name) for name in names)


def _remove_torn(path: Path) -> None:
    for folder, _, names in os.walk(path):
        for name in filter(TORN.fullmatch, names):
            os.unlink(os.path.join(folder, name))


def _sync(path: Path) -> None:
    """Bring a file, or a folder with everything below it, to the disk."""
    if path.is_dir():
        for child in path.iterdir():
            _sync(child)
        sync_folder(path)
        return
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _install(partial: Path, target: Path) -> None:
    """Rename to the final name. A folder cannot replace another at once: the old one steps aside first."""
    if not os.path.lexists(target) or not (partial.is_dir() or target.is_dir()):
        os.replace(partial, target)
        sync_folder(target.parent)
        return
    aside = replaced(partial)
    os.rename(target, aside)
    try:
        os.rename(partial, target)
    except BaseException:
        os.rename(aside, target)
        raise
    sync_folder(target.parent)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
