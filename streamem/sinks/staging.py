"""Results appear under their name complete, or not at all: written aside, synced, renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from streamem.core.archive import sync_folder
from streamem.core.errors import OutputError, ParameterError


@dataclass(frozen=True)
class Layout:
    """What will be written: `rows` rows of `width` numbers (None: a single one), a name for each column.

    `chunk_rows` and `block_bytes` are the sizes wanted of what is stored together: the one for formats whose readers
    take chunks, the other for formats whose readers take large groups.
    """

    rows: int
    width: int | None
    dtype: np.dtype[Any]
    names: tuple[str, ...]
    chunk_rows: int
    block_bytes: int

    def __post_init__(self) -> None:
        if self.rows < 0 or min(self.chunk_rows, self.block_bytes) < 1 or (self.width is not None and self.width < 1):
            raise ParameterError(
                f"rows={self.rows}, width={self.width}, chunk_rows={self.chunk_rows}, block_bytes={self.block_bytes}: "
                "rows must be >= 0, width None or >= 1, chunk_rows and block_bytes >= 1"
            )
        if self.dtype.kind not in "biuf" or self.dtype.itemsize > 8:
            raise ParameterError(f"results of dtype {self.dtype} cannot be written; use bool, integers or floats")
        columns = self.width or 1
        if len(self.names) != columns or len(set(self.names)) != columns:
            raise ParameterError(f"{columns} columns need as many different names, not {list(self.names)}")

    def shape(self, rows: int) -> tuple[int, ...]:
        """Shape of an array of `rows` rows."""
        return (rows,) if self.width is None else (rows, self.width)

    @property
    def row_nbytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * (self.width or 1)


class Writer(Protocol):
    """One file format. It may write where it was told to, and nowhere else."""

    @property
    def block_rows(self) -> int:
        """Rows in every `append` but the last."""

    @property
    def append_nbytes(self) -> int:
        """Peak bytes that an `append` takes."""

    def append(self, values: NDArray[Any]) -> None:
        """Write the next block, in the dtype of the layout; the array is reused afterwards."""

    def close(self) -> None:
        """Finish and close the file. May be called again after a failure."""


class StagedSink:
    """A `Sink` over any `Writer`: cuts rows into blocks, writes them aside, renames on commit.

    The content does not depend on how the rows were cut into calls of `write`. Memory: one block.
    """

    def __init__(self, target: Path, layout: Layout, start: Callable[[Path, Layout], Writer], overwrite: bool) -> None:
        self._target, self._layout, self._overwrite = target, layout, overwrite
        self._partial = target.with_name(f".{target.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")
        self._written = self._filled = 0
        self._writer: Writer | None = None
        self._state = "open"
        try:
            with self._reporting():
                self._writer = start(self._partial, layout)
                self._block = np.empty(layout.shape(min(self._writer.block_rows, layout.rows)), layout.dtype)
        except BaseException:
            self.abort()
            raise

    @property
    def held_nbytes(self) -> int:
        """The block that is being filled, and what writing it takes."""
        return self._block.nbytes + (0 if self._writer is None else self._writer.append_nbytes)

    def write(self, values: NDArray[Any]) -> None:
        """Append the next rows, (b,) or (b, width).

        Raises
        ------
        ParameterError : another shape, or a dtype that does not cast to that of the sink
        OutputError : more rows than announced, a full disk, or a sink that has failed or ended
        """
        self._require_open()
        values = self._conform(values)
        if self._written + len(values) > self._layout.rows:
            raise OutputError(
                f"{self._target}: {self._written + len(values)} rows were written, "
                f"but {self._layout.rows} were announced"
            )
        with self._reporting():
            self._buffer(values)
        self._written += len(values)

    def commit(self) -> None:
        """Sync everything and make it visible under its name.

        Raises
        ------
        OutputError : rows are missing, the disk is full, or the target appeared meanwhile; call `abort` then
        """
        self._require_open()
        if self._written != self._layout.rows:
            raise OutputError(
                f"{self._target}: {self._written} of {self._layout.rows} rows were written; "
                "nothing is made visible before all are there"
            )
        with self._reporting():
            self._flush()
            if self._writer is not None:
                self._writer.close()
            _sync(self._partial)
            require_free(self._target, self._overwrite)
            _install(self._partial, self._target)
        self._state = "committed"

    def abort(self) -> None:
        """Remove every trace; nothing happens after a commit."""
        if self._state == "committed":
            return
        self._state = "aborted"
        if self._writer is not None:
            with suppress(Exception):  # a full disk also fails to close
                self._writer.close()
        _remove(self._partial)

    def _conform(self, values: NDArray[Any]) -> NDArray[Any]:
        values = np.asarray(values)
        layout = self._layout
        if values.ndim == 0 or values.shape != layout.shape(len(values)):
            raise ParameterError(f"{self._target} takes rows of shape {layout.shape(0)[1:]}, not {values.shape[1:]}")
        casting: Literal["same_kind", "safe"] = "same_kind" if layout.dtype.kind == "f" else "safe"
        if not np.can_cast(values.dtype, layout.dtype, casting):
            raise ParameterError(f"{self._target} takes {layout.dtype}, and {values.dtype} does not cast to it")
        return values

    def _buffer(self, values: NDArray[Any]) -> None:
        while len(values):
            part = values[: len(self._block) - self._filled]
            self._block[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            if self._filled == len(self._block):
                self._flush()
            values = values[len(part) :]

    def _flush(self) -> None:
        if self._filled and self._writer is not None:
            self._writer.append(self._block[: self._filled])
        self._filled = 0

    def _require_open(self) -> None:
        if self._state != "open":
            raise OutputError(f"{self._target}: this sink has {self._state}; open another one")

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._state = "failed"
            if isinstance(error, OSError) and not isinstance(error, OutputError):
                raise OutputError(
                    f"cannot write {self._target}: {error}; nothing incomplete is left under this name"
                ) from error
            raise


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
    if target.is_dir() and not any((target / marker).exists() for marker in ("zarr.json", ".zarray", ".zgroup")):
        raise OutputError(
            f"{target} is a folder but no Zarr store, so no result may replace it; choose another name, or remove it"
        )


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
    aside = partial.with_name(partial.name.replace(".partial-", ".replaced-"))
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
