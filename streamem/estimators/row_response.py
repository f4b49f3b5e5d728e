"""`fit(X, y)`: rows of which one column, the response, is explained by the others."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np

from streamem.core.errors import ParameterError, SchemaError
from streamem.core.ports import Source
from streamem.estimators.faces.regressions import beside
from streamem.estimators.response_labels import as_numbers, classes_of_column, require_no_text
from streamem.estimators.row_inputs import columns_of, is_frame, library_of, open_rows, read_options
from streamem.estimators.structure import DataArguments, Opened
from streamem.running.fitted import Shape
from streamem.sources import ReadOptions, is_source, open_source
from streamem.sources.numeric import refuse_masked
from streamem.sources.one_column import OneColumn
from streamem.sources.opening import is_weight_path
from streamem.sources.recoded import Recoded
from streamem.sources.side_by_side import SideBySide

ABSENT = object()
"""In place of a response that a question does without."""


def open_with_response(settings: Any, x: Any, arguments: DataArguments, shape: Shape | None) -> Opened:
    """Covariates of X with their response behind them, and the shape of the covariates.

    A response that is `ABSENT` is 0, which no answer about covariates alone looks at.

    Raises
    ------
    ParameterError : nobody says what the response is
    SchemaError : as many responses as rows are needed, or a column is not there
    """
    response, plain = arguments.response, _with_columns_beside(settings, replace(arguments, response=None))
    if response is ABSENT:
        named = () if shape is None or shape.response is None else (shape.response,)
        opened = open_rows(settings, x, replace(plain, left_out=(*plain.left_out, *named)), shape)
        nothing = np.broadcast_to(np.zeros(1), (opened.source.n_rows, 1))
        return Opened(_beside(settings, opened.source, nothing), opened.shape)
    if response is None and shape is not None:
        response = shape.response
    if response is None:
        raise ParameterError(
            f"{type(settings).__name__} requires y to be passed, but the target y is None: pass the responses, or the "
            "name of their column in X"
        )
    if isinstance(response, str) and not is_weight_path(response):
        return _named(settings, x, plain, shape, response)
    opened = open_rows(settings, x, plain, shape)
    held, classes = _responses(settings, response, shape)
    labels = () if isinstance(held, np.ndarray) else classes or ()  # an array holds codes already
    return Opened(_beside(settings, opened.source, held, labels), replace(opened.shape, classes=classes))


def _with_columns_beside(settings: Any, arguments: DataArguments) -> DataArguments:
    """Arguments whose columns of X are those that were chosen, and those that are no covariates.

    Raises
    ------
    ParameterError : these are told by position, which a choice of columns changes
    """
    columns, more = arguments.columns, beside(settings)
    if columns is None or not more:
        return arguments
    if found := [f"{name}={at}" for name, at in more.items() if not isinstance(at, str)]:
        raise ParameterError(f"columns chooses by name, and {', '.join(found)} by position: name the column there too")
    chosen = [columns] if isinstance(columns, str) else list(columns)
    return replace(arguments, columns=[*chosen, *(str(at) for at in more.values() if at not in chosen)])


def _named(settings: Any, x: Any, plain: DataArguments, shape: Shape | None, name: str) -> Opened:
    """Rows of which one column is the response."""
    if plain.columns is not None and name in plain.columns:
        raise ParameterError(f"y is the column {name!r}, which columns names as a covariate too; leave it out there")
    plain = replace(plain, left_out=(*plain.left_out, name))
    if is_source(x):
        return _of_source(settings, x, plain, shape, name)
    opened = open_rows(settings, x, plain, shape)
    if opened.shape.names is None:
        raise SchemaError(f"y names the column {name!r}, and the columns of X have no names; pass y as an array")
    if is_frame(x) and name not in x.columns:
        raise SchemaError(f"y is {name!r}, and the DataFrame has no such column; it has {list(x.columns)[:20]}")
    covariates = columns_of([str(own) for own in opened.shape.names])
    classes = classes_of_column(settings, x, name) if shape is None else shape.classes
    options = replace(read_options(settings, plain, shape), columns=(*covariates, name), left_out=())
    if classes is not None:
        options = replace(options, categories={name: classes})
    try:
        source = open_source(x, weight=plain.sample_weight, options=options)
    except SchemaError:
        if classes is None:
            require_no_text(settings, x, name)
        raise
    return Opened(source, replace(opened.shape, response=name, columns=covariates, classes=classes))


def _of_source(settings: Any, x: Source, plain: DataArguments, shape: Shape | None, name: str) -> Opened:
    """A source that is open already, with the response as its last column."""
    names = x.schema.names
    if names is None or names[-1] != name:
        told = "has no names" if names is None else f"has the columns {list(names)[:20]}"
        raise SchemaError(
            f"y is {name!r}, which must be the last column of a source that is open already, and {x.schema.origin} "
            f"{told}; open it with columns in that order, or pass what it was opened from"
        )
    found = Shape(len(names) - 1, names[:-1], x.schema.categories, response=name)
    if shape is not None and (shape.features != found.features or shape.names not in (None, found.names)):
        raise SchemaError(f"{x.schema.origin}: covariates {list(names[:-1])} were found, and {shape.names} were fitted")
    return Opened(open_source(x, weight=plain.sample_weight), found if shape is None else shape)


def _beside(settings: Any, rows: Source, held: Any, labels: tuple[Any, ...] = ()) -> Source:
    """The rows with responses behind them, which lie apart; numbers among `labels` are told by their codes.

    Raises
    ------
    SchemaError : not one number a row
    """
    size = read_options(settings, DataArguments(), None).chunk_bytes
    other = OneColumn(held, "y", size) if _is_stored(held) else open_source(held, options=ReadOptions(chunk_bytes=size))
    width = other.schema.n_features
    if width != 1 or other.n_rows != rows.n_rows:
        shape = (other.n_rows, *([] if width == 1 else [width]))
        raise SchemaError(f"y has shape {shape}; one number for each of {rows.n_rows} rows is needed")
    if labels and not any(isinstance(label, str | bool) for label in labels):
        other = Recoded(other, labels, "y")
    return SideBySide(rows, other)


def _responses(settings: Any, response: Any, shape: Shape | None) -> tuple[Any, tuple[Any, ...] | None]:
    """Responses as `_beside` takes them, and their labels: what is stored or lazy stays so.

    Raises
    ------
    ParameterError : a path of something else
    SchemaError : neither numbers nor labels, or not one a row
    """
    if _is_stored(response):
        return response, None if shape is None else shape.classes
    if isinstance(response, os.PathLike | str):
        raise ParameterError(
            f"y is {os.fspath(response)!r}; an array, the name of a column, or a .npy or .zarr file is needed"
        )
    if library_of(response) in ("dask", "dask_expr"):
        return _lazy(response), None if shape is None else shape.classes
    refuse_masked(response, "y", "drop such rows")
    array, classes = as_numbers(settings, response, shape)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise SchemaError(f"y has shape {array.shape}; one number for each row is needed")
    return array[:, None], classes


def _is_stored(response: Any) -> bool:
    """Whether responses are read slice by slice: a Zarr array, or a path."""
    is_path = isinstance(response, str | os.PathLike) and is_weight_path(os.fspath(response))
    return is_path or library_of(response) == "zarr"


def _lazy(response: Any) -> Any:
    """Responses (n, 1) of a Dask array or Series, not computed.

    Raises
    ------
    SchemaError : text, whose labels nobody has told
    """
    if hasattr(response, "to_frame"):
        response = response.to_frame()
        kinds = [getattr(one, "kind", "O") for one in response.dtypes]
    else:
        kinds, response = [response.dtype.kind], response[:, None] if response.ndim == 1 else response
    if any(kind not in "biuf" for kind in kinds):
        raise SchemaError(
            "y is a lazy collection of text; pass y.compute(), whose labels are looked at, or codes 0, 1, …"
        )
    return response
