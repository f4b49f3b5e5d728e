"""Answers keep the identity of the rows that they are about: index, dimensions, coordinates, columns beside them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.chunk import Chunk
from streamem.core.errors import MissingDependencyError, ParameterError
from streamem.core.ports import ChunkRef, Executor, PassTask
from streamem.estimators.row_inputs import library_of
from streamem.machine.importing import import_whole
from streamem.running.answers import Column, is_dask
from streamem.running.row_tasks import Apply
from streamem.sources import ReadOptions, is_source
from streamem.sources.kinds import kind_of
from streamem.sources.opening import anywhere
from streamem.sources.transformed import about

Array = NDArray[Any]
CONTAINERS = ("default", "pandas", "polars")
CONFIGURED = "_sklearn_output_config"
"""Where scikit-learn keeps what `set_output` was told, and copies it when an estimator is cloned."""


def set_container(estimator: Any, container: str | None) -> None:
    """Note the container of answers; None changes nothing.

    Raises
    ------
    ParameterError : none of `CONTAINERS`
    """
    if container is None:
        return
    if container not in CONTAINERS:
        raise ParameterError(f"the output is {container!r}; it must be one of {list(CONTAINERS)}, or None")
    estimator.__dict__[CONFIGURED] = {**estimator.__dict__.get(CONFIGURED, {}), "transform": container}


def container_of(estimator: Any) -> str:
    """The container that `set_output` of this estimator was told."""
    return str(estimator.__dict__.get(CONFIGURED, {}).get("transform", "default"))


# --- answers in memory -----------------------------------------------------------------------------------------------


def labelled(settings: Any, x: Any, options: ReadOptions, column: Column, values: Array) -> Any:
    """Answers (n,) or (n, width) about the rows of X: with the dimensions of xarray, or in the container asked for."""
    rows = about(x, options)
    if library_of(rows.data) == "xarray":
        return _in_dimensions(settings, rows.data, rows.options, column, values)
    return contained(container_of(settings), rows.data, column, values)


def contained(
    container: str, x: Any, column: Column, values: Array, ids: Mapping[str, Array] = MappingProxyType({})
) -> Any:
    """Answers about the rows of X in a container, one of `CONTAINERS`; `ids` are an index for pandas instead of X's.

    Raises
    ------
    MissingDependencyError : its library is not installed
    """
    if container == "polars":
        polars = _library("polars")
        if column.width is None:
            return polars.Series(column.names[0], values)
        frame = polars.DataFrame(values, schema=list(column.names), orient="row")
        return frame.with_columns(*(polars.Series(name, own) for name, own in _told(column, values).items()))
    if container == "pandas":
        pandas = _library("pandas")
        index = _index_of(x, len(values))
        if ids:
            index = pandas.MultiIndex.from_arrays(list(ids.values()), names=list(ids))
            index = index.get_level_values(0) if len(ids) == 1 else index
        if column.width is None:
            return pandas.Series(values, index=index, name=column.names[0])
        frame = pandas.DataFrame(values, index=index, columns=list(column.names))
        return frame.assign(**_told(column, values))
    return values


def _told(column: Column, values: Array) -> dict[str, list[Any]]:
    """Values that the codes of a column stand for, by its name, where they do."""
    return {
        name: [own[code] for code in values[:, j].astype(np.intp).tolist()]
        for j, (name, own) in enumerate(zip(column.names, column.categories, strict=False))
        if own is not None
    }


def _library(name: str) -> Any:
    try:
        return import_whole(name)
    except ImportError as error:
        raise MissingDependencyError(f"set_output({name!r}) needs {name}: pip install {name}") from error


def _index_of(x: Any, rows: int) -> Any:
    """The index of pandas or Dask rows, computed; None counts them."""
    index: Any = getattr(x, "index", None) if library_of(x) == "pandas" or is_dask(x) else None
    index = index.compute() if is_dask(index) else index
    return index if index is not None and len(index) == rows else None


def _in_dimensions(settings: Any, x: Any, options: ReadOptions, column: Column, values: Array) -> Any:
    """A DataArray on the row dimensions of X, with their coordinates, and one dimension more for several columns."""
    xarray = import_whole("xarray")
    dims = import_whole("streamem.sources.xarray").row_dims(x, options)
    shape = tuple(x.sizes[dim] for dim in dims)
    if int(np.prod(shape)) != len(values):
        return values
    coords = {name: value.variable for name, value in x.coords.items() if set(value.dims) <= set(dims)}
    name, extra, labels = column.on_grid(settings.structure.noun, dims)
    if extra is None:
        return xarray.DataArray(values.reshape(shape), dims=dims, coords=coords, name=name)
    coords = {**coords, extra: np.array(labels)}
    return xarray.DataArray(values.reshape(*shape, len(labels)), dims=(*dims, extra), coords=coords, name=name)


@dataclass(frozen=True, eq=False)
class WhereObserved(PassTask[Array]):
    """The answers of a task where a row weighs something; NaN, of integers −1, for rows of weight 0 (land)."""

    task: Apply

    def ready(self, executor: Executor, refs: Sequence[ChunkRef]) -> WhereObserved:
        """The task with all that it needs to know of other chunks."""
        return replace(self, task=self.task.ready(executor, refs))

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Array:
        """The answer for one chunk."""
        values = self.task(chunk, ref)
        if chunk.weight is None or (hidden := chunk.weight == 0).sum() == 0:
            return values
        values = np.array(values)
        values[hidden] = np.nan if values.dtype.kind == "f" else -1
        return values


# --- answers in files ------------------------------------------------------------------------------------------------


def identifying(
    settings: Any, x: Any, out: Any, asked: Sequence[str] | str | None, sequences: str | None, options: ReadOptions
) -> tuple[str, ...]:
    """The columns of X that are written beside answers.

    Parameters
    ----------
    asked : as the user named them; None means, for a ``.parquet``, the estimator's `id_columns`, else the column that
        identifies sequences and the index of X, where X has such
    sequences : the column that identifies sequences
    """
    if asked is not None:
        return (asked,) if isinstance(asked, str) else tuple(asked)
    if out is None or not os.fspath(out).endswith(".parquet"):
        return ()
    if named := getattr(settings, "id_columns", None):
        return tuple(named)
    rows = about(x, options)
    data, options = anywhere(rows.data), rows.options
    kind = None if is_source(data) else kind_of(data)
    if kind is None:
        return ()
    found = [] if sequences is None else [sequences]
    return tuple(dict.fromkeys([*found, *kind.index_columns(data, options)]))


def columns_beside(x: Any, names: Sequence[str], origin: str, options: ReadOptions) -> Mapping[str, Iterable[Any]]:
    """Columns of X that are written beside the answers, by name.

    Raises
    ------
    ParameterError : X has no columns with names
    SchemaError : X has no such column
    """
    found: dict[str, Iterable[Any]] = {}
    rows = about(x, options)
    data, options = anywhere(rows.data), rows.options
    kind = None if is_source(data) else kind_of(data)
    for name in names:
        read = None if kind is None else kind.column_reader(data, name, options)
        if read is None:
            raise ParameterError(
                f"column {name!r} of {origin} cannot be carried along: its columns cannot be read by name; pass the "
                "path, table or data frame itself"
            )
        found[name] = read()
    return found


def at_starts(pieces: Iterable[Any], offsets: Array) -> Iterator[Array]:
    """The values of a column, which come in pieces, in the first rows of sequences.

    Parameters
    ----------
    offsets : (s + 1,) first rows of sequences, and the number of rows
    """
    first, starts = 0, np.asarray(offsets)[:-1]
    for piece in pieces:
        values = piece.to_numpy(zero_copy_only=False) if hasattr(piece, "to_numpy") else np.asarray(piece)
        low, high = np.searchsorted(starts, [first, first + len(values)])
        if low < high:
            yield values[starts[low:high] - first]
        first += len(values)
