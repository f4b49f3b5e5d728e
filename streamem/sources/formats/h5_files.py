"""HDF5 files that are opened for every chunk, and rows made of their parts."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.fs as pafs
from numpy.typing import NDArray

from streamem.core.errors import SchemaError
from streamem.core.ports import Schema
from streamem.sources.file_stamp import stamp
from streamem.sources.formats.h5_parts import H5Part, array_part
from streamem.sources.formats.libraries import faults, library
from streamem.sources.formats.slabs import SlabTable
from streamem.sources.inside import split_inside

LISTED = 20
PIECE_ROWS = 2**16


@dataclass(frozen=True, eq=False)
class H5File:
    """A file, opened anew at every use; or one that the user has open in another way than for reading.

    Attributes
    ----------
    path : the file
    held : the open h5py.File, if only that can be read; it stays in its process
    """

    path: str
    held: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return H5File, (self.path,)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """The h5py.File."""
        if self.held is not None:
            yield self.held
            return
        h5py = library("h5py", "hdf5", f"HDF5 file {self.path}")
        hint = "; a file that is open for writing, here or elsewhere, has to be closed first"
        with faults(f"open HDF5 file {self.path}", hint if "lock" in _why(h5py, self.path) else ""):
            file = h5py.File(self.path, "r")
        with file:
            yield file

    def stamp(self) -> str:
        """Size, time and last bytes of the file."""
        return stamp(pafs.LocalFileSystem(), [self.path], "HDF5 file")


def _why(h5py: Any, path: str) -> str:
    try:
        h5py.File(path, "r").close()
    except OSError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class H5Place:
    """A place within a file: "/" or the path of a group or dataset."""

    file: H5File
    name: str

    @property
    def origin(self) -> str:
        """The place in words."""
        within = self.name.strip("/")
        return f"HDF5 file {self.file.path}" + (f"/{within}" if within else "")


def place_of(data: Any) -> H5Place:
    """Where a path, or an h5py.File, Group or Dataset, is.

    Raises
    ------
    SourceError : the file cannot be opened
    """
    if hasattr(data, "file") and hasattr(data, "name") and not hasattr(data, "__fspath__"):
        file = data.file
        plain = file.mode == "r" and file.driver == "sec2"
        return H5Place(H5File(str(file.filename), None if plain else file), str(data.name))
    found = split_inside(data)
    assert found is not None
    return H5Place(H5File(found.file), f"/{found.name}")


def node_at(file: Any, place: H5Place) -> Any:
    """The group or dataset at a place of an open file.

    Raises
    ------
    SchemaError : there is none; the message lists the datasets
    """
    try:
        return file[place.name]
    except KeyError:
        near = difflib.get_close_matches(place.name, [f"/{name}" for name in datasets_in(file)], 1, 0.5)
        hint = f" Did you mean {near[0].strip('/')!r}?" if near else ""
        raise SchemaError(
            f"HDF5 file {place.file.path} has no {place.name.strip('/')!r}; it holds {listed(file)}.{hint}"
        ) from None


def datasets_in(group: Any) -> dict[str, Any]:
    """All datasets below a group, by their paths from there."""
    h5py = library("h5py", "hdf5", "an HDF5 file")
    found: dict[str, Any] = {}
    group.visititems(lambda name, node: found.update({name: node}) if isinstance(node, h5py.Dataset) else None)
    return found


def listed(group: Any) -> str:
    """The datasets below a group, with shapes and types, for messages."""
    found = [f"{name} {dataset.shape} {dataset.dtype}" for name, dataset in datasets_in(group).items()]
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return (", ".join(found[:LISTED]) or "no dataset") + more


@dataclass(frozen=True)
class H5Rows(SlabTable):
    """Rows whose features are parts of a file."""

    file: H5File
    parts: tuple[H5Part, ...]
    weight: H5Part | None
    schema: Schema
    row_shape: tuple[int, ...]

    @property
    def granule(self) -> int:
        """Positions that the most coarsely stored part keeps together."""
        return max(part.granule for part in self.parts)

    @property
    def stored_row_nbytes(self) -> int:
        """Bytes that reading a row of the widest part takes: they are read one after the other."""
        return max(part.row_nbytes for part in self.parts)

    def read(self, first: int, last: int, out: NDArray[Any]) -> NDArray[np.float64] | None:
        """Part after part."""
        with self.file.opened() as file:
            start = 0
            for part in self.parts:
                part.read(file, first, last, out[:, start : start + part.width])
                start += part.width
            if self.weight is None:
                return None
            weight = np.empty((len(out), 1))
            self.weight.read(file, first, last, weight)
            return weight[:, 0]

    @property
    def paths(self) -> tuple[str, ...]:
        """The file."""
        return (self.file.path,)

    def stamp(self) -> str:
        """The state of the file."""
        return f"HDF5 {self.file.stamp()} {_names_of(self.parts)}"


def _names_of(parts: Sequence[H5Part]) -> str:
    """The names of features that have some."""
    return ",".join(name for part in parts for name in part.names or ())[:200]


def rows_of(file: H5File, parts: Sequence[H5Part], weight: H5Part | None, origin: str) -> H5Rows:
    """The rows of parts side by side.

    Raises
    ------
    SchemaError : they have not equally many rows
    """
    shapes = {part.row_shape for part in (*parts, *([] if weight is None else [weight]))}
    if len(shapes) > 1:
        told = ", ".join(f"{'/'.join(part.names or ('?',))} {part.row_shape}" for part in parts)
        told += "" if weight is None else f", weights {weight.row_shape}"
        raise SchemaError(f"{origin}: the rows differ in number: {told}")
    named = all(part.names is not None for part in parts)
    names = tuple(name for part in parts for name in part.names or ()) if named else None
    dtype = np.result_type(*(part.dtype for part in parts))
    schema = Schema(sum(part.width for part in parts), dtype, names, weight is not None, origin)
    return H5Rows(file, tuple(parts), weight, schema, parts[0].row_shape)


def values_of(file: H5File, place: str, origin: str) -> Iterator[NDArray[Any]]:
    """The values of a dataset with one axis, piece by piece; text as it is."""
    with file.opened() as opened:
        length = opened[place].shape[0]
    for first in range(0, length, PIECE_ROWS):
        with file.opened() as opened, faults(f"read {place} of {origin}"):
            dataset = opened[place]
            values = dataset[first : first + PIECE_ROWS]
            if dataset.dtype.kind == "O":
                yield np.array([value.decode() if isinstance(value, bytes) else value for value in values])
            else:
                part = array_part(dataset, origin)
                yield replace(part.packed).known(np.asarray(values))
