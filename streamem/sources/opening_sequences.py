"""`open_sequences`: from whatever the user has to a `SequenceSource`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamem.core.errors import ParameterError, SchemaError
from streamem.core.ports import Source
from streamem.machine.importing import import_whole
from streamem.sources.array_list import ListSource
from streamem.sources.driving import columns_named
from streamem.sources.foreign import is_source
from streamem.sources.kinds import ZARR, is_path, is_path_list, is_pattern, kind_of
from streamem.sources.numeric import as_array, numbers_in
from streamem.sources.opening import anywhere, is_weight_path, open_source
from streamem.sources.options import DEFAULT_CHUNK_BYTES, ReadOptions
from streamem.sources.sequence_offsets import integers, offsets_of_lengths, offsets_of_starts, one_dimensional
from streamem.sources.sequence_weights import sequence_weights, weights_of_rows
from streamem.sources.sequences import SequenceSource
from streamem.sources.transformed import about

Ints = NDArray[np.int64]

MOST_STEPS = 2**16
"""Of a chunk of a narrow array: fewer than some hundred thousand steps would leave threads without work."""
_NOTHING: dict[str, Any] = {"lengths": None, "offsets": None, "column": None}


@dataclass(frozen=True)
class _Said:
    """The user's arguments about where sequences begin."""

    lengths: Any
    offsets: Any
    column: str | None

    def ways(self) -> list[str]:
        """Names of the ways in which the user said where sequences begin."""
        given = {"lengths": self.lengths, "offsets": self.offsets, "sequence_column": self.column}
        return [name for name, value in given.items() if value is not None]

    def by_name(self, data: Any) -> dict[str, str]:
        """The way and its name in the data, if later data may have it too: a column, or an array beside the data."""
        if self.column is not None:
            return {"sequence_column": self.column}
        given = {"lengths": self.lengths, "offsets": self.offsets}
        return {way: name for way, name in given.items() if isinstance(name, str) and _lies_beside(name, data)}


@dataclass(frozen=True)
class Known:
    """How the data of a fitted model named its sequences, for later data of which the user says nothing.

    Attributes
    ----------
    told : "sequence_column", "offsets" or "lengths", and a name in the data
    needed : whether data without that name are refused; else all of its rows are steps of one sequence
    """

    told: Mapping[str, str] = field(default_factory=dict)
    needed: bool = True


def open_sequences(
    data: Any,
    *,
    lengths: Any = None,
    offsets: Any = None,
    sequence_column: str | None = None,
    lag: int = 0,
    weight: Any = None,
    options: ReadOptions | None = None,
    known: Known | None = None,
    covariates: Iterable[str | int] = (),
) -> SequenceSource:
    """Open anything that `open_source` opens, as steps of sequences.

    A list of arrays (n_i, d) is one sequence each. An array (NumPy, Zarr, …) of three axes is sequences × steps ×
    features, shorter sequences ending with steps that are all NaN; so are variables of two dimensions (sequence, step)
    in an xarray Dataset or Zarr group, one a feature. Of anything else `lengths`, `offsets` or `sequence_column` say
    where sequences begin; without them, all rows are steps of one.

    Parameters
    ----------
    data : as for `open_source`, or a list of arrays
    lengths : (s,) steps of each sequence, in the order of the rows; of an array of three axes, those without padding
    offsets : (s,) or (s + 1,) first row of every sequence, from 0 on, and perhaps the number of rows
        Lengths and offsets may also be the path of a ``.npy`` file or Zarr array, or the name of an array beside the
        data in the same Zarr group.
    sequence_column : column (Parquet, Arrow, pandas, polars, Dask DataFrame, Zarr group, xarray) that identifies the
        sequence of each row, by numbers or text; it is no feature. It is read once, in order. The rows of a sequence
        must follow each other.
    lag : p earlier steps that each row carries: rows are [y_t, y_{t−1}, …, y_{t−p}]; the first p of every sequence
        are missing (all NaN)
    weight : (s,) one for each sequence, or for each row and equal within every sequence: an array, a path, or the name
        of a column
    options : how to read; `chunk_bytes` counts the lags too
    known : what models remember of the data that they were fitted to
    covariates : columns, by name or position, that are no features but drive the transition from each step to the next
        one: `Chunk.covariates`

    Raises
    ------
    DataError : lengths that do not sum to the rows, empty sequences, identifiers that are null or come again, weights
        that differ within a sequence, sequences shorter than lag + 1 steps
    SchemaError : columns that are missing, arrays in a list of unequal width, rows on more than two axes
    ParameterError : several ways of saying where sequences begin

    Examples
    --------
    >>> import numpy as np
    >>> from streamem import open_sequences
    >>> source = open_sequences(np.arange(12.0).reshape(6, 2), lengths=[2, 4])
    >>> source.n_sequences, source.chunks()[0].load().sequences.offsets
    (2, array([0, 2, 6]))
    """
    data, said, known = anywhere(data), _Said(lengths, offsets, sequence_column), known or Known()
    if len(said.ways()) > 1:
        raise ParameterError(f"{' and '.join(said.ways())} were given; say in one way where sequences begin")
    back = _lag(lag)
    options = _without(options or ReadOptions(), said, weight, known)
    most = max(1, _most_bytes(data, options) // (back + 1))
    options = replace(options, chunk_bytes=most, most_chunk_bytes=most)
    if isinstance(data, SequenceSource):
        source = _as_it_is(data, said, back, weight)
        return source.driven_by(columns_named(tuple(covariates), source.columns)) if covariates else source
    found = _find(data, said, known, options)
    weights = None if weight is None else _weights(weight, data, found, options)
    return SequenceSource(
        found.base,
        found.offsets,
        weights=weights,
        steps=found.steps,
        padded=found.padded,
        lag=back,
        told=said.by_name(data) if said.ways() else known.told,
        covariates=columns_named(tuple(covariates), found.base.schema),
    )


def _most_bytes(data: Any, options: ReadOptions) -> int:
    """`chunk_bytes`, or less by default for narrow arrays in memory: a step costs a thread more than its bytes."""
    if options.chunk_bytes != DEFAULT_CHUNK_BYTES or not isinstance(data, np.ndarray) or data.ndim > 2:
        return options.chunk_bytes
    row = data.nbytes // max(1, max(data.shape, default=1))
    return min(options.chunk_bytes, MOST_STEPS * max(1, row))


@dataclass(frozen=True)
class _Found:
    base: Source
    offsets: Ints
    steps: Ints | None = None
    padded: bool = False


def _find(data: Any, said: _Said, known: Known, options: ReadOptions) -> _Found:
    if isinstance(data, list | tuple) and not is_path_list(data):
        data = _as_arrays(data)
    if isinstance(data, list) and not is_path_list(data):
        return _find_in_list(data, said, options)
    shape = None if is_source(data) else _shape(data, options)
    if shape is not None and len(shape) == 3:
        return _find_in_cube(data, shape, said, options)
    base = open_source(data, options=options)
    if (is_path_list(data) or is_pattern(data)) and not said.ways() and not known.told:
        raise ParameterError(
            f"{base.schema.origin}: is each file a sequence, or do they go on? Say where sequences begin with lengths= "
            f"or sequence_column=; lengths=[{base.n_rows}] if all rows are steps of one"
        )
    if base.schema.n_features == 0:
        raise SchemaError(
            f"{base.schema.origin} has 0 feature(s) (shape=({base.n_rows}, 0)) while a minimum of 1 is required: at "
            "least one column is needed"
        )
    axes = base.row_shape
    if not said.ways() and base.offsets is not None:  # somebody's own source that knows its sequences
        return _Found(base, np.asarray(base.offsets, dtype=np.int64))
    if not said.ways() and len(axes) == 2:
        return _in_grid(base, axes)
    if not said.ways() and len(axes) > 2:
        raise SchemaError(
            f"{base.schema.origin} has rows on {len(axes)} axes, {axes}; of two, the first one tells sequences apart "
            "and the second one holds their steps: stack the others, or say with lengths= where sequences begin"
        )
    if not said.ways() and known.told and base.n_rows > 1:
        return _as_known(data, base, known, options)
    return _as_said(data, base, said, axes, options)


def _as_said(data: Any, base: Source, said: _Said, axes: tuple[int, ...], options: ReadOptions) -> _Found:
    n, origin = base.n_rows, base.schema.origin
    if said.lengths is not None:
        lengths = integers(said.lengths, "lengths", data)
        if len(axes) == 2 and len(lengths) == axes[0]:
            return _in_grid(base, axes, lengths)
        return _Found(base, offsets_of_lengths(lengths, n, origin))
    if said.offsets is not None:
        return _Found(base, offsets_of_starts(integers(said.offsets, "offsets", data), n, origin))
    if said.column is not None:
        what = f"{origin}: column {said.column!r}"
        starts_of_ids = import_whole("streamem.sources.sequence_ids").starts_of_ids
        starts: Ints = starts_of_ids(_reader(data, said.column, options), n, what)
        return _Found(base, np.append(starts, n))
    return _Found(base, np.array([0, n] if n else [0], dtype=np.int64))


def _as_known(data: Any, base: Source, known: Known, options: ReadOptions) -> _Found:
    """Sequences found by the name that was used in the data that a model was fitted to."""
    ((way, name),) = known.told.items()
    remembered = _Said(**{**_NOTHING, "column" if way == "sequence_column" else way: name})
    try:
        if way != "sequence_column" and not _lies_beside(name, data):
            raise SchemaError(f"there is no array {name!r} beside it")
        return _as_said(data, base, remembered, (), options)
    except SchemaError as error:
        if not known.needed:
            return _as_said(data, base, _Said(**_NOTHING), (), options)
        what = f"column {name!r}" if way == "sequence_column" else f"{way}={name!r}"
        raise SchemaError(
            f"{base.schema.origin}: the model was fitted to sequences that {what} told; this data lacks it ({error}): "
            f"pass data that has it, or say where sequences begin, lengths=[{base.n_rows}] if all rows are steps of one"
        ) from error


def _lies_beside(name: str, data: Any) -> bool:
    """Whether a Zarr group that is the data, or holds it, has an array of this name."""
    if name.endswith(".npy") or not _has_arrays_beside(data):
        return False
    group = import_whole("streamem.sources.zarr_beside").group_of(data)
    return group is not None and name in group


def _find_in_list(data: list[NDArray[Any]], said: _Said, options: ReadOptions) -> _Found:
    if said.ways():
        raise ParameterError(f"a list of arrays says itself where sequences begin; leave out {said.ways()[0]}")
    if options.columns is not None:
        raise SchemaError(f"a list of arrays has no column names, so {list(options.columns)} cannot be chosen")
    base = ListSource(data, options.chunk_bytes)
    return _Found(base, np.concatenate([np.zeros(1, np.int64), np.cumsum(base.lengths)]))


def _find_in_cube(data: Any, shape: tuple[int, ...], said: _Said, options: ReadOptions) -> _Found:
    """Sequences × steps × features, or with the features on another axis."""
    if said.offsets is not None or said.column is not None:
        raise ParameterError(
            f"the data has shape {shape}: sequences × steps × features; leave out {said.ways()[0]}, and say with "
            "lengths= how many steps of each sequence are no padding"
        )
    axis = 2 if options.feature_axis is None else options.feature_axis
    base = open_source(data, options=replace(options, feature_axis=axis))
    axes: Any = getattr(base, "row_shape", ())
    lengths = None if said.lengths is None else integers(said.lengths, "lengths", data)
    return _in_grid(base, (int(axes[0]), int(axes[1])), lengths)


def _in_grid(base: Source, axes: tuple[int, ...], steps: Ints | None = None) -> _Found:
    """Rows of (sequences, steps), shorter sequences ending with padding."""
    count, longest = axes
    every = np.arange(count + 1, dtype=np.int64) * longest
    if steps is None:
        return _Found(base, every, padded=True)
    if len(steps) != count or (count and steps.max() > longest):
        raise SchemaError(
            f"lengths: {len(steps)} of them, up to {steps.max(initial=0)}; {base.schema.origin} has {count} sequences "
            f"of up to {longest} steps, so {count} lengths from 1 to {longest} are needed"
        )
    return _Found(base, every) if (steps == longest).all() else _Found(base, every, steps, padded=True)


def _as_arrays(data: Sequence[Any]) -> Any:
    """A list of two-dimensional arrays; nested lists that are rows as one array.

    Raises
    ------
    SchemaError : arrays of one axis, which may be rows or sequences of one feature, and arrays that hold no numbers
    """
    if data and all(isinstance(item, np.ndarray) and item.ndim == 1 for item in data):
        raise SchemaError(
            "the list holds arrays of one axis; pass sequences of one feature as (n_i, 1), by reshape(-1, 1), and rows "
            "of one sequence as one array (n, d), by np.stack"
        )
    if ragged(data):
        raise SchemaError(
            "the list holds rows of unequal length; pass sequences of one feature each as (n_i, 1): "
            "[np.reshape(one, (-1, 1)) for one in X]"
        )
    items = [as_array(item) for item in data]
    if items and all(item.ndim < 2 for item in items):
        return as_array(data)
    return [numbers_in(item, f"array {i} of the list") for i, item in enumerate(items)]


def ragged(data: Sequence[Any]) -> bool:
    """Whether a list holds flat lists of unequal length."""
    plain = [item for item in data if isinstance(item, list | tuple)]
    flat = len(plain) == len(data) and all(np.ndim(value) == 0 for item in plain for value in item)
    return flat and len({len(item) for item in plain}) > 1


def _shape(data: Any, options: ReadOptions) -> tuple[int, ...] | None:
    """The axes of an array; None of a table."""
    if hasattr(data, "shape") and not hasattr(data, "columns"):
        return tuple(data.shape)
    kind = kind_of(data)
    if is_path(data):
        return (kind or ZARR).shape_of(data, options)
    return kind.shape_of(data, options) if kind is not None and kind.has_arrays_beside else None


def _has_arrays_beside(data: Any) -> bool:
    """Whether a name may be that of an array stored beside the data."""
    kind = None if is_source(data) else kind_of(data)
    return kind is not None and kind.has_arrays_beside


def _reader(data: Any, column: str, options: ReadOptions) -> Callable[[], Iterable[Any]]:
    known = about(data, options)  # behind a pipeline, the data that its rows are made of
    data, options = anywhere(known.data), known.options
    kind = None if is_source(data) else kind_of(data)
    read = None if kind is None else kind.column_reader(data, column, options)
    if read is None:
        what = "the source is open already" if is_source(data) else f"{type(data).__name__} has no columns with names"
        raise SchemaError(
            f"{what}, so column {column!r} cannot be read from it; pass the table itself, or say with lengths= where "
            "sequences begin"
        )
    return read


def _weights(weight: Any, data: Any, found: _Found, options: ReadOptions) -> NDArray[np.float64]:
    if found.base.schema.weighted:
        raise SchemaError("weights were given twice: with the source and with weight=; give one")
    what = f"weight {weight!r}" if isinstance(weight, str) else "weight"
    is_column = isinstance(weight, str) and not is_weight_path(weight)
    if is_column and not _has_arrays_beside(data):
        read = _reader(data, weight, options)
        numbers = import_whole("streamem.sources.column_values").numbers_of
        return weights_of_rows((numbers(piece, what) for piece in read()), found.offsets, what)
    return sequence_weights(one_dimensional(anywhere(weight), what, data), found.offsets, what)


def _as_it_is(source: SequenceSource, said: _Said, lag: int, weight: Any) -> SequenceSource:
    if said.ways() or lag or weight is not None:
        raise ParameterError(
            "the sequences are open already, so lengths, offsets, sequence_column, lag and weight cannot change them; "
            "give them where you open the data"
        )
    return source


def _without(options: ReadOptions, said: _Said, weight: Any, known: Known) -> ReadOptions:
    """Options that leave out of the features what says where sequences begin or what they weigh."""
    if options.weight_column is not None:
        raise ParameterError("the weights of sequences are given with weight=, not with options.weight_column")
    said_of_them = (said.lengths, said.offsets, said.column, weight, *known.told.values())
    names = [name for name in said_of_them if isinstance(name, str)]
    return replace(options, left_out=(*options.left_out, *names))


def _lag(lag: Any) -> int:
    try:
        number = operator.index(lag)
    except TypeError:
        number = -1
    if number < 0 or isinstance(lag, bool):
        raise ParameterError(f"lag is {lag!r}; it must be a whole number of steps, at least 0")
    return number
